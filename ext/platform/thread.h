/* A small number for each living thread, so that threads can have cells of their own. */
#ifndef PENSTOCK_THREAD_H
#define PENSTOCK_THREAD_H

#include "atomics.h"

/* Numbers 1 .. PS_THREAD_MOST are held by one living thread each; the rest share PS_THREAD_MOST + 1. */
#define PS_THREAD_MOST 30

#if defined(_WIN32)
#include "win32.h"
#else
#include <pthread.h>
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define PS_THREAD_LOCAL __declspec(thread)
#else
#define PS_THREAD_LOCAL _Thread_local
#endif

static ps_word ps_threads_taken; /* bit n: number n is held */
static PS_THREAD_LOCAL uint64_t ps_thread_own; /* 0: not asked for yet */

/* Gives the number back when its thread ends. What the thread wrote is seen by the next holder: the exchange
 * that clears the bit releases, the one that sets it acquires. */
static inline void ps_thread_release(uint64_t number) {
    uint64_t taken = ps_load_relaxed(&ps_threads_taken);
    while (!ps_exchange_if_equal(&ps_threads_taken, &taken, taken & ~(UINT64_C(1) << number))) {
    }
}

#if defined(_WIN32)
static DWORD ps_thread_key = FLS_OUT_OF_INDEXES;
static void NTAPI ps_thread_ended(void *number) {
    ps_thread_own = PS_THREAD_MOST + 1;
    ps_thread_release((uint64_t)(uintptr_t)number);
}
static inline bool ps_thread_setup(void) {
    ps_thread_key = FlsAlloc(ps_thread_ended);
    return ps_thread_key != FLS_OUT_OF_INDEXES;
}
static inline bool ps_thread_at_exit(uint64_t number) { return FlsSetValue(ps_thread_key, (void *)(uintptr_t)number) != 0; }
#else
static pthread_key_t ps_thread_key;
static void ps_thread_ended(void *number) {
    ps_thread_own = PS_THREAD_MOST + 1;
    ps_thread_release((uint64_t)(uintptr_t)number);
}
static inline bool ps_thread_setup(void) { return pthread_key_create(&ps_thread_key, ps_thread_ended) == 0; }
static inline bool ps_thread_at_exit(uint64_t number) {
    return pthread_setspecific(ps_thread_key, (void *)(uintptr_t)number) == 0;
}
#endif

/* Takes a free number for this thread, or the shared one. Ends: a failed exchange saw a number taken or given. */
static uint64_t ps_thread_take(void) {
    uint64_t taken = ps_load_relaxed(&ps_threads_taken), number;
    do {
        for (number = 1; number <= PS_THREAD_MOST && (taken >> number & 1); number++) {
        }
        if (number > PS_THREAD_MOST)
            return ps_thread_own = number;
    } while (!ps_exchange_if_equal(&ps_threads_taken, &taken, taken | UINT64_C(1) << number));
    if (!ps_thread_at_exit(number)) {
        ps_thread_release(number);
        number = PS_THREAD_MOST + 1;
    }
    return ps_thread_own = number;
}

/* In a forked child only the calling thread lives on: the others' numbers are free again. */
static inline void ps_thread_after_fork(void) {
    bool own = ps_thread_own && ps_thread_own <= PS_THREAD_MOST;
    ps_store_relaxed(&ps_threads_taken, own ? UINT64_C(1) << ps_thread_own : 0);
}

/* This thread's number, 1 .. PS_THREAD_MOST + 1. ps_thread_setup must have been called once in the process. */
static inline uint64_t ps_thread_number(void) { return ps_thread_own ? ps_thread_own : ps_thread_take(); }

#endif
