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
from .records import opener


@functools.cache
def stage(function: Any, n_numbers: int, dtype: np.dtype[Any]) -> int:
    """The address of function(Context, its address, int64, ...), a kernel, as a C function."""
    context = opener(layout.example(dtype))

    def no_number(record):
        function(context(record), record)

    def one_number(record, i):
        function(context(record), record, i)

    def three_numbers(record, i, j, k):
        function(context(record), record, i, j, k)

    def four_numbers(record, i, j, k, m):
        function(context(record), record, i, j, k, m)

    def five_numbers(record, i, j, k, m, n):
        function(context(record), record, i, j, k, m, n)

    forms = {0: no_number, 1: one_number, 3: three_numbers, 4: four_numbers, 5: five_numbers}
    name = f"{function.py_func.__module__} {function.py_func.__name__} {dtype}"
    return _compiled(forms[n_numbers], n_numbers + 1, name, {})


@functools.cache
def team() -> int:
    """The address of what calls a stage for all shares, in Numba's threads."""

    def run_shares(record, function, n_shares):
        for share in prange(n_shares):
            call_stage(function, record, np.int64(share))

    return _compiled(run_shares, 3, "team", {"parallel": True})


_kept: list[Any] = []  # the code at an address lives as long as this


def _compiled(function: Any, n_numbers: int, name: str, options: dict[str, Any]) -> int:
    options = {"error_model": "numpy", "nopython": True} | options
    compiled = CFunc(function, ((types.int64,) * n_numbers, types.void), {}, options)
    compiled._cache = DiskCache(function, name)
    compiled.compile()
    _kept.append(compiled)
    return int(compiled.address)


@njit(nogil=True)
def run(function, record):
    """Call a stage without Python's lock."""
    call_stage(function, record)


run._cache = DiskCache(run.py_func, "run")
