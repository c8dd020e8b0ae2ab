"""Dropout: what is dropped, that it is random enough, that what is left is trained right.

The reference's `dropout_factors`, s, are 0 or 1 / (1 - p) for every element; every backend must use
exactly the same ones. Sums of random signs are asked to lie within 4 standard deviations; nothing
here is random from run to run.
"""

import math

import numpy as np
import pytest
from conftest import parameters

import fastnn
from fastnn import backends
from fastnn.backends import _numpy_activations as reference
from fastnn.backends._numpy_random import dropout_factors
from fastnn.network import ACTIVATIONS, Network
from fastnn.optimizers import SGD
from fastnn.options import TrainingOptions

RATES = (0.01, 0.2, 0.5, 0.9)


def one_step(backend, network, flat, X, y, position=0, epoch=0, **options):
    """How far one step of SGD with rate 1 moves the parameters, which is the gradient.

    The step's samples are X, at `position` and on of the epoch's order; the loss is squared error.
    """
    engine = backends.load(backend).Engine(network, 1)
    engine.set_parameters(flat)
    engine.start(TrainingOptions(SGD(), "squared_error", **options))
    order = np.concatenate([np.zeros(position, np.int64), np.arange(len(X))])
    engine.train(X, y, None, order, position, len(X), np.ones(1), 10.0, 1, epoch=epoch)
    moved = np.empty_like(flat)
    engine.get_parameters(moved)
    return flat - moved


# ---- what is dropped ----

# (layers, rates), the last rate being the one that is looked at
SEEN = [
    ((131, 29), (0.2,)),
    ((29, 131, 29), (0.0, 0.01)),
    ((29, 7, 29), (0.0, 0.5)),
    ((29, 29, 65, 29), (0.0, 0.0, 0.9)),
]


def seen_factors(backend, dtype, layers, rates, position, epoch, seed):
    """s of the last hidden layer, or of the input, for 29 samples: (29, width), from one gradient.

    Without s that h is 1 everywhere. The output is 0, and y the identity matrix: delta is -1/29 for
    each sample in a place of its own, so that dW of the output layer is s / -29.
    """
    network = Network(layers, "identity", "identity", dtype)
    flat = np.zeros(network.n_parameters, dtype)
    W, _ = network.views(flat)
    X = np.ones((29, layers[0])) if len(layers) == 2 else np.eye(29)
    for k in range(len(layers) - 2):
        last = k == len(layers) - 3
        W[k][...] = np.ones(W[k].shape) if last else np.eye(29)
    g = one_step(
        backend,
        network,
        flat,
        X,
        np.eye(29, dtype=dtype),
        position,
        epoch,
        dropout=rates,
        seed=seed,
    )
    return -29 * network.views(g)[0][-1]


@pytest.mark.parametrize(("position", "epoch", "seed"), [(0, 0, 0), (70_001, 3, 2**64 - 1)])
@pytest.mark.parametrize(("layers", "rates"), SEEN, ids=str)
def test_every_backend_drops_the_same(backend, dtype, layers, rates, position, epoch, seed):
    s = seen_factors(backend, dtype, layers, rates, position, epoch, seed)
    layer = len(layers) - 2
    expected = dropout_factors(
        seed, epoch, layer, rates[-1], np.arange(position, position + 29), layers[-2]
    )
    assert np.array_equal(s > 0, expected > 0)
    np.testing.assert_allclose(s, expected, rtol=4 * np.finfo(dtype).eps)
    assert set(np.unique(expected)) == {0.0, 1 / (1 - rates[-1])}


def test_extreme_rates(backend, dtype):
    """So close to 0 or 1 that 32 bits can hardly say it."""
    for rate, is_kept in ((1e-12, True), (1 - 1e-12, False)):
        s = seen_factors(backend, dtype, (29, 65, 29), (0.0, rate), 0, 0, 1)
        assert np.array_equal(s > 0, np.full(s.shape, is_kept))


# ---- that it is random ----


def signs(seed=1, epoch=2, layer=1, rate=0.5, n=2000, width=500):
    """Kept or not as numbers of mean 0 and variance 1, if the rate is right, (n, width)."""
    kept = dropout_factors(seed, epoch, layer, rate, np.arange(n), width) > 0
    return (kept - (1 - rate)) / math.sqrt(rate * (1 - rate))


