/* Inverted dropout (Srivastava et al., 2014): for one step, some elements of a layer's h are zero,
 * and the others larger by as much as keeps the mean. Which ones follows from the element's place in
 * the epoch alone, so it is computed once more for delta rather than kept. */
#ifndef FNN_DROPOUT_H
#define FNN_DROPOUT_H

#include "gemm.h"
#include "random.h"

/* What the factors of row r follow from. */
static ALWAYS_INLINE uint64_t dropout_key(const fnn_dropout *d, int64_t r) {
    return fnn_random(d->key, (uint64_t)(d->first + r));
}

/* 0 or the scale for each neuron of panel p in row r. Whole numbers, in plain C, which compilers
 * know how to put into vectors. */
static ALWAYS_INLINE void dropout_factors(const fnn_dropout *d, int64_t p, int64_t r,
                                          real factors[NR]) {
    const uint64_t key = dropout_key(d, r);
    const uint32_t low = (uint32_t)key, high = (uint32_t)(key >> 32);
    const uint32_t first = (uint32_t)(p * NR), threshold = d->threshold;
    const real scale = (real)d->scale;
    for (uint32_t c = 0; c < NR; c++) {
        const int32_t is_kept = fnn_random_32(low, high, first + c) >= threshold;
        factors[c] = (real)is_kept * scale;
    }
}

/* That of one element of a row with this key. */
static ALWAYS_INLINE real dropout_factor(const fnn_dropout *d, uint64_t key, uint32_t column) {
    const int is_kept = fnn_random_32((uint32_t)key, (uint32_t)(key >> 32), column) >= d->threshold;
    return (real)is_kept * (real)d->scale;
}

/* `to` = `from` after dropout, rows r0:r1 of panel p. */
static void drop(const fnn_dropout *d, const fnn_matrix *from, const fnn_matrix *to, int64_t p,
                 int64_t r0, int64_t r1) {
    const int vectors = panel_vectors(to, p);
    ALIGNED real factors[NR];
    for (int64_t r = r0; r < r1; r++) {
        const real *x = at(from, p, r);
        real *kept = at(to, p, r);
        dropout_factors(d, p, r, factors);
        for (int v = 0; v < vectors; v++)
            v_store(kept + v * VL, v_mul(v_load(x + v * VL), v_load(factors + v * VL)));
    }
}

#endif
