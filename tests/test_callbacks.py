"""Callbacks: when they are told of what, what they may raise, and the CSV file."""

import csv
import json
import math

import numpy as np
import pytest
from conftest import assert_has, blobs, flat_of

import fastnn
from fastnn import files
from fastnn.callbacks import (
    EMA,
    SWA,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
)

X, Y = blobs(100)
EVENTS = ("on_train_begin", "on_progress", "on_steps", "on_epoch_end", "on_train_end")


def model(backend="auto", **settings):
    return fastnn.MLP((4, 6, 3), "tanh", seed=5, backend=backend, **settings)


class Recorder(Callback):
    every_steps = 1

    def __init__(self):
        self.events, self.error = [], None

    def on_train_begin(self, run):
        self.events.append(("begin", run.epoch, run.position, run.step))

    def on_steps(self, run):
        self.events.append(("steps", run.epoch, run.position, run.step))

    def on_epoch_end(self, run):
        self.events.append(("epoch", run.epoch, run.position, run.step))

    def on_train_end(self, run):
        self.error = run.error
        self.events.append(("end", run.epoch, run.position, run.step))


# ---- every n steps


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 100])
def test_on_steps_is_called_at_every_multiple(backend, n):
    """4 steps an epoch, 12 in all; the last of an epoch before the epoch's end."""
    recorder = Recorder()
    recorder.every_steps = n
    model(backend).fit(X, Y, epochs=3, batch_size=30, callbacks=recorder)
    steps = [(kind, step) for kind, _, _, step in recorder.events if kind != "end"]
    expected = [("steps", step) for step in range(n, 13, n)]
    for epoch in (1, 2, 3):
        expected.insert(epoch * 4 // n + epoch - 1, ("epoch", 4 * epoch))
    assert steps == [("begin", 0), *expected]
    for kind, epoch, position, step in recorder.events[1:-1]:
        assert epoch == math.ceil(step / 4)
        assert position == min(100, 30 * (step - 4 * (epoch - 1))), kind


def test_callbacks_of_different_steps_change_no_bit(backend, dtype):
    """Calls that end at other steps, and callbacks that only look, leave the training as it is."""
    X, y = blobs(500, 50)
    nets = [fastnn.MLP((50, 40, 3), dtype=dtype, backend=backend) for _ in range(3)]
    every = [Recorder(), Recorder()]
    every[0].every_steps, every[1].every_steps = 3, 7
    histories = [
        net.fit(X, y, epochs=2, batch_size=64, callbacks=callbacks)
        for net, callbacks in zip(nets, [(), every[:1], every], strict=True)
    ]
    for net, history in zip(nets[1:], histories[1:], strict=True):
        assert_has(net, flat_of(nets[0]))
        assert history["loss"] == histories[0]["loss"]
    assert [step for kind, *_, step in every[1].events if kind == "steps"] == [7, 14]


def test_on_steps_within_large_batches(compiled_backend, monkeypatch):
    """Calls that end within a step do not count it, and do not count the one before it again."""
    monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(2500, 30)), rng.integers(0, 50, 2500)
    net = fastnn.MLP((30, 21, 50), dtype="float64", backend=compiled_backend)
    recorder, positions = Recorder(), []
    recorder.on_progress = lambda run: positions.append((run.position, run.step))
    net.fit(X, y, epochs=2, batch_size=1250, callbacks=recorder)
    assert [event for event in recorder.events if event[0] == "steps"] == [
        ("steps", 1, 1250, 1),
        ("steps", 1, 2500, 2),
        ("steps", 2, 1250, 3),
        ("steps", 2, 2500, 4),
    ]
    assert positions[:2] == [(625, 0), (1250, 1)]


def test_parameters_are_those_after_the_step(backend):
    """One epoch of two steps: what on_steps sees is what half of the data alone would give."""
    seen = []

    class Looking(Callback):
        every_steps = 1

        def on_steps(self, run):
            seen.append(run.parameters())

    settings = {"batch_size": 50, "shuffle": False, "epochs": 1}
    net, half = model(backend), model(backend)
    net.fit(X, Y, **settings, callbacks=Looking())
    half.fit(X[:50], Y[:50], **settings)
    for flat, trained in zip(seen, (half, net), strict=True):
        assert_has(trained, flat)


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError)])
def test_wrong_every_steps(every, error):
    recorder = Recorder()
    recorder.every_steps = every
    with pytest.raises(error, match="every_steps"):
        model().fit(X, Y, callbacks=recorder)


# ---- exceptions


class Raising(Callback):
    every_steps = 5

    def __init__(self, event):
        setattr(self, event, self.fail)

    def fail(self, *_):
        raise LookupError("enough")


class Snapshots(Callback):
    """The weights at every event."""

    every_steps = 1

    def __init__(self):
        self.seen = []
        for event in EVENTS:
            setattr(self, event, lambda run: self.seen.append(run.parameters()))


