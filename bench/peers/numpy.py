"""NumPy by hand: float32, buffers made once, one vector of parameters, BLAS for products."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from bench.networks import Case, make_data
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    import numpy as np


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

    def __init__(self, sizes: tuple[int, ...], batch_size: int) -> None:
        import numpy as np

        rng = np.random.default_rng(0)
        count = sum((a + 1) * b for a, b in pairwise(sizes))
        self.parameters, self.gradient = np.zeros((2, count), np.float32)
        self.W, self.b = _views(self.parameters, sizes)
        self.dW, self.db = _views(self.gradient, sizes)
        for W in self.W:
            W[...] = rng.standard_normal(W.shape) * (2 / W.shape[0]) ** 0.5
        self.h = [np.empty((batch_size, size), np.float32) for size in sizes]
        self.delta = [np.empty((batch_size, size), np.float32) for size in sizes[1:]]
        self.positive = [np.empty((batch_size, size), bool) for size in sizes[1:-1]]
        self.column = np.empty((batch_size, 1), np.float32)
        # where in the flattened output each row starts, to pick one class of every row
        self.row_start = np.arange(batch_size) * sizes[-1]

    def step_gradient(self, y: np.ndarray) -> float:
        """The loss of the batch in h[0], and its gradient in `gradient`. y (batch_size,)."""
        import numpy as np

        h, delta, last = self.h, self.delta, len(self.W) - 1
        for k, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            np.dot(h[k], W, out=h[k + 1])
            h[k + 1] += b
            if k < last:
                np.maximum(h[k + 1], 0, out=h[k + 1])
        f, f_minus_y = h[-1], delta[-1]
        f -= np.maximum.reduce(f, axis=1, out=self.column, keepdims=True)
        at_label = self.row_start + y
        np.exp(f, out=f_minus_y)
        np.add.reduce(f_minus_y, axis=1, out=self.column, keepdims=True)
        loss = float(np.log(self.column).sum() - f.ravel()[at_label].sum()) / len(y)
        f_minus_y /= self.column
        f_minus_y.ravel()[at_label] -= 1
        f_minus_y *= np.float32(1 / len(y))
        for k in range(last, -1, -1):
            np.dot(h[k].T, delta[k], out=self.dW[k])
            np.add.reduce(delta[k], axis=0, out=self.db[k])
            if k:
                np.dot(delta[k], self.W[k].T, out=delta[k - 1])
                np.greater(h[k], 0, out=self.positive[k - 1])
                delta[k - 1] *= self.positive[k - 1]
        return loss


class _SGD:
    def __init__(self, net: _Network, learning_rate: float) -> None:
        import numpy as np

        self.net, self.learning_rate = net, np.float32(learning_rate)

    def step(self) -> None:
        self.net.gradient *= self.learning_rate
        self.net.parameters -= self.net.gradient


class _Adam:
    def __init__(self, net: _Network, learning_rate: float) -> None:
        import numpy as np

        self.net, self.learning_rate, self.t = net, learning_rate, 0
        self.m, self.v, self.scratch = np.zeros((3, net.gradient.size), np.float32)

    def step(self) -> None:
        import numpy as np

        g, m, v, scratch = self.net.gradient, self.m, self.v, self.scratch
        self.t += 1
        np.multiply(g, np.float32(0.1), out=scratch)
        m *= np.float32(0.9)
        m += scratch
        g *= g
        g *= np.float32(0.001)
        v *= np.float32(0.999)
        v += g
        np.sqrt(v, out=scratch)
        scratch *= np.float32((1 - 0.999**self.t) ** -0.5)
        scratch += np.float32(1e-8)
        np.divide(m, scratch, out=scratch)
        scratch *= np.float32(self.learning_rate / (1 - 0.9**self.t))
        self.net.parameters -= scratch


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever; the number of BLAS threads is set in the environment."""
    import numpy as np

    turns.imported()
    X, y = make_data(case)
    turns.begin()
    net = _Network(case.layer_sizes, case.batch_size)
    optimizer = {"sgd": _SGD, "adam": _Adam}[case.optimizer](net, case.learning_rate)
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(X)).reshape(-1, case.batch_size)
        for rows in order:
            # "clip" because the default mode checks by way of a second buffer
            np.take(X, rows, axis=0, out=net.h[0], mode="clip")
            loss = net.step_gradient(y[rows])
            optimizer.step()
            turns.tick(case.batch_size, loss)


PEER = Peer("NumPy", version_of="numpy", train=train)

if __name__ == "__main__":
    serve(PEER)
