/* The contract between the floors: what a backend hands down, and the table of kernels it calls.
 *
 * A kernel computes one tile on one core: no Python, no threads, no malloc. The table exists once
 * per instruction set and dtype (kernels.c); dispatch.c picks one. `void *` stands for the dtype's
 * real. */
#ifndef FASTNN_H
#define FASTNN_H

#include <stddef.h>
#include <stdint.h>

/* In the order of the name lists in network.py, behind them users' own. */
enum {
    FNN_IDENTITY,
    FNN_RELU,
    FNN_LEAKY_RELU,
    FNN_ELU,
    FNN_SELU,
    FNN_SIGMOID,
    FNN_TANH,
    FNN_SOFTPLUS,
    FNN_GELU,
    FNN_SILU,
    FNN_MISH,
    FNN_CUSTOM
};
enum { FNN_OUT_SOFTMAX, FNN_OUT_SIGMOID, FNN_OUT_IDENTITY, FNN_OUT_EXP };
enum {
    FNN_CROSS_ENTROPY,
    FNN_BINARY_CROSS_ENTROPY,
    FNN_SQUARED_ERROR,
    FNN_POISSON,
    FNN_ABSOLUTE_ERROR,
    FNN_HUBER,
    FNN_QUANTILE,
    FNN_GROUPED_CROSS_ENTROPY,
    FNN_CUSTOM_LOSS
};
/* In the order of RULES in optimizers.py. */
enum {
    FNN_SGD,
    FNN_MOMENTUM,
    FNN_NESTEROV,
    FNN_ADAGRAD,
    FNN_RMSPROP,
    FNN_RMSPROP_MOMENTUM,
    FNN_ADAM,
    FNN_LION,
    FNN_N_RULES
};
enum { FNN_INPUT_F32, FNN_INPUT_F64, FNN_INPUT_U8 };
/* What becomes of rows of X. */
enum { FNN_NOT_FINITE, FNN_DONE, FNN_TO_BE_GATHERED };

/* A matrix in panels of NR columns, each panel stored [rows][ld]: element (r, c) is
 * data[((c / NR) * rows + r) * ld + c % NR], and every product streams through every operand.
 * ld is NR, or the columns rounded up to whole vectors where one panel holds them all.
 * Columns beyond `cols` are padding: never part of a sum. Where zeros are to be left out of sums,
 * bit c % NR of nonzero[(c / NR) * rows + r] says whether (r, c) may be other than zero; else
 * nonzero is NULL. */
typedef struct {
    void *data;
    int64_t rows, cols, ld;
    uint64_t *nonzero;
} fnn_matrix;

/* The user's X: n_in columns, strides in bytes; uint8 stands for x / 255. If indptr is not NULL, X is
 * sparse: row r has elements indptr[r] up to indptr[r + 1] of data, in the rising columns that
 * indices names; both hold integers of so many bytes, 4 or 8. */
typedef struct {
    const char *data;
    int64_t row_stride, column_stride;
    int type;
    const void *indptr, *indices;
    int indptr_size, indices_size;
} fnn_input;

/* What the loss compares with: labels (n,) or values (n, n_out); weights (n,) or NULL. constants
 * (n_out,): Huber's delta or the outputs' quantiles; of the cross-entropies the label smoothing, or
 * NULL for none; of the grouped one the label smoothing, then the sizes of the groups. */
typedef struct {
    const int32_t *labels;
    const void *values;
    const void *weights;
    int output, loss;
    const void *constants;
    /* A custom loss of n outputs: its terms in place of a, their derivatives in place of f. */
    void (*terms)(const void *y, const void *constants, void *a, void *f, int64_t n);
} fnn_targets;

/* The rows of X and y that a batch takes: order[first + r], or first + r where order is NULL. */
typedef struct {
    const int64_t *order;
    int64_t first;
} fnn_rows;

/* What dropout does to a layer's h: element c of row r is dropped where 32 random bits, a function of
 * (key, first + r, c), are below the threshold; the others are multiplied by the scale. */
typedef struct {
    uint64_t key;
    int64_t first; /* where row 0 is in the epoch's order */
    uint32_t threshold;
    double scale;
} fnn_dropout;

/* An activation; of a custom one x = g(x), and dh *= g'(a), for n numbers. */
typedef struct {
    int kind;
    void (*g)(void *x, int64_t n);
    void (*slope)(const void *a, void *dh, int64_t n);
} fnn_activation;

/* One dense layer. W holds W_k transposed, (n_in + 1, n_out): row n_in is the bias. Wt holds W_k,
 * (n_out, n_in), for dh; where its data is NULL, dh is computed from W. The first layer has none. The
 * optimizer's state and gradient lie as W.data does; each may be NULL where nothing uses it. */
