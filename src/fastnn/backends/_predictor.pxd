"""The half of the compiled engine that predicts; see _predictor.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, Workspace, fnn_activation, fnn_layer, fnn_targets,
)
from fastnn.backends._pass cimport network_pass
from fastnn.backends._prediction cimport prediction

cdef enum:
    ROW_FLOPS = 3000  # what a row costs beside its products, in operations
    # Below this much work for each thread, in operations, waiting for one another costs more than
    # sharing brings.
    FLOPS_PER_THREAD = 400_000


cdef class Predictor:
    cdef Kernels kernels
    cdef Memory memory
    cdef fnn_layer *layers
    cdef int n_layers, output
    cdef int64_t n_in, n_neurons, widest_output, n_parameters
    cdef int type_number  # NumPy's, of the dtype
    cdef bint n_threads_given, is_narrow
    cdef readonly int n_threads
    cdef readonly bint skip_zeros
    cdef readonly object network
    cdef Workspace spare
    cdef double flops_per_row
    cdef tuple rates  # of dropout, [k] that of h_k
    cdef fnn_activation _activation(self, int k) except *
    cdef void *_at(self, flat, int64_t i) except NULL
    cdef int _open_prediction(self, prediction *p, X, rows) except -1
    cdef object _predict(self, prediction *p, X)
    cdef int _way(self, const prediction *p) noexcept
    cdef int _team_size_of(self, const prediction *p) noexcept
    cdef int _prediction_team(self, const prediction *p) noexcept
    cdef int _take_scratch(self, prediction *p, Workspace workspace) except -1
    cdef int _team_size(self, double rows, double flops_per_row, double least) noexcept
    cdef double _flops_per_row(self, X)
    cdef Workspace _take_workspace(self, int64_t rows, bint with_input)
    cdef int _give_back(self, Workspace workspace) except -1
    cdef int _open_pass(self, network_pass *net, Workspace workspace, X) except -1
    cdef tuple _opened(self, loss)
    cdef int _open_targets(self, fnn_targets *targets, y, sample_weight, tuple loss) except -1
    cdef int _check_X(self, network_pass *net) except -1
