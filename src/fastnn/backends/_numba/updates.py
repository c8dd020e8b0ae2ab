"""The second half of a step: dW of a tile of weights, then the optimizer on it, then Wt.

A tile is one block of NR inputs by one panel of outputs; its gradient stays in the first-level
cache, in the share's part of Work.squares, unless Net.gradient has to keep all of it. The bias
belongs to the tile of the first inputs.
"""

from __future__ import annotations

import math

import numpy as np

from .intrinsics import call_block, inlined, kernel, part
from .layout import (
    BATCH_ROWS,
    DELTA,
    LD,
    N_IN,
    N_OUT,
    PART,
    PART_ROWS,
    W_LD,
    W_PLACE,
    W_ROWS,
    WT_LD,
    WT_PLACE,
    H,
)
from .optimizers import FACTOR, N_CONSTANTS, add_penalty, clip_values, constants_at, decay_weights
from .products import MR, tile


@inlined
def _rows_of(net, k, q):
    """Of the tile, with W's padding up to a multiple of MR."""
    n_in = (net.layers[k, N_IN] + MR - 1) // MR * MR
    return min(net.NR, n_in - q * net.NR)


@inlined
def _places(net, k, q, p):
    """Where in W the tile begins, and where its panel's bias is."""
    layer = net.layers[k]
    panel = layer[W_PLACE] + p * layer[W_ROWS] * layer[W_LD]
    return panel + q * net.NR * layer[W_LD], panel + (layer[W_ROWS] - 1) * layer[W_LD]


@kernel
def _sum_rows(delta, n, bias, first):
    """bias = (or += ) the sum over n rows of delta, in their order."""
    if first:
        for c in range(len(bias)):
            bias[c] = 0
    for r in range(n):
        row = part(delta, r * len(bias), len(bias))
        for c in range(len(bias)):
            bias[c] += row[c]


@kernel
def _sum_gradient(net, work, n, k, q, p, g, square, bias, first):
    """dW of the tile in g from `square` on, db from `bias` on; added to what is there or not."""
    layer, below, here = net.layers[k], work.places[k], work.places[k + 1]
    ld = layer[W_LD]
    nv = (min(net.NR, layer[N_OUT] - p * net.NR) + net.VL - 1) // net.VL
    delta = here[DELTA] + p * work.rows * here[LD]
    h = below[H] + q * work.rows * below[LD]
    for i in range(0, _rows_of(net, k, q), MR):
        c = square + i * ld
        start, s, lds = (net.zeros, 0, 0) if first else (g, c, ld)
        tile(
            nv, g, c, ld, start, s, lds, work.space, h + i, 1, below[LD], n, 0,
            work.space, delta, here[LD], n,
        )  # fmt: skip
    if q == 0:
        _sum_rows(part(work.space, delta, n * ld), n, part(g, bias, ld), first)


@kernel
def _transpose(net, k, q, p):
    """The tile's part of Wt."""
    layer = net.layers[k]
    ld, ld_t, n_out = layer[W_LD], layer[WT_LD], layer[N_OUT]
    rows = min(net.NR, layer[N_IN] - q * net.NR)
    columns = min(net.NR, n_out - p * net.NR)
    W, _ = _places(net, k, q, p)
    Wt = layer[WT_PLACE] + (q * n_out + p * net.NR) * ld_t
    for c in range(columns):
        row, column = part(net.Wt, Wt + c * ld_t, rows), part(net.W, W + c, rows * ld)
        for i in range(rows):
            row[i] = column[i * ld]


@kernel
def _optimize(x, k, W, g, n):
    """The optimizer on n parameters from place W on, from the first n of g."""
    net, s = x.net, part(x.work.step, k * N_CONSTANTS, N_CONSTANTS)
    call_block(x.stages.rule, s, part(net.p, W, n), part(net.q, W, n), g, part(net.W, W, n))


@kernel
def _update(x, k, q, p, g, square, bias):
    net, s = x.net, constants_at(x.work.step, k * N_CONSTANTS)
    W, W_bias = _places(net, k, q, p)
    ld = net.layers[k, W_LD]
    n = _rows_of(net, k, q) * ld
    if s.decay != 0:
        decay_weights(s, part(net.W, W, n))
    _optimize(x, k, W, part(g, square, n), n)
    if q == 0:
        _optimize(x, k, W_bias, part(g, bias, ld), ld)
    if k > 0:
        _transpose(net, k, q, p)


@kernel
def update_tile(x, k, q, p, share):
    """The tile's part of a step on the present part of a batch."""
    net, run, s = x.net, x.run, constants_at(x.work.step, k * N_CONSTANTS)
    n, done = run.counts[PART_ROWS], run.counts[PART]
    first, last = done == 0, done + n == run.counts[BATCH_ROWS]
    W, W_bias = _places(net, k, q, p)
    ld = net.layers[k, W_LD]
    square = share * net.NR * (net.NR + 1)
    updates, clips = x.stages.rule != 0, run.clip_norm > 0
    g, square, bias = (
        (x.work.squares, square, square + net.NR * ld)
        if updates and not clips and first and last
        else (net.gradient, W, W_bias)
    )
    _sum_gradient(net, x.work, n, k, q, p, g, square, bias, first)
    if not last or not updates:
        return
    values, biases = part(g, square, _rows_of(net, k, q) * ld), part(g, bias, ld)
    if run.l2 != 0 or run.l1 != 0:
        add_penalty(s, part(net.W, W, len(values)), values)
    if run.clip_value > 0:
        clip_values(s, values)
        if q == 0:
            clip_values(s, biases)
    if not clips:
        _update(x, k, q, p, g, square, bias)


@kernel
def _scale(x, factor):
    for i in range(len(x)):
        x[i] *= factor


@kernel
def update_clipped(x, k, q, p):
    """The optimizer on the tile, after clipping Net.gradient by its norm."""
    net, factor = x.net, x.run.sums[FACTOR]
    W, W_bias = _places(net, k, q, p)
    ld = net.layers[k, W_LD]
    scale = net.W.dtype.type(factor)
    _scale(part(net.gradient, W, _rows_of(net, k, q) * ld), scale)
    if q == 0:
        _scale(part(net.gradient, W_bias, ld), scale)
    _update(x, k, q, p, net.gradient, W, W_bias)


@kernel
def _add_squares(g, sums):
    for c in range(len(g)):
        sums[c] += np.float64(g[c]) * np.float64(g[c])


def clipping_factor(x):
    """What makes the norm of all of Net.gradient at most clip_norm, in Run.sums.

    Each neuron's sum is a chain over its inputs, then the bias, so that tiles have no part in it.
    """
    net, sums, total = x.net, x.work.sums, 0.0
    for k in range(len(net.layers)):
        layer = net.layers[k]
        for p in range((layer[N_OUT] + net.NR - 1) // net.NR):
            columns = min(net.NR, layer[N_OUT] - p * net.NR)
            W, W_bias = _places(net, k, 0, p)
            sums[:] = 0
            for i in range(layer[N_IN]):
                _add_squares(part(net.gradient, W + i * layer[W_LD], columns), sums)
            _add_squares(part(net.gradient, W_bias, columns), sums)
            for c in range(columns):
                total += sums[c]
    factor = x.run.clip_norm / (math.sqrt(total) + 1e-6)
    x.run.sums[FACTOR] = 1.0 if factor > 1 else factor
