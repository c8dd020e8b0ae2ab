/* The vocabulary every kernel is written in, once per instruction set. The only file with
 * intrinsics.
 *
 * real   float, or double when FNN_F64 is defined      vec    VL reals      mask   VL booleans
 * R(x)   a literal of type real
 *
 * Every word gives the same bits on every instruction set, lane by lane:
 *   v_fma(a, b, c) = a*b + c and v_fnma(a, b, c) = c - a*b, rounded once;
 *   v_max(a, b) = a > b ? a : b and v_min(a, b) = a < b ? a : b, so a NaN in b comes through;
 *   v_scale(x, n) = x * 2^n rounded once, n a whole number, |n| <= 2 * bias;
 *   v_exponent(x), v_fraction(x): x = fraction * 2^exponent, 1 <= fraction < 2, x normal, positive;
 *   v_zip_lo(a, b) = a0 b0 a1 b1 ..., the first half of the interleaved lanes; v_zip_hi the second;
 *   v_exchange(v, n): lane i gets lane i ^ n, n a constant power of two below VL;
 *   v_nonzero(v): bit i says whether lane i is not zero (a NaN is not);
 *   v_load_n, v_store_n: the first n lanes; the others are loaded as 0 and not stored;
 *   v_first(v, n, fill): the first n lanes of v, the others from fill;
 *   v_all(m): whether every lane of m is true. */
#ifndef FNN_SIMD_H
#define FNN_SIMD_H

#include "fastnn.h"
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

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

#if defined(FNN_AVX512) || defined(FNN_AVX2)
#include <immintrin.h>
#elif defined(FNN_NEON)
#include <arm_neon.h>
#endif

/* ------------------------------------------------------------------ AVX-512 (F, DQ, BW, VL) */
#if defined(FNN_AVX512)

#ifdef FNN_F64
#define VL 8
typedef __m512d vec;
typedef __mmask8 mask;
#define W(op) _mm512_##op##_pd
#define I(op) _mm512_##op##_epi64
#define TO_INT _mm512_castpd_si512
#define TO_REAL _mm512_castsi512_pd
#define INT_TO_REAL _mm512_cvtepi64_pd
#define CMP _mm512_cmp_pd_mask
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    switch (n) {
    case 4: return _mm512_shuffle_f64x2(v, v, 0x4E);
    case 2: return _mm512_shuffle_f64x2(v, v, 0xB1);
    default: return _mm512_permute_pd(v, 0x55);
    }
}
static ALWAYS_INLINE __m512i zip_index(int half) {
    return _mm512_add_epi64(_mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                            _mm512_set1_epi64(4 * half));
}
#else
#define VL 16
typedef __m512 vec;
typedef __mmask16 mask;
#define W(op) _mm512_##op##_ps
#define I(op) _mm512_##op##_epi32
#define TO_INT _mm512_castps_si512
#define TO_REAL _mm512_castsi512_ps
#define INT_TO_REAL _mm512_cvtepi32_ps
#define CMP _mm512_cmp_ps_mask
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    switch (n) {
    case 8: return _mm512_shuffle_f32x4(v, v, 0x4E);
    case 4: return _mm512_shuffle_f32x4(v, v, 0xB1);
    case 2: return _mm512_permute_ps(v, 0x4E);
    default: return _mm512_permute_ps(v, 0xB1);
    }
}
static ALWAYS_INLINE __m512i zip_index(int half) {
    return _mm512_add_epi32(
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
        _mm512_set1_epi32(8 * half));
}
#endif
static ALWAYS_INLINE mask first_lanes(int n) { return (mask)((1u << n) - 1); }
static ALWAYS_INLINE vec v_set1(real x) { return W(set1)(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(loadu)(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { W(storeu)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) {
    return W(maskz_loadu)(first_lanes(n), p);
}
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) { W(mask_storeu)(p, first_lanes(n), a); }
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) {
    return W(mask_blend)(first_lanes(n), fill, v);
}
static ALWAYS_INLINE vec v_add(vec a, vec b) { return W(add)(a, b); }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return W(sub)(a, b); }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return W(mul)(a, b); }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return W(div)(a, b); }
static ALWAYS_INLINE vec v_sqrt(vec a) { return W(sqrt)(a); }
static ALWAYS_INLINE vec v_max(vec a, vec b) { return W(max)(a, b); }
static ALWAYS_INLINE vec v_min(vec a, vec b) { return W(min)(a, b); }
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) { return W(fmadd)(a, b, c); }
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return W(fnmadd)(a, b, c); }
static ALWAYS_INLINE vec v_abs(vec a) { return W(abs)(a); }
static ALWAYS_INLINE mask v_less(vec a, vec b) { return CMP(a, b, _CMP_LT_OQ); }
static ALWAYS_INLINE mask v_equal(vec a, vec b) { return CMP(a, b, _CMP_EQ_OQ); }
static ALWAYS_INLINE unsigned v_nonzero(vec v) { return CMP(v, v_set1(0), _CMP_NEQ_UQ); }
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) { return W(mask_blend)(c, b, a); }
static ALWAYS_INLINE int v_all(mask c) { return c == (mask)-1; }
static ALWAYS_INLINE vec v_scale(vec x, vec n) { return W(scalef)(x, n); }
static ALWAYS_INLINE vec v_exponent(vec x) {
    return INT_TO_REAL(I(sub)(I(srli)(TO_INT(x), FRACTION_BITS), I(set1)(EXPONENT_BIAS)));
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    __m512i bits = _mm512_and_si512(TO_INT(x), I(set1)(FRACTION_MASK));
    return TO_REAL(_mm512_or_si512(bits, I(set1)(ONE_BITS)));
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) { return W(permutex2var)(a, zip_index(0), b); }
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) { return W(permutex2var)(a, zip_index(1), b); }

