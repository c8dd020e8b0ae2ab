"""Teams of threads; see _team.pyx."""
from fastnn.backends._kernels cimport fnn_work
from fastnn.backends._steps cimport training_run

cdef bint lead(fnn_work team, void *context, int n_threads) noexcept nogil
cdef bint is_awake() noexcept nogil
cdef void train(training_run *run, int n_threads) noexcept nogil
