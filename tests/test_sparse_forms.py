"""Sparse X in every form: what is accepted, with the bits of the dense X, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import flat_of
from sparse_matrices import fitted, labels, matrix, replaced

import fastnn
from fastnn import checks
from fastnn.network import Network

sparse = pytest.importorskip("scipy.sparse")

METHODS = ("forward", "predict", "predict_proba", "evaluate", "loss_and_gradients", "fit", "hidden")
METHODS_WITH_Y = ("evaluate", "loss_and_gradients", "fit")


# ---- forms ----


def with_explicit_zeros(X):
    """Those of its last row."""
    last = slice(X.indptr[-2], X.indptr[-1])
    row = np.zeros(X.shape[1])
    row[X.indices[last]] = X.data[last]
    data, indices = np.append(X.data[: last.start], row), np.arange(len(row))
    indptr = np.append(X.indptr[:-1], len(data))
    return sparse.csr_array((data, np.append(X.indices[: last.start], indices), indptr), X.shape)


def out_of_order(X):
    X = X.copy()
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[start:end] = X.indices[start:end][::-1].copy()
        X.data[start:end] = X.data[start:end][::-1].copy()
    return type(X)((X.data, X.indices, X.indptr), X.shape)


def with_duplicates(X):
    """Every element in three parts, whose sum depends on their order, in a row's random order."""
    rng = np.random.default_rng(8)
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    data = np.concatenate([X.data * 0.1, X.data * 0.7, X.data * 0.2])
    row, indices = np.tile(row, 3), np.tile(X.indices, 3)
    order = np.lexsort((rng.random(len(row)), row))
    return sparse.csr_array((data[order], indices[order], 3 * X.indptr), X.shape)


def with_spare_room(X):
    X = X.copy()
    X.data, X.indices = np.append(X.data, [np.nan] * 3), np.append(X.indices, [999] * 3)
    return X


def mapped(X, folder):
    for name in ("data", "indices", "indptr"):
        getattr(X, name).tofile(folder / name)
    return replaced(
        X,
        **{
            name: np.memmap(folder / name, getattr(X, name).dtype, mode="r")
            for name in ("data", "indices", "indptr")
        },
    )


def read_only(X, _):
    X = X.copy()
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    return X


FORMS = {
    "csr_matrix": lambda X, _: sparse.csr_matrix(X),
    **{
        f"{name}_{kind}": lambda X, _, make=f"{name}_{kind}": getattr(sparse, make)(X)
        for name in ("csc", "coo", "lil", "dok", "bsr", "dia")
        for kind in ("array", "matrix")
    },
    "int64 indices": lambda X, _: replaced(X, indices=X.indices.astype(np.int64)),
    "int64 indptr": lambda X, _: replaced(X, indptr=X.indptr.astype(np.int64)),
    "int16 indices": lambda X, _: replaced(X, indices=X.indices.astype(np.int16)),
    "big-endian": lambda X, _: replaced(
        X, data=X.data.astype(">f8"), indices=X.indices.astype(">i4")
    ),
    "float32": lambda X, _: X.astype(np.float32),
    "longdouble": lambda X, _: X.astype(np.longdouble),
    "strided": lambda X, _: replaced(X, data=np.repeat(X.data, 2)[::2]),
    "unaligned": lambda X, _: replaced(
        X, data=np.frombuffer(b"x" + X.data.tobytes(), np.uint8)[1:].view(np.float64)
    ),
    "explicit zeros": lambda X, _: with_explicit_zeros(X),
    "out of order": lambda X, _: out_of_order(X),
    "duplicates": lambda X, _: with_duplicates(X),
    "spare room": lambda X, _: with_spare_room(X),
    "slice of rows": lambda X, _: sparse.vstack([X, X], format="csr")[len(X.indptr) - 1 :],
    "memory map": mapped,
    "read-only": read_only,
}


