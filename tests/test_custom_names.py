"""Users' own functions by name: registered or refused, in estimators, files and processes."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import blobs
from custom_functions import log_cosh, own_silu, snake, tweedie
from sklearn.base import clone

import fastnn
from fastnn import custom
from fastnn.sklearn import MLPClassifier, MLPRegressor

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
