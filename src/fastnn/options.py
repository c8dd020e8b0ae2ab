"""What the steps of one training run follow, beside the data and the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from .losses import Loss
from .optimizers import Optimizer


@dataclass(frozen=True)
class TrainingOptions:
    """Checked values, handed from `MLP.fit` down to an engine as they are."""

    optimizer: Optimizer
    loss: Loss
    l2: float = 0.0
    l1: float = 0.0
    learning_rate_factors: tuple[float, ...] | None = None  # one for each layer; None: all 1
    dropout: tuple[float, ...] = ()  # of h_0, h_1, ..., h_L; (): none
    seed: int = 0  # with the epoch, what dropout's random numbers depend on
    clip_value: float | None = None
    clip_norm: float | None = None
