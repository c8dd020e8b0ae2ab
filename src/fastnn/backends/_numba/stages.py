"""Stages of the work as C functions (record, int64, ...), which call one another by address.

Each is compiled when a network first needs it, and once: a loop that had them inside would be
compiled with all of them, gathers from three types of X, losses, dropout, clipping. Numba's
parallel loop is in `team` alone.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.core.ccallback import CFunc

from . import layout
from .blocks import DiskCache
from .intrinsics import call_stage
from .records import RecordType


@functools.cache
def stage(function: Any, dtype: np.dtype[Any]) -> int:
    """The address of function(Context, int64, ...) as a C function."""
    context = RecordType(layout.example(dtype), dtype.name)
    n_numbers = function.__code__.co_argcount - 1
    name = f"{function.__module__} {function.__name__} {dtype}"
    return _compiled(function, (context, *(types.int64,) * n_numbers), name, {})


@functools.cache
def team() -> int:
    """The address of what calls a stage for all shares, in Numba's threads."""

    def run_shares(record, function, n_shares):
        for share in prange(n_shares):
            call_stage(function, record, np.int64(share))

    return _compiled(run_shares, (types.int64,) * 3, "team", {"parallel": True})


_kept: list[Any] = []  # the code at an address lives as long as this


def _compiled(function: Any, arguments: tuple[Any, ...], name: str, options: dict[str, Any]) -> int:
    options = {"error_model": "numpy", "nopython": True, "_nrt": False} | options
    compiled: Any = CFunc(function, (arguments, types.void), {}, options)
    compiled._cache = DiskCache(function, name)
    compiled.compile()
    _kept.append(compiled)
    return int(compiled.address)


def assembly() -> dict[str, str]:
    """What this process has compiled so far, by name; Numba has none of what came from disk."""
    return {c._cache.name: c._library.get_asm_str() for c in _kept}


@njit(nogil=True)
def run(function, record):
    """Call a stage without Python's lock."""
    call_stage(function, record)


run._cache = DiskCache(run.py_func, "run")
