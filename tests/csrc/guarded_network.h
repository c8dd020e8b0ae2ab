/* A network of two layers and its data on guarded memory, all of it a function of a case; and the calls to its
 * kernels, which are counted. */
#ifndef GUARDED_NETWORK_H
#define GUARDED_NETWORK_H

#include "fastnn.h"
#include "guarded_memory.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

static const fnn_kernels *kernels;
static int is_f64;
static size_t item;

/* All kernels that are given memory. */
static const char *const NAMES[] = {
    "gather",         "forward",          "output",      "loss",
    "backward",       "update",           "squares",     "update_scaled",
    "pack",           "unpack",           "activate",    "forward_panels",
    "forward_lanes",  "small_open",       "small_step",  "small_close",
    "forward_sparse", "update_sparse",    "penalty",     "copy_columns",
    "own_rows",       "forward_in_place", "is_in_place", "panels_in_place",
    "shuffle",        "square_roots"};
enum { N_NAMES = sizeof NAMES / sizeof NAMES[0] };
static int64_t calls[N_NAMES];

static void count_call(const char *name) {
    kernel_name = name;
    for (int i = 0; i < N_NAMES; i++) calls[i] += strcmp(NAMES[i], name) == 0;
}

#define CALL(kernel, ...) (count_call(#kernel), kernels->kernel(__VA_ARGS__))

static uint32_t random_state;
static double number(void) { /* in [-1/2, 1/2) */
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) / 16777216.0 - 0.5;
}

static void *reals(int64_t n, double least) {
    void *data = take((size_t)n * item);
    for (int64_t i = 0; i < n; i++) {
        const double x = fmax(number(), least);
        if (is_f64)
            ((double *)data)[i] = x;
        else
            ((float *)data)[i] = (float)x;
    }
    return data;
}

static int64_t panels_of(int64_t columns) { return (columns + kernels->NR - 1) / kernels->NR; }

static fnn_matrix matrix(int64_t rows, int64_t cols) {
    const int64_t NR = kernels->NR, VL = kernels->VL;
    fnn_matrix X = {NULL, rows, cols, cols > NR ? NR : (cols + VL - 1) / VL * VL, NULL};
    X.data = take((size_t)(panels_of(cols) * rows * X.ld) * item);
    return X;
}

static uint64_t *zero_bits(const fnn_matrix *X) {
    return take((size_t)(panels_of(X->cols) * X->rows) * sizeof(uint64_t));
}

/* As in images, elements that lie side by side are alike. */
static int is_zero(int64_t i) { return i % 24 >= 8; }
static int64_t count_elements(int64_t size) {
    int64_t count = 0;
    for (int64_t i = 0; i < size; i++) count += !is_zero(i);
    return count;
}

/* (n, n_in) of any type, two thirds of it zero. */
static fnn_input dense_input(int64_t n, int64_t n_in, int type) {
    const int64_t size = type == FNN_INPUT_U8 ? 1 : type == FNN_INPUT_F32 ? 4 : 8;
    char *data = take((size_t)(n * n_in * size));
    for (int64_t i = 0; i < n * n_in; i++) {
        const double x = is_zero(i) ? 0 : number();
        const float f = (float)x;
        const uint8_t u = (uint8_t)(256 * fabs(x));
        memcpy(data + i * size,
               type == FNN_INPUT_U8    ? (void *)&u
               : type == FNN_INPUT_F32 ? (void *)&f
                                       : (void *)&x,
               (size_t)size);
    }
    return (fnn_input){
        .data = data, .row_stride = n_in * size, .column_stride = size, .type = type};
}

static void put_integer(void *integers, int size, int64_t i, int64_t value) {
    if (size == 8)
        ((int64_t *)integers)[i] = value;
    else
        ((int32_t *)integers)[i] = (int32_t)value;
}

/* The elements that are not zero of a dense X; indices of `size` bytes. */
static fnn_input sparse_input(int64_t n, int64_t n_in, fnn_input X, int size) {
    const int64_t n_elements = count_elements(n * n_in);
    char *data = take((size_t)(n_elements * X.column_stride));
    void *indices = take((size_t)(n_elements * size)), *indptr = take((size_t)((n + 1) * size));
    for (int64_t r = 0, e = 0; r < n; r++) {
        for (int64_t c = 0; c < n_in; c++) {
            if (is_zero(r * n_in + c)) continue;
            memcpy(data + e * X.column_stride, X.data + r * X.row_stride + c * X.column_stride,
                   (size_t)X.column_stride);
            put_integer(indices, size, e++, c);
        }
        put_integer(indptr, size, r + 1, e);
    }
    return (fnn_input){.data = data,
                       .type = X.type,
                       .indptr = indptr,
                       .indices = indices,
                       .indptr_size = size,
                       .indices_size = size};
}

