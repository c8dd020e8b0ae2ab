/* Prints checksums of what the kernels of one instruction set and dtype compute: an epoch's order, every activation on
 * a grid, every loss and its delta, then weights and losses after every optimizer's steps on a small network, without
 * and with dropout and clipping. Equal output means equal bits; compare.sh compares.
 *
 * one_arithmetic        lists the instruction sets
 * one_arithmetic ISA f32|f64 */
#include "fastnn.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N = 29,
    LAYERS = 3,
    NEURONS = 104,
    STEPS = 20,
    GRID = 20001,
    N_ACTIVATIONS = FNN_MISH + 1,
    N_UNGROUPED_LOSSES = FNN_QUANTILE + 1
};
static const int SIZES[LAYERS + 1] = {7, 61, 33, 10};

static const fnn_kernels *kernels;
static int is_f64;
static size_t item;

static void print_checksum(const char *name, int i, const void *data, size_t count) {
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    for (size_t b = 0; b < count * item; b++)
        hash = (hash ^ ((const uint8_t *)data)[b]) * 1099511628211u;
    printf("%s %d %016" PRIx64 "\n", name, i, hash);
}

/* Numbers in [-1/2, 1/2) that float32 holds, from a linear congruential generator. */
static void *numbers(size_t count) {
    static uint32_t state = 1;
    void *data = malloc(count * item);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        double x = (state >> 8) / 16777216.0 - 0.5;
        if (is_f64)
            ((double *)data)[i] = x;
        else
            ((float *)data)[i] = (float)x;
    }
    return data;
}

static fnn_matrix matrix(int64_t rows, int64_t cols) {
    int64_t NR = kernels->NR, VL = kernels->VL, panels = (cols + NR - 1) / NR;
    fnn_matrix X = {NULL, rows, cols, cols > NR ? NR : (cols + VL - 1) / VL * VL, NULL};
    X.data = calloc((size_t)(panels * rows * X.ld), item);
    return X;
}

/* Numbers of which, as in images, those that lie side by side are zero together. */
static void *pixels(size_t count) {
    char *data = numbers(count);
    for (size_t i = 0; i < count; i++)
        if (i % 24 >= 8) memset(data + i * item, 0, item);
    return data;
}

/* Have the zeros of h, and of the delta that has the same, left out of products. */
static void look_for_zeros(fnn_activity *x) {
    int64_t panels = (x->h.cols + kernels->NR - 1) / kernels->NR;
    x->h.nonzero = calloc((size_t)(panels * x->h.rows), sizeof(uint64_t));
    x->delta.nonzero = x->h.nonzero;
}

/* Fewer rows than are shuffled together, some more, and so many that all instruction sets do it. */
static void orders(void) {
    static const int64_t LENGTHS[] = {1, 7, 1000, (1 << 20) + 99};
    for (int i = 0; i < 4; i++) {
        const int64_t n = LENGTHS[i];
        int64_t *rows = malloc((size_t)n * sizeof *rows);
        for (int64_t r = 0; r < n; r++) rows[r] = r;
        kernels->shuffle(rows, n, 12345678901234567u);
        print_checksum("order", i, rows, (size_t)n * sizeof *rows / item);
        free(rows);
    }
}

static void activations(void) {
    char *a = malloc(GRID * item), *h = malloc(GRID * item), *slope = malloc(GRID * item);
    for (int i = 0; i < GRID; i++) {
        double x = (i - GRID / 2) * 0.003;
        if (is_f64)
            ((double *)a)[i] = x;
        else
            ((float *)a)[i] = (float)x;
    }
    for (int kind = 0; kind < N_ACTIVATIONS; kind++) {
        kernels->activate(kind, a, h, slope, GRID);
        print_checksum("g", kind, h, GRID);
        print_checksum("g'", kind, slope, GRID);
    }
}

static void one_loss(const fnn_targets *y, int width) {
    const fnn_rows rows = {NULL, 0};
    const fnn_input a = {numbers((size_t)(N * width)), width * (int64_t)item, (int64_t)item,
                         is_f64 ? FNN_INPUT_F64 : FNN_INPUT_F32};
    fnn_activity x = {matrix(N, width), matrix(N, width), matrix(N, width)};
    fnn_activity delta = {x.a, x.delta, x.a};
    double losses[N];
    void *values = malloc((size_t)(N * width) * item);
    kernels->gather(&a, rows, NULL, &x.h, 0, N);
    kernels->loss(y, rows, 1.0 / N, &x, 0, N, losses);
    kernels->output(FNN_OUT_IDENTITY, &delta, 0, N, values);
    print_checksum("l", y->loss, losses, sizeof losses / item);
    print_checksum("delta", y->loss, values, (size_t)(N * width));
}

