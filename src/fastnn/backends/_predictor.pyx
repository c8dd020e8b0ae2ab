"""The half of the compiled engine that predicts: a network's parameters in panels, and the memory,
the data and the threads for a pass through it. `_cython.Engine` adds the training."""
import os

import numpy as np

cimport cython
cimport numpy as cnp
from libc.stdint cimport int32_t
from libc.string cimport memset

from fastnn.backends._kernels cimport (
    FNN_CUSTOM, FNN_CUSTOM_LOSS, address, custom_g, custom_slope, custom_terms, fnn_flag_get,
    is_ready, new_workspace, open_input,
)
from fastnn.backends._pass cimport BLOCK_ROWS
from fastnn.backends._prediction cimport BY_BLOCKS, BY_PANELS, IN_LANES, groups_of, predict

from fastnn import custom, losses
from fastnn.backends.cores import cpu_count
from fastnn.checks import check_X, not_finite
from fastnn.network import ACTIVATIONS, LOSSES, OUTPUTS
from fastnn.sparse import CSR

cnp.import_array()

cdef int IDENTITY = OUTPUTS.index("identity")

# What a thread takes at least at a time when it predicts; and what is over in microseconds.
cdef double LEAST_BLOCK_FLOPS = 1e6
cdef double SHORT_FLOPS = 1e6
# So many rows at most are shared out by panels of the layers' outputs, if the weights are more
# bytes than a core's second-level cache keeps: by blocks, every thread would read all of them.
cdef int64_t FEW_ROWS = 32
cdef int64_t MANY_BYTES = 2 << 20
# A network whose layers are all this narrow is predicted with the rows in the lanes.
cdef int64_t WIDEST_IN_LANES = 64
# Narrow layers keep W transposed beside W: small networks and two layers apart need it. In others
# it costs more to read what another core wrote than to transpose W where dh is computed.
cdef int WIDEST_WITH_COPY = 16


