/* Gradient clipping: by value, of what a tile holds; and the sums of squares behind the norm. */
#ifndef FNN_CLIPPING_H
#define FNN_CLIPPING_H

#include "gemm.h"

/* g = what of g lies within -limit ... limit, on rows of vectors, `ld` apart. A NaN stays one. */
static void clip_values(double limit, real *g, int64_t rows, int64_t vectors, int64_t ld) {
    const vec highest = v_set1((real)limit), lowest = v_set1(-(real)limit);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL)
            v_store(g + i, v_min(highest, v_max(lowest, v_load(g + i))));
}

/* g = scale * from. */
static void scale_values(double scale, const real *from, real *g, int64_t rows, int64_t vectors,
                         int64_t ld) {
    const vec factor = v_set1((real)scale);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = r * ld; i < r * ld + vectors * VL; i += VL)
            v_store(g + i, v_mul(factor, v_load(from + i)));
}

/* In double, where the squares of floats are exact and none overflows. Each neuron's sum is a chain
 * over its inputs, then the bias: tiles, which differ with the instruction set, have no part in
 * it. */
static void squares(const fnn_layer *layer, int64_t panel, double *sums) {
    const fnn_matrix *W = &layer->W;
    const real *g = (const real *)layer->gradient + (at(W, panel, 0) - (real *)W->data);
    double totals[NR] = {0};
    const int64_t columns = panel_vectors(W, panel) * VL;
    for (int64_t i = 0; i <= layer->n_in; i++, g += W->ld)
        for (int64_t c = 0; c < columns; c++) totals[c] += (double)g[c] * (double)g[c];
    memcpy(sums, totals, (size_t)smaller(NR, W->cols - panel * NR) * sizeof *sums);
}

#endif
