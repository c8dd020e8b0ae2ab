/* The first layer on a sparse X: only what is stored of X takes part in the products. Every element
 * of a and of dW is the same chain of fused multiply-adds as for a dense X, whose zeros change no
 * sum.
 *
 * dW = XT delta takes X by its columns, so a thread sorts the elements of its columns first. */
#ifndef FNN_SPARSE_H
#define FNN_SPARSE_H

#include "update.h"

/* Row i of X or of XT adds value times row `row` of W or of delta to a sum. */
typedef struct {
    uint32_t row;
    real value;
} term;

/* Terms of a row of X that are read together, and how far ahead rows of B are fetched. */
enum { ROW_TERMS = 256, TERMS_AHEAD = 6 };
/* Rows that are carried forward together, and what of W is small enough for the second-level cache
 * or too large for the third. */
enum { ROWS = 256, SMALL_BYTES = 1 << 19, LARGE_BYTES = 1 << 24 };

/* ---- sums of terms */

/* C[i] = from + sum of value * B[row] over terms starts[i] up to starts[i + 1], i < n. from is C[i]
 * or zero. Panels of B, from and C lie b_panel, from_panel and c_panel apart. Meanwhile each i fetches
 * `fetched` rows of what is needed next. */
typedef struct {
    const term *terms;
    const int64_t *starts;
    int64_t n;
    const real *B;
    int64_t ldb, b_panel;
    const real *from;
    int64_t ld_from, from_panel;
    real *C;
    int64_t ldc, c_panel;
    next_rows next;
    int64_t fetched;
} term_sums;

static ALWAYS_INLINE void sum_vectors(const int nv, const term_sums s) {
    for (int64_t i = 0; i < s.n; i++) {
        const real *from = s.from + i * s.ld_from;
        const int64_t end = s.starts[i + 1];
        real *C = s.C + i * s.ldc;
        vec acc[LARGEST_GROUP * NV];
        fetch_next(nv, &s.next, i * s.fetched, (i + 1) * s.fetched);
#pragma GCC unroll 12
        for (int v = 0; v < nv; v++) acc[v] = v_load(from + v / NV * s.from_panel + v % NV * VL);
        for (int64_t t = s.starts[i]; t < end; t++) {
            const real *B = s.B + s.terms[t].row * s.ldb;
            const real *next = s.B + s.terms[smaller(t + TERMS_AHEAD, end - 1)].row * s.ldb;
            const vec value = v_set1(s.terms[t].value);
#pragma GCC unroll 12
            for (int v = 0; v < nv; v++) {
                const int64_t column = v / NV * s.b_panel + v % NV * VL;
                __builtin_prefetch(next + column);
                acc[v] = v_fma(value, v_load(B + column), acc[v]);
            }
        }
#pragma GCC unroll 12
        for (int v = 0; v < nv; v++) v_store(C + v / NV * s.c_panel + v % NV * VL, acc[v]);
    }
}

static __attribute__((noinline)) void sum_terms(int nv, const term_sums *s) {
    switch (nv) {
    case 1: sum_vectors(1, *s); break;
    case 2: sum_vectors(2, *s); break;
    case 3: sum_vectors(3, *s); break;
    case 4: sum_vectors(4, *s); break;
    case 5: sum_vectors(5, *s); break;
    case 6: sum_vectors(6, *s); break;
    case 7: sum_vectors(7, *s); break;
    case 8: sum_vectors(8, *s); break;
    case 9: sum_vectors(9, *s); break;
#if !defined(FNN_NEON)
    case 10: sum_vectors(10, *s); break;
    case 11: sum_vectors(11, *s); break;
    case 12: sum_vectors(12, *s); break;
#endif
    }
}

/* ---- reading X */

/* Rows of a sparse X, with dropout or NULL. */
typedef struct {
    const fnn_input *X;
    fnn_rows rows;
    const fnn_dropout *dropout;
} sparse_rows;

/* What is stored of a row, and its key for dropout. */
typedef struct {
    int64_t begin, end;
    uint64_t key;
} sparse_row;

