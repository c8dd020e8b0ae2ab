"""Two layers, the upper one narrow, trained by a team with one barrier a step.

Lines of cache that go from core to core are what a second thread costs. So the first layer is
shared out by neurons: each thread has some of them, with their columns of W, of the optimizer's
state, of a, h_1 and delta_1, in memory of its own, and gathers the whole batch for itself. The
output layer is so little work that every thread does all of it, on weights of its own, by the same
operations and so with the same numbers. All that a thread then needs of the others is their columns
of h_1. Those of even and of odd steps lie apart, so that nobody waits for a reader either; and on
its way through the barrier a thread does what the step before has left: the output layer's update.
"""
from libc.stdint cimport int64_t

from fastnn.backends._first_layer cimport begin_of_share
from fastnn.backends._kernels cimport (
    Kernels, Memory, fnn_barrier_arrive, fnn_barrier_await, fnn_barrier_wait, fnn_coming,
    fnn_flag_get, fnn_flag_set, fnn_kernels, fnn_layer, fnn_matrix, fnn_rows, fnn_tile,
)
from fastnn.backends._pass cimport BLOCK_ROWS, network_pass
from fastnn.backends._phases cimport rows_to_fetch
from fastnn.backends._steps cimport (
    is_over, keep_books, next_part, own_columns, own_output, part_walk, training_run, two_layers,
)

cdef extern from "omp.h" nogil:
    double omp_get_wtime()


# An output layer of so many neurons at most is done by every thread, where that work, rows times
# width, is at most so many times the inputs: what is saved goes with them. Not more neurons than
# _predictor's WIDEST_WITH_COPY: its Wt is used.
cdef int64_t MOST_OUTPUTS = 16
cdef int64_t MOST_DONE_BY_ALL = 64


cdef bint goes_apart(const training_run *run, int n_layers) noexcept nogil:
    """Whether a team had better train in this way, if its batches are not taken in parts."""
    cdef const fnn_layer *layers = run.net.layers
    return (n_layers == 2 and run.net.lowest == 0 and layers[1].learning_rate_factor > 0
            and run.step.update and run.net.dropout == NULL and layers[1].n_out <= MOST_OUTPUTS
            and run.batch_size * layers[0].n_out <= MOST_DONE_BY_ALL * layers[0].n_in)


cdef class TwoLayers:
    def __cinit__(self, Kernels kernels, network, int64_t rows, int n_threads, int n_states,
                  bint with_a, bint bits_of_x, bint bits_of_h):
        """For an optimizer with n_states arrays, and a workspace of `rows` rows that has an a_1,
        and words of bits of h_0 and h_1, or not."""
        cdef int64_t begin, end
        cdef int thread
        self.kernels, self.memory, self.rows = kernels, Memory(), rows
        self.n_threads, self.n_states = n_threads, n_states
        self.two.columns = <own_columns *> self.memory.take(n_threads * sizeof(own_columns))
        self.two.outputs = <own_output *> self.memory.take(n_threads * sizeof(own_output))
        n_in, width, n_out = network.layer_sizes
        for thread in range(n_threads):
            begin = begin_of_share(kernels, width, thread, n_threads)
            end = begin_of_share(kernels, width, thread + 1, n_threads)
            if end > begin:
                self._take_columns(thread, begin, end - begin, n_in, n_out, with_a, bits_of_h)
            self._take_output(&self.two.outputs[thread], network, bits_of_x, bits_of_h)

    cdef int _take_columns(self, int thread, int64_t begin, int64_t n, int64_t n_in, int64_t n_out,
                           bint with_a, bint bits_of_h) except -1:
        cdef own_columns *own = &self.two.columns[self.two.n_columns]
        cdef int odd
        tiles = self.kernels.tiles(n_in, n)
        own.thread, own.begin, own.n = thread, begin, n
        own.layer = self._layer(n_in, n, False)
        own.above.n_out, own.above.Wt = n_out, self.kernels.matrix(self.memory, n_out, n)
        own.tiles = <fnn_tile *> self.memory.take(len(tiles) * sizeof(fnn_tile))
        for tile, _ in tiles:
            own.tiles[own.n_tiles] = tile
            own.n_tiles += 1
        own.out[0].delta = self.kernels.matrix(self.memory, self.rows, n)
        if with_a:
            own.out[0].a = self.kernels.matrix(self.memory, self.rows, n)
        own.out[1] = own.out[0]
        for odd in range(2):
            own.out[odd].h = self.kernels.matrix(self.memory, self.rows, n)
            if bits_of_h:
                self.kernels.look_for_zeros(self.memory, &own.out[odd].h)
                own.out[odd].delta.nonzero = own.out[odd].h.nonzero  # as new_workspace has it
        self.two.n_columns += 1
        return 0

    cdef int _take_output(self, own_output *own, network, bint bits_of_x,
                          bint bits_of_h) except -1:
        n_in, width, n_out = network.layer_sizes
        own.layer = self._layer(width, n_out, True)
        own.h0 = self.kernels.matrix(self.memory, self.rows, n_in)
        own.h1 = self.kernels.matrix(self.memory, self.rows, width)
        own.out.h = self.kernels.matrix(self.memory, self.rows, n_out)
        own.out.delta = self.kernels.matrix(self.memory, self.rows, n_out)
        own.losses = <double *> self.memory.take(self.rows * sizeof(double))
        if bits_of_x:
            self.kernels.look_for_zeros(self.memory, &own.h0)
        if bits_of_h:
            self.kernels.look_for_zeros(self.memory, &own.h1)
        return 0

    cdef fnn_layer _layer(self, int64_t n_in, int64_t n_out, bint transposed) except *:
        """With the optimizer's state."""
        cdef fnn_layer layer = self.kernels.layer(self.memory, n_in, n_out, transposed)
        cdef int i
        for i in range(self.n_states):
            layer.state[i] = self.memory.take(self.kernels.matrix_size(&layer.W))
        return layer

    cdef two_layers *open(self, const fnn_layer *layers) noexcept:
        """For a run on these layers, whose numbers the threads themselves fetch."""
        cdef fnn_layer *own
        cdef int i
        for i in range(self.two.n_columns):
            own = &self.two.columns[i].layer
            own.activation, own.learning_rate_factor = (layers[0].activation,
                                                        layers[0].learning_rate_factor)
        for i in range(self.n_threads):
            own = &self.two.outputs[i].layer
            own.activation, own.learning_rate_factor = (layers[1].activation,
                                                        layers[1].learning_rate_factor)
        return &self.two


