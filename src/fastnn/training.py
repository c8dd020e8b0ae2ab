"""The epochs of one fit: order of the samples, validation, history, callbacks, and what is kept.

The loop over batches is not here: an engine does many steps in one native call.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import checkpoints, checks
from .backends import MANY, Engine
from .callbacks import Callback, Checkpoint, History, Run
from .fingerprints import settings_of
from .losses import Loss, without_smoothing
from .metrics import collect, scores
from .network import Network
from .once import once
from .options import TrainingOptions
from .samples import Samples
from .schedules import LearningRate, Rates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .metrics import Measure, Metrics
    from .mlp import MLP
    from .streams import StreamedSamples

    Array = NDArray[Any]

# A native call lasts at most about this long, so that Ctrl-C and progress displays are prompt.
SECONDS_PER_CALL = 0.05
# Chunk c of epoch e has random numbers of its own, by the key e + c * KEYS_OF_EPOCHS.
KEYS_OF_EPOCHS = 2**40
# So many steps' learning rates are computed together.
RATES_AT_ONCE = 1 << 17


class DivergenceError(ValueError):
    """The loss or the weights became NaN or infinite; the last finite epoch's weights are kept."""


class Chunk(NamedTuple):
    """Samples that are trained on in one order: an epoch's, or a piece of them from a stream."""

    data: Samples
    order: Array
    key: int  # of its random numbers
    first: int  # samples of the epoch that came before

    @property
    def end(self) -> int:
        return self.first + len(self.order)


@dataclass(frozen=True)
class Plan:
    """What fit was asked to do."""

    training: Samples | StreamedSamples
    validation: Samples | None
    epochs: int
    batch_size: int
    options: TrainingOptions
    learning_rate: LearningRate
    shuffle: bool | Callable[[int], ArrayLike]
    callbacks: Sequence[Callback]
    metrics: Mapping[str, Measure]
    max_seconds: float | None = None


def check_metrics(
    metrics: Metrics, held: Samples | None, network: Network, loss: Loss
) -> Mapping[str, Measure]:
    """What fit measures on its validation data."""
    measures = collect(metrics, network, loss)
    if metrics and held is None:
        raise ValueError("metrics are measured on validation data: give validation as well")
    return measures


