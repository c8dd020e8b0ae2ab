"""Displays: what they draw is what the estimator holds."""

from __future__ import annotations

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from fastnn.sklearn import MLPClassifier, TrainingCurveDisplay, WeightsDisplay

mpl.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def model():
    return MLPClassifier((20,), early_stopping=True, max_iter=4, random_state=0).fit(X, Y)


def test_training_curves(model):
    display = TrainingCurveDisplay.from_estimator(model)
    drawn = {line.get_label(): list(line.get_ydata()) for line in display.lines_}
    assert drawn == {
        "training loss": model.loss_curve_,
        "validation loss": model.validation_loss_curve_,
        "validation score": model.validation_scores_,
    }
    assert list(display.lines_[0].get_xdata()) == [1, 2, 3, 4]
    assert display.ax_.get_title() == "MLPClassifier"


def test_a_curve_without_validation_on_given_axes():
    model = MLPClassifier(max_iter=2).fit(X, Y)
    _, ax = plt.subplots()
    display = TrainingCurveDisplay.from_estimator(model, ax=ax, name="mine", log_scale=True)
    assert display.ax_ is ax
    assert display.score_ax_ is None
    assert len(display.lines_) == 1
    assert (ax.get_title(), ax.get_yscale()) == ("mine", "log")


def test_plot_takes_settings_of_lines(model):
    display = TrainingCurveDisplay(loss_curve=model.loss_curve_).plot(color="red")
    assert display.lines_[0].get_color() == "red"


def test_images_of_weights(model):
    display = WeightsDisplay.from_estimator(model, neurons=[3, 1])
    W = model.coefs_[0]
    for image, neuron in zip(display.images_, [3, 1], strict=True):
        np.testing.assert_array_equal(image.get_array(), W[:, neuron].reshape(8, 8))
        low, high = image.get_clim()
        assert low == -high == -np.abs(W[:, [3, 1]]).max()


def test_the_neurons_with_the_largest_weights_come_first(model):
    display = WeightsDisplay.from_estimator(model, neurons=5, image_shape=(4, 16))
    norms = np.linalg.norm(display.images, axis=(1, 2))
    expected = np.sort(np.linalg.norm(model.coefs_[0], axis=0))[::-1][:5]
    np.testing.assert_allclose(norms, expected)
    assert display.images.shape == (5, 4, 16)


def test_wrong_input(model):
    with pytest.raises(ValueError, match="image_shape"):
        WeightsDisplay.from_estimator(model, image_shape=(8, 9))
    with pytest.raises(NotFittedError):
        WeightsDisplay.from_estimator(MLPClassifier())
    with pytest.raises(ValueError, match="lbfgs"):
        TrainingCurveDisplay.from_estimator(MLPClassifier(solver="lbfgs", max_iter=2).fit(X, Y))


def test_without_matplotlib(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in (TrainingCurveDisplay, WeightsDisplay):
        with pytest.raises(ImportError, match=r"pip install 'fastnn-cpu\[plot\]'"):
            display.from_estimator(model)
