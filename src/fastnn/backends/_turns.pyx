"""Training where a batch has many parts and the network few weights: each thread takes whole parts.
What goes from core to core is not h and delta but the sums of dW."""
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    Kernels, Memory, Workspace, fnn_counter_add, fnn_counter_get, fnn_counter_wait, fnn_flag_get,
    fnn_flag_set, new_workspace,
)
from fastnn.backends._pass cimport network_pass
from fastnn.backends._phases cimport (
    clipped_update, open_queues, row_share, rows_phase, share_of, weights_phase,
)
from fastnn.backends._steps cimport (
    is_over, keep_books, next_part, part_place, part_walk, training_run,
)

cdef extern from "omp.h" nogil:
    double omp_get_wtime()


# Added to `turn` where a call ends early.
cdef int64_t NO_MORE_TURNS = <int64_t> 1 << 60


cdef class Places:
    def __cinit__(self, Kernels kernels, network, int64_t rows, int n_threads, tuple rates,
                  bint skip_zeros):
        """For parts of so many rows; rates: dropout's, as a workspace takes them."""
        cdef Workspace workspace
        cdef int i
        self.rows, self.n_threads, self.memory = rows, n_threads, Memory()
        self.places = <part_place *> self.memory.take(n_threads * sizeof(part_place))
        self.workspaces = [new_workspace(kernels, network, rows, 1, rates, skip_zeros, True)
                           for _ in range(n_threads - 1)]
        for i in range(1, n_threads):
            workspace = self.workspaces[i - 1]
            self.places[i] = part_place(workspace.activity, workspace.losses)

    cdef part_place *open(self, Workspace own) noexcept:
        self.places[0] = part_place(own.activity, own.losses)
        return self.places


cdef bint wait_for_turn(training_run *run, int64_t turn) noexcept nogil:
    """False if the call has ended meanwhile."""
    fnn_counter_wait(&run.turn, turn)
    return fnn_counter_get(&run.turn) < NO_MORE_TURNS


cdef void relay_sums(training_run *run, network_pass *net, const row_share *share,
                     part_walk *at) noexcept nogil:
    """What a part adds to all gradients; with a batch's last one, the update."""
    open_queues(run, 0, 1)
    weights_phase(run, net, 0, 1, share, at.batch + at.part + at.part_n, &at.step)
    if at.step.last and run.clip_norm > 0:
        clipped_update(run, 0, 1, &at.step)


cdef void train_in_turns(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does: both phases of its parts, all steps of one call. The sums
    go from each part's thread to the next one's."""
    cdef part_walk at = run.start
    cdef network_pass net = run.net
    cdef double *losses = run.places[thread].losses
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    cdef int64_t turn = 0, begin = 0  # of the part, and of its batch's first one
    cdef row_share share
    net.activity = run.places[thread].activity
    while True:
        if turn % size == thread:
            if not wait_for_turn(run, begin):
                return
            share = share_of(run, at.part_n, 0, 1)
            share.fetched = 0  # the next part is another thread's
            rows_phase(run, &net, losses, &share, at.batch + at.part, at.inverse_n)
            if fnn_flag_get(&net.invalid_X):
                fnn_flag_set(&run.net.invalid_X, 1)
                fnn_counter_add(&run.turn, NO_MORE_TURNS)
                return
            if not wait_for_turn(run, turn):
                return
            relay_sums(run, &net, &share, &at)
            keep_books(run, &at, losses)
            fnn_counter_add(&run.turn, NO_MORE_TURNS
                            if is_over(run, &at, deadline, &unclocked) else 1)
        turn += 1
        if at.step.last:
            begin = turn
        if not next_part(run, &at):
            return
