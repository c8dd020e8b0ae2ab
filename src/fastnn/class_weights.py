"""Class weights: what `MLP.fit(class_weight=...)` makes of the sample weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_amount
from .network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    ClassWeight = str | Mapping[int, float]


def times_class_weight(
    w: NDArray[np.float64] | None,
    class_weight: ClassWeight | None,
    y: Array,
    rows: Array | None,
    network: Network,
) -> NDArray[np.float64] | None:
    """Sample weights (n,), or None for equal ones, times the weights of the samples' classes.

    w     checked sample weights (n,), or None
    y     checked targets of all n samples
    rows  those that are trained on (None: all); what "balanced" counts

    "balanced" gives every class that occurs the same total: a class has the weight
    sum of w / (number of classes * sum of w in the class), as in scikit-learn. In a mapping from
    classes to weights, a class that is missing has the weight 1. Only ratios of the result count,
    as it is scaled to mean one later. Raises ValueError or TypeError.
    """
    if class_weight is None:
        return w
    classes, n_classes = _classes(y, network)
    w = np.ones(len(y)) if w is None else w / w.max()
    if isinstance(class_weight, Mapping):
        of_class = _given(class_weight, n_classes)
    elif isinstance(class_weight, str) and class_weight == "balanced":
        chosen = slice(None) if rows is None else rows
        totals = np.bincount(classes[chosen], w[chosen], n_classes)
        occur = totals > 0
        of_class = np.zeros(n_classes)
        of_class[occur] = totals.sum() / (occur.sum() * totals[occur])
    else:
        raise ValueError(
            "class_weight must be None, 'balanced' or a mapping from classes to weights, "
            f"got {class_weight!r}"
        )
    w = w * of_class[classes]
    if not (w if rows is None else w[rows]).any():
        raise ValueError("class_weight and sample_weight are zero on every sample to train on")
    return w


def _classes(y: Array, network: Network) -> tuple[NDArray[np.intp], int]:
    """The class of each sample, (n,), and the number of classes."""
    if y.ndim == 1:
        return y.astype(np.intp), network.n_out
    is_softmax = network.output == "softmax"
    if not is_softmax and (network.output, network.n_out) != ("sigmoid", 1):
        raise ValueError(
            "class_weight needs the output softmax, or sigmoid with one output; this network's is "
            f"{network.output} with {network.n_out}"
        )
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("class_weight needs samples of one class each; y holds soft labels")
    return (y.argmax(axis=1), network.n_out) if is_softmax else (y[:, 0].astype(np.intp), 2)


def _given(class_weight: Mapping[Any, Any], n_classes: int) -> NDArray[np.float64]:
    unknown = [label for label in class_weight if label not in range(n_classes)]
    if unknown:
        raise ValueError(
            f"class_weight has {unknown[0]!r}, which is none of the classes 0 ... {n_classes - 1}"
        )
    weights = np.ones(n_classes)
    for label, weight in class_weight.items():
        weights[int(label)] = check_amount(weight, f"class_weight[{label!r}]")
    largest = weights.max()
    return weights / largest if largest > 0 else weights
