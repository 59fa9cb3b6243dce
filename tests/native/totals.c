/* Several limits at once, hits and refunds from many threads: never more held than the least limit allows, and when all
 * are done every limit counts exactly what was admitted and not given back: no unit lost, none doubled.
 *
 * Arguments: threads, calls of each thread, seed. */
#include "testing.h"

#define KEYS 2
#define LEAST 4

typedef struct {
    ps_limiter *limiter;
    uint64_t calls, now;
    bool time_moves;
    ps_word held[KEYS]; /* at most what is held: added to after an admission, taken from before a refund */
    ps_word clock;
} account;

static void body(worker *w) {
    account *a = (account *)w->shared;
    uint64_t mine[KEYS] = {0};
    for (uint64_t i = 0; i < a->calls; i++) {
        unsigned k = (unsigned)draw_below(&w->random, KEYS);
        uint64_t key = key_number(a->limiter, k), now = a->time_moves ? ps_add_relaxed(&a->clock, 1) : a->now;
        if (mine[k] && draw_below(&w->random, 2)) {
            uint64_t units = 1 + draw_below(&w->random, mine[k]);
            mine[k] -= units;
            ps_add_relaxed(&a->held[k], (uint64_t)0 - units);
            ps_change_all(a->limiter, key, 0, now, units, w->caller, PS_GIVE_BACK, false);
            continue;
        }
        ps_decision decision;
        uint64_t cost = 1 + draw_below(&w->random, 2);
        bool look = draw_below(&w->random, 2), allowed = ps_hit(a->limiter, key, 0, now, cost, w->caller, look ? &decision : 0);
        CHECK(!look || decision.allowed == allowed, "told %d, did %d", decision.allowed, allowed);
        if (allowed) {
            mine[k] += cost;
            uint64_t held = ps_add_relaxed(&a->held[k], cost) + cost;
            CHECK(held <= LEAST, "%llu units held of %d", (unsigned long long)held, LEAST);
        }
    }
    for (unsigned k = 0; k < KEYS && w->number % 2; k++) { /* half of the threads give all back, the others keep theirs */
        ps_add_relaxed(&a->held[k], (uint64_t)0 - mine[k]);
        if (mine[k])
            ps_change_all(a->limiter, key_number(a->limiter, k), 0, a->now, mine[k], w->caller, PS_GIVE_BACK, false);
    }
}

static void run(const char *what, const ps_policy *policies, unsigned count, unsigned threads, uint64_t calls, uint64_t seed, bool time_moves) {
    account a = {.limiter = open_limiter(8, false, policies, count), .calls = calls, .now = 5000000, .time_moves = time_moves};
    ps_store_relaxed(&a.clock, a.now);
    run_workers(threads, seed, a.limiter, &a, body);
    check_table(a.limiter);
    for (unsigned k = 0; k < KEYS; k++)
        for (unsigned l = 0; l < count; l++) {
            uint64_t held = ps_load_relaxed(&a.held[k]), now = time_moves ? ps_load_relaxed(&a.clock) : a.now;
            uint64_t counted = units_counted(a.limiter, l, key_number(a.limiter, k), now);
            CHECK(counted == held, "%s, limit %u (%s): %llu units counted, %llu held", what, l, algorithm_names[policies[l].algorithm],
                  (unsigned long long)counted, (unsigned long long)held);
        }
    close_limiter(a.limiter);
}

#define LONG UINT64_C(1000000000000)

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 4);
    uint64_t calls = argument_number(argc, argv, 2, 50000), seed = argument_number(argc, argv, 3, 1);
    /* Windows have versions for a few hundred thousand refunds in a sub-window only; then refunds are not given. */
    uint64_t few = calls < 50000 ? calls : 50000;
    const ps_policy bucket = make_bucket(LEAST, LONG, LEAST), log = make_log(LEAST, LONG), concurrency = make_concurrency(LEAST);
    const ps_policy fixed = make_fixed(LEAST, LONG, false, 0), first = make_fixed(LEAST, LONG, true, 0), window = make_window(LEAST, LONG, 3);
    const ps_policy many[] = {fixed, make_bucket(LEAST + 3, LONG, LEAST + 3), make_log(LEAST + 1, LONG), concurrency};
    const ps_policy with_window[] = {make_window(LEAST + 1, LONG, 6), first};
    run("alone", &bucket, 1, threads, calls, seed, false);
    run("alone", &window, 1, threads, few, seed, false);
    run("alone", &log, 1, threads, calls, seed, false);
    run("alone", &fixed, 1, threads, calls, seed, false);
    run("alone", &first, 1, threads, calls, seed, false);
    run("alone", &concurrency, 1, threads, calls, seed, false);
    run("four together", many, 4, threads, calls, seed, false);
    run("two together", with_window, 2, threads, few, seed, false);
    run("four together, time moving", many, 4, threads, calls, seed, true);
    report_meetings("totals");
    return 0;
}
