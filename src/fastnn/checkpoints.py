"""Checkpoints: a training run in a file.

The file is a model file (see `files`) with the run beside the model. Its record "run" has
    progress   how far the run is, see `Progress`
    settings   the network, the arguments of fit and the data, each in words (see `fingerprints`)
    history    the names of the history's lists
    callbacks  for each callback that keeps a state, what of it is not an array
and its tensors are, n_parameters being the number of weights and biases,
    run.optimizer.K      (n_parameters,) of the network's dtype, the optimizer's K-th state array
    run.history.NAME     (finished epochs,) float64
    run.callbackK.NAME   arrays of the K-th of these callbacks
with K from 0 on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files
from .callbacks import Callback, Checkpoint
from .files import ModelFileError
from .fingerprints import differences
from .streams import StreamedSamples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .training import Training

    Array = NDArray[Any]

LARGEST_COUNT = 2**62  # so that sums of counts fit 64 bits


@dataclass(frozen=True)
class Progress:
    """How far a run is: between two steps, never within one."""

    epoch: int = 0  # finished ones
    position: int = 0  # samples done of the next
    sum_of_losses: float = 0.0  # of these samples
    seconds: float = 0.0  # that they took
    step: int = 0  # steps since the run began
    learning_rate: float = 0.0  # of the present epoch, where it is constant
    next_learning_rate: float = 0.0  # run.learning_rate: what a callback has set for the next one
    t: int = 0  # steps by the optimizer's count


def save(training: Training, path: str | os.PathLike[str]) -> None:
    """Write the run after its last whole step to `path`, whole or not at all.

    Raises OSError, and RuntimeError for a run that an error has ended: it may have come when the
    engine had taken steps that the training had not counted yet.
    """
    net, run = training.net, training.run
    if run.error is not None:
        raise RuntimeError("a run that an error has ended cannot be saved")
    t, optimizer = training.engine.get_state()
    progress = Progress(
        run.finished_epochs,
        *training.at_step,
        training.seconds,
        run.step,
        float(training.learning_rate),
        float(run.learning_rate),
        t,
    )
    states = [callback.state() for callback in training.callbacks if callback.keeps_state]
    arrays = [
        {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        for state in states
    ]
    record = {
        "progress": asdict(progress),
        "settings": training.settings,
        "history": list(run.history),
        "callbacks": [
            {name: state[name] for name in state if name not in of_state}
            for state, of_state in zip(states, arrays, strict=True)
        ],
    }
    tensors = {f"optimizer.{k}": array for k, array in enumerate(optimizer)}
    tensors |= {f"history.{name}": np.array(run.history[name], float) for name in run.history}
    for k, of_state in enumerate(arrays):
        tensors |= {f"callback{k}.{name}": array for name, array in of_state.items()}
    flat = training.finite_parameters()
    files.write(
        path, files.Content(net.network, flat, net.seed, net.epochs_trained, record, tensors)
    )


def find(
    resume: str | os.PathLike[str] | bool | None, callbacks: Iterable[Callback]
) -> Path | None:
    """The file that fit's argument `resume` means; None: a new run."""
    if resume is None or resume is False:
        return None
    if resume is not True:
        try:
            return Path(resume)
        except TypeError:
            raise TypeError(f"resume must be a path, True or None, got {resume!r}") from None
    paths = [callback.path for callback in callbacks if isinstance(callback, Checkpoint)]
    if not paths:
        raise ValueError("resume=True needs a Checkpoint among the callbacks")
    there = [path for path in paths if path.exists()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def restore(training: Training, path: Path) -> None:
    """Bring a training that has not begun to where the run was.

    Raises FileNotFoundError, ModelFileError for a file that is no checkpoint or is damaged, and
    ValueError that lists all settings which are not the same. The model is as before then.
    """
    content = files.read(path)
    if content.run is None:
        raise ModelFileError(f"{path} is a model, not a checkpoint of a training")
    ours = training.settings
    try:
        others = differences(dict(content.run["settings"]), ours)
        if not others:
            _take(training, content, content.run)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{path} is damaged: the run in it: {error!r}") from None
    if others:
        raise ValueError("\n  ".join([f"{path} is of another run:", *others]))


def _take(training: Training, content: files.Content, record: dict[str, Any]) -> None:
    """Everything that can fail is done before the model changes."""
    net, run, tensors = training.net, training.run, content.tensors
    progress = _progress(record["progress"], training)
    history = {name: tensors.pop(f"history.{name}").tolist() for name in record["history"]}
    if {len(values) for values in history.values()} != {progress.epoch} - {0}:
        raise ValueError(f"history not of {progress.epoch} epochs")
    optimizer = [
        _like(tensors.pop(f"optimizer.{k}"), zeros)
        for k, zeros in enumerate(training.engine.get_state()[1])
    ]
    keeping = [callback for callback in training.callbacks if callback.keeps_state]
    states = [dict(state) for state in record["callbacks"]]
    for name, array in tensors.items():
        group, _, member = name.partition(".")
        states[int(group.removeprefix("callback"))][member] = array
    for callback in training.callbacks:
        callback.restore({})
    for callback, state in zip(keeping, states, strict=True):
        callback.restore(state)
    if training.rates.constant is not None:  # else they follow from the step and the history
        training.rates.set(progress.learning_rate)
    training.engine.set_parameters(content.flat)
    training.engine.set_state(progress.t, optimizer)
    training.at_step = progress.position, progress.sum_of_losses
    training.seconds, training.learning_rate = progress.seconds, progress.learning_rate
    run.epoch, run.position, run.step = progress.epoch, progress.position, progress.step
    run.learning_rate, run.history = progress.next_learning_rate, history
    net._take(content.flat)
    net.epochs_trained = content.epochs_trained


def _progress(record: dict[str, Any], training: Training) -> Progress:
    for field in fields(Progress):
        value = record[field.name]
        is_good = math.isfinite(value) if type(value) is float else 0 <= value < LARGEST_COUNT
        if type(value) is not type(field.default) or not is_good:
            raise ValueError(f"{field.name} of {value!r}")
    progress = Progress(**record)
    n, batch_size = training.run.n_samples, training.plan.batch_size
    if isinstance(training.plan.training, StreamedSamples):
        return progress  # where its steps end is known when the chunks come
    if progress.position > n or (progress.position < n and progress.position % batch_size):
        raise ValueError(f"position {progress.position} in batches of {batch_size} of {n} samples")
    return progress


def _like(array: Array, zeros: Array) -> Array:
    if (array.shape, array.dtype) != (zeros.shape, zeros.dtype):
        raise ValueError(f"optimizer state of {array.dtype} {array.shape}")
    return array