typedef struct {
    int64_t n_in, n_out;
    fnn_activation activation;
    fnn_matrix W, Wt;
    void *state[2], *gradient;
    double learning_rate_factor;
    int shared; /* by a team in training: every step, other cores read the weights and write some */
} fnn_layer;

/* What one layer computed for the rows of a batch: h = g(a), delta = dJ/da, each (rows, n_out).
 * a.data is NULL where g' can be had from h alone. It is there for activations whose g' needs a, and
 * for others whose g' needs h where dropout has left too little of it: then a holds g(a). */
typedef struct {
    fnn_matrix a, h, delta;
} fnn_activity;

/* Rows begin:end of a batch to come; n_in elements of each. */
typedef struct {
    const fnn_input *X;
    fnn_rows rows;
    int64_t n_in, begin, end;
} fnn_coming;

/* The weights that one thread updates together: n_blocks blocks of NR inputs from `block` on, by
 * n_panels panels of outputs; at most `group` of either, as the table of kernels says. */
typedef struct {
    int64_t block, n_blocks, panel, n_panels;
} fnn_tile;

/* One update of the parameters. A batch may come in several parts, whose gradients add up in row
 * order: `first` starts the sum, `last` ends it, with what the penalties add and clipping by value,
 * and updates; without `update` the gradient is left in layer.gradient. */
typedef struct {
    int rule, first, last, update;
    double learning_rate; /* Adam: divided by 1 - beta1^t */
    double decay;         /* of the weights: learning rate times weight_decay */
    double l2, l1;
    double momentum, beta1, beta2, eps, inverse_root; /* inverse_root: 1 / sqrt(1 - beta2^t) */
    double clip_value;                                /* 0: none */
    int epsilon_hat; /* eps is multiplied by inverse_root beforehand */
} fnn_step;

/* A part of a batch of a sparse X by columns, and what is kept for each of them between parts. */
typedef struct {
    void *terms;     /* the (row, value) of all elements, column by column */
    int64_t *starts; /* (n_in + threads,): where a column's terms start; thread t begins at t */
    uint8_t *summed; /* (n_in,): whether gradient has sums from earlier parts of the batch */
} fnn_columns;

/* Whether the core's first-level data cache has 48 kB (Intel since 2019, AMD since 2024). With AVX-512 such a core
 * also does two multiply-adds a cycle. It changes what is summed together, never a bit. */
extern int fnn_wide_core;

