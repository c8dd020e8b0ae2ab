/* Products of small networks: matrices are rows of one or two vectors, without tiles of columns. The
 * same chains of multiply-adds as gemm.h. */
#ifndef FNN_SMALL_PRODUCTS_H
#define FNN_SMALL_PRODUCTS_H

#include "activations.h"

/* Vectors of a row at most, so that layers of 16 need no more, or half of that where vectors are short;
 * chains in flight. */
enum {
    SMALL_VECTORS = VL > 1 && VL < 16 ? 2 : 1,
    SMALL_WIDTH = SMALL_VECTORS * VL,
    SMALL_TILE = 8
};

/* Rows of `ld` reals at `data`, a constant in a network of which no row has more than one vector: `most`
 * is a constant, too, here and below. */
typedef struct {
    real *data;
    int64_t ld;
} small_matrix;

static ALWAYS_INLINE int64_t small_ld(const int most, int64_t cols) {
    return most == 1 || cols <= VL ? VL : SMALL_WIDTH;
}
static ALWAYS_INLINE small_matrix small(const int most, const fnn_matrix *X) {
    return (small_matrix){X->data, small_ld(most, X->cols)};
}

/* What is done to a row's sums before they are stored; `h` lies as the sums do. */
typedef vec finish_row(vec sum, const real *h);

static ALWAYS_INLINE vec as_summed(vec sum, const real *h) { return sum; }
static ALWAYS_INLINE vec with_relu(vec sum, const real *h) { return relu(sum); }
static ALWAYS_INLINE vec times_relu_d(vec sum, const real *h) {
    return v_mul(sum, relu_d(v_load(h)));
}

/* m rows of nv vectors of C = start + A B; B has K rows, `start` is one more, or NULL for zero. */
static ALWAYS_INLINE void small_tile(const int m, const int nv, small_matrix A, const real *B,
                                     int64_t K, const real *start, finish_row *finish,
                                     const real *h, real *C) {
    vec sum[SMALL_TILE][SMALL_VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) sum[i][v] = start ? v_load(start + v * VL) : v_set1(0);
    for (int64_t k = 0; k < K; k++, B += nv * VL) {
        vec b[SMALL_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++) b[v] = v_load(B + v * VL);
#pragma GCC unroll 8
        for (int i = 0; i < m; i++) {
            const vec a = v_set1(A.data[i * A.ld + k]);
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++) sum[i][v] = v_fma(a, b[v], sum[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            v_store(C + (i * nv + v) * VL, finish(sum[i][v], h + (i * nv + v) * VL));
}

static ALWAYS_INLINE void small_tiles(const int nv, small_matrix A, const real *B, int64_t K,
                                      const real *start, finish_row *finish, const real *h, real *C,
                                      int64_t rows) {
    enum { HALF = SMALL_TILE / 2 };
    const int at_once = SMALL_TILE / nv;
    int64_t r = 0;
    for (; r + at_once <= rows; r += at_once, A.data += at_once * A.ld)
        small_tile(at_once, nv, A, B, K, start, finish, h + r * nv * VL, C + r * nv * VL);
    if (at_once > HALF && r + HALF <= rows) {
        small_tile(HALF, nv, A, B, K, start, finish, h + r * nv * VL, C + r * nv * VL);
        r += HALF, A.data += HALF * A.ld;
    }
    for (; r < rows; r++, A.data += A.ld)
        small_tile(1, nv, A, B, K, start, finish, h + r * nv * VL, C + r * nv * VL);
}

/* h and B lie as C does. */
static ALWAYS_INLINE void small_product(small_matrix A, const real *B, int64_t K, const real *start,
                                        finish_row *finish, const real *h, small_matrix C,
                                        int64_t rows) {
    if (C.ld == VL)
        small_tiles(1, A, B, K, start, finish, h, C.data, rows);
    else
        small_tiles(SMALL_VECTORS, A, B, K, start, finish, h, C.data, rows);
}

/* dh = delta Wt for n rows, then delta of the layer below in its place. */
static ALWAYS_INLINE void small_delta(const int most, const fnn_matrix *delta, const real *Wt,
                                      int64_t n_out, fnn_activation activation,
                                      const fnn_activity *below, int64_t n) {
    const real *h = below->h.data, *a = below->a.data ? below->a.data : h;
    const small_matrix dh = small(most, &below->delta);
    if (activation.kind == FNN_RELU) {
        small_product(small(most, delta), Wt, n_out, NULL, times_relu_d, h, dh, n);
    } else {
        small_product(small(most, delta), Wt, n_out, NULL, as_summed, dh.data, dh, n);
        times_derivative(activation, a, dh.data, n, dh.ld / VL, dh.ld);
    }
}

#endif