/* ------------------------------------------------------------------ AVX2 with FMA */
#elif defined(FNN_AVX2)

#ifdef FNN_F64
#define VL 4
typedef __m256d vec;
typedef __m256d mask;
#define W(op) _mm256_##op##_pd
#define I(op) _mm256_##op##_epi64
#define SET1_INT _mm256_set1_epi64x
#define TO_INT _mm256_castpd_si256
#define TO_REAL _mm256_castsi256_pd
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    return n == 2 ? _mm256_permute2f128_pd(v, v, 1) : _mm256_permute_pd(v, 0x5);
}
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}
#else
#define VL 8
typedef __m256 vec;
typedef __m256 mask;
#define W(op) _mm256_##op##_ps
#define I(op) _mm256_##op##_epi32
#define SET1_INT _mm256_set1_epi32
#define TO_INT _mm256_castps_si256
#define TO_REAL _mm256_castsi256_ps
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    switch (n) {
    case 4: return _mm256_permute2f128_ps(v, v, 1);
    case 2: return _mm256_permute_ps(v, 0x4E);
    default: return _mm256_permute_ps(v, 0xB1);
    }
}
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#endif
static ALWAYS_INLINE __m256i first_lanes(int n) {
    static const real_bits ones_then_zeros[2 * VL] = {
#ifdef FNN_F64
        -1, -1, -1, -1
#else
        -1, -1, -1, -1, -1,
        -1, -1, -1
#endif
    };
    return _mm256_loadu_si256((const __m256i *)(ones_then_zeros + VL - n));
}
static ALWAYS_INLINE vec v_set1(real x) { return W(set1)(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(loadu)(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { W(storeu)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) { return W(maskload)(p, first_lanes(n)); }
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) { W(maskstore)(p, first_lanes(n), a); }
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) {
    return W(blendv)(fill, v, TO_REAL(first_lanes(n)));
}
static ALWAYS_INLINE vec v_add(vec a, vec b) { return W(add)(a, b); }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return W(sub)(a, b); }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return W(mul)(a, b); }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return W(div)(a, b); }
static ALWAYS_INLINE vec v_sqrt(vec a) { return W(sqrt)(a); }
static ALWAYS_INLINE vec v_max(vec a, vec b) { return W(max)(a, b); }
static ALWAYS_INLINE vec v_min(vec a, vec b) { return W(min)(a, b); }
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) { return W(fmadd)(a, b, c); }
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return W(fnmadd)(a, b, c); }
static ALWAYS_INLINE vec v_abs(vec a) { return W(andnot)(W(set1)(-(real)0), a); }
static ALWAYS_INLINE mask v_less(vec a, vec b) { return W(cmp)(a, b, _CMP_LT_OQ); }
static ALWAYS_INLINE mask v_equal(vec a, vec b) { return W(cmp)(a, b, _CMP_EQ_OQ); }
static ALWAYS_INLINE unsigned v_nonzero(vec v) {
    return (unsigned)W(movemask)(W(cmp)(v, v_set1(0), _CMP_NEQ_UQ));
}
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) { return W(blendv)(b, a, c); }
static ALWAYS_INLINE int v_all(mask c) { return W(movemask)(c) == (1 << VL) - 1; }
/* 1.5 * 2^FRACTION_BITS + n has n, two's complement, in its lowest bits: a conversion that exists
 * for both types. */
