/* Products without their zeros: terms whose broadcast factor is exactly zero are left out, which
 * changes no sum. Behind a relu that is half of them, in images of digits four fifths.
 *
 * Where zeros lie differs from row to row, so a row is computed alone: its columns stay in
 * registers while the set bits of a word lead through the rows of B that it needs. Against the
 * micro-kernel that is one load for every multiply-add; how many zeros it takes, few_enough knows. */
#ifndef FNN_ZEROS_H
#define FNN_ZEROS_H

#include "bits.h"
#include "gemm.h"

/* Panels of C that a row keeps in registers; the last group has up to one more, never a lone one.
 *         AVX-512 6 to 12 accumulators of 32    AVX2 9 or 12 of 16    NEON 6 or 9 of 32
 * With AVX-512 it is three where the first-level cache holds what they need of B. */
#if defined(FNN_AVX512) || defined(FNN_AVX2)
enum { MOST_IN_GROUP = 3 };
#else
enum { MOST_IN_GROUP = 2 };
#endif
enum { LARGEST_GROUP = MOST_IN_GROUP + 1, LEAST_COLUMNS = 2 * VL };
enum { FETCHES_APART = 4, SAMPLED = 8, ROWS_LOOKED_AT = 16, KEPT_IN_CACHE = 1 << 20 };
/* Of so many vectors at most two rows of C go in pairs. (With AVX-512 twelve would fit into registers, too, for a few
 * kilobytes of code more.) */
#if defined(FNN_AVX512) || defined(FNN_NEON)
enum { MOST_PAIRED = 9 };
#else
enum { MOST_PAIRED = 0 };
#endif
/* Up to this share of what two columns have together, in either, they go in pairs. */
static const double ALIKE = 0.62;

static int usual_group(void) {
#if defined(FNN_AVX512)
    return is_wide() ? MOST_IN_GROUP : MOST_IN_GROUP - 1;
#else
    return MOST_IN_GROUP;
#endif
}
static ALWAYS_INLINE int64_t group_size(int64_t panels_left) {
    return panels_left <= usual_group() + 1 ? panels_left : usual_group();
}
/* Up to this share of elements other than zero it is faster to leave zeros out. A wide core does two multiply-adds a
 * cycle, or two loads: then what begins and ends a row of C weighs more, the more the fewer vectors it has. */
static ALWAYS_INLINE double few_enough(const fnn_matrix *C) {
#if defined(FNN_AVX2)
    return 0.6;
#else
    const int64_t vectors = smaller((C->cols + VL - 1) / VL, usual_group() * NV);
    return is_wide() ? 0.74 - 1.2 / (double)vectors : 0.75;
#endif
}
/* Vectors of panels p and following that hold columns. */
static ALWAYS_INLINE int group_vectors(const fnn_matrix *X, int64_t p, int64_t panels) {
    return (int)((panels - 1) * NV) + panel_vectors(X, p + panels - 1);
}
static ALWAYS_INLINE int64_t panel_size(const fnn_matrix *X) { return X->rows * X->ld; }
static ALWAYS_INLINE int64_t matrix_bytes(const fnn_matrix *X) {
    return count_panels(X) * panel_size(X) * (int64_t)sizeof(real);
}

/* Bits of rows r0:r1 of panel p. */
static ALWAYS_INLINE void find_nonzero(const fnn_matrix *X, int64_t p, int64_t r0, int64_t r1) {
    const int nv = panel_vectors(X, p);
    const uint64_t columns = ~(uint64_t)0 >> (WORD - smaller(X->cols - p * NR, NR));
    for (int64_t r = r0; r < r1; r++) {
        const real *x = at(X, p, r);
        uint64_t bits = 0;
        for (int v = 0; v < nv; v++) bits |= (uint64_t)v_nonzero(v_load(x + v * VL)) << (v * VL);
        X->nonzero[p * X->rows + r] = bits & columns;
    }
}

/* The share of elements that are not zero in panels p and following; of rows r0:r1 the first few,
 * which are as good as any. */
static double density(const fnn_matrix *X, int64_t p, int64_t panels, int64_t r0, int64_t r1) {
    const int64_t end = r0 + smaller(r1 - r0, ROWS_LOOKED_AT);
    const int64_t columns = smaller(X->cols - p * NR, panels * NR);
    int64_t count = 0;
    for (int64_t q = p; q < p + panels; q++)
        for (int64_t r = r0; r < end; r++)
            count += __builtin_popcountll(X->nonzero[q * X->rows + r]);
    return (double)count / (double)((end - r0) * columns);
}

/* What is needed next: rows of some arrays, of as many panels as are worked on, `panel` reals apart. Of
 * each panel it is up to `vectors` and `rows`, of the latter `apart` fewer in each further one: the rest
 * may be another thread's. */
