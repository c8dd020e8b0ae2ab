"""The data of a training: checked, and the part that validation is measured on set apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .class_weights import times_class_weight
from .losses import Loss
from .network import STREAM_VALIDATION, Network, random_stream
from .once import once
from .sparse import CSR
from .streams import StreamedSamples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .class_weights import ClassWeight

    Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Checked data, ready for an engine; `rows` None means all of them."""

    X: Array | CSR
    y: Array
    sample_weight: Array | None
    rows: Array | None = None

    @once
    def all_rows(self) -> Array:
        """The numbers of these samples' rows, int64."""
        return np.arange(len(self.X), dtype=np.int64) if self.rows is None else self.rows

    @property
    def n_samples(self) -> int:
        return len(self.X) if self.rows is None else len(self.rows)

    def parts(self, epoch: int) -> Iterable[Samples]:
        """An epoch's samples, one after the other: all of these at once."""
        return (self,)

    def chosen(self) -> tuple[Array, Array | None]:
        """y and the sample weights of the chosen rows."""
        y, w = self.y, self.sample_weight
        if self.rows is None:
            return y, w
        return y[self.rows], None if w is None else w[self.rows]


def split(
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    validation: float | Sequence[ArrayLike] | None,
    network: Network,
    loss: str | Loss,
    seed: int,
    class_weight: ClassWeight | None = None,
) -> tuple[Samples, Samples | None]:
    """Check the data and set the validation part apart, by index arrays rather than copies of X."""
    X = checks.check_X(X, network)
    y = checks.check_y(y, X, network, loss)
    w = None if sample_weight is None else checks.check_sample_weight(sample_weight, X)
    held, rows = None, None
    if isinstance(validation, tuple | list):
        held = _given_validation(validation, network, loss)
    elif validation is not None:
        n, n_held = len(X), _n_held(validation, len(X))
        shuffled = random_stream(seed, STREAM_VALIDATION).permutation(n)
        shuffled = shuffled.astype(np.int64, copy=False)
        rows, held_rows = np.sort(shuffled[n_held:]), np.sort(shuffled[:n_held])
        held = Samples(X, y, checks.scale_to_mean_one(w, held_rows, network), held_rows)
    w = times_class_weight(w, class_weight, y, rows, network)
    return Samples(X, y, checks.scale_to_mean_one(w, rows, network), rows), held


def streamed(
    stream: Any,
    sample_weight: ArrayLike | None,
    validation: float | Sequence[ArrayLike] | None,
    network: Network,
    loss: str | Loss,
    class_weight: ClassWeight | None = None,
) -> tuple[StreamedSamples, Samples | None]:
    """What `split` makes of arrays, of a stream: its chunks are checked as they come."""
    if hasattr(stream, "dtype") or not (callable(stream) or isinstance(stream, Iterable)):
        raise TypeError(f"without y, X must be a stream of chunks, got {type(stream).__name__}")
    if sample_weight is not None or class_weight is not None:
        raise ValueError("a stream brings its weights with it, as (X, y, sample_weight)")
    if validation is not None and not isinstance(validation, tuple | list):
        raise ValueError("validation must be None, (X, y) or (X, y, sample_weight) for a stream")
    held = None if validation is None else _given_validation(validation, network, loss)
    return StreamedSamples(stream, partial(chunk, network=network, loss=loss)), held


def chunk(arrays: Sequence[Any], network: Network, loss: str | Loss) -> Samples:
    """(X, y) or (X, y, sample_weight) checked; the weights are taken as they are."""
    X = checks.check_X(arrays[0], network)
    y = checks.check_y(arrays[1], X, network, loss)
    given = arrays[2] if len(arrays) == 3 else None
    w = None if given is None else checks.check_sample_weight(given, X)
    return Samples(X, y, None if w is None else np.ascontiguousarray(w, network.dtype))


def _n_held(validation: Any, n: int) -> int:
    fraction = checks.check_amount(validation, "validation")
    if not 0 < fraction < 1:
        raise ValueError(
            "validation must be None, a fraction between 0 and 1, (X, y) or (X, y, sample_weight), "
            f"got {validation!r}"
        )
    if n < 2:
        raise ValueError(f"validation={validation!r} needs at least 2 samples, X has {n}")
    return min(max(round(fraction * n), 1), n - 1)


def _given_validation(given: Sequence[Any], network: Network, loss: str | Loss) -> Samples:
    if len(given) not in (2, 3):
        raise ValueError(
            f"validation must be (X, y) or (X, y, sample_weight), got {len(given)} items"
        )
    X = checks.check_X(given[0], network, "validation X")
    y = checks.check_y(given[1], X, network, loss, "validation y")
    if len(given) == 2 or given[2] is None:
        return Samples(X, y, None)
    w = checks.check_sample_weight(given[2], X, "validation sample_weight")
    return Samples(X, y, checks.scale_to_mean_one(w, None, network))
