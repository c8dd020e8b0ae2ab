"""Two layers, trained by threads that have most of them apart; see _two_layers.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport Kernels, Memory, fnn_layer
from fastnn.backends._steps cimport own_output, training_run, two_layers

cdef enum:
    FLOPS_PER_THREAD_APART = 150_000  # see FLOPS_PER_THREAD


cdef bint goes_apart(const training_run *run, int n_layers) noexcept nogil


cdef class TwoLayers:
    """The memory of a team for it."""
    cdef Kernels kernels
    cdef Memory memory
    cdef two_layers two
    cdef int64_t rows
    cdef int n_threads, n_states
    cdef int _take_columns(self, int thread, int64_t begin, int64_t n, int64_t n_in, int64_t n_out,
                           bint with_a, bint bits_of_h) except -1
    cdef int _take_output(self, own_output *own, network, bint bits_of_x, bint bits_of_h) except -1
    cdef fnn_layer _layer(self, int64_t n_in, int64_t n_out, bint transposed) except *
    cdef two_layers *open(self, const fnn_layer *layers) noexcept


cdef void train_two_layers(training_run *run, int thread, int size) noexcept nogil
