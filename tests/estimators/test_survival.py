"""Fitted estimators and pipelines survive pickle, joblib, clone, and other processes."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def model():
    return make_pipeline(MinMaxScaler(), MLPClassifier(max_iter=5, random_state=0)).fit(X, Y)


def through_joblib(model, path):
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib")


def mapped_into_memory(model, path):
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib", mmap_mode="r")


@pytest.mark.parametrize(
    "way",
    [lambda model, path: pickle.loads(pickle.dumps(model)), through_joblib, mapped_into_memory],
    ids=["pickle", "joblib", "joblib mapped"],
)
def test_files(model, tmp_path, way):
    again = way(model, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    if way is not mapped_into_memory:  # whose optimizer's state is read-only
        again[-1].partial_fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_training_goes_on_after_pickle_as_if_nothing_had_been(solver):
    model = MLPClassifier(solver=solver, random_state=0)
    for _ in range(3):
        model.partial_fit(X, Y, classes=np.arange(10))
    again = pickle.loads(pickle.dumps(model))
    for each in (model, again):
        each.partial_fit(X, Y)
    for one, other in zip(model.coefs_, again.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)


def test_clone_has_the_parameters_and_nothing_else(model):
    copy = clone(model)
    assert copy[-1].get_params() == model[-1].get_params()
    assert not hasattr(copy[-1], "coefs_")
    again = copy.fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_fresh_interpreter(model, tmp_path):
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np\n"
        "model = pickle.load(open('model.pickle', 'rb'))\n"
        "sys.stdout.buffer.write(model.predict_proba(np.load('X.npy')).tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout == model.predict_proba(X).tobytes()


def predicted_and_refitted(model):
    return model.predict_proba(X), clone(model).fit(X, Y).predict_proba(X)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(model, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        predicted, refitted = pool.apply(predicted_and_refitted, (model,))
    np.testing.assert_array_equal(predicted, model.predict_proba(X))
    np.testing.assert_array_equal(refitted, model.predict_proba(X))


def test_size_of_a_pickle():
    """Weights and the optimizer's two states, as scikit-learn's has them."""
    model = MLPRegressor(hidden_layer_sizes=(300,), max_iter=2).fit(X, Y)
    buffer = io.BytesIO()
    pickle.dump(model, buffer)
    assert buffer.tell() < 3 * 8 * model.network_.n_parameters + 20_000
