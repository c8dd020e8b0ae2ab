"""The first layer shared out by columns; see _first_layer.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, fnn_activity, fnn_layer, fnn_matrix, fnn_rows, fnn_step,
)
from fastnn.backends._pass cimport column_share, first_layer, network_pass


cdef int64_t begin_of_share(Kernels kernels, int64_t width, int thread, int n_threads) noexcept
cdef bint has_whole_panels(Kernels kernels, int64_t width, int n_threads) noexcept


cdef class FirstLayer:
    cdef Kernels kernels
    cdef Memory memory
    cdef object network
    cdef int64_t rows
    cdef int n_threads
    cdef first_layer shared
    cdef int _take_share(self, int thread, int64_t begin, int64_t end, bint bits_of_h) except -1
    cdef first_layer *open(self, const fnn_layer *layers, const fnn_activity *activity) noexcept
    cdef void _cut_above(self, fnn_layer *above, const column_share *share) noexcept
    cdef void _cut(self, fnn_matrix *X, const column_share *share) noexcept
    cdef void _cut_like_W(self, void **data, const fnn_matrix *X,
                          const column_share *share) noexcept


cdef void forward_columns(network_pass *net, int thread, int size, fnn_rows rows,
                          int64_t n) noexcept nogil
cdef void join_bits(network_pass *net, int64_t r0, int64_t r1) noexcept nogil
cdef void train_columns(network_pass *net, int thread, int size, int64_t n,
                        const fnn_step *step) noexcept nogil
