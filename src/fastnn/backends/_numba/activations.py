"""Activations: g(a) and its derivative side by side, of one number.

To add one: write both here, and its line in ACTIVATIONS. The derivative is a function of h = g(a),
or of a where NEEDS_A lists the name. `blocks` makes loops of them.
"""

from __future__ import annotations

from typing import Any

from .elementary import (
    at_least,
    at_most,
    exp,
    expm1,
    expm1_one,
    normal_cdf,
    one,
    sigmoid,
    softplus,
    tanh,
    two,
    zero,
)
from .intrinsics import constant, fma, kernel, select

NEEDS_A = ("softplus", "gelu", "silu", "mish")

_leaky_slope = constant(0.01)
_selu_scale, _selu_scale_alpha = constant(1.0507009873554805), constant(1.7580993408473766)
_density_at_0 = constant(0.3989422804014327)  # 1 / sqrt(2 pi)


@kernel
def relu(a):
    return at_least(zero(a), a)


@kernel
def relu_slope(h):
    return select(h > zero(h), one(h), zero(h))


@kernel
def leaky_relu(a):
    return select(a < zero(a), _leaky_slope(a) * a, a)


@kernel
def leaky_relu_slope(h):
    return select(h > zero(h), one(h), _leaky_slope(h))


@kernel
def elu(a):
    negative = expm1(at_most(zero(a), a))
    return select(a < zero(a), negative, a)


@kernel
def elu_slope(h):
    return select(h < zero(h), h + one(h), one(h))


@kernel
def selu(a):  # Klambauer et al., Self-Normalizing Neural Networks (2017)
    negative = _selu_scale_alpha(a) * expm1(at_most(zero(a), a))
    return select(a < zero(a), negative, _selu_scale(a) * a)


@kernel
def selu_slope(h):
    return select(h > zero(h), _selu_scale(h), h + _selu_scale_alpha(h))


@kernel
def sigmoid_slope(h):
    return h * (one(h) - h)


@kernel
def tanh_slope(h):
    return fma(-h, h, one(h))


@kernel
def gelu(a):  # a Phi(a) (Hendrycks and Gimpel, 2016), not its tanh approximation
    cdf, _ = normal_cdf(a)
    return a * cdf


@kernel
def gelu_slope(a):
    cdf, density = normal_cdf(a)
    return fma(a, density * _density_at_0(a), cdf)


@kernel
def silu(a):
    return a * sigmoid(a)


@kernel
def silu_slope(a):
    return sigmoid(a) * fma(a, sigmoid(-a), one(a))


@kernel
def mish(a):  # a tanh(softplus(a)) (Misra, 2019): with s = e^a (e^a + 2), the tanh is s / (s + 2)
    e = exp(at_most(expm1_one(a), a))
    s = e * (e + two(a))
    return a * (s / (s + two(a)))


@kernel
def mish_slope(a):
    a = at_most(expm1_one(a), a)  # from here on 1
    e = exp(a)
    s = e * (e + two(a))
    t = s / (s + two(a))
    t_slope = two(a) / (s + two(a)) * (one(a) + t)  # 1 - t^2 without cancellation
    return fma(a * t_slope, e / (one(a) + e), t)


ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "relu": (relu, relu_slope),
    "leaky_relu": (leaky_relu, leaky_relu_slope),
    "elu": (elu, elu_slope),
    "selu": (selu, selu_slope),
    "sigmoid": (sigmoid, sigmoid_slope),
    "tanh": (tanh, tanh_slope),
    "softplus": (softplus, sigmoid),
    "gelu": (gelu, gelu_slope),
    "silu": (silu, silu_slope),
    "mish": (mish, mish_slope),
}


def takes_a(name: str) -> bool:
    """Whether the derivative is a function of a rather than of h; a user's own is."""
    return name in NEEDS_A or name not in ("identity", *ACTIVATIONS)