cdef void copy_layer(const fnn_kernels *kernels, const fnn_layer *source, int64_t f,
                     const fnn_layer *target, int64_t t, int64_t n) noexcept nogil:
    """W and the optimizer's state of n neurons, from neuron f on; they become those from t on."""
    cdef fnn_matrix theirs = source.W, ours = target.W
    cdef int i
    kernels.copy_columns(&theirs, f, &ours, t, n, 0, ours.rows)
    for i in range(2):
        theirs.data, ours.data = source.state[i], target.state[i]
        if theirs.data != NULL and ours.data != NULL:
            kernels.copy_columns(&theirs, f, &ours, t, n, 0, ours.rows)


cdef void follow_output(const fnn_kernels *kernels, const own_output *output,
                        const own_columns *own) noexcept nogil:
    """The columns' part of the output layer's Wt."""
    kernels.copy_columns(&output.layer.Wt, own.begin, &own.above.Wt, 0, own.n, 0,
                         own.above.Wt.rows)


cdef void begin_apart(training_run *run, int thread, int size) noexcept nogil:
    """Fetch what the engine's layers hold."""
    cdef const fnn_kernels *kernels = run.net.kernels
    cdef const fnn_layer *layers = run.net.layers
    cdef own_output *output = &run.two.outputs[thread]
    cdef own_columns *own
    cdef int i
    copy_layer(kernels, &layers[1], 0, &output.layer, 0, layers[1].n_out)
    kernels.copy_columns(&layers[1].Wt, 0, &output.layer.Wt, 0, layers[1].n_in, 0, layers[1].n_out)
    for i in range(run.two.n_columns):
        own = &run.two.columns[i]
        if own.thread % size == thread:
            copy_layer(kernels, &layers[0], own.begin, &own.layer, 0, own.n)
            follow_output(kernels, output, own)


cdef void end_apart(training_run *run, int thread, int size) noexcept nogil:
    """Give it back."""
    cdef const fnn_kernels *kernels = run.net.kernels
    cdef const fnn_layer *layers = run.net.layers
    cdef const own_output *output = &run.two.outputs[0]
    cdef const own_columns *own
    cdef int i
    for i in range(run.two.n_columns):
        own = &run.two.columns[i]
        if own.thread % size == thread:
            copy_layer(kernels, &own.layer, 0, &layers[0], own.begin, own.n)
    if thread == 0:
        copy_layer(kernels, &output.layer, 0, &layers[1], 0, layers[1].n_out)
        kernels.copy_columns(&output.layer.Wt, 0, &layers[1].Wt, 0, layers[1].n_in, 0,
                             layers[1].n_out)


cdef bint forward_apart(training_run *run, own_output *output, int thread, int size, fnn_rows rows,
                        const part_walk *at) noexcept nogil:
    """The thread's columns of h_1, all rows of the batch; False if X is not finite there. A team
    may come out smaller than it was asked for: then some threads have the columns of several."""
    cdef network_pass *net = &run.net
    cdef const own_columns *own
    cdef int64_t r0 = 0, r1
    cdef int i
    while r0 < at.n:
        r1 = min(at.n, r0 + BLOCK_ROWS)
        if not net.kernels.gather(&net.X, rows, NULL, &output.h0, r0, r1):
            fnn_flag_set(&net.invalid_X, 1)
            return False
        for i in range(run.two.n_columns):
            own = &run.two.columns[i]
            if own.thread % size == thread:
                net.kernels.forward(&own.layer, &output.h0, NULL, &own.out[at.steps % 2], r0, r1)
        r0 = r1
    return True


