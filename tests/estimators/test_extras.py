"""What the estimators have more than scikit-learn's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.metrics import balanced_accuracy_score, mean_pinball_loss, recall_score

import fastnn
from fastnn.losses import Huber, Quantile
from fastnn.optimizers import SGD, Adam
from fastnn.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X / 16
X2, Y2 = load_breast_cancer(return_X_y=True)
X2 = (X2 - X2.mean(axis=0)) / X2.std(axis=0)
XV, YV = load_diabetes(return_X_y=True)
XV, YV = XV * 20, (YV - 150) / 80


def same(one, other):
    return all((a == b).all() for a, b in zip(one.coefs_, other.coefs_, strict=True))


# ---- weights of classes and samples ----


def test_class_weight_is_a_sample_weight():
    weight = {0: 5.0, 1: 1.0}
    by_class = MLPClassifier(class_weight=weight, max_iter=5, random_state=0).fit(X2, Y2)
    by_sample = MLPClassifier(max_iter=5, random_state=0)
    by_sample.fit(X2, Y2, sample_weight=np.where(Y2 == 0, 5.0, 1.0))
    assert same(by_class, by_sample)


def test_balanced_classes_are_found_more_often():
    rare = np.r_[np.flatnonzero(Y2 == 0)[:15], np.flatnonzero(Y2 == 1)]
    data = X2[rare, 8:12], Y2[rare]  # weak features
    recalls = [
        recall_score(
            data[1],
            MLPClassifier(class_weight=w, random_state=0).fit(*data).predict(data[0]),
            pos_label=0,
        )
        for w in (None, "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.2


def test_class_weight_in_partial_fit():
    model = MLPClassifier(class_weight="balanced")
    with pytest.raises(ValueError, match="partial_fit"):
        model.partial_fit(X2, Y2, classes=[0, 1])
    MLPClassifier(class_weight={0: 2.0}).partial_fit(X2, Y2, classes=[0, 1])


# ---- validation ----


def test_early_stopping_on_given_data():
    model = MLPClassifier(early_stopping=True, max_iter=50, random_state=0)
    model.fit(X[:1000], Y[:1000], X_val=X[1000:], y_val=Y[1000:])
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    assert model.best_validation_score_ == model.score(X[1000:], Y[1000:])
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_a_validation_loss_curve_without_early_stopping():
    given = MLPClassifier(max_iter=5, random_state=0)
    given.fit(X[:1000], Y[:1000], X_val=X[1000:], y_val=Y[1000:])
    plain = MLPClassifier(max_iter=5, random_state=0).fit(X[:1000], Y[:1000])
    assert same(given, plain)
    assert plain.validation_loss_curve_ is None
    proba = given.predict_proba(X[1000:])[np.arange(len(X) - 1000), Y[1000:]]
    assert given.validation_loss_curve_[-1] == pytest.approx(-np.log(proba).mean())


def test_validation_loss_has_scikit_learns_definition():
    """The mean over the outputs, where fastnn's own loss is the sum."""
    y = np.column_stack([YV, YV**2])
    model = MLPRegressor(max_iter=3, random_state=0).fit(XV, y, X_val=XV, y_val=y)
    expected = 0.5 * ((model.predict(XV) - y) ** 2).mean()
    assert model.validation_loss_curve_[-1] == pytest.approx(expected)


@pytest.mark.parametrize("scoring", ["balanced_accuracy", "neg_log_loss", "loss"])
def test_early_stopping_on_a_scorer(scoring):
    model = MLPClassifier(early_stopping=True, scoring=scoring, max_iter=20, random_state=0)
    model.fit(X[:1000], Y[:1000], X_val=X[1000:], y_val=Y[1000:])
    best = model.best_validation_score_
    assert best == max(model.validation_scores_)
    if scoring == "balanced_accuracy":
        assert best == balanced_accuracy_score(Y[1000:], model.predict(X[1000:]))
    if scoring == "loss":
        assert best == -min(model.validation_loss_curve_)