@pytest.mark.parametrize("event", EVENTS)
def test_an_exception_propagates_and_leaves_the_model_intact(backend, event):
    snapshots, before, after = Snapshots(), Recorder(), Recorder()
    net = model(backend)
    with pytest.raises(LookupError, match="enough"):
        net.fit(X, Y, epochs=3, batch_size=20, callbacks=[snapshots, before, Raising(event), after])
    assert before.events[-1][0] == after.events[-1][0] == "end"  # all are told of the end
    assert isinstance(after.error, LookupError) == (event != "on_train_end")
    assert net.epochs_trained == {"on_epoch_end": 1, "on_train_end": 3}.get(event, 0)
    assert {len(values) for values in net.history.values()} <= {net.epochs_trained}
    assert_has(net, snapshots.seen[-1])
    net.fit(X, Y, epochs=1)
    assert np.isfinite(net.forward(X)).all()


def test_an_exception_while_a_checkpoint_is_written(backend, tmp_path):
    """By another callback's state: the checkpoint before it stays, the model is whole."""

    class Failing(Callback):
        count = 0

        def state(self):
            self.count += 1
            if self.count == 3:
                raise LookupError("enough")
            return {"count": self.count}

    net = model(backend)
    with pytest.raises(LookupError, match="enough"):
        net.fit(X, Y, epochs=9, callbacks=[Checkpoint(tmp_path / "run"), Failing()])
    assert net.epochs_trained == 3
    assert files.read(tmp_path / "run").epochs_trained == 2


def test_a_run_that_an_error_has_ended_is_not_saved(backend, tmp_path):
    """Ctrl-C may have come between steps taken and steps counted."""

    class SavingAtTheEnd(Callback):
        def on_train_end(self, run):
            run.save(tmp_path / "run")

    model(backend).fit(X, Y, epochs=1, callbacks=SavingAtTheEnd())
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(RuntimeError, match="an error has ended"):
        model(backend).fit(X, Y, callbacks=[SavingAtTheEnd(), Raising("on_epoch_end")])
    assert (tmp_path / "run").read_bytes() == before


def test_a_state_that_cannot_be_written(tmp_path):
    class Holding(Callback):
        def state(self):
            return {"what": object()}

    with pytest.raises(TypeError, match="JSON"):
        model().fit(X, Y, epochs=9, callbacks=[Checkpoint(tmp_path / "run"), Holding()])


def test_after_a_divergence_no_checkpoint_is_written_and_no_weights_are_replaced(backend, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)) * 100, rng.normal(size=(60, 1)) * 100
    net = fastnn.MLP((4, 6, 1), "identity", "identity", backend=backend)
    callbacks = [
        Checkpoint(tmp_path / "run", every_steps=1),
        EarlyStopping("loss", 100),
        SWA(1),
        EMA(every_steps=1),
    ]
    with pytest.raises(fastnn.DivergenceError):
        net.fit(X, y, epochs=100, optimizer="sgd", learning_rate=0.5, callbacks=callbacks)
    assert np.isfinite(flat_of(net)).all()
    for path in tmp_path.iterdir():
        assert np.isfinite(files.read(path).flat).all()


# ---- the CSV file


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_csv_has_the_history(backend, tmp_path):
    history = model(backend).fit(
        X, Y, epochs=3, validation=0.2, callbacks=CSVLogger(tmp_path / "run.csv")
    )
    names, *rows = read_csv(tmp_path / "run.csv")
    assert names == ["epoch", *history]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    for name, *values in zip(names[1:], *(row[1:] for row in rows), strict=True):
        assert [float(value) for value in values] == history[name]
    assert (tmp_path / "run.csv").read_bytes().count(b"\n") == 4
    model(backend).fit(X, Y, epochs=1, callbacks=CSVLogger(tmp_path / "run.csv"))
    assert len(read_csv(tmp_path / "run.csv")) == 2


def test_csv_of_a_resumed_run_has_every_epoch_once(backend, tmp_path):
    path, table = tmp_path / "run", tmp_path / "run.csv"
    with pytest.raises(LookupError):
        model(backend).fit(
            X,
            Y,
            epochs=9,
            batch_size=10,
            callbacks=[
                CSVLogger(table),
                Checkpoint(path, every=3),
                lambda run: {}[0] if run.epoch == 5 else None,
            ],
        )
    assert len(read_csv(table)) == 1 + 5
    history = model(backend).fit(
        X, Y, epochs=9, batch_size=10, callbacks=CSVLogger(table), resume=path
    )
    names, *rows = read_csv(table)
    assert [row[0] for row in rows] == [str(epoch) for epoch in range(1, 10)]
    assert [float(row[names.index("loss")]) for row in rows] == history["loss"]


def test_history_is_json(tmp_path):
    """Plain floats, for pandas, matplotlib and json alike."""
    history = model().fit(X, Y, epochs=2, validation=0.2, callbacks=Checkpoint(tmp_path / "run"))
    assert json.loads(json.dumps(history)) == history
    resumed = model().fit(X, Y, epochs=2, validation=0.2, resume=tmp_path / "run")
    assert json.loads(json.dumps(resumed)) == history
