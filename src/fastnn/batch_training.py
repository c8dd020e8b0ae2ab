"""Training one batch at a time, for loops that are the user's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .options import TrainingOptions
from .samples import Samples
from .training import DivergenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mlp import MLP

    Array = NDArray[Any]


class BatchTraining:
    """An engine and the optimizer's state in it, from one `MLP.train_on_batch` to the next."""

    def __init__(self, net: MLP, options: TrainingOptions) -> None:
        self.net, self.options = net, options
        self.engine = net._new_engine()
        self.engine.start(options)
        # As the last step left them; None from the start of a step that did not end well.
        self.flat: Array | None = net._flat.copy()
        self.n_steps = 0

    def continues(self, options: TrainingOptions) -> bool:
        """Whether a step by these options goes on here: nothing else has changed the weights."""
        flat = self.flat
        return flat is not None and self.options == options and np.array_equal(flat, self.net._flat)

    def step(self, data: Samples, learning_rate: float) -> float:
        """One step on all of `data`; the mean loss before it, without penalty."""
        before, self.flat = self.flat, None
        try:
            total = self._train(data, learning_rate)
        except ValueError:  # X is not finite, which is found before anything changes
            self.flat = before
            raise
        self.n_steps += 1
        flat = np.empty_like(self.net._flat)
        if not (self.engine.get_parameters(flat) and math.isfinite(total)):
            raise DivergenceError(
                "the loss or the weights became NaN or infinite; the weights before this step are "
                "kept. Try a lower learning_rate, or inputs scaled to about mean 0 and variance 1."
            )
        self.flat = flat
        self.net._take(flat)
        return total / data.n_samples

    def _train(self, data: Samples, learning_rate: float) -> float:
        """One step of the engine; the sum of the losses before it."""
        n, rates, position, total = data.n_samples, np.array([learning_rate]), 0, 0.0
        while position < n:  # a large batch takes several calls
            position, total = self.engine.train(
                data.X,
                data.y,
                data.sample_weight,
                data.all_rows,
                position,
                n,
                rates,
                math.inf,
                1,
                self.n_steps,
                total,
            )
        return total
