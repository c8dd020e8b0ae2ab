"""The same random_state gives scikit-learn's start, order of samples and steps, up to rounding.

Bounds: both round every operation, in other orders. What a step adds to the difference is some
units in the last place of a weight; Adam divides by roots of tiny gradients, and a few dozen steps
of it stay within 1e-9 in float64 on these data (measured: 1e-14), within 1e-3 in float32.
"""

from __future__ import annotations

import warnings
from inspect import signature

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning

import fastnn.sklearn


def standardized(X):
    sigma = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(sigma == 0, 1, sigma)


def classes(load, n=400):
    X, y = load(return_X_y=True)
    return "MLPClassifier", standardized(X)[:n], y[:n]


def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return "MLPRegressor", standardized(X), standardized(y)


def two_outputs():
    name, X, y = diabetes()
    return name, X, np.column_stack([y, y**2])


def labels():
    name, X, y = classes(load_digits)
    return name, X, (y[:, np.newaxis] % [2, 3, 4] == 0).astype(int)


DATA = {
    "digits": classes(load_digits),
    "breast_cancer": classes(load_breast_cancer),
    "wine": classes(load_wine),
    "diabetes": diabetes(),
    "two outputs": two_outputs(),
    "labels": labels(),
}
# scikit-learn's MLPs take sample_weight from 1.7 on.
HAS_WEIGHTS = "sample_weight" in signature(sklearn.neural_network.MLPClassifier.fit).parameters


def pair(name, **settings):
    return (
        getattr(sklearn.neural_network, name)(random_state=3, **settings),
        getattr(fastnn.sklearn, name)(random_state=3, **settings),
    )


def fit(estimators, X, y, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for estimator in estimators:
            estimator.fit(X, y, **keywords)


def assert_same_weights(theirs, ours, tolerance=1e-9):
    for expected, given in zip(
        theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True
    ):
        assert given.dtype == expected.dtype
        np.testing.assert_allclose(given, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_one_epoch_to_rounding(data, solver):
    name, X, y = DATA[data]
    theirs, ours = pair(name, solver=solver, max_iter=1)
    fit((theirs, ours), X, y)
    assert_same_weights(theirs, ours, 1e-12)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha": 3.0},
        {"batch_size": 64, "hidden_layer_sizes": (20, 10), "activation": "tanh"},
        {"activation": "logistic", "shuffle": False},
        {"activation": "identity", "hidden_layer_sizes": ()},
        {"epsilon": 0.1, "beta_1": 0.5, "beta_2": 0.9},
        {"solver": "sgd", "momentum": 0.0},
        {"solver": "sgd", "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.3},
    ],
    ids=str,
)
def test_several_epochs(data, settings):
    name, X, y = DATA[data]
    theirs, ours = pair(name, max_iter=5, **settings)
    fit((theirs, ours), X, y)
    assert_same_weights(theirs, ours)
    # The penalty of the steps within an epoch is taken to grow evenly.
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=3e-3)
    assert ours.t_ == theirs.t_


@pytest.mark.parametrize("data", DATA)
def test_a_whole_training_ends_where_scikit_learns_does(data):
    name, X, y = DATA[data]
    theirs, ours = pair(name, tol=1e-2, max_iter=100)
    fit((theirs, ours), X, y)
    assert ours.n_iter_ == theirs.n_iter_ > 10
    assert_same_weights(theirs, ours)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=1e-6)
    np.testing.assert_array_equal(ours.predict(X).round(6), theirs.predict(X).round(6))


@pytest.mark.parametrize("data", DATA)
def test_early_stopping(data):
    name, X, y = DATA[data]
    theirs, ours = pair(name, early_stopping=True, max_iter=30, n_iter_no_change=3)
    fit((theirs, ours), X, y)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-9)
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)
    assert_same_weights(theirs, ours)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_adaptive_rates(early_stopping):
    name, X, y = DATA["digits"]
    theirs, ours = pair(
        name,
        solver="sgd",
        learning_rate="adaptive",
        learning_rate_init=0.3,
        tol=1e-2,
        n_iter_no_change=2,
        early_stopping=early_stopping,
    )
    fit((theirs, ours), X, y)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours._learning_rate == theirs._optimizer.learning_rate < 1e-5
    assert_same_weights(theirs, ours)


