/* The first layer's forward on X where it lies, which saves the copy that training needs for dW. */
#ifndef FNN_IN_PLACE_H
#define FNN_IN_PLACE_H

#include "zeros.h"

/* A W of so many bytes stays in the second-level cache beside rows of X that come in and go. Tiles of
 * four rows read it too often for that. */
enum { W_IN_CACHE = MR > 4 ? 1 << 19 : 0 };
enum { ROWS_TOGETHER = 128 };

/* Whether the elements of a row lie side by side as reals, and the rows at equal distances. */
static int lies_in_place(const fnn_input *X, fnn_rows rows) {
    return has_rows_of_reals(X) && !rows.order && X->row_stride % (int64_t)sizeof(real) == 0 &&
           (uintptr_t)X->data % sizeof(real) == 0;
}

/* NaN in some lane if one of n elements is NaN or infinite, else 0. */
static ALWAYS_INLINE vec find_infinite(const real *x, int64_t n) {
    vec bad[4] = {v_set1(0), v_set1(0), v_set1(0), v_set1(0)};
    int64_t c = 0;
    for (; c + 4 * VL <= n; c += 4 * VL)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) bad[i] = v_fma(v_load(x + c + i * VL), v_set1(0), bad[i]);
    for (; c < n; c += VL)
        bad[0] = v_fma(v_load_n(x + c, (int)smaller(VL, n - c)), v_set1(0), bad[0]);
    return v_add(v_add(bad[0], bad[1]), v_add(bad[2], bad[3]));
}

/* Of the first few of n rows, rs apart. */
static double density_in_place(const real *x, int64_t rs, int64_t rows, int64_t cols) {
    int64_t count = 0;
    rows = smaller(rows, ROWS_LOOKED_AT);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += VL)
            count +=
                __builtin_popcount(v_nonzero(v_load_n(x + r * rs + c, (int)smaller(VL, cols - c))));
    return (double)count / (double)(rows * cols);
}

typedef struct {
    finish_context forward;
    const fnn_matrix *a;
    vec *suspicious;
} in_place_context;

/* As finish_forward. A row that is not finite makes none of its sums finite, so that the first ones tell. */
static ALWAYS_INLINE void finish_in_place(const void *context, int64_t p, int64_t r0, int64_t r1) {
    const in_place_context *f = context;
    for (int64_t r = r0; p == 0 && r < r1; r++)
        *f->suspicious = v_fma(v_load(at(f->a, 0, r)), v_set1(0), *f->suspicious);
    finish_forward(&f->forward, p, r0, r1);
}

/* Whether X may be multiplied where it lies: other types and strides are not, nor are rows with many zeros, where
 * these are to be left out. */
static int is_in_place(const fnn_input *X, fnn_rows rows, const fnn_layer *layer, int skip_zeros,
                       int64_t r0, int64_t r1) {
    const int64_t rs = X->row_stride / (int64_t)sizeof(real);
    if (!lies_in_place(X, rows)) return 0;
    const real *x = (const real *)X->data + (rows.first + r0) * rs;
    return !skip_zeros || !(density_in_place(x, rs, r1 - r0, layer->n_in) < few_enough(&layer->W));
}

/* `together` rows at a time. X is looked at itself only where sums are not finite: W may be to blame. */
static int rows_in_place(const fnn_input *X, fnn_rows rows, const fnn_layer *layer,
                         fnn_activity *out, int64_t together, int64_t r0, int64_t r1) {
    const fnn_matrix *a = out->a.data ? &out->a : &out->h;
    vec suspicious = v_set1(0), bad = v_set1(0);
    const in_place_context context = {{layer->activation, NULL, out}, a, &suspicious};
    const int64_t K = layer->n_in, rs = X->row_stride / (int64_t)sizeof(real);
    const real *x = (const real *)X->data + (rows.first + r0) * rs;
    for (int64_t r = r0; r < r1; r += together) {
        const int64_t count = smaller(together, r1 - r), ahead = smaller(2 * together, r1 - r);
        const fetched next = rs > 2 * K ? NOTHING : (fetched){x + count * rs, x + ahead * rs};
        product((broadcast_operand){x, rs, 1, K, 0}, &layer->W, K, 1, a, r, r + count, next,
                finish_in_place, &context);
        for (int64_t i = 0; i < count && !are_finite(suspicious); i++)
            bad = v_add(bad, find_infinite(x + i * rs, K));
        suspicious = v_set1(0);
        x += count * rs;
    }
    return are_finite(bad) ? FNN_DONE : FNN_NOT_FINITE;
}

/* Few rows at a time: X passes through the cache once. */
static int forward_in_place(const fnn_input *X, fnn_rows rows, const fnn_layer *layer,
                            fnn_activity *out, int skip_zeros, int64_t r0, int64_t r1) {
    const int64_t together = matrix_bytes(&layer->W) <= W_IN_CACHE ? 2 * MR : ROWS_TOGETHER;
    if (!is_in_place(X, rows, layer, skip_zeros, r0, r1)) return FNN_TO_BE_GATHERED;
    return rows_in_place(X, rows, layer, out, together, r0, r1);
}

static int panels_in_place(const fnn_input *X, fnn_rows rows, const fnn_layer *layer,
                           fnn_activity *out, int64_t n, int64_t p0, int64_t p1) {
    const fnn_layer some = panels_of_layer(layer, p0, p1);
    fnn_activity of_them = panels_of_output(out, p0, p1);
    return rows_in_place(X, rows, &some, &of_them, n, 0, n);
}

#endif
