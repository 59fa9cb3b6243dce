/* Orders of steps that once went wrong or might: each test holds one thread at the worst moment and runs the others.
 *
 * One argument: the name of a test, or nothing for all of them. Built with PENSTOCK_MODEL="schedule.h", and with
 * PS_WINDOW_LINES=2 so that with capacity 1 all keys share a window of four slots. */
#include "platform/clock.h"

static uint64_t clock_ns; /* what the system's clock shows; a call's own time is an argument */
#define ps_clock_now(clock) ((void)(clock), clock_ns)
#include "testing.h"

static ps_clock system_clock;
static ps_limiter *limiter;
static uint64_t key_a, key_b, now_of[FIBERS_MOST], cost_of[FIBERS_MOST];
static bool told[FIBERS_MOST];
static ps_decision decisions[FIBERS_MOST];

static ps_caller caller_of(unsigned number) { return (ps_caller){&limiter->cells[number + 1], number + 1, false}; }

static void begin(bool evict, const ps_policy *policies, unsigned count) {
    if (limiter)
        close_limiter(limiter);
    limiter = open_limiter(1, evict, policies, count);
    limiter->clock = &system_clock;
    clock_ns = 0;
    key_a = key_number(limiter, 1);
    key_b = key_number(limiter, 2);
    for (unsigned i = 0; i < FIBERS_MOST; i++)
        now_of[i] = 0, cost_of[i] = 1, told[i] = false, fibers[i].alive = false;
}

static bool hit(uint64_t key, uint64_t now, uint64_t cost) { return ps_hit(limiter, key, 0, now, cost, caller_of(10), 0); }
static void refund(uint64_t key, uint64_t now, uint64_t cost) {
    ps_change_all(limiter, key, 0, now, cost, caller_of(10), PS_GIVE_BACK, false);
}

static void hit_a(unsigned i) { told[i] = ps_hit(limiter, key_a, 0, now_of[i], cost_of[i], caller_of(i), 0); }
static void hit_b(unsigned i) { told[i] = ps_hit(limiter, key_b, 0, now_of[i], cost_of[i], caller_of(i), 0); }
static void check_a(unsigned i) { told[i] = ps_hit(limiter, key_a, 0, now_of[i], cost_of[i], caller_of(i), &decisions[i]); }
static void refund_a(unsigned i) {
    ps_change_all(limiter, key_a, 0, now_of[i], cost_of[i], caller_of(i), PS_GIVE_BACK, false);
}
static void reset_a(unsigned i) { ps_change_all(limiter, key_a, 0, now_of[i], 1, caller_of(i), PS_FORGET, false); }

/* Whether key_a has taken anything under the first limit, while others may be at work. */
static bool has_taken(uint64_t now) {
    const ps_limit *limit = &limiter->limits[0];
    uint64_t index = ps_table_find(&limit->table, key_a);
    return index != PS_NO_SLOT && !ps_is_tentative(limit->table.slots[index].state.value) && units_counted(limiter, 0, key_a, now);
}

/* Two new callers of one key choose two slots; while the later one's claim stands in the earlier place, the other,
 * already admitted, gives its unit back. It must not be lost: a unit of concurrency that is lost is lost for ever.
 * Who gives it back is held before each of its steps in turn, and the claim is withdrawn meanwhile. */
static void release_meets_a_claim(void) {
    ps_policy p = make_concurrency(1);
    bool held = true;
    for (uint64_t steps = 1; held; steps++) {
        begin(false, &p, 1);
        hit(key_b, 0, 1); /* in the first slot, so that fiber 0 chooses the second */
        fiber_begin(0, hit_a);
        hold_before(0, PAIR, 1);
        refund(key_b, 0, 1); /* the first slot is free now: fiber 1 chooses it */
        fiber_begin(1, hit_a);
        hold_before(1, PAIR, 1);
        finish(0);
        CHECK(told[0], "the first caller must be admitted");
        hold_before(1, ANY, 1); /* its claim is in place */
        fiber_begin(2, refund_a);
        held = hold_before(2, ANY, steps);
        finish(1);
        finish(2);
        CHECK(hit(key_a, 0, 1) == !told[1], "held before step %llu: the unit given back was lost", (unsigned long long)steps);
    }
}

