/* Zeroed, page-aligned memory for tables; its pages cost nothing until they are touched. With -std=c11 instead of
 * gnu11, this header and clock.h need _DEFAULT_SOURCE. */
#ifndef PENSTOCK_MEMORY_H
#define PENSTOCK_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* 64 on every x86-64 and most Arm64 parts; a guess elsewhere, and only speed depends on it. */
#define PS_CACHE_LINE 64

/* Tables from here on ask for huge pages: with smaller ones a page would be mostly empty for long. */
#define PS_HUGE_FROM ((size_t)32 << 20)

#if defined(_WIN32)
#include "win32.h"
static inline void *ps_memory_map(size_t bytes) {
    return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
static inline void *ps_memory_map_file(int fd, size_t bytes, bool look_only) {
    (void)fd, (void)bytes, (void)look_only;
    return NULL; /* segments are for systems with open file description locks (segment/seats.h) */
}
static inline void ps_memory_unmap(void *start, size_t bytes) {
    (void)bytes;
    VirtualFree(start, 0, MEM_RELEASE);
}
#else
#include <sys/mman.h>
#if !defined(MAP_ANONYMOUS)
#define MAP_ANONYMOUS MAP_ANON
#endif
/* NULL when there is not that much. Private: after fork each side has its own copy (engine contract 3). */
static inline void *ps_memory_map(size_t bytes) {
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
#if defined(MADV_HUGEPAGE)
    if (bytes >= PS_HUGE_FROM) /* fewer misses of the address cache; a wish, so its refusal is no error */
        (void)madvise(start, bytes, MADV_HUGEPAGE);
#endif
    return start;
}
#if !defined(MAP_NORESERVE)
#define MAP_NORESERVE 0
#endif
/* A file's first `bytes`, as every process sees them that maps them so. To look only: what is written stays this process's own. */
static inline void *ps_memory_map_file(int fd, size_t bytes, bool look_only) {
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, look_only ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED, fd, 0);
    return start == MAP_FAILED ? NULL : start;
}
static inline void ps_memory_unmap(void *start, size_t bytes) { munmap(start, bytes); }
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#if defined(_M_ARM64)
#define ps_prefetch(address) __prefetch((const void *)(address))
#else
#define ps_prefetch(address) _mm_prefetch((const char *)(address), _MM_HINT_T0)
#endif
#else
#define ps_prefetch(address) __builtin_prefetch(address)
#endif

/* Code that a plain decision does not need is kept apart from the code that it always does. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PS_APART static __declspec(noinline)
#define PS_HOT static __forceinline
#else
#define PS_APART static __attribute__((noinline, unused))
#define PS_HOT static inline __attribute__((always_inline))
#endif

#endif