typedef struct {
    const real *arrays[3]; /* those that are not NULL */
    int64_t ld, panel, rows, apart;
    int vectors;
    int own; /* arrays[0] is about to be written, and other cores may have it */
} next_rows;

/* A store to a line that another core has read waits until that core has dropped it. So one is made
 * early, of what is there, while sums keep this core busy. A prefetch to write would be enough, and half as
 * expensive, on an Emerald Rapids; on a Zen 4 it does nothing where this core has the line in its cache, too. */
static ALWAYS_INLINE void own_line(const real *x) {
    volatile real *first = (real *)x;
    if (is_wide())
        __builtin_prefetch(x, 1, 3);
    else
        *first = *first;
}

/* C[r] = from[r] + sum of A[r, k] B[k] over the bits k of bits[r]. A[r, k] is a[r * rs + k * cs];
 * panels of B, from and C lie b_panel, from_panel and c_panel apart. Meanwhile NR rows of `next` are
 * fetched. */
typedef struct {
    const uint64_t *bits;
    const real *a;
    int64_t rs, cs;
    const real *B;
    int64_t ldb, b_panel;
    const real *from;
    int64_t ld_from, from_panel;
    real *C;
    int64_t ldc, c_panel;
    int in_pairs; /* two rows at once, which then share what they load of B */
    next_rows next;
} nonzero_terms;

/* Rows k0:k1, of as many panels as nv vectors are. */
static ALWAYS_INLINE void fetch_next(const int nv, const next_rows *next, int64_t k0, int64_t k1) {
    for (int i = 0; i < 3 && next->arrays[i]; i++)
        for (int64_t k = k0; k < k1; k++)
#pragma GCC unroll 12
            for (int v = 0; v < nv; v++) {
                const int vector = v % NV;
                const real *x = next->arrays[i] + v / NV * next->panel + k * next->ld + vector * VL;
                if (vector * VL % LINE != 0 || vector >= next->vectors) continue;
                if (k + v / NV * next->apart >= next->rows) continue;
                if (i == 0 && next->own)
                    own_line(x);
                else
                    __builtin_prefetch(x, 0, 2);
            }
}

/* With AVX2 the loops below take as long as they have instructions, at least where a core is shared with another
 * hardware thread. GCC would clear a register in front of the count of zeros, and keep several indices, or move several
 * pointers on, where one does. */
static ALWAYS_INLINE int64_t lowest_bit(uint64_t bits) {
#if defined(FNN_AVX2)
    int64_t k;
    __asm__("tzcnt %1, %0" : "=r"(k) : "r"(bits) : "cc");
    return k;
#else
    return __builtin_ctzll(bits);
#endif
}
static ALWAYS_INLINE int64_t one_index(int64_t bytes) {
#if defined(FNN_AVX2)
    __asm__("" : "+r"(bytes));
#endif
    return bytes;
}
static ALWAYS_INLINE real *bytes_on(const real *x, int64_t bytes) {
    return (real *)((char *)x + bytes);
}

static ALWAYS_INLINE vec factor(const real *p, const int by_load) {
    return by_load ? v_set1(*p) : v_load1(p);
}

/* Rows r0:r1, m at once, for the bits that any of these has. m, nv and by_load are constants, and so is ld of
 * several panels. */
static ALWAYS_INLINE void sum_rows(const int m, const int nv, const int by_load,
                                   const nonzero_terms *t, int64_t r0, int64_t r1) {
    const int64_t ldb = nv > NV ? NR : t->ldb, ldc = nv > NV ? NR : t->ldc, cs = t->cs, rs = t->rs;
    const uint64_t *words = t->bits;
    const real *B[LARGEST_GROUP], *from[LARGEST_GROUP], *a = t->a + r0 * rs;
    real *C[LARGEST_GROUP];
    const int64_t size = sizeof(real), from_step = m * t->ld_from * size;
    int64_t from_row = r0 * t->ld_from * size, C_row = r0 * ldc * size;
#pragma GCC unroll 4
    for (int p = 0; p * NV < nv; p++) {
        B[p] = t->B + p * t->b_panel;
        from[p] = t->from + p * t->from_panel;
        C[p] = t->C + p * t->c_panel;
    }
    for (int64_t r = r0; r < r1; r += m) {
        vec acc[2][LARGEST_GROUP * NV];
#pragma GCC unroll 2
        for (int i = 0; i < m; i++)
#pragma GCC unroll 12
            for (int v = 0; v < nv; v++)
                acc[i][v] = v_load(bytes_on(from[v / NV], from_row) + i * t->ld_from + v % NV * VL);
        for (uint64_t bits = m == 2 ? words[r] | words[r + 1] : words[r]; bits != 0;
             bits &= bits - 1) {
            const int64_t k = lowest_bit(bits), row = one_index(k * ldb * size);
            const real *ak = cs == ldb ? bytes_on(a, row) : a + k * cs;
            const vec a0 = factor(ak, by_load), a1 = m == 2 ? factor(ak + rs, by_load) : a0;
#pragma GCC unroll 12
            for (int v = 0; v < nv; v++) {
                const real *b = bytes_on(B[v / NV], row) + v % NV * VL;
                const vec bv = m == 2 ? v_load_once(b) : v_load(b);
                acc[0][v] = v_fma(a0, bv, acc[0][v]);
                if (m == 2) acc[1][v] = v_fma(a1, bv, acc[1][v]);
            }
        }
#pragma GCC unroll 2
        for (int i = 0; i < m; i++)
#pragma GCC unroll 12
            for (int v = 0; v < nv; v++)
                v_store(bytes_on(C[v / NV], C_row) + i * ldc + v % NV * VL, acc[i][v]);
        a += m * rs;
        from_row = one_index(from_row + from_step);
        C_row = one_index(C_row + m * ldc * size);
    }
}