static void reset_meets_a_claim(void) {
    ps_policy p = make_fixed(1, 1000, false, 0);
    begin(true, &p, 1);
    hit(key_b, 0, 1);
    now_of[0] = 0;
    fiber_begin(0, hit_a);
    hold_before(0, PAIR, 1);
    ps_change_all(limiter, key_b, 0, 0, 1, caller_of(10), PS_FORGET, false);
    fiber_begin(1, hit_a);
    hold_before(1, PAIR, 1);
    finish(0);
    hold_before(1, ANY, 1);
    fiber_begin(2, reset_a);
    finish(2);
    finish(1);
    CHECK(told[1], "a reset was lost: it came while another caller's claim stood before the key's slot");
}

/* The same moment, seen by who only looks. */
static void peek_meets_a_claim(void) {
    ps_policy p = make_fixed(1, 1000, false, 0);
    ps_decision decision;
    begin(true, &p, 1);
    hit(key_b, 0, 1);
    fiber_begin(0, hit_a);
    hold_before(0, PAIR, 1);
    refund(key_b, 0, 1);
    fiber_begin(1, hit_a);
    hold_before(1, PAIR, 1);
    finish(0);
    hold_before(1, ANY, 1);
    CHECK(!ps_peek(limiter, key_a, 0, 0, 1, &decision), "a key without a unit left was shown as never seen");
    finish(1);
}

/* Whoever is about to evict a key writes its word into the ring. If the key is hit meanwhile it stays, and the entry
 * that the ring lost must still count: nobody has seen a later time. */
static void eviction_in_vain(void) {
    ps_policy p = make_window(12, 1000, 2);
    begin(true, &p, 1);
    hit(key_a, 450, 8);  /* late in the first sub-window */
    hit(key_a, 1000, 1); /* in the third: all 9 count until 1500 */
    for (int64_t other = 10; other < 13; other++)
        CHECK(hit(key_number(limiter, other), 1000, 11), "the table has room for four");
    now_of[0] = 1000;
    fiber_begin(0, hit_b); /* a fifth key: key_a owes least */
    hold_before(0, PAIR, 1);
    CHECK(hit(key_a, 1000, 3), "12 fit");
    finish(0); /* now another key owes least */
    CHECK(told[0] && counter_sum(limiter, offsetof(ps_cell, evicted)) == 1, "one key must be evicted");
    CHECK(units_counted(limiter, 0, key_a, 1000) == 12, "it must be another than the first, which all count for");
    uint64_t again = 0;
    while (again < 20 && hit(key_a, 1001, 1))
        again++;
    CHECK(again == 0, "%llu units above the limit within 551 of 1000 ns, after an eviction that failed", (unsigned long long)again);
}

static void reset_in_vain(void) {
    ps_policy p = make_window(10, 1000, 2);
    begin(true, &p, 1);
    hit(key_a, 450, 8);
    hit(key_a, 1000, 1);
    now_of[0] = 1000;
    fiber_begin(0, reset_a); /* stopped for ever before its exchange */
    hold_before(0, PAIR, 1);
    CHECK(hit(key_a, 1000, 1), "the tenth unit fits");
    CHECK(!hit(key_a, 1001, 1), "a unit above the limit, after a reset that never happened");
}

/* A refund that lost its exchange to an advance: what it gives back is in the ring now. */
static void refund_meets_an_advance(void) {
    ps_policy p = make_window(10, 1000, 2);
    begin(true, &p, 1);
    hit(key_a, 400, 5);
    now_of[0] = 400, cost_of[0] = 5;
    fiber_begin(0, refund_a);
    hold_before(0, PAIR, 1);
    hit(key_a, 600, 1);
    finish(0);
    uint64_t counted = units_counted(limiter, 0, key_a, 600);
    CHECK(counted == 1, "%llu units count where 6 were taken and 5 given back", (unsigned long long)counted);
    CHECK(hit(key_a, 600, 9), "all but the one unit must fit");
}

/* ... and must be taken from there, not from what came later: else too much is admitted when the ring's part expires. */
static void refund_takes_the_oldest(void) {
    ps_policy p = make_window(10, 1000, 2);
    begin(true, &p, 1);
    hit(key_a, 400, 5);
    now_of[0] = 400, cost_of[0] = 5;
    fiber_begin(0, refund_a);
    hold_before(0, PAIR, 1);
    hit(key_a, 600, 5);
    finish(0);
    CHECK(units_counted(limiter, 0, key_a, 1600) == 5, "5 units of 600 must count at 1600, not %llu",
          (unsigned long long)units_counted(limiter, 0, key_a, 1600));
}

/* What is handed back by a caller whom a later limit refused was never admitted: it must not make room for others
 * where time has made it already. The caller is held between the two limits while time goes on. */
