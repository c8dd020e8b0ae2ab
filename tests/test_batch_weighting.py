"""batch_weighting: a step divides gradients and penalties by the sum of its batch's weights."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters

import fastnn

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
# Layers that fit into a vector take a step of their own in the compiled backend.
SIZES = [(4, 3), (4, 40, 3)]


def network(sizes, dtype, backend, **settings):
    return fastnn.MLP(sizes, "tanh", dtype=dtype, backend=backend, **settings)


def fit(net, X, y, **settings):
    return net.fit(X, y, epochs=1, optimizer="sgd", learning_rate=0.1, shuffle=False, **settings)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
def test_steps_by_hand(sizes, weighted, dtype, backend):
    """Two batches, the last one smaller: gradients without penalty, put together in NumPy."""
    X, y = blobs(100)
    weight = np.random.default_rng(1).random(100) if weighted else None
    l2, l1 = 3.0, 0.5
    net = network(sizes, dtype, backend)
    by_hand = network(sizes, "float64", "numpy")
    fit(
        net,
        X,
        y,
        batch_size=64,
        sample_weight=weight,
        l2=l2,
        l1=l1,
        batch_weighting=True,
    )
    scaled = np.ones(100) if weight is None else weight / weight.mean()
    for batch in (slice(0, 64), slice(64, 100)):
        total = scaled[batch].sum()
        # loss_and_gradients takes weights of mean one: sum_t w_t g_t / total
        _, dW, db = by_hand.loss_and_gradients(X[batch], y[batch], sample_weight=scaled[batch])
        W, b = by_hand.weights, by_hand.biases
        new_W = [
            w - 0.1 * (g + (l2 * w + l1 * np.sign(w)) / total) for w, g in zip(W, dW, strict=True)
        ]
        new_b = [c - 0.1 * g for c, g in zip(b, db, strict=True)]
        by_hand.weights, by_hand.biases = new_W, new_b
    assert_close(net, parameters(by_hand), TOLERANCE[dtype])


@pytest.mark.parametrize("sizes", SIZES)
def test_the_loss_is_the_mean_of_the_batches_means(sizes, dtype, backend):
    X, y = blobs(100)
    weight = np.random.default_rng(1).random(100)
    net = network(sizes, dtype, backend)
    expected = 0.0
    for batch in (slice(0, 64), slice(64, 100)):
        loss = net.evaluate(X[batch], y[batch], sample_weight=weight[batch])["loss"]
        expected += loss * (batch.stop - batch.start) / 100
    settings = {"batch_size": 64, "sample_weight": weight, "batch_weighting": True}
    net.fit(X, y, epochs=1, learning_rate=1e-30, shuffle=False, **settings)
    assert net.history["loss"][0] == pytest.approx(expected, rel=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("sizes", SIZES)
def test_a_batch_without_weight_changes_nothing(sizes, backend):
    X, y = blobs(96)
    weight = np.r_[np.zeros(32), np.ones(64)]
    one, other = network(sizes, "float64", backend), network(sizes, "float64", backend)
    fit(one, X, y, batch_size=32, sample_weight=weight, l2=1.0, batch_weighting=True)
    fit(
        other, X[32:], y[32:], batch_size=32, l2=2 / 3, batch_weighting=True
    )  # weights get mean one
    assert np.isfinite(one.history["loss"][0])
    assert_close(one, parameters(other), 1e-12)


def test_weights_of_a_batch_in_parts(compiled_backend):
    """A batch that is too large for one part has one sum of weights."""
    X, y = blobs(6000)
    weight = np.random.default_rng(1).random(6000)
    settings = {"sample_weight": weight, "l2": 1.0, "batch_weighting": True}
    whole = network((4, 40, 3), "float64", compiled_backend)
    fit(whole, X, y, batch_size=None, **settings)
    reference = network((4, 40, 3), "float64", "numpy")
    fit(reference, X, y, batch_size=None, **settings)
    assert_close(whole, parameters(reference), 1e-12)
    assert whole.history["loss"] == pytest.approx(reference.history["loss"])


@pytest.mark.parametrize("sizes", SIZES)
def test_threads_and_instruction_sets_change_no_bit(sizes, dtype, force_isa):
    X, y = blobs(500)
    weight = np.random.default_rng(1).random(500)
    results = []
    for isa in fastnn.available_isas():
        force_isa(isa)
        for n_threads in (1, 2):
            net = network(sizes, dtype, "cython", n_threads=n_threads)
            settings = {"sample_weight": weight, "l2": 0.3, "l1": 0.1, "batch_weighting": True}
            net.fit(X, y, epochs=2, batch_size=32, **settings)
            results.append(b"".join(array.tobytes() for array in parameters(net)))
    assert len(set(results)) == 1


def test_the_penalty_in_the_history_is_counted_once_in_a_batch():
    X, y = blobs(100)
    net = network((4, 3), "float64", "auto")
    settings = {"l2": 2.0, "learning_rate": 1e-30, "batch_size": 32}
    plain = net.fit(X, y, epochs=1, batch_weighting=True, learning_rate=1e-30)["loss"][0]
    history = net.fit(X, y, epochs=1, batch_weighting=True, **settings)
    penalty = sum(float((W**2).sum()) for W in net.weights) * 4 / 100  # 4 batches, 100 samples
    assert history["loss"][0] - plain == pytest.approx(penalty)
