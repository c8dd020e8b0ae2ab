"""Gradient clipping: closed forms, PyTorch, and limits that are not reached."""

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters

import fastnn
from fastnn.optimizers import SGD, Adam

LIMITS = {
    "value": {"clip_value": 0.02},
    "norm": {"clip_norm": 0.1},
    "both": {"clip_value": 0.02, "clip_norm": 0.1},
}


def after_one_step(backend, dtype, X, y, **settings):
    """W and b of a linear network, 2-3, whose parameters were all 1, after SGD with rate 1."""
    net = fastnn.MLP((2, 3), output="identity", dtype=dtype, backend=backend)
    net.weights, net.biases = [np.ones((3, 2))], [np.ones(3)]
    net.fit(X, y, epochs=1, batch_size=None, optimizer="sgd", learning_rate=1.0, **settings)
    return net.weights[0], net.biases[0]


# One sample x = (1, -4): f = 1 + 1 - 4 = -2 for every output, delta = f - y = (1, -0.5, 0).
X, Y = [[1.0, -4.0]], [[-3.0, -1.5, -2.0]]
DW = np.array([[1.0, -4.0], [-0.5, 2.0], [0.0, 0.0]])
DB = np.array([1.0, -0.5, 0.0])


def test_by_value(backend, dtype):
    W, b = after_one_step(backend, dtype, X, Y, clip_value=0.75)
    np.testing.assert_array_equal(W, 1 - np.array([[0.75, -0.75], [-0.5, 0.75], [0.0, 0.0]]))
    np.testing.assert_array_equal(b, 1 - np.array([0.75, -0.5, 0.0]))


