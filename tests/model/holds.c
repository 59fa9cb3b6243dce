/* Models of a dead holder's units coming back (ext/segment/holds.h): somebody clears up after seat 0, whose process died at one of the
 * points where it can, while seats 1 and 2 take and give back.
 *
 * A dead process does nothing more, so that its end is an initial state: how much of the count is its own, how much of that it had
 * noted, and whether it was in transit. Seats 1 and 2 are other processes: limiters of their own over the same memory. One of them may
 * be stopped for ever by the explorer, as by SIGSTOP. At every step no more than the limit is held by the living; at every ending the
 * count is what they hold, if the clearing up said so, and never less. */
#include "explore.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned model_window_lines = 1, model_line_slots = 2;
#define PS_WINDOW_LINES model_window_lines
#define PS_LINE_SLOTS model_line_slots
/* How often an auditor tries again: what is seen in the third try was seen in the second. */
#define PS_HOLDS_TRIES 2
#define PS_TRANSIT_TRIES 2

#define PENSTOCK_CLOCK_H
#include "platform/atomics.h"
typedef struct {
    ps_word time;
} ps_clock;
static inline uint64_t ps_clock_system(void) { return 0; }
static inline uint64_t ps_clock_now(ps_clock *c) { return ps_load_seq(&c->time); }

#include "limiter.h"

#define KEY 10
#define SEATS 3
#define OTHER_DEAD 3
#define CALLS_EACH 4

/* LET_GO: if the thread holds something. LET_GO_FOR_ANOTHER: what seat 1 held from the beginning. CLEAR_UP_OTHER: after seat 3. */
typedef enum { NO_CALL, TAKE, LET_GO, LET_GO_FOR_ANOTHER, CLEAR_UP, CLEAR_UP_OTHER } verb;

typedef struct {
    const char *name;
    uint64_t limit;
    uint64_t counted, noted; /* of seat 0: units in the word, units in its entry */
    bool transit;
    uint64_t held;                            /* by seat 1, from the beginning */
    bool two_dead;                            /* seat 3 too, which has noted one unit and is counted with one */
    verb threads[SEATS][CALLS_EACH];          /* thread t has seat t; thread 0 is whoever clears up */
} scene;

static const scene scenes[] = {
    {.name = "recorded", .limit = 3, .counted = 2, .noted = 2, .threads = {{CLEAR_UP}, {TAKE, LET_GO}, {TAKE, LET_GO}}},
    {.name = "not-yet-noted", .limit = 2, .counted = 1, .transit = true, .threads = {{CLEAR_UP}, {TAKE, LET_GO}, {TAKE}}},
    {.name = "no-longer-noted", .limit = 3, .counted = 2, .noted = 1, .transit = true, .threads = {{CLEAR_UP}, {TAKE, LET_GO}, {TAKE}}},
    {.name = "nothing-held", .limit = 2, .transit = true, .threads = {{CLEAR_UP}, {TAKE, LET_GO}, {TAKE}}},
    {.name = "living-gives-back", .limit = 2, .counted = 1, .noted = 1, .held = 1, .threads = {{CLEAR_UP}, {LET_GO, TAKE}, {TAKE}}},
    {.name = "one-for-another", .limit = 3, .counted = 1, .noted = 1, .held = 1, .threads = {{CLEAR_UP}, {LET_GO}, {TAKE}}},
    {.name = "cleared-twice", .limit = 3, .counted = 2, .noted = 1, .transit = true, .held = 1, .threads = {{CLEAR_UP, CLEAR_UP}, {LET_GO, TAKE}}},
    {.name = "given-back-elsewhere", .limit = 3, .counted = 1, .noted = 1, .held = 1, .threads = {{CLEAR_UP}, {TAKE}, {LET_GO_FOR_ANOTHER}}},
    {.name = "two-dead", .limit = 4, .counted = 1, .noted = 1, .held = 1, .two_dead = true, .threads = {{CLEAR_UP}, {LET_GO}, {CLEAR_UP_OTHER}}},
    {.name = "two-clear-up", .limit = 3, .counted = 2, .noted = 1, .transit = true, .held = 1, .threads = {{CLEAR_UP}, {LET_GO}, {CLEAR_UP}}},
};