static ALWAYS_INLINE int64_t integer_at(const void *integers, int size, int64_t i) {
    return size == 8 ? ((const int64_t *)integers)[i] : ((const int32_t *)integers)[i];
}
static ALWAYS_INLINE sparse_row row_at(const sparse_rows *S, int64_t r) {
    const fnn_input *X = S->X;
    const int64_t row = row_index(S->rows, r);
    return (sparse_row){integer_at(X->indptr, X->indptr_size, row),
                        integer_at(X->indptr, X->indptr_size, row + 1),
                        S->dropout ? dropout_key(S->dropout, r) : 0};
}
static ALWAYS_INLINE int64_t column_of(const sparse_rows *S, int64_t element) {
    return integer_at(S->X->indices, S->X->indices_size, element);
}
static ALWAYS_INLINE real value_of(const sparse_rows *S, int64_t element) {
    return element_of(S->X, S->X->data + element * item_size(S->X));
}
static ALWAYS_INLINE real after_dropout(const sparse_rows *S, sparse_row row, int64_t column,
                                        real value) {
    return S->dropout ? value * dropout_factor(S->dropout, row.key, (uint32_t)column) : value;
}

/* Rows come in random order: one begins to be fetched while the one before is computed with. */
static ALWAYS_INLINE void fetch_row(const sparse_rows *S, sparse_row row) {
    const int64_t n = smaller(ROW_TERMS, row.end - row.begin), size = S->X->indices_size;
    fetch_lines((const char *)S->X->indices + row.begin * size, n * size, 3);
    fetch_lines(S->X->data + row.begin * item_size(S->X), n * item_size(S->X), 3);
}

/* ---- forward */

/* A row's terms from columns below `end` on, as many as are read together. Returns 0, or NaN if one is
 * a NaN or an infinity. */
static ALWAYS_INLINE real next_terms(const sparse_rows *S, sparse_row *row, int64_t end,
                                     term *terms, int64_t *n) {
    real bad = 0;
    int64_t c;
    for (*n = 0; *n < ROW_TERMS && row->begin < row->end && (c = column_of(S, row->begin)) < end;
         row->begin++) {
        const real value = value_of(S, row->begin);
        terms[(*n)++] = (term){(uint32_t)c, after_dropout(S, *row, c, value)};
        bad += value - value;
    }
    return bad;
}

/* C = bias + X W for n rows of X and, in C, from row r0 on; `panels` panels from p on. */
typedef struct {
    const sparse_rows *S;
    const fnn_matrix *W, *C;
    int64_t r0, n, p, panels;
} forward_task;

/* The terms of columns c to `end`; `rest` is what is left of each row. Meanwhile each row fetches its
 * part of the block of W that comes next. Returns 0, or NaN for a NaN or an infinity. */
static real add_columns(const forward_task *f, sparse_row *rest, int64_t c, int64_t end) {
    const fnn_matrix *W = f->W, *C = f->C;
    const int64_t n_in = W->rows - 1, width = end - c;
    term terms[ROW_TERMS];
    int64_t starts[2] = {0, 0};
    term_sums s = {.terms = terms,
                   .starts = starts,
                   .n = 1,
                   .B = at(W, f->p, 0),
                   .ldb = W->ld,
                   .b_panel = panel_size(W),
                   .c_panel = panel_size(C),
                   .next = {.ld = W->ld, .panel = panel_size(W), .rows = W->rows, .vectors = NV},
                   .fetched = (width + f->n - 1) / f->n};
    real bad = 0;
    for (int64_t i = 0; i < f->n; i++) {
        int is_first = c == 0;
        if (is_first && i + 1 < f->n) fetch_row(f->S, rest[i + 1]);
        s.C = at(C, f->p, f->r0 + i);
        s.from = is_first ? at(W, f->p, n_in) : s.C;
        s.from_panel = panel_size(is_first ? W : C);
        s.next.arrays[0] = end + width <= n_in ? at(W, f->p, end + i * s.fetched) : NULL;
        do {
            bad += next_terms(f->S, &rest[i], end, terms, &starts[1]);
            if (starts[1] > 0 || is_first) sum_terms(group_vectors(C, f->p, f->panels), &s);
            s.from = s.C, s.from_panel = s.c_panel, s.next.arrays[0] = NULL, is_first = 0;
        } while (starts[1] == ROW_TERMS);
    }
    return bad;
}

/* How many columns are gone through for all rows before the next ones: all, unless the rows need most
 * of a W that is larger than the caches; then as many as have their part of W there. */
