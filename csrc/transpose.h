/* Transposes, in registers. */
#ifndef FNN_TRANSPOSE_H
#define FNN_TRANSPOSE_H

#include "gemm.h"

#if !defined(FNN_AVX2)
/* log2(VL) rounds of interleaving row i with row i + VL/2. */
static ALWAYS_INLINE void v_transpose(vec x[VL]) {
    vec y[VL];
#pragma GCC unroll 4
    for (int round = 1; round < VL; round *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < VL / 2; i++) {
            y[2 * i] = v_zip_lo(x[i], x[i + VL / 2]);
            y[2 * i + 1] = v_zip_hi(x[i], x[i + VL / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++) x[i] = y[i];
    }
}
#endif

enum { FEW = VL < 4 ? VL : 4 };

/* n is at most `most`, a constant: where it is small, the compiler drops what computes the rest. */
static ALWAYS_INLINE void transpose_to(const int most, const real *in, int64_t ld_in, int rows,
                                       real *out, int64_t ld_out, int n) {
    vec x[VL];
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) x[i] = i < rows ? v_load(in + i * ld_in) : v_set1(0);
    v_transpose(x);
#pragma GCC unroll 16
    for (int j = 0; j < most; j++)
        if (j < n) v_store(out + j * ld_out, x[j]);
}

/* out[j][i] = in[i][j] for `rows` rows of in, 0 for further i, and n <= VL columns. */
static ALWAYS_INLINE void transpose_vectors(const real *in, int64_t ld_in, int rows, real *out,
                                            int64_t ld_out, int n) {
    if (rows == VL && n == VL) /* nothing to ask for each row and column */
        transpose_to(VL, in, ld_in, VL, out, ld_out, VL);
    else if (n <= FEW)
        transpose_to(FEW, in, ld_in, rows, out, ld_out, n);
    else
        transpose_to(VL, in, ld_in, rows, out, ld_out, n);
}

/* out[j][i] = in[i][j], all of it within one block and one panel. */
static void transpose(const real *in, int64_t ld_in, int64_t rows, int64_t cols, real *out,
                      int64_t ld_out) {
    for (int64_t i = 0; i < rows; i += VL)
        for (int64_t j = 0; j < cols; j += VL)
            transpose_vectors(in + i * ld_in + j, ld_in, (int)smaller(VL, rows - i),
                              out + j * ld_out + i, ld_out, (int)smaller(VL, cols - j));
}

#endif
