"""Input checking: what users give, turned into what the engines take, or an error that names it.

Finiteness of X is not checked here but by the engines, while they read it.
"""

from __future__ import annotations

import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import losses
from .losses import Loss
from .network import LOSS_OF_OUTPUT, OUTPUTS_OF_CUSTOM_LOSS, OUTPUTS_OF_LOSS, Network, number
from .sparse import CSR, is_sparse, to_csr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]

# A row of soft labels may miss a sum of 1 by what rounding to float16 does to it.
SUM_OF_LABELS_TOLERANCE = 2e-3


def check_X(X: Any, network: Network, name: str = "X") -> Array | CSR:
    """X as an engine takes it: (n, D_0), n >= 1, float32, float64 or uint8 (meaning x/255).

    These three are passed through without a copy, whatever their strides; other byte orders, other
    numeric types and bool are converted. SciPy's sparse matrices become a `CSR` of such elements.
    Raises TypeError for text, objects and complex numbers, ValueError with both shapes for a wrong
    shape.
    """
    sparse = isinstance(X, CSR) or is_sparse(X)
    if not sparse:
        X = _numbers(X, name)
    if X.ndim != 2 or X.shape[1] != network.n_in or X.shape[0] == 0:
        hint = f"; for one sample give {name}[np.newaxis, :]" if X.ndim == 1 else ""
        raise ValueError(
            f"{name} has shape {X.shape}, but this network takes (n, {network.n_in}) "
            f"with n of at least 1{hint}"
        )
    if not sparse:
        return _as_read(X, network)
    csr = X if isinstance(X, CSR) else to_csr(X, name)
    return replace(csr, data=_as_read(csr.data, network))


def _as_read(X: Array, network: Network) -> Array:
    """Numbers of a dtype that the engines read."""
    if X.dtype.kind == "f" and X.dtype.itemsize in (4, 8):
        return X.astype(X.dtype.newbyteorder("="), copy=False)
    if X.dtype == np.uint8:
        return X
    with np.errstate(over="ignore"):  # the engine finds the infinity
        return X.astype(network.dtype if X.dtype.itemsize <= 8 else np.float64)


