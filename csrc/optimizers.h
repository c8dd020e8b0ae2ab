/* Optimizers: one update of `count` vectors of parameters W from their gradients g, both of one
 * tile, in cache. g already holds the penalty's part. The state m, v lies as W does. */
#ifndef FNN_OPTIMIZERS_H
#define FNN_OPTIMIZERS_H

#include "simd.h"

/* What a step's scalars are to the kernels, rounded once from double. */
typedef struct {
    vec learning_rate, momentum, beta1, one_minus_beta1, beta2, one_minus_beta2, eps;
    vec step_size, inverse_root; /* Adam: learning_rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t) */
    vec l2, l1;
} step_vectors;

static ALWAYS_INLINE step_vectors step_in_vectors(const fnn_step *s) {
    return (step_vectors){
        .learning_rate = v_set1((real)s->learning_rate),
        .momentum = v_set1((real)s->momentum),
        .beta1 = v_set1((real)s->beta1),
        .one_minus_beta1 = v_set1((real)(1 - s->beta1)),
        .beta2 = v_set1((real)s->beta2),
        .one_minus_beta2 = v_set1((real)(1 - s->beta2)),
        .eps = v_set1((real)s->eps),
        .step_size = v_set1((real)(s->learning_rate / (1 - s->beta1_power))),
        .inverse_root = v_set1((real)(1 / sqrt(1 - s->beta2_power))),
        .l2 = v_set1((real)s->l2),
        .l1 = v_set1((real)s->l1),
    };
}

/* W -= learning_rate g */
static ALWAYS_INLINE void sgd(const step_vectors *s, real *W, vec g) {
    v_store(W, v_fnma(s->learning_rate, g, v_load(W)));
}

/* m = momentum m + g;  W -= learning_rate m, or, looking ahead (Nesterov), learning_rate (g +
 * momentum m) */
static ALWAYS_INLINE void sgd_momentum(const step_vectors *s, int nesterov, real *W, real *m,
                                       vec g) {
    vec m_new = v_fma(s->momentum, v_load(m), g);
    v_store(m, m_new);
    sgd(s, W, nesterov ? v_fma(s->momentum, m_new, g) : m_new);
}

/* Kingma and Ba, Adam (2015), algorithm 1:  m and v are running means of g and g^2;
 * W -= learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) */
static ALWAYS_INLINE void adam(const step_vectors *s, real *W, real *m, real *v, vec g) {
    vec m_new = v_fma(s->beta1, v_load(m), v_mul(s->one_minus_beta1, g));
    vec v_new = v_fma(s->beta2, v_load(v), v_mul(v_mul(s->one_minus_beta2, g), g));
    v_store(m, m_new);
    v_store(v, v_new);
    vec denominator = v_fma(v_sqrt(v_new), s->inverse_root, s->eps);
    v_store(W, v_fnma(s->step_size, v_div(m_new, denominator), v_load(W)));
}

/* The gradient of l2/2 |W|^2 + l1 |W|_1 added to g. */
static ALWAYS_INLINE vec with_penalty(const step_vectors *s, const real *W, vec g) {
    const vec zero = v_set1(0);
    vec w = v_load(W);
    vec sign =
        v_select(v_less(zero, w), s->l1, v_select(v_less(w, zero), v_sub(zero, s->l1), zero));
    return v_add(v_fma(s->l2, w, g), sign);
}

/* The chosen optimizer over rows of vectors, `ld` apart; is_weights is 0 for biases, which have no
 * penalty. */
static void optimize(const fnn_step *step, int is_weights, real *W, real *m, real *v, const real *g,
                     int64_t rows, int64_t vectors, int64_t ld) {
    const step_vectors s = step_in_vectors(step);
    const int penalty = is_weights && (step->l2 != 0 || step->l1 != 0);
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL) {
            vec gi = v_load(g + i);
            if (penalty) gi = with_penalty(&s, W + i, gi);
            if (step->optimizer == FNN_ADAM)
                adam(&s, W + i, m + i, v + i, gi);
            else if (step->momentum != 0)
                sgd_momentum(&s, step->nesterov != 0, W + i, m + i, gi);
            else
                sgd(&s, W + i, gi);
        }
    }
}

#endif