def test_a_scorer_of_ones_own():
    def tenth(estimator, X, y):
        return estimator.n_iter_ / 10

    model = MLPRegressor(early_stopping=True, scoring=tenth, max_iter=4).fit(XV, YV)
    assert model.validation_scores_ == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(("X_val", "y_val"), [(X, None), (None, Y)])
def test_half_of_the_validation_data(X_val, y_val):
    with pytest.raises(ValueError, match="X_val"):
        MLPClassifier().fit(X, Y, X_val=X_val, y_val=y_val)


def test_validation_data_with_an_unknown_class():
    with pytest.raises(ValueError, match="classes"):
        MLPClassifier().fit(X[Y < 9], Y[Y < 9], X_val=X, y_val=Y)


# ---- networks ----


@pytest.mark.parametrize("activation", [*fastnn.network.ACTIVATIONS, "logistic"])
def test_every_activation(activation):
    model = MLPClassifier((20,), activation, max_iter=10, random_state=0).fit(X, Y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_an_activation_for_each_layer():
    model = MLPClassifier((20, 10), ("tanh", "gelu"), max_iter=10, random_state=0).fit(X, Y)
    assert model.network_.network.activations == ("tanh", "gelu")
    with pytest.raises(ValueError, match="activations"):
        model.set_params(activation=("tanh",)).fit(X, Y)
    with pytest.raises(ValueError, match="'swash'"):
        model.set_params(activation=("tanh", "swash")).fit(X, Y)


def test_transform_gives_the_hidden_layers():
    model = MLPClassifier((20, 10), "tanh", max_iter=2, random_state=0).fit(X, Y)
    first = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    np.testing.assert_allclose(model.transform(X, layer=1), first, rtol=1e-12, atol=1e-14)
    second = np.tanh(first @ model.coefs_[1] + model.intercepts_[1])
    np.testing.assert_allclose(model.transform(X), second, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(model.fit_transform(X, Y), model.transform(X))
    with pytest.raises(ValueError, match="layer"):
        model.transform(X, layer=3)


def test_assigned_weights_are_predicted_with():
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=1, random_state=0).fit(XV, YV)
    before = model.predict(XV)
    model.coefs_ = [2 * W for W in model.coefs_]
    model.intercepts_ = [2 * b for b in model.intercepts_]
    np.testing.assert_allclose(
        model.predict(XV) - model.intercepts_[1], 4 * (before - model.intercepts_[1] / 2), rtol=1e-9
    )
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1.0
    with pytest.raises(ValueError, match="shape"):
        model.coefs_ = [W.T for W in model.coefs_]


def test_dtype_of_ones_own():
    model = MLPClassifier(dtype="float32", max_iter=2).fit(X, Y)
    assert X.dtype == np.float64
    assert model.coefs_[0].dtype == model.predict_proba(X).dtype == np.float32
    alone = MLPClassifier(dtype="float64", max_iter=2).fit(X.astype("float32"), Y)
    assert alone.coefs_[0].dtype == np.float64


@pytest.mark.compiled
def test_backends_agree():
    settings = {"max_iter": 3, "random_state": 0, "alpha": 1.0}
    weight = np.random.default_rng(0).random(len(X))
    one, other = (
        MLPClassifier(backend=backend, **settings).fit(X, Y, sample_weight=weight)
        for backend in ("cython", "numpy")
    )
    for a, b in zip(one.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert one.loss_curve_ == pytest.approx(other.loss_curve_)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_change_no_bit(n_threads):
    plain = MLPClassifier(max_iter=3, random_state=0).fit(X, Y)
    assert same(plain, MLPClassifier(max_iter=3, random_state=0, n_threads=n_threads).fit(X, Y))


def test_the_limit_of_open_mp_is_kept():
    """joblib gives it to the workers of a search, so that they share the cores."""
    code = (
        "import numpy as np; from fastnn.sklearn import MLPRegressor\n"
        "print(MLPRegressor(max_iter=1).fit(np.eye(4), np.arange(4.0)).network_.n_threads)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    limited = os.cpu_count() > 1
    assert done.stdout.strip() == ("1" if limited else "None")


# ---- training ----


def test_dropout():
    settings = {"hidden_layer_sizes": (50,), "max_iter": 10}
    plain = MLPClassifier(random_state=0, **settings).fit(X, Y)
    dropped = MLPClassifier(random_state=0, dropout=0.5, **settings).fit(X, Y)
    again = MLPClassifier(random_state=0, dropout=(0.0, 0.5), **settings).fit(X, Y)
    other = MLPClassifier(random_state=1, dropout=0.5, **settings).fit(X, Y)
    assert same(dropped, again)
    assert dropped.network_.seed != other.network_.seed
    assert dropped.loss_ > plain.loss_ + 0.1
    with pytest.raises(ValueError, match="dropout"):
        MLPClassifier(dropout=(0.1, 0.2, 0.3)).fit(X, Y)


def test_label_smoothing():
    plain = MLPClassifier(max_iter=60, random_state=0).fit(X, Y)
    smooth = MLPClassifier(max_iter=60, random_state=0, label_smoothing=0.2).fit(X, Y)
    assert smooth.predict_proba(X).max(axis=1).mean() < plain.predict_proba(X).max(axis=1).mean()
    assert smooth.score(X, Y) > 0.95


def test_clip_norm():
    plain = MLPRegressor(solver="sgd", max_iter=3, random_state=0, momentum=0.0)
    clipped = MLPRegressor(solver="sgd", max_iter=3, random_state=0, momentum=0.0, clip_norm=1e-3)
    start = MLPRegressor(solver="sgd", max_iter=1, random_state=0, learning_rate_init=1e-300)
    W = start.fit(XV, YV).coefs_[0]
    steps = [np.abs(m.fit(XV, YV).coefs_[0] - W).max() for m in (plain, clipped)]
    assert steps[1] < steps[0] / 10


def test_an_optimizer_in_place_of_the_solver():
    by_name = MLPClassifier(optimizer="sgd", max_iter=3, random_state=0).fit(X, Y)
    by_object = MLPClassifier(optimizer=SGD(), max_iter=3, random_state=0).fit(X, Y)
    by_solver = MLPClassifier(solver="sgd", momentum=0.0, max_iter=3, random_state=0).fit(X, Y)
    assert same(by_name, by_object)
    assert same(by_name, by_solver)
    hatless = MLPClassifier(optimizer=Adam(), max_iter=3, random_state=0).fit(X, Y)
    assert not same(hatless, MLPClassifier(max_iter=3, random_state=0).fit(X, Y))


@pytest.mark.parametrize("name", fastnn.optimizers.OPTIMIZERS)
def test_every_optimizer(name):
    model = MLPClassifier(optimizer=name, max_iter=20, random_state=0).fit(X, Y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_weight_decay(solver):
    """The first step of a decayed run is the plain one's, from weights that have shrunk."""
    settings = {"solver": solver, "batch_size": len(X), "max_iter": 1, "alpha": 0.0}
    still = MLPClassifier(random_state=0, learning_rate_init=1e-300, **settings).fit(X, Y)
    plain = MLPClassifier(random_state=0, **settings).fit(X, Y)
    decayed = MLPClassifier(random_state=0, weight_decay=10.0, **settings).fit(X, Y)
    for W, one, other in zip(still.coefs_, plain.coefs_, decayed.coefs_, strict=True):
        np.testing.assert_allclose(one - other, 0.001 * 10.0 * W, rtol=1e-9, atol=1e-14)
    with pytest.raises(ValueError, match="weight_decay"):
        decayed.set_params(optimizer="sgd").fit(X, Y)


def test_schedules():
    rates = []
    schedule = fastnn.schedules.Step(0.01, every=2, factor=0.1)
    model = MLPClassifier(
        learning_rate=schedule, max_iter=4, callbacks=lambda run: rates.append(run.learning_rate)
    )
    model.fit(X, Y)
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    constant = MLPClassifier(learning_rate=lambda step: 0.001, max_iter=3, random_state=0).fit(X, Y)
    assert same(constant, MLPClassifier(max_iter=3, random_state=0).fit(X, Y))
    with pytest.raises(ValueError, match="learning_rate"):
        MLPClassifier(learning_rate="falling").fit(X, Y)


@pytest.mark.parametrize(
    "setting", [{"weight_decay": 0.1}, {"dropout": 0.5}, {"clip_norm": 1.0}, {"optimizer": "adam"}]
)
def test_what_lbfgs_cannot_do(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MLPClassifier(solver="lbfgs", **setting).fit(X, Y)


def test_callbacks_of_fastnn():
    seen = []

    def note(run):
        seen.append(run.epoch)
        run.stop = run.epoch == 3

    model = MLPClassifier(callbacks=note).fit(X, Y)
    assert seen == [1, 2, 3]
    assert model.n_iter_ == 3
    MLPClassifier(callbacks=[note, note]).fit(X, Y)
    assert seen == [1, 2, 3, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("data", [(X, Y), (X2, Y2)])
def test_several_epochs_of_partial_fit(data):
    one, other = MLPClassifier(random_state=0), MLPClassifier(random_state=0, shuffle=False)
    one.set_params(shuffle=False)
    classes = np.unique(data[1])
    one.partial_fit(*data, classes=classes, n_epochs=3)
    for _ in range(3):
        other.partial_fit(*data, classes=classes)
    assert same(one, other)
    assert len(one.loss_curve_) == one.n_iter_ == 3


def test_ctrl_c_leaves_a_model_and_a_warning():
    def interrupt(run):
        if run.epoch == 2:
            raise KeyboardInterrupt

    model = MLPClassifier(callbacks=interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, Y)
    assert model.n_iter_ == 2
    assert model.predict(X).shape == Y.shape


def test_divergence_is_an_error():
    model = MLPRegressor(solver="sgd", learning_rate_init=1e6, activation="identity")
    with pytest.raises(fastnn.DivergenceError, match="learning_rate"):
        model.fit(XV, YV)


# ---- losses of the regressor ----


@pytest.mark.parametrize("loss", ["absolute_error", "huber", Huber(0.1), Huber(delta=10.0)])
def test_losses_that_bear_outliers(loss):
    y = YV.copy()
    y[::10] += 50
    plain, robust = (
        MLPRegressor(loss, (), learning_rate_init=0.02, random_state=0).fit(XV, y)
        for loss in ("squared_error", loss)
    )
    inside = np.arange(len(y)) % 10 != 0
    errors = [np.abs(m.predict(XV) - YV)[inside].mean() for m in (plain, robust)]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("loss", ["quantile", Quantile((0.05, 0.5, 0.95))])
def test_prediction_intervals(loss):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (3000, 1))
    y = X[:, 0] + (1.2 + X[:, 0]) * rng.normal(size=3000)  # wider to the right
    model = MLPRegressor(loss, (30,), learning_rate_init=0.01, max_iter=100, random_state=0)
    low, middle, high = model.fit(X, y).predict_quantiles(X).T
    np.testing.assert_array_equal(model.predict(X), middle)
    assert ((low < y) & (y < high)).mean() == pytest.approx(0.9, abs=0.03)
    true = X[:, 0] + (1.2 + X[:, 0]) * 1.645
    assert mean_pinball_loss(y, high, alpha=0.95) < 1.05 * mean_pinball_loss(y, true, alpha=0.95)


def test_quantiles_of_several_targets():
    y = np.column_stack([YV, 10 + YV])
    model = MLPRegressor("quantile", quantiles=(0.5, 0.9), max_iter=300, random_state=0)
    model.set_params(early_stopping=True, learning_rate_init=0.01).fit(XV, y)
    all_of_them = model.predict_quantiles(XV)
    assert all_of_them.shape == (len(XV), 2, 2)
    np.testing.assert_array_equal(model.predict(XV), all_of_them[:, :, 0])
    assert model.predict(XV)[:, 1].mean() > 8
    assert model.n_outputs_ == 2


def test_only_a_model_of_quantiles_predicts_them():
    assert not hasattr(MLPRegressor(), "predict_quantiles")
    assert hasattr(MLPRegressor("quantile"), "predict_quantiles")


def test_missing_or_old_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import fastnn\n"
        "try:\n    import fastnn.sklearn\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert "pip install 'fastnn-cpu[sklearn]'" in done.stdout
