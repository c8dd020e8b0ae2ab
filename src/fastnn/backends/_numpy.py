"""The reference backend: the mathematics of a multilayer perceptron, formula by formula.

Batch in rows, n samples. Layer k = 1 ... L+1 has D_k neurons; W_k has shape (D_k, D_{k-1}), b_k has
shape (D_k,), h_0 = X. A list that is indexed by k holds layer k at index k, and None at 0 where
the input has no such thing.

    forward     a_k = h_{k-1} W_k^T + b_k        h_k = g_k(a_k)        f(x) = h_{L+1}
    objective   J = (1/n) sum_t w_t l(f(x_t), y_t) + l2/2 ||W||^2 + l1 ||W||_1
                with dropout, h_k * s_k in place of h_k, s_k being 0 or 1 / (1 - p_k)
    backward    dW_k = delta_k^T h_{k-1} + l2 W_k + l1 sign(W_k)
                db_k = sum over rows of delta_k
                delta_{k-1} = (delta_k W_k) * g'_{k-1}(a_{k-1}) * s_{k-1}    where delta_k = dJ/da_k
    descent     W <- (1 - learning_rate * weight_decay) W - learning_rate * step
                b <- b - learning_rate * step

Obvious rather than fast; this is what every other backend is tested against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_X, not_finite
from ..losses import Loss
from ..losses import get as get_loss
from ..network import Network
from ..options import TrainingOptions
from ..sparse import CSR
from . import MANY
from ._numpy_activations import activation
from ._numpy_losses import LOSSES, OUTPUTS, custom
from ._numpy_optimizers import STEPS
from ._numpy_random import dropout_factors, shuffled

Array = NDArray[Any]


# ---- clipping of the flat gradient g ----


def clip_values(g: Array, limit: float) -> Array:
    return np.clip(g, -limit, limit)


def clip_norm(g: Array, limit: float) -> Array:
    """As torch.nn.utils.clip_grad_norm_ does it, over all weights and biases."""
    norm = math.sqrt(np.square(g, dtype=np.float64).sum())
    return np.asarray(g * g.dtype.type(np.minimum(limit / (norm + 1e-6), 1)))


# ---- the network ----


class Engine:
    """The reference engine; `fastnn.backends.Engine` says what each method takes and returns.

    n_threads is 1: NumPy's BLAS has threads of its own, which are not fastnn's to choose.
    """

    def __init__(self, network: Network, n_threads: int | None = None) -> None:
        self.network = network
        self.n_threads = 1
        self.isa = ""
        both = [activation(name) for name in network.activations]
        self._g, self._g_prime = [g for g, _ in both], [g_prime for _, g_prime in both]
        self._flat = np.zeros(network.n_parameters, dtype=network.dtype)

    def set_parameters(self, flat: Array) -> None:
        self._flat = np.array(flat, dtype=self.network.dtype)

    def get_parameters(self, out: Array) -> bool:
        out[...] = self._flat
        return bool(np.isfinite(out).all())

    def penalty(self, l2: float, l1: float) -> float:
        return self.network.penalty(self._flat, l2, l1)

    def forward(
        self, X: ArrayLike, rows: Array | None = None, n_layers: int | None = None
    ) -> Array:
        checked = check_X(X, self.network)
        with np.errstate(over="ignore", invalid="ignore"):
            _, h = self._forward(self._read(checked, rows))
        return np.asarray(h[-1 if n_layers is None else n_layers])

    def forward_and_loss(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        loss: str | Loss,
        rows: Array | None = None,
    ) -> tuple[Array, float]:
        with np.errstate(over="ignore", invalid="ignore"):
            a, h = self._forward(self._read(X, rows))
            y, w = self._targets(y, rows), _weights(sample_weight, rows)
            losses, _ = self._loss(loss, a[-1], h[-1], y)
            total = _weighted_sum(losses, w)
        return h[-1], total / len(h[-1])

    def loss_and_gradients(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        loss: str | Loss,
        l2: float,
        l1: float,
        rows: Array | None = None,
    ) -> tuple[float, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            n = len(X if rows is None else rows)
            total, gradient = self._gradient(X, y, sample_weight, loss, l2, l1, rows, n)
        return total / n + self.network.penalty(self._flat, l2, l1), gradient

    def shuffled(self, rows: Array, seed: int, epoch: int) -> Array:
        return shuffled(rows, seed, epoch)

    def start(self, options: TrainingOptions) -> None:
        self._options = options
        self._t = 0
        self._state = [np.zeros_like(self._flat) for _ in range(options.rule.n_states)]
        self._factors = options.learning_rate_factors or (1.0,) * self.network.n_layers
        self.at_step = 0, 0.0

    def get_state(self) -> tuple[int, list[Array]]:
        return self._t, list(self._state)

    def set_state(self, t: int, arrays: Sequence[Array]) -> None:
        self._t, self._state = t, list(arrays)

    def train(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        position: int,
        batch_size: int,
        learning_rates: Array,
        seconds: float,
        max_steps: int = MANY,
        epoch: int = 0,
        sum_of_losses: float = 0.0,
    ) -> tuple[int, float]:
        deadline = time.perf_counter() + seconds
        options, done = self._options, 0
        with np.errstate(over="ignore", invalid="ignore"):
            while position < len(order) and done < max_steps:
                rows = order[position : position + batch_size]
                s = self._dropout(epoch, np.arange(position, position + len(rows)))
                n, l2, l1 = float(len(rows)), options.l2, options.l1
                if options.batch_weighting:
                    if sample_weight is not None:  # no weight at all: no step
                        n = float(sample_weight[rows].sum(dtype=np.float64)) or math.inf
                    l2, l1 = l2 / n, l1 / n
                total, g = self._gradient(
                    X, y, sample_weight, options.loss, l2, l1, rows, n, s, self._factors
                )
                if options.clip_value is not None:
                    g = clip_values(g, options.clip_value)
                if options.clip_norm is not None:
                    g = clip_norm(g, options.clip_norm)
                # One assignment of a new array: an interrupt finds the old or the new parameters.
                self._flat = self._after_step(g, float(learning_rates[done]))
                position += len(rows)
                done += 1
                sum_of_losses += total * (len(rows) / n)
                self.at_step = position, sum_of_losses
                if time.perf_counter() >= deadline:
                    break
        return position, sum_of_losses

    def _dropout(self, epoch: int, positions: Array) -> list[Array]:
        """[s_0, ..., s_L] for the samples at these places of the epoch's order; [] for none."""
        options, sizes = self._options, self.network.layer_sizes
        return [
            dropout_factors(options.seed, epoch, k, rate, positions, sizes[k])
            for k, rate in enumerate(options.dropout)
        ]

    def _after_step(self, g: Array, learning_rate: float) -> Array:
        """The parameters after a step from the gradient g."""
        rule, flat = self._options.rule, self._flat.copy()
        self._t += 1
        step = STEPS[rule.name](rule, self._state, self._t, g)
        for W, b, W_step, b_step, factor in zip(
            *self.network.views(flat), *self.network.views(step), self._factors, strict=True
        ):
            rate = learning_rate * factor
            W -= rate * rule.weight_decay * W
            W -= rate * W_step
            b -= rate * b_step
        return flat

    def _forward(self, X: Array, s: Sequence[Array] = ()) -> tuple[list[Any], list[Any]]:
        """a = [None, a_1, ..., a_{L+1}] and h = [X, h_1, ..., h_{L+1}]; a_k, h_k: (n, D_k)."""
        W, b = _from_1(self.network.views(self._flat))
        g: list[Any] = [None, *self._g, OUTPUTS[self.network.output]]
        a: list[Any] = [None]
        h: list[Any] = [X]
        for k in range(1, len(W)):
            if s:
                h[k - 1] = h[k - 1] * s[k - 1].astype(X.dtype)
            a.append(h[k - 1] @ W[k].T + b[k])
            h.append(g[k](a[k]))
        return a, h

    def _backward(
        self, a: list[Any], h: list[Any], s: Sequence[Array], delta: Array, lowest: int
    ) -> tuple[list[Any], list[Any]]:
        """dW_1, ... (D_k, D_{k-1}) and db_1, ... (D_k,) from delta_{L+1} (n, D_{L+1}).

        None for the layers below the lowest.
        """
        W, _ = _from_1(self.network.views(self._flat))
        g_prime: list[Any] = [None, *self._g_prime]
        dW: list[Any] = [None] * len(W)
        db: list[Any] = [None] * len(W)
        for k in reversed(range(lowest, len(W))):
            dW[k] = delta.T @ h[k - 1]
            db[k] = delta.sum(axis=0)
            if k > lowest:
                delta = (delta @ W[k]) * g_prime[k - 1](a[k - 1])
                if s:
                    delta = delta * s[k - 1].astype(delta.dtype)
        return dW, db

    def _gradient(
        self,
        X: Array | CSR,
        y: Array,
        sample_weight: Array | None,
        loss: str | Loss,
        l2: float,
        l1: float,
        rows: Array | None,
        n: float,
        s: Sequence[Array] = (),
        factors: Sequence[float] = (),
    ) -> tuple[float, Array]:
        """sum_t w_t l_t, and the flat gradient of J with 1/n, over the chosen rows.

        The gradient is left at 0 in layers whose factor is 0.
        """
        a, h = self._forward(self._read(X, rows), s)
        f, y, w = h[-1], self._targets(y, rows), _weights(sample_weight, rows)
        losses, dl_da = self._loss(loss, a[-1], f, y)
        delta = dl_da / n
        if w is not None:
            delta = w[:, np.newaxis] * delta
        gradient = np.zeros_like(self._flat)
        W, _ = _from_1(self.network.views(self._flat))
        dW, db = _from_1(self.network.views(gradient))
        trained = [k for k in range(1, len(W)) if not factors or factors[k - 1] > 0]
        dW_data, db_data = self._backward(a, h, s, delta, min(trained))
        for k in trained:
            dW[k][...] = dW_data[k] + l2 * W[k] + l1 * np.sign(W[k])
            db[k][...] = db_data[k]
        return _weighted_sum(losses, w), gradient

    def _loss(self, loss: str | Loss, a: Array, f: Array, y: Array) -> tuple[Array, Array]:
        """l (n,) and dl/da (n, D_out) of the output layer."""
        loss = get_loss(loss)
        return LOSSES.get(loss.name, custom)(loss, self.network.output, a, f, y)

    def _read(self, X: Array | CSR, rows: Array | None) -> Array:
        """The chosen rows of X in the network's dtype; uint8 counts 255ths."""
        if isinstance(X, CSR):
            X = X.dense(rows)
        elif rows is not None:
            X = X[rows]
        h_0 = X.astype(self.network.dtype, copy=False)
        if X.dtype == np.uint8:
            h_0 = h_0 / 255
        if not np.isfinite(h_0).all():
            raise not_finite("X", self.network.dtype)
        return h_0

    def _targets(self, y: Array, rows: Array | None) -> Array:
        """The chosen rows of y, (n, D_out); class indices become one-hot rows."""
        if rows is not None:
            y = y[rows]
        if y.ndim == 1:
            y = (y[:, np.newaxis] == np.arange(self.network.n_out)).astype(self.network.dtype)
        return y


def _from_1(lists: tuple[list[Array], list[Array]]) -> tuple[list[Any], list[Any]]:
    """The same lists with layer k at index k."""
    return [None, *lists[0]], [None, *lists[1]]


def _weights(sample_weight: Array | None, rows: Array | None) -> Array | None:
    return sample_weight if sample_weight is None or rows is None else sample_weight[rows]


def _weighted_sum(losses: Array, w: Array | None) -> float:
    return float((losses if w is None else w * losses).sum(dtype=np.float64))