static ALWAYS_INLINE vec pow2(vec n) {
    const real magic = (real)((int64_t)3 << (FRACTION_BITS - 1));
    __m256i whole = I(sub)(TO_INT(v_add(n, v_set1(magic))), TO_INT(v_set1(magic)));
    return TO_REAL(I(slli)(I(add)(whole, SET1_INT(EXPONENT_BIAS)), FRACTION_BITS));
}
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    vec half = W(floor)(v_mul(n, v_set1(R(0.5))));
    return v_mul(v_mul(x, pow2(half)), pow2(v_sub(n, half)));
}
static ALWAYS_INLINE vec v_exponent(vec x) {
    const real magic = (real)((int64_t)3 << (FRACTION_BITS - 1));
    __m256i whole = I(add)(I(srli)(TO_INT(x), FRACTION_BITS), TO_INT(v_set1(magic)));
    return v_sub(TO_REAL(whole), v_set1(magic + EXPONENT_BIAS));
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    __m256i bits = _mm256_and_si256(TO_INT(x), SET1_INT(FRACTION_MASK));
    return TO_REAL(_mm256_or_si256(bits, SET1_INT(ONE_BITS)));
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) {
    return W(permute2f128)(W(unpacklo)(a, b), W(unpackhi)(a, b), 0x20);
}
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) {
    return W(permute2f128)(W(unpacklo)(a, b), W(unpackhi)(a, b), 0x31);
}

/* ------------------------------------------------------------------ NEON (aarch64) */
#elif defined(FNN_NEON)

#ifdef FNN_F64
#define VL 2
typedef float64x2_t vec;
typedef uint64x2_t mask;
#define W(op) v##op##q_f64
#define I(op) v##op##q_s64
#define TO_INT vreinterpretq_s64_f64
#define TO_REAL vreinterpretq_f64_s64
#define DUP vdupq_n_f64
#define DUP_INT vdupq_n_s64
#define SHL vshlq_n_s64
#define SHR vshrq_n_s64
#define REAL_TO_INT vcvtnq_s64_f64
#define INT_TO_REAL vcvtq_f64_s64
static ALWAYS_INLINE vec v_exchange(vec v, const int n) { return vextq_f64(v, v, n); }
#else
#define VL 4
typedef float32x4_t vec;
typedef uint32x4_t mask;
#define W(op) v##op##q_f32
#define I(op) v##op##q_s32
#define TO_INT vreinterpretq_s32_f32
#define TO_REAL vreinterpretq_f32_s32
#define DUP vdupq_n_f32
#define DUP_INT vdupq_n_s32
#define SHL vshlq_n_s32
#define SHR vshrq_n_s32
#define REAL_TO_INT vcvtnq_s32_f32
#define INT_TO_REAL vcvtq_f32_s32
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    return n == 2 ? vextq_f32(v, v, 2) : vrev64q_f32(v);
}
#endif
static ALWAYS_INLINE vec v_set1(real x) { return DUP(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(ld1)(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { W(st1)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) {
    real lanes[VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(real));
    return v_load(lanes);
}
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) {
    real lanes[VL];
    v_store(lanes, a);
    memcpy(p, lanes, (size_t)n * sizeof(real));
}
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) {
    real lanes[VL], first[VL];
    v_store(lanes, fill);
    v_store(first, v);
    memcpy(lanes, first, (size_t)n * sizeof(real));
    return v_load(lanes);
}
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    real lanes[VL];
    for (int i = 0; i < VL; i++) lanes[i] = p[i];
    return v_load(lanes);
}
static ALWAYS_INLINE vec v_add(vec a, vec b) { return W(add)(a, b); }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return W(sub)(a, b); }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return W(mul)(a, b); }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return W(div)(a, b); }
static ALWAYS_INLINE vec v_sqrt(vec a) { return W(sqrt)(a); }
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) { return W(fma)(c, a, b); }
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return W(fms)(c, a, b); }
static ALWAYS_INLINE vec v_abs(vec a) { return W(abs)(a); }
static ALWAYS_INLINE mask v_less(vec a, vec b) { return W(clt)(a, b); }
static ALWAYS_INLINE mask v_equal(vec a, vec b) { return W(ceq)(a, b); }
static ALWAYS_INLINE unsigned v_nonzero(vec v) {
    real lanes[VL];
    unsigned bits = 0;
    v_store(lanes, v);
    for (int i = 0; i < VL; i++) bits |= (unsigned)(lanes[i] != 0) << i;
    return bits;
}
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) { return W(bsl)(c, a, b); }
static ALWAYS_INLINE int v_all(mask c) {
    return vgetq_lane_u64((uint64x2_t)c, 0) + 1 == 0 && vgetq_lane_u64((uint64x2_t)c, 1) + 1 == 0;
}
/* Not vmaxq and vminq: they treat NaN and the two zeros otherwise than v_max and v_min promise. */
static ALWAYS_INLINE vec v_max(vec a, vec b) { return v_select(v_less(b, a), a, b); }
static ALWAYS_INLINE vec v_min(vec a, vec b) { return v_select(v_less(a, b), a, b); }
static ALWAYS_INLINE vec pow2(vec n) {
    return TO_REAL(SHL(I(add)(REAL_TO_INT(n), DUP_INT(EXPONENT_BIAS)), FRACTION_BITS));
}
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    vec half = W(rndm)(v_mul(n, v_set1(R(0.5))));
    return v_mul(v_mul(x, pow2(half)), pow2(v_sub(n, half)));
}
static ALWAYS_INLINE vec v_exponent(vec x) {
    return INT_TO_REAL(I(sub)(SHR(TO_INT(x), FRACTION_BITS), DUP_INT(EXPONENT_BIAS)));
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    return TO_REAL(I(orr)(I(and)(TO_INT(x), DUP_INT(FRACTION_MASK)), DUP_INT(ONE_BITS)));
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) { return W(zip1)(a, b); }
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) { return W(zip2)(a, b); }

