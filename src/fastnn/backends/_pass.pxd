"""A pass through a network; see _pass.pyx."""
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends._kernels cimport (
    fnn_activity, fnn_dropout, fnn_flag, fnn_input, fnn_kernels, fnn_layer, fnn_matrix, fnn_rows,
    fnn_targets, fnn_tile,
)

cdef enum:
    # Rows that a thread carries through the network together: enough that reading the weights
    # costs little beside computing with them, few enough that the block of h being read stays in
    # the second-level cache.
    BLOCK_ROWS = 256


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
    bint in_place  # h_0 is not needed where X may be read as it lies
    fnn_targets y
    fnn_flag invalid_X


cdef const fnn_dropout *dropout_of(network_pass *net, int k, fnn_rows rows,
                                   fnn_dropout *dropout) noexcept nogil
cdef bint forward_rows(network_pass *net, fnn_rows rows, int64_t r0, int64_t r1) noexcept nogil
cdef void forward_layers(network_pass *net, int first, fnn_rows rows, int64_t r0,
                         int64_t r1) noexcept nogil
cdef void backward_rows(network_pass *net, int lowest, fnn_rows rows, int64_t r0,
                        int64_t r1) noexcept nogil
