/* The vocabulary every kernel is written in. Each instruction set has its words in a file of its
 * own, simd_*.h, the only files with intrinsics.
 *
 * real   float, or double when FNN_F64 is defined      vec    VL reals      mask   VL booleans
 * R(x)   a literal of type real                       words  LANES words of 64 bits
 *
 * Every word gives the same bits on every instruction set, lane by lane:
 *   v_fma(a, b, c) = a*b + c and v_fnma(a, b, c) = c - a*b, rounded once;
 *   v_max(a, b) = a > b ? a : b and v_min(a, b) = a < b ? a : b, so a NaN in b comes through;
 *   v_scale(x, n) = x * 2^n rounded once, n a whole number, |n| <= 2 * bias;
 *   v_pow2(n) = 2^n, n a whole number, |n| < bias;
 *   v_exponent(x), v_fraction(x): x = fraction * 2^exponent, 1 <= fraction < 2, x normal, positive;
 *   v_transpose(x): x[j][i] = x[i][j], of VL vectors; AVX2 has its own, transpose.h one made of
 *   v_zip_lo(a, b) = a0 b0 a1 b1 ..., the first half of the interleaved lanes; v_zip_hi the second;
 *   v_exchange(v, n): lane i gets lane i ^ n, n a constant power of two below VL;
 *   w_exchange(w, n): the same for words, n below LANES;
 *   v_inverse_root(x): 1 / sqrt(x) to 14 bits, not the same ones everywhere, of AVX-512's floats alone;
 *   v_nonzero(v): bit i says whether lane i is not zero (a NaN is not);
 *   v_load1(p): v_set1(*p), where vectors' loads are what there are most of;
 *   v_load_once(p): v_load(p), for more than one use;
 *   v_load_n, v_store_n: the first n lanes; the others are loaded as 0 and not stored;
 *   v_load_few(p, n): v_load_n for n <= 4, where that may touch fewer lines of cache;
 *   v_first(v, n, fill): the first n lanes of v, the others from fill;
 *   v_all(m): whether every lane of m is true. */
#ifndef FNN_SIMD_H
#define FNN_SIMD_H

#include "fastnn.h"
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
/* Of arrays on the stack that vectors are loaded from: one that lies across two lines of cache takes two loads. */
#define ALIGNED __attribute__((aligned(64)))

#ifdef FNN_F64
typedef double real;
typedef int64_t real_bits;
#define R(literal) literal
#define FRACTION_BITS 52
#define EXPONENT_BIAS 1023
#else
typedef float real;
typedef int32_t real_bits;
#define R(literal) literal##f
#define FRACTION_BITS 23
#define EXPONENT_BIAS 127
#endif
#define ONE_BITS ((real_bits)EXPONENT_BIAS << FRACTION_BITS)
#define FRACTION_MASK (((real_bits)1 << FRACTION_BITS) - 1)

#if defined(FNN_AVX512)
#include "simd_avx512.h"
#elif defined(FNN_AVX2)
#include "simd_avx2.h"
#elif defined(FNN_NEON)
#include "simd_neon.h"
#else
#include "simd_scalar.h"
#endif

/* Whether this is one of AVX-512's wide cores, as fastnn.h has it. */
static ALWAYS_INLINE int is_wide(void) {
#if defined(FNN_AVX512)
    return fnn_wide_core;
#else
    return 0;
#endif
}

#endif
