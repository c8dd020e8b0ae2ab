/* Which rows a batch takes, and bringing them into the cache ahead of time: shuffled rows are
 * rarely there. */
#ifndef FNN_FETCH_H
#define FNN_FETCH_H

#include "fastnn.h"

/* Which of the user's rows is row r of the batch. */
static inline int64_t row_index(fnn_rows rows, int64_t r) {
    return rows.order ? rows.order[rows.first + r] : rows.first + r;
}

static inline int64_t item_size(const fnn_input *X) {
    return X->type == FNN_INPUT_U8 ? 1 : X->type == FNN_INPUT_F32 ? 4 : 8;
}

/* `bytes` of the row that is row r of the batch. */
static inline void fetch_row(const fnn_input *X, fnn_rows rows, int64_t r, int64_t bytes) {
    const char *row = X->data + row_index(rows, r) * X->row_stride;
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + b);
}

/* The gather fetches rows this far ahead, and what it starts with has been fetched one step before:
 * as much as the first-level cache can take beside what that step works on. */
enum { FETCH_AHEAD = 4096, FETCH_BEFORE = 8192 };

/* Begins to fetch the first of rows r0:r1, n_in columns each, and their labels. */
static inline void fnn_fetch(const fnn_input *X, const fnn_targets *y, fnn_rows rows, int64_t n_in,
                             int64_t r0, int64_t r1) {
    const int64_t bytes = n_in * item_size(X);
    int64_t left = FETCH_BEFORE;
    for (int64_t r = r0; r < r1 && left > 0; r++, left -= bytes) {
        fetch_row(X, rows, r, bytes);
        if (y->labels) __builtin_prefetch(y->labels + row_index(rows, r));
    }
}

#endif
