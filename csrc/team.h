/* What threads working on one list of phases share: a barrier, and the treatment of denormals. */
#ifndef FNN_TEAM_H
#define FNN_TEAM_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void fnn_pause(void) { _mm_pause(); }
/* Denormals count as zero while kernels run: a decaying Adam mean would otherwise stay denormal, at
 * a hundred cycles an operation. The rest of the control word is the processor's default, rounding
 * to nearest and no traps, whatever the caller has: every thread gives the same bits. Returns the
 * control word to restore. */
static inline uint64_t fnn_denormals_off(void) {
    unsigned int before = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040); /* the default; flush to zero, denormals are zero */
    return before;
}
static inline void fnn_denormals_restore(uint64_t before) { _mm_setcsr((unsigned int)before); }
#elif defined(__aarch64__)
static inline void fnn_pause(void) { __asm__ volatile("yield"); }
static inline uint64_t fnn_denormals_off(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return before;
}
static inline void fnn_denormals_restore(uint64_t before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
static inline void fnn_pause(void) {}
static inline uint64_t fnn_denormals_off(void) { return 0; }
static inline void fnn_denormals_restore(uint64_t before) { (void)before; }
#endif

/* Something any thread of the team may report to all. */
typedef atomic_int fnn_flag;
static inline void fnn_flag_set(fnn_flag *flag, int value) {
    atomic_store_explicit(flag, value, memory_order_relaxed);
}
static inline int fnn_flag_get(fnn_flag *flag) {
    return atomic_load_explicit(flag, memory_order_relaxed);
}

/* Seconds that the calling thread has had a core. */
static inline double fnn_thread_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Spinning is bounded: where another process holds the core that the last thread needs, spinning on
 * would keep that thread away. */
enum { FNN_SPINS = 4000 };
static inline void fnn_relax(int spins) {
    if (spins < FNN_SPINS)
        fnn_pause();
    else
        sched_yield();
}

typedef struct {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint round;
} fnn_barrier;

static inline void fnn_barrier_init(fnn_barrier *barrier) {
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->round, 0);
}

/* Tells the others of the team, `size` threads, that this one has come. Returns the round, to await: what a
 * thread does in between is done while others are on their way. */
static inline unsigned int fnn_barrier_arrive(fnn_barrier *barrier, int size) {
    const unsigned int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (size > 1 &&
        atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == size - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->round, round + 1, memory_order_release);
    }
    return round;
}

/* Returns when all have arrived in that round. */
static inline void fnn_barrier_await(fnn_barrier *barrier, int size, unsigned int round) {
    if (size == 1) return;
    for (int spins = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round;
         spins++)
        fnn_relax(spins);
}

/* Returns when all have called it. */
static inline void fnn_barrier_wait(fnn_barrier *barrier, int size) {
    fnn_barrier_await(barrier, size, fnn_barrier_arrive(barrier, size));
}

/* A count of work taken, or of work done. */
typedef atomic_llong fnn_counter;
static inline int64_t fnn_counter_get(fnn_counter *counter) {
    return atomic_load_explicit(counter, memory_order_acquire);
}
/* Adds to it; returns what it was. */
static inline int64_t fnn_counter_add(fnn_counter *counter, int64_t amount) {
    return atomic_fetch_add_explicit(counter, amount, memory_order_acq_rel);
}
/* Sets it to `to` if it is `*from`; else *from is what it is. */
static inline int fnn_counter_move(fnn_counter *counter, int64_t *from, int64_t to) {
    long long expected = *from;
    const int moved = atomic_compare_exchange_strong(counter, &expected, to);
    *from = expected;
    return moved;
}
/* It may also stand for 63 pieces of work, a bit for each that is taken. Returns whether this one was free. */
enum { FNN_MOST_PIECES = 63 };
static inline int fnn_counter_mark(fnn_counter *counter, int64_t piece) {
    const long long bit = 1ll << piece;
    return !(fnn_counter_get(counter) & bit) &&
           !(atomic_fetch_or_explicit(counter, bit, memory_order_acq_rel) & bit);
}
static inline void fnn_counter_open(fnn_counter *counter) {
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}
static inline void fnn_counter_wait(fnn_counter *counter, int64_t least) {
    for (int spins = 0; fnn_counter_get(counter) < least; spins++) fnn_relax(spins);
}

/* Numbers from `begin` to `end`, first the work of one thread, then of any that has none left (work
 * stealing: Blumofe and Leiserson, 1999). On a line of cache of its own: mostly one thread writes it. */
typedef struct {
    _Alignas(64) fnn_counter next;
    int64_t begin, end, cost;
} fnn_queue;
static inline void fnn_queue_open(fnn_queue *queue) {
    atomic_store_explicit(&queue->next, queue->begin, memory_order_relaxed);
}
/* The next one, or `end`: none is left. Nothing but the number is handed over. */
static inline int64_t fnn_queue_take(fnn_queue *queue, int size) {
    int64_t next = atomic_load_explicit(&queue->next, memory_order_relaxed);
    if (next >= queue->end) return queue->end;
    if (size == 1)
        atomic_store_explicit(&queue->next, next + 1, memory_order_relaxed);
    else
        next = atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
    return next < queue->end ? next : queue->end;
}

/* total + scale losses[0] + ..., one after the other. Not inlined: in the loop over steps, whose calls
 * leave no vector register alone, every sum would go through memory. */
static __attribute__((noinline, unused)) double fnn_plus_losses(double total, const double *losses,
                                                                int64_t n, double scale) {
    for (int64_t r = 0; r < n; r++) total += losses[r] * scale;
    return total;
}

#endif