static int64_t columns_together(const fnn_matrix *W, int64_t n_elements) {
    const int64_t size = count_panels(W) * panel_size(W) * (int64_t)sizeof(real);
    if (size < LARGE_BYTES || n_elements < W->rows) return W->rows - 1;
    return SMALL_BYTES / (usual_group() * NR * (int64_t)sizeof(real));
}

static real forward_sparse_rows(const sparse_rows *S, const fnn_matrix *W, const fnn_matrix *C,
                                int64_t r0, int64_t n) {
    forward_task f = {S, W, C, r0, n, 0, 0};
    sparse_row rows[ROWS], rest[ROWS];
    int64_t n_elements = 0;
    real bad = 0;
    for (int64_t i = 0; i < n; i++) {
        rows[i] = row_at(S, r0 + i);
        n_elements += rows[i].end - rows[i].begin;
    }
    const int64_t width = columns_together(W, n_elements);
    for (; f.p < count_panels(C); f.p += f.panels) {
        f.panels = group_size(count_panels(C) - f.p);
        memcpy(rest, rows, (size_t)n * sizeof *rows);
        for (int64_t c = 0; c < W->rows - 1; c += width) bad += add_columns(&f, rest, c, c + width);
    }
    return bad;
}

static int forward_sparse(const fnn_input *X, fnn_rows rows, const fnn_dropout *input_dropout,
                          const fnn_layer *layer, const fnn_dropout *dropout, fnn_activity *out,
                          int64_t r0, int64_t r1) {
    const finish_context context = {layer->activation, dropout, out};
    const sparse_rows S = {X, rows, input_dropout};
    const fnn_matrix *a = out->a.data ? &out->a : &out->h;
    for (int64_t r = r0; r < r1; r += ROWS) {
        const int64_t n = smaller(ROWS, r1 - r);
        if (!(forward_sparse_rows(&S, &layer->W, a, r, n) == 0)) return 0;
        for (int64_t p = 0; p < count_panels(a); p++) finish_forward(&context, p, r, r + n);
    }
    return 1;
}

/* ---- dW and the optimizer */

/* The first element of the row in column `least` or later. */
static int64_t first_from(const sparse_rows *S, sparse_row row, int64_t least) {
    if (least == 0) return row.begin;
    while (row.begin < row.end) {
        const int64_t middle = row.begin + (row.end - row.begin) / 2;
        if (column_of(S, middle) < least)
            row.begin = middle + 1;
        else
            row.end = middle;
    }
    return row.begin;
}

/* The elements of columns i0 to i1 in rows 0:n, by column, rows rising: a counting sort. They go
 * behind those of all columns before i0. */
static void sort_columns(const sparse_rows *S, int64_t n, const fnn_columns *columns, int64_t i0,
                         int64_t i1) {
    int64_t *starts = columns->starts, c, total = 0;
    term *terms = columns->terms;
    memset(starts + i0, 0, (size_t)(i1 - i0 + 1) * sizeof *starts);
    for (int64_t r = 0; r < n; r++) {
        const sparse_row row = row_at(S, r);
        int64_t e = first_from(S, row, i0);
        total += e - row.begin;
        for (; e < row.end && (c = column_of(S, e)) < i1; e++) starts[c + 1]++;
    }
    starts[i0] = total;
    for (int64_t i = i0 + 1; i <= i1; i++) {
        const int64_t count = starts[i];
        starts[i] = total; /* where the column before i begins; below, it moves to where it ends */
        total += count;
    }
    for (int64_t r = 0; r < n; r++) {
        const sparse_row row = row_at(S, r);
        for (int64_t e = first_from(S, row, i0); e < row.end && (c = column_of(S, e)) < i1; e++)
            terms[starts[c + 1]++] = (term){(uint32_t)r, after_dropout(S, row, c, value_of(S, e))};
    }
}

/* g starts as what earlier parts of the batch have left for rows i0 to i1 of one panel. */
static void begin_rows(const update_task *u, const fnn_columns *columns, int64_t panel, int64_t i0,
                       int64_t i1, real *g) {
    const fnn_matrix *W = &u->layer->W;
    const real *sums = (real *)u->layer->gradient + (at(W, panel, i0) - (real *)W->data);
    const size_t row_size = (size_t)W->ld * sizeof(real);
    for (int64_t i = 0; i < i1 - i0; i++)
        if (columns->summed[i0 + i])
            memcpy(g + i * W->ld, sums + i * W->ld, row_size);
        else
            memset(g + i * W->ld, 0, row_size);
}

