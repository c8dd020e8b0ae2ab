"""Model: a network with its parameters, and what it predicts; all of `mlp.MLP` but the training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import backends, checks, samples
from .metrics import collect as collect_metrics
from .metrics import scores
from .turns import PARAMETERS, alone

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .batch_training import BatchTraining
    from .callbacks import History
    from .losses import Loss
    from .metrics import Metrics
    from .network import Network

    Array = NDArray[Any]


class Model:
    """A network with its parameters. It predicts, is read, assigned, copied and saved."""

    def _set_up(self, network: Network, seed: int, backend: str, n_threads: int | None) -> None:
        """Everything but the weights, which are zero."""
        if n_threads is not None:
            n_threads = checks.check_count(n_threads, "n_threads")
        backends.load(backend)  # raises now rather than at the first prediction
        self.network = network
        self.seed = seed
        self.epochs_trained = 0
        self.history: History = {}
        self._backend, self._n_threads = backend, n_threads
        self._flat = np.zeros(network.n_parameters, dtype=network.dtype)
        self._start()

    @classmethod
    def _restore(
        cls,
        network: Network,
        flat: Array,
        seed: int,
        epochs_trained: int,
        backend: str,
        n_threads: int | None,
    ) -> Self:
        """A model from what a file holds."""
        net = cls.__new__(cls)
        net._set_up(network, seed, backend, n_threads)
        net._take(flat, epochs_trained)
        return net

    def _start(self) -> None:
        """The parts that are neither copied nor pickled, and the views into the parameters."""
        # The engine that predicts; it never changes, new weights get a new one. Thus a thread may
        # go on predicting with the old one.
        self._predictor: backends.Engine | None = None
        self._batches: BatchTraining | None = None
        read_only = self._flat.view()
        read_only.flags.writeable = False
        W, b = self.network.views(read_only)
        self._weights, self._biases = tuple(W), tuple(b)

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_predictor", "_batches", "_weights", "_biases")
        with PARAMETERS:
            state = {name: value for name, value in vars(self).items() if name not in dropped}
            state["_flat"] = self._flat.copy()
        state["history"] = {name: list(values) for name, values in self.history.items()}
        state["_custom"] = self.network.custom_activations()  # registers them where it is loaded
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state.pop("_custom", None)
        vars(self).update(state)
        backends.load(self._backend)
        self._start()

    # ---- what it is ----

    @property
    def backend(self) -> str:
        """The backend in use, "cython", "numba" or "numpy"."""
        return backends.resolve(self._backend)

    @property
    def n_threads(self) -> int | None:
        """The number of threads asked for; None lets the engine decide."""
        return self._n_threads

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Inputs, hidden layers, outputs."""
        return self.network.layer_sizes

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return self.network.n_parameters

    @property
    def weights(self) -> tuple[Array, ...]:
        """(W_1, ...), W_k of shape (D_k, D_{k-1}): read-only views that follow the training.

        Assign a sequence of arrays to set them all; they are copied in. ValueError for a wrong
        number, a wrong shape, NaN or infinity; RuntimeError while fit is running.
        """
        return self._weights

    @weights.setter
    def weights(self, arrays: Sequence[ArrayLike]) -> None:
        self._assign(0, arrays, "weights")

    @property
    def biases(self) -> tuple[Array, ...]:
        """(b_1, ...), b_k of shape (D_k,); like `weights`."""
        return self._biases

    @biases.setter
    def biases(self, arrays: Sequence[ArrayLike]) -> None:
        self._assign(1, arrays, "biases")

    def _assign(self, which: int, arrays: Sequence[ArrayLike], name: str) -> None:
        shapes = [view.shape for view in (self._weights, self._biases)[which]]
        checked = checks.check_parameters(arrays, shapes, self.network.dtype, name)
        with alone(self, f"{name} cannot be assigned while fit is running on this model"):
            flat = self._flat.copy()
            for view, array in zip(self.network.views(flat)[which], checked, strict=True):
                view[...] = array
            self._take(flat)

    def _take(self, flat: Array, epochs: int = 0) -> None:
        """Make `flat` (n_parameters,) the model's parameters, after so many epochs more."""
        with PARAMETERS:
            self._flat[...] = flat
            self._predictor = None
            self.epochs_trained += epochs

    def _new_engine(self, predictor: bool = False) -> backends.Engine:
        """An engine with the present weights; `predictor`: the one that later calls go on using."""
        module = backends.load(self._backend)
        engine: backends.Engine = module.Engine(self.network, backends.threads(self._n_threads))
        with PARAMETERS:
            engine.set_parameters(self._flat)
            if predictor:
                self._predictor = engine
        return engine

    def _engine(self) -> backends.Engine:
        """The engine that holds the present weights; for everything but training."""
        return self._predictor or self._new_engine(predictor=True)

    # ---- prediction ----

    def forward(self, X: ArrayLike) -> Array:
        """f(X): the output layer after its activation, (n, n_out) of the network's dtype."""
        return (self._predictor or self._engine()).forward(X)

    def hidden(self, X: ArrayLike, layer: int = -1) -> Array:
        """h_k, the output of a hidden layer after its activation, (n, D_k): learned features.

        layer  1 is the first hidden layer; -1 the last one, -2 the one before, and so on
        Raises ValueError where there is no such layer.
        """
        n_hidden = self.network.n_layers - 1
        if not (1 <= layer <= n_hidden or -n_hidden <= layer <= -1):
            raise ValueError(
                f"layer must be in 1 ... {n_hidden} or -{n_hidden} ... -1, got {layer}"
            )
        return self._engine().forward(X, n_layers=layer % (n_hidden + 1))

    def predict(self, X: ArrayLike) -> Array:
        """Classes or values.

        softmax         int64 class indices (n,)
        sigmoid         int64 0 or 1, (n,) for one output, (n, n_out) for several
        identity, exp   values of the network's dtype, (n,) for one output, (n, n_out) for several
        """
        f = self.forward(X)
        if self.network.output == "softmax":
            return np.asarray(f.argmax(axis=1), dtype=np.int64)
        if self.network.output == "sigmoid":
            f = (f > 0.5).astype(np.int64)
        return f[:, 0] if self.network.n_out == 1 else f

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities, of the network's dtype.

        softmax   (n, n_out), of the classes
        sigmoid   (n, 2) for one output, of 0 and of 1; for several (n, n_out), of a 1 in each
        Raises ValueError for other outputs.
        """
        if self.network.output not in ("softmax", "sigmoid"):
            raise ValueError(
                "predict_proba needs the output softmax or sigmoid, "
                f"this network's is {self.network.output}"
            )
        f = self.forward(X)
        if self.network.output == "sigmoid" and self.network.n_out == 1:
            return np.concatenate([1 - f, f], axis=1)
        return f

    def evaluate(
        self,
        X: ArrayLike,
        y: ArrayLike,
        loss: str | Loss | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        metrics: Metrics = (),
    ) -> dict[str, float]:
        """{"loss", "accuracy"} for softmax and sigmoid, {"loss", "r2"} for identity and exp; with
        `metrics`, these in place of accuracy and r2.

        The loss is the mean without penalty. accuracy is the share of rows with every label right;
        r2 the mean of R^2 over the outputs; `fastnn.metrics` has the others. y, loss, sample_weight
        and metrics as in fit.
        """
        loss = checks.check_loss(loss, self.network.output)
        measures = collect_metrics(metrics, self.network, loss)
        data, _ = samples.split(X, y, sample_weight, None, self.network, loss, self.seed)
        f, value = self._engine().forward_and_loss(data.X, data.y, data.sample_weight, loss)
        return scores(measures, data.y, f, data.sample_weight, value)

    # ---- files and text ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file; an interrupted save leaves the old file as it was.

        Kept: architecture, weights, seed and `epochs_trained`. Raises OSError.
        """
        from . import files

        files.save(self, path)

    def summary(self) -> str:
        """A table of the layers with shapes, parameters and bytes."""
        names = (*self.network.activations, self.network.output)
        rows = [("layer", "shape of W", "activation", "parameters")]
        for k, ((n_out, n_in), name) in enumerate(zip(self.network.shapes, names, strict=True), 1):
            rows.append((str(k), f"({n_out}, {n_in})", name, f"{n_out * (n_in + 1):,}"))
        total = self.network.n_parameters
        rows.append(("total", "", self.network.dtype.name, f"{total:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        ]
        lines.append(f"{total * self.network.dtype.itemsize:,} bytes")
        return "\n".join(lines)

    def __repr__(self) -> str:
        network = self.network
        return (
            f"MLP({network.layer_sizes}, activation={network.activations}, "
            f"output={network.output!r}, dtype={network.dtype.name!r}, seed={self.seed}, "
            f"backend={self._backend!r}, n_threads={self._n_threads})"
        )
