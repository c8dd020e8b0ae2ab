"""csrc as Cython sees it, and the memory its kernels work on."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from numpy cimport PyArray_DATA


# Users' own functions: see fnn_activation and fnn_targets.
ctypedef void (*custom_g)(void *, int64_t) noexcept nogil
ctypedef void (*custom_slope)(const void *, void *, int64_t) noexcept nogil
ctypedef void (*custom_terms)(const void *, const void *, void *, void *, int64_t) noexcept nogil

cdef extern from "fastnn.h" nogil:
    enum:
        FNN_INPUT_F32, FNN_INPUT_F64, FNN_INPUT_U8, FNN_ADAM, FNN_CUSTOM, FNN_CUSTOM_LOSS
        FNN_NOT_FINITE, FNN_TO_BE_GATHERED

    ctypedef struct fnn_matrix:
        void *data
        int64_t rows, cols, ld
        uint64_t *nonzero

    ctypedef struct fnn_input:
        const char *data
        int64_t row_stride, column_stride
        int type
        const void *indptr
        const void *indices
        int indptr_size, indices_size

    ctypedef struct fnn_targets:
        const int32_t *labels
        const void *values
        const void *weights
        int output, loss
        const void *constants
        custom_terms terms

    ctypedef struct fnn_rows:
        const int64_t *order
        int64_t first

    ctypedef struct fnn_dropout:
        uint64_t key
        int64_t first
        uint32_t threshold
        double scale

    ctypedef struct fnn_activation:
        int kind
        custom_g g
        custom_slope slope

    ctypedef struct fnn_layer:
        int64_t n_in, n_out
        fnn_activation activation
        fnn_matrix W, Wt
        void *state[2]
        void *gradient
        double learning_rate_factor
        int shared

    ctypedef struct fnn_activity:
        fnn_matrix a, h, delta

    ctypedef struct fnn_coming:
        const fnn_input *X
        fnn_rows rows
        int64_t n_in, begin, end

    ctypedef struct fnn_tile:
        int64_t block, n_blocks, panel, n_panels

    ctypedef struct fnn_step:
        int rule, first, last, update
        double learning_rate, decay, l2, l1
        double momentum, beta1, beta2, eps, inverse_root, clip_value
        int epsilon_hat

    ctypedef struct fnn_columns:
        void *terms
        int64_t *starts
        uint8_t *summed

    int fnn_wide_core

    ctypedef struct fnn_kernels:
        int VL, MR, NR
        int (*usual_group)() noexcept nogil
        int (*gather)(const fnn_input *, fnn_rows, const fnn_dropout *, fnn_matrix *, int64_t,
                      int64_t) noexcept nogil
        void (*forward)(const fnn_layer *, const fnn_matrix *, const fnn_dropout *, fnn_activity *,
                        int64_t, int64_t) noexcept nogil
        void (*output)(int, fnn_activity *, int64_t, int64_t, void *) noexcept nogil
        void (*loss)(const fnn_targets *, fnn_rows, double, fnn_activity *, int64_t, int64_t,
                     double *) noexcept nogil
        void (*backward)(const fnn_layer *, const fnn_matrix *, fnn_activation, const fnn_dropout *,
                         fnn_activity *, int64_t, int64_t) noexcept nogil
        void (*update)(fnn_layer *, const fnn_matrix *, const fnn_matrix *, int64_t, fnn_tile,
                       const fnn_step *, const fnn_coming *) noexcept nogil
        void (*squares)(const fnn_layer *, int64_t, double *) noexcept nogil
        void (*update_scaled)(fnn_layer *, fnn_tile, const fnn_step *, double) noexcept nogil
        void (*pack)(const void *, const void *, fnn_layer *) noexcept nogil
        int (*unpack)(const fnn_layer *, const void *, void *, void *) noexcept nogil
        void (*copy_columns)(const fnn_matrix *, int64_t, const fnn_matrix *, int64_t, int64_t,
                             int64_t, int64_t) noexcept nogil
        void (*own_rows)(const fnn_matrix *, int64_t, int64_t) noexcept nogil
        double (*penalty)(const fnn_layer *, double, double) noexcept nogil
        double (*multiply_adds)(int64_t) noexcept nogil
        void (*activate)(int, const void *, void *, void *, int64_t) noexcept nogil
        void (*square_roots)(const void *, void *, int64_t) noexcept nogil
        void (*forward_panels)(const fnn_layer *, const fnn_matrix *, fnn_activity *, int64_t,
                               int64_t, int64_t) noexcept nogil
        int (*forward_lanes)(const fnn_layer *, int, int, const fnn_input *, fnn_rows, int64_t,
                             int64_t, void *, void *) noexcept nogil
        int small_rows, small_width
        void (*small_open)(fnn_layer *, int, const fnn_targets *) noexcept nogil
        void (*small_close)(fnn_layer *, int, const fnn_targets *) noexcept nogil
        int (*small_step)(fnn_layer *, int, fnn_activity *, const fnn_input *, const fnn_targets *,
                          fnn_rows, int64_t, double, int64_t, const fnn_step *,
                          double *) noexcept nogil
        int (*is_in_place)(const fnn_input *, fnn_rows, const fnn_layer *, int, int64_t,
                           int64_t) noexcept nogil
        int (*forward_in_place)(const fnn_input *, fnn_rows, const fnn_layer *, fnn_activity *, int,
                                int64_t, int64_t) noexcept nogil
        int (*panels_in_place)(const fnn_input *, fnn_rows, const fnn_layer *, fnn_activity *,
                               int64_t, int64_t, int64_t) noexcept nogil
        int (*forward_sparse)(const fnn_input *, fnn_rows, const fnn_dropout *, const fnn_layer *,
                              const fnn_dropout *, fnn_activity *, int64_t, int64_t) noexcept nogil
        void (*update_sparse)(fnn_layer *, const fnn_input *, fnn_rows, const fnn_dropout *,
                              const fnn_matrix *, int64_t, const fnn_columns *, int64_t, int64_t,
                              const fnn_step *) noexcept nogil
        void (*shuffle)(int64_t *, int64_t, uint64_t) noexcept nogil

    int fnn_needs_a(int activation)
    const char *const *fnn_isas()
    const fnn_kernels *fnn_kernels_for(const char *isa, int is_f64)

cdef extern from "random.h" nogil:
    uint64_t fnn_key(uint64_t seed, uint64_t epoch)
    uint64_t fnn_dropout_key(uint64_t seed, uint64_t epoch, uint64_t layer)

cdef extern from "team.h" nogil:
    ctypedef struct fnn_barrier:
        pass
    ctypedef struct fnn_flag:
        pass
    void fnn_barrier_init(fnn_barrier *)
    void fnn_barrier_wait(fnn_barrier *, int size)
    unsigned int fnn_barrier_arrive(fnn_barrier *, int size)
    void fnn_barrier_await(fnn_barrier *, int size, unsigned int round)
    void fnn_flag_set(fnn_flag *, int)
    int fnn_flag_get(fnn_flag *)
    ctypedef struct fnn_counter:
        pass
    int64_t fnn_counter_get(fnn_counter *)
    int64_t fnn_counter_add(fnn_counter *, int64_t)
    int fnn_counter_move(fnn_counter *, int64_t *, int64_t)
    void fnn_counter_wait(fnn_counter *, int64_t)
    int fnn_counter_mark(fnn_counter *, int64_t)
    void fnn_counter_open(fnn_counter *)
    enum:
        FNN_MOST_PIECES
    ctypedef struct fnn_queue:
        int64_t begin, end, cost
    void fnn_queue_open(fnn_queue *)
    int64_t fnn_queue_take(fnn_queue *, int size)
    double fnn_plus_losses(double total, const double *losses, int64_t n, double scale)
    double fnn_thread_seconds()
    uint64_t fnn_denormals_off()
    void fnn_denormals_restore(uint64_t)

cdef extern from "thread.h" nogil:
    ctypedef void (*fnn_work)(void *context, int number) noexcept nogil
    int fnn_call_on_new_thread(fnn_work work, void *context, int number)

cdef extern from "pool.h" nogil:
    void fnn_pool_run(int size, fnn_work work, void *context)
    void fnn_pool_forget()


cdef class Memory:
    """Zeroed blocks, aligned to cache lines, that live as long as this object."""
    cdef list blocks
    cdef void *take(self, size_t size) except NULL


cdef class Kernels:
    """The table of one instruction set and dtype."""
    cdef const fnn_kernels *table
    cdef readonly str isa
    cdef readonly object dtype
    cdef int itemsize
    cdef fnn_matrix matrix(self, Memory memory, int64_t rows, int64_t cols)
    cdef int look_for_zeros(self, Memory memory, fnn_matrix *X) except -1
    cdef list tiles(self, int64_t n_in, int64_t n_out)
    cdef size_t matrix_size(self, const fnn_matrix *X) noexcept
    cdef fnn_layer layer(self, Memory memory, int64_t n_in, int64_t n_out, bint transposed)


cdef class Workspace:
    """Activities and losses for `rows` rows: what one pass, or a team's part of a batch, writes."""
    cdef Memory memory
    cdef fnn_activity *activity  # [0] the input's h; [k] layer k's
    cdef double *losses
    cdef double *core_shares  # for each thread
    cdef fnn_counter *pieces  # for each layer: which are taken of what threads share out
    cdef int64_t rows
    cdef bint has_input  # activity[0] has room for the input
    cdef void *scratch  # for the kernel of narrow networks
    cdef size_t scratch_size
    cdef object first  # a FirstLayer or None: of a team that shares the first layer out by columns
    cdef object places  # Places or None: of a team that takes parts in turns
    cdef object two  # TwoLayers or None: of a team whose threads have them apart


cdef Workspace new_workspace(Kernels kernels, network, int64_t rows, int n_threads, tuple rates,
                             bint skip_zeros, bint with_input)


cdef class Columns:
    """What a run on a sparse X keeps of its columns."""
    cdef Memory memory
    cdef fnn_columns columns
    cdef int64_t most_elements
cdef bint is_ready(object X, int64_t n_in) noexcept
cdef int open_input(object X, int64_t n_in, fnn_input *out) except -1


cdef inline void *address(object array):
    """Where a NumPy array's data begins. The caller keeps it alive, and knows its layout."""
    return PyArray_DATA(array)
