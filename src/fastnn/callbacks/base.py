"""What callbacks see and are told, and how `fit` takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import check_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..mlp import MLP

History = dict[str, list[float]]


@dataclass
class Run:
    """What a callback sees of the training run, and where it speaks to it."""

    net: MLP  # its weights are those of the last finished epoch, or of the checkpoint resumed from
    epochs: int  # epochs asked for
    n_samples: int  # training samples in one epoch; 0 while that of a stream is not known
    learning_rate: float  # may be set; counts from the next epoch on
    # A copy of the weights and biases after the last whole step, (n_parameters,) of the network's
    # dtype; for `net.network.views`.
    parameters: Callable[[], NDArray[Any]]
    # Give the model other ones, such as averages: in on_train_end, before that they do not last.
    set_parameters: Callable[[NDArray[Any]], None]
    # Write a checkpoint of the last whole step, of the weights in training, to a path. RuntimeError
    # once an error has ended the training.
    save: Callable[[str | os.PathLike[str]], None]
    # The optimizer's state, (steps taken, arrays): see Engine.get_state and set_state. May be set
    # at the beginning and between epochs.
    get_state: Callable[[], tuple[int, list[NDArray[Any]]]]
    set_state: Callable[[int, list[NDArray[Any]]], None]
    epoch: int = 0  # the present epoch, from 1; when the training begins, the finished ones
    position: int = 0  # samples trained on in this epoch
    step: int = 0  # whole steps since the run began
    loss: float = float("nan")  # mean loss of this epoch so far, without penalty
    history: History = field(default_factory=dict)  # one entry for every finished epoch
    stop: bool = False  # set it: training ends after this epoch
    error: BaseException | None = None  # what ended the training before its time

    @property
    def finished_epochs(self) -> int:
        """Epochs that have their entry in the history."""
        return len(next(iter(self.history.values()), ()))


class Callback:
    """Base class: override what you need.

    A callback whose future depends on its past has `state` and `restore` as well; then a run that
    is resumed from a checkpoint goes on with it as if it had never been interrupted.
    """

    # on_steps is called when run.step is a multiple of it; native calls end exactly there.
    every_steps: int | None = None
    # Names of attributes that must be the same where a run is resumed.
    settings: ClassVar[tuple[str, ...]] = ()

    def on_train_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_progress(self, run: Run) -> None:
        """After every native call, that is about 20 times a second."""

    def on_steps(self, run: Run) -> None:
        """After every `every_steps` steps of the run, whole ones, across epochs."""

    def on_epoch_end(self, run: Run) -> None:
        """When the epoch's weights and its entry in the history are there."""

    def on_train_end(self, run: Run) -> None:
        """After the last step; always called, also when an error or Ctrl-C ends the training."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: arrays, and what JSON can hold."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Begin with this state, or afresh where it is {}; called before on_train_begin."""

    @property
    def keeps_state(self) -> bool:
        return type(self).state is not Callback.state


class AtEpochEnd(Callback):
    """A plain function, called at the end of every epoch."""

    def __init__(self, function: Callable[[Run], object]) -> None:
        if not callable(function) or isinstance(function, type):
            raise _no_callback(function)
        self.function = function

    def on_epoch_end(self, run: Run) -> None:
        self.function(run)


def collect(
    callbacks: Callback | Callable[[Run], object] | Iterable[Callback | Callable[[Run], object]],
) -> list[Callback]:
    """The callbacks of one fit as objects. Raises TypeError for what is neither of the two."""
    if isinstance(callbacks, Callback | str) or callable(callbacks):
        callbacks = (callbacks,)
    collected: list[Callback] = []
    for callback in callbacks:
        if isinstance(callback, Callback):
            collected.append(callback)
        else:
            collected.append(AtEpochEnd(callback))
        if collected[-1].every_steps is not None:
            check_count(collected[-1].every_steps, "every_steps")
    return collected


def _no_callback(given: object) -> TypeError:
    return TypeError(f"callbacks must be Callback objects or functions f(run), got {given!r}")
