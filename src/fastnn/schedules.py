"""Learning rates that change from step to step: `MLP.fit(learning_rate=...)` takes one of these
objects, or any function f(step) of the step's number from 0.

t below is the share of the run's steps that is done, from 0 to 1; durations are in epochs, and may
be fractions. Rates have the same bits on every machine (`fastnn.elementary`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import check_amount, check_count
from .elementary import cos_pi, log2, power
from .network import known, number

Array = NDArray[Any]


class Schedule:
    """Base class: override rates."""

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        """The learning rates, float64, of steps of a run.

        steps            int64, 1-D: numbers of steps, from 0
        n_steps          of the whole run
        steps_per_epoch  of which the last may be a smaller batch
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate for every step; what a plain number stands for."""

    learning_rate: float

    def __post_init__(self) -> None:
        check_amount(self.learning_rate, "learning_rate", positive=True)

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        return np.full(len(steps), float(self.learning_rate))


@dataclass(frozen=True)
class Step(Schedule):
    """The rate times `factor` after every `every` epochs."""

    learning_rate: float
    every: float = 10.0
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate", "every", "factor")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        count = np.floor(steps / (self.every * steps_per_epoch)).astype(np.int64)
        powers = np.cumprod(np.append(1.0, np.full(count.max(), float(self.factor))))
        return np.asarray(self.learning_rate * powers[count])


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times `factor` in every epoch, a little with every step: learning_rate factor^epochs."""

    learning_rate: float
    factor: float = 0.95

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate", "factor")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        return self.learning_rate * power(self.factor, steps / steps_per_epoch)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """learning_rate / (1 + step)^power; scikit-learn's "invscaling" counts samples instead."""

    learning_rate: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate", "power")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        return self.learning_rate * power(1.0 + steps, -self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine over the run, from learning_rate to minimum (Loshchilov and Hutter, 2017).

    minimum + (learning_rate - minimum) (1 + cos(pi t)) / 2
    """

    learning_rate: float
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate")
        check_amount(self.minimum, "minimum")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        return _half_cosine(self.learning_rate, self.minimum, steps / n_steps)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine again and again, each `growth` times as long as the one before (SGDR,
    Loshchilov and Hutter, 2017); the first lasts `period` epochs."""

    learning_rate: float
    period: float = 10.0
    growth: float = 1.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate", "period")
        check_amount(self.minimum, "minimum")
        if not 1 <= number(self.growth, "growth") < float("inf"):
            raise ValueError(f"growth must be at least 1, got {self.growth!r}")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        length = self.period * steps_per_epoch
        if self.growth == 1:
            return _half_cosine(self.learning_rate, self.minimum, steps % length / length)
        starts = [0.0]
        while starts[-1] <= steps.max():
            starts.append(starts[-1] + length)
            length *= self.growth
        edges = np.array(starts)
        cycle = np.searchsorted(edges, steps, side="right")
        t = (steps - edges[cycle - 1]) / (edges[cycle] - edges[cycle - 1])
        return _half_cosine(self.learning_rate, self.minimum, t)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up and down again once, each by half a cosine (Smith and Topin, 2019), as PyTorch has it.

    From start_factor * learning_rate to learning_rate in the first `warm_up` of the steps, from
    there to final_factor * learning_rate. Momentum stays as it is.
    """

    learning_rate: float
    warm_up: float = 0.3
    start_factor: float = 1 / 25
    final_factor: float = 1 / 25 * 1e-4

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate")
        check_amount(self.start_factor, "start_factor")
        check_amount(self.final_factor, "final_factor")
        if not 0 <= number(self.warm_up, "warm_up") < 1:
            raise ValueError(f"warm_up must be at least 0 and below 1, got {self.warm_up!r}")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        top, last = max(self.warm_up * n_steps - 1, 0.0), n_steps - 1
        rise = np.minimum(steps / (top or 1.0), 1.0)
        fall = np.maximum(steps - top, 0.0) / ((last - top) or 1.0)
        rate = self.learning_rate
        return np.where(
            steps < top,
            _half_cosine(rate * self.start_factor, rate, rise),
            _half_cosine(rate, rate * self.final_factor, fall),
        )


@dataclass(frozen=True)
class CosLog4(Schedule):
    """Four cosine cycles, each over about twice as many steps as the one before, from 0 to 0:
    RealMLP's (Holzmüller et al., 2024).

    learning_rate (1 - cos(2 pi log2(1 + 15 t))) / 2
    """

    learning_rate: float

    def __post_init__(self) -> None:
        _check_positive(self, "learning_rate")

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        return _half_cosine(0.0, self.learning_rate, 2 * log2(1 + 15 * (steps / n_steps)))


@dataclass(frozen=True)
class Function(Schedule):
    """f(step) -> rate, called for every step; what a plain function stands for."""

    function: Callable[[int], float]

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        rates = [self.function(step) for step in steps.tolist()]
        if not all(isinstance(rate, Real) for rate in rates):
            raise TypeError("learning_rate, a function, must return numbers")
        return np.array(rates, dtype=np.float64)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise in the first `epochs` epochs; the schedule has the rest of the run.

    schedule      a number, a schedule, or a function f(step) of the steps after the warm-up
    epochs        how long it takes, above 0; a shorter run ends in it
    start_factor  the first rate, as a share of the schedule's first one
    """

    schedule: float | Schedule | Callable[[int], float]
    epochs: float = 1.0
    start_factor: float = 0.01

    def __post_init__(self) -> None:
        _check_positive(self, "epochs")
        check_amount(self.start_factor, "start_factor")
        get(self.schedule)

    def rates(self, steps: Array, n_steps: int, steps_per_epoch: int) -> Array:
        schedule, length = get(self.schedule), max(1, round(self.epochs * steps_per_epoch))
        later = np.maximum(steps - length, 0)
        rates = schedule.rates(later, max(1, n_steps - length), steps_per_epoch)
        rise = self.start_factor + (1 - self.start_factor) * np.minimum(steps / length, 1.0)
        return np.asarray(rise * rates)


