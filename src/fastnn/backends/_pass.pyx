"""Rows of a batch through a network: forward from X to the output layer, and delta back again. Rows
need nothing of one another, so a thread may carry any of them."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    FNN_NOT_FINITE, FNN_TO_BE_GATHERED, fnn_dropout, fnn_flag_set, fnn_rows,
)


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
    cdef int first = 1
    cdef fnn_dropout dropout, input_dropout
    cdef const fnn_dropout *of_input = dropout_of(net, 0, rows, &input_dropout)
    cdef int found = FNN_TO_BE_GATHERED
    if net.X.indptr != NULL:
        found = net.kernels.forward_sparse(&net.X, rows, of_input, &net.layers[0],
                                           dropout_of(net, 1, rows, &dropout), &net.activity[1],
                                           r0, r1)
    elif net.in_place:
        found = net.kernels.forward_in_place(&net.X, rows, &net.layers[0], &net.activity[1],
                                             net.activity[0].h.nonzero != NULL, r0, r1)
    if found == FNN_TO_BE_GATHERED:
        first = 0
        found = net.kernels.gather(&net.X, rows, of_input, &net.activity[0].h, r0, r1)
    if found == FNN_NOT_FINITE:
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
