"""The loops of the compiled backend: over batches, parts of batches, phases and threads.

A step of training is two phases. In the first, threads share the rows of the batch: each gathers
its rows, carries them forward through all layers, takes the loss, and carries delta backward, with
no need of the others. In the second they share the weights: each tile of dW sums over all rows
and updates its weights on the spot. A barrier ends either phase. Clipping by the norm of all
gradients makes three of the second one: gradients, their squares, updates.

Which thread computed what leaves no trace in the bits.
"""
import os
import time

from cython.parallel cimport parallel, threadid
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends import forks

from fastnn.backends._kernels cimport (
    FNN_ADAM, Kernels, Memory, Workspace, fnn_barrier_wait, fnn_call_on_new_thread, fnn_columns,
    fnn_counter_add, fnn_counter_get, fnn_counter_wait, fnn_denormals_off, fnn_denormals_restore, fnn_dropout, fnn_flag_get, fnn_flag_set, fnn_kernels,
    fnn_layer, fnn_plus_losses, fnn_rows, fnn_step, fnn_thread_seconds, fnn_work, new_workspace,
)

from fastnn.backends._first_layer cimport forward_columns, join_bits, train_columns

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()
    double omp_get_wtime()


# A fork takes only the thread that calls it along, and the OpenMP of that thread would wait for its
# team for ever. In a child of a fork, a new thread leads every team: OpenMP has a team for each
# thread that leads one, and no more of it when the thread ends.
cdef bint is_forked = forks.is_child

# Added to `turn` where a call ends early.
cdef int64_t NO_MORE_TURNS = <int64_t> 1 << 60


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


cdef class Places:
    def __cinit__(self, Kernels kernels, network, int64_t rows, int n_threads, tuple rates,
                  bint skip_zeros):
        """For parts of so many rows; rates: dropout's, as a workspace takes them."""
        cdef Workspace workspace
        cdef int i
        self.rows, self.n_threads, self.memory = rows, n_threads, Memory()
        self.places = <part_place *> self.memory.take(n_threads * sizeof(part_place))
        self.workspaces = [new_workspace(kernels, network, rows, 1, rates, skip_zeros, True)
                           for _ in range(n_threads - 1)]
        for i in range(1, n_threads):
            workspace = self.workspaces[i - 1]
            self.places[i] = part_place(workspace.activity, workspace.losses)

    cdef part_place *open(self, Workspace own) noexcept:
        self.places[0] = part_place(own.activity, own.losses)
        return self.places


cdef const fnn_dropout *dropout_of(network_pass *net, int k, fnn_rows rows,
                                   fnn_dropout *dropout) noexcept nogil:
    """That of h_k for these rows, written to `dropout`; NULL if there is none."""
    if net.dropout == NULL or k == net.n_layers or net.dropout[k].threshold == 0:
        return NULL
    dropout[0] = net.dropout[k]
    dropout.first = rows.first
    return dropout


cdef bint forward_rows(network_pass *net, fnn_rows rows, int64_t r0, int64_t r1) noexcept nogil:
    """Gather rows r0:r1 and carry them to the output layer's a. False if X is not finite there."""
    cdef int first = 0
    cdef fnn_dropout dropout, input_dropout
    cdef const fnn_dropout *of_input = dropout_of(net, 0, rows, &input_dropout)
    cdef bint valid
    if net.X.indptr == NULL:
        valid = net.kernels.gather(&net.X, rows, of_input, &net.activity[0].h, r0, r1)
    else:
        first = 1
        valid = net.kernels.forward_sparse(&net.X, rows, of_input, &net.layers[0],
                                           dropout_of(net, 1, rows, &dropout), &net.activity[1],
                                           r0, r1)
    if not valid:
        fnn_flag_set(&net.invalid_X, 1)
        return False
    forward_layers(net, first, rows, r0, r1)
    return True


cdef void forward_layers(network_pass *net, int first, fnn_rows rows, int64_t r0,
                         int64_t r1) noexcept nogil:
    cdef int k
    cdef fnn_dropout dropout
    for k in range(first, net.n_layers):
        net.kernels.forward(&net.layers[k], &net.activity[k].h,
                            dropout_of(net, k + 1, rows, &dropout), &net.activity[k + 1], r0, r1)


cdef void backward_rows(network_pass *net, int lowest, fnn_rows rows, int64_t r0,
                        int64_t r1) noexcept nogil:
    cdef int k
    cdef fnn_dropout dropout
    for k in range(net.n_layers - 1, lowest, -1):
        net.kernels.backward(&net.layers[k], &net.activity[k + 1].delta,
                             net.layers[k - 1].activation, dropout_of(net, k, rows, &dropout),
                             &net.activity[k], r0, r1)


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


