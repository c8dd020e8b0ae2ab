"""scikit-learn's own checks of estimators, all of them, none expected to fail."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn.sklearn import MLPClassifier, MLPRegressor


@parametrize_with_checks(
    [
        MLPClassifier(),
        MLPRegressor(),
        MLPRegressor(solver="lbfgs"),
        MLPClassifier(solver="sgd", activation=("tanh",), backend="numpy"),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
