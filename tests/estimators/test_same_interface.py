"""Every parameter, attribute and method of scikit-learn's two classes is there."""

from __future__ import annotations

import doctest
import inspect

import numpy as np
import pytest
import sklearn.neural_network

import fastnn.sklearn

PAIRS = [
    (sklearn.neural_network.MLPClassifier, fastnn.sklearn.MLPClassifier),
    (sklearn.neural_network.MLPRegressor, fastnn.sklearn.MLPRegressor),
]
# Settings under which scikit-learn's has different attributes after fit.
SETTINGS = [{}, {"solver": "sgd"}, {"solver": "lbfgs"}, {"early_stopping": True}]


def defaults_of(function):
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def public(names):
    return {name for name in names if not name.startswith("_")}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_parameters_and_their_defaults(theirs, ours):
    expected = defaults_of(theirs.__init__)
    given = defaults_of(ours.__init__)
    assert {name: given.get(name, "missing") for name in expected} == expected


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_order_of_positional_parameters(theirs, ours):
    def positional(function):
        parameters = inspect.signature(function).parameters.values()
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    given = positional(ours)
    if "loss" not in positional(theirs):  # the regressor's, new in scikit-learn 1.7
        given = [name for name in given if name != "loss"]
    assert given == positional(theirs)


@pytest.mark.parametrize(("_", "ours"), PAIRS)
def test_a_subclass_may_have_a_constructor_of_its_own(_, ours, data):
    class Narrow(ours):
        def __init__(self, alpha=0.5):
            super().__init__(hidden_layer_sizes=(3,), max_iter=2, alpha=alpha)

    assert Narrow().get_params() == {"alpha": 0.5}
    assert [W.shape for W in Narrow().fit(*data).coefs_] == [(3, 3), (3, 1)]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_methods(theirs, ours):
    assert public(dir(theirs)) - public(dir(ours)) == set()


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("name", ["fit", "partial_fit", "predict", "predict_proba", "score"])
def test_arguments_of_methods(theirs, ours, name):
    if not hasattr(theirs, name):
        assert not hasattr(ours, name)
        return
    expected = defaults_of(getattr(theirs, name))
    given = defaults_of(getattr(ours, name))
    assert {key: given.get(key, "missing") for key in expected} == expected
    assert list(given)[: len(expected)] == list(expected) or "sample_weight" not in expected


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_learned_attributes(theirs, ours, settings, data):
    expected = theirs(max_iter=2, **settings).fit(*data)
    given = ours(max_iter=2, **settings).fit(*data)
    names = {name for name in public(vars(expected)) if name.endswith("_")}
    assert {name for name in names if not hasattr(given, name)} == set()
    for name in names:
        assert isinstance(getattr(expected, name), type(getattr(given, name))), name


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_documented_attributes(theirs, ours, data):
    """Those that the docstring names under Attributes."""
    lines = inspect.getdoc(theirs).split("Attributes\n----------\n")[1]
    lines = lines.split("\nSee Also\n")[0].splitlines()
    names = {line.split(" : ")[0] for line in lines if " : " in line and line[0] != " "}
    assert len(names) >= 14
    given = ours(max_iter=2).fit(*data)
    missing = {name for name in names if not hasattr(given, name)}
    assert missing <= {"feature_names_in_"}  # where X has names


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_partial_fit_is_there_for_the_same_solvers(theirs, ours, solver):
    if theirs is sklearn.neural_network.MLPRegressor and solver == "lbfgs":
        # scikit-learn means it so too, but calls no check.
        assert not hasattr(ours(solver=solver), "partial_fit")
        return
    assert hasattr(ours(solver=solver), "partial_fit") == hasattr(
        theirs(solver=solver), "partial_fit"
    )


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_tags(theirs, ours):
    expected, given = theirs().__sklearn_tags__(), ours().__sklearn_tags__()
    assert given.estimator_type == expected.estimator_type
    assert given.input_tags == expected.input_tags
    assert given.classifier_tags == expected.classifier_tags
    assert given.regressor_tags == expected.regressor_tags
    assert given.target_tags.required == expected.target_tags.required


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -1.0},
        {"activation": "rulu"},
        {"solver": "sdg"},
        {"batch_size": 0},
        {"learning_rate_init": 0.0},
        {"max_iter": 0},
        {"hidden_layer_sizes": (10, -1)},
        {"hidden_layer_sizes": "ten"},
        {"tol": -1e-4},
        {"momentum": 1.5},
        {"beta_1": 1.0},
        {"epsilon": 0.0},
        {"validation_fraction": 1.0},
        {"n_iter_no_change": 0},
    ],
)
def test_the_same_values_are_wrong(theirs, ours, wrong, data):
    for estimator in (theirs, ours):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            estimator(**wrong).fit(*data)


@pytest.mark.parametrize("ours", [ours for _, ours in PAIRS])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_docstrings(ours):
    """Examples run, and every parameter is explained."""
    for example in doctest.DocTestFinder(recurse=False).find(ours, globs={}):
        assert doctest.DocTestRunner().run(example).failed == 0
    names = set(ours().get_params())
    lines = inspect.getdoc(ours).split("\nAttributes\n")[0].splitlines()
    explained = {
        name.strip()
        for line in lines
        if " : " in line and line[0] != " "
        for name in line.split(" : ")[0].split(",")
    }
    assert explained == names
