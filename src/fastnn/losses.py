"""Losses: what they are called, their constants and formulas. The backends hold the code.

f are the outputs of one sample, made of a (f = output(a)), and y what they should be. The loss l of
a sample is the sum over its outputs c, never their mean; the objective is the mean of l over the
samples, weighted by the sample weights. Wherever a loss is asked for, a name stands for the loss
with its default constants.

The gradient is dl/da_c = dl/df_c df_c/da_c. Where l has a kink, which is at f = y for the absolute
error and the quantile loss, dl/df is taken as 0.

To add one: a class here and its line in BY_NAME; its name in `network.LOSSES` and
`network.OUTPUTS_OF_LOSS`; a function in backends/_numpy_losses.py; in csrc its place in the enum of
fastnn.h, a function in losses.h and a line of the switch in narrow.h. The tests run over the names.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .network import LOSSES, number


def _check_smoothing(value: Any) -> float:
    smoothing = number(value, "label_smoothing")
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and below 1, got {value!r}")
    return smoothing


@dataclass(frozen=True)
class Loss:
    """What all losses have; use one of the others."""

    name: ClassVar[str]

    def n_targets(self, n_out: int) -> int:
        """The columns of y for a network of `n_out` outputs."""
        return n_out

    def constants(self, n_out: int) -> tuple[float, ...]:
        """What the kernels need to know beside the name; fnn_targets in csrc/fastnn.h has it."""
        return ()


@dataclass(frozen=True)
class LabelLoss(Loss):
    """What the losses of labels have: smoothing.

    label_smoothing  s in [0, 1), else ValueError: y_c counts as (1 - s) y_c + s / K, where K is
                     n_out for softmax, 2 for sigmoid (Szegedy et al., 2016; as PyTorch's
                     CrossEntropyLoss). The label_smoothing of `MLP.fit` sets it for the training.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_smoothing", _check_smoothing(self.label_smoothing))

    def constants(self, n_out: int) -> tuple[float, ...]:
        return (self.label_smoothing,) * n_out if self.label_smoothing else ()


@dataclass(frozen=True)
class CrossEntropy(LabelLoss):
    """l = -sum_c y_c ln f_c, for softmax. y: class indices, one-hot or soft labels."""

    name: ClassVar[str] = "cross_entropy"


@dataclass(frozen=True)
class BinaryCrossEntropy(LabelLoss):
    """l = -sum_c (y_c ln f_c + (1 - y_c) ln(1 - f_c)), for sigmoid. y: 0, 1 or between."""

    name: ClassVar[str] = "binary_cross_entropy"


@dataclass(frozen=True)
class SquaredError(Loss):
    """l = 1/2 sum_c (f_c - y_c)^2, for identity, sigmoid and exp."""

    name: ClassVar[str] = "squared_error"


@dataclass(frozen=True)
class Poisson(Loss):
    """l = sum_c (f_c - y_c ln f_c), for exp: the negative log-likelihood of counts y whose means
    are f, but for a term of y alone. y: not negative."""

    name: ClassVar[str] = "poisson"


@dataclass(frozen=True)
class AbsoluteError(Loss):
    """l = sum_c |f_c - y_c|, for identity and exp: f estimates the median of y."""

    name: ClassVar[str] = "absolute_error"