def arrays_of(X):
    return [
        array.copy() for array in vars(X).values() if isinstance(array, np.ndarray) and array.ndim
    ]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_X_that_are_accepted(backend, dtype, form, tmp_path):
    X = matrix(24, 20, 0.3)
    given = FORMS[form](X, tmp_path)
    before = arrays_of(given)
    Z = with_duplicates(X).toarray() if form == "duplicates" else X.toarray()
    if form == "float32":
        Z = Z.astype(np.float32)
    y = labels(X, 3)
    expected = fitted(Z, y, (20, 9, 3), backend, dtype, batch_size=7)
    assert fitted(given, y, (20, 9, 3), backend, dtype, batch_size=7) == expected
    for array, copy in zip(arrays_of(given), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("X_dtype", ["uint8", "int8", "uint16", "int64", "bool"])
def test_whole_numbers(backend, dtype, X_dtype):
    """uint8 is x/255, as in a dense X."""
    X = matrix(40, 30, 0.3)
    X.data = np.random.default_rng(0).integers(0, 256, len(X.data)).astype(X_dtype)
    y = labels(X, 3)
    expected = fitted(X.toarray(), y, (30, 9, 3), backend, dtype, batch_size=7)
    assert fitted(X, y, (30, 9, 3), backend, dtype, batch_size=7) == expected


def test_a_matrix_in_order_is_not_copied():
    X = matrix(20, 30, dtype="float32")
    csr = checks.check_X(X, Network((30, 2)))
    for name in ("data", "indices", "indptr"):
        assert np.shares_memory(getattr(csr, name), getattr(X, name))


def test_dense_rows_and_the_longest():
    X = matrix(20, 30)
    csr = checks.check_X(X, Network((30, 2)))
    rows = np.array([3, 0, 19, 3])
    np.testing.assert_array_equal(csr.dense(), X.toarray())
    np.testing.assert_array_equal(csr.dense(rows), X.toarray()[rows])
    assert csr.longest_row == max(np.diff(X.indptr)) == 29


def test_scipy_is_not_imported():
    code = "import sys, fastnn; fastnn.MLP((2, 2)).predict([[1, 2]]); print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- what is refused ----


@pytest.fixture
def net(backend, dtype):
    """30-4-2 softmax; the test must leave it as it was."""
    net = fastnn.MLP((30, 4, 2), dtype=dtype, backend=backend)
    before = flat_of(net)
    yield net
    np.testing.assert_array_equal(flat_of(net), before)


def call(net, method, X):
    if method in METHODS_WITH_Y:
        return getattr(net, method)(X, np.arange(X.shape[0]) % 2)
    return getattr(net, method)(X)


WRONG = {
    "too wide": (lambda X: matrix(6, 31), r"X has shape \(6, 31\), but .* \(n, 30\)"),
    "no rows": (lambda X: X[:0], r"X has shape \(0, 30\), but .* \(n, 30\) with n of at least 1"),
    "NaN": (
        lambda X: replaced(X, data=np.append(X.data[:-1], np.nan)),
        "X contains NaN or infinity",
    ),
    "infinity": (
        lambda X: replaced(X, data=np.append(X.data[:-1], -np.inf)),
        "X contains NaN or infinity",
    ),
    "negative column": (
        lambda X: replaced(X, indices=X.indices - 100),
        "X.indices holds columns from -100 to .*, outside 0 ... 29",
    ),
    "column too large": (
        lambda X: replaced(X, indices=X.indices + 1),
        "X.indices holds columns from .* to 30, outside 0 ... 29",
    ),
    "indptr too short": (
        lambda X: replaced(X, indptr=X.indptr[:-1]),
        "X.indptr does not rise from 0, with 7 entries",
    ),
    "indptr falls": (
        lambda X: replaced(X, indptr=X.indptr[::-1]),
        "X.indptr does not rise from 0, with 7 entries",
    ),
    "too few elements": (
        lambda X: replaced(X, data=X.data[:-1]),
        "X.indptr ends at .*, but there are .* elements",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_X(net, method, case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call(net, method, make(matrix(6, 30, 0.3)))


def test_values_beyond_float32(backend):
    X = matrix(6, 30, 0.3)
    X.data[3] = 1e39
    message = "X contains NaN or infinity, or values beyond float32"
    for method in METHODS:
        with pytest.raises(ValueError, match=message):
            call(fastnn.MLP((30, 4, 2), backend=backend), method, X)


@pytest.mark.parametrize("X_dtype", [complex, object])
def test_not_numbers(net, X_dtype):
    with pytest.raises(TypeError, match="X must hold real numbers, got dtype"):
        net.predict(replaced(matrix(6, 30), data=np.ones(matrix(6, 30).nnz, X_dtype)))


def test_wrong_validation_data_and_sparse_targets(net):
    X, y = matrix(6, 30), np.arange(6) % 2
    with pytest.raises(ValueError, match=r"validation X has shape \(2, 31\)"):
        net.fit(X, y, validation=(matrix(2, 31), [0, 1]))
    with pytest.raises(TypeError, match="y must hold real numbers"):
        net.fit(X, sparse.csr_array(np.eye(2)[y]))
