"""Targets of several columns with several classes each: shared hidden layers, a softmax each."""

from __future__ import annotations

import pickle

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

import fastnn
from fastnn.sklearn import MLPClassifier, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, DIGIT = load_digits(return_X_y=True)
X, DIGIT = X[:600] / 16, DIGIT[:600]
NAME = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[
    DIGIT
]
Y = np.column_stack([DIGIT, DIGIT % 3, DIGIT > 4])
WORDS = np.column_stack([NAME, np.where(DIGIT > 4, "large", "small")])


def fitted(y=Y, **settings):
    settings = {"max_iter": 60, "learning_rate_init": 0.01, "random_state": 0} | settings
    return MLPClassifier(**settings).fit(X, y)


def test_shapes_and_attributes_are_those_of_scikit_learns_multioutput():
    model = fitted()
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    for ours, theirs in zip(model.classes_, forest.classes_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert model.predict(X).shape == forest.predict(X).shape
    assert model.predict(X).dtype == Y.dtype
    shapes = [p.shape for p in model.predict_proba(X)]
    assert shapes == [p.shape for p in forest.predict_proba(X)]
    assert [W.shape for W in model.coefs_] == [(64, 100), (100, 15)]
    assert (model.n_outputs_, model.out_activation_) == (15, "softmax")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", fastnn.available_backends())
def test_every_column_is_learned(backend, dtype):
    model = fitted(dtype=dtype, backend=backend)
    assert (model.predict(X) == Y).mean(axis=0).min() > 0.97


def test_the_accuracy_counts_rows_that_are_right_in_all_columns():
    model = fitted(max_iter=5)
    right = [list(a) == list(b) for a, b in zip(model.predict(X), Y, strict=True)]
    weight = np.arange(600.0)
    assert 0.1 < model.score(X, Y) < 1.0
    assert model.score(X, Y) == np.mean(right)
    assert model.score(X, Y, weight) == pytest.approx(np.average(right, weights=weight))


def test_probabilities_belong_to_the_predictions():
    model = fitted(max_iter=5)
    parts = zip(model.predict_proba(X), model.predict_log_proba(X), strict=True)
    for j, (p, ln_p) in enumerate(parts):
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(np.log(p), ln_p, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(model.classes_[j][p.argmax(axis=1)], model.predict(X)[:, j])


def test_a_column_of_one_class():
    model = fitted(np.column_stack([DIGIT, np.full(600, 7)]), max_iter=20)
    assert (model.predict(X)[:, 1] == 7).all()
    np.testing.assert_array_equal(model.predict_proba(X)[1], np.ones((600, 1)))
    assert (model.predict(X)[:, 0] == DIGIT).mean() > 0.9


def test_words_and_frames():
    model = fitted(WORDS)
    assert model.score(X, WORDS) > 0.95
    assert set(model.predict(X)[:, 1]) == {"large", "small"}
    framed = fitted(pandas.DataFrame(WORDS, columns=["digit", "size"]))
    np.testing.assert_array_equal(framed.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "lbfgs"},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1},
        {"early_stopping": True},
        {"early_stopping": True, "scoring": "loss"},
        {"label_smoothing": 0.1},
        {"class_weight": "balanced"},
        {"class_weight": [dict.fromkeys(range(10), 2.0), {0: 3.0, 1: 1.0, 2: 1.0}, {0: 1, 1: 2}]},
        {"warm_start": True},
    ],
    ids=str,
)
def test_with_everything_else(settings):
    model = fitted(**settings)
    assert model.score(X, Y) > 0.85
    if "early_stopping" in settings:
        assert len(model.validation_scores_) == model.n_iter_
    if "warm_start" in settings:
        assert model.fit(X, Y).score(X, Y) > 0.85
        with pytest.raises(ValueError, match="same classes"):
            model.fit(X, Y + 1)


def test_early_stopping_judges_by_the_accuracy_of_all_columns():
    model = MLPClassifier(early_stopping=True, max_iter=20, random_state=0)
    model.fit(X[:400], Y[:400], X_val=X[400:], y_val=Y[400:])
    assert model.best_validation_score_ == model.score(X[400:], Y[400:])


def test_partial_fit():
    model = MLPClassifier(random_state=0, learning_rate_init=0.01)
    classes = [range(10), [2, 1, 0], [0, 1]]
    model.partial_fit(X[:50], Y[:50], classes=classes)  # may lack some
    for _ in range(30):
        model.partial_fit(X, Y, classes=classes)
    assert model.score(X, Y) > 0.95
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, Y, classes=[range(9), [0, 1, 2], [0, 1]])
    with pytest.raises(ValueError, match="has classes not in"):
        model.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="y has 2 columns, but 3 are known"):
        model.partial_fit(X, Y[:, :2])


def test_clone_pickle_search():
    search = GridSearchCV(MLPClassifier(max_iter=20, random_state=0), {"alpha": [1e-4, 1.0]}, cv=2)
    model = search.fit(X, Y).best_estimator_
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    refitted = clone(model).fit(X, Y)
    np.testing.assert_array_equal(refitted.predict(X), model.predict(X))


def test_scikit_learns_has_no_such_thing():
    with pytest.raises(ValueError, match="several targets"):
        to_sklearn(fitted(max_iter=2))