/* ------------------------------------------------------------------ scalar: plain C, one lane */
#else

#define VL 1
typedef real vec;
typedef int mask;
static ALWAYS_INLINE vec v_set1(real x) { return x; }
static ALWAYS_INLINE vec v_load(const real *p) {
    real x;
    memcpy(&x, p, sizeof x); /* the user's X may lie at any address */
    return x;
}
static ALWAYS_INLINE void v_store(real *p, vec a) { *p = a; }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) { return n > 0 ? v_load(p) : 0; }
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) {
    if (n > 0) *p = a;
}
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) { return n > 0 ? v : fill; }
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    (void)n;
    return v;
}
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) { return *p; }
static ALWAYS_INLINE vec v_add(vec a, vec b) { return a + b; }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return a - b; }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return a * b; }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return a / b; }
static ALWAYS_INLINE vec v_max(vec a, vec b) { return a > b ? a : b; }
static ALWAYS_INLINE vec v_min(vec a, vec b) { return a < b ? a : b; }
static ALWAYS_INLINE mask v_less(vec a, vec b) { return a < b; }
static ALWAYS_INLINE mask v_equal(vec a, vec b) { return a == b; }
static ALWAYS_INLINE unsigned v_nonzero(vec v) { return v != 0; }
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) { return c ? a : b; }
static ALWAYS_INLINE int v_all(mask c) { return c; }
#ifdef FNN_F64
static ALWAYS_INLINE vec v_sqrt(vec a) { return sqrt(a); }
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) { return fma(a, b, c); }
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return fma(-a, b, c); }
static ALWAYS_INLINE vec v_abs(vec a) { return fabs(a); }
#else
static ALWAYS_INLINE vec v_sqrt(vec a) { return sqrtf(a); }
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) { return fmaf(a, b, c); }
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return fmaf(-a, b, c); }
static ALWAYS_INLINE vec v_abs(vec a) { return fabsf(a); }
#endif
static ALWAYS_INLINE real_bits to_bits(real x) {
    real_bits bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static ALWAYS_INLINE real from_bits(real_bits bits) {
    real x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static ALWAYS_INLINE vec pow2(real_bits n) {
    return from_bits((n + EXPONENT_BIAS) << FRACTION_BITS);
}
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    if (!(n == n)) return n;
    real_bits half = (real_bits)n / 2;
    return x * pow2(half) * pow2((real_bits)n - half);
}
static ALWAYS_INLINE vec v_exponent(vec x) {
    return (real)((to_bits(x) >> FRACTION_BITS) - EXPONENT_BIAS);
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    return from_bits((to_bits(x) & FRACTION_MASK) | ONE_BITS);
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) {
    (void)b;
    return a;
}
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) {
    (void)a;
    return b;
}
#endif

#undef W
#undef I

#endif
