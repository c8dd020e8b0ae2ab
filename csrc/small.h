/* A whole step of a small network, each layer of which fits into one vector or two, on one thread. Its
 * matrices are rows of so many, so that it needs none of the tiles, switches and calls that would
 * take most of its time. The same bits. */
#ifndef FNN_SMALL_H
#define FNN_SMALL_H

#include "small_output.h"

enum { SMALL_ROWS = 64 }; /* of a batch at most */

/* The first n lanes. */
typedef vec load_lanes(const real *p, int n);

/* n rows of X, of n_in reals that lie side by side. Returns 0, or NaN in the lanes of columns that
 * hold a NaN or an infinity. */
static ALWAYS_INLINE vec small_rows(const int nv, load_lanes *load, const fnn_input *X,
                                    fnn_rows rows, int n_in, real *h, int64_t n) {
    const char *data = X->data; /* which no store to h changes */
    const int64_t stride = X->row_stride;
    const int last = n_in - (nv - 1) * VL;
    vec bad = v_set1(0);
    for (int64_t r = 0; r < n; r++) {
        const real *row = (const real *)(data + row_index(rows, r) * stride);
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++, h += VL) {
            const vec x = v + 1 < nv ? v_load(row + v * VL) : load(row + v * VL, last);
            v_store(h, x);
            bad = v_fma(x, v_set1(0), bad);
        }
    }
    return bad;
}

/* As `gather`, where the rows can be loaded as they are; else `gather` itself. */
static ALWAYS_INLINE int small_gather(const int most, const fnn_input *X, fnn_rows rows,
                                      fnn_matrix *h0, int64_t n) {
    const int n_in = (int)h0->cols;
    if (!has_rows_of_reals(X)) return gather(X, rows, NULL, h0, 0, n);
    vec bad;
    if (n_in <= FEW)
        bad = small_rows(1, v_load_few, X, rows, n_in, h0->data, n);
    else if (VL > FEW && small_ld(most, n_in) == VL)
        bad = small_rows(1, v_load_n, X, rows, n_in, h0->data, n);
    else
        bad = small_rows(SMALL_VECTORS, v_load_n, X, rows, n_in, h0->data, n);
    return are_finite(bad);
}

static ALWAYS_INLINE void small_forward(const int most, const fnn_layer *layer,
                                        const fnn_matrix *h_in, fnn_activity *out, int64_t n) {
    const real *W = layer->W.data;
    const small_matrix h = small(most, &out->h), a = out->a.data ? small(most, &out->a) : h;
    const real *b = W + layer->n_in * h.ld;
    if (layer->activation.kind == FNN_RELU) {
        small_product(small(most, h_in), W, layer->n_in, b, with_relu, h.data, h, n);
        return;
    }
    small_product(small(most, h_in), W, layer->n_in, b, as_summed, a.data, a, n);
    if (layer->activation.kind != FNN_IDENTITY)
        activation(layer->activation, a.data, h.data, n, h.ld / VL, h.ld);
}

/* m columns of h, transposed, times delta, of nv vectors, summed over n rows. The sum of delta's rows,
 * the bias's gradient, is one more chain in flight. */
static ALWAYS_INLINE void small_sums(const int m, const int nv, small_matrix h, const real *delta,
                                     int64_t n, real *g, real *g_bias) {
    vec sum[SMALL_TILE][SMALL_VECTORS], bias[SMALL_VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < nv; v++) {
        bias[v] = v_set1(0);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) sum[i][v] = v_set1(0);
    }
    for (int64_t r = 0; r < n; r++, h.data += h.ld, delta += nv * VL)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) {
            const vec d = v_load(delta + v * VL);
            bias[v] = v_add(bias[v], d);
#pragma GCC unroll 8
            for (int i = 0; i < m; i++) sum[i][v] = v_fma(v_set1(h.data[i]), d, sum[i][v]);
        }
#pragma GCC unroll 2
    for (int v = 0; v < nv; v++) {
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) v_store(g + (i * nv + v) * VL, sum[i][v]);
        v_store(g_bias + v * VL, bias[v]);
    }
}

/* All of dW, and below it the bias's gradient. */
static ALWAYS_INLINE void small_gradient(const int nv, small_matrix h, const real *delta, int n_in,
                                         int64_t n, real *g) {
    const int m = (int)smaller(SMALL_TILE / nv, SMALL_WIDTH);
    ALIGNED real g_bias[SMALL_WIDTH];
    if (n_in <= FEW)
        small_sums(FEW, nv, h, delta, n, g, g_bias);
    else
        for (int i = 0; i < n_in; i += m, h.data += m)
            small_sums(m, nv, h, delta, n, g + i * nv * VL, g_bias);
    memcpy(g + n_in * nv * VL, g_bias, (size_t)(nv * VL) * sizeof(real));
}

