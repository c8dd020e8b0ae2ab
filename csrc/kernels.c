/* The kernels of one instruction set and dtype: compiled once for each, with FNN_AVX512, FNN_AVX2,
 * FNN_NEON or none, FNN_F64 or not, and FNN_TABLE, the name of the table it exports. */
#include "activations.h"
#include "backward.h"
#include "dropout.h"
#include "narrow.h"
#include "row.h"
#include "shuffle.h"
#include "update.h"

/* ---- gather */

/* What 1 / 255 loses when it is rounded. */
#ifdef FNN_F64
static const real REST_OF_255TH = 0x1.02p-64;
#else
static const real REST_OF_255TH = -0x1.fdfdfep-33f;
#endif

/* x / 255, correctly rounded for every byte x. */
static ALWAYS_INLINE vec divide_by_255(vec x) {
    return v_fma(x, v_set1(R(1.0) / 255), v_mul(x, v_set1(REST_OF_255TH)));
}

static real element_of(const fnn_input *X, const char *p) {
    float f;
    double d;
    switch (X->type) {
    case FNN_INPUT_F32: memcpy(&f, p, sizeof f); return (real)f;
    case FNN_INPUT_F64: memcpy(&d, p, sizeof d); return (real)d;
    default: return (real) * (const uint8_t *)p / 255;
    }
}

/* n <= VL columns of a row of X, from p on; the other lanes are 0. Reals and bytes are those that
 * lie side by side. */
typedef vec read_columns(const fnn_input *X, const char *p, int n);

static ALWAYS_INLINE vec read_reals(const fnn_input *X, const char *p, int n) {
    return n == VL ? v_load((const real *)p) : v_load_n((const real *)p, n);
}

static ALWAYS_INLINE vec read_bytes(const fnn_input *X, const char *p, int n) {
    if (n == VL) return divide_by_255(v_load_u8((const uint8_t *)p));
    uint8_t bytes[16] = {0};
    memcpy(bytes, p, (size_t)n);
    return divide_by_255(v_load_u8(bytes));
}

static ALWAYS_INLINE vec read_any(const fnn_input *X, const char *p, int n) {
    real lanes[VL] = {0};
    for (int c = 0; c < n; c++) lanes[c] = element_of(X, p + c * X->column_stride);
    return v_load(lanes);
}

static ALWAYS_INLINE int64_t item_size(const fnn_input *X) {
    return X->type == FNN_INPUT_U8 ? 1 : X->type == FNN_INPUT_F32 ? 4 : 8;
}

static ALWAYS_INLINE int is_adjacent(const fnn_input *X) {
    return X->column_stride == item_size(X);
}
/* Whether a row's elements can be loaded as they are. */
static ALWAYS_INLINE int has_rows_of_reals(const fnn_input *X) {
    const int own_type = sizeof(real) == sizeof(float) ? FNN_INPUT_F32 : FNN_INPUT_F64;
    return X->type == own_type && is_adjacent(X);
}

/* The lines of cache that hold p[0:bytes]; a row of X may begin anywhere in one. `locality`, 2 or 3, as
 * __builtin_prefetch has it, which with clang takes no variable, constant or not. */
static ALWAYS_INLINE void fetch_lines(const char *p, int64_t bytes, const int locality) {
    const char *line = p - (uintptr_t)p % 64;
    for (; line < p + bytes; line += 64)
        if (locality == 3)
            __builtin_prefetch(line, 0, 3);
        else
            __builtin_prefetch(line, 0, 2);
}

static void fetch(const fnn_input *X, fnn_rows rows, int64_t n_in, int64_t r0, int64_t r1) {
    if (!is_adjacent(X)) return;
    for (int64_t r = r0; r < r1; r++)
        fetch_lines(X->data + row_index(rows, r) * X->row_stride, n_in * X->column_stride, 2);
}

/* n <= NR columns of the row at `source`; those at `ahead` are fetched. *bad becomes NaN where one is NaN
 * or infinite, which bytes never are. Returns the bits of those that are not zero. */