def check_y(
    y: ArrayLike, X: Array | CSR, network: Network, loss: str | Loss, name: str = "y"
) -> Array:
    """y as an engine takes it: int32 class indices (n,), or (n, D_out) of network.dtype.

    cross_entropy         class indices (n,) in 0 ... D_out-1, or one-hot or soft labels (n, D_out)
                          that are not negative and sum to 1 in every row
    binary_cross_entropy  (n, D_out) of 0, 1 or between; (n,) as well if D_out is 1
    grouped_cross_entropy
                          one-hot or soft labels (n, D_out) that sum to 1 in every group
    poisson               (n, D_out), not negative; (n,) as well if D_out is 1
    quantile              (n, D_out / number of quantiles), whose columns are then repeated for the
                          quantiles; (n,) as well for one column
    the others            (n, D_out); (n,) as well if D_out is 1
    Raises TypeError for text, objects and complex numbers, else ValueError.
    """
    y, loss = _numbers(y, name), losses.get(loss)
    n, n_out = len(X), network.n_out
    n_targets = loss.n_targets(n_out)
    if y.ndim and len(y) != n:
        raise ValueError(f"X has shape {X.shape} and {name} has shape {y.shape}: unequal lengths")
    if y.ndim == 1 and loss.name == "cross_entropy":
        return _check_classes(y, n_out, name)
    if y.ndim == 1 and n_targets == 1:
        y = y[:, np.newaxis]
    if y.shape != (n, n_targets):
        also = ", or class indices (n,)" if loss.name == "cross_entropy" else ""
        raise ValueError(
            f"{name} has shape {y.shape}, but {n} samples and {n_out} outputs with the loss "
            f"{loss.name} take ({n}, {n_targets}){also}"
        )
    y = _finite(y, network.dtype, name)
    _check_range(y, loss, name)
    return y if n_targets == n_out else np.repeat(y, n_out // n_targets, axis=1)


def check_sample_weight(
    sample_weight: ArrayLike, X: Array | CSR, name: str = "sample_weight"
) -> NDArray[np.float64]:
    """Weights as float64 (n,): finite, not negative, not all zero, else ValueError."""
    w = _numbers(sample_weight, name)
    if w.shape != (len(X),):
        raise ValueError(f"X has shape {X.shape} and {name} has shape {w.shape}, not ({len(X)},)")
    w = _finite(w, np.dtype(np.float64), name)
    if (w < 0).any():
        raise ValueError(f"{name} has negative entries")
    if not w.any():
        raise ValueError(f"{name} is zero everywhere")
    return w


def scale_to_mean_one(
    w: NDArray[np.float64] | None, rows: Array | None, network: Network, name: str = "sample_weight"
) -> Array | None:
    """Checked weights, scaled so that their mean over `rows` (None: all) is one; network.dtype."""
    if w is None:
        return None
    w = w / w.max()
    chosen = w if rows is None else w[rows]
    if not chosen.any():
        raise ValueError(f"{name} is zero on every row of a part of the data that validation= made")
    return np.asarray(w / chosen.mean(), dtype=network.dtype)


def check_loss(loss: str | Loss | None, output: str) -> Loss:
    """The loss itself; None means the one that belongs to the output."""
    loss = losses.get(LOSS_OF_OUTPUT[output] if loss is None else loss)
    outputs = OUTPUTS_OF_LOSS.get(loss.name, OUTPUTS_OF_CUSTOM_LOSS)
    if output not in outputs:
        raise ValueError(
            f"the loss {loss.name!r} needs the output {' or '.join(outputs)}, "
            f"this network's is {output}"
        )
    return loss


class Orders(ABC):
    """Base class of fastnn's own shuffle(epoch): what they return needs no check."""

    @abstractmethod
    def __call__(self, epoch: int) -> NDArray[np.int64]:
        """Row numbers (n,)."""


def check_order(order: ArrayLike, n: int) -> NDArray[np.int64]:
    """n row numbers in 0 ... n-1, some of them maybe more than once, from shuffle(epoch)."""
    rows = np.asarray(order)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(
            "shuffle must return a 1-D array of integers, "
            f"got shape {rows.shape} and dtype {rows.dtype}"
        )
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    if len(rows) != n or rows.view(np.uint64).max() >= n:  # negative numbers are huge ones then
        raise ValueError(
            f"shuffle must return {n} row numbers in 0 ... {n - 1}, one for each sample"
        )
    return rows


def check_parameters(
    arrays: Sequence[ArrayLike], shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], name: str
) -> list[Array]:
    """New weights or biases as arrays of `dtype`: number, shapes and finiteness are checked."""
    arrays = list(arrays)
    if len(arrays) != len(shapes):
        raise ValueError(
            f"{name} takes {len(shapes)} arrays, one for each layer; got {len(arrays)}"
        )
    checked = []
    for k, (given, shape) in enumerate(zip(arrays, shapes, strict=True)):
        array = _numbers(given, f"{name}[{k}]")
        if array.shape != shape:
            raise ValueError(f"{name}[{k}] has shape {array.shape}, the network's is {shape}")
        checked.append(_finite(array, dtype, f"{name}[{k}]"))
    return checked


