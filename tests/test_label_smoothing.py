"""Label smoothing: as the smoothed labels themselves, in training alone."""

import math

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters, targets

import fastnn
from fastnn.losses import BinaryCrossEntropy, CrossEntropy

WIDTHS = (3, 18)  # classes: the rows in the lanes up to 16, one row at a time beyond


@pytest.mark.parametrize("n_classes", WIDTHS)
@pytest.mark.parametrize("kind", ["indices", "one-hot", "soft", "multilabel", "binary"])
def test_smoothing_is_training_on_smoothed_labels(backend, kind, n_classes):
    X = np.random.default_rng(0).normal(size=(30, 4))
    output = "sigmoid" if kind in ("multilabel", "binary") else "softmax"
    n_out = 1 if kind == "binary" else n_classes
    y = targets("binary_cross_entropy" if output == "sigmoid" else "cross_entropy", 30, n_out)
    if kind in ("indices", "one-hot"):
        y = np.eye(n_out)[y.argmax(axis=1)]
    smooth = 0.9 * y + 0.1 / (2 if output == "sigmoid" else n_out)
    given = {"indices": y.argmax(axis=1), "binary": y[:, 0]}.get(kind, y)
    net, twin = (
        fastnn.MLP((4, 6, n_out), "tanh", output, dtype="float64", backend=backend)
        for _ in range(2)
    )
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05}
    history = net.fit(X, given, label_smoothing=0.1, **settings)
    expected = twin.fit(X, smooth, **settings)
    assert_close(net, parameters(twin), 1e-9)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-12)


def test_validation_is_without_smoothing(backend):
    X, y = blobs(40)
    for settings in ({"label_smoothing": 0.3}, {"loss": CrossEntropy(label_smoothing=0.3)}):
        net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
        history = net.fit(X, y, epochs=2, validation=(X, y), **settings)
        assert history["val_loss"][-1] == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-12)
        smoothed = net.evaluate(X, y, CrossEntropy(0.3))["loss"]
        assert abs(history["val_loss"][-1] - smoothed) > 0.01


def test_no_smoothing_changes_no_bit(backend, dtype):
    X, y = blobs(40)
    results = set()
    for settings in ({}, {"label_smoothing": 0.0}, {"loss": CrossEntropy(0.0)}):
        net = fastnn.MLP((4, 3), dtype=dtype, backend=backend)
        net.fit(X, y, epochs=2, **settings)
        results.add(net.weights[0].tobytes())
    assert len(results) == 1


WRONG_SMOOTHING = {
    "above": ({"label_smoothing": 1.0}, ValueError, "label_smoothing must be at least 0 and below"),
    "NaN": ({"label_smoothing": math.nan}, ValueError, "label_smoothing must be at least 0"),
    "text": ({"label_smoothing": "some"}, TypeError, "label_smoothing must be a number"),
    "twice": (
        {"label_smoothing": 0.1, "loss": BinaryCrossEntropy(0.2)},
        ValueError,
        "give only one of them",
    ),
    "squared error": (
        {"label_smoothing": 0.1, "loss": "squared_error"},
        ValueError,
        "label_smoothing needs the loss cross_entropy or binary_cross_entropy, this one is squared",
    ),
}


@pytest.mark.parametrize("case", WRONG_SMOOTHING)
def test_wrong_smoothing(backend, case):
    arguments, error, message = WRONG_SMOOTHING[case]
    net = fastnn.MLP((2, 1), output="sigmoid", backend=backend)
    with pytest.raises(error, match=message):
        net.fit(np.ones((3, 2)), [0, 1, 0], **arguments)
