"""Optimizers: what they are called and their constants. The backends hold the formulas' code.

g is the gradient of the objective, penalties included; the state starts at zero with every fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .network import known


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, in PyTorch's form.

    buf = momentum * buf + g
    step = g + momentum * buf  if nesterov  else  buf
    W = W - learning_rate * step

    Raises ValueError unless 0 <= momentum < 1, and for nesterov without momentum.
    """

    momentum: float = 0.0
    nesterov: bool = False
    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        _check_fraction(self.momentum, "momentum")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum above 0")


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015); t counts the steps from 1.

    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2
    W = W - learning_rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    Raises ValueError unless both betas are in [0, 1) and eps is above 0.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        try:
            beta1, beta2 = self.betas
        except (TypeError, ValueError):
            raise ValueError(f"betas must be a pair of numbers, got {self.betas!r}") from None
        _check_fraction(beta1, "betas[0]")
        _check_fraction(beta2, "betas[1]")
        if not 0 < self.eps < float("inf"):
            raise ValueError(f"eps must be a positive number, got {self.eps!r}")


Optimizer = SGD | Adam
OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


def get(optimizer: str | Optimizer) -> Optimizer:
    """The optimizer itself; a name stands for the one with its default constants."""
    if isinstance(optimizer, SGD | Adam):
        return optimizer
    return OPTIMIZERS[known(optimizer, tuple(OPTIMIZERS), "optimizer")]()


def _check_fraction(value: float, name: str) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