static uint64_t handed_back_late(ps_policy first, uint64_t now, uint64_t later) {
    ps_policy both[2] = {first, make_concurrency(1)};
    begin(true, both, 2);
    now_of[0] = now;
    fiber_begin(0, hit_a);
    /* It looks at both limits and takes from the first ... */
    while (!has_taken(now))
        CHECK(hold_before(0, ANY, 1), "it must be held before its end");
    ps_take(limiter, &limiter->limits[1], &limiter->limits[1].policies[0], key_a, later, 1, caller_of(10), 0, 0);
    hold_before(0, PAIR, 1); /* ... and is about to claim a slot of the second */
    clock_ns = later;
    uint64_t admitted = 0;
    const ps_limit *limit = &limiter->limits[0];
    while (ps_take(limiter, limit, &limit->policies[0], key_a, later, 1, caller_of(10), 0, 0) == PS_ADMITTED)
        admitted++;
    finish(0);
    CHECK(!told[0], "the second limit must refuse");
    while (ps_take(limiter, limit, &limit->policies[0], key_a, later, 1, caller_of(10), 0, 0) == PS_ADMITTED)
        admitted++;
    return admitted;
}

static void handed_back_bucket(void) {
    uint64_t admitted = handed_back_late(make_bucket(10, 1000, 10), 0, 1000);
    CHECK(admitted <= 10, "%llu units at one time from a bucket of 10", (unsigned long long)admitted);
}
static void handed_back_fixed(void) {
    uint64_t admitted = handed_back_late(make_fixed(10, 1000, false, 0), 999, 1000);
    CHECK(admitted <= 10, "%llu units in a window of 10", (unsigned long long)admitted);
}
static void handed_back_fixed_first(void) {
    uint64_t admitted = handed_back_late(make_fixed(10, 1000, true, 0), 999, 1999);
    CHECK(admitted <= 10, "%llu units in a window of 10", (unsigned long long)admitted);
}
static void handed_back_window(void) {
    uint64_t admitted = handed_back_late(make_window(10, 1000, 2), 0, 1500);
    CHECK(admitted <= 10, "%llu units at one time in a window of 10", (unsigned long long)admitted);
}
static void handed_back_log(void) {
    uint64_t admitted = handed_back_late(make_log(10, 1000), 0, 1000);
    CHECK(admitted <= 10, "%llu units at one time in a log of 10", (unsigned long long)admitted);
}

/* A decision's fields and what was taken must be of one reading: who is told no has taken nothing, and who is told yes
 * has. The caller is held before each of its steps in turn, while another makes the answer a different one. */
static void told_as_taken(ps_policy p, const char *what, void (*prepare)(void), uint64_t now, uint64_t cost, void (*other)(void)) {
    for (uint64_t steps = 1;; steps++) {
        begin(true, &p, 1);
        prepare();
        now_of[0] = now, cost_of[0] = cost;
        fiber_begin(0, check_a);
        if (!hold_before(0, ANY, steps))
            return;
        other();
        finish(0);
        CHECK(decisions[0].allowed == told[0], "%s, held before step %llu: told %s, but %s was taken", what,
              (unsigned long long)steps, decisions[0].allowed ? "yes" : "no", told[0] ? "it" : "nothing");
    }
}

static void window_full_in_ring(void) { hit(key_a, 0, 5), hit(key_a, 600, 5); }
static void window_refunded(void) { refund(key_a, 600, 5); }
static void told_as_taken_refund(void) {
    told_as_taken(make_window(10, 1000, 2), "a refund meanwhile", window_full_in_ring, 600, 1, window_refunded);
}
static void window_begun(void) { hit(key_a, 0, 5), hit(key_a, 1000, 5); }
static void window_advance_begins(void) { /* another caller, in the next sub-window, held before its exchange */
    now_of[1] = 1500;
    fiber_begin(1, hit_a);
    hold_before(1, PAIR, 1);
}
static void told_as_taken_advance(void) {
    told_as_taken(make_window(10, 1000, 2), "an advance meanwhile", window_begun, 1499, 1, window_advance_begins);
}
static void first_hit_late_raiser(void) {
    hit(key_a, 0, 1); /* the first window, over at 1000 */
    now_of[1] = 1999;
    fiber_begin(1, hit_a); /* would open the second at 1999; held before it says so */
    hold_before(1, EXCHANGE, 1);
    hit(key_a, 1000, 1); /* opens it at 1000 */
}
static void first_hit_raises(void) { finish(1); }
static void told_as_taken_opening(void) {
    told_as_taken(make_fixed(1, 1000, true, 0), "a late opener meanwhile", first_hit_late_raiser, 2000, 1, first_hit_raises);
}
static void log_entry_filled_in(void) {
    now_of[1] = 100;
    fiber_begin(1, hit_a); /* admitted at 100, held before it writes so */
    while (!has_taken(100))
        hold_before(1, ANY, 1);
    hit(key_a, 50, 1); /* refused by the gap, fills it in: with its own clock, a little behind */
}
static void told_as_taken_log(void) {
    told_as_taken(make_log(1, 1000), "a late writer meanwhile", log_entry_filled_in, 1099, 1, first_hit_raises);
}