/* Every loss and output that go together. */
static const struct {
    int loss, output;
} PAIRS[] = {{FNN_CROSS_ENTROPY, FNN_OUT_SOFTMAX},
             {FNN_CROSS_ENTROPY, FNN_OUT_SOFTMAX},
             {FNN_BINARY_CROSS_ENTROPY, FNN_OUT_SIGMOID},
             {FNN_SQUARED_ERROR, FNN_OUT_SIGMOID},
             {FNN_SQUARED_ERROR, FNN_OUT_IDENTITY},
             {FNN_SQUARED_ERROR, FNN_OUT_EXP},
             {FNN_POISSON, FNN_OUT_EXP},
             {FNN_ABSOLUTE_ERROR, FNN_OUT_IDENTITY},
             {FNN_HUBER, FNN_OUT_IDENTITY},
             {FNN_QUANTILE, FNN_OUT_IDENTITY}};
enum { N_PAIRS = sizeof PAIRS / sizeof PAIRS[0], LAYERS = 2 };

static fnn_targets targets(int64_t n, int64_t n_out, int64_t choice) {
    const int pair = (int)(choice % N_PAIRS);
    fnn_targets y = {.output = PAIRS[pair].output, .loss = PAIRS[pair].loss};
    if (pair == 0) {
        int32_t *labels = take((size_t)n * sizeof *labels);
        for (int64_t i = 0; i < n; i++) labels[i] = (int32_t)(i % n_out);
        y.labels = labels;
    } else {
        y.values = reals(n * n_out, 0);
    }
    if (choice % 2) y.weights = reals(n, 0);
    if (choice % 3 || y.loss >= FNN_HUBER) y.constants = reals(n_out, 0.1);
    return y;
}

/* One case, all of it a function of the shape and of `choice`. */
typedef struct {
    int64_t n, sizes[LAYERS + 1], choice;
    int skip_zeros, with_dropout, is_sparse, in_parts, is_small;
    fnn_input dense, X;
    fnn_rows rows;
    fnn_targets y;
    fnn_layer layers[LAYERS];
    fnn_activity x[LAYERS + 1];
    fnn_step step;
    fnn_dropout dropout;
    double *losses;
} network;

static void build_layer(network *net, int k) {
    const int64_t n_in = net->sizes[k], n_out = net->sizes[k + 1];
    fnn_layer *layer = &net->layers[k];
    fnn_activity *out = &net->x[k + 1];
    *layer = (fnn_layer){.n_in = n_in, .n_out = n_out, .learning_rate_factor = 1};
    layer->shared = (int)(net->choice % 2);
    layer->activation.kind = k < LAYERS - 1 ? (int)(net->choice % (FNN_MISH + 1)) : FNN_IDENTITY;
    layer->W = matrix(n_in + 1, n_out);
    if (k > 0 && (net->is_small || net->choice / 3 % 2)) layer->Wt = matrix(n_out, n_in);
    if (net->step.rule != FNN_SGD) layer->state[0] = matrix(n_in + 1, n_out).data;
    if (net->step.rule == FNN_ADAM || net->step.rule == FNN_RMSPROP_MOMENTUM)
        layer->state[1] = matrix(n_in + 1, n_out).data;
    if (net->in_parts || !net->step.update) layer->gradient = matrix(n_in + 1, n_out).data;
    out->h = matrix(net->n, n_out), out->delta = matrix(net->n, n_out);
    if (k < LAYERS - 1 && (fnn_needs_a(layer->activation.kind) || net->with_dropout))
        out->a = matrix(net->n, n_out);
    if (k < LAYERS - 1 && net->skip_zeros) {
        out->h.nonzero = zero_bits(&out->h);
        out->delta.nonzero =
            layer->activation.kind == FNN_RELU ? out->h.nonzero : zero_bits(&out->delta);
    }
    const void *W = reals(n_in * n_out, -1);
    CALL(pack, W, reals(n_out, -1), layer);
}

static void build(network *net) {
    const int64_t n = net->n, n_in = net->sizes[0];
    int64_t *order = take((size_t)n * sizeof *order);
    for (int64_t r = 0; r < n; r++) order[r] = n - 1 - r;
    net->rows = (fnn_rows){net->choice % 4 ? order : NULL, 0};
    net->step = (fnn_step){.rule = (int)(net->choice % FNN_N_RULES),
                           .update = net->is_small || net->choice % 5 != 0,
                           .learning_rate = 0.01,
                           .decay = net->choice % 2 ? 1e-4 : 0,
                           .l2 = net->choice % 3 ? 1e-3 : 0,
                           .momentum = 0.8,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-8,
                           .inverse_root = 1,
                           .clip_value = net->choice % 2 ? 0.1 : 0};
    net->dropout = (fnn_dropout){12345, 0, 1u << 30, 4 / 3.0};
    net->dense = net->X = dense_input(n, n_in, (int)(net->choice % 3));
    if (net->is_sparse) net->X = sparse_input(n, n_in, net->dense, net->choice % 2 ? 4 : 8);
    net->y = targets(n, net->sizes[LAYERS], net->choice);
    net->losses = take((size_t)n * sizeof(double));
    net->x[0].h = matrix(n, n_in);
    if (net->skip_zeros) net->x[0].h.nonzero = zero_bits(&net->x[0].h);
    for (int k = 0; k < LAYERS; k++) build_layer(net, k);
}

#endif
