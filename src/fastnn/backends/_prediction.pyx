"""Predictions of the compiled backend: blocks of rows that threads take one after the other, from a
counter, or groups of panels that they mark. Which thread computed what leaves no trace in the bits.
"""
import os

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends._kernels cimport (
    FNN_MOST_PIECES, FNN_NOT_FINITE, fnn_activity, fnn_counter_add, fnn_counter_get,
    fnn_counter_mark, fnn_counter_move, fnn_counter_open, fnn_counter_wait, fnn_denormals_off,
    fnn_denormals_restore, fnn_flag_set, fnn_kernels, fnn_pool_forget, fnn_pool_run, fnn_rows,
)
from fastnn.backends._pass cimport forward_rows
from fastnn.backends._team cimport is_awake, lead


cdef enum:
    ROW_PANELS = 4  # what is best for one row, of which no weight is read twice


def _after_fork_in_child():
    fnn_pool_forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


cdef bint take_rows(prediction *p, int64_t *r0, int64_t *r1) noexcept nogil:
    """The next block of rows; they get smaller, so that all threads end at about the same time."""
    cdef int64_t share
    r0[0] = fnn_counter_get(&p.taken)
    while r0[0] < p.n:
        share = p.block
        if p.size > 1:
            share = max(p.least_block, (p.n - r0[0]) // (2 * p.size))
            share = min(p.block, (share + p.multiple - 1) // p.multiple * p.multiple)
        r1[0] = min(p.n, r0[0] + share)
        if fnn_counter_move(&p.taken, r0, r1[0]):
            return True
    return False


cdef bint predict_block(prediction *p, int thread, int64_t r0, int64_t r1) noexcept nogil:
    """Rows r0:r1 through the whole network, in rows of the workspace that are the thread's own."""
    cdef int64_t start = thread * p.block, end = start + r1 - r0
    cdef fnn_rows rows
    cdef fnn_activity *out = &p.net.activity[p.net.n_layers]
    rows.order, rows.first = p.rows.order, p.rows.first + r0 - start
    if not forward_rows(&p.net, rows, start, end):
        return False
    p.net.kernels.output(p.net.output, out, start, end, p.f + r0 * p.f_row_size)
    if p.losses != NULL:
        p.net.kernels.loss(&p.net.y, rows, 1.0, out, start, end, p.losses + r0 - start)
    return True


cdef bint predict_in_lanes(prediction *p, int thread, int64_t r0, int64_t r1) noexcept nogil:
    cdef char *scratch = p.scratch + thread * p.scratch_size
    if p.net.kernels.forward_lanes(p.net.layers, p.net.n_layers, p.net.output, &p.net.X, p.rows,
                                   r0, r1, scratch, p.f + r0 * p.f_row_size):
        return True
    fnn_flag_set(&p.net.invalid_X, 1)
    return False


cdef int64_t groups_of(const fnn_kernels *kernels, int64_t n, int size,
                       int64_t n_out) noexcept nogil:
    """Into how many groups the panels of a layer's output are cut: as many for each thread."""
    cdef int64_t panels = (n_out + kernels.NR - 1) // kernels.NR
    cdef int64_t together = (ROW_PANELS if n == 1 else kernels.usual_group()) * size
    return min(panels, FNN_MOST_PIECES, (panels + together - 1) // together * size)


cdef void forward_group(prediction *p, int k, int64_t p0, int64_t p1) noexcept nogil:
    """Panels p0:p1 of layer k's output."""
    cdef fnn_activity *x = p.net.activity
    if k > 0 or not p.reads_in_place:
        p.net.kernels.forward_panels(&p.net.layers[k], &x[k].h, &x[k + 1], p.n, p0, p1)
    elif p.net.kernels.panels_in_place(&p.net.X, p.rows, &p.net.layers[0], &x[1], p.n, p0,
                                       p1) == FNN_NOT_FINITE:
        fnn_flag_set(&p.net.invalid_X, 1)


cdef void predict_panels(prediction *p, int thread) noexcept nogil:
    """All rows up to the output layer's a, layer by layer, no layer before all of the one below is
    done. A thread begins with the same groups of panels in every call, since its core may still
    have their weights."""
    cdef int64_t NR = p.net.kernels.NR, done = 0, panels, groups, i, group
    cdef int k
    for k in range(p.net.n_layers):
        panels = (p.net.layers[k].n_out + NR - 1) // NR
        if p.size == 1:
            forward_group(p, k, 0, panels)
            continue
        groups = groups_of(p.net.kernels, p.n, p.size, p.net.layers[k].n_out)
        for i in range(groups):
            group = (groups * thread // p.size + i) % groups
            if fnn_counter_mark(&p.groups[k], group):
                forward_group(p, k, panels * group // groups, panels * (group + 1) // groups)
                fnn_counter_add(&p.done, 1)
        done += groups
        fnn_counter_wait(&p.done, done)


cdef void predict_team(void *context, int thread) noexcept nogil:
    """What every thread does, denormals off: a block, or group of panels, until none is left."""
    cdef prediction *p = <prediction *> context
    cdef uint64_t mode = fnn_denormals_off()
    cdef int64_t r0, r1
    cdef bint valid = True
    if p.how == BY_PANELS:
        predict_panels(p, thread)
    else:
        while valid and take_rows(p, &r0, &r1):
            if p.how == IN_LANES:
                valid = predict_in_lanes(p, thread, r0, r1)
            else:
                valid = predict_block(p, thread, r0, r1)
    fnn_denormals_restore(mode)


cdef void predict_in_parallel(void *context, int n_threads) noexcept nogil:
    with parallel(num_threads=n_threads):
        predict_team(context, threadid())


cdef void run_team(prediction *p) noexcept nogil:
    """Where the calling thread has trained a moment ago, that team; else helpers of the pool."""
    if p.size == 1 or not is_awake() or not lead(predict_in_parallel, p, p.size):
        fnn_pool_run(p.size, predict_team, p)


cdef void predict(prediction *p) noexcept nogil:
    cdef uint64_t mode
    cdef int k
    if p.how != BY_PANELS:
        run_team(p)
        return
    for k in range(p.net.n_layers):
        fnn_counter_open(&p.groups[k])
    mode = fnn_denormals_off()
    p.reads_in_place = p.n > 1 and p.net.kernels.is_in_place(
        &p.net.X, p.rows, &p.net.layers[0], p.net.activity[0].h.nonzero != NULL, 0, p.n)
    if (p.reads_in_place
            or p.net.kernels.gather(&p.net.X, p.rows, NULL, &p.net.activity[0].h, 0, p.n)):
        run_team(p)
        p.net.kernels.output(p.net.output, &p.net.activity[p.net.n_layers], 0, p.n, p.f)
    else:
        fnn_flag_set(&p.net.invalid_X, 1)
    fnn_denormals_restore(mode)
