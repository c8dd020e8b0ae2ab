"""Batches of more rows than a backend takes at a time: nothing lost, nothing counted twice."""

import numpy as np
import pytest
from conftest import ISAS

import fastnn
from fastnn import backends
from fastnn.network import Network
from fastnn.optimizers import SGD, AdamW, RMSprop
from fastnn.options import TrainingOptions

ROWS = 2500  # the compiled backend takes 1024 of them at a time
NETWORK = Network((30, 21, 50), "tanh", "softmax", "float64")
OPTIMIZERS = [SGD(momentum=0.9), RMSprop(momentum=0.5), AdamW()]


def data():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(ROWS, 30)), rng.integers(0, 50, ROWS).astype(np.int32)
    return X, y, rng.random(ROWS)


def prepared(backend, n_threads=None):
    engine = backends.load(backend).Engine(NETWORK, n_threads)
    engine.set_parameters(NETWORK.initialize(1))
    return engine


# Limits that every step exceeds; and places in the epoch that go on from part to part.
OPTIONS = {
    "plain": {},
    "dropout": {"dropout": (0.2, 0.5), "seed": 2},
    "clipped": {"clip_value": 1e-3, "clip_norm": 1e-2},
}


def trained(engine, optimizer, seconds, batch_size=ROWS, epochs=2, options="plain"):
    """Parameters and losses after some epochs, in calls of about `seconds`."""
    X, y, w = data()
    order, losses, calls = np.random.default_rng(4).permutation(ROWS), [], 0
    engine.start(TrainingOptions(optimizer, "cross_entropy", l2=0.01, l1=0.001, **OPTIONS[options]))
    for epoch in range(epochs):
        position, total = 0, 0.0
        while position < ROWS:
            before = position
            position, sum_of_losses = engine.train(
                X, y, w, order, position, batch_size, np.full(ROWS, 0.1), seconds, epoch=epoch
            )
            assert before < position <= ROWS
            total += sum_of_losses
            calls += 1
        losses.append(total)
    flat = np.empty(NETWORK.n_parameters)
    engine.get_parameters(flat)
    return flat, losses, calls


@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_loss_and_gradients_sum_over_all_rows(backend):
    X, y, w = data()
    objective, gradient = prepared(backend).loss_and_gradients(X, y, w, "cross_entropy", 0.1, 0.01)
    expected = [
        prepared("numpy").loss_and_gradients(X[part], y[part], w[part], "cross_entropy", 0.1, 0.01)
        for part in (slice(0, 1250), slice(1250, None))
    ]
    assert objective == pytest.approx((expected[0][0] + expected[1][0]) / 2, rel=1e-12)
    assert np.allclose(gradient, (expected[0][1] + expected[1][1]) / 2, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.rule.name)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_full_batch_descent_agrees_with_the_reference(backend, optimizer, options):
    flat, losses, _ = trained(prepared(backend), optimizer, 10.0, options=options)
    expected, expected_losses, _ = trained(prepared("numpy"), optimizer, 10.0, options=options)
    assert np.allclose(flat, expected, rtol=1e-9, atol=1e-12)
    assert losses == pytest.approx(expected_losses, rel=1e-12)


@pytest.mark.compiled
@pytest.mark.parametrize("batch_size", [1100, ROWS])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.rule.name)
def test_calls_that_end_inside_a_step_change_no_bit(optimizer, batch_size, options):
    whole, _, few = trained(prepared("cython"), optimizer, 10.0, batch_size, options=options)
    for n_threads in (1, 2, 3):
        engine = prepared("cython", n_threads)
        pieces, _, many = trained(engine, optimizer, 0.0, batch_size, options=options)
        assert many > few
        assert np.array_equal(whole, pieces)


def run_through(engine, X, y, w, order, batch_size):
    """In as many calls as it takes; the sum of the losses."""
    position, total = 0, 0.0
    while position < len(order):
        position, total = engine.train(
            X, y, w, order, position, batch_size, np.full(9, 0.1), 10.0, sum_of_losses=total
        )
    return total


@pytest.mark.compiled
@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
@pytest.mark.parametrize("row", [0, 300, 1300, ROWS - 1])
def test_a_part_that_is_not_finite_ends_the_call(n_threads, row):
    """Whichever thread finds it: no other one waits for sums that will not come."""
    X, y, w = data()
    X[row, 7] = np.nan
    engine, order = prepared("cython", n_threads), np.arange(ROWS)
    before, after = np.empty((2, NETWORK.n_parameters))
    engine.get_parameters(before)
    engine.start(TrainingOptions(SGD(), "cross_entropy"))
    with pytest.raises(ValueError, match="NaN"):
        run_through(engine, X, y, w, order, ROWS)
    engine.get_parameters(after)
    assert np.array_equal(before, after)


@pytest.mark.compiled
@pytest.mark.parametrize("batch_size", [2100, 9000], ids=["parts of a block", "of two blocks"])
@pytest.mark.parametrize("isa", ISAS)
def test_threads_in_turns_leave_no_trace(force_isa, isa, batch_size):
    """In calls of several steps, a smaller last batch, and rows that weigh nothing."""
    force_isa(isa)
    X, y, w = data()
    w[::3] = 0

    def run(n_threads):
        engine = prepared("cython", n_threads)
        engine.start(TrainingOptions(AdamW(), "cross_entropy", l2=0.1, batch_weighting=True))
        order = np.resize(np.arange(ROWS), 3 * batch_size - 900)
        total = run_through(engine, X, y, w, order, batch_size)
        flat = np.empty(NETWORK.n_parameters)
        engine.get_parameters(flat)
        return flat, total

    expected, expected_total = run(1)
    for n_threads in (2, 3, 4):
        flat, total = run(n_threads)
        assert total == expected_total
        assert np.array_equal(flat, expected)
