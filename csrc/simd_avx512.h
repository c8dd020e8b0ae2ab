/* The words of simd.h for AVX-512 (F, DQ, BW, VL); included there. */
#include <immintrin.h>

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
#define LOAD_FEW(m, p) _mm512_zextpd256_pd512(_mm256_maskz_loadu_pd(m, p))
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
#define LOAD_FEW(m, p) _mm512_zextps128_ps512(_mm_maskz_loadu_ps(m, p))
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
enum { LANES = 8 };
typedef uint64_t words __attribute__((vector_size(64)));
static ALWAYS_INLINE words w_exchange(words w, const int n) {
    switch (n) {
    case 4: return (words)_mm512_shuffle_i64x2((__m512i)w, (__m512i)w, 0x4E);
    case 2: return (words)_mm512_permutex_epi64((__m512i)w, 0x4E);
    default: return (words)_mm512_permutex_epi64((__m512i)w, 0xB1);
    }
}
static ALWAYS_INLINE mask first_lanes(int n) { return (mask)((1u << n) - 1); }
static ALWAYS_INLINE vec v_set1(real x) { return W(set1)(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(loadu)(p); }
/* Through a general register, which takes another unit than vectors' loads (Zen 4). */
static ALWAYS_INLINE vec v_load1(const real *p) {
    real_bits bits;
    memcpy(&bits, p, sizeof bits);
    __asm__("" : "+r"(bits));
    return TO_REAL(I(set1)(bits));
}
/* GCC would make two loads of one that two instructions need. */
static ALWAYS_INLINE vec v_load_once(const real *p) {
    vec v = v_load(p);
    __asm__("" : "+v"(v));
    return v;
}
static ALWAYS_INLINE void v_store(real *p, vec a) { W(storeu)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) {
    return W(maskz_loadu)(first_lanes(n), p);
}
static ALWAYS_INLINE vec v_load_few(const real *p, int n) { return LOAD_FEW(first_lanes(n), p); }
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) { W(mask_storeu)(p, first_lanes(n), a); }
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) {
    return W(mask_blend)(first_lanes(n), fill, v);
}
static ALWAYS_INLINE vec v_add(vec a, vec b) { return W(add)(a, b); }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return W(sub)(a, b); }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return W(mul)(a, b); }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return W(div)(a, b); }
static ALWAYS_INLINE vec v_sqrt(vec a) { return W(sqrt)(a); }
#ifndef FNN_F64
static ALWAYS_INLINE vec v_inverse_root(vec a) { return _mm512_rsqrt14_ps(a); }
#endif
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
static ALWAYS_INLINE vec v_pow2(vec n) { return v_scale(v_set1(1), n); }
static ALWAYS_INLINE vec v_exponent(vec x) {
    return INT_TO_REAL(I(sub)(I(srli)(TO_INT(x), FRACTION_BITS), I(set1)(EXPONENT_BIAS)));
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    __m512i bits = _mm512_and_si512(TO_INT(x), I(set1)(FRACTION_MASK));
    return TO_REAL(_mm512_or_si512(bits, I(set1)(ONE_BITS)));
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) { return W(permutex2var)(a, zip_index(0), b); }
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) { return W(permutex2var)(a, zip_index(1), b); }

#undef W
#undef I
#undef LOAD_FEW