@dataclass(frozen=True)
class ReduceOnPlateau:
    """A schedule's rates, times `factor` whenever an entry of the history no longer improves.

    schedule   a number, a schedule or a function f(step); a warm-up belongs here
    monitor    the name of the history's entry, such as "loss", "val_loss" or "val_accuracy"
    mode       "min" or "max": what is better
    factor     above 0, below 1
    patience   epochs in a row without improvement that are borne
    threshold  what counts as one: below (1 - threshold) times the best so far, for "max" above
               (1 + threshold) times
    cooldown   epochs after a reduction that are not counted
    minimum    no rate is reduced below it

    The rules are PyTorch's, for threshold_mode "rel".
    """

    schedule: float | Schedule | Callable[[int], float]
    monitor: str = "val_loss"
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        get(self.schedule)
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be a name, got {self.monitor!r}")
        known(self.mode, ("min", "max"), "mode")
        if not 0 < number(self.factor, "factor") < 1:
            raise ValueError(f"factor must be above 0 and below 1, got {self.factor!r}")
        check_count(self.patience, "patience", at_least=0)
        if not 0 <= number(self.threshold, "threshold") < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, got {self.threshold!r}")
        check_count(self.cooldown, "cooldown", at_least=0)
        check_amount(self.minimum, "minimum")


