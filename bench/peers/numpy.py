"""NumPy by hand: float32, buffers made once, one vector of parameters, BLAS for products."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from bench.networks import Case, make_data, make_parameters
from bench.numpy_adam import Adam
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    import numpy as np

    from bench.peers import Forward


def _views(flat: np.ndarray, sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights (n_in, n_out) and biases (n_out,) as views of one vector."""
    weights, biases, start = [], [], 0
    for n_in, n_out in pairwise(sizes):
        weights.append(flat[start : start + n_in * n_out].reshape(n_in, n_out))
        start += n_in * n_out
        biases.append(flat[start : start + n_out])
        start += n_out
    return weights, biases


class _Network:
    """Parameters, their gradient, and every buffer that one batch needs."""

    def __init__(self, case: Case) -> None:
        import numpy as np

        self.tanh, self.softmax = case.activation == "tanh", case.output == "softmax"
        sizes, batch_size = case.layer_sizes, case.batch_size
        count = sum((a + 1) * b for a, b in pairwise(sizes))
        self.parameters, self.gradient = np.zeros((2, count), np.float32)
        self.W, self.b = _views(self.parameters, sizes)
        self.dW, self.db = _views(self.gradient, sizes)
        for W, b, (W_0, b_0) in zip(self.W, self.b, make_parameters(case), strict=True):
            W[...], b[...] = W_0, b_0
        self.h = [np.empty((batch_size, size), np.float32) for size in sizes]
        self.delta = [np.empty((batch_size, size), np.float32) for size in sizes[1:]]
        self.positive = [np.empty((batch_size, size), bool) for size in sizes[1:-1]]
        self.column = np.empty((batch_size, 1), np.float32)
        # where in the flattened output each row starts, to pick one class of every row
        self.row_start = np.arange(batch_size) * sizes[-1]

    def forward(self) -> np.ndarray:
        """From h[0] to the last pre-activation, (batch_size, n_out)."""
        import numpy as np

        h, last = self.h, len(self.W) - 1
        for k, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            np.dot(h[k], W, out=h[k + 1])
            h[k + 1] += b
            if k < last and self.tanh:
                np.tanh(h[k + 1], out=h[k + 1])
            elif k < last:
                np.maximum(h[k + 1], 0, out=h[k + 1])
        return h[-1]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The outputs (batch_size, n_out), in an array of their own."""
        import numpy as np

        self.h[0] = X
        a = self.forward()
        if not self.softmax:
            return a.copy()
        a -= np.maximum.reduce(a, axis=1, out=self.column, keepdims=True)
        f = np.exp(a)
        f /= np.add.reduce(f, axis=1, out=self.column, keepdims=True)
        return f

    def cross_entropy(self, y: np.ndarray) -> float:
        """The loss against classes y (batch_size,), and delta of the last layer."""
        import numpy as np

        f, f_minus_y = self.h[-1], self.delta[-1]
        f -= np.maximum.reduce(f, axis=1, out=self.column, keepdims=True)
        at_label = self.row_start + y
        np.exp(f, out=f_minus_y)
        np.add.reduce(f_minus_y, axis=1, out=self.column, keepdims=True)
        loss = float(np.log(self.column).sum() - f.ravel()[at_label].sum()) / len(y)
        f_minus_y /= self.column
        f_minus_y.ravel()[at_label] -= 1
        f_minus_y *= np.float32(1 / len(y))
        return loss

    def squared_error(self, y: np.ndarray) -> float:
        """The loss against values y (batch_size, n_out), and delta of the last layer."""
        import numpy as np

        f_minus_y = np.subtract(self.h[-1], y, out=self.delta[-1])
        loss = float(np.vdot(f_minus_y, f_minus_y)) / (2 * len(y))
        f_minus_y *= np.float32(1 / len(y))
        return loss

    def step_gradient(self, y: np.ndarray) -> float:
        """The loss of the batch in h[0], and its gradient in `gradient`."""
        import numpy as np

        self.forward()
        loss = self.cross_entropy(y) if self.softmax else self.squared_error(y)
        h, delta = self.h, self.delta
        for k in range(len(self.W) - 1, -1, -1):
            np.dot(h[k].T, delta[k], out=self.dW[k])
            np.add.reduce(delta[k], axis=0, out=self.db[k])
            if k:
                np.dot(delta[k], self.W[k].T, out=delta[k - 1])
                if self.tanh:
                    h[k] *= h[k]
                    delta[k - 1] *= np.subtract(1, h[k], out=h[k])
                else:
                    np.greater(h[k], 0, out=self.positive[k - 1])
                    delta[k - 1] *= self.positive[k - 1]
        return loss


class _SGD:
    def __init__(self, parameters: np.ndarray, gradient: np.ndarray, learning_rate: float) -> None:
        import numpy as np

        self.parameters, self.gradient = parameters, gradient
        self.learning_rate = np.float32(learning_rate)

    def step(self) -> None:
        self.gradient *= self.learning_rate
        self.parameters -= self.gradient


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever; the number of BLAS threads is set in the environment."""
    import numpy as np

    turns.imported()
    X, y = make_data(case)
    turns.begin()
    net = _Network(case)
    kind = {"sgd": _SGD, "adam": Adam}[case.optimizer]
    optimizer = kind(net.parameters, net.gradient, case.learning_rate)
    rng = np.random.default_rng(0)
    while case.shuffled:
        for rows in rng.permutation(len(X)).reshape(-1, case.batch_size):
            # "clip" because the default mode checks by way of a second buffer
            np.take(X, rows, axis=0, out=net.h[0], mode="clip")
            loss = net.step_gradient(y[rows])
            optimizer.step()
            turns.tick(case.batch_size, loss)
    net.h[0] = X
    while True:
        loss = net.step_gradient(y)
        optimizer.step()
        turns.tick(case.batch_size, loss)


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """Products into buffers made once."""
    import numpy  # noqa: F401

    turns.imported()
    turns.begin()
    return _Network(case).predict


PEER = Peer("NumPy", version_of="numpy", train=train, predict=predict)

if __name__ == "__main__":
    serve(PEER)
