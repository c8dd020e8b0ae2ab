"""The kernels of csrc one by one, for tests and measurements: the three products, the activations,
the multiply-adds that a CPU is capable of, and how far apart its cores are."""
import time

import numpy as np

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from fastnn.backends._kernels cimport (
    Kernels, Memory, address, fnn_activity, fnn_counter, fnn_counter_add, fnn_counter_wait,
    fnn_denormals_off, fnn_denormals_restore, fnn_input, fnn_kernels, fnn_layer, fnn_matrix,
    fnn_rows, fnn_step, open_input,
)
from fastnn.backends._team cimport lead

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()
    double omp_get_wtime()

from fastnn.network import ACTIVATIONS, OUTPUTS

cdef int IDENTITY = OUTPUTS.index("identity")


cdef class Product:
    """A @ B, (m, k) @ (k, n), as one of the three products of training, its operands packed once.

    product: "forward" (h W), "dh" (delta W) or "dW" (hT delta, h being A transposed). Both arrays
    float32 or float64, or A uint8; the result has B's dtype. With skip_zeros, terms are left out
    whose factor from A is zero, or, in "dW", from either.
    """
    cdef Kernels kernels
    cdef Memory memory
    cdef str product
    cdef fnn_matrix left, right
    cdef fnn_layer layer
    cdef fnn_activity out
    cdef int64_t m, k, n

    def __init__(self, A, B, product="forward", isa=None, bint skip_zeros=False):
        if product not in ("forward", "dh", "dW"):
            raise ValueError(f"product must be forward, dh or dW, not {product!r}")
        self.kernels, self.memory, self.product = Kernels(B.dtype, isa), Memory(), product
        self.m, self.k, self.n = A.shape[0], A.shape[1], B.shape[1]
        if product == "dW":
            self.left, self.right = self._gathered(A.T, skip_zeros), self._gathered(B, skip_zeros)
            self.layer = self.kernels.layer(self.memory, self.m, self.n, False)
            self.layer.gradient = self.memory.take(self.kernels.matrix_size(&self.layer.W))
            return
        self.left = self._gathered(A, skip_zeros)
        self.out.h = self.kernels.matrix(self.memory, self.m, self.n)
        self.out.delta = self.kernels.matrix(self.memory, self.m, self.n)
        if product == "forward":
            self.layer = self.kernels.layer(self.memory, self.k, self.n, False)
            W = np.ascontiguousarray(B.T)
        else:
            self.layer = self.kernels.layer(self.memory, self.n, self.k, True)
            W = np.ascontiguousarray(B)
        b = np.zeros(self.layer.n_out, B.dtype)
        self.kernels.table.pack(address(W), address(b), &self.layer)

    cdef fnn_matrix _gathered(self, X, bint skip_zeros):
        cdef fnn_input source
        cdef fnn_rows rows
        cdef fnn_matrix h = self.kernels.matrix(self.memory, X.shape[0], X.shape[1])
        if skip_zeros:
            self.kernels.look_for_zeros(self.memory, &h)
        open_input(X, X.shape[1], &source)
        rows.order, rows.first = NULL, 0
        self.kernels.table.gather(&source, rows, NULL, &h, 0, X.shape[0])
        return h

    def run(self):
        cdef fnn_step step
        if self.product == "forward":
            self.kernels.table.forward(&self.layer, &self.left, NULL, &self.out, 0, self.m)
        elif self.product == "dh":
            self.kernels.table.backward(&self.layer, &self.left, self.layer.activation, NULL,
                                        &self.out, 0, self.m)
        else:
            memset(&step, 0, sizeof(step))
            step.first = step.last = 1
            for tile, _ in self.kernels.tiles(self.m, self.n):
                self.kernels.table.update(&self.layer, &self.left, &self.right, self.k, tile,
                                          &step, NULL)

    def result(self):
        """C, (m, n), of the last run."""
        cdef fnn_activity rows
        C = np.zeros((self.m, self.n), self.kernels.dtype)
        if self.product == "dW":
            dW, db = np.ascontiguousarray(C.T), np.zeros(self.n, C.dtype)
            self.kernels.table.unpack(&self.layer, self.layer.gradient, address(dW), address(db))
            return np.ascontiguousarray(dW.T)
        rows.h, rows.delta = self.out.h, self.out.delta
        if self.product == "dh":
            rows.h, rows.delta = rows.delta, rows.h
        self.kernels.table.output(IDENTITY, &rows, 0, self.m, address(C))
        return C


