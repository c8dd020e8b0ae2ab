/* The output layer: its activation f, the loss of every row, and delta = dJ/da, taken together so
 * that they are stable for any a. Rows live in panels: element c of row r is in panel c / NR. */
#ifndef FNN_LOSSES_H
#define FNN_LOSSES_H

#include "activations.h"

enum { SUM_LANES = 16, LOSS_ROWS = 32 };

/* A sum in a pattern that every instruction set can follow: 16 interleaved sums, then a tree. */
static ALWAYS_INLINE real sum_of_lanes(real *lanes) {
    for (int width = SUM_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

/* f = e^a / sum e^a for row r. ln sum e^a = *highest + ln of what is returned. */
static ALWAYS_INLINE real softmax_row(const fnn_matrix *a, const fnn_matrix *f, int64_t r,
                                      real *highest) {
    real lanes[SUM_LANES] = {0}, top = *at(a, 0, r);
    for (int64_t p = 0; p < count_panels(a); p++) {
        const real *ar = at(a, p, r);
        for (int64_t c = 0; c < smaller(NR, a->cols - p * NR); c++) top = ar[c] > top ? ar[c] : top;
    }
    for (int64_t p = 0; p < count_panels(a); p++) {
        const int64_t columns = smaller(NR, a->cols - p * NR);
        const real *ar = at(a, p, r);
        real *fr = at(f, p, r);
        for (int64_t c = 0; c < columns; c += VL)
            v_store(fr + c, v_exp(v_sub(v_load(ar + c), v_set1(top))));
        for (int64_t c = 0; c < columns; c++) lanes[(p * NR + c) % SUM_LANES] += fr[c];
    }
    real sum = sum_of_lanes(lanes);
    for (int64_t p = 0; p < count_panels(a); p++) {
        real *fr = at(f, p, r);
        for (int64_t c = 0; c < smaller(NR, a->cols - p * NR); c += VL)
            v_store(fr + c, v_div(v_load(fr + c), v_set1(sum)));
    }
    *highest = top;
    return sum;
}

/* f = output(a) for outputs that act on each element. */
static void elementwise_output(int output, const fnn_matrix *a, const fnn_matrix *f, int64_t r0,
                               int64_t r1) {
    for (int64_t p = 0; p < count_panels(a); p++) {
        const int vectors = panel_vectors(a, p);
        switch (output) {
        case FNN_OUT_SIGMOID:
            apply(v_sigmoid, at(a, p, r0), at(f, p, r0), r1 - r0, vectors, a->ld);
            break;
        case FNN_OUT_IDENTITY:
            apply(identity, at(a, p, r0), at(f, p, r0), r1 - r0, vectors, a->ld);
            break;
        case FNN_OUT_EXP: apply(v_exp, at(a, p, r0), at(f, p, r0), r1 - r0, vectors, a->ld); break;
        }
    }
}

static void output(int output, fnn_activity *out, int64_t r0, int64_t r1, void *f_rows) {
    real highest;
    const fnn_matrix *f = &out->delta;
    if (output != FNN_OUT_SOFTMAX) elementwise_output(output, &out->h, f, r0, r1);
    for (int64_t r = r0; r < r1; r++) {
        real *row = (real *)f_rows + (r - r0) * f->cols;
        if (output == FNN_OUT_SOFTMAX) softmax_row(&out->h, f, r, &highest);
        for (int64_t p = 0; p < count_panels(f); p++)
            memcpy(row + p * NR, at(f, p, r), (size_t)smaller(NR, f->cols - p * NR) * sizeof(real));
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

/* Rows [r0, r1) of a loss that is a sum over outputs; delta holds f on entry. */
static ALWAYS_INLINE void element_losses(element_loss *loss, const fnn_targets *y, fnn_rows rows,
                                         real inverse_n, fnn_activity *out, int64_t r0, int64_t r1,
                                         double *losses) {
    const int64_t n_out = out->h.cols;
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t);
        real lanes[SUM_LANES] = {0};
        for (int64_t c = 0; c < n_out; c += VL) {
            const int n = (int)smaller(VL, n_out - c);
            real *delta = at(&out->delta, c / NR, r) + c % NR;
            real element[VL];
            vec dl_da, target = v_load_n((const real *)y->values + t * n_out + c, n);
            v_store(element,
                    loss(v_load(at(&out->h, c / NR, r) + c % NR), v_load(delta), target, &dl_da));
            v_store(delta, v_set1(0)); /* padding must stay out of dh */
            v_store_n(delta, v_mul(dl_da, v_set1(weight * inverse_n)), n);
            for (int i = 0; i < n; i++) lanes[(c + i) % SUM_LANES] += element[i];
        }
        losses[r] = (double)weight * sum_of_lanes(lanes);
    }
}

/* -sum_c y_c ln f_c = sum_c y_c (ln sum e^a - a_c), dl/da = f sum_c y_c - y; for a label, y is
 * one-hot. */
static void cross_entropy(const fnn_targets *y, fnn_rows rows, real inverse_n, fnn_activity *out,
                          int64_t r0, int64_t r1, double *losses) {
    const fnn_matrix *a = &out->h, *f = &out->delta;
    real sums[LOSS_ROWS], highest[LOSS_ROWS];
    for (int i = 0; i < LOSS_ROWS; i++) sums[i] = 1;
    for (int64_t r = r0; r < r1; r++) sums[r - r0] = softmax_row(a, f, r, &highest[r - r0]);
    for (int64_t i = 0; i < r1 - r0; i += VL) v_store(sums + i, v_log(v_load(sums + i)));
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t), scale = weight * inverse_n;
        const real *values = y->labels ? NULL : (const real *)y->values + t * a->cols;
        real total = 1, loss = 0;
        if (values) {
            total = 0;
            for (int64_t c = 0; c < a->cols; c++) {
                total += values[c];
                loss += values[c] * (highest[r - r0] + sums[r - r0] - at(a, c / NR, r)[c % NR]);
            }
        } else {
            loss = highest[r - r0] - at(a, y->labels[t] / NR, r)[y->labels[t] % NR] + sums[r - r0];
            at(f, y->labels[t] / NR, r)[y->labels[t] % NR] -= 1;
        }
        for (int64_t c = 0; c < a->cols; c += VL) {
            real *delta = at(f, c / NR, r) + c % NR;
            const int n = (int)smaller(VL, a->cols - c);
            vec target = values ? v_load_n(values + c, n) : v_set1(0);
            vec d = v_sub(v_mul(v_set1(total), v_load(delta)), target);
            v_store(delta, v_set1(0));
            v_store_n(delta, v_mul(v_set1(scale), d), n);
        }
        losses[r] = (double)weight * loss;
    }
}

static void loss(const fnn_targets *y, fnn_rows rows, double inverse_n, fnn_activity *out,
                 int64_t r0, int64_t r1, double *losses) {
    const real scale = (real)inverse_n;
    if (y->loss == FNN_CROSS_ENTROPY) {
        for (int64_t r = r0; r < r1; r += LOSS_ROWS)
            cross_entropy(y, rows, scale, out, r, smaller(r1, r + LOSS_ROWS), losses);
        return;
    }
    elementwise_output(y->output, &out->h, &out->delta, r0, r1);
    if (y->loss == FNN_BINARY_CROSS_ENTROPY)
        element_losses(binary_cross_entropy, y, rows, scale, out, r0, r1, losses);
    else if (y->loss == FNN_POISSON)
        element_losses(poisson, y, rows, scale, out, r0, r1, losses);
    else if (y->output == FNN_OUT_IDENTITY)
        element_losses(squared_error_identity, y, rows, scale, out, r0, r1, losses);
    else if (y->output == FNN_OUT_SIGMOID)
        element_losses(squared_error_sigmoid, y, rows, scale, out, r0, r1, losses);
    else
        element_losses(squared_error_exp, y, rows, scale, out, r0, r1, losses);
}

#endif