class _Plateau:
    """How far a ReduceOnPlateau has come in one run."""

    def __init__(self, rule: ReduceOnPlateau) -> None:
        self.rule = rule
        self.share = 1.0  # of the schedule's rates
        self.best = np.inf if rule.mode == "min" else -np.inf
        self.epochs = self.bad = self.cooldown = 0

    def follow(self, history: dict[str, list[float]]) -> None:
        """Take the epochs into account that have ended since the last call."""
        if history and self.rule.monitor not in history:
            raise ValueError(
                f"ReduceOnPlateau monitors {self.rule.monitor!r}, which the history does not have; "
                f"it has: {', '.join(history)}"
            )
        for value in history.get(self.rule.monitor, [])[self.epochs :]:
            self._end_epoch(value)

    def lowered(self, rates: Array) -> Array:
        return np.maximum(self.share * rates, np.minimum(rates, self.rule.minimum))

    def _end_epoch(self, value: float) -> None:
        rule = self.rule
        self.epochs += 1
        self.bad += 1
        if rule.mode == "min":
            is_better = value < self.best * (1 - rule.threshold)
        else:
            is_better = value > self.best * (1 + rule.threshold)
        if is_better:
            self.best, self.bad = value, 0
        if self.cooldown > 0:
            self.cooldown, self.bad = self.cooldown - 1, 0
        if self.bad > rule.patience:
            self.share, self.bad, self.cooldown = self.share * rule.factor, 0, rule.cooldown


LearningRate = float | Schedule | ReduceOnPlateau | Callable[[int], float]


class Rates:
    """The learning rates of one run."""

    def __init__(self, learning_rate: LearningRate, n_steps: int, steps_per_epoch: int) -> None:
        self._plateau = None
        if isinstance(learning_rate, ReduceOnPlateau):
            self._plateau, learning_rate = _Plateau(learning_rate), learning_rate.schedule
        self._schedule = schedule = get(learning_rate)
        # The rate, where it is the same for every step.
        self.constant: float | None = None
        if isinstance(schedule, Constant) and self._plateau is None:
            self.constant = float(schedule.learning_rate)
        if n_steps == 0 and not isinstance(schedule, Constant | Function):
            raise ValueError(
                f"{type(schedule).__name__} needs to know how many samples a stream has: "
                "give the stream an attribute n_samples, or learning_rate a number or a function"
            )
        self._n_steps, self._steps_per_epoch = n_steps, steps_per_epoch

    def set(self, learning_rate: float) -> None:
        """From now on this one. Raises ValueError where the rates follow a schedule."""
        if self.constant is None:
            raise ValueError("run.learning_rate cannot be set: learning_rate is a schedule")
        self.constant = check_amount(learning_rate, "learning_rate", positive=True)

    def follow(self, history: dict[str, list[float]]) -> None:
        """Take the epochs into account that have ended since the last call."""
        if self._plateau is not None:
            self._plateau.follow(history)

    def of_steps(self, begin: int, end: int) -> Array:
        """The rates of steps begin:end of the run, float64.

        Raises ValueError for rates that are negative or not finite.
        """
        if self.constant is not None:
            return np.array([self.constant]).repeat(end - begin)
        steps = np.arange(begin, end)
        rates = self._schedule.rates(steps, self._n_steps, self._steps_per_epoch)
        good = np.isfinite(rates) & (rates >= 0)
        if not good.all():
            bad = int(good.argmin())
            raise ValueError(
                f"learning_rate must be a finite number of at least 0 for every step, "
                f"it is {rates[bad]} for step {begin + bad}"
            )
        if self._plateau is not None:
            rates = self._plateau.lowered(rates)
        return rates


def get(learning_rate: float | Schedule | Callable[[int], float]) -> Schedule:
    """The schedule itself; a number stands for Constant, a function for Function."""
    if isinstance(learning_rate, Schedule):
        return learning_rate
    if callable(learning_rate) and not isinstance(learning_rate, type):
        return Function(learning_rate)
    return Constant(check_amount(learning_rate, "learning_rate", positive=True))


def _half_cosine(first: Array | float, last: Array | float, t: Array) -> Array:
    """From first at t = 0 to last at t = 1."""
    return np.asarray(last + (first - last) / 2 * (1 + cos_pi(t)))


def _check_positive(schedule: Schedule, *names: str) -> None:
    for name in names:
        check_amount(getattr(schedule, name), name, positive=True)
