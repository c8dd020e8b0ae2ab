/* One micro-kernel, C[m, nv * VL] (+)= sum_k A[., k] B[k, .], and the product built on it.
 *
 * Every element of C is one chain of fused multiply-adds in the order of k, whatever the tile: that
 * is why all instruction sets, tile sizes and row splits give the same bits. */
#ifndef FNN_GEMM_H
#define FNN_GEMM_H

#include "input.h"

/* Registers: MR * NV accumulators, NV of B, one of A. MR must divide NR = NV * VL.
 *            AVX-512 8*3+3+1 = 28 of 32    AVX2 4*3+3+1 = 16 of 16    NEON 6*3+3+1 = 22 of 32
 * Of a narrower panel's rows MOST_ROWS would fit, or MOST_ROWS_APART where what lies between them is known when
 * this is compiled and takes no register: eight chains are what two units with a latency of four need, if nothing
 * else comes in their way, and four too few for AVX2's. UNROLLED k are one turn of the loop: what counts and branches
 * takes AVX-512's multiply-adds their units; with AVX2 a core shared with another hardware thread has no time for more
 * instructions. */
#if defined(FNN_AVX512)
enum { MR = 8, NV = 3, MOST_ROWS = 8, MOST_ROWS_APART = 16, UNROLLED = 2 };
#elif defined(FNN_AVX2)
enum { MR = 4, NV = 3, MOST_ROWS = 8, MOST_ROWS_APART = 8, UNROLLED = 4 };
#elif defined(FNN_NEON)
enum { MR = 6, NV = 3, MOST_ROWS = 6, MOST_ROWS_APART = 6, UNROLLED = 1 };
#else
enum { MR = 4, NV = 4, MOST_ROWS = 4, MOST_ROWS_APART = 4, UNROLLED = 1 };
#endif
enum {
    NR = NV * VL,
    KC = 9 * NR,
    LINE = 64 / sizeof(real)
}; /* KC: a block of B stays in the second-level cache, a tile's A in the first */

/* The broadcast operand: element (r, k) is data[(k / span) * jump + r * rs + (k % span) * cs]. */
typedef struct {
    const real *data;
    int64_t rs, cs, span, jump;
} broadcast_operand;

/* The streamed operand: row k at data + k * ld. Meanwhile what comes next is fetched: in products of rows to be read,
 * in those of columns to be written, and in these rows that a later step gathers, too. */
typedef struct {
    const real *data;
    int64_t ld;
    fetched next, coming;
} streamed_operand;

/* What becomes of the sums: C, or, where W, which lies as C does, is not NULL, W -= learning_rate sums. */
typedef struct {
    real *W;
    real learning_rate;
} descent;
#define STORED ((descent){NULL, 0})

/* FROM_BIAS: every row with the same, a column for each; FROM_BIAS_OF_ROWS: one for each row. */
enum start { FROM_ZERO, FROM_C, FROM_BIAS, FROM_BIAS_OF_ROWS };

static ALWAYS_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows of C at once, for panels of nv vectors; `apart` is what lies between rows of A, 0 where it is no constant. */
static ALWAYS_INLINE int rows_at_once(const int nv, const int apart) {
    return (int)smaller(MR * NV / nv, apart ? MOST_ROWS_APART : MOST_ROWS);
}

/* sum += a b, in the sum's own register: AVX2 has none to spare, and GCC would have some sums take a's place
 * and move them back. */
static ALWAYS_INLINE void accumulate(vec *sum, vec a, vec b) {
#if defined(FNN_AVX2) && defined(FNN_F64)
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
#elif defined(FNN_AVX2)
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
#else
    *sum = v_fma(a, b, *sum);
#endif
}

/* Beside a turn of `count` k, k being left with it: a line for each of what is needed next; of a later step's rows
 * one in every second turn, since lines from afar hold the buffers that A's and B's own come through. */
