/* platform/clock.h against the system's own clock: under many threads, and with a thread held at the worst moments.
 *
 * Arguments: threads, milliseconds. */
#include <stdint.h>
#include <time.h>

/* Holds the calling thread inside the system's clock, as an interrupt or another thread's turn would. */
static _Thread_local uint64_t hold_before_reading, hold_after_reading; /* ns */
static _Thread_local void (*when_taken)(void); /* called once, when this thread has begun to move the anchor */

static uint64_t spin_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
static void spin(uint64_t ns) {
    for (uint64_t start = spin_ns(); spin_ns() - start < ns;) {
    }
}
static int held_clock_gettime(clockid_t id, struct timespec *now) {
    if (hold_before_reading)
        spin(hold_before_reading);
    hold_before_reading = 0;
    int result = clock_gettime(id, now);
    if (hold_after_reading)
        spin(hold_after_reading);
    hold_after_reading = 0;
    return result;
}

/* Other processors' counters are coarser: so many counts are one. */
static uint64_t coarse = 1, grain = 64;
#define PS_CLOCK_GRAIN grain
#if defined(__x86_64__)
static inline uint64_t coarse_counter(void) { return __builtin_ia32_rdtsc() / coarse; }
#define __builtin_ia32_rdtsc coarse_counter
#endif

#include "platform/atomics.h"
static inline bool told_exchange(ps_word *word, uint64_t *expected, uint64_t desired) {
    bool done = ps_exchange_if_equal(word, expected, desired);
    void (*tell)(void) = when_taken;
    if (done && tell && (desired & 1)) {
        when_taken = NULL;
        tell();
    }
    return done;
}
#define ps_exchange_if_equal told_exchange
#define clock_gettime held_clock_gettime
#include "platform/clock.h"
#undef clock_gettime
#undef ps_exchange_if_equal

#include "testing.h"

static ps_clock shared;
static uint64_t nested, until_ns;
static ps_word readings, most_behind, fast;

/* One reading between two of the system's: never ahead, and not too far behind. */
static uint64_t checked_reading(ps_clock *clock, const char *when) {
    uint64_t before = ps_clock_system(), reading = ps_clock_now(clock), after = ps_clock_system();
    CHECK(reading <= after, "%s: %llu ns ahead of the system's clock", when, (unsigned long long)(reading - after));
    CHECK(reading + PS_CLOCK_LAG >= before, "%s: %llu ns behind the system's clock, more than %llu", when,
          (unsigned long long)(before - reading), (unsigned long long)PS_CLOCK_LAG);
    if (before > reading)
        ps_raise(&most_behind, before - reading);
    return reading;
}

static void calibrate(ps_clock *clock) {
    memset(clock, 0, sizeof *clock);
    for (uint64_t start = spin_ns(); spin_ns() - start < 3 * PS_CLOCK_CALIBRATE;)
        ps_clock_now(clock);
}

/* Until the anchor serves no more. */
static void let_expire(void) { spin(2 * PS_CLOCK_REACH); }

static void read_many(ps_clock *clock, const char *when) {
    uint64_t last = 0;
    for (int i = 0; i < 2000; i++) {
        uint64_t reading = checked_reading(clock, when);
        CHECK(reading >= last, "%s: %llu ns back", when, (unsigned long long)(last - reading));
        last = reading;
    }
}

static void held_before_the_reading(void) {
    for (int i = 0; i < 10; i++) {
        calibrate(&shared);
        let_expire();
        hold_before_reading = PS_CLOCK_REACH / 10 * (uint64_t)i;
        ps_clock_now(&shared);
        read_many(&shared, "held between the counter and the system's clock");
    }
}

static void held_after_the_reading(void) {
    for (int i = 0; i < 10; i++) {
        calibrate(&shared);
        let_expire();
        hold_after_reading = PS_CLOCK_REACH / 10 * (uint64_t)i;
        ps_clock_now(&shared);
        read_many(&shared, "held between the system's clock and the anchor");
    }
}

