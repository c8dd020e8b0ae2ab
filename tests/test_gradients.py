"""Gradients: against central differences, against a network worked by hand, against the reference.

Central differences (J(w + h) - J(w - h)) / 2h in float64 are off by about h^2 J''' / 6 + u |J| / h,
u = 1.1e-16. With h = 6e-6, about the cube root of u, both parts are near 1e-11, well under the
1e-6 that is asked for. Where J has a kink between w - h and w + h the formula is wrong by O(1)
rather than O(h^2): relu, leaky_relu and selu (slopes differ at 0), elu (second derivative jumps)
and l1 at a weight of 0. So the test points are chosen with every pre-activation and every weight
at least MARGIN from 0, much more than a step of h can move them; and the targets with every f - y
at least MARGIN from where the loss has a kink.
"""

import itertools
import math

import numpy as np
import pytest
from conftest import targets

import fastnn
from fastnn import backends, losses
from fastnn.backends import _numpy_activations as reference
from fastnn.network import ACTIVATIONS, LOSS_OF_OUTPUT, LOSSES, OUTPUTS, OUTPUTS_OF_LOSS

H = 6e-6
MARGIN = 1e-3
RELATIVE = 1e-6

# (loss, output, kind of y)
CASES = [
    (loss, output, kind)
    for loss in LOSSES
    for output in OUTPUTS_OF_LOSS[loss]
    for kind in {
        "cross_entropy": ("indices", "one-hot", "soft"),
        "binary_cross_entropy": ("binary", "multilabel", "soft multilabel"),
    }.get(loss, ("values",))
]
PENALTIES = {"none": (0.0, 0.0), "l2": (0.1, 0.0), "l1": (0.0, 0.05), "both": (0.1, 0.05)}


def make_y(loss, kind, n, n_out):
    """y of this kind, as a user gives it."""
    soft = targets("cross_entropy", n, n_out)
    if kind == "indices":
        return soft.argmax(axis=1)
    if kind == "one-hot":
        return np.eye(n_out)[soft.argmax(axis=1)]
    if kind == "soft":
        return soft
    y = targets(loss, n, n_out)
    if kind == "binary":
        return y[:, 0]
    return 0.1 + 0.8 * y if kind == "soft multilabel" else y


