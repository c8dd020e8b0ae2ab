"""The phases of a step, as one thread of a team takes part in them.

In the first, threads share the rows of the batch: each gathers its rows, carries them forward
through all layers, takes the loss, and carries delta backward, with no need of the others. In the
second they share the weights: each tile of dW sums over all rows and updates its weights on the
spot. Clipping by the norm of all gradients makes three of the second one: gradients, their
squares, updates.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, fnn_barrier_wait, fnn_columns, fnn_coming, fnn_dropout, fnn_flag_get,
    fnn_layer, fnn_queue, fnn_queue_open, fnn_queue_take, fnn_rows, fnn_step,
)

from fastnn.backends._first_layer cimport forward_columns, join_bits, train_columns
from fastnn.backends._pass cimport (
    BLOCK_ROWS, backward_rows, dropout_of, forward_layers, forward_rows, network_pass,
)
from fastnn.backends._steps cimport training_run, weight_tile


cdef class Tiles:
    def __cinit__(self, Kernels kernels, shapes, layers):
        """shapes: of every W; layers: the numbers, from 0, of those to be updated."""
        self.all = [(k, tile, cost) for k in layers
                    for tile, cost in kernels.tiles(shapes[k][1], shapes[k][0])]
        self.n_tiles = len(self.all)
        self.n_of_input = sum(k == 0 for k, _, _ in self.all)

    cdef int share(self, int n_threads, int64_t first) except -1:
        """The most expensive first, each to the thread with the least so far (Graham, 1969): the
        tiles before `first` and the others each for themselves. A thread's lie side by side."""
        if n_threads == self.n_queues and first == self.first:
            return 0
        self.memory = Memory()
        self.tiles = <weight_tile *> self.memory.take(self.n_tiles * sizeof(weight_tile))
        self.queues = <fnn_queue *> self.memory.take(n_threads * sizeof(fnn_queue))
        self.n_queues, self.first = n_threads, first
        self._share(0, first)
        self._share(first, self.n_tiles)
        return 0

    cdef int _share(self, int64_t begin, int64_t end) except -1:
        """The queues come out as those of these tiles."""
        tiles = self.all[begin:end]
        shares = [[] for _ in range(self.n_queues)]
        loads = [0] * self.n_queues
        for i in sorted(range(len(tiles)), key=lambda i: -tiles[i][2]):
            thread = min(range(self.n_queues), key=loads.__getitem__)
            loads[thread] += tiles[i][2]
            shares[thread].append(i)
        for thread, share in enumerate(shares):
            self.queues[thread].begin, self.queues[thread].cost = begin, loads[thread]
            for i in sorted(share):  # layer by layer
                k, tile, cost = tiles[i]
                self.tiles[begin] = weight_tile(k, tile, cost, thread)
                begin += 1
            self.queues[thread].end = begin
        return 0


cdef int64_t rows_to_fetch(const network_pass *net) noexcept nogil:
    """At most, of a dense X."""
    return FETCH_BYTES // (net.layers[0].n_in * max(1, net.X.column_stride))


cdef row_share share_of(training_run *run, int64_t n, int thread, int size) noexcept nogil:
    """Shares of equal size, equal blocks of whole tiles.

    Once for all steps: these divisions take as long as a tiny network's layer.
    """
    cdef row_share share
    cdef int64_t MR = run.net.kernels.MR, rows = (n + size - 1) // size
    cdef int64_t n_blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    share.n = n
    share.r0 = min(n, thread * rows)
    share.end = min(n, share.r0 + rows)
    share.block = ((rows + n_blocks - 1) // n_blocks + MR - 1) // MR * MR
    share.fetched = min(rows, rows_to_fetch(&run.net))
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


cdef void open_queues(const training_run *run, int thread, int size) noexcept nogil:
    """Before a barrier that comes before weights_phase."""
    cdef int i = thread
    while i < run.n_queues:
        fnn_queue_open(&run.queues[i])
        i += size


cdef void weights_phase(const training_run *run, const network_pass *net, int thread, int size,
                        const row_share *share, int64_t next_first,
                        const fnn_step *step) noexcept nogil:
    """The thread's tiles of all weights, then those that other threads have not begun.

    Memory is idle meanwhile, so the rows of X that the thread will take of order[next_first:] are
    fetched, a few with every tile.
    """
    cdef int64_t to_fetch = min(share.r0 + share.fetched,
                                min(share.end, run.n_order - next_first)) - share.r0
    cdef int64_t i, done = 0
    cdef const weight_tile *tile
    cdef fnn_queue *queue
    cdef fnn_coming coming
    cdef int k
    coming.X, coming.n_in = &net.X, net.layers[0].n_in
    coming.rows.order, coming.rows.first = run.order, next_first
    coming.end = share.r0
    for k in range(run.n_queues):
        queue = &run.queues[(thread + k) % run.n_queues]
        i = fnn_queue_take(queue, size)
        while i < queue.end:
            tile = &run.tiles[i]
            coming.begin = coming.end
            if k == 0:
                done += tile.cost
                coming.end = max(coming.end, share.r0 + to_fetch * done // queue.cost)
            net.kernels.update(&net.layers[tile.layer], &net.activity[tile.layer].h,
                               &net.activity[tile.layer + 1].delta, share.n, tile.part, step,
                               &coming)
            i = fnn_queue_take(queue, size)


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
