"""Sparse input: SciPy's matrices as the engines take them. SciPy itself is never imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .once import once

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CSR:
    """A matrix by rows, of which only some elements are stored; the others are zero.

    data, indices  (nnz,) the stored elements, which may be zero, and their columns
    indptr         (n + 1,) row r has the elements indptr[r] up to, not including, indptr[r + 1],
                   their columns rising, none of them twice
    shape          (n, n_in)

    The arrays are C-contiguous and aligned; indices and indptr are int32 or int64.
    """

    data: Array
    indices: Array
    indptr: Array
    shape: tuple[int, int]
    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    @once
    def longest_row(self) -> int:
        """How many elements a row has at most."""
        return int(np.diff(self.indptr).max())

    def dense(self, rows: Array | None = None) -> Array:
        """The chosen rows (None: all) as an array (n, n_in) of the data's dtype."""
        chosen = np.arange(len(self)) if rows is None else rows
        starts, lengths = self.indptr[chosen], np.diff(self.indptr)[chosen]
        row = np.repeat(np.arange(len(chosen)), lengths)
        first = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        element = first + np.arange(len(row))
        X = np.zeros((len(chosen), self.shape[1]), self.data.dtype)
        X[row, self.indices[element]] = self.data[element]
        return X


def is_sparse(X: Any) -> bool:
    """Whether X is one of SciPy's sparse matrices or arrays, of any format."""
    scipy_sparse = sys.modules.get("scipy.sparse")  # not there: nobody can have made one
    return scipy_sparse is not None and bool(scipy_sparse.issparse(X))


def to_csr(X: Any, name: str) -> CSR:
    """A two-dimensional SciPy matrix as a `CSR`: the same arrays where they are in order already.

    X is not changed. Other formats are converted; where columns are out of order or come twice
    (these add up, as in X.toarray()), a copy is put in order. Raises ValueError for arrays that do
    not make up a CSR matrix, TypeError for elements that are not real numbers.
    """
    X = X.tocsr()
    if X.data.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {X.data.dtype}")
    indices, indptr = _integers(X.indices), _integers(X.indptr)
    _check_structure(X.data, indices, indptr, X.shape, name)
    n_elements = int(indptr[-1])
    csr = CSR(_in_memory_order(X.data)[:n_elements], indices[:n_elements], indptr, X.shape)
    return csr if _columns_rise(csr) else _in_order(csr)


def _in_memory_order(array: Any) -> Array:
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def _integers(array: Any) -> Array:
    native = array.dtype in (np.int32, np.int64) and array.dtype.isnative
    return _in_memory_order(array if native else array.astype(np.int64))


def _check_structure(
    data: Array, indices: Array, indptr: Array, shape: tuple[int, int], name: str
) -> None:
    n, n_in = shape
    if indptr.shape != (n + 1,) or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"{name}.indptr does not rise from 0, with {n + 1} entries")
    if indptr[-1] > min(len(data), len(indices)):
        raise ValueError(
            f"{name}.indptr ends at {indptr[-1]}, but there are {len(data)} elements "
            f"and {len(indices)} columns of elements"
        )
    used = indices[: indptr[-1]]
    if len(used) and (used.min() < 0 or used.max() >= n_in):
        raise ValueError(
            f"{name}.indices holds columns from {used.min()} to {used.max()}, outside "
            f"0 ... {n_in - 1}"
        )


def _columns_rise(csr: CSR) -> bool:
    """Within every row."""
    rises = csr.indices[1:] > csr.indices[:-1]
    row_begins = csr.indptr[1:-1]
    row_begins = row_begins[(row_begins > 0) & (row_begins < len(csr.indices))]
    rises[row_begins - 1] = True
    return bool(rises.all())


def _in_order(csr: CSR) -> CSR:
    """A copy with rising columns; elements of the same place add up in the order they come."""
    row = np.repeat(np.arange(len(csr)), np.diff(csr.indptr))
    order = np.lexsort((csr.indices, row))  # stable
    row, column = row[order], csr.indices[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    data = np.zeros(np.count_nonzero(is_new), csr.data.dtype)
    np.add.at(data, np.cumsum(is_new) - 1, csr.data[order])
    counts = np.bincount(row[is_new], minlength=len(csr))
    return CSR(data, column[is_new], np.concatenate([[0], np.cumsum(counts)]), csr.shape)
