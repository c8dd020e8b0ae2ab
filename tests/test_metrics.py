"""Metrics: by formula and beside scikit-learn's, in fit and in evaluate; the history's form."""

import math

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters, targets
from sklearn import metrics as theirs

import fastnn
from fastnn.callbacks import Callback
from fastnn.losses import Quantile
from fastnn.metrics import METRICS, OUTPUTS_OF_METRIC, TopK
from fastnn.network import LOSS_OF_OUTPUT, OUTPUTS

N = 50
X = np.random.default_rng(0).normal(size=(N, 4))
W = np.arange(N) % 5


def make_net(backend, output, n_out=6, dtype="float64", seed=3):
    """Weights so large that some probabilities are 0 or 1."""
    net = fastnn.MLP((4, n_out), output=output, dtype=dtype, seed=seed, backend=backend)
    net.weights = [20 * net.weights[0]] if output != "exp" else net.weights
    return net


# ---- each of them ----


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_metrics_of_classes_as_in_scikit_learn(backend, dtype, weighted):
    net, w = make_net(backend, "softmax", dtype=dtype), W if weighted else None
    y, f = np.arange(N) % 6, net.forward(X)
    names = ("accuracy", "top_k", TopK(1), TopK(2), "log_loss")
    for labels in (y, np.eye(6)[y]):
        values = net.evaluate(X, labels, sample_weight=w, metrics=names)
        assert list(values) == ["loss", "accuracy", "top_k", "top_1", "top_2", "log_loss"]
        assert values["top_1"] == values["accuracy"]
        assert values["accuracy"] == pytest.approx(
            theirs.accuracy_score(y, f.argmax(axis=1), sample_weight=w)
        )
        for name, k in (("top_k", 5), ("top_2", 2)):
            expected = theirs.top_k_accuracy_score(y, f, k=k, sample_weight=w)
            assert values[name] == pytest.approx(expected)
        expected = theirs.log_loss(y, f, sample_weight=w)
        assert values["log_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_out", [1, 3])
