"""MLP: shapes and types of what it returns, copies, pickles, summary, first weights, import."""

import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import targets
from sklearn.metrics import accuracy_score, r2_score

import fastnn
from fastnn.backends._numpy_activations import ACTIVATIONS as FORMULAS
from fastnn.network import (
    ACTIVATIONS,
    INITIALIZER_OF_ACTIVATION,
    INITIALIZERS,
    LOSS_OF_OUTPUT,
    OUTPUTS,
    Network,
)

N = 7
X = np.random.default_rng(0).normal(size=(N, 3))


# ---- shapes and types ----


@pytest.mark.parametrize("n_out", [1, 2, 5])
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_prediction_returns(backend, dtype, output, n_out):
    net = fastnn.MLP((3, 4, n_out), "tanh", output, dtype=dtype, backend=backend)
    f, predicted = net.forward(X), net.predict(X)
    assert f.shape == (N, n_out)
    assert f.dtype == dtype
    classes = output in ("softmax", "sigmoid")
    assert predicted.dtype == (np.int64 if classes else dtype)
    flat = output == "softmax" or n_out == 1
    assert predicted.shape == ((N,) if flat else (N, n_out))
    if output == "softmax":
        np.testing.assert_array_equal(predicted, f.argmax(axis=1))
        np.testing.assert_allclose(f.sum(axis=1), 1.0, rtol=1e-6)
    elif output == "sigmoid":
        np.testing.assert_array_equal(predicted.reshape(f.shape), f > 0.5)
    else:
        np.testing.assert_array_equal(predicted.reshape(f.shape), f)


@pytest.mark.parametrize("n_out", [1, 3])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_probabilities(backend, dtype, output, n_out):
    net = fastnn.MLP((3, n_out), output=output, dtype=dtype, backend=backend)
    p = net.predict_proba(X)
    assert p.dtype == dtype
    assert p.shape == ((N, 2) if (output, n_out) == ("sigmoid", 1) else (N, n_out))
    if p.shape[1] == 2:
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-6)
        np.testing.assert_array_equal(p.argmax(axis=1), net.predict(X))