/* The grouped loss, on a group of two and one of the other outputs. */
static void groups(const void *values, int width) {
    const double smoothing_and_sizes[] = {0.1, 2, width - 2};
    const float as_floats[] = {0.1f, 2, (float)(width - 2)};
    const void *constants = is_f64 ? (const void *)smoothing_and_sizes : as_floats;
    one_loss(&(fnn_targets){NULL, values, values, FNN_OUT_IDENTITY, FNN_GROUPED_CROSS_ENTROPY,
                            constants},
             width);
}

/* Every loss, on few outputs and on many, for every output, with and without its constants. */
static void losses(void) {
    static const int widths[] = {3, 16, 37};
    for (int i = 0; i < 3; i++) {
        const int width = widths[i];
        const void *values = numbers((size_t)(N * width)), *constants = numbers((size_t)width);
        int32_t labels[N];
        for (int t = 0; t < N; t++) labels[t] = t % width;
        for (int loss = 0; loss < N_UNGROUPED_LOSSES; loss++) {
            const int is_softmax = loss == FNN_CROSS_ENTROPY;
            const int first = is_softmax ? FNN_OUT_SOFTMAX : FNN_OUT_SIGMOID;
            for (int output = first; output <= (is_softmax ? first : FNN_OUT_EXP); output++) {
                one_loss(&(fnn_targets){NULL, values, values, output, loss, NULL}, width);
                one_loss(&(fnn_targets){NULL, values, NULL, output, loss, constants}, width);
            }
        }
        one_loss(&(fnn_targets){labels, NULL, values, 0, FNN_CROSS_ENTROPY, NULL}, width);
        one_loss(&(fnn_targets){labels, NULL, NULL, 0, FNN_CROSS_ENTROPY, constants}, width);
        groups(values, width);
    }
}

static void build(fnn_layer *layers, fnn_activity *x, int activation, int regularised) {
    memset(layers, 0, LAYERS * sizeof *layers);
    memset(x, 0, (LAYERS + 1) * sizeof *x);
    x[0].h = matrix(N, SIZES[0]);
    look_for_zeros(&x[0]);
    for (int k = 0; k < LAYERS; k++) {
        int n_in = SIZES[k], n_out = SIZES[k + 1];
        layers[k] = (fnn_layer){
            .n_in = n_in, .n_out = n_out, .activation = {.kind = k < LAYERS - 1 ? activation : 0}};
        layers[k].shared = activation % 2;
        layers[k].W = matrix(n_in + 1, n_out);
        if (k != 1 || regularised) layers[k].Wt = matrix(n_out, n_in);
        layers[k].state[0] = matrix(n_in + 1, n_out).data;
        layers[k].state[1] = matrix(n_in + 1, n_out).data;
        layers[k].learning_rate_factor = 1 - 0.1 * k;
        if (regularised) layers[k].gradient = matrix(n_in + 1, n_out).data;
        x[k + 1].h = matrix(N, n_out);
        x[k + 1].delta = matrix(N, n_out);
        if (regularised && layers[k].activation.kind == FNN_TANH) x[k + 1].a = matrix(N, n_out);
        if (layers[k].activation.kind == FNN_RELU) look_for_zeros(&x[k + 1]);
        const void *W = numbers((size_t)(n_in * n_out));
        kernels->pack(W, numbers((size_t)n_out), &layers[k]);
    }
}

/* Two thirds of the elements of a dense X. */
static fnn_input two_thirds(fnn_input X) {
    static int32_t indptr[N + 1], indices[N * 64];
    char *data = malloc(N * (size_t)SIZES[0] * item);
    int n = 0;
    for (int r = 0; r < N; r++) {
        for (int c = 0; c < SIZES[0]; c++) {
            if ((r + c) % 3 == 0) continue;
            memcpy(data + (size_t)n * item, X.data + (size_t)(r * SIZES[0] + c) * item, item);
            indices[n++] = c;
        }
        indptr[r + 1] = n;
    }
    return (fnn_input){.data = data, .type = X.type, .indptr = indptr, .indices = indices, 4, 4};
}

/* The optimizer from gradients scaled by what depends on the squares of them all. */
static void scaled_update(fnn_layer *layers, const fnn_step *step) {
    double sums[NEURONS], *o = sums, total = 0;
    for (int k = 0; k < LAYERS; o += SIZES[++k])
        for (int64_t panel = 0; panel * kernels->NR < SIZES[k + 1]; panel++)
            kernels->squares(&layers[k], panel, o + panel * kernels->NR);
    for (double *sum = sums; sum < o; sum++) total += *sum;
    for (int k = 0; k < LAYERS; k++)
        for (int64_t panel = 0; panel * kernels->NR < SIZES[k + 1]; panel++)
            for (int64_t block = 0; block * kernels->NR < SIZES[k]; block++)
                kernels->update_scaled(&layers[k], (fnn_tile){block, 1, panel, 1}, step,
                                       0.1 / sqrt(total));
}

