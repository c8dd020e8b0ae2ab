"""The compiled backend: the loop over batches, parts, phases and threads, over the kernels of csrc.

A step of training is two phases. In the first, threads share the rows of the batch: each gathers its rows, carries
them forward through all layers, takes the loss, and carries delta backward, with no need of the others. In the
second they share the weights: each tile of dW sums over all rows and updates its weights on the spot. A barrier
ends either phase; which thread computed what leaves no trace in the bits.
"""
import numpy as np

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

from fastnn.backends._kernels cimport (
    FNN_ADAM, FNN_SGD, Kernels, Memory, fnn_activity, fnn_barrier, fnn_barrier_init, fnn_barrier_wait,
    fnn_denormals_off, fnn_denormals_restore, fnn_flag, fnn_flag_get, fnn_flag_set, fnn_input, fnn_kernels, fnn_layer,
    fnn_matrix, fnn_needs_a, fnn_rows, fnn_step, fnn_targets, address, open_input,
)
from fastnn.backends._kernels import activate, available_isas, cpu_count, fma_peak, gemm
from fastnn.network import ACTIVATIONS, LOSSES, OUTPUTS

__all__ = ["Engine", "activate", "available_isas", "cpu_count", "fma_peak", "gemm"]

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()
    double omp_get_wtime()

# Rows that a thread carries through the network together: enough that reading the weights costs little beside
# computing with them, few enough that the block of h being read stays in the second-level cache.
# A multiple of every MR.
cdef int64_t BLOCK_ROWS = 192
# A batch is taken in parts of at least this many rows, more where their activities stay below this many bytes.
cdef int64_t PART_ROWS = 1024
cdef int64_t PART_BYTES = 8 << 20
# Below this many operations for each thread, waiting for one another costs more than sharing brings.
cdef double FLOPS_PER_THREAD = 400_000.0

INVALID_X = "X contains NaN or infinity, or values beyond {}"


ctypedef struct weight_tile:
    int layer
    int64_t block, panel
    int64_t cost_before  # of all tiles before this one


cdef class Workspace:
    """Activities and losses for `rows` rows: what one pass, or a team's part of a batch, writes."""
    cdef Memory memory
    cdef fnn_activity *activity  # [0] the input's h; [k] layer k's
    cdef double *losses
    cdef int64_t rows


ctypedef struct network_pass:
    const fnn_kernels *kernels
    fnn_layer *layers
    int n_layers
    int output
    fnn_activity *activity
    fnn_input X
    fnn_targets y
    fnn_flag invalid_X


cdef bint forward_rows(network_pass *net, fnn_rows rows, int64_t r0, int64_t r1) noexcept nogil:
    """Gather rows r0:r1 and carry them to the output layer's a. False if X is not finite there."""
    cdef int k
    if not net.kernels.gather(&net.X, rows, &net.activity[0].h, r0, r1):
        fnn_flag_set(&net.invalid_X, 1)
        return False
    for k in range(net.n_layers):
        net.kernels.forward(&net.layers[k], &net.activity[k].h, &net.activity[k + 1], r0, r1)
    return True


cdef void backward_rows(network_pass *net, int64_t r0, int64_t r1) noexcept nogil:
    cdef int k
    for k in range(net.n_layers - 1, 0, -1):
        net.kernels.backward(&net.layers[k], &net.activity[k + 1].delta, net.layers[k - 1].activation,
                             &net.activity[k], r0, r1)


ctypedef struct training_run:
    network_pass net
    double *losses
    const int64_t *order
    int64_t n_order, position, batch_size, part_rows
    fnn_step step
    const weight_tile *tiles
    int64_t n_tiles, total_cost
    double flops_per_row, seconds
    double sum_of_losses
    int stop
    fnn_barrier barrier


