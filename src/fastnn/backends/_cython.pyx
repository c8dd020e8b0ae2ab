"""The compiled backend: an engine over the loops of _team and the kernels of csrc."""

import numpy as np

from libc.math cimport INFINITY, ceil
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastnn.backends._kernels cimport (
    Columns, Memory, Workspace, address, fnn_barrier_init, fnn_dropout, fnn_dropout_key, fnn_key,
    fnn_layer, fnn_step,
)
from fastnn.backends._first_layer cimport FirstLayer, has_whole_panels
from fastnn.backends._pass cimport BLOCK_ROWS, first_layer
from fastnn.backends._phases cimport Tiles
from fastnn.backends._predictor cimport FLOPS_PER_THREAD, ROW_FLOPS, Predictor
from fastnn.backends._steps cimport part_place, training_run, two_layers
from fastnn.backends._team cimport train
from fastnn.backends._turns cimport Places
from fastnn.backends._two_layers cimport FLOPS_PER_THREAD_APART, TwoLayers, goes_apart

from fastnn.backends import MANY
from fastnn.backends._kernels import available_isas
from fastnn.backends._probes import Product, activate, fma_peak, round_trip, square_roots
from fastnn.backends.team_size import TeamSize
from fastnn.optimizers import RULES
from fastnn.sparse import CSR

__all__ = ["Engine", "Product", "activate", "available_isas", "fma_peak", "round_trip",
           "square_roots"]

# A large batch is taken in parts, so that the memory of a step does not grow with the batch and a
# call can end within a step: parts of PART_ROWS, of more where their activities still fit into
# PART_BYTES, about the second-level cache, of fewer where that is more than PART_FLOPS of work, a
# quarter of a second or half of one: every part reads all weights twice and the sums of dW once.
# Fewer than LEAST_PART_ROWS would cost speed. Of a sparse X, as few as have PART_ELEMENTS at most.
cdef int64_t PART_ROWS = 1024
cdef int64_t LEAST_PART_ROWS = 256
cdef int64_t PART_BYTES = 2 << 20
cdef double PART_FLOPS = 1.2e11
cdef int64_t PART_ELEMENTS = 1 << 22
# A first layer of fewer weights is not worth the narrow tiles of columns that begin within a panel.
cdef int64_t LEAST_BY_COLUMNS = 1 << 15
# A batch of so many rows is taken by parts in turns, by so many threads, if what they hand on, all
# of dW, is no more bytes than this.
cdef int64_t LEAST_IN_TURNS = 2048
cdef int MOST_IN_TURNS = 3
cdef int64_t MOST_HANDED_ON = 1 << 16
# Below so much work, in operations, in a whole native call, an epoch's at most, one thread works
# alone: between calls the others fall asleep, and one that is woken on a busy machine may wait for
# a core for milliseconds.
cdef double FLOPS_PER_TEAM = 1e7