def sigmas(x):
    """The sum of x in standard deviations of a sum of as many independent signs."""
    return abs(x.sum()) / math.sqrt(x.size)


@pytest.mark.parametrize("rate", RATES)
def test_keep_rate(rate):
    for layer in range(4):
        assert sigmas(signs(layer=layer, rate=rate)) < 4


@pytest.mark.parametrize("rate", RATES)
def test_neighbours_are_independent(rate):
    x = signs(rate=rate)
    for lag in (1, 2, 3, 4, 8, 16, 48):
        assert sigmas(x[:, lag:] * x[:, :-lag]) < 4
        assert sigmas(x[lag:] * x[:-lag]) < 4
    assert sigmas(x[1:, 1:] * x[:-1, :-1]) < 4
    assert sigmas(x[:, 2:] * x[:, 1:-1] * x[:, :-2]) < 4


@pytest.mark.parametrize("rate", RATES)
def test_epochs_layers_and_seeds_are_independent(rate):
    x = signs(rate=rate)
    for other in ({"epoch": 3}, {"layer": 2}, {"seed": 2}, {"seed": 2, "epoch": 1}):
        assert sigmas(x * signs(rate=rate, **other)) < 4


@pytest.mark.parametrize("rate", RATES)
def test_means_of_activations_stay(rate):
    """E[h s] = h, with a standard deviation of h sqrt(rate / (1 - rate)) for one mask."""
    rng = np.random.default_rng(0)
    h = np.tanh(rng.normal(size=(4000, 300)))
    for layer in range(3):
        s = dropout_factors(5, 7, layer, rate, np.arange(4000), 300)
        sigma = math.sqrt(np.square(h).sum() * rate / (1 - rate))
        assert abs((h * s).sum() - h.sum()) < 4 * sigma


# ---- that it is trained right ----


def masked_loss(network, flat, X, y, s):
    """The mean squared error of the dropped network, from the formulas alone."""
    h = X
    names = (*network.activations, "identity")
    for k, (W, b, name) in enumerate(zip(*network.views(flat), names, strict=True)):
        h = reference.ACTIVATIONS[name][0]((h * s[k]) @ W.T + b)
    return 0.5 * np.square(h - y).sum() / len(X)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_against_central_differences(backend, activation):
    """Steps of 1e-6 and no pre-activation this near a kink: off by 1e-9 at most (see
    test_gradients.py), and a wrong mask or factor is off by 0.1."""
    network = Network((3, 6, 5, 2), activation, "identity", "float64")
    rng = np.random.default_rng(3)
    flat = network.initialize(3) + rng.normal(0, 0.3, network.n_parameters)
    X, y, rates = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), (0.2, 0.4, 0.5)
    s = [
        dropout_factors(8, 6, k, rate, np.arange(17, 22), network.layer_sizes[k])
        for k, rate in enumerate(rates)
    ]
    slopes = np.empty_like(flat)
    for i in range(len(flat)):
        step = np.zeros_like(flat)
        step[i] = 1e-6
        J = [masked_loss(network, flat + sign * step, X, y, s) for sign in (1, -1)]
        slopes[i] = (J[0] - J[1]) / 2e-6
    given = one_step(backend, network, flat, X, y, 17, 6, dropout=rates, seed=8)
    assert np.abs(given - slopes).max() < 1e-7 * np.abs(slopes).max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_agrees_with_the_reference(compiled_backend, activation):
    """Wide enough that zeros are left out, and several blocks of rows."""
    network = Network((110, 130, 120, 3), activation, "identity", "float64")
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(300, 110)), rng.normal(size=(300, 3))
    flat = network.initialize(4)
    for rates in ((0.0, 0.2, 0.2), (0.3, 0.0, 0.6)):
        given, expected = (
            one_step(name, network, flat, X, y, 5, 1, dropout=rates, seed=9)
            for name in (compiled_backend, "numpy")
        )
        assert np.abs(given - expected).max() < 1e-12 * np.abs(expected).max()


# ---- in fit ----


