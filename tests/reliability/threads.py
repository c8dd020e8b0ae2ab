"""Everything that fastnn's threads share, for ThreadSanitizer: training and predicting in teams."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import scipy.sparse

import fastnn

RNG = np.random.default_rng(0)
X = RNG.random((700, 50), dtype=np.float32)
X[X < 0.5] = 0
Y = RNG.integers(0, 3, 700)
SPARSE = scipy.sparse.csr_matrix(X)
OPTIONS: list[dict[str, object]] = [
    {},
    {"clip_norm": 0.1, "dropout": 0.3},
    {"batch_size": None, "optimizer": "sgd"},
    {"validation": 0.2, "l2": 1e-3, "batch_weighting": True},
]


def train_and_predict(n_threads: int, hidden: int) -> int:
    n_fits = 0
    for data, options in itertools.product((X, SPARSE), OPTIONS):
        net = fastnn.MLP((50, hidden, 110, 3), n_threads=n_threads, seed=1)
        net.fit(data, Y, epochs=2, **options)
        net.predict(data)
        net.evaluate(data, Y)
        net.predict(X[:1])
        n_fits += 1
    for optimizer in ("sgd", "adam"):  # two layers apart
        fastnn.MLP((50, hidden, 3), n_threads=n_threads).fit(
            X, Y, epochs=2, batch_size=20, optimizer=optimizer
        )
        n_fits += 1
    narrow = fastnn.MLP((50, 20, 3), n_threads=n_threads)
    for options in OPTIONS[:2]:  # parts in turns
        narrow.fit(np.tile(X, (6, 1)), np.tile(Y, 6), epochs=3, batch_size=2500, **options)
        n_fits += 1
    for _ in range(50):
        narrow.predict(X)
        narrow.predict(X[:1])
    wide = fastnn.MLP((50, 800, 700, 3), n_threads=n_threads)
    for _ in range(50):
        wide.predict(X[:1])
        wide.predict(X[:20])  # few rows of many weights: gathered, and where they lie
        wide.predict(X[:20] + 0.5)
    return n_fits


def predict_while_another_trains() -> None:
    """Several Python threads share one model's predictor, and the pool of helpers."""
    net, other = (fastnn.MLP((50, 100, 3), n_threads=2, seed=s) for s in (0, 1))
    expected = net.predict(X)
    wrong = []

    def predict() -> None:
        for _ in range(30):
            if not np.array_equal(net.predict(X), expected):
                wrong.append(1)

    threads = [threading.Thread(target=predict) for _ in range(4)]
    threads.append(threading.Thread(target=lambda: other.fit(X, Y, epochs=3)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


if __name__ == "__main__":
    n_fits = sum(train_and_predict(n, hidden) for n in (2, 3, 4) for hidden in (30, 130))
    predict_while_another_trains()
    print(n_fits)
