"""What the classifier and the regressor share: parameters, the network, training, features."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import losses
from ..backends.cores import cpu_count
from ..custom import Activation
from ..losses import Loss
from ..mlp import MLP
from ..network import LOSS_OF_OUTPUT, Network, activation_name
from ._epochs import fit_epochs
from ._lbfgs import fit_lbfgs
from ._parameters import ACTIVATION_NAMES, CONSTRAINTS, OUTPUT_NAMES
from ._tasks import CallbackSupportMixin, ScikitTasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class BaseMLP(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC
):
    """Base class of the estimators; use those."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    # Learned; Any where a value is None at times.
    network_: MLP
    loss_: float
    loss_curve_: list[float]
    best_loss_: Any
    validation_scores_: Any
    best_validation_score_: Any
    validation_loss_curve_: Any
    n_iter_: int
    t_: int
    _optimizer_state: Any

    def _set_parameters(self, arguments: dict[str, Any]) -> None:
        """The constructor's arguments as attributes, untouched, as scikit-learn asks for."""
        del arguments["self"]
        self.__dict__.update(arguments)

    # ---- what the two estimators say of themselves ----

    @abstractmethod
    def _read_targets(self, X: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Array]:
        """X and y validated as scikit-learn does; y as the network takes it."""

    @abstractmethod
    def _output(self) -> tuple[str, int]:
        """scikit-learn's name of the output's activation, and the number of outputs."""

    @abstractmethod
    def _decode(self, y: Array) -> Array:
        """What `_read_targets` made of y, as users have it."""

    @abstractmethod
    def _score_name(self) -> str:
        """What the network's history calls the score that early stopping judges by."""

    def _fastnn_loss(self) -> Loss:
        """The loss to train with."""
        return losses.get(LOSS_OF_OUTPUT[self.network_.network.output])

    def _network_output(self) -> str:
        """fastnn's name of the output."""
        return OUTPUT_NAMES[self.out_activation_]

    def _n_network_outputs(self) -> int:
        return self.n_outputs_

    def _constant_of_loss(self, y: Array, sample_weight: Array | None) -> float:
        """What scikit-learn's loss has more than fastnn's, a function of y alone."""
        return 0.0

    def _outputs_in_loss(self) -> int:
        """By what the sum over the outputs is divided where scikit-learn has their mean."""
        return 1

    # ---- the network ----

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    @property
    def coefs_(self) -> list[Array]:
        """Weights, one array (n_in, n_out) for each layer: read-only views.

        Assign a list to set them all; it is copied in.
        """
        return [W.T for W in self.network_.weights]

    @coefs_.setter
    def coefs_(self, coefs: Sequence[Array]) -> None:
        self.network_.weights = [np.asarray(W).T for W in coefs]

    @property
    def intercepts_(self) -> list[Array]:
        """Biases, one array (n_out,) for each layer; like `coefs_`."""
        return list(self.network_.biases)

    @intercepts_.setter
    def intercepts_(self, intercepts: Sequence[Array]) -> None:
        self.network_.biases = list(intercepts)

    def _new_network(self, X: Any, random_state: np.random.RandomState) -> MLP:
        """Weights and biases drawn from `random_state` as scikit-learn draws them."""
        sizes = [X.shape[1], *self._hidden_sizes(), self._n_network_outputs()]
        activations = self._activations(len(sizes) - 2)
        network = Network(sizes, activations, self._network_output(), self.dtype or X.dtype)
        flat = np.empty(network.n_parameters, network.dtype)
        # The output layer is drawn like the last hidden one.
        names = [*activations, activations[-1] if activations else self._one_activation()]
        layers = zip(pairwise(sizes), names, *network.views(flat), strict=True)
        for (n_in, n_out), name, W, b in layers:
            # Glorot and Bengio (2010), a third of it for the logistic function.
            bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (n_in + n_out))
            W[...] = random_state.uniform(-bound, bound, (n_in, n_out)).T
            b[...] = random_state.uniform(-bound, bound, n_out)
        # A seed of its own for dropout, and the stream goes on as if it had not been drawn.
        seed = int(copy.deepcopy(random_state).randint(2**31)) if self._drops_out() else 0
        return MLP._restore(network, flat, seed, 0, self.backend, self._thread_limit())

    def _drops_out(self) -> bool:
        return bool(np.any(self.dropout))

    def _thread_limit(self) -> int | None:
        """n_threads; None, the engine's choice, unless OMP_NUM_THREADS or joblib's workers set one.

        Processes that work side by side are given their share of the cores in that way.
        """
        if self.n_threads is not None:
            return int(self.n_threads)
        limit = int(_openmp_effective_n_threads())
        return limit if limit < cpu_count() else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.__sklearn_is_fitted__():  # maybe in another process than fit's
            self.network_._n_threads = self._thread_limit()

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if isinstance(sizes, Integral) else list(sizes)
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _one_activation(self) -> str:
        one = isinstance(self.activation, str)
        return ACTIVATION_NAMES.get(self.activation, "relu") if one else "relu"

    def _activations(self, n_hidden: int) -> list[str]:
        """fastnn's names, one for each hidden layer."""
        given = self.activation
        if isinstance(given, str | Activation):
            given = [given] * n_hidden
        return [
            ACTIVATION_NAMES[one] if one in tuple(ACTIVATION_NAMES) else activation_name(one)
            for one in given
        ]

    def _parameters_copy(self) -> tuple[list[Array], list[Array]]:
        """Weights and biases as the network has them now."""
        net = self.network_
        return [W.copy() for W in net.weights], [b.copy() for b in net.biases]

    # ---- training ----

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any = None,
        y_val: Any = None,
        *,
        incremental: bool = False,
        n_epochs: int = 1,
    ) -> Self:
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not self.__sklearn_is_fitted__() or not (self.warm_start or incremental)
        given = X, y, sample_weight
        X, target = self._read_targets(X, y, first, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        held = self._read_held(X_val, y_val)
        random_state = check_random_state(self.random_state)
        if first:
            self._begin(X, random_state)
        elif self.network_.layer_sizes[1:-1] != tuple(self._hidden_sizes()):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}, but the network to go on with "
                f"has {self.network_.layer_sizes[1:-1]}; fit with warm_start=False"
            )
        tasks = None if incremental else self._tasks(*given)
        if self.solver == "lbfgs":
            self._check_for_lbfgs()
            fit_lbfgs(self, X, target, sample_weight, tasks)
        else:
            fit_epochs(
                self,
                X,
                target,
                sample_weight,
                held,
                random_state,
                [] if tasks is None else [tasks],
                n_epochs if incremental else None,
            )
        if tasks is not None:
            tasks.end_fit()
        return self

    def _check_for_lbfgs(self) -> None:
        for name in ("weight_decay", "dropout", "clip_norm", "optimizer"):
            if np.any(getattr(self, name)):
                raise ValueError(f"{name} needs steps on batches; solver='lbfgs' takes none")

    def _tasks(self, X: Any, y: Any, sample_weight: Any) -> ScikitTasks | None:
        """Where `set_callbacks` has set some, or a meta-estimator has."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        # L-BFGS tells of an iteration when it is over: the last task that has begun stays empty.
        max_subtasks = self.max_iter + (1 if self.solver == "lbfgs" else 0)
        return ScikitTasks(self, max_subtasks, X, y, sample_weight)

    def _begin(self, X: Any, random_state: np.random.RandomState) -> None:
        """A new network and an empty record."""
        self.out_activation_, self.n_outputs_ = self._output()
        self.network_ = self._new_network(X, random_state)
        self.n_layers_ = len(self.network_.layer_sizes)
        self.t_ = self.n_iter_ = 0
        self._optimizer_state = None
        if self.solver != "lbfgs":
            self._begin_record()

    def _begin_record(self) -> None:
        self.loss_curve_ = []
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.validation_loss_curve_ = None

    def _read_held(self, X_val: Any, y_val: Any) -> tuple[Any, ...] | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("give both X_val and y_val, or neither")
        return self._read_targets(X_val, y_val, first=False, incremental=True)

    def _strata(self, y: Array) -> Array | None:
        return None

    def _training_weight(
        self, y: Array, sample_weight: Array | None, incremental: bool
    ) -> Array | None:
        return sample_weight

    def _l2(self, weight: Array | None) -> float:
        """alpha for weights of mean one, which is what fit makes of them.

        A batch of scikit-learn's divides alpha by the sum of its weights as they were given.
        """
        return float(self.alpha) if weight is None else float(self.alpha / weight.mean())

    def _loss_in_scikit_terms(self, y: Array, sample_weight: Array | None) -> Any:
        constant, n_outputs = self._constant_of_loss(y, sample_weight), self._outputs_in_loss()
        return lambda loss: loss / n_outputs + constant

    @property
    def _decides_rates(self) -> bool:
        """Whether learning_rate is a rule that changes the rate between epochs."""
        return bool(self.solver == "sgd" and self.optimizer is None)

    # ---- reading X, and what is computed from it ----

    def _read_X(self, X: Any, **how: Any) -> Any:
        """X, and y in `how`, validated; floats stay what they are, all else becomes floats."""
        dtypes = (np.float32, np.float64) if self.dtype == "float32" else (np.float64, np.float32)
        return validate_data(self, X, accept_sparse=["csr", "csc"], dtype=dtypes, **how)

    def _forward(self, X: Any) -> Array:
        check_is_fitted(self)
        return self.network_.forward(self._read_X(X, reset=False))

    def transform(self, X: Any, layer: int = -1) -> Array:
        """The output of a hidden layer, learned features of X.

        X      (n, n_features), dense or sparse
        layer  1 is the first hidden layer; -1 the last one, -2 the one before, and so on

        Returns (n, size of the layer) of the network's dtype. Raises ValueError where there is no
        such layer. Frames (`set_output`) are made for the last layer only.
        """
        check_is_fitted(self)
        return self.network_.hidden(self._read_X(X, reset=False), layer)

    @property
    def _n_features_out(self) -> int:
        return self.network_.layer_sizes[-2]

    def _solves_by_epochs(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = (
            ["float64", "float32"] if self.dtype is None else [self.dtype]
        )
        return tags
