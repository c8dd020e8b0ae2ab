"""Training by L-BFGS: SciPy's minimizer on the objective over all samples, as the engine has it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .backends import Engine
from .callbacks import Checkpoint
from .optimizers import LBFGS
from .options import BATCH_SIZE, LEARNING_RATE
from .samples import Samples
from .training import Plan, Training

if TYPE_CHECKING:
    from .mlp import MLP

Array = NDArray[Any]

# A gradient is summed over calls of at most so much work, so that Ctrl-C is prompt. Not by the
# clock: how a sum is cut decides its last bits.
FLOPS_PER_CALL = 2e9


class _TimeIsUp(Exception):
    pass


class LBFGSTraining(Training):
    """One run of fit whose epochs are iterations of L-BFGS.

    The engine holds whatever point the search tries; the model holds the last iteration's.
    """

    advice = "Try inputs scaled to about mean 0 and variance 1."

    def __init__(self, net: MLP, engine: Engine, plan: Plan) -> None:
        super().__init__(net, engine, plan)
        _refuse(plan, plan.training.n_samples)
        self.minimize = _minimize()
        self.run.learning_rate = math.nan
        self.point = super().parameters()  # the last iteration's
        self.sound = False  # an exception finds the engine somewhere on a search

    def save(self, path: str | os.PathLike[str]) -> None:
        raise ValueError("a run of LBFGS cannot be saved: SciPy keeps its state to itself")

    def _begin(self, resume: Path | None) -> None:
        if resume is not None:
            raise ValueError("resume does not go with LBFGS: SciPy keeps its state to itself")
        for callback in self.callbacks:
            callback.restore({})

    def parameters(self) -> Array:
        return self.point.copy()

    def _epochs(self) -> None:
        optimizer = self.plan.options.optimizer
        assert isinstance(optimizer, LBFGS)
        self.began, self.evaluations = time.perf_counter(), 0
        options = {
            "maxiter": self.plan.epochs,
            "maxfun": 2**31 - 1,
            "maxcor": optimizer.history_size,
            "gtol": optimizer.tolerance_grad,
            "ftol": optimizer.tolerance_change,
        }
        with contextlib.suppress(_TimeIsUp):
            self.minimize(
                self._objective,
                self.point.astype(np.float64),
                jac=True,
                method="L-BFGS-B",
                callback=self._end_iteration,
                options=options,
            )

    def _objective(self, x: Array) -> tuple[float, Array]:
        """J and its gradient, in float64, at the parameters x rounded to the network's dtype."""
        network, data, options = self.net.network, self.plan.training, self.plan.options
        assert isinstance(data, Samples)
        run, n, all_rows = self.run, data.n_samples, data.all_rows
        run.epoch, run.position = self.n_entered + 1, 0
        with np.errstate(over="ignore"):
            flat = x.astype(network.dtype)
        self.engine.set_parameters(flat)
        total, gradient = 0.0, np.zeros(len(x))
        size = max(1, int(FLOPS_PER_CALL / network.flops_per_sample))
        for start in range(0, n, size):
            rows = all_rows[start : start + size]
            value, part = self.engine.loss_and_gradients(
                data.X, data.y, data.sample_weight, options.loss, 0.0, 0.0, rows
            )
            total += len(rows) * value
            gradient += len(rows) / n * part.astype(np.float64)
            run.position += len(rows)
            run.loss = total / run.position
            if not math.isfinite(run.loss):
                self._diverged()
            self._tell("on_progress")
            if self._time_is_up():
                raise _TimeIsUp
        self.evaluations += 1
        for dW, W in zip(network.views(gradient)[0], network.views(flat)[0], strict=True):
            dW += options.l2 * W
        return run.loss + network.penalty(flat, options.l2, 0.0), gradient

    def _end_iteration(self, intermediate_result: Any) -> None:
        """SciPy tells of the point that a search has ended at, and of its objective."""
        self.point = flat = intermediate_result.x.astype(self.net.network.dtype)
        self.engine.set_parameters(flat)
        seconds = time.perf_counter() - self.began
        speed = self.evaluations * self.run.n_samples / seconds
        numbers = {"seconds": seconds, "samples_per_second": speed}
        self.run.step += 1
        try:
            self._tell_of_steps()
            if not np.isfinite(flat).all():
                self._diverged()
            self._end_epoch(flat, float(intermediate_result.fun), numbers)
            self._tell("on_epoch_end")
        except StopIteration as error:
            raise RuntimeError("a callback raised StopIteration") from error
        if self.run.stop:
            raise StopIteration  # how SciPy is told to
        self.began, self.evaluations = time.perf_counter(), 0


def _refuse(plan: Plan, n: int) -> None:
    """What would be ignored, for n samples, is refused."""
    if not isinstance(plan.training, Samples):
        raise ValueError("LBFGS takes all samples in every step: a stream does not go with it")
    if plan.learning_rate != LEARNING_RATE:
        raise ValueError("LBFGS searches for the length of every step: leave learning_rate out")
    if plan.batch_size != BATCH_SIZE and plan.batch_size < n:
        raise ValueError("LBFGS takes all samples in every step: leave batch_size out")
    if any(isinstance(callback, Checkpoint) for callback in plan.callbacks):
        raise ValueError("Checkpoint does not go with LBFGS: SciPy keeps its state to itself")
    for option in dataclasses.fields(plan.options):
        own = option.name in ("optimizer", "loss", "l2", "seed")
        if not own and getattr(plan.options, option.name) != option.default:
            raise ValueError(f"{option.name} does not go with LBFGS")


def _minimize() -> Any:
    try:
        return importlib.import_module("scipy.optimize").minimize
    except ImportError:
        raise ImportError("LBFGS needs SciPy: pip install 'fastnn-cpu[lbfgs]'") from None
