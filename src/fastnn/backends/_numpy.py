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
    descent     W <- W - learning_rate * step

Obvious rather than fast; this is what every other backend is tested against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_X
from ..network import Network
from ..optimizers import SGD, Adam
from ..options import TrainingOptions
from . import MANY
from ._numpy_random import dropout_factors, shuffled

Array = NDArray[Any]

# ---- activations: g and g', both functions of the pre-activation a, any shape ----


def identity(a: Array) -> Array:
    return a


def identity_prime(a: Array) -> Array:
    return np.ones_like(a)


def relu(a: Array) -> Array:
    return np.maximum(a, 0)  # unlike a comparison, maximum passes NaN on


def relu_prime(a: Array) -> Array:
    return (a > 0).astype(a.dtype)


LEAKY_SLOPE = 0.01


def leaky_relu(a: Array) -> Array:
    return np.where(a > 0, a, LEAKY_SLOPE * a)


def leaky_relu_prime(a: Array) -> Array:
    return np.where(a > 0, np.ones_like(a), LEAKY_SLOPE)


def elu(a: Array) -> Array:
    return np.where(a > 0, a, np.expm1(np.minimum(a, 0)))


def elu_prime(a: Array) -> Array:
    return np.exp(np.minimum(a, 0))


# The fixed point of mean 0 and variance 1 (Klambauer et al., 2017).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def selu(a: Array) -> Array:
    return SELU_SCALE * np.where(a > 0, a, SELU_ALPHA * np.expm1(np.minimum(a, 0)))


def selu_prime(a: Array) -> Array:
    return SELU_SCALE * np.where(a > 0, np.ones_like(a), SELU_ALPHA * np.exp(np.minimum(a, 0)))


def sigmoid(a: Array) -> Array:
    e = np.exp(-np.abs(a))  # never overflows
    return np.asarray(np.where(a >= 0, np.ones_like(a), e) / (1 + e))


def sigmoid_prime(a: Array) -> Array:
    return sigmoid(a) * sigmoid(-a)


def tanh(a: Array) -> Array:
    return np.tanh(a)


def tanh_prime(a: Array) -> Array:
    return 1 - np.tanh(a) ** 2


def softplus(a: Array) -> Array:
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))  # ln(1 + e^a), never overflows


def softplus_prime(a: Array) -> Array:
    return sigmoid(a)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def normal_cdf(a: Array) -> Array:
    """Phi(a) by the complementary error function, which keeps its digits where Phi is tiny."""
    return np.asarray(0.5 * _erfc(-a / math.sqrt(2)), dtype=a.dtype)


def gelu(a: Array) -> Array:
    return a * normal_cdf(a)


def gelu_prime(a: Array) -> Array:
    return normal_cdf(a) + a * np.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)


def silu(a: Array) -> Array:
    return a * sigmoid(a)


def silu_prime(a: Array) -> Array:
    return np.asarray(sigmoid(a) * (1 + a * sigmoid(-a)))


def mish(a: Array) -> Array:
    return a * np.tanh(softplus(a))


def mish_prime(a: Array) -> Array:
    t = np.tanh(softplus(a))
    return np.asarray(t + a * (1 - t * t) * sigmoid(a))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (identity, identity_prime),
    "relu": (relu, relu_prime),
    "leaky_relu": (leaky_relu, leaky_relu_prime),
    "elu": (elu, elu_prime),
    "selu": (selu, selu_prime),
    "sigmoid": (sigmoid, sigmoid_prime),
    "tanh": (tanh, tanh_prime),
    "softplus": (softplus, softplus_prime),
    "gelu": (gelu, gelu_prime),
    "silu": (silu, silu_prime),
    "mish": (mish, mish_prime),
}

# ---- outputs: f = g(a) of the last layer, shape (n, K) ----


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "identity": identity,
    "exp": np.exp,
}

# df/da as a function of f, for the losses that do not cancel it
OUTPUT_PRIMES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": lambda f: f * (1 - f),
    "identity": np.ones_like,
    "exp": lambda f: f,
}

# ---- losses: l per sample, shape (n,), from a, f and y of shape (n, K); and delta = dl/da ----


