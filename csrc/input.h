/* How the user's X lies, and fetching rows of it before they are needed. */
#ifndef FNN_INPUT_H
#define FNN_INPUT_H

#include "simd.h"

/* Which of the user's rows is row r of the batch. */
static ALWAYS_INLINE int64_t row_index(fnn_rows rows, int64_t r) {
    return rows.order ? rows.order[rows.first + r] : rows.first + r;
}

static ALWAYS_INLINE int64_t item_size(const fnn_input *X) {
    return X->type == FNN_INPUT_U8 ? 1 : X->type == FNN_INPUT_F32 ? 4 : 8;
}
static ALWAYS_INLINE int is_adjacent(const fnn_input *X) {
    return X->column_stride == item_size(X);
}
/* Whether a row's elements can be loaded as they are. */
static ALWAYS_INLINE int has_rows_of_reals(const fnn_input *X) {
    const int own_type = sizeof(real) == sizeof(float) ? FNN_INPUT_F32 : FNN_INPUT_F64;
    return X->type == own_type && is_adjacent(X);
}

/* Whether numbers were, of which `bad` has sums of them times 0. */
static ALWAYS_INLINE int are_finite(vec bad) { return v_all(v_less(bad, v_set1(1))); }

/* The lines of cache that hold p[0:bytes]; a row of X may begin anywhere in one. `locality`, 2 or 3, as
 * __builtin_prefetch has it, which with clang takes no variable, constant or not. */
static ALWAYS_INLINE void fetch_lines(const char *p, int64_t bytes, const int locality) {
    const char *line = p - (uintptr_t)p % 64;
    for (; line < p + bytes; line += 64)
        if (locality == 3)
            __builtin_prefetch(line, 0, 3);
        else
            __builtin_prefetch(line, 0, 2);
}

/* Lines of cache from `begin` to `end` that are to be fetched: they may lie in another core's cache, or in none. */
typedef struct {
    const real *begin, *end;
} fetched;

static const real no_line[1];
#define NOTHING ((fetched){no_line, no_line})

/* Rows of a batch to come, and what is left to fetch of the one before rows.begin. */
typedef struct {
    fnn_coming rows;
    fetched row;
} coming_rows;

/* What is left when `count` more reals are fetched: of that row, or else the next one. Rows that do not lie in one
 * piece have nothing. */
static ALWAYS_INLINE fetched pass_on(coming_rows *coming, int64_t count) {
    fnn_coming *rows = &coming->rows;
    coming->row.begin += count;
    if (coming->row.begin >= coming->row.end) {
        if (rows->begin >= rows->end || !is_adjacent(rows->X)) return coming->row = NOTHING;
        const int64_t stride = rows->X->column_stride;
        const char *row =
            rows->X->data + row_index(rows->rows, rows->begin++) * rows->X->row_stride;
        const char *line = row - (uintptr_t)row % 64;
        const int64_t lines = (row - line + rows->n_in * stride + 63) / 64;
        coming->row.begin = (const real *)line;
        coming->row.end = coming->row.begin + lines * (64 / (int64_t)sizeof(real));
    }
    return coming->row;
}

/* All that is left. */
static void fetch_rest(coming_rows *coming) {
    for (fetched row = pass_on(coming, 0); row.begin < row.end;
         row = pass_on(coming, row.end - row.begin))
        fetch_lines((const char *)row.begin, (row.end - row.begin) * (int64_t)sizeof(real), 2);
}

#endif
