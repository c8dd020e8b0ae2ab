"""What a network is: layer sizes, names, the layout of its one parameter buffer, first weights.

Layer k = 1 ... L+1 has D_k neurons and D_0 is the number of inputs. All parameters live in one flat
array, W_1, b_1, W_2, b_2, ..., each C-contiguous, so an optimizer is one loop over one vector.

The order of the name lists is the order of the enums in csrc/fastnn.h.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from .once import once

if TYPE_CHECKING:  # numpy.typing takes 10 ms to import
    from numpy.typing import DTypeLike, NDArray

    from .custom import Activation

ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "gelu",
    "silu",
    "mish",
)
OUTPUTS = ("softmax", "sigmoid", "identity", "exp")
LOSSES = (
    "cross_entropy",
    "binary_cross_entropy",
    "squared_error",
    "poisson",
    "absolute_error",
    "huber",
    "quantile",
    "grouped_cross_entropy",
)
LOSS_OF_OUTPUT = {
    "softmax": "cross_entropy",
    "sigmoid": "binary_cross_entropy",
    "identity": "squared_error",
    "exp": "poisson",
}
OUTPUTS_OF_LOSS = {
    "cross_entropy": ("softmax",),
    "binary_cross_entropy": ("sigmoid",),
    "squared_error": ("identity", "sigmoid", "exp"),
    "poisson": ("exp",),
    "absolute_error": ("identity", "exp"),
    "huber": ("identity", "exp"),
    "quantile": ("identity", "exp"),
    "grouped_cross_entropy": ("identity",),
}
OUTPUTS_OF_CUSTOM_LOSS = ("identity", "sigmoid", "exp")
DTYPES = ("float32", "float64")
INITIALIZERS = (
    "auto",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
)

# "auto" takes the variance derived for each activation: Glorot keeps the variance of h and of delta
# where g is nearly linear at 0, He makes up for the half that relu and its kin cut off, LeCun is
# what selu's fixed point asks for. The output layer takes Glorot's.
INITIALIZER_OF_ACTIVATION = {
    "identity": "glorot_uniform",
    "relu": "he_normal",
    "leaky_relu": "he_normal",
    "elu": "he_normal",
    "selu": "lecun_normal",
    "sigmoid": "glorot_uniform",
    "tanh": "glorot_uniform",
    "softplus": "he_normal",
    "gelu": "he_normal",
    "silu": "he_normal",
    "mish": "he_normal",
}
INITIALIZER_OF_OUTPUT = "glorot_uniform"

VARIANCE_OF_INITIALIZER = {
    "glorot": lambda n_in, n_out: 2.0 / (n_in + n_out),
    "he": lambda n_in, n_out: 2.0 / n_in,
    "lecun": lambda n_in, n_out: 1.0 / n_in,
}

# Streams of random numbers. The orders of the epochs are the engines' (`Engine.shuffled`).
STREAM_WEIGHTS = 2**64 - 1
STREAM_VALIDATION = 2**64 - 2


def random_stream(seed: int, stream: int) -> np.random.Generator:
    """The counter-based generator of one (seed, stream) pair."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def known(name: object, names: Sequence[str], what: str) -> str:
    """`name` if it is one of `names`, else a ValueError that lists them."""
    if isinstance(name, str) and name in names:
        return name
    raise ValueError(f"unknown {what} {name!r}; known: {', '.join(names)}")


