"""Fitted models of scikit-learn as fastnn's, and back."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any

import sklearn.neural_network
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from ..mlp import MLP
from ..network import Network
from ._base import BaseMLP
from ._classifier import MLPClassifier
from ._columns import MULTIOUTPUT
from ._parameters import OUTPUT_NAMES
from ._regressor import MLPRegressor

PAIRS: dict[type[Any], type[BaseMLP]] = {
    sklearn.neural_network.MLPClassifier: MLPClassifier,
    sklearn.neural_network.MLPRegressor: MLPRegressor,
}
# Learned attributes that have the same meaning in both.
COMMON = (
    "n_features_in_",
    "feature_names_in_",
    "classes_",
    "out_activation_",
    "n_outputs_",
    "n_layers_",
    "n_iter_",
    "t_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "_no_improvement_count",
)


def from_sklearn(model: Any) -> MLPClassifier | MLPRegressor:
    """A fastnn estimator with the parameters and the weights of a fitted one of scikit-learn.

    model  a fitted `sklearn.neural_network.MLPClassifier` or `MLPRegressor`

    The dtype is that of its weights. The state of its optimizer does not come along: a partial_fit
    begins with a new one. Raises TypeError for any other object, NotFittedError before its fit.
    """
    check_is_fitted(model)
    for theirs, ours in PAIRS.items():
        if isinstance(model, theirs):
            estimator = ours(**model.get_params(deep=False))
            break
    else:
        raise TypeError(f"expected an MLP of sklearn.neural_network, got {type(model).__name__}")
    _copy_attributes(model, estimator)
    estimator._optimizer_state = None
    estimator.validation_loss_curve_ = None
    if isinstance(estimator, MLPClassifier):
        estimator._y_type = model._label_binarizer.y_type_
    sizes = [len(model.coefs_[0]), *(len(b) for b in model.intercepts_)]
    network = Network(
        sizes,
        estimator._activations(len(sizes) - 2),
        OUTPUT_NAMES[model.out_activation_],
        model.coefs_[0].dtype,
    )
    net = MLP(network.layer_sizes, network.activations, network.output, network.dtype.name)
    estimator.network_ = net
    estimator.coefs_, estimator.intercepts_ = model.coefs_, model.intercepts_
    return estimator


def to_sklearn(estimator: MLPClassifier | MLPRegressor) -> Any:
    """The estimator as one of scikit-learn, which predicts the same.

    Parameters that scikit-learn's has not are left behind, whatever they were; they no longer
    matter for prediction. Raises ValueError where its prediction could not be the same: other
    activations or several of them, other outputs.
    """
    check_is_fitted(estimator)
    theirs = next(theirs for theirs, ours in PAIRS.items() if isinstance(estimator, ours))
    if estimator.network_.network.n_out != estimator.n_outputs_:
        raise ValueError("scikit-learn's MLPRegressor has no quantiles")
    if getattr(estimator, "_y_type", "") == MULTIOUTPUT:
        raise ValueError("scikit-learn's MLPClassifier has no several targets of several classes")
    names = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
    activations = set(estimator.network_.network.activations)
    if len(activations) > 1 or not activations <= names.keys():
        raise ValueError(
            "scikit-learn has one activation for all hidden layers, "
            f"one of {', '.join(names.values())}; this network has {', '.join(activations)}"
        )
    known = inspect.signature(theirs).parameters
    given = estimator.get_params(deep=False).items()
    parameters = {name: value for name, value in given if name in known}
    for activation in activations:
        parameters["activation"] = names[activation]
    if parameters.get("loss") not in ("squared_error", "poisson"):
        parameters.pop("loss", None)
    model = theirs(**parameters)
    _copy_attributes(estimator, model)
    weights, biases = estimator._parameters_copy()
    model.coefs_, model.intercepts_ = [W.T.copy() for W in weights], biases
    model._best_coefs, model._best_intercepts = model.coefs_, model.intercepts_
    if isinstance(estimator, MLPClassifier):
        model._label_binarizer = _label_binarizer(estimator)
    return model


def _copy_attributes(source: Any, target: Any) -> None:
    for name in COMMON:
        if hasattr(source, name):
            setattr(target, name, copy(getattr(source, name)))


def _label_binarizer(estimator: MLPClassifier) -> LabelBinarizer:
    """As scikit-learn's fit leaves it."""
    binarizer = LabelBinarizer()
    binarizer.classes_ = estimator.classes_
    binarizer.y_type_ = estimator._y_type
    binarizer.sparse_input_ = False
    return binarizer
