/* Products of small networks: matrices are rows of one vector, without tiles of columns. The same
 * chains of multiply-adds as gemm.h. */
#ifndef FNN_SMALL_PRODUCTS_H
#define FNN_SMALL_PRODUCTS_H

#include "activations.h"

enum { SMALL_TILE = 8 }; /* chains in flight */

/* What is done to a row of sums before it is stored; `h` lies as the sums do. */
typedef vec finish_row(vec sum, const real *h);

static ALWAYS_INLINE vec as_summed(vec sum, const real *h) { return sum; }
static ALWAYS_INLINE vec with_relu(vec sum, const real *h) { return relu(sum); }
static ALWAYS_INLINE vec times_relu_d(vec sum, const real *h) {
    return v_mul(sum, relu_d(v_load(h)));
}

/* m rows of C = start + A B, B (K, VL), A in rows of VL. */
static ALWAYS_INLINE void small_tile(const int m, const real *A, const real *B, int64_t K,
                                     vec start, finish_row *finish, const real *h, real *C) {
    vec sum[SMALL_TILE];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) sum[i] = start;
    for (int64_t k = 0; k < K; k++, B += VL) {
        const vec b = v_load(B);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) sum[i] = v_fma(v_set1(A[i * VL + k]), b, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++) v_store(C + i * VL, finish(sum[i], h + i * VL));
}

static ALWAYS_INLINE void small_product(const real *A, const real *B, int64_t K, vec start,
                                        finish_row *finish, const real *h, real *C, int64_t rows) {
    const real *end = C + rows * VL;
    for (; C + SMALL_TILE * VL <= end; A += SMALL_TILE * VL, h += SMALL_TILE * VL)
        small_tile(SMALL_TILE, A, B, K, start, finish, h, C), C += SMALL_TILE * VL;
    for (; C + 4 * VL <= end; A += 4 * VL, h += 4 * VL)
        small_tile(4, A, B, K, start, finish, h, C), C += 4 * VL;
    for (; C < end; A += VL, h += VL) small_tile(1, A, B, K, start, finish, h, C), C += VL;
}

/* dh = delta Wt for n rows, then delta of the layer below in its place. */
static ALWAYS_INLINE void small_delta(const real *delta, const real *Wt, int64_t n_out,
                                      fnn_activation activation, const fnn_activity *below,
                                      int64_t n) {
    const real *h = below->h.data, *a = below->a.data ? below->a.data : h;
    real *dh = below->delta.data;
    if (activation.kind == FNN_RELU) {
        small_product(delta, Wt, n_out, v_set1(0), times_relu_d, h, dh, n);
    } else {
        small_product(delta, Wt, n_out, v_set1(0), as_summed, dh, dh, n);
        times_derivative(activation, a, dh, n, 1, VL);
    }
}

#endif
