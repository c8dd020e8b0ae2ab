"""Training: what fit learns, that it follows the published formulas, and what it records."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import targets
from data import make_torch_steps
from sklearn.linear_model import LogisticRegression

import fastnn
from fastnn.callbacks import Callback
from fastnn.network import LOSS_OF_OUTPUT, OUTPUTS, STREAM_VALIDATION, random_stream
from fastnn.optimizers import SGD, Adam

GATE_INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
GATES = {"or": [0, 1, 1, 1], "and": [0, 0, 0, 1], "xor": [0, 1, 1, 0]}


def blobs(n=120, n_in=4, n_classes=3, seed=0):
    """Overlapping clouds: classes that can be learned but not separated."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    return rng.normal(size=(n_classes, n_in))[y] + rng.normal(size=(n, n_in)), y


def parameters(net):
    return [array.copy() for array in net.weights + net.biases]


def assert_close(net, expected, rtol):
    for given, array in zip(net.weights + net.biases, expected, strict=True):
        np.testing.assert_allclose(given, array, rtol=rtol, atol=rtol)


# ---- learning ----


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gate", GATES)
def test_gates_are_learned_with_a_hidden_layer(backend, dtype, gate, output):
    n_out = 2 if output == "softmax" else 1
    net = fastnn.MLP((2, 8, n_out), "tanh", output, dtype=dtype, seed=1, backend=backend)
    net.fit(GATE_INPUTS, GATES[gate], epochs=300, batch_size=4, learning_rate=0.05)
    assert net.predict(GATE_INPUTS).tolist() == GATES[gate]
    assert net.evaluate(GATE_INPUTS, GATES[gate])["accuracy"] == 1.0


@pytest.mark.parametrize(("gate", "learns"), [("or", True), ("and", True), ("xor", False)])
def test_logistic_regression_learns_or_and_and_but_not_xor(backend, gate, learns):
    """No line has (0,1) and (1,0) on one side and (0,0) and (1,1) on the other."""
    net = fastnn.MLP((2, 1), output="sigmoid", dtype="float64", backend=backend)
    net.fit(GATE_INPUTS, GATES[gate], epochs=300, batch_size=None, learning_rate=0.1)
    assert (net.predict(GATE_INPUTS).tolist() == GATES[gate]) is learns


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_loss_falls(backend, dtype, output, optimizer):
    net = fastnn.MLP((4, 8, 3), "tanh", output, dtype=dtype, backend=backend)
    X, _ = blobs(60)
    y = targets(LOSS_OF_OUTPUT[output], 60, 3)
    before = net.evaluate(X, y)["loss"]
    history = net.fit(X, y, epochs=20, batch_size=16, optimizer=optimizer, learning_rate=0.02)
    assert net.evaluate(X, y)["loss"] < before
    assert history["loss"][-1] < history["loss"][0]


# ---- the published formulas, step by step ----


def follow_sgd(momentum, nesterov, learning_rate):
    """PyTorch's form of Sutskever et al. (2013)."""
    buffers = {}

    def step(k, w, g):
        buffers[k] = momentum * buffers.get(k, 0.0) + g
        return w - learning_rate * (g + momentum * buffers[k] if nesterov else buffers[k])

    return step


def follow_adam(beta1, beta2, eps, learning_rate):
    """Algorithm 1 of Kingma and Ba (2015)."""
    states = {}

    def step(k, w, g):
        t, m, v = states.get(k, (0, 0.0, 0.0))
        t, m, v = t + 1, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        states[k] = t, m, v
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        return w - learning_rate * m_hat / (np.sqrt(v_hat) + eps)

    return step


RATE = 0.05
# what is tested, and a fresh follower of its formula
FORMULAS = {
    "plain": (SGD(), lambda: follow_sgd(0.0, False, RATE)),
    "momentum": (SGD(momentum=0.9), lambda: follow_sgd(0.9, False, RATE)),
    "nesterov": (SGD(momentum=0.8, nesterov=True), lambda: follow_sgd(0.8, True, RATE)),
    "adam": (Adam(), lambda: follow_adam(0.9, 0.999, 1e-8, RATE)),
    "adam constants": (
        Adam(betas=(0.7, 0.9), eps=1e-3),
        lambda: follow_adam(0.7, 0.9, 1e-3, RATE),
    ),
}


