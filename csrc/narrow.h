/* Losses of up to SUM_LANES outputs with the rows in the lanes: sums over the outputs then need
 * no step across lanes, and padding costs nothing. The bits are those of losses.h. */
#ifndef FNN_NARROW_H
#define FNN_NARROW_H

#include "groups.h"
#include "losses.h"
#include "transpose.h"

/* Up to VL rows of a narrow matrix, transposed: one vector for each column. */
typedef real narrow[SUM_LANES][VL];

static __attribute__((noinline)) void to_columns(const fnn_matrix *X, int64_t r, int count,
                                                 narrow columns) {
    for (int64_t c = 0; c < X->cols; c += VL)
        transpose_vectors(element(X, r, c), X->ld, count, columns[c], VL, columns_from(X, c));
}

static __attribute__((noinline)) void to_rows(narrow columns, const fnn_matrix *X, int64_t r,
                                              int count) {
    for (int64_t c = 0; c < X->cols; c += VL)
        transpose_vectors(columns[c], VL, columns_from(X, c), element(X, r, c), X->ld, count);
}

/* What the rows r to r + count are compared with. */
typedef struct {
    narrow values;
    real labels[VL], weights[VL];
} narrow_targets;

/* As integers first: to convert them one by one takes twice the instructions. GCC would even move them
 * through vectors, one by one. */
static ALWAYS_INLINE void take_labels(const int32_t *labels, fnn_rows rows, int64_t r, int count,
                                      real out[VL]) {
    int32_t taken[VL] = {0};
    for (int i = 0; i < count; i++) {
        int32_t label = labels[row_index(rows, r + i)];
        __asm__("" : "+r"(label));
        taken[i] = label;
    }
    for (int i = 0; i < VL; i++) out[i] = (real)taken[i];
}

static ALWAYS_INLINE void take_targets(const fnn_targets *y, fnn_rows rows, int64_t r, int count,
                                       int64_t n_out, narrow_targets *out) {
    const int32_t *labels = y->labels;
    const real *weights = y->weights, *values = y->values;
    if (labels) take_labels(labels, rows, r, count, out->labels);
    for (int i = 0; weights && i < count; i++) out->weights[i] = weights[row_index(rows, r + i)];
    for (int i = 0; !labels && i < count; i++)
        for (int64_t c = 0; c < n_out; c++)
            out->values[c][i] = values[row_index(rows, r + i) * n_out + c];
}

/* Once for all losses that are sums over outputs: a copy in each would be tens of kilobytes. */
static __attribute__((noinline)) void take_any_targets(const fnn_targets *y, fnn_rows rows,
                                                       int64_t r, int count, int64_t n_out,
                                                       narrow_targets *out) {
    take_targets(y, rows, r, count, n_out, out);
}

/* As `total` adds the interleaved sums of one element each. Overwrites the columns. For a constant n
 * inline, then all is in registers. */
static ALWAYS_INLINE vec total_of(vec columns[SUM_LANES], int64_t n) {
    for (int64_t width = SUM_LANES / 2; width > 0; width /= 2)
        for (int64_t c = 0; c < width && c + width < n; c++)
            columns[c] = v_add(columns[c], columns[c + width]);
    return columns[0];
}
static __attribute__((noinline)) vec total_of_any(vec columns[SUM_LANES], int64_t n) {
    return total_of(columns, n);
}
static ALWAYS_INLINE vec narrow_total(vec columns[SUM_LANES], int64_t n) {
    return __builtin_constant_p(n) ? total_of(columns, n) : total_of_any(columns, n);
}

static ALWAYS_INLINE vec scale_of(const fnn_targets *y, const narrow_targets *target,
                                  real inverse_n) {
    const vec scale = v_set1(inverse_n);
    return y->weights ? v_mul(v_load(target->weights), scale) : scale;
}

static ALWAYS_INLINE void store_losses(const fnn_targets *y, const narrow_targets *target, vec loss,
                                       int count, double *losses) {
    real lanes[VL];
    v_store(lanes, loss);
    for (int i = 0; !y->weights && i < count; i++) losses[i] = lanes[i];
    for (int i = 0; y->weights && i < count; i++) losses[i] = (double)target->weights[i] * lanes[i];
}

static __attribute__((noinline)) void store_any_losses(const fnn_targets *y,
                                                       const narrow_targets *target, vec loss,
                                                       int count, double *losses) {
    store_losses(y, target, loss, count, losses);
}

/* The loss's constant for output c. */
static ALWAYS_INLINE vec constant_of(const fnn_targets *y, int64_t c) {
    return v_set1(y->constants ? ((const real *)y->constants)[c] : 0);
}

