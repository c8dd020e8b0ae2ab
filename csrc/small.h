/* A whole step of a small network, each layer of which fits into one vector, on one thread. Its
 * matrices are rows of one vector, so that it needs none of the tiles, switches and calls that
 * would take most of its time. The same bits. */
#ifndef FNN_SMALL_H
#define FNN_SMALL_H

#include "narrow.h"
#include "update.h"

enum { SMALL_ROWS = 64, SMALL_TILE = 8 }; /* rows of a batch at most; chains in flight */

/* What is done to a row of sums before it is stored; `h` lies as the sums do. */
typedef vec finish_row(vec sum, const real *h);

static ALWAYS_INLINE vec as_summed(vec sum, const real *h) { return sum; }
static ALWAYS_INLINE vec with_relu(vec sum, const real *h) { return relu(sum); }
static ALWAYS_INLINE vec times_relu_d(vec sum, const real *h) {
    return v_mul(sum, relu_d(v_load(h)));
}

/* m rows of C = start + A B, A (m, K). */
static ALWAYS_INLINE void small_tile(const int m, const real *A, const real *B, int64_t K,
                                     vec start, finish_row *finish, const real *h, real *C) {
    vec sum[SMALL_TILE];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) sum[i] = start;
    for (int64_t k = 0; k < K; k++, B += VL) {
        const vec b = v_load(B);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) sum[i] = v_fma(v_set1(A[i * VL + k]), b, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) v_store(C + i * VL, finish(sum[i], h + i * VL));
}

static ALWAYS_INLINE void small_product(const real *A, const real *B, int64_t K, vec start,
                                        finish_row *finish, const real *h, real *C, int64_t rows) {
    const real *end = C + rows * VL;
    for (; C + SMALL_TILE * VL <= end; A += SMALL_TILE * VL, h += SMALL_TILE * VL)
        small_tile(SMALL_TILE, A, B, K, start, finish, h, C), C += SMALL_TILE * VL;
    for (; C + 4 * VL <= end; A += 4 * VL, h += 4 * VL)
        small_tile(4, A, B, K, start, finish, h, C), C += 4 * VL;
    for (; C < end; A += VL, h += VL) small_tile(1, A, B, K, start, finish, h, C), C += VL;
}

/* As `gather`, where the rows can be loaded as they are; else `gather` itself. */
static ALWAYS_INLINE int small_gather(const fnn_input *X, fnn_rows rows, fnn_matrix *h0,
                                      int64_t n) {
    const int own_type = sizeof(real) == sizeof(float) ? FNN_INPUT_F32 : FNN_INPUT_F64;
    if (X->type != own_type || X->column_stride != sizeof(real))
        return gather(X, rows, NULL, h0, 0, n);
    vec bad = v_set1(0);
    for (int64_t r = 0; r < n; r++) {
        const char *source = X->data + row_index(rows, r) * X->row_stride;
        const vec x = v_load_n((const real *)source, (int)h0->cols);
        v_store(at(h0, 0, r), x);
        bad = v_fma(x, v_set1(0), bad);
    }
    return v_all(v_less(bad, v_set1(1)));
}

/* a = h_in W + b for a few outputs: the lanes are rows of the batch, not outputs, of which most
 * would be padding. */
static ALWAYS_INLINE void small_forward_few(const fnn_layer *layer, const real *h_in, real *a,
                                            int64_t n) {
    const real *W = layer->W.data;
    const int n_in = (int)layer->n_in, n_out = (int)layer->n_out;
    real hT[VL * VL], aT[VL * VL]; /* rows beyond FEW: for the compiler, which fears for them */
    for (int64_t r = 0; r < n; r += VL) {
        const int count = (int)smaller(VL, n - r);
        vec sum[FEW];
        transpose_vectors(h_in + r * VL, VL, count, hT, VL, n_in);
#pragma GCC unroll 4
        for (int o = 0; o < FEW; o++) sum[o] = v_set1(W[n_in * VL + o]);
        for (int k = 0; k < n_in; k++)
#pragma GCC unroll 4
            for (int o = 0; o < FEW; o++)
                sum[o] = v_fma(v_load(hT + k * VL), v_set1(W[k * VL + o]), sum[o]);
#pragma GCC unroll 4
        for (int o = 0; o < FEW; o++) v_store(aT + o * VL, sum[o]);
        transpose_vectors(aT, VL, n_out, a + r * VL, VL, count);
    }
}