static ALWAYS_INLINE void fetch_next_lines(const int step, streamed_operand *B, const int count,
                                           int64_t k) {
    if (B->next.begin < B->next.end) {
#pragma GCC unroll 4
        for (int i = 0; i < count; i++)
            if (step == 1)
                __builtin_prefetch(B->next.begin + i * LINE, 0, 2);
            else
                __builtin_prefetch(B->next.begin + i * LINE, 1, 3);
        B->next.begin += count * LINE;
    }
    if (step != 1 && B->coming.begin < B->coming.end && k & UNROLLED) {
        __builtin_prefetch(B->coming.begin, 0, 2);
        B->coming.begin += LINE;
    }
}
/* Lines of coming rows beside K k. */
static ALWAYS_INLINE int64_t coming_lines(int64_t K) { return (K + UNROLLED) / (2 * UNROLLED); }

/* Where they are no constants, GCC would else keep what every k adds to these in more registers than there
 * are, instead of a constant in an address. */
static ALWAYS_INLINE void keep_offsets(const int m, const int apart, int64_t *offset) {
#pragma GCC unroll 8
    for (int r = 0; r < m && !apart; r++) __asm__("" : "+r"(offset[r]));
}

/* GCC would work out behind a loop, by multiplication, where it has left these: half of what AVX2 issues for every
 * span. AVX-512's loops would take three instructions more for it. */
static ALWAYS_INLINE void do_not_foresee(const real **a, const real **b, int64_t *k) {
#if defined(FNN_AVX2)
    __asm__("" : "+r"(*a), "+r"(*b), "+r"(*k));
#endif
}

/* One k: a[offset[r]] times a row of B. */
static ALWAYS_INLINE void add_term(const int m, const int nv, const real *a, const int64_t *offset,
                                   const real *B, vec acc[MOST_ROWS_APART][NV]) {
    vec b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) b[v] = v_load(B + v * VL);
#pragma GCC unroll 16
    for (int r = 0; r < m; r++) {
        const vec ar = v_set1(a[offset[r]]);
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) accumulate(&acc[r][v], ar, b[v]);
    }
}

static ALWAYS_INLINE void end_tile(const int m, const int nv, vec acc[MOST_ROWS_APART][NV], real *C,
                                   int64_t ldc, descent down) {
    const vec rate = v_set1(down.learning_rate);
    if (down.W) {
#pragma GCC unroll 16
        for (int r = 0; r < m; r++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) {
                real *w = down.W + r * ldc + v * VL;
                v_store(w, v_fnma(rate, acc[r][v], v_load(w)));
            }
    } else {
#pragma GCC unroll 16
        for (int r = 0; r < m; r++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) v_store(C + r * ldc + v * VL, acc[r][v]);
    }
}

/* m, nv, `apart`, as above, and step, which A.cs nearly always is, are constants where this is inlined. Every loop
 * over acc must be unrolled, or GCC keeps the accumulators in memory; the one over the last few k must not be,
 * for the same reason. */
static ALWAYS_INLINE void micro_kernel(const int m, const int nv, const int step, const int apart,
                                       broadcast_operand A, int64_t K, streamed_operand B, real *C,
                                       int64_t ldc, enum start start, const real *bias,
                                       descent down) {
    const int unrolls = UNROLLED > 1 && m >= rows_at_once(nv, 0) && A.cs == step;
    int64_t offset[MOST_ROWS_APART];
    vec acc[MOST_ROWS_APART][NV];
    if (apart) A.rs = apart;
    if (nv == NV) B.ld = ldc = NR;
#pragma GCC unroll 16
    for (int r = 0; r < m; r++) {
        offset[r] = r * A.rs;
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++)
            acc[r][v] = start == FROM_ZERO   ? v_set1(0)
                        : start == FROM_C    ? v_load(C + r * ldc + v * VL)
                        : start == FROM_BIAS ? v_load(bias + v * VL)
                                             : v_set1(bias[r]);
    }
    for (; K > 0; A.data += A.jump) {
        const real *a = A.data;
        int64_t k = smaller(K, A.span);
        K -= k;
        for (; unrolls && k >= UNROLLED; k -= UNROLLED) {
            fetch_next_lines(step, &B, UNROLLED, k);
#pragma GCC unroll 4
            for (int i = 0; i < UNROLLED; i++) {
                keep_offsets(m, apart, offset);
                add_term(m, nv, a + i * step, offset, B.data + i * B.ld, acc);
            }
            a += UNROLLED * step;
            B.data += UNROLLED * B.ld;
            do_not_foresee(&a, &B.data, &k);
        }
#pragma GCC unroll 1
        for (; k > 0; k--) {
            fetch_next_lines(step, &B, 1, 0);
            if (UNROLLED > 1) keep_offsets(m, apart, offset);
            add_term(m, nv, a, offset, B.data, acc);
            a += A.cs;
            B.data += B.ld;
            do_not_foresee(&a, &B.data, &k);
        }
    }
    end_tile(m, nv, acc, C, ldc, step == 1 ? STORED : down);
}