/* As Engine.replace does. */
static void replace_with(ps_policy next, uint64_t now) {
    uint64_t old = ps_load_acquire(&limiter->current[0]), number = 1 - old;
    next.tag = number;
    ps_convert_all(limiter, number, old, now); /* what decisions under way wrote after the replacement before this */
    limiter->limits[0].policies[number] = next;
    ps_store_release(&limiter->current[0], number);
    ps_convert_all(limiter, old, number, now);
}

/* Limits are replaced twice while a decision by the first ones is under way, held before each of its steps in turn: a
 * word that it writes late must not be read by the third's policy, whose ticks are others. */
static void replaced_while_held(bool known) {
    ps_policy first = make_bucket(10, 1000000, 10), second = make_bucket(7, 1000000, 20), third = make_bucket(3, 1000000, 5);
    bool held = true;
    for (uint64_t before = 1; held; before++) {
        bool held_again = true;
        for (uint64_t between = 0; held && held_again; between++) {
            begin(true, &first, 1);
            if (known)
                hit(key_a, 500000, 1);
            now_of[0] = 500000;
            fiber_begin(0, hit_a);
            held = hold_before(0, ANY, before);
            replace_with(second, 500000);
            if (between)
                held_again = hold_before(0, ANY, between);
            replace_with(third, 500000);
            finish(0);
            CHECK(told[0], "it fits under all three");
            uint64_t counted = units_counted(limiter, 0, key_a, 500000), expected = known ? 2 : 1;
            CHECK(counted == expected, "held before step %llu, and %llu later: %llu units were taken, %llu count", (unsigned long long)before,
                  (unsigned long long)between, (unsigned long long)expected, (unsigned long long)counted);
        }
    }
}
static void replaced_while_deciding(void) { replaced_while_held(true); }
static void replaced_while_claiming(void) { replaced_while_held(false); }

/* Two callers of two new keys, and one slot for both: each may take the other's claim, but not for ever. */
static void two_claims_one_slot(void) {
    ps_policy p = make_concurrency(1);
    begin(false, &p, 1);
    for (int64_t other = 10; other < 13; other++)
        hit(key_number(limiter, other), 0, 1);
    fiber_begin(0, hit_a);
    fiber_begin(1, hit_b);
    uint64_t turns = 0;
    while ((fibers[0].alive || fibers[1].alive) && ++turns < 10000)
        for (unsigned i = 0; i < 2; i++)
            hold_before(i, PAIR, 1); /* in step: the worst there is */
    CHECK(turns < 10000, "two callers took each other's claims for ever");
    CHECK(told[0] + told[1] == 1, "one slot was left for two keys");
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"release_meets_a_claim", release_meets_a_claim},
    {"reset_meets_a_claim", reset_meets_a_claim},
    {"peek_meets_a_claim", peek_meets_a_claim},
    {"eviction_in_vain", eviction_in_vain},
    {"reset_in_vain", reset_in_vain},
    {"refund_meets_an_advance", refund_meets_an_advance},
    {"refund_takes_the_oldest", refund_takes_the_oldest},
    {"handed_back_bucket", handed_back_bucket},
    {"handed_back_fixed", handed_back_fixed},
    {"handed_back_fixed_first", handed_back_fixed_first},
    {"handed_back_window", handed_back_window},
    {"handed_back_log", handed_back_log},
    {"told_as_taken_refund", told_as_taken_refund},
    {"told_as_taken_advance", told_as_taken_advance},
    {"told_as_taken_opening", told_as_taken_opening},
    {"told_as_taken_log", told_as_taken_log},
    {"replaced_while_deciding", replaced_while_deciding},
    {"replaced_while_claiming", replaced_while_claiming},
    {"two_claims_one_slot", two_claims_one_slot},
};

int main(int argc, char **argv) {
    unsigned found = 0;
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++)
        if (argc < 2 || strcmp(argv[1], tests[i].name) == 0) {
            tests[i].run();
            found++;
        } else if (strcmp(argv[1], "--list") == 0) {
            puts(tests[i].name);
            found++;
        }
    CHECK(found, "no test %s", argv[1]);
    return 0;
}
