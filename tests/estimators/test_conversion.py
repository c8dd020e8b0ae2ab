"""Fitted models go from scikit-learn to fastnn and back, and predict the same."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from fastnn.sklearn import MLPClassifier, MLPRegressor, from_sklearn, to_sklearn

X, Y = load_digits(return_X_y=True)
X = X / 16
LABELS = (Y[:, np.newaxis] % [2, 3, 4] == 0).astype(int)
X_VALUES, Y_VALUES = load_diabetes(return_X_y=True)
X_VALUES, Y_VALUES = X_VALUES * 20, (Y_VALUES - 150) / 80

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
METHODS = ("predict", "predict_proba", "predict_log_proba")


def fitted(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def assert_same_predictions(one, other, X, tolerance):
    for name in METHODS:
        if not hasattr(one, name):
            continue
        expected, given = getattr(one, name)(X), getattr(other, name)(X)
        assert given.dtype == expected.dtype
        assert given.shape == expected.shape
        if name == "predict" and is_classifier(one):
            np.testing.assert_array_equal(given, expected)
        elif name == "predict_log_proba":  # relative to the probability, hence absolute here
            likely = expected > -5
            np.testing.assert_allclose(given[likely], expected[likely], atol=1e3 * tolerance)
        else:
            np.testing.assert_allclose(given, expected, rtol=tolerance * 10, atol=tolerance)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("y", [Y, Y > 4, LABELS, Y.astype("U")], ids=["10", "2", "labels", "text"])
def test_classifiers_predict_the_same(activation, y, dtype):
    model = sklearn.neural_network.MLPClassifier((30, 20), activation, max_iter=3, random_state=0)
    data = X.astype(dtype)
    fitted(model, data, y)
    ours = from_sklearn(model)
    assert ours.get_params() == {**ours.get_params(), **model.get_params()}
    assert_same_predictions(model, ours, data, TOLERANCE[dtype])
    assert_same_predictions(ours, to_sklearn(ours), data, TOLERANCE[dtype])


@pytest.mark.parametrize("y", [Y_VALUES, np.column_stack([Y_VALUES, -Y_VALUES])], ids=["1", "2"])
def test_regressors_predict_the_same(y, dtype):
    model = sklearn.neural_network.MLPRegressor(max_iter=3, random_state=0)
    data = X_VALUES.astype(dtype)
    fitted(model, data, y)
    ours = from_sklearn(model)
    assert_same_predictions(model, ours, data, TOLERANCE[dtype])
    assert_same_predictions(ours, to_sklearn(ours), data, TOLERANCE[dtype])


@pytest.mark.parametrize("hidden", [(), 7, [5, 4, 3]])
def test_shapes_of_networks(hidden):
    model = fitted(sklearn.neural_network.MLPClassifier(hidden, max_iter=2, random_state=0), X, Y)
    assert_same_predictions(model, from_sklearn(model), X, 1e-12)


def test_what_is_learned_comes_along():
    model = sklearn.neural_network.MLPClassifier(early_stopping=True, max_iter=3, random_state=0)
    ours = from_sklearn(fitted(model, X, Y))
    back = to_sklearn(ours)
    for name in ("n_iter_", "t_", "loss_", "loss_curve_", "validation_scores_", "n_layers_"):
        assert getattr(ours, name) == getattr(back, name) == getattr(model, name)
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(ours, name), getattr(model, name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_training_goes_on_from_a_converted_model():
    model = fitted(sklearn.neural_network.MLPClassifier(max_iter=3, random_state=0), X, Y)
    ours = from_sklearn(model).partial_fit(X, Y)
    back = to_sklearn(ours).partial_fit(X, Y)
    assert ours.loss_curve_[-1] < model.loss_curve_[-1]
    assert back.loss_curve_[-1] < ours.loss_curve_[-1]


def test_what_cannot_be_converted():
    with pytest.raises(TypeError, match="LogisticRegression"):
        from_sklearn(LogisticRegression().fit(X[:100], Y[:100]))
    with pytest.raises(NotFittedError):
        from_sklearn(sklearn.neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        to_sklearn(MLPRegressor())
    for activation in ("gelu", ("relu", "tanh")):
        model = fitted(MLPClassifier((5, 5) if activation != "gelu" else (5,), activation), X, Y)
        with pytest.raises(ValueError, match="activation"):
            to_sklearn(model)


def test_fastnns_own_name_of_the_logistic_function():
    model = fitted(MLPClassifier((5,), "sigmoid", max_iter=2), X, Y)
    assert to_sklearn(model).activation == "logistic"