/* Rows r0:r1 whose losses are wanted. Their a and delta are those of `out`; or, where `columns` is not
 * NULL, there are up to VL of them, and delta takes the place of a in those columns. */
typedef struct {
    const fnn_targets *y;
    fnn_rows rows;
    real inverse_n;
    int64_t n_out;
    fnn_activity *out;
    real (*columns)[VL];
    int64_t r0, r1;
    double *losses;
} loss_task;

/* As `cross_entropy`, for rows r to r + count, count <= VL, of n_out outputs; delta takes the place of
 * a. */
static ALWAYS_INLINE void cross_entropy_of_columns(const int64_t n_out, const fnn_targets *y,
                                                   const loss_task *t, int64_t r, int count,
                                                   real (*a)[VL]) {
    vec e[SUM_LANES], sums[SUM_LANES];
    narrow_targets target;
    take_targets(y, t->rows, r, count, n_out, &target);
    vec highest = v_set1(-INFINITY), loss = v_set1(0);
    for (int64_t c = 0; c < n_out; c++) highest = v_max(highest, v_load(a[c]));
    for (int64_t c = 0; c < n_out; c++) sums[c] = e[c] = v_exp(v_sub(v_load(a[c]), highest));
    const vec sum = narrow_total(sums, n_out), ln_sum = v_log(sum);
    const vec scale = scale_of(y, &target, t->inverse_n);
    const vec s = constant_of(y, 0), share = v_div(s, v_set1((real)n_out));
    for (int64_t c = 0; c < n_out; c++) {
        vec l = v_add(v_sub(highest, v_load(a[c])), ln_sum), wanted;
        if (y->labels) {
            mask is_label = v_equal(v_load(target.labels), v_set1((real)c));
            wanted = v_select(is_label, v_set1(1), v_set1(0));
            loss = v_select(is_label, l, loss);
        } else {
            wanted = v_load(target.values[c]);
            loss = v_add(loss, v_mul(wanted, l));
        }
        if (y->constants) {
            wanted = smooth(wanted, s, share);
            sums[c] = v_mul(wanted, l);
        }
        v_store(a[c], v_mul(scale, v_sub(v_div(e[c], sum), wanted)));
    }
    if (y->constants) loss = narrow_total(sums, n_out);
    store_losses(y, &target, loss, count, t->losses + r);
}

/* As `element_losses`, for rows r to r + count, count <= VL; delta takes the place of a. */
static ALWAYS_INLINE void element_losses_of_columns(element_loss *loss, const int output,
                                                    const loss_task *t, int64_t r, int count,
                                                    real (*a)[VL]) {
    const fnn_targets *y = t->y;
    vec sums[SUM_LANES];
    narrow f;
    narrow_targets target;
    take_any_targets(y, t->rows, r, count, t->n_out, &target);
    elementwise(y->output, a[0], f[0], t->n_out, 1, VL);
    const vec scale = scale_of(y, &target, t->inverse_n);
    for (int64_t c = 0; c < t->n_out; c++) {
        const outcome o = {output, v_load(a[c]), v_load(f[c]), v_load(target.values[c]),
                           constant_of(y, c)};
        vec dl_da, l = loss(o, &dl_da);
        v_store(a[c], v_mul(dl_da, scale));
        sums[c] = l;
    }
    store_any_losses(y, &target, narrow_total(sums, t->n_out), count, t->losses + r);
}

/* The columns of rows r to r + count; `own` has room for them. */
static ALWAYS_INLINE real (*take_columns(const loss_task *t, int64_t r, int count, narrow own))
    [VL] {
        if (t->columns) return t->columns;
        to_columns(&t->out->h, r, count, own);
        return own;
    } static
    ALWAYS_INLINE void give_back(const loss_task *t, int64_t r, int count, real (*columns)[VL]) {
    if (!t->columns) to_rows(columns, &t->out->delta, r, count);
}

static ALWAYS_INLINE void sum_of_elements(element_loss *loss, const int output,
                                          const loss_task *t) {
    if (t->n_out > SUM_LANES) {
        element_losses(loss, output, t->y, t->rows, t->inverse_n, t->out, t->r0, t->r1, t->losses);
        return;
    }
    for (int64_t r = t->r0; r < t->r1; r += VL) {
        narrow own;
        const int count = (int)smaller(VL, t->r1 - r);
        real(*a)[VL] = take_columns(t, r, count, own);
        element_losses_of_columns(loss, output, t, r, count, a);
        give_back(t, r, count, a);
    }
}

