/* A whole step of a small network, each layer of which fits into one vector, on one thread. Its
 * matrices are rows of one vector, so that it needs none of the tiles, switches and calls that
 * would take most of its time. The same bits. */
#ifndef FNN_SMALL_H
#define FNN_SMALL_H

#include "small_output.h"

enum { SMALL_ROWS = 64 }; /* of a batch at most */

/* The first n lanes. */
typedef vec load_lanes(const real *p, int n);

/* n rows of X, of n_in reals that lie side by side. Returns 0, or NaN in the lanes of columns that
 * hold a NaN or an infinity. */
static ALWAYS_INLINE vec small_rows(load_lanes *load, const fnn_input *X, fnn_rows rows, int n_in,
                                    real *h, int64_t n) {
    const char *data = X->data; /* which no store to h changes */
    const int64_t stride = X->row_stride;
    vec bad = v_set1(0);
    for (int64_t r = 0; r < n; r++) {
        const vec x = load((const real *)(data + row_index(rows, r) * stride), n_in);
        v_store(h + r * VL, x);
        bad = v_fma(x, v_set1(0), bad);
    }
    return bad;
}

/* As `gather`, where the rows can be loaded as they are; else `gather` itself. */
static ALWAYS_INLINE int small_gather(const fnn_input *X, fnn_rows rows, fnn_matrix *h0,
                                      int64_t n) {
    const int n_in = (int)h0->cols;
    if (!has_rows_of_reals(X)) return gather(X, rows, NULL, h0, 0, n);
    const int is_few = VL <= FEW || n_in <= FEW; /* a constant where no vector holds more */
    const vec bad = is_few ? small_rows(v_load_few, X, rows, n_in, h0->data, n)
                           : small_rows(v_load_n, X, rows, n_in, h0->data, n);
    return v_all(v_less(bad, v_set1(1)));
}

static ALWAYS_INLINE void small_forward(const fnn_layer *layer, const real *h_in, fnn_activity *out,
                                        int64_t n) {
    const real *W = layer->W.data;
    real *h = out->h.data, *a = out->a.data ? out->a.data : h;
    const vec b = v_load(W + layer->n_in * VL);
    if (layer->activation.kind == FNN_RELU) {
        small_product(h_in, W, layer->n_in, b, with_relu, h, h, n);
    } else {
        small_product(h_in, W, layer->n_in, b, as_summed, a, a, n);
        if (layer->activation.kind != FNN_IDENTITY) activation(layer->activation, a, h, n, 1, VL);
    }
}

/* m columns of h, transposed, times delta, summed over n rows. The sum of delta's rows, the bias's
 * gradient, is one more chain in flight. */
static ALWAYS_INLINE void small_sums(const int m, const real *h, const real *delta, int64_t n,
                                     real *g, real *g_bias) {
    vec sum[SMALL_TILE], bias = v_set1(0);
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) sum[i] = v_set1(0);
    for (int64_t r = 0; r < n; r++, h += VL, delta += VL) {
        const vec d = v_load(delta);
        bias = v_add(bias, d);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) sum[i] = v_fma(v_set1(h[i]), d, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) v_store(g + i * VL, sum[i]);
    v_store(g_bias, bias);
}

static ALWAYS_INLINE void small_update(fnn_layer *layer, const real *h, const real *delta,
                                       int64_t n, const fnn_step *step) {
    real g[(VL + SMALL_TILE) * VL], g_bias[VL];
    const int n_in = (int)layer->n_in;
    if (n_in <= FEW)
        small_sums(FEW, h, delta, n, g, g_bias);
    else
        for (int i = 0; i < n_in; i += SMALL_TILE)
            small_sums(SMALL_TILE, h + i, delta, n, g + i * VL, g_bias);
    v_store(g + n_in * VL, v_load(g_bias));
    small_optimize(layer, g, n_in, step);
    if (layer->Wt.data)
        transpose_vectors(layer->W.data, VL, n_in, layer->Wt.data, VL, (int)layer->n_out);
}

/* Samples of the next batch, in the first-level cache before they are read. */
static ALWAYS_INLINE void small_fetch(const fnn_input *X, const fnn_targets *y, fnn_rows rows,
                                      int n_in, int64_t r0, int64_t r1) {
    const char *data = X->data;
    const int32_t *labels = y->labels;
    const int64_t stride = X->row_stride;
    /* a masked load touches all of its vector's bytes */
    const int64_t end = (n_in <= FEW ? FEW : VL) * (int64_t)sizeof(real) - 1;
    const int in_one_line = (((int64_t)(uintptr_t)data | stride) & end) == 0;
    for (int64_t r = r0; r < r1; r++) {
        const char *row = data + row_index(rows, r) * stride;
        __builtin_prefetch(row);
        if (!in_one_line) __builtin_prefetch(row + end);
        if (labels) __builtin_prefetch(labels + row_index(rows, r));
    }
}

static int small_step(fnn_layer *layers, int n_layers, fnn_activity *x, const fnn_input *X,
                      const fnn_targets *y, fnn_rows rows, int64_t n, double inverse_n,
                      int64_t n_next, const fnn_step *step, double *losses) {
    int top = n_layers - 1; /* the layer below delta */
    fnn_layer *last = &layers[top];
    const int turned = is_turned(last, y);
    real delta[SMALL_ROWS * FEW] __attribute__((aligned(64))); /* of a turned layer */
    if (!small_gather(X, rows, &x[0].h, n)) return 0;
    for (int k = 0; k < n_layers - turned; k++)
        small_forward(&layers[k], x[k].h.data, &x[k + 1], n);
    if (turned)
        turned_forward(last, x[top].h.data, y, rows, inverse_n, delta, n, losses);
    else
        loss(y, rows, inverse_n, &x[n_layers], 0, n, losses);
    small_fetch(X, y, rows, (int)layers[0].n_in, n, n + n_next); /* while the loss is waited for */
    if (turned) {
        turned_backward(last, delta, top > 0 ? &layers[top - 1].activation : NULL, &x[top], n,
                        step);
        top--;
    }
    for (int k = top; k > 0; k--)
        small_delta(x[k + 1].delta.data, layers[k].Wt.data, layers[k].n_out,
                    layers[k - 1].activation, &x[k], n);
    for (int k = 0; k <= top; k++)
        small_update(&layers[k], x[k].h.data, x[k + 1].delta.data, n, step);
    return 1;
}

#endif