/* What is left of a product: rows of A by one panel of B. */
typedef struct {
    broadcast_operand A;
    int64_t K;
    streamed_operand B;
    real *C;
    int64_t ldc;
    enum start start;
    const real *bias;
    descent down;
    coming_rows *coming; /* to be fetched, one after the other; NULL: none */
} panel_product;

/* Rows of C, m at a time, as often as there are so many; returns how many are left. */
static ALWAYS_INLINE int64_t whole_tiles(const int m, const int nv, const int step, const int apart,
                                         int64_t rows, panel_product *t) {
    for (; rows >= m; rows -= m) {
        micro_kernel(m, nv, step, apart, t->A, t->K, t->B, t->C, t->ldc, t->start, t->bias,
                     t->down);
        t->A.data += m * (apart ? apart : t->A.rs);
        t->C += m * t->ldc;
        if (t->down.W) t->down.W += m * t->ldc;
        t->B.next.begin += t->K * LINE;
        if (t->coming) t->B.coming = pass_on(t->coming, coming_lines(t->K) * LINE);
    }
    return rows;
}

/* m rows; no instance where `most` are never left. */
static ALWAYS_INLINE void last_rows(const int m, const int most, const int nv, const int step,
                                    const int apart, const panel_product *t) {
    if (m < most)
        micro_kernel(m, nv, step, apart, t->A, t->K, t->B, t->C, t->ldc, t->start, t->bias,
                     t->down);
}

/* As many rows at a time as fit, where they lie as in a panel; fewer where they lie elsewhere. */
static ALWAYS_INLINE void tiles_of_width(const int nv, const int step, int64_t rows,
                                         panel_product *t) {
    const int in_panel = step == 1 ? NR : 1, known = step == 1 ? 0 : 1;
    const int most = rows_at_once(nv, in_panel), usual = rows_at_once(nv, 0);
    if (most > usual && t->A.rs == in_panel) rows = whole_tiles(most, nv, step, in_panel, rows, t);
    rows = whole_tiles(usual, nv, step, known, rows, t);
    switch (rows) {
    case 1: last_rows(1, usual, nv, step, known, t); break;
    case 2: last_rows(2, usual, nv, step, known, t); break;
    case 3: last_rows(3, usual, nv, step, known, t); break;
    case 4: last_rows(4, usual, nv, step, known, t); break;
    case 5: last_rows(5, usual, nv, step, known, t); break;
    case 6: last_rows(6, usual, nv, step, known, t); break;
    case 7: last_rows(7, usual, nv, step, known, t); break;
    }
}

static ALWAYS_INLINE void tiles(int nv, const int step, int64_t rows, panel_product *t) {
    switch (nv) {
    case 1: tiles_of_width(1, step, rows, t); break;
    case 2: tiles_of_width(2, step, rows, t); break;
    case 3: tiles_of_width(3, step, rows, t); break;
#if !defined(FNN_AVX512) && !defined(FNN_AVX2) && !defined(FNN_NEON)
    case 4: tiles_of_width(4, step, rows, t); break;
#endif
    }
}