def test_metrics_of_yes_and_no_as_in_scikit_learn(backend, dtype, n_out, weighted):
    net, w = make_net(backend, "sigmoid", n_out, dtype), W if weighted else None
    y, f = targets("binary_cross_entropy", N, n_out), net.forward(X)
    values = net.evaluate(X, y, sample_weight=w, metrics=["accuracy", "log_loss", "mae", "r2"])
    assert values["accuracy"] == pytest.approx(theirs.accuracy_score(y, f > 0.5, sample_weight=w))
    columns = [theirs.log_loss(y[:, c], f[:, c], sample_weight=w) for c in range(n_out)]
    assert values["log_loss"] == pytest.approx(np.mean(columns), rel=1e-6)
    expected = theirs.mean_absolute_error(y, f, sample_weight=w)
    assert values["mae"] == pytest.approx(expected, rel=1e-6)
    assert values["r2"] == pytest.approx(theirs.r2_score(y, f, sample_weight=w), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_out", [1, 3])
@pytest.mark.parametrize("output", ["identity", "exp"])
def test_metrics_of_values_as_in_scikit_learn(backend, dtype, output, n_out, weighted):
    net, w = make_net(backend, output, n_out, dtype), W if weighted else None
    y, f = targets(LOSS_OF_OUTPUT[output], N, n_out), net.forward(X)
    values = net.evaluate(X, y, sample_weight=w, metrics=("mae", "r2"))
    expected = theirs.mean_absolute_error(y, f, sample_weight=w)
    assert values["mae"] == pytest.approx(expected, rel=1e-6)
    assert values["r2"] == pytest.approx(theirs.r2_score(y, f, sample_weight=w), rel=1e-5)


def test_metrics_by_hand(backend):
    """f = (1/2, 1/4, 1/4) for both samples; the second's class is last of three, by its place."""
    net = fastnn.MLP((1, 3), dtype="float64", backend=backend)
    net.weights, net.biases = [np.zeros((3, 1))], [np.log([2.0, 1.0, 1.0])]
    values = net.evaluate(
        np.zeros((2, 1)), [0, 2], metrics=["accuracy", TopK(1), TopK(2), TopK(3), "log_loss"]
    )
    expected = {"accuracy": 0.5, "top_1": 0.5, "top_2": 0.5, "top_3": 1.0}
    expected |= {"log_loss": math.log(8) / 2, "loss": math.log(8) / 2}
    assert values == {name: pytest.approx(value, rel=1e-14) for name, value in expected.items()}


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_log_loss_of_soft_labels_is_the_loss(backend, output):
    net = fastnn.MLP((4, 3), output=output, dtype="float64", backend=backend)
    y = 0.1 + 0.8 * targets("binary_cross_entropy", N, 3)
    if output == "softmax":
        y = targets("cross_entropy", N, 3)
    values = net.evaluate(X, y, metrics="log_loss")
    per_output = 1 if output == "softmax" else 3  # log_loss is the mean over several labels
    assert values["log_loss"] == pytest.approx(values["loss"] / per_output, rel=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_which_outputs_it_takes(backend, name, output):
    net = fastnn.MLP((4, 6), output=output, backend=backend)
    y = targets(LOSS_OF_OUTPUT[output], N, 6)
    if output in OUTPUTS_OF_METRIC[name]:
        assert np.isfinite(net.evaluate(X, y, metrics=name)[name])
    else:
        message = f"the metric '{name}' needs the output .*, this network's is {output}"
        with pytest.raises(ValueError, match=message):
            net.evaluate(X, y, metrics=name)


# ---- metrics of one's own, several at once ----


def largest_error(y, f):
    return np.abs(y - f).max()


OWN = {
    "function": (largest_error, ["largest_error"]),
    "mapping": ({"worst": largest_error, "mean": "mae"}, ["worst", "mean"]),
    "list": (["mae", largest_error, {"worst": largest_error}], ["mae", "largest_error", "worst"]),
    "none": ([], ["r2"]),
}


@pytest.mark.parametrize("case", OWN)
def test_metrics_are_named(backend, case):
    given, names = OWN[case]
    net, y = make_net(backend, "identity", 2), targets("squared_error", N, 2)
    values = net.evaluate(X, y, metrics=given)
    assert list(values) == ["loss", *names]
    history = net.fit(X, y, epochs=2, validation=(X, y), metrics=given)
    assert [name for name in history if name.startswith("val_")] == [
        f"val_{name}" for name in ("loss", *names)
    ]
    for name, value in net.evaluate(X, y, metrics=given).items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-6)
        assert type(history[f"val_{name}"][-1]) is float
    for name in {"largest_error", "worst"} & set(values):
        expected = np.abs(y - net.forward(X)).max()
        assert history[f"val_{name}"][-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("validation", ["given", 0.2])
@pytest.mark.parametrize(
    ("output", "loss", "y", "shape", "dtype"),
    [
        ("softmax", None, np.arange(N) % 4, (), np.int32),
        ("softmax", None, np.eye(4)[np.arange(N) % 4], (4,), np.float32),
        ("identity", None, targets("squared_error", N, 4), (4,), np.float32),
        ("identity", Quantile((0.1, 0.9)), targets("squared_error", N, 2), (4,), np.float32),
    ],
    ids=["indices", "one-hot", "values", "quantiles"],
)
def test_what_a_metric_gets(backend, output, loss, y, shape, dtype, validation):
    seen = []

    def look(y, f):
        seen.append((y.shape, y.dtype, f.shape, f.dtype))
        return 0

    net, n = make_net(backend, output, 4, "float32"), N if validation == "given" else 10
    held = (X, y) if validation == "given" else validation
    net.fit(X, y, epochs=1, loss=loss, validation=held, metrics=look)
    assert seen == [((n, *shape), dtype, (n, 4), np.float32)]


def test_scikit_learns_metrics_serve_as_they_are(backend):
    net = fastnn.MLP((4, 3), backend=backend)
    y = np.arange(N) % 3
    values = net.evaluate(X, y, metrics=[theirs.log_loss, theirs.top_k_accuracy_score])
    assert list(values) == ["loss", "log_loss", "top_k_accuracy_score"]
    assert values["log_loss"] == pytest.approx(values["loss"], rel=1e-6)


class Nameless:
    def __call__(self, y, f):
        return 0.0


WRONG = {
    "unknown": ("f1", ValueError, "unknown metric 'f1'; known: accuracy, top_k, log_loss, r2, mae"),
    "unsuitable": ("r2", ValueError, "'r2' needs the output identity or exp or sigmoid"),
    "twice": (["accuracy", "accuracy"], ValueError, "two metrics are called 'accuracy'"),
    "loss": ({"loss": "accuracy"}, ValueError, "two metrics are called 'loss'"),
    "number": (3, TypeError, r"metrics must be names \(accuracy, .*functions f\(y, f\), got 3"),
    "class": (TopK, TypeError, "metrics must be names"),
    "mapping to a number": ({"three": 3}, TypeError, "metrics must be names"),
    "nameless": (Nameless(), ValueError, "has no __name__"),
    "k": (TopK(7), ValueError, r"TopK\(k=7\) needs that many outputs, this network has 6"),
}


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_metrics(backend, case, method):
    metrics, error, message = WRONG[case]
    net, arguments = make_net(backend, "softmax"), {}
    if method == "fit":
        arguments = {"validation": 0.2}
    before = net.weights[0].copy()
    with pytest.raises(error, match=message):
        getattr(net, method)(X, np.arange(N) % 6, metrics=metrics, **arguments)
    np.testing.assert_array_equal(net.weights[0], before)


def test_metrics_need_validation_data(backend):
    net = make_net(backend, "softmax")
    with pytest.raises(ValueError, match="metrics are measured on validation data"):
        net.fit(X, np.arange(N) % 6, metrics="accuracy")


@pytest.mark.parametrize("k", [0, 1.5, "5"])
def test_wrong_k(k):
    with pytest.raises((ValueError, TypeError), match="k must be an integer"):
        TopK(k)


@pytest.mark.parametrize("error", [LookupError, ValueError, KeyboardInterrupt])
def test_what_a_metric_raises_leaves_the_model_intact(backend, error):
    """It comes after the second epoch's steps, whose weights are kept."""
    y = targets("squared_error", N, 2)
    settings = {"validation": (X, y), "batch_size": 7, "optimizer": "sgd", "shuffle": False}
    calls = []

    def fragile(y, f):
        calls.append(1)
        if len(calls) == 2:
            raise error("broken")
        return 1.0

    net, twin = (fastnn.MLP((4, 2), output="identity", backend=backend) for _ in range(2))
    with pytest.raises(error, match=r"^broken$"):
        net.fit(X, y, epochs=5, metrics=fragile, **settings)
    twin.fit(X, y, epochs=2, **settings)
    assert_close(net, parameters(twin), 1e-6)
    assert {name: len(values) for name, values in net.history.items()} == dict.fromkeys(
        net.history, 1
    )
    net.fit(X, y, epochs=1, metrics=fragile, **settings)
    assert net.history["val_fragile"] == [1.0]


def test_a_metric_must_return_a_number(backend):
    net, y = make_net(backend, "identity", 2), targets("squared_error", N, 2)
    with pytest.raises(TypeError, match="the metric 'look' must return a number, got None"):
        net.evaluate(X, y, metrics={"look": lambda y, f: None})


# ---- the history ----


def assert_rectangular(history, n_epochs):
    assert type(history) is dict
    for name, values in history.items():
        assert type(name) is str
        assert type(values) is list
        assert len(values) == n_epochs
        assert all(type(value) is float for value in values)


RUNS = {
    "plain": {},
    "fraction": {"validation": 0.2},
    "given": {"validation": (X, np.arange(N) % 6)},
    "metrics": {"validation": 0.2, "metrics": ["top_k", "log_loss", {"one": lambda y, f: 1}]},
}


@pytest.mark.parametrize("case", RUNS)
def test_all_lists_of_the_history_have_an_entry_per_epoch(backend, case):
    net, y = fastnn.MLP((4, 6), backend=backend), np.arange(N) % 6
    assert net.history == {}
    assert_rectangular(net.fit(X, y, epochs=3, **RUNS[case]), 3)
    second = net.fit(X, y, epochs=2, **RUNS[case])
    assert net.history is second
    assert_rectangular(second, 2)

    def stop(run):
        run.stop = run.epoch == 2

    assert_rectangular(net.fit(X, y, epochs=9, callbacks=stop, **RUNS[case]), 2)


@pytest.mark.parametrize("entry", [1, 2])
@pytest.mark.parametrize("case", RUNS)
def test_ctrl_c_between_two_lists_leaves_no_half_entry(backend, case, entry):
    class Interrupted(dict):
        calls = 0

        def setdefault(self, name, default):
            self.calls += name == "learning_rate"
            if self.calls == entry:
                raise KeyboardInterrupt
            return super().setdefault(name, default)

    class Watch(Callback):
        def on_train_begin(self, run):
            run.history = run.net.history = Interrupted()

    net = fastnn.MLP((4, 6), backend=backend)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, np.arange(N) % 6, epochs=3, callbacks=Watch(), **RUNS[case])
    assert "loss" in net.history
    assert_rectangular(dict(net.history), entry - 1)


@pytest.mark.parametrize("case", RUNS)
def test_pandas_takes_the_history_as_it_is(case):
    pandas = pytest.importorskip("pandas")
    net = fastnn.MLP((4, 6), backend="numpy")
    table = pandas.DataFrame(net.fit(X, np.arange(N) % 6, epochs=3, **RUNS[case]))
    assert table.shape == (3, len(net.history))
    assert set(map(str, table.dtypes)) == {"float64"}
    assert pandas.DataFrame(fastnn.MLP((2, 2)).history).empty


def test_metrics_are_printed(backend, capsys):
    X, y = blobs(30)
    net = fastnn.MLP((4, 3), backend=backend)
    net.fit(X, y, epochs=1, validation=0.2, metrics=["log_loss", TopK(2)], verbose=True)
    line = capsys.readouterr().out
    assert all(name in line for name in ("loss", "val_loss", "val_log_loss", "val_top_2"))
