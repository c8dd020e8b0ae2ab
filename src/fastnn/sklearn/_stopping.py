"""scikit-learn's rules for the end of a training and for its learning rates, as a callback."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..callbacks import Callback, Run
from ..checks import Orders

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._base import BaseMLP

# Below it, learning_rate="adaptive" stops rather than dividing the rate once more.
LEAST_ADAPTIVE_RATE = 1e-6


class ScikitOrder(Orders):
    """The samples of every epoch in scikit-learn's order: a shuffle of the one before.

    A function for `MLP.fit(shuffle=...)`. It draws from `random_state` just what
    `sklearn.utils.shuffle` draws there.
    """

    def __init__(self, n: int, shuffle: bool, random_state: np.random.RandomState) -> None:
        self.rows = np.arange(n, dtype=np.int64)
        self.shuffle, self.random_state = shuffle, random_state

    def __call__(self, epoch: int) -> NDArray[np.int64]:
        if self.shuffle:
            self.random_state.shuffle(self.rows)
        return self.rows


class ScikitStopping(Callback):
    """Keeps an estimator's record of its training and ends it when scikit-learn's would end.

    estimator   its loss_curve_, n_iter_, ... are written to
    loss_of     the loss in scikit-learn's definition, from the mean loss of the samples
    score_of    None, or what early stopping judges by: a function of the run
    incremental
                whether this is a partial_fit, which trains for all its epochs
    first_penalty
                what the penalty adds to the mean loss at the first weights
    """

    def __init__(
        self,
        estimator: BaseMLP,
        loss_of: Callable[[float], float],
        score_of: Callable[[Run], float] | None,
        incremental: bool,
        first_penalty: float,
        batch_size: int,
    ) -> None:
        self.last_penalty, self.batch_size = first_penalty, batch_size
        self.estimator, self.loss_of, self.score_of = estimator, loss_of, score_of
        self.incremental = incremental
        self.has_stopped = False

    def on_train_begin(self, run: Run) -> None:
        estimator = self.estimator
        if self.incremental and estimator._optimizer_state is not None:
            t, arrays = estimator._optimizer_state
            if len(arrays) == len(run.get_state()[1]):  # of the same kind of optimizer
                run.set_state(t, arrays)

    def on_epoch_end(self, run: Run) -> None:
        estimator = self.estimator
        estimator.loss_ = self.loss_of(run.loss) + self._penalty(run)
        estimator.loss_curve_.append(estimator.loss_)
        estimator.n_iter_ += 1
        estimator.t_ += run.n_samples
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        if "val_loss" in run.history:
            estimator.validation_loss_curve_.append(self.loss_of(run.history["val_loss"][-1]))
        self._count(run)
        if estimator._decides_rates and estimator.learning_rate == "invscaling":
            rate = float(estimator.learning_rate_init) / (estimator.t_ + 1) ** estimator.power_t
            self._set_rate(run, rate)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._trigger(run)

    def _penalty(self, run: Run) -> float:
        """The mean, over the epoch's steps, of the penalty before each, taken to grow evenly.

        scikit-learn has it so; fastnn's history has the penalty at the end.
        """
        n_steps = math.ceil(run.n_samples / self.batch_size)
        before, self.last_penalty = self.last_penalty, run.history["loss"][-1] - run.loss
        return before + (self.last_penalty - before) * (n_steps - 1) / (2 * n_steps)

    def on_train_end(self, run: Run) -> None:
        self.estimator._optimizer_state = run.get_state()
        self.estimator._learning_rate = run.learning_rate

    def _count(self, run: Run) -> None:
        """Epochs in a row that were not better than the best one by tol."""
        estimator = self.estimator
        if self.score_of is None:
            loss, best = estimator.loss_, estimator.best_loss_
            no_better = loss > best - estimator.tol
            estimator.best_loss_ = min(loss, best)
        else:
            score, best = self.score_of(run), estimator.best_validation_score_
            estimator.validation_scores_.append(score)
            if estimator.verbose:
                print(f"Validation score: {score:f}")
            no_better = score < best + estimator.tol
            if score > best:
                estimator.best_validation_score_ = score
                estimator._best_parameters = estimator._parameters_copy()
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if no_better else 0

    def _trigger(self, run: Run) -> None:
        estimator = self.estimator
        what = "Training loss" if self.score_of is None else "Validation score"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} "
            f"for {estimator.n_iter_no_change} consecutive epochs."
        )
        if estimator._decides_rates and estimator.learning_rate == "adaptive":
            if run.learning_rate > LEAST_ADAPTIVE_RATE:
                self._set_rate(run, run.learning_rate / 5)
                if estimator.verbose:
                    print(f"{message} Setting learning rate to {run.learning_rate:f}")
                estimator._no_improvement_count = 0
                return
            message += " Learning rate too small."
        if estimator.verbose:
            print(f"{message} Stopping.")
        self.has_stopped = True
        run.stop = not self.incremental

    def _set_rate(self, run: Run, rate: float) -> None:
        """A new learning rate, with the velocity that momentum has gathered as it was.

        scikit-learn's velocity has the learning rate in it, fastnn's momentum buffer has not.
        """
        if self.estimator.momentum:
            t, (buf,) = run.get_state()
            run.set_state(t, [buf * (run.learning_rate / rate)])
        run.learning_rate = rate
