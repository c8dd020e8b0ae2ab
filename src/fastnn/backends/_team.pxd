"""The loops that a team of threads runs; see _team.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, fnn_barrier, fnn_columns, fnn_step, fnn_tile, fnn_work,
)
from fastnn.backends._pass cimport network_pass

cdef enum:
    # At most so much of X is fetched ahead: more would drive the weights out of
    # the second-level cache.
    FETCH_BYTES = 1 << 18


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


# Steps over order[batch:], the first `part` rows of the first batch being done with.
ctypedef struct training_run:
    network_pass net
    double *losses
    const int64_t *order
    int64_t n_order, batch_size, part_rows
    bint is_small  # each step is one call of the kernel for small networks
    int64_t batch, part
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
    # What the call took: seconds, and the part of them that each thread, and the least of all, had
    # a core for.
    double took, core_share
    double *core_shares


cdef bint lead(fnn_work team, void *context, int n_threads) noexcept nogil
cdef void train(training_run *run, int n_threads) noexcept nogil
