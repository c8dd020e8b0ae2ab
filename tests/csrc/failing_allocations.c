/* To be preloaded: lets one chosen allocation of the calling thread fail. glibc only.
 *
 * OpenMP's library and the dynamic linker end the process where they get no memory, and NumPy crashes where it gets none
 * for what it notes beside its arrays: theirs are granted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);

static _Thread_local struct {
    long seen, failing;
    int is_counting;
} counter __attribute__((tls_model("initial-exec")));

/* Count from now on, and let the n-th allocation fail; 0: none. */
void begin_counting(long n) { counter.seen = 0, counter.failing = n, counter.is_counting = 1; }
long end_counting(void) {
    counter.is_counting = 0;
    return counter.seen;
}

enum { NOTES = 16384 }; /* bytes that NumPy's notes do not exceed */

static int must_be_granted(const void *caller, size_t size) {
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname) return 0;
    if (strstr(info.dli_fname, "/numpy/")) return size < NOTES;
    return strstr(info.dli_fname, "libgomp") || strstr(info.dli_fname, "/ld-linux");
}

static int fails(const void *caller, size_t size) {
    if (!counter.is_counting) return 0;
    counter.is_counting = 0; /* dladdr may allocate */
    const int granted = must_be_granted(caller, size);
    counter.is_counting = 1;
    if (granted || ++counter.seen != counter.failing) return 0;
    errno = ENOMEM;
    return 1;
}

#define CALLER __builtin_return_address(0)
void *malloc(size_t size) { return fails(CALLER, size) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) {
    return fails(CALLER, n * size) ? NULL : __libc_calloc(n, size);
}
void *realloc(void *old, size_t size) {
    return fails(CALLER, size) ? NULL : __libc_realloc(old, size);
}
void *memalign(size_t alignment, size_t size) {
    return fails(CALLER, size) ? NULL : __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    return fails(CALLER, size) ? NULL : __libc_memalign(alignment, size);
}
int posix_memalign(void **out, size_t alignment, size_t size) {
    if (fails(CALLER, size)) return ENOMEM;
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}