def check_count(value: Any, name: str, at_least: int = 1, below: int = 2**63) -> int:
    """An integer from `at_least` up to, not including, `below`."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool) or not at_least <= count < below:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
    return count


def check_amount(value: Any, name: str, positive: bool = False) -> float:
    """A finite number that is not negative, or not even zero if `positive`."""
    amount = number(value, name)
    if not (amount > 0 if positive else amount >= 0) or amount == float("inf"):
        bound = "above 0" if positive else "of at least 0"
        raise ValueError(f"{name} must be a finite number {bound}, got {value!r}")
    return amount


def check_factors(factors: Sequence[float] | None, network: Network) -> tuple[float, ...] | None:
    """learning_rate_factors: one for each layer, not negative, not all 0."""
    if factors is None:
        return None
    given = factors if isinstance(factors, Iterable) else [factors]
    checked = tuple(check_amount(factor, "learning_rate_factors") for factor in given)
    if len(checked) != network.n_layers or not any(checked):
        raise ValueError(
            f"learning_rate_factors must be one number for each of the {network.n_layers} layers, "
            f"not all of them 0; got {factors!r}"
        )
    return checked


def check_limit(value: Any, name: str) -> float | None:
    """A finite number above 0, or None."""
    return None if value is None else check_amount(value, name, positive=True)


def check_dropout(dropout: Any, network: Network) -> tuple[float, ...]:
    """The rates of h_0, h_1, ..., h_L, each in [0, 1); () if all are zero.

    One number stands for all hidden layers, of which there must be one, and 0 for the input.
    Raises ValueError, TypeError for what is no number.
    """
    n_hidden = network.n_layers - 1
    if np.ndim(dropout) == 0:
        rate = check_amount(dropout, "dropout")
        if n_hidden == 0 and rate > 0:
            raise ValueError(
                f"dropout={dropout!r} is for hidden layers, and this network has none; "
                "give (p_input,) for the input"
            )
        dropout = (0.0, *(rate,) * n_hidden)
    rates = tuple(check_amount(rate, f"dropout[{k}]") for k, rate in enumerate(dropout))
    if len(rates) != n_hidden + 1:
        raise ValueError(
            f"dropout takes one number for all hidden layers, or {n_hidden + 1}, for the input "
            f"and each hidden layer; got {len(rates)}"
        )
    if max(rates) >= 1:
        raise ValueError(f"dropout must be below 1, got {max(rates)}")
    return rates if any(rates) else ()


def not_finite(name: str, dtype: np.dtype[Any]) -> ValueError:
    """The error for what is not finite as `dtype`; the backends' own, too, for X."""
    return ValueError(f"{name} contains NaN or infinity, or values beyond {dtype.name}")


def _numbers(given: ArrayLike, name: str) -> Array:
    """`given` as an array of real numbers or bool, not copied where it is one already."""
    masked = sys.modules.get("numpy.ma")  # whose import takes 6 ms: without it, nothing is masked
    if masked and isinstance(given, masked.MaskedArray) and masked.is_masked(given):
        raise ValueError(f"{name} has masked entries; fill them first")
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array of numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def _finite(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """`array` as a finite C-contiguous array of `dtype`."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(converted).all():
        raise not_finite(name, dtype)
    return converted


def _check_classes(y: Array, n_classes: int, name: str) -> NDArray[np.int32]:
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise ValueError(f"{name} contains NaN or infinity")
        if (y != np.floor(y)).any():
            raise ValueError(f"{name} holds class indices and must be integers, got {y.dtype}")
    low, high = y.min(), y.max()
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"{name} holds labels from {low} to {high}, outside 0 ... {n_classes - 1} "
            f"of this network's {n_classes} outputs"
        )
    return np.ascontiguousarray(y, dtype=np.int32)


def _check_range(y: Array, loss: Loss, name: str) -> None:
    if not isinstance(loss, losses.LabelLoss | losses.Poisson):
        return
    if y.min() < 0:
        raise ValueError(f"{name} has negative entries, which the loss {loss.name} does not take")
    if isinstance(loss, losses.BinaryCrossEntropy) and y.max() > 1:
        raise ValueError(f"{name} has entries above 1, which the loss {loss.name} does not take")
    if isinstance(loss, losses.CrossEntropy):
        _check_sums(y, "every row", name)
    if isinstance(loss, losses.GroupedCrossEntropy):
        for group in loss.groups(y.shape[1]):
            columns = f"columns {group.start}:{group.stop} of every row"
            _check_sums(y[:, group], columns, name)


def _check_sums(y: Array, what: str, name: str) -> None:
    sums = y.sum(axis=1, dtype=np.float64)
    if np.abs(sums - 1).max() > SUM_OF_LABELS_TOLERANCE:
        row = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"{name} holds label probabilities, and {what} must sum to 1; "
            f"row {row} sums to {sums[row]:.6g}"
        )