def data(n=90, n_in=20, n_classes=4):
    rng = np.random.default_rng(2)
    return rng.normal(size=(n, n_in)), rng.integers(0, n_classes, n)


def trained(backend, dropout, epochs=2, layers=(20, 33, 18, 4), activation="relu", **settings):
    """A network after fit."""
    net = fastnn.MLP(layers, activation, seed=6, backend=backend, dtype="float64")
    X, y = data(n_in=layers[0])
    net.fit(X, y, epochs=epochs, batch_size=16, dropout=dropout, **settings)
    return net


def assert_same_bits(net, other):
    for a, b in zip(parameters(net), parameters(other), strict=True):
        assert a.tobytes() == b.tobytes()


def test_rate_zero_has_the_bits_of_no_dropout(backend):
    net = fastnn.MLP((20, 33, 18, 4), seed=6, backend=backend, dtype="float64")
    net.fit(*data(), epochs=2, batch_size=16)
    for dropout in (0, 0.0, (0, 0, 0), [0.0, 0.0, 0.0], np.zeros(3)):
        assert_same_bits(trained(backend, dropout), net)


def test_one_number_is_for_hidden_layers_only(backend):
    assert_same_bits(trained(backend, 0.25), trained(backend, (0.0, 0.25, 0.25)))


def test_the_input_of_a_network_without_hidden_layers(backend):
    nets = [trained(backend, dropout, layers=(20, 4)) for dropout in ((0.5,), 0.0)]
    assert not np.array_equal(nets[0].weights[0], nets[1].weights[0])


def test_epochs_go_on_in_the_next_fit(backend):
    """SGD has no state, so two fits of an epoch are one of two: the same numbers in the second."""
    net = trained(backend, 0.3, epochs=2, optimizer="sgd")
    other = trained(backend, 0.3, epochs=1, optimizer="sgd")
    other.fit(*data(), epochs=1, batch_size=16, dropout=0.3, optimizer="sgd")
    assert_same_bits(net, other)


def test_another_seed_drops_others(backend):
    """The same weights and order of samples, no more."""
    weights = []
    for seed in (1, 2):
        net = fastnn.MLP((20, 33, 4), seed=seed, backend=backend)
        net.weights = [np.full(W.shape, 0.1) for W in net.weights]
        net.fit(*data(), epochs=1, batch_size=16, dropout=0.5, shuffle=False)
        weights.append(net.weights[0])
    assert not np.array_equal(*weights)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_absent_where_nothing_is_trained(backend, activation):
    """Validation during the run and everything after it see the whole network."""
    X, y = data()
    net = trained(
        backend, (0.2, 0.5, 0.5), epochs=1, activation=activation, validation=(X[:40], y[:40])
    )
    whole = fastnn.MLP((20, 33, 18, 4), activation, backend=backend, dtype="float64")
    whole.weights, whole.biases = net.weights, net.biases
    assert net.forward(X).tobytes() == whole.forward(X).tobytes()
    assert net.history["val_loss"] == [whole.evaluate(X[:40], y[:40])["loss"]]
    value, dW, _ = net.loss_and_gradients(X, y)
    expected, expected_dW, _ = whole.loss_and_gradients(X, y)
    assert value == expected
    assert np.array_equal(dW[0], expected_dW[0])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu"])
def test_zeros_left_out_or_not_the_bits_are_the_same(
    compiled_backend, dtype, monkeypatch, activation
):
    X, y = fastnn.datasets.load_digits_subset()[:2]
    for dropout in (0.2, (0.2, 0.5, 0.6)):
        bits = set()
        for skip in "01":
            monkeypatch.setenv("FASTNN_SKIP_ZEROS", skip)
            net = fastnn.MLP((784, 130, 100, 10), activation, dtype=dtype, backend=compiled_backend)
            net.fit(X[:300], y[:300], epochs=2, batch_size=130, dropout=dropout)
            bits.add(b"".join(array.tobytes() for array in parameters(net)))
        assert len(bits) == 1


def test_a_network_without_hidden_layers_has_none_to_drop():
    net = fastnn.MLP((20, 4))
    with pytest.raises(ValueError, match=r"this network has none; give \(p_input,\)"):
        net.fit(*data(), dropout=0.5)
    net.fit(*data(), epochs=1, dropout=0.0)
