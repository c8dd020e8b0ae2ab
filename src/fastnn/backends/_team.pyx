"""The loops of the compiled backend: over batches, parts of batches, phases and threads.

A step of training is two phases. In the first, threads share the rows of the batch: each gathers
its rows, carries them forward through all layers, takes the loss, and carries delta backward, with
no need of the others. In the second they share the weights: each tile of dW sums over all rows
and updates its weights on the spot. A barrier ends either phase. Clipping by the norm of all
gradients makes three of the second one: gradients, their squares, updates.

Which thread computed what leaves no trace in the bits.
"""
import os

from cython.parallel cimport parallel, threadid
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends import forks

from fastnn.backends._kernels cimport (
    FNN_ADAM, Kernels, Memory, fnn_barrier_wait, fnn_call_on_new_thread, fnn_columns,
    fnn_denormals_off, fnn_denormals_restore, fnn_dropout, fnn_flag_get, fnn_flag_set, fnn_layer,
    fnn_plus_losses, fnn_rows, fnn_step, fnn_thread_seconds, fnn_work,
)

from fastnn.backends._first_layer cimport forward_columns, join_bits, train_columns
from fastnn.backends._pass cimport (
    BLOCK_ROWS, backward_rows, dropout_of, forward_layers, forward_rows, network_pass,
)

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()
    double omp_get_wtime()


# A fork takes only the thread that calls it along, and the OpenMP of that thread would wait for its
# team for ever. In a child of a fork, a new thread leads every team: OpenMP has a team for each
# thread that leads one, and no more of it when the thread ends.
cdef bint is_forked = forks.is_child


def _after_fork_in_child():
    global is_forked
    is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


cdef bint lead(fnn_work team, void *context, int n_threads) noexcept nogil:
    """team(context, n_threads), which opens a parallel region; False, without a call, if the system
    has no thread that could lead one."""
    if is_forked:
        return fnn_call_on_new_thread(team, context, n_threads)
    team(context, n_threads)
    return True


cdef class Tiles:
    def __cinit__(self, Kernels kernels, shapes, layers):
        """shapes: of every W; layers: the numbers, from 0, of those to be updated."""
        tiles = [(k, tile, cost) for k in layers
                 for tile, cost in kernels.tiles(shapes[k][1], shapes[k][0])]
        self.memory = Memory()
        self.tiles = <weight_tile *> self.memory.take(len(tiles) * sizeof(weight_tile))
        for k, tile, cost in tiles:
            self.tiles[self.n_tiles] = weight_tile(k, tile, cost, 0)
            self.n_tiles += 1
            self.n_of_input += k == 0
        self.n_threads = 1

    cdef int share(self, int n_threads, int64_t first) except -1:
        """The most expensive first, each to the thread with the least so far (Graham, 1969): the
        tiles before `first` and the others each for themselves."""
        cdef int64_t i
        if n_threads == self.n_threads and first == self.first:
            return 0
        for begin, end in ((0, first), (first, self.n_tiles)):
            loads = [0] * n_threads
            for i in sorted(range(begin, end), key=lambda i: -self.tiles[i].cost):
                thread = min(range(n_threads), key=loads.__getitem__)
                loads[thread] += self.tiles[i].cost
                self.tiles[i].thread = thread
        self.n_threads, self.first = n_threads, first
        return 0


# Rows r0:end of n, a thread's share, which it takes in blocks; so many of them are fetched one step
# before.
ctypedef struct row_share:
    int64_t n, r0, end, block, fetched