/* Compiled for each output, so that no element asks which it is. */
static ALWAYS_INLINE void sum_for_output(element_loss *loss, const loss_task *t) {
    switch (t->y->output) {
    case FNN_OUT_SIGMOID: sum_of_elements(loss, FNN_OUT_SIGMOID, t); break;
    case FNN_OUT_IDENTITY: sum_of_elements(loss, FNN_OUT_IDENTITY, t); break;
    case FNN_OUT_EXP: sum_of_elements(loss, FNN_OUT_EXP, t); break;
    }
}

/* So few outputs that all is in registers, and classes alone to compare with. */
static ALWAYS_INLINE void cross_entropy_of_few(const int64_t n_out, const loss_task *t) {
    const fnn_targets classes = {.labels = t->y->labels};
    if (!classes.labels) __builtin_unreachable();
    cross_entropy_of_columns(n_out, &classes, t, t->r0, (int)(t->r1 - t->r0), t->columns);
}

static void any_cross_entropy(const loss_task *t) {
    const int is_plain = t->columns && t->y->labels && !t->y->weights && !t->y->constants;
    if (is_plain && t->n_out == 2) return cross_entropy_of_few(2, t);
    if (is_plain && t->n_out == 3) return cross_entropy_of_few(3, t);
    const int64_t most = t->n_out > SUM_LANES ? LOSS_ROWS : VL;
    for (int64_t r = t->r0; r < t->r1; r += most) {
        narrow own;
        const int count = (int)smaller(most, t->r1 - r);
        if (t->n_out > SUM_LANES) {
            cross_entropy(t->y, t->rows, t->inverse_n, t->out, r, r + count, t->losses);
            continue;
        }
        real(*a)[VL] = take_columns(t, r, count, own);
        cross_entropy_of_columns(t->n_out, t->y, t, r, count, a);
        give_back(t, r, count, a);
    }
}

/* A user's own, which takes a panel's columns of a row at a time. */
static void custom_losses(const fnn_targets *y, fnn_rows rows, real inverse_n, fnn_activity *out,
                          int64_t r0, int64_t r1, double *losses) {
    const int64_t n_out = out->h.cols;
    elementwise_output(y->output, &out->h, &out->delta, r0, r1);
    for (int64_t r = r0; r < r1; r++) {
        const int64_t t = row_index(rows, r);
        const real weight = row_weight(y, t), scale = weight * inverse_n;
        const real *values = (const real *)y->values + t * n_out;
        real sum = 0;
        for (int64_t p = 0; p < count_panels(&out->h); p++) {
            const int64_t n = smaller(NR, n_out - p * NR);
            real *a = at(&out->h, p, r), *f = at(&out->delta, p, r);
            y->terms(values + p * NR, values + p * NR, a, f, n); /* it has no constants */
            for (int64_t c = 0; c < n; c++) sum += a[c], f[c] *= scale;
            memset(f + n, 0, (size_t)(panel_vectors(&out->delta, p) * VL - n) * sizeof(real));
        }
        losses[r] = (double)weight * sum;
    }
}

/* Losses that have no form for columns. */
static int is_by_rows(int loss) {
    return loss == FNN_GROUPED_CROSS_ENTROPY || loss == FNN_CUSTOM_LOSS;
}

static void take_losses(const loss_task *t) {
    switch (t->y->loss) {
    case FNN_CROSS_ENTROPY: any_cross_entropy(t); break;
    case FNN_BINARY_CROSS_ENTROPY:
        if (t->y->constants)
            sum_of_elements(smoothed_binary_cross_entropy, FNN_OUT_SIGMOID, t);
        else
            sum_of_elements(binary_cross_entropy, FNN_OUT_SIGMOID, t);
        break;
    case FNN_SQUARED_ERROR: sum_for_output(squared_error, t); break;
    case FNN_POISSON: sum_of_elements(poisson, FNN_OUT_EXP, t); break;
    case FNN_ABSOLUTE_ERROR: sum_for_output(absolute_error, t); break;
    case FNN_HUBER: sum_for_output(huber, t); break;
    case FNN_QUANTILE: sum_for_output(quantile, t); break;
    case FNN_GROUPED_CROSS_ENTROPY:
        grouped_cross_entropy(t->y, t->rows, t->inverse_n, t->out, t->r0, t->r1, t->losses);
        break;
    case FNN_CUSTOM_LOSS:
        custom_losses(t->y, t->rows, t->inverse_n, t->out, t->r0, t->r1, t->losses);
        break;
    }
}

static void loss(const fnn_targets *y, fnn_rows rows, double inverse_n, fnn_activity *out,
                 int64_t r0, int64_t r1, double *losses) {
    take_losses(&(loss_task){y, rows, (real)inverse_n, out->h.cols, out, NULL, r0, r1, losses});
}

#endif
