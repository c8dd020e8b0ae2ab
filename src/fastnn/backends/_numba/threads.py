"""Numba's threads: the OpenMP layer, how many, and none in the child of a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numba
from numba import config
from numba.core.compiler_lock import global_compiler_lock

from .. import forks
from ..cores import cpu_count

NO_OPENMP = (
    "the numba backend needs Numba's OpenMP threading layer for more than one thread, {}; "
    "use n_threads=1, or backend='numpy'"
)


def most() -> int:
    """The threads that this process may use."""
    return min(cpu_count(), int(config.NUMBA_NUM_THREADS))


def can_team() -> bool:
    """Whether there may be more than one: not in the child of a fork."""
    return not forks.is_child


# A fork waits until no thread compiles: its child, which has that lock but not that thread, could
# never compile anything.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )

_starting = threading.Lock()
_has_started = False  # OpenMP's threads, by `start_openmp`


def start_openmp() -> None:
    """Load the layer, if nothing has chosen one in this process; RuntimeError if it cannot be.

    The user's own setting, which counts where Numba has not started its threads yet, stays as it
    was.
    """
    global _has_started
    if _has_started:
        return
    with _starting:
        chosen = config.THREADING_LAYER
        config.THREADING_LAYER = "omp"
        try:
            numba.get_num_threads()  # starts the threads
            layer = numba.threading_layer()
        except ValueError as error:
            why = " ".join(str(error).split())  # Numba's own hints have many lines
            raise RuntimeError(NO_OPENMP.format(f"which could not be loaded ({why})")) from None
        finally:
            config.THREADING_LAYER = chosen
    if layer != "omp":
        raise RuntimeError(
            NO_OPENMP.format(
                f"but the layer {layer!r} is in use in this process: "
                "set NUMBA_THREADING_LAYER=omp before Numba starts its threads"
            )
        )
    _has_started = True


@contextmanager
def team(n_threads: int) -> Iterator[None]:
    """Numba's parallel loops of this Python thread on so many threads, as far as there are."""
    start_openmp()
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)
