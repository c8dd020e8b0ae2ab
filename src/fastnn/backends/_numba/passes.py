"""What rows do not share: gather, forward through all layers, loss, backward to the first of them.

Functions of rows r0:r1 of a Work; r0 is a multiple of MR, and products take rows up to a multiple
of MR, the last of them padding that nothing reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .intrinsics import call_block, inlined, kernel, numbers_at, part
from .layout import (
    DELTA,
    G_SLOPE,
    KNOWN,
    LD,
    N_IN,
    N_OUT,
    TAKES_A,
    W_LD,
    W_PLACE,
    W_ROWS,
    WIDTH,
    WT_LD,
    WT_PLACE,
    G,
    H,
)
from .products import MR, tile


@kernel
def _convert(h, x, divisor):
    """h = x / divisor in h's dtype; whether all of it is finite."""
    bad = False
    for c in range(len(h)):
        h[c] = h.dtype.type(x[c]) / divisor
        bad |= not (h[c] - h[c] == h[c] - h[c])
    return not bad


@inlined
def sample(data, i):
    """The row of X and y that is i-th in the order."""
    return data.order[i] if len(data.order) > 0 else i


def _gather_from(dtype: Any, divisor: float) -> Any:
    """The stage that reads X of this type: h_0 of rows r0:r1, row 0 the first-th in the order.

    Work.faults of the share has 1 if not all of them is finite.
    """
    itemsize = np.dtype(dtype).itemsize

    def gather(x, r0, r1, first, share):
        work, data = x.work, x.data
        n_in, ld, NR = work.places[0, WIDTH], work.places[0, LD], x.net.NR
        finite, scale = True, work.space.dtype.type(divisor)
        for r in range(r0, r1):
            row = data.address + sample(data, first + r) * data.row_stride
            for c in range(0, n_in, NR):
                place = work.places[0, H] + (c // NR * work.rows + r) * ld
                h = part(work.space, place, min(NR, n_in - c))
                address = row + c * data.column_stride
                if data.column_stride == itemsize:
                    finite &= _convert(h, numbers_at(address, len(h), dtype), scale)
                    continue
                for i in range(len(h)):
                    one = numbers_at(address + i * data.column_stride, 1, dtype)
                    finite &= _convert(part(h, i, 1), one, scale)
        if not finite:
            work.faults[share] = 1

    gather.__name__ = f"gather {np.dtype(dtype)}"
    return gather


@inlined
def _whole_number(address, i, size):
    """The i-th of int32 or int64 numbers."""
    if size == 4:
        return np.int64(numbers_at(address + 4 * i, 1, np.int32)[0])
    return numbers_at(address + 8 * i, 1, np.int64)[0]


def _gather_sparse_from(dtype: Any, divisor: float) -> Any:
    """The same for a sparse X with elements of this type; h_0 is as of the dense one."""
    itemsize = np.dtype(dtype).itemsize

    def gather(x, r0, r1, first, share):
        work, data, NR = x.work, x.data, x.net.NR
        n_in, ld, finite = work.places[0, WIDTH], work.places[0, LD], True
        scale = work.space.dtype.type(divisor)
        for r in range(r0, r1):
            for c in range(0, n_in, NR):
                place = work.places[0, H] + (c // NR * work.rows + r) * ld
                h = part(work.space, place, min(NR, n_in - c))
                for i in range(len(h)):
                    h[i] = 0
            row = sample(data, first + r)
            begin = _whole_number(data.indptr, row, data.indptr_size)
            end = _whole_number(data.indptr, row + 1, data.indptr_size)
            for i in range(begin, end):
                c = _whole_number(data.indices, i, data.indices_size)
                place = work.places[0, H] + (c // NR * work.rows + r) * ld + c % NR
                element = numbers_at(data.address + i * itemsize, 1, dtype)
                finite &= _convert(part(work.space, place, 1), element, scale)
        if not finite:
            work.faults[share] = 1

    gather.__name__ = f"gather sparse {np.dtype(dtype)}"
    return gather


# By the type of a sparse X's elements.
SPARSE_GATHERS = {
    "float32": _gather_sparse_from(np.float32, 1),
    "float64": _gather_sparse_from(np.float64, 1),
    "uint8": _gather_sparse_from(np.uint8, 255),
}

# By the type of X.
GATHERS = {
    "float32": _gather_from(np.float32, 1),
    "float64": _gather_from(np.float64, 1),
    "uint8": _gather_from(np.uint8, 255),
}


@inlined
def _vectors(net, columns, p):
    """How many vectors of panel p hold columns."""
    return (min(net.NR, columns - p * net.NR) + net.VL - 1) // net.VL


@inlined
def _rows_up(r0, r1):
    return r0 + (r1 - r0 + MR - 1) // MR * MR


@kernel
def forward(net, work, k, r0, r1):
    """h_k = g(h_{k-1} W_k^T + b_k), of the output layer a_k; k from 1."""
    layer, below, here = net.layers[k - 1], work.places[k - 1], work.places[k]
    ld, end = here[LD], _rows_up(r0, r1)
    n_in, n_out, ld_w = layer[N_IN], layer[N_OUT], layer[W_LD]
    for p in range((n_out + net.NR - 1) // net.NR):
        nv = _vectors(net, n_out, p)
        W_p = layer[W_PLACE] + p * layer[W_ROWS] * ld_w
        bias = W_p + (layer[W_ROWS] - 1) * ld_w
        known = here[KNOWN] + p * work.rows * ld
        for r in range(r0, end, MR):
            tile(
                nv, work.space, known + r * ld, ld, net.W, bias, 0,
                work.space, below[H] + r * below[LD], below[LD], 1, net.NR, work.rows * below[LD],
                net.W, W_p, ld_w, n_in,
            )  # fmt: skip
        n, h = (end - r0) * ld, here[H] + p * work.rows * ld + r0 * ld
        _activate(work.space, known + r0 * ld, h, n, layer[G], layer[TAKES_A])


@inlined
def _activate(space, known, h, n, g, takes_a):
    """h = g(a), where `known` has a; it keeps a, or has h, too, as the derivative takes it."""
    x, y = part(space, known, n), part(space, h, n)
    if g != 0 and not takes_a:
        call_block(g, x)
    if known != h:
        _copy(x, y)
    if g != 0 and takes_a:
        call_block(g, y)


@kernel
def _copy(x, y):
    for i in range(len(x)):
        y[i] = x[i]


@kernel
def backward(net, work, k, r0, r1):
    """delta_{k-1} = (delta_k W_k) * g'_{k-1}, dropout apart; k from 2."""
    layer, above, here = net.layers[k - 1], work.places[k], work.places[k - 1]
    ld, end = here[LD], _rows_up(r0, r1)
    n_in, n_out, ld_w = layer[N_IN], layer[N_OUT], layer[WT_LD]
    slope = net.layers[k - 2, G_SLOPE]
    for p in range((n_in + net.NR - 1) // net.NR):
        nv = _vectors(net, n_in, p)
        Wt_p = layer[WT_PLACE] + p * n_out * ld_w
        delta = here[DELTA] + p * work.rows * ld
        for r in range(r0, end, MR):
            tile(
                nv, work.space, delta + r * ld, ld, net.zeros, 0, 0,
                work.space, above[DELTA] + r * above[LD], above[LD], 1, net.NR,
                work.rows * above[LD], net.Wt, Wt_p, ld_w, n_out,
            )  # fmt: skip
        if slope != 0:
            n, known = (end - r0) * ld, here[KNOWN] + (p * work.rows + r0) * ld
            call_block(slope, part(work.space, known, n), part(work.space, delta + r0 * ld, n))