def square_roots(x, isa=None):
    """sqrt(x) as the optimizers take it, for a 1-D float32 or float64 array."""
    cdef Kernels kernels = Kernels(x.dtype, isa)
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    cdef void *x_at = address(x)
    cdef void *y_at = address(y)
    cdef int64_t n = x.size
    with nogil:
        kernels.table.square_roots(x_at, y_at, n)
    return y


def activate(name, a, isa=None):
    """h = g(a) and g'(a) of an activation by name, for a 1-D float32 or float64 array."""
    cdef Kernels kernels = Kernels(a.dtype, isa)
    a = np.ascontiguousarray(a)
    h, slope = np.empty_like(a), np.empty_like(a)
    cdef void *a_at = address(a)
    cdef void *h_at = address(h)
    cdef void *slope_at = address(slope)
    cdef int64_t n = a.size
    cdef int kind = ACTIVATIONS.index(name)
    cdef uint64_t mode
    with nogil:
        mode = fnn_denormals_off()
        kernels.table.activate(kind, a_at, h_at, slope_at, n)
        fnn_denormals_restore(mode)
    return h, slope


# So many rounds of multiply-adds on registers.
ctypedef struct peak_run:
    const fnn_kernels *kernels
    int64_t n


cdef void peak_in_parallel(void *context, int n_threads) noexcept nogil:
    cdef const peak_run *run = <const peak_run *> context
    with parallel(num_threads=n_threads):
        run.kernels.multiply_adds(run.n)


def fma_peak(n_threads=1, dtype="float32", isa=None, seconds=0.05):
    """GFLOP/s of multiply-adds on registers alone, on n_threads threads, measured now: the best of
    three runs that take about `seconds` seconds together."""
    cdef Kernels kernels = Kernels(dtype, isa)
    cdef peak_run run
    cdef int threads = n_threads, runs = 0
    cdef bint done
    cdef double best = 0, begin, took
    run.kernels, run.n = kernels.table, 20_000
    while runs < 3:
        begin = time.perf_counter()
        with nogil:
            done = lead(peak_in_parallel, &run, threads)
        if not done:
            raise RuntimeError("the system grants no thread")
        took = time.perf_counter() - begin
        if took < seconds / 3:
            run.n *= 2
            continue
        runs += 1
        best = max(best, 2.0 * 12 * kernels.table.VL * run.n * threads / took / 1e9)
    return best


# A counter of each thread's, on a line of its own.
ctypedef struct ping_pong:
    fnn_counter *counters[2]
    double seconds  # of a round; 0 if there was no second thread


cdef enum:
    ROUNDS = 1000


cdef void play(ping_pong *game, int thread) noexcept nogil:
    cdef double begin = omp_get_wtime()
    cdef int64_t i
    for i in range(ROUNDS):
        if thread == 1:
            fnn_counter_wait(game.counters[0], i + 1)
        fnn_counter_add(game.counters[thread], 1)
        if thread == 0:
            fnn_counter_wait(game.counters[1], i + 1)
    if thread == 0:
        game.seconds = (omp_get_wtime() - begin) / ROUNDS


cdef void play_in_parallel(void *context, int n_threads) noexcept nogil:
    with parallel(num_threads=n_threads):
        if omp_get_num_threads() == 2:
            play(<ping_pong *> context, threadid())


def round_trip():
    """Seconds that a line of cache takes from one thread's core to another one's and back, now: the
    best of three times a thousand. A host may move its virtual cores, and with them this time."""
    cdef Memory memory
    cdef ping_pong game
    best = np.inf
    for _ in range(3):
        memory, game.seconds = Memory(), 0
        game.counters[0] = <fnn_counter *> memory.take(64)
        game.counters[1] = <fnn_counter *> memory.take(64)
        with nogil:
            lead(play_in_parallel, &game, 2)
        if game.seconds == 0:
            raise RuntimeError("the system grants no second thread")
        best = min(best, game.seconds)
    return best
