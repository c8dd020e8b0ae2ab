"""Data that are refused, and with which error; and trainings that diverge.

After every error the model is as it was and can be used: `net` of conftest.py sees to that.
"""

import numpy as np
import pytest
from conftest import N, good_X, good_y

import fastnn

METHODS = ("forward", "predict", "predict_proba", "evaluate", "loss_and_gradients", "fit")
METHODS_WITH_Y = ("evaluate", "loss_and_gradients", "fit")


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
