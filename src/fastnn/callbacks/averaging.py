"""Averages of the weights along a training."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..checks import check_count
from ..network import number
from .base import Callback, Run

if TYPE_CHECKING:
    from ..mlp import MLP


class WeightAverage(Callback):
    """What EMA and SWA share: an average of the weights, biases included, summed in float64.

    The training itself, and so the history with its validation values, goes on with the weights as
    they are. When it ends with use_at_end, and not by an error or Ctrl-C, the model gets the
    average, so that `predict` and `evaluate` are the average's; `model` gives it at any time.
    """

    use_at_end: bool

    def __init__(self) -> None:
        self.restore({})

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"count": self.count}
        return state if self._average is None else state | {"average": self._average}

    def restore(self, state: dict[str, Any]) -> None:
        self.count = int(state.get("count", 0))  # how often weights have gone into the average
        average = state.get("average")
        self._average = None if average is None else np.array(average, np.float64)

    def model(self, run: Run) -> MLP:
        """A model like run.net with the average so far; RuntimeError if there is none yet."""
        if self._average is None:
            raise RuntimeError(f"{type(self).__name__} has not averaged any weights yet")
        model = copy.deepcopy(run.net)
        model._take(self._average)
        return model

    def on_train_end(self, run: Run) -> None:
        if self.use_at_end and self._average is not None and run.error is None:
            run.set_parameters(self._average)

    def _add(self, run: Run, share: float) -> None:
        """average += share * (weights - average); the first weights are the first average."""
        weights = run.parameters().astype(np.float64)
        self.count += 1
        if self._average is None:
            self._average = weights
        else:
            weights -= self._average
            weights *= share
            self._average += weights


class EMA(WeightAverage):
    """Exponential moving average of the weights (Tarvainen and Valpola, 2017).

    average = decay * average + (1 - decay) * W, after every `every_steps` steps; the first time,
    average = W

    decay        at least 0 and below 1. It looks back on about every_steps / (1 - decay) steps.
    every_steps  each time costs a copy of the weights, and steps come in native calls of so many.
    use_at_end   the model has the average when the training ends.
    """

    settings: ClassVar = ("decay", "every_steps")

    def __init__(self, decay: float = 0.99, every_steps: int = 10, use_at_end: bool = True) -> None:
        if not 0 <= number(decay, "decay") < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay!r}")
        self.decay, self.use_at_end = float(decay), use_at_end
        self.every_steps = check_count(every_steps, "every_steps")
        super().__init__()

    def on_steps(self, run: Run) -> None:
        self._add(run, 1 - self.decay)


class SWA(WeightAverage):
    """Stochastic weight averaging (Izmailov et al., 2018).

    average = the mean of the weights at the ends of the epochs from `first_epoch` on

    first_epoch  from 1, in this run
    use_at_end   the model has the average when the training ends.

    It is used with a learning rate that is constant, or goes up and down, over these epochs.
    Raises ValueError when a training begins that has fewer epochs.
    """

    settings: ClassVar = ("first_epoch",)

    def __init__(self, first_epoch: int, use_at_end: bool = True) -> None:
        self.first_epoch = check_count(first_epoch, "first_epoch")
        self.use_at_end = use_at_end
        super().__init__()

    def on_train_begin(self, run: Run) -> None:
        if self.first_epoch > run.epochs:
            raise ValueError(f"SWA has first_epoch={self.first_epoch}, the run {run.epochs} epochs")

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch >= self.first_epoch:
            self._add(run, 1 / (self.count + 1))
