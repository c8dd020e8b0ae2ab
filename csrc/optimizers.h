/* Optimizers: one update of the parameters W of one tile from their gradients g, both in cache. The
 * penalty's part of g is added first. The state m, v lies as W does. */
#ifndef FNN_OPTIMIZERS_H
#define FNN_OPTIMIZERS_H

#include "simd.h"

/* A step's scalars, rounded once from double. */
typedef struct {
    vec learning_rate, momentum, beta1, one_minus_beta1, beta2, one_minus_beta2, eps, inverse_root;
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
        .inverse_root = v_set1((real)s->inverse_root),
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

/* Kingma and Ba, Adam (2015), algorithm 1: m and v are running means of g and g^2;
 * W -= learning_rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). The step's learning_rate
 * already has 1 / (1 - beta1^t), and inverse_root is 1 / sqrt(1 - beta2^t). */
static ALWAYS_INLINE void adam(const step_vectors *s, real *W, real *m, real *v, vec g) {
    vec m_new = v_fma(s->beta1, v_load(m), v_mul(s->one_minus_beta1, g));
    vec v_new = v_fma(s->beta2, v_load(v), v_mul(v_mul(s->one_minus_beta2, g), g));
    v_store(m, m_new);
    v_store(v, v_new);
    vec denominator = v_fma(v_sqrt(v_new), s->inverse_root, s->eps);
    v_store(W, v_fnma(s->learning_rate, v_div(m_new, denominator), v_load(W)));
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

/* The chosen optimizer, on rows of vectors, `ld` apart. */
static void optimize(const fnn_step *step, real *W, real *m, real *v, const real *g, int64_t rows,
                     int64_t vectors, int64_t ld) {
    const step_vectors s = step_in_vectors(step);
    const int is_adam = step->optimizer == FNN_ADAM, nesterov = step->nesterov != 0;
    const int has_momentum = step->momentum != 0;
    if (vectors * VL == ld) vectors *= rows, rows = 1;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL) {
            if (is_adam)
                adam(&s, W + i, m + i, v + i, v_load(g + i));
            else if (has_momentum)
                sgd_momentum(&s, nesterov, W + i, m + i, v_load(g + i));
            else
                sgd(&s, W + i, v_load(g + i));
        }
    }
}

#endif