def cross_entropy(a: Array, f: Array, y: Array) -> Array:
    z = a - a.max(axis=1, keepdims=True)  # ln f = z - ln sum e^z, finite where f rounds to 0
    ln_f = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return np.asarray(-(y * ln_f).sum(axis=1))


def binary_cross_entropy(a: Array, f: Array, y: Array) -> Array:
    return np.asarray((softplus(a) - y * a).sum(axis=1))  # = -y ln f - (1 - y) ln(1 - f)


def poisson(a: Array, f: Array, y: Array) -> Array:
    return np.asarray((f - y * a).sum(axis=1))  # = f - y ln f


def delta_of_matching_output(f: Array, y: Array, output: str) -> Array:
    """The three losses above, each with its own output: the output's derivative cancels."""
    return f - y


def squared_error(a: Array, f: Array, y: Array) -> Array:
    return np.asarray((0.5 * (f - y) ** 2).sum(axis=1))


def delta_of_squared_error(f: Array, y: Array, output: str) -> Array:
    return (f - y) * OUTPUT_PRIMES[output](f)


Loss = tuple[Callable[[Array, Array, Array], Array], Callable[[Array, Array, str], Array]]
LOSSES: dict[str, Loss] = {
    "cross_entropy": (cross_entropy, delta_of_matching_output),
    "binary_cross_entropy": (binary_cross_entropy, delta_of_matching_output),
    "squared_error": (squared_error, delta_of_squared_error),
    "poisson": (poisson, delta_of_matching_output),
}

# ---- optimizers: the step from the gradient g; `state` belongs to one training run ----


def sgd(optimizer: SGD, state: dict[str, Any], g: Array, learning_rate: float) -> Array:
    state["buf"] = optimizer.momentum * state.get("buf", 0) + g
    step = g + optimizer.momentum * state["buf"] if optimizer.nesterov else state["buf"]
    return np.asarray(learning_rate * step)


def adam(optimizer: Adam, state: dict[str, Any], g: Array, learning_rate: float) -> Array:
    beta1, beta2 = optimizer.betas
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = m = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = v = beta2 * state.get("v", 0) + (1 - beta2) * g * g
    scale = learning_rate / (1 - beta1**t)
    return np.asarray(scale * m / (np.sqrt(v) / math.sqrt(1 - beta2**t) + optimizer.eps))


