"""Callbacks: code that follows a training run.

`MLP.fit(callbacks=...)` takes objects of `Callback` and plain functions `f(run)`, which are called
at the end of every epoch. All of them run in the thread that called fit, between native calls. What
a callback raises ends the training; the model keeps the weights of the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .mlp import MLP

History = dict[str, list[float]]


@dataclass
class Run:
    """What a callback sees of the training run, and where it speaks to it."""

    net: MLP  # its weights are those of the last finished epoch
    epochs: int  # epochs asked for
    n_samples: int  # training samples in one epoch
    learning_rate: float  # may be set; counts from the next epoch on
    epoch: int = 0  # the present epoch, from 1
    position: int = 0  # samples trained on in this epoch
    loss: float = float("nan")  # mean loss of this epoch so far, without penalty
    history: History = field(default_factory=dict)  # one entry for every finished epoch
    stop: bool = False  # set it: training ends after this epoch


class Callback:
    """Base class: override what you need."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_progress(self, run: Run) -> None:
        """After every native call, that is about 20 times a second."""

    def on_epoch_end(self, run: Run) -> None:
        """When the epoch's weights and its entry in the history are there."""

    def on_train_end(self, run: Run) -> None:
        """After the last step; always called, also when an error or Ctrl-C ends the training."""


class AtEpochEnd(Callback):
    """A plain function, called at the end of every epoch."""

    def __init__(self, function: Callable[[Run], object]) -> None:
        self.function = function

    def on_epoch_end(self, run: Run) -> None:
        self.function(run)


class PrintEpochs(Callback):
    """One line on stdout for every epoch; what `fit(verbose=True)` adds."""

    def on_epoch_end(self, run: Run) -> None:
        width = len(str(run.epochs))
        parts = [f"epoch {run.epoch:{width}}/{run.epochs}"]
        parts += [
            f"{name} {values[-1]:.6g}"
            for name, values in run.history.items()
            if name == "loss" or name.startswith("val_")
        ]
        parts.append(f"{run.history['samples_per_second'][-1]:,.0f} samples/s")
        print("  ".join(parts), flush=True)


def collect(
    callbacks: Callback | Callable[[Run], object] | Iterable[Callback | Callable[[Run], object]],
    verbose: bool,
) -> list[Callback]:
    """The callbacks of one fit as objects. Raises TypeError for what is neither of the two."""
    if isinstance(callbacks, Callback) or callable(callbacks):
        callbacks = (callbacks,)
    collected: list[Callback] = []
    for callback in callbacks:
        if isinstance(callback, Callback):
            collected.append(callback)
        elif callable(callback) and not isinstance(callback, type):
            collected.append(AtEpochEnd(callback))
        else:
            raise TypeError(
                f"callbacks must be Callback objects or functions f(run), got {callback!r}"
            )
    if verbose:
        collected.append(PrintEpochs())
    return collected