static void held_while_calibrating(void) {
    for (int i = 1; i < 10; i++) {
        memset(&shared, 0, sizeof shared);
        hold_before_reading = i & 1 ? PS_CLOCK_REACH / 4 * (uint64_t)i : 0;
        hold_after_reading = i & 1 ? 0 : PS_CLOCK_REACH / 4 * (uint64_t)i;
        ps_clock_now(&shared);
        for (uint64_t start = spin_ns(); spin_ns() - start < PS_CLOCK_CALIBRATE + 2 * PS_CLOCK_REACH;)
            checked_reading(&shared, "held at the baseline's beginning");
        read_many(&shared, "held at the baseline's beginning");
    }
}

/* Another reads while the anchor is being moved by one who is held up: its later readings must not be earlier. */
static void read_meanwhile(void) {
    spin(PS_CLOCK_REACH / 2);
    nested = checked_reading(&shared, "while the anchor is being moved");
}

static void anchor_older_than_a_reading(void) {
    for (int i = 0; i < 10; i++) {
        calibrate(&shared);
        let_expire();
        hold_after_reading = PS_CLOCK_REACH / 2;
        when_taken = read_meanwhile;
        nested = 0;
        ps_clock_now(&shared);
        uint64_t next = checked_reading(&shared, "after an anchor that came late");
        CHECK(next >= nested, "%llu ns back, after an anchor older than a reading", (unsigned long long)(nested - next));
        when_taken = NULL;
    }
}

static void write_and_die(void) { nested = ps_load_relaxed(&shared.sequence); }

/* A thread that ended in the middle of a write leaves readers slower, not wrong. */
static void writer_that_died(void) {
    calibrate(&shared);
    let_expire();
    when_taken = write_and_die;
    ps_clock_now(&shared);
    when_taken = NULL;
    ps_store_relaxed(&shared.sequence, nested); /* odd again, and nobody is writing */
    read_many(&shared, "after a writer that died");
}

/* Nothing is counted twice where one count lasts as long as a reading, and readings within one count calibrate, too. */
static void counter_that_is_coarse(void) {
    grain = 1024; /* ns of so many counts at 1 GHz */
    for (coarse = 64; coarse <= 1024; coarse *= 4) {
#if defined(__x86_64__)
        memset(&shared, 0, sizeof shared);
        for (int tries = 0; tries < 50 && !ps_load_relaxed(&shared.scale); tries++) /* the machine may be busy */
            calibrate(&shared);
        CHECK(ps_load_relaxed(&shared.scale), "a counter of %llu counts in one is not used", (unsigned long long)coarse);
#endif
        for (int i = 0; i < 20; i++) {
            let_expire();
            read_many(&shared, "with a counter that is coarse");
        }
    }
    coarse = 1, grain = 64;
}

static void body(worker *w) {
    uint64_t last = 0, count = 0, served = 0;
    while ((last & 0xff) || spin_ns() < until_ns) {
        uint64_t anchor = ps_load_relaxed(&shared.sequence);
        uint64_t reading = checked_reading(&shared, "under many threads");
        CHECK(reading >= last, "under many threads: %llu ns back in thread %u", (unsigned long long)(last - reading), w->number);
        last = reading;
        count++;
        served += anchor == ps_load_relaxed(&shared.sequence);
        if ((count & 1023) == 0 && spin_ns() >= until_ns)
            break;
    }
    ps_add_relaxed(&readings, count);
    ps_add_relaxed(&fast, served);
}

int main(int argc, char **argv) {
    uint64_t threads = argument_number(argc, argv, 1, 8), ms = argument_number(argc, argv, 2, 1000);
    held_before_the_reading();
    held_after_the_reading();
    held_while_calibrating();
    anchor_older_than_a_reading();
    writer_that_died();
    counter_that_is_coarse();
    uint64_t held_behind = ps_load_relaxed(&most_behind);
    ps_store_relaxed(&most_behind, 0);
    memset(&shared, 0, sizeof shared);
    until_ns = spin_ns() + ms * 1000000;
    run_workers((unsigned)threads, 1, NULL, NULL, body);
    printf("%llu readings, %llu from the anchor; at most %llu ns behind, %llu with threads held\n",
           (unsigned long long)ps_load_relaxed(&readings), (unsigned long long)ps_load_relaxed(&fast),
           (unsigned long long)ps_load_relaxed(&most_behind), (unsigned long long)held_behind);
    return 0;
}
