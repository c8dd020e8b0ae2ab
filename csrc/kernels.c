/* The kernels of one instruction set and dtype: compiled once for each, with FNN_AVX512, FNN_AVX2,
 * FNN_NEON or none, FNN_F64 or not, and FNN_TABLE, the name of the table it exports. */
#include "activations.h"
#include "gemm.h"
#include "narrow.h"
#include "optimizers.h"

/* ---- gather */

/* Correctly rounded x / 255: the quotient's rounding error, exact in one fnma, is put back. */
static ALWAYS_INLINE vec divide_by_255(vec x) {
    const vec inverse = v_set1(R(1.0) / 255);
    vec q = v_mul(x, inverse);
    return v_fma(v_fnma(q, v_set1(255), x), inverse, q);
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

/* Returns 0 in every lane, or NaN in one that met a NaN or an infinity. */
static ALWAYS_INLINE vec gather_rows(read_columns *read, const fnn_input *X, fnn_rows rows,
                                     fnn_matrix *h0, int64_t r0, int64_t r1) {
    const int64_t row_bytes = h0->cols * item_size(X), ahead = 2 + FETCH_AHEAD / row_bytes;
    vec bad = v_set1(0);
    for (int64_t r = r0; r < r1; r++) {
        const char *source = X->data + row_index(rows, r) * X->row_stride;
        if (r + ahead < r1) fetch_row(X, rows, r + ahead, row_bytes);
        for (int64_t p = 0; p < count_panels(h0); p++) {
            const int n = (int)smaller(NR, h0->cols - p * NR);
            for (int c = 0; c < n; c += VL, source += VL * X->column_stride) {
                vec x = read(X, source, (int)smaller(VL, n - c));
                v_store(at(h0, p, r) + c, x);
                bad = v_fma(x, v_set1(0), bad);
            }
        }
    }
    return bad;
}

static int gather(const fnn_input *X, fnn_rows rows, fnn_matrix *h0, int64_t r0, int64_t r1) {
    const int adjacent = X->column_stride == item_size(X);
    const int own_type = sizeof(real) == sizeof(float) ? FNN_INPUT_F32 : FNN_INPUT_F64;
    vec bad;
    if (adjacent && X->type == own_type)
        bad = gather_rows(read_reals, X, rows, h0, r0, r1);
    else if (adjacent && X->type == FNN_INPUT_U8)
        bad = gather_rows(read_bytes, X, rows, h0, r0, r1);
    else
        bad = gather_rows(read_any, X, rows, h0, r0, r1);
    return v_all(v_less(bad, v_set1(1)));
}

/* ---- forward and backward */

typedef struct {
    int activation;
    const fnn_activity *x;
} finish_context;

static ALWAYS_INLINE void finish_forward(const void *context, int64_t p, int64_t r0, int64_t r1) {
    const finish_context *f = context;
    const fnn_matrix *h = &f->x->h, *a = f->x->a.data ? &f->x->a : h;
    if (f->activation != FNN_IDENTITY)
        activation(f->activation, at(a, p, r0), at(h, p, r0), r1 - r0, panel_vectors(h, p), h->ld);
}

/* Where g' needs a, the sums stay in a and h is written beside them; else h overwrites them. */
static void forward(const fnn_layer *layer, const fnn_matrix *h_in, fnn_activity *out, int64_t r0,
                    int64_t r1) {
    const finish_context context = {layer->activation, out};
    const fnn_matrix *a = out->a.data ? &out->a : &out->h;
    product(h_in, &layer->W, layer->n_in, 1, a, r0, r1, finish_forward, &context);
}

static ALWAYS_INLINE void finish_backward(const void *context, int64_t p, int64_t r0, int64_t r1) {
    const finish_context *f = context;
    const fnn_matrix *h = &f->x->h, *a = f->x->a.data ? &f->x->a : h;
    times_derivative(f->activation, at(a, p, r0), at(h, p, r0), at(&f->x->delta, p, r0), r1 - r0,
                     panel_vectors(h, p), h->ld);
}

static void backward(const fnn_layer *layer, const fnn_matrix *delta, int activation_below,
                     fnn_activity *below, int64_t r0, int64_t r1) {
    const finish_context context = {activation_below, below};
    product(delta, &layer->Wt, layer->n_out, 0, &below->delta, r0, r1, finish_backward, &context);
}

/* ---- update */

/* Wt keeps up with rows [i0, i0 + count) of panel p of W. */
static void transpose_block(fnn_layer *layer, int64_t i0, int64_t count, int64_t p) {
    const int64_t n_out = smaller(NR, layer->n_out - p * NR);
    for (int64_t i = 0; i < count; i += VL)
        for (int64_t o = 0; o < n_out; o += VL)
            transpose(at(&layer->W, p, i0 + i) + o, layer->W.ld, (int)smaller(VL, count - i),
                      at(&layer->Wt, i0 / NR, p * NR + o) + i, layer->Wt.ld,
                      (int)smaller(VL, n_out - o));
}

/* dW[rows of the block], then the bias row where it is the last block's turn. */
static ALWAYS_INLINE void gradient_block(const fnn_layer *layer, const fnn_matrix *h_in,
                                         const fnn_matrix *delta, int64_t n, int64_t block,
                                         int64_t panel, int64_t count, enum start start0, real *g) {
    static const real one = 1;
    const int nv = panel_vectors(delta, panel);
    const int has_bias_row = (block + 1) * NR >= layer->n_in;
    const int64_t ld = layer->W.ld;
    const int64_t size = block_of(n);
    int64_t k0 = 0;
    do {
        const int64_t K = smaller(size, n - k0);
        const enum start start = k0 ? FROM_C : start0;
        const real *B = at(delta, panel, k0);
        broadcast_operand A = {NULL, 1, h_in->ld, K, 0};
        for (int64_t i = 0; i < count; i += MR) {
            A.data = at(h_in, block, k0) + i;
            tile_of_columns(nv, (int)smaller(MR, count - i), A, K, B, delta->ld, g + i * ld, ld,
                            start);
        }
        if (has_bias_row) {
            broadcast_operand ones = {&one, 1, 0, K, 0};
            tile_of_columns(nv, 1, ones, K, B, delta->ld, g + count * ld, ld, start);
        }
    } while ((k0 += size) < n);
}

static void copy_rows(real *to, const real *from, int64_t rows, int64_t vectors, int64_t ld) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * ld, from + r * ld, (size_t)(vectors * VL) * sizeof(real));
}