static ALWAYS_INLINE uint64_t gather_columns(read_columns *read, const fnn_input *X, int n,
                                             const char *source, const char *ahead, real *out,
                                             vec *bad) {
    uint64_t bits = 0;
    for (int64_t i = 0; is_adjacent(X) && i < n * X->column_stride; i += 64)
        __builtin_prefetch(ahead + i, 0, 3);
#pragma GCC unroll 4
    for (int c = 0; c < NR && c < n; c += VL, source += VL * X->column_stride) {
        const vec x = read(X, source, n - c < VL ? n - c : VL);
        v_store(out + c, x);
        if (read != read_bytes) *bad = v_fma(x, v_set1(0), *bad);
        bits |= (uint64_t)v_nonzero(x) << c;
    }
    return bits;
}

/* Shuffled rows are rarely in cache: the row after next is fetched while this one is copied. */
static ALWAYS_INLINE vec gather_rows(read_columns *read, const fnn_input *X, fnn_rows rows,
                                     const fnn_matrix h0, int64_t r0, int64_t r1) {
    const int64_t whole = h0.cols / NR, step = NR * X->column_stride;
    const int rest = (int)(h0.cols % NR);
    vec bad = v_set1(0);
    for (int64_t r = r0; r < r1; r++) {
        const char *source = X->data + row_index(rows, r) * X->row_stride;
        const char *ahead = X->data + row_index(rows, smaller(r + 2, r1 - 1)) * X->row_stride;
        real *out = at(&h0, 0, r);
        uint64_t *words = h0.nonzero ? h0.nonzero + r : NULL, bits;
        for (int64_t p = 0; p < whole; p++) {
            bits = gather_columns(read, X, NR, source, ahead, out, &bad);
            if (words) *words = bits, words += h0.rows;
            source += step, ahead += step, out += panel_size(&h0);
        }
        if (!rest) continue;
        bits = gather_columns(read, X, rest, source, ahead, out, &bad);
        if (words) *words = bits;
    }
    return bad;
}

static int gather(const fnn_input *X, fnn_rows rows, const fnn_dropout *dropout, fnn_matrix *h0,
                  int64_t r0, int64_t r1) {
    vec bad;
    if (has_rows_of_reals(X))
        bad = gather_rows(read_reals, X, rows, *h0, r0, r1);
    else if (X->type == FNN_INPUT_U8 && is_adjacent(X))
        bad = gather_rows(read_bytes, X, rows, *h0, r0, r1);
    else
        bad = gather_rows(read_any, X, rows, *h0, r0, r1);
    for (int64_t p = 0; dropout && p < count_panels(h0); p++) {
        drop(dropout, h0, h0, p, r0, r1);
        if (h0->nonzero) find_nonzero(h0, p, r0, r1);
    }
    return v_all(v_less(bad, v_set1(1)));
}

#include "lanes.h" /* gathers in its own way */
#include "small.h" /* gathers */

/* ---- forward and backward */

typedef struct {
    fnn_activation activation;
    const fnn_dropout *dropout;
    const fnn_activity *x;
} finish_context;

static ALWAYS_INLINE void finish_forward(const void *context, int64_t p, int64_t r0, int64_t r1) {
    const finish_context *f = context;
    const fnn_matrix *h = &f->x->h, *a = f->x->a.data ? &f->x->a : h;
    const fnn_matrix *g = f->dropout && !fnn_needs_a(f->activation.kind) ? a : h; /* g(a), whole */
    if (f->activation.kind != FNN_IDENTITY)
        activation(f->activation, at(a, p, r0), at(g, p, r0), r1 - r0, panel_vectors(h, p), h->ld);
    if (f->dropout) drop(f->dropout, g, h, p, r0, r1);
    if (h->nonzero) find_nonzero(h, p, r0, r1);
}

/* Where g' needs a, the sums stay in a and h is written beside them; else h overwrites them. */
static void forward(const fnn_layer *layer, const fnn_matrix *h_in, const fnn_dropout *dropout,
                    fnn_activity *out, int64_t r0, int64_t r1) {
    const finish_context context = {layer->activation, dropout, out};
    const fnn_matrix *a = out->a.data ? &out->a : &out->h;
    if (has_many_zeros(h_in, a, r0, r1))
        product_of_nonzero(h_in, &layer->W, layer->shared, layer->n_in, 1, a, r0, r1,
                           finish_forward, &context);
    else
        product(rows_of(h_in, r0), &layer->W, layer->n_in, 1, a, r0, r1, NOTHING, finish_forward,
                &context);
}

