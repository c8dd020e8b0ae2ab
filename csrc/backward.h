/* dh = delta W transposed, for a layer that keeps no transposed copy of W: blocks of it are made as they
 * are needed. Each costs as much as 7 rows of the batch do in the product, and saves memory, a write and
 * a read of it in every step. The same chains of multiply-adds as with the copy. */
#ifndef FNN_BACKWARD_H
#define FNN_BACKWARD_H

#include "transpose.h"
#include "zeros.h"

/* At most at once, in the first-level cache or near it. */
#if defined(FNN_AVX2)
enum { TRANSPOSED_ROWS = 8 * NR };
#else
enum { TRANSPOSED_ROWS = 4 * NR };
#endif

/* What Wt has of outputs k to k + rows, by the inputs of block p, in rows of NR. */
static void transposed_rows(const fnn_layer *layer, int64_t k, int64_t rows, int64_t p, real *out) {
    const fnn_matrix *W = &layer->W;
    for (int64_t end = k + rows; k < end; k += NR, out += NR * NR)
        transpose(at(W, k / NR, p * NR), W->ld, smaller(NR, layer->n_in - p * NR),
                  smaller(NR, end - k), out, NR);
}

/* As `product`, with that for B: a block of A stays in the second-level cache. */
static ALWAYS_INLINE void transposed_product(const fnn_matrix *A, const fnn_layer *layer,
                                             const fnn_matrix *C, int64_t r0, int64_t r1,
                                             finish_panel *finish, const void *context) {
    ALIGNED real B[TRANSPOSED_ROWS * NR];
    const int64_t K = layer->n_out;
    broadcast_operand a = rows_of(A, r0);
    for (int64_t k = 0; k < K; k += TRANSPOSED_ROWS, a.data += TRANSPOSED_ROWS / NR * a.jump) {
        const int64_t rows = smaller(TRANSPOSED_ROWS, K - k);
        for (int64_t p = 0; p < count_panels(C); p++) {
            transposed_rows(layer, k, rows, p, B);
            tiles_of_rows(panel_vectors(C, p), r1 - r0, a, rows,
                          (streamed_operand){B, NR, NOTHING, NOTHING}, at(C, p, r0), C->ld,
                          k ? FROM_C : FROM_ZERO, NULL);
            if (k + rows == K) finish(context, p, r0, r1);
        }
    }
}

/* As `product_of_nonzero`. */
static ALWAYS_INLINE void transposed_product_of_nonzero(const fnn_matrix *A, const fnn_layer *layer,
                                                        const fnn_matrix *C, int64_t r0, int64_t r1,
                                                        finish_panel *finish, const void *context) {
    ALIGNED real B[LARGEST_GROUP * NR * NR];
    const fnn_matrix *W = &layer->W;
    /* A wide core's second-level cache still has what forward fetched. */
    const int look_ahead = looks_ahead(W, layer->shared && !is_wide());
    int64_t panels;
    for (int64_t p = 0; p < count_panels(C); p += panels) {
        panels = group_size(count_panels(C) - p);
        nonzero_terms t = {.rs = A->ld,
                           .cs = 1,
                           .B = B,
                           .ldb = NR,
                           .b_panel = NR * NR,
                           .from = zero_row,
                           .C = at(C, p, r0),
                           .ldc = C->ld,
                           .c_panel = panel_size(C),
                           .next = {.ld = W->ld,
                                    .panel = NR * W->ld,
                                    .rows = layer->n_in - p * NR,
                                    .apart = NR,
                                    .vectors = NV}};
        for (int64_t k = 0; k < count_panels(A); k++) {
            for (int64_t q = 0; q < panels; q++)
                transposed_rows(layer, k * NR, smaller(NR, layer->n_out - k * NR), p + q,
                                B + q * NR * NR);
            t.next.arrays[0] = look_ahead && k + 1 < count_panels(A) ? at(W, k + 1, p * NR) : NULL;
            add_block(&t, A, k, group_vectors(C, p, panels), r0, r1);
        }
        for (int64_t q = p; q < p + panels; q++) finish(context, q, r0, r1);
    }
}

#endif
