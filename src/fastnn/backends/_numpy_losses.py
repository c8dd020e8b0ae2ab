"""The output layer of the reference backend: its activation f = output(a), and the losses.

a, f and y have shape (n, K). A loss function returns l of every sample, (n,), and dl/da, (n, K);
`fastnn.losses` has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..losses import AbsoluteError, GroupedCrossEntropy, Huber, LabelLoss, Loss, Quantile
from ._numpy_activations import identity, sigmoid, softplus

Array = NDArray[Any]

# ---- outputs ----


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "identity": identity,
    "exp": np.exp,
}

# df/da as a function of f, for the losses that do not cancel it
OUTPUT_PRIMES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda f: f * (1 - f),
    "identity": np.ones_like,
    "exp": lambda f: f,
}

# ---- losses of one output each, whose derivative cancels: dl/da = f - y ----


def smoothed(loss: LabelLoss, y: Array, n_classes: int) -> Array:
    s = loss.label_smoothing
    return (1 - s) * y + s / n_classes if s else y


def cross_entropy(loss: Any, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    y = smoothed(loss, y, n_classes=y.shape[1])
    z = a - a.max(axis=1, keepdims=True)  # ln f = z - ln sum e^z, finite where f rounds to 0
    ln_f = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -(y * ln_f).sum(axis=1), f - y


def grouped_cross_entropy(
    loss: GroupedCrossEntropy, output: str, a: Array, f: Array, y: Array
) -> tuple[Array, Array]:
    parts = [
        cross_entropy(loss, "softmax", a[:, group], softmax(a[:, group]), y[:, group])
        for group in loss.groups(a.shape[1])
    ]
    losses, slopes = zip(*parts, strict=True)
    return np.asarray(sum(losses)), np.hstack(slopes)


def binary_cross_entropy(
    loss: Any, output: str, a: Array, f: Array, y: Array
) -> tuple[Array, Array]:
    y = smoothed(loss, y, n_classes=2)
    return (softplus(a) - y * a).sum(axis=1), f - y  # = -y ln f - (1 - y) ln(1 - f)


def poisson(loss: Loss, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    return (f - y * a).sum(axis=1), f - y  # = f - y ln f


# ---- losses of any output but softmax ----


def squared_error(loss: Loss, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    d = f - y
    return (0.5 * d**2).sum(axis=1), d * OUTPUT_PRIMES[output](f)


def absolute_error(
    loss: AbsoluteError, output: str, a: Array, f: Array, y: Array
) -> tuple[Array, Array]:
    d = f - y
    return np.abs(d).sum(axis=1), np.sign(d) * OUTPUT_PRIMES[output](f)


def huber(loss: Huber, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    d, delta = f - y, loss.delta
    terms = np.where(np.abs(d) <= delta, 0.5 * d**2, delta * (np.abs(d) - 0.5 * delta))
    return terms.sum(axis=1), np.clip(d, -delta, delta) * OUTPUT_PRIMES[output](f)


def quantile(loss: Quantile, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    d, q = f - y, np.array(loss.constants(f.shape[1]), f.dtype)
    slope = np.where(d > 0, 1 - q, -q) * (d != 0)
    return (slope * d).sum(axis=1), slope * OUTPUT_PRIMES[output](f)


def custom(loss: Any, output: str, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
    """A user's own."""
    terms, slope = np.vectorize(loss.with_slope, otypes=[np.float64, np.float64])(f, y)
    l_of_sample = terms.sum(axis=1).astype(f.dtype)
    return l_of_sample, (slope * OUTPUT_PRIMES[output](f)).astype(f.dtype)


LOSSES: dict[str, Callable[[Any, str, Array, Array, Array], tuple[Array, Array]]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "poisson": poisson,
    "absolute_error": absolute_error,
    "huber": huber,
    "quantile": quantile,
    "grouped_cross_entropy": grouped_cross_entropy,
}
