/* The output layer of a small network, where it has few outputs: a vector of them would be mostly
 * padding. While the network trains, its W is turned, (n_out, n_in) with the bias as a last row, in the
 * memory that it has; so is the optimizer's state. a and delta are columns, one vector for VL rows of
 * the batch. */
#ifndef FNN_SMALL_OUTPUT_H
#define FNN_SMALL_OUTPUT_H

#include "narrow.h"
#include "small_products.h"
#include "update.h"

/* As `transpose`, of which a matrix of single vectors needs but one round. */
static ALWAYS_INLINE void small_transpose(const int most, const real *in, int64_t ld_in, int rows,
                                          int cols, real *out, int64_t ld_out) {
    if (most == 1)
        transpose_vectors(in, VL, rows, out, ld_out, cols);
    else
        transpose(in, ld_in, rows, cols, out, ld_out);
}

/* What `g` does to W's `rows` rows of weights and, below them, that of the bias. */
static ALWAYS_INLINE void small_optimize(const fnn_layer *layer, real *g, int64_t ld, int64_t rows,
                                         const fnn_step *step) {
    real *W = layer->W.data;
    const int64_t vectors = ld / VL;
    if (step->l2 != 0 || step->l1 != 0) add_penalty(step, W, g, rows, vectors, ld);
    if (step->clip_value > 0) clip_values(step->clip_value, g, rows + 1, vectors, ld);
    optimize(step, layer->learning_rate_factor,
             (step_rows){W, layer->state[0], layer->state[1], g, rows + 1, vectors, ld}, rows);
}

static ALWAYS_INLINE int is_turned(const fnn_layer *layer, const fnn_targets *y) {
    return layer->n_out <= FEW && layer->n_out <= layer->n_in && !is_by_rows(y->loss) &&
           (layer->n_out + 1) * small_ld(SMALL_VECTORS, layer->n_in) <= (layer->n_in + 1) * VL;
}

/* A matrix of `rows` rows, below it that of the bias, becomes one of `cols` rows; the bias is in the
 * first vector of its row. */
static void turn(real *W, int64_t ld, int64_t rows, int64_t cols, int64_t ld_turned) {
    ALIGNED real turned[(SMALL_WIDTH + 1) * SMALL_WIDTH] = {0};
    if (!W) return;
    transpose(W, ld, rows, cols, turned, ld_turned);
    v_store(turned + cols * ld_turned, v_load(W + rows * ld));
    memcpy(W, turned, (size_t)((cols + 1) * ld_turned) * sizeof(real));
}

static void small_open(fnn_layer *layers, int n_layers, const fnn_targets *y) {
    fnn_layer *layer = &layers[n_layers - 1];
    const int64_t ld = small_ld(SMALL_VECTORS, layer->n_in);
    if (!is_turned(layer, y)) return;
    turn(layer->W.data, VL, layer->n_in, layer->n_out, ld);
    for (int i = 0; i < 2; i++) turn(layer->state[i], VL, layer->n_in, layer->n_out, ld);
}

static void small_close(fnn_layer *layers, int n_layers, const fnn_targets *y) {
    fnn_layer *layer = &layers[n_layers - 1];
    const int64_t ld = small_ld(SMALL_VECTORS, layer->n_in);
    if (!is_turned(layer, y)) return;
    if (layer->Wt.data)
        memcpy(layer->Wt.data, layer->W.data, (size_t)(layer->n_out * ld) * sizeof(real));
    turn(layer->W.data, ld, layer->n_out, layer->n_in, VL);
    for (int i = 0; i < 2; i++) turn(layer->state[i], ld, layer->n_out, layer->n_in, VL);
}

/* a of `nv` vectors of rows, given h_in's columns, in rows of SMALL_WIDTH; a has FEW vectors for each. */
static ALWAYS_INLINE void turned_product(const int nv, const int n_out, const real *W, int64_t ld,
                                         const real *hT, int n_in, real *a) {
    vec sum[FEW][SMALL_VECTORS];
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) sum[o][v] = v_set1(W[n_out * ld + o]);
    for (int k = 0; k < n_in; k++, hT += SMALL_WIDTH) {
        vec h[SMALL_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) h[v] = v_load_once(hT + v * VL);
#pragma GCC unroll 4
        for (int o = 0; o < n_out; o++) {
            const vec w = v_set1(W[o * ld + k]);
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++) sum[o][v] = v_fma(h[v], w, sum[o][v]);
        }
    }
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) v_store(a + (v * FEW + o) * VL, sum[o][v]);
}

static ALWAYS_INLINE void turned_products(const int nv, int n_out, const real *W, int64_t ld,
                                          const real *hT, int n_in, real *a) {
    switch (n_out) { /* no instance for more than FEW */
    case 1: turned_product(nv, 1, W, ld, hT, n_in, a); break;
    case 2: turned_product(nv, (int)smaller(2, FEW), W, ld, hT, n_in, a); break;
    case 3: turned_product(nv, (int)smaller(3, FEW), W, ld, hT, n_in, a); break;
    case 4: turned_product(nv, FEW, W, ld, hT, n_in, a); break;
    }
}