class Training:
    """One run of fit on one engine; the model's own weights change only at the ends of epochs."""

    advice = "Try a lower learning_rate, or inputs scaled to about mean 0 and variance 1."

    def __init__(self, net: MLP, engine: Engine, plan: Plan) -> None:
        self.net, self.engine, self.plan = net, engine, plan
        seconds = math.inf if plan.max_seconds is None else plan.max_seconds
        self.deadline = time.monotonic() + seconds
        # Checkpoints come last, when all others have taken note of what they are to hold.
        self.callbacks = sorted(plan.callbacks, key=lambda c: isinstance(c, Checkpoint))
        n = plan.training.n_samples
        n_steps = -(-n // plan.batch_size)  # in an epoch
        self.rates = Rates(plan.learning_rate, plan.epochs * n_steps, n_steps)
        # What run.learning_rate was when it was last looked at: a callback may set it.
        self.learning_rate = float(self.rates.of_steps(0, 1)[0])
        self.run = Run(
            net,
            plan.epochs,
            n,
            self.learning_rate,
            parameters=self.parameters,
            set_parameters=net._take,
            save=self.save,
            get_state=engine.get_state,
            set_state=engine.set_state,
        )
        # Of the present epoch: how many samples and which sum of losses it had after the last whole
        # step, that sum by now, and the seconds that native calls took.
        self.at_step, self.sum_of_losses, self.seconds = (0, 0.0), 0.0, 0.0
        # Epochs in the history, and steps when fit began; a run that is resumed has some.
        self.n_entered = self.first_step = 0
        # Whether the engine's parameters may be taken when an exception ends the training.
        self.sound = True
        # What finite_parameters returns: new memory at every epoch's end would take as long again.
        self._flat = np.empty(net.network.n_parameters, dtype=net.network.dtype)

    def fit(self, resume: Path | None = None) -> History:
        """Train, from a checkpoint on if there is one; returns the history."""
        run = self.run
        self._begin(resume)
        self.net.history = run.history
        try:
            self._tell("on_train_begin")
            self._epochs()
        except BaseException as error:
            run.error = error
            for values in run.history.values():  # Ctrl-C may have left half an entry
                del values[self.n_entered :]
            if self.sound:
                self._keep()
            raise
        finally:
            self._tell_the_end()
        return run.history

    def _begin(self, resume: Path | None) -> None:
        self.engine.start(self.plan.options)
        if resume is not None:
            checkpoints.restore(self, resume)
            self.n_entered, self.first_step = self.run.finished_epochs, self.run.step
            return
        for callback in self.callbacks:
            callback.restore({})

    def _epochs(self) -> None:
        run = self.run
        while run.epoch < run.epochs and not run.stop and not self._time_is_up():
            self._epoch()

    def _epoch(self) -> None:
        """The next epoch, or what is left of it, up to its end or that of the time."""
        run = self.run
        run.epoch += 1
        run.position, self.sum_of_losses = self.at_step
        run.loss = self.sum_of_losses / run.position if run.position else math.nan
        if run.position == 0 and run.learning_rate != self.learning_rate:
            self.rates.set(run.learning_rate)
            self.learning_rate = run.learning_rate
        self.rates.follow(run.history)
        last_rate = self._pass()
        flat = self.finite_parameters()
        if last_rate is None:  # time is up
            self.net._take(flat)
            return
        run.n_samples = run.position
        if run.learning_rate == self.learning_rate:
            self.learning_rate = run.learning_rate = last_rate
        numbers = {
            "learning_rate": last_rate,
            "seconds": self.seconds,
            "samples_per_second": run.n_samples / self.seconds,
        }
        loss = run.loss + self._penalty()
        self._end_epoch(flat, loss, numbers)
        self._tell("on_epoch_end")

    def _end_epoch(self, flat: Array, loss: float, numbers: dict[str, float]) -> None:
        """Make the epoch's parameters, finite ones, the model's, and an entry in the history."""
        if not math.isfinite(loss):
            self._diverged()
        entry = {"loss": loss, **self._validate(), **numbers}
        self.net._take(flat, epochs=1)
        for name, value in entry.items():
            self.run.history.setdefault(name, []).append(value)
        self.n_entered += 1
        self.at_step, self.seconds = (0, 0.0), 0.0

    def _pass(self) -> float | None:
        """What is left of one pass over the samples; the last rate, or None if time is up before
        its end.
        """
        rate, start = self.learning_rate, time.perf_counter()
        chunks = self._chunks()
        try:
            for chunk in chunks:
                if chunk.end >= self.run.position:  # else it was done before the run was resumed
                    self.seconds += time.perf_counter() - start
                    rate = self._steps(chunk)
                    if self.run.position < chunk.end:
                        return None
                    start = time.perf_counter()
        finally:
            chunks.close()
        return rate

    def _chunks(self) -> Generator[Chunk, None, None]:
        """The epoch's samples in its order, a function of the seed and of the epochs ever trained.

        Continuing with a second fit therefore does not repeat the first one's orders.
        """
        epoch, first = self.net.epochs_trained, 0
        for number, data in enumerate(self.plan.training.parts(epoch)):
            key, order = epoch + number * KEYS_OF_EPOCHS, data.all_rows
            if isinstance(self.plan.shuffle, checks.Orders):
                order = self.plan.shuffle(self.run.epoch)
            elif callable(self.plan.shuffle):
                order = checks.check_order(self.plan.shuffle(self.run.epoch), len(order))
            elif self.plan.shuffle:
                order = self.engine.shuffled(order, self.net.seed, key)
            yield Chunk(data, order, key, first)
            first += len(order)

    def _steps(self, chunk: Chunk) -> float:
        """The rest of a pass over `chunk`, in native calls of bounded length, unless time is up.

        Returns the last rate.
        """
        run, batch_size, n = self.run, self.plan.batch_size, len(chunk.order)
        done = run.step - self._whole_steps(run.position - chunk.first, n)
        n_steps = self._whole_steps(n, n)
        for step in range(0, n_steps, RATES_AT_ONCE):
            stop = min(n_steps, step + RATES_AT_ONCE)
            rates = self.rates.of_steps(done + step, done + stop)
            while (position := run.position - chunk.first) < min(n, stop * batch_size):
                self._call(chunk, rates[position // batch_size - step :])
                position = run.position - chunk.first
                last_step, run.step = run.step, done + self._whole_steps(position, n)
                run.loss = self.sum_of_losses / run.position
                if not math.isfinite(self.sum_of_losses):
                    self._diverged()
                self._tell("on_progress")
                if run.step > last_step:
                    self._tell_of_steps()
                if self._time_is_up():
                    return float(rates[-1])
        return float(rates[-1])

    def _call(self, chunk: Chunk, learning_rates: Array) -> None:
        """Steps from run.position on, with these rates."""
        data, start = chunk.data, time.perf_counter()
        try:
            position, self.sum_of_losses = self.engine.train(
                data.X,
                data.y,
                data.sample_weight,
                chunk.order,
                self.run.position - chunk.first,
                self.plan.batch_size,
                learning_rates,
                min(SECONDS_PER_CALL, max(0.0, self.deadline - time.monotonic())),
                min(len(learning_rates), self._steps_until_told()),
                chunk.key,
                self.sum_of_losses,
            )
        except ValueError:  # X holds NaN: the model keeps what it had
            self.sound = False
            raise
        self.run.position = chunk.first + position
        at_step, sum_of_losses = self.engine.at_step
        self.at_step = chunk.first + at_step, sum_of_losses
        self.seconds += time.perf_counter() - start

    def _penalty(self) -> float:
        """What the penalties add to the mean of the losses."""
        options, n = self.plan.options, self.run.n_samples
        if not (options.l2 or options.l1):
            return 0.0
        penalty = self.engine.penalty(options.l2, options.l1)
        if options.batch_weighting:  # once in every batch, not once for every sample
            return penalty * math.ceil(n / self.plan.batch_size) / n
        return penalty

    def _validate(self) -> dict[str, float]:
        held = self.plan.validation
        if held is None:
            return {}
        try:
            f, loss = self.engine.forward_and_loss(
                held.X,
                held.y,
                held.sample_weight,
                without_smoothing(self.plan.options.loss),
                held.rows,
            )
        except ValueError as error:
            self.sound = False
            raise ValueError(f"validation data: {error}") from None
        y, w = held.chosen()
        values = scores(self.plan.metrics, y, f, w, loss)
        return {f"val_{name}": value for name, value in values.items()}

    def parameters(self) -> Array:
        """A copy of those in training."""
        flat = np.empty(self.net.network.n_parameters, dtype=self.net.network.dtype)
        self.engine.get_parameters(flat)
        return flat

    def finite_parameters(self) -> Array:
        """Those in training, until the next call; DivergenceError if they are not finite."""
        if not self.engine.get_parameters(self._flat):
            self._diverged()
        return self._flat

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        checkpoints.save(self, path)

    @once
    def settings(self) -> dict[str, str]:
        """What a checkpoint and the run that goes on from it must have in common."""
        return settings_of(self.net, self.plan)

    def _keep(self) -> None:
        """Take the present weights in the middle of an epoch, unless they are not finite."""
        flat = self.parameters()
        if np.isfinite(flat).all():
            self.net._take(flat)

    def _diverged(self) -> None:
        self.sound = False
        raise DivergenceError(
            f"the loss or the weights became NaN or infinite in epoch {self.run.epoch}; "
            "the weights of the last finite epoch are kept. "
            f"{self.advice}"
        )

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self.run)

    def _tell_of_steps(self) -> None:
        for callback in self.callbacks:
            if callback.every_steps is not None and self.run.step % callback.every_steps == 0:
                callback.on_steps(self.run)

    def _tell_the_end(self) -> None:
        """All of them, whatever one of them raises: a display must leave the terminal as it was."""
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):  # the stack turns them round
                stack.callback(callback.on_train_end, self.run)

    def _steps_until_told(self) -> int:
        left = MANY
        for callback in self.callbacks:
            if callback.every_steps is not None:
                left = min(left, callback.every_steps - self.run.step % callback.every_steps)
        return left

    def _whole_steps(self, position: int, n: int) -> int:
        """Steps that are done when `position` of n samples are."""
        size = self.plan.batch_size
        return -(-n // size) if position == n else position // size

    def _time_is_up(self) -> bool:
        """Not before one step is taken: a run resumed again and again comes to its end."""
        return self.run.step > self.first_step and time.monotonic() >= self.deadline