cdef void rows_phase(const training_run *run, network_pass *net, double *losses,
                     const row_share *share, int64_t first, double inverse_n) noexcept nogil:
    """The share's rows of the workspace, row 0 of which is order[first]."""
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
        net.kernels.loss(&net.y, rows, inverse_n, &net.activity[net.n_layers], r0, r1, losses)
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
    rows_phase(run, &run.net, run.losses, share, first, inverse_n)
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


cdef part_walk first_part(const training_run *run) noexcept nogil:
    cdef part_walk at
    at.batch, at.part, at.steps, at.step = run.batch, run.part, 0, run.step
    at.beta1_power, at.beta2_power = run.beta1_power, run.beta2_power
    open_part(run, &at)
    return at


cdef void open_part(const training_run *run, part_walk *at) noexcept nogil:
    """How many rows the part has, and its step's numbers."""
    cdef fnn_step *step = &at.step
    cdef double rate = run.learning_rates[at.steps * run.rate_stride]
    at.n = min(run.batch_size, run.n_order - at.batch)
    at.part_n = min(run.part_rows, at.n - at.part)
    step.first, step.last = at.part == 0, at.part + at.part_n == at.n
    at.inverse_n, at.loss_scale = 1.0 / at.n, 1
    if run.batch_weighting:
        at.inverse_n = weigh_batch(run, at.steps, at.n, step)
        if run.batch_weights != NULL:
            at.loss_scale = at.n * at.inverse_n
    step.learning_rate, step.decay = rate, rate * run.weight_decay
    if step.rule == FNN_ADAM:
        if step.first:
            at.beta1_power *= step.beta1
            at.beta2_power *= step.beta2
        step.learning_rate = rate / (1 - at.beta1_power)
        step.inverse_root = 1 / sqrt(1 - at.beta2_power)
        if step.epsilon_hat:
            step.eps = run.step.eps * step.inverse_root


cdef bint next_part(const training_run *run, part_walk *at) noexcept nogil:
    """Go on to it; False after the call's last."""
    at.part += at.part_n
    if at.step.last:
        at.batch, at.part, at.steps = at.batch + at.n, 0, at.steps + 1
        if at.batch == run.n_order or at.steps == run.max_steps:
            return False
    open_part(run, at)
    return True


cdef void keep_books(training_run *run, const part_walk *at, const double *losses) noexcept nogil:
    """Of a part that is done with."""
    run.sum_of_losses = fnn_plus_losses(run.sum_of_losses, losses, at.part_n, at.loss_scale)
    run.batch, run.part = at.batch, at.part + at.part_n
    if at.step.last:
        run.sum_at_step = run.sum_of_losses
        run.batch, run.part = at.batch + at.n, 0
    run.beta1_power, run.beta2_power = at.beta1_power, at.beta2_power


cdef bint is_over(const training_run *run, const part_walk *at, double deadline,
                  double *unclocked) noexcept nogil:
    """Whether the call's time is, by a clock that takes as long to read as a tiny step."""
    unclocked[0] += at.part_n * run.flops_per_row
    if unclocked[0] <= 1e6:
        return False
    unclocked[0] = 0
    return omp_get_wtime() > deadline


