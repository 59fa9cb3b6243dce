/* Memory that is a file may vanish: a reader of pages that somebody has cut off gets SIGBUS. Here it gets zeros instead, and whoever
 * uses the memory is told.
 *
 * The handler lays fresh private pages over the whole mapping, so that the access that failed is done again and succeeds; `trouble` is
 * set to 1 and `fast` taken away before that. Faults elsewhere go to whoever handled SIGBUS before. Both calls in the handler are plain
 * system calls; the list it reads is written by exchanges, a field at a time, `bytes` last. */
#ifndef PENSTOCK_FAULT_H
#define PENSTOCK_FAULT_H

#include "atomics.h"
#include <stddef.h>

#if defined(__linux__)
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define PS_GUARDS_MOST 256

typedef struct {
    ps_word bytes; /* 0: unused; 1: being written; else it counts */
    ps_word start;
    ps_word trouble; /* the address of a ps_word to set to 1 */
    ps_word fast;   /* the address of an int to clear */
} ps_guard;

static ps_guard ps_guards[PS_GUARDS_MOST];
static struct sigaction ps_fault_before;
static ps_word ps_fault_passed; /* the fault that was last handed on */

static void ps_fault_handler(int number, siginfo_t *info, void *context) {
    uint64_t at = (uint64_t)(uintptr_t)info->si_addr;
    for (unsigned i = 0; i < PS_GUARDS_MOST; i++) {
        uint64_t bytes = ps_load_acquire(&ps_guards[i].bytes), start = ps_load_acquire(&ps_guards[i].start);
        if (bytes <= 1 || at < start || at - start >= bytes)
            continue;
        ps_store_seq((ps_word *)(uintptr_t)ps_load_acquire(&ps_guards[i].trouble), 1);
        *(volatile int *)(uintptr_t)ps_load_acquire(&ps_guards[i].fast) = 0;
        if (mmap((void *)(uintptr_t)start, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
            return;
    }
    /* Two extension modules each have a handler and may come to stand before each other: a fault that comes back is nobody's. */
    uint64_t frame = (uint64_t)(uintptr_t)info;
    if (ps_load_relaxed(&ps_fault_passed) == frame) {
        ps_store_relaxed(&ps_fault_passed, 0);
        signal(SIGBUS, SIG_DFL);
        return;
    }
    ps_store_relaxed(&ps_fault_passed, frame);
    if (ps_fault_before.sa_flags & SA_SIGINFO)
        ps_fault_before.sa_sigaction(number, info, context);
    else if (ps_fault_before.sa_handler != SIG_DFL && ps_fault_before.sa_handler != SIG_IGN)
        ps_fault_before.sa_handler(number);
    else
        signal(SIGBUS, SIG_DFL); /* and the access that failed, done again, ends the process as it would have */
}

/* Guards a mapping of a file from now on; false when there are PS_GUARDS_MOST already. */
static inline bool ps_guard_add(void *start, size_t bytes, ps_word *trouble, int *fast) {
    struct sigaction now, ours;
    memset(&ours, 0, sizeof(ours));
    ours.sa_sigaction = ps_fault_handler;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, 0, &now);
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != ps_fault_handler) {
        ps_fault_before = now;
        sigaction(SIGBUS, &ours, 0);
    }
    for (unsigned i = 0; i < PS_GUARDS_MOST; i++) {
        uint64_t unused = 0;
        if (!ps_exchange_if_equal(&ps_guards[i].bytes, &unused, 1))
            continue;
        ps_store_release(&ps_guards[i].start, (uint64_t)(uintptr_t)start);
        ps_store_release(&ps_guards[i].trouble, (uint64_t)(uintptr_t)trouble);
        ps_store_release(&ps_guards[i].fast, (uint64_t)(uintptr_t)fast);
        ps_store_seq(&ps_guards[i].bytes, bytes);
        return true;
    }
    return false;
}

/* To be called before the mapping goes. */
static inline void ps_guard_remove(const void *start) {
    for (unsigned i = 0; i < PS_GUARDS_MOST; i++)
        if (ps_load_acquire(&ps_guards[i].bytes) > 1 && ps_load_acquire(&ps_guards[i].start) == (uint64_t)(uintptr_t)start)
            ps_store_seq(&ps_guards[i].bytes, 0);
}
#else
static inline bool ps_guard_add(void *start, size_t bytes, ps_word *trouble, int *fast) {
    return (void)start, (void)bytes, (void)trouble, (void)fast, false;
}
static inline void ps_guard_remove(const void *start) { (void)start; }
#endif

#endif
