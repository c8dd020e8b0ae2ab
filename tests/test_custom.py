"""Users' own activations and losses: their derivatives, on every backend, in files and pickles."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import blobs
from sklearn.base import clone
from test_gradients import assert_gradient_is_right

import fastnn
from fastnn import custom
from fastnn.sklearn import MLPClassifier, MLPRegressor


@fastnn.activation
def snake(a, frequency=1.0):
    return a + math.sin(frequency * a) ** 2 / frequency


@fastnn.activation
def leaky(a, slope=0.1):
    return a if a > 0 else slope * a


@fastnn.activation
def own_silu(a):
    return a / (1 + math.exp(-a))


@fastnn.activation
def hard_swish(a):
    return a * min(max(a + 3, 0), 6) / 6


@fastnn.activation
def log_of_square(a):
    return np.log1p(a * a)


@fastnn.activation
def own_softplus(a):
    return max(a, 0) + math.log1p(math.exp(-abs(a)))


@fastnn.activation
def bent_identity(a):
    return (math.sqrt(a**2 + 1) - 1) / 2 + a


def _cubic(a):
    return a * a * a


@fastnn.activation
def tanh_gelu(a):
    return 0.5 * a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * _cubic(a))))


fastnn.activation(
    lambda a: 1.7159 * np.tanh(2 * a / 3),
    lambda a: 1.7159 * 2 / 3 * (1 - np.tanh(2 * a / 3) ** 2),
    name="lecun_tanh",
)


@fastnn.activation
def own_mish(a):  # with intermediate results that overflow
    return a * math.tanh(math.log(1 + math.exp(a)))


@fastnn.activation
def hermite(a, degree=3):  # a loop, with numbers that become dual ones in it
    last, h = 1, a
    for i in range(1, int(degree)):
        last, h = h, a * h - i * last
    return h / 10 + last * 0


@fastnn.loss(output="exp")
def tweedie(f, y, power=1.5):
    return f ** (2 - power) / (2 - power) - y * f ** (1 - power) / (1 - power)


@fastnn.loss
def clipped_mse(f, y, limit=1.0):
    d = f - y
    return 0.5 * d * d if abs(d) < limit else 0.5 * limit * limit


@fastnn.loss
def log_cosh(f, y):
    d = abs(f - y)
    return d + math.log1p(math.exp(-2 * d)) - math.log(2)


@fastnn.loss
def own_squared_error(f, y):
    return 0.5 * (f - y) ** 2


ACTIVATIONS = (
    snake,
    snake(frequency=2.5),
    leaky,
    own_silu,
    hard_swish,
    log_of_square,
    own_softplus,
    bent_identity,
    tanh_gelu,
    own_mish,
    hermite,
    custom.find("activation", "lecun_tanh"),
)
LOSSES = (
    (tweedie, "exp"),
    (tweedie(power=1.2), "exp"),
    (clipped_mse(limit=0.8), "identity"),
    (log_cosh, "sigmoid"),
    (own_squared_error, "identity"),
)


def prepared(backend, activation="tanh", output="identity", dtype="float64", n_out=2):
    net = fastnn.MLP((3, 5, 4, n_out), activation, output, dtype=dtype, backend=backend, seed=1)
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(6, 3)), rng.random((6, n_out))
    return net, net.network.initialize(3) + rng.normal(0, 0.1, net.n_parameters), X, y


# ---- derivatives ----


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


# ---- registration ----


def test_a_wrong_derivative_is_refused_with_the_point_and_both_values():
    found = r"cube is wrong: at \(0.013\) it is 0.000338,.*has the slope 0.000507"
    with pytest.raises(ValueError, match=found):
        fastnn.activation(lambda a: a**3, lambda a: 2 * a**2, name="cube")
    with pytest.raises(ValueError, match="derivative given for off is wrong"):
        fastnn.loss(lambda f, y: (f - y) ** 2, lambda f, y: f - y, name="off")
    with pytest.raises(ValueError, match="unknown activation 'cube'"):
        fastnn.MLP((1, 1, 1), "cube")


def test_a_derivative_is_checked_with_other_parameters_too():
    own = fastnn.activation(lambda a, k=1.0: k * a * a, lambda a, k=1.0: 2 * a, name="forgets_k")
    with pytest.raises(ValueError, match=r"derivative given for forgets_k\(k=2.0\) is wrong"):
        own(k=2.0)


def test_where_the_function_is_not_finite_any_slope_will_do():
    fastnn.activation(lambda a: math.sqrt(a), lambda a: 0.5 / math.sqrt(abs(a)), name="root")


def test_nan_stays_nan_in_max_and_min(backend, dtype):
    clipped = fastnn.activation(lambda a: max(0, min(6, a)), name="clipped")
    activations = ["identity", clipped]
    net = fastnn.MLP((1, 2, 2, 1), activations, "identity", dtype=dtype, backend=backend)
    huge = 1e30 if dtype == "float32" else 1e200
    net.weights = [[[huge], [huge]], [[1, -1], [1, -1]], [[1, 1]]]  # infinity less infinity
    assert np.isnan(net.forward([[huge]])).all()


def test_any_slope_will_do_at_a_kink():
    fastnn.activation(
        lambda a: max(a, 1.3), lambda a: 0.5 if a == 1.3 else float(a > 1.3), name="kinked"
    )


@pytest.mark.parametrize("name", ["relu", "two words", "", "1st", 3])
def test_bad_names(name):
    with pytest.raises(ValueError, match=r"built-in activation|needs a name"):
        fastnn.activation(lambda a: a, name=name)


@pytest.mark.parametrize(
    "f", [lambda: 1.0, lambda a, b: a, lambda *a: a[0], lambda a, *, b=1: a, 3, lambda a, b="x": a]
)
def test_bad_functions(f):
    with pytest.raises(TypeError):
        fastnn.activation(f, name="bad")


def test_what_cannot_be_differentiated_is_refused():
    with pytest.raises(TypeError, match="rounded cannot be differentiated"):
        fastnn.activation(lambda a: math.floor(a), name="rounded")


def test_parameters():
    assert snake.name == "snake(frequency=1.0)"
    assert snake(frequency=2) == snake(frequency=2.0) != snake
    assert custom.find("activation", "snake(frequency=2)") == snake(frequency=2)
    with pytest.raises(TypeError, match="snake has no parameter 'speed'; it has: frequency"):
        snake(speed=1)
    with pytest.raises(ValueError, match="is not activation"):
        fastnn.MLP((1, 1, 1), "snake(frequency=fast)")


def test_a_name_stands_for_the_function(backend):
    by_name, by_object = (
        fastnn.MLP((2, 3, 1), a, "identity", backend=backend)
        for a in ("snake(frequency=2.5)", snake(frequency=2.5))
    )
    X = np.ones((2, 2))
    assert by_name.forward(X).tobytes() == by_object.forward(X).tobytes()
    losses = [by_name.evaluate(X, [1.0, 2.0], loss)["loss"] for loss in ("log_cosh", log_cosh)]
    assert losses[0] == losses[1]


def test_softmax_has_no_custom_loss():
    with pytest.raises(ValueError, match="'log_cosh' needs the output identity or sigmoid or exp"):
        fastnn.MLP((2, 2)).fit(np.ones((2, 2)), np.ones((2, 2)), loss=log_cosh)


# ---- estimators ----


@pytest.mark.parametrize("by_name", [True, False])
def test_estimators_take_them(by_name):
    model = MLPRegressor(
        "tweedie(power=1.2)" if by_name else tweedie(power=1.2),
        (6, 5),
        ["logistic", "snake(frequency=2.0)" if by_name else snake(frequency=2.0)],
        max_iter=3,
        random_state=0,
    )
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.exp(X[:, 0])
    fitted = clone(model).fit(X, y)
    assert fitted.network_.network.activations == ("sigmoid", "snake(frequency=2.0)")
    assert fitted.out_activation_ == "exp"
    assert (fitted.predict(X) > 0).all()
    reference = clone(model).set_params(backend="numpy").fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), reference.predict(X), rtol=1e-6)


def test_a_custom_activation_in_a_classifier_equals_the_built_in_one():
    X, y = blobs()
    rows = [
        MLPClassifier((8,), activation, max_iter=5, random_state=0).fit(X, y).predict_proba(X)
        for activation in ("silu", own_silu)
    ]
    np.testing.assert_allclose(*rows, rtol=1e-9)


def test_estimators_refuse_unknown_names():
    with pytest.raises(ValueError, match="'activation' parameter of MLPRegressor"):
        MLPRegressor(activation="snail").fit(np.eye(3), np.arange(3.0))
    with pytest.raises(ValueError, match="unknown output 'softmax' of a custom loss"):
        fastnn.loss(lambda f, y: f - y, name="no", output="softmax")


# ---- files and processes ----


def test_files_keep_the_name(tmp_path, backend):
    net = fastnn.MLP((2, 3, 1), [snake(frequency=3.0)], "identity", backend=backend)
    net.save(tmp_path / "m")
    loaded = fastnn.load(tmp_path / "m", backend=backend)
    assert loaded.network.activations == ("snake(frequency=3.0)",)
    assert loaded.forward([[1.0, 2.0]]).tobytes() == net.forward([[1.0, 2.0]]).tobytes()


def test_loading_without_the_function_says_what_to_register(tmp_path):
    fastnn.MLP((2, 3, 1), snake, "identity").save(tmp_path / "m")
    code = f"import fastnn; fastnn.load({str(tmp_path / 'm')!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert "unknown activation 'snake(frequency=1.0)'" in done.stderr
    assert "fastnn.activation" in done.stderr
    assert "ModelFileError" in done.stderr
    assert "is damaged" not in done.stderr


@pytest.mark.parametrize("parameter", ["frequencz", "self"])
def test_loading_with_a_function_of_other_parameters(tmp_path, parameter):
    """In the file, whose lengths must stay, the parameter has another name of as many letters."""
    net = fastnn.MLP((2, 3, 1), snake(frequency=2.0), "identity")
    net.save(tmp_path / "m")
    content = (tmp_path / "m").read_bytes()
    other = f"snake({parameter}=2.0".ljust(len("snake(frequency=2.0"), "0")
    changed = content.replace(b"snake(frequency=2.0", other.encode())
    assert changed != content
    (tmp_path / "m").write_bytes(changed)
    with pytest.raises(fastnn.ModelFileError, match=r"not in this process.*(argument|parameter)"):
        fastnn.load(tmp_path / "m")


SCRIPT = """
import math, multiprocessing
import numpy as np
import fastnn
from fastnn.sklearn import MLPRegressor

X = np.random.default_rng(0).normal(size=(30, 3))

@fastnn.activation
def snake(a, frequency=1.0):
    return a + math.sin(frequency * a) ** 2 / frequency

@fastnn.loss
def quartic(f, y):
    return (f - y) ** 4

def fitted(model):
    return model.fit(X, X[:, 0]).predict(X).tobytes()

if __name__ == "__main__":
    model = MLPRegressor(quartic, (5,), snake(frequency=2.0), max_iter=2, random_state=0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(fitted, [model]) == [fitted(model)]
"""


def test_worker_processes_get_an_estimators_functions(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


WORKER = """
import pickle, sys
net, X = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(net.forward(X).tobytes())
"""


def test_a_pickle_brings_the_function_along(backend):
    fastnn.activation(lambda a: a * abs(a), name="signed_square")
    net = fastnn.MLP((2, 3, 1), ["signed_square"], "identity", backend=backend)
    X = np.ones((4, 2))
    assert pickle.loads(pickle.dumps(net)).forward(X).tobytes() == net.forward(X).tobytes()
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps((net, X)),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == net.forward(X).tobytes(), done.stderr.decode()