cdef void train_team(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does: all steps of one call. Thread 0 also keeps the books."""
    cdef part_walk at = run.start
    cdef int64_t total = cost_of_tiles(run, thread, size)
    cdef row_share share = share_of(run, run.part_rows, thread, size)
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    cdef int64_t first
    while True:
        first = at.batch + at.part
        if at.part_n != share.n:
            share = share_of(run, at.part_n, thread, size)
        if run.is_small:
            small_step(run, at.batch, at.n, at.inverse_n, &at.step)
        elif run.net.first != NULL:
            if not columns_and_rows(run, thread, size, &share, first, at.inverse_n, &at.step):
                return
        else:
            rows_phase(run, &run.net, run.losses, &share, first, at.inverse_n)
        fnn_barrier_wait(&run.barrier, size)
        if fnn_flag_get(&run.net.invalid_X):
            return
        if run.columns != NULL:
            columns_phase(run, thread, size, first, at.part_n, &at.step)
        if not run.is_small:
            weights_phase(run, thread, size, &share, first + at.part_n, total, &at.step)
        if at.step.last and run.clip_norm > 0:
            clipped_update(run, thread, size, &at.step)
        if thread == 0:
            keep_books(run, &at, run.losses)
            run.stop = is_over(run, &at, deadline, &unclocked)
        fnn_barrier_wait(&run.barrier, size)
        if run.stop or not next_part(run, &at):
            return


cdef bint wait_for_turn(training_run *run, int64_t turn) noexcept nogil:
    """False if the call has ended meanwhile."""
    fnn_counter_wait(&run.turn, turn)
    return fnn_counter_get(&run.turn) < NO_MORE_TURNS


cdef void relay_sums(training_run *run, network_pass *net, const row_share *share,
                     part_walk *at) noexcept nogil:
    """What a part adds to all gradients; with a batch's last one, the update."""
    cdef int64_t i
    cdef const weight_tile *tile
    for i in range(run.n_tiles):
        tile = &run.tiles[i]
        net.kernels.update(&net.layers[tile.layer], &net.activity[tile.layer].h,
                           &net.activity[tile.layer + 1].delta, share.n, tile.part, &at.step)
    if at.step.last and run.clip_norm > 0:
        clipped_update(run, 0, 1, &at.step)


cdef void train_in_turns(training_run *run, int thread, int size) noexcept nogil:
    """train_team for batches of many parts and a network of few weights: every thread takes whole
    parts, and what goes from core to core is not h and delta but the sums of dW, from each part's
    thread to the next one's."""
    cdef part_walk at = run.start
    cdef network_pass net = run.net
    cdef double *losses = run.places[thread].losses
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    cdef int64_t turn = 0, begin = 0  # of the part, and of its batch's first one
    cdef row_share share
    net.activity = run.places[thread].activity
    while True:
        if turn % size == thread:
            if not wait_for_turn(run, begin):
                return
            share = share_of(run, at.part_n, 0, 1)
            rows_phase(run, &net, losses, &share, at.batch + at.part, at.inverse_n)
            if fnn_flag_get(&net.invalid_X):
                fnn_flag_set(&run.net.invalid_X, 1)
                fnn_counter_add(&run.turn, NO_MORE_TURNS)
                return
            if not wait_for_turn(run, turn):
                return
            relay_sums(run, &net, &share, &at)
            keep_books(run, &at, losses)
            fnn_counter_add(&run.turn, NO_MORE_TURNS
                            if is_over(run, &at, deadline, &unclocked) else 1)
        turn += 1
        if at.step.last:
            begin = turn
        if not next_part(run, &at):
            return


cdef void train_on_core(training_run *run, int thread, int size) noexcept nogil:
    """train_team, denormals off, with the share of its time that a thread of several had a core
    for: to read that clock, one that is alone would take a tenth of a short call."""
    cdef uint64_t mode = fnn_denormals_off()
    cdef double begin = omp_get_wtime(), on_core = fnn_thread_seconds() if size > 1 else 0
    cdef network_pass *net = &run.net
    if run.is_small:
        net.kernels.small_open(net.layers, net.n_layers, &net.y)
    if run.places == NULL:
        train_team(run, thread, size)
    else:
        train_in_turns(run, thread, size)
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
    run.start = first_part(run)  # a thread that comes late finds `run` changed
    for thread in range(n_threads):
        run.core_shares[thread] = 1
    if n_threads == 1 or not lead(train_in_parallel, run, n_threads):
        train_on_core(run, 0, 1)
    run.took, run.core_share = omp_get_wtime() - begin, 1
    for thread in range(n_threads):
        run.core_share = min(run.core_share, run.core_shares[thread])


# So many rounds of multiply-adds on registers.
ctypedef struct peak_run:
    const fnn_kernels *kernels
    int64_t n


cdef void peak_in_parallel(void *context, int n_threads) noexcept nogil:
    cdef const peak_run *run = <const peak_run *> context
    with parallel(num_threads=n_threads):
        run.kernels.multiply_adds(run.n)


def fma_peak(n_threads=1, dtype="float32", isa=None, seconds=0.05):
    """GFLOP/s of multiply-adds on registers alone, on n_threads threads, measured now: the best of
    three runs that take about `seconds` seconds together."""
    cdef Kernels kernels = Kernels(dtype, isa)
    cdef peak_run run
    cdef int threads = n_threads, runs = 0
    cdef bint done
    cdef double best = 0, begin, took
    run.kernels, run.n = kernels.table, 20_000
    while runs < 3:
        begin = time.perf_counter()
        with nogil:
            done = lead(peak_in_parallel, &run, threads)
        if not done:
            raise RuntimeError("the system grants no thread")
        took = time.perf_counter() - begin
        if took < seconds / 3:
            run.n *= 2
            continue
        runs += 1
        best = max(best, 2.0 * 12 * kernels.table.VL * run.n * threads / took / 1e9)
    return best
