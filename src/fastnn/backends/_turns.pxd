"""Parts of a batch in turns; see _turns.pyx."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport Memory, Workspace
from fastnn.backends._steps cimport part_place, training_run


cdef class Places:
    """Those of a team, the first of which is that of the run's own workspace."""
    cdef list workspaces  # of the others
    cdef Memory memory
    cdef part_place *places
    cdef int64_t rows
    cdef int n_threads
    cdef part_place *open(self, Workspace own) noexcept


cdef void train_in_turns(training_run *run, int thread, int size) noexcept nogil
