/* Memory beside pages that must not be touched, the rest of its own pages a canary. */
#ifndef GUARDED_MEMORY_H
#define GUARDED_MEMORY_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, MOST_BUFFERS = 128, CANARY = 0xA5 };

static struct {
    char *map, *canary, *data;
    size_t mapped, canary_size;
} buffers[MOST_BUFFERS];
static int n_buffers, at_end;
static int64_t n_taken;
static char case_name[256];
static const char *kernel_name = "";

static void fail(const char *what) {
    fprintf(stderr, "%s: %s, buffers %s at the forbidden page, in %s\n", what, case_name,
            at_end ? "end" : "begin", kernel_name);
    _exit(1);
}

static void on_fault(int signal) {
    (void)signal;
    fail("access outside of a buffer");
}

/* `size` bytes, all zero. */
static void *take(size_t size) {
    const size_t pages = (size + PAGE - 1) / PAGE * PAGE + (size == 0 ? PAGE : 0);
    char *map =
        mmap(NULL, pages + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || n_buffers == MOST_BUFFERS) fail("no memory for a buffer");
    mprotect(map, PAGE, PROT_NONE);
    mprotect(map + PAGE + pages, PAGE, PROT_NONE);
    char *begin = map + PAGE, *data = at_end ? begin + pages - size : begin;
    char *canary = at_end ? begin : begin + size;
    memset(canary, CANARY, pages - size);
    buffers[n_buffers].map = map, buffers[n_buffers].mapped = pages + 2 * PAGE;
    buffers[n_buffers].canary = canary, buffers[n_buffers].canary_size = pages - size;
    buffers[n_buffers++].data = data;
    n_taken++;
    return data;
}

static void give_all_back(void) {
    for (int i = 0; i < n_buffers; i++) {
        for (size_t b = 0; b < buffers[i].canary_size; b++)
            if ((uint8_t)buffers[i].canary[b] != CANARY) fail("a canary was overwritten");
        munmap(buffers[i].map, buffers[i].mapped);
    }
    n_buffers = 0;
}

#endif
