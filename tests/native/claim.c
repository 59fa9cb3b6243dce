/* Many threads bring the same few new keys at the same instant to a table of a few lines, round after round: no key
 * may get two slots, and exactly the limit of each must be admitted, under each of the algorithms.
 *
 * Arguments: threads, rounds for each algorithm, seed. Built with PS_WINDOW_LINES=2. */
#include "testing.h"

#define KEYS 3
#define LIMIT 5

typedef struct {
    ps_limiter *limiter;
    const char *what;
    uint64_t rounds, now;
    ps_word admitted[KEYS];
} contest;

static uint64_t round_key(const contest *c, uint64_t round, unsigned k) {
    return key_number(c->limiter, (int64_t)(round * KEYS + k));
}

static void judge(contest *c, uint64_t round, ps_caller caller) {
    check_table(c->limiter);
    for (unsigned k = 0; k < KEYS; k++) {
        uint64_t admitted = ps_load_acquire(&c->admitted[k]), key = round_key(c, round, k);
        uint64_t counted = units_counted(c->limiter, 0, key, c->now);
        CHECK(admitted == LIMIT, "%s, round %llu: %llu of %d admitted", c->what, (unsigned long long)round, (unsigned long long)admitted, LIMIT);
        CHECK(counted == LIMIT, "%s, round %llu: %llu of %d counted", c->what, (unsigned long long)round, (unsigned long long)counted, LIMIT);
        ps_store_relaxed(&c->admitted[k], 0);
        if (c->limiter->limits[0].policies[0].algorithm == PS_CONCURRENCY)
            ps_change_all(c->limiter, key, 0, c->now, LIMIT, caller, PS_GIVE_BACK, false);
    }
    c->now += 3 * c->limiter->limits[0].policies[0].per_ns; /* all of this round has expired */
}

static void body(worker *w) {
    contest *c = (contest *)w->shared;
    for (uint64_t round = 0; round < c->rounds; round++) {
        uint64_t mine[KEYS] = {0};
        uint64_t first = draw_below(&w->random, KEYS);
        meet();
        for (unsigned i = 0; i < (LIMIT + 1) * KEYS; i++) {
            unsigned k = (unsigned)((i + first) % KEYS);
            mine[k] += ps_hit(c->limiter, round_key(c, round, k), 0, c->now, 1, w->caller, 0);
        }
        for (unsigned k = 0; k < KEYS; k++)
            ps_add_relaxed(&c->admitted[k], mine[k]);
        meet();
        if (w->number == 0)
            judge(c, round, w->caller);
    }
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 4);
    uint64_t rounds = argument_number(argc, argv, 2, 3000), seed = argument_number(argc, argv, 3, 1);
    const ps_policy policies[] = {make_bucket(LIMIT, 1000000, LIMIT), make_window(LIMIT, 1000000, 3), make_log(LIMIT, 1000000),
                                  make_fixed(LIMIT, 1000000, false, 12345), make_fixed(LIMIT, 1000000, true, 0), make_concurrency(LIMIT)};
    for (unsigned i = 0; i < sizeof policies / sizeof *policies; i++) {
        contest c = {.limiter = open_limiter(1, false, &policies[i], 1), .what = algorithm_names[policies[i].algorithm], .rounds = rounds, .now = 1000000};
        run_workers(threads, seed + i, c.limiter, &c, body);
        CHECK(counter_sum(c.limiter, offsetof(ps_cell, evicted)) == 0, "%s: a key that owed something had to go", c.what);
        CHECK(counter_sum(c.limiter, offsetof(ps_cell, admitted)) == rounds * KEYS * LIMIT, "%s: the counter of admissions is wrong", c.what);
        close_limiter(c.limiter);
    }
    report_meetings("claims");
    return 0;
}
