"""Training: what fit learns, in which order, what it records, and callbacks."""

import numpy as np
import pytest
from conftest import assert_close, blobs, parameters, targets

import fastnn
from fastnn import backends
from fastnn.callbacks import Callback
from fastnn.network import LOSS_OF_OUTPUT, OUTPUTS, STREAM_VALIDATION, random_stream

GATE_INPUTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
GATES = {"or": [0, 1, 1, 1], "and": [0, 0, 0, 1], "xor": [0, 1, 1, 0]}


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
    """Epoch e of a model's life takes its samples in the engine's order of (seed, e)."""
    X, y = blobs(20)
    net = fastnn.MLP((4, 3), dtype="float64", seed=9, backend=backend)
    twin = fastnn.MLP((4, 3), dtype="float64", seed=9, backend=backend)
    net.fit(X, y, epochs=3, batch_size=6, optimizer="sgd", learning_rate=0.1)
    engine = backends.load(backend).Engine(net.network, None)
    for epoch in range(3):
        order = engine.shuffled(np.arange(20), 9, epoch)
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
