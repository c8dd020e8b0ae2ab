"""What the steps of one training run follow, beside the data and the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from .losses import Loss
from .optimizers import LBFGS, Optimizer, Rule

# What `MLP.fit` takes where nothing else is said.
BATCH_SIZE = 128
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class TrainingOptions:
    """Checked values, handed from `MLP.fit` down to an engine as they are."""

    optimizer: Optimizer | LBFGS
    loss: Loss
    l2: float = 0.0
    l1: float = 0.0
    learning_rate_factors: tuple[float, ...] | None = None  # one for each layer; None: all 1
    dropout: tuple[float, ...] = ()  # of h_0, h_1, ..., h_L; (): none
    seed: int = 0  # with the epoch, what dropout's random numbers depend on
    clip_value: float | None = None
    clip_norm: float | None = None
    # Whether a step divides the sum of the batch's gradients, and the penalty's gradient too, by
    # the sum of the batch's weights, or its number of samples, as scikit-learn does.
    batch_weighting: bool = False

    @property
    def rule(self) -> Rule:
        """The optimizer's, for an engine."""
        assert not isinstance(self.optimizer, LBFGS), "L-BFGS is not an engine's"
        return self.optimizer.rule
