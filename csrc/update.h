/* The second half of a step: dW of a tile of weights, then the optimizer on them, then the
 * transposed copy, while all of it is in cache. */
#ifndef FNN_UPDATE_H
#define FNN_UPDATE_H

#include "clipping.h"
#include "optimizers.h"
#include "transpose.h"
#include "zeros.h"

/* One block by one panel of dW, rows of NR; below the last block's rows that of the bias. */
enum { SQUARE = (NR + 1) * NR };
/* To transpose a square of weights costs as much as so many rows of the batch, in the micro-kernel. */
enum { TRANSPOSE = 7 };

static void copy_rows(real *to, const real *from, int64_t rows, int64_t vectors, int64_t ld) {
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + r * ld, from + r * ld, (size_t)(vectors * VL) * sizeof(real));
}

/* What all functions below work on. */
typedef struct {
    fnn_layer *layer;
    const fnn_matrix *h_in, *delta;
    int64_t n;
    const fnn_step *step;
    coming_rows *coming;
} update_task;

static ALWAYS_INLINE int64_t block_rows(const update_task *u, int64_t block) {
    return smaller(NR, u->layer->n_in - block * NR);
}
static ALWAYS_INLINE int64_t has_bias_row(const update_task *u, int64_t block) {
    return (block + 1) * NR >= u->layer->n_in;
}

static ALWAYS_INLINE enum start start_of(const update_task *u) {
    return u->step->first ? FROM_ZERO : FROM_C;
}

/* Whether this call writes weights, and whether other cores have read them. */
static ALWAYS_INLINE int writes_weights(const update_task *u) {
    return u->step->last && u->step->update;
}
static ALWAYS_INLINE int takes_over(const update_task *u) {
    return u->layer->shared && writes_weights(u);
}

/* Whether the sums of a tile are subtracted from W as they leave registers. */
static ALWAYS_INLINE int descends(const update_task *u) {
    const fnn_step *step = u->step;
    return writes_weights(u) && step->rule == FNN_SGD && step->decay == 0 && step->l2 == 0 &&
           step->l1 == 0 && !(step->clip_value > 0);
}
/* Of the weights from `row` on of one panel. */
static ALWAYS_INLINE descent descent_of(const update_task *u, int64_t panel, int64_t row) {
    if (!descends(u)) return STORED;
    return (descent){at(&u->layer->W, panel, row),
                     (real)(u->step->learning_rate * u->layer->learning_rate_factor)};
}

/* Rows of one panel of W. */
static void own_weights(const update_task *u, int64_t panel, int64_t row, int64_t rows) {
    const fnn_matrix *W = &u->layer->W;
    for (int64_t r = row; takes_over(u) && r < row + rows; r++)
        for (int64_t c = 0; c < panel_vectors(W, panel) * VL; c += LINE)
            own_line(at(W, panel, r) + c);
}

/* g[i] = aT B for `count` columns of a, cs apart from row to row, and one panel of B, unless the sums go down from
 * weights. Meanwhile `next`, which is about to be written, is fetched. */
static void sum_columns(const update_task *u, const real *a, int64_t cs, int64_t count,
                        const fnn_matrix *B, int64_t panel, real *g, int64_t ld, fetched next,
                        descent down, coming_rows *coming) {
    const int nv = panel_vectors(B, panel);
    const int64_t size = block_of(u->n);
    int64_t k0 = 0;
    do {
        const int64_t K = smaller(size, u->n - k0);
        tiles_of_columns(nv, count, (broadcast_operand){a + k0 * cs, 1, cs, K, 0}, K,
                         (streamed_operand){at(B, panel, k0), B->ld, k0 ? NOTHING : next, NOTHING},
                         g, ld, k0 ? FROM_C : start_of(u), NULL, k0 + K == u->n ? down : STORED,
                         coming);
    } while ((k0 += size) < u->n);
}

/* The bias is a weight on ones. */
static void sum_bias(const update_task *u, int64_t panel, real *g) {
    static const real one = 1;
    sum_columns(u, &one, 0, 1, u->delta, panel, g, u->layer->W.ld, NOTHING, STORED, NULL);
}

