/* Every kernel on buffers of exactly the size it may use, each beside a page that must not be touched: once every
 * buffer ends at such a page, once every buffer begins behind one. The rest of a buffer's pages is a canary. Both times
 * the same bits must come out, whatever lies around.
 *
 * guarded                          lists the instruction sets
 * guarded ISA f32|f64 edges|all    tries sizes around the edges of vectors, tiles and panels, or all up to two panels */
#define _GNU_SOURCE
#include "guarded_network.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIZES = 128, MOST_GROUP = 4 };

static int64_t n_cases;

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
            CALL(gather, &net->X, net->rows, dropout, &x[0].h, r0, r1);
            CALL(forward, &net->layers[0], &x[0].h, dropout, &x[1], r0, r1);
        }
        CALL(forward, &net->layers[1], &x[1].h, NULL, &x[2], r0, r1);
        CALL(loss, &net->y, net->rows, 1.0 / (double)net->n, &x[2], r0, r1, net->losses);
        CALL(backward, &net->layers[1], &x[2].delta, net->layers[0].activation, dropout, &x[1], r0,
             r1);
    }
}

/* All columns of h_1 but the first vector to memory of their own and back. */
static void copy_columns(network *net) {
    const fnn_matrix *h = &net->x[1].h;
    const int64_t VL = kernels->VL, n = net->n, columns = h->cols - VL;
    if (columns <= 0) return;
    fnn_matrix copy = matrix(n, columns);
    if (h->nonzero) copy.nonzero = zero_bits(&copy);
    CALL(copy_columns, h, VL, &copy, 0, columns, 0, n);
    CALL(own_rows, &copy, 0, n);
    CALL(copy_columns, &copy, 0, h, VL, columns, 0, n);
}

static void each_tile(network *net, int k, int is_scaled) {
    const int64_t blocks = panels_of(net->sizes[k]), panels = panels_of(net->sizes[k + 1]);
    const int64_t most = net->choice % 2 ? 1 : kernels->group;
    const fnn_coming coming = {&net->X, net->rows, net->sizes[0], 0, net->n};
    for (int64_t p = 0; p < panels; p += most) {
        for (int64_t b = 0; b < blocks; b += most) {
            const fnn_tile tile = {b, b + most < blocks ? most : blocks - b, p,
                                   p + most < panels ? most : panels - p};
            if (is_scaled)
                CALL(update_scaled, &net->layers[k], tile, &net->step, 0.5);
            else
                CALL(update, &net->layers[k], &net->x[k].h, &net->x[k + 1].delta, net->n, tile,
                     &net->step, &coming);
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
    const int64_t n_in = net->sizes[0], n_elements = count_elements(net->n * n_in);
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
        const double penalty = CALL(penalty, &net->layers[k], 0.5, 0.25);
        add_to_hash(&penalty, sizeof penalty);
        add_to_hash(W, (size_t)n_weights * item);
        add_to_hash(b, (size_t)n_out * item);
    }
}

/* The output of rows 0:n, their input already gathered, by groups of panels. */
static void predict_panels(network *net, int64_t n, void *f) {
    fnn_activity *x = net->x;
    for (int k = 0; k < LAYERS; k++)
        for (int64_t p = 0, panels = panels_of(net->sizes[k + 1]); p < panels; p += MOST_GROUP)
            CALL(forward_panels, &net->layers[k], &x[k].h, &x[k + 1], n, p,
                 p + MOST_GROUP < panels ? p + MOST_GROUP : panels);
    CALL(output, net->y.output, &x[LAYERS], 0, n, f);
}

/* The ways of predicting: by blocks, in lanes, by panels. */
static void predict(network *net) {
    const int64_t n = net->n, n_out = net->sizes[LAYERS], *s = net->sizes;
    const size_t size = (size_t)(n * n_out) * item;
    fnn_activity *x = net->x;
    void *f = take(size), *scratch = take((size_t)((s[0] + s[1] + s[2]) * kernels->NR) * item);
    CALL(gather, &net->dense, net->rows, NULL, &x[0].h, 0, n);
    for (int k = 0; k < LAYERS; k++) CALL(forward, &net->layers[k], &x[k].h, NULL, &x[k + 1], 0, n);
    CALL(output, net->y.output, &x[LAYERS], 0, n, f);
    add_to_hash(f, size);
    if (CALL(forward_in_place, &net->dense, net->rows, &net->layers[0], &x[1], net->skip_zeros, 0,
             n) == FNN_DONE) {
        void *same = take(size);
        CALL(forward, &net->layers[1], &x[1].h, NULL, &x[2], 0, n);
        CALL(output, net->y.output, &x[LAYERS], 0, n, same);
        if (memcmp(same, f, size) != 0) fail("other bits where X is read in place");
    }
    if (CALL(is_in_place, &net->dense, net->rows, &net->layers[0], net->skip_zeros, 0, n))
        for (int64_t p = 0; p < panels_of(s[1]); p++)
            if (CALL(panels_in_place, &net->dense, net->rows, &net->layers[0], &x[1], n, p,
                     p + 1) != FNN_DONE)
                fail("a row in place is said not to be finite");
    CALL(forward_lanes, net->layers, LAYERS, net->y.output, &net->dense, net->rows, 0, n, scratch,
         f);
    add_to_hash(f, size);
    predict_panels(net, 1, f);
    add_to_hash(f, size);
    predict_panels(net, n, f);
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
    CALL(square_roots, a, h, n);
    add_to_hash(h, (size_t)n * item);
}

static void shuffle(int64_t n) {
    int64_t *rows = take((size_t)n * sizeof *rows);
    for (int64_t r = 0; r < n; r++) rows[r] = r;
    CALL(shuffle, rows, n, 1);
    add_to_hash(rows, (size_t)n * sizeof *rows);
}

static uint64_t run(network net) {
    hash = 1469598103934665603u, random_state = 1;
    build(&net);
    if (net.is_small) {
        small_step(&net);
    } else {
        rows_phase(&net);
        copy_columns(&net);
        weights_phase(&net);
    }
    predict(&net);
    activate(net.n);
    shuffle(net.n);
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
    network net = {.n = n, .sizes = {n_in, width, n_out}, .choice = choice, .is_small = 1};
    const int64_t most = kernels->small_width;
    if (n <= kernels->small_rows && n_in <= most && width <= most && n_out <= most)
        try_both_ways(&net);
    net.is_small = 0;
    fnn_wide_core = choice % 2;
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
