"""Sparse matrices for tests, and everything that a model makes of them."""

import numpy as np
import pytest
from conftest import flat_of

import fastnn

sparse = pytest.importorskip("scipy.sparse")


def matrix(n, n_in, density=0.05, dtype="float64", seed=0):
    """A random CSR matrix with an empty row, an empty column and a row and a column that are full,
    as far as it is large enough."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, n_in)) < density, rng.normal(size=(n, n_in)), 0)
    X[n // 2], X[:, n_in // 2] = 1, 2
    X[n // 3], X[:, n_in // 3] = 0, 0
    return sparse.csr_array(X.astype(dtype))


def labels(X, n_out):
    return np.arange(X.shape[0]) * 7 % n_out


def bits(net, X, y):
    """Everything that a model makes of X, but for what a training brings."""
    loss, dW, db = net.loss_and_gradients(X, y, l2=0.1)
    arrays = (*dW, *db, net.forward(X))
    return loss, net.evaluate(X, y), [array.tobytes() for array in arrays]


def fitted(X, y, layers, backend, dtype, n_threads=1, **settings):
    net = fastnn.MLP(layers, dtype=dtype, n_threads=n_threads, backend=backend, seed=3)
    history = net.fit(X, y, **({"epochs": 2, "learning_rate": 0.01} | settings))
    return flat_of(net).tobytes(), history["loss"], bits(net, X, y)


def replaced(X, **arrays):
    """With these arrays as they are."""
    X = X.copy()
    for name, array in arrays.items():
        setattr(X, name, array)
    return X
