"""solver="adam" and "sgd": epochs of steps on batches, by `MLP.fit`."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split

from .. import optimizers
from ._stopping import ScikitOrder, ScikitStopping

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..callbacks import Run
    from ._base import BaseMLP
    from ._tasks import ScikitTasks

    Array = NDArray[Any]


def fit_epochs(
    estimator: BaseMLP,
    X: Any,
    y: Array,
    sample_weight: Array | None,
    held: tuple[Any, ...] | None,
    random_state: np.random.RandomState,
    tasks: list[ScikitTasks],
    n_epochs: int | None,
) -> None:
    """n_epochs  None: a whole fit, which the stopping rules end; else partial_fit"""
    incremental = n_epochs is not None
    if estimator.early_stopping and held is None:
        X, y, sample_weight, held = _split(estimator, X, y, sample_weight, random_state)
    _open_record(estimator, incremental, held is not None)
    weight = estimator._training_weight(y, sample_weight, incremental)
    l2, batch_size = estimator._l2(weight), _batch_size(estimator, X.shape[0])
    stopping = ScikitStopping(
        estimator,
        estimator._loss_in_scikit_terms(y, sample_weight),
        _score_function(estimator, held) if estimator.early_stopping and held else None,
        incremental,
        _first_penalty(estimator, l2, X.shape[0], batch_size),
        batch_size,
    )
    max_iter = estimator.max_iter if n_epochs is None else n_epochs
    try:
        estimator.network_.fit(
            X,
            y,
            epochs=max_iter,
            batch_size=batch_size,
            optimizer=_optimizer(estimator),
            learning_rate=_rate(estimator),
            loss=estimator._fastnn_loss(),
            l2=l2,
            validation=held,
            shuffle=ScikitOrder(X.shape[0], estimator.shuffle, random_state),
            sample_weight=weight,
            callbacks=[stopping, *_given_callbacks(estimator), *tasks],
            batch_weighting=True,
            dropout=estimator.dropout,
            clip_norm=estimator.clip_norm,
        )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=4)
    if estimator.early_stopping:
        estimator.network_.weights, estimator.network_.biases = estimator._best_parameters
    if not incremental and estimator.n_iter_ == max_iter and not stopping.has_stopped:
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({max_iter}) "
            "reached and the optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=4,
        )


def _open_record(estimator: BaseMLP, incremental: bool, is_held: bool) -> None:
    """What this run adds to, or begins anew."""
    if not hasattr(estimator, "loss_curve_"):  # a warm start after L-BFGS
        estimator._begin_record()
    if is_held and estimator.validation_loss_curve_ is None:
        estimator.validation_loss_curve_ = []
    if estimator.early_stopping:
        estimator._best_parameters = estimator._parameters_copy()
    if not incremental:
        estimator._optimizer_state = None
    if estimator._optimizer_state is None:
        estimator._learning_rate = float(estimator.learning_rate_init)
    estimator.n_iter_ = 0


def _split(
    estimator: BaseMLP,
    X: Any,
    y: Array,
    sample_weight: Array | None,
    random_state: np.random.RandomState,
) -> tuple[Any, Array, Array | None, tuple[Any, ...]]:
    """X, y, weights to train on, (X, y[, weights]) of the others: the split of scikit-learn."""
    stratify = estimator._strata(y)
    rows, held = train_test_split(
        np.arange(X.shape[0]),
        random_state=random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(held) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' "
            "or the size of your dataset."
        )
    if sample_weight is None:
        return X[rows], y[rows], None, (X[held], y[held])
    return X[rows], y[rows], sample_weight[rows], (X[held], y[held], sample_weight[held])


def _rate(estimator: BaseMLP) -> Any:
    """The learning rate to begin with, or a schedule's rates."""
    if isinstance(estimator.learning_rate, str):
        return estimator._learning_rate
    return estimator.learning_rate


def _first_penalty(estimator: BaseMLP, l2: float, n: int, batch_size: int) -> float:
    net = estimator.network_
    return net.network.penalty(net._flat, l2, 0.0) * math.ceil(n / batch_size) / n


def _score_function(estimator: BaseMLP, held: tuple[Any, ...]) -> Callable[[Run], float]:
    """The score of the held samples that early stopping judges by, the higher the better."""
    if estimator.scoring is None and estimator._score_name() != "loss":
        return lambda run: run.history[f"val_{estimator._score_name()}"][-1]
    if estimator.scoring in (None, "loss"):
        return lambda run: -run.history["val_loss"][-1]
    X_val, y_val = held[0], estimator._decode(held[1])
    weight = {"sample_weight": held[2]} if len(held) == 3 else {}
    scorer = check_scoring(estimator, estimator.scoring)

    def score(run: Run) -> float:
        # A copy that takes X_val, which has no names any more, without a warning.
        nameless = copy.copy(estimator)
        nameless.__dict__.pop("feature_names_in_", None)
        return float(scorer(nameless, X_val, y_val, **weight))

    return score


def _given_callbacks(estimator: BaseMLP) -> list[Any]:
    callbacks = () if estimator.callbacks is None else estimator.callbacks
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _optimizer(estimator: BaseMLP) -> optimizers.Optimizer:
    if estimator.optimizer is not None:
        if estimator.weight_decay:
            raise ValueError("weight_decay is for the solver's optimizer; give it to `optimizer`")
        optimizer = optimizers.get(estimator.optimizer)
        assert not isinstance(optimizer, optimizers.LBFGS), "not among the constraints"
        return optimizer
    if estimator.solver == "sgd":
        return optimizers.SGD(
            float(estimator.momentum),
            bool(estimator.nesterovs_momentum and estimator.momentum),
            float(estimator.weight_decay),
        )
    betas, eps = (float(estimator.beta_1), float(estimator.beta_2)), float(estimator.epsilon)
    return optimizers.AdamW(betas, eps, float(estimator.weight_decay), epsilon_hat=True)


def _batch_size(estimator: BaseMLP, n: int) -> int:
    if estimator.batch_size == "auto":
        return min(200, n)
    if estimator.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=5,
        )
    return min(int(estimator.batch_size), n)
