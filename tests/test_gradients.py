"""Gradients: against central differences, against a network worked by hand, against the reference.

Central differences (J(w + h) - J(w - h)) / 2h in float64 are off by about h^2 J''' / 6 + u |J| / h,
u = 1.1e-16. With h = 6e-6, about the cube root of u, both parts are near 1e-11, well under the
1e-6 that is asked for. Where J has a kink between w - h and w + h the formula is wrong by O(1)
rather than O(h^2): relu, leaky_relu and selu (slopes differ at 0), elu (second derivative jumps)
and l1 at a weight of 0. So the test points are chosen with every pre-activation and every weight
at least MARGIN from 0, much more than a step of h can move them.
"""

import itertools
import math

import numpy as np
import pytest
from conftest import targets

import fastnn
from fastnn import backends
from fastnn.backends import _numpy as reference
from fastnn.network import ACTIVATIONS, DTYPES, LOSSES, OUTPUTS_OF_LOSS, Network

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


def central_differences(engine, flat, arguments):
    slopes = np.empty_like(flat)
    for i in range(len(flat)):
        J = []
        for step in (H, -H):
            moved = flat.copy()
            moved[i] += step
            engine.set_parameters(moved)
            J.append(engine.loss_and_gradients(*arguments)[0])
        slopes[i] = (J[0] - J[1]) / (2 * H)
    engine.set_parameters(flat)
    return slopes


def assert_gradient_is_right(net, flat, X, y, loss, l2, l1, w):
    """net.loss_and_gradients against central differences of the engine's J."""
    net.weights, net.biases = net.network.views(flat)
    _, dW, db = net.loss_and_gradients(X, y, loss, l2, l1, sample_weight=w)
    data, _ = fastnn.training.split(X, y, w, None, net.network, loss, 0)
    engine = backends.load(net.backend).Engine(net.network, 1)
    arguments = (data.X, data.y, data.sample_weight, loss, l2, l1)
    slopes = central_differences(engine, flat, arguments)
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
    if loss == "cross_entropy":
        assert value == pytest.approx(max(size, 0.0), rel=1e-6)
        np.testing.assert_allclose(dW[0][:, 0], [sigmoid, -sigmoid], atol=1e-7)
    elif loss == "binary_cross_entropy":
        assert value == pytest.approx(max(size, 0.0) + math.log(2), rel=1e-6)
        np.testing.assert_allclose(dW[0][:, 0], [sigmoid, -0.5], atol=1e-7)
    elif output == "exp" and size > 0:
        assert value == math.inf
    else:
        f = {"identity": [size, 0.0], "sigmoid": [sigmoid, 0.5], "exp": [0.0, 1.0]}[output]
        expected = 0.5 * ((np.array(f) - y) ** 2).sum() if loss == "squared_error" else 1.0
        assert value == pytest.approx(expected, rel=1e-6)
        assert np.isfinite(dW[0]).all()


# ---- compiled backends against the reference ----