static void update(fnn_layer *layer, const fnn_matrix *h_in, const fnn_matrix *delta, int64_t n,
                   int64_t block, int64_t panel, const fnn_step *step) {
    real g[(NR + 1) * NR];
    const int64_t i0 = block * NR, count = smaller(NR, layer->n_in - i0), ld = layer->W.ld;
    const int64_t rows = count + (i0 + NR >= layer->n_in);
    const int vectors = panel_vectors(&layer->W, panel);
    const int64_t offset = at(&layer->W, panel, i0) - (real *)layer->W.data;
    real *W = layer->W.data, *m = layer->m, *v = layer->v, *sums = layer->gradient;
    if (!step->first) copy_rows(g, sums + offset, rows, vectors, ld);
    gradient_block(layer, h_in, delta, n, block, panel, count, step->first ? FROM_ZERO : FROM_C, g);
    if (!step->last || !step->update) {
        copy_rows(sums + offset, g, rows, vectors, ld);
        return;
    }
    if (step->l2 != 0 || step->l1 != 0) add_penalty(step, W + offset, g, count, vectors, ld);
    optimize(step, W + offset, m + offset, v + offset, g, rows, vectors, ld);
    if (layer->Wt.data) transpose_block(layer, i0, count, panel);
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

static void unpack(const fnn_layer *layer, const void *packed, void *W_user, void *b_user) {
    const fnn_matrix P = {(void *)packed, layer->W.rows, layer->W.cols, layer->W.ld};
    real *W = W_user, *b = b_user;
    for (int64_t o = 0; o < layer->n_out; o++) {
        for (int64_t i = 0; i < layer->n_in; i++)
            W[o * layer->n_in + i] = at(&P, o / NR, i)[o % NR];
        b[o] = at(&P, o / NR, layer->n_in)[o % NR];
    }
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
    for (int64_t i = 0; i < n; i += VL) {
        const int lanes = (int)smaller(VL, n - i);
        real ai[VL], hi[VL], di[VL];
        v_store(ai, v_load_n((const real *)a + i, lanes));
        v_store(di, v_set1(1));
        memcpy(hi, ai, sizeof hi);
        activation(kind, ai, hi, 1, 1, VL);
        times_derivative(kind, ai, hi, di, 1, 1, VL);
        v_store_n((real *)h + i, v_load(hi), lanes);
        v_store_n((real *)dh + i, v_load(di), lanes);
    }
}

const fnn_kernels FNN_TABLE = {
    VL,       MR,     NR,   gather, forward,       output,   loss,
    backward, update, pack, unpack, multiply_adds, activate,
};
