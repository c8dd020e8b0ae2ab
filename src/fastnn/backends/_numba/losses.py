"""Outputs of one number, and the losses that are sums over the outputs: a term and its derivative.

To add a loss: write it here, and its line in LOSSES. A function takes a, f = output(a), y and the
loss's constant for this output; `fastnn.losses` has the formulas. What belongs to a softmax is in
`outputs`.
"""

from __future__ import annotations

from typing import Any

from .elementary import at_least, at_most, exp, half, log1p, one, sigmoid, zero
from .intrinsics import absolute, fma, kernel, select


@kernel
def sigmoid_slope(f):
    return f * (one(f) - f)


@kernel
def exp_slope(f):
    return f


# g and df/da, a function of f
OUTPUTS: dict[str, tuple[Any, Any]] = {"sigmoid": (sigmoid, sigmoid_slope), "exp": (exp, exp_slope)}


# ---- with dl/da ----


@kernel
def binary_cross_entropy(a, f, y, c):
    """-y ln f - (1 - y) ln(1 - f) = softplus(a) - y a,  f = sigmoid(a)"""
    y = fma(-c, y, y) + half(c) * c  # with smoothing c
    above = fma(-y, a, at_least(zero(a), a))  # exact where y is 0 or 1, even for huge a
    return above + log1p(exp(-absolute(a))), f - y


@kernel
def poisson(a, f, y, c):
    """f - y ln f,  f = e^a"""
    return fma(-y, a, f), f - y


# ---- with dl/df ----


@kernel
def squared_error(a, f, y, c):
    return half(f) * (f - y) * (f - y), f - y


@kernel
def _by_sign(d, above, below):
    """`above` where d > 0, `below` where d < 0, else d: 0 or NaN."""
    return select(d > zero(d), above, select(d < zero(d), below, d))


@kernel
def absolute_error(a, f, y, c):
    return absolute(f - y), _by_sign(f - y, one(f), -one(f))


@kernel
def huber(a, f, y, c):
    d = f - y
    clipped = at_least(-c, at_most(c, d))
    return clipped * fma(-half(d), clipped, d), clipped


@kernel
def quantile(a, f, y, c):
    slope = _by_sign(f - y, one(c) - c, -c)
    return slope * (f - y), slope


# The function, and whether its derivative is dl/da, not dl/df.
LOSSES: dict[str, tuple[Any, bool]] = {
    "binary_cross_entropy": (binary_cross_entropy, True),
    "poisson": (poisson, True),
    "squared_error": (squared_error, False),
    "absolute_error": (absolute_error, False),
    "huber": (huber, False),
    "quantile": (quantile, False),
}
