"""The work of a prediction; see _prediction.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport fnn_counter, fnn_kernels, fnn_rows
from fastnn.backends._pass cimport network_pass

# How the work of a prediction is cut: BY_BLOCKS of rows, each through the whole network; IN_LANES,
# so too, by the kernel for narrow networks; few rows BY_PANELS of the layers' outputs.
cdef enum:
    BY_BLOCKS, IN_LANES, BY_PANELS


# Rows 0:n of X, or rows.order[0:n], through the network.
ctypedef struct prediction:
    network_pass net
    fnn_rows rows
    int64_t n, block, least_block, multiple  # rows; how many are taken together
    int how, size  # threads
    bint is_sparse
    double flops_per_row
    fnn_counter taken  # rows
    fnn_counter done  # groups of panels
    fnn_counter *groups  # of panels, those of each layer that are taken
    bint reads_in_place  # where panels are shared out: X, which then is not gathered
    char *scratch  # scratch_size bytes for each thread, for IN_LANES
    size_t scratch_size
    char *f  # (n, n_out)
    size_t f_row_size
    double *losses  # (n,), or NULL


cdef int64_t groups_of(const fnn_kernels *kernels, int64_t n, int size,
                       int64_t n_out) noexcept nogil
cdef void predict(prediction *p) noexcept nogil
