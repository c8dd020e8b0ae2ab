"""scikit-learn's MLPClassifier and MLPRegressor, many steps per call of partial_fit.

Of two classes, MLPClassifier has one logistic output in place of softmax.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from bench.networks import Case, make_data, make_parameters
from bench.peers import Peer, Turns, serve

if TYPE_CHECKING:
    import numpy as np

    from bench.peers import Forward

CALL_SECONDS = 0.2


def _started(case: Case, X: np.ndarray, y: np.ndarray) -> Any:
    """A model after its first step, on (X, y)."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    classifies = case.output == "softmax"
    model = (MLPClassifier if classifies else MLPRegressor)(
        hidden_layer_sizes=case.layer_sizes[1:-1],
        activation=case.activation,
        solver=case.optimizer or "sgd",
        alpha=0.0,
        batch_size=len(X),
        learning_rate_init=case.learning_rate,
        shuffle=case.shuffled,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = {"classes": np.arange(case.layer_sizes[-1])} if classifies else {}
    return model.partial_fit(X, y, **classes)


def train(case: Case, n_threads: int | None, turns: Turns) -> NoReturn:
    """Trains for ever; the number of BLAS threads is set in the environment.

    One call of `partial_fit` shuffles its rows and makes one pass over them in mini-batches.
    It gets the whole data set, or, where that takes longer than CALL_SECONDS, a slice.
    """
    import sklearn.neural_network  # noqa: F401

    turns.imported()
    X, y = make_data(case)
    if case.output == "identity":
        y = y[:, 0]
    turns.begin()
    b = case.batch_size
    model = _started(case, X[:b], y[:b])
    turns.tick(b, model.loss_)
    n_trial = min(4 * b, len(X))
    start = time.perf_counter()
    model.partial_fit(X[:n_trial], y[:n_trial])
    seconds_per_step = (time.perf_counter() - start) * b / n_trial
    rows_per_call = b * max(1, int(CALL_SECONDS / seconds_per_step))
    while True:
        for begin in range(0, len(X), rows_per_call):
            rows = slice(begin, begin + rows_per_call)
            model.partial_fit(X[rows], y[rows])
            turns.tick(len(X[rows]), model.loss_)


def predict(case: Case, n_threads: int | None, turns: Turns) -> Forward:
    """`predict_proba`, or `predict` for values, of a fitted model with the weights put in."""
    import numpy as np
    import sklearn.neural_network  # noqa: F401

    turns.imported()
    parameters = make_parameters(case)
    turns.begin()
    n_in, n_out = case.layer_sizes[0], case.layer_sizes[-1]
    X, y = np.zeros((n_out, n_in), np.float32), np.arange(n_out)
    model = _started(case, X, y)
    if case.output == "softmax" and n_out == 2:
        W, b = parameters[-1]
        parameters[-1] = W[:, 1:] - W[:, :1], b[1:] - b[:1]
    model.coefs_ = [W for W, _ in parameters]
    model.intercepts_ = [b for _, b in parameters]
    if case.output == "softmax":
        return model.predict_proba
    return lambda X: model.predict(X).reshape(-1, n_out)


def supports(case: Case) -> bool:
    """Softmax or one value, with the activations that scikit-learn knows."""
    one_value = case.output == "identity" and case.layer_sizes[-1] == 1
    known = case.activation in ("relu", "tanh", "identity")
    return known and (case.output == "softmax" or one_value)


PEER = Peer(
    "scikit-learn", version_of="scikit-learn", train=train, predict=predict, supports=supports
)

if __name__ == "__main__":
    serve(PEER)