def test_by_norm(backend, dtype):
    """The norm is over weights and biases: 1 + 16 + 1/4 + 4 + 1 + 1/4 = 22.5."""
    W, b = after_one_step(backend, dtype, X, Y, clip_norm=2.0)
    scale = 2.0 / (np.sqrt(22.5) + 1e-6)
    np.testing.assert_allclose(W, 1 - scale * DW, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(b, 1 - scale * DB, rtol=4 * np.finfo(dtype).eps)


def test_by_value_first_and_then_by_norm(backend):
    """What is left by value has the norm sqrt(3 * 0.75^2 + 0.5^2 + 0.75^2 + 0.5^2)."""
    W, b = after_one_step(backend, "float64", X, Y, clip_value=0.75, clip_norm=0.25)
    scale = 0.25 / (np.sqrt(4 * 0.75**2 + 2 * 0.5**2) + 1e-6)
    np.testing.assert_allclose(W, 1 - scale * np.clip(DW, -0.75, 0.75), rtol=1e-14)
    np.testing.assert_allclose(b, 1 - scale * np.clip(DB, -0.75, 0.75), rtol=1e-14)


def test_penalties_and_sample_weights_are_part_of_the_gradient(backend):
    """A second sample with weight 0 leaves half of the mean, and the first one's weight is 2."""
    twice = {"X": [*X, [9.0, 9.0]], "y": [*Y, [0.0, 0.0, 0.0]], "sample_weight": [1.0, 0.0]}
    W, b = after_one_step(backend, "float64", **twice, l2=0.5, l1=0.25, clip_value=0.6)
    np.testing.assert_array_equal(W, 1 - np.clip(DW + 0.75, -0.6, 0.6))
    np.testing.assert_array_equal(b, 1 - np.clip(DB, -0.6, 0.6))
    W, b = after_one_step(backend, "float64", **twice, l2=0.5, l1=0.25, clip_norm=0.6)
    scale = 0.6 / (np.sqrt(np.square(DW + 0.75).sum() + np.square(DB).sum()) + 1e-6)
    np.testing.assert_allclose(W, 1 - scale * (DW + 0.75), rtol=1e-14)
    np.testing.assert_allclose(b, 1 - scale * DB, rtol=1e-14)


def test_squares_beyond_the_type(backend):
    """A gradient whose square float32 cannot hold still has a norm."""
    net = fastnn.MLP((1, 1), output="identity", backend=backend)
    net.weights = [[[0.0]]]
    net.fit([[1e25]], [1.0], epochs=1, optimizer="sgd", learning_rate=1.0, clip_norm=0.5)
    assert net.weights[0] == pytest.approx(0.5)
    assert net.biases[0] == pytest.approx(0.5e-25)


# ---- whole trainings ----


def trained(backend, dtype, optimizer, layers=(4, 49, 18, 3), **settings):
    X, y = blobs()
    net = fastnn.MLP(layers, "tanh", dtype=dtype, seed=2, backend=backend)
    net.fit(X, y, epochs=2, batch_size=25, optimizer=optimizer, learning_rate=0.05, **settings)
    return net


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9, nesterov=True), Adam()], ids=str)
@pytest.mark.parametrize("layers", [(4, 49, 18, 3), (4, 8, 3)], ids=str)
def test_a_limit_that_is_not_reached_changes_no_bit(backend, dtype, optimizer, layers):
    expected = parameters(trained(backend, dtype, optimizer, layers))
    for limits in ({"clip_value": 1e6}, {"clip_norm": 1e6}, {"clip_value": 1e6, "clip_norm": 1e6}):
        given = parameters(trained(backend, dtype, optimizer, layers, **limits))
        for a, b in zip(given, expected, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("layers", [(4, 49, 18, 3), (4, 8, 3)], ids=str)
def test_compiled_agrees_with_the_reference(compiled_backend, layers, limits):
    settings = {"layers": layers, "l2": 0.1, "l1": 0.01, **LIMITS[limits]}
    net = trained(compiled_backend, "float64", SGD(momentum=0.5), **settings)
    expected = trained("numpy", "float64", SGD(momentum=0.5), **settings)
    assert_close(net, parameters(expected), 1e-12)
    free = trained("numpy", "float64", SGD(momentum=0.5), layers, l2=0.1, l1=0.01)
    assert not np.allclose(free.weights[0], expected.weights[0], rtol=1e-3)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_agree_with_pytorch_itself(backend, optimizer, limits):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X, y = blobs()
    net = fastnn.MLP((4, 9, 3), "tanh", dtype="float64", seed=4, backend=backend)
    peer = torch.nn.Sequential(
        torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)
    ).double()
    with torch.no_grad():
        for layer, W, b in zip((peer[0], peer[2]), net.weights, net.biases, strict=True):
            layer.weight[...] = torch.tensor(W)
            layer.bias[...] = torch.tensor(b)
    make, ours = {
        "sgd": (lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9), SGD(momentum=0.9)),
        "adam": (lambda p: torch.optim.Adam(p, lr=0.3), Adam()),
    }[optimizer]
    steps = make(peer.parameters())
    for _ in range(10):
        for start in range(0, len(X), 32):
            part = slice(start, start + 32)
            loss = torch.nn.functional.cross_entropy(
                peer(torch.tensor(X[part])), torch.tensor(y[part])
            )
            steps.zero_grad()
            loss.backward()
            if "clip_value" in LIMITS[limits]:
                torch.nn.utils.clip_grad_value_(peer.parameters(), LIMITS[limits]["clip_value"])
            if "clip_norm" in LIMITS[limits]:
                torch.nn.utils.clip_grad_norm_(peer.parameters(), LIMITS[limits]["clip_norm"])
            steps.step()
    net.fit(
        X,
        y,
        epochs=10,
        batch_size=32,
        optimizer=ours,
        learning_rate=0.3,
        shuffle=False,
        **LIMITS[limits],
    )
    expected = [
        tensor.detach().numpy()
        for tensor in (peer[0].weight, peer[2].weight, peer[0].bias, peer[2].bias)
    ]
    assert_close(net, expected, 1e-11)
