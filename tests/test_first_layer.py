"""The first layer shared out by columns (backends/_first_layer.pyx): the bits of one thread.

test_same_bits.py has more networks that go this way; here is what is particular to it.
"""

import numpy as np
import pytest
from conftest import assert_a_nan_changes_nothing, assert_has, blobs, flat_of

import fastnn
from fastnn.network import ACTIVATIONS
from fastnn.optimizers import Adam

# So wide and its batches so small that it pays; 203 columns end within panels and within vectors.
LAYERS, BATCH = (190, 203, 33, 3), 60


@pytest.fixture(scope="module")
def data():
    X, y = blobs(n=200, n_in=LAYERS[0])
    X[np.random.default_rng(1).random(X.shape) < 0.4] = 0.0
    return X, y


def trained(data, n_threads, activation="relu", **settings):
    net = fastnn.MLP(LAYERS, activation=activation, n_threads=n_threads)
    net.fit(*data, epochs=2, batch_size=BATCH, learning_rate=0.01, **settings)
    return flat_of(net)


@pytest.mark.parametrize("skip_zeros", ["0", "1"])
@pytest.mark.parametrize("n_threads", [2, 3, 7])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_activation(compiled_backend, data, activation, n_threads, skip_zeros, monkeypatch):
    monkeypatch.setenv("FASTNN_SKIP_ZEROS", skip_zeros)
    assert np.array_equal(trained(data, n_threads, activation), trained(data, 1, activation))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": Adam(), "l2": 1e-2, "l1": 1e-3},
        {"optimizer": Adam(), "clip_norm": 0.1},
        {"clip_value": 1e-3, "sample_weight": np.linspace(0, 2, 200)},
        {"learning_rate_factors": (1, 0, 2)},
        {"dropout": 0.2},
    ],
    ids=str,
)
def test_any_setting(compiled_backend, data, settings):
    assert np.array_equal(trained(data, 2, **settings), trained(data, 1, **settings))


def test_bytes(compiled_backend):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (200, LAYERS[0]), dtype=np.uint8), rng.integers(0, 3, 200)
    assert np.array_equal(trained((X, y), 2), trained((X, y), 1))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_whole_panels_in_batches_of_many_rows(compiled_backend, n_threads):
    layer_sizes = (30, 288, 5, 3)  # 96 columns or more each: whole panels of any instruction set
    X, y = blobs(n=900, n_in=layer_sizes[0])
    nets = [fastnn.MLP(layer_sizes, n_threads=n) for n in (n_threads, 1)]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=400, l2=1e-3)
    assert_has(nets[0], flat_of(nets[1]))


def test_a_batch_in_parts(compiled_backend):
    X, y = blobs(n=2100, n_in=20)
    nets = [fastnn.MLP((20, 2500, 3), n_threads=n_threads) for n_threads in (1, 2)]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=2100)
    assert_has(nets[1], flat_of(nets[0]))


def test_batches_of_changing_size_and_prediction_between(compiled_backend, data):
    X, y = data
    net, same = (fastnn.MLP(LAYERS, n_threads=n_threads) for n_threads in (3, 1))
    for batch_size in (60, 20, 101, 200):
        for one in (net, same):
            one.fit(X, y, epochs=1, batch_size=batch_size)
        assert np.array_equal(net.forward(X), same.forward(X))
        assert_has(net, flat_of(same))


def test_gradients(compiled_backend, data):
    X, y = data
    nets = [fastnn.MLP(LAYERS, n_threads=n_threads) for n_threads in (1, 3)]
    expected, given = (net.loss_and_gradients(X[:50], y[:50], l2=0.1) for net in nets)
    assert expected[0] == given[0]
    for arrays, others in zip(expected[1:], given[1:], strict=True):
        for array, other in zip(arrays, others, strict=True):
            assert np.array_equal(array, other)


def test_a_nan_in_x(compiled_backend, data):
    assert_a_nan_changes_nothing(LAYERS, *data, BATCH)
