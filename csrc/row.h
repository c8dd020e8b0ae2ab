/* One row through a layer. Nothing is read twice, so what counts is to keep the weights coming:
 * several panels at once, each a stream of its own, and as many sums as hide the latency. */
#ifndef FNN_ROW_H
#define FNN_ROW_H

#include "zeros.h"

enum { ROW_VECTORS = 12, ROW_PANELS = ROW_VECTORS / NV };

/* C[0 .. vectors * VL) = bias + sum_k A[k] W[k]; vector v is in panel v / NV of W and of C. The
 * bias is row K of W. */
static ALWAYS_INLINE void row_kernel(const int vectors, broadcast_operand A, int64_t K,
                                     const real *W, int64_t ldw, int64_t W_panel, real *C,
                                     int64_t C_panel) {
    vec acc[ROW_VECTORS];
#pragma GCC unroll 12
    for (int v = 0; v < vectors; v++) acc[v] = v_load(W + K * ldw + v / NV * W_panel + v % NV * VL);
    for (int64_t k0 = 0; k0 < K; k0 += NR) {
        for (int64_t k = 0; k < smaller(NR, K - k0); k++) {
            const vec a = v_set1(A.data[k]);
#pragma GCC unroll 12
            for (int v = 0; v < vectors; v++)
                acc[v] = v_fma(a, v_load(W + v / NV * W_panel + v % NV * VL), acc[v]);
            W += ldw;
        }
        A.data += A.jump;
    }
#pragma GCC unroll 12
    for (int v = 0; v < vectors; v++) v_store(C + v / NV * C_panel + v % NV * VL, acc[v]);
}

static void row_of_vectors(int vectors, broadcast_operand A, int64_t K, const real *W, int64_t ldw,
                           int64_t W_panel, real *C, int64_t C_panel) {
    switch (vectors) {
    case 1: row_kernel(1, A, K, W, ldw, W_panel, C, C_panel); break;
    case 2: row_kernel(2, A, K, W, ldw, W_panel, C, C_panel); break;
    case 3: row_kernel(3, A, K, W, ldw, W_panel, C, C_panel); break;
    case 4: row_kernel(4, A, K, W, ldw, W_panel, C, C_panel); break;
    case 5: row_kernel(5, A, K, W, ldw, W_panel, C, C_panel); break;
    case 6: row_kernel(6, A, K, W, ldw, W_panel, C, C_panel); break;
    case 7: row_kernel(7, A, K, W, ldw, W_panel, C, C_panel); break;
    case 8: row_kernel(8, A, K, W, ldw, W_panel, C, C_panel); break;
    case 9: row_kernel(9, A, K, W, ldw, W_panel, C, C_panel); break;
    case 10: row_kernel(10, A, K, W, ldw, W_panel, C, C_panel); break;
    case 11: row_kernel(11, A, K, W, ldw, W_panel, C, C_panel); break;
    case 12: row_kernel(12, A, K, W, ldw, W_panel, C, C_panel); break;
    }
}

/* Row 0 of panels p0 to p1 of C = A W + bias. */
static void row_product(const fnn_matrix *A, const fnn_matrix *W, const fnn_matrix *C, int64_t p0,
                        int64_t p1) {
    const broadcast_operand a = {A->data, A->ld, 1, NR, panel_size(A)};
    for (int64_t p = p0; p < p1; p += ROW_PANELS) {
        const int64_t last = smaller(p + ROW_PANELS, p1) - 1;
        const int vectors = (int)(last - p) * NV + panel_vectors(C, last);
        row_of_vectors(vectors, a, W->rows - 1, at(W, p, 0), W->ld, panel_size(W), at(C, p, 0),
                       panel_size(C));
    }
}

/* The same for an A with many zeros: the rows of W that they would multiply are not even read. */
static void row_product_of_nonzero(const fnn_matrix *A, const fnn_matrix *W, const fnn_matrix *C,
                                   int64_t p0, int64_t p1) {
    int64_t panels;
    for (int64_t p = p0; p < p1; p += panels) {
        panels = group_size(p1 - p);
        sum_panels(A, W, W->rows - 1, 1, C, p, panels, 0, 1, 0);
    }
}

#endif
