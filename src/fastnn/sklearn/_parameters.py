"""What the parameters that both estimators have may be, and the names behind them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, Options, StrOptions

from .. import custom, optimizers
from ..backends import BACKENDS
from ..callbacks import Callback
from ..network import ACTIVATIONS
from ..schedules import ReduceOnPlateau, Schedule

# What scikit-learn calls it, and fastnn.
ACTIVATION_NAMES = {**{name: name for name in ACTIVATIONS}, "logistic": "sigmoid"}
OUTPUT_NAMES = {"softmax": "softmax", "logistic": "sigmoid", "identity": "identity", "exp": "exp"}


class Names(StrOptions):
    """The built-in names of a kind, and those of users' own that are registered."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        super().__init__(set(names))
        self._kind = kind

    def is_satisfied_by(self, value: Any) -> bool:
        if super().is_satisfied_by(value):
            return True
        return isinstance(value, str) and custom.find(self._kind, value) is not None


CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [Names("activation", ACTIVATION_NAMES), custom.Activation, list, tuple],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [
        StrOptions({"constant", "invscaling", "adaptive"}),
        Schedule,
        ReduceOnPlateau,
        callable,
    ],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "optimizer": [
        StrOptions(set(optimizers.OPTIMIZERS)),
        *optimizers.OPTIMIZERS.values(),
        None,
    ],
    "scoring": [StrOptions({*get_scorer_names(), "loss"}), callable, None],
    "callbacks": [list, tuple, callable, Callback, None],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "backend": [StrOptions({"auto", *BACKENDS})],
    "dtype": [StrOptions({"float32", "float64"}), None],
}