/* a, then the losses and delta, of n rows; `delta` has FEW vectors for every VL of them. */
static ALWAYS_INLINE void turned_forward(const int most, const fnn_layer *layer, const real *h_in,
                                         const fnn_targets *y, fnn_rows rows, double inverse_n,
                                         real *delta, int64_t n, double *losses) {
    const real *W = layer->W.data;
    const int n_in = (int)layer->n_in, n_out = (int)layer->n_out;
    const int64_t ld = small_ld(most, layer->n_in);
    ALIGNED real hT[SMALL_WIDTH * SMALL_WIDTH];
    for (int64_t r = 0; r < n; r += SMALL_WIDTH) {
        const int64_t end = smaller(n, r + SMALL_WIDTH);
        real *a = delta + r * FEW;
        for (int64_t i = r; i < end; i += VL)
            small_transpose(most, h_in + i * ld, ld, (int)smaller(VL, end - i), n_in, hT + (i - r),
                            SMALL_WIDTH);
        if (SMALL_VECTORS == 1 || end - r <= VL)
            turned_products(1, n_out, W, ld, hT, n_in, a);
        else
            turned_products(SMALL_VECTORS, n_out, W, ld, hT, n_in, a);
        for (int64_t i = r; i < end; i += VL, a += FEW * VL)
            take_losses(&(loss_task){y, rows, (real)inverse_n, n_out, NULL, (real(*)[VL])a, i,
                                     smaller(end, i + VL), losses});
    }
}

/* Sums over n rows: dW, turned, and below it the bias's gradient. With `finish` also delta of the
 * layer below: both need the same of every row, and one hides the other's latency. */
static ALWAYS_INLINE void turned_sums(const int n_out, const int nv, const fnn_layer *layer,
                                      const real *delta, const fnn_activity *below,
                                      finish_row *finish, int64_t n, real *g) {
    const real *h = below->h.data;
    real *dh = below->delta.data, row[VL] = {0};
    vec W[FEW][SMALL_VECTORS], sum[FEW][SMALL_VECTORS],
        bias[FEW]; /* all lanes of these are alike */
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++) {
        bias[o] = v_set1(0);
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            W[o][v] = v_load((const real *)layer->W.data + (o * nv + v) * VL), sum[o][v] = bias[o];
    }
    for (int64_t r = 0; r < n; r += VL, delta += FEW * VL)
        for (int i = 0; i < smaller(VL, n - r); i++, h += nv * VL) {
            vec below_sum[SMALL_VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++) below_sum[v] = v_set1(0);
#pragma GCC unroll 4
            for (int o = 0; o < n_out; o++) {
                const vec d = v_set1(delta[o * VL + i]);
#pragma GCC unroll 2
                for (int v = 0; v < nv; v++) {
                    if (finish) below_sum[v] = v_fma(d, W[o][v], below_sum[v]);
                    sum[o][v] = v_fma(d, v_load(h + v * VL), sum[o][v]);
                }
                bias[o] = v_add(bias[o], d);
            }
#pragma GCC unroll 2
            for (int v = 0; finish && v < nv; v++, dh += VL)
                v_store(dh, finish(below_sum[v], h + v * VL));
        }
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++) {
        /* padding of h may be other than zero; that of W stays zero */
        const int last = (int)layer->n_in - (nv - 1) * VL;
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            v_store(g + (o * nv + v) * VL,
                    v + 1 < nv ? sum[o][v] : v_first(sum[o][v], last, v_set1(0)));
        v_store_n(row + o, bias[o], 1);
    }
    v_store(g + n_out * nv * VL, v_load(row));
    if (nv > 1) v_store(g + (n_out * nv + 1) * VL, v_set1(0));
}

static ALWAYS_INLINE void turned_sums_of(const int nv, const fnn_layer *layer, const real *delta,
                                         const fnn_activity *below, finish_row *finish, int64_t n,
                                         real *g) {
    switch (layer->n_out) {
    case 1: turned_sums(1, nv, layer, delta, below, finish, n, g); break;
    case 2: turned_sums((int)smaller(2, FEW), nv, layer, delta, below, finish, n, g); break;
    case 3: turned_sums((int)smaller(3, FEW), nv, layer, delta, below, finish, n, g); break;
    case 4: turned_sums(FEW, nv, layer, delta, below, finish, n, g); break;
    }
}

/* `below` is what the layer has for its input; activation_below is NULL where that is X. */
static ALWAYS_INLINE void turned_sums_and_delta(const int nv, const fnn_layer *layer,
                                                const real *delta,
                                                const fnn_activation *activation_below,
                                                const fnn_activity *below, int64_t n, real *g) {
    real *dh = below->delta.data;
    if (!activation_below) {
        turned_sums_of(nv, layer, delta, below, NULL, n, g);
    } else if (activation_below->kind == FNN_RELU) {
        turned_sums_of(nv, layer, delta, below, times_relu_d, n, g);
    } else {
        turned_sums_of(nv, layer, delta, below, as_summed, n, g);
        times_derivative(*activation_below, below->a.data ? below->a.data : below->h.data, dh, n,
                         nv, nv * VL);
    }
}

static ALWAYS_INLINE void turned_backward(const int most, fnn_layer *layer, const real *delta,
                                          const fnn_activation *activation_below,
                                          const fnn_activity *below, int64_t n,
                                          const fnn_step *step) {
    ALIGNED real g[(FEW + 1) * SMALL_WIDTH];
    const int64_t ld = small_ld(most, layer->n_in);
    if (ld == VL)
        turned_sums_and_delta(1, layer, delta, activation_below, below, n, g);
    else
        turned_sums_and_delta(SMALL_VECTORS, layer, delta, activation_below, below, n, g);
    small_optimize(layer, g, ld, layer->n_out, step);
}

#endif
