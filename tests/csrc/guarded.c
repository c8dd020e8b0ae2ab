/* Every kernel on buffers of exactly the size it may use, each beside a page that must not be touched: once every
 * buffer ends at such a page, once every buffer begins behind one. The rest of a buffer's pages is a canary. Both times
 * the same bits must come out, whatever lies around.
 *
 * guarded                          lists the instruction sets
 * guarded ISA f32|f64 edges|all    tries sizes around the edges of vectors, tiles and panels, or all up to two panels */
#define _GNU_SOURCE
#include "fastnn.h"
#include "guarded_memory.h"
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIZES = 128, MOST_GROUP = 4 };

static const fnn_kernels *kernels;
static int is_f64;
static size_t item;

static int64_t n_cases;

/* All kernels that are given memory. */
static const char *const NAMES[] = {"fetch",         "gather",         "forward",      "output",
                                    "loss",          "backward",       "update",       "squares",
                                    "update_scaled", "pack",           "unpack",       "activate",
                                    "forward_row",   "forward_lanes",  "small_open",   "small_step",
                                    "small_close",   "forward_sparse", "update_sparse"};
enum { N_NAMES = sizeof NAMES / sizeof NAMES[0] };
static int64_t calls[N_NAMES];

static void count_call(const char *name) {
    kernel_name = name;
    for (int i = 0; i < N_NAMES; i++) calls[i] += strcmp(NAMES[i], name) == 0;
}

#define CALL(kernel, ...) (count_call(#kernel), kernels->kernel(__VA_ARGS__))

/* ---- what a case is made of */

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