@pytest.mark.parametrize("batch_size", [None, 1, 4, 100])
@pytest.mark.parametrize("name", FORMULAS)
def test_steps_follow_the_formulas(backend, name, batch_size):
    """11 samples, so a batch size of 4 leaves a smaller last batch of 3, which counts too."""
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(11, 3)), rng.integers(0, 2, 11), rng.random(11) + 0.1
    w *= 11 / w.sum()
    net = fastnn.MLP((3, 5, 2), "tanh", dtype="float64", seed=3, backend=backend)
    twin = fastnn.MLP((3, 5, 2), "tanh", dtype="float64", seed=3, backend="numpy")
    net.fit(
        X,
        y,
        epochs=2,
        batch_size=batch_size,
        optimizer=FORMULAS[name][0],
        learning_rate=RATE,
        l2=0.1,
        l1=0.01,
        sample_weight=w,
        shuffle=False,
    )
    follow, size = FORMULAS[name][1](), batch_size or 11
    for _ in range(2):
        for start in range(0, 11, size):
            rows = slice(start, start + size)
            _, dW, db = data_gradient(twin, X[rows], y[rows], w[rows])
            dW = [g + 0.1 * W + 0.01 * np.sign(W) for g, W in zip(dW, twin.weights, strict=True)]
            moved = [
                follow(k, array, g)
                for k, (array, g) in enumerate(
                    zip(twin.weights + twin.biases, dW + db, strict=True)
                )
            ]
            twin.weights, twin.biases = moved[:2], moved[2:]
    assert_close(net, parameters(twin), 1e-11)


def data_gradient(net, X, y, w):
    """(1/n) sum_t w_t gradient_t; loss_and_gradients scales w to mean one, which is undone."""
    value, dW, db = net.loss_and_gradients(X, y, sample_weight=w)
    return value, [g * w.mean() for g in dW], [g * w.mean() for g in db]


def test_penalties_shrink_weights_not_biases(backend):
    net = fastnn.MLP((2, 3), output="identity", dtype="float64", backend=backend)
    net.weights, net.biases = [np.full((3, 2), 2.0)], [np.array([1.0, 2.0, 3.0])]
    net.fit(
        np.zeros((1, 2)), [[1.0, 2.0, 3.0]], epochs=1, optimizer="sgd", learning_rate=0.1, l2=0.5
    )
    np.testing.assert_allclose(net.weights[0], 2.0 - 0.1 * 0.5 * 2.0)
    np.testing.assert_array_equal(net.biases[0], [1.0, 2.0, 3.0])


# ---- other libraries ----


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression_agrees_with_scikit_learn(backend, n_classes, weighted):
    """scikit-learn minimises C sum_t w_t l_t + 1/2 ||W||^2, so l2 = 1 / (C sum_t w_t)."""
    X, y = blobs(150, 4, n_classes)
    w = np.random.default_rng(1).random(150) + 0.2 if weighted else None
    C = 0.2
    l2 = 1 / (C * (150 if w is None else w.sum()))
    peer = LogisticRegression(C=C, tol=1e-12, max_iter=1000).fit(X, y, sample_weight=w)
    # Two classes: scikit-learn has one row of weights, as the sigmoid output does.
    layers, output = ((4, 1), "sigmoid") if n_classes == 2 else ((4, n_classes), "softmax")
    net = fastnn.MLP(layers, output=output, dtype="float64", backend=backend)
    net.fit(
        X,
        y,
        epochs=1500,
        batch_size=None,
        optimizer=SGD(momentum=0.9, nesterov=True),
        learning_rate=0.2,
        l2=l2,
        sample_weight=w,
    )
    difference = net.predict_proba(X) - peer.predict_proba(X)
    assert np.abs(difference).max() < 1e-4


