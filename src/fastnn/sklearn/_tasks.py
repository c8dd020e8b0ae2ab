"""scikit-learn's own callbacks (`sklearn.callback`, public from 1.9 on): epochs are their tasks."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..callbacks import Callback, Run

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn below 1.9 has no callbacks to support

    class CallbackSupportMixin:  # type: ignore[no-redef]
        pass


if TYPE_CHECKING:
    from ._base import BaseMLP

__all__ = ["CallbackSupportMixin", "ScikitTasks"]


class ScikitTasks(Callback):
    """Tells the callbacks that `set_callbacks` has set of the fit, and of each epoch in it.

    X, y, sample_weight  as the user gave them: what callbacks score by
    """

    def __init__(
        self, estimator: BaseMLP, max_subtasks: int, X: Any, y: Any, sample_weight: Any
    ) -> None:
        self.estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.root = estimator._init_callback_context(max_subtasks=max_subtasks)
        self.root.call_on_fit_task_begin(estimator=estimator, **self.data)
        self.task: Any = None

    def begin_task(self, name: str) -> None:
        self.task = self.root.subcontext(task_name=name)
        self.task.call_on_fit_task_begin(
            estimator=self.estimator, reconstruction_attributes=self._fitted, **self.data
        )

    def end_task(self) -> bool:
        """Whether a callback asks for the end of the training."""
        task, self.task = self.task, None
        stop = task.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=self._fitted, **self.data
        )
        return bool(stop)

    def end_fit(self) -> None:
        if self.task is not None:  # cut short
            self.task.call_on_fit_task_end(estimator=self.estimator)
        self.root.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=self._fitted, **self.data
        )

    def on_train_begin(self, run: Run) -> None:
        self.begin_task("epoch")

    def on_epoch_end(self, run: Run) -> None:
        run.stop |= self.end_task()
        if not run.stop and run.epoch < run.epochs:
            self.begin_task("epoch")

    def _fitted(self) -> dict[str, Any]:
        """What makes a copy of the estimator one that was fitted up to now."""
        return {"network_": copy.copy(self.estimator.network_)}
