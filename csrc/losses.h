/* The output layer: its activation f, the loss of every row, and delta = dJ/da, taken together so
 * that they are stable for any a. Rows live in panels: element c of row r is in panel c / NR. */
#ifndef FNN_LOSSES_H
#define FNN_LOSSES_H

#include "activations.h"

/* Sums run in a pattern that every instruction set can follow: SUM_LANES interleaved sums, then a
 * tree. */
enum { SUM_LANES = 16, SUM_VECTORS = SUM_LANES / VL, LOSS_ROWS = 32 };

typedef struct {
    vec lanes[SUM_VECTORS];
} interleaved;

static ALWAYS_INLINE interleaved no_sum(void) {
    interleaved sum;
    for (int i = 0; i < SUM_VECTORS; i++) sum.lanes[i] = v_set1(0);
    return sum;
}

/* Adds elements c to c + VL of a row. */
static ALWAYS_INLINE void add_to(interleaved *sum, int64_t c, vec x) {
    const int64_t i = c / VL % SUM_VECTORS;
    sum->lanes[i] = v_add(sum->lanes[i], x);
}

/* The sum, in every lane. */
static ALWAYS_INLINE vec total(interleaved sum) {
    for (int width = SUM_VECTORS / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) sum.lanes[i] = v_add(sum.lanes[i], sum.lanes[i + width]);
    vec x = sum.lanes[0];
#pragma GCC unroll 4
    for (int width = VL / 2; width > 0; width /= 2) x = v_add(x, v_exchange(x, width));
    return x;
}

static ALWAYS_INLINE vec highest_lane(vec x) {
#pragma GCC unroll 4
    for (int width = VL / 2; width > 0; width /= 2) x = v_max(x, v_exchange(x, width));
    return x;
}

/* Element c of row r, and how many of the VL from there on are columns. */
static ALWAYS_INLINE real *element(const fnn_matrix *X, int64_t r, int64_t c) {
    return at(X, c / NR, r) + c % NR;
}
static ALWAYS_INLINE int columns_from(const fnn_matrix *X, int64_t c) {
    return (int)smaller(VL, X->cols - c);
}

/* f = e^a / sum e^a for row r. ln sum e^a = *highest + ln *sum. */
static ALWAYS_INLINE void softmax_row(const fnn_matrix *a, const fnn_matrix *f, int64_t r,
                                      real *highest, real *sum) {
    const vec lowest = v_set1(-INFINITY);
    interleaved sums = no_sum();
    vec top = lowest;
    for (int64_t c = 0; c < a->cols; c += VL)
        top = v_max(top, v_first(v_load(element(a, r, c)), columns_from(a, c), lowest));
    top = highest_lane(top);
    for (int64_t c = 0; c < a->cols; c += VL) {
        vec x = v_first(v_load(element(a, r, c)), columns_from(a, c), lowest);
        vec e = v_exp(v_sub(x, top));
        v_store(element(f, r, c), e);
        add_to(&sums, c, e);
    }
    vec all = total(sums);
    for (int64_t c = 0; c < a->cols; c += VL)
        v_store(element(f, r, c), v_div(v_load(element(f, r, c)), all));
    v_store_n(highest, top, 1);
    v_store_n(sum, all, 1);
}

/* f = output(a), for outputs that act on each element, on `rows` rows of vectors, `ld` apart. */
static void elementwise(int output, const real *a, real *f, int64_t rows, int64_t vectors,
                        int64_t ld) {
    switch (output) {
    case FNN_OUT_SIGMOID: apply(v_sigmoid, a, f, rows, vectors, ld); break;
    case FNN_OUT_IDENTITY: apply(identity, a, f, rows, vectors, ld); break;
    case FNN_OUT_EXP: apply(v_exp, a, f, rows, vectors, ld); break;
    }
}

static void elementwise_output(int output, const fnn_matrix *a, const fnn_matrix *f, int64_t r0,
                               int64_t r1) {
    for (int64_t p = 0; p < count_panels(a); p++)
        elementwise(output, at(a, p, r0), at(f, p, r0), r1 - r0, panel_vectors(a, p), a->ld);
}

static void output(int output, fnn_activity *out, int64_t r0, int64_t r1, void *f_rows) {
    real highest, sum;
    const fnn_matrix *f = &out->delta;
    if (output != FNN_OUT_SOFTMAX) elementwise_output(output, &out->h, f, r0, r1);
    for (int64_t r = r0; r < r1; r++) {
        real *row = (real *)f_rows + (r - r0) * f->cols;
        if (output == FNN_OUT_SOFTMAX) softmax_row(&out->h, f, r, &highest, &sum);
        for (int64_t c = 0; c < f->cols; c += VL)
            v_store_n(row + c, v_load(element(f, r, c)), columns_from(f, c));
    }
}

/* One element of a loss that is a sum over outputs, and its derivative with respect to a. */
typedef vec element_loss(vec a, vec f, vec y, vec *dl_da);

