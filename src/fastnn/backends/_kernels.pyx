"""The kernels of csrc as the compiled backend finds them: the instruction sets, and the memory that
kernels work on."""
import os

import numpy as np

cimport numpy as cnp
from libc.stdlib cimport free
from libc.string cimport memset

from fastnn.network import ACTIVATIONS
from fastnn.sparse import CSR

cdef extern from "alloc.h" nogil:
    void *fnn_take(size_t size)

cnp.import_array()

cdef int FEW_SQUARES = 8

# Where either side of a product is narrower, looking for zeros costs more than it saves; and so it
# does where dropout alone makes them, at this rate or below. In a hidden layer it pays from
# LEAST_WIDTH_OF_TWO on, if the layer above is as wide, with AVX-512.
cdef int LEAST_WIDTH = 96
cdef int LEAST_WIDTH_OF_TWO = 64
cdef double LEAST_RATE = 0.25
# Activations whose g' is known from the sign of h, which dropout leaves where it matters.
SLOPE_BY_SIGN = ("identity", "relu", "leaky_relu")


cdef class Memory:
    def __cinit__(self):
        self.blocks = []

    cdef void *take(self, size_t size) except NULL:
        cdef void *block = fnn_take(size)
        if block == NULL:
            raise MemoryError(f"fastnn could not allocate {size} bytes")
        try:
            self.blocks.append(<size_t> block)
        except MemoryError:
            free(block)
            raise
        return block

    def __dealloc__(self):
        for block in self.blocks or ():
            free(<void *> <size_t> block)


def available_isas():
    """Instruction sets that this CPU and this build can run, slowest first."""
    cdef const char *const *names = fnn_isas()
    found = []
    while names[0] != NULL:
        found.append(names[0].decode())
        names += 1
    return found


