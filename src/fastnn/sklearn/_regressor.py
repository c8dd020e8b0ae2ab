"""MLPRegressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from .. import losses
from ..custom import CustomLoss
from ..losses import Loss
from ._base import BaseMLP
from ._docs import ATTRIBUTES, FASTNN_PARAMETERS, SCIKIT_PARAMETERS
from ._parameters import CONSTRAINTS, OUTPUT_NAMES, Names

Array = NDArray[Any]

LOSSES: dict[str, Loss] = {
    name: loss for name, loss in losses.BY_NAME.items() if not isinstance(loss, losses.LabelLoss)
}


class MLPRegressor(RegressorMixin, BaseMLP):
    __doc__ = f"""Multilayer perceptron for values, in place of scikit-learn's.

    Parameters from hidden_layer_sizes to max_fun, and all that is learned, mean what they mean in
    `sklearn.neural_network.MLPRegressor`; the others are fastnn's own.

    Parameters
    ----------
    loss : str, object of fastnn.losses or of fastnn.loss, default="squared_error"
        "squared_error", "poisson" (the output is then exp), "absolute_error", "huber" (with delta
        1), "quantile" (see quantiles), or one of your own (the output is what it was registered
        with).
{SCIKIT_PARAMETERS}
    quantiles : sequence of float, default=(0.05, 0.5, 0.95)
        For loss="quantile": what predict_quantiles gives, above 0 and below 1. predict gives the
        one next to 0.5. Nothing keeps them from crossing.
{FASTNN_PARAMETERS.format(score='R^2, or the loss for loss="quantile"')}
    Attributes
    ----------{ATTRIBUTES}
    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from fastnn.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(learning_rate_init=0.01, random_state=0).fit(scale(X), scale(y))
    >>> bool(model.score(scale(X), scale(y)) > 0.5)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "loss": [Names("loss", LOSSES), *map(type, LOSSES.values()), CustomLoss],
        "quantiles": [list, tuple],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        weight_decay: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_norm: float | None = None,
        optimizer: Any = None,
        scoring: Any = None,
        callbacks: Any = None,
        n_threads: int | None = None,
        backend: str = "auto",
        dtype: str | None = None,
    ) -> None:
        self._set_parameters(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Train on all of X, from new weights unless warm_start is set.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Values; not negative for loss="poisson".

        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative; a step follows the weighted mean of its batch.

        X_val, y_val : like X and y, default=None
            Validation samples, for `validation_loss_curve_` and early_stopping.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For wrong input; `fastnn.DivergenceError`, a ValueError, when the loss or the weights
            become NaN or infinite.

        Warns
        -----
        ConvergenceWarning
            When max_iter epochs have not been enough.
        UserWarning
            When Ctrl-C has ended the training; the model is that of the last step.
        """
        return self._fit(X, y, sample_weight, X_val, y_val)

    @available_if(lambda self: self._solves_by_epochs())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, n_epochs: int = 1) -> Self:
        """Train for n_epochs more on X, the optimizer's state going on from call to call.

        Parameters
        ----------
        X, y, sample_weight
            As in fit.

        n_epochs : int, default=1
            Passes over X.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True, n_epochs=n_epochs)

    def _read_targets(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        X, y = self._read_X(X, y=y, multi_output=True, y_numeric=True, reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if y.ndim == 1:
            y = y[:, np.newaxis]
        if first:
            self.n_outputs_ = y.shape[1]
        return X, y

    def _decode(self, y: Array) -> Array:
        return y[:, 0] if y.shape[1] == 1 else y

    def _output(self) -> tuple[str, int]:
        loss = self._fastnn_loss()
        if isinstance(loss, CustomLoss):
            names = {ours: theirs for theirs, ours in OUTPUT_NAMES.items()}
            return names[loss.output], self.n_outputs_
        return ("exp" if isinstance(loss, losses.Poisson) else "identity"), self.n_outputs_

    def _score_name(self) -> str:
        return "r2" if self._quantiles() is None else "loss"

    def _fastnn_loss(self) -> Loss:
        if self.loss == "quantile":
            return losses.Quantile(self.quantiles)
        return losses.get(self.loss)

    def _quantiles(self) -> Sequence[float] | None:
        loss = self._fastnn_loss()
        return loss.quantiles if isinstance(loss, losses.Quantile) else None

    def _n_network_outputs(self) -> int:
        quantiles = self._quantiles()
        return self.n_outputs_ * (1 if quantiles is None else len(quantiles))

    def _constant_of_loss(self, y: Array, sample_weight: Array | None) -> float:
        if not isinstance(self._fastnn_loss(), losses.Poisson):
            return 0.0
        return float(np.average(xlogy(y, y) - y, axis=0, weights=sample_weight).sum())

    def _outputs_in_loss(self) -> int:
        return self.n_outputs_ if isinstance(self._fastnn_loss(), losses.SquaredError) else 1

    def predict(self, X: Any) -> Array:
        """Values, (n_samples,) or (n_samples, n_targets); for quantiles, those next to 0.5."""
        f = self._forward(X)
        quantiles = self._quantiles()
        if quantiles is not None:
            middle = int(np.argmin(np.abs(np.asarray(quantiles) - 0.5)))
            f = f[:, middle :: len(quantiles)]
        return f[:, 0] if f.shape[1] == 1 else f

    @available_if(lambda self: self.loss == "quantile" or isinstance(self.loss, losses.Quantile))
    def predict_quantiles(self, X: Any) -> Array:
        """All quantiles: (n_samples, n_quantiles), or (n_samples, n_targets, n_quantiles).

        For loss="quantile" only. The first and the last of (0.05, 0.5, 0.95) are the ends of an
        interval that holds nine of ten y, as far as the model is right.
        """
        f = self._forward(X)
        f = f.reshape(len(f), self.n_outputs_, -1)
        return f[:, 0] if self.n_outputs_ == 1 else f

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
