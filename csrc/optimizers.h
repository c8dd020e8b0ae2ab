/* Optimizers: one update of the parameters W of one tile from their gradients g, both in cache. The
 * penalty's part of g is added first. An optimizer is a function here, from a vector of g to new
 * vectors of W and of its state, which lies as W does; and a line in `optimize`. */
#ifndef FNN_OPTIMIZERS_H
#define FNN_OPTIMIZERS_H

#include "simd.h"

/* A step's scalars for one layer, rounded once from double. */
typedef struct {
    vec learning_rate, momentum, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, inverse_root;
} step_vectors;

static ALWAYS_INLINE step_vectors step_in_vectors(const fnn_step *s, double learning_rate_factor) {
    return (step_vectors){
        .learning_rate = v_set1((real)(s->learning_rate * learning_rate_factor)),
        .momentum = v_set1((real)s->momentum),
        .beta1 = v_set1((real)s->beta1),
        .one_minus_beta1 = v_set1((real)(1 - s->beta1)),
        .beta2 = v_set1((real)s->beta2),
        .one_minus_beta2 = v_set1((real)(1 - s->beta2)),
        .eps = v_set1((real)s->eps),
        .inverse_root = v_set1((real)s->inverse_root),
    };
}

/* W -= learning_rate direction */
static ALWAYS_INLINE void descend(const step_vectors *s, real *W, vec direction) {
    v_store(W, v_fnma(s->learning_rate, direction, v_load(W)));
}

/* m = beta m + (1 - beta) g */
static ALWAYS_INLINE vec mean(vec beta, vec one_minus_beta, vec m, vec g) {
    return v_fma(beta, m, v_mul(one_minus_beta, g));
}

/* v = beta2 v + (1 - beta2) g^2 */
static ALWAYS_INLINE vec mean_square(const step_vectors *s, vec v, vec g) {
    return v_fma(s->beta2, v, v_mul(v_mul(s->one_minus_beta2, g), g));
}

/* The square root as v_sqrt rounds it. On a wide core the divider takes longer for it than all else of an optimizer but
 * the quotient, so there it comes from multiply-adds: an estimate, a Newton step, and the correction that rounds
 * (Markstein, IBM Journal of Research and Development 34, 1990). What is subtracted in it has to be exact: where that
 * might underflow or overflow, v_sqrt. */
static ALWAYS_INLINE vec root(vec x) {
#if defined(FNN_AVX512) && !defined(FNN_F64)
    const mask zero = v_equal(x, v_set1(0));
    const mask usual = v_less(v_set1(0x1p-96f), x) & v_less(x, v_set1(0x1p96f));
    if (is_wide() && v_all(zero | usual)) {
        const vec half = v_set1(0.5f), estimate = v_inverse_root(x);
        const vec g = v_mul(x, estimate), h = v_mul(half, estimate), e = v_fnma(g, h, half);
        const vec near = v_fma(g, e, g);
        return v_select(zero, x, v_fma(v_fnma(near, near, x), v_fma(h, e, h), near));
    }
#endif
    return v_sqrt(x);
}

/* p and q are the state: NULL where the optimizer keeps none. */
typedef void rule(const step_vectors *s, real *W, real *p, real *q, vec g);

static ALWAYS_INLINE void sgd(const step_vectors *s, real *W, real *p, real *q, vec g) {
    descend(s, W, g);
}

/* buf = momentum buf + g;  W -= learning_rate buf */
static ALWAYS_INLINE void momentum(const step_vectors *s, real *W, real *buf, real *q, vec g) {
    const vec sum = v_fma(s->momentum, v_load(buf), g);
    v_store(buf, sum);
    descend(s, W, sum);
}

/* The same, looking ahead:  W -= learning_rate (g + momentum buf) */
static ALWAYS_INLINE void nesterov(const step_vectors *s, real *W, real *buf, real *q, vec g) {
    const vec sum = v_fma(s->momentum, v_load(buf), g);
    v_store(buf, sum);
    descend(s, W, v_fma(s->momentum, sum, g));
}

/* Duchi et al. (2011):  v += g^2;  W -= learning_rate g / (sqrt(v) + eps) */
static ALWAYS_INLINE void adagrad(const step_vectors *s, real *W, real *v, real *q, vec g) {
    const vec sum = v_fma(g, g, v_load(v));
    v_store(v, sum);
    descend(s, W, v_div(g, v_add(root(sum), s->eps)));
}

/* Tieleman and Hinton (2012): v is the running mean of g^2;
 * W -= learning_rate g / (sqrt(v) + eps) */
static ALWAYS_INLINE void rmsprop(const step_vectors *s, real *W, real *v, real *q, vec g) {
    const vec v_new = mean_square(s, v_load(v), g);
    v_store(v, v_new);
    descend(s, W, v_div(g, v_add(root(v_new), s->eps)));
}