cdef void pass_output(training_run *run, own_output *output, fnn_rows rows,
                      const part_walk *at) noexcept nogil:
    """All columns of h_1, forward through the output layer, and the loss."""
    cdef network_pass *net = &run.net
    cdef const own_columns *other
    cdef int i
    for i in range(run.two.n_columns):
        other = &run.two.columns[i]
        net.kernels.copy_columns(&other.out[at.steps % 2].h, 0, &output.h1, other.begin, other.n, 0,
                                 at.n)
    net.kernels.forward(&output.layer, &output.h1, NULL, &output.out, 0, at.n)
    net.kernels.loss(&net.y, rows, at.inverse_n, &output.out, 0, at.n, output.losses)


cdef void update_columns(training_run *run, const own_output *output, own_columns *own,
                         fnn_rows rows, const part_walk *at) noexcept nogil:
    """Some of the thread's neurons of the first layer. Meanwhile what the next step needs comes:
    the lines of its h_1, which others read a step ago, and, a few with every tile, rows of X."""
    cdef network_pass *net = &run.net
    cdef int odd = at.steps % 2
    cdef const fnn_matrix *delta = &own.out[odd].delta
    cdef int64_t to_fetch, k
    cdef fnn_coming coming
    coming.X, coming.n_in, coming.rows = &net.X, own.layer.n_in, rows
    coming.rows.first += at.n
    to_fetch = min(rows_to_fetch(net), min(at.n, run.n_order - coming.rows.first))
    net.kernels.backward(&own.above, &output.out.delta, own.layer.activation, NULL,
                         &own.out[odd], 0, at.n)
    net.kernels.own_rows(&own.out[1 - odd].h, 0, at.n)
    for k in range(own.n_tiles):
        coming.begin = to_fetch * k // own.n_tiles
        coming.end = to_fetch * (k + 1) // own.n_tiles
        net.kernels.update(&own.layer, &output.h0, delta, at.n, own.tiles[k], &at.step, &coming)


cdef void update_first(training_run *run, const own_output *output, int thread, int size,
                       fnn_rows rows, const part_walk *at) noexcept nogil:
    """As far as it is the thread's."""
    cdef int i
    for i in range(run.two.n_columns):
        if run.two.columns[i].thread % size == thread:
            update_columns(run, output, &run.two.columns[i], rows, at)


cdef void update_output(training_run *run, own_output *output, int thread, int size,
                        const part_walk *at) noexcept nogil:
    """For the step before, of which output still has h_1 and delta_2; nothing before the first."""
    cdef const fnn_kernels *kernels = run.net.kernels
    cdef int64_t k
    cdef int i
    if at.n == 0:
        return
    for k in range(run.first_tile, run.n_tiles):
        kernels.update(&output.layer, &output.h1, &output.out.delta, at.n, run.tiles[k].part,
                       &at.step, NULL)
    for i in range(run.two.n_columns):
        if run.two.columns[i].thread % size == thread:
            follow_output(kernels, output, &run.two.columns[i])


cdef void steps_apart(training_run *run, int thread, int size) noexcept nogil:
    """All steps of one call. Thread 0 also keeps the books; when time is up it makes the next step
    the last one, and says so before that step's barrier, behind which all look."""
    cdef part_walk at = run.start, before = run.start
    cdef own_output *output = &run.two.outputs[thread]
    cdef double deadline = omp_get_wtime() + run.seconds, unclocked = 0
    cdef unsigned int round
    cdef bint is_last = False
    cdef fnn_rows rows
    rows.order = run.order
    before.n = 0
    while not is_last:
        rows.first = at.batch
        # each thread reads the whole batch, so all of them end where X is not finite
        if not forward_apart(run, output, thread, size, rows, &at):
            break
        round = fnn_barrier_arrive(&run.barrier, size)
        update_output(run, output, thread, size, &before)
        fnn_barrier_await(&run.barrier, size, round)
        is_last = fnn_flag_get(&run.last_step) == at.steps + 1
        pass_output(run, output, rows, &at)
        update_first(run, output, thread, size, rows, &at)
        if thread == 0:
            keep_books(run, &at, output.losses)
            if not is_last and is_over(run, &at, deadline, &unclocked):
                fnn_flag_set(&run.last_step, at.steps + 2)
        before = at
        if not next_part(run, &at):
            break
    update_output(run, output, thread, size, &before)


cdef void train_two_layers(training_run *run, int thread, int size) noexcept nogil:
    """What every thread of the team does."""
    begin_apart(run, thread, size)
    fnn_barrier_wait(&run.barrier, size)
    steps_apart(run, thread, size)
    fnn_barrier_wait(&run.barrier, size)
    end_apart(run, thread, size)
