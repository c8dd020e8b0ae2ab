"""Activations of the reference backend: g and g', both functions of the pre-activation a, of any
shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..custom import find

Array = NDArray[Any]


def identity(a: Array) -> Array:
    return a


def identity_prime(a: Array) -> Array:
    return np.ones_like(a)


def relu(a: Array) -> Array:
    return np.maximum(a, 0)  # unlike a comparison, maximum passes NaN on


def relu_prime(a: Array) -> Array:
    return (a > 0).astype(a.dtype)


LEAKY_SLOPE = 0.01


def leaky_relu(a: Array) -> Array:
    return np.where(a > 0, a, LEAKY_SLOPE * a)


def leaky_relu_prime(a: Array) -> Array:
    return np.where(a > 0, np.ones_like(a), LEAKY_SLOPE)


def elu(a: Array) -> Array:
    return np.where(a > 0, a, np.expm1(np.minimum(a, 0)))


def elu_prime(a: Array) -> Array:
    return np.exp(np.minimum(a, 0))


# The fixed point of mean 0 and variance 1 (Klambauer et al., 2017).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def selu(a: Array) -> Array:
    return SELU_SCALE * np.where(a > 0, a, SELU_ALPHA * np.expm1(np.minimum(a, 0)))


def selu_prime(a: Array) -> Array:
    return SELU_SCALE * np.where(a > 0, np.ones_like(a), SELU_ALPHA * np.exp(np.minimum(a, 0)))


def sigmoid(a: Array) -> Array:
    e = np.exp(-np.abs(a))  # never overflows
    return np.asarray(np.where(a >= 0, np.ones_like(a), e) / (1 + e))


def sigmoid_prime(a: Array) -> Array:
    return sigmoid(a) * sigmoid(-a)


def tanh(a: Array) -> Array:
    return np.tanh(a)


def tanh_prime(a: Array) -> Array:
    return 1 - np.tanh(a) ** 2


def softplus(a: Array) -> Array:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))  # ln(1 + e^a), never overflows


def softplus_prime(a: Array) -> Array:
    return sigmoid(a)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def normal_cdf(a: Array) -> Array:
    """Phi(a) by the complementary error function, which keeps its digits where Phi is tiny."""
    return np.asarray(0.5 * _erfc(-a / math.sqrt(2)), dtype=a.dtype)


def gelu(a: Array) -> Array:
    return a * normal_cdf(a)


def gelu_prime(a: Array) -> Array:
    return normal_cdf(a) + a * np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)


def silu(a: Array) -> Array:
    return a * sigmoid(a)


def silu_prime(a: Array) -> Array:
    return np.asarray(sigmoid(a) * (1 + a * sigmoid(-a)))


def mish(a: Array) -> Array:
    return a * np.tanh(softplus(a))


def mish_prime(a: Array) -> Array:
    t = np.tanh(softplus(a))
    return np.asarray(t + a * (1 - t * t) * sigmoid(a))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (identity, identity_prime),
    "relu": (relu, relu_prime),
    "leaky_relu": (leaky_relu, leaky_relu_prime),
    "elu": (elu, elu_prime),
    "selu": (selu, selu_prime),
    "sigmoid": (sigmoid, sigmoid_prime),
    "tanh": (tanh, tanh_prime),
    "softplus": (softplus, softplus_prime),
    "gelu": (gelu, gelu_prime),
    "silu": (silu, silu_prime),
    "mish": (mish, mish_prime),
}


def activation(name: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """g and g' of an activation, one of those above or a user's own."""
    return ACTIVATIONS.get(name) or _custom(find("activation", name))


def _custom(own: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    both = np.vectorize(own.with_slope, otypes=[np.float64, np.float64])
    return (lambda a: both(a)[0].astype(a.dtype)), (lambda a: both(a)[1].astype(a.dtype))
