/* The words of simd.h for NEON (aarch64); included there. */
#include <arm_neon.h>

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
enum { LANES = 2 };
typedef uint64_t words __attribute__((vector_size(16)));
static ALWAYS_INLINE words w_exchange(words w, const int n) {
    return (words)vextq_u64((uint64x2_t)w, (uint64x2_t)w, n);
}
static ALWAYS_INLINE vec v_set1(real x) { return DUP(x); }
static ALWAYS_INLINE vec v_load(const real *p) { return W(ld1)(p); }
static ALWAYS_INLINE vec v_load1(const real *p) { return v_set1(*p); }
static ALWAYS_INLINE vec v_load_once(const real *p) { return v_load(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { W(st1)(p, a); }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) {
    real lanes[VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(real));
    return v_load(lanes);
}
static ALWAYS_INLINE vec v_load_few(const real *p, int n) { return v_load_n(p, n); }
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
static ALWAYS_INLINE vec v_pow2(vec n) {
    return TO_REAL(SHL(I(add)(REAL_TO_INT(n), DUP_INT(EXPONENT_BIAS)), FRACTION_BITS));
}
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    vec half = W(rndm)(v_mul(n, v_set1(R(0.5))));
    return v_mul(v_mul(x, v_pow2(half)), v_pow2(v_sub(n, half)));
}
static ALWAYS_INLINE vec v_exponent(vec x) {
    return INT_TO_REAL(I(sub)(SHR(TO_INT(x), FRACTION_BITS), DUP_INT(EXPONENT_BIAS)));
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    return TO_REAL(I(orr)(I(and)(TO_INT(x), DUP_INT(FRACTION_MASK)), DUP_INT(ONE_BITS)));
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) { return W(zip1)(a, b); }
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) { return W(zip2)(a, b); }

#undef W
#undef I
