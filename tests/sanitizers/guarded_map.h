/* Makes AddressSanitizer see the ends of ps_memory_map's memory, which is mapped and not allocated.
 *
 * Compiled in by `-include` (.ci/sanitize-python.sh): each mapping lies between two pages that are poisoned, and so is
 * what its own last page has too much. After munmap a read faults by itself. */
#ifndef PENSTOCK_GUARDED_MAP_H
#define PENSTOCK_GUARDED_MAP_H

#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

#define GUARD ((size_t)4096)

static inline size_t guarded_bytes(size_t bytes) { return (bytes + GUARD - 1) / GUARD * GUARD + 2 * GUARD; }

static inline void *guarded_mmap(void *at, size_t bytes, int access, int flags, int file, off_t offset) {
    if (flags & MAP_FIXED) /* in place of pages that lie between guards already */
        return mmap(at, bytes, access, flags, file, offset);
    bool anonymous = flags & MAP_ANONYMOUS;
    int room = anonymous ? flags : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *start = (char *)mmap(at, guarded_bytes(bytes), access, room, anonymous ? file : -1, anonymous ? offset : 0);
    if (start == MAP_FAILED)
        return MAP_FAILED;
    if (!anonymous && mmap(start + GUARD, bytes, access, flags | MAP_FIXED, file, offset) == MAP_FAILED) {
        munmap(start, guarded_bytes(bytes)); /* a segment's file begins behind the guard, not below it */
        return MAP_FAILED;
    }
    ASAN_POISON_MEMORY_REGION(start, GUARD);
    ASAN_POISON_MEMORY_REGION(start + GUARD + bytes, guarded_bytes(bytes) - GUARD - bytes);
    return start + GUARD;
}

static inline int guarded_munmap(void *memory, size_t bytes) {
    char *start = (char *)memory - GUARD;
    ASAN_UNPOISON_MEMORY_REGION(start, guarded_bytes(bytes)); /* whoever is given these pages next may use them */
    return munmap(start, guarded_bytes(bytes));
}

#define mmap(at, bytes, access, flags, file, offset) guarded_mmap(at, bytes, access, flags, file, offset)
#define munmap(memory, bytes) guarded_munmap(memory, bytes)

#endif