static const scene *the;
static ps_limiter limiters[SEATS];
static ps_commons *commons;
static uint64_t at; /* the key's slot */

static ps_pair *slot(void) { return &limiters[0].limits[0].table.slots[at]; }
static ps_word *tail(void) { return ps_tail(&limiters[0].limits[0], at); }
static const ps_policy *policy(void) { return &limiters[0].limits[0].policies[0]; }

static void body(unsigned thread) {
    ps_limiter *limiter = &limiters[thread];
    uint64_t held = thread == 1 ? the->held : 0;
    for (unsigned i = 0; i < CALLS_EACH && the->threads[thread][i]; i++) {
        uint64_t result = 0;
        model_call_begin(thread * CALLS_EACH + i);
        if (the->threads[thread][i] == TAKE) {
            result = ps_take(limiter, &limiter->limits[0], policy(), KEY, 0, 1, ps_caller_numbered(limiter, 0), 0, 0) == PS_ADMITTED;
            held += result;
        } else if (the->threads[thread][i] == LET_GO && held) {
            ps_let_go(limiter, &limiter->limits[0], policy(), KEY, 1);
            held--;
        } else if (the->threads[thread][i] == LET_GO_FOR_ANOTHER) {
            ps_let_go(limiter, &limiter->limits[0], policy(), KEY, 1);
        } else if (the->threads[thread][i] == CLEAR_UP || the->threads[thread][i] == CLEAR_UP_OTHER) {
            ps_seat_set dead = {{0}};
            ps_seat_put(&dead, the->threads[thread][i] == CLEAR_UP ? 0 : OTHER_DEAD);
            result = ps_clear_holds(limiter, &dead);
        }
        model_call_end(result);
    }
}

/* Units that the living surely hold, by the calls that are over and those that have begun to let go; and at most. */
static uint64_t living(uint64_t *most) {
    uint64_t sum = 0;
    bool lent = false;
    *most = 0;
    for (unsigned t = 0; t < SEATS; t++)
        for (unsigned i = 0; i < CALLS_EACH; i++)
            if (the->threads[t][i] == LET_GO_FOR_ANOTHER)
                lent = model_call_begun(t * CALLS_EACH + i); /* it may come off the dead seat's entry, and stay counted */
    for (unsigned t = 0; t < SEATS; t++) {
        int64_t held = t == 1 ? (int64_t)the->held - lent : 0, more = t == 1 && lent;
        for (unsigned i = 0; i < CALLS_EACH && the->threads[t][i]; i++) {
            uint64_t result = 0;
            bool done = model_call_done(t * CALLS_EACH + i, &result), begun = model_call_begun(t * CALLS_EACH + i);
            if (the->threads[t][i] == TAKE)
                held += done ? (int64_t)result : 0, more += begun && !done;
            else if (the->threads[t][i] == LET_GO && held)
                held -= begun, more += begun && !done;
        }
        sum += (uint64_t)held;
        *most += (uint64_t)(held + more);
    }
    return sum;
}

static void written(void) {
    uint64_t most, least = living(&most);
    if (least > the->limit)
        model_fail("%" PRIu64 " units are held, and the limit is %" PRIu64, least, the->limit);
}

static void ended(void) {
    uint64_t most, least = living(&most), held = ps_concurrency_held(policy(), ps_load_seq(&slot()->state));
    if (ps_is_tentative(ps_load_seq(&slot()->state)))
        held = 0;
    bool cleared = false, other = !the->two_dead;
    for (unsigned n = 0; n < SEATS * CALLS_EACH; n++) {
        uint64_t result = 0;
        verb v = the->threads[n / CALLS_EACH][n % CALLS_EACH];
        if ((v == CLEAR_UP || v == CLEAR_UP_OTHER) && model_call_done(n, &result) && result)
            cleared |= v == CLEAR_UP, other |= v == CLEAR_UP_OTHER;
    }
    if (!other) /* nobody has cleared up after seat 3 */
        most += the->two_dead;
    if (held < least)
        model_fail("the word counts %" PRIu64 " units, and %" PRIu64 " are held", held, least);
    if (cleared && held > most)
        model_fail("the word counts %" PRIu64 " units, and at most %" PRIu64 " are held", held, most);
    if (cleared && ps_held_by(tail(), 0))
        model_fail("the dead seat still holds %" PRIu64 " units", ps_held_by(tail(), 0));
    for (uint32_t seat = 1; seat <= OTHER_DEAD && !model_stopped(); seat++)
        held -= ps_held_by(tail(), seat);
    if (cleared && other && !model_stopped() && held)
        model_fail("the word counts %" PRIu64 " units more than the entries of the living", held);
}