/* For forward and dh: A is read along its rows. */
static __attribute__((noinline)) void tiles_of_rows(int nv, int64_t rows, broadcast_operand A,
                                                    int64_t K, streamed_operand B, real *C,
                                                    int64_t ldc, enum start start,
                                                    const real *bias) {
    A.cs = 1;
    tiles(nv, 1, rows, &(panel_product){A, K, B, C, ldc, start, bias, STORED, NULL});
}

/* For dW: A is one panel, read down its columns, of which there are `rows`. FROM_BIAS_OF_ROWS is for at
 * most MR of them. */
static __attribute__((noinline)) void tiles_of_columns(int nv, int64_t rows, broadcast_operand A,
                                                       int64_t K, streamed_operand B, real *C,
                                                       int64_t ldc, enum start start,
                                                       const real *bias, descent down,
                                                       coming_rows *coming) {
    A.rs = 1;
    A.span = K;
    B.coming = coming ? pass_on(coming, 0) : NOTHING;
    tiles(nv, NR, rows, &(panel_product){A, K, B, C, ldc, start, bias, down, coming});
}

static ALWAYS_INLINE int64_t count_panels(const fnn_matrix *X) { return (X->cols + NR - 1) / NR; }
/* Vectors of panel p that hold columns. */
static ALWAYS_INLINE int panel_vectors(const fnn_matrix *X, int64_t p) {
    return (int)((smaller(X->cols - p * NR, NR) + VL - 1) / VL);
}
static ALWAYS_INLINE real *at(const fnn_matrix *X, int64_t p, int64_t r) {
    return (real *)X->data + (p * X->rows + r) * X->ld;
}

/* K in equal blocks of at most about KC, whole panels each. */
static ALWAYS_INLINE int64_t block_of(int64_t K) {
    const int64_t blocks = K > KC ? (K + KC - 1) / KC : 1;
    return ((K + blocks - 1) / blocks + NR - 1) / NR * NR;
}

/* What is done to rows r0:r1 of panel p as soon as they are summed, while they are in cache. */
typedef void finish_panel(const void *context, int64_t p, int64_t r0, int64_t r1);

/* A matrix from row r0 on, to be read along its rows. */
static ALWAYS_INLINE broadcast_operand rows_of(const fnn_matrix *A, int64_t r0) {
    return (broadcast_operand){at(A, 0, r0), A->ld, 1, NR, A->rows * A->ld};
}

/* C[r0:r1] = A B, summed over K rows of B; a bias, if any, is row K of B and starts the sums. Meanwhile panel after
 * panel of B is fetched, and during the last one `next`. */
static ALWAYS_INLINE void product(broadcast_operand A, const fnn_matrix *B, int64_t K, int has_bias,
                                  const fnn_matrix *C, int64_t r0, int64_t r1, fetched next,
                                  finish_panel *finish, const void *context) {
    const real *first = A.data;
    const int64_t block = block_of(K), last = count_panels(C) - 1, tiles = (r1 - r0 + MR - 1) / MR;
    int64_t k0 = 0;
    do {
        const int64_t rows = smaller(block, K - k0);
        enum start start = k0 ? FROM_C : has_bias ? FROM_BIAS : FROM_ZERO;
        for (int64_t p = 0; p <= last; p++) {
            streamed_operand b = {at(B, p, k0), B->ld, next, NOTHING};
            if (p < last) b.next = (fetched){at(B, p + 1, k0), at(B, p + 1, k0 + rows)};
            A.data = first + k0 / A.span * A.jump + k0 % A.span;
            tiles_of_rows(panel_vectors(C, p), r1 - r0, A, rows, b, at(C, p, r0), C->ld, start,
                          at(B, p, K));
            if (k0 + block >= K) finish(context, p, r0, r1);
        }
        next.begin += tiles * rows * LINE;
    } while ((k0 += block) < K);
}

#endif
