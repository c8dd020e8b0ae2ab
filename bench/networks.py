"""The networks that everything in this folder measures, and the data they are measured on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


SMALL_FLOPS = 5e6


@dataclass(frozen=True)
class Case:
    """One task: training, or, where the optimizer is None, prediction in batches."""

    layer_sizes: tuple[int, ...]
    batch_size: int
    optimizer: str | None
    n_samples: int
    activation: str = "relu"
    output: str = "softmax"
    images: str = ""  # the data set that X and y are, if not made up

    @property
    def kind(self) -> str:
        """train or predict."""
        return "train" if self.optimizer else "predict"

    @property
    def network(self) -> str:
        """Layer sizes as one word, such as 784-128-10."""
        return "-".join(map(str, self.layer_sizes))

    @property
    def name(self) -> str:
        """The name of the row: 784-128-10-b32-adam, or predict 784-128-10 batch 32."""
        if self.kind == "predict":
            return f"predict {self.network} batch {self.batch_size}"
        images = f"-{self.images}" if self.images else ""
        return f"{self.network}-b{self.batch_size}-{self.optimizer}{images}"

    @property
    def shuffled(self) -> bool:
        """Whether the order of the samples matters: not where all of them are one batch."""
        return self.batch_size < self.n_samples

    @property
    def learning_rate(self) -> float:
        """Small enough for every network here; speed does not depend on it."""
        return 1e-4 if self.optimizer == "adam" else 0.01

    @property
    def forward_flops_per_sample(self) -> int:
        """Floating-point operations of the matrix products of one predicted sample."""
        return sum(2 * n_in * n_out for n_in, n_out in pairwise(self.layer_sizes))

    @property
    def flops_per_sample(self) -> int:
        """Floating-point operations of the matrix products of one sample.

        In training, forward, dW and dh are 2 n_in n_out each; the first layer needs no dh.
        """
        if self.kind == "predict":
            return self.forward_flops_per_sample
        return 3 * self.forward_flops_per_sample - 2 * self.layer_sizes[0] * self.layer_sizes[1]

    @property
    def small(self) -> bool:
        """Whether a step, or call, is so little work that what a library does around it counts."""
        return self.batch_size * self.flops_per_sample < SMALL_FLOPS


# Numbers of samples are multiples of the batch size, so that peers with a fixed batch shape do
# the same work; the larger data sets do not fit into the caches, as real ones do not.
CASES = (
    Case((2, 8, 2), 4, "sgd", 40_000),
    Case((2, 8, 2), 4, "adam", 40_000),
    Case((4, 16, 3), 16, "sgd", 40_000),
    Case((4, 16, 3), 16, "adam", 40_000),
    Case((13, 64, 64, 1), 32, "sgd", 32_000, output="identity"),
    Case((13, 64, 64, 1), 32, "adam", 32_000, output="identity"),
    Case((64, 64, 10), 32, "sgd", 32_000),
    Case((64, 64, 10), 32, "adam", 32_000),
    Case((4, 32, 16, 4), 10_000, "adam", 10_000, activation="tanh"),
    Case((784, 128, 10), 32, "sgd", 25_600),
    Case((784, 128, 10), 32, "adam", 25_600),
    Case((784, 128, 10), 128, "sgd", 25_600),
    Case((784, 128, 10), 128, "adam", 25_600),
    Case((32, 256, 256, 256, 2), 256, "sgd", 51_200),
    Case((32, 256, 256, 256, 2), 256, "adam", 51_200),
    Case((28, 300, 300, 300, 300, 300, 2), 100, "sgd", 40_000),
    Case((28, 300, 300, 300, 300, 300, 2), 100, "adam", 40_000),
    Case((784, 512, 512, 10), 128, "sgd", 25_600),
    Case((784, 512, 512, 10), 128, "adam", 25_600),
    Case((784, 800, 10), 128, "sgd", 25_600),
    Case((784, 800, 10), 128, "adam", 25_600),
    Case((1024, 1024, 1024, 1024, 10), 256, "sgd", 10_240),
    Case((1024, 1024, 1024, 1024, 10), 256, "adam", 10_240),
    Case((2048, 2048, 2048, 10), 512, "sgd", 8_192),
    Case((2048, 2048, 2048, 10), 512, "adam", 8_192),
    Case((256, 4096, 4096, 10), 1024, "sgd", 4_096),
    Case((256, 4096, 4096, 10), 1024, "adam", 4_096),
)

PREDICTION_BATCHES = (1, 32, 4096)
POOL_BYTES, POOL_BATCHES = 4_000_000, 1024
OWN_NUMBERS = 20_000_000  # of X at most, for networks that are not in the table


def prediction(case: Case, batch_size: int) -> Case:
    """The network of `case` predicting, on a pool of inputs beyond the second-level cache."""
    most = POOL_BYTES // (4 * case.layer_sizes[0] * batch_size)
    n_samples = batch_size * min(max(most, 2), POOL_BATCHES)
    return replace(case, batch_size=batch_size, optimizer=None, n_samples=n_samples)


PREDICTIONS = tuple(
    prediction(case, batch_size)
    for case in {case.network: case for case in CASES}.values()
    for batch_size in PREDICTION_BATCHES
)
ROWS = CASES + PREDICTIONS
# Real pixels, whose zeros fastnn leaves out: for comparing fastnn with itself.
IMAGES = tuple(
    Case((784, n_hidden, 10), 128, optimizer, 60_000, images=images)
    for n_hidden in (128, 256)
    for images in ("mnist", "fashion_mnist")
    for optimizer in ("sgd", "adam")
)
QUICK_ROWS = [
    "2-8-2-b4-sgd",
    "13-64-64-1-b32-adam",
    "4-32-16-4-b10000-adam",
    "784-128-10-b32-sgd",
    "784-128-10-b128-adam",
    "32-256-256-256-2-b256-sgd",
    "28-300-300-300-300-300-2-b100-adam",
    "784-800-10-b128-adam",
    "predict 2-8-2 batch 1",
    "predict 784-128-10 batch 1",
    "predict 784-128-10 batch 4096",
]


def other_case(name: str, rows: Sequence[Case]) -> Case:
    """A network or a batch that is not in the table, called as rows are, 64-300-10-b32-sgd or
    predict 784-800-10 batch 8; training has as many samples as other rows do. Raises ValueError
    listing the rows if it is no such name.
    """
    predicted = re.fullmatch(r"predict (\d+(?:-\d+)+) batch (\d+)", name)
    if predicted:
        case = Case(tuple(map(int, predicted[1].split("-"))), 1, None, 1)
        return prediction(case, int(predicted[2]))
    found = re.fullmatch(r"(\d+(?:-\d+)+)-b(\d+)-(sgd|adam)", name)
    if not found:
        known = ", ".join(case.name for case in rows)
        raise ValueError(f"no row is called {name!r}; the rows are {known}")
    layer_sizes, batch_size = tuple(map(int, found[1].split("-"))), int(found[2])
    n_batches = max(4, min(40_000, OWN_NUMBERS // layer_sizes[0]) // batch_size)
    return Case(layer_sizes, batch_size, found[3], n_batches * batch_size)


def cases_named(patterns: list[str], rows: Sequence[Case] = ROWS) -> list[Case]:
    """The rows whose name contains one of `patterns`, all of them if there are none; behind them
    what `other_case` makes of patterns that match nothing.
    """
    named = [case for case in rows if not patterns or any(p in case.name for p in patterns)]
    others = [p for p in patterns if not any(p in case.name for case in rows)]
    return named + [other_case(name, rows) for name in others]


def make_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Dense inputs (n, D_0) float32 and targets, the same in every process.

    The targets are those of a linear teacher with as much noise as signal: they can be learned,
    but not to a loss so near zero that denormal numbers would slow anybody down. For softmax they
    are class indices (n,) int64, for identity values (n, D_out) float32. Images are uint8 (n, 784)
    with their classes, from FASTNN_DATA.
    """
    if case.images:
        from fastnn import datasets

        return getattr(datasets, f"load_{case.images}")(download=False)[:2]
    X, values = _teacher_data(case.n_samples, case.layer_sizes[0], case.layer_sizes[-1])
    return X, values if case.output == "identity" else values.argmax(axis=1)


