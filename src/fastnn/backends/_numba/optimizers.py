"""Optimizers: one update of a parameter W from its gradient g.

To add one: a function of the step's constants `s`, W, its state p and q as far as it has them, and
g, which returns the new W, p and q; and its line in RULES. `fastnn.optimizers` has the formulas.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .elementary import one, zero
from .intrinsics import fma, inlined, kernel, select, square_root


class Constants(NamedTuple):
    """Of a step, for one layer, rounded once from float64."""

    learning_rate: Any  # of Adam divided by 1 - beta1^t
    momentum: Any
    beta1: Any
    rest1: Any  # 1 - beta1
    beta2: Any
    rest2: Any
    eps: Any
    inverse_root: Any  # 1 / sqrt(1 - beta2^t)
    decay: Any  # learning_rate weight_decay
    l2: Any
    l1: Any
    clip_value: Any


N_CONSTANTS = len(Constants._fields)
# The places in Run.constants, of which a step's are made, and in Run.sums.
MOMENTUM, BETA1, BETA2, EPS, WEIGHT_DECAY = range(5)
LOSSES, LOSSES_AT_STEP, FACTOR, INVERSE_N = range(4)


@kernel
def constants_at(s, i):
    """The Constants from place i on."""
    return Constants(
        s[i], s[i + 1], s[i + 2], s[i + 3], s[i + 4], s[i + 5], s[i + 6], s[i + 7], s[i + 8],
        s[i + 9], s[i + 10], s[i + 11],
    )  # fmt: skip


@kernel
def fill_step(run, t, learning_rate, n_layers, s):
    """Every layer's Constants of step t, from 1, one after the other in s."""
    c = run.constants
    root1, root2, eps = 1.0, 1.0, c[EPS]
    penalty = run.sums[INVERSE_N] if run.batch_weighting else 1.0
    if run.is_adam:
        root1 = 1 - c[BETA1] ** t
        root2 = 1 / math.sqrt(1 - c[BETA2] ** t)
        eps = eps * root2 if run.epsilon_hat else eps
    for k in range(n_layers):
        rate = learning_rate * run.factors[k]
        values = (
            rate / root1, c[MOMENTUM], c[BETA1], 1 - c[BETA1], c[BETA2], 1 - c[BETA2], eps,
            root2, rate * c[WEIGHT_DECAY], run.l2 * penalty, run.l1 * penalty, run.clip_value,
        )  # fmt: skip
        for i in range(N_CONSTANTS):
            s[k * N_CONSTANTS + i] = values[i]


@inlined
def _descend(s, W, direction):
    return fma(-s.learning_rate, direction, W)


@inlined
def _mean_square(s, v, g):
    return fma(s.beta2, v, s.rest2 * g * g)


@kernel
def sgd(s, W, p, q, g):
    return _descend(s, W, g), p, q


@kernel
def momentum(s, W, buf, q, g):
    buf = fma(s.momentum, buf, g)
    return _descend(s, W, buf), buf, q


@kernel
def nesterov(s, W, buf, q, g):
    buf = fma(s.momentum, buf, g)
    return _descend(s, W, fma(s.momentum, buf, g)), buf, q


@kernel
def adagrad(s, W, v, q, g):
    v = fma(g, g, v)
    return _descend(s, W, g / (square_root(v) + s.eps)), v, q


@kernel
def rmsprop(s, W, v, q, g):
    v = _mean_square(s, v, g)
    return _descend(s, W, g / (square_root(v) + s.eps)), v, q


@kernel
def rmsprop_momentum(s, W, v, buf, g):
    v = _mean_square(s, v, g)
    buf = fma(s.momentum, buf, g / (square_root(v) + s.eps))
    return _descend(s, W, buf), v, buf


@kernel
def adam(s, W, m, v, g):
    m = fma(s.beta1, m, s.rest1 * g)
    v = _mean_square(s, v, g)
    return _descend(s, W, m / fma(square_root(v), s.inverse_root, s.eps)), m, v


@kernel
def lion(s, W, m, q, g):
    c = fma(s.beta1, m, s.rest1 * g)
    sign = select(c > zero(c), one(c), select(c < zero(c), -one(c), c))
    return _descend(s, W, sign), fma(s.beta2, m, s.rest2 * g), q


RULES: dict[str, Any] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "rmsprop_momentum": rmsprop_momentum,
    "adam": adam,
    "lion": lion,
}


@kernel
def decay_weights(s, W):
    """Loshchilov and Hutter, Decoupled weight decay (2019)."""
    for i in range(len(W)):
        W[i] = fma(-s.decay, W[i], W[i])


@kernel
def add_penalty(s, W, g):
    """g += the gradient of l2/2 |W|^2 + l1 |W|_1."""
    for i in range(len(W)):
        w = W[i]
        sign = select(w > zero(w), one(w), select(w < zero(w), -one(w), zero(w)))
        g[i] = fma(s.l2, w, g[i]) + s.l1 * sign


@kernel
def clip_values(s, g):
    """g within -limit ... limit. A NaN stays one."""
    limit = s.clip_value
    for i in range(len(g)):
        x = select(g[i] < -limit, -limit, g[i])
        g[i] = select(x > limit, limit, x)
