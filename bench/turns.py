"""Turns of fastnn's own training, in this process: what other benchmarks measure with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.networks import Case
from fastnn import MLP
from fastnn.callbacks import Callback, Run


@dataclass(frozen=True)
class Turn:
    """How far one call of fit came. The seconds are those of training, from its first step on."""

    samples: int
    seconds: float
    order_seconds: float  # for the random order of the first epoch

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds


class _Enough(Exception):
    """Ends a fit."""


class _Clock(Callback):
    """Counts samples at every return from a native call, and ends the fit after `limit` seconds.

    The first native call is there to warm up: the clock starts when it returns.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.first: tuple[float, int] | None = None
        self.last = (0.0, 0)

    def on_train_begin(self, run: Run) -> None:
        self.begin = time.perf_counter()

    def on_progress(self, run: Run) -> None:
        self.last = time.perf_counter(), (run.epoch - 1) * run.n_samples + run.position
        self.first = self.first or self.last
        if self.last[0] - self.first[0] > self.limit:
            raise _Enough


def train_for(seconds: float, net: MLP, X: np.ndarray, y: np.ndarray, **settings: Any) -> Turn:
    """Trains through `net.fit` for about `seconds`; settings are those of fit."""
    clock = _Clock(seconds)
    with suppress(_Enough):
        net.fit(X, y, epochs=sys.maxsize, callbacks=clock, **settings)
    assert clock.first is not None
    samples, duration = clock.last[1] - clock.first[1], clock.last[0] - clock.first[0]
    order = clock.first[0] - clock.begin - clock.first[1] * duration / samples
    return Turn(samples, duration, max(0.0, order))


def fit_player(
    case: Case, X: Any, y: np.ndarray, seconds: float, skip_zeros: bool = True
) -> Callable[[], float]:
    """Samples per second of a fit that ends after so many seconds, by default without the zeros."""
    net = MLP(case.layer_sizes)
    settings: dict[str, Any] = {"batch_size": case.batch_size, "optimizer": case.optimizer}
    settings["learning_rate"] = case.learning_rate

    def play() -> float:
        os.environ["FASTNN_SKIP_ZEROS"] = "1" if skip_zeros else "0"
        return train_for(seconds, net, X, y, **settings).rate

    return play


def alternate(players: dict[Any, Callable[[], Any]], rounds: int, pause: float = 0.05) -> dict:
    """What every player returns in every round, A B C A B C ..., after a round that is dropped."""
    results: dict[Any, list] = {name: [] for name in players}
    for i in range(rounds + 1):
        for name, play in players.items():
            time.sleep(pause)
            result = play()
            if i:
                results[name].append(result)
    return results