def number(value: Any, name: str) -> float:
    """A real number as a float. Text and arrays, which float() would take, are a TypeError."""
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    try:
        if isinstance(value, str | bytes | bytearray) or kind not in "fiub" or np.ndim(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        raise ValueError(f"{name} must be a finite number, got an integer beyond floats") from None


def activation_name(activation: object) -> str:
    """The name of an activation, one of ACTIVATIONS or a registered one, else ValueError."""
    if activation in ACTIVATIONS:
        return str(activation)
    from .custom import Activation, find, unknown  # where there are none, it is not needed

    found = find("activation", activation) if isinstance(activation, str) else activation
    if isinstance(found, Activation):
        return found.name
    raise unknown("activation", activation, ACTIVATIONS)


@dataclass(frozen=True, init=False)
class Network:
    """The shape of a multilayer perceptron; it holds no weights and never changes.

    layer_sizes  D_0 ... D_{L+1}: inputs, hidden layers (none or more), outputs; each at least 1
    activations  one name of ACTIVATIONS or registered `fastnn.activation`, or the name of such a
                 one, for all hidden layers, or one per hidden layer; kept as names
    output       one of OUTPUTS
    dtype        float32 or float64

    Raises ValueError for sizes below 1, fewer than two sizes, unknown names, and a number of
    activations that does not fit.
    """

    layer_sizes: tuple[int, ...]
    activations: tuple[str, ...]
    output: str
    dtype: np.dtype[Any]

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activations: str | Activation | Sequence[str | Activation] = "relu",
        output: str = "softmax",
        dtype: DTypeLike = "float32",
    ) -> None:
        sizes = _check_sizes(layer_sizes)
        n_hidden = len(sizes) - 2
        if isinstance(activations, str) or callable(activations):
            names = (activation_name(activations),) * n_hidden
        else:
            names = tuple(activation_name(activation) for activation in activations)
        if len(names) != n_hidden:
            raise ValueError(
                f"{len(names)} activations for {n_hidden} hidden layers: give one name, "
                "or one per hidden layer"
            )
        set_once = object.__setattr__
        set_once(self, "layer_sizes", sizes)
        set_once(self, "activations", names)
        set_once(self, "output", known(output, OUTPUTS, "output"))
        set_once(self, "dtype", _check_dtype(dtype))

    @property
    def n_layers(self) -> int:
        """The number of weight matrices, L+1."""
        return len(self.layer_sizes) - 1

    def custom_activations(self) -> tuple[Any, ...]:
        """The registered activations among those of this network."""
        names = sorted({name for name in self.activations if name not in ACTIVATIONS})
        if not names:
            return ()
        from .custom import find

        return tuple(find("activation", name) for name in names)

    @property
    def n_in(self) -> int:
        """D_0, the number of inputs."""
        return self.layer_sizes[0]

    @property
    def n_out(self) -> int:
        """D_{L+1}, the number of outputs."""
        return self.layer_sizes[-1]

    @once
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shape (D_k, D_{k-1}) of every W_k."""
        return tuple(zip(self.layer_sizes[1:], self.layer_sizes[:-1], strict=True))

    @once
    def places(self) -> tuple[tuple[int, int, int], ...]:
        """Of every layer: where in the flat array W_k begins, where b_k, and where that ends."""
        sizes = [size for n_out, n_in in self.shapes for size in (n_out * n_in, n_out)]
        starts = [0, *accumulate(sizes)]
        return tuple(zip(starts[:-1:2], starts[1::2], starts[2::2], strict=True))

    @once
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return self.places[-1][-1]

    @property
    def flops_per_sample(self) -> int:
        """Floating-point operations of the matrix products when one sample is trained on.

        Forward, dh and dW take 2 D_k D_{k-1} each; the first layer needs no dh.
        """
        products = sum(6 * n_out * n_in for n_out, n_in in self.shapes)
        return products - 2 * self.layer_sizes[1] * self.layer_sizes[0]

    def views(self, flat: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """[W_1, ...] of shapes (D_k, D_{k-1}) and [b_1, ...] of shapes (D_k,), views into `flat`.

        flat  (n_parameters,), C-contiguous
        """
        if flat.shape != (self.n_parameters,):
            raise ValueError(f"flat has shape {flat.shape}, expected ({self.n_parameters},)")
        W = [flat[at:b].reshape(s) for (at, b, _), s in zip(self.places, self.shapes, strict=True)]
        return W, [flat[b:end] for _, b, end in self.places]

    def penalty(self, flat: NDArray[Any], l2: float, l1: float) -> float:
        """l2 * 1/2 ||W||^2 + l1 * ||W||_1 over all weights, not over the biases."""
        total = 0.0
        if not (l2 or l1):
            return total
        with np.errstate(over="ignore"):  # an infinite penalty is the training's to tell of
            for start, stop, _ in self.places:
                W = flat[start:stop]
                if l2:
                    total += l2 * 0.5 * float(np.add.reduce(np.square(W, dtype=np.float64)))
                if l1:
                    total += l1 * float(np.add.reduce(np.abs(W), dtype=np.float64))
        return total

    def initialize(self, seed: int, initializer: str = "auto") -> NDArray[Any]:
        """First parameters, (n_parameters,) of `dtype`: random weights, biases zero.

        Drawn in float64 and rounded, so float32 and float64 networks start from the same weights.
        """
        known(initializer, INITIALIZERS, "initializer")
        rng = random_stream(seed, STREAM_WEIGHTS)
        flat = np.zeros(self.n_parameters, dtype=self.dtype)
        for k, W in enumerate(self.views(flat)[0]):
            name = initializer
            if name == "auto" and k < len(self.activations):
                name = INITIALIZER_OF_ACTIVATION.get(self.activations[k], "he_normal")
            elif name == "auto":
                name = INITIALIZER_OF_OUTPUT
            family, distribution = name.split("_")
            n_out, n_in = W.shape
            sigma = math.sqrt(VARIANCE_OF_INITIALIZER[family](n_in, n_out))
            if distribution == "normal":
                W[...] = rng.standard_normal(W.shape) * sigma
            else:
                limit = math.sqrt(3.0) * sigma
                W[...] = rng.uniform(-limit, limit, W.shape)
        return flat


def _check_sizes(layer_sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in layer_sizes)
    except TypeError:
        raise TypeError(
            f"layer_sizes must be a sequence of integers like (784, 128, 10), got {layer_sizes!r}"
        ) from None
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            "layer_sizes must name at least the inputs and the outputs, "
            f"each of size 1 or more, got {sizes}"
        )
    return sizes


def _check_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        checked = None
    if checked is None:  # NumPy's float64 for None would be a surprise
        raise ValueError(f"unknown dtype {dtype!r}; known: {', '.join(DTYPES)}")
    known(checked.name, DTYPES, "dtype")
    return checked.newbyteorder("=")
