"""Products, with their zeros and without: GFLOP/s and share of the FMA peak. Run: pytest bench

Every product of training (h W, delta W, hT delta) and shape, on every instruction set of this CPU,
in float32 and float64, on one core, the operands packed beforehand, as training has them. The peak
is measured in the same run, for the same instruction set and dtype.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fastnn.backends import _cython

# (m, k, n) of C[m, n] = A[m, k] B[k, n]: forward products of the networks in bench/networks.py,
# which also stand for their dh and dW, and odd sizes that leave partial tiles everywhere.
SHAPES = (
    (4, 2, 8),
    (32, 64, 64),
    (32, 784, 128),
    (128, 784, 128),
    (128, 784, 512),
    (256, 256, 256),
    (256, 1024, 1024),
    (512, 2048, 2048),
    (101, 203, 307),
)

# There are hundreds of cases: a fraction of a second each.
pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=3)


@cache
def peak(dtype: str, isa: str) -> float:
    """GFLOP/s of one core, once a run."""
    return _cython.fma_peak(1, dtype, isa)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", _cython.available_isas())
@pytest.mark.parametrize("product", ["forward", "dh", "dW"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_product(benchmark, shape, product, isa, dtype):
    m, k, n = shape
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    benchmark.group = f"{product} {m}x{k}x{n} {dtype}"
    packed = _cython.Product(A, B, product, isa)
    benchmark(packed.run)
    C = packed.result()
    bound = 2 * k * np.finfo(dtype).eps / 2 * (abs(A) @ abs(B))
    assert (abs(C - A @ B) <= bound).all()
    if benchmark.stats:  # not with --benchmark-disable
        gflops = 2e-9 * m * k * n / benchmark.stats["median"]
        benchmark.extra_info["gflops"] = round(gflops, 2)
        benchmark.extra_info["share_of_peak"] = round(gflops / peak(dtype, isa), 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", _cython.available_isas())
@pytest.mark.parametrize("product", ["forward", "dh", "dW"])
@pytest.mark.parametrize("nonzero", [0.2, 0.5], ids=lambda share: f"{share:.0%} not zero")
@pytest.mark.parametrize(
    "shape", [(128, 784, 128), (256, 1024, 1024)], ids=lambda shape: "x".join(map(str, shape))
)
def test_product_without_zeros(benchmark, shape, nonzero, product, isa, dtype):
    """Counted are the multiply-adds that are left, of zeros that lie here and there in A."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    A[rng.random(A.shape) >= nonzero] = 0
    benchmark.group = f"{product} {m}x{k}x{n} {dtype}, {nonzero:.0%} not zero"
    packed = _cython.Product(A, B, product, isa, skip_zeros=True)
    benchmark(packed.run)
    assert (packed.result() == product_of(A, B, product, isa)).all()
    if benchmark.stats:
        gflops = 2e-9 * np.count_nonzero(A) * n / benchmark.stats["median"]
        benchmark.extra_info["gflops"] = round(gflops, 2)
        benchmark.extra_info["share_of_peak"] = round(gflops / peak(dtype, isa), 3)


def product_of(A, B, product, isa):
    packed = _cython.Product(A, B, product, isa)
    packed.run()
    return packed.result()
