"""The order of an epoch: a permutation, fair, and the same in every backend."""

import itertools

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.network import Network


@pytest.fixture(params=fastnn.available_backends())
def engine(request):
    return backends.load(request.param).Engine(Network((1, 1)), None)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000])
def test_it_is_a_permutation_and_leaves_its_argument_alone(engine, n):
    rows = np.arange(5, 5 + n)
    order = engine.shuffled(rows, 7, 3)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), rows)
    assert np.array_equal(rows, np.arange(5, 5 + n))


def test_seed_and_epoch_both_matter(engine):
    rows, top = np.arange(100), 2**64 - 1
    orders = {
        engine.shuffled(rows, seed, epoch).tobytes()
        for seed, epoch in itertools.product((0, 1, 2, top), (0, 1, 2, top))
    }
    assert len(orders) == 16


def test_every_order_is_equally_likely(engine):
    """4800 epochs over the 24 orders of 4 rows: 200 each, standard deviation 14."""
    counts: dict[bytes, int] = {}
    for epoch in range(4800):
        order = engine.shuffled(np.arange(4), 11, epoch).tobytes()
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert max(abs(count - 200) for count in counts.values()) < 5 * 14


def test_every_backend_has_the_same_order():
    rows = np.random.default_rng(0).permutation(777)
    orders = {
        backends.load(name).Engine(Network((1, 1)), None).shuffled(rows, 2**63, 12).tobytes()
        for name in fastnn.available_backends()
    }
    assert len(orders) == 1
