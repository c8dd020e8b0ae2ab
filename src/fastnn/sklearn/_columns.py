"""Targets of several columns with several classes each (scikit-learn's multiclass-multioutput).

The network has an output for every class of every column, all of one column side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Array = NDArray[Any]

MULTIOUTPUT = "multiclass-multioutput"  # what type_of_target calls them


def classes_of(y: Array) -> list[Array]:
    """The sorted classes of each column of y, (n, n_columns)."""
    return [np.unique(column) for column in y.T]


def sorted_classes(given: Sequence[Any]) -> list[Array]:
    """`classes` of partial_fit, an array for each column."""
    return [np.unique(np.asarray(classes)) for classes in given]


def are_equal(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def one_hot(y: Array, classes: Sequence[Array]) -> Array:
    """y as the network takes it, (n, number of all classes)."""
    columns = zip(y.T, classes, strict=True)
    return np.hstack([column[:, np.newaxis] == known for column, known in columns]).astype(float)


def labels(f: Array, classes: Sequence[Array]) -> Array:
    """The likeliest class of each column, (n, n_columns); f are logits, or what one_hot gives."""
    columns = zip(_groups(f, classes), classes, strict=True)
    return np.column_stack([known[group.argmax(axis=1)] for group, known in columns])


def probabilities(f: Array, classes: Sequence[Array], log: bool = False) -> list[Array]:
    """For each column (n, n_classes), or their logarithms, from logits f."""
    return [(log_softmax if log else softmax)(group, axis=1) for group in _groups(f, classes)]


def _groups(f: Array, classes: Sequence[Array]) -> list[Array]:
    return np.split(f, list(accumulate(len(known) for known in classes))[:-1], axis=1)