def torch_like(name, backend):
    """The model of a case of make_torch_steps.py before and after fit, and its history."""
    layers, activation, output, optimizer, constants, learning_rate, steps, l2 = (
        make_torch_steps.CASES[name]
    )
    W, b, X, y = make_torch_steps.start(name)
    net = fastnn.MLP(layers, activation, output, dtype="float32", backend=backend)
    net.weights, net.biases = W, b
    history = net.fit(
        X,
        y,
        epochs=steps,
        batch_size=None,
        optimizer={"sgd": SGD, "adam": Adam}[optimizer](**constants),
        learning_rate=learning_rate,
        l2=l2,
    )
    return net, history


# Weights here are below 2, whose spacing in float32 is 1.2e-7; a few roundings are allowed.
TORCH_TOLERANCE = 1e-6


@pytest.mark.parametrize("name", make_torch_steps.CASES)
def test_steps_agree_with_stored_figures_of_pytorch(backend, name):
    stored = json.loads(make_torch_steps.PATH.read_text())["cases"][name]
    for given, expected in zip(
        make_torch_steps.start(name),
        (stored["weights"], stored["biases"], stored["X"], stored["y"]),
        strict=True,
    ):
        for array, values in zip(given, expected, strict=True):
            np.testing.assert_array_equal(array, np.asarray(values, dtype=array.dtype))
    net, history = torch_like(name, backend)
    assert_close(net, stored["weights_after"] + stored["biases_after"], TORCH_TOLERANCE)
    if "l2" not in name:
        assert history["loss"] == pytest.approx(stored["losses"], rel=1e-5)


@pytest.mark.parametrize("name", make_torch_steps.CASES)
def test_steps_agree_with_pytorch_itself(backend, name):
    pytest.importorskip("torch", reason="PyTorch is not installed; its stored figures are tested")
    W, b, _ = make_torch_steps.torch_steps(name)
    assert_close(torch_like(name, backend)[0], W + b, TORCH_TOLERANCE)


def test_the_stored_figures_are_complete():
    assert Path(make_torch_steps.__file__).parent == make_torch_steps.PATH.parent
    assert set(json.loads(make_torch_steps.PATH.read_text())["cases"]) == set(
        make_torch_steps.CASES
    )


# ---- order, continuing, validation, history ----


def test_same_seed_same_weights_other_seed_others(backend, dtype):
    X, y = blobs()

    def train(seed):
        net = fastnn.MLP((4, 6, 3), dtype=dtype, seed=seed, backend=backend)
        start = net.weights
        net.weights = [np.full_like(W, 0.1) for W in start]  # so only the order differs
        net.fit(X, y, epochs=2, batch_size=7)
        return b"".join(array.tobytes() for array in parameters(net))

    assert train(1) == train(1)
    assert train(1) != train(2)


def test_order_is_a_function_of_seed_and_epoch(backend):
    """Epoch e of a model's life takes its samples in the order of the stream (seed, e)."""
    X, y = blobs(20)
    net = fastnn.MLP((4, 3), dtype="float64", seed=9, backend=backend)
    twin = fastnn.MLP((4, 3), dtype="float64", seed=9, backend=backend)
    net.fit(X, y, epochs=3, batch_size=6, optimizer="sgd", learning_rate=0.1)
    for epoch in range(3):
        order = random_stream(9, epoch).permutation(20)
        twin.fit(
            X[order],
            y[order],
            epochs=1,
            batch_size=6,
            optimizer="sgd",
            learning_rate=0.1,
            shuffle=False,
        )
    assert_close(net, parameters(twin), 1e-13)