def far_from_kinks(network, n):
    """(flat, X) in float64 with all hidden pre-activations and all weights MARGIN from 0."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        flat = network.initialize(seed) + rng.normal(0, 0.2, network.n_parameters)
        X = rng.normal(size=(n, network.n_in))
        h, nearest = X, np.abs(flat).min()
        names = (*network.activations, "identity")
        for W, b, name in zip(*network.views(flat), names, strict=True):
            a = h @ W.T + b
            h = reference.ACTIVATIONS[name][0](a)
            nearest = min(nearest, np.abs(a).min())
        if nearest > MARGIN:
            return flat, X
    raise AssertionError("no point far from the kinks found")


def off_the_kinks(loss, f, y):
    """y, moved where an f - y is within MARGIN of a kink of the loss (of its slope, for Huber)."""
    loss, y = losses.get(loss), np.array(y)
    kinks = {"absolute_error": (0.0,), "quantile": (0.0,)}.get(loss.name, ())
    for kink in (-loss.delta, loss.delta) if loss.name == "huber" else kinks:
        d = f.reshape(len(y), y.shape[1], -1) - y[:, :, np.newaxis]
        y[(np.abs(d - kink) < MARGIN).any(axis=2)] += 3 * MARGIN
    return y


def central_differences(engine, flat, arguments, l2, l1):
    """Of J, from the forward pass alone."""
    slopes = np.empty_like(flat)
    for i in range(len(flat)):
        J = []
        for step in (H, -H):
            moved = flat.copy()
            moved[i] += step
            engine.set_parameters(moved)
            J.append(engine.forward_and_loss(*arguments)[1] + engine.penalty(l2, l1))
        slopes[i] = (J[0] - J[1]) / (2 * H)
    return slopes


def assert_gradient_is_right(net, flat, X, y, loss, l2, l1, w):
    """net.loss_and_gradients against central differences of the engine's J."""
    net.weights, net.biases = net.network.views(flat)
    y = off_the_kinks(loss, net.forward(X), y)
    J, dW, db = net.loss_and_gradients(X, y, loss, l2, l1, sample_weight=w)
    data, _ = fastnn.samples.split(X, y, w, None, net.network, loss, 0)
    engine = backends.load(net.backend).Engine(net.network, 1)
    engine.set_parameters(flat)
    arguments = (data.X, data.y, data.sample_weight, loss)
    loss_there = engine.forward_and_loss(*arguments)[1]
    assert loss_there + engine.penalty(l2, l1) == pytest.approx(J, rel=1e-12)
    slopes = central_differences(engine, flat, arguments, l2, l1)
    for given, expected in zip(dW + db, itertools.chain(*net.network.views(slopes)), strict=True):
        assert given.shape == expected.shape
        assert np.abs(given - expected).max() <= RELATIVE * np.abs(expected).max()


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("loss", "output", "kind"), CASES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_central_differences(backend, activation, loss, output, kind, penalty, weighted):
    n, n_out = 4, 1 if kind == "binary" else 3
    net = fastnn.MLP((2, 3, 2, n_out), activation, output, dtype="float64", backend=backend)
    flat, X = far_from_kinks(net.network, n)
    w = np.array([0.5, 2.0, 0.0, 1.5]) if weighted else None
    y = make_y(loss, kind, n, n_out)
    assert_gradient_is_right(net, flat, X, y, loss, *PENALTIES[penalty], w)


@pytest.mark.parametrize("layers", [(3, 2), (1, 1), (5, 1, 4), (2, 3, 4, 3, 2)], ids=str)
@pytest.mark.parametrize(("loss", "output", "kind"), CASES)
def test_against_central_differences_at_other_depths_and_widths(
    backend, layers, loss, output, kind
):
    """Each hidden layer has another activation; with no hidden layer it is logistic regression."""
    layers = (*layers[:-1], 1) if kind == "binary" else layers
    activations = ("tanh", "gelu", "selu")[: len(layers) - 2]
    net = fastnn.MLP(layers, activations, output, dtype="float64", backend=backend)
    flat, X = far_from_kinks(net.network, 6)
    y = make_y(loss, kind, 6, layers[-1])
    assert_gradient_is_right(net, flat, X, y, loss, 0.1, 0.05, None)


def test_network_worked_by_hand(backend):
    """2-2-1, sigmoid in both layers, binary cross-entropy, with l = ln 3: sigmoid(l) = 3/4.

    W_1 = [[2l, -l], [3l, -l]]   b_1 = [l, -2l]   W_2 = [[2, 4]]   b_2 = [l - 5/2]
    x = (1, 2), y = 1

    forward     a_1 = (2l - 2l + l, 3l - 2l - 2l)  = (l, -l)        h_1 = (3/4, 1/4)
                a_2 = 2 * 3/4 + 4 * 1/4 + l - 5/2  = l              f   = 3/4
    loss        -ln(3/4) = ln 4 - ln 3
    backward    delta_2 = f - y                    = -1/4
                dW_2 = delta_2 h_1                 = (-3/16, -1/16)         db_2 = -1/4
                sigmoid' = h_1 (1 - h_1)           = (3/16, 3/16)
                delta_1 = delta_2 W_2 * sigmoid'   = (-1/4 * 2 * 3/16, -1/4 * 4 * 3/16)
                                                   = (-3/32, -3/16)         db_1 = delta_1
                dW_1 = delta_1^T x                 = [[-3/32, -3/16], [-3/16, -3/8]]
    descent     learning rate 1/2: W_2 = (2 + 3/32, 4 + 1/32), b_2 = l - 5/2 + 1/8, and so on
    """
    ln3 = math.log(3)
    W = [np.array([[2 * ln3, -ln3], [3 * ln3, -ln3]]), np.array([[2.0, 4.0]])]
    b = [np.array([ln3, -2 * ln3]), np.array([ln3 - 2.5])]
    dW = [np.array([[-3, -6], [-6, -12]]) / 32, np.array([[-3, -1]]) / 16]
    db = [np.array([-3, -6]) / 32, np.array([-1]) / 4]

    net = fastnn.MLP((2, 2, 1), "sigmoid", "sigmoid", dtype="float64", backend=backend)
    net.weights, net.biases = W, b
    X, y = [[1.0, 2.0]], [1]
    assert net.forward(X) == pytest.approx(0.75, rel=1e-14)
    value, given_dW, given_db = net.loss_and_gradients(X, y)
    assert value == pytest.approx(math.log(4) - math.log(3), rel=1e-14)
    for given, expected in zip(given_dW + given_db, dW + db, strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-14)

    net.fit(X, y, epochs=1, optimizer="sgd", learning_rate=0.5)
    for given, start, gradient in zip(net.weights + net.biases, W + b, dW + db, strict=True):
        np.testing.assert_allclose(given, start - 0.5 * gradient, rtol=1e-14)