@lru_cache(maxsize=1)  # since rows that follow each other often share their data
def _teacher_data(n: int, n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    rng = np.random.default_rng(20)
    X = rng.standard_normal((n, n_in), dtype=np.float32)
    teacher = rng.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(n_in**0.5)
    noise = rng.standard_normal((n, n_out), dtype=np.float32)
    return X, X @ teacher + noise


def make_parameters(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights (n_in, n_out) and biases (n_out,) of every layer, the same in every process."""
    import numpy as np

    rng = np.random.default_rng(21)
    return [
        (
            rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32((2 / n_in) ** 0.5),
            rng.standard_normal(n_out, dtype=np.float32) * np.float32(0.1),
        )
        for n_in, n_out in pairwise(case.layer_sizes)
    ]


def check_prediction(case: Case, X: np.ndarray, f: np.ndarray) -> None:
    """Raises ValueError unless f (n, D_out) is what the network of make_parameters makes of X."""
    import numpy as np

    h, f = X[:32].astype(np.float64), f[:32]
    *hidden, (W, b) = make_parameters(case)
    for W_k, b_k in hidden:
        a = h @ W_k + b_k
        h = np.tanh(a) if case.activation == "tanh" else np.maximum(a, 0)
    h = h @ W + b
    if case.output == "softmax":
        h = np.exp(h - h.max(axis=1, keepdims=True))
        h /= h.sum(axis=1, keepdims=True)
    if f.shape != h.shape or f.dtype != np.float32 or not np.allclose(f, h, 1e-3, 1e-4):
        raise ValueError(
            f"{case.name}: wrong result, {f.dtype} {f.shape}, {f[0, :3]} for {h[0, :3]}"
        )
