"""Layers that learn at rates of their own, or not at all."""

import numpy as np
import pytest
from conftest import blobs, parameters

import fastnn
from fastnn.optimizers import SGD, Adagrad, Adam, AdamW, Lion, RMSprop

LAYERS = (4, 9, 6, 3)
OPTIMIZERS = [SGD(momentum=0.9, weight_decay=0.1), Adagrad(), RMSprop(), AdamW(), Lion()]


def trained(backend, dtype, factors, optimizer=None, epochs=2, **arguments):
    """Parameters of LAYERS before and after fit."""
    net = fastnn.MLP(LAYERS, "tanh", dtype=dtype, seed=3, backend=backend)
    before, (X, y) = parameters(net), blobs(40)
    settings = {"epochs": epochs, "batch_size": 16, "learning_rate": 0.01, **arguments}
    net.fit(X, y, optimizer=optimizer or Adam(), learning_rate_factors=factors, **settings)
    return before, parameters(net)


def test_each_layer_moves_by_its_factor(backend):
    """The first step of SGD, from gradients that do not depend on the factors."""
    arguments = {"optimizer": SGD(), "epochs": 1, "batch_size": None}
    before, plain = trained(backend, "float64", None, **arguments)
    factors = (0.5, 3.0, 1e-3)
    _, after = trained(backend, "float64", factors, **arguments)
    for start, a, b, factor in zip(before, plain, after, factors * 2, strict=True):
        np.testing.assert_allclose(b - start, factor * (a - start), rtol=1e-9, atol=1e-15)


def test_weight_decay_follows_the_factor(backend):
    net = fastnn.MLP((2, 3), output="identity", dtype="float64", backend=backend)
    net.weights, net.biases = [np.full((3, 2), 2.0)], [np.array([1.0, 2.0, 3.0])]
    net.fit(
        np.zeros((1, 2)),
        [[1.0, 2.0, 3.0]],  # met exactly: no gradient
        epochs=1,
        optimizer=AdamW(weight_decay=0.5),
        learning_rate=0.1,
        learning_rate_factors=[0.4],
    )
    np.testing.assert_allclose(net.weights[0], 2.0 * (1 - 0.1 * 0.4 * 0.5), rtol=1e-15)


def test_factors_of_one_change_no_bit(backend, dtype):
    _, plain = trained(backend, dtype, None)
    _, after = trained(backend, dtype, [1, 1, 1])
    for a, b in zip(plain, after, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.rule.name)
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_frozen_layers_stay_as_they_are(backend, dtype, frozen, optimizer):
    factors = [0.0 if k in frozen else 1.0 for k in range(3)]
    before, after = trained(backend, dtype, factors, optimizer, l2=0.1, l1=0.01)
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        assert (a.tobytes() == b.tobytes()) == (k % 3 in frozen)


@pytest.mark.parametrize("limits", [{}, {"clip_value": 1e-3, "clip_norm": 1e-2}], ids=str)
def test_above_frozen_layers_a_network_learns_as_if_alone(backend, dtype, limits):
    """Fixed layers below are no more than another input, and have no part in a norm."""
    X, y = blobs(200)
    net = fastnn.MLP(LAYERS, "tanh", dtype=dtype, backend=backend)
    below = fastnn.MLP(LAYERS[:3], "tanh", "identity", dtype=dtype, backend=backend)
    below.weights, below.biases = net.weights[:2], net.biases[:2]
    above = fastnn.MLP(LAYERS[2:], dtype=dtype, backend=backend)
    above.weights, above.biases = net.weights[2:], net.biases[2:]
    settings = {"epochs": 3, "batch_size": 32, "optimizer": "adagrad", "learning_rate": 0.01}
    settings |= limits
    net.fit(X, y, learning_rate_factors=(0, 0, 1), **settings)
    above.fit(np.tanh(below.forward(X)), y, **settings)
    tolerance = 1e-12 if dtype == "float64" else 1e-5  # tanh is NumPy's here
    np.testing.assert_allclose(net.weights[2], above.weights[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(net.biases[2], above.biases[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1500, None])
def test_frozen_layers_in_batches_that_come_in_parts(compiled_backend, batch_size):
    X, y = blobs(3000)
    nets = []
    for backend in (compiled_backend, "numpy"):
        net = fastnn.MLP((4, 30, 20, 3), dtype="float64", backend=backend)
        net.fit(X, y, epochs=2, batch_size=batch_size, learning_rate_factors=[0, 2, 0])
        nets.append(parameters(net))
    for a, b in zip(*nets, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_later_fit_trains_all_layers_again(backend):
    X, y = blobs(40)
    net = fastnn.MLP(LAYERS, backend=backend)
    net.fit(X, y, epochs=1, learning_rate_factors=[0, 0, 1])
    before = parameters(net)
    net.fit(X, y, epochs=1)
    assert all((a != b).any() for a, b in zip(before, parameters(net), strict=True))