def test_penalties_worked_by_hand(backend):
    """One weight w = -2, bias 5, x = 1, y = 3, identity: f = 3, so only the penalties are left.

    J = l2/2 * 4 + l1 * 2, dJ/dw = l2 * (-2) + l1 * (-1), and none of it for the bias.
    """
    net = fastnn.MLP((1, 1), output="identity", dtype="float64", backend=backend)
    net.weights, net.biases = [[[-2.0]]], [[5.0]]
    value, dW, db = net.loss_and_gradients([[1.0]], [3.0], l2=0.5, l1=0.25)
    assert value == 1.5
    assert dW[0] == -1.25
    assert db[0] == 0.0


def test_sample_weights_count_like_repeated_samples(backend, dtype):
    net = fastnn.MLP((3, 4, 2), "tanh", dtype=dtype, backend=backend)
    rng = np.random.default_rng(0)
    X, y, times = rng.normal(size=(4, 3)), [0, 1, 1, 0], [1, 3, 0, 2]
    weighted = net.loss_and_gradients(X, y, l2=0.1, sample_weight=times)
    repeated = net.loss_and_gradients(np.repeat(X, times, axis=0), np.repeat(y, times), l2=0.1)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert weighted[0] == pytest.approx(repeated[0], rel=tolerance)
    for given, expected in zip(weighted[1] + weighted[2], repeated[1] + repeated[2], strict=True):
        np.testing.assert_allclose(given, expected, rtol=tolerance * 10, atol=tolerance)


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize(("loss", "output"), sorted({case[:2] for case in CASES}))
def test_huge_logits_are_exact_or_infinite_never_nan(backend, dtype, loss, output, size):
    """With one input of 1 and no bias the logits are the weights: (size, 0)."""
    net = fastnn.MLP((1, 2), output=output, dtype=dtype, backend=backend)
    net.weights = [[[size], [0.0]]]
    y = np.array([[0.0, 1.0]])
    value, dW, _ = net.loss_and_gradients([[1.0]], y, loss)
    sigmoid = 1.0 if size > 0 else 0.0
    if loss in ("cross_entropy", "grouped_cross_entropy"):
        assert value == pytest.approx(max(size, 0.0), rel=1e-6)
        np.testing.assert_allclose(dW[0][:, 0], [sigmoid, -sigmoid], atol=1e-7)
    elif loss == "binary_cross_entropy":
        assert value == pytest.approx(max(size, 0.0) + math.log(2), rel=1e-6)
        np.testing.assert_allclose(dW[0][:, 0], [sigmoid, -0.5], atol=1e-7)
    elif output == "exp" and size > 0:
        assert value == math.inf
    else:
        f = {"identity": [size, 0.0], "sigmoid": [sigmoid, 0.5], "exp": [0.0, 1.0]}[output]
        d = np.array(f) - y[0]
        expected = {
            "squared_error": 0.5 * (d**2).sum(),
            "poisson": 1.0,
            "absolute_error": np.abs(d).sum(),
            "huber": np.where(np.abs(d) < 1, 0.5 * d**2, np.abs(d) - 0.5).sum(),
            "quantile": 0.5 * np.abs(d).sum(),
        }[loss]
        assert value == pytest.approx(expected, rel=1e-6)
        assert np.isfinite(dW[0]).all()


