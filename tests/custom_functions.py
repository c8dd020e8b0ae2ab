"""Users' own activations and losses, as tests use them."""

import math

import numpy as np

import fastnn
from fastnn import custom


@fastnn.activation
def snake(a, frequency=1.0):
    return a + math.sin(frequency * a) ** 2 / frequency


@fastnn.activation
def leaky(a, slope=0.1):
    return a if a > 0 else slope * a


@fastnn.activation
def own_silu(a):
    return a / (1 + math.exp(-a))


@fastnn.activation
def hard_swish(a):
    return a * min(max(a + 3, 0), 6) / 6


@fastnn.activation
def log_of_square(a):
    return np.log1p(a * a)


@fastnn.activation
def own_softplus(a):
    return max(a, 0) + math.log1p(math.exp(-abs(a)))


@fastnn.activation
def bent_identity(a):
    return (math.sqrt(a**2 + 1) - 1) / 2 + a


def _cubic(a):
    return a * a * a


@fastnn.activation
def tanh_gelu(a):
    return 0.5 * a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * _cubic(a))))


fastnn.activation(
    lambda a: 1.7159 * np.tanh(2 * a / 3),
    lambda a: 1.7159 * 2 / 3 * (1 - np.tanh(2 * a / 3) ** 2),
    name="lecun_tanh",
)


@fastnn.activation
def own_mish(a):  # with intermediate results that overflow
    return a * math.tanh(math.log(1 + math.exp(a)))


@fastnn.activation
def hermite(a, degree=3):  # a loop, with numbers that become dual ones in it
    last, h = 1, a
    for i in range(1, int(degree)):
        last, h = h, a * h - i * last
    return h / 10 + last * 0


@fastnn.loss(output="exp")
def tweedie(f, y, power=1.5):
    return f ** (2 - power) / (2 - power) - y * f ** (1 - power) / (1 - power)


@fastnn.loss
def clipped_mse(f, y, limit=1.0):
    d = f - y
    return 0.5 * d * d if abs(d) < limit else 0.5 * limit * limit


@fastnn.loss
def log_cosh(f, y):
    d = abs(f - y)
    return d + math.log1p(math.exp(-2 * d)) - math.log(2)


@fastnn.loss
def own_squared_error(f, y):
    return 0.5 * (f - y) ** 2


ACTIVATIONS = (
    snake,
    snake(frequency=2.5),
    leaky,
    own_silu,
    hard_swish,
    log_of_square,
    own_softplus,
    bent_identity,
    tanh_gelu,
    own_mish,
    hermite,
    custom.find("activation", "lecun_tanh"),
)
LOSSES = (
    (tweedie, "exp"),
    (tweedie(power=1.2), "exp"),
    (clipped_mse(limit=0.8), "identity"),
    (log_cosh, "sigmoid"),
    (own_squared_error, "identity"),
)
