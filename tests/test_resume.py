"""Checkpoints: a run that is resumed goes on to the bits of the run that was never interrupted."""

import os
import shutil

import numpy as np
import pytest
from conftest import assert_has, flat_of
from runs import SETTINGS, TIMES, X, Y, following, model, whole_run, without_times

import fastnn
from fastnn import backends, files
from fastnn.callbacks import Callback, Checkpoint, EarlyStopping
from fastnn.network import Network
from fastnn.optimizers import OPTIMIZERS, SGD, RMSprop
from fastnn.options import TrainingOptions
from fastnn.schedules import Cosine, ReduceOnPlateau, WarmUp

pytestmark = pytest.mark.usefixtures("no_fsync")

CHOICES = {name: name for name in OPTIMIZERS} | {
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "rmsprop with momentum": RMSprop(momentum=0.9),
}


def everything(path):
    """All that a checkpoint holds but the times."""
    content = files.read(path)
    tensors = {
        name: array.tobytes()
        for name, array in content.tensors.items()
        if name.removeprefix("history.") not in TIMES
    }
    content.run["progress"].pop("seconds")
    return content.flat.tobytes(), tensors, content.run, content.epochs_trained


# ---- the same bits ----


@pytest.mark.parametrize("choice", CHOICES)
def test_resumed_after_any_step_and_epoch(backend, dtype, tmp_path, choice):
    """Weights, optimizer state, history and callbacks are those of the run."""
    optimizer = CHOICES[choice]
    net, paths = whole_run(tmp_path / "whole", backend, dtype, optimizer=optimizer)
    assert len(paths) == 3 * (4 + 1)  # steps and epochs
    if choice != "adam":
        paths = paths[::3]  # each place within an epoch once
    expected, positions = everything(paths[0]), set()
    for k, path in enumerate(paths):
        progress = files.read(path).run["progress"]
        positions.add((progress["epoch"], progress["position"]))
        other, end = model(backend, dtype, n_threads=1 + k % 3), tmp_path / "end"
        history = other.fit(
            X,
            Y,
            **SETTINGS,
            optimizer=optimizer,
            callbacks=[*following(), Checkpoint(end, every=None)],
            resume=path,
        )
        assert_has(other, flat_of(net))
        assert without_times(history) == without_times(net.history)
        assert other.history is history
        assert other.epochs_trained == 3
        if path is not paths[0]:  # that run had ended
            assert everything(end) == expected
            end.unlink()
    assert {position for _, position in positions} == {0, 23, 46, 69, 80}
    assert len(positions) == len(paths)


class StopAfter(Callback):
    """An interruption as a crash is one: without a word to other callbacks."""

    def __init__(self, steps):
        self.every_steps = steps

    def on_steps(self, run):
        raise InterruptedError


def test_resumed_again_and_again(backend, tmp_path):
    """Every fit is cut off some steps after the one before it."""
    net, _ = whole_run(tmp_path / "whole", backend)
    path, cuts = tmp_path / "run", 0
    for steps in (2, 5, 7, 11, 1000):
        other = model(backend)
        callbacks = [*following(), Checkpoint(path, every_steps=1), StopAfter(steps)]
        try:
            other.fit(X, Y, **SETTINGS, callbacks=callbacks, resume=True)
        except InterruptedError:
            cuts += 1
    assert cuts == 4
    assert_has(other, flat_of(net))
    assert without_times(other.history) == without_times(net.history)


def test_resumed_with_another_instruction_set(force_isa, tmp_path):
    isas = fastnn.available_isas()
    force_isa(isas[0])
    net, paths = whole_run(tmp_path / "whole", "cython")
    for isa in isas:
        force_isa(isa)
        other = model("cython")
        other.fit(X, Y, **SETTINGS, callbacks=following(), resume=paths[7])
        assert_has(other, flat_of(net))


def assert_resumed(net, paths, backend, **changes):
    """From each of these files on, the whole run's parameters and history come out."""
    for path in paths:
        other = model(backend)
        other.fit(X, Y, **SETTINGS | changes, callbacks=following(), resume=path)
        assert_has(other, flat_of(net))
        assert without_times(other.history) == without_times(net.history)


def test_resumed_full_batch_descent(backend, tmp_path):
    changes = {"batch_size": None, "epochs": 6}
    net, paths = whole_run(tmp_path / "whole", backend, **changes)
    assert_resumed(net, paths[1:], backend, **changes)