/* Few columns of delta by one block of inputs: their lanes can be h's columns instead of delta's, of
 * which most would be padding. That takes a transpose, which costs as much as 7 rows do. */
static ALWAYS_INLINE int64_t panel_columns(const update_task *u, int64_t panel) {
    return smaller(NR, u->layer->n_out - panel * NR);
}
static int has_few_columns(const update_task *u, int64_t block, int64_t panel) {
    const int64_t by_columns = block_rows(u, block) * panel_vectors(u->delta, panel);
    const int64_t by_rows = panel_columns(u, panel) * panel_vectors(u->h_in, block);
    return by_rows * u->n + by_columns * TRANSPOSE < by_columns * u->n;
}
static void sum_few_columns(const update_task *u, int64_t block, int64_t panel, real *g) {
    ALIGNED real gt[NR * NR];
    const int64_t count = block_rows(u, block), columns = panel_columns(u, panel);
    const int64_t ld = u->layer->W.ld, ld_t = u->h_in->ld;
    if (!u->step->first) transpose(g, ld, count, columns, gt, ld_t);
    own_weights(u, panel, block * NR, count);
    sum_columns(u, at(u->delta, panel, 0), u->delta->ld, columns, u->h_in, block, gt, ld_t, NOTHING,
                STORED, NULL);
    transpose(gt, ld_t, columns, count, g, ld);
}

/* One block of inputs by one panel of outputs, by the micro-kernel. A wide core fetches its weights, to be written,
 * in passing; on others they are taken over between tiles. */
static void sum_square(const update_task *u, int64_t block, int64_t panel, real *g) {
    const fnn_matrix *W = &u->layer->W, *h = u->h_in;
    const int64_t count = block_rows(u, block), row = block * NR, ld = W->ld;
    const fetched weights = {at(W, panel, row), at(W, panel, row + count)};
    const fetched next = is_wide() && writes_weights(u) ? weights : NOTHING;
    const int between_tiles = takes_over(u) && !is_wide();
    const int64_t at_once = between_tiles ? rows_at_once(panel_vectors(W, panel), 1) : count;
    for (int64_t i = 0; i < count; i += at_once) {
        const int64_t rows = smaller(at_once, count - i);
        if (between_tiles) own_weights(u, panel, row + i, rows);
        sum_columns(u, at(h, block, 0) + i, h->ld, rows, u->delta, panel, g + i * ld, ld, next,
                    descent_of(u, panel, row + i), is_wide() ? u->coming : NULL);
    }
}

/* g starts as what earlier parts of the batch have left. */
static void begin_square(const update_task *u, int64_t block, int64_t panel, real *g) {
    const fnn_matrix *W = &u->layer->W;
    const int64_t rows = block_rows(u, block) + has_bias_row(u, block);
    if (u->step->first) return;
    const real *sums = (real *)u->layer->gradient + (at(W, panel, block * NR) - (real *)W->data);
    copy_rows(g, sums, rows, panel_vectors(W, panel), W->ld);
}

/* The optimizer on rows of W, from `row` on, of one panel, with the gradient g. The first `count` rows
 * are weights; one more is the bias. */
static void optimize_rows(const update_task *u, int64_t panel, int64_t row, int64_t count,
                          int64_t rows, const real *g) {
    const fnn_layer *layer = u->layer;
    const fnn_matrix *W = &layer->W;
    const int64_t offset = at(W, panel, row) - (real *)W->data;
    real *w = (real *)W->data + offset, *p = layer->state[0], *q = layer->state[1];
    optimize(u->step, layer->learning_rate_factor,
             (step_rows){w, p ? p + offset : NULL, q ? q + offset : NULL, g, rows,
                         panel_vectors(W, panel), W->ld},
             count);
}

/* Wt follows W. */
static void transpose_square(const update_task *u, int64_t block, int64_t panel) {
    const fnn_matrix *W = &u->layer->W, *Wt = &u->layer->Wt;
    if (Wt->data)
        transpose(at(W, panel, block * NR), W->ld, block_rows(u, block),
                  smaller(NR, W->cols - panel * NR), at(Wt, block, panel * NR), Wt->ld);
}

