"""The phases of a step; see _phases.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport Kernels, Memory, fnn_queue, fnn_step
from fastnn.backends._pass cimport network_pass
from fastnn.backends._steps cimport training_run, weight_tile

cdef enum:
    # At most so much of X is fetched ahead: more would drive the weights out of
    # the second-level cache.
    FETCH_BYTES = 1 << 18


cdef class Tiles:
    """The weights of some of the layers, tile by tile, as a team shares them out."""
    cdef list all  # (layer, tile, cost), layer by layer
    cdef int64_t n_tiles, n_of_input  # all; those of the first layer, which come first
    cdef Memory memory
    cdef weight_tile *tiles
    cdef fnn_queue *queues  # of those from `first` on; a run opens them
    cdef int n_queues
    cdef int64_t first
    cdef int share(self, int n_threads, int64_t first) except -1
    cdef int _share(self, int64_t begin, int64_t end) except -1


# Rows r0:end of n, a thread's share, which it takes in blocks; so many of them are fetched one step
# before.
ctypedef struct row_share:
    int64_t n, r0, end, block, fetched


cdef int64_t rows_to_fetch(const network_pass *net) noexcept nogil
cdef row_share share_of(training_run *run, int64_t n, int thread, int size) noexcept nogil
cdef void rows_phase(const training_run *run, network_pass *net, double *losses,
                     const row_share *share, int64_t first, double inverse_n) noexcept nogil
cdef bint columns_and_rows(training_run *run, int thread, int size, const row_share *share,
                           int64_t first, double inverse_n, const fnn_step *step) noexcept nogil
cdef void open_queues(const training_run *run, int thread, int size) noexcept nogil
cdef void weights_phase(const training_run *run, const network_pass *net, int thread, int size,
                        const row_share *share, int64_t next_first,
                        const fnn_step *step) noexcept nogil
cdef void clipped_update(training_run *run, int thread, int size,
                         const fnn_step *step) noexcept nogil
cdef void columns_phase(training_run *run, int thread, int size, int64_t first, int64_t n,
                        const fnn_step *step) noexcept nogil
