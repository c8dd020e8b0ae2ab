"""Estimators for scikit-learn: its MLPClassifier and MLPRegressor, trained by fastnn.

`from fastnn.sklearn import MLPClassifier` in place of `from sklearn.neural_network import
MLPClassifier` is the whole migration; docs/sklearn.md says what is the same and what is more.
Needs scikit-learn 1.6 or newer: pip install 'fastnn-cpu[sklearn]'.
"""

from __future__ import annotations

try:
    from sklearn.utils.validation import validate_data as _  # noqa: F401  new in 1.6
except ImportError as error:
    raise ImportError(
        "fastnn.sklearn needs scikit-learn 1.6 or newer: pip install 'fastnn-cpu[sklearn]'"
    ) from error

from ._classifier import MLPClassifier
from ._convert import from_sklearn, to_sklearn
from ._displays import TrainingCurveDisplay, WeightsDisplay
from ._regressor import MLPRegressor

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "TrainingCurveDisplay",
    "WeightsDisplay",
    "from_sklearn",
    "to_sklearn",
]
