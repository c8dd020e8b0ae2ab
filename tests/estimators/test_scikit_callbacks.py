"""sklearn.callback, public from scikit-learn 1.9 on: epochs are tasks of the fit."""

from __future__ import annotations

import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from fastnn.sklearn import MLPClassifier, MLPRegressor

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has it from 1.9 on")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)


class Recorder:
    """What the protocol asks for, and a note of every call."""

    def __init__(self, stop_after=None):
        self.calls, self.stop_after = [], stop_after

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, fitted_estimator=None):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.calls.append(("end", context.task_name, context.task_id))
        score = None if fitted_estimator is None else fitted_estimator.score(X, y)
        self.calls.append(score)
        return self.stop_after is not None and context.task_id + 1 == self.stop_after


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_every_epoch_is_a_task(estimator):
    recorder = Recorder()
    model = estimator(max_iter=3, random_state=0).set_callbacks(recorder).fit(X, Y)
    named = [call for call in recorder.calls if isinstance(call, tuple)]
    epochs = [(what, "epoch", i) for i in range(3) for what in ("begin", "end")]
    assert named == [("begin", "fit", 0), *epochs, ("end", "fit", 0)]
    assert recorder.calls[0] == "setup"
    assert recorder.calls[-1] == "teardown"
    assert recorder.calls[-2] == model.score(X, Y)


def test_lbfgs_iterations_are_tasks():
    recorder = Recorder()
    model = MLPClassifier(solver="lbfgs", max_iter=4).set_callbacks(recorder).fit(X, Y)
    ended = [call for call in recorder.calls if isinstance(call, tuple) and call[0] == "end"]
    assert len(ended) == model.n_iter_ + 2  # one that never ran, and the fit


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_callback_may_end_the_training(solver):
    model = MLPClassifier(solver=solver, max_iter=50).set_callbacks(Recorder(stop_after=3))
    model.fit(X, Y)
    assert model.n_iter_ in (3, 4)  # SciPy counts the iteration that it was stopped in or not


def test_callbacks_change_no_bit():
    plain = MLPClassifier(max_iter=5, random_state=0).fit(X, Y)
    called = MLPClassifier(max_iter=5, random_state=0).set_callbacks(Recorder()).fit(X, Y)
    assert (plain.coefs_[0] == called.coefs_[0]).all()
    assert plain.loss_curve_ == called.loss_curve_


def test_scoring_monitor_alone():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(max_iter=6, random_state=0).set_callbacks(monitor).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 6
    assert rows[-1]["accuracy"] == model.score(X, Y)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scoring_monitor_in_a_search(n_jobs):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(max_iter=4, random_state=0).set_callbacks(monitor)
    GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) in (4, 4 * 2 * 2, 4 * (2 * 2 + 1))


@pytest.mark.parametrize("search", [False, True])
def test_progress_bar(search, capsys):
    pytest.importorskip("rich")
    model = MLPClassifier(max_iter=4, random_state=0)
    if search:
        model = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=2)
    model.set_callbacks(callback.ProgressBar()).fit(X, Y)
    assert "MLPClassifier" in capsys.readouterr().out
