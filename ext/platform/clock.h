/* Nanoseconds of a clock that never steps back and counts suspend, at about the price of one counter read.
 *
 * A system call's clock (22-29 ns through the vDSO) is a third of a decision. So the last reading is kept
 * as an anchor {counter, time}, and for PS_CLOCK_REACH after it the processor's own counter is added,
 * scaled. Past that, or when the counter looks odd (moved to another core, another machine, back in
 * time), the system's clock is read again: a counter that lies can mislead by at most PS_CLOCK_REACH.
 *
 * Promise: a reading is at most PS_CLOCK_LAG behind the system's clock and never ahead of it, and a thread's readings
 * never fall. For that
 *
 *   - the counter is read again after the system's clock, so that a thread held up between the two (an interrupt, its
 *     turn was over) only makes the anchor late, and one that is late by more than PS_CLOCK_LATE is not used;
 *   - the anchor begins PS_CLOCK_GRAIN after the counter that was read: what it showed may have begun so long before (Arm's
 *     counters move on every 42 ns or so, by one or by several), and that time is not to be counted twice;
 *   - the scale is rounded down by more than the system's clock may be slewed (500 parts in a million, adjtimex(2));
 *   - the system's clock is read between taking the sequence and publishing the anchor, and whoever must read it
 *     himself meanwhile says so in the sequence: the anchor, which may be older than his reading and runs slow, then
 *     serves nobody.
 *
 * Order. The anchor is a sequence lock that nobody waits on. Its sequence is 4n while the anchor n stands, 4n + 1 while
 * one thread, who made that exchange, writes the next, 4n + 3 once another has read the system's clock meanwhile.
 * Fields are stored with release and loaded with acquire, between the two reads of the sequence, so a torn anchor is
 * never used. A writer that died leaves readers slower, not wrong. */
#ifndef PENSTOCK_CLOCK_H
#define PENSTOCK_CLOCK_H

#include "atomics.h"
#include "wide.h"
#include <time.h>

#define PS_CLOCK_REACH UINT64_C(1000000)      /* ns an anchor serves */
#define PS_CLOCK_MARGIN 1024                  /* the scale is this fraction slow */
#define PS_CLOCK_LATE (PS_CLOCK_REACH >> 10)  /* ns between reading the system's clock and the counter, at most */
#if !defined(PS_CLOCK_GRAIN) /* a test has coarser counters than there are */
#define PS_CLOCK_GRAIN UINT64_C(64)           /* ns that a counter may stand still before it moves on, at most */
#endif
#define PS_CLOCK_SKEW 256                     /* the counter may be this fraction of the reach behind the anchor's */
#define PS_CLOCK_LAG (PS_CLOCK_REACH >> 7)    /* ns a reading may be late: these four, a slew and the scale's error */
#define PS_CLOCK_CALIBRATE UINT64_C(20000000) /* ns of baseline before a scale is believed */
#define PS_CLOCK_PRECISION 16384              /* counts of baseline for each count that its ends are uncertain by */
#define PS_CLOCK_SHIFT 32                     /* scale is ns per count, times 2^32 */

#if defined(_WIN32)
#include "win32.h"
/* Counts sleep, too. A count times a thousand million fits, once the whole seconds are taken out. */
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
#elif defined(__APPLE__)
#define PS_CLOCK_ID CLOCK_MONOTONIC_RAW /* counts sleep; CLOCK_MONOTONIC is the wall clock's whole microseconds there */
#else
#define PS_CLOCK_ID CLOCK_MONOTONIC
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
/* Not before what comes before it. */
static inline uint64_t ps_clock_counter_after(void) {
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
}
#elif defined(_M_X64)
#define PS_CLOCK_COUNTER 1
#include <intrin.h>
static inline uint64_t ps_clock_counter(void) { return __rdtsc(); }
static inline uint64_t ps_clock_counter_after(void) {
    _mm_lfence();
    return __rdtsc();
}
#elif defined(__aarch64__) && !defined(_MSC_VER)
#define PS_CLOCK_COUNTER 1
static inline uint64_t ps_clock_counter(void) {
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
}
static inline uint64_t ps_clock_counter_after(void) {
    uint64_t count;
    __asm__ volatile("isb\n mrs %0, cntvct_el0" : "=r"(count) : : "memory");
    return count;
}
#else
#define PS_CLOCK_COUNTER 0
#endif

typedef struct {
    ps_word sequence;           /* a multiple of 4: the fields belong together */
    ps_word counter;            /* the anchor */
    ps_word time_ns;
    ps_word scale;              /* 0: not calibrated, every reading asks the system */
    ps_word reach;              /* counts that the anchor serves */
    ps_word first_counter;      /* where the baseline of the calibration began; 0: nowhere */
    ps_word first_ns;
    ps_word first_gap;          /* counts it is uncertain by */
} ps_clock;

enum { PS_CLOCK_WRITING = 1, PS_CLOCK_SPOILED = 2, PS_CLOCK_NEXT = 4 }; /* in the sequence */

