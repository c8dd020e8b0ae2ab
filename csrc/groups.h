/* A softmax and its cross-entropy for each group of neighbouring outputs. The rows are in the lanes, so
 * that groups may begin and end at any column; what a row sums, it sums in the order of the columns. */
#ifndef FNN_GROUPS_H
#define FNN_GROUPS_H

#include "losses.h"

/* Rows r to r + count of the output layer, count <= VL: their places in y, and w / n. */
typedef struct {
    const fnn_targets *y;
    const fnn_activity *out;
    int64_t r, t[VL];
    int count;
    vec scale;
} row_lanes;

static ALWAYS_INLINE vec column(const fnn_matrix *X, const row_lanes *rows, int64_t c) {
    real lanes[VL] = {0};
    for (int i = 0; i < rows->count; i++) lanes[i] = *element(X, rows->r + i, c);
    return v_load(lanes);
}

static ALWAYS_INLINE void set_column(const fnn_matrix *X, const row_lanes *rows, int64_t c, vec x) {
    real lanes[VL];
    v_store(lanes, x);
    for (int i = 0; i < rows->count; i++) *element(X, rows->r + i, c) = lanes[i];
}

static ALWAYS_INLINE vec label_column(const row_lanes *rows, int64_t c) {
    real lanes[VL] = {0};
    for (int i = 0; i < rows->count; i++)
        lanes[i] = ((const real *)rows->y->values)[rows->t[i] * rows->out->h.cols + c];
    return v_load(lanes);
}

/* -sum_c y_c ln f_c over the columns from c0 up to c1, f their softmax, and their delta: dl/da = f - y,
 * as the y_c of a group sum to 1. */
static vec group_loss(const row_lanes *rows, int64_t c0, int64_t c1, vec smoothing) {
    const fnn_matrix *a = &rows->out->h, *delta = &rows->out->delta;
    const vec share = v_div(smoothing, v_set1((real)(c1 - c0)));
    vec highest = v_set1(-INFINITY), sum = v_set1(0), loss = v_set1(0);
    for (int64_t c = c0; c < c1; c++) highest = v_max(highest, column(a, rows, c));
    for (int64_t c = c0; c < c1; c++) {
        const vec e = v_exp(v_sub(column(a, rows, c), highest));
        sum = v_add(sum, e);
        set_column(delta, rows, c, e);
    }
    const vec ln_sum = v_log(sum);
    for (int64_t c = c0; c < c1; c++) {
        const vec wanted = smooth(label_column(rows, c), smoothing, share);
        const vec l = v_add(v_sub(highest, column(a, rows, c)), ln_sum);
        const vec f = v_div(column(delta, rows, c), sum);
        loss = v_fma(wanted, l, loss);
        set_column(delta, rows, c, v_mul(rows->scale, v_sub(f, wanted)));
    }
    return loss;
}

static void grouped_cross_entropy(const fnn_targets *y, fnn_rows order, real inverse_n,
                                  fnn_activity *out, int64_t r0, int64_t r1, double *losses) {
    const real *smoothing = y->constants, *sizes = smoothing + 1;
    for (int64_t r = r0; r < r1; r += VL) {
        row_lanes rows = {y, out, r, {0}, (int)smaller(VL, r1 - r), v_set1(0)};
        real weights[VL] = {0}, sums[VL];
        for (int i = 0; i < rows.count; i++) {
            rows.t[i] = row_index(order, r + i);
            weights[i] = row_weight(y, rows.t[i]);
        }
        rows.scale = v_mul(v_load(weights), v_set1(inverse_n));
        vec loss = v_set1(0);
        for (int64_t c = 0, g = 0; c < out->h.cols; c += (int64_t)sizes[g++])
            loss = v_add(loss, group_loss(&rows, c, c + (int64_t)sizes[g], v_set1(*smoothing)));
        v_store(sums, loss);
        for (int i = 0; i < rows.count; i++) losses[r + i] = (double)weights[i] * sums[i];
    }
}

#endif
