"""Two layers that a team has apart (backends/_two_layers.pyx): the bits of one thread."""

import numpy as np
import pytest
from conftest import assert_a_nan_changes_nothing, assert_has, blobs, flat_of

import fastnn
from fastnn import backends
from fastnn.network import ACTIVATIONS, Network
from fastnn.optimizers import OPTIMIZERS, Adam
from fastnn.options import TrainingOptions

# Few enough rows for so many inputs; 203 columns end within panels and within vectors.
LAYERS, BATCH = (190, 203, 3), 50


@pytest.fixture(scope="module")
def data():
    X, y = blobs(n=180, n_in=LAYERS[0])
    X[np.random.default_rng(1).random(X.shape) < 0.4] = 0.0
    return X, y


def trained(data, n_threads, layers=LAYERS, activation="relu", dtype="float32", **settings):
    output = settings.pop("output", "softmax")
    net = fastnn.MLP(layers, activation, output, dtype=dtype, n_threads=n_threads)
    history = net.fit(*data, **{"epochs": 2, "batch_size": BATCH, "learning_rate": 0.01} | settings)
    return flat_of(net), history["loss"]


def assert_same(data, n_threads, *args, **settings):
    weights, loss = trained(data, n_threads, *args, **settings)
    expected, expected_loss = trained(data, 1, *args, **settings)
    assert np.array_equal(weights, expected)
    assert loss == expected_loss


@pytest.mark.parametrize("skip_zeros", ["0", "1"])
@pytest.mark.parametrize("n_threads", [2, 3, 7])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_activation(compiled_backend, data, activation, n_threads, skip_zeros, monkeypatch):
    monkeypatch.setenv("FASTNN_SKIP_ZEROS", skip_zeros)
    assert_same(data, n_threads, activation=activation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_any_optimizer(compiled_backend, data, name, dtype):
    assert_same(data, 2, dtype=dtype, optimizer=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": Adam(), "l2": 1e-2, "l1": 1e-3},
        {"clip_value": 1e-3, "sample_weight": np.linspace(0, 2, 180)},
        {"learning_rate_factors": (2, 0.5)},
        {"label_smoothing": 0.1, "shuffle": False},
        # these go another way
        {"learning_rate_factors": (1, 0)},
        {"learning_rate_factors": (0, 1)},
        {"optimizer": Adam(), "clip_norm": 0.1},
        {"dropout": 0.2},
        {"batch_size": 180},
    ],
    ids=str,
)
def test_any_setting(compiled_backend, data, settings):
    assert_same(data, 2, **settings)


def test_any_output(compiled_backend, data):
    X, y = data
    assert_same((X, (y == 0).astype(float)), 2, (190, 203, 1), output="sigmoid")
    assert_same((X, X[:, :16]), 2, (190, 203, 16), output="identity")
    assert_same((X, X[:, :17]), 2, (190, 203, 17), output="identity")  # goes another way


def test_bytes(compiled_backend):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 3, (180, LAYERS[0]), dtype=np.uint8), rng.integers(0, 3, 180)
    assert_same(data, 2)


def test_more_threads_than_there_are_vectors(compiled_backend):
    assert_same(blobs(n=120, n_in=40), 5, (40, 5, 3), batch_size=20)


def test_batches_of_changing_size_optimizers_and_predictions_between(compiled_backend, data):
    X, y = data
    net, same = (fastnn.MLP(LAYERS, n_threads=n_threads) for n_threads in (3, 1))
    for batch_size, optimizer in ((50, "sgd"), (20, "adam"), (59, "sgd"), (7, "adam")):
        for one in (net, same):
            one.fit(X, y, epochs=1, batch_size=batch_size, optimizer=optimizer)
        assert np.array_equal(net.forward(X), same.forward(X))
        assert_has(net, flat_of(same))


def test_calls_that_the_clock_ends(compiled_backend, data):
    """Each does some steps, all threads the same ones."""
    X, y = data
    order, y = np.arange(len(X)), y.astype(np.int32)
    ends = []
    for n_threads, seconds in ((3, 0.0), (1, np.inf)):
        engine = backends.load("cython").Engine(Network((190, 203, 3)), n_threads)
        engine.set_parameters(np.linspace(-0.1, 0.1, engine.network.n_parameters, dtype=np.float32))
        engine.start(TrainingOptions(Adam(), "cross_entropy"))
        for _ in range(20):
            position = calls = 0
            while position < len(X):
                rates = np.full(18 - position // 10, 0.01)
                position, _ = engine.train(X, y, None, order, position, 10, rates, seconds)
                calls += 1
        flat = np.empty(engine.network.n_parameters, np.float32)
        engine.get_parameters(flat)
        ends.append((flat, calls))
    assert ends[0][1] > ends[1][1] == 1
    assert np.array_equal(ends[0][0], ends[1][0])


def test_a_nan_in_x(compiled_backend, data):
    assert_a_nan_changes_nothing(LAYERS, *data, BATCH)
