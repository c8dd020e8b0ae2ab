/* A square of 64 x 64 bits is transposed by exchanging ever smaller squares (Warren, Hacker's Delight,
 * 7-3), several rows at a time. */
#ifndef FNN_BITS_H
#define FNN_BITS_H

#include "simd.h"

enum { WORD = 64, VECTORS = WORD / LANES };

/* The upper one of two rows that are j apart keeps its bits in `low`, the lower one its others; the rest
 * is exchanged. */
static ALWAYS_INLINE void exchange_vectors(words square[VECTORS], const int j, const uint64_t low) {
    const int apart = j / LANES;
    for (int first = 0; first < VECTORS; first += 2 * apart)
        for (int i = first; i < first + apart; i++) {
            const words x = ((square[i] >> j) ^ square[i + apart]) & low;
            square[i] ^= x << j;
            square[i + apart] ^= x;
        }
}
static ALWAYS_INLINE void exchange_lanes(words square[VECTORS], const int j, const uint64_t low) {
    words lower; /* all bits of the lanes that are j below another */
    for (int lane = 0; lane < LANES; lane++) lower[lane] = lane & j ? ~(uint64_t)0 : 0;
    for (int i = 0; i < VECTORS; i++) {
        const words other = w_exchange(square[i], j);
        square[i] = (square[i] & (low ^ lower)) | ((other << j) & ~(low | lower)) |
                    ((other >> j) & low & lower);
    }
}
static ALWAYS_INLINE void exchange_squares(words square[VECTORS], const int j, const uint64_t low) {
    if (j < LANES)
        exchange_lanes(square, j, low);
    else
        exchange_vectors(square, j, low);
}

/* Bit c of rows[r] becomes bit r of columns[c]; rows from `count` on count as zero. */
static void transpose_bits(const uint64_t *rows, int64_t count, uint64_t columns[WORD]) {
    words square[VECTORS] = {{0}};
    memcpy(square, rows, (size_t)count * sizeof *rows);
    exchange_squares(square, 32, 0x00000000FFFFFFFF);
    exchange_squares(square, 16, 0x0000FFFF0000FFFF);
    exchange_squares(square, 8, 0x00FF00FF00FF00FF);
    exchange_squares(square, 4, 0x0F0F0F0F0F0F0F0F);
    exchange_squares(square, 2, 0x3333333333333333);
    exchange_squares(square, 1, 0x5555555555555555);
    memcpy(columns, square, sizeof square);
}

#endif
