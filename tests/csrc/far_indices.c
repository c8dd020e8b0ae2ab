/* One layer of 66,000 x 66,000, in memory that is promised but never there: its last weights lie beyond 2^32 elements, and
 * the kernels that work on a panel or a tile must find them. The whole numbers here make every result exact.
 *
 * far_indices                  lists the instruction sets
 * far_indices ISA f32|f64 */
#define _GNU_SOURCE
#include "fastnn.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WIDTH = 66000, ROWS = 3 };

static const fnn_kernels *kernels;
static int is_f64;
static size_t item;

/* Zero where it is read, and taken from the system only where it is written. */
static void *promise(size_t size) {
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    madvise(data, size, MADV_NOHUGEPAGE);
    return data;
}

static fnn_matrix matrix(int64_t rows, int64_t cols) {
    const int64_t NR = kernels->NR;
    fnn_matrix X = {NULL, rows, cols, NR, NULL};
    X.data = promise((size_t)((cols + NR - 1) / NR * rows * NR) * item);
    return X;
}

static int64_t index_of(const fnn_matrix *X, int64_t r, int64_t c) {
    return ((c / kernels->NR) * X->rows + r) * X->ld + c % kernels->NR;
}
static double get(const fnn_matrix *X, int64_t r, int64_t c) {
    const int64_t i = index_of(X, r, c);
    return is_f64 ? ((double *)X->data)[i] : ((float *)X->data)[i];
}
static void set(fnn_matrix *X, int64_t r, int64_t c, double value) {
    const int64_t i = index_of(X, r, c);
    if (is_f64)
        ((double *)X->data)[i] = value;
    else
        ((float *)X->data)[i] = (float)value;
}

static void expect(double given, double expected, const char *what) {
    if (given == expected) return;
    fprintf(stderr, "%s: %g, not %g\n", what, given, expected);
    exit(1);
}

static int weight(int64_t i, int64_t o) { return (int)((i + 2 * o) % 3); }

int main(int argc, char **argv) {
    if (argc < 3) {
        for (const char *const *isa = fnn_isas(); *isa; isa++) puts(*isa);
        return 0;
    }
    is_f64 = strcmp(argv[2], "f64") == 0, item = is_f64 ? 8 : 4;
    kernels = fnn_kernels_for(argv[1], is_f64);
    if (!kernels) return 1;
    const int64_t NR = kernels->NR, panel = (WIDTH - 1) / NR, first = panel * NR;
    fnn_layer layer = {.n_in = WIDTH, .n_out = WIDTH, .learning_rate_factor = 1};
    fnn_matrix h = matrix(ROWS, WIDTH), gradient = matrix(WIDTH + 1, WIDTH),
               buf = matrix(WIDTH + 1, WIDTH);
    fnn_activity out = {.h = matrix(ROWS, WIDTH), .delta = matrix(ROWS, WIDTH)};
    layer.W = matrix(WIDTH + 1, WIDTH), layer.Wt = matrix(WIDTH, WIDTH);
    layer.gradient = gradient.data, layer.state[0] = buf.data;

    for (int64_t i = 0; i < WIDTH; i++) set(&h, 0, i, i % 2);
    for (int64_t o = first; o < WIDTH; o++)
        for (int64_t i = 0; i <= WIDTH; i++) set(&layer.W, i, o, weight(i, o));
    kernels->forward_panels(&layer, &h, &out, 1, panel, panel + 1);
    for (int64_t o = first; o < WIDTH; o++) {
        double sum = weight(WIDTH, o);
        for (int64_t i = 1; i < WIDTH; i += 2) sum += weight(i, o);
        expect(get(&out.h, 0, o), sum, "forward_panels");
    }

    for (int64_t r = 0; r < ROWS; r++)
        for (int64_t c = first; c < WIDTH; c++) set(&h, r, c, r), set(&out.delta, r, c, c % 5);
    const fnn_tile last = {panel, 1, panel, 1};
    fnn_step step = {
        .rule = FNN_MOMENTUM, .first = 1, .last = 1, .learning_rate = 1, .momentum = 0.5};
    kernels->update(&layer, &h, &out.delta, ROWS, last, &step, NULL); /* leaves the gradient */
    double sums[2 * 64];
    kernels->squares(&layer, panel, sums);
    kernels->update_scaled(&layer, last, &step, 2);
    for (int64_t o = first; o < WIDTH; o++) {
        const double g = 3 * (double)(o % 5); /* of a weight: sum of h * delta, h = 0, 1, 2 */
        expect(sums[o - first], (double)(WIDTH - first + 1) * g * g, "squares");
        for (int64_t i = first; i <= WIDTH; i++) {
            expect(get(&gradient, i, o), g, "gradient");
            expect(get(&buf, i, o), 2 * g, "momentum");
            expect(get(&layer.W, i, o), weight(i, o) - 2 * g, "update");
            if (i < WIDTH) expect(get(&layer.Wt, o, i), weight(i, o) - 2 * g, "transposed");
        }
    }
    printf("%s %s: %" PRId64 " weights\n", argv[1], argv[2], (int64_t)WIDTH * WIDTH);
    return 0;
}