/* The same with that quotient for momentum's g. */
static ALWAYS_INLINE void rmsprop_momentum(const step_vectors *s, real *W, real *v, real *buf,
                                           vec g) {
    const vec v_new = mean_square(s, v_load(v), g);
    v_store(v, v_new);
    momentum(s, W, buf, NULL, v_div(g, v_add(root(v_new), s->eps)));
}

/* Kingma and Ba (2015), algorithm 1: m and v are running means of g and g^2;
 * W -= learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). The step's learning_rate
 * already has 1 / (1 - beta1^t), and inverse_root is 1 / sqrt(1 - beta2^t). */
static ALWAYS_INLINE void adam(const step_vectors *s, real *W, real *m, real *v, vec g) {
    const vec m_new = mean(s->beta1, s->one_minus_beta1, v_load(m), g);
    const vec v_new = mean_square(s, v_load(v), g);
    v_store(m, m_new);
    v_store(v, v_new);
    descend(s, W, v_div(m_new, v_fma(root(v_new), s->inverse_root, s->eps)));
}

/* Chen et al. (2023):  W -= learning_rate sign(beta1 m + (1 - beta1) g), the sign of a NaN being
 * NaN;  m = beta2 m + (1 - beta2) g */
static ALWAYS_INLINE void lion(const step_vectors *s, real *W, real *m, real *q, vec g) {
    const vec zero = v_set1(0), one = v_set1(1), minus_one = v_set1(-1), m_old = v_load(m);
    const vec c = mean(s->beta1, s->one_minus_beta1, m_old, g);
    v_store(m, mean(s->beta2, s->one_minus_beta2, m_old, g));
    descend(s, W, v_select(v_less(zero, c), one, v_select(v_less(c, zero), minus_one, c)));
}

/* Rows of vectors, `ld` apart, of all that a step on one tile reads and writes. */
typedef struct {
    real *W, *p, *q;
    const real *g;
    int64_t rows, vectors, ld;
} step_rows;

/* For a rule with so many arrays of state, which takes what it needs of the step's scalars. */
static ALWAYS_INLINE void each_vector(rule *update, const int n_states, const fnn_step *step,
                                      double factor, step_rows x) {
    const step_vectors s = step_in_vectors(step, factor);
    if (x.vectors * VL == x.ld) x.vectors *= x.rows, x.rows = 1;
    for (int64_t r = 0; r < x.rows; r++)
        for (int64_t i = r * x.ld; i < r * x.ld + x.vectors * VL; i += VL)
            update(&s, x.W + i, n_states > 0 ? x.p + i : NULL, n_states > 1 ? x.q + i : NULL,
                   v_load(x.g + i));
}

/* Loshchilov and Hutter, Decoupled weight decay (2019):  W -= learning_rate weight_decay W */
static void decay_weights(double decay, step_rows x) {
    const vec d = v_set1((real)decay);
    for (int64_t r = 0; r < x.rows; r++)
        for (int64_t i = r * x.ld; i < r * x.ld + x.vectors * VL; i += VL)
            v_store(x.W + i, v_fnma(d, v_load(x.W + i), v_load(x.W + i)));
}

/* The chosen optimizer, `factor` times its learning rate. The first n_weights of the rows decay; a bias, below
 * them, does not. */
static void optimize(const fnn_step *step, double factor, step_rows x, int64_t n_weights) {
    if (step->decay != 0)
        decay_weights(step->decay * factor,
                      (step_rows){x.W, NULL, NULL, NULL, n_weights, x.vectors, x.ld});
    switch (step->rule) {
    case FNN_SGD: each_vector(sgd, 0, step, factor, x); break;
    case FNN_MOMENTUM: each_vector(momentum, 1, step, factor, x); break;
    case FNN_NESTEROV: each_vector(nesterov, 1, step, factor, x); break;
    case FNN_ADAGRAD: each_vector(adagrad, 1, step, factor, x); break;
    case FNN_RMSPROP: each_vector(rmsprop, 1, step, factor, x); break;
    case FNN_RMSPROP_MOMENTUM: each_vector(rmsprop_momentum, 2, step, factor, x); break;
    case FNN_ADAM: each_vector(adam, 2, step, factor, x); break;
    case FNN_LION: each_vector(lion, 1, step, factor, x); break;
    }
}

/* g += the gradient of l2/2 |W|^2 + l1 |W|_1, on rows of vectors, `ld` apart. */
static void add_penalty(const fnn_step *step, const real *W, real *g, int64_t rows, int64_t vectors,
                        int64_t ld) {
    const vec zero = v_set1(0), l2 = v_set1((real)step->l2), l1 = v_set1((real)step->l1);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL) {
            vec w = v_load(W + i), minus_l1 = v_sub(zero, l1);
            vec sign = v_select(v_less(zero, w), l1, v_select(v_less(w, zero), minus_l1, zero));
            v_store(g + i, v_add(v_fma(l2, w, v_load(g + i)), sign));
        }
    }
}

#endif
