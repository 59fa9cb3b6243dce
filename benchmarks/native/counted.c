/* Loaded before everything else (LD_PRELOAD) into a Python whose instructions callgrind counts, so that each run is like
 * the last: time moves on by one step at each reading, and what is drawn at random is the same each time. The system's
 * clocks stand far in the future, so that a thread which sleeps until some time sleeps on. */
#include "counted.h"
#include <stddef.h>
#include <sys/types.h>
#include <time.h>
#include <valgrind/callgrind.h>

uint64_t counted_ns = 1000000000;

int clock_gettime(clockid_t clock, struct timespec *now) {
    (void)clock;
    counted_ns += COUNTED_STEP;
    now->tv_sec = (time_t)(UINT64_C(2000000000) + counted_ns / 1000000000);
    now->tv_nsec = (long)(counted_ns % 1000000000);
    return 0;
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags) {
    static uint64_t drawn = 1;
    (void)flags;
    for (size_t place = 0; place < length; place++) {
        drawn = drawn * UINT64_C(6364136223846793005) + 1442695040888963407;
        ((unsigned char *)buffer)[place] = (unsigned char)(drawn >> 56);
    }
    return (ssize_t)length;
}

/* Ends a section: what was executed since the last mark is written to a file of its own, with this name. */
void counted_mark(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
