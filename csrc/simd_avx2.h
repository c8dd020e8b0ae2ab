/* The words of simd.h for AVX2 with FMA; included there. */
#include <immintrin.h>

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
enum { LANES = 4 };
typedef uint64_t words __attribute__((vector_size(32)));
static ALWAYS_INLINE words w_exchange(words w, const int n) {
    return (words)(n == 2 ? _mm256_permute4x64_epi64((__m256i)w, 0x4E)
                          : _mm256_permute4x64_epi64((__m256i)w, 0xB1));
}
static ALWAYS_INLINE vec v_set1(real x) { return W(set1)(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(loadu)(p); }
static ALWAYS_INLINE vec v_load1(const real *p) { return v_set1(*p); }
static ALWAYS_INLINE vec v_load_once(const real *p) { return v_load(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { W(storeu)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) { return W(maskload)(p, first_lanes(n)); }
static ALWAYS_INLINE vec v_load_few(const real *p, int n) { return v_load_n(p, n); }
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
/* Not _mm256_blendv, for which GCC compares the mask with zero once more. */
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) {
    vec x;
#ifdef FNN_F64
    __asm__("vblendvpd %3, %2, %1, %0" : "=x"(x) : "x"(b), "x"(a), "x"(c));
#else
    __asm__("vblendvps %3, %2, %1, %0" : "=x"(x) : "x"(b), "x"(a), "x"(c));
#endif
    return x;
}
static ALWAYS_INLINE int v_all(mask c) { return W(movemask)(c) == (1 << VL) - 1; }
/* 1.5 * 2^FRACTION_BITS + n has n, two's complement, in its lowest bits: a conversion that exists
 * for both types. */
static ALWAYS_INLINE vec v_pow2(vec n) {
    const real magic = (real)((int64_t)3 << (FRACTION_BITS - 1));
    __m256i whole = I(sub)(TO_INT(v_add(n, v_set1(magic))), TO_INT(v_set1(magic)));
    return TO_REAL(I(slli)(I(add)(whole, SET1_INT(EXPONENT_BIAS)), FRACTION_BITS));
}
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    vec half = W(floor)(v_mul(n, v_set1(R(0.5))));
    return v_mul(v_mul(x, v_pow2(half)), v_pow2(v_sub(n, half)));
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
/* Lanes cross a vector's middle once, at the end: that is what costs most. */
static ALWAYS_INLINE void v_transpose(vec x[VL]) {
    vec y[VL];
#pragma GCC unroll 4
    for (int i = 0; i < VL; i += 2) {
        y[i] = W(unpacklo)(x[i], x[i + 1]);
        y[i + 1] = W(unpackhi)(x[i], x[i + 1]);
    }
#ifndef FNN_F64
#pragma GCC unroll 2
    for (int i = 0; i < VL; i += 4) {
        const __m256d a = _mm256_castps_pd(y[i]), b = _mm256_castps_pd(y[i + 1]);
        const __m256d c = _mm256_castps_pd(y[i + 2]), d = _mm256_castps_pd(y[i + 3]);
        y[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        y[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        y[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        y[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
#endif
#pragma GCC unroll 4
    for (int i = 0; i < VL / 2; i++) {
        x[i] = W(permute2f128)(y[i], y[i + VL / 2], 0x20);
        x[i + VL / 2] = W(permute2f128)(y[i], y[i + VL / 2], 0x31);
    }
}

#undef W
#undef I
