/* Activations: g(a) and its derivative g' side by side, and the loops that apply them.
 *
 * To add one: write both here, add its line to the two switches and its name to FNN_ enum and
 * network.py. g' gets h = g(a), or a if fnn_needs_a lists the name. */
#ifndef FNN_ACTIVATIONS_H
#define FNN_ACTIVATIONS_H

#include "elementary.h"
#include "gemm.h"

static ALWAYS_INLINE vec identity(vec a) { return a; }
static ALWAYS_INLINE vec identity_d(vec h) { return v_set1(1); }

static ALWAYS_INLINE vec relu(vec a) { return v_max(v_set1(0), a); }
static ALWAYS_INLINE vec relu_d(vec h) {
    return v_select(v_less(v_set1(0), h), v_set1(1), v_set1(0));
}

#define LEAKY_SLOPE R(0.01)
static ALWAYS_INLINE vec leaky_relu(vec a) {
    return v_select(v_less(a, v_set1(0)), v_mul(v_set1(LEAKY_SLOPE), a), a);
}
static ALWAYS_INLINE vec leaky_relu_d(vec h) {
    return v_select(v_less(v_set1(0), h), v_set1(1), v_set1(LEAKY_SLOPE));
}

static ALWAYS_INLINE vec elu(vec a) {
    return v_select(v_less(a, v_set1(0)), v_expm1(v_min(v_set1(0), a)), a);
}
static ALWAYS_INLINE vec elu_d(vec h) {
    return v_select(v_less(h, v_set1(0)), v_add(h, v_set1(1)), v_set1(1));
}

/* Klambauer et al., Self-Normalizing Neural Networks (2017). */
#define SELU_SCALE R(1.0507009873554805)
#define SELU_SCALE_ALPHA R(1.7580993408473766)
static ALWAYS_INLINE vec selu(vec a) {
    vec negative = v_mul(v_set1(SELU_SCALE_ALPHA), v_expm1(v_min(v_set1(0), a)));
    return v_select(v_less(a, v_set1(0)), negative, v_mul(v_set1(SELU_SCALE), a));
}
static ALWAYS_INLINE vec selu_d(vec h) {
    return v_select(v_less(v_set1(0), h), v_set1(SELU_SCALE), v_add(h, v_set1(SELU_SCALE_ALPHA)));
}

static ALWAYS_INLINE vec sigmoid(vec a) { return v_sigmoid(a); }
static ALWAYS_INLINE vec sigmoid_d(vec h) { return v_mul(h, v_sub(v_set1(1), h)); }

static ALWAYS_INLINE vec hyperbolic_tangent(vec a) { return v_tanh(a); }
static ALWAYS_INLINE vec hyperbolic_tangent_d(vec h) { return v_fnma(h, h, v_set1(1)); }

static ALWAYS_INLINE vec softplus(vec a) { return v_softplus(a); }
static ALWAYS_INLINE vec softplus_d(vec a) { return v_sigmoid(a); }

/* a Phi(a), Phi the normal distribution function (Hendrycks and Gimpel, 2016), not its tanh
 * approximation. */
static ALWAYS_INLINE vec gelu(vec a) {
    vec density;
    return v_mul(a, normal_cdf(a, &density));
}
static ALWAYS_INLINE vec gelu_d(vec a) {
    vec density, cdf = normal_cdf(a, &density);
    vec slope = v_mul(density, v_set1(R(0.3989422804014327))); /* 1 / sqrt(2 pi) */
    return v_fma(a, slope, cdf);
}

static ALWAYS_INLINE vec silu(vec a) { return v_mul(a, v_sigmoid(a)); }
static ALWAYS_INLINE vec silu_d(vec a) {
    const vec one = v_set1(1);
    return v_mul(v_sigmoid(a), v_fma(a, v_sigmoid(v_sub(v_set1(0), a)), one));
}

/* a tanh(softplus(a)) (Misra, 2019): with e = e^a and s = e (e + 2), the tanh is s / (s + 2). */
static ALWAYS_INLINE vec mish_e(vec a) { return v_exp(v_min(v_set1(EXPM1_ONE), a)); }
static ALWAYS_INLINE vec mish(vec a) {
    vec e = mish_e(a), s = v_mul(e, v_add(e, v_set1(2)));
    return v_mul(a, v_div(s, v_add(s, v_set1(2))));
}
static ALWAYS_INLINE vec mish_d(vec a) {
    const vec one = v_set1(1), two = v_set1(2);
    a = v_min(v_set1(EXPM1_ONE), a); /* from here on g' = 1 */
    vec e = mish_e(a), s = v_mul(e, v_add(e, two));
    vec t = v_div(s, v_add(s, two));
    vec t_slope =
        v_mul(v_div(two, v_add(s, two)), v_add(one, t)); /* 1 - t^2 without cancellation */
    return v_fma(v_mul(a, t_slope), v_div(e, v_add(one, e)), t);
}

