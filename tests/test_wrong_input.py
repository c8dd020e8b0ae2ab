"""What is refused, with which error, and what is accepted in which form.

After every error the model is as it was and can be used.
"""

import numpy as np
import pytest

import fastnn
from fastnn import schedules
from fastnn.network import LOSSES
from fastnn.optimizers import SGD

METHODS = ("forward", "predict", "predict_proba", "evaluate", "loss_and_gradients", "fit")
METHODS_WITH_Y = ("evaluate", "loss_and_gradients", "fit")
N = 6


def good_X(n=N):
    return np.random.default_rng(0).normal(size=(n, 3))


def good_y(n=N):
    return np.arange(n) % 2


@pytest.fixture
def net(backend, dtype):
    """3-4-2 softmax; the test must leave it as it was, and usable."""
    net = fastnn.MLP((3, 4, 2), dtype=dtype, backend=backend)
    before = [array.copy() for array in net.weights + net.biases]
    yield net
    for array, copy in zip(net.weights + net.biases, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert net.epochs_trained == 0
    net.fit(good_X(), good_y(), epochs=1, learning_rate=0.1)
    assert net.epochs_trained == 1
    assert np.isfinite(net.forward(good_X())).all()


def call(net, method, X, y=None, **arguments):
    if method in METHODS_WITH_Y:
        return getattr(net, method)(X, good_y() if y is None else y, **arguments)
    return getattr(net, method)(X, **arguments)


# ---- X ----

WRONG_SHAPES = {
    "too wide": ((N, 4), r"X has shape \(6, 4\), but this network takes \(n, 3\)"),
    "too narrow": ((N, 2), r"X has shape \(6, 2\), but this network takes \(n, 3\)"),
    "1-D": ((3,), r"X has shape \(3,\), .*\(n, 3\).*X\[np.newaxis, :\]"),
    "3-D": ((N, 3, 1), r"X has shape \(6, 3, 1\), .*\(n, 3\)"),
    "0-D": ((), r"X has shape \(\), .*\(n, 3\)"),
    "no rows": ((0, 3), r"X has shape \(0, 3\), .*\(n, 3\) with n of at least 1"),
    "no columns": ((N, 0), r"X has shape \(6, 0\), .*\(n, 3\)"),
}


@pytest.mark.parametrize("X_dtype", ["float32", "float64", "uint8", "int64"])
@pytest.mark.parametrize("case", WRONG_SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_shape_of_X(net, method, case, X_dtype):
    shape, message = WRONG_SHAPES[case]
    with pytest.raises(ValueError, match=message):
        call(net, method, np.ones(shape, dtype=X_dtype))


@pytest.mark.parametrize("X_dtype", ["float16", "float32", "float64", ">f8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_not_finite_X(net, method, bad, X_dtype):
    X = good_X().astype(X_dtype)
    X[-1, -1] = bad
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        call(net, method, X)


def test_not_finite_X_found_after_some_steps(net):
    """Two good batches come first; the model is nevertheless as it was before fit."""
    X = good_X()
    X[-1, -1] = np.nan
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        net.fit(X, good_y(), batch_size=2, shuffle=False, learning_rate=0.1)
    assert net.history == {}


@pytest.mark.parametrize("size", [1e39, -1e39, 1e300])
@pytest.mark.parametrize("method", METHODS)
def test_values_beyond_float32(backend, method, size):
    X = good_X()
    X[2, 1] = size
    net = fastnn.MLP((3, 4, 2), dtype="float32", backend=backend)
    before = net.weights[0].copy()
    with pytest.raises(ValueError, match="X contains NaN or infinity, or values beyond float32"):
        call(net, method, X)
    np.testing.assert_array_equal(net.weights[0], before)
    assert np.isfinite(fastnn.MLP((3, 2), dtype="float64", backend=backend).forward(X)).all()


@pytest.mark.parametrize(
    "X",
    [
        np.array([["a", "b", "c"]]),
        [["1", "2", "3"]],
        np.array([[b"a", b"b", b"c"]]),
        np.array([[1, None, 2]], dtype=object),
        np.array([[1.0, 2.0, 3.0]], dtype=object),
        np.array([[1 + 1j, 2, 3]]),
        np.array([["2020-01-01"] * 3], dtype="datetime64[D]"),
        np.zeros((1, 3), dtype=[("a", "f4")]),
        None,
        "text",
        object(),
        {"X": 1},
    ],
    ids=lambda X: str(getattr(X, "dtype", type(X).__name__)),
)
@pytest.mark.parametrize("method", METHODS)
def test_not_numbers(net, method, X):
    with pytest.raises(TypeError, match="X must hold real numbers, got dtype"):
        call(net, method, X)


def test_ragged_lists_and_masked_entries(net):
    with pytest.raises(ValueError, match="X is not a rectangular array of numbers"):
        net.predict([[1, 2, 3], [4, 5]])
    masked = np.ma.masked_array(good_X(), mask=np.eye(N, 3))
    with pytest.raises(ValueError, match="X has masked entries"):
        net.predict(masked)


# ---- y ----


@pytest.mark.parametrize("method", METHODS_WITH_Y)
def test_unequal_lengths(net, method):
    message = r"X has shape \(6, 3\) and y has shape \(5,\): unequal lengths"
    with pytest.raises(ValueError, match=message):
        call(net, method, good_X(), good_y(5))


WRONG_CLASSES = {
    "negative": ([0, 1, 0, 1, 0, -1], "labels from -1 to 1, outside 0 ... 1"),
    "too large": ([0, 1, 0, 1, 0, 2], "labels from 0 to 2, outside 0 ... 1"),
    "huge": (np.array([0, 1, 0, 1, 0, 2**40]), "outside 0 ... 1"),
    "huge unsigned": (np.array([0, 1, 0, 1, 0, 2**63 + 1], dtype=np.uint64), "outside 0 ... 1"),
    "fractions": ([0, 1, 0, 1, 0, 0.5], "class indices and must be integers"),
    "NaN": ([0, 1, 0, 1, 0, np.nan], "y contains NaN or infinity"),
    "infinity": ([0, 1, 0, 1, 0, np.inf], "y contains NaN or infinity"),
    "column": ([[0], [1], [0], [1], [0], [1]], r"y has shape \(6, 1\).*\(6, 2\).*\(n,\)"),
    "3 columns": (np.eye(6, 3), r"y has shape \(6, 3\).*\(6, 2\)"),
    "3-D": (np.zeros((6, 2, 1)), r"y has shape \(6, 2, 1\).*\(6, 2\)"),
    "0-D": (1, r"y has shape \(\)"),
    "rows of zeros": (np.zeros((6, 2)), "every row must sum to 1; row 0 sums to 0"),
    "rows of ones": (np.ones((6, 2)), "every row must sum to 1; row 0 sums to 2"),
    "negative labels": (np.tile([-1.0, 2.0], (6, 1)), "y has negative entries"),
    "soft NaN": (np.full((6, 2), np.nan), "y contains NaN or infinity"),
}


@pytest.mark.parametrize("case", WRONG_CLASSES)
@pytest.mark.parametrize("method", METHODS_WITH_Y)
def test_wrong_labels_for_softmax(net, method, case):
    y, message = WRONG_CLASSES[case]
    with pytest.raises(ValueError, match=message):
        call(net, method, good_X(), y)


@pytest.mark.parametrize(
    "y", [list("ababab"), [None] * 6, [1j] * 6, np.array([0, 1] * 3, dtype=object)], ids=str
)
@pytest.mark.parametrize("method", METHODS_WITH_Y)
def test_labels_that_are_not_numbers(net, method, y):
    with pytest.raises(TypeError, match="y must hold real numbers"):
        call(net, method, good_X(), y)


# output, y for n = 2 samples and 3 outputs, message
WRONG_TARGETS = {
    "sigmoid above 1": ("sigmoid", [[0, 1, 2], [0, 0, 0]], "above 1"),
    "sigmoid negative": ("sigmoid", [[0, 1, -1], [0, 0, 0]], "negative"),
    "sigmoid 1-D": ("sigmoid", [0, 1], r"y has shape \(2,\).*\(2, 3\)"),
    "sigmoid NaN": ("sigmoid", [[0, 1, np.nan], [0, 0, 0]], "y contains NaN"),
    "identity 1-D": ("identity", [0, 1], r"y has shape \(2,\).*\(2, 3\)"),
    "identity infinity": ("identity", [[0, 1, np.inf], [0, 0, 0]], "y contains NaN or infinity"),
    "exp negative": ("exp", [[0, 1, -1], [0, 0, 0]], "negative"),
    "exp width": ("exp", [[0, 1], [0, 0]], r"y has shape \(2, 2\).*\(2, 3\)"),
}


@pytest.mark.parametrize("case", WRONG_TARGETS)
@pytest.mark.parametrize("method", METHODS_WITH_Y)
def test_wrong_targets_for_other_outputs(backend, method, case):
    output, y, message = WRONG_TARGETS[case]
    net = fastnn.MLP((3, 3), output=output, backend=backend)
    before = net.weights[0].copy()
    with pytest.raises(ValueError, match=message):
        call(net, method, good_X(2), y)
    np.testing.assert_array_equal(net.weights[0], before)


def test_targets_beyond_float32(backend):
    net = fastnn.MLP((3, 1), output="identity", dtype="float32", backend=backend)
    with pytest.raises(ValueError, match="y contains NaN or infinity, or values beyond float32"):
        net.fit(good_X(1), [1e39])


# ---- sample weights ----

WRONG_WEIGHTS = {
    "negative": ([1, 1, 1, 1, 1, -1], "sample_weight has negative entries"),
    "all zero": ([0] * 6, "sample_weight is zero everywhere"),
    "NaN": ([1, 1, 1, 1, 1, np.nan], "sample_weight contains NaN or infinity"),
    "infinity": ([1, 1, 1, 1, 1, np.inf], "sample_weight contains NaN or infinity"),
    "length": ([1] * 5, r"X has shape \(6, 3\) and sample_weight has shape \(5,\)"),
    "column": ([[1]] * 6, r"sample_weight has shape \(6, 1\), not \(6,\)"),
    "number": (2.0, r"sample_weight has shape \(\)"),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
@pytest.mark.parametrize("method", METHODS_WITH_Y)
def test_wrong_sample_weights(net, method, case):
    w, message = WRONG_WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        call(net, method, good_X(), sample_weight=w)


def test_sample_weights_that_are_not_numbers(net):
    with pytest.raises(TypeError, match="sample_weight must hold real numbers"):
        net.fit(good_X(), good_y(), sample_weight=list("aaaaaa"))


# ---- the other arguments ----

WRONG_ARGUMENTS = {
    "epochs 0": ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1"),
    "epochs 1.5": ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
    "epochs True": ({"epochs": True}, ValueError, "epochs must be an integer"),
    "batch_size 0": ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1"),
    "batch_size text": ({"batch_size": "8"}, TypeError, "batch_size must be an integer"),
    "learning_rate 0": ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number"),
    "learning_rate -1": ({"learning_rate": -1}, ValueError, "learning_rate must be a finite"),
    "learning_rate NaN": ({"learning_rate": np.nan}, ValueError, "learning_rate must be a finite"),
    "learning_rate inf": ({"learning_rate": np.inf}, ValueError, "learning_rate must be a finite"),
    "learning_rate text": ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
    "l2": ({"l2": -1.0}, ValueError, "l2 must be a finite number of at least 0"),
    "l1": ({"l1": np.nan}, ValueError, "l1 must be a finite number of at least 0"),
    "dropout 1": ({"dropout": 1.0}, ValueError, "dropout must be below 1, got 1"),
    "dropout -0.1": ({"dropout": -0.1}, ValueError, "dropout must be a finite number of at least"),
    "dropout NaN": ({"dropout": np.nan}, ValueError, "dropout must be a finite number of at least"),
    "dropout text": ({"dropout": "much"}, TypeError, "dropout must be a number, got 'much'"),
    "dropout None": ({"dropout": None}, TypeError, "dropout must be a number, got None"),
    "dropout of one": (
        {"dropout": (0.5,)},
        ValueError,
        "dropout takes one number .* or 2, .*got 1",
    ),
    "dropout of four": ({"dropout": [0.1] * 4}, ValueError, "dropout takes one number .*got 4"),
    "dropout of one 1": ({"dropout": (0.2, 1)}, ValueError, "dropout must be below 1, got 1"),
    "dropout of one NaN": ({"dropout": (np.nan, 0)}, ValueError, r"dropout\[0\] must be a finite"),
    "dropout in 2-D": ({"dropout": np.zeros((2, 2))}, TypeError, r"dropout\[0\] must be a number"),
    "clip_value 0": ({"clip_value": 0.0}, ValueError, "clip_value must be a finite number above 0"),
    "clip_value -1": ({"clip_value": -1}, ValueError, "clip_value must be a finite number above 0"),
    "clip_value NaN": ({"clip_value": np.nan}, ValueError, "clip_value must be a finite number"),
    "clip_value text": ({"clip_value": "norm"}, TypeError, "clip_value must be a number"),
    "clip_norm 0": ({"clip_norm": 0.0}, ValueError, "clip_norm must be a finite number above 0"),
    "clip_norm inf": ({"clip_norm": np.inf}, ValueError, "clip_norm must be a finite number"),
    "loss": ({"loss": "hinge"}, ValueError, f"unknown loss 'hinge'; known: {', '.join(LOSSES)}"),
    "loss of other output": ({"loss": "poisson"}, ValueError, "poisson' needs the output exp"),
    "optimizer": ({"optimizer": "adamax"}, ValueError, "unknown optimizer 'adamax'; known: sgd, a"),
    "optimizer class": ({"optimizer": SGD}, ValueError, "unknown optimizer"),
    "validation 0": ({"validation": 0.0}, ValueError, "validation must be None, a fraction"),
    "validation 1": ({"validation": 1.0}, ValueError, "validation must be None, a fraction"),
    "validation text": ({"validation": "some"}, TypeError, "validation must be a number"),
    "validation X": ({"validation": (good_X(),)}, ValueError, "validation must be .*got 1 items"),
    "validation width": (
        {"validation": (np.ones((2, 4)), [0, 1])},
        ValueError,
        r"validation X has shape \(2, 4\)",
    ),
    "validation lengths": (
        {"validation": (good_X(), [0, 1])},
        ValueError,
        "validation y has shape",
    ),
    "validation labels": (
        {"validation": (good_X(2), [0, 2])},
        ValueError,
        "validation y holds labels",
    ),
    "validation weights": (
        {"validation": (good_X(2), [0, 1], [0, 0])},
        ValueError,
        "validation sample_weight is zero",
    ),
    "validation NaN": (
        {"validation": (np.full((2, 3), np.nan), [0, 1])},
        ValueError,
        "validation data: X contains NaN or infinity",
    ),
    "weights only on one side": (
        {"validation": 0.5, "sample_weight": [1, 0, 0, 0, 0, 0]},
        ValueError,
        "sample_weight is zero on every row of a part",
    ),
    "factors number": (
        {"learning_rate_factors": [1.0]},
        ValueError,
        "learning_rate_factors must be one number for each of the 2 layers",
    ),
    "factors zero": ({"learning_rate_factors": [0, 0]}, ValueError, "not all of them 0"),
    "factors negative": (
        {"learning_rate_factors": [1, -1]},
        ValueError,
        "learning_rate_factors must be a finite number of at least 0",
    ),
    "factors not a sequence": ({"learning_rate_factors": 0.5}, ValueError, "for each of the 2 lay"),
    "factors text": ({"learning_rate_factors": "no"}, TypeError, "learning_rate_factors must be a"),
    "schedule class": (
        {"learning_rate": schedules.Cosine},
        TypeError,
        "learning_rate must be a number",
    ),
    "schedule text": (
        {"learning_rate": lambda step: "0.1"},
        TypeError,
        "learning_rate, a function, must return numbers",
    ),
    "schedule negative": (
        {"learning_rate": lambda step: 0.1 - step, "batch_size": 2},
        ValueError,
        "learning_rate must be a finite number of at least 0 .* -0.9 for step 1",
    ),
    "schedule NaN": (
        {"learning_rate": lambda step: np.nan},
        ValueError,
        "learning_rate must be a finite number .* nan for step 0",
    ),
    "callbacks": ({"callbacks": [3]}, TypeError, "callbacks must be"),
    "callback class": ({"callbacks": [fastnn.callbacks.Callback]}, TypeError, "callbacks must be"),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_arguments_of_fit(net, case):
    arguments, error, message = WRONG_ARGUMENTS[case]
    with pytest.raises(error, match=message):
        net.fit(good_X(), good_y(), **arguments)


def test_a_fraction_of_one_sample(net):
    with pytest.raises(ValueError, match="needs at least 2 samples"):
        net.fit(good_X(1), [0], validation=0.5)


@pytest.mark.parametrize("output", ["identity", "exp"])
def test_predict_proba_of_values(backend, output):
    with pytest.raises(ValueError, match="predict_proba needs the output softmax or sigmoid"):
        fastnn.MLP((3, 2), output=output, backend=backend).predict_proba(good_X())


# ---- weights ----

WRONG_PARAMETERS = {
    "number": ([np.zeros((4, 3))], ValueError, "weights takes 2 arrays, .*got 1"),
    "shape": ([np.zeros((3, 4)), np.zeros((2, 4))], ValueError, r"\(3, 4\), the network's is \(4"),
    "NaN": ([np.full((4, 3), np.nan), np.zeros((2, 4))], ValueError, r"weights\[0\] contains NaN"),
    "text": ([np.full((4, 3), "a"), np.zeros((2, 4))], TypeError, r"weights\[0\] must hold real"),
}


@pytest.mark.parametrize("case", WRONG_PARAMETERS)
def test_wrong_weights(net, case):
    arrays, error, message = WRONG_PARAMETERS[case]
    with pytest.raises(error, match=message):
        net.weights = arrays


def test_wrong_biases(net):
    with pytest.raises(ValueError, match=r"biases\[1\] has shape \(3,\), the network's is \(2,\)"):
        net.biases = [np.zeros(4), np.zeros(3)]
    with pytest.raises(ValueError, match=r"biases\[1\] contains NaN or infinity"):
        net.biases = [np.zeros(4), np.full(2, np.inf)]


def test_weights_cannot_be_edited_in_place(net):
    with pytest.raises(ValueError, match="read-only"):
        net.weights[0][0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        net.biases[0][...] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        net.weights[0] = np.zeros((4, 3))


def test_weights_cannot_be_assigned_while_fit_is_running(backend):
    net = fastnn.MLP((3, 4, 2), backend=backend)

    def assign(run):
        run.net.weights = [np.zeros((4, 3)), np.zeros((2, 4))]

    with pytest.raises(RuntimeError, match="weights cannot be assigned while fit is running"):
        net.fit(good_X(), good_y(), callbacks=assign)
    net.weights = [np.zeros((4, 3)), np.zeros((2, 4))]
    assert not net.weights[0].any()


# ---- before fit, and divergence ----


def test_predict_before_fit_works(net):
    assert net.predict(good_X()).shape == (N,)


@pytest.mark.parametrize("size", ["large", "infinite"])
def test_divergence_is_told_and_the_last_finite_epoch_kept(backend, dtype, size):
    """Squared error with too high a rate grows without bound, epoch by epoch."""
    X, y = 10 * good_X(), good_X()[:, :1]
    net = fastnn.MLP((3, 8, 1), output="identity", dtype=dtype, backend=backend)
    kept = []

    def keep(run):
        kept.append([array.copy() for array in net.weights + net.biases])
        run.learning_rate = 3.0 if size == "large" else 1e30

    with pytest.raises(fastnn.DivergenceError, match=r"epoch \d+.*lower learning_rate") as error:
        net.fit(X, y, epochs=5000, optimizer="sgd", learning_rate=1e-4, callbacks=keep)
    assert isinstance(error.value, ValueError)
    assert f"in epoch {len(kept) + 1};" in str(error.value)
    assert net.epochs_trained == len(kept) == len(net.history["loss"]) >= 1
    for array, expected in zip(net.weights + net.biases, kept[-1], strict=True):
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, expected)
    assert net.forward(good_X()).shape == (N, 1)


def test_divergence_in_the_first_epoch_keeps_the_first_weights(net):
    with pytest.raises(fastnn.DivergenceError, match="in epoch 1;"):
        net.fit(1e30 * good_X(), good_y(), epochs=3, optimizer="sgd", learning_rate=1e300)
