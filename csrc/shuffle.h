/* The random order of an epoch: whole numbers, the same for every dtype. */
#ifndef FNN_SHUFFLE_H
#define FNN_SHUFFLE_H

#include "random.h"
#include "simd.h"

/* Exchanges whose places are computed together. That pays where vectors multiply words of 64 bits,
 * and for so many rows that memory is waited for: then several are asked of it at once. */
enum { EXCHANGES = 32, MANY_ROWS = 1 << 20 };
#if defined(FNN_AVX512)
enum { MULTIPLIES_WORDS = 1 };
#else
enum { MULTIPLIES_WORDS = 0 };
#endif

/* random in [0, n), Lemire (2019): the high half of a product, its bias below n / 2^64. */
static ALWAYS_INLINE int64_t below(uint64_t random, uint64_t n) {
    return (int64_t)(((unsigned __int128)random * n) >> 64);
}
/* The same for n up to 2^32, in words of 64 bits. */
static ALWAYS_INLINE uint32_t below_32(uint64_t random, uint64_t n) {
    const uint64_t low = (uint32_t)random * n, high = (random >> 32) * n;
    return (uint32_t)((high + (low >> 32)) >> 32);
}

static ALWAYS_INLINE void exchange(int64_t *rows, int64_t i, int64_t j) {
    const int64_t row = rows[i];
    rows[i] = rows[j];
    rows[j] = row;
}

/* Durstenfeld's (Comm. ACM 7, 1964): from the last row on, each changes places with one up to it. */
static void shuffle(int64_t *rows, int64_t n, uint64_t key) {
    int64_t i = n - 1;
    if ((MULTIPLIES_WORDS || n >= MANY_ROWS) && n <= (int64_t)1 << 32)
        for (; i >= EXCHANGES; i -= EXCHANGES) {
            uint32_t places[EXCHANGES];
            for (int k = 0; k < EXCHANGES; k++)
                places[k] = below_32(fnn_random(key, (uint64_t)(i - k)), (uint64_t)(i - k + 1));
            for (int k = 0; k < EXCHANGES; k++) exchange(rows, i - k, places[k]);
        }
    for (; i > 0; i--) exchange(rows, i, below(fnn_random(key, (uint64_t)i), (uint64_t)i + 1));
}

#endif
