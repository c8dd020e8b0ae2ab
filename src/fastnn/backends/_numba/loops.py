"""The loops over steps, parts of batches and shares: what Python calls, and what threads do.

A step of training is two phases. In the first, shares of the batch's rows are carried through
everything that rows do not share; in the second, shares of the weights sum over all rows and update
on the spot. A share is the work of one thread. Which share computed what leaves no trace in the
bits.

`x` is the Context.
"""

from __future__ import annotations

from .dropout import drop_if_any
from .intrinsics import call_stage, clock, denormals_off, inlined, kernel, set_control_word
from .layout import (
    BATCH,
    BATCH_ROWS,
    DELTA,
    PART,
    PART_ROWS,
    SOFTMAX,
    H,
    T,
)
from .optimizers import INVERSE_N, LOSSES, LOSSES_AT_STEP, fill_step
from .outputs import copy_hidden, copy_output
from .passes import backward, forward, sample
from .products import MR
from .updates import update_clipped, update_tile

BLOCK_ROWS = 64  # of these many rows, h and delta of a layer stay in the second-level cache


@inlined
def _share(n, share, n_shares):
    """r0 and r1 of an equal share of n rows, in whole tiles."""
    rows = ((n + n_shares - 1) // n_shares + MR - 1) // MR * MR
    return min(n, share * rows), min(n, (share + 1) * rows)


@inlined
def _any(faults):
    for share in range(len(faults)):
        if faults[share] != 0:
            return True
    return False


@inlined
def _in_shares(x, function):
    """Call a stage for every share: in threads, or one after the other."""
    if x.stages.team != 0:
        call_stage(x.stages.team, x, function, x.n_shares)
    else:
        for share in range(x.n_shares):
            call_stage(function, x, share)


def train_rows(x, share):
    """The share's part of the first phase, on the present part of a batch."""
    mode = denormals_off()
    net, work, counts = x.net, x.work, x.run.counts
    first = counts[BATCH] + counts[PART]
    start, end = _share(counts[PART_ROWS], share, x.n_shares)
    for r0 in range(start, end, BLOCK_ROWS):
        r1 = min(end, r0 + BLOCK_ROWS)
        call_stage(x.stages.gather, x, r0, r1, first, share)
        if work.faults[share] != 0:
            break
        drop_if_any(x, 0, H, r0, r1, first)
        for k in range(1, len(net.layers) + 1):
            forward(net, work, k, r0, r1)
            if k < len(net.layers):
                drop_if_any(x, k, H, r0, r1, first)
        call_stage(x.stages.output, x, r0, r1, first)
        call_stage(x.stages.loss, x, r0, r1, first)
        for k in range(len(net.layers), x.run.lowest, -1):
            backward(net, work, k, r0, r1)
            drop_if_any(x, k - 1, DELTA, r0, r1, first)
    set_control_word(mode)


def train_weights(x, share):
    """The share's part of the second phase."""
    mode = denormals_off()
    for i in range(x.run.starts[share], x.run.starts[share + 1]):
        k, q, p = x.run.tiles[i]
        update_tile(x, k, q, p, share)
    set_control_word(mode)


def train_clipped(x, share):
    """The share's updates, after clipping by the norm of all gradients."""
    mode = denormals_off()
    for i in range(x.run.starts[share], x.run.starts[share + 1]):
        k, q, p = x.run.tiles[i]
        update_clipped(x, k, q, p)
    set_control_word(mode)


@kernel
def _inverse_n(x, first, n):
    """What the sum over a batch's n rows is divided by, inverted."""
    if not x.run.batch_weighting or len(x.data.weights) == 0:
        return 1.0 / n
    total = 0.0
    for r in range(first, first + n):
        total += x.data.weights[sample(x.data, r)]
    return 1.0 / total if total > 0 else 0.0  # no weight at all: no step


def train(x):
    """Steps until the order, max_steps or the seconds are over, or X is not finite."""
    run, work, counts, sums = x.run, x.work, x.run.counts, x.run.sums
    deadline, unclocked, steps = clock(work.time) + run.seconds, 0.0, 0
    while True:
        counts[BATCH_ROWS] = n = min(run.batch_size, run.n_order - counts[BATCH])
        counts[PART_ROWS] = part_rows = min(run.part_rows, n - counts[PART])
        if counts[PART] == 0:
            sums[INVERSE_N] = _inverse_n(x, counts[BATCH], n)
        rate = run.learning_rates[steps]
        fill_step(run, counts[T] + 1, rate, len(x.net.layers), work.step)
        _in_shares(x, x.stages.rows)
        if _any(work.faults):
            return
        _in_shares(x, x.stages.weights)
        is_last = counts[PART] + part_rows == n
        if is_last and x.stages.clipped != 0:
            call_stage(x.stages.factor, x)
            _in_shares(x, x.stages.clipped)
        weighs = run.batch_weighting and len(x.data.weights) > 0
        scale = n * sums[INVERSE_N] if weighs else 1.0
        for r in range(part_rows):
            sums[LOSSES] += work.losses[r] * scale
        if is_last:
            counts[BATCH] += n
            counts[PART] = 0
            counts[T] += 1
            steps += 1
            sums[LOSSES_AT_STEP] = sums[LOSSES]
        else:
            counts[PART] += part_rows
        if counts[BATCH] == run.n_order or steps == run.max_steps:
            return
        unclocked += part_rows * run.flops_per_row
        if unclocked > 1e6:  # reading the clock takes as long as a tiny step
            unclocked = 0.0
            if clock(work.time) > deadline:
                return


def predict_rows(x, share):
    """The share's rows through layers 1 to k_last, in rows of Work that are the share's own."""
    mode = denormals_off()
    net, work, request = x.net, x.work, x.request
    start, end = _share(request.n, share, x.n_shares)
    own = work.rows // x.n_shares
    w0 = share * own
    for r0 in range(start, end, own):
        r1 = min(end, r0 + own)
        w1, first = w0 + r1 - r0, r0 - w0
        call_stage(x.stages.gather, x, w0, w1, first, share)
        if work.faults[share] != 0:
            break
        for k in range(1, request.k_last + 1):
            forward(net, work, k, w0, w1)
        if request.k_last < len(net.layers):
            copy_hidden(net, work, request.k_last, w0, w1, request.f[r0:r1])
            continue
        call_stage(x.stages.output, x, w0, w1, first)
        copy_output(net, work, w0, w1, x.stages.output_block == SOFTMAX, request.f[r0:r1])
        if x.stages.loss != 0:
            call_stage(x.stages.loss, x, w0, w1, first)
            for r in range(w0, w1):
                request.losses[first + r] = work.losses[r]
    set_control_word(mode)


def predict(x):
    """f, and the losses if there is a stage for them."""
    _in_shares(x, x.stages.rows)
