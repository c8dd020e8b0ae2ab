"""NumPy by hand: float32, buffers made once, parameters in one vector, BLAS for the products."""

from __future__ import annotations

from bench.racers import BATCH_SIZE, LEARNING_RATE, N_HIDDEN, Race, read_mnist, run


def racer(race: Race) -> None:
    """Trains until race is over."""
    import numpy as np

    race.split("imports")
    X, y, X_test, y_test = read_mnist()
    race.split("loading")
    rng = np.random.default_rng(race.seed)
    n_weights = (784 + 1) * N_HIDDEN + (N_HIDDEN + 1) * 10
    flat, gradient, m, v, scratch = np.zeros((5, n_weights), np.float32)

    def views(flat):
        parts = np.split(flat, np.cumsum([784 * N_HIDDEN, N_HIDDEN, N_HIDDEN * 10]))
        W1, b1, W2, b2 = parts
        return W1.reshape(784, N_HIDDEN), b1, W2.reshape(N_HIDDEN, 10), b2

    (W1, b1, W2, b2), (dW1, db1, dW2, db2) = views(flat), views(gradient)
    W1[...] = rng.standard_normal(W1.shape, np.float32) * (2 / 784) ** 0.5
    W2[...] = rng.standard_normal(W2.shape, np.float32) * (2 / N_HIDDEN) ** 0.5
    buffers = [np.empty((BATCH_SIZE, n), np.float32) for n in (784, N_HIDDEN, N_HIDDEN, 10)]
    flat_f_start = np.arange(BATCH_SIZE) * 10

    def compute_gradient(rows):
        h0, h1, delta1, f = (buffer[: len(rows)] for buffer in buffers)
        # "clip" because the default mode checks by way of a second buffer
        np.take(X, rows, axis=0, out=h0, mode="clip")
        np.dot(h0, W1, out=h1)
        np.add(h1, b1, out=h1)
        np.maximum(h1, 0, out=h1)
        np.dot(h1, W2, out=f)
        np.add(f, b2, out=f)
        f -= f.max(axis=1, keepdims=True)
        np.exp(f, out=f)
        f /= f.sum(axis=1, keepdims=True)
        f.ravel()[flat_f_start[: len(rows)] + y[rows]] -= 1
        f *= np.float32(1 / len(rows))
        np.dot(h1.T, f, out=dW2)
        np.sum(f, axis=0, out=db2)
        np.dot(f, W2.T, out=delta1)
        delta1 *= h1 > 0
        np.dot(h0.T, delta1, out=dW1)
        np.sum(delta1, axis=0, out=db1)

    def adam(t):
        np.multiply(gradient, np.float32(0.1), out=scratch)
        np.multiply(m, np.float32(0.9), out=m)
        np.add(m, scratch, out=m)
        np.multiply(gradient, gradient, out=gradient)
        np.multiply(gradient, np.float32(0.001), out=gradient)
        np.multiply(v, np.float32(0.999), out=v)
        np.add(v, gradient, out=v)
        np.sqrt(v, out=scratch)
        np.multiply(scratch, np.float32((1 - 0.999**t) ** -0.5), out=scratch)
        np.add(scratch, np.float32(1e-8), out=scratch)
        np.divide(m, scratch, out=scratch)
        np.multiply(scratch, np.float32(LEARNING_RATE / (1 - 0.9**t)), out=scratch)
        np.subtract(flat, scratch, out=flat)

    t = 0
    while True:
        order = rng.permutation(len(X))
        for start in range(0, len(X), BATCH_SIZE):
            compute_gradient(order[start : start + BATCH_SIZE])
            t += 1
            adam(t)
        f = np.maximum(X_test @ W1 + b1, 0) @ W2 + b2
        if race.is_over((f.argmax(axis=1) == y_test).mean()):
            return


if __name__ == "__main__":
    run(racer)