cdef row_share share_of(training_run *run, int64_t n, int thread, int size) noexcept nogil:
    """Shares of equal size, equal blocks of whole tiles.

    Once for all steps: these divisions take as long as a tiny network's layer.
    """
    cdef row_share share
    cdef int64_t MR = run.net.kernels.MR, rows = (n + size - 1) // size
    cdef int64_t n_blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    cdef int64_t row_bytes = run.net.layers[0].n_in * max(1, run.net.X.column_stride)
    share.n = n
    share.r0 = min(n, thread * rows)
    share.end = min(n, share.r0 + rows)
    share.block = ((rows + n_blocks - 1) // n_blocks + MR - 1) // MR * MR
    share.fetched = min(rows, FETCH_BYTES // row_bytes)
    return share


cdef void rows_phase(training_run *run, const row_share *share, int64_t first,
                     double inverse_n) noexcept nogil:
    """The share's rows of the workspace, row 0 of which is order[first]."""
    cdef network_pass *net = &run.net
    cdef int64_t r0 = share.r0, r1
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    while r0 < share.end:
        r1 = min(share.end, r0 + share.block)
        if net.first != NULL:
            join_bits(net, r0, r1)
            forward_layers(net, 1, rows, r0, r1)
        elif not forward_rows(net, rows, r0, r1):
            return
        net.kernels.loss(&net.y, rows, inverse_n, &net.activity[net.n_layers], r0, r1, run.losses)
        backward_rows(net, net.lowest if net.first == NULL else 1, rows, r0, r1)
        r0 = r1


cdef bint columns_and_rows(training_run *run, int thread, int size, const row_share *share,
                           int64_t first, double inverse_n, const fnn_step *step) noexcept nogil:
    """rows_phase where the first layer is shared out by columns: that layer's update too."""
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    forward_columns(&run.net, thread, size, rows, share.n)
    fnn_barrier_wait(&run.barrier, size)
    if fnn_flag_get(&run.net.invalid_X):
        return False
    rows_phase(run, share, first, inverse_n)
    fnn_barrier_wait(&run.barrier, size)
    train_columns(&run.net, thread, size, share.n, step)
    return True


cdef int64_t cost_of_tiles(training_run *run, int thread, int size) noexcept nogil:
    cdef int64_t i, total = 0
    for i in range(run.n_tiles):
        if run.tiles[i].thread % size == thread:
            total += run.tiles[i].cost
    return total


cdef void weights_phase(training_run *run, int thread, int size, const row_share *share,
                        int64_t next_first, int64_t total, const fnn_step *step) noexcept nogil:
    """The thread's tiles of all weights, `total` their cost.

    Memory is idle meanwhile, so the rows of X that the thread will take of order[next_first:] are
    fetched, a few with every tile.
    """
    cdef network_pass *net = &run.net
    cdef int64_t n_in = net.layers[0].n_in, i, done = 0, r0 = share.r0, r1
    cdef int64_t to_fetch = min(share.r0 + share.fetched,
                                min(share.end, run.n_order - next_first)) - share.r0
    cdef const weight_tile *tile
    cdef fnn_rows rows
    rows.order, rows.first = run.order, next_first
    for i in range(run.first_tile, run.n_tiles):
        tile = &run.tiles[i]
        if size == 1 or tile.thread % size == thread:
            done += tile.cost
            r1 = share.r0 + to_fetch * done // total
            if r1 > r0:
                net.kernels.fetch(&net.X, rows, n_in, r0, r1)
                r0 = r1
            net.kernels.update(&net.layers[tile.layer], &net.activity[tile.layer].h,
                               &net.activity[tile.layer + 1].delta, share.n, tile.part, step)


cdef void small_step(training_run *run, int64_t first, int64_t n, double inverse_n,
                     const fnn_step *step) noexcept nogil:
    """Both phases of a step on order[first : first + n] at once."""
    cdef network_pass *net = &run.net
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    if not net.kernels.small_step(net.layers, net.n_layers, net.activity, &net.X, &net.y, rows, n,
                                  inverse_n, min(n, run.n_order - first - n), step, run.losses):
        fnn_flag_set(&net.invalid_X, 1)


cdef void squares_phase(training_run *run, int thread, int size) noexcept nogil:
    """The squares of every neuron's gradient; threads take panels of neurons in turns."""
    cdef const fnn_layer *layer
    cdef double *sums = run.squares
    cdef int64_t panel, turn = 0, NR = run.net.kernels.NR
    cdef int k
    for k in range(run.net.n_layers):
        layer = &run.net.layers[k]
        for panel in range((layer.n_out + NR - 1) // NR):
            if turn % size == thread:
                run.net.kernels.squares(layer, panel, sums + panel * NR)
            turn += 1
        sums += layer.n_out


cdef double clipping_scale(const training_run *run) noexcept nogil:
    """What brings the norm of all gradients down to clip_norm, at most 1; NaN if the norm is."""
    cdef const double *sums = run.squares
    cdef double total = 0, scale
    cdef int64_t o
    cdef int k
    for k in range(run.net.n_layers):
        for o in range(run.net.layers[k].n_out):
            total += sums[o]
        sums += run.net.layers[k].n_out
    scale = run.clip_norm / (sqrt(total) + 1e-6)
    return 1 if scale > 1 else scale


cdef void clipped_update(training_run *run, int thread, int size,
                         const fnn_step *step) noexcept nogil:
    """The update of all weights from the gradients that the weights phase has left."""
    cdef const weight_tile *tile
    cdef double scale
    cdef int64_t i
    fnn_barrier_wait(&run.barrier, size)
    squares_phase(run, thread, size)
    fnn_barrier_wait(&run.barrier, size)
    scale = clipping_scale(run)
    for i in range(run.n_tiles):
        tile = &run.tiles[i]
        if tile.thread % size == thread:
            run.net.kernels.update_scaled(&run.net.layers[tile.layer], tile.part, step, scale)


cdef void columns_phase(training_run *run, int thread, int size, int64_t first, int64_t n,
                        const fnn_step *step) noexcept nogil:
    """weights_phase for a sparse X's layer: the thread's share of its inputs, in whole blocks."""
    cdef network_pass *net = &run.net
    cdef int64_t NR = net.kernels.NR, blocks = (net.layers[0].n_in + NR - 1) // NR
    cdef fnn_columns columns = run.columns[0]
    cdef fnn_dropout dropout
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    columns.starts += thread
    net.kernels.update_sparse(&net.layers[0], &net.X, rows, dropout_of(net, 0, rows, &dropout),
                              &net.activity[1].delta, n, &columns, blocks * thread // size,
                              blocks * (thread + 1) // size, step)


cdef double weigh_batch(const training_run *run, int64_t i, int64_t n,
                        fnn_step *step) noexcept nogil:
    """What the gradients, and now the penalties too, are multiplied by in the i-th step, on n rows:
    1 / (sum of their weights), nothing where none weighs anything."""
    cdef double weight = n if run.batch_weights == NULL else run.batch_weights[i]
    cdef double inverse = 1 / weight if weight > 0 else 0
    step.l2, step.l1 = run.step.l2 * inverse, run.step.l1 * inverse
    return inverse


cdef void set_rate(const training_run *run, double rate, fnn_step *step, double *beta1_power,
                   double *beta2_power) noexcept nogil:
    """The step's learning rate and decay; Adam's rate without the bias of its first steps, for
    which the powers are multiplied up."""
    step.learning_rate, step.decay = rate, rate * run.weight_decay
    if step.rule == FNN_ADAM:
        if step.first:
            beta1_power[0] *= step.beta1
            beta2_power[0] *= step.beta2
        step.learning_rate = rate / (1 - beta1_power[0])
        step.inverse_root = 1 / sqrt(1 - beta2_power[0])
        if step.epsilon_hat:
            step.eps = run.step.eps * step.inverse_root


cdef bint is_late(double *unclocked, double deadline) noexcept nogil:
    """Reading the clock takes as long as a tiny step: only after so much work, in operations."""
    if unclocked[0] <= 1e6:
        return False
    unclocked[0] = 0
    return omp_get_wtime() > deadline


cdef void train_team(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does: all steps of one call. Thread 0 also keeps the books."""
    cdef fnn_step step = run.step
    cdef int64_t n, part_n, batch = run.batch, part = run.part
    cdef int64_t total = cost_of_tiles(run, thread, size)
    cdef row_share share = share_of(run, run.part_rows, thread, size)
    cdef double sum_of_losses = run.sum_of_losses
    cdef double beta1_power = run.beta1_power, beta2_power = run.beta2_power
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0, rate
    cdef double inverse_n, loss_scale = 1
    cdef int64_t steps = 0
    while True:
        rate = run.learning_rates[steps * run.rate_stride]
        n = min(run.batch_size, run.n_order - batch)
        part_n = min(run.part_rows, n - part)
        step.first, step.last = part == 0, part + part_n == n
        inverse_n = 1.0 / n
        if run.batch_weighting:
            inverse_n = weigh_batch(run, steps, n, &step)
            if run.batch_weights != NULL:
                loss_scale = n * inverse_n
        set_rate(run, rate, &step, &beta1_power, &beta2_power)
        if part_n != share.n:
            share = share_of(run, part_n, thread, size)
        if run.is_small:
            small_step(run, batch, n, inverse_n, &step)
        elif run.net.first != NULL:
            if not columns_and_rows(run, thread, size, &share, batch + part, inverse_n, &step):
                return
        else:
            rows_phase(run, &share, batch + part, inverse_n)
        fnn_barrier_wait(&run.barrier, size)
        if fnn_flag_get(&run.net.invalid_X):
            return
        if run.columns != NULL:
            columns_phase(run, thread, size, batch + part, part_n, &step)
        if not run.is_small:
            weights_phase(run, thread, size, &share, batch + part + part_n, total, &step)
        if step.last and run.clip_norm > 0:
            clipped_update(run, thread, size, &step)
        part += part_n
        if step.last:
            batch, part, steps = batch + n, 0, steps + 1
        if thread == 0:
            sum_of_losses = fnn_plus_losses(sum_of_losses, run.losses, part_n, loss_scale)
            run.sum_of_losses = sum_of_losses
            if step.last:
                run.sum_at_step = sum_of_losses
            run.batch, run.part = batch, part
            run.beta1_power, run.beta2_power = beta1_power, beta2_power
            unclocked += part_n * run.flops_per_row
            run.stop = (batch == run.n_order or steps == run.max_steps
                        or is_late(&unclocked, deadline))
        fnn_barrier_wait(&run.barrier, size)
        if run.stop:
            return


cdef void train_on_core(training_run *run, int thread, int size) noexcept nogil:
    """train_team, denormals off, with the share of its time that a thread of several had a core
    for: to read that clock, one that is alone would take a tenth of a short call."""
    cdef uint64_t mode = fnn_denormals_off()
    cdef double begin = omp_get_wtime(), on_core = fnn_thread_seconds() if size > 1 else 0
    cdef network_pass *net = &run.net
    if run.is_small:
        net.kernels.small_open(net.layers, net.n_layers, &net.y)
    train_team(run, thread, size)
    if run.is_small:
        net.kernels.small_close(net.layers, net.n_layers, &net.y)
    if size > 1:
        run.core_shares[thread] = (fnn_thread_seconds() - on_core) / (omp_get_wtime() - begin)
    fnn_denormals_restore(mode)


cdef void train_in_parallel(void *context, int n_threads) noexcept nogil:
    with parallel(num_threads=n_threads):
        train_on_core(<training_run *> context, threadid(), omp_get_num_threads())


cdef void train(training_run *run, int n_threads) noexcept nogil:
    cdef double begin = omp_get_wtime()
    cdef int thread
    for thread in range(n_threads):
        run.core_shares[thread] = 1
    if n_threads == 1 or not lead(train_in_parallel, run, n_threads):
        train_on_core(run, 0, 1)
    run.took, run.core_share = omp_get_wtime() - begin, 1
    for thread in range(n_threads):
        run.core_share = min(run.core_share, run.core_shares[thread])
