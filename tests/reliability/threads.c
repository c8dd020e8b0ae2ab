/* What test_surroundings.py asks the threads of OpenMP; they are those that fastnn's teams have. */
#include <omp.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
static uint64_t get(void) { return _mm_getcsr() & ~0x3fu; } /* but for the flags of what has been */
static void set(uint64_t word) { _mm_setcsr((unsigned)word); }
#elif defined(__aarch64__)
static uint64_t get(void) {
    uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
static void set(uint64_t word) { __asm__ volatile("msr fpcr, %0" : : "r"(word)); }
#endif

/* The floating-point control word of each of n threads that the calling one leads. */
void get_control_words(int n, uint64_t *words) {
#pragma omp parallel num_threads(n)
    words[omp_get_thread_num()] = get();
}

uint64_t get_control_word(void) { return get(); }
void set_control_word(uint64_t word) { set(word); }

void get_settings(int *settings) {
    omp_sched_t schedule;
    *settings++ = omp_get_max_threads();
    *settings++ = omp_get_num_procs();
    *settings++ = omp_get_dynamic();
    *settings++ = omp_get_max_active_levels();
    *settings++ = omp_get_thread_limit();
    *settings++ = omp_get_proc_bind();
    *settings++ = omp_get_default_device();
    omp_get_schedule(&schedule, settings++);
    *settings = (int)schedule;
}
