"""The output layer: its activation f, the loss of each row, and delta = dJ/da, stable for any a."""

from __future__ import annotations

import numpy as np

from .elementary import exp, log
from .intrinsics import call_block, fma, inlined, kernel, part
from .layout import DELTA, LD, WIDTH, H
from .optimizers import INVERSE_N
from .passes import sample


@kernel
def _highest(x, top):
    for c in range(len(x)):
        top = max(top, x[c]) if x[c] == x[c] else x[c]
    return top


@kernel
def _copy(x, y):
    for c in range(len(x)):
        y[c] = x[c]


@kernel
def _subtract(x, top, y):
    for c in range(len(x)):
        y[c] = x[c] - top


@kernel
def _clear(x):
    for c in range(len(x)):
        x[c] = 0


@kernel
def _exp(x):
    for c in range(len(x)):
        x[c] = exp(x[c])


@kernel
def _sum(x, total):
    for c in range(len(x)):
        total += x[c]
    return total


@kernel
def _divide(x, y):
    for c in range(len(x)):
        x[c] /= y


@inlined
def _row(net, work, matrix, p, r):
    """Row r of the output layer's panel p, its columns and no padding."""
    here = work.places[-1]
    columns = min(net.NR, here[WIDTH] - p * net.NR)
    return part(work.space, here[matrix] + (p * work.rows + r) * here[LD], columns)


@inlined
def _padding(net, work, p, r):
    """What follows row r of the output layer's delta in panel p."""
    here = work.places[-1]
    columns = min(net.NR, here[WIDTH] - p * net.NR)
    place = here[DELTA] + (p * work.rows + r) * here[LD]
    return part(work.space, place + columns, here[LD] - columns)


@inlined
def _panels(net, work):
    return (work.places[-1, WIDTH] + net.NR - 1) // net.NR


@inlined
def _top(net, work, r):
    top = work.space.dtype.type(-np.inf)
    for p in range(_panels(net, work)):
        top = _highest(_row(net, work, H, p, r), top)
    return top


@inlined
def _total(net, work, r):
    total = work.space.dtype.type(0)
    for p in range(_panels(net, work)):
        total = _sum(_row(net, work, DELTA, p, r), total)
    return total


@kernel
def _begin(net, work, r0, r1, is_softmax):
    """f = a, of softmax a - the highest of the row, which e^ then does not overflow."""
    for r in range(r0, r1):
        top = _top(net, work, r) if is_softmax else work.space.dtype.type(0)
        for p in range(_panels(net, work)):
            _subtract(_row(net, work, H, p, r), top, _row(net, work, DELTA, p, r))
            _clear(_padding(net, work, p, r))


@inlined
def _rows_of_panel(work, p, r0, r1):
    """Rows r0:r1 of the output layer's f, padding included."""
    here = work.places[-1]
    start = here[DELTA] + (p * work.rows + r0) * here[LD]
    return part(work.space, start, (r1 - r0) * here[LD])


def softmax(x, r0, r1, first):
    """f = e^a / sum e^a, in the output layer's DELTA, but for the division."""
    _begin(x.net, x.work, r0, r1, True)
    for p in range(_panels(x.net, x.work)):
        _exp(_rows_of_panel(x.work, p, r0, r1))


def elementwise(x, r0, r1, first):
    """f = output(a), in the output layer's DELTA."""
    _begin(x.net, x.work, r0, r1, False)
    if x.stages.output_block != 0:
        for p in range(_panels(x.net, x.work)):
            call_block(x.stages.output_block, _rows_of_panel(x.work, p, r0, r1))


@kernel
def copy_output(net, work, r0, r1, is_softmax, f):
    """f (n, n_out) from what the output's stage left, row r0 to the first of f."""
    for r in range(r0, r1):
        total = _total(net, work, r)
        for p in range(_panels(net, work)):
            x = _row(net, work, DELTA, p, r)
            y = f[r - r0, p * net.NR : p * net.NR + len(x)]
            _copy(x, y)
            if is_softmax:
                _divide(y, total)


@kernel
def copy_hidden(net, work, k, r0, r1, f):
    """f (n, D_k) = h_k."""
    here = work.places[k]
    for r in range(r0, r1):
        for c in range(here[WIDTH]):
            p = c // net.NR
            f[r - r0, c] = work.space[here[H] + (p * work.rows + r) * here[LD] + c - p * net.NR]


@inlined
def _weight(x, i):
    """Of sample i, and w/n of the batch."""
    work, data = x.work, x.data
    weight = data.weights[i] if len(data.weights) > 0 else work.space.dtype.type(1)
    return weight, weight * work.space.dtype.type(x.run.sums[INVERSE_N])


@kernel
def _scale(x, factor):
    for c in range(len(x)):
        x[c] *= factor


def terms(x, r0, r1, first):
    """losses = w l and delta = w/n dl/da, of a loss that is a sum of terms, which replace a."""
    net, work = x.net, x.work
    for r in range(r0, r1):
        i = sample(x.data, first + r)
        weight, scale = _weight(x, i)
        total = work.space.dtype.type(0)
        for p in range(_panels(net, work)):
            a, f = _row(net, work, H, p, r), _row(net, work, DELTA, p, r)
            y = x.data.values[i, p * net.NR : p * net.NR + len(a)]
            call_block(x.stages.loss_block, y, part(x.data.parameters, p * net.NR, len(a)), a, f)
            total = _sum(a, total)
            _scale(f, scale)
            _clear(_padding(net, work, p, r))
        work.losses[r] = np.float64(weight) * total