cdef class Predictor:
    def __cinit__(self, network, n_threads=None):
        cdef int k
        self.network = network
        self.kernels = Kernels(network.dtype)
        self.n_threads_given = n_threads is not None
        self.n_threads = n_threads or cpu_count()
        self.skip_zeros = os.environ.get("FASTNN_SKIP_ZEROS") != "0"
        self.n_layers, self.n_in = network.n_layers, network.n_in
        self.output = OUTPUTS.index(network.output)
        self.type_number = cnp.NPY_FLOAT64 if self.kernels.itemsize == 8 else cnp.NPY_FLOAT32
        self.n_neurons, self.n_parameters = sum(network.layer_sizes), network.n_parameters
        self.widest_output = max(network.layer_sizes[1:])
        self.is_narrow = max(network.layer_sizes) <= WIDEST_IN_LANES
        self.flops_per_row = network.flops_per_sample
        self.rates = (0.0,) * self.n_layers
        self.memory = Memory()
        self.layers = <fnn_layer *> self.memory.take(self.n_layers * sizeof(fnn_layer))
        for k in range(self.n_layers):
            n_in, n_out = network.layer_sizes[k], network.layer_sizes[k + 1]
            self.layers[k] = self.kernels.layer(self.memory, n_in, n_out,
                                                k > 0 and min(n_in, n_out) <= WIDEST_WITH_COPY)
            self.layers[k].activation = self._activation(k)

    cdef fnn_activation _activation(self, int k) except *:
        cdef fnn_activation activation
        names = (*self.network.activations, "identity")
        memset(&activation, 0, sizeof(fnn_activation))
        if names[k] in ACTIVATIONS:
            activation.kind = ACTIVATIONS.index(names[k])
        else:
            activation.kind = FNN_CUSTOM
            g, slope = custom.compiled_activation(names[k], self.network.dtype)
            activation.g = <custom_g> <size_t> g
            activation.slope = <custom_slope> <size_t> slope
        return activation

    @property
    def isa(self):
        return self.kernels.isa

    def set_parameters(self, flat):
        cdef int k
        flat = np.ascontiguousarray(flat)
        for k, (W, b, _) in enumerate(self.network.places):
            self.kernels.table.pack(self._at(flat, W), self._at(flat, b), &self.layers[k])

    def get_parameters(self, out):
        cdef int k, finite = 1
        for k, (W, b, _) in enumerate(self.network.places):
            finite &= self.kernels.table.unpack(&self.layers[k], self.layers[k].W.data,
                                                self._at(out, W), self._at(out, b))
        return finite == 1

    def penalty(self, double l2, double l1):
        cdef double total = 0
        cdef int k
        for k in range(self.n_layers):
            total += self.kernels.table.penalty(&self.layers[k], l2, l1)
        return total

    cdef void *_at(self, flat, int64_t i) except NULL:
        """Where element i of `flat`, (n_parameters,) and C-contiguous, lies."""
        if cnp.PyArray_SIZE(flat) != self.n_parameters:
            raise ValueError(f"flat has shape {flat.shape}, expected ({self.n_parameters},)")
        return <char *> address(flat) + i * self.kernels.itemsize

    def forward(self, X, rows=None, n_layers=None):
        cdef prediction p
        if not is_ready(X, self.n_in) or cnp.PyArray_DIM(X, 0) == 0:
            X = check_X(X, self.network)
        self._open_prediction(&p, X, rows)
        if n_layers is not None:
            p.net.n_layers, p.net.output = n_layers, IDENTITY
        if not p.is_sparse:
            p.how = self._way(&p)
        return self._predict(&p, X)

    def forward_and_loss(self, X, y, sample_weight, loss, rows=None):
        cdef prediction p
        cdef double sum_of_losses = 0
        cdef int64_t r
        self._open_prediction(&p, X, rows)
        opened = self._opened(loss)
        self._open_targets(&p.net.y, y, sample_weight, opened)
        loss_of_row = np.empty(p.n)
        p.losses = <double *> address(loss_of_row)
        f = self._predict(&p, X)
        for r in range(p.n):
            sum_of_losses += p.losses[r]
        return f, sum_of_losses / p.n

    cdef int _way(self, prediction *p) noexcept:
        """That of dense rows."""
        cdef bint has_many_bytes = self.n_parameters * self.kernels.itemsize > MANY_BYTES
        if p.n == 1:
            return BY_PANELS
        if self.is_narrow and p.n >= self.kernels.table.VL:
            return IN_LANES
        if p.n <= FEW_ROWS and has_many_bytes and self._team_size_of(p) > 1:
            return BY_PANELS
        return BY_BLOCKS

    cdef int _open_prediction(self, prediction *p, X, rows) except -1:
        memset(p, 0, sizeof(prediction))
        p.is_sparse, p.flops_per_row = isinstance(X, CSR), self._flops_per_row(X)
        p.n = X.shape[0] if p.is_sparse else cnp.PyArray_DIM(X, 0)
        if rows is not None:
            p.rows.order, p.n = <const int64_t *> address(rows), cnp.PyArray_DIM(rows, 0)
        p.how, p.net.in_place = BY_BLOCKS, True
        p.net.n_layers, p.net.output = self.n_layers, self.output
        return 0

    cdef object _predict(self, prediction *p, X):
        """f, (n, n_out). X and whatever p points at stay alive in the caller."""
        cdef cnp.npy_intp[2] shape
        cdef Workspace workspace
        p.multiple = self.kernels.table.NR if p.how == IN_LANES else self.kernels.table.MR
        p.size = self._prediction_team(p)
        p.least_block = max(<int64_t> (LEAST_BLOCK_FLOPS / (p.flops_per_row + ROW_FLOPS)),
                            min(BLOCK_ROWS // 4, (p.n + p.size - 1) // p.size))
        p.block = (p.n + p.multiple - 1) // p.multiple * p.multiple
        if p.how == BY_BLOCKS:
            p.block = min(BLOCK_ROWS, p.block)
        rows = p.block * p.size if p.how == BY_BLOCKS else p.n if p.how == BY_PANELS else 1
        workspace = self._take_workspace(rows, not p.is_sparse)
        p.groups = workspace.pieces
        if p.how == IN_LANES:
            self._take_scratch(p, workspace)
        cdef int64_t n_out = self.layers[p.net.n_layers - 1].n_out
        shape[0], shape[1] = p.n, n_out
        f = cnp.PyArray_EMPTY(2, shape, self.type_number, 0)
        p.f, p.f_row_size = <char *> address(f), n_out * self.kernels.itemsize
        p.net.layers = self.layers
        self._open_pass(&p.net, workspace, X)
        if p.size == 1 and p.n * p.flops_per_row < SHORT_FLOPS:
            predict(p)  # with the GIL: over before another thread would have had it
        else:
            with nogil:
                predict(p)
        self._give_back(workspace)
        self._check_X(&p.net)
        return f

    cdef int _team_size_of(self, const prediction *p) noexcept:
        """The threads that are worth waking."""
        return self._team_size(p.n, p.flops_per_row / 3, FLOPS_PER_THREAD)

    cdef int _prediction_team(self, const prediction *p) noexcept:
        """Those of them that find something to do."""
        cdef int size = self._team_size_of(p)
        if p.how == BY_PANELS:
            return <int> min(size, groups_of(self.kernels.table, p.n, size, self.widest_output))
        return <int> min(size, (p.n + p.multiple - 1) // p.multiple)

    cdef int _take_scratch(self, prediction *p, Workspace workspace) except -1:
        """For the kernel of narrow networks: NR numbers for every neuron, for each thread."""
        cdef size_t size = self.n_neurons * self.kernels.table.NR * self.kernels.itemsize
        p.scratch_size = (size + 63) // 64 * 64 + 64
        if workspace.scratch_size < p.size * p.scratch_size:
            workspace.scratch_size = p.size * p.scratch_size
            workspace.scratch = workspace.memory.take(workspace.scratch_size)
        p.scratch = <char *> workspace.scratch
        return 0

    cdef int _team_size(self, double rows, double flops_per_row, double least) noexcept:
        """As many threads as were asked for, or as have so much work each."""
        if self.n_threads_given:
            return self.n_threads
        cdef double most = rows * (flops_per_row + ROW_FLOPS) / least
        return <int> max(1.0, min(<double> self.n_threads, most))

    cdef double _flops_per_row(self, X):
        """Of the products; what a sparse X does not store takes no part in them."""
        if not isinstance(X, CSR):
            return self.flops_per_row
        stored = X.indices.shape[0] / X.shape[0]
        return self.flops_per_row - 4.0 * (self.n_in - stored) * self.network.layer_sizes[1]

    cdef Workspace _take_workspace(self, int64_t rows, bint with_input):
        """The spare one if free and large enough: several Python threads may predict at once."""
        cdef Workspace workspace
        with cython.critical_section(self):
            workspace, self.spare = self.spare, None
        if (workspace is not None and workspace.rows >= rows
                and (workspace.has_input or not with_input)):
            return workspace
        return new_workspace(self.kernels, self.network, rows, self.n_threads, self.rates,
                             self.skip_zeros, with_input)

    cdef int _give_back(self, Workspace workspace) except -1:
        with cython.critical_section(self):
            self.spare = workspace
        return 0

    cdef int _open_pass(self, network_pass *net, Workspace workspace, X) except -1:
        net.kernels = self.kernels.table
        net.activity = workspace.activity
        return open_input(X, self.n_in, &net.X)

    cdef tuple _opened(self, loss):
        """The loss as _open_targets takes it: its number, its constants or None, its address."""
        loss = losses.get(loss)
        if loss.name not in LOSSES:
            return FNN_CUSTOM_LOSS, None, custom.compiled_loss(loss, self.network.output,
                                                               self.network.dtype)
        constants = loss.constants(self.network.n_out)
        return (LOSSES.index(loss.name),
                np.array(constants, self.network.dtype) if constants else None, 0)

    cdef int _open_targets(self, fnn_targets *targets, y, sample_weight, tuple loss) except -1:
        """Whatever `targets` points at stays alive in the caller."""
        targets.output, targets.loss = self.output, loss[0]
        if loss[1] is not None:
            targets.constants = address(loss[1])
        targets.terms = <custom_terms> <size_t> loss[2]
        if y.ndim == 1:
            targets.labels = <const int32_t *> address(y)
        else:
            targets.values = address(y)
        if sample_weight is not None:
            targets.weights = address(sample_weight)
        return 0

    cdef int _check_X(self, network_pass *net) except -1:
        if fnn_flag_get(&net.invalid_X):
            raise not_finite("X", self.network.dtype)
        return 0