def test_no_hidden_layer_is_one_product(backend):
    net = fastnn.MLP((3, 2), output="identity", dtype="float64", backend=backend)
    np.testing.assert_allclose(net.forward(X), X @ net.weights[0].T + net.biases[0], rtol=1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_what_their_names_say(backend, dtype, activation):
    """One input, one neuron of weight 1, output weight 1: f is g itself."""
    net = fastnn.MLP((1, 1, 1), activation, "identity", dtype=dtype, backend=backend)
    net.weights = [[[1.0]], [[1.0]]]
    erf = np.vectorize(math.erf)
    a = np.linspace(-30, 30, 1201)
    softplus, sigmoid = np.logaddexp(0, a), 1 / (1 + np.exp(-a))
    expected = {
        "identity": a,
        "relu": a * (a > 0),
        "leaky_relu": np.where(a > 0, a, 0.01 * a),
        "elu": np.where(a > 0, a, np.exp(a) - 1),
        "selu": 1.0507009873554805 * np.where(a > 0, a, 1.6732632423543772 * (np.exp(a) - 1)),
        "sigmoid": sigmoid,
        "tanh": np.tanh(a),
        "softplus": softplus,
        "gelu": 0.5 * a * (1 + erf(a / math.sqrt(2))),
        "silu": a * sigmoid,
        "mish": a * np.tanh(softplus),
    }[activation]
    f = net.forward(a[:, np.newaxis])[:, 0]
    np.testing.assert_allclose(f, expected, rtol=3e-6, atol=1e-6 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_out_and_at_zero(backend, dtype, activation):
    net = fastnn.MLP((1, 1, 1), activation, "identity", dtype=dtype, backend=backend)
    net.weights = [[[1.0]], [[1.0]]]
    a = np.array([[-1e4], [-100.0], [-0.0], [0.0], [100.0], [1e4]])
    with np.errstate(all="raise", under="ignore"):
        f = net.forward(a)
    assert np.isfinite(f).all()
    np.testing.assert_allclose(f, FORMULAS[activation][0](a), rtol=1e-5, atol=1e-30)
    _, dW, db = net.loss_and_gradients(a, np.zeros((6, 1)))
    assert all(np.isfinite(g).all() for g in dW + db)


def test_gradient_of_relu_at_zero_is_zero(backend, dtype):
    net = fastnn.MLP((1, 1, 1), "relu", "identity", dtype=dtype, backend=backend)
    net.weights = [[[1.0]], [[1.0]]]
    _, dW, db = net.loss_and_gradients([[0.0]], [1.0])
    assert dW[0] == db[0] == 0.0
    assert db[1] == -1.0


@pytest.mark.parametrize("output", OUTPUTS)
def test_loss_and_gradients_returns_shapes_of_the_parameters(backend, dtype, output):
    net = fastnn.MLP((3, 4, 2), "tanh", output, dtype=dtype, backend=backend)
    value, dW, db = net.loss_and_gradients(X, targets(LOSS_OF_OUTPUT[output], N, 2))
    assert isinstance(value, float)
    assert [g.shape for g in dW + db] == [a.shape for a in net.weights + net.biases]
    assert all(g.dtype == dtype for g in dW + db)


# ---- evaluate ----


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_as_scikit_learn_counts(backend, weighted):
    w = np.arange(N) + 0.5 if weighted else None
    net = fastnn.MLP((3, 3), dtype="float64", backend=backend)
    y = np.arange(N) % 3
    result = net.evaluate(X, y, sample_weight=w)
    assert set(result) == {"loss", "accuracy"}
    assert result["accuracy"] == pytest.approx(accuracy_score(y, net.predict(X), sample_weight=w))
    p = net.forward(X)[np.arange(N), y]
    assert result["loss"] == pytest.approx(np.average(-np.log(p), weights=w))

    net = fastnn.MLP((3, 4), output="sigmoid", dtype="float64", backend=backend)
    y = net.predict(X)
    y[::2, 1] ^= 1
    result = net.evaluate(X, y, sample_weight=w)
    assert result["accuracy"] == pytest.approx(accuracy_score(y, net.predict(X), sample_weight=w))

    net = fastnn.MLP((3, 2), output="identity", dtype="float64", backend=backend)
    y = net.predict(X) + np.random.default_rng(1).normal(size=(N, 2))
    result = net.evaluate(X, y, sample_weight=w)
    assert set(result) == {"loss", "r2"}
    assert result["r2"] == pytest.approx(r2_score(y, net.predict(X), sample_weight=w))
    squares = 0.5 * ((net.predict(X) - y) ** 2).sum(axis=1)
    assert result["loss"] == pytest.approx(np.average(squares, weights=w))


def test_r2_of_constant_targets_and_of_one_sample(backend):
    net = fastnn.MLP((3, 1), output="identity", backend=backend)
    net.weights, net.biases = [[[0.0, 0.0, 0.0]]], [[2.0]]
    assert net.evaluate(X, np.full(N, 2.0))["r2"] == 1.0
    assert net.evaluate(X, np.full(N, 3.0))["r2"] == 0.0
    assert math.isnan(net.evaluate(X[:1], [2.0])["r2"])


def test_evaluate_with_another_loss(backend):
    net = fastnn.MLP((3, 1), output="sigmoid", dtype="float64", backend=backend)
    y = np.arange(N) % 2
    result = net.evaluate(X, y, loss="squared_error")
    assert result["loss"] == pytest.approx((0.5 * (net.forward(X)[:, 0] - y) ** 2).mean())


# ---- weights ----


def test_assigning_copies_in(backend, dtype):
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    before = net.forward(X)
    W = [np.ones((4, 3)), np.asfortranarray(np.ones((2, 4), dtype=np.int8))]
    net.weights = W
    W[0][...] = 7.0
    assert (net.weights[0] == 1.0).all()
    assert all(w.dtype == dtype for w in net.weights)
    net.biases = ([1, 2, 3, 4], [5, 6])
    assert net.biases[1].tolist() == [5.0, 6.0]
    assert not np.array_equal(net.forward(X), before)
    a = np.maximum(X @ np.ones((3, 4)) + [1, 2, 3, 4], 0) @ np.ones((4, 2)) + [5, 6]
    p = np.exp(a - a.max(axis=1, keepdims=True))
    np.testing.assert_allclose(net.forward(X), p / p.sum(axis=1, keepdims=True), rtol=1e-5)


def test_weights_are_views_that_follow_the_training(backend):
    net = fastnn.MLP((3, 2), backend=backend)
    W = net.weights[0]
    before = W.copy()
    net.fit(X, np.arange(N) % 2, epochs=1)
    assert not np.array_equal(W, before)
    np.testing.assert_array_equal(W, net.weights[0])


def test_prediction_sees_new_weights_at_once(backend):
    net = fastnn.MLP((3, 2), output="identity", dtype="float64", backend=backend)
    for value in (1.0, 2.0, 3.0):
        net.weights = [np.full((2, 3), value)]
        np.testing.assert_allclose(
            net.forward(X), value * X.sum(axis=1, keepdims=True).repeat(2, axis=1), rtol=1e-13
        )


# ---- copies and text ----


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_independent_and_complete(backend, dtype, copied):
    net = fastnn.MLP((3, 4, 2), dtype=dtype, seed=4, backend=backend, n_threads=2)
    net.fit(X, np.arange(N) % 2, epochs=2)
    twin = copied(net)
    assert repr(twin) == repr(net)
    assert twin.history == net.history
    assert twin.epochs_trained == 2
    np.testing.assert_array_equal(twin.forward(X), net.forward(X))
    with pytest.raises(ValueError, match="read-only"):
        twin.weights[0][0, 0] = 1.0
    before, entries = net.weights[0].copy(), len(net.history["loss"])
    twin.fit(X, np.arange(N) % 2, epochs=5)
    np.testing.assert_array_equal(net.weights[0], before)
    assert len(net.history["loss"]) == entries


def test_a_model_can_be_copied_and_saved_by_a_callback(backend, tmp_path):
    net = fastnn.MLP((3, 4, 2), backend=backend)
    copies = []

    def keep(run):
        copies.append(copy.deepcopy(run.net))
        run.net.save(tmp_path / f"{run.epoch}")

    net.fit(X, np.arange(N) % 2, epochs=2, callbacks=keep)
    for k, twin in enumerate(copies, 1):
        assert twin.epochs_trained == k
        loaded = fastnn.load(tmp_path / str(k), backend=backend)
        np.testing.assert_array_equal(loaded.weights[0], twin.weights[0])
    np.testing.assert_array_equal(copies[-1].weights[0], net.weights[0])


def test_summary_and_repr():
    net = fastnn.MLP((784, 128, 10), dtype="float64", backend="numpy")
    summary = net.summary()
    for text in ("(128, 784)", "relu", "100,480", "(10, 128)", "softmax", "1,290", "101,770"):
        assert text in summary
    assert f"{101_770 * 8:,} bytes" in summary
    assert net.n_parameters == 101_770
    assert "(784, 128, 10)" in repr(net)


# ---- the network and its first weights ----


def test_network_counts():
    network = Network((784, 128, 10))
    assert (network.n_layers, network.n_in, network.n_out) == (2, 784, 10)
    assert network.n_parameters == 784 * 128 + 128 + 128 * 10 + 10
    assert network.flops_per_sample == 6 * (784 * 128 + 128 * 10) - 2 * 784 * 128
    with pytest.raises(AttributeError):
        network.output = "exp"
    assert network == Network([784, 128, 10], ["relu"], "softmax", np.float32)
    assert len({network, Network((784, 128, 10))}) == 1


def test_views_cover_the_buffer_in_order():
    network = Network((3, 4, 2))
    flat = np.arange(network.n_parameters, dtype=np.float32)
    W, b = network.views(flat)
    assert [a.shape for a in W] == [(4, 3), (2, 4)]
    joined = np.concatenate([W[0].ravel(), b[0], W[1].ravel(), b[1]])
    np.testing.assert_array_equal(joined, flat)
    assert all(np.shares_memory(a, flat) and a.flags.c_contiguous for a in W + b)
    with pytest.raises(ValueError, match=r"flat has shape \(3,\), expected \(26,\)"):
        network.views(np.zeros(3))


@pytest.mark.parametrize("initializer", INITIALIZERS[1:])
def test_variances_of_the_first_weights(initializer):
    """60,000 draws: the variance's own standard deviation is below 0.6 %, so 3 % is five of it."""
    n_in, n_out = 300, 200
    expected = {
        "glorot": 2 / (n_in + n_out),
        "he": 2 / n_in,
        "lecun": 1 / n_in,
    }[initializer.split("_")[0]]
    network = Network((n_in, n_out), dtype="float64")
    W, b = network.views(network.initialize(0, initializer))
    assert W[0].var() == pytest.approx(expected, rel=0.03)
    assert abs(W[0].mean()) < 5 * math.sqrt(expected / W[0].size)
    largest = np.abs(W[0]).max() / math.sqrt(expected)
    assert largest < math.sqrt(3) if initializer.endswith("uniform") else largest > 3
    assert not b[0].any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_takes_the_initializer_of_the_activation(activation):
    network = Network((20, 30, 5), activation)
    W = network.views(network.initialize(3))[0]
    named = network.views(network.initialize(3, INITIALIZER_OF_ACTIVATION[activation]))[0]
    np.testing.assert_array_equal(W[0], named[0])
    assert W[1].std() == pytest.approx(math.sqrt(2 / 35), rel=0.2)


def test_first_weights_are_a_function_of_the_seed():
    network = Network((20, 30, 5))
    assert network.initialize(3).tobytes() == network.initialize(3).tobytes()
    assert network.initialize(3).tobytes() != network.initialize(4).tobytes()
    assert network.initialize(2**64 - 1).any()
    wide = Network((20, 30, 5), dtype="float64").initialize(3)
    np.testing.assert_array_equal(wide.astype(np.float32), network.initialize(3))


# ---- wrong networks ----

WRONG_NETWORKS = {
    "activation": ({"activation": "swish"}, ValueError, f"known: {', '.join(ACTIVATIONS)}"),
    "output": ({"output": "linear"}, ValueError, f"unknown output 'linear'; known: {OUTPUTS[0]}"),
    "dtype": ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'; known: float32, float64"),
    "dtype nonsense": ({"dtype": "fast"}, ValueError, "unknown dtype 'fast'"),
    "initializer": (
        {"initializer": "zeros"},
        ValueError,
        "unknown initializer 'zeros'; known: auto",
    ),
    "activations": ({"activation": ("relu", "tanh")}, ValueError, "2 activations for 1 hidden"),
    "seed": ({"seed": -1}, ValueError, "seed must be an integer of at least 0"),
    "seed text": ({"seed": "now"}, TypeError, "seed must be an integer"),
    "one size": ({"layer_sizes": (3,)}, ValueError, "layer_sizes must name at least"),
    "size 0": ({"layer_sizes": (3, 0, 2)}, ValueError, "each of size 1 or more"),
    "size 1.5": ({"layer_sizes": (3, 1.5, 2)}, TypeError, "layer_sizes must be a sequence"),
    "a number": ({"layer_sizes": 3}, TypeError, "layer_sizes must be a sequence"),
}


@pytest.mark.parametrize("case", WRONG_NETWORKS)
def test_wrong_networks(case):
    arguments, error, message = WRONG_NETWORKS[case]
    with pytest.raises(error, match=message):
        fastnn.MLP(**({"layer_sizes": (3, 4, 2)} | arguments))


# ---- the package ----


def test_import_loads_next_to_nothing():
    """`import fastnn`, then `fastnn.MLP` and a fit: which modules come along."""
    code = """
import json, sys
before = set(sys.modules)
import fastnn
first = set(sys.modules) - before
net = fastnn.MLP((2, 2))
net.fit([[0.0, 1.0]], [1], epochs=1)
net.predict([[0.0, 1.0]])
print(json.dumps([sorted(first), sorted(set(sys.modules) - before)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, later = (set(names) for names in json.loads(done.stdout))
    assert {name for name in first if name.startswith("fastnn")} == {"fastnn"}
    assert "numpy" not in first
    assert "fastnn.mlp" in later
    heavy = ("rich", "safetensors", "numba", "sklearn", "scipy", "torch", "pandas", "matplotlib")
    assert not {name for name in later if name.partition(".")[0] in heavy}


def test_every_public_name_is_there():
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None
    assert sorted(dir(fastnn)) == sorted(fastnn.__all__)
    assert isinstance(fastnn.__version__, str)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        fastnn.nothing  # noqa: B018
