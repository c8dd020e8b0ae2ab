"""The estimators inside what scikit-learn builds around estimators."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import DecisionBoundaryDisplay, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    LearningCurveDisplay,
    cross_val_predict,
    cross_val_score,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

from fastnn.sklearn import MLPClassifier, MLPRegressor

mpl.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X)


def classifier(**parameters):
    return MLPClassifier((16,), random_state=0, max_iter=30, learning_rate_init=0.01, **parameters)


def test_pipeline():
    model = make_pipeline(StandardScaler(), classifier()).fit(X, Y)
    assert model.score(X, Y) > 0.95
    assert model.transform(X).shape == (len(X), 16)


def test_grid_search_in_two_processes():
    """Each fit gets one of the two cores: loky tells, and fastnn listens."""
    search = GridSearchCV(
        classifier(), {"alpha": [1e-5, 1.0], "activation": ["relu", ("gelu",)]}, n_jobs=2, cv=3
    )
    alone = clone(search).set_params(n_jobs=1).fit(X, Y)
    search.fit(X, Y)
    assert search.best_score_ > 0.95
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_cross_validation():
    assert cross_val_score(classifier(), X, Y, cv=3).mean() > 0.94
    proba = cross_val_predict(classifier(), X, Y, cv=3, method="predict_proba")
    assert proba.shape == (len(X), 2)


@pytest.mark.parametrize(
    "meta",
    [
        CalibratedClassifierCV(classifier(), cv=3),
        BaggingClassifier(classifier(), n_estimators=3, random_state=0),
        StackingClassifier([("mlp", classifier()), ("line", LogisticRegression())], cv=3),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_classifiers_of_classifiers(meta):
    assert meta.fit(X, Y).score(X, Y) > 0.95


def test_voting_regressor():
    X, y = load_diabetes(return_X_y=True)
    y = (y - 150) / 80
    one = MLPRegressor(
        hidden_layer_sizes=(16,), max_iter=100, learning_rate_init=0.01, random_state=0
    )
    model = VotingRegressor([("one", one), ("other", clone(one).set_params(activation="tanh"))])
    assert model.fit(X * 20, y).score(X * 20, y) > 0.4


def test_multi_output_classifier():
    y = np.column_stack([Y, (X[:, 0] > 0).astype(int)])
    assert MultiOutputClassifier(classifier()).fit(X, y).predict(X).shape == (len(X), 2)


def test_permutation_importance():
    model = classifier().fit(X[:, :5], Y)
    importance = permutation_importance(model, X[:, :5], Y, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0.01


def test_displays_of_scikit_learn():
    model = classifier().fit(X[:, :2], Y)
    assert DecisionBoundaryDisplay.from_estimator(model, X[:, :2]).surface_ is not None
    display = LearningCurveDisplay.from_estimator(classifier(), X, Y, train_sizes=[0.5, 1.0], cv=2)
    assert len(display.test_scores) == 2


def frame():
    return pd.DataFrame({"width": X[:, 0], "color": np.where(X[:, 1] > 0, "red", "blue")})


def test_column_transformer_and_frames():
    columns = ColumnTransformer(
        [("w", StandardScaler(), ["width"]), ("c", OneHotEncoder(), ["color"])]
    )
    model = make_pipeline(columns, classifier()).set_output(transform="default").fit(frame(), Y)
    assert model.score(frame(), Y) > 0.85


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_and_names_of_features(library):
    module = pytest.importorskip(library)
    data = module.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    model = classifier().set_output(transform=library).fit(data, Y)
    assert list(model.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(model.predict(data), model.predict(data))
    hidden = model.transform(data)
    assert isinstance(hidden, module.DataFrame)
    assert list(hidden.columns) == [f"mlpclassifier{i}" for i in range(16)]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(module.DataFrame({"b": X[:, 0], "c": X[:, 1]}))
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X[:, :2])


def test_frames_give_no_warnings_with_validation(recwarn):
    data = pd.DataFrame(X[:, :3], columns=list("abc"))
    model = classifier(early_stopping=True, scoring="balanced_accuracy").fit(data, Y)
    assert len(model.validation_scores_) == model.n_iter_
    model.fit(data, Y, X_val=data, y_val=Y)
    assert [w for w in recwarn if not issubclass(w.category, ConvergenceWarning)] == []


def test_text_labels_and_objects():
    y = np.array(["malignant", "benign"], dtype=object)[Y]
    model = classifier().fit(X, y)
    assert list(model.classes_) == ["benign", "malignant"]
    assert set(model.predict(X)) == {"benign", "malignant"}
    assert model.score(X, y) > 0.95


def test_html_and_text_representations():
    html = estimator_html_repr(classifier().fit(X, Y))
    assert "MLPClassifier" in html
    assert "fitted" in html
    text = repr(MLPClassifier((16,), alpha=1.0))
    assert text == "MLPClassifier(alpha=1.0, hidden_layer_sizes=(16,))"


def test_metadata_routing():
    """sample_weight through a pipeline within a search, asked for by name."""
    weight = np.where(Y == 1, 3.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=False)
        search = GridSearchCV(make_pipeline(scaler, model), {}, cv=2, scoring=scorer)
        search.fit(X, Y, sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    alone = classifier().fit(scaled, Y, sample_weight=weight)
    np.testing.assert_array_equal(search.predict_proba(X), alone.predict_proba(scaled))
    requests = classifier().get_metadata_routing().fit.requests
    assert set(requests) == {"sample_weight", "X_val", "y_val"}