# ---- agreement in rounding ----


@pytest.mark.parametrize("layers", [(1, 1), (7, 13), (97, 33), (784, 10), (2049, 5)], ids=str)
def test_products_within_the_bound(backend, dtype, layers):
    """|error| <= 2 K u |A||B| for every element of a product, K terms, in any order of summing.

    Without hidden layer, with the output identity: f = X W^T + b is one product of n_in + 1 terms,
    and dW = delta^T X, delta = (f - y) / n, another of n terms and two roundings more.
    """
    n, u = 61, np.finfo(dtype).eps / 2
    net = fastnn.MLP(layers, output="identity", dtype=dtype, backend=backend)
    rng = np.random.default_rng(0)
    X, y = (rng.normal(size=(n, size)).astype(dtype) for size in layers)
    net.biases = [rng.normal(size=layers[1])]
    W, b = (array[0].astype(np.longdouble) for array in (net.weights, net.biases))
    f = net.forward(X)
    bound = 2 * (layers[0] + 1) * u * (np.abs(X) @ np.abs(W).T + np.abs(b))
    assert (np.abs(f - (X @ W.T + b)) <= bound).all()
    delta = (f.astype(np.longdouble) - y) / n
    _, dW, db = net.loss_and_gradients(X, y)
    bound = 2 * (n + 2) * u * (np.abs(delta).T @ np.abs(X))
    assert (np.abs(dW[0] - delta.T @ X) <= bound).all()
    assert (np.abs(db[0] - delta.sum(axis=0)) <= 2 * (n + 2) * u * np.abs(delta).sum(axis=0)).all()


@pytest.mark.parametrize("layers", [(7, 13, 5, 3), (49, 97, 33, 11), (5, 4), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_whole_networks_agree_with_the_reference(backend, dtype, activation, output, layers):
    """The same bound by norms: at most 2 K u times the largest element, K the longest sum.

    Bounding every element through several layers would allow errors as large as the values.
    The reference computes in float64, from the same parameters and data.
    """
    n, loss = 33, LOSS_OF_OUTPUT[output]
    net = fastnn.MLP(layers, activation, output, dtype=dtype, backend=backend)
    twin = fastnn.MLP(layers, activation, output, dtype="float64", backend="numpy")
    rng = np.random.default_rng(0)
    net.biases = [rng.normal(0, 0.1, b.shape) for b in net.biases]
    twin.weights, twin.biases = net.weights, net.biases
    X = rng.normal(size=(n, layers[0])).astype(dtype)
    y = targets(loss, n, layers[-1]).astype(dtype)
    value, dW, db = net.loss_and_gradients(X, y)
    expected_value, expected_dW, expected_db = twin.loss_and_gradients(X, y)
    tolerance = float((max(*layers, n) + 1) * np.finfo(dtype).eps)
    assert value == pytest.approx(expected_value, rel=tolerance)
    f, expected_f = net.forward(X), twin.forward(X)
    assert f.dtype == dtype
    assert np.abs(f - expected_f).max() <= tolerance * np.abs(expected_f).max()
    largest = max(np.abs(array).max() for array in expected_dW + expected_db)
    for given, expected in zip(dW + db, expected_dW + expected_db, strict=True):
        assert given.dtype == dtype
        assert np.abs(given - expected).max() <= tolerance * largest