def bounds(network, flat, X, y):
    """How far two orders of the same sums may differ: (in f, in the gradient), elementwise.

    A product of K terms is within 2 K u |A||B| in any order. Errors then pass on: through g and g'
    multiplied by at most LIPSCHITZ, through a product by its |W|. To first order that is
    all of it; the factor 2 covers the second. A few u more are for the values of g themselves.
    """
    u = np.finfo(network.dtype).eps / 2
    flat, X, y = (np.asarray(array, dtype=np.float64) for array in (flat, X, y))
    W, b = network.views(flat)
    names = network.activations
    h, eh, steps = [np.abs(X)], u * np.abs(X), []
    signed = X
    for k in range(network.n_layers):
        K = h[-1].shape[1] + 1
        a = signed @ W[k].T + b[k]
        ea = eh @ np.abs(W[k]).T + 2 * K * u * (h[-1] @ np.abs(W[k]).T + np.abs(b[k]))
        if k < len(names):
            g, g_prime = reference.ACTIVATIONS[names[k]]
            signed = g(a)
            eh = LIPSCHITZ * ea + 16 * u * (np.abs(signed) + np.abs(a))
            # a so near 0 that its sign is open may take g' from the other side of the kink
            eg = np.where(np.abs(a) <= ea, LIPSCHITZ, LIPSCHITZ * ea + 16 * u * (1 + np.abs(a)))
            steps.append((np.abs(g_prime(a)), eg, eh))
            h.append(np.abs(signed))
    f = reference.OUTPUTS[network.output](a)
    # |df/da| <= 1 for softmax, sigmoid and identity
    ef = ea if network.output == "identity" else ea.sum(axis=1, keepdims=True) + 16 * u
    ef = 2 * np.broadcast_to(ef, f.shape)

    n = len(X)
    delta, ed = np.abs(f - y) / n, (ef + 2 * u) / n
    gradient = np.zeros_like(flat)
    eW, eb = network.views(gradient)
    for k in reversed(range(network.n_layers)):
        h_error = steps[k - 1][2] if k else u * h[0]
        eW[k][...] = ed.T @ h[k] + delta.T @ h_error + 2 * n * u * (delta.T @ h[k])
        eb[k][...] = ed.sum(axis=0) + 2 * n * u * delta.sum(axis=0)
        if k:
            g_prime, eg, _ = steps[k - 1]
            K = delta.shape[1]
            dh = delta @ np.abs(W[k])
            edh = ed @ np.abs(W[k]) + 2 * K * u * dh
            delta, ed = dh * g_prime, edh * g_prime + dh * eg
    return ef, 2 * gradient


LIPSCHITZ = 1.8  # |g'| <= 1.76 (selu at 0-), |g''| <= 1.76 (selu), else smaller


@pytest.mark.parametrize("layers", [(7, 13, 5, 3), (49, 97, 33, 11), (5, 4), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_compiled_agrees_with_the_reference(compiled_backend, dtype, activation, output, layers):
    network = Network(layers, activation, output, dtype)
    loss = fastnn.network.LOSS_OF_OUTPUT[output]
    rng = np.random.default_rng(0)
    flat = network.initialize(0)
    flat += rng.normal(0, 0.1, flat.shape).astype(dtype)
    X = rng.normal(size=(33, layers[0])).astype(dtype)
    y = targets(loss, 33, layers[-1]).astype(dtype)
    results = []
    for name in ("numpy", compiled_backend):
        engine = backends.load(name).Engine(network, 1)
        engine.set_parameters(flat)
        value, gradient = engine.loss_and_gradients(X, y, None, loss, 0.0, 0.0)
        results.append((engine.forward(X), gradient, value))
    f_bound, gradient_bound = bounds(network, flat, X, y)
    (f_0, gradient_0, value_0), (f_1, gradient_1, value_1) = results
    assert (np.abs(f_1.astype(np.float64) - f_0) <= f_bound).all()
    assert (np.abs(gradient_1.astype(np.float64) - gradient_0) <= gradient_bound).all()
    assert value_1 == pytest.approx(value_0, rel=1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_reference_agrees_with_float64_within_the_bound(activation):
    """The bound itself holds where it can be checked: float32 against float64."""
    layers, results = (49, 97, 33, 11), []
    rng = np.random.default_rng(0)
    flat = Network(layers, activation).initialize(0)
    X = rng.normal(size=(33, 49)).astype(np.float32)
    y = targets("cross_entropy", 33, 11).astype(np.float32)
    for name in DTYPES:
        engine = reference.Engine(Network(layers, activation, dtype=name))
        engine.set_parameters(flat)
        y_k, X_k = y.astype(name), X.astype(name)
        _, gradient = engine.loss_and_gradients(X_k, y_k, None, "cross_entropy", 0.0, 0.0)
        results.append((engine.forward(X_k), gradient))
    f_bound, gradient_bound = bounds(Network(layers, activation), flat, X, y)
    assert (np.abs(results[0][0] - results[1][0]) <= f_bound).all()
    assert (np.abs(results[0][1] - results[1][1]) <= gradient_bound).all()
