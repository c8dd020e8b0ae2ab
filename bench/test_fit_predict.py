"""fit and forward of every row in bench/networks.py on every backend. Run: pytest bench

Groups put the backends of one row side by side. Extra fields: samples per second, GFLOP/s.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import fastnn
from bench.networks import CASES, PREDICTIONS, Case, make_data

FIT_FLOPS = 1e9  # per round: enough to train steadily, little enough for a slow backend
FIT_ROUNDS = 3

# A whole run is to take minutes, so no case may take more than a second or two.
pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=3)
by_backend = pytest.mark.parametrize("backend", fastnn.available_backends())


@cache
def data(layer_sizes: tuple[int, ...], output: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n samples of the row's kind."""
    return make_data(Case(layer_sizes, 1, "sgd", n, output=output))


def network(case: Case, backend: str) -> fastnn.MLP:
    """The row's network with its first weights."""
    return fastnn.MLP(case.layer_sizes, case.activation, case.output, backend=backend)


def note(benchmark, n_samples: int, flops_per_sample: float) -> None:
    """Adds rates to the report."""
    if benchmark.stats:  # not with --benchmark-disable
        rate = n_samples / benchmark.stats["median"]
        benchmark.extra_info["samples_per_second"] = round(rate)
        benchmark.extra_info["gflops"] = round(rate * flops_per_sample / 1e9, 3)


@by_backend
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fit(benchmark, case, backend):
    steps = max(1, round(FIT_FLOPS / (case.flops_per_sample * case.batch_size)))
    n = min(case.n_samples, steps * case.batch_size)
    X, y = data(case.layer_sizes, case.output, n)
    benchmark.group = f"fit {case.name}"
    history = benchmark.pedantic(
        network(case, backend).fit,
        (X, y),
        {
            "epochs": 1,
            "batch_size": case.batch_size,
            "optimizer": case.optimizer,
            "learning_rate": case.learning_rate,
            "shuffle": case.shuffled,
        },
        rounds=FIT_ROUNDS,
        warmup_rounds=1,
    )
    assert np.isfinite(history["loss"]).all()
    note(benchmark, n, case.flops_per_sample)


@by_backend
@pytest.mark.parametrize("case", PREDICTIONS, ids=lambda case: case.name.replace(" ", "-"))
def test_forward(benchmark, case, backend):
    X, _ = data(case.layer_sizes, case.output, case.batch_size)
    benchmark.group = case.name
    f = benchmark(network(case, backend).forward, X)
    assert f.shape == (case.batch_size, case.layer_sizes[-1])
    assert np.isfinite(f).all()
    if case.output == "softmax":
        assert np.allclose(f.sum(axis=1), 1, atol=1e-5)
    note(benchmark, case.batch_size, case.flops_per_sample)