typedef struct {
    int VL, MR, NR, group;
    /* How many blocks and panels a tile of many has. */
    int (*usual_group)(void);
    /* h0[r0:r1] = rows of X; returns 0 if one holds a NaN or an infinity. Here and below, a dropout
     * of NULL is none. */
    int (*gather)(const fnn_input *X, fnn_rows rows, const fnn_dropout *dropout, fnn_matrix *h0,
                  int64_t r0, int64_t r1);
    /* a = h_in W + b, h = g(a) and its dropout, for rows r0:r1. */
    void (*forward)(const fnn_layer *layer, const fnn_matrix *h_in, const fnn_dropout *dropout,
                    fnn_activity *out, int64_t r0, int64_t r1);
    /* f = output(a), row-major (r1 - r0, n_out); a is in out->h. Uses out->delta as scratch. */
    void (*output)(int output, fnn_activity *out, int64_t r0, int64_t r1, void *f);
    /* delta = w/n dl/da and losses[r] = w l for rows r0:r1; a is in out->h. */
    void (*loss)(const fnn_targets *y, fnn_rows rows, double inverse_n, fnn_activity *out,
                 int64_t r0, int64_t r1, double *losses);
    /* delta of the layer below = (delta W) * g'(a), that layer's dropout between the two. */
    void (*backward)(const fnn_layer *layer, const fnn_matrix *delta,
                     fnn_activation activation_below, const fnn_dropout *dropout_below,
                     fnn_activity *below, int64_t r0, int64_t r1);
    /* The tile's part of dW = h_inT delta over rows 0:n, then the optimizer on it. Meanwhile the coming rows are
     * fetched into this core's cache; NULL is none. */
    void (*update)(fnn_layer *layer, const fnn_matrix *h_in, const fnn_matrix *delta, int64_t n,
                   fnn_tile tile, const fnn_step *step, const fnn_coming *coming);
    /* sums[o] = what the squares of the gradients of neuron o's weights and bias sum to, for the
     * neurons of one panel. */
    void (*squares)(const fnn_layer *layer, int64_t panel, double *sums);
    /* The optimizer on the tile's weights, their gradients being `scale` times layer.gradient. */
    void (*update_scaled)(fnn_layer *layer, fnn_tile tile, const fnn_step *step, double scale);
    /* Between packed memory laid out like W and the user's W (n_out, n_in), b (n_out,). pack also
     * fills Wt; unpack returns 0 if a number is NaN or infinite. */
    void (*pack)(const void *W, const void *b, fnn_layer *layer);
    int (*unpack)(const fnn_layer *layer, const void *packed, void *W, void *b);
    /* Rows r0:r1 of `count` columns of `from`, from column f on, become those of `to` from column t
     * on: whole vectors, with the words of bits if both have some. */
    void (*copy_columns)(const fnn_matrix *from, int64_t f, const fnn_matrix *to, int64_t t,
                         int64_t count, int64_t r0, int64_t r1);
    /* Take rows r0:r1 over from cores that have read them, before they are written. */
    void (*own_rows)(const fnn_matrix *X, int64_t r0, int64_t r1);
    /* The sum of l2/2 w^2 + l1 |w| over W, without the bias. */
    double (*penalty)(const fnn_layer *layer, double l2, double l1);
    /* n * 12 * VL multiply-adds on registers alone: the peak that speeds are compared with. */
    double (*multiply_adds)(int64_t n);
    /* One activation on n numbers, h = g(a) and dh = g'(a), for tests. */
    void (*activate)(int activation, const void *a, void *h, void *dh, int64_t n);
    /* sqrt of n numbers, as the optimizers take it, for tests. */
    void (*square_roots)(const void *x, void *y, int64_t n);
    /* forward for rows 0:n and panels p0:p1 of the output. */
    void (*forward_panels)(const fnn_layer *layer, const fnn_matrix *h_in, fnn_activity *out,
                           int64_t n, int64_t p0, int64_t p1);
    /* f (r1 - r0, n_out), row-major, of a whole network of narrow layers; returns 0 if a row holds
     * a NaN or an infinity. scratch: NR reals for every neuron of every layer, inputs included. */
    int (*forward_lanes)(const fnn_layer *layers, int n_layers, int output, const fnn_input *X,
                         fnn_rows rows, int64_t r0, int64_t r1, void *scratch, void *f);
    /* A whole step, on row 0:n of a batch, n <= small_rows, of a network whose layers, inputs
     * included, have at most small_width neurons; returns 0, with nothing updated, if a row holds a NaN or an
     * infinity. activity[0] belongs to the input. The n_next rows after n are what comes next. Before
     * the first step small_open turns the output layer's arrays as the steps need them, after the
     * last one small_close turns them back. */
    int small_rows, small_width;
    void (*small_open)(fnn_layer *layers, int n_layers, const fnn_targets *y);
    int (*small_step)(fnn_layer *layers, int n_layers, fnn_activity *activity, const fnn_input *X,
                      const fnn_targets *y, fnn_rows rows, int64_t n, double inverse_n,
                      int64_t n_next, const fnn_step *step, double *losses);
    void (*small_close)(fnn_layer *layers, int n_layers, const fnn_targets *y);
    /* Whether X needs no gathering: other types and strides do, and so do rows with many zeros, where zeros are to
     * be left out. */
    int (*is_in_place)(const fnn_input *X, fnn_rows rows, const fnn_layer *layer, int skip_zeros,
                       int64_t r0, int64_t r1);
    /* gather and forward for such rows, without a copy of them. */
    int (*forward_in_place)(const fnn_input *X, fnn_rows rows, const fnn_layer *layer,
                            fnn_activity *out, int skip_zeros, int64_t r0, int64_t r1);
    /* gather and forward_panels for rows that are known to be in place. */
    int (*panels_in_place)(const fnn_input *X, fnn_rows rows, const fnn_layer *layer,
                           fnn_activity *out, int64_t n, int64_t p0, int64_t p1);
    /* gather and forward for a sparse X. */
    int (*forward_sparse)(const fnn_input *X, fnn_rows rows, const fnn_dropout *input_dropout,
                          const fnn_layer *layer, const fnn_dropout *dropout, fnn_activity *out,
                          int64_t r0, int64_t r1);
    /* update for blocks block0 to block1 of NR inputs each, all panels, where h_in is a sparse X. */
    void (*update_sparse)(fnn_layer *layer, const fnn_input *X, fnn_rows rows,
                          const fnn_dropout *input_dropout, const fnn_matrix *delta, int64_t n,
                          const fnn_columns *columns, int64_t block0, int64_t block1,
                          const fnn_step *step);
    /* The random order of an epoch, in place: a function of n and key. */
    void (*shuffle)(int64_t *rows, int64_t n, uint64_t key);
} fnn_kernels;

int fnn_needs_a(int activation);

/* Names of the instruction sets that this CPU can run, slowest first, ended by NULL. */
const char *const *fnn_isas(void);
/* The table for an instruction set's name; NULL if this CPU or this build has none. */
const fnn_kernels *fnn_kernels_for(const char *isa, int is_f64);

#endif
