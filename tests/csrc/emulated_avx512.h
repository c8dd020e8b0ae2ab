/* The words of simd.h with AVX-512's widths, lane by lane in plain C: where a CPU has no AVX-512, compare.sh
 * puts this file in the place of simd_avx512.h. What it cannot show is whether the intrinsics are right. */
#ifdef FNN_F64
#define VL 8
#define REAL(function) function
#else
#define VL 16
#define REAL(function) function##f
#endif
typedef real vec __attribute__((vector_size(64)));
typedef unsigned mask;
enum { LANES = 8 };
typedef uint64_t words __attribute__((vector_size(64)));

#define EACH_LANE for (int i = 0; i < VL; i++)

static ALWAYS_INLINE words w_exchange(words w, const int n) {
    words out;
    for (int i = 0; i < LANES; i++) out[i] = w[i ^ n];
    return out;
}
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    vec out;
    EACH_LANE out[i] = v[i ^ n];
    return out;
}
static ALWAYS_INLINE vec v_set1(real x) {
    vec out;
    EACH_LANE out[i] = x;
    return out;
}
static ALWAYS_INLINE vec v_load(const real *p) {
    vec out;
    memcpy(&out, p, sizeof out);
    return out;
}
static ALWAYS_INLINE vec v_load_u8(const uint8_t *p) {
    vec out;
    EACH_LANE out[i] = p[i];
    return out;
}
static ALWAYS_INLINE vec v_load_n(const real *p, int n) {
    vec out = v_set1(0);
    for (int i = 0; i < n; i++) out[i] = p[i];
    return out;
}
static ALWAYS_INLINE vec v_load1(const real *p) { return v_set1(*p); }
static ALWAYS_INLINE vec v_load_once(const real *p) { return v_load(p); }
static ALWAYS_INLINE vec v_load_few(const real *p, int n) { return v_load_n(p, n); }
static ALWAYS_INLINE void v_store(real *p, vec a) { memcpy(p, &a, sizeof a); }
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) {
    for (int i = 0; i < n; i++) p[i] = a[i];
}
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) {
    for (int i = n; i < VL; i++) v[i] = fill[i];
    return v;
}
static ALWAYS_INLINE vec v_add(vec a, vec b) { return a + b; }
static ALWAYS_INLINE vec v_sub(vec a, vec b) { return a - b; }
static ALWAYS_INLINE vec v_mul(vec a, vec b) { return a * b; }
static ALWAYS_INLINE vec v_div(vec a, vec b) { return a / b; }
static ALWAYS_INLINE vec v_sqrt(vec a) {
    EACH_LANE a[i] = REAL(sqrt)(a[i]);
    return a;
}
#ifndef FNN_F64
static ALWAYS_INLINE vec v_inverse_root(vec a) {
    vec out;
    EACH_LANE out[i] = 1 / sqrtf(a[i]);
    return out;
}
#endif
static ALWAYS_INLINE vec v_max(vec a, vec b) {
    EACH_LANE b[i] = a[i] > b[i] ? a[i] : b[i];
    return b;
}
static ALWAYS_INLINE vec v_min(vec a, vec b) {
    EACH_LANE b[i] = a[i] < b[i] ? a[i] : b[i];
    return b;
}
static ALWAYS_INLINE vec v_fma(vec a, vec b, vec c) {
    EACH_LANE c[i] = REAL(fma)(a[i], b[i], c[i]);
    return c;
}
static ALWAYS_INLINE vec v_fnma(vec a, vec b, vec c) { return v_fma(-a, b, c); }
static ALWAYS_INLINE vec v_abs(vec a) {
    EACH_LANE a[i] = REAL(fabs)(a[i]);
    return a;
}
static ALWAYS_INLINE mask v_less(vec a, vec b) {
    mask out = 0;
    EACH_LANE out |= (mask)(a[i] < b[i]) << i;
    return out;
}
static ALWAYS_INLINE mask v_equal(vec a, vec b) {
    mask out = 0;
    EACH_LANE out |= (mask)(a[i] == b[i]) << i;
    return out;
}
static ALWAYS_INLINE unsigned v_nonzero(vec v) {
    unsigned out = 0;
    EACH_LANE out |= (unsigned)(v[i] != 0) << i;
    return out;
}
static ALWAYS_INLINE vec v_select(mask c, vec a, vec b) {
    EACH_LANE b[i] = c >> i & 1 ? a[i] : b[i];
    return b;
}
static ALWAYS_INLINE int v_all(mask c) { return c == (1u << VL) - 1; }
static ALWAYS_INLINE vec v_scale(vec x, vec n) {
    EACH_LANE x[i] = n[i] == n[i] ? REAL(ldexp)(x[i], (int)n[i]) : n[i];
    return x;
}
static ALWAYS_INLINE vec v_pow2(vec n) { return v_scale(v_set1(1), n); }
static ALWAYS_INLINE vec v_exponent(vec x) {
    EACH_LANE x[i] = REAL(logb)(x[i]);
    return x;
}
static ALWAYS_INLINE vec v_fraction(vec x) {
    int exponent;
    EACH_LANE x[i] = 2 * REAL(frexp)(x[i], &exponent);
    return x;
}
static ALWAYS_INLINE vec v_zip_lo(vec a, vec b) {
    vec out;
    EACH_LANE out[i] = i % 2 ? b[i / 2] : a[i / 2];
    return out;
}
static ALWAYS_INLINE vec v_zip_hi(vec a, vec b) {
    vec out;
    EACH_LANE out[i] = i % 2 ? b[(VL + i) / 2] : a[(VL + i) / 2];
    return out;
}

#undef EACH_LANE
#undef REAL
