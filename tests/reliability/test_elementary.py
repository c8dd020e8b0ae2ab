"""The errors of exp, tanh and the other functions that kernels compute by polynomials."""

import functools

import mpmath
import numpy as np
import pytest
from scipy.special import erfc

from fastnn.backends import _numpy_activations
from fastnn.network import ACTIVATIONS
from reliability.elementary import (
    BELOW,
    CHUNK,
    FASTEST_FIRST,
    FUNCTIONS,
    Errors,
    check_not_finite,
    kernel,
    measure,
    measure_all,
    same_bits,
    without_denormals,
)

# What docs/reliability.md promises: the largest errors, (g, g'), over all float32 inputs.
MAX_ULPS = {
    "identity": (0, 0), "relu": (0, 0), "leaky_relu": (1, 0.1), "elu": (1, 0.5), "selu": (2, 1.5),
    "sigmoid": (2.5, 1), "tanh": (2.5, 1.6), "softplus": (3, 1), "gelu": (6, 1.6),
    "silu": (3.5, 2), "mish": (5, 2), "exp": (1.5, 1.5),
}  # fmt: skip
# Of the float64 functions, over the samples below.
MAX_ULPS_FLOAT64 = {
    "identity": (0, 0), "relu": (0, 0), "leaky_relu": (1, 1), "elu": (2, 1), "selu": (3, 2),
    "sigmoid": (3, 1), "tanh": (3, 2), "softplus": (3, 1), "gelu": (5, 2), "silu": (4, 2),
    "mish": (5, 2), "exp": (2, 2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_warnings():
    with np.errstate(all="ignore"):
        yield


def edges(dtype):
    """Every number within 50 of the places where a function's code goes another way."""
    info = np.finfo(dtype)
    places = [info.tiny, 1.0, 0.5 * np.log(2), np.log(2), 1.5 * np.log(2), 3.0, 9.0, 13.0, 20.0]
    places += [40.0, 60.0, 87.0, 87.5, 88.7, 89.0, 103.0, 104.0, 708.0, 710.0, 745.0, 746.0, 1e6]
    integer = {"float32": np.int32, "float64": np.int64}[dtype]
    bits = np.array(places, dtype).view(integer)[:, np.newaxis] + np.arange(-50, 51, dtype=integer)
    near = bits.ravel().view(dtype)
    largest = np.array([info.max, info.max / 2, info.smallest_subnormal, 0.0], dtype)
    return np.concatenate([near, -near, largest, -largest])


def reference(name, a):
    """g(a) and g'(a) by the textbook in NumPy's float64."""
    if name == "gelu":  # the backend's own takes one number at a time
        cdf = 0.5 * erfc(a * -(0.5**0.5))
        return a * cdf, cdf + a * np.exp(-0.5 * a * a) / (2 * np.pi) ** 0.5
    if name == "exp":
        return np.exp(a), np.exp(a)
    g, g_prime = _numpy_activations.ACTIVATIONS[name]
    return g(a), g_prime(a)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_functions(name, tally):
    """Float32 functions and their derivatives keep to the documented error, with the same bits on
    every instruction set: sampled, and the edges."""
    every = np.arange(0, 2**32, 8209, dtype=np.uint32).view(np.float32)
    every = every[np.isfinite(every)]
    errors = functools.reduce(
        Errors.__or__,
        (measure(name, a, FASTEST_FIRST, reference)
         for a in (*np.array_split(every, len(every) // CHUNK), edges("float32"))),
    )  # fmt: skip
    assert errors.g[0] <= MAX_ULPS[name][0]
    assert errors.slope[0] <= MAX_ULPS[name][1]
    tally("inputs", errors.n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_nan_and_infinity(name, dtype, tally):
    """An activation hands NaN on; at infinity it has its limit, or NaN for 0 times infinity."""
    for sign in (1, -1):
        a = sign * np.array([np.inf, np.nan] * 20, dtype)
        tally("inputs", check_not_finite(name, a, FASTEST_FIRST).n)


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_float32(name, tally):
    """Float32 functions and their derivatives keep to the documented error, with the same bits on
    every instruction set: all 2**32 inputs."""
    errors = measure_all(name)
    assert errors.g[0] <= MAX_ULPS[name][0]
    assert errors.slope[0] <= MAX_ULPS[name][1]
    tally("inputs", errors.n)


# ---- float64, against mpmath ----


def exact(name, a):
    """g(a) and g'(a) of an mpf."""
    mp = mpmath
    e = mp.exp(a)
    sigmoid = 1 / (1 + mp.exp(-a))
    if name == "identity":
        return a, 1
    if name == "exp":
        return e, e
    if name in ("relu", "leaky_relu"):
        slope = 1 if a > 0 else mp.mpf("0.01") if name == "leaky_relu" else 0
        return slope * a, slope
    if name in ("elu", "selu"):
        alpha = 1 if name == "elu" else mp.mpf("1.6732632423543772848170429916717")
        scale = 1 if name == "elu" else mp.mpf("1.0507009873554804934193349852946")
        return (scale * a, scale) if a > 0 else (scale * alpha * mp.expm1(a), scale * alpha * e)
    if name == "sigmoid":
        return sigmoid, sigmoid / (1 + e)
    if name == "tanh":
        return mp.tanh(a), mp.sech(a) ** 2
    if name == "softplus":
        return mp.log1p(e), sigmoid
    if name == "gelu":
        cdf = mp.erfc(-a / mp.sqrt(2)) / 2
        return a * cdf, cdf + a * mp.exp(-a * a / 2) / mp.sqrt(2 * mp.pi)
    if name == "silu":
        return a * sigmoid, sigmoid * (1 + a / (1 + e))
    t = mp.tanh(mp.log1p(e))
    return a * t, t + a * sigmoid * mp.sech(mp.log1p(e)) ** 2


def ulps(given, value, least):
    """|given - value| in ulp of `value`, an mpf, or of `least` where it is smaller."""
    size = max(abs(value), least)
    return float(abs(mpmath.mpf(float(given)) - value) / float(np.spacing(float(size))))


def samples(n):
    rng = np.random.default_rng(0)
    sizes = 2.0 ** rng.uniform(-70, 11, n // 2) * rng.choice([-1, 1], n // 2)
    return np.concatenate([sizes, rng.uniform(-40, 40, n - n // 2), edges("float64")[::7]])


@pytest.mark.parametrize("n", [300, pytest.param(50_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_float64_functions(name, n, tally):
    """Float64 functions and their derivatives keep to the documented error against mpmath, with the
    same bits on every instruction set: sampled, and the edges."""
    a = samples(n)
    (h, slope), *others = (kernel(name, a, isa) for isa in FASTEST_FIRST)
    least = BELOW * np.finfo(np.float64).tiny
    worst = [0.0, 0.0]
    with mpmath.workdps(40):
        for a_i, h_i, slope_i in zip(without_denormals(a), h, slope, strict=True):
            g, g_prime = exact(name, mpmath.mpf(float(a_i)))
            if abs(g) < least:
                assert abs(h_i) <= least
            elif abs(g) <= np.finfo(np.float64).max:
                worst[0] = max(worst[0], ulps(h_i, g, least))
            else:
                assert h_i == np.inf
            if abs(g_prime) <= np.finfo(np.float64).max:
                worst[1] = max(worst[1], ulps(slope_i, g_prime, 1.0))
    for h_other, slope_other in others:
        assert same_bits(h, h_other)
        assert same_bits(slope, slope_other)
    assert worst[0] <= MAX_ULPS_FLOAT64[name][0]
    assert worst[1] <= MAX_ULPS_FLOAT64[name][1]
    tally("inputs", len(a))
