"""Functions of one number, made into C functions of many that the loops call by address.

A network needs two or three of them, so the loops of training are compiled once for all activations
and losses, and not with every one of them inside. For some hundred numbers a call costs nothing.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.errors import NumbaError

from ...custom import find
from ...losses import Loss
from ...network import LOSSES
from ...optimizers import RULES
from . import activations, losses, optimizers
from .elementary import one
from .intrinsics import kernel, numbers


@functools.cache
def _fingerprint() -> str:
    """Of all sources of this backend: Numba itself watches the file of a function alone."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class DiskCache(FunctionCache):
    """Numba's cache on disk, for functions that this backend's sources and a name determine."""

    def __init__(self, function: Any, name: str) -> None:
        super().__init__(function)
        self.name = name

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return signature, codegen.magic_tuple(), (self.name, _fingerprint())


def compiled_block(block: Any, n_arrays: int, dtype: np.dtype[Any], name: str | None) -> Any:
    """The C function void (real *, ..., int64 n); name: what it is known by on disk, None: not."""
    real = types.CPointer(types.float64 if dtype.itemsize == 8 else types.float32)
    signature = types.void(*[real] * n_arrays, types.int64)
    function: Any = CFunc(
        block,
        (signature.args, signature.return_type),
        {},
        {"error_model": "numpy", "nopython": True, "_nrt": False},
    )
    if name is not None:
        function._cache = DiskCache(block, name)
    function.compile()
    return function


def block_of(g: Any) -> Any:
    """x = g(x)"""

    def block(x_data, n):
        x = numbers(x_data, n)
        for i in range(n):
            x[i] = g(x[i])

    return block


def block_of_slopes(slope: Any) -> Any:
    """dh *= slope(x)"""

    def block(x_data, dh_data, n):
        x, dh = numbers(x_data, n), numbers(dh_data, n)
        for i in range(n):
            dh[i] *= slope(x[i])

    return block


def block_of_terms(loss: Any, output_slope: Any) -> Any:
    """a, f = loss(a, f, y, c): each term of the loss in place of a, its derivative in place of f"""

    def block(y_data, c_data, a_data, f_data, n):
        y, c = numbers(y_data, n), numbers(c_data, n)
        a, f = numbers(a_data, n), numbers(f_data, n)
        for i in range(n):
            term, slope = loss(a[i], f[i], y[i], c[i])
            a[i] = term
            f[i] = slope * output_slope(f[i])

    return block


def block_of_rule(rule: Any, n_states: int) -> Any:
    """W, p, q = rule(s, W, p, q, g), for as many of p and q as there are"""

    def block(s_data, p_data, q_data, g_data, W_data, n):
        s = optimizers.constants_at(numbers(s_data, optimizers.N_CONSTANTS), 0)
        p, q = numbers(p_data, n), numbers(q_data, n)
        g, W = numbers(g_data, n), numbers(W_data, n)
        for i in range(n):
            if n_states == 0:
                W[i], _, _ = rule(s, W[i], g[i], g[i], g[i])
            elif n_states == 1:
                W[i], p[i], _ = rule(s, W[i], p[i], g[i], g[i])
            else:
                W[i], p[i], q[i] = rule(s, W[i], p[i], q[i], g[i])

    return block


@functools.cache
def _activation(name: str, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if name == "identity":
        return None, None
    g, slope = activations.ACTIVATIONS[name]
    return (
        compiled_block(block_of(g), 1, dtype, name),
        compiled_block(block_of_slopes(slope), 2, dtype, name),
    )


def activation(name: str, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The blocks of g and of its derivative; (None, None) for the identity."""
    if name == "identity" or name in activations.ACTIVATIONS:
        return _activation(name, dtype)
    return _own_activation(find("activation", name), dtype)


def _own_block(own: Any, block: Any, n_arrays: int, dtype: np.dtype[Any]) -> Any:
    """Of a user's own, compiled in every process: nobody could tell on disk if it has changed."""
    try:
        return compiled_block(block, n_arrays, dtype, None)
    except NumbaError as error:
        raise TypeError(f"Numba cannot compile {own.name}: {error}") from error


@functools.cache  # for good: engines have their addresses, and Numba never frees machine code
def _own_activation(own: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    from .duals import activation_functions

    g, slope = activation_functions(own)
    return (
        _own_block(own, block_of(g), 1, dtype),
        _own_block(own, block_of_slopes(slope), 2, dtype),
    )


@functools.cache
def output(name: str, dtype: np.dtype[Any]) -> Any:
    """The block of an output; None for identity and softmax, which is not of single numbers."""
    if name not in losses.OUTPUTS:
        return None
    return compiled_block(block_of(losses.OUTPUTS[name][0]), 1, dtype, f"output {name}")


@kernel
def _one(f):
    return one(f)


def loss(chosen: Loss, output_name: str, dtype: np.dtype[Any]) -> Any:
    """The block of a loss; None for the cross-entropies of softmax, which are of whole rows."""
    if chosen.name in losses.LOSSES:
        return _loss(chosen.name, output_name, dtype)
    if chosen.name in LOSSES:
        return None
    return _own_loss(chosen, output_name, dtype)


@functools.cache
def _loss(name: str, output_name: str, dtype: np.dtype[Any]) -> Any:
    function, is_of_a = losses.LOSSES[name]
    slope = _one if is_of_a else _slope_of(output_name)
    block = block_of_terms(function, slope)
    return compiled_block(block, 4, dtype, f"{name} of {output_name}")


@functools.cache
def _own_loss(own: Any, output_name: str, dtype: np.dtype[Any]) -> Any:
    from .duals import loss_function

    block = block_of_terms(loss_function(own), _slope_of(output_name))
    return _own_block(own, block, 4, dtype)


def _slope_of(output_name: str) -> Any:
    """df/da."""
    return _one if output_name == "identity" else losses.OUTPUTS[output_name][1]


@functools.cache
def rule(name: str, dtype: np.dtype[Any]) -> Any:
    """The block of an optimizer's rule."""
    block = block_of_rule(optimizers.RULES[name], RULES[name])
    return compiled_block(block, 5, dtype, f"rule {name}")


def address(block: Any) -> int:
    """Where it is; 0 for None."""
    return 0 if block is None else int(block.address)
