"""What the compiled loops are given beside parameters: places of X and y, keys of dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...losses import Loss
from ...losses import get as get_loss
from ...network import Network
from ...options import TrainingOptions
from ...sparse import CSR
from . import passes
from .dropout import dropout_key
from .layout import NO_DROPOUT, Data, Dropout, no_targets, read_only

Array = NDArray[Any]


def count_rows(X: Array | CSR, rows: Array | None) -> int:
    """How many of X are asked for; None: all."""
    return len(X if rows is None else rows)


def gather_of(X: Array | CSR) -> Any:
    """The stage that reads an X of this kind."""
    if isinstance(X, CSR):
        return passes.SPARSE_GATHERS[X.data.dtype.name]
    return passes.GATHERS[X.dtype.name]


def data_of(
    network: Network,
    X: Array | CSR,
    order: Array | None,
    y: Array | None = None,
    sample_weight: Array | None = None,
    loss: str | Loss | None = None,
) -> Data:
    """X stays alive in the caller: here is but its address."""
    constants = () if loss is None else get_loss(loss).constants(network.n_out)
    no_order, labels, values, no_weights, _ = no_targets(network.dtype)
    if y is not None and y.ndim == 1:
        labels = read_only(y)
    elif y is not None:
        values = read_only(y)
    return Data(
        **_places_of(X),
        order=no_order if order is None else read_only(order),
        labels=labels,
        values=values,
        weights=no_weights if sample_weight is None else read_only(sample_weight),
        parameters=np.array(constants or (0.0,) * network.n_out, network.dtype),
    )


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _places_of(X: Array | CSR) -> dict[str, int]:
    """The fields of Data that are X's."""
    names = Data._fields[:7]
    if not isinstance(X, CSR):
        values = _address(X), *X.strides, 0, 0, 0, 0
    else:
        at = _address(X.indices), X.indices.itemsize, _address(X.indptr), X.indptr.itemsize
        values = _address(X.data), 0, 0, *at
    return dict(zip(names, values, strict=True))


def dropout_of(options: TrainingOptions, epoch: int) -> Dropout:
    """Rates and keys of an epoch, layer by layer."""
    if not options.dropout:
        return NO_DROPOUT
    rates = np.array(options.dropout)
    seed, layers = np.uint64(options.seed), range(len(rates))
    keys = [dropout_key(seed, np.uint64(epoch), np.uint64(k)) for k in layers]
    return Dropout(
        np.array(keys, np.uint64),
        np.minimum(np.ceil(rates * 2.0**32), 2.0**32 - 1).astype(np.int64),
        1 / (1 - rates),
    )