/* (n, n_in) of any type, two thirds of it zero. */
static fnn_input dense_input(int64_t n, int64_t n_in, int type) {
    const int64_t size = type == FNN_INPUT_U8 ? 1 : type == FNN_INPUT_F32 ? 4 : 8;
    char *data = take((size_t)(n * n_in * size));
    for (int64_t i = 0; i < n * n_in; i++) {
        const double x = i % 3 ? 0 : number();
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
    const int64_t n_elements = (n * n_in + 2) / 3;
    char *data = take((size_t)(n_elements * X.column_stride));
    void *indices = take((size_t)(n_elements * size)), *indptr = take((size_t)((n + 1) * size));
    for (int64_t r = 0, e = 0; r < n; r++) {
        for (int64_t c = 0; c < n_in; c++) {
            if ((r * n_in + c) % 3) continue;
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
    layer->activation.kind = k < LAYERS - 1 ? (int)(net->choice % (FNN_MISH + 1)) : FNN_IDENTITY;
    layer->W = matrix(n_in + 1, n_out);
    if (k > 0) layer->Wt = matrix(n_out, n_in);
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

/* ---- the kernels of a step */

static uint64_t hash;
static void add_to_hash(const void *data, size_t size) { /* FNV-1a */
    for (size_t b = 0; b < size; b++) hash = (hash ^ ((const uint8_t *)data)[b]) * 1099511628211u;
}

/* In two shares of rows, as two threads take them. */
static void rows_phase(network *net) {
    const fnn_dropout *dropout = net->with_dropout ? &net->dropout : NULL;
    fnn_activity *x = net->x;
    for (int share = 0; share < 2; share++) {
        const int64_t r0 = share * (net->n / 2), r1 = share ? net->n : net->n / 2;
        if (r0 == r1) continue;
        if (net->is_sparse) {
            CALL(forward_sparse, &net->X, net->rows, dropout, &net->layers[0], dropout, &x[1], r0,
                 r1);
        } else {
            CALL(fetch, &net->X, net->rows, net->sizes[0], r0, r1);
            CALL(gather, &net->X, net->rows, dropout, &x[0].h, r0, r1);
            CALL(forward, &net->layers[0], &x[0].h, dropout, &x[1], r0, r1);
        }
        CALL(forward, &net->layers[1], &x[1].h, NULL, &x[2], r0, r1);
        CALL(loss, &net->y, net->rows, 1.0 / (double)net->n, &x[2], r0, r1, net->losses);
        CALL(backward, &net->layers[1], &x[2].delta, net->layers[0].activation, dropout, &x[1], r0,
             r1);
    }
}

static void each_tile(network *net, int k, int is_scaled) {
    const int64_t blocks = panels_of(net->sizes[k]), panels = panels_of(net->sizes[k + 1]);
    const int64_t most = net->choice % 2 ? 1 : kernels->group;
    for (int64_t p = 0; p < panels; p += most) {
        for (int64_t b = 0; b < blocks; b += most) {
            const fnn_tile tile = {b, b + most < blocks ? most : blocks - b, p,
                                   p + most < panels ? most : panels - p};
            if (is_scaled)
                CALL(update_scaled, &net->layers[k], tile, &net->step, 0.5);
            else
                CALL(update, &net->layers[k], &net->x[k].h, &net->x[k + 1].delta, net->n, tile,
                     &net->step);
        }
    }
}

static void update_sparse_layer(network *net, const fnn_columns *shared) {
    const int64_t blocks = panels_of(net->sizes[0]);
    for (int share = 0; share < 2; share++) {
        fnn_columns columns = *shared;
        columns.starts += share;
        const fnn_dropout *dropout = net->with_dropout ? &net->dropout : NULL;
        CALL(update_sparse, &net->layers[0], &net->X, net->rows, dropout, &net->x[1].delta, net->n,
             &columns, blocks * share / 2, blocks * (share + 1) / 2, &net->step);
    }
}

static void weights_phase(network *net) {
    const int64_t n_in = net->sizes[0], n_elements = (net->n * n_in + 2) / 3;
    fnn_columns columns = {0};
    if (net->is_sparse)
        columns = (fnn_columns){take((size_t)n_elements * 2 * item), take((size_t)(n_in + 2) * 8),
                                take((size_t)n_in)};
    for (int part = net->in_parts ? 0 : 1; part < 2; part++) {
        net->step.first = part == 0 || !net->in_parts, net->step.last = part == 1;
        if (net->is_sparse) update_sparse_layer(net, &columns);
        for (int k = net->is_sparse; k < LAYERS; k++) each_tile(net, k, 0);
    }
    for (int k = 0; k < LAYERS && !net->step.update; k++) {
        double *sums = take((size_t)net->sizes[k + 1] * sizeof *sums);
        for (int64_t p = 0; p < panels_of(net->sizes[k + 1]); p++)
            CALL(squares, &net->layers[k], p, sums + p * kernels->NR);
        add_to_hash(sums, (size_t)net->sizes[k + 1] * sizeof *sums);
        each_tile(net, k, 1);
    }
}

/* Of a batch that is half of the rows, the others being next. */
static void small_step(network *net) {
    const int64_t n = (net->n + 1) / 2;
    CALL(small_open, net->layers, LAYERS, &net->y);
    CALL(small_step, net->layers, LAYERS, net->x, &net->X, &net->y, net->rows, n, 1.0, net->n - n,
         &net->step, net->losses);
    CALL(small_close, net->layers, LAYERS, &net->y);
}

static void add_results(network *net) {
    add_to_hash(net->losses, (size_t)net->n * sizeof(double));
    for (int k = 0; k < LAYERS; k++) {
        const int64_t n_out = net->sizes[k + 1], n_weights = n_out * net->sizes[k];
        void *W = take((size_t)n_weights * item), *b = take((size_t)n_out * item);
        CALL(unpack, &net->layers[k], net->layers[k].W.data, W, b);
        add_to_hash(W, (size_t)n_weights * item);
        add_to_hash(b, (size_t)n_out * item);
    }
}

/* The ways of predicting: by blocks, in lanes, one row by panels. */
static void predict(network *net) {
    const int64_t n = net->n, n_out = net->sizes[LAYERS], *s = net->sizes;
    const size_t size = (size_t)(n * n_out) * item;
    fnn_activity *x = net->x;
    void *f = take(size), *scratch = take((size_t)((s[0] + s[1] + s[2]) * kernels->NR) * item);
    CALL(gather, &net->dense, net->rows, NULL, &x[0].h, 0, n);
    for (int k = 0; k < LAYERS; k++) CALL(forward, &net->layers[k], &x[k].h, NULL, &x[k + 1], 0, n);
    CALL(output, net->y.output, &x[LAYERS], 0, n, f);
    add_to_hash(f, size);
    CALL(forward_lanes, net->layers, LAYERS, net->y.output, &net->dense, net->rows, 0, n, scratch,
         f);
    add_to_hash(f, size);
    for (int k = 0; k < LAYERS; k++)
        for (int64_t p = 0, panels = panels_of(s[k + 1]); p < panels; p += MOST_GROUP)
            CALL(forward_row, &net->layers[k], &x[k].h, &x[k + 1], p,
                 p + MOST_GROUP < panels ? p + MOST_GROUP : panels);
    CALL(output, net->y.output, &x[LAYERS], 0, 1, f);
    add_to_hash(f, size);
}

static void activate(int64_t n) {
    const void *a = reals(n, -1);
    void *h = take((size_t)n * item), *slope = take((size_t)n * item);
    for (int kind = 0; kind <= FNN_MISH; kind++) {
        CALL(activate, kind, a, h, slope, n);
        add_to_hash(h, (size_t)n * item);
        add_to_hash(slope, (size_t)n * item);
    }
}

static uint64_t run(network net) {
    hash = 1469598103934665603u, random_state = 1;
    build(&net);
    if (net.is_small) {
        small_step(&net);
    } else {
        rows_phase(&net);
        weights_phase(&net);
    }
    predict(&net);
    activate(net.n);
    add_results(&net);
    give_all_back();
    return hash;
}

static void try_both_ways(const network *net) {
    const int64_t *s = net->sizes;
    snprintf(case_name, sizeof case_name,
             "%" PRId64 " rows of %" PRId64 "-%" PRId64 "-%" PRId64 ", choice %" PRId64, net->n,
             s[0], s[1], s[2], net->choice);
    at_end = 0;
    const uint64_t one = run(*net);
    at_end = 1;
    if (run(*net) != one) fail("other bits with buffers at their pages' end");
    n_cases++;
}

static void try_case(int64_t n, int64_t n_in, int64_t width, int64_t n_out, int64_t choice) {
    const int64_t VL = kernels->VL;
    network net = {.n = n, .sizes = {n_in, width, n_out}, .choice = choice, .is_small = 1};
    if (n <= kernels->small_rows && n_in <= VL && width <= VL && n_out <= VL) try_both_ways(&net);
    net.is_small = 0;
    net.skip_zeros = choice / 2 % 2, net.with_dropout = choice / 4 % 2;
    net.is_sparse = choice / 3 % 3 == 0, net.in_parts = choice / 5 % 2;
    try_both_ways(&net);
}

/* ---- sizes */

static int sizes_to_try(int64_t *sizes, int all) {
    const int64_t edges[] = {kernels->VL, kernels->MR, 16, kernels->NR, 2 * kernels->NR};
    const int64_t end = 2 * kernels->NR + 2;
    int n = 0;
    for (int64_t size = 1; size < end; size++) {
        int is_near = all || size == 1;
        for (int e = 0; e < 5; e++) is_near |= llabs(size - edges[e]) <= 1;
        if (is_near) sizes[n++] = size;
    }
    return n;
}

int main(int argc, char **argv) {
    /* (n, n_in, n_hidden, n_out) beside the one that varies */
    static const int64_t OTHERS[][4] = {
        {1, 1, 1, 1}, {5, 7, 3, 2}, {33, 97, 50, 10}, {67, 9, 110, 49}};
    int64_t sizes[MOST_SIZES * 2], choice = 0;
    if (argc < 4) {
        for (const char *const *isa = fnn_isas(); *isa; isa++) puts(*isa);
        return 0;
    }
    is_f64 = strcmp(argv[2], "f64") == 0, item = is_f64 ? 8 : 4;
    kernels = fnn_kernels_for(argv[1], is_f64);
    if (!kernels) return 1;
    const int all = strcmp(argv[3], "all") == 0, n_sizes = sizes_to_try(sizes, all);
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int i = 0; i < n_sizes; i++) {
        for (int dimension = 0; dimension < 4; dimension++) {
            for (int o = 0; o < 4; o++) {
                int64_t s[4];
                memcpy(s, OTHERS[o], sizeof s);
                s[dimension] = sizes[i];
                for (int c = 0; c < (all ? 12 : 2); c++)
                    try_case(s[0], s[1], s[2], s[3], choice += 7);
            }
        }
    }
    /* a sparse X whose W is too large for the caches, with and without dropout and update */
    for (int i = 0; i < 3; i++) try_case(5, 9001, 500, 3, (const int[]){0, 27, 36}[i]);
    for (int i = 0; i < N_NAMES; i++)
        if (calls[i] == 0) fail("a kernel was never called");
    printf("%s %s: %" PRId64 " cases, %" PRId64 " buffers\n", argv[1], argv[2], n_cases, n_taken);
    return 0;
}
