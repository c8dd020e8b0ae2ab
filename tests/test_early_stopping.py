"""Early stopping: when, on histories made up, and which weights the model gets."""

import math

import numpy as np
import pytest
from conftest import assert_has, blobs

import fastnn
from fastnn.callbacks import EarlyStopping, Run

X, Y = blobs(100)


def model(backend="auto"):
    return fastnn.MLP((4, 6, 3), "tanh", seed=5, backend=backend)


def follow(stopping, values, name="val_loss", begin=0):
    """Tell the callback of these values epoch by epoch; returns the epochs until it stops, and the
    parameters it leaves. Those of an epoch are its number."""
    given = []
    run = Run(None, 1000, 10, 0.1, lambda: np.array([run.epoch]), given.append, *[None] * 3)
    stopping.restore({})
    stopping.on_train_begin(run)
    for epoch, value in enumerate(values, 1):
        run.epoch = epoch
        run.history.setdefault(name, []).append(value)
        stopping.on_epoch_end(run)
        if run.stop:
            break
    stopping.on_train_end(run)
    return run.epoch, [int(array[0]) for array in given]


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ([5, 4, 3, 2, 1], {}, 5, 5),
        ([5, 4, 4, 4, 1], {"patience": 2}, 4, 2),
        ([5, 4, 4, 4, 1], {"patience": 3}, 5, 5),
        ([5, 4, 4, 3, 9, 9], {"patience": 2}, 6, 4),
        ([5, 6], {"patience": 1}, 2, 1),
        ([5, 4.5, 4, 3.5], {"patience": 2, "min_delta": 0.5}, 4, 3),
        ([5, 4.6, 4.3, 4.1], {"patience": 2, "min_delta": 0.5}, 4, 3),
        ([5, 4.6, 4.5, 4.5], {"patience": 2, "min_delta": 0.5}, 3, 1),
        ([NAN, 5, NAN, NAN, 1], {"patience": 2}, 4, 2),
        ([-1, -2, -3, -3], {"patience": 1}, 4, 3),
        ([math.inf, 3, 4], {"patience": 1}, 1, 0),
        ([1, 2, 3, 2, 2], {"patience": 2, "mode": "max"}, 5, 3),
    ],
)
def test_stops_after_so_many_epochs_without_a_new_best(values, settings, epochs, best):
    stopping = EarlyStopping(**settings)
    assert follow(stopping, values) == (epochs, [best] if best else [])
    assert stopping.best_epoch == best
    if best:
        assert stopping.best == values[best - 1]


def test_nothing_but_nan():
    stopping = EarlyStopping(patience=3)
    assert follow(stopping, [NAN] * 9) == (3, [])
    assert stopping.best_epoch == 0


@pytest.mark.parametrize("name", ["loss", "val_loss", "val_log_loss", "val_mae", "my_error"])
def test_auto_is_min_for_what_falls(name):
    assert follow(EarlyStopping(name, 1), [3, 2, 2.5], name) == (3, [2])


@pytest.mark.parametrize("name", ["val_accuracy", "val_top_k", "val_top_3", "val_r2"])
def test_auto_is_max_for_what_rises(name):
    assert follow(EarlyStopping(name, 1), [2, 3, 2.5], name) == (3, [2])


def test_used_again_it_begins_afresh():
    stopping = EarlyStopping(patience=2)
    assert follow(stopping, [1, 2, 3]) == (3, [1])
    assert follow(stopping, [9, 8, 7, 7, 7]) == (5, [3])


def test_without_restoring():
    assert follow(EarlyStopping(patience=1, restore_best=False), [2, 1, 3]) == (3, [])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"monitor": "f1"}, ValueError, "'f1' is better is not known: give mode min or max"),
        ({"mode": "best"}, ValueError, "unknown mode 'best'.*auto, min, max"),
        ({"patience": 0}, ValueError, "patience must be an integer of at least 1"),
        ({"min_delta": -1}, ValueError, "min_delta must be"),
    ],
)
def test_wrong_settings_of_early_stopping(settings, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**settings)


def test_a_monitor_that_is_not_in_the_history(backend):
    net = model(backend)
    with pytest.raises(ValueError, match=r"cannot find 'val_loss'.*loss.*needs validation data"):
        net.fit(X, Y, epochs=9, callbacks=EarlyStopping())
    assert net.epochs_trained == 1


def test_the_model_gets_the_best_weights(backend):
    """The rate is so high that the loss jumps about."""
    net, seen = model(backend), {}
    stopping = EarlyStopping("val_loss", patience=3)

    def keep(run):
        seen[run.epoch] = run.parameters()

    history = net.fit(
        X,
        Y,
        epochs=200,
        learning_rate=1.0,
        validation=(X, Y),
        callbacks=[stopping, keep],
    )
    best = int(np.argmin(history["val_loss"]))
    assert stopping.best_epoch == best + 1
    assert len(history["val_loss"]) == net.epochs_trained == best + 1 + 3
    assert stopping.best == history["val_loss"][best]
    assert_has(net, seen[best + 1])
    assert net.evaluate(X, Y)["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-6)
