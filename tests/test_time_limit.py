"""fit(max_seconds=...): where a training ends, what the model holds then, and how it goes on."""

import math

import numpy as np
import pytest
from conftest import assert_has, flat_of

import fastnn
from fastnn.callbacks import Callback, Checkpoint


class Clock:
    """In place of the time module: a call of the engine takes a second, nothing else takes any."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(fastnn.training, "time", self)
        monkeypatch.setattr(fastnn.training, "SECONDS_PER_CALL", 0.0)

    def monotonic(self):
        return self.now

    def perf_counter(self):
        self.now += 1e-9
        return self.now

    def tick(self, run):
        self.now += 1.0


def timed(backend, monkeypatch, seconds, callbacks=(), net=None, batch_size=1250, **settings):
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(2500, 30)), rng.integers(0, 50, 2500)
    if net is None:
        net = fastnn.MLP((30, 21, 50), dtype="float64", backend=backend)
    clock, ticking = Clock(monkeypatch), Callback()
    ticking.on_progress = clock.tick
    net.fit(
        X,
        y,
        epochs=3,
        batch_size=batch_size,
        callbacks=[ticking, *callbacks],
        max_seconds=seconds,
        **settings,
    )
    return net


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5, 3.5, 4.5, 6.5, 7.5, 100.0])
def test_max_seconds_ends_the_training_between_calls(backend, monkeypatch, tmp_path, seconds):
    """The reference takes a batch of 1250 in one call, the others in two.

    The weights are those after the last whole step; epochs cut short are in no list; and the run
    goes on from its checkpoint, which is of that moment, to the bits of the whole.
    """
    calls = 1 if backend == "numpy" else 2
    path, seen, flats = tmp_path / "run", Callback(), []
    seen.every_steps, seen.on_steps = 1, lambda run: flats.append(run.parameters())
    net = timed(backend, monkeypatch, seconds, [seen, Checkpoint(path, every=None)])
    steps = min(6, max(1, math.ceil(seconds) // calls))
    assert len(flats) == steps
    assert_has(net, flats[-1])
    assert net.epochs_trained == steps // 2
    assert {len(values) for values in net.history.values()} <= {steps // 2}
    expected = timed(backend, monkeypatch, None)
    resumed = timed(backend, monkeypatch, None, resume=path)
    assert_has(resumed, flat_of(expected))
    assert resumed.history["loss"] == expected.history["loss"]


def test_a_run_resumed_with_hardly_any_time_comes_to_its_end(backend, monkeypatch, tmp_path):
    """At least one step in every fit, though the time is up before."""
    expected = timed(backend, monkeypatch, None)
    for _ in range(6):
        net = timed(backend, monkeypatch, 1e-3, [Checkpoint(tmp_path / "run")], resume=True)
    assert net.epochs_trained == 3
    assert_has(net, flat_of(expected))


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_wrong_max_seconds(seconds):
    with pytest.raises(ValueError, match="max_seconds must be a finite number above 0"):
        fastnn.MLP((2, 2)).fit(np.eye(2), [0, 1], max_seconds=seconds)