@pytest.mark.skipif(not HAS_WEIGHTS, reason="scikit-learn 1.6 knows no weights to compare with")
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(
    "settings",
    [{}, {"solver": "sgd", "alpha": 1.0}, {"early_stopping": True}, {"solver": "lbfgs"}],
    ids=str,
)
def test_sample_weights(data, settings):
    name, X, y = DATA[data]
    if data == "two outputs" and settings.get("solver") == "lbfgs":
        pytest.skip("scikit-learn's L-BFGS follows the sum of the outputs, but reports their mean")
    weight = np.random.default_rng(0).integers(0, 4, len(X)) * 0.7
    theirs, ours = pair(name, max_iter=5, **settings)
    fit((theirs, ours), X, y, sample_weight=weight)
    assert_same_weights(theirs, ours)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-2)


@pytest.mark.parametrize("data", ["digits", "breast_cancer", "wine", "diabetes", "labels"])
def test_lbfgs(data):
    name, X, y = DATA[data]
    theirs, ours = pair(name, solver="lbfgs", max_iter=10)
    fit((theirs, ours), X, y)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_)
    assert_same_weights(theirs, ours)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit(solver):
    """The optimizer's state goes on from call to call, and from fit on."""
    name, X, y = DATA["digits"]
    theirs, ours = pair(name, solver=solver, max_iter=2, learning_rate="invscaling")
    for estimator in (theirs, ours):
        for k in range(4):
            part = slice(100 * k, 100 * k + 100)
            estimator.partial_fit(X[part], y[part], classes=np.arange(10))
    assert_same_weights(theirs, ours)
    fit((theirs, ours), X, y)
    for estimator in (theirs, ours):
        estimator.partial_fit(X, y)
    assert_same_weights(theirs, ours)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start(early_stopping):
    name, X, y = DATA["digits"]
    theirs, ours = pair(name, warm_start=True, max_iter=4, early_stopping=early_stopping)
    for _ in range(3):
        fit((theirs, ours), X, y)
    assert_same_weights(theirs, ours)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) == 12
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)


def test_a_random_state_that_is_an_object_goes_on():
    name, X, y = DATA["wine"]
    theirs, ours = pair(name, max_iter=3)
    for estimator in (theirs, ours):
        estimator.set_params(random_state=np.random.RandomState(7))
        fit((estimator,), X, y)
        fit((estimator,), X, y)
    assert_same_weights(theirs, ours)


def test_float32():
    name, X, y = DATA["digits"]
    theirs, ours = pair(name, max_iter=5)
    fit((theirs, ours), X.astype(np.float32), y)
    assert ours.coefs_[0].dtype == np.float32
    assert_same_weights(theirs, ours, 1e-3)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("learning_rate", ["constant", "adaptive"])
def test_lines_of_verbose(capsys, early_stopping, learning_rate):
    name, X, y = DATA["wine"]
    theirs, ours = pair(
        name,
        solver="sgd",
        verbose=True,
        learning_rate=learning_rate,
        learning_rate_init=0.2,
        tol=1e-2,
        n_iter_no_change=2,
        early_stopping=early_stopping,
        alpha=0.0,
    )
    printed = []
    for estimator in (theirs, ours):
        fit((estimator,), X, y)
        printed.append(capsys.readouterr().out.splitlines())
    assert printed[0] == printed[1]


def test_poisson():
    if not HAS_WEIGHTS:
        pytest.skip("scikit-learn 1.6 knows no Poisson loss to compare with")
    name, X, y = DATA["diabetes"]
    theirs, ours = pair(name, loss="poisson", max_iter=5)
    fit((theirs, ours), X, np.round(np.exp(y)))
    assert_same_weights(theirs, ours)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-5)