@dataclass(frozen=True)
class Huber(Loss):
    """Squared near y, absolute beyond delta (Huber, 1964; as PyTorch's HuberLoss), for identity and
    exp. With d = f_c - y_c, the sum over c of

    d^2 / 2                  where |d| <= delta
    delta (|d| - delta / 2)  elsewhere

    Raises ValueError unless delta is positive and finite.
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        delta = number(self.delta, "delta")
        if not 0 < delta < float("inf"):
            raise ValueError(f"delta must be a positive number, got {self.delta!r}")
        object.__setattr__(self, "delta", delta)

    def constants(self, n_out: int) -> tuple[float, ...]:
        return (self.delta,) * n_out


@dataclass(frozen=True)
class Quantile(Loss):
    """The pinball loss (Koenker and Bassett, 1978), for identity and exp: an output estimates what
    y stays below with probability q. The sum over c of

    q (y - f_c)        where f_c <= y
    (1 - q) (f_c - y)  elsewhere

    quantiles  one or more numbers q above 0 and below 1, else ValueError. The network has an output
               for each quantile of each target, all those of the first target first: output
               target * len(quantiles) + i is quantile i. y has a column for each target.

    Nothing keeps a target's quantiles from crossing. For q = 0.5, l is half the absolute error.
    """

    quantiles: Sequence[float] = (0.5,)
    name: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        try:
            quantiles = tuple(number(q, "quantiles") for q in self.quantiles)
        except TypeError:
            raise TypeError(
                "quantiles must be a sequence of numbers like (0.1, 0.5, 0.9), "
                f"got {self.quantiles!r}"
            ) from None
        if not quantiles or not all(0 < q < 1 for q in quantiles):
            raise ValueError(f"quantiles must be above 0 and below 1, got {self.quantiles!r}")
        object.__setattr__(self, "quantiles", quantiles)

    def n_targets(self, n_out: int) -> int:
        n_targets, rest = divmod(n_out, len(self.quantiles))
        if rest:
            raise ValueError(
                f"{len(self.quantiles)} quantiles need a multiple of {len(self.quantiles)} "
                f"outputs, this network has {n_out}"
            )
        return n_targets

    def constants(self, n_out: int) -> tuple[float, ...]:
        return tuple(self.quantiles) * self.n_targets(n_out)


@dataclass(frozen=True)
class GroupedCrossEntropy(LabelLoss):
    """The cross-entropies of several questions, each with classes of its own, for identity.

    l = -sum_c y_c ln p_c. The outputs f are logits in groups of neighbours: a group for each
    question, an output for each of its classes, p_c = e^f_c / sum of e^f_k over c's group.
    y: one-hot or soft labels (n, n_out), which sum to 1 in each group. The K of the smoothing is
    the group's.

    sizes  the number of outputs of each group, integers of at least 1, else ValueError; (): all
           outputs are one group
    """

    sizes: Sequence[int] = ()
    name: ClassVar[str] = "grouped_cross_entropy"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            sizes = tuple(operator.index(size) for size in self.sizes)
        except TypeError:
            raise TypeError(f"sizes must be a sequence of integers, got {self.sizes!r}") from None
        if any(size < 1 for size in sizes):
            raise ValueError(f"sizes must be at least 1 each, got {self.sizes!r}")
        object.__setattr__(self, "sizes", sizes)

    def groups(self, n_out: int) -> list[slice]:
        """The columns of each group. Raises ValueError unless the sizes add up to n_out."""
        sizes = self.sizes or (n_out,)
        if sum(sizes) != n_out:
            raise ValueError(
                f"groups of sizes {sizes} need {sum(sizes)} outputs, this network has {n_out}"
            )
        ends = list(itertools.accumulate(sizes))
        return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

    def n_targets(self, n_out: int) -> int:
        self.groups(n_out)
        return n_out

    def constants(self, n_out: int) -> tuple[float, ...]:
        return (self.label_smoothing, *(self.sizes or (n_out,)))


BY_NAME: dict[str, Loss] = {
    "cross_entropy": CrossEntropy(),
    "binary_cross_entropy": BinaryCrossEntropy(),
    "squared_error": SquaredError(),
    "poisson": Poisson(),
    "absolute_error": AbsoluteError(),
    "huber": Huber(),
    "quantile": Quantile(),
    "grouped_cross_entropy": GroupedCrossEntropy(),
}


def get(loss: str | Loss) -> Loss:
    """The loss itself; a name stands for the one with its default constants."""
    if isinstance(loss, Loss) and hasattr(loss, "name"):
        return loss
    if loss in LOSSES:
        return BY_NAME[str(loss)]
    from . import custom  # where there are none, it is not needed

    found: Loss | None = custom.find("loss", loss) if isinstance(loss, str) else None
    if found is None:
        raise custom.unknown("loss", loss, LOSSES)
    return found


def with_smoothing(loss: Loss, label_smoothing: float) -> Loss:
    """The loss that fit trains with. Raises ValueError where there are no labels to smooth."""
    label_smoothing = _check_smoothing(label_smoothing)
    if not label_smoothing:
        return loss
    if not isinstance(loss, LabelLoss):
        raise ValueError(
            "label_smoothing needs the loss cross_entropy or binary_cross_entropy, "
            f"this one is {loss.name}"
        )
    if loss.label_smoothing:
        raise ValueError(f"label_smoothing={label_smoothing} and {loss}: give only one of them")
    return replace(loss, label_smoothing=label_smoothing)


def without_smoothing(loss: Loss) -> Loss:
    """The loss that fit measures validation data by."""
    return replace(loss, label_smoothing=0.0) if isinstance(loss, LabelLoss) else loss
