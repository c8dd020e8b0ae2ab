"""A training run, and its walk over batches and parts of them: which rows come next, at what rate,
and the books that are kept. Inline, since a tiny network's step takes no longer than some calls."""
from libc.math cimport sqrt
from libc.stdint cimport int64_t

from fastnn.backends._kernels cimport (
    FNN_ADAM, fnn_activity, fnn_barrier, fnn_columns, fnn_counter, fnn_flag, fnn_layer, fnn_matrix,
    fnn_plus_losses, fnn_queue, fnn_step, fnn_tile,
)
from fastnn.backends._pass cimport network_pass

cdef extern from "omp.h" nogil:
    double omp_get_wtime()


ctypedef struct weight_tile:
    int layer
    fnn_tile part
    int64_t cost
    int thread  # whose it is


# What a thread that takes whole parts of a batch writes.
ctypedef struct part_place:
    fnn_activity *activity
    double *losses


# Some neurons of the first of two layers, and what is theirs, in memory of its own: their columns
# of W, of Wt above, of h_1 in even and in odd steps.
ctypedef struct own_columns:
    int thread  # whose they are
    int64_t begin, n
    fnn_layer layer, above
    fnn_activity out[2]
    fnn_tile *tiles
    int64_t n_tiles


# What a thread has of its own beside them: all of the output layer.
ctypedef struct own_output:
    fnn_layer layer
    fnn_matrix h0, h1
    fnn_activity out
    double *losses


ctypedef struct two_layers:
    own_columns *columns
    own_output *outputs
    int n_columns  # pieces of them


# A part of a batch, the `n` rows from order[batch] on: its rows from `part` on, and its step.
ctypedef struct part_walk:
    int64_t batch, n, part, part_n, steps
    fnn_step step
    double beta1_power, beta2_power, inverse_n, loss_scale


# Steps over order[batch:], the first `part` rows of the first batch being done with.
ctypedef struct training_run:
    network_pass net
    double *losses
    const int64_t *order
    int64_t n_order, batch_size, part_rows
    bint is_small  # each step is one call of the kernel for small networks
    int64_t batch, part
    part_walk start  # where the call begins
    fnn_step step
    double clip_norm  # 0: none
    double *squares  # for every neuron, with clip_norm
    const double *learning_rates  # of the steps to come, rate_stride apart (0: one for all)
    int64_t rate_stride, max_steps
    double weight_decay
    double beta1_power, beta2_power  # beta^t of the last step
    # Batch weighting: l2 and l1 of `step` divided by what the gradients are, the number of samples,
    # or one of these, if not NULL, for each of the steps to come.
    bint batch_weighting
    const double *batch_weights
    const weight_tile *tiles
    int64_t n_tiles
    fnn_queue *queues  # of tiles, one for each thread that was asked for
    int n_queues
    int64_t first_tile  # of weights_phase; those before it belong to the first layer's own phase
    fnn_columns *columns  # of a sparse X, else NULL
    double flops_per_row, seconds
    double sum_of_losses, sum_at_step  # so far, and at the end of the last whole step
    int stop
    fnn_barrier barrier
    part_place *places  # of threads that take parts in turns; NULL: all share every part
    fnn_counter turn  # whose part is next
    two_layers *two  # where threads have them apart, else NULL
    fnn_flag last_step  # then: that of the call, counted from 1; 0: not known yet
    # What the call took: seconds, and the part of them that each thread, and the least of all, had
    # a core for.
    double took, core_share
    double *core_shares
    double barrier_seconds  # what a barrier of the team took; 0: there is none


cdef inline double weigh_batch(const training_run *run, int64_t i, int64_t n,
                               fnn_step *step) noexcept nogil:
    """What the gradients, and now the penalties too, are multiplied by in the i-th step, on n rows:
    1 / (sum of their weights), nothing where none weighs anything."""
    cdef double weight = n if run.batch_weights == NULL else run.batch_weights[i]
    cdef double inverse = 1 / weight if weight > 0 else 0
    step.l2, step.l1 = run.step.l2 * inverse, run.step.l1 * inverse
    return inverse


cdef inline void open_part(const training_run *run, part_walk *at) noexcept nogil:
    """How many rows the part has, and its step's numbers."""
    cdef fnn_step *step = &at.step
    cdef double rate = run.learning_rates[at.steps * run.rate_stride]
    at.n = min(run.batch_size, run.n_order - at.batch)
    at.part_n = min(run.part_rows, at.n - at.part)
    step.first, step.last = at.part == 0, at.part + at.part_n == at.n
    at.inverse_n, at.loss_scale = 1.0 / at.n, 1
    if run.batch_weighting:
        at.inverse_n = weigh_batch(run, at.steps, at.n, step)
        if run.batch_weights != NULL:
            at.loss_scale = at.n * at.inverse_n
    step.learning_rate, step.decay = rate, rate * run.weight_decay
    if step.rule == FNN_ADAM:
        if step.first:
            at.beta1_power *= step.beta1
            at.beta2_power *= step.beta2
        step.learning_rate = rate / (1 - at.beta1_power)
        step.inverse_root = 1 / sqrt(1 - at.beta2_power)
        if step.epsilon_hat:
            step.eps = run.step.eps * step.inverse_root


cdef inline part_walk first_part(const training_run *run) noexcept nogil:
    cdef part_walk at
    at.batch, at.part, at.steps, at.step = run.batch, run.part, 0, run.step
    at.beta1_power, at.beta2_power = run.beta1_power, run.beta2_power
    open_part(run, &at)
    return at


cdef inline bint next_part(const training_run *run, part_walk *at) noexcept nogil:
    """Go on to it; False after the call's last."""
    at.part += at.part_n
    if at.step.last:
        at.batch, at.part, at.steps = at.batch + at.n, 0, at.steps + 1
        if at.batch == run.n_order or at.steps == run.max_steps:
            return False
    open_part(run, at)
    return True


cdef inline void keep_books(training_run *run, const part_walk *at,
                            const double *losses) noexcept nogil:
    """Of a part that is done with."""
    run.sum_of_losses = fnn_plus_losses(run.sum_of_losses, losses, at.part_n, at.loss_scale)
    run.batch, run.part = at.batch, at.part + at.part_n
    if at.step.last:
        run.sum_at_step = run.sum_of_losses
        run.batch, run.part = at.batch + at.n, 0
    run.beta1_power, run.beta2_power = at.beta1_power, at.beta2_power


cdef inline bint is_over(const training_run *run, const part_walk *at, double deadline,
                         double *unclocked) noexcept nogil:
    """Whether the call's time is, by a clock that takes as long to read as a tiny step."""
    unclocked[0] += at.part_n * run.flops_per_row
    if unclocked[0] <= 1e6:
        return False
    unclocked[0] = 0
    return omp_get_wtime() > deadline
