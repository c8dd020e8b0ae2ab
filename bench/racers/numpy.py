"""NumPy by hand: float32, buffers made once, parameters in one vector, BLAS for the products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.numpy_adam import Adam
from bench.racers import BATCH_SIZE, LEARNING_RATE, N_HIDDEN, Race, read_mnist, run

if TYPE_CHECKING:
    import numpy as np


def views(flat: np.ndarray) -> tuple[np.ndarray, ...]:
    """W1, b1, W2, b2 as parts of one vector; weights are (n_in, n_out)."""
    shapes, parts, start = ((784, N_HIDDEN), (N_HIDDEN,), (N_HIDDEN, 10), (10,)), [], 0
    for shape in shapes:
        size = shape[0] * shape[-1] if len(shape) == 2 else shape[0]
        parts.append(flat[start : start + size].reshape(shape))
        start += size
    return tuple(parts)


class Network:
    """Parameters, their gradient, the optimizer, and every buffer that a batch needs."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self.rng = np.random.default_rng(seed)
        n_parameters = (784 + 1) * N_HIDDEN + (N_HIDDEN + 1) * 10
        self.flat, self.gradient = np.zeros((2, n_parameters), np.float32)
        self.optimizer = Adam(self.flat, self.gradient, LEARNING_RATE)
        for W in views(self.flat)[::2]:
            W[...] = self.rng.standard_normal(W.shape, np.float32) * (2 / len(W)) ** 0.5
        widths = (784, N_HIDDEN, N_HIDDEN, 10)
        self.buffers = [np.empty((BATCH_SIZE, width), np.float32) for width in widths]
        self.row_start = np.arange(BATCH_SIZE) * 10  # of each row of f, laid out flat

    def step(self, X: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
        """One step on some rows of X (n, 784) and y (n,)."""
        import numpy as np

        W1, b1, W2, b2 = views(self.flat)
        dW1, db1, dW2, db2 = views(self.gradient)
        h0, h1, delta1, f = (buffer[: len(rows)] for buffer in self.buffers)
        # "clip" because the default mode checks by way of a second buffer
        np.take(X, rows, axis=0, out=h0, mode="clip")
        np.dot(h0, W1, out=h1)
        h1 += b1
        np.maximum(h1, 0, out=h1)
        np.dot(h1, W2, out=f)
        f += b2
        f -= f.max(axis=1, keepdims=True)
        np.exp(f, out=f)
        f /= f.sum(axis=1, keepdims=True)
        f.ravel()[self.row_start[: len(rows)] + y[rows]] -= 1
        f *= np.float32(1 / len(rows))
        np.dot(h1.T, f, out=dW2)
        np.sum(f, axis=0, out=db2)
        np.dot(f, W2.T, out=delta1)
        delta1 *= h1 > 0
        np.dot(h0.T, delta1, out=dW1)
        np.sum(delta1, axis=0, out=db1)
        self.optimizer.step()

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Classes (n,)."""
        import numpy as np

        W1, b1, W2, b2 = views(self.flat)
        return (np.maximum(X @ W1 + b1, 0) @ W2 + b2).argmax(axis=1)


def racer(race: Race) -> None:
    """Trains until race is over."""
    import numpy  # noqa: F401

    race.split("imports")
    X, y, X_test, y_test = read_mnist()
    race.split("loading")
    net = Network(race.seed)
    while True:
        order = net.rng.permutation(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            net.step(X, y, order[start : start + BATCH_SIZE])
        if race.is_over((net.predict(X_test) == y_test).mean()):
            return


if __name__ == "__main__":
    run(racer)
