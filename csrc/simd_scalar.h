/* The words of simd.h in plain C, one lane; included there. */
#define VL 1
typedef real vec;
typedef int mask;
static ALWAYS_INLINE vec v_set1(real x) { return x; }
static ALWAYS_INLINE vec v_load(const real *p) {
    real x;
    memcpy(&x, p, sizeof x); /* the user's X may lie at any address */
    return x;
}
static ALWAYS_INLINE vec v_load1(const real *p) { return *p; }
static ALWAYS_INLINE vec v_load_once(const real *p) { return v_load(p); }
static ALWAYS_INLINE void v_store(real *p, vec a) { *p = a; }
static ALWAYS_INLINE vec v_load_n(const real *p, int n) { return n > 0 ? v_load(p) : 0; }
static ALWAYS_INLINE vec v_load_few(const real *p, int n) { return v_load_n(p, n); }
static ALWAYS_INLINE void v_store_n(real *p, vec a, int n) {
    if (n > 0) *p = a;
}
static ALWAYS_INLINE vec v_first(vec v, int n, vec fill) { return n > 0 ? v : fill; }
static ALWAYS_INLINE vec v_exchange(vec v, const int n) {
    (void)n;
    return v;
}
enum { LANES = 1 };
typedef uint64_t words __attribute__((vector_size(8)));
static ALWAYS_INLINE words w_exchange(words w, const int n) {
    (void)n;
    return w;
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
static ALWAYS_INLINE vec v_pow2(vec n) { return n == n ? pow2((real_bits)n) : n; }
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