/* g, of rows of W from `row` on, is complete with the batch's last part: then the rows are updated,
 * else g is kept. */
static void end_rows(const update_task *u, int64_t panel, int64_t row, int64_t count, int64_t rows,
                     real *g) {
    const fnn_matrix *W = &u->layer->W;
    const fnn_step *step = u->step;
    const int64_t offset = at(W, panel, row) - (real *)W->data;
    const int vectors = panel_vectors(W, panel);
    if (step->last && (step->l2 != 0 || step->l1 != 0))
        add_penalty(step, (real *)W->data + offset, g, count, vectors, W->ld);
    if (step->last && step->clip_value > 0) clip_values(step->clip_value, g, rows, vectors, W->ld);
    if (writes_weights(u))
        optimize_rows(u, panel, row, count, rows, g);
    else
        copy_rows((real *)u->layer->gradient + offset, g, rows, vectors, W->ld);
}

/* Of a square's rows the first few may be done with. */
static void end_square(const update_task *u, int64_t block, int64_t panel, int64_t done, real *g) {
    const int64_t count = block_rows(u, block), rows = count + has_bias_row(u, block);
    if (done < rows)
        end_rows(u, panel, block * NR + done, count - done, rows - done, g + done * u->layer->W.ld);
    if (writes_weights(u)) transpose_square(u, block, panel);
}

/* What is needed next of one block and panel: the sums that a batch's parts, or a step without an
 * update, leave behind, and W and the state for the optimizer, as far as they exist. */
static next_rows weights_at(const update_task *u, int64_t row, int64_t panel) {
    const fnn_layer *layer = u->layer;
    const int weights = writes_weights(u), sums = !u->step->first || !weights;
    const real *arrays[4] = {weights ? layer->W.data : NULL, sums ? layer->gradient : NULL,
                             weights ? layer->state[0] : NULL, weights ? layer->state[1] : NULL};
    const int64_t offset = at(&layer->W, panel, row) - (real *)layer->W.data;
    next_rows next = {{NULL}, layer->W.ld, panel_size(&layer->W), layer->W.rows - row,
                      0,      NV,          takes_over(u)};
    for (int i = 0, n = 0; i < 4 && n < 3; i++)
        if (arrays[i]) next.arrays[n++] = arrays[i] + offset;
    return next;
}

/* One block of inputs by the tile's panels: each row of dW sums rows of delta, by the micro-kernel
 * or for the non-zero elements of h. */
static void update_block(const update_task *u, int64_t block, const fnn_tile *tile,
                         int skip_zeros) {
    ALIGNED real g[LARGEST_GROUP * SQUARE];
    const int64_t count = block_rows(u, block), ld = u->layer->W.ld;
    const next_rows next = weights_at(u, block * NR, tile->panel);
    for (int64_t q = 0; q < tile->n_panels; q++)
        begin_square(u, block, tile->panel + q, g + q * SQUARE);
    if (skip_zeros)
        sum_nonzero_columns(u->h_in, block, u->delta, tile->panel, tile->n_panels, u->n, count,
                            u->step->first ? NULL : g, g, ld, SQUARE, &next);
    for (int64_t q = 0; q < tile->n_panels; q++) {
        real *gq = g + q * SQUARE;
        const int64_t panel = tile->panel + q;
        const int turned = !skip_zeros && has_few_columns(u, block, panel);
        const int by_tiles = !skip_zeros && !turned;
        if (turned) sum_few_columns(u, block, panel, gq);
        if (by_tiles) sum_square(u, block, panel, gq);
        if (has_bias_row(u, block)) sum_bias(u, panel, gq + count * ld);
        end_square(u, block, panel, by_tiles && descends(u) ? count : 0, gq);
    }
}

/* One panel of outputs by the tile's blocks, for the non-zero elements of delta: each row of the
 * transpose of dW sums rows of h. */
