"""The first layer of a network, shared out by columns instead of rows and tiles.

Where it has most of a network's weights, threads that share the rows of a batch spend much of
their time on lines that another core wrote last: half of W, h_0 and delta in every step. Here each
thread gathers the whole batch for itself and has some of the layer's neurons to itself, as views
of the panels: their part of W, of the optimizer's state, of a, h and delta. Only h_1 and the layers
above are read by all. The operations are those of the other way, and so are the bits.
"""
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, fnn_activity, fnn_flag_set, fnn_layer, fnn_matrix, fnn_rows, fnn_step,
    fnn_tile,
)
from fastnn.backends._pass cimport BLOCK_ROWS, column_share, first_layer, network_pass


cdef int64_t begin_of_share(Kernels kernels, int64_t width, int thread, int n_threads) noexcept:
    """The first of the thread's columns, of `width`: whole vectors to each thread."""
    cdef int64_t VL = kernels.table.VL
    return min(width, (width + VL - 1) // VL * thread // n_threads * VL)


cdef bint has_whole_panels(Kernels kernels, int64_t width, int n_threads) noexcept:
    """Whether every thread has columns that begin with a panel."""
    cdef int64_t begin
    cdef int thread
    for thread in range(n_threads):
        begin = begin_of_share(kernels, width, thread, n_threads)
        if (begin % kernels.table.NR != 0
                or begin == begin_of_share(kernels, width, thread + 1, n_threads)):
            return False
    return True


cdef class FirstLayer:
    def __cinit__(self, Kernels kernels, network, int64_t rows, int n_threads, bint bits_of_x,
                  bint bits_of_h):
        """For a team of n_threads and a workspace of `rows` rows, which has words of bits of h_0
        and h_1, or not."""
        cdef int64_t NR = kernels.table.NR, begin, end, middle
        cdef int thread
        self.kernels, self.memory, self.network = kernels, Memory(), network
        self.rows, self.n_threads = rows, n_threads
        self.shared.shares = <column_share *> self.memory.take(2 * n_threads * sizeof(column_share))
        self.shared.h0 = <fnn_matrix *> self.memory.take(n_threads * sizeof(fnn_matrix))
        n_in, n_out = network.layer_sizes[:2]
        for thread in range(n_threads):
            if thread > 0:  # thread 0 has the workspace's
                self.shared.h0[thread] = kernels.matrix(self.memory, rows, n_in)
                if bits_of_x:
                    kernels.look_for_zeros(self.memory, &self.shared.h0[thread])
            begin = begin_of_share(kernels, n_out, thread, n_threads)
            end = begin_of_share(kernels, n_out, thread + 1, n_threads)
            middle = min(end, (begin + NR - 1) // NR * NR)  # panels are whole from here on
            for first, last in ((begin, middle), (middle, end)):
                if last > first:
                    self._take_share(thread, first, last, bits_of_h)

    cdef int _take_share(self, int thread, int64_t begin, int64_t end, bint bits_of_h) except -1:
        cdef column_share *share = &self.shared.shares[self.shared.n_shares]
        cdef int64_t NR = self.kernels.table.NR
        tiles = self.kernels.tiles(self.network.layer_sizes[0], end - begin)
        share.thread, share.begin, share.n = thread, begin, end - begin
        share.tiles = <fnn_tile *> self.memory.take(len(tiles) * sizeof(fnn_tile))
        for tile, _ in tiles:
            share.tiles[share.n_tiles] = tile
            share.n_tiles += 1
        if bits_of_h:
            share.nonzero = <uint64_t *> self.memory.take(
                (end - begin + NR - 1) // NR * self.rows * sizeof(uint64_t))
        self.shared.n_shares += 1
        return 0

    cdef first_layer *open(self, const fnn_layer *layers, const fnn_activity *activity) noexcept:
        """For a run on these layers and this workspace."""
        cdef column_share *share
        cdef int i, k
        self.shared.h0[0] = activity[0].h
        for i in range(self.shared.n_shares):
            share = &self.shared.shares[i]
            share.layer, share.above, share.out = layers[0], layers[1], activity[1]
            share.layer.n_out, share.layer.shared = share.n, False
            self._cut(&share.layer.W, share)
            for k in range(2):
                self._cut_like_W(&share.layer.state[k], &layers[0].W, share)
            self._cut_like_W(&share.layer.gradient, &layers[0].W, share)
            self._cut_above(&share.above, share)
            self._cut(&share.out.a, share)
            self._cut(&share.out.h, share)
            self._cut(&share.out.delta, share)
            share.out.h.nonzero = share.out.delta.nonzero = share.nonzero
        return &self.shared

    cdef void _cut_above(self, fnn_layer *above, const column_share *share) noexcept:
        """Of the layer above, what dh of the share's columns needs."""
        if above.Wt.data != NULL:
            self._cut(&above.Wt, share)
        else:
            above.n_in = share.n
            above.W.data = <char *> above.W.data + share.begin * above.W.ld * self.kernels.itemsize

    cdef void _cut(self, fnn_matrix *X, const column_share *share) noexcept:
        """The share's columns of X, as a matrix of their own."""
        self._cut_like_W(&X.data, X, share)
        X.cols = share.n

    cdef void _cut_like_W(self, void **data, const fnn_matrix *X,
                          const column_share *share) noexcept:
        """The same of an array that lies as X does; NULL stays NULL."""
        cdef int64_t NR = self.kernels.table.NR
        if data[0] != NULL:
            data[0] = <char *> data[0] + self.kernels.itemsize * (
                share.begin // NR * X.rows * X.ld + share.begin % NR)


cdef void forward_columns(network_pass *net, int thread, int size, fnn_rows rows,
                          int64_t n) noexcept nogil:
    """All rows of the batch, as far as the thread's columns of h_1. A team may come out smaller
    than it was asked for: then some threads have the shares of several."""
    cdef first_layer *first = net.first
    cdef fnn_matrix *h0 = &first.h0[thread]
    cdef int64_t r0 = 0, r1
    cdef int i
    while r0 < n:
        r1 = min(n, r0 + BLOCK_ROWS)
        if not net.kernels.gather(&net.X, rows, NULL, h0, r0, r1):
            fnn_flag_set(&net.invalid_X, 1)
            return
        for i in range(first.n_shares):
            if first.shares[i].thread % size == thread:
                net.kernels.forward(&first.shares[i].layer, h0, NULL, &first.shares[i].out, r0, r1)
        r0 = r1


cdef void join_bits(network_pass *net, int64_t r0, int64_t r1) noexcept nogil:
    """The words of h_1's rows r0:r1 from those of the shares, which may begin within a panel."""
    cdef const fnn_matrix *h = &net.activity[1].h
    cdef const column_share *share
    cdef int64_t NR = net.kernels.NR, panel, r
    cdef uint64_t *words
    cdef const uint64_t *own
    cdef int i, shift
    if h.nonzero == NULL:
        return
    for i in range(net.first.n_shares):
        share = &net.first.shares[i]
        shift = share.begin % NR
        for panel in range((share.n + NR - 1) // NR):
            words = h.nonzero + (share.begin // NR + panel) * h.rows
            own = share.nonzero + panel * h.rows
            for r in range(r0, r1):
                words[r] = own[r] if shift == 0 else words[r] | own[r] << shift


cdef void train_columns(network_pass *net, int thread, int size, int64_t n,
                        const fnn_step *step) noexcept nogil:
    """delta_1 of the thread's columns, for all rows, from delta_2, and the update of their W."""
    cdef column_share *share
    cdef int64_t r0, i
    cdef int k
    for k in range(net.first.n_shares):
        share = &net.first.shares[k]
        if share.thread % size != thread:
            continue
        r0 = 0
        while r0 < n:
            net.kernels.backward(&share.above, &net.activity[2].delta, share.layer.activation,
                                 NULL, &share.out, r0, min(n, r0 + BLOCK_ROWS))
            r0 += BLOCK_ROWS
        for i in range(share.n_tiles):
            net.kernels.update(&share.layer, &net.first.h0[thread], &share.out.delta, n,
                               share.tiles[i], step, NULL)