/* -y ln f - (1 - y) ln(1 - f) = softplus(a) - y a,  f = sigmoid(a) */
static ALWAYS_INLINE vec binary_cross_entropy(vec a, vec f, vec y, vec *dl_da) {
    *dl_da = v_sub(f, y);
    vec e = v_exp(v_sub(v_set1(0), v_abs(a)));
    vec above = v_fnma(y, a, v_max(v_set1(0), a)); /* exact where y is 0 or 1, even for huge a */
    return v_add(above, v_log1p(e));
}

/* (f - y)^2 / 2 */
static ALWAYS_INLINE vec half_square(vec f, vec y) {
    vec d = v_sub(f, y);
    return v_mul(v_mul(v_set1(R(0.5)), d), d);
}
static ALWAYS_INLINE vec squared_error_identity(vec a, vec f, vec y, vec *dl_da) {
    *dl_da = v_sub(f, y);
    return half_square(f, y);
}
static ALWAYS_INLINE vec squared_error_sigmoid(vec a, vec f, vec y, vec *dl_da) {
    *dl_da = v_mul(v_sub(f, y), v_mul(f, v_sub(v_set1(1), f)));
    return half_square(f, y);
}
static ALWAYS_INLINE vec squared_error_exp(vec a, vec f, vec y, vec *dl_da) {
    *dl_da = v_mul(v_sub(f, y), f);
    return half_square(f, y);
}

/* f - y ln f, f = e^a */
static ALWAYS_INLINE vec poisson(vec a, vec f, vec y, vec *dl_da) {
    *dl_da = v_sub(f, y);
    return v_fnma(y, a, f);
}

static ALWAYS_INLINE real row_weight(const fnn_targets *y, int64_t t) {
    return y->weights ? ((const real *)y->weights)[t] : 1;
}

/* Rows [r0, r1) of a loss that is a sum over outputs. */
static ALWAYS_INLINE void element_losses(element_loss *loss, const fnn_targets *y, fnn_rows rows,
                                         real inverse_n, fnn_activity *out, int64_t r0, int64_t r1,
                                         double *losses) {
    elementwise_output(y->output, &out->h, &out->delta, r0, r1);
    const vec zero = v_set1(0); /* in the padding: it must stay out of the sum and of dh */
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t);
        const vec scale = v_set1(weight * inverse_n);
        const real *values = (const real *)y->values + t * out->h.cols;
        interleaved sums = no_sum();
        for (int64_t c = 0; c < out->h.cols; c += VL) {
            const int n = columns_from(&out->h, c);
            real *delta = element(&out->delta, r, c), *a = element(&out->h, r, c);
            vec dl_da;
            vec l = loss(v_load(a), v_load(delta), v_load_n(values + c, n), &dl_da);
            v_store(delta, v_first(v_mul(dl_da, scale), n, zero));
            add_to(&sums, c, v_first(l, n, zero));
        }
        real sum;
        v_store_n(&sum, total(sums), 1);
        losses[r] = (double)weight * sum;
    }
}

/* Columns c to c + VL of the target: soft labels, or a label's one-hot row. */
static ALWAYS_INLINE vec class_target(const fnn_targets *y, int64_t t, int64_t c, int64_t n_out) {
    static const real one_hot[2 * VL - 1] = {[VL - 1] = 1};
    if (y->values)
        return v_load_n((const real *)y->values + t * n_out + c, (int)smaller(VL, n_out - c));
    const int64_t lane = y->labels[t] - c;
    return lane >= 0 && lane < VL ? v_load(one_hot + VL - 1 - lane) : v_set1(0);
}

/* -sum_c y_c ln f_c of row r, given ln sum e^a in two parts. */
static ALWAYS_INLINE real class_loss(const fnn_targets *y, int64_t t, const fnn_matrix *a,
                                     int64_t r, real highest, real ln_sum) {
    if (!y->values) return highest - *element(a, r, y->labels[t]) + ln_sum;
    const real *values = (const real *)y->values + t * a->cols;
    real loss = 0;
    for (int64_t c = 0; c < a->cols; c++)
        loss += values[c] * (highest - *element(a, r, c) + ln_sum);
    return loss;
}

/* Up to LOSS_ROWS rows. dl/da = f - y, as the y_c of a row sum to 1. */
static void cross_entropy(const fnn_targets *y, fnn_rows rows, real inverse_n, fnn_activity *out,
                          int64_t r0, int64_t r1, double *losses) {
    const fnn_matrix *a = &out->h, *f = &out->delta;
    real sums[LOSS_ROWS + VL], highest[LOSS_ROWS];
    for (int64_t r = r0; r < r1; r++) softmax_row(a, f, r, &highest[r - r0], &sums[r - r0]);
    for (int64_t i = 0; i < r1 - r0; i += VL) {
        const int n = (int)smaller(VL, r1 - r0 - i);
        v_store(sums + i, v_log(v_first(v_load(sums + i), n, v_set1(1))));
    }
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t);
        const vec scale = v_set1(weight * inverse_n);
        for (int64_t c = 0; c < a->cols; c += VL) {
            real *delta = element(f, r, c);
            vec d = v_sub(v_load(delta), class_target(y, t, c, a->cols));
            v_store(delta, v_mul(scale, d));
        }
        losses[r] = (double)weight * class_loss(y, t, a, r, highest[r - r0], sums[r - r0]);
    }
}

#endif
