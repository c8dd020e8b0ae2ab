"""The order of an epoch: a permutation, fair, and the same in every backend."""

import itertools

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.network import Network

WORD, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15


@pytest.fixture
def engine(backend):
    return backends.load(backend).Engine(Network((1, 1)), None)


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


def mixed(x):
    """SplitMix64's finalizer, on Python's own integers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


@pytest.mark.parametrize("n", [31, 33, 777, 2**20 + 99])  # about what is done at once, and where
def test_the_order_is_that_of_the_definition(engine, n):
    """Durstenfeld's shuffle, the place below i + 1 from 64 random bits."""
    rows, seed, epoch = np.random.default_rng(0).permutation(n), 2**63, 12
    key = mixed(mixed(seed + GOLDEN & WORD) + epoch & WORD)
    expected = rows.tolist()
    for i in range(n - 1, 0, -1):
        j = mixed(key + i * GOLDEN & WORD) * (i + 1) >> 64
        expected[i], expected[j] = expected[j], expected[i]
    assert engine.shuffled(rows, seed, epoch).tolist() == expected


# ---- an order of one's own ----


def trained(shuffle, **settings):
    rng = np.random.default_rng(0)
    net = fastnn.MLP((3, 4, 2), dtype="float64")
    X, y = rng.normal(size=(20, 3)), rng.integers(0, 2, 20)
    history = net.fit(X, y, batch_size=8, shuffle=shuffle, **settings)
    return net.weights[0].tobytes(), history


def test_a_function_gives_the_order_of_every_epoch():
    asked = []

    def order(epoch):
        asked.append(epoch)
        return np.arange(20)

    assert trained(order, epochs=3)[0] == trained(False, epochs=3)[0]
    assert asked == [1, 2, 3]


def test_it_may_take_a_sample_twice():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, 3)), rng.integers(0, 2, 5)
    rows = [3, 3, 4, 0, 4]
    one, other = (fastnn.MLP((3, 4, 2), dtype="float64") for _ in range(2))
    one.fit(X, y, epochs=2, batch_size=2, shuffle=lambda epoch: np.array(rows, np.int32))
    other.fit(X[rows], y[rows], epochs=2, batch_size=2, shuffle=False)
    assert one.weights[0].tobytes() == other.weights[0].tobytes()
    assert one.history["loss"] == other.history["loss"]


@pytest.mark.parametrize("wrong", [[20] * 20, [-1] * 20, range(19), [], np.zeros((20, 1), int)])
def test_rows_that_are_not_there(wrong):
    with pytest.raises((ValueError, TypeError), match="shuffle"):
        trained(lambda epoch: np.array(wrong, np.int64), epochs=1)


@pytest.mark.parametrize("wrong", [[0.0, 1.0], [True, False], "ab"])
def test_rows_that_are_no_numbers(wrong):
    with pytest.raises(TypeError, match="shuffle"):
        trained(lambda epoch: wrong, epochs=1)


def test_a_fraction_for_validation_would_be_trained_on():
    with pytest.raises(ValueError, match="validation"):
        trained(lambda epoch: np.arange(20), epochs=1, validation=0.2)
