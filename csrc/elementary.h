/* exp, log, tanh and their kin by polynomial, in explicit multiply-adds, so alike on every
 * instruction set. tools/polynomials.py prints the coefficients. */
#ifndef FNN_ELEMENTARY_H
#define FNN_ELEMENTARY_H

#include "simd.h"

#ifdef FNN_F64
static const real EXPM1_TAIL[] = {/* relative error 3.0e-18 */
                                  5.0e-1,
                                  1.6666666666666671e-1,
                                  4.166666666666667e-2,
                                  8.3333333333261398e-3,
                                  1.3888888888883752e-3,
                                  1.9841269874804215e-4,
                                  2.4801587325536022e-5,
                                  2.7557255421023504e-6,
                                  2.7557273657975951e-7,
                                  2.5105208339987697e-8,
                                  2.0914680780540265e-9};
static const real ATANH_TAIL[] = {/* relative error 7.0e-23 */
                                  3.3333333333333333e-1, 2.0e-1,
                                  1.4285714285714281e-1, 1.1111111111112177e-1,
                                  9.0909090907813878e-2, 7.6923077014543407e-2,
                                  6.6666662431060502e-2, 5.8823662198762099e-2,
                                  5.2628688095692284e-2, 4.7663160338659312e-2,
                                  4.3009546409725772e-2, 4.3375605050182168e-2,
                                  2.1545430510052781e-2, 7.3668523862634797e-2};
static const real NORMAL_TAIL[] = {
    /* relative error 5.4e-17 */
    4.8605579342224869e-1,  -9.6526757900535238e-2, -1.6432180656104546e-2, 4.5163889896210123e-2,
    -2.2729586395930146e-2, 1.1607918196002625e-3,  3.0092685727325918e-3,  -3.5468833597007449e-4,
    -5.1965961470195769e-4, 1.7404600924062154e-5,  1.0400551986306182e-4,  1.7439740248507977e-5,
    -1.8203353965658393e-5, -9.2395985174110782e-6, 1.2403706372985072e-6,  2.7121111956581303e-6,
    7.8413896134795841e-7,  -3.81405051405638e-7,   -4.1413479195043104e-7, -7.8388893515311526e-8,
    1.0597797950701965e-7,  6.2493644405761285e-8,  -1.4328582579595302e-8, -1.6702353331341009e-8,
    6.8237065907886006e-10, 1.8702143018049879e-9};
static const real EXP_HIGHEST = 710, EXP_LOWEST = -746; /* e^x is infinite above, 0 below */
static const real LN2_HIGH = 0x1.62e42fee00000p-1, LN2_LOW = 0x1.a39ef35793c76p-33;
static const real EXPM1_ONE = 40; /* from here on e^-x is lost beside 1 */
#else
static const real EXPM1_TAIL[] = {/* relative error 2.9e-9 */
                                  5.00000001e-1f, 1.66666667e-1f, 4.1666465e-2f,
                                  8.33331093e-3f, 1.39336427e-3f, 1.98909827e-4f};
static const real ATANH_TAIL[] = {/* relative error 2.6e-10 */
                                  3.33333333e-1f, 2.00000054e-1f, 1.42851529e-1f,
                                  1.11323556e-1f, 8.73235123e-2f, 1.03938084e-1f};
static const real NORMAL_TAIL[] = {/* relative error 1.6e-8 */
                                   4.860558e-1f,   -9.65267562e-2f, -1.64326238e-2f,
                                   4.51637693e-2f, -2.27243568e-2f, 1.16224273e-3f,
                                   2.98643326e-3f, -3.61280544e-4f, -4.73705649e-4f,
                                   3.16846871e-5f, 5.95988422e-5f,  1.48133742e-6f};
static const real EXP_HIGHEST = 89, EXP_LOWEST = -104;
static const real LN2_HIGH = 0x1.62e400p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
static const real EXPM1_ONE = 20;
#endif

/* Horner's rule. `terms` is a constant where this is inlined. */
static ALWAYS_INLINE vec polynomial(const real *coefficients, const int terms, vec x) {
    vec sum = v_set1(coefficients[terms - 1]);
#pragma GCC unroll 32
    for (int i = terms - 2; i >= 0; i--) sum = v_fma(sum, x, v_set1(coefficients[i]));
    return sum;
}
#define POLYNOMIAL(coefficients, x) polynomial(coefficients, sizeof coefficients / sizeof(real), x)

/* Nearest whole number, ties to even, for |x| < 2^(FRACTION_BITS - 1). */
static ALWAYS_INLINE vec round_to_whole(vec x) {
    const vec magic = v_set1((real)((int64_t)3 << (FRACTION_BITS - 1)));
    return v_sub(v_add(x, magic), magic);
}

