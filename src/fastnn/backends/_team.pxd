"""The loops that a team of threads runs; see _team.pyx."""
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, Workspace, fnn_activity, fnn_barrier, fnn_columns, fnn_counter, fnn_dropout, fnn_flag,
    fnn_input, fnn_kernels, fnn_layer, fnn_matrix, fnn_rows, fnn_step, fnn_targets, fnn_tile,
)

cdef enum:
    # Rows that a thread carries through the network together: enough that reading the weights
    # costs little beside computing with them, few enough that the block of h being read stays in
    # the second-level cache.
    BLOCK_ROWS = 256
    # At most so much of X is fetched ahead: more would drive the weights out of that cache.
    FETCH_BYTES = 1 << 18


# Some columns of the first layer: views of its matrices, and of Wt of the layer above.
ctypedef struct column_share:
    int thread  # whose they are
    int64_t begin, n  # columns
    fnn_layer layer, above
    fnn_activity out
    uint64_t *nonzero  # of h_1; NULL: not looked for
    fnn_tile *tiles  # of W
    int64_t n_tiles


# All columns; and h_0 of the whole batch, for each thread.
ctypedef struct first_layer:
    column_share *shares
    int n_shares
    fnn_matrix *h0


# One network, the memory it works in, and the data it reads.
ctypedef struct network_pass:
    const fnn_kernels *kernels
    fnn_layer *layers
    int n_layers
    int lowest  # layer, from 0, that dW is wanted of
    int output
    const fnn_dropout *dropout  # [k] that of h_k; NULL: none
    fnn_activity *activity
    first_layer *first  # where a team trains that layer by columns, else NULL
    fnn_input X
    fnn_targets y
    fnn_flag invalid_X


ctypedef struct weight_tile:
    int layer
    fnn_tile part
    int64_t cost
    int thread  # whose it is


cdef class Tiles:
    """The weights of some of the layers, tile by tile, as a team shares them out."""
    cdef Memory memory
    cdef weight_tile *tiles
    cdef int64_t n_tiles, n_of_input  # all; those of the first layer, which come first
    cdef int n_threads  # that share them
    cdef int64_t first  # those before it are shared for themselves
    cdef int share(self, int n_threads, int64_t first) except -1


# What a thread that takes whole parts of a batch writes.
ctypedef struct part_place:
    fnn_activity *activity
    double *losses


cdef class Places:
    """Those of a team, the first of which is that of the run's own workspace."""
    cdef list workspaces  # of the others
    cdef Memory memory
    cdef part_place *places
    cdef int64_t rows
    cdef int n_threads
    cdef part_place *open(self, Workspace own) noexcept


# A part of a batch, the `n` rows from order[batch] on: its rows from `part` on, and its step.
ctypedef struct part_walk:
    int64_t batch, n, part, part_n, steps
    fnn_step step
    double beta1_power, beta2_power, inverse_n, loss_scale


# Steps over order[batch:], the first `part` rows of the first batch being done with.
ctypedef struct training_run:
    network_pass net
    double *losses
    const int64_t *order
    int64_t n_order, batch_size, part_rows
    bint is_small  # each step is one call of the kernel for small networks
    int64_t batch, part
    part_walk start  # where the call begins
    fnn_step step
    double clip_norm  # 0: none
    double *squares  # for every neuron, with clip_norm
    const double *learning_rates  # of the steps to come, rate_stride apart (0: one for all)
    int64_t rate_stride, max_steps
    double weight_decay
    double beta1_power, beta2_power  # beta^t of the last step
    # Batch weighting: l2 and l1 of `step` divided by what the gradients are, the number of samples,
    # or one of these, if not NULL, for each of the steps to come.
    bint batch_weighting
    const double *batch_weights
    const weight_tile *tiles
    int64_t n_tiles
    int64_t first_tile  # of weights_phase; those before it belong to the first layer's own phase
    fnn_columns *columns  # of a sparse X, else NULL
    double flops_per_row, seconds
    double sum_of_losses, sum_at_step  # so far, and at the end of the last whole step
    int stop
    fnn_barrier barrier
    part_place *places  # of threads that take parts in turns; NULL: all share every part
    fnn_counter turn  # whose part is next
    # What the call took: seconds, and the part of them that each thread, and the least of all, had
    # a core for.
    double took, core_share
    double *core_shares


cdef bint forward_rows(network_pass *net, fnn_rows rows, int64_t r0, int64_t r1) noexcept nogil
cdef void train(training_run *run, int n_threads) noexcept nogil