cdef void rows_phase(training_run *run, int thread, int size, int64_t first, int64_t n, double inverse_n) noexcept nogil:
    """Thread's share of rows 0:n of the workspace, which are order[first : first + n]."""
    cdef network_pass *net = &run.net
    cdef int64_t MR = net.kernels.MR
    cdef int64_t share = ((n + MR - 1) // MR + size - 1) // size * MR
    cdef int64_t r0 = min(n, thread * share), end = min(n, r0 + share), r1
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    while r0 < end:
        r1 = min(end, r0 + BLOCK_ROWS)
        if not forward_rows(net, rows, r0, r1):
            return
        net.kernels.loss(&net.y, rows, inverse_n, &net.activity[net.n_layers], r0, r1, run.losses)
        backward_rows(net, r0, r1)
        r0 = r1


cdef void weights_phase(training_run *run, int thread, int size, int64_t n, const fnn_step *step) noexcept nogil:
    """Thread's share of the tiles of all weights; shares are contiguous and of about equal cost."""
    cdef network_pass *net = &run.net
    cdef int64_t i, low = run.total_cost * thread // size, high = run.total_cost * (thread + 1) // size
    cdef const weight_tile *tile
    for i in range(run.n_tiles):
        tile = &run.tiles[i]
        if low <= tile.cost_before < high:
            net.kernels.update(&net.layers[tile.layer], &net.activity[tile.layer].h,
                               &net.activity[tile.layer + 1].delta, n, tile.block, tile.panel, step)


cdef void train_team(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does: all steps of one call. Thread 0 also keeps the books."""
    cdef fnn_step step = run.step
    cdef int64_t n, part, part_n, r, position = run.position
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    while True:
        n = min(run.batch_size, run.n_order - position)
        step.beta1_power *= step.beta1
        step.beta2_power *= step.beta2
        part = 0
        while part < n:
            part_n = min(run.part_rows, n - part)
            step.first, step.last = part == 0, part + part_n == n
            rows_phase(run, thread, size, position + part, part_n, 1.0 / n)
            fnn_barrier_wait(&run.barrier, size)
            if fnn_flag_get(&run.net.invalid_X):
                return
            weights_phase(run, thread, size, part_n, &step)
            part += part_n
            if thread == 0:
                for r in range(part_n):
                    run.sum_of_losses += run.losses[r]
                if step.last:
                    run.position, run.step = position + n, step
                    unclocked += n * run.flops_per_row
                    run.stop = position + n >= run.n_order
                    if not run.stop and unclocked > 1e6:  # reading the clock costs as much as a tiny step
                        unclocked = 0
                        run.stop = omp_get_wtime() > deadline
            fnn_barrier_wait(&run.barrier, size)
        position += n
        if run.stop:
            return


cdef void train(training_run *run, int n_threads) noexcept nogil:
    cdef uint64_t mode
    if n_threads == 1:
        mode = fnn_denormals_off()
        train_team(run, 0, 1)
        fnn_denormals_restore(mode)
        return
    with parallel(num_threads=n_threads):
        mode = fnn_denormals_off()
        train_team(run, threadid(), omp_get_num_threads())
        fnn_denormals_restore(mode)


ctypedef struct prediction:
    network_pass net
    fnn_rows rows
    int64_t n, block
    char *f  # (n, n_out), or NULL
    size_t f_row_size
    double *losses  # (n,), or NULL


cdef void predict_team(prediction *p, int thread, int size) noexcept nogil:
    """Blocks thread, thread + size, ... of the rows, each through the whole network, in the thread's own rows of the
    workspace."""
    cdef int64_t start = thread * p.block, r0 = start, r1
    cdef fnn_rows rows
    cdef fnn_activity *out = &p.net.activity[p.net.n_layers]
    while r0 < p.n:
        r1 = min(p.n, r0 + p.block)
        rows.order, rows.first = p.rows.order, p.rows.first + r0 - start
        if not forward_rows(&p.net, rows, start, start + r1 - r0):
            return
        p.net.kernels.output(p.net.output, out, start, start + r1 - r0, p.f + r0 * p.f_row_size)
        if p.losses != NULL:
            p.net.kernels.loss(&p.net.y, rows, 1.0, out, start, start + r1 - r0, p.losses + r0 - start)
        r0 += size * p.block


cdef void predict(prediction *p, int n_threads) noexcept nogil:
    cdef uint64_t mode
    if n_threads == 1:
        mode = fnn_denormals_off()
        predict_team(p, 0, 1)
        fnn_denormals_restore(mode)
        return
    with parallel(num_threads=n_threads):
        mode = fnn_denormals_off()
        predict_team(p, threadid(), omp_get_num_threads())
        fnn_denormals_restore(mode)


cdef class Engine:
    """See `fastnn.backends.Engine`."""
    cdef Kernels kernels
    cdef Memory memory, state_memory
    cdef fnn_layer *layers
    cdef int n_layers, output
    cdef int64_t n_in, n_out
    cdef bint n_threads_given
    cdef readonly int n_threads
    cdef readonly object network
    cdef Workspace spare
    cdef weight_tile *tiles
    cdef int64_t n_tiles, total_cost
    cdef double flops_per_row
    cdef int64_t row_size  # bytes of a workspace for one row
    cdef fnn_step step
    cdef int loss

    def __cinit__(self, network, n_threads=None):
        cdef int k
        self.network = network
        self.kernels = Kernels(network.dtype)
        self.n_threads_given = n_threads is not None
        self.n_threads = n_threads or cpu_count()
        self.n_layers, self.n_in, self.n_out = network.n_layers, network.n_in, network.n_out
        self.output = OUTPUTS.index(network.output)
        self.flops_per_row = network.flops_per_sample
        self.row_size = 3 * sum(network.layer_sizes) * self.kernels.itemsize
        self.memory = Memory()
        self.layers = <fnn_layer *> self.memory.take(self.n_layers * sizeof(fnn_layer))
        kinds = [ACTIVATIONS.index(name) for name in network.activations] + [0]
        for k in range(self.n_layers):
            self.layers[k] = self.kernels.layer(self.memory, network.layer_sizes[k], network.layer_sizes[k + 1],
                                                kinds[k], k > 0)
        self._lay_tiles()

    def _lay_tiles(self):
        cdef int64_t NR = self.kernels.table.NR, blocks, panels, block, panel, columns
        cdef int k
        counts = [((n_in + NR - 1) // NR, (n_out + NR - 1) // NR) for n_out, n_in in self.network.shapes]
        self.tiles = <weight_tile *> self.memory.take(
            sum(blocks * panels for blocks, panels in counts) * sizeof(weight_tile))
        for k, (blocks, panels) in enumerate(counts):
            for panel in range(panels):
                columns = min(NR, self.layers[k].n_out - panel * NR)
                for block in range(blocks):
                    self.tiles[self.n_tiles] = weight_tile(k, block, panel, self.total_cost)
                    self.n_tiles += 1
                    self.total_cost += (min(NR, self.layers[k].n_in - block * NR) + 1) * columns

    @property
    def isa(self):
        return self.kernels.isa

    def set_parameters(self, flat):
        cdef int k
        for k, (W, b) in enumerate(zip(*self.network.views(np.ascontiguousarray(flat)))):
            self.kernels.table.pack(address(W), address(b), &self.layers[k])

    def get_parameters(self, out):
        cdef int k
        for k, (W, b) in enumerate(zip(*self.network.views(out))):
            self.kernels.table.unpack(&self.layers[k], self.layers[k].W.data, address(W), address(b))

    def forward(self, X, rows=None):
        return self._predict(X, None, None, None, rows)[0]

    def forward_and_loss(self, X, y, sample_weight, loss, rows=None):
        return self._predict(X, y, sample_weight, loss, rows)

    def loss_and_gradients(self, X, y, sample_weight, loss, double l2, double l1):
        cdef training_run run
        cdef Memory memory = Memory()
        cdef int k
        memset(&run, 0, sizeof(run))
        run.n_order = run.batch_size = X.shape[0]
        run.net.layers = <fnn_layer *> memory.take(self.n_layers * sizeof(fnn_layer))
        for k in range(self.n_layers):
            run.net.layers[k] = self.layers[k]
            run.net.layers[k].gradient = memory.take(self.kernels.matrix_size(&self.layers[k].W))
        self._run(&run, X, y, sample_weight, LOSSES.index(loss))
        n = self.network.n_parameters
        flat, gradient = np.empty(n, self.network.dtype), np.empty(n, self.network.dtype)
        self.get_parameters(flat)
        W, _ = self.network.views(flat)
        for k, (dW, db) in enumerate(zip(*self.network.views(gradient))):
            self.kernels.table.unpack(&self.layers[k], run.net.layers[k].gradient, address(dW),
                                      address(db))
            dW += l2 * W[k] + l1 * np.sign(W[k])
        return run.sum_of_losses / X.shape[0] + self.network.penalty(flat, l2, l1), gradient

    def start(self, optimizer, loss, double l2, double l1):
        cdef int k
        cdef bint is_adam = optimizer.name == "adam"
        memset(&self.step, 0, sizeof(fnn_step))
        self.step.update = 1
        self.step.l2, self.step.l1 = l2, l1
        self.loss = LOSSES.index(loss)
        if is_adam:
            self.step.optimizer = FNN_ADAM
            self.step.beta1, self.step.beta2 = optimizer.betas
            self.step.eps = optimizer.eps
            self.step.beta1_power = self.step.beta2_power = 1
        else:
            self.step.optimizer = FNN_SGD
            self.step.momentum, self.step.nesterov = optimizer.momentum, optimizer.nesterov
        self.state_memory = Memory()
        for k in range(self.n_layers):
            self.layers[k].m = self.layers[k].v = self.layers[k].gradient = NULL
            if is_adam or self.step.momentum != 0:
                self.layers[k].m = self._take_like_W(k)
            if is_adam:
                self.layers[k].v = self._take_like_W(k)

    def train(self, X, y, sample_weight, const int64_t[::1] order, int64_t position,
              int64_t batch_size, double learning_rate, double seconds):
        cdef training_run run
        memset(&run, 0, sizeof(run))
        run.net.layers = self.layers
        run.order = &order[0]
        run.n_order, run.position = order.shape[0], position
        run.batch_size = min(batch_size, run.n_order)
        run.step = self.step
        run.step.learning_rate = learning_rate
        run.seconds = seconds
        self._run(&run, X, y, sample_weight, self.loss)
        self.step = run.step
        return run.position, run.sum_of_losses

    cdef int _run(self, training_run *run, X, y, sample_weight, int loss) except -1:
        """Fill in what every run needs, and run it."""
        cdef int k, size
        run.part_rows = min(run.batch_size, max(PART_ROWS, PART_BYTES // self.row_size))
        if run.part_rows < run.batch_size and run.net.layers[0].gradient == NULL:
            for k in range(self.n_layers):
                run.net.layers[k].gradient = self._take_like_W(k)
        workspace = self._take_workspace(run.part_rows)
        self._open_pass(&run.net, workspace, X)
        self._open_targets(&run.net.y, y, sample_weight, loss)
        run.losses = workspace.losses
        run.tiles, run.n_tiles, run.total_cost = self.tiles, self.n_tiles, self.total_cost
        run.flops_per_row = self.flops_per_row
        fnn_barrier_init(&run.barrier)
        size = self._team_size(run.batch_size * run.flops_per_row)
        with nogil:
            train(run, size)
        self.spare = workspace
        return self._check_X(&run.net)

    cdef tuple _predict(self, X, y, sample_weight, loss, rows):
        cdef prediction p
        cdef const int64_t[::1] order
        cdef int64_t MR = self.kernels.table.MR, blocks, r
        cdef int size
        cdef double sum_of_losses = 0
        memset(&p, 0, sizeof(p))
        p.net.layers = self.layers
        p.n = X.shape[0]
        if rows is not None:
            order = rows
            p.rows.order, p.n = &order[0], order.shape[0]
        size = self._team_size(p.n * self.flops_per_row / 3)
        p.block = min(BLOCK_ROWS, (p.n + size * MR - 1) // (size * MR) * MR)
        blocks = (p.n + p.block - 1) // p.block
        size = min(size, <int> min(blocks, 1 << 20))
        workspace = self._take_workspace(size * p.block)
        self._open_pass(&p.net, workspace, X)
        f = np.empty((p.n, self.n_out), self.network.dtype)
        p.f, p.f_row_size = <char *> address(f), self.n_out * self.kernels.itemsize
        if loss is not None:
            self._open_targets(&p.net.y, y, sample_weight, LOSSES.index(loss))
            losses = np.empty(p.n)
            p.losses = <double *> address(losses)
        with nogil:
            predict(&p, size)
            if p.losses != NULL:
                for r in range(p.n):
                    sum_of_losses += p.losses[r]
        self.spare = workspace
        self._check_X(&p.net)
        return f, sum_of_losses / p.n

    cdef int _team_size(self, double flops) noexcept:
        if self.n_threads_given:
            return self.n_threads
        return <int> max(1.0, min(<double> self.n_threads, flops / FLOPS_PER_THREAD))

    cdef void *_take_like_W(self, int k) except NULL:
        return self.state_memory.take(self.kernels.matrix_size(&self.layers[k].W))

    cdef Workspace _take_workspace(self, int64_t rows):
        """The spare one if it is free and large enough: several Python threads may predict at once."""
        cdef Workspace workspace = self.spare
        cdef fnn_activity *x
        cdef int k
        self.spare = None
        if workspace is not None and workspace.rows >= rows:
            return workspace
        workspace = Workspace()
        workspace.rows = rows
        workspace.memory = Memory()
        workspace.activity = <fnn_activity *> workspace.memory.take(
            (self.n_layers + 1) * sizeof(fnn_activity))
        workspace.losses = <double *> workspace.memory.take(rows * sizeof(double))
        for k in range(self.n_layers + 1):
            x = &workspace.activity[k]
            width = self.network.layer_sizes[k]
            x.h = self.kernels.matrix(workspace.memory, rows, width)
            if k > 0:
                x.delta = self.kernels.matrix(workspace.memory, rows, width)
            if 0 < k < self.n_layers and fnn_needs_a(self.layers[k - 1].activation):
                x.a = self.kernels.matrix(workspace.memory, rows, width)
        return workspace

    cdef int _open_pass(self, network_pass *net, Workspace workspace, X) except -1:
        net.kernels = self.kernels.table
        net.n_layers, net.output = self.n_layers, self.output
        net.activity = workspace.activity
        return open_input(X, self.n_in, &net.X)

    cdef int _open_targets(self, fnn_targets *targets, y, sample_weight, int loss) except -1:
        targets.output, targets.loss = self.output, loss
        if y.ndim == 1:
            targets.labels = <const int32_t *> address(y)
        else:
            targets.values = address(y)
        if sample_weight is not None:
            targets.weights = address(sample_weight)
        return 0

    cdef int _check_X(self, network_pass *net) except -1:
        if fnn_flag_get(&net.invalid_X):
            raise ValueError(INVALID_X.format(self.network.dtype.name))
        return 0