static void update_panel(const update_task *u, int64_t panel, const fnn_tile *tile) {
    ALIGNED real g[SQUARE], gt[LARGEST_GROUP * NR * NR];
    const int64_t n_out = smaller(NR, u->layer->n_out - panel * NR), ld = u->layer->W.ld;
    next_rows next = weights_at(u, tile->block * NR, panel);
    next.panel = NR * ld, next.apart = NR, next.vectors = panel_vectors(&u->layer->W, panel);
    for (int64_t q = 0; q < tile->n_blocks && !u->step->first; q++) {
        begin_square(u, tile->block + q, panel, g);
        transpose(g, ld, block_rows(u, tile->block + q), n_out, gt + q * NR * NR, NR);
    }
    sum_nonzero_columns(u->delta, panel, u->h_in, tile->block, tile->n_blocks, u->n, n_out,
                        u->step->first ? NULL : gt, gt, NR, NR * NR, &next);
    for (int64_t q = 0; q < tile->n_blocks; q++) {
        const int64_t block = tile->block + q, count = block_rows(u, block);
        begin_square(u, block, panel, g); /* for the bias */
        transpose(gt + q * NR * NR, NR, n_out, count, g, ld);
        if (has_bias_row(u, block)) sum_bias(u, panel, g + count * ld);
        end_square(u, block, panel, 0, g);
    }
}

/* The time of dW without the zeros of X, with them 1. */
static double without_zeros(const fnn_matrix *X, int64_t p, int64_t panels, int64_t n) {
    const double share = density(X, p, panels, 0, n);
#if defined(FNN_AVX2)
    return 0.22 + 1.42 * share;
#else
    return is_wide() ? 0.22 + 1.55 * share + 6 / (double)n : 1.15 * share;
#endif
}

/* The same without those of delta, panel by panel: a square is transposed, too, and on a wide core the sums
 * took an eighth longer. */
static double without_zeros_of_delta(const fnn_matrix *delta, fnn_tile tile, int64_t n) {
    const double sums = without_zeros(delta, tile.panel, tile.n_panels, n);
    return (is_wide() ? 1.12 : 1) * sums + (double)TRANSPOSE / (double)n;
}

/* A factor too narrow leaves the other's zeros in. */
static void update(fnn_layer *layer, const fnn_matrix *h_in, const fnn_matrix *delta, int64_t n,
                   fnn_tile tile, const fnn_step *step, const fnn_coming *coming) {
    coming_rows rows = {coming ? *coming : (fnn_coming){.begin = 0, .end = 0}, NOTHING};
    const update_task u = {layer, h_in, delta, n, step, &rows};
    double by_h = 1, by_delta = 1;
    if (!is_wide()) fetch_rest(&rows); /* else in passing, and what is then left */
    if (h_in->nonzero && delta->cols >= LEAST_COLUMNS)
        by_h = without_zeros(h_in, tile.block, tile.n_blocks, n);
    if (delta->nonzero && h_in->cols >= LEAST_COLUMNS)
        by_delta = without_zeros_of_delta(delta, tile, n);
    if (by_delta < 1 && by_delta < by_h)
        for (int64_t q = 0; q < tile.n_panels; q++) update_panel(&u, tile.panel + q, &tile);
    else
        for (int64_t q = 0; q < tile.n_blocks; q++)
            update_block(&u, tile.block + q, &tile, by_h < 1);
    fetch_rest(&rows);
}

static void update_scaled(fnn_layer *layer, fnn_tile tile, const fnn_step *step, double scale) {
    const update_task u = {layer, NULL, NULL, 0, step, NULL};
    const fnn_matrix *W = &layer->W;
    for (int64_t block = tile.block; block < tile.block + tile.n_blocks; block++) {
        const int64_t count = block_rows(&u, block), rows = count + has_bias_row(&u, block);
        for (int64_t panel = tile.panel; panel < tile.panel + tile.n_panels; panel++) {
            const int64_t offset = at(W, panel, block * NR) - (real *)W->data;
            real g[SQUARE];
            scale_values(scale, (real *)layer->gradient + offset, g, rows, panel_vectors(W, panel),
                         W->ld);
            optimize_rows(&u, panel, block * NR, count, rows, g);
            transpose_square(&u, block, panel);
        }
    }
}

#endif
