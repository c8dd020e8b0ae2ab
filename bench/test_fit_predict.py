"""fit and forward of every network in bench/networks.py on every backend. Run: pytest bench

Groups put the backends of one network side by side. Extra fields: samples per second, GFLOP/s.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import fastnn
from bench.networks import CASES, Case, make_data

FIT_FLOPS = 1e9  # per round: enough to train steadily, little enough for a slow backend
BATCHES = (1, 4096)

networks = list({case.network: case for case in CASES}.values())
by_backend = pytest.mark.parametrize("backend", fastnn.available_backends())


@cache
def data(layer_sizes: tuple[int, ...], n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first samples of the case's data."""
    return make_data(Case(layer_sizes, 1, "sgd", n))


def note(benchmark, n_samples: int, flops_per_sample: float) -> None:
    """Adds rates to the report."""
    if benchmark.stats:  # not with --benchmark-disable
        rate = n_samples / benchmark.stats["median"]
        benchmark.extra_info["samples_per_second"] = round(rate)
        benchmark.extra_info["gflops"] = round(rate * flops_per_sample / 1e9, 3)


@by_backend
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fit(benchmark, case, backend):
    steps = max(2, round(FIT_FLOPS / (case.flops_per_sample * case.batch_size)))
    n = min(case.n_samples, steps * case.batch_size)
    X, y = data(case.layer_sizes, n)
    net = fastnn.MLP(case.layer_sizes, activation=case.activation, backend=backend)
    benchmark.group = f"fit {case.name}"
    history = benchmark.pedantic(
        net.fit,
        (X, y),
        {
            "epochs": 1,
            "batch_size": case.batch_size,
            "optimizer": case.optimizer,
            "learning_rate": case.learning_rate,
        },
        rounds=5,
        warmup_rounds=1,
    )
    assert np.isfinite(history["loss"]).all()
    note(benchmark, n, case.flops_per_sample)


@by_backend
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("case", networks, ids=lambda case: case.network)
def test_forward(benchmark, case, batch, backend):
    X, _ = data(case.layer_sizes, batch)
    net = fastnn.MLP(case.layer_sizes, activation=case.activation, backend=backend)
    benchmark.group = f"forward {case.network} batch {batch}"
    f = benchmark(net.forward, X)
    assert np.allclose(f.sum(axis=1), 1, atol=1e-5)
    note(benchmark, batch, case.forward_flops_per_sample)