@kernel
def _smoothed(data, n_classes, first, i, top, ln_sum, a, f, loss):
    """loss + l, f replaced by f - y: outputs from the first-th on, with smoothed labels."""
    s = data.parameters[0]
    share = s / f.dtype.type(n_classes)
    for c in range(len(f)):
        if len(data.labels) > 0:
            y = f.dtype.type(1) if data.labels[i] == first + c else f.dtype.type(0)
        else:
            y = data.values[i, first + c]
        y = fma(-s, y, y) + share
        loss += y * (top - a[c] + ln_sum)
        f[c] -= y
    return loss


def cross_entropy(x, r0, r1, first):
    """The same for -sum_c y_c ln f_c and softmax; dl/da = f - y, as the y_c of a row sum to 1."""
    net, work, data = x.net, x.work, x.data
    for r in range(r0, r1):
        i = sample(data, first + r)
        weight, scale = _weight(x, i)
        top, total, smoothing = _top(net, work, r), _total(net, work, r), data.parameters[0]
        ln_sum, loss = log(total), work.space.dtype.type(0)
        for p in range(_panels(net, work)):
            a, f = _row(net, work, H, p, r), _row(net, work, DELTA, p, r)
            _divide(f, total)
            if smoothing > 0:
                n_classes = len(data.parameters)
                loss = _smoothed(data, n_classes, p * net.NR, i, top, ln_sum, a, f, loss)
            elif len(data.labels) > 0:
                c = data.labels[i] - p * net.NR
                if 0 <= c < len(f):
                    loss = top - a[c] + ln_sum
                    f[c] -= f.dtype.type(1)
            else:
                for c in range(len(f)):
                    y = data.values[i, p * net.NR + c]
                    loss += y * (top - a[c] + ln_sum)
                    f[c] -= y
            _scale(f, scale)
            _clear(_padding(net, work, p, r))
        work.losses[r] = np.float64(weight) * loss


# ---- groups ----


@inlined
def _piece(net, work, matrix, r, p, start, end):
    """Row r of the output layer, those of the columns start:end that are in panel p."""
    here = work.places[-1]
    first = max(start, p * net.NR)
    place = here[matrix] + (p * work.rows + r) * here[LD] + first - p * net.NR
    return part(work.space, place, min(end, (p + 1) * net.NR) - first)


@kernel
def _top_of_group(net, work, r, start, end):
    top = work.space.dtype.type(-np.inf)
    for p in range(start // net.NR, (end - 1) // net.NR + 1):
        top = _highest(_piece(net, work, H, r, p, start, end), top)
    return top


@kernel
def _begin_group(net, work, r, start, end):
    """a - the highest of the group, in DELTA."""
    top = _top_of_group(net, work, r, start, end)
    for p in range(start // net.NR, (end - 1) // net.NR + 1):
        a = _piece(net, work, H, r, p, start, end)
        _subtract(a, top, _piece(net, work, DELTA, r, p, start, end))


@kernel
def _group(net, work, data, r, i, start, end):
    """l of a group whose DELTA has e^(a - the highest), which becomes f - y."""
    top, total = _top_of_group(net, work, r, start, end), work.space.dtype.type(0)
    for p in range(start // net.NR, (end - 1) // net.NR + 1):
        total = _sum(_piece(net, work, DELTA, r, p, start, end), total)
    ln_sum, loss = log(total), work.space.dtype.type(0)
    for p in range(start // net.NR, (end - 1) // net.NR + 1):
        a = _piece(net, work, H, r, p, start, end)
        f = _piece(net, work, DELTA, r, p, start, end)
        _divide(f, total)
        first = max(start, p * net.NR)
        loss = _smoothed(data, end - start, first, i, top, ln_sum, a, f, loss)
    return loss


def grouped_cross_entropy(x, r0, r1, first):
    """The same for the cross-entropy of each group of neighbouring outputs and its softmax."""
    net, work, data = x.net, x.work, x.data
    for r in range(r0, r1):
        start = 0
        for g in range(1, len(data.parameters)):
            end = start + int(data.parameters[g])
            _begin_group(net, work, r, start, end)
            start = end
    for p in range(_panels(net, work)):
        _exp(_rows_of_panel(work, p, r0, r1))
    for r in range(r0, r1):
        i = sample(data, first + r)
        weight, scale = _weight(x, i)
        loss, start = work.space.dtype.type(0), 0
        for g in range(1, len(data.parameters)):
            end = start + int(data.parameters[g])
            loss += _group(net, work, data, r, i, start, end)
            start = end
        for p in range(_panels(net, work)):
            _scale(_row(net, work, DELTA, p, r), scale)
            _clear(_padding(net, work, p, r))
        work.losses[r] = np.float64(weight) * loss


# Those that are not `terms`.
LOSSES = {"cross_entropy": cross_entropy, "grouped_cross_entropy": grouped_cross_entropy}
