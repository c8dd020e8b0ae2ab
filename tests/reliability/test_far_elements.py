"""Data of more than 2³¹ elements, none of which need be in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnn
from fastnn.sparse import CSR

FAR = 2**31


def sparse_file(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Zeros that take no room on the disk until they are written."""
    return np.memmap(path, dtype, "w+", shape=shape)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_predictions_of_more_than_2_to_the_31_elements(
    compiled_backend: str, dtype: str, tally: Callable[..., None]
) -> None:
    """An X of more than 2³¹ elements is predicted whole: one row again and again, stride 0."""
    row = np.random.default_rng(0).integers(0, 256, (1, 3000)).astype(dtype)
    X = np.broadcast_to(row, (FAR // 3000 + 2, 3000))
    assert X.size > FAR
    net = fastnn.MLP((3000, 1), output="identity", backend=compiled_backend)
    assert (net.forward(X) == net.forward(row)).all()
    tally("elements", X.size)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_rows_beyond_2_to_the_31_elements(
    compiled_backend: str, dtype: str, tmp_path: Path, tally: Callable[..., None]
) -> None:
    """Rows far apart, the last beyond 2³¹ elements, give the bits of rows side by side."""
    n, n_in, rng = 40, 500, np.random.default_rng(0)
    X = sparse_file(tmp_path / "X", (n, FAR // (n - 1) + 1), dtype)[:, :n_in]
    X[:] = rng.integers(0, 256, (n, n_in))
    assert (n - 1) * X.strides[0] >= FAR * X.itemsize
    y, copy = rng.integers(0, 3, n), X.copy()
    nets = [fastnn.MLP((n_in, 5, 3), seed=1, backend=compiled_backend) for _ in range(2)]
    for net, rows in zip(nets, (X, copy), strict=True):
        net.fit(rows, y, epochs=2, batch_size=16)
    for one, other in zip(nets[0].weights, nets[1].weights, strict=True):
        assert one.tobytes() == other.tobytes()
    assert nets[0].forward(X).tobytes() == nets[1].forward(copy).tobytes()
    tally("rows", n)


def test_sparse_elements_beyond_2_to_the_31(
    compiled_backend: str, tmp_path: Path, tally: Callable[..., None]
) -> None:
    """Rows of a sparse X with elements beyond the 2³¹st give the bits of dense rows."""
    n_in, n_rows, per_row = 2**16, 40, 50
    n_full = FAR // n_in + 1  # rows that only take up room
    indptr = np.concatenate(
        [np.arange(n_full + 1) * n_in, n_full * n_in + np.arange(1, n_rows + 1) * per_row]
    )
    first = int(indptr[n_full])
    data = sparse_file(tmp_path / "data", (int(indptr[-1]),), "float32")
    indices = sparse_file(tmp_path / "indices", (int(indptr[-1]),), "int32")
    rng = np.random.default_rng(0)
    data[first:] = rng.normal(size=n_rows * per_row)
    columns = [np.sort(rng.choice(n_in, per_row, replace=False)) for _ in range(n_rows)]
    indices[first:] = np.concatenate(columns)
    X = CSR(np.asarray(data), np.asarray(indices), indptr, (n_full + n_rows, n_in))
    rows = np.arange(n_full, n_full + n_rows)
    dense = X.dense(rows)
    y = rng.integers(0, 3, n_full + n_rows).astype(np.int32)
    engine = fastnn.MLP((n_in, 4, 3), seed=1, backend=compiled_backend)._engine()
    assert (engine.forward(X, rows=rows) == engine.forward(dense)).all()
    loss, gradient = engine.loss_and_gradients(X, y, None, "cross_entropy", 0, 0, rows=rows)
    expected = engine.loss_and_gradients(dense, y[rows], None, "cross_entropy", 0, 0)
    assert loss == expected[0]
    assert gradient.tobytes() == expected[1].tobytes()
    tally("rows", n_rows)
