/* The memory that kernels work on. */
#ifndef FNN_ALLOC_H
#define FNN_ALLOC_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FNN_LINE = 64, FNN_HUGE_PAGE = 2 << 20 };

/* Zeroed, to be given to free; NULL if there is none. It begins with a cache line, and one may be
 * read beyond its end. Large blocks are asked for in huge pages: panels lie megabytes apart, and a
 * sparse X reads rows of W here and there, each in pages of its own. */
static inline void *fnn_take(size_t size) {
    const size_t alignment = size < 2 * FNN_HUGE_PAGE ? FNN_LINE : FNN_HUGE_PAGE;
    size += FNN_LINE;
    void *block = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (block == NULL) return NULL;
#ifdef MADV_HUGEPAGE
    if (alignment == FNN_HUGE_PAGE) madvise(block, size, MADV_HUGEPAGE);
#endif
    return memset(block, 0, size);
}

#endif
