/* Counter-based random numbers: a function of (key, position) alone, never of a thread or of a
 * state. */
#ifndef FNN_RANDOM_H
#define FNN_RANDOM_H

#include <stdint.h>

/* The finalizer of SplitMix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators,
 * 2014): every bit of x sways every bit of the result. */
static inline uint64_t fnn_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The stream of an epoch. */
static inline uint64_t fnn_key(uint64_t seed, uint64_t epoch) {
    return fnn_mix(fnn_mix(seed + 0x9E3779B97F4A7C15u) + epoch);
}

static inline uint64_t fnn_random(uint64_t key, uint64_t position) {
    return fnn_mix(key + position * 0x9E3779B97F4A7C15u);
}

/* The stream of one layer's dropout in an epoch, apart from that of the epoch's order. */
static inline uint64_t fnn_dropout_key(uint64_t seed, uint64_t epoch, uint64_t layer) {
    return fnn_random(fnn_mix(fnn_key(seed, epoch)), layer);
}

/* 32 bits for element i of a row whose key is (low, high): the finalizer lowbias32 (Wellons, Hash
 * Prospector, 2018), between whose rounds the key's other half comes in. Every instruction set can
 * compute it for many i at a time. */
static inline uint32_t fnn_random_32(uint32_t low, uint32_t high, uint32_t i) {
    uint32_t x = low + i * 0x9E3779B9u;
    x = (x ^ (x >> 16)) * 0x7FEB352Du ^ high;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

#endif