/* h = g(a) on `rows` rows of `vectors` vectors, `ld` apart; full rows are taken as one. */
static ALWAYS_INLINE void apply(vec (*g)(vec), const real *a, real *h, int64_t rows,
                                int64_t vectors, int64_t ld) {
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL)
            v_store(h + i, g(v_load(a + i)));
}

/* dh *= g'(a), x being a or h = g(a), whichever g' is computed from. */
static ALWAYS_INLINE void apply_d(vec (*g_d)(vec), const real *x, real *dh, int64_t rows,
                                  int64_t vectors, int64_t ld) {
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL)
            v_store(dh + i, v_mul(v_load(dh + i), g_d(v_load(x + i))));
}

/* Users' own, in C functions of many numbers. */
static void apply_custom(fnn_activation custom, const real *a, real *h, int64_t rows,
                         int64_t vectors, int64_t ld) {
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) {
        if (a != h) memcpy(h + r * ld, a + r * ld, (size_t)(vectors * VL) * sizeof(real));
        custom.g(h + r * ld, vectors * VL);
    }
}
static void apply_custom_d(fnn_activation custom, const real *a, real *dh, int64_t rows,
                           int64_t vectors, int64_t ld) {
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) custom.slope(a + r * ld, dh + r * ld, vectors * VL);
}

static void activation(fnn_activation f, const real *a, real *h, int64_t rows, int64_t vectors,
                       int64_t ld) {
    switch (f.kind) {
    case FNN_IDENTITY: apply(identity, a, h, rows, vectors, ld); break;
    case FNN_RELU: apply(relu, a, h, rows, vectors, ld); break;
    case FNN_LEAKY_RELU: apply(leaky_relu, a, h, rows, vectors, ld); break;
    case FNN_ELU: apply(elu, a, h, rows, vectors, ld); break;
    case FNN_SELU: apply(selu, a, h, rows, vectors, ld); break;
    case FNN_SIGMOID: apply(sigmoid, a, h, rows, vectors, ld); break;
    case FNN_TANH: apply(hyperbolic_tangent, a, h, rows, vectors, ld); break;
    case FNN_SOFTPLUS: apply(softplus, a, h, rows, vectors, ld); break;
    case FNN_GELU: apply(gelu, a, h, rows, vectors, ld); break;
    case FNN_SILU: apply(silu, a, h, rows, vectors, ld); break;
    case FNN_MISH: apply(mish, a, h, rows, vectors, ld); break;
    case FNN_CUSTOM: apply_custom(f, a, h, rows, vectors, ld); break;
    }
}

/* x holds a where g' needs it, else h: what an activation's g' does not look at is not there. */
static void times_derivative(fnn_activation f, const real *x, real *dh, int64_t rows,
                             int64_t vectors, int64_t ld) {
    switch (f.kind) {
    case FNN_IDENTITY: break;
    case FNN_RELU: apply_d(relu_d, x, dh, rows, vectors, ld); break;
    case FNN_LEAKY_RELU: apply_d(leaky_relu_d, x, dh, rows, vectors, ld); break;
    case FNN_ELU: apply_d(elu_d, x, dh, rows, vectors, ld); break;
    case FNN_SELU: apply_d(selu_d, x, dh, rows, vectors, ld); break;
    case FNN_SIGMOID: apply_d(sigmoid_d, x, dh, rows, vectors, ld); break;
    case FNN_TANH: apply_d(hyperbolic_tangent_d, x, dh, rows, vectors, ld); break;
    case FNN_SOFTPLUS: apply_d(softplus_d, x, dh, rows, vectors, ld); break;
    case FNN_GELU: apply_d(gelu_d, x, dh, rows, vectors, ld); break;
    case FNN_SILU: apply_d(silu_d, x, dh, rows, vectors, ld); break;
    case FNN_MISH: apply_d(mish_d, x, dh, rows, vectors, ld); break;
    case FNN_CUSTOM: apply_custom_d(f, x, dh, rows, vectors, ld); break;
    }
}

#endif
