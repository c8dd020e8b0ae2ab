/* CPU features -> table of kernels. To add an instruction set: its words in a simd_*.h that simd.h
 * includes, its registers in gemm.h, a line in CMakeLists.txt, and a row here. */
#include "fastnn.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

extern const fnn_kernels fnn_scalar_f32, fnn_scalar_f64;
#if defined(__x86_64__)
extern const fnn_kernels fnn_avx2_f32, fnn_avx2_f64, fnn_avx512_f32, fnn_avx512_f64;
#elif defined(__aarch64__)
extern const fnn_kernels fnn_neon_f32, fnn_neon_f64;
#endif

static int always(void) { return 1; }
#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

int fnn_wide_core;

#if defined(__x86_64__)
/* Bytes of the first-level data cache, as cpuid describes it: Intel in leaf 4, AMD in its own, both alike. */
static unsigned first_level_bytes(unsigned leaf) {
    unsigned a, b, c, d;
    for (unsigned i = 0; __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31); i++)
        if ((a & 31) == 1 && (a >> 5 & 7) == 1)
            return ((b >> 22) + 1) * ((b >> 12 & 1023) + 1) * ((b & 4095) + 1) * (c + 1);
    return 0;
}

__attribute__((constructor)) static void find_core(void) {
    const unsigned intel = first_level_bytes(4), amd = first_level_bytes(0x8000001D);
    fnn_wide_core = (intel ? intel : amd) >= 48 << 10;
}
#endif

/* Slowest first. */
static const struct {
    const char *name;
    int (*runs_here)(void);
    const fnn_kernels *f32, *f64;
} ISAS[] = {
    {"scalar", always, &fnn_scalar_f32, &fnn_scalar_f64},
#if defined(__x86_64__)
    {"avx2", has_avx2, &fnn_avx2_f32, &fnn_avx2_f64},
    {"avx512", has_avx512, &fnn_avx512_f32, &fnn_avx512_f64},
#elif defined(__aarch64__)
    {"neon", always, &fnn_neon_f32, &fnn_neon_f64},
#endif
};
enum { N_ISAS = sizeof ISAS / sizeof ISAS[0] };

const char *const *fnn_isas(void) {
    static const char *names[N_ISAS + 1];
    int found = 0;
    for (int i = 0; i < N_ISAS; i++)
        if (ISAS[i].runs_here()) names[found++] = ISAS[i].name;
    return names;
}

const fnn_kernels *fnn_kernels_for(const char *isa, int is_f64) {
    for (int i = 0; i < N_ISAS; i++)
        if (strcmp(ISAS[i].name, isa) == 0 && ISAS[i].runs_here())
            return is_f64 ? ISAS[i].f64 : ISAS[i].f32;
    return NULL;
}

int fnn_needs_a(int activation) {
    return activation == FNN_SOFTPLUS || activation == FNN_GELU || activation == FNN_SILU ||
           activation == FNN_MISH || activation == FNN_CUSTOM;
}