static ALWAYS_INLINE void small_update(const int most, fnn_layer *layer, const fnn_matrix *h,
                                       const fnn_matrix *delta, int64_t n, const fnn_step *step) {
    ALIGNED real g[(SMALL_WIDTH + SMALL_TILE) * SMALL_WIDTH];
    const int n_in = (int)layer->n_in;
    const small_matrix W = small(most, &layer->W), Wt = small(most, &layer->Wt);
    if (W.ld == VL)
        small_gradient(1, small(most, h), delta->data, n_in, n, g);
    else
        small_gradient(SMALL_VECTORS, small(most, h), delta->data, n_in, n, g);
    small_optimize(layer, g, W.ld, n_in, step);
    if (Wt.data) small_transpose(most, W.data, W.ld, n_in, (int)layer->n_out, Wt.data, Wt.ld);
}

/* Samples of the next batch, in the first-level cache before they are read. */
static ALWAYS_INLINE void small_fetch(const int most, const fnn_input *X, const fnn_targets *y,
                                      fnn_rows rows, int n_in, int64_t r0, int64_t r1) {
    const char *data = X->data;
    const int32_t *labels = y->labels;
    const int64_t stride = X->row_stride;
    /* a masked load touches all of its vector's bytes */
    const int64_t end = (n_in <= FEW ? FEW : small_ld(most, n_in)) * (int64_t)sizeof(real) - 1;
    const int in_one_line = (((int64_t)(uintptr_t)data | stride) & end) == 0;
    for (int64_t r = r0; r < r1; r++) {
        const char *row = data + row_index(rows, r) * stride;
        __builtin_prefetch(row);
        if (!in_one_line) __builtin_prefetch(row + end);
        if (labels) __builtin_prefetch(labels + row_index(rows, r));
    }
}

static ALWAYS_INLINE int small_step_of(const int most, fnn_layer *layers, int n_layers,
                                       fnn_activity *x, const fnn_input *X, const fnn_targets *y,
                                       fnn_rows rows, int64_t n, double inverse_n, int64_t n_next,
                                       const fnn_step *step, double *losses) {
    int top = n_layers - 1; /* the layer below delta */
    fnn_layer *last = &layers[top];
    const int turned = is_turned(last, y);
    ALIGNED real delta[SMALL_ROWS * FEW]; /* of a turned layer */
    if (!small_gather(most, X, rows, &x[0].h, n)) return 0;
    for (int k = 0; k < n_layers - turned; k++)
        small_forward(most, &layers[k], &x[k].h, &x[k + 1], n);
    if (turned)
        turned_forward(most, last, x[top].h.data, y, rows, inverse_n, delta, n, losses);
    else
        loss(y, rows, inverse_n, &x[n_layers], 0, n, losses);
    small_fetch(most, X, y, rows, (int)layers[0].n_in, n,
                n + n_next); /* while the loss is waited for */
    if (turned) {
        turned_backward(most, last, delta, top > 0 ? &layers[top - 1].activation : NULL, &x[top], n,
                        step);
        top--;
    }
    for (int k = top; k > 0; k--)
        small_delta(most, &x[k + 1].delta, layers[k].Wt.data, layers[k].n_out,
                    layers[k - 1].activation, &x[k], n);
    for (int k = 0; k <= top; k++)
        small_update(most, &layers[k], &x[k].h, &x[k + 1].delta, n, step);
    return 1;
}

/* Compiled for networks of single vectors, too, which have nothing to choose. */
static int small_step(fnn_layer *layers, int n_layers, fnn_activity *x, const fnn_input *X,
                      const fnn_targets *y, fnn_rows rows, int64_t n, double inverse_n,
                      int64_t n_next, const fnn_step *step, double *losses) {
    int64_t widest = x[0].h.cols;
    for (int k = 0; k < n_layers; k++)
        if (layers[k].n_out > widest) widest = layers[k].n_out;
    if (SMALL_VECTORS == 1 || widest <= VL)
        return small_step_of(1, layers, n_layers, x, X, y, rows, n, inverse_n, n_next, step,
                             losses);
    return small_step_of(SMALL_VECTORS, layers, n_layers, x, X, y, rows, n, inverse_n, n_next, step,
                         losses);
}

#endif
