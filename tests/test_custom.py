"""Users' own activations and losses: values and derivatives, the same on every backend."""

import math

import numpy as np
import pytest
from custom_functions import (
    ACTIVATIONS,
    LOSSES,
    clipped_mse,
    log_cosh,
    own_silu,
    own_squared_error,
    snake,
)
from test_gradients import assert_gradient_is_right

import fastnn
from fastnn import custom


def prepared(backend, activation="tanh", output="identity", dtype="float64", n_out=2):
    net = fastnn.MLP((3, 5, 4, n_out), activation, output, dtype=dtype, backend=backend, seed=1)
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(6, 3)), rng.random((6, n_out))
    return net, net.network.initialize(3) + rng.normal(0, 0.1, net.n_parameters), X, y


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradient_of_an_activation(backend, activation):
    net, flat, X, y = prepared(backend, activation)
    assert_gradient_is_right(net, flat, X, y, "squared_error", 0.1, 0.0, None)


@pytest.mark.parametrize(("loss", "output"), LOSSES, ids=str)
def test_gradient_of_a_loss(backend, loss, output):
    net, flat, X, y = prepared(backend, output=output)
    assert_gradient_is_right(net, flat, X, y, loss, 0.0, 0.0, np.arange(6.0))


# Far out: g(a) and g'(a) at a = -size and at size.
LIMITS = {
    "own_silu": (lambda size: (0.0, size), (0.0, 1.0)),
    "hard_swish": (lambda size: (0.0, size), (0.0, 1.0)),
    "own_softplus": (lambda size: (0.0, size), (0.0, 1.0)),
    "tanh_gelu": (lambda size: (0.0, size), (0.0, 1.0)),
    "lecun_tanh": (lambda size: (-1.7159, 1.7159), (0.0, 0.0)),
}


@pytest.mark.parametrize("size", [95.0, 1e4, 1e30])
@pytest.mark.parametrize("name", LIMITS)
def test_overflow_on_the_way_spoils_neither_value_nor_slope(backend, dtype, name, size):
    """e^a and a^3 overflow; values then have 1 / infinity in them, slopes 0 times infinity."""
    values, slopes = LIMITS[name]
    net = fastnn.MLP((1, 2, 2), name, "identity", dtype=dtype, backend=backend)
    net.weights = [[[-1.0], [1.0]], np.eye(2)]
    scale = np.array([1.0, size])
    assert net.forward([[size]])[0] / size == pytest.approx(np.array(values(size)) / size, abs=1e-6)
    # J = (f - y)^2 / 2 with f - y = 1, so db = g'(a) of the hidden layer.
    y = net.forward([[size]]).astype(float) - scale
    db = net.loss_and_gradients([[size]], y, "squared_error")[2][0]
    assert db / scale == pytest.approx(slopes, abs=1e-5)


def test_slopes_are_finite_where_values_are(dtype):
    """At every size, up to where a value itself overflows: on no backend NaN."""
    for name in ("own_silu", "own_softplus", "tanh_gelu", "lecun_tanh", "snake(frequency=1.0)"):
        own = custom.find("activation", name)
        for a in (sign * 10.0**k for k in range(-40, 300, 7) for sign in (1, -1)):
            value, slope = own.with_slope(a)
            assert math.isfinite(slope) or not math.isfinite(value), (name, a)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_backends_agree(backend, dtype, activation):
    net, flat, X, y = prepared(backend, activation, dtype=dtype, n_out=20)
    reference = fastnn.MLP(
        net.layer_sizes, activation, "identity", dtype="float64", backend="numpy", seed=1
    )
    for model in (net, reference):
        model.weights, model.biases = reference.network.views(flat)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    given, expected = (m.loss_and_gradients(X, y, clipped_mse) for m in (net, reference))
    np.testing.assert_allclose(
        net.forward(X), reference.forward(X), rtol=10 * tolerance, atol=tolerance
    )
    assert given[0] == pytest.approx(expected[0], rel=tolerance)
    for a, b in zip(given[1] + given[2], expected[1] + expected[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_and_rows_change_no_bit(backend, n_threads):
    layers, nets = (7, 130, 33, 3), []
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 7)), rng.normal(size=(150, 3))
    for threads in (1, n_threads):
        net = fastnn.MLP(layers, snake, "identity", backend=backend, n_threads=threads)
        net.fit(X, y, epochs=2, batch_size=33, loss=log_cosh, dropout=0.1)
        nets.append(net)
    for a, b in zip(*(net.weights for net in nets), strict=True):
        assert a.tobytes() == b.tobytes()
    f = nets[0].forward(X)
    assert backend == "numpy" or all(
        nets[0].forward(X[i : i + 1]).tobytes() == f[i].tobytes() for i in (0, 77, 149)
    )


def test_instruction_sets_change_no_bit(force_isa, dtype):
    """What Numba has compiled is the same, whatever the kernels around it are."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 7)), rng.normal(size=(150, 3))
    results = set()
    for isa in fastnn.available_isas():
        force_isa(isa)
        net = fastnn.MLP((7, 130, 33, 3), snake, "identity", dtype=dtype, backend="cython")
        net.fit(X, y, epochs=2, batch_size=33, loss=log_cosh)
        results.add(b"".join(W.tobytes() for W in net.weights))
    assert len(results) == 1


@pytest.mark.parametrize("layers", [(2, 3, 3, 1), (3, 50, 21, 2)], ids=str)
def test_what_is_not_finite_at_zero_stays_out_of_the_padding(backend, layers):
    """log |a| at the zeros that fill up vectors is minus infinity, and norms sum over all."""
    log_size = fastnn.activation(lambda a: math.log(abs(a)), name="log_size")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, layers[0])), rng.normal(size=(40, layers[-1]))
    nets = [
        fastnn.MLP(layers, log_size, "identity", dtype="float64", backend=name, seed=3)
        for name in (backend, "numpy")
    ]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=16, learning_rate=1e-3, l2=0.1, clip_norm=1.0)
    for given, expected in zip(*(net.weights for net in nets), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_a_function_equal_to_a_built_in_one_trains_alike(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = X[:, 0] * X[:, 1]
    results = []
    for activation, loss in (("silu", "squared_error"), (own_silu, own_squared_error)):
        net = fastnn.MLP((4, 16, 1), activation, "identity", dtype="float64", backend=backend)
        results.append(net.fit(X, y, epochs=5, loss=loss)["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-9)