static void set_up(void) {
    uint64_t words = PS_SEAT_WORDS;
    size_t bytes = ps_limiter_bytes(1, &words, 1, false, true);
    char *memory = (char *)aligned_alloc(PS_CACHE_LINE, ps_whole_lines(bytes));
    if (!memory)
        model_fail("no memory for a segment");
    memset(memory, 0, bytes);
    commons = (ps_commons *)(void *)memory;
    for (uint32_t seat = 0; seat < SEATS; seat++) {
        ps_limiter *limiter = &limiters[seat];
        ps_policy p = {.algorithm = PS_CONCURRENCY, .limit = the->limit, .count_bits = 32};
        limiter->commons = commons;
        limiter->seat = seat;
        limiter->fd = -1;
        limiter->tier_count = 1;
        ps_limiter_lay(limiter, memory + sizeof(ps_commons), 1, &words, 1, false);
        ps_install(limiter, 0, &p);
        uint32_t cell = ps_seat_cell(seat);
        limiter->callers[0] = (ps_caller){&limiter->cells[cell], cell, false};
        ps_store_seq(&commons->seats[seat].taken, 1);
        model_own(seat, &limiter->cells[cell], sizeof(ps_cell));
    }
    at = ps_table_window(&limiters[0].limits[0].table, KEY).home[0];
    for (uint64_t i = 0; i < the->held; i++)
        ps_take(&limiters[1], &limiters[1].limits[0], policy(), KEY, 0, 1, ps_caller_numbered(&limiters[1], 0), 0, 0);
    for (uint64_t i = 0; i < the->counted; i++)
        ps_take(&limiters[0], &limiters[0].limits[0], policy(), KEY, 0, 1, ps_caller_numbered(&limiters[0], 0), 0, 0);
    ps_held_less(tail(), 0, the->counted - the->noted);
    ps_store_seq(&commons->seats[0].transit, the->transit);
    if (the->two_dead) { /* seat 2 takes it, and it is written down for seat 3 */
        ps_take(&limiters[2], &limiters[2].limits[0], policy(), KEY, 0, 1, ps_caller_numbered(&limiters[2], 0), 0, 0);
        ps_held_add(tail(), OTHER_DEAD, ps_held_less(tail(), 2, 1));
        ps_store_seq(&commons->seats[OTHER_DEAD].taken, 1);
    }
    for (uint32_t seat = 0; seat < SEATS; seat++)
        model_share(&commons->seats[seat].transit, 1, 1, seat == 0 ? "transit of the dead" : seat == 1 ? "transit of 1" : "transit of 2");
    model_share(&slot()->key, 2, 2, "slot %u.%u");
    model_share(tail(), 2, 2, "entries %u[%u]");
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "list")) {
        for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
            printf("%s\n", scenes[i].name);
        return 0;
    }
    for (size_t i = 0; count == 4 && i < sizeof scenes / sizeof *scenes; i++)
        if (!strcmp(scenes[i].name, arguments[1]))
            the = &scenes[i];
    if (!the) {
        printf("usage: %s list | %s SCENE sc|c11 STOPS\n", arguments[0], arguments[0]);
        return 2;
    }
    set_up();
    unsigned threads = the->threads[2][0] ? 3 : 2;
    model m = {.threads = threads, .weak = !strcmp(arguments[2], "c11"), .stops = (unsigned)atoi(arguments[3]), .steps_most = 400,
               .wins_most = 6, .body = body, .written = written, .ended = ended};
    model_size size;
    clock_t start = clock();
    model_explore(&m, &size);
    printf("holds: states=%" PRIu64 " steps=%" PRIu64 " endings=%" PRIu64 " cut=%" PRIu64 " executions=%.3g longest=%u seconds=%.2f\n",
           size.states, size.steps, size.ends, size.cut, size.executions, size.depth, (double)(clock() - start) / CLOCKS_PER_SEC);
    return 0;
}