static void one_step(fnn_layer *layers, fnn_activity *x, const fnn_dropout *dropout,
                     const fnn_input *X, const fnn_targets *y, const fnn_step *step,
                     double *losses) {
    static char terms[N * 64 * 16];
    static int64_t starts[64 + 1];
    static uint8_t summed[64];
    const fnn_columns columns = {terms, starts, summed};
    const fnn_rows rows = {NULL, 0};
    const int is_sparse = X->indptr != NULL;
    if (is_sparse)
        kernels->forward_sparse(X, rows, dropout, &layers[0], dropout, &x[1], 0, N);
    else
        kernels->gather(X, rows, dropout, &x[0].h, 0, N);
    for (int k = is_sparse; k < LAYERS; k++)
        kernels->forward(&layers[k], &x[k].h, k < LAYERS - 1 ? dropout : NULL, &x[k + 1], 0, N);
    kernels->loss(y, rows, 1.0 / N, &x[LAYERS], 0, N, losses);
    for (int k = LAYERS - 1; k > 0; k--)
        kernels->backward(&layers[k], &x[k + 1].delta, layers[k - 1].activation, dropout, &x[k], 0,
                          N);
    if (is_sparse)
        kernels->update_sparse(&layers[0], X, rows, dropout, &x[1].delta, N, &columns, 0,
                               (SIZES[0] + kernels->NR - 1) / kernels->NR, step);
    for (int k = is_sparse; k < LAYERS; k++)
        for (int64_t panel = 0; panel * kernels->NR < SIZES[k + 1]; panel++)
            for (int64_t block = 0; block * kernels->NR < SIZES[k]; block++)
                kernels->update(&layers[k], &x[k].h, &x[k + 1].delta, N,
                                (fnn_tile){block, 1, panel, 1}, step, NULL);
    if (!step->update) scaled_update(layers, step);
}

static void training(int rule, int activation, int regularised, int is_sparse) {
    fnn_layer layers[LAYERS];
    fnn_activity x[LAYERS + 1];
    int32_t labels[N];
    double losses[N];
    build(layers, x, activation, regularised);
    for (int i = 0; i < N; i++) labels[i] = i % SIZES[LAYERS];
    fnn_input X = {pixels(N * SIZES[0]), SIZES[0] * (int64_t)item, (int64_t)item,
                   is_f64 ? FNN_INPUT_F64 : FNN_INPUT_F32};
    if (is_sparse) X = two_thirds(X);
    fnn_targets y = {labels, NULL, NULL, FNN_OUT_SOFTMAX, FNN_CROSS_ENTROPY, NULL};
    fnn_step step = {.rule = rule,
                     .first = 1,
                     .last = 1,
                     .update = !regularised,
                     .clip_value = regularised ? 0.01 : 0,
                     .decay = 1e-4,
                     .l2 = 1e-3,
                     .l1 = 1e-4,
                     .momentum = 0.8,
                     .beta1 = 0.9,
                     .beta2 = 0.999,
                     .eps = 1e-8};
    fnn_dropout dropout = {12345, 100, 1u << 30, 4 / 3.0};
    double beta1_power = 1, beta2_power = 1;
    for (int t = 0; t < STEPS; t++) {
        beta1_power *= step.beta1;
        beta2_power *= step.beta2;
        step.learning_rate = 1e-2 / (rule == FNN_ADAM ? 1 - beta1_power : 1);
        step.inverse_root = 1 / sqrt(1 - beta2_power);
        dropout.first += N;
        one_step(layers, x, regularised ? &dropout : NULL, &X, &y, &step, losses);
    }
    for (int k = 0; k < LAYERS; k++) {
        size_t n_out = (size_t)SIZES[k + 1], n_weights = n_out * (size_t)SIZES[k];
        char *W = malloc(n_weights * item), *b = malloc(n_out * item);
        kernels->unpack(&layers[k], layers[k].W.data, W, b);
        print_checksum("W", k, W, n_weights);
        print_checksum("b", k, b, n_out);
        double penalty = kernels->penalty(&layers[k], 0.5, 0.25);
        print_checksum("penalty", k, &penalty, sizeof penalty / item);
    }
    print_checksum("losses", 0, losses, sizeof losses / item);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        for (const char *const *isa = fnn_isas(); *isa; isa++) puts(*isa);
        return 0;
    }
    is_f64 = strcmp(argv[2], "f64") == 0;
    item = is_f64 ? 8 : 4;
    kernels = fnn_kernels_for(argv[1], is_f64);
    if (!kernels) return 1;
    orders();
    activations();
    losses();
    for (int rule = 0; rule < FNN_N_RULES; rule++) {
        for (int regularised = 0; regularised < 2; regularised++) {
            training(rule, FNN_TANH, regularised, 0);
            training(rule, FNN_RELU, regularised, 0);
            training(rule, FNN_RELU, regularised, 1);
        }
    }
    return 0;
}
