/* Networks of narrow layers, whole: NR rows of X side by side, one in each lane. No lane is idle
 * then, however few neurons a layer has, and softmax takes a vector of rows at a time.
 *
 * hT is (width, NR) with one sample in each column; W is what is broadcast. */
#ifndef FNN_LANES_H
#define FNN_LANES_H

#include "losses.h"
#include "transpose.h"

/* hT = `n` rows from r0 on, the last one again where its last vector has more lanes. Returns 0 if
 * one holds a NaN or an infinity. */
static int gather_lanes(const fnn_input *X, fnn_rows rows, int64_t r0, int64_t n, int64_t n_in,
                        real *hT) {
    const int native = (X->type == FNN_INPUT_F32) == (sizeof(real) == sizeof(float)) &&
                       X->type != FNN_INPUT_U8 && X->column_stride == sizeof(real);
    const int64_t whole = native ? n_in / VL * VL : 0;
    /* x - x is 0, or NaN where x is a NaN or an infinity; two sums, since each waits for itself */
    vec bad[2] = {v_set1(0), v_set1(0)};
    for (int64_t r = 0; r < n; r += VL) {
        const char *row[VL];
        for (int i = 0; i < VL; i++)
            row[i] = X->data + row_index(rows, r0 + smaller(r + i, n - 1)) * X->row_stride;
        for (int64_t c = 0; c < whole; c += VL) {
            vec x[VL];
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) x[i] = v_load((const real *)row[i] + c);
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) bad[i % 2] = v_add(bad[i % 2], v_sub(x[i], x[i]));
            v_transpose(x);
#pragma GCC unroll 16
            for (int i = 0; i < VL; i++) v_store(hT + (c + i) * NR + r, x[i]);
        }
        for (int64_t c = whole; c < n_in; c++) {
            real *h = hT + c * NR + r;
            if (native)
                for (int i = 0; i < VL; i++) memcpy(h + i, (const real *)row[i] + c, sizeof(real));
            else
                for (int i = 0; i < VL; i++) h[i] = element_of(X, row[i] + c * X->column_stride);
        }
        for (int64_t c = whole; c < n_in; c++) {
            const vec x = v_load(hT + c * NR + r);
            bad[0] = v_add(bad[0], v_sub(x, x));
        }
    }
    real lanes[VL];
    v_store(lanes, v_add(bad[0], bad[1]));
    for (int i = 0; i < VL; i++)
        if (!(lanes[i] == 0)) return 0;
    return 1;
}

/* aT = W hT + b on `vectors` vectors of rows. */
static void product_of_lanes(const fnn_layer *layer, const real *hT, int vectors, real *aT) {
    const fnn_matrix *W = &layer->W;
    const streamed_operand h = {hT, NR, NOTHING, NOTHING};
    for (int64_t o = 0; o < layer->n_out; o += MR) {
        const int m = (int)smaller(MR, layer->n_out - o);
        const broadcast_operand A = {at(W, o / NR, 0) + o % NR, 1, W->ld, layer->n_in, 0};
        tiles_of_columns(vectors, m, A, layer->n_in, h, aT + o * NR, NR, FROM_BIAS_OF_ROWS,
                         at(W, o / NR, layer->n_in) + o % NR, STORED, NULL);
    }
}

/* softmax_row on one vector of rows: the same sums in the same order. */
static void softmax_lanes(real *fT, int64_t n_out) {
    vec sums[SUM_LANES], top = v_set1(-INFINITY);
    for (int64_t c = 0; c < n_out; c++) top = v_max(top, v_load(fT + c * NR));
    for (int i = 0; i < SUM_LANES; i++) sums[i] = v_set1(0);
    for (int64_t c = 0; c < n_out; c++) {
        const vec e = v_exp(v_sub(v_load(fT + c * NR), top));
        v_store(fT + c * NR, e);
        sums[c % SUM_LANES] = v_add(sums[c % SUM_LANES], e);
    }
    for (int width = SUM_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) sums[i] = v_add(sums[i], sums[i + width]);
    for (int64_t c = 0; c < n_out; c++) v_store(fT + c * NR, v_div(v_load(fT + c * NR), sums[0]));
}

static void output_lanes(int output, real *fT, int vectors, int64_t n_out) {
    switch (output) {
    case FNN_OUT_SOFTMAX:
        for (int v = 0; v < vectors; v++) softmax_lanes(fT + v * VL, n_out);
        break;
    case FNN_OUT_SIGMOID: apply(v_sigmoid, fT, fT, n_out, vectors, NR); break;
    case FNN_OUT_EXP: apply(v_exp, fT, fT, n_out, vectors, NR); break;
    }
}

/* f (n, n_out), row-major. */
static void scatter_lanes(const real *fT, int64_t n, int64_t n_out, real *f) {
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < n_out; c++) f[r * n_out + c] = fT[c * NR + r];
}

static int forward_lanes(const fnn_layer *layers, int n_layers, int output, const fnn_input *X,
                         fnn_rows rows, int64_t r0, int64_t r1, void *scratch, void *f) {
    const int64_t n_out = layers[n_layers - 1].n_out;
    for (int64_t r = r0; r < r1; r += NR) {
        const int64_t n = smaller(NR, r1 - r);
        const int vectors = (int)((n + VL - 1) / VL);
        real *hT = scratch, *aT = hT;
        if (!gather_lanes(X, rows, r, n, layers[0].n_in, hT)) return 0;
        for (int k = 0; k < n_layers; k++, hT = aT) {
            aT = hT + layers[k].n_in * NR;
            product_of_lanes(&layers[k], hT, vectors, aT);
            if (layers[k].activation.kind != FNN_IDENTITY)
                activation(layers[k].activation, aT, aT, layers[k].n_out, vectors, NR);
        }
        output_lanes(output, aT, vectors, n_out);
        scatter_lanes(aT, n, n_out, (real *)f + (r - r0) * n_out);
    }
    return 1;
}

#endif
