/* Waking threads of other processes: a word in memory that they share, which is rung and listened to. */
#ifndef PENSTOCK_BELL_H
#define PENSTOCK_BELL_H

#include "atomics.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A futex is 32 bits: the word's low half, which is the first on the machines that are supported. */
static inline uint32_t *ps_bell_half(ps_word *bell) { return (uint32_t *)(void *)bell; }

/* Rings: the word grows by one and everyone who listens wakes. Sequentially consistent, before the listeners are looked for. */
static inline void ps_bell_ring(ps_word *bell) {
    ps_add_seq(bell, 1);
    syscall(SYS_futex, ps_bell_half(bell), FUTEX_WAKE, 0x7fffffff, 0, 0, 0);
}

/* Sleeps while the word is `heard`, for at most so long. */
static inline void ps_bell_listen(ps_word *bell, uint64_t heard, uint64_t most_ns) {
    struct timespec most = {(time_t)(most_ns / UINT64_C(1000000000)), (long)(most_ns % UINT64_C(1000000000))};
    syscall(SYS_futex, ps_bell_half(bell), FUTEX_WAIT, (uint32_t)heard, &most, 0, 0);
}
#else
static inline void ps_bell_ring(ps_word *bell) { ps_add_seq(bell, 1); }
static inline void ps_bell_listen(ps_word *bell, uint64_t heard, uint64_t most_ns) { (void)bell, (void)heard, (void)most_ns; }
#endif

#endif
