"""The reference's random numbers: functions of a key and a position alone, after SplitMix64.

Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014). Arrays throughout: unlike
NumPy's numbers, they wrap around without a warning.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def key(seed: int, epoch: int) -> Array:
    """The stream of one epoch, an array of one element."""
    return mix(mix(np.array([seed], np.uint64) + GOLDEN) + np.uint64(epoch))


def random(key: Array, positions: Array) -> Array:
    return mix(key + positions.astype(np.uint64) * GOLDEN)


def shuffled(rows: Array, seed: int, epoch: int) -> Array:
    """Durstenfeld's shuffle; see `fastnn.backends.Engine.shuffled`."""
    order = rows.copy()
    numbers = random(key(seed, epoch), np.arange(len(order))).tolist()
    for i in range(len(order) - 1, 0, -1):
        j = numbers[i] * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def random_32(low: Array, high: Array, i: Array) -> Array:
    """The finalizer lowbias32 (Wellons, 2018), the key's other half between its rounds."""
    x = low + i * np.uint32(0x9E3779B9)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D) ^ high
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return np.asarray(x ^ (x >> np.uint32(16)))


def dropout_factors(
    seed: int, epoch: int, layer: int, rate: float, positions: Array, width: int
) -> Array:
    """s, (len(positions), width) float64: what dropout multiplies h of a layer by, 0 or 1/(1 - p).

    positions  int64, where in the epoch's order the samples of the rows are
    """
    keys = random(random(mix(key(seed, epoch)), np.array([layer])), positions[:, np.newaxis])
    low, high = keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    threshold = min(math.ceil(rate * 2**32), 2**32 - 1)
    kept = random_32(low, high, np.arange(width, dtype=np.uint32)) >= threshold
    return kept / (1 - rate)
