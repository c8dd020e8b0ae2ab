"""The networks that everything in this folder measures, and the data they are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Case:
    """One training task: network, batch size, optimizer and amount of data."""

    layer_sizes: tuple[int, ...]
    batch_size: int
    optimizer: str
    n_samples: int
    activation: str = "relu"
    output: str = "softmax"

    @property
    def network(self) -> str:
        """Layer sizes as one word, such as 784-128-10."""
        return "-".join(map(str, self.layer_sizes))

    @property
    def name(self) -> str:
        """The name of the row, such as 784-128-10-b32-adam."""
        return f"{self.network}-b{self.batch_size}-{self.optimizer}"

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
        """Floating-point operations of the matrix products of one training sample.

        Forward, dW and dh are 2 n_in n_out each; the first layer needs no dh.
        """
        return 3 * self.forward_flops_per_sample - 2 * self.layer_sizes[0] * self.layer_sizes[1]


# Numbers of samples are multiples of the batch size, so that peers with a fixed batch shape do
# the same work; the larger data sets do not fit into the caches, as real ones do not.
CASES = (
    Case((2, 8, 2), 4, "sgd", 40_000),
    Case((4, 16, 3), 16, "sgd", 40_000),
    Case((64, 64, 10), 32, "sgd", 32_000),
    Case((784, 128, 10), 32, "sgd", 25_600),
    Case((784, 128, 10), 32, "adam", 25_600),
    Case((784, 128, 10), 128, "sgd", 25_600),
    Case((784, 128, 10), 128, "adam", 25_600),
    Case((784, 512, 512, 10), 128, "sgd", 25_600),
    Case((784, 512, 512, 10), 128, "adam", 25_600),
    Case((32, 256, 256, 256, 2), 256, "sgd", 51_200),
    Case((1024, 1024, 1024, 1024, 10), 256, "sgd", 10_240),
    Case((2048, 2048, 2048, 10), 512, "sgd", 8_192),
    Case((2048, 2048, 2048, 10), 512, "adam", 8_192),
)


def cases_named(patterns: list[str]) -> list[Case]:
    """The cases whose name contains one of `patterns`, all of them if there are none.

    Raises ValueError listing the known names if a pattern matches nothing.
    """
    for pattern in patterns:
        if not any(pattern in case.name for case in CASES):
            known = ", ".join(case.name for case in CASES)
            raise ValueError(f"no row is called {pattern!r}; the rows are {known}")
    return [case for case in CASES if not patterns or any(p in case.name for p in patterns)]


def make_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Dense inputs (n, D_0) float32 and class indices (n,) int64, the same in every process.

    The classes are those of a linear teacher with as much noise as signal: they can be learned,
    but not to a loss so near zero that denormal numbers would slow anybody down.
    """
    import numpy as np

    rng = np.random.default_rng(20)
    n, n_in, n_out = case.n_samples, case.layer_sizes[0], case.layer_sizes[-1]
    X = rng.standard_normal((n, n_in), dtype=np.float32)
    teacher = rng.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(n_in**0.5)
    noise = rng.standard_normal((n, n_out), dtype=np.float32)
    return X, (X @ teacher + noise).argmax(axis=1)