SCHEDULES = {
    "cosine": Cosine(0.05),
    "warm-up": WarmUp(Cosine(0.05), 1.5),
    "plateau": ReduceOnPlateau(0.5, "loss", patience=0, threshold=0.5),
    "function": lambda step: 0.1 / (1 + step),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_resumed_on_a_schedule(backend, tmp_path, schedule):
    changes = {"learning_rate": SCHEDULES[schedule]}
    net, paths = whole_run(tmp_path / "whole", backend, **changes)
    assert len(set(net.history["learning_rate"])) > 1
    assert_resumed(net, paths[::3], backend, **changes)


@pytest.mark.parametrize("factors", [(1.0, 0.5), (0.0, 1.0)])
def test_resumed_with_layers_of_their_own_rates(backend, tmp_path, factors):
    changes = {"learning_rate_factors": factors}
    net, paths = whole_run(tmp_path / "whole", backend, **changes)
    assert_resumed(net, paths[::3], backend, **changes)


def test_resumed_with_dropout_and_clipping(backend, tmp_path):
    changes = {"dropout": (0.1, 0.3), "clip_norm": 0.3, "clip_value": 0.05}
    net, paths = whole_run(tmp_path / "whole", backend, **changes)
    assert_resumed(net, paths[::3], backend, **changes)


def test_resumed_with_sample_weights_penalties_and_the_order_given(backend, tmp_path):
    changes = {
        "sample_weight": np.linspace(0.1, 2, 100),
        "l2": 0.01,
        "l1": 0.001,
        "shuffle": False,
        "validation": (X[:9], Y[:9], np.arange(1, 10)),
    }
    net, paths = whole_run(tmp_path / "whole", backend, **changes)
    assert_resumed(net, paths[8:9], backend, **changes)


def test_a_second_fit_is_resumed_with_its_own_orders(backend, tmp_path):
    """The order of an epoch depends on all the epochs that the model has had before."""
    nets = [model(backend), model(backend)]
    for net in nets:
        net.fit(X, Y, epochs=2)
    nets[0].fit(X, Y, **SETTINGS)
    with pytest.raises(InterruptedError):
        nets[1].fit(X, Y, **SETTINGS, callbacks=[Checkpoint(tmp_path / "run"), StopAfter(7)])
    for other in (model(backend), fastnn.load(tmp_path / "run", backend=backend)):
        other.fit(X, Y, **SETTINGS, resume=tmp_path / "run")
        assert_has(other, flat_of(nets[0]))
        assert other.epochs_trained == 5


def test_a_rate_set_within_an_epoch_counts_from_the_next_on(backend, tmp_path):
    """And does so in the run that is resumed in between."""

    class Halving(Callback):
        every_steps = 2

        def on_steps(self, run):
            if run.step in (2, 6):
                run.learning_rate /= 2

    path, net, other = tmp_path / "run", model(backend), model(backend)
    history = net.fit(X, Y, **SETTINGS, callbacks=[Halving(), Checkpoint(path, every_steps=3)])
    assert history["learning_rate"] == [0.02, 0.01, 0.005]
    with pytest.raises(InterruptedError):
        other.fit(
            X, Y, **SETTINGS, callbacks=[Halving(), Checkpoint(path, every_steps=3), StopAfter(7)]
        )
    other.fit(X, Y, **SETTINGS, callbacks=Halving(), resume=path)
    assert_has(other, flat_of(net))
    assert other.history["learning_rate"] == history["learning_rate"]


# ---- engines ----


@pytest.mark.parametrize("choice", CHOICES)
def test_an_engine_goes_on_from_its_state(backend, dtype, choice):
    network = Network((30, 21, 50), "tanh", "softmax", dtype)
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(2500, 30)), rng.integers(0, 50, 2500).astype(np.int32)
    data = X, y, None, np.arange(2500)
    options = TrainingOptions(fastnn.optimizers.get(CHOICES[choice]), "cross_entropy", l2=0.01)
    rates = np.full(2500, 0.01)

    def prepared(n_threads):
        engine = backends.load(backend).Engine(network, n_threads)
        engine.set_parameters(network.initialize(1))
        engine.start(options)
        return engine

    def flat(engine):
        parameters = np.empty(network.n_parameters, dtype)
        engine.get_parameters(parameters)
        return parameters

    def trained(engine, position, end, total=0.0):
        while position < end:
            steps = -(-(end - position) // 1200)
            position, total = engine.train(
                *data, position, 1200, rates, 1.0, steps, sum_of_losses=total
            )
        return total

    whole, first, second = prepared(1), prepared(2), prepared(3)
    assert whole.get_state()[0] == 0
    trained(whole, 0, 2500)
    sum_of_losses = trained(whole, 0, 2500)
    trained(first, 0, 2500)
    total = trained(first, 0, 1200)
    position, _ = first.train(*data, 1200, 1200, rates, 0.0, 1, sum_of_losses=total)
    at, total = first.at_step
    # The others take fewer than 1200 rows of this size at a time.
    ends_within_a_step = backend != "numpy" and dtype == "float64"
    assert (at, position < 2400) == ((1200, True) if ends_within_a_step else (2400, False))
    t, arrays = first.get_state()
    assert t == 3 + at // 1200
    assert all(array.any() for array in arrays)
    second.set_parameters(flat(first))
    second.set_state(t, arrays)
    assert trained(second, at, 2500, total) == sum_of_losses
    assert flat(second).tobytes() == flat(whole).tobytes()
    assert whole.get_state()[0] == second.get_state()[0] == 6
    for array, other in zip(whole.get_state()[1], second.get_state()[1], strict=True):
        assert array.tobytes() == other.tobytes()


# ---- what resume takes, and how far it goes ----


def test_a_finished_run_returns_at_once(backend, tmp_path):
    net, paths = whole_run(tmp_path / "whole", backend)
    other, told = model(backend), []

    class Listening(Callback):
        def on_progress(self, run):
            told.append("progress")

        def on_epoch_end(self, run):
            told.append("epoch")

        def on_train_end(self, run):
            told.append("end")

    history = other.fit(X, Y, **SETTINGS, callbacks=[*following(), Listening()], resume=paths[0])
    assert told == ["end"]
    assert_has(other, flat_of(net))
    assert history == net.history


@pytest.mark.parametrize("epochs", [2, 3, 5])
def test_another_number_of_epochs(backend, tmp_path, epochs):
    """Two epochs more give what five from the beginning give; fewer than are done are none."""
    paths = whole_run(tmp_path / "whole", backend)[1]
    net, other = model(backend), model(backend)
    arguments = SETTINGS | {"epochs": max(epochs, 3)}
    net.fit(X, Y, **arguments)
    arguments["epochs"] = epochs
    history = other.fit(X, Y, **arguments, callbacks=following(), resume=paths[0])
    assert_has(other, flat_of(net))
    assert len(history["loss"]) == max(epochs, 3)


def test_resume_true_begins_a_run_or_goes_on_with_it(backend, tmp_path):
    net = model(backend)
    net.fit(X, Y, **SETTINGS)
    arguments = SETTINGS | {
        "callbacks": Checkpoint(tmp_path / "run"),
        "resume": True,
    }
    for epochs in (1, 2, 3, 3):
        other = model(backend)
        other.fit(X, Y, **arguments | {"epochs": epochs})
        assert other.epochs_trained == epochs
    assert_has(other, flat_of(net))


def test_resume_true_takes_the_newest_of_several(tmp_path):
    callbacks = [
        Checkpoint(tmp_path / "old", every_steps=1, every=None),
        Checkpoint(tmp_path / "new", every_steps=1, every=None),
    ]
    model().fit(X, Y, **SETTINGS, callbacks=callbacks)
    shutil.copy(tmp_path / "new", tmp_path / "whole")
    model().fit(X, Y, **SETTINGS | {"epochs": 1}, callbacks=callbacks[1])
    for name, time in (("old", 1), ("new", 2)):
        os.utime(tmp_path / name, (time, time))
    net = model()
    net.fit(X, Y, **SETTINGS | {"epochs": 1}, callbacks=callbacks, resume=True)
    assert net.epochs_trained == 1


def test_resume_of_the_wrong_kind(tmp_path):
    net = model()
    with pytest.raises(ValueError, match="resume=True needs a Checkpoint"):
        net.fit(X, Y, resume=True)
    with pytest.raises(TypeError, match=r"resume must be a path, True or None, got 3\.5"):
        net.fit(X, Y, resume=3.5)
    with pytest.raises(FileNotFoundError, match="nothing"):
        net.fit(X, Y, resume=tmp_path / "nothing")
    net.save(tmp_path / "model")
    with pytest.raises(fastnn.ModelFileError, match="is a model, not a checkpoint"):
        net.fit(X, Y, resume=tmp_path / "model")
    assert net.epochs_trained == 0


def test_a_run_that_stopped_early_stays_so_unless_it_gets_more_patience(tmp_path):
    """The rate is so high that the loss jumps about: the best epoch is not the last."""
    path, arguments = tmp_path / "run", SETTINGS | {"epochs": 50, "learning_rate": 2.0}

    def fit(patience, resume=None):
        net = model()
        stopping = EarlyStopping("val_loss", patience)
        history = net.fit(X, Y, **arguments, callbacks=[Checkpoint(path), stopping], resume=resume)
        return net, stopping, len(history["loss"])

    net, stopping, epochs = fit(2)
    assert epochs == stopping.best_epoch + 2 < 50
    again, same, no_more = fit(2, path)
    assert (no_more, same.best, same.best_epoch) == (epochs, stopping.best, stopping.best_epoch)
    assert_has(again, flat_of(net))
    _, _, more = fit(3, path)
    assert more > epochs