cdef class Kernels:
    def __cinit__(self, dtype, isa=None):
        """isa None: FASTNN_ISA from the environment, else the fastest.

        Raises ValueError for one that is not available.
        """
        isas = available_isas()
        self.isa = isa or os.environ.get("FASTNN_ISA") or isas[len(isas) - 1]
        if self.isa not in isas:
            raise ValueError(
                f"instruction set {self.isa!r} is not available here; "
                f"this CPU and build have: {', '.join(isas)}"
            )
        self.dtype = np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        self.table = fnn_kernels_for(self.isa.encode(), self.itemsize == 8)

    cdef fnn_matrix matrix(self, Memory memory, int64_t rows, int64_t cols):
        cdef fnn_matrix X
        cdef int64_t NR = self.table.NR, VL = self.table.VL
        X.rows, X.cols = rows, cols
        X.ld = NR if cols > NR else (cols + VL - 1) // VL * VL
        X.data = memory.take(self.matrix_size(&X))
        X.nonzero = NULL
        return X

    cdef int look_for_zeros(self, Memory memory, fnn_matrix *X) except -1:
        cdef int64_t panels = (X.cols + self.table.NR - 1) // self.table.NR
        X.nonzero = <uint64_t *> memory.take(panels * X.rows * sizeof(uint64_t))
        return 0

    cdef list tiles(self, int64_t n_in, int64_t n_out):
        """[(fnn_tile, cost)] that make up a layer's weights; what one costs is only relative."""
        cdef int64_t NR = self.table.NR, VL = self.table.VL
        blocks, panels = (n_in + NR - 1) // NR, (n_out + NR - 1) // NR
        height = width = self.table.usual_group()
        if blocks * panels <= FEW_SQUARES:
            # left alone, so that threads find some to share; but a row of dW that leaves zeros out
            # had better have both of two panels
            height, width = 1, 2 if panels == 2 else 1
        return [
            (fnn_tile(block, min(height, blocks - block), panel, min(width, panels - panel)),
             (min(n_in, (block + height) * NR) - block * NR + 1)
             * ((min(n_out, (panel + width) * NR) - panel * NR + VL - 1) // VL))
            for panel in range(0, panels, width) for block in range(0, blocks, height)
        ]

    cdef size_t matrix_size(self, const fnn_matrix *X) noexcept:
        cdef int64_t panels = (X.cols + self.table.NR - 1) // self.table.NR
        return <size_t> (panels * X.rows * X.ld * self.itemsize)

    cdef fnn_layer layer(self, Memory memory, int64_t n_in, int64_t n_out, bint transposed):
        """Its activation is the identity."""
        cdef fnn_layer layer
        memset(&layer, 0, sizeof(fnn_layer))
        layer.n_in, layer.n_out = n_in, n_out
        layer.W = self.matrix(memory, n_in + 1, n_out)
        if transposed:
            layer.Wt = self.matrix(memory, n_out, n_in)
        return layer


def set_wide_core(bint wide):
    """Have cores taken for wide ones, as fastnn.h has it, or not; for tests. Returns what they were
    taken for."""
    global fnn_wide_core
    before, fnn_wide_core = fnn_wide_core, wide
    return bool(before)


cdef class Workspace:
    pass


cdef Workspace new_workspace(Kernels kernels, network, int64_t rows, int n_threads, tuple rates,
                             bint skip_zeros, bint with_input):
    """For `network` and n_threads threads; rates: dropout's, of h_0, h_1, ..., each maybe 0;
    with_input: not only for a sparse X."""
    cdef Workspace workspace = Workspace()
    cdef Memory memory = Memory()
    cdef fnn_activity *x
    cdef int k, n_layers = network.n_layers
    workspace.rows, workspace.memory, workspace.has_input = rows, memory, with_input
    workspace.activity = <fnn_activity *> memory.take((n_layers + 1) * sizeof(fnn_activity))
    workspace.losses = <double *> memory.take(rows * sizeof(double))
    workspace.core_shares = <double *> memory.take(n_threads * sizeof(double))
    workspace.pieces = <fnn_counter *> memory.take(n_layers * sizeof(fnn_counter))
    for k, width in enumerate(network.layer_sizes):
        if k == 0 and not with_input:
            continue
        x = &workspace.activity[k]
        name = network.activations[k - 1] if 0 < k < n_layers else ""
        x.h = kernels.matrix(memory, rows, width)
        if k > 0:
            x.delta = kernels.matrix(memory, rows, width)
        if name and needs_a(name, rates[k]):
            x.a = kernels.matrix(memory, rows, width)
        if skip_zeros and k < n_layers and may_have_zeros(kernels, network, k, rates[k]):
            kernels.look_for_zeros(memory, &x.h)
            if name == "relu":
                x.delta.nonzero = x.h.nonzero  # h = 0 only where g' = 0, or dropped
            elif name:
                kernels.look_for_zeros(memory, &x.delta)
    return workspace


cdef class Columns:
    def __cinit__(self, Kernels kernels, int64_t n_columns, int64_t most_elements, int n_threads):
        """For parts of a batch with so many elements at most."""
        self.memory, self.most_elements = Memory(), most_elements
        self.columns.terms = self.memory.take(most_elements * 2 * kernels.itemsize)
        self.columns.starts = <int64_t *> self.memory.take(
            (n_columns + n_threads) * sizeof(int64_t))
        self.columns.summed = <uint8_t *> self.memory.take(n_columns)


cdef bint needs_a(str activation, double rate):
    """Whether g' needs more than h: a, or what dropout takes away from h."""
    if rate > 0:
        return activation not in SLOPE_BY_SIGN
    return activation not in ACTIVATIONS or fnn_needs_a(ACTIVATIONS.index(activation))


cdef bint may_have_zeros(Kernels kernels, network, int k, double rate):
    """Whether h_k may have many zeros, and is wide enough, as a neighbour is, to gain by it."""
    cdef int width = network.layer_sizes[k], above = network.layer_sizes[k + 1], below
    if k == 0:
        return min(width, above) >= LEAST_WIDTH
    if network.activations[k - 1] != "relu" and rate <= LEAST_RATE:
        return False
    if kernels.isa == "avx512" and min(width, above) >= LEAST_WIDTH_OF_TWO:
        return True
    below = network.layer_sizes[k - 1]
    return width >= LEAST_WIDTH and max(below, above) >= LEAST_WIDTH


cdef bint is_ready(object X, int64_t n_in) noexcept:
    """Whether X is an array as the kernels read it: (n, n_in), float32, float64 or uint8 in native
    byte order, with any strides."""
    if not cnp.PyArray_CheckExact(X) or cnp.PyArray_NDIM(X) != 2:
        return False
    cdef int kind = cnp.PyArray_TYPE(X)
    return ((kind == cnp.NPY_FLOAT32 or kind == cnp.NPY_FLOAT64 or kind == cnp.NPY_UINT8)
            and cnp.PyArray_DIM(X, 1) == n_in and cnp.PyArray_ISNOTSWAPPED(X))


cdef int open_input(object X, int64_t n_in, fnn_input *out) except -1:
    """Where X's numbers lie. The caller keeps X alive."""
    memset(out, 0, sizeof(fnn_input))
    if isinstance(X, CSR) and X.shape[1] == n_in:
        data = X.data
        out.indptr, out.indptr_size = address(X.indptr), X.indptr.itemsize
        out.indices, out.indices_size = address(X.indices), X.indices.itemsize
    elif is_ready(X, n_in):
        data = X
        out.row_stride, out.column_stride = cnp.PyArray_STRIDE(X, 0), cnp.PyArray_STRIDE(X, 1)
    else:
        raise ValueError(f"X of shape {np.shape(X)} is not as checks.check_X makes it")
    cdef int kind = cnp.PyArray_TYPE(data)
    out.type = (FNN_INPUT_U8 if kind == cnp.NPY_UINT8 else
                FNN_INPUT_F32 if kind == cnp.NPY_FLOAT32 else FNN_INPUT_F64)
    out.data = <const char *> cnp.PyArray_DATA(data)
    return 0
