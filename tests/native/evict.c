/* Far more keys than slots, from many threads: every new key gets its turn, the counter of evictions says exactly how
 * many had to go, no key gets two slots, and a key that owes much stays while keys that owe little come and go.
 *
 * Arguments: threads, keys of each thread for each algorithm, seed. */
#include "testing.h"

#define CAPACITY 16
#define HEAVY INT64_C(-1)

typedef struct {
    ps_limiter *limiter;
    uint64_t keys, now;
} crowd;

static void body(worker *w) {
    crowd *c = (crowd *)w->shared;
    uint64_t spread = 4 * CAPACITY;
    for (uint64_t i = 0; i < c->keys; i++) {
        /* Half of them new to all, half that others bring too. */
        int64_t number = draw_below(&w->random, 2) ? (int64_t)(1000 + spread + i * WORKERS_MOST + w->number) : (int64_t)draw_below(&w->random, spread);
        uint64_t key = key_number(c->limiter, number);
        ps_decision decision;
        switch (draw_below(&w->random, 12)) {
        case 0: ps_change_all(c->limiter, key, 0, c->now, 1, w->caller, PS_GIVE_BACK, false); break;
        case 1: ps_change_all(c->limiter, key, 0, c->now, 1, w->caller, PS_FORGET, false); break;
        case 2: ps_peek(c->limiter, key, 0, c->now, 1, &decision); break;
        default: ps_hit(c->limiter, key, 0, c->now, 1, w->caller, draw_below(&w->random, 2) ? &decision : 0);
        }
    }
}

static void run(ps_policy p, bool evict, unsigned threads, uint64_t keys, uint64_t seed) {
    const char *what = algorithm_names[p.algorithm];
    crowd c = {.limiter = open_limiter(CAPACITY, evict, &p, 1), .keys = keys, .now = 5000000};
    uint64_t heavy = key_number(c.limiter, HEAVY), given_up = ps_load_relaxed(&pairs_given_up_by_all);
    ps_caller caller = caller_numbered(c.limiter, 30);
    CHECK(ps_hit(c.limiter, heavy, 0, c.now, p.limit, caller, 0), "%s: the first key must fit", what);
    run_workers(threads, seed, c.limiter, &c, body);
    check_table(c.limiter);
    CHECK(units_counted(c.limiter, 0, heavy, c.now) == p.limit, "%s: the key that owed most had to go", what);
    uint64_t evicted = counter_sum(c.limiter, offsetof(ps_cell, evicted));
    given_up = ps_load_relaxed(&pairs_given_up_by_all) - given_up; /* resets give slots up too */
    CHECK(evict ? evicted > 0 && evicted <= given_up : evicted == 0, "%s: %llu keys evicted, and %llu slots given up", what,
          (unsigned long long)evicted, (unsigned long long)given_up);
    uint64_t admitted = counter_sum(c.limiter, offsetof(ps_cell, admitted)), denied = counter_sum(c.limiter, offsetof(ps_cell, denied));
    printf("%s, %s: %llu admitted, %llu denied, %llu evicted\n", what, evict ? "evicting" : "denying", (unsigned long long)admitted,
           (unsigned long long)denied, (unsigned long long)evicted);
    close_limiter(c.limiter);
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 4);
    uint64_t keys = argument_number(argc, argv, 2, 20000), seed = argument_number(argc, argv, 3, 1);
    uint64_t period = UINT64_C(1000000000000);
    const ps_policy policies[] = {make_bucket(50, period, 50), make_window(50, period, 3), make_log(50, period), make_fixed(50, period, false, 0),
                                  make_fixed(50, period, true, 0)};
    for (unsigned i = 0; i < sizeof policies / sizeof *policies; i++) {
        run(policies[i], true, threads, keys, seed);
        run(policies[i], false, threads, keys, seed);
    }
    run(make_concurrency(50), false, threads, keys, seed);
    report_meetings("evictions");
    return 0;
}