/* dW of rows i0 to i1 of W, all in one block, and the optimizer on them. */
static void update_rows(const update_task *u, const fnn_columns *columns, int64_t i0, int64_t i1) {
    const fnn_matrix *W = &u->layer->W, *delta = u->delta;
    ALIGNED real g[LARGEST_GROUP * SQUARE];
    int64_t panels;
    term_sums s = {.terms = columns->terms,
                   .starts = columns->starts + i0,
                   .n = i1 - i0,
                   .ldb = delta->ld,
                   .b_panel = panel_size(delta),
                   .from = zero_row,
                   .C = g,
                   .ldc = W->ld,
                   .c_panel = SQUARE,
                   .fetched = 1};
    if (!u->step->first) s.from = g, s.ld_from = W->ld, s.from_panel = SQUARE;
    for (int64_t p = 0; p < count_panels(W); p += panels) {
        panels = group_size(count_panels(W) - p);
        for (int64_t q = 0; q < panels && !u->step->first; q++)
            begin_rows(u, columns, p + q, i0, i1, g + q * SQUARE);
        s.next = weights_at(u, i1 - i0 == NR ? i1 : i0, p);
        s.next.own = 0; /* it may be another thread's */
        s.B = at(delta, p, 0);
        sum_terms(group_vectors(W, p, panels), &s);
        for (int64_t q = 0; q < panels; q++)
            end_rows(u, p + q, i0, i1 - i0, i1 - i0, g + q * SQUARE);
    }
    memset(columns->summed + i0, !u->step->last, (size_t)(i1 - i0));
}

static void update_bias(const update_task *u) {
    const fnn_matrix *W = &u->layer->W;
    const real *sums = u->layer->gradient;
    ALIGNED real g[NR];
    for (int64_t p = 0; p < count_panels(W); p++) {
        const int64_t offset = at(W, p, u->layer->n_in) - (real *)W->data;
        if (!u->step->first) copy_rows(g, sums + offset, 1, panel_vectors(W, p), W->ld);
        sum_bias(u, p, g);
        end_rows(u, p, u->layer->n_in, 0, 1, g);
    }
}

/* Whether the step also changes weights whose part of dW is zero, or leaves such gradients. */
static int is_for_all_rows(const fnn_step *step) {
    const int is_plain = step->rule == FNN_SGD || step->rule == FNN_ADAGRAD;
    return step->last &&
           (!step->update || !is_plain || step->l2 != 0 || step->l1 != 0 || step->decay != 0);
}

static ALWAYS_INLINE int is_touched(const fnn_columns *columns, int64_t i) {
    return columns->starts[i + 1] > columns->starts[i] || columns->summed[i];
}

/* The rows of a block: all of them, too, where many are touched, or else runs of touched ones. */
static void update_block_of_columns(const update_task *u, const fnn_columns *columns, int64_t i0,
                                    int64_t end, int all) {
    int64_t n_touched = 0;
    for (int64_t i = i0; i < end; i++) n_touched += is_touched(columns, i);
    all |= 6 * n_touched > end - i0;
    for (int64_t i1; i0 < end; i0 = i1) {
        const int touched = all || is_touched(columns, i0);
        for (i1 = i0 + 1; i1 < end && (all || is_touched(columns, i1)) == touched;) i1++;
        if (touched) update_rows(u, columns, i0, i1);
    }
}

static void update_sparse(fnn_layer *layer, const fnn_input *X, fnn_rows rows,
                          const fnn_dropout *input_dropout, const fnn_matrix *delta, int64_t n,
                          const fnn_columns *columns, int64_t block0, int64_t block1,
                          const fnn_step *step) {
    const update_task u = {layer, NULL, delta, n, step, NULL};
    const sparse_rows S = {X, rows, input_dropout};
    const int64_t end = smaller(block1 * NR, layer->n_in);
    const int all = is_for_all_rows(step);
    if (block0 == block1) return;
    sort_columns(&S, n, columns, block0 * NR, end);
    for (int64_t i0 = block0 * NR; i0 < end; i0 += NR)
        update_block_of_columns(&u, columns, i0, smaller(i0 + NR, end), all);
    if (end == layer->n_in) update_bias(&u);
}

#endif