static ALWAYS_INLINE void small_forward(const fnn_layer *layer, const real *h_in, fnn_activity *out,
                                        int64_t n) {
    const real *W = layer->W.data;
    real *h = out->h.data, *a = out->a.data ? out->a.data : h;
    const vec b = v_load(W + layer->n_in * VL);
    if (layer->activation.kind == FNN_RELU)
        small_product(h_in, W, layer->n_in, b, with_relu, h, h, n);
    else if (layer->n_out <= FEW && n >= VL)
        small_forward_few(layer, h_in, a, n);
    else
        small_product(h_in, W, layer->n_in, b, as_summed, a, a, n);
    if (layer->activation.kind != FNN_RELU && layer->activation.kind != FNN_IDENTITY)
        activation(layer->activation, a, h, n, 1, VL);
}

static ALWAYS_INLINE void small_backward(const fnn_layer *layer, const real *delta,
                                         fnn_activation activation_below, fnn_activity *below,
                                         int64_t n) {
    const real *h = below->h.data, *a = below->a.data ? below->a.data : h;
    real *dh = below->delta.data;
    if (activation_below.kind == FNN_RELU) {
        small_product(delta, layer->Wt.data, layer->n_out, v_set1(0), times_relu_d, h, dh, n);
    } else {
        small_product(delta, layer->Wt.data, layer->n_out, v_set1(0), as_summed, dh, dh, n);
        times_derivative(activation_below, a, dh, n, 1, VL);
    }
}

/* m columns of A, transposed, times B, summed over n rows. The sum of delta's rows, the bias's
 * gradient, is one more chain in flight. */
static ALWAYS_INLINE void small_sums(const int m, const real *A, const real *B, const real *delta,
                                     int64_t n, real *g, real *g_bias) {
    vec sum[SMALL_TILE], bias = v_set1(0);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) sum[i] = v_set1(0);
    for (int64_t r = 0; r < n; r++, A += VL, B += VL, delta += VL) {
        const vec b = v_load(B);
        bias = v_add(bias, v_load(delta));
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) sum[i] = v_fma(v_set1(A[i]), b, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) v_store(g + i * VL, sum[i]);
    v_store(g_bias, bias);
}

static ALWAYS_INLINE void small_update(fnn_layer *layer, const real *h, const real *delta,
                                       int64_t n, const fnn_step *step) {
    real g[(VL + SMALL_TILE) * VL], gt[FEW * VL], g_bias[VL];
    real *W = layer->W.data, *Wt = layer->Wt.data;
    const int n_in = (int)layer->n_in, n_out = (int)layer->n_out;
    if (n_out <= FEW && n_in > FEW) {
        small_sums(FEW, delta, h, delta, n, gt, g_bias);
        transpose_vectors(gt, VL, n_out, g, VL, n_in);
    } else if (n_in <= FEW) {
        small_sums(FEW, h, delta, delta, n, g, g_bias);
    } else {
        for (int i = 0; i < n_in; i += SMALL_TILE)
            small_sums(SMALL_TILE, h + i, delta, delta, n, g + i * VL, g_bias);
    }
    v_store(g + n_in * VL, v_load(g_bias));
    if (step->l2 != 0 || step->l1 != 0) add_penalty(step, W, g, n_in, 1, VL);
    if (step->clip_value > 0) clip_values(step->clip_value, g, n_in + 1, 1, VL);
    optimize(step, layer->learning_rate_factor,
             (step_rows){W, layer->state[0], layer->state[1], g, n_in + 1, 1, VL}, n_in);
    if (Wt) transpose_vectors(W, VL, n_in, Wt, VL, n_out);
}

/* Samples of the next batch, in the first-level cache before they are read. */
static ALWAYS_INLINE void small_fetch(const fnn_input *X, const fnn_targets *y, fnn_rows rows,
                                      int64_t r0, int64_t r1) {
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const char *row = X->data + t * X->row_stride;
        __builtin_prefetch(row); /* a masked load touches all of its vector's bytes */
        __builtin_prefetch(row + VL * sizeof(real) - 1);
        if (y->labels) __builtin_prefetch(y->labels + t);
    }
}

static int small_step(fnn_layer *layers, int n_layers, fnn_activity *x, const fnn_input *X,
                      const fnn_targets *y, fnn_rows rows, int64_t n, double inverse_n,
                      int64_t n_next, const fnn_step *step, double *losses) {
    small_fetch(X, y, rows, n, n + n_next);
    if (!small_gather(X, rows, &x[0].h, n)) return 0;
    for (int k = 0; k < n_layers; k++) small_forward(&layers[k], x[k].h.data, &x[k + 1], n);
    loss(y, rows, inverse_n, &x[n_layers], 0, n, losses);
    for (int k = n_layers - 1; k > 0; k--)
        small_backward(&layers[k], x[k + 1].delta.data, layers[k - 1].activation, &x[k], n);
    for (int k = 0; k < n_layers; k++)
        small_update(&layers[k], x[k].h.data, x[k + 1].delta.data, n, step);
    return 1;
}

#endif
