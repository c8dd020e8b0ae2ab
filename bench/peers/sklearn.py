"""scikit-learn's MLPClassifier, an epoch (or as much of one as fits into a turn) per call."""

from __future__ import annotations

import time
from typing import NoReturn

from bench.networks import Case, make_data
from bench.peers import Peer, Turns, serve

CALL_SECONDS = 0.2


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever; the number of BLAS threads is set in the environment.

    One call of `partial_fit` shuffles its rows and makes one pass over them in mini-batches.
    It gets the whole data set, or, where that takes longer than CALL_SECONDS, a slice.
    """
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    turns.imported()
    X, y = make_data(case)
    turns.begin()
    model = MLPClassifier(
        case.layer_sizes[1:-1],
        activation=case.activation,
        solver=case.optimizer,
        alpha=0.0,
        batch_size=case.batch_size,
        learning_rate_init=case.learning_rate,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = np.arange(case.layer_sizes[-1])
    b = case.batch_size
    model.partial_fit(X[:b], y[:b], classes=classes)
    turns.tick(b, model.loss_)
    start = time.perf_counter()
    model.partial_fit(X[: 4 * b], y[: 4 * b])
    n_steps = max(1, int(CALL_SECONDS / (time.perf_counter() - start) * 4))
    while True:
        for begin in range(0, len(X), n_steps * b):
            rows = slice(begin, begin + n_steps * b)
            model.partial_fit(X[rows], y[rows])
            turns.tick(len(X[rows]), model.loss_)


def supports(case: Case) -> bool:
    """Classification by softmax with the activations that MLPClassifier knows."""
    return case.output == "softmax" and case.activation in ("relu", "tanh", "identity")


PEER = Peer("scikit-learn", version_of="scikit-learn", train=train, supports=supports)

if __name__ == "__main__":
    serve(PEER)
