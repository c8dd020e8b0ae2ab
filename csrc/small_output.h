/* The output layer of a small network, where it has few outputs: a vector of them would be mostly
 * padding. While the network trains, its W is turned, (n_out, n_in) with the bias as a last row, in the
 * memory that it has; so is the optimizer's state. a and delta are columns, one vector for VL rows of
 * the batch. */
#ifndef FNN_SMALL_OUTPUT_H
#define FNN_SMALL_OUTPUT_H

#include "narrow.h"
#include "small_products.h"
#include "update.h"

/* What `g` does to W's `rows` rows of weights and, below them, that of the bias. */
static ALWAYS_INLINE void small_optimize(const fnn_layer *layer, real *g, int64_t rows,
                                         const fnn_step *step) {
    real *W = layer->W.data;
    if (step->l2 != 0 || step->l1 != 0) add_penalty(step, W, g, rows, 1, VL);
    if (step->clip_value > 0) clip_values(step->clip_value, g, rows + 1, 1, VL);
    optimize(step, layer->learning_rate_factor,
             (step_rows){W, layer->state[0], layer->state[1], g, rows + 1, 1, VL}, rows);
}

static ALWAYS_INLINE int is_turned(const fnn_layer *layer, const fnn_targets *y) {
    return layer->n_out <= FEW && layer->n_out <= layer->n_in && !is_by_rows(y->loss);
}

/* A matrix of `rows` rows, below it that of the bias, becomes one of `cols` rows. */
static void turn(real *W, int64_t rows, int64_t cols) {
    real turned[(VL + 1) * VL];
    if (!W) return;
    transpose_vectors(W, VL, (int)rows, turned, VL, (int)cols);
    v_store(turned + cols * VL, v_load(W + rows * VL));
    memcpy(W, turned, (size_t)((cols + 1) * VL) * sizeof(real));
}

static void small_open(fnn_layer *layers, int n_layers, const fnn_targets *y) {
    fnn_layer *layer = &layers[n_layers - 1];
    if (!is_turned(layer, y)) return;
    turn(layer->W.data, layer->n_in, layer->n_out);
    for (int i = 0; i < 2; i++) turn(layer->state[i], layer->n_in, layer->n_out);
}

static void small_close(fnn_layer *layers, int n_layers, const fnn_targets *y) {
    fnn_layer *layer = &layers[n_layers - 1];
    if (!is_turned(layer, y)) return;
    if (layer->Wt.data)
        memcpy(layer->Wt.data, layer->W.data, (size_t)(layer->n_out * VL) * sizeof(real));
    turn(layer->W.data, layer->n_out, layer->n_in);
    for (int i = 0; i < 2; i++) turn(layer->state[i], layer->n_out, layer->n_in);
}

/* a of VL rows, given h_in's columns. */
static ALWAYS_INLINE void turned_product(const int n_out, const real *W, const real *hT, int n_in,
                                         real *a) {
    vec sum[FEW];
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++) sum[o] = v_set1(W[n_out * VL + o]);
    for (int k = 0; k < n_in; k++) {
        const vec h = v_load_once(hT + k * VL);
#pragma GCC unroll 4
        for (int o = 0; o < n_out; o++) sum[o] = v_fma(h, v_set1(W[o * VL + k]), sum[o]);
    }
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++) v_store(a + o * VL, sum[o]);
}

/* a, then the losses and delta, of n rows; `delta` has FEW vectors for every VL of them. */
static ALWAYS_INLINE void turned_forward(const fnn_layer *layer, const real *h_in,
                                         const fnn_targets *y, fnn_rows rows, double inverse_n,
                                         real *delta, int64_t n, double *losses) {
    const real *W = layer->W.data;
    const int n_in = (int)layer->n_in, n_out = (int)layer->n_out;
    real hT[VL * VL];
    for (int64_t r = 0; r < n; r += VL, delta += FEW * VL) {
        const int count = (int)smaller(VL, n - r);
        transpose_vectors(h_in + r * VL, VL, count, hT, VL, n_in);
        switch (n_out) { /* no instance for more than FEW */
        case 1: turned_product(1, W, hT, n_in, delta); break;
        case 2: turned_product((int)smaller(2, FEW), W, hT, n_in, delta); break;
        case 3: turned_product((int)smaller(3, FEW), W, hT, n_in, delta); break;
        case 4: turned_product(FEW, W, hT, n_in, delta); break;
        }
        take_losses(&(loss_task){y, rows, (real)inverse_n, n_out, NULL, (real(*)[VL])delta, r,
                                 r + count, losses});
    }
}

/* Sums over n rows: dW, turned, and below it the bias's gradient. With `finish` also delta of the
 * layer below: both need the same of every row, and one hides the other's latency. */
static ALWAYS_INLINE void turned_sums(const int n_out, const fnn_layer *layer, const real *delta,
                                      const fnn_activity *below, finish_row *finish, int64_t n,
                                      real *g) {
    const real *h = below->h.data;
    real *dh = below->delta.data, row[VL] = {0};
    vec W[FEW], sum[FEW], bias[FEW]; /* of the latter all lanes are alike */
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++)
        W[o] = v_load((const real *)layer->W.data + o * VL), sum[o] = bias[o] = v_set1(0);
    for (int64_t r = 0; r < n; r += VL, delta += FEW * VL)
        for (int i = 0; i < smaller(VL, n - r); i++, h += VL) {
            vec below_sum = v_set1(0);
#pragma GCC unroll 4
            for (int o = 0; o < n_out; o++) {
                const vec d = v_set1(delta[o * VL + i]);
                if (finish) below_sum = v_fma(d, W[o], below_sum);
                sum[o] = v_fma(d, v_load(h), sum[o]);
                bias[o] = v_add(bias[o], d);
            }
            if (finish) v_store(dh, finish(below_sum, h)), dh += VL;
        }
#pragma GCC unroll 4
    for (int o = 0; o < n_out; o++) {
        /* padding of h may be other than zero; that of W stays zero */
        v_store(g + o * VL, v_first(sum[o], (int)layer->n_in, v_set1(0)));
        v_store_n(row + o, bias[o], 1);
    }
    v_store(g + n_out * VL, v_load(row));
}

static ALWAYS_INLINE void turned_sums_of(const fnn_layer *layer, const real *delta,
                                         const fnn_activity *below, finish_row *finish, int64_t n,
                                         real *g) {
    switch (layer->n_out) {
    case 1: turned_sums(1, layer, delta, below, finish, n, g); break;
    case 2: turned_sums((int)smaller(2, FEW), layer, delta, below, finish, n, g); break;
    case 3: turned_sums((int)smaller(3, FEW), layer, delta, below, finish, n, g); break;
    case 4: turned_sums(FEW, layer, delta, below, finish, n, g); break;
    }
}

/* `below` is what the layer has for its input; activation_below is NULL where that is X. */
static ALWAYS_INLINE void turned_backward(fnn_layer *layer, const real *delta,
                                          const fnn_activation *activation_below,
                                          const fnn_activity *below, int64_t n,
                                          const fnn_step *step) {
    real g[(FEW + 1) * VL], *dh = below->delta.data;
    if (!activation_below) {
        turned_sums_of(layer, delta, below, NULL, n, g);
    } else if (activation_below->kind == FNN_RELU) {
        turned_sums_of(layer, delta, below, times_relu_d, n, g);
    } else {
        turned_sums_of(layer, delta, below, as_summed, n, g);
        times_derivative(*activation_below, below->a.data ? below->a.data : below->h.data, dh, n, 1,
                         VL);
    }
    small_optimize(layer, g, layer->n_out, step);
}

#endif