/* forward for row 0 and panels p0 to p1 of the output. */
static void forward_row(const fnn_layer *layer, const fnn_matrix *h_in, fnn_activity *out,
                        int64_t p0, int64_t p1) {
    const finish_context context = {layer->activation, NULL, out};
    const fnn_matrix *a = out->a.data ? &out->a : &out->h;
    if (has_many_zeros(h_in, a, 0, 1))
        row_product_of_nonzero(h_in, &layer->W, a, p0, p1);
    else
        row_product(h_in, &layer->W, a, p0, p1);
    for (int64_t p = p0; p < p1; p++) finish_forward(&context, p, 0, 1);
}

#include "in_place.h" /* finishes as forward does */
#include "sparse.h"   /* so, and gathers */

static ALWAYS_INLINE void finish_backward(const void *context, int64_t p, int64_t r0, int64_t r1) {
    const finish_context *f = context;
    const fnn_matrix *delta = &f->x->delta, *known = f->x->a.data ? &f->x->a : &f->x->h;
    if (f->dropout) drop(f->dropout, delta, delta, p, r0, r1);
    times_derivative(f->activation, at(known, p, r0), at(delta, p, r0), r1 - r0,
                     panel_vectors(delta, p), delta->ld);
    if (delta->nonzero != f->x->h.nonzero) find_nonzero(delta, p, r0, r1);
}

static void backward(const fnn_layer *layer, const fnn_matrix *delta,
                     fnn_activation activation_below, const fnn_dropout *dropout_below,
                     fnn_activity *below, int64_t r0, int64_t r1) {
    const finish_context context = {activation_below, dropout_below, below};
    const fnn_matrix *dh = &below->delta;
    const int skip_zeros = has_many_zeros(delta, dh, r0, r1);
    if (!layer->Wt.data && skip_zeros)
        transposed_product_of_nonzero(delta, layer, dh, r0, r1, finish_backward, &context);
    else if (!layer->Wt.data)
        transposed_product(delta, layer, dh, r0, r1, finish_backward, &context);
    else if (skip_zeros)
        product_of_nonzero(delta, &layer->Wt, layer->shared, layer->n_out, 0, dh, r0, r1,
                           finish_backward, &context);
    else
        product(rows_of(delta, r0), &layer->Wt, layer->n_out, 0, dh, r0, r1, NOTHING,
                finish_backward, &context);
}

/* ---- pack and unpack */

static void pack(const void *W_user, const void *b_user, fnn_layer *layer) {
    const real *W = W_user, *b = b_user;
    for (int64_t o = 0; o < layer->n_out; o++) {
        for (int64_t i = 0; i < layer->n_in; i++) {
            at(&layer->W, o / NR, i)[o % NR] = W[o * layer->n_in + i];
            if (layer->Wt.data) at(&layer->Wt, i / NR, o)[i % NR] = W[o * layer->n_in + i];
        }
        at(&layer->W, o / NR, layer->n_in)[o % NR] = b[o];
    }
}

static int unpack(const fnn_layer *layer, const void *packed, void *W_user, void *b_user) {
    const fnn_matrix P = {(void *)packed, layer->W.rows, layer->W.cols, layer->W.ld, NULL};
    real *W = W_user, *b = b_user;
    int finite = 1;
    for (int64_t o = 0; o < layer->n_out; o++) {
        const real *column = at(&P, o / NR, 0) + o % NR;
        for (int64_t i = 0; i < layer->n_in; i++, column += P.ld) {
            W[o * layer->n_in + i] = *column;
            finite &= *column - *column == 0; /* else NaN */
        }
        b[o] = *column;
        finite &= *column - *column == 0;
    }
    return finite;
}