def test_fit_twice_continues(backend, dtype):
    """SGD without momentum has no state, so 2 epochs and 3 more are 5 epochs, bit for bit."""
    X, y = blobs()
    once, twice = (
        fastnn.MLP((4, 6, 3), dtype=dtype, seed=2, backend=backend, n_threads=1) for _ in range(2)
    )
    settings = {"batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05}
    history = once.fit(X, y, epochs=5, **settings)
    first = twice.fit(X, y, epochs=2, **settings)
    second = twice.fit(X, y, epochs=3, **settings)
    assert once.epochs_trained == twice.epochs_trained == 5
    for a, b in zip(parameters(once), parameters(twice), strict=True):
        assert a.tobytes() == b.tobytes()
    assert first["loss"] + second["loss"] == pytest.approx(history["loss"], rel=1e-9)
    assert twice.history is second


def test_batch_size_beyond_the_data_is_all_the_data(backend):
    X, y = blobs(10)
    nets = []
    for batch_size in (None, 10, 1000):
        net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
        net.fit(X, y, epochs=2, batch_size=batch_size)
        nets.append(parameters(net))
    for other in nets[1:]:
        for a, b in zip(nets[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_history_has_an_entry_per_epoch(backend):
    X, y = blobs()
    net = fastnn.MLP((4, 3), backend=backend)
    history = net.fit(X, y, epochs=4, validation=(X, y), learning_rate=0.01)
    assert net.history is history
    assert set(history) == {
        "loss",
        "val_loss",
        "val_accuracy",
        "learning_rate",
        "seconds",
        "samples_per_second",
    }
    assert all(len(values) == 4 for values in history.values())
    assert history["learning_rate"] == [0.01] * 4
    for seconds, rate in zip(history["seconds"], history["samples_per_second"], strict=True):
        assert seconds > 0
        assert rate == pytest.approx(len(X) / seconds)
    evaluated = net.evaluate(X, y)
    assert history["val_loss"][-1] == pytest.approx(evaluated["loss"], rel=1e-6)
    assert history["val_accuracy"][-1] == evaluated["accuracy"]


def test_loss_in_the_history_is_the_mean_before_each_step_plus_the_penalty(backend):
    X, y = blobs(12)
    net = fastnn.MLP((4, 3), dtype="float64", backend=backend)
    expected = net.evaluate(X, y)["loss"]
    history = net.fit(X, y, epochs=1, batch_size=None, l2=0.5, l1=0.25)
    W = net.weights[0]
    penalty = 0.5 * 0.5 * (W**2).sum() + 0.25 * np.abs(W).sum()
    assert history["loss"] == [pytest.approx(expected + penalty, rel=1e-12)]


def test_validation_fraction_is_set_apart(backend):
    """Samples of the validation part do not touch the weights."""
    X, y = blobs(40)
    shuffled = random_stream(4, STREAM_VALIDATION).permutation(40)
    held, kept = np.sort(shuffled[:10]), np.sort(shuffled[10:])
    net = fastnn.MLP((4, 6, 3), dtype="float64", seed=4, backend=backend)
    twin = fastnn.MLP((4, 6, 3), dtype="float64", seed=4, backend=backend)
    settings = {"epochs": 3, "batch_size": 8}
    history = net.fit(X, y, validation=0.25, **settings)
    other = twin.fit(X[kept], y[kept], validation=(X[held], y[held]), **settings)
    assert_close(net, parameters(twin), 1e-13)
    for name in ("loss", "val_loss", "val_accuracy"):
        assert history[name] == pytest.approx(other[name], rel=1e-12)


def test_validation_with_weights(backend):
    X, y = blobs(40)
    w = np.random.default_rng(0).random(40)
    w[:5] = 0
    net = fastnn.MLP((4, 3), dtype="float64", seed=4, backend=backend)
    history = net.fit(X, y, epochs=1, validation=(X, y, w))
    evaluated = net.evaluate(X, y, sample_weight=w)
    assert history["val_loss"] == [pytest.approx(evaluated["loss"], rel=1e-12)]
    assert history["val_accuracy"] == [evaluated["accuracy"]]
    assert evaluated["loss"] == pytest.approx(
        net.evaluate(X[5:], y[5:], sample_weight=7 * w[5:])["loss"], rel=1e-12
    )


@pytest.mark.parametrize("output", ["identity", "exp"])
def test_validation_of_values_is_r2(backend, output):
    X, _ = blobs(40)
    y = targets(LOSS_OF_OUTPUT[output], 40, 2)
    net = fastnn.MLP((4, 2), output=output, backend=backend)
    history = net.fit(X, y, epochs=2, validation=0.2)
    assert len(history["val_r2"]) == 2
    assert "val_accuracy" not in history


# ---- callbacks ----


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_train_begin(self, run):
        self.events.append(("begin", run.epochs, run.n_samples))

    def on_progress(self, run):
        self.events.append(("progress", run.epoch, run.position, np.isfinite(run.loss)))

    def on_epoch_end(self, run):
        self.events.append(("epoch", run.epoch, run.position, len(run.history["loss"])))

    def on_train_end(self, run):
        self.events.append(("end",))


def test_callbacks_are_told_in_order(backend, monkeypatch):
    """With no time for a native call, each does one step or the few that go without a clock."""
    monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)
    X, y = blobs(500, 50)
    recorder, epochs = Recorder(), []
    net = fastnn.MLP((50, 40, 3), backend=backend)
    net.fit(
        X, y, epochs=2, batch_size=64, callbacks=[recorder, lambda run: epochs.append(run.epoch)]
    )
    assert recorder.events[0] == ("begin", 2, 500)
    assert recorder.events[-1] == ("end",)
    assert epochs == [1, 2]
    for epoch in (1, 2):
        *progress, end = (event for event in recorder.events[1:-1] if event[1] == epoch)
        assert end == ("epoch", epoch, 500, epoch)
        positions = [position for _, _, position, _ in progress]
        assert positions == sorted(set(positions))
        assert positions[-1] == 500
        assert len(positions) > 1
        assert all(position % 64 == 0 for position in positions[:-1])
        assert all(loss_is_finite for *_, loss_is_finite in progress)


def test_a_callback_sees_the_epochs_weights_and_stops_the_training(backend):
    X, y = blobs(30)
    seen = []

    def stop_after_two(run):
        seen.append(run.net.predict(X).tolist())
        run.stop = run.epoch == 2

    net = fastnn.MLP((4, 3), seed=1, backend=backend)
    history = net.fit(X, y, epochs=50, learning_rate=0.1, callbacks=stop_after_two)
    assert len(history["loss"]) == 2
    assert net.epochs_trained == 2
    assert seen[1] == net.predict(X).tolist()


def test_a_callback_changes_the_learning_rate(backend):
    X, y = blobs(30)

    def halve(run):
        run.learning_rate /= 2

    net = fastnn.MLP((4, 3), backend=backend)
    history = net.fit(X, y, epochs=3, learning_rate=0.5, callbacks=[halve])
    assert history["learning_rate"] == [0.5, 0.25, 0.125]


def test_what_a_callback_raises_ends_the_training_with_the_present_weights(backend, monkeypatch):
    monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)
    X, y = blobs(500, 50)

    class Break(Recorder):
        def on_progress(self, run):
            super().on_progress(run)
            self.position = run.position
            if run.epoch == 2:
                raise LookupError("enough")

    callback = Break()
    settings = {"batch_size": 64, "optimizer": "sgd", "learning_rate": 0.1, "shuffle": False}
    layers = (50, 40, 3)
    net = fastnn.MLP(layers, dtype="float64", backend=backend)
    with pytest.raises(LookupError, match="enough"):
        net.fit(X, y, epochs=9, callbacks=[callback], **settings)
    assert callback.events[-1] == ("end",)
    assert net.epochs_trained == 1
    assert len(net.history["loss"]) == 1
    done = callback.position
    assert 0 < done < 500
    twin = fastnn.MLP(layers, dtype="float64", backend=backend)
    twin.fit(X, y, epochs=1, **settings)
    twin.fit(X[:done], y[:done], epochs=1, **settings)
    assert_close(net, parameters(twin), 1e-13)
    net.fit(X, y, epochs=1)
    assert net.epochs_trained == 2


def test_verbose_prints_a_line_per_epoch(backend, capsys):
    X, y = blobs(30)
    net = fastnn.MLP((4, 3), backend=backend)
    net.fit(X, y, epochs=2, validation=0.2)
    assert capsys.readouterr().out == ""
    net.fit(X, y, epochs=2, validation=0.2, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(
        word in line for line in lines for word in ("loss", "val_loss", "val_accuracy", "samples/s")
    )