/* In pairs, but for the last row where their number is odd. */
static ALWAYS_INLINE void sum_in_pairs(const int nv, const int by_load, const nonzero_terms *t,
                                       int64_t r0, int64_t r1) {
    const int64_t paired = nv <= MOST_PAIRED && t->in_pairs ? (r1 - r0) / 2 * 2 : 0;
    if (paired) sum_rows(2, nv, by_load, t, r0, r0 + paired);
    sum_rows(1, nv, by_load, t, r0 + paired, r1);
}

/* To fetch between a few rows, not in front of each, leaves the loop over rows its registers. */
static ALWAYS_INLINE void sum_and_fetch(const int nv, const int by_load, const nonzero_terms *t,
                                        int64_t rows) {
    const int64_t at_once = t->next.arrays[0] ? FETCHES_APART : rows;
    const int64_t fetched = (NR + rows - 1) / rows; /* for each row, until all are */
    for (int64_t r = 0; r < rows; r += at_once) {
        fetch_next(nv, &t->next, r * fetched, smaller(NR, (r + at_once) * fetched));
        sum_in_pairs(nv, by_load, t, r, smaller(rows, r + at_once));
    }
}

static ALWAYS_INLINE void sum_terms_of_width(int nv, const int by_load, const nonzero_terms *t,
                                             int64_t rows) {
    switch (nv) {
    case 1: sum_and_fetch(1, by_load, t, rows); break;
    case 2: sum_and_fetch(2, by_load, t, rows); break;
    case 3: sum_and_fetch(3, by_load, t, rows); break;
    case 4: sum_and_fetch(4, by_load, t, rows); break;
    case 5: sum_and_fetch(5, by_load, t, rows); break;
    case 6: sum_and_fetch(6, by_load, t, rows); break;
    case 7: sum_and_fetch(7, by_load, t, rows); break;
    case 8: sum_and_fetch(8, by_load, t, rows); break;
    case 9: sum_and_fetch(9, by_load, t, rows); break;
#if !defined(FNN_NEON)
    case 10: sum_and_fetch(10, by_load, t, rows); break;
    case 11: sum_and_fetch(11, by_load, t, rows); break;
    case 12: sum_and_fetch(12, by_load, t, rows); break;
#endif
    }
}

/* A wide core's units for multiply-adds are also the one that takes a factor out of a general register. */
static __attribute__((noinline)) void sum_terms_on_wide_core(int nv, const nonzero_terms *t,
                                                             int64_t rows) {
    sum_terms_of_width(nv, 1, t, rows);
}
static __attribute__((noinline)) void sum_nonzero_terms(int nv, const nonzero_terms *t,
                                                        int64_t rows) {
    if (is_wide())
        sum_terms_on_wide_core(nv, t, rows);
    else
        sum_terms_of_width(nv, 0, t, rows);
}

static const real zero_row[NR] = {0};

/* Whether rows r0:r1 of A have zeros enough, and C columns enough for a row alone. */
static int has_many_zeros(const fnn_matrix *A, const fnn_matrix *C, int64_t r0, int64_t r1) {
    if (A->nonzero == NULL || C->cols < LEAST_COLUMNS) return 0;
    return density(A, 0, count_panels(A), r0, r1) < few_enough(C);
}

/* Whether a block of B is fetched while the one before is multiplied: where B may lie in another core's
 * cache, or is more than this core's second-level one keeps from step to step. Elsewhere that would cost
 * a tenth of the time. */
