/* Limits replaced again and again under decisions that are under way: no word may be read by a policy that did not write
 * it, and no unit lost or doubled. Time moves with every call, and there is always more demand than the rate.
 *
 * Arguments: threads, replacements, seed. */
#include "testing.h"

#define KEYS 3
#define BURST 1000
#define STEP_NS 100000 /* between two calls: 10,000 calls a second; a replacement takes 1 ns */

typedef struct {
    ps_limiter *limiter;
    ps_policy policies[3];
    uint64_t replacements;
    ps_word clock, done, admitted[KEYS];
} change;

/* The time of a call: as _core.pyx takes it from a clock of the user's. */
static uint64_t tell(change *c, uint64_t step_ns) {
    uint64_t now = ps_add_relaxed(&c->clock, step_ns);
    ps_raise(&c->limiter->latest_ns, now);
    return ps_load_acquire(&c->limiter->latest_ns);
}

/* Tokens that count against a key, begun ones too, at a time that is no earlier than its word. */
static uint64_t owed(ps_limiter *limiter, uint64_t fingerprint) {
    const ps_limit *limit = &limiter->limits[0];
    uint64_t index, state;
    if (!ps_settled(limit, fingerprint, &index, &state))
        return 0;
    uint64_t token = limit->policies[state >> limit->policies[0].tag_shift].token_ticks;
    return (ps_debt(limit, index, state, ps_later(limiter, 0)) + token - 1) / token;
}

static void body(worker *w) {
    change *c = (change *)w->shared;
    for (uint64_t i = 0; w->number == 0 && i < c->replacements; i++) {
        ps_policy next = c->policies[i % 3];
        next.tag = 1 - ps_load_acquire(&c->limiter->current[0]);
        ps_replace(c->limiter, 0, &next, tell(c, 1));
        for (int64_t k = 0; k < KEYS; k++)
            CHECK(owed(c->limiter, key_number(c->limiter, k)) <= BURST + 1, "replacement %llu: more is owed than a bucket holds",
                  (unsigned long long)i);
    }
    if (w->number == 0)
        ps_store_release(&c->done, 1);
    while (!ps_load_acquire(&c->done)) {
        uint64_t now = tell(c, STEP_NS), key = draw_below(&w->random, KEYS);
        if (ps_hit(c->limiter, key_number(c->limiter, (int64_t)key), 0, now, 1, w->caller, 0))
            ps_add_relaxed(&c->admitted[key], 1);
    }
}

static void run(change *c, unsigned threads, uint64_t replacements, uint64_t seed) {
    c->replacements = replacements;
    c->limiter = open_limiter(8, false, &c->policies[2], 1);
    run_workers(threads, seed, c->limiter, c, body);
    check_table(c->limiter);
}

/* The same tokens in `times` as many ticks. */
static ps_policy in_ticks(ps_policy p, uint64_t times) {
    p.ticks_per_ns *= times;
    p.token_ticks *= times;
    p.span_ticks *= times;
    return p;
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 3);
    uint64_t replacements = argument_number(argc, argv, 2, 20000), seed = argument_number(argc, argv, 3, 1);

    change other = {.policies = {make_bucket(1000, 1000000000, BURST), make_bucket(999983, 700000000000, BURST), make_bucket(7, 3000000, 900)}};
    run(&other, threads, replacements, seed);
    close_limiter(other.limiter);

    /* One rate in different ticks: as if nothing had been replaced. */
    ps_policy p = make_bucket(1000, 1000000000, BURST);
    change same = {.policies = {p, in_ticks(p, 3), in_ticks(p, 16)}};
    run(&same, threads, replacements, seed);
    uint64_t end = ps_later(same.limiter, 0);
    for (uint64_t k = 0; k < KEYS; k++) {
        uint64_t admitted = ps_load_relaxed(&same.admitted[k]), earned = end / 1000000;
        uint64_t due = earned + owed(same.limiter, key_number(same.limiter, (int64_t)k));
        CHECK(earned < BURST || (admitted <= due + 1 && admitted + 1 + replacements / 100000 >= due), "key %llu: %llu were admitted, %llu are accounted for",
              (unsigned long long)k, (unsigned long long)admitted, (unsigned long long)due);
    }
    close_limiter(same.limiter);
    report_meetings("replacements");
    return 0;
}
