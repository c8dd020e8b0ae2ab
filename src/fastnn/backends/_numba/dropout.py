"""Shuffles and dropout, by random numbers that are functions of a key and a position alone."""

from __future__ import annotations

import numpy as np
from numba import njit

from .intrinsics import call_stage, inlined, kernel, part
from .layout import LD, WIDTH

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = (np.uint64(shift) for shift in (27, 30, 31, 32))
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def mix(x):
    """The finalizer of SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@inlined
def key_of(seed, epoch):
    return mix(mix(seed + GOLDEN) + epoch)


@inlined
def random(key, position):
    return mix(key + np.uint64(position) * GOLDEN)


@inlined
def _high_half(x, y):
    """x * y >> 64"""
    x0, x1, y0, y1 = x & _LOW, x >> _S32, y & _LOW, y >> _S32
    middle = x1 * y0 + (x0 * y0 >> _S32)
    return x1 * y1 + (middle >> _S32) + ((middle & _LOW) + x0 * y1 >> _S32)


@njit(nogil=True)
def shuffle(rows, seed, epoch):
    """Durstenfeld's shuffle (Comm. ACM 7, 1964), in place."""
    key = key_of(seed, epoch)
    for i in range(len(rows) - 1, 0, -1):
        j = np.int64(_high_half(random(key, i), np.uint64(i + 1)))
        rows[i], rows[j] = rows[j], rows[i]


@inlined
def _random_32(low, high, i):
    """The finalizer lowbias32 (Wellons, 2018), the key's other half between its rounds."""
    x = np.uint32(low + np.uint32(i * np.uint32(0x9E3779B9)))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)) ^ high
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@kernel
def _drop_row(x, low, high, first, threshold, scale):
    for c in range(len(x)):
        kept = _random_32(low, high, np.uint32(first + c)) >= threshold
        x[c] *= scale if kept else x.dtype.type(0)


def drop(x, k, matrix, r0, r1, first):
    """Multiply rows r0:r1 of h_k (`matrix` H) or delta_k (DELTA) by 0 or 1 / (1 - rate).

    first  where in the epoch's order row 0 is
    """
    net, work, dropout = x.net, x.work, x.run.dropout
    ld, width = work.places[k, LD], work.places[k, WIDTH]
    scale, threshold = work.space.dtype.type(dropout.scales[k]), np.uint32(dropout.thresholds[k])
    for p in range((width + net.NR - 1) // net.NR):
        for r in range(r0, r1):
            key = random(dropout.keys[k], first + r)
            place = work.places[k, matrix] + (p * work.rows + r) * ld
            row = part(work.space, place, min(net.NR, width - p * net.NR))
            _drop_row(
                row, np.uint32(key & _LOW), np.uint32(key >> _S32), p * net.NR, threshold, scale
            )


@inlined
def drop_if_any(x, k, matrix, r0, r1, first):
    if x.stages.drop != 0 and x.run.dropout.thresholds[k] > 0:
        call_stage(x.stages.drop, x, k, matrix, r0, r1, first)


@njit
def dropout_key(seed, epoch, layer):
    """The stream of one layer's dropout in an epoch, apart from that of the epoch's order."""
    return random(mix(key_of(seed, epoch)), layer)
