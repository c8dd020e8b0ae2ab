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

/* Rows that are copied side by side: a panel has them one behind the other, so that what is stored lies together. */
enum { ROWS_GATHERED = 4 };

/* n columns of `count` rows, all within one panel, from `offset` bytes on in each; `words` may be NULL. */
static ALWAYS_INLINE void gather_panel(read_columns *read, const fnn_input *X, int n, int64_t count,
                                       const char *const *source, const char *const *ahead,
                                       int64_t offset, real *out, int64_t ld, uint64_t *words,
                                       vec *bad) {
#pragma GCC unroll 1
    for (int64_t i = 0; i < count; i++, out += ld) {
        const uint64_t bits =
            gather_columns(read, X, n, source[i] + offset, ahead[i] + offset, out, bad);
        if (words) words[i] = bits;
    }
}

/* Shuffled rows are rarely in cache: the next few are fetched while these are copied. */
static ALWAYS_INLINE vec gather_rows(read_columns *read, const fnn_input *X, fnn_rows rows,
                                     const fnn_matrix h0, int64_t r0, int64_t r1) {
    const char *source[ROWS_GATHERED], *ahead[ROWS_GATHERED];
    vec bad = v_set1(0);
    for (int64_t r = r0; r < r1; r += ROWS_GATHERED) {
        const int64_t count = smaller(ROWS_GATHERED, r1 - r);
        for (int64_t i = 0; i < count; i++) {
            const int64_t next = smaller(r + i + ROWS_GATHERED, r1 - 1);
            source[i] = X->data + row_index(rows, r + i) * X->row_stride;
            ahead[i] = X->data + row_index(rows, next) * X->row_stride;
        }
        real *out = at(&h0, 0, r);
        uint64_t *words = h0.nonzero ? h0.nonzero + r : NULL;
        int64_t left = h0.cols, offset = 0;
        for (; left >= NR; left -= NR, offset += NR * X->column_stride, out += panel_size(&h0)) {
            gather_panel(read, X, NR, count, source, ahead, offset, out, h0.ld, words, &bad);
            if (words) words += h0.rows;
        }
        if (left > 0)
            gather_panel(read, X, (int)left, count, source, ahead, offset, out, h0.ld, words, &bad);
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
    return are_finite(bad);
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

/* Panels p0:p1 of X; without any data it has none either. */
static fnn_matrix panels_of(fnn_matrix X, int64_t p0, int64_t p1) {
    if (X.data) X.data = at(&X, p0, 0);
    if (X.nonzero) X.nonzero += p0 * X.rows;
    X.cols = smaller(X.cols, p1 * NR) - p0 * NR;
    return X;
}
static fnn_layer panels_of_layer(const fnn_layer *layer, int64_t p0, int64_t p1) {
    fnn_layer some = *layer;
    some.W = panels_of(layer->W, p0, p1);
    return some;
}
static fnn_activity panels_of_output(const fnn_activity *out, int64_t p0, int64_t p1) {
    return (fnn_activity){.a = panels_of(out->a, p0, p1), .h = panels_of(out->h, p0, p1)};
}

static void forward_panels(const fnn_layer *layer, const fnn_matrix *h_in, fnn_activity *out,
                           int64_t n, int64_t p0, int64_t p1) {
    if (n == 1) {
        forward_row(layer, h_in, out, p0, p1);
        return;
    }
    const fnn_layer some = panels_of_layer(layer, p0, p1);
    fnn_activity of_them = panels_of_output(out, p0, p1);
    forward(&some, h_in, NULL, &of_them, 0, n);
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

static void square_roots(const void *x, void *y, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        const int lanes = (int)smaller(VL, n - i);
        v_store_n((real *)y + i, root(v_load_n((const real *)x + i, lanes)), lanes);
    }
}

const fnn_kernels FNN_TABLE = {
    VL,
    MR,
    NR,
    LARGEST_GROUP,
    usual_group,
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
    square_roots,
    forward_panels,
    forward_lanes,
    SMALL_ROWS,
    SMALL_WIDTH,
    small_open,
    small_step,
    small_close,
    is_in_place,
    forward_in_place,
    panels_in_place,
    forward_sparse,
    update_sparse,
    shuffle,
};
