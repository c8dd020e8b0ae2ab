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

/* A copy in every loss would be a hundred kilobytes of code. */
static __attribute__((noinline)) void
elementwise_output(int output, const fnn_matrix *a, const fnn_matrix *f, int64_t r0, int64_t r1) {
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

/* One element of the output layer, and what it is compared with. `constant` is that of the loss. */
typedef struct {
    int output;
    vec a, f, y, constant;
} outcome;

/* That element's part of a loss that is a sum over outputs, and its derivative. */
typedef vec element_loss(outcome o, vec *dl_da);

/* s in [0, 1) moves labels towards equal ones: (1 - s) y + share, share = s / classes. */
static ALWAYS_INLINE vec smooth(vec y, vec s, vec share) { return v_add(v_fnma(s, y, y), share); }

/* -y ln f - (1 - y) ln(1 - f) = softplus(a) - y a,  f = sigmoid(a) */
static ALWAYS_INLINE vec binary_cross_entropy(outcome o, vec *dl_da) {
    *dl_da = v_sub(o.f, o.y);
    vec e = v_exp(v_sub(v_set1(0), v_abs(o.a)));
    vec above = v_fnma(o.y, o.a, v_max(v_set1(0), o.a)); /* exact where y is 0 or 1, for any a */
    return v_add(above, v_log1p(e));
}
static ALWAYS_INLINE vec smoothed_binary_cross_entropy(outcome o, vec *dl_da) {
    o.y = smooth(o.y, o.constant, v_mul(v_set1(R(0.5)), o.constant));
    return binary_cross_entropy(o, dl_da);
}

/* f - y ln f, f = e^a */
static ALWAYS_INLINE vec poisson(outcome o, vec *dl_da) {
    *dl_da = v_sub(o.f, o.y);
    return v_fnma(o.y, o.a, o.f);
}

/* dl/da = dl/df df/da, for the losses below: of any output but softmax. */
static ALWAYS_INLINE vec times_df_da(vec dl_df, outcome o) {
    switch (o.output) {
    case FNN_OUT_SIGMOID: return v_mul(dl_df, v_mul(o.f, v_sub(v_set1(1), o.f)));
    case FNN_OUT_EXP: return v_mul(dl_df, o.f);
    default: return dl_df;
    }
}

/* (f - y)^2 / 2 */
static ALWAYS_INLINE vec squared_error(outcome o, vec *dl_da) {
    const vec d = v_sub(o.f, o.y);
    *dl_da = times_df_da(d, o);
    return v_mul(v_mul(v_set1(R(0.5)), d), d);
}

/* `above` where d > 0, `below` where d < 0, else d: 0 or NaN. */
static ALWAYS_INLINE vec by_sign(vec d, vec above, vec below) {
    const vec zero = v_set1(0);
    return v_select(v_less(zero, d), above, v_select(v_less(d, zero), below, d));
}

/* |f - y| */
static ALWAYS_INLINE vec absolute_error(outcome o, vec *dl_da) {
    const vec d = v_sub(o.f, o.y);
    *dl_da = times_df_da(by_sign(d, v_set1(1), v_set1(-1)), o);
    return v_abs(d);
}

/* With d = f - y and c = d, but at most delta and at least -delta: c (d - c / 2). */
static ALWAYS_INLINE vec huber(outcome o, vec *dl_da) {
    const vec d = v_sub(o.f, o.y), delta = o.constant;
    const vec c = v_max(v_sub(v_set1(0), delta), v_min(delta, d));
    *dl_da = times_df_da(c, o);
    return v_mul(c, v_fnma(v_set1(R(0.5)), c, d));
}

/* (1 - q) (f - y) above y, q (y - f) below */
static ALWAYS_INLINE vec quantile(outcome o, vec *dl_da) {
    const vec d = v_sub(o.f, o.y), q = o.constant;
    const vec slope = by_sign(d, v_sub(v_set1(1), q), v_sub(v_set1(0), q));
    *dl_da = times_df_da(slope, o);
    return v_mul(slope, d);
}

static ALWAYS_INLINE real row_weight(const fnn_targets *y, int64_t t) {
    return y->weights ? ((const real *)y->weights)[t] : 1;
}

/* The n constants from output c on. */
static ALWAYS_INLINE vec constants_from(const fnn_targets *y, int64_t c, int n) {
    return y->constants ? v_load_n((const real *)y->constants + c, n) : v_set1(0);
}

/* Rows [r0, r1) of a loss that is a sum over outputs; `output` is that of y, a constant where this is
 * inlined. */
static ALWAYS_INLINE void element_losses(element_loss *loss, const int output, const fnn_targets *y,
                                         fnn_rows rows, real inverse_n, fnn_activity *out,
                                         int64_t r0, int64_t r1, double *losses) {
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
            const outcome o = {output, v_load(a), v_load(delta), v_load_n(values + c, n),
                               constants_from(y, c, n)};
            vec dl_da, l = loss(o, &dl_da);
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

/* -sum_c y_c ln f_c of row r, given ln sum e^a in two parts, and delta: dl/da = f - y, as the y_c
 * of a row sum to 1. */
static ALWAYS_INLINE real class_loss(const fnn_targets *y, int64_t t, vec scale, fnn_activity *out,
                                     int64_t r, real highest, real ln_sum) {
    const fnn_matrix *a = &out->h, *f = &out->delta;
    for (int64_t c = 0; c < a->cols; c += VL) {
        real *delta = element(f, r, c);
        vec d = v_sub(v_load(delta), class_target(y, t, c, a->cols));
        v_store(delta, v_mul(scale, d));
    }
    if (!y->values) return highest - *element(a, r, y->labels[t]) + ln_sum;
    const real *values = (const real *)y->values + t * a->cols;
    real loss = 0;
    for (int64_t c = 0; c < a->cols; c++)
        loss += values[c] * (highest - *element(a, r, c) + ln_sum);
    return loss;
}

/* The same with smoothed labels, of which none is 0. */
static ALWAYS_INLINE real smoothed_class_loss(const fnn_targets *y, int64_t t, vec scale,
                                              fnn_activity *out, int64_t r, real highest,
                                              real ln_sum) {
    const fnn_matrix *a = &out->h, *f = &out->delta;
    const vec s = v_set1(*(const real *)y->constants), share = v_div(s, v_set1((real)a->cols));
    const vec top = v_set1(highest), ln = v_set1(ln_sum), zero = v_set1(0);
    interleaved sums = no_sum();
    for (int64_t c = 0; c < a->cols; c += VL) {
        const int n = columns_from(a, c);
        const vec wanted = smooth(class_target(y, t, c, a->cols), s, share);
        const vec l = v_add(v_sub(top, v_load(element(a, r, c))), ln);
        real *delta = element(f, r, c);
        v_store(delta, v_first(v_mul(scale, v_sub(v_load(delta), wanted)), n, zero));
        add_to(&sums, c, v_first(v_mul(wanted, l), n, zero));
    }
    real loss;
    v_store_n(&loss, total(sums), 1);
    return loss;
}

/* Up to LOSS_ROWS rows. */
static void cross_entropy(const fnn_targets *y, fnn_rows rows, real inverse_n, fnn_activity *out,
                          int64_t r0, int64_t r1, double *losses) {
    real sums[LOSS_ROWS + VL], highest[LOSS_ROWS];
    for (int64_t r = r0; r < r1; r++)
        softmax_row(&out->h, &out->delta, r, &highest[r - r0], &sums[r - r0]);
    for (int64_t i = 0; i < r1 - r0; i += VL) {
        const int n = (int)smaller(VL, r1 - r0 - i);
        v_store(sums + i, v_log(v_first(v_load(sums + i), n, v_set1(1))));
    }
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t), top = highest[r - r0], ln_sum = sums[r - r0];
        const vec scale = v_set1(weight * inverse_n);
        losses[r] =
            (double)weight * (y->constants ? smoothed_class_loss(y, t, scale, out, r, top, ln_sum)
                                           : class_loss(y, t, scale, out, r, top, ln_sum));
    }
}

#endif
