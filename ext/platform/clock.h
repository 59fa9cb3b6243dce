/* Nanoseconds of a clock that never steps back and counts suspend, at about the price of one counter read.
 *
 * A system call's clock (22-29 ns through the vDSO) is a third of a decision. So the last reading is kept
 * as an anchor {counter, time}, and for PS_CLOCK_REACH after it the processor's own counter is added,
 * scaled. Past that, or when the counter looks odd (moved to another core, another machine, back in
 * time), the system's clock is read again: a counter that lies can mislead by at most PS_CLOCK_REACH.
 *
 * Promise: a reading is at most PS_CLOCK_LAG behind the system's clock and never ahead of it, because the
 * scale is rounded down by more than the system's clock may be slewed (500 parts in a million, adjtimex(2)).
 * Hence time does not run backwards when a new anchor is taken.
 *
 * Order. The anchor is a sequence lock that nobody waits on: an odd or changed sequence sends the reader to
 * the system's clock. Fields are stored with release and loaded with acquire, between the two reads of the
 * sequence, so a torn anchor is never used; one writer at a time takes the sequence from even to odd by
 * exchange, and whoever loses simply does not write. A writer that died leaves readers slower, not wrong. */
#ifndef PENSTOCK_CLOCK_H
#define PENSTOCK_CLOCK_H

#include "atomics.h"
#include "wide.h"
#include <time.h>

#define PS_CLOCK_REACH UINT64_C(1000000)      /* ns an anchor serves */
#define PS_CLOCK_LAG (PS_CLOCK_REACH >> 10)   /* ns a reading may be late: the scale's safety margin over one reach */
#define PS_CLOCK_CALIBRATE UINT64_C(20000000) /* ns of baseline before a scale is believed: 100 ns of jitter are 5e-6 of it */
#define PS_CLOCK_SHIFT 32                     /* scale is ns per count, times 2^32 */

#if defined(_WIN32)
#include <windows.h>
static inline uint64_t ps_clock_system(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&count);
    uint64_t c = (uint64_t)count.QuadPart, f = (uint64_t)frequency.QuadPart;
    return c / f * UINT64_C(1000000000) + c % f * UINT64_C(1000000000) / f;
}
#else
#if defined(__linux__)
#define PS_CLOCK_ID CLOCK_BOOTTIME /* CLOCK_MONOTONIC stands still while the machine sleeps */
#else
#define PS_CLOCK_ID CLOCK_MONOTONIC /* macOS counts sleep here */
#endif
static inline uint64_t ps_clock_system(void) {
    struct timespec now;
    clock_gettime(PS_CLOCK_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
#endif

#if defined(__x86_64__) && !defined(_MSC_VER)
#define PS_CLOCK_COUNTER 1
static inline uint64_t ps_clock_counter(void) { return __builtin_ia32_rdtsc(); }
#elif defined(_M_X64)
#define PS_CLOCK_COUNTER 1
#include <intrin.h>
static inline uint64_t ps_clock_counter(void) { return __rdtsc(); }
#elif defined(__aarch64__) && !defined(_MSC_VER)
#define PS_CLOCK_COUNTER 1
static inline uint64_t ps_clock_counter(void) {
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
}
#else
#define PS_CLOCK_COUNTER 0
#endif

typedef struct {
    ps_word sequence;           /* even: the fields belong together */
    ps_word counter;            /* the anchor */
    ps_word time_ns;
    ps_word scale;              /* 0: not calibrated, every reading asks the system */
    ps_word reach;              /* counts that the anchor serves */
    ps_word first_counter;      /* where the baseline of the calibration began; 0: nowhere */
    ps_word first_ns;
} ps_clock;

#if PS_CLOCK_COUNTER
/* Reads the system's clock and, if no one else is at it, moves the anchor there. */
static uint64_t ps_clock_anchor(ps_clock *clock) {
    uint64_t counter = ps_clock_counter();
    uint64_t time_ns = ps_clock_system();
    uint64_t sequence = ps_load_acquire(&clock->sequence);
    if ((sequence & 1) || !ps_exchange_if_equal(&clock->sequence, &sequence, sequence + 1))
        return time_ns;
    uint64_t last_counter = ps_load_relaxed(&clock->counter), last_ns = ps_load_relaxed(&clock->time_ns);
    uint64_t first_counter = ps_load_relaxed(&clock->first_counter), first_ns = ps_load_relaxed(&clock->first_ns);
    uint64_t scale = ps_load_relaxed(&clock->scale);
    bool odd = counter <= last_counter || time_ns < last_ns;
    /* An anchor that would have run ahead of the system's clock was scaled wrongly: begin anew. */
    if (scale && !odd && counter - last_counter < UINT64_C(1) << 31)
        odd = ps_mul_shift(counter - last_counter, scale, PS_CLOCK_SHIFT) > time_ns - last_ns;
    if (odd || first_counter == 0) {
        first_counter = counter;
        first_ns = time_ns;
        scale = 0;
    } else if (time_ns - first_ns >= PS_CLOCK_CALIBRATE && counter - first_counter < UINT64_C(1) << 62) {
        double ratio = (double)(time_ns - first_ns) / (double)(counter - first_counter) * (1.0 - 1.0 / 1024);
        scale = ratio < 1000.0 ? (uint64_t)(ratio * 4294967296.0) : 0;
        if (time_ns - first_ns > 50 * PS_CLOCK_CALIBRATE) { /* follow a clock that is slewed: a fresh baseline each second */
            first_counter = counter;
            first_ns = time_ns;
        }
    }
    ps_store_release(&clock->counter, counter);
    ps_store_release(&clock->time_ns, time_ns);
    ps_store_release(&clock->scale, scale);
    ps_store_release(&clock->reach, scale ? (PS_CLOCK_REACH << PS_CLOCK_SHIFT) / scale : 0);
    ps_store_release(&clock->first_counter, first_counter);
    ps_store_release(&clock->first_ns, first_ns);
    ps_store_release(&clock->sequence, sequence + 2);
    return time_ns;
}
#endif

static inline uint64_t ps_clock_now(ps_clock *clock) {
#if PS_CLOCK_COUNTER
    uint64_t sequence = ps_load_acquire(&clock->sequence);
    uint64_t anchor = ps_load_acquire(&clock->counter);
    uint64_t time_ns = ps_load_acquire(&clock->time_ns);
    uint64_t scale = ps_load_acquire(&clock->scale);
    uint64_t reach = ps_load_acquire(&clock->reach);
    uint64_t passed = ps_clock_counter() - anchor;
    if (passed < reach && !(sequence & 1) && ps_load_relaxed(&clock->sequence) == sequence)
        return time_ns + ((passed * scale) >> PS_CLOCK_SHIFT);
    return ps_clock_anchor(clock);
#else
    (void)clock;
    return ps_clock_system();
#endif
}

#endif
