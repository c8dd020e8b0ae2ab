"""How far the kernels' functions are from the exact ones. In the folder tests,

    python -m reliability.elementary

tries all 2**32 float32 inputs and prints the table of docs/reliability.md.

The error of g is in units in the last place (ulp) of the exact value. That of g' is in ulp of 1, or
of g' where that is larger: it is one factor of a gradient, often made from h by a subtraction,
which loses digits where g' is near zero, but no accuracy. Denormal numbers count as zero in the
kernels, on the way too: where |g| is below 1024 times the smallest normal number, g may be 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any
from unittest import mock

import numpy as np

import fastnn
from fastnn.backends import _cython
from fastnn.network import ACTIVATIONS

Array = np.ndarray[Any, Any]
Functions = Callable[[str, Array], tuple[Array, Array]]  # name, a -> g(a), g'(a)

CHUNK = 1 << 13  # inputs at a time: what is made of them stays in the second-level cache
BELOW = 1024  # times the smallest normal number: where g may be 0
# The slow scalar code takes part in every so many chunks.
EVERY_SCALAR = 16
FASTEST_FIRST = fastnn.available_isas()[::-1]
FUNCTIONS = (*ACTIVATIONS, "exp")


@dataclass(frozen=True)
class Errors:
    """The largest, each with the input where it was met; and the number of inputs."""

    g: tuple[float, float] = (0.0, 0.0)
    slope: tuple[float, float] = (0.0, 0.0)
    n: int = 0

    def __or__(self, other: Errors) -> Errors:
        return Errors(max(self.g, other.g), max(self.slope, other.slope), self.n + other.n)


def kernel(name: str, a: Array, isa: str = FASTEST_FIRST[0]) -> tuple[Array, Array]:
    """g(a) and g'(a) as the compiled backend computes them, for 1-D a."""
    if name == "exp":
        f = exp_network(a.dtype.name, isa).forward(a[:, np.newaxis])[:, 0]
        return f, f
    h, slope = _cython.activate(name, a, isa)
    return h, slope


@cache
def exp_network(dtype: str, isa: str) -> fastnn.MLP:
    """f(x) = e^x; it takes finite x only."""
    net = fastnn.MLP((1, 1), output="exp", dtype=dtype, backend="cython", n_threads=1)
    net.weights = [np.ones((1, 1))]
    with mock.patch.dict(os.environ, FASTNN_ISA=isa):
        net.forward([[0.0]])  # the engine is made here
    return net


def without_denormals(a: Array) -> Array:
    return a * (np.abs(a) >= np.finfo(a.dtype).tiny)


def same_bits(a: Array, b: Array) -> bool:
    """A denormal number is a zero: relu's code may or may not hand it on."""
    return a.tobytes() == b.tobytes() or (
        without_denormals(a).tobytes() == without_denormals(b).tobytes()
    )


def errors_in_ulps(given: Array, exact: Array, least: float) -> Array:
    """|given - exact| in ulp of `exact`, but at least in those of `least`; both in float64."""
    info = np.finfo(given.dtype)
    size = np.maximum(np.abs(exact), least)
    binade = (size.view(np.int64) & np.int64(0x7FF << 52)).view(np.float64)
    errors = np.abs(given - exact) / binade * (1 / float(info.eps))
    beyond = size > float(info.max)
    if beyond.any():
        errors[beyond & np.isinf(given)] = 0
    return np.asarray(errors)


def measure(name: str, a: Array, isas: Sequence[str], reference: Functions = kernel) -> Errors:
    """The errors of the first instruction set over finite float32 inputs a, 1-D; the others must
    have its bits. `reference` takes and gives float64; by default the float64 kernels, which are
    good to a few times 1e-16 (test_elementary.py)."""
    (h, slope), *others = (kernel(name, a, isa) for isa in isas)
    for h_other, slope_other in others:
        assert same_bits(h, h_other), f"g of {name}: other bits"
        assert same_bits(slope, slope_other), f"g' of {name}: other bits"
    exact, exact_slope = reference(name, without_denormals(a).astype(np.float64))
    least = BELOW * float(np.finfo(a.dtype).tiny)
    large = np.abs(exact) >= least
    assert ((np.abs(h) <= least) | large).all(), f"{name} is not near 0"
    g = errors_in_ulps(h, exact, least) * large
    of_slope = errors_in_ulps(slope, exact_slope, 1.0)
    i, j = int(g.argmax()), int(of_slope.argmax())
    return Errors((float(g[i]), float(a[i])), (float(of_slope[j]), float(a[j])), len(a))


def check_not_finite(name: str, a: Array, isas: Sequence[str]) -> Errors:
    """NaN for NaN; at infinity the limit, or NaN where a formula has 0 times infinity."""
    for isa in isas:
        h, _ = kernel(name, a, isa)
        assert np.isnan(h[np.isnan(a)]).all(), f"{name} loses NaN"
        limit = kernel(name, np.full(1, np.copysign(np.finfo(a.dtype).max, a[0])), isa)[0]
        at_infinity = h[np.isinf(a)]
        as_limit = (at_infinity == limit) | ((np.abs(limit) > 1e30) & (at_infinity / limit > 0))
        assert (np.isnan(at_infinity) | as_limit).all(), f"{name} at infinity"
    return Errors(n=len(a))


def measure_chunk(name: str, chunk: int) -> Errors:
    """Of the float32 whose bits are CHUNK consecutive numbers: all finite, or none."""
    a = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK, dtype=np.uint32).view(np.float32)
    isas = [isa for isa in FASTEST_FIRST if isa != "scalar" or chunk % EVERY_SCALAR == 0]
    if np.isfinite(a[-1]):
        return measure(name, a, isas)
    return Errors() if name == "exp" else check_not_finite(name, a, isas)


def measure_chunks(name: str, chunks: range) -> Errors:
    return reduce(Errors.__or__, (measure_chunk(name, chunk) for chunk in chunks))


def measure_all(name: str) -> Errors:
    """Over all 2**32 inputs, on as many threads as there are cores; takes minutes."""
    for isa in FASTEST_FIRST:
        kernel(name, np.zeros(1), isa)  # before there are threads
    n, many = 2**32 // CHUNK, 1024
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = (range(first, first + many) for first in range(0, n, many))
        return reduce(Errors.__or__, pool.map(partial(measure_chunks, name), parts))


def main() -> None:
    print("| Function | g: ulp | at | g': ulp of 1 | at | inputs |")
    print("|---|---|---|---|---|---|")
    for name in FUNCTIONS:
        errors = measure_all(name)
        (g, a), (slope, b) = errors.g, errors.slope
        print(f"| {name} | {g:.2f} | {a:.8g} | {slope:.2f} | {b:.8g} | {errors.n:,} |", flush=True)


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
