"""train_on_batch: the steps of fit, one by one."""

import pickle

import numpy as np
import pytest
from conftest import blobs, parameters

import fastnn
from fastnn.optimizers import OPTIMIZERS

SETTINGS = {"loss": "cross_entropy", "l2": 0.01, "clip_norm": 1.0}


def made(**settings):
    return fastnn.MLP((4, 8, 3), "tanh", seed=1, **settings)


def bits(net):
    return b"".join(array.tobytes() for array in parameters(net))


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "lbfgs"])
def test_the_same_bits_as_fit(backend, dtype, optimizer):
    X, y = blobs(n=60)
    net, expected = made(backend=backend, dtype=dtype), made(backend=backend, dtype=dtype)
    history = expected.fit(
        X, y, epochs=2, batch_size=20, shuffle=False, optimizer=optimizer, **SETTINGS
    )
    for _ in range(2):
        losses = [
            net.train_on_batch(X[i : i + 20], y[i : i + 20], optimizer=optimizer, **SETTINGS)
            for i in range(0, 60, 20)
        ]
    assert bits(net) == bits(expected)
    W = np.concatenate([W.ravel() for W in net.weights])
    penalty = 0.005 * np.square(W, dtype=np.float64).sum()
    rtol = 1e-5 if dtype == "float32" else 1e-12
    assert np.mean(losses) + penalty == pytest.approx(history["loss"][-1], rel=rtol)


def test_the_state_goes_on_only_where_it_belongs():
    """Adam's first two steps: anything in between that changes the weights starts it anew."""
    X, y = blobs(n=20)
    two = made()
    two.train_on_batch(X, y)
    middle = parameters(two)
    two.train_on_batch(X, y)

    def second_step(between, **settings):
        net = made()
        net.train_on_batch(X, y)
        between(net)
        net.train_on_batch(X, y, **settings)
        return bits(net)

    def assign(net):
        net.weights = [W + 0 for W in middle[:2]]

    assert second_step(lambda net: net.predict(X)) == bits(two)
    assert second_step(assign) == bits(two)  # the same weights: nothing has changed
    assert second_step(lambda net: None, learning_rate=0.1) != bits(two)
    anew = second_step(lambda net: net.train_on_batch(X, y, optimizer="sgd", learning_rate=1e-12))
    assert anew != bits(two)


def test_a_copy_begins_anew():
    X, y = blobs(n=20)
    net = made()
    net.train_on_batch(X, y)
    copy = pickle.loads(pickle.dumps(net))
    assert bits(copy) == bits(net)
    net.train_on_batch(X, y)
    copy.train_on_batch(X, y)
    assert bits(copy) != bits(net)


def test_sample_weights_are_taken_as_they_are(backend):
    X, y = blobs(n=20)
    net, double = made(backend=backend), made(backend=backend)
    loss = net.train_on_batch(X, y, optimizer="sgd", learning_rate=0.2)
    weights = np.full(20, 2.0)
    twice = double.train_on_batch(X, y, weights, optimizer="sgd", learning_rate=0.1)
    assert twice == pytest.approx(2 * loss, rel=1e-6)
    for a, b in zip(parameters(net), parameters(double), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_errors_leave_the_weights(backend):
    X, y = blobs(n=20)
    net = made(backend=backend)
    net.train_on_batch(X, y)
    before = bits(net)
    with pytest.raises(ValueError, match="NaN"):
        net.train_on_batch(np.full_like(X, np.nan), y)
    with pytest.raises(fastnn.DivergenceError):
        net.train_on_batch(X * 1e18, y, np.full(20, 1e30), learning_rate=1e30, optimizer="sgd")
    with pytest.raises(ValueError, match="LBFGS"):
        net.train_on_batch(X, y, optimizer="lbfgs")
    with pytest.raises(ValueError, match="learning_rate"):
        net.train_on_batch(X, y, learning_rate=0)
    assert bits(net) == before
    net.train_on_batch(X, y)
    assert bits(net) != before


@pytest.mark.parametrize("n", [20, 3000])  # 3000: a step in several parts, the last one bad
def test_errors_leave_the_state_of_the_optimizer(backend, n):
    X, y = blobs(n=n)
    bad = X.copy()
    bad[-1, 0] = np.nan
    net, twin = made(backend=backend), made(backend=backend)
    for model in (net, twin):
        model.train_on_batch(X, y, optimizer="adam")
    for optimizer in ("adam", "sgd"):  # going on from the state, and beginning another
        with pytest.raises(ValueError, match="NaN"):
            net.train_on_batch(bad, y, optimizer=optimizer)
    with pytest.raises(fastnn.DivergenceError):
        net.train_on_batch(X * 1e18, y, np.full(n, 1e30), learning_rate=1e30, optimizer="sgd")
    for model in (net, twin):
        model.train_on_batch(X, y, optimizer="adam")
    assert bits(net) == bits(twin)


def test_divergence_ends_the_state_it_went_on_from(backend):
    X, y = blobs(n=20)
    net, twin = made(backend=backend), made(backend=backend)
    momentum = {"optimizer": fastnn.optimizers.SGD(momentum=0.9)}
    net.train_on_batch(X, y, **momentum)
    twin.weights, twin.biases = net.weights, net.biases
    with pytest.raises(fastnn.DivergenceError):
        net.train_on_batch(X * 1e18, y, np.full(20, 1e30), learning_rate=1e30, **momentum)
    for model in (net, twin):
        model.train_on_batch(X, y, **momentum)
    assert bits(net) == bits(twin)
