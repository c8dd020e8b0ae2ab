"""The backends and the interface they all have.

A backend is a module with a class `Engine`. `numpy` is the reference: the textbook, and what the
others are tested against. `cython` is the compiled product. `numba` needs no compiler: Numba
compiles it when it is used, and keeps the result on disk.

Environment: FASTNN_BACKEND chooses when backend="auto"; FASTNN_NUM_THREADS when n_threads is None;
FASTNN_ISA forces the compiled backend's instruction set.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from ..losses import Loss
from ..network import Network, known
from ..options import TrainingOptions
from ..sparse import CSR
from . import forks as forks
from .cores import cpu_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BACKENDS = ("numpy", "cython", "numba")
MANY = 2**62  # more than anyone can count to


class Engine(Protocol):
    """One network's parameters inside a backend, and what can be done with them.

    `fastnn.checks` makes the arrays that an engine takes:
    X              (n, D_0) float32 | float64 | uint8, native byte order, any strides, maybe
                   read-only; uint8 means x/255. Or a `fastnn.sparse.CSR` of such elements, with
                   the results of the array that its `dense()` makes, to the bit.
    y              (n,) int32 class indices (cross_entropy only), or (n, D_out) of network.dtype,
                   C-contiguous; with several quantiles, y is repeated for them
    sample_weight  None or (n,) of network.dtype
    rows, order    None or int64, 1-D, C-contiguous: which samples, that is which rows of X, of y
                   and of sample_weight alike
    Everything is computed in network.dtype. Wherever X is read, NaN and infinity (also a float64
    value that float32 cannot hold) raise ValueError("X contains NaN or infinity ..."). A loss that
    becomes NaN is returned, not raised. Several Python threads may call forward, forward_and_loss
    and loss_and_gradients at once.
    """

    n_threads: int  # threads used at most
    isa: str  # instruction set, "" where the backend has no choice of it
    # Where `train` was after its last whole step: position, and the sum of losses up to there. The
    # parameters and get_state() are of that moment.
    at_step: tuple[int, float]

    def __init__(self, network: Network, n_threads: int | None) -> None:
        """n_threads None: the backend decides."""

    def set_parameters(self, flat: NDArray[Any]) -> None:
        """Copy in (n_parameters,) of network.dtype."""

    def get_parameters(self, out: NDArray[Any]) -> bool:
        """Copy out into (n_parameters,) of network.dtype; returns whether all are finite."""
        ...

    def penalty(self, l2: float, l1: float) -> float:
        """l2/2 ||W||^2 + l1 ||W||_1 over all weights, not over the biases; summed in float64."""
        ...

    def forward(
        self, X: ArrayLike, rows: NDArray[Any] | None = None, n_layers: int | None = None
    ) -> NDArray[Any]:
        """f(X), shape (n, D_out), network.dtype. X as users give it: the engine calls check_X.

        n_layers  k: the output h_k (n, D_k) of hidden layer k in place of f(X)
        """
        ...

    def forward_and_loss(
        self,
        X: NDArray[Any] | CSR,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        loss: str | Loss,
        rows: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], float]:
        """f(X) and (1/n) sum_t w_t l_t over the n chosen samples, without penalty."""
        ...

    def loss_and_gradients(
        self,
        X: NDArray[Any] | CSR,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        loss: str | Loss,
        l2: float,
        l1: float,
        rows: NDArray[Any] | None = None,
    ) -> tuple[float, NDArray[Any]]:
        """The objective J over the chosen samples, penalty included, and its gradient, flat."""
        ...

    def shuffled(self, rows: NDArray[Any], seed: int, epoch: int) -> NDArray[Any]:
        """`rows` (int64, 1-D) in the order of one epoch, the same in every backend.

        seed, epoch  in [0, 2^64)
        """
        ...

    def start(self, options: TrainingOptions) -> None:
        """Begin a training run: the optimizer's state is zero, its step counter t is 0.

        Until the next start, forward and forward_and_loss between two calls of train see the
        present parameters and leave the run as it is.
        """

    def get_state(self) -> tuple[int, list[NDArray[Any]]]:
        """The optimizer's state after the last whole step of the run that `start` began.

        t, the steps taken, and as many arrays as the optimizer keeps, each (n_parameters,) of
        network.dtype in the order of the parameters; copies.
        """
        ...

    def set_state(self, t: int, arrays: Sequence[NDArray[Any]]) -> None:
        """Go on, after `start`, from what get_state of the same backend gave: to the same bits."""

    def train(
        self,
        X: NDArray[Any] | CSR,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        order: NDArray[Any],
        position: int,
        batch_size: int,
        learning_rates: NDArray[Any],
        seconds: float,
        max_steps: int = MANY,
        epoch: int = 0,
        sum_of_losses: float = 0.0,
    ) -> tuple[int, float]:
        """Take steps on order[position : position + batch_size] and so on, a smaller last one too.

        Stops at the end of `order`, after `max_steps` steps, or after about `seconds` with at least
        one step, or one part of a large batch, done. learning_rates: float64, 1-D, maybe broadcast;
        [i] is for the i-th step from `position` on, a batch begun by the last call being the
        first. A step on n_batch samples follows (1/n_batch) sum_t w_t gradient_t plus the penalty's
        gradient, clipped. What dropout drops depends on `epoch`, in [0, 2^64), and on where in
        `order` a sample is.
        Returns the new position and `sum_of_losses`, to which every sample of this call, one after
        the other, has added w_t l_t, taken before the step that used it: a pass over `order` has
        the same sum, bit for bit, in however many calls. When it raises, no step is half done.
        """
        ...


def load(name: str = "auto") -> ModuleType:
    """The backend's module. "auto" is FASTNN_BACKEND if set, else cython if built, else numpy.

    Raises ValueError for an unknown name, ImportError for a backend that is not installed; a
    compiled extension that is there but broken raises its own ImportError, under "auto" as well.
    """
    name = resolve(name)
    if name == "cython" and not _cython_is_built():
        raise ImportError(
            "the cython backend is not built in this installation; "
            "reinstall fastnn (pip install --force-reinstall fastnn-cpu), or use backend='numpy'"
        )
    if name == "numba" and not _numba_is_installed():
        raise ImportError(
            "the numba backend needs Numba; pip install 'fastnn-cpu[numba]', or use backend='numpy'"
        )
    return importlib.import_module(f"{__name__}._{name}")


def resolve(name: str = "auto") -> str:
    """The name of the backend that `name` stands for (see `load`)."""
    if name == "auto":
        name = os.environ.get("FASTNN_BACKEND") or "auto"
    if name == "auto":
        return "cython" if _cython_is_built() else "numpy"
    return known(name, BACKENDS, "backend")


def threads(n_threads: int | None) -> int | None:
    """`n_threads` if given, else FASTNN_NUM_THREADS if set, else None: the engine decides."""
    if n_threads is not None:
        return n_threads
    text = os.environ.get("FASTNN_NUM_THREADS")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"FASTNN_NUM_THREADS must be a positive integer, got {text!r}")
    return int(text)


def available_backends() -> list[str]:
    """The names of the backends this installation can use."""
    is_there = {"numpy": True, "cython": _cython_is_built(), "numba": _numba_is_installed()}
    return [name for name in BACKENDS if is_there[name]]


def available_isas() -> list[str]:
    """Instruction sets the compiled backend can use here, best last; [] if it is not built."""
    return list(load("cython").available_isas()) if _cython_is_built() else []


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Version, backends, instruction sets, threads and caches, as `numpy.show_config` does it.

    mode  "stdout" prints one line for each and returns None; "dicts" returns a dict
    """
    known(mode, ("stdout", "dicts"), "mode")
    import numpy as np

    import fastnn

    config = {
        "fastnn": fastnn.__version__,
        "numpy": np.__version__,
        "backends": available_backends(),
        "backend": resolve(),
        "isas": available_isas(),
        "threads": cpu_count(),
        "caches": _caches(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        if isinstance(value, dict):
            value = [f"{key} {item}" for key, item in value.items()]
        print(f"{name:10}", ", ".join(value) if isinstance(value, list) else value)
    return None


@functools.cache
def _cython_is_built() -> bool:
    return importlib.util.find_spec(f"{__name__}._cython") is not None


@functools.cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def _caches() -> dict[str, str]:
    """Cache sizes of the first core as Linux reports them, such as {"L1 data": "32K"}."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (folder / part).read_text().strip() for part in ("level", "type", "size")
        )
        sizes[f"L{level}" + ("" if kind == "Unified" else f" {kind.lower()}")] = size
    return sizes