#if PS_CLOCK_COUNTER
/* Counts of PS_CLOCK_GRAIN. */
static inline uint64_t ps_clock_grain(uint64_t scale) { return scale ? (PS_CLOCK_GRAIN << PS_CLOCK_SHIFT) / scale + 1 : 0; }

/* Reads the system's clock and moves the anchor there, or keeps another from using the one it is moving. `sequence` is
 * as it was read; false when another thread has moved it since. */
static bool ps_clock_anchor(ps_clock *clock, uint64_t sequence, uint64_t *reading) {
    if (sequence & PS_CLOCK_WRITING) {
        uint64_t spoiled = sequence | PS_CLOCK_SPOILED;
        if (sequence != spoiled && !ps_exchange_if_equal(&clock->sequence, &sequence, spoiled))
            return false;
        *reading = ps_clock_system();
        return ps_load_acquire(&clock->sequence) == spoiled; /* no later anchor is older than this reading */
    }
    if (!ps_exchange_if_equal(&clock->sequence, &sequence, sequence + PS_CLOCK_WRITING))
        return false;
    uint64_t before = ps_clock_counter_after(), time_ns = ps_clock_system(), counter = ps_clock_counter_after();
    uint64_t gap = counter - before;
    uint64_t last_ns = ps_load_relaxed(&clock->time_ns);
    uint64_t first_counter = ps_load_relaxed(&clock->first_counter), first_ns = ps_load_relaxed(&clock->first_ns);
    uint64_t first_gap = ps_load_relaxed(&clock->first_gap), scale = ps_load_relaxed(&clock->scale);
    uint64_t last_counter = ps_load_relaxed(&clock->counter) - ps_clock_grain(scale);
    bool odd = counter < before || before < last_counter || time_ns < last_ns;
    /* An anchor that would have run ahead of the system's clock was scaled wrongly: begin anew. */
    if (scale && !odd && before - last_counter < UINT64_C(1) << 31)
        odd = ps_mul_shift(before - last_counter, scale, PS_CLOCK_SHIFT) > time_ns - last_ns + PS_CLOCK_GRAIN;
    bool again = odd || first_counter == 0; /* a baseline from here on */
    if (again) {
        scale = 0;
    } else if (time_ns - first_ns >= PS_CLOCK_CALIBRATE && counter - first_counter < UINT64_C(1) << 62) {
        if ((first_gap + gap) <= (counter - first_counter) / PS_CLOCK_PRECISION) {
            double ratio = (double)(time_ns - first_ns) / (double)(counter - first_counter) * (1.0 - 1.0 / PS_CLOCK_MARGIN);
            scale = ratio < 1000.0 ? (uint64_t)(ratio * 4294967296.0) : 0;
            again = time_ns - first_ns > 50 * PS_CLOCK_CALIBRATE; /* follow a clock that is slewed: anew each second */
        } else {
            again = scale == 0; /* one of its ends was held up */
        }
    }
    if (again) {
        first_counter = counter;
        first_ns = time_ns;
        first_gap = gap;
    }
    bool late = gap >= UINT64_C(1) << 31 || (gap * scale) >> PS_CLOCK_SHIFT > PS_CLOCK_LATE;
    ps_store_release(&clock->counter, counter + ps_clock_grain(scale));
    ps_store_release(&clock->time_ns, time_ns);
    ps_store_release(&clock->scale, scale);
    ps_store_release(&clock->reach, scale && !late ? (PS_CLOCK_REACH << PS_CLOCK_SHIFT) / scale : 0);
    ps_store_release(&clock->first_counter, first_counter);
    ps_store_release(&clock->first_ns, first_ns);
    ps_store_release(&clock->first_gap, first_gap);
    uint64_t writing = sequence + PS_CLOCK_WRITING;
    if (!ps_exchange_if_equal(&clock->sequence, &writing, sequence + PS_CLOCK_NEXT)) {
        ps_store_release(&clock->reach, 0); /* spoiled: others may have read a later time */
        ps_store_release(&clock->sequence, sequence + PS_CLOCK_NEXT);
    }
    *reading = time_ns;
    return true;
}
#endif

/* Ends: it starts over only when another thread has moved the sequence. */
static inline uint64_t ps_clock_now(ps_clock *clock) {
#if PS_CLOCK_COUNTER
    for (;;) {
        uint64_t sequence = ps_load_acquire(&clock->sequence);
        uint64_t anchor = ps_load_acquire(&clock->counter);
        uint64_t time_ns = ps_load_acquire(&clock->time_ns);
        uint64_t scale = ps_load_acquire(&clock->scale);
        uint64_t reach = ps_load_acquire(&clock->reach);
        uint64_t passed = ps_clock_counter() - anchor, reading;
        if (!(sequence & PS_CLOCK_WRITING) && ps_load_relaxed(&clock->sequence) == sequence) {
            if (passed < reach)
                return time_ns + ((passed * scale) >> PS_CLOCK_SHIFT);
            if (0 - passed < reach / PS_CLOCK_SKEW) /* a fresh anchor of another core's, or the counter was read ahead of it */
                return time_ns;
        }
        if (ps_clock_anchor(clock, sequence, &reading))
            return reading;
    }
#else
    (void)clock;
    return ps_clock_system();
#endif
}

#endif
