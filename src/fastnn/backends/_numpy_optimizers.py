"""The reference backend's optimizers: each turns the gradient g into a step, and
W = W - learning_rate * step.

t counts the steps of the run from 1. The state is arrays like g, zero at first, as many as
`fastnn.optimizers.RULES` says; a step puts new ones in their places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimizers import Rule

Array = NDArray[Any]
State = list[Array]


def sgd(rule: Rule, state: State, t: int, g: Array) -> Array:
    return g


def momentum(rule: Rule, state: State, t: int, g: Array) -> Array:
    state[0] = buf = rule.momentum * state[0] + g
    return buf


def nesterov(rule: Rule, state: State, t: int, g: Array) -> Array:
    return np.asarray(g + rule.momentum * momentum(rule, state, t, g))


def adagrad(rule: Rule, state: State, t: int, g: Array) -> Array:
    state[0] = v = state[0] + g * g
    return np.asarray(g / (np.sqrt(v) + rule.eps))


def rmsprop(rule: Rule, state: State, t: int, g: Array) -> Array:
    state[0] = v = rule.beta2 * state[0] + (1 - rule.beta2) * g * g
    return np.asarray(g / (np.sqrt(v) + rule.eps))


def rmsprop_momentum(rule: Rule, state: State, t: int, g: Array) -> Array:
    state[1] = buf = rule.momentum * state[1] + rmsprop(rule, state, t, g)
    return buf


def adam(rule: Rule, state: State, t: int, g: Array) -> Array:
    state[0] = m = rule.beta1 * state[0] + (1 - rule.beta1) * g
    state[1] = v = rule.beta2 * state[1] + (1 - rule.beta2) * g * g
    m_hat, root = m / (1 - rule.beta1**t), math.sqrt(1 - rule.beta2**t)
    eps = rule.eps / root if rule.epsilon_hat else rule.eps
    return np.asarray(m_hat / (np.sqrt(v) / root + eps))


def lion(rule: Rule, state: State, t: int, g: Array) -> Array:
    step = np.sign(rule.beta1 * state[0] + (1 - rule.beta1) * g)
    state[0] = rule.beta2 * state[0] + (1 - rule.beta2) * g
    return step


STEPS: dict[str, Callable[[Rule, State, int, Array], Array]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "rmsprop_momentum": rmsprop_momentum,
    "adam": adam,
    "lion": lion,
}
