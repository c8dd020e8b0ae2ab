"""Teams of threads, and the loop that each of their threads runs: over batches, parts and phases.

A barrier ends either phase of a step. Which thread computed what leaves no trace in the bits.
"""
import os

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint64_t

from fastnn.backends import forks

from fastnn.backends._kernels cimport (
    fnn_barrier_wait, fnn_call_on_new_thread, fnn_denormals_off, fnn_denormals_restore,
    fnn_flag_get, fnn_flag_set, fnn_rows, fnn_step, fnn_thread_seconds, fnn_work,
)

from fastnn.backends._pass cimport network_pass
from fastnn.backends._phases cimport (
    clipped_update, columns_and_rows, columns_phase, open_queues, row_share, rows_phase, share_of,
    weights_phase,
)
from fastnn.backends._steps cimport (
    first_part, is_over, keep_books, next_part, part_walk, training_run,
)
from fastnn.backends._turns cimport train_in_turns
from fastnn.backends._two_layers cimport train_two_layers

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()
    double omp_get_wtime()


cdef extern from *:
    """
    static _Thread_local double team_seen = -1; /* when the thread's last team ended */
    """
    double team_seen

cdef enum:
    BARRIERS_TIMED = 10

# A team's idle threads spin for some 4 ms (GCC's OpenMP) before they sleep.
cdef double AWAKE_SECONDS = 2e-3


# A fork takes only the thread that calls it along, and the OpenMP of that thread would wait for its
# team for ever. In a child of a fork, a new thread leads every team: OpenMP has a team for each
# thread that leads one, and no more of it when the thread ends.
cdef bint is_forked = forks.is_child


def _after_fork_in_child():
    global is_forked
    is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


cdef bint lead(fnn_work team, void *context, int n_threads) noexcept nogil:
    """team(context, n_threads), which opens a parallel region; False, without a call, if the system
    has no thread that could lead one."""
    if is_forked:
        return fnn_call_on_new_thread(team, context, n_threads)
    team(context, n_threads)
    global team_seen
    team_seen = omp_get_wtime()
    return True


cdef bint is_awake() noexcept nogil:
    """Whether the calling thread's last team still spins, which keeps others from its cores."""
    return not is_forked and 0 <= omp_get_wtime() - team_seen < AWAKE_SECONDS


cdef void small_step(training_run *run, int64_t first, int64_t n, double inverse_n,
                     const fnn_step *step) noexcept nogil:
    """Both phases of a step on order[first : first + n] at once."""
    cdef network_pass *net = &run.net
    cdef fnn_rows rows
    rows.order, rows.first = run.order, first
    if not net.kernels.small_step(net.layers, net.n_layers, net.activity, &net.X, &net.y, rows, n,
                                  inverse_n, min(n, run.n_order - first - n), step, run.losses):
        fnn_flag_set(&net.invalid_X, 1)


cdef void train_team(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does: all steps of one call. Thread 0 also keeps the books."""
    cdef part_walk at = run.start
    cdef row_share share = share_of(run, run.part_rows, thread, size)
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    cdef int64_t first
    while True:
        first = at.batch + at.part
        if at.part_n != share.n:
            share = share_of(run, at.part_n, thread, size)
        if run.is_small:
            small_step(run, at.batch, at.n, at.inverse_n, &at.step)
        else:
            open_queues(run, thread, size)
            if run.net.first == NULL:
                rows_phase(run, &run.net, run.losses, &share, first, at.inverse_n)
            elif not columns_and_rows(run, thread, size, &share, first, at.inverse_n, &at.step):
                return
        fnn_barrier_wait(&run.barrier, size)
        if fnn_flag_get(&run.net.invalid_X):
            return
        if run.columns != NULL:
            columns_phase(run, thread, size, first, at.part_n, &at.step)
        if not run.is_small:
            weights_phase(run, &run.net, thread, size, &share, first + at.part_n, &at.step)
        if at.step.last and run.clip_norm > 0:
            clipped_update(run, thread, size, &at.step)
        if thread == 0:
            keep_books(run, &at, run.losses)
            run.stop = is_over(run, &at, deadline, &unclocked)
        fnn_barrier_wait(&run.barrier, size)
        if run.stop or not next_part(run, &at):
            return


cdef double time_barriers(training_run *run, int size) noexcept nogil:
    """Seconds that one takes when all are there, as a thread sees it."""
    cdef double begin
    cdef int _i
    fnn_barrier_wait(&run.barrier, size)
    begin = omp_get_wtime()
    for _i in range(BARRIERS_TIMED):
        fnn_barrier_wait(&run.barrier, size)
    return (omp_get_wtime() - begin) / BARRIERS_TIMED


cdef void train_on_core(training_run *run, int thread, int size) noexcept nogil:
    """train_team, denormals off, with the share of its time that a thread of several had a core
    for: to read that clock, one that is alone would take a tenth of a short call."""
    cdef uint64_t mode = fnn_denormals_off()
    cdef double begin = omp_get_wtime(), on_core = fnn_thread_seconds() if size > 1 else 0
    cdef network_pass *net = &run.net
    cdef double barrier_seconds
    if size > 1:
        barrier_seconds = time_barriers(run, size)
        if thread == 0:
            run.barrier_seconds = barrier_seconds
    if run.is_small:
        net.kernels.small_open(net.layers, net.n_layers, &net.y)
    if run.places != NULL:
        train_in_turns(run, thread, size)
    elif run.two != NULL:
        train_two_layers(run, thread, size)
    else:
        train_team(run, thread, size)
    if run.is_small:
        net.kernels.small_close(net.layers, net.n_layers, &net.y)
    if size > 1:
        run.core_shares[thread] = (fnn_thread_seconds() - on_core) / (omp_get_wtime() - begin)
    fnn_denormals_restore(mode)


cdef void train_in_parallel(void *context, int n_threads) noexcept nogil:
    with parallel(num_threads=n_threads):
        train_on_core(<training_run *> context, threadid(), omp_get_num_threads())


cdef void train(training_run *run, int n_threads) noexcept nogil:
    cdef double begin = omp_get_wtime()
    cdef int thread
    run.start = first_part(run)  # a thread that comes late finds `run` changed
    for thread in range(n_threads):
        run.core_shares[thread] = 1
    if n_threads == 1 or not lead(train_in_parallel, run, n_threads):
        train_on_core(run, 0, 1)
    run.took, run.core_share = omp_get_wtime() - begin, 1
    for thread in range(n_threads):
        run.core_share = min(run.core_share, run.core_shares[thread])