cdef int64_t rows_in_turns(int64_t batch_size) noexcept:
    """How many rows of a batch are a turn. With each of them dW goes from core to core, so few are
    better, but enough that nobody is idle for long at the batch's end."""
    return max(BLOCK_ROWS, min(2 * BLOCK_ROWS, batch_size // 16))


cdef double power(double beta, int64_t t) noexcept:
    """beta^t as t steps multiply it up; 1 - beta^t is 1 long before the product can be so small."""
    cdef double product = 1
    while t > 0 and product > 1e-300:
        product *= beta
        t -= 1
    return product


def sums_of_batches(weights, const int64_t[::1] order, int64_t batch_size, int64_t most):
    """The sums of the weights of the first batches of `order`, float64, `most` of them at most."""
    cdef const double[::1] w = np.asarray(weights, np.float64)
    cdef int64_t n = min(order.shape[0], min(most, order.shape[0]) * batch_size), i
    cdef double[::1] sums = np.zeros((n + batch_size - 1) // batch_size)
    for i in range(n):
        sums[i // batch_size] += w[order[i]]
    return sums


cdef class Engine(Predictor):
    """See `fastnn.backends.Engine`."""
    cdef Memory state_memory
    cdef bint is_narrow_enough  # for steps of one kernel
    cdef object team  # a TeamSize
    cdef Tiles tiles  # of the layers that train
    cdef int lowest  # of them
    cdef bint all_train
    cdef Columns columns  # of a run on a sparse X
    cdef fnn_step step
    cdef double weight_decay, beta1_power, beta2_power, clip_norm
    cdef double *squares
    cdef fnn_dropout *dropout  # NULL: none
    cdef uint64_t seed
    cdef bint batch_weighting
    cdef tuple loss  # that trains, opened
    cdef int64_t part  # rows already summed of a batch that the last call did not finish
    cdef int64_t t  # whole steps of the run
    cdef int n_states
    cdef readonly object at_step

    def __cinit__(self, network, n_threads=None):
        self.is_narrow_enough = max(network.layer_sizes) <= self.kernels.table.small_width

    def loss_and_gradients(self, X, y, sample_weight, loss, double l2, double l1, rows=None):
        cdef training_run run
        cdef const int64_t[::1] order
        cdef double no_rate = 0
        cdef Memory memory = Memory()
        cdef int k
        memset(&run, 0, sizeof(run))
        run.n_order = X.shape[0]
        if rows is not None:
            order = rows
            run.order, run.n_order = &order[0], order.shape[0]
        run.batch_size = run.n_order
        run.seconds, run.max_steps = INFINITY, MANY
        run.learning_rates = &no_rate
        run.net.layers = <fnn_layer *> memory.take(self.n_layers * sizeof(fnn_layer))
        for k in range(self.n_layers):
            run.net.layers[k] = self.layers[k]
            run.net.layers[k].gradient = memory.take(self.kernels.matrix_size(&self.layers[k].W))
        run.flops_per_row = self._flops_per_row(X)
        k = self._team_size(run.n_order, run.flops_per_row, FLOPS_PER_THREAD)
        tiles = Tiles(self.kernels, self.network.shapes, range(self.n_layers))
        self._run(&run, k, tiles, X, y, sample_weight, self._opened(loss))
        n = self.network.n_parameters
        flat, gradient = np.empty(n, self.network.dtype), np.empty(n, self.network.dtype)
        self.get_parameters(flat)
        W, _ = self.network.views(flat)
        for k, (dW, db) in enumerate(zip(*self.network.views(gradient))):
            self.kernels.table.unpack(&self.layers[k], run.net.layers[k].gradient, address(dW),
                                      address(db))
            dW += l2 * W[k] + l1 * np.sign(W[k])
        return run.sum_of_losses / run.n_order + self.network.penalty(flat, l2, l1), gradient

    def shuffled(self, rows, uint64_t seed, uint64_t epoch):
        cdef int64_t[::1] order = rows.copy()
        if order.shape[0] > 0:
            with nogil:
                self.kernels.table.shuffle(&order[0], order.shape[0], fnn_key(seed, epoch))
        return np.asarray(order)

    def start(self, options):
        cdef int k, i
        rule = options.rule
        memset(&self.step, 0, sizeof(fnn_step))
        self.step.l2, self.step.l1 = options.l2, options.l1
        self.step.clip_value, self.clip_norm = options.clip_value or 0, options.clip_norm or 0
        self.step.update = self.clip_norm == 0
        self.step.rule, self.step.momentum = list(RULES).index(rule.name), rule.momentum
        self.step.beta1, self.step.beta2, self.step.eps = rule.beta1, rule.beta2, rule.eps
        self.step.epsilon_hat = rule.epsilon_hat
        self.batch_weighting = options.batch_weighting
        self.weight_decay = rule.weight_decay
        self.n_states = rule.n_states
        self.loss, self.part, self.t = self._opened(options.loss), 0, 0
        self.at_step = 0, 0.0
        self.beta1_power = self.beta2_power = 1
        factors = options.learning_rate_factors or (1.0,) * self.n_layers
        trained = [k for k in range(self.n_layers) if factors[k] > 0]
        self.lowest, self.all_train = trained[0], len(trained) == self.n_layers
        self.tiles = Tiles(self.kernels, self.network.shapes, trained)
        self.state_memory, self.columns = Memory(), None
        for k in range(self.n_layers):
            self.layers[k].learning_rate_factor = factors[k]
            self.layers[k].gradient = NULL
            for i in range(2):
                self.layers[k].state[i] = NULL
                if i < rule.n_states and factors[k] > 0:
                    self.layers[k].state[i] = self._take_like_W(k)
            if self.clip_norm > 0:  # a frozen layer's stays zero
                self.layers[k].gradient = self._take_like_W(k)
        if self.clip_norm > 0:
            self.squares = <double *> self.state_memory.take(self.n_neurons * sizeof(double))
        self._start_dropout(options.dropout, options.seed)

    cdef int _start_dropout(self, rates, uint64_t seed) except -1:
        cdef int k
        cdef double rate
        self.rates, self.seed, self.dropout = rates or (0.0,) * self.n_layers, seed, NULL
        self.spare = None  # its matrices depend on the rates
        if rates:
            self.dropout = <fnn_dropout *> self.state_memory.take(
                self.n_layers * sizeof(fnn_dropout))
        for k, rate in enumerate(rates):
            self.dropout[k].threshold = <uint32_t> min(ceil(rate * 2.0**32), 2.0**32 - 1)
            self.dropout[k].scale = 1 / (1 - rate)
        return 0

    def train(self, X, y, sample_weight, const int64_t[::1] order, int64_t position,
              int64_t batch_size, const double[:] learning_rates, double seconds,
              int64_t max_steps=MANY, uint64_t epoch=0, double sum_of_losses=0.0):
        cdef training_run run
        cdef double[::1] batch_weights
        cdef int64_t batch
        cdef int size, k
        cdef bint is_team
        memset(&run, 0, sizeof(run))
        run.net.layers, run.net.lowest = self.layers, self.lowest
        run.order = &order[0]
        run.n_order = order.shape[0]
        run.batch_size = min(batch_size, run.n_order)
        run.part = self.part if position > 0 else 0
        run.batch = batch = position - run.part
        run.sum_of_losses = sum_of_losses
        run.sum_at_step = self.at_step[1] if run.part > 0 else sum_of_losses
        run.step, run.max_steps = self.step, max_steps
        run.clip_norm, run.squares = self.clip_norm, self.squares
        if self.dropout != NULL:
            for k in range(self.n_layers):
                self.dropout[k].key = fnn_dropout_key(self.seed, epoch, k)
        run.net.dropout = self.dropout
        run.learning_rates = &learning_rates[0]
        run.rate_stride = learning_rates.strides[0] // sizeof(double)
        run.weight_decay = self.weight_decay
        run.batch_weighting = self.batch_weighting
        if self.batch_weighting and sample_weight is not None:
            batch_weights = sums_of_batches(sample_weight, order[run.batch:], run.batch_size,
                                            max_steps)
            run.batch_weights = &batch_weights[0]
        run.beta1_power, run.beta2_power = self.beta1_power, self.beta2_power
        run.seconds = seconds
        run.flops_per_row = self._flops_per_row(X)
        size = self._training_team(X, min(max_steps, run.n_order) * run.batch_size, &run)
        is_team = size > 1
        if is_team:
            if self.team is None or self.team.sizes[0] != size:
                self.team = TeamSize(size, not self.n_threads_given)
            size, run.seconds = self.team.next_call(seconds)
        self.part = 0
        self._run(&run, size, self.tiles, X, y, sample_weight, self.loss)
        self.beta1_power, self.beta2_power, self.part = run.beta1_power, run.beta2_power, run.part
        self.t += (run.batch - batch + run.batch_size - 1) // run.batch_size
        self.at_step = run.batch, run.sum_at_step
        if is_team:
            self.team.report(run.batch + run.part - position, run.took, run.core_share,
                             run.barrier_seconds)
        return run.batch + run.part, run.sum_of_losses

    def get_state(self):
        cdef int i, k
        arrays = []
        for i in range(self.n_states):
            flat = np.zeros(self.network.n_parameters, self.network.dtype)
            for k, (W, b, _) in enumerate(self.network.places):
                if self.layers[k].state[i] != NULL:  # a frozen layer has none
                    self.kernels.table.unpack(&self.layers[k], self.layers[k].state[i],
                                              self._at(flat, W), self._at(flat, b))
            arrays.append(flat)
        return self.t, arrays

    def set_state(self, int64_t t, arrays):
        cdef fnn_layer like_W
        cdef int i, k
        self.t = t
        self.beta1_power = power(self.step.beta1, self.t)
        self.beta2_power = power(self.step.beta2, self.t)
        for i in range(self.n_states):
            flat = np.ascontiguousarray(arrays[i], self.network.dtype)
            for k, (W, b, _) in enumerate(self.network.places):
                if self.layers[k].state[i] != NULL:
                    like_W = self.layers[k]
                    like_W.W.data, like_W.Wt.data = self.layers[k].state[i], NULL
                    self.kernels.table.pack(self._at(flat, W), self._at(flat, b), &like_W)

    cdef int _run(self, training_run *run, int size, Tiles tiles, X, y, sample_weight,
                  tuple loss) except -1:
        """Fill in what every run needs, and run it."""
        cdef int k
        cdef Columns columns
        cdef bint is_sparse = isinstance(X, CSR)
        cdef bint in_turns = not is_sparse and self._takes_turns(run, size)
        cdef int64_t part_rows = (rows_in_turns(run.batch_size) if in_turns
                                  else self._part_rows(X, run.flops_per_row))
        cdef int64_t parts = (run.batch_size + part_rows - 1) // part_rows
        run.part_rows = (run.batch_size + parts - 1) // parts  # equal ones
        if run.part_rows < run.batch_size and run.net.layers[0].gradient == NULL:
            for k in range(self.n_layers):
                run.net.layers[k].gradient = self._take_like_W(k)
        workspace = self._take_workspace(run.part_rows, not is_sparse)
        self._open_pass(&run.net, workspace, X)
        self._open_targets(&run.net.y, y, sample_weight, loss)
        run.net.n_layers, run.net.output = self.n_layers, self.output
        run.losses, run.core_shares = workspace.losses, workspace.core_shares
        run.is_small = (size == 1 and self.is_narrow_enough and run.step.update and self.all_train
                        and run.batch_size <= self.kernels.table.small_rows and not is_sparse
                        and run.net.layers[0].gradient == NULL and run.net.dropout == NULL)
        if is_sparse and run.net.lowest == 0:
            columns = self._take_columns(X, run)
            run.columns, run.first_tile = &columns.columns, tiles.n_of_input
        elif in_turns:
            run.places = self._open_places(run, size, workspace)
        elif (size > 1 and run.part == 0 and run.part_rows == run.batch_size
              and goes_apart(run, self.n_layers)):
            run.two, run.first_tile = self._open_two(size, workspace), tiles.n_of_input
        elif size > 1 and self._goes_by_columns(run, size):
            run.net.first, run.first_tile = self._open_first(run, size, workspace), tiles.n_of_input
        tiles.share(size, run.first_tile)
        run.tiles, run.n_tiles = tiles.tiles, tiles.n_tiles
        run.queues, run.n_queues = tiles.queues, tiles.n_queues
        fnn_barrier_init(&run.barrier)
        for k in range(self.n_layers):
            run.net.layers[k].shared = size > 1
        with nogil:
            train(run, size)
        for k in range(self.n_layers):
            run.net.layers[k].shared = False
        self._give_back(workspace)
        return self._check_X(&run.net)

    cdef bint _takes_turns(self, training_run *run, int size) noexcept:
        """Whether a batch is so large, and its dW so small, that threads had better take whole
        parts and hand the sums on. More of them would wait for one another: dW is a third of the
        work."""
        return (1 < size <= MOST_IN_TURNS and run.batch_size >= LEAST_IN_TURNS
                and self.n_parameters * self.kernels.itemsize <= MOST_HANDED_ON)

    cdef part_place *_open_places(self, training_run *run, int size, Workspace workspace):
        """For the team: those of the workspace's last run, if they are as many and as large."""
        cdef Places places = workspace.places
        if places is None or places.n_threads != size or places.rows < run.part_rows:
            places = workspace.places = Places(self.kernels, self.network, run.part_rows, size,
                                               self.rates, self.skip_zeros)
        return places.open(workspace)

    cdef two_layers *_open_two(self, int size, Workspace workspace):
        """For the team: those of the workspace's last run, if they serve it, too."""
        cdef TwoLayers two = workspace.two
        if two is None or two.n_threads != size or two.n_states < self.n_states:
            two = workspace.two = TwoLayers(self.kernels, self.network, workspace.rows, size,
                                            self.n_states, workspace.activity[1].a.data != NULL,
                                            workspace.activity[0].h.nonzero != NULL,
                                            workspace.activity[1].h.nonzero != NULL)
        return two.open(self.layers)

    cdef bint _goes_by_columns(self, training_run *run, int size):
        """Whether the first layer has most of the weights, and to share the rows of a batch costs
        more than that every thread gathers all of them: little, where they are short or few. A
        share that begins within a panel makes its tiles narrow."""
        cdef int64_t width = self.network.layer_sizes[1], n_weights = self.n_in * width
        if (self.n_layers == 1 or run.net.lowest > 0 or run.net.dropout != NULL
                or 20 * n_weights < 11 * self.network.n_parameters):
            return False
        if has_whole_panels(self.kernels, width, size):
            return self.n_in <= 2 * width or run.part_rows <= width
        return n_weights >= LEAST_BY_COLUMNS and 2 * run.part_rows <= width

    cdef first_layer *_open_first(self, training_run *run, int size, Workspace workspace):
        """For the team: that of the workspace's last run, if it was for as many threads."""
        cdef FirstLayer first = workspace.first
        if first is None or first.n_threads != size:
            first = workspace.first = FirstLayer(self.kernels, self.network, workspace.rows, size,
                                                 workspace.activity[0].h.nonzero != NULL,
                                                 workspace.activity[1].h.nonzero != NULL)
        return first.open(run.net.layers, run.net.activity)

    cdef Columns _take_columns(self, X, training_run *run):
        """For parts of a batch: those of the training, or others where none is going on."""
        cdef int64_t most = X.longest_row * run.part_rows
        cdef bint is_training = run.order != NULL
        cdef Columns columns = self.columns if is_training else None
        if columns is None or columns.most_elements < most:
            columns = Columns(self.kernels, self.n_in, most, self.n_threads)
        if is_training:
            self.columns = columns
        return columns

    cdef int _training_team(self, X, double rows_of_call, training_run *run):
        cdef double rows = min(rows_of_call, <double> run.n_order)
        if not self.n_threads_given and rows * (run.flops_per_row + ROW_FLOPS) < FLOPS_PER_TEAM:
            return 1
        if goes_apart(run, self.n_layers) and not isinstance(X, CSR):
            return self._team_size(run.batch_size, run.flops_per_row, FLOPS_PER_THREAD_APART)
        return self._team_size(run.batch_size, run.flops_per_row, FLOPS_PER_THREAD)

    cdef void *_take_like_W(self, int k) except NULL:
        return self.state_memory.take(self.kernels.matrix_size(&self.layers[k].W))

    cdef int64_t _part_rows(self, X, double flops_per_row):
        """How many rows of a large batch are taken together."""
        cdef bint is_sparse = isinstance(X, CSR)
        cdef int64_t n_neurons = self.n_neurons - (self.n_in if is_sparse else 0)
        cdef int64_t rows = max(PART_ROWS, PART_BYTES // (3 * n_neurons * self.kernels.itemsize))
        rows = max(LEAST_PART_ROWS, min(rows, <int64_t> (PART_FLOPS / flops_per_row)))
        if is_sparse:
            rows = max(1, min(rows, PART_ELEMENTS // max(1, X.longest_row)))
        return rows