/* x = n ln 2 + r with |r| <= ln(2) / 2 (Cody and Waite's two-part ln 2); returns e^r - 1. */
static ALWAYS_INLINE vec expm1_reduced(vec x, vec *n) {
    *n = round_to_whole(v_mul(x, v_set1(R(1.4426950408889634))));
    vec r = v_fnma(*n, v_set1(LN2_HIGH), x);
    r = v_fnma(*n, v_set1(LN2_LOW), r);
    return v_fma(v_mul(r, r), POLYNOMIAL(EXPM1_TAIL, r), r);
}

static ALWAYS_INLINE vec v_exp(vec x) {
    vec n, p;
    x = v_max(v_set1(EXP_LOWEST), v_min(v_set1(EXP_HIGHEST), x));
    p = expm1_reduced(x, &n);
    return v_scale(v_add(v_set1(1), p), n);
}

/* e^x - 1 for x <= 2 EXPM1_ONE, without cancellation near 0. */
static ALWAYS_INLINE vec v_expm1(vec x) {
    vec n, p;
    p = expm1_reduced(v_max(v_set1(-EXPM1_ONE), x), &n);
    vec power = v_pow2(n);
    return v_fma(power, p, v_sub(power, v_set1(1)));
}

/* 2 atanh(s), |s| <= 1/3. */
static ALWAYS_INLINE vec twice_atanh(vec s) {
    vec z = v_mul(s, s);
    return v_mul(v_set1(2), v_fma(v_mul(s, z), POLYNOMIAL(ATANH_TAIL, z), s));
}

/* ln x for normal x > 0: x = m 2^e, m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m - 1) / (m + 1)).
 */
static ALWAYS_INLINE vec v_log(vec x) {
    const vec one = v_set1(1);
    vec e = v_exponent(x), m = v_fraction(x);
    mask high = v_less(v_set1(R(1.4142135623730951)), m);
    m = v_select(high, v_mul(m, v_set1(R(0.5))), m);
    e = v_select(high, v_add(e, one), e);
    vec ln_m = twice_atanh(v_div(v_sub(m, one), v_add(m, one)));
    return v_fma(e, v_set1(LN2_HIGH), v_fma(e, v_set1(LN2_LOW), ln_m));
}

/* ln(1 + x), 0 <= x <= 1. */
static ALWAYS_INLINE vec v_log1p(vec x) { return twice_atanh(v_div(x, v_add(v_set1(2), x))); }

static ALWAYS_INLINE vec with_sign_of(vec magnitude, vec x) {
    return v_select(v_less(x, v_set1(0)), v_sub(v_set1(0), magnitude), magnitude);
}

/* tanh |x| = (e^2|x| - 1) / (e^2|x| + 1). */
static ALWAYS_INLINE vec v_tanh(vec x) {
    vec e = v_expm1(v_min(v_set1(EXPM1_ONE), v_mul(v_set1(2), v_abs(x))));
    return with_sign_of(v_div(e, v_add(e, v_set1(2))), x);
}

/* 1 / (1 + e^-x), from e^-|x|, which cannot overflow. */
static ALWAYS_INLINE vec v_sigmoid(vec x) {
    const vec one = v_set1(1);
    vec e = v_exp(v_sub(v_set1(0), v_abs(x)));
    return v_div(v_select(v_less(x, v_set1(0)), e, one), v_add(one, e));
}

/* ln(1 + e^x) = max(0, x) + ln(1 + e^-|x|). */
static ALWAYS_INLINE vec v_softplus(vec x) {
    vec e = v_exp(v_sub(v_set1(0), v_abs(x)));
    return v_add(v_max(v_set1(0), x), v_log1p(e));
}

/* e^(-x^2/2), the rounding error of x^2 put back. */
static ALWAYS_INLINE vec gaussian(vec x) {
    const vec half = v_set1(R(0.5));
    vec square = v_mul(x, x), rest = v_sub(v_set1(0), v_fnma(x, x, square));
    vec e = v_exp(v_mul(v_set1(R(-0.5)), v_min(v_set1(-2 * EXP_LOWEST), square)));
    return v_fnma(v_mul(half, rest), e, e);
}

/* The normal distribution function; *density = e^(-x^2/2). The upper tail is density * P(t) / (1 +
 * x), t = (x - 3) / (x + 3), after Shepherd and Laframboise, Math. Comp. 36 (1981), for erfc. */
static ALWAYS_INLINE vec normal_cdf(vec x, vec *density) {
    const vec one = v_set1(1), three = v_set1(3);
    vec y = v_abs(x);
    y = v_min(v_set1(-EXP_LOWEST), y);
    vec t = v_div(v_sub(y, three), v_add(y, three));
    *density = gaussian(y);
    vec tail = v_div(v_mul(*density, POLYNOMIAL(NORMAL_TAIL, t)), v_add(one, y));
    return v_select(v_less(x, v_set1(0)), tail, v_sub(one, tail));
}

#endif
