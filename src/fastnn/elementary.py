"""cos, log2 and powers of float64 arrays, with the same bits on every machine.

NumPy's own differ in the last bit from one CPU to another. These consist of what IEEE 754 defines
to the bit: additions, multiplications and divisions, exponents taken off and put on again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cos_pi(x: Array) -> Array:
    """cos(pi x), to about 2e-16."""
    x = np.abs(x - 2 * np.floor(x / 2 + 0.5))  # in [0, 1]
    near_1 = x > 0.5
    z = np.pi * np.where(near_1, 1 - x, x)
    cos = _polynomial(z * z, ((-1) ** k / math.factorial(2 * k) for k in reversed(range(12))))
    return np.asarray(np.where(near_1, -cos, cos))


def log2(x: Array) -> Array:
    """log2(x) of x > 0, to about 2e-16 of it or of 1; exact for powers of two."""
    fraction, exponent = np.frexp(x)
    low = fraction < math.sqrt(0.5)
    fraction, exponent = np.where(low, 2 * fraction, fraction), exponent - low
    s = (fraction - 1) / (fraction + 1)  # ln fraction = 2 artanh s
    artanh = s * _polynomial(s * s, (1 / (2 * k + 1) for k in reversed(range(12))))
    return np.asarray(exponent + artanh * (2 / math.log(2)))


def power(x: Array | float, y: Array | float) -> Array:
    """x^y of x > 0, to about 2e-16 of it, times the exponent of the result if that is larger."""
    exponent = y * log2(np.asarray(x, dtype=np.float64))
    whole = np.floor(exponent + 0.5)
    rest = (exponent - whole) * math.log(2)
    exp = _polynomial(rest, (1 / math.factorial(k) for k in reversed(range(15))))
    return np.asarray(np.ldexp(exp, whole.astype(np.int64)))


def _polynomial(x: Any, coefficients: Iterable[float]) -> Any:
    """By Horner's rule; the coefficient of the highest power first."""
    total: Any = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total
