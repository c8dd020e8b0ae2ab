"""Ending a training when a value of its history no longer improves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import check_amount, check_count
from ..network import known
from .base import Callback, Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODES = ("auto", "min", "max")
# Parts of names, from which mode="auto" knows the better direction.
FALLING = ("loss", "error", "mae", "mse")
RISING = ("accuracy", "r2", "top_")


class EarlyStopping(Callback):
    """Stop after `patience` epochs in a row without a new best value.

    monitor       any list of the history, such as "val_loss" or "val_accuracy"
    patience      epochs, at least 1
    min_delta     a value counts as a new best only if better by more than this; at least 0. NaN is
                  never better.
    restore_best  when the training ends, stopped or not, the model gets the weights that it had
                  after the best epoch. Not when an error or Ctrl-C ends it.
    mode          "min": smaller is better; "max": larger; "auto": by the name, min if loss, error,
                  mae or mse is in it, else max if accuracy, r2 or top_ is

    After the training `best` is the best value and `best_epoch` its epoch, from 1 (0: there was
    none, every value being NaN). A run that is resumed may have another patience.

    Raises ValueError for a monitor whose direction "auto" does not know, and, when the first epoch
    ends, for one that the history does not have.
    """

    settings: ClassVar = ("monitor", "min_delta", "mode")

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str = "auto",
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a name, got {monitor!r}")
        self.monitor = monitor
        self.patience = check_count(patience, "patience")
        self.min_delta = check_amount(min_delta, "min_delta")
        self.restore_best = restore_best
        self.mode = _direction(monitor) if known(mode, MODES, "mode") == "auto" else mode
        self.restore({})

    def state(self) -> dict[str, Any]:
        state = {"best": self.best, "best_epoch": self.best_epoch}
        return state if self._weights is None else state | {"weights": self._weights}

    def restore(self, state: dict[str, Any]) -> None:
        self.best = float(state.get("best", math.inf if self.mode == "min" else -math.inf))
        self.best_epoch = int(state.get("best_epoch", 0))
        self._weights: NDArray[Any] | None = state.get("weights")

    def on_train_begin(self, run: Run) -> None:
        self._stop_if_due(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.monitor not in run.history:
            raise ValueError(
                f"EarlyStopping cannot find {self.monitor!r} in the history, "
                f"which has {', '.join(run.history)}"
                + ("; val_... needs validation data" if self.monitor.startswith("val_") else "")
            )
        value = run.history[self.monitor][-1]
        gain = self.best - value if self.mode == "min" else value - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            self._weights = run.parameters() if self.restore_best else None
        self._stop_if_due(run)

    def on_train_end(self, run: Run) -> None:
        if self.restore_best and self._weights is not None and run.error is None:
            run.set_parameters(self._weights)

    def _stop_if_due(self, run: Run) -> None:
        if run.finished_epochs - self.best_epoch >= self.patience:
            run.stop = True


def _direction(monitor: str) -> str:
    if any(part in monitor for part in FALLING):
        return "min"
    if any(part in monitor for part in RISING):
        return "max"
    raise ValueError(f"whether a smaller {monitor!r} is better is not known: give mode min or max")