static void copy_columns(const fnn_matrix *from, int64_t f, const fnn_matrix *to, int64_t t,
                         int64_t count, int64_t r0, int64_t r1) {
    const uint64_t lanes = ((uint64_t)1 << VL) - 1;
    for (const int64_t end = f + count; f < end; f += VL, t += VL) {
        const int64_t p = f / NR, q = t / NR, pc = f % NR, qc = t % NR;
        const real *x = at(from, p, 0) + pc;
        real *y = at(to, q, 0) + qc;
        for (int64_t r = r0; r < r1; r++) v_store(y + r * to->ld, v_load(x + r * from->ld));
        if (!from->nonzero || !to->nonzero) continue;
        const uint64_t *words = from->nonzero + p * from->rows;
        uint64_t *copies = to->nonzero + q * to->rows;
        for (int64_t r = r0; r < r1; r++)
            copies[r] = (copies[r] & ~(lanes << qc)) | (words[r] >> pc & lanes) << qc;
    }
}

static void own_rows(const fnn_matrix *X, int64_t r0, int64_t r1) {
    for (int64_t p = 0; p < count_panels(X); p++)
        for (int64_t r = r0; r < r1; r++)
            for (int64_t c = 0; c < panel_vectors(X, p) * VL; c += LINE) own_line(at(X, p, r) + c);
}

/* In double, neuron by neuron, each a chain over its inputs. */
static double penalty(const fnn_layer *layer, double l2, double l1) {
    double total = 0;
    for (int64_t panel = 0; panel * NR < layer->n_out; panel++) {
        const real *W = at(&layer->W, panel, 0);
        const int64_t columns = smaller(NR, layer->n_out - panel * NR);
        double of_neuron[NR] = {0};
        for (int64_t i = 0; i < layer->n_in; i++, W += layer->W.ld)
            for (int64_t c = 0; c < columns; c++) {
                const double w = (double)W[c];
                of_neuron[c] += l2 * 0.5 * (w * w) + l1 * fabs(w);
            }
        for (int64_t c = 0; c < columns; c++) total += of_neuron[c];
    }
    return total;
}

/* ---- for measuring and testing */

static double multiply_adds(int64_t n) {
    enum {
        CHAINS = 12
    }; /* more than latency times units on any core, and fewer than its registers */
    vec x[CHAINS];
    const vec a = v_set1(R(0.999999)), b = v_set1(R(0.000001));
    double sum = 0;
    for (int i = 0; i < CHAINS; i++) x[i] = v_set1((real)i);
    for (int64_t k = 0; k < n; k++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) x[i] = v_fma(x[i], a, b);
    for (int i = 0; i < CHAINS; i++) {
        real lanes[VL];
        v_store(lanes, x[i]);
        sum += lanes[0];
    }
    return sum;
}

static void activate(int kind, const void *a, void *h, void *dh, int64_t n) {
    const fnn_activation f = {kind, NULL, NULL};
    for (int64_t i = 0; i < n; i += VL) {
        const int lanes = (int)smaller(VL, n - i);
        real ai[VL], hi[VL], di[VL];
        v_store(ai, v_load_n((const real *)a + i, lanes));
        v_store(di, v_set1(1));
        memcpy(hi, ai, sizeof hi);
        activation(f, ai, hi, 1, 1, VL);
        times_derivative(f, fnn_needs_a(kind) ? ai : hi, di, 1, 1, VL);
        v_store_n((real *)h + i, v_load(hi), lanes);
        v_store_n((real *)dh + i, v_load(di), lanes);
    }
}

const fnn_kernels FNN_TABLE = {
    VL,
    MR,
    NR,
    LARGEST_GROUP,
    usual_group,
    fetch,
    gather,
    forward,
    output,
    loss,
    backward,
    update,
    squares,
    update_scaled,
    pack,
    unpack,
    copy_columns,
    own_rows,
    penalty,
    multiply_adds,
    activate,
    forward_row,
    forward_lanes,
    SMALL_ROWS,
    SMALL_WIDTH,
    small_open,
    small_step,
    small_close,
    forward_in_place,
    forward_sparse,
    update_sparse,
    shuffle,
};