STEPS: dict[str, Callable[..., Array]] = {"sgd": sgd, "adam": adam}

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
        self._flat = np.zeros(network.n_parameters, dtype=network.dtype)

    def set_parameters(self, flat: Array) -> None:
        self._flat = np.array(flat, dtype=self.network.dtype)

    def get_parameters(self, out: Array) -> None:
        out[...] = self._flat

    def forward(
        self, X: ArrayLike, rows: Array | None = None, n_layers: int | None = None
    ) -> Array:
        X = check_X(X, self.network)
        with np.errstate(over="ignore", invalid="ignore"):
            _, h = self._forward(self._read(X, rows))
        return np.asarray(h[-1 if n_layers is None else n_layers])

    def forward_and_loss(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        loss: str,
        rows: Array | None = None,
    ) -> tuple[Array, float]:
        with np.errstate(over="ignore", invalid="ignore"):
            a, h = self._forward(self._read(X, rows))
            y, w = self._targets(y, rows), _weights(sample_weight, rows)
            total = _weighted_sum(LOSSES[loss][0](a[-1], h[-1], y), w)
        return h[-1], total / len(h[-1])

    def loss_and_gradients(
        self, X: Array, y: Array, sample_weight: Array | None, loss: str, l2: float, l1: float
    ) -> tuple[float, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            total, gradient = self._gradient(X, y, sample_weight, loss, l2, l1, None)
        return total / len(X) + self.network.penalty(self._flat, l2, l1), gradient

    def shuffled(self, rows: Array, seed: int, epoch: int) -> Array:
        return shuffled(rows, seed, epoch)

    def start(self, options: TrainingOptions) -> None:
        self._options = options
        self._state: dict[str, Any] = {}

    def train(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        order: Array,
        position: int,
        batch_size: int,
        learning_rates: Array,
        seconds: float,
        max_steps: int = MANY,
        epoch: int = 0,
    ) -> tuple[int, float]:
        deadline, sum_of_losses = time.perf_counter() + seconds, 0.0
        options, done = self._options, 0
        step_of = STEPS[options.optimizer.name]
        with np.errstate(over="ignore", invalid="ignore"):
            while position < len(order) and done < max_steps:
                rows = order[position : position + batch_size]
                s = self._dropout(epoch, np.arange(position, position + len(rows)))
                total, g = self._gradient(
                    X, y, sample_weight, options.loss, options.l2, options.l1, rows, s
                )
                if options.clip_value is not None:
                    g = clip_values(g, options.clip_value)
                if options.clip_norm is not None:
                    g = clip_norm(g, options.clip_norm)
                step = step_of(options.optimizer, self._state, g, float(learning_rates[done]))
                # One assignment of a new array: an interrupt finds the old or the new parameters.
                self._flat = self._flat - step
                position += len(rows)
                done += 1
                sum_of_losses += total
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

    def _forward(self, X: Array, s: Sequence[Array] = ()) -> tuple[list[Any], list[Any]]:
        """a = [None, a_1, ..., a_{L+1}] and h = [X, h_1, ..., h_{L+1}]; a_k, h_k: (n, D_k)."""
        W, b = _from_1(self.network.views(self._flat))
        hidden = [ACTIVATIONS[name][0] for name in self.network.activations]
        g: list[Any] = [None, *hidden, OUTPUTS[self.network.output]]
        a: list[Any] = [None]
        h: list[Any] = [X]
        for k in range(1, len(W)):
            if s:
                h[k - 1] = h[k - 1] * s[k - 1].astype(X.dtype)
            a.append(h[k - 1] @ W[k].T + b[k])
            h.append(g[k](a[k]))
        return a, h

    def _backward(
        self, a: list[Any], h: list[Any], s: Sequence[Array], delta: Array
    ) -> tuple[list[Any], list[Any]]:
        """dW_1, ... (D_k, D_{k-1}) and db_1, ... (D_k,) from delta_{L+1} (n, D_{L+1})."""
        W, _ = _from_1(self.network.views(self._flat))
        g_prime: list[Any] = [None, *(ACTIVATIONS[name][1] for name in self.network.activations)]
        dW: list[Any] = [None] * len(W)
        db: list[Any] = [None] * len(W)
        for k in reversed(range(1, len(W))):
            dW[k] = delta.T @ h[k - 1]
            db[k] = delta.sum(axis=0)
            if k > 1:
                delta = (delta @ W[k]) * g_prime[k - 1](a[k - 1])
                if s:
                    delta = delta * s[k - 1].astype(delta.dtype)
        return dW[1:], db[1:]

    def _gradient(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        loss: str,
        l2: float,
        l1: float,
        rows: Array | None,
        s: Sequence[Array] = (),
    ) -> tuple[float, Array]:
        """sum_t w_t l_t, and the flat gradient of J, over the chosen rows."""
        a, h = self._forward(self._read(X, rows), s)
        f, y, w = h[-1], self._targets(y, rows), _weights(sample_weight, rows)
        losses, delta_of = LOSSES[loss]
        delta = delta_of(f, y, self.network.output) / len(f)
        if w is not None:
            delta = w[:, np.newaxis] * delta
        gradient = np.empty_like(self._flat)
        W, _ = self.network.views(self._flat)
        dW, db = self.network.views(gradient)
        for k, (dW_k, db_k) in enumerate(zip(*self._backward(a, h, s, delta), strict=True)):
            dW[k][...] = dW_k + l2 * W[k] + l1 * np.sign(W[k])
            db[k][...] = db_k
        return _weighted_sum(losses(a[-1], f, y), w), gradient

    def _read(self, X: Array, rows: Array | None) -> Array:
        """The chosen rows of X in the network's dtype; uint8 counts 255ths."""
        if rows is not None:
            X = X[rows]
        h_0 = X.astype(self.network.dtype, copy=False)
        if X.dtype == np.uint8:
            h_0 = h_0 / 255
        if not np.isfinite(h_0).all():
            raise ValueError(
                f"X contains NaN or infinity, or values beyond {self.network.dtype.name}"
            )
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
