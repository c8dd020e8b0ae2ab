"""MLPClassifier."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted

from .. import losses
from ..losses import Loss
from . import _columns as columns
from ._base import BaseMLP
from ._columns import MULTIOUTPUT
from ._docs import ATTRIBUTES, FASTNN_PARAMETERS, SCIKIT_PARAMETERS
from ._parameters import CONSTRAINTS

Array = NDArray[Any]


class MLPClassifier(ClassifierMixin, BaseMLP):
    __doc__ = f"""Multilayer perceptron for classes, in place of scikit-learn's.

    Minimizes the cross-entropy. Two classes and multilabel targets have logistic outputs, more
    classes a softmax; several targets with classes of their own have a softmax each, behind the
    same hidden layers, and the sum of their cross-entropies is minimized. Parameters down to
    max_fun, and all that is learned, mean what they mean in
    `sklearn.neural_network.MLPClassifier`; the others are fastnn's own.

    Parameters
    ----------{SCIKIT_PARAMETERS}
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, which multiply those of the samples; "balanced": in inverse
        proportion to their frequencies; a list has a dict for each column of y. Scores and losses
        of validation are without them.

    label_smoothing : float, default=0.0
        s, at least 0 and below 1: labels 0 and 1 count as s/K and 1 - s + s/K for K classes.
{FASTNN_PARAMETERS.format(score="the accuracy")}
    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or list of such
        The labels, sorted; an array for each column of a multiclass-multioutput y.
{ATTRIBUTES}
    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastnn.sklearn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0).fit(X / 16, y)
    >>> bool(model.score(X / 16, y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }
    loss = "log_loss"
    classes_: Any  # an array, or a list of such

    def __init__(
        self,
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
        class_weight: Any = None,
        weight_decay: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        label_smoothing: float = 0.0,
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

        y : array-like of shape (n_samples,) or (n_samples, n_columns)
            Classes, of any type that sorts. Several columns are several labels where they hold 0
            and 1 alone, else targets with several classes each.

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
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None, *, n_epochs: int = 1
    ) -> Self:
        """Train for n_epochs more on X, the optimizer's state going on from call to call.

        Parameters
        ----------
        X, y, sample_weight
            As in fit.

        classes : array-like of shape (n_classes,) or list of such, default=None
            All the classes, those of each column where y has several with several classes each;
            needed in the first call.

        n_epochs : int, default=1
            Passes over X.

        Returns
        -------
        self
        """
        if classes is not None and any(np.ndim(of_column) for of_column in classes):
            self._take_classes(columns.sorted_classes(classes))
        elif _check_partial_fit_first_call(self, classes):
            self._set_classes(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, incremental=True, n_epochs=n_epochs)

    def _take_classes(self, classes: list[Array]) -> None:
        """Those of several columns, given to partial_fit, in the first call or again."""
        if hasattr(self, "classes_") and not (
            self._is_multioutput and columns.are_equal(classes, self.classes_)
        ):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                f"was: {self.classes_!r}"
            )
        self.classes_, self._y_type = classes, MULTIOUTPUT

    @property
    def _is_multioutput(self) -> bool:
        return self._y_type == MULTIOUTPUT

    def _set_classes(self, y: Any) -> None:
        """classes_ and the kind of target, from the labels there are."""
        check_classification_targets(y)
        self._y_type = type_of_target(y, input_name="y")
        self.classes_ = columns.classes_of(y) if self._is_multioutput else _labels(y)

    def _read_targets(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        X, y = self._read_X(X, y=y, multi_output=True, reset=first)
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._set_classes(y)
        else:
            self._check_classes(y, incremental)
        return X, self._encode(y)

    def _check_classes(self, y: Array, incremental: bool) -> None:
        classes = columns.classes_of(y) if self._is_multioutput else [_labels(y)]
        expected: Any = self.classes_ if self._is_multioutput else [self.classes_]
        if len(classes) != len(expected):
            raise ValueError(f"y has {len(classes)} columns, but {len(expected)} are known")
        for found, known in zip(classes, expected, strict=True):
            if self.warm_start and not incremental and set(found) != set(known):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {known}, `y` has {found}"
                )
            if len(np.setdiff1d(found, known, assume_unique=True)):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. "
                    f"`self.classes_` has {known}. 'y' has {found}."
                )

    def _encode(self, y: Array) -> Array:
        """Class indices (n,) for several classes, 0/1 (n, n_outputs) for two and for columns."""
        if self._is_multioutput:
            return columns.one_hot(y, self.classes_)
        if self._y_type == "multilabel-indicator":
            return y.astype(np.float64)
        indices = np.searchsorted(self.classes_, y)
        return indices if len(self.classes_) > 2 else indices[:, np.newaxis]

    def _decode(self, y: Array) -> Array:
        if self._is_multioutput:
            return columns.labels(y, self.classes_)
        if self._y_type == "multilabel-indicator":
            return y.astype(int)
        return np.asarray(self.classes_[y.ravel()])

    def _output(self) -> tuple[str, int]:
        if self._is_multioutput:
            return "softmax", sum(map(len, self.classes_))
        n_classes = len(self.classes_)
        if self._y_type == "multilabel-indicator":
            return "logistic", n_classes
        return ("softmax", n_classes) if n_classes > 2 else ("logistic", 1)

    def _network_output(self) -> str:
        return "identity" if self._is_multioutput else super()._network_output()

    def _fastnn_loss(self) -> Loss:
        loss = super()._fastnn_loss()
        if self._is_multioutput:
            loss = losses.GroupedCrossEntropy(sizes=tuple(map(len, self.classes_)))
        return losses.with_smoothing(loss, self.label_smoothing)

    def _score_name(self) -> str:
        return "accuracy"

    def _strata(self, y: Array) -> Array | None:
        # Several classes are one column in scikit-learn's eyes too late: it does not stratify them.
        return y if self.n_outputs_ == 1 else None

    def _training_weight(
        self, y: Array, sample_weight: Array | None, incremental: bool
    ) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' needs all of y at once; for partial_fit give the weights, "
                "such as those of sklearn.utils.class_weight.compute_class_weight"
            )
        weight = compute_sample_weight(self.class_weight, self._decode(y))
        return np.asarray(weight if sample_weight is None else weight * sample_weight)

    def predict(self, X: Any) -> Array:
        """The classes of X, (n_samples,), or of each column, (n_samples, n_columns).

        For labels the columns hold 0 and 1.
        """
        f = self._forward(X)
        if self._is_multioutput:
            return columns.labels(f, self.classes_)
        if self._y_type == "multilabel-indicator":
            return (f > 0.5).astype(int)
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(f))
        chosen = f.argmax(axis=1) if f.shape[1] > 1 else (f[:, 0] > 0.5).astype(int)
        return np.asarray(self.classes_[chosen])

    def predict_proba(self, X: Any) -> Array | list[Array]:
        """Probabilities (n_samples, n_classes), in the order of classes_, or of every label.

        For several columns with several classes each, a list of such arrays.
        """
        f = self._forward(X)
        if self._is_multioutput:
            return columns.probabilities(f, self.classes_)
        return np.hstack([1 - f, f]) if f.shape[1] == 1 else f

    def predict_log_proba(self, X: Any) -> Array | list[Array]:
        """The logarithm of predict_proba; -inf where that rounds to 0."""
        check_is_fitted(self)
        if self._is_multioutput:
            return columns.probabilities(self._forward(X), self.classes_, log=True)
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy: the share of samples with the right class, in all columns of y."""
        check_is_fitted(self)
        if not self._is_multioutput:
            return float(super().score(X, y, sample_weight))
        right = (self.predict(X) == np.asarray(y)).all(axis=1)
        return float(np.average(right, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags


def _labels(y: Any) -> Array:
    """The sorted labels in y, (n,), or their numbers where y, (n, n_labels), has many labels."""
    if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "biuf":
        return np.unique(y)
    return np.asarray(unique_labels(y))