static ALWAYS_INLINE int looks_ahead(const fnn_matrix *B, int shared) {
    return shared || matrix_bytes(B) > KEPT_IN_CACHE;
}

/* Panel k of A, rows r0:r1, times the block t->B, added to what t->C has from then on. */
static ALWAYS_INLINE void add_block(nonzero_terms *t, const fnn_matrix *A, int64_t k, int nv,
                                    int64_t r0, int64_t r1) {
    t->bits = A->nonzero + k * A->rows + r0;
    t->a = at(A, k, r0);
    sum_nonzero_terms(nv, t, r1 - r0);
    t->from = t->C, t->ld_from = t->ldc, t->from_panel = t->c_panel;
}

/* C[r0:r1] of panels p and following, from the bias or zero on. */
static ALWAYS_INLINE void sum_panels(const fnn_matrix *A, const fnn_matrix *B, int64_t K,
                                     int has_bias, const fnn_matrix *C, int64_t p, int64_t panels,
                                     int64_t r0, int64_t r1, int look_ahead) {
    nonzero_terms t = {.rs = A->ld,
                       .cs = 1,
                       .ldb = B->ld,
                       .b_panel = panel_size(B),
                       .from = has_bias ? at(B, p, K) : zero_row,
                       .from_panel = has_bias ? panel_size(B) : 0,
                       .C = at(C, p, r0),
                       .ldc = C->ld,
                       .c_panel = panel_size(C),
                       .next = {.ld = B->ld, .panel = panel_size(B), .rows = NR, .vectors = NV}};
    for (int64_t k = 0; k < count_panels(A); k++) {
        t.B = at(B, p, k * NR);
        t.next.arrays[0] = look_ahead && k + 1 < count_panels(A) ? t.B + NR * B->ld : NULL;
        add_block(&t, A, k, group_vectors(C, p, panels), r0, r1);
    }
}

/* What `product` computes, for an A with many zeros. */
static ALWAYS_INLINE void product_of_nonzero(const fnn_matrix *A, const fnn_matrix *B, int shared,
                                             int64_t K, int has_bias, const fnn_matrix *C,
                                             int64_t r0, int64_t r1, finish_panel *finish,
                                             const void *context) {
    const int look_ahead = looks_ahead(B, shared);
    int64_t panels;
    for (int64_t p = 0; p < count_panels(C); p += panels) {
        panels = group_size(count_panels(C) - p);
        sum_panels(A, B, K, has_bias, C, p, panels, r0, r1, look_ahead);
        for (int64_t q = p; q < p + panels; q++) finish(context, q, r0, r1);
    }
}

/* Whether columns that lie side by side are so alike that to add a few zeros costs less than it
 * saves in loads: each feeds one multiply-add, in pairs two. In images it is so. A few columns tell. */
static int are_alike(const uint64_t *columns, int64_t count) {
    int64_t either = 0, together = 0;
    for (int64_t c = 0; c + 1 < count; c += SAMPLED) {
        either += __builtin_popcountll(columns[c] | columns[c + 1]);
        together += __builtin_popcountll(columns[c]) + __builtin_popcountll(columns[c + 1]);
    }
    return (double)either < ALIKE * (double)together;
}

/* C[i] = from[i] + sum over rows r < n of A[r, i] B[r], i the first `count` columns of A's panel
 * pa, B[r] its panels pb and following; `from` is C or NULL for zero. C's panels lie c_panel apart,
 * `weights` are needed next. */
static void sum_nonzero_columns(const fnn_matrix *A, int64_t pa, const fnn_matrix *B, int64_t pb,
                                int64_t panels, int64_t n, int64_t count, const real *from, real *C,
                                int64_t ldc, int64_t c_panel, const next_rows *weights) {
    uint64_t columns[WORD];
    nonzero_terms t = {.bits = columns,
                       .rs = 1,
                       .cs = A->ld,
                       .ldb = B->ld,
                       .b_panel = panel_size(B),
                       .from = from ? from : zero_row,
                       .ld_from = from ? ldc : 0,
                       .from_panel = from ? c_panel : 0,
                       .C = C,
                       .ldc = ldc,
                       .c_panel = c_panel};
    for (int64_t r = 0; r < n; r += WORD) {
        const int64_t rows = smaller(WORD, n - r);
        transpose_bits(A->nonzero + pa * A->rows + r, rows, columns);
        t.in_pairs = MOST_PAIRED > 0 && are_alike(columns, count);
        t.a = at(A, pa, r);
        t.B = at(B, pb, r);
        if (r + rows == n) t.next = *weights;
        sum_nonzero_terms(group_vectors(B, pb, panels), &t, count);
        t.from = C, t.ld_from = ldc, t.from_panel = c_panel;
    }
}

#endif
