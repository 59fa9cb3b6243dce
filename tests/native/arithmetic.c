/* One thread: the arithmetic of wide.h and of each algorithm, at the edges of its types and to the tick.
 *
 * Arguments: random steps for each policy, seed. */
#include "testing.h"

static uint64_t random_state;
static uint64_t pick(uint64_t below) { return draw_below(&random_state, below); }
/* Any 64-bit number, the small, the large and those around powers of two more often. */
static uint64_t any(void) {
    uint64_t n = draw(&random_state);
    switch (pick(4)) {
    case 0: return n >> pick(64);
    case 1: return (UINT64_C(1) << pick(64)) + pick(3) - 1;
    case 2: return UINT64_MAX - (n >> pick(64));
    default: return n;
    }
}

__extension__ typedef unsigned __int128 wide;

static void check_wide(uint64_t steps) {
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t a = any(), b = any();
        unsigned shift = (unsigned)pick(64);
        CHECK(ps_mul_high(a, b) == (uint64_t)((wide)a * b >> 64), "ps_mul_high(%llu, %llu)", (unsigned long long)a, (unsigned long long)b);
        if (shift)
            CHECK(ps_mul_shift(a, b, shift) == (uint64_t)((wide)a * b >> shift), "ps_mul_shift by %u", shift);
        uint64_t divisor = b ? b : 1, x = a >> 1;
        CHECK(ps_divide(x, divisor, UINT64_MAX / divisor) == x / divisor, "ps_divide(%llu, %llu)", (unsigned long long)x, (unsigned long long)divisor);
        wide exact = (((wide)a << PS_TICK_SHIFT) + divisor - 1) / divisor;
        if (exact <= UINT64_MAX)
            CHECK(ps_shift_divide_up(a, PS_TICK_SHIFT, divisor) == (uint64_t)exact, "ps_shift_divide_up(%llu, %llu)",
                  (unsigned long long)a, (unsigned long long)divisor);
        unsigned bits = 0;
        while (bits < 64 && a >> bits)
            bits++;
        CHECK(ps_bits(a) == bits, "ps_bits(%llu)", (unsigned long long)a);
        if ((uint32_t)a)
            CHECK((uint32_t)a >> ps_lowest_bit((uint32_t)a) << ps_lowest_bit((uint32_t)a) == (uint32_t)a &&
                      ((uint32_t)a >> ps_lowest_bit((uint32_t)a) & 1), "ps_lowest_bit(%u)", (uint32_t)a);
        CHECK(ps_since(a, b) <= PS_HORIZON && ps_since(a, b) == ((int64_t)(b - a) < 0 ? 0 : b - a < PS_HORIZON ? b - a : PS_HORIZON), "ps_since");
    }
}

/* ---- times and their units ---- */

static void check_bucket_times(const ps_policy *p) {
    for (int i = 0; i < 2000; i++) {
        uint64_t now = any() & (PS_HORIZON - 1), ticks = ps_bucket_ticks(p, now), first = ps_bucket_time(p, ticks);
        CHECK(ps_bucket_ticks(p, first) >= ticks && (first == 0 || ps_bucket_ticks(p, first - 1) < ticks),
              "the first ns of tick %llu is not %llu", (unsigned long long)ticks, (unsigned long long)first);
    }
    CHECK(ps_bucket_ticks(p, PS_HORIZON) < UINT64_C(1) << p->tag_shift, "the horizon does not fit the word");
    CHECK(ps_bucket_ticks(p, PS_HORIZON) + 2 * p->span_ticks < UINT64_C(1) << p->tag_shift, "the horizon and a full bucket do not fit");
}

static void check_window_times(const ps_policy *p) {
    for (int i = 0; i < 2000; i++) {
        uint64_t now = i < 2 ? PS_HORIZON - (uint64_t)i : any() & (PS_HORIZON - 1), epoch = ps_window_now(p, now);
        CHECK(ps_window_time(p, epoch) <= now && now < ps_window_time(p, epoch + 1), "%llu is not in sub-window %llu",
              (unsigned long long)now, (unsigned long long)epoch);
    }
    uint64_t last = ps_window_now(p, PS_HORIZON) + p->resolution + 2, most = (UINT64_C(1) << p->count_bits) - 1;
    uint64_t word = ps_window_word(p, last, p->resolution, most);
    CHECK(!ps_is_tentative(word) && ps_window_epoch(p, word) == last && ps_window_age(p, word) == p->resolution &&
              ps_window_count(p, word) == most, "the horizon's sub-window does not fit the word");
    for (uint64_t version = 0; version + 1 < UINT64_C(1) << p->version_bits && version < 100; version++) {
        uint64_t next = ps_window_word_next_version(p, word);
        CHECK(next > word && ps_window_epoch(p, next) == last && ps_window_count(p, next) == most, "a version spills over");
        word = next;
    }
}

/* ---- decisions, against a list of what was admitted ---- */

typedef struct {
    uint64_t time, cost;
} admission;

#define ADMISSIONS_MOST 4096
static admission admissions[ADMISSIONS_MOST];
static unsigned admission_count;
static uint64_t first_hit_from; /* when the window began that a key's hit began */

static uint64_t sub_window(const ps_policy *p, uint64_t time) { return (uint64_t)((wide)time * p->resolution / p->per_ns); }

/* Units that count at `now` under the definition in the header, from the list alone. */
static uint64_t counted_by_definition(const ps_policy *p, uint64_t now) {
    uint64_t units = 0;
    for (unsigned i = 0; i < admission_count; i++) {
        const admission *a = &admissions[i];
        bool counts = true;
        switch (p->algorithm) {
        case PS_SLIDING_WINDOW: counts = sub_window(p, a->time) + p->resolution >= sub_window(p, now); break;
        case PS_SLIDING_LOG: counts = a->time + p->per_ns > now; break;
        case PS_FIXED_WINDOW:
            counts = p->first_hit ? a->time >= first_hit_from && now - first_hit_from < p->per_ns
                                  : (a->time + p->grid_ns) / p->per_ns == (now + p->grid_ns) / p->per_ns;
            break;
        default: break;
        }
        units += counts ? a->cost : 0;
    }
    return units;
}

static void forget_old(void) {
    if (admission_count == ADMISSIONS_MOST) {
        memmove(admissions, admissions + ADMISSIONS_MOST / 2, sizeof admissions / 2);
        admission_count = ADMISSIONS_MOST / 2;
    }
}

static void check_decisions(ps_policy p, uint64_t steps, const char *what) {
    ps_limiter *limiter = open_limiter(1, true, &p, 1);
    ps_caller caller = {&limiter->cells[1], 1, false};
    uint64_t key = key_number(limiter, 7), now = pick(3) ? 0 : PS_HORIZON / 2;
    uint64_t pace = p.per_ns ? p.per_ns : 1000;
    bool listed = p.algorithm == PS_SLIDING_WINDOW || p.algorithm == PS_SLIDING_LOG || p.algorithm == PS_FIXED_WINDOW;
    wide bucket_full_at = 0; /* of a token bucket, exactly: ns times its rate */
    uint64_t rate = p.algorithm == PS_TOKEN_BUCKET ? p.resolution : 0; /* handed over there by check_all */
    limiter->limits[0].policies[0].resolution = p.algorithm == PS_TOKEN_BUCKET ? 0 : p.resolution;
    admission_count = 0;
    first_hit_from = 0;
    uint64_t wait = 0; /* that the last decision asked for */
    for (uint64_t i = 0; i < steps; i++) {
        if (wait && pick(2))
            now += wait - pick(2);
        else if (pick(2))
            now += pick(3) ? pick(pace / 8 + 2) : pick(2 * pace);
        if (now >= PS_HORIZON - 3 * pace)
            break;
        uint64_t cost = pick(8) ? 1 + pick(p.limit < 4 ? p.limit : p.limit / 2) : any();
        if (cost == 0)
            cost = 1;
        ps_decision looked, decision;
        bool would = ps_peek(limiter, key, 0, now, cost, &looked);
        if (pick(4) == 0)
            ps_hit(limiter, key_number(limiter, (int64_t)pick(3) + 8), 0, now, 1, caller, 0); /* neighbours */
        bool opened = p.first_hit && (admission_count == 0 || now - first_hit_from >= p.per_ns);
        uint64_t before = listed ? counted_by_definition(&p, now) : 0;
        if (opened)
            before = 0;
        bool allowed = ps_hit(limiter, key, 0, now, cost, caller, &decision);
        CHECK(would == allowed && memcmp(&looked, &decision, sizeof looked) == 0, "%s: peek and check differ at %llu", what, (unsigned long long)now);
        CHECK(allowed == decision.allowed, "%s: told and taken differ", what);
        if (listed)
            CHECK(allowed == (cost <= p.limit && before + cost <= p.limit), "%s: %llu count at %llu, and %llu more are %s", what,
                  (unsigned long long)before, (unsigned long long)now, (unsigned long long)cost, allowed ? "admitted" : "refused");
        if (p.algorithm == PS_TOKEN_BUCKET && cost <= p.limit) { /* never more than the exact rate allows */
            wide at = (wide)now * rate, begin = bucket_full_at > at ? bucket_full_at : at;
            if (allowed) {
                CHECK(begin + (wide)cost * p.per_ns <= at + (wide)p.limit * p.per_ns + (wide)p.per_ns / 500000 * p.limit + 2 * rate,
                      "%s: too much at %llu", what, (unsigned long long)now);
                bucket_full_at = begin + (wide)cost * p.per_ns;
            }
        }
        if (allowed) {
            if (opened)
                first_hit_from = now;
            admissions[admission_count++] = (admission){now, cost};
            forget_old();
            CHECK(decision.retry_ns == 0, "%s: admitted, and told to wait", what);
        } else if (cost > p.limit) {
            CHECK(decision.retry_ns == PS_NEVER, "%s: told to wait for what never fits", what);
        } else if (decision.retry_ns != PS_NEVER) { /* to the tick, on both sides */
            CHECK(decision.retry_ns > 0, "%s: refused, and told not to wait", what);
            CHECK(!ps_peek(limiter, key, 0, now + decision.retry_ns - 1, cost, &looked), "%s: admitted 1 ns before retry_after", what);
            CHECK(ps_peek(limiter, key, 0, now + decision.retry_ns, cost, &looked), "%s: refused at retry_after", what);
        } else {
            CHECK(p.algorithm == PS_CONCURRENCY, "%s: told never to come back", what);
        }
        wait = decision.retry_ns == PS_NEVER ? 0 : decision.retry_ns;
        CHECK(decision.remaining <= p.limit, "%s: more left than there is", what);
        if (decision.remaining)
            CHECK(ps_peek(limiter, key, 0, now, decision.remaining, &looked), "%s: %llu said to be left are refused", what,
                  (unsigned long long)decision.remaining);
        if (decision.remaining < p.limit)
            CHECK(!ps_peek(limiter, key, 0, now, decision.remaining + 1, &looked), "%s: one more than is left fits", what);
        if (decision.reset_ns && decision.reset_ns != PS_NEVER) {
            uint64_t units = units_counted(limiter, 0, key, now + decision.reset_ns - 1);
            CHECK(units > 0 || p.algorithm == PS_TOKEN_BUCKET, "%s: as good as new 1 ns before reset_after", what);
            CHECK(units_counted(limiter, 0, key, now + decision.reset_ns) == 0, "%s: not as good as new at reset_after", what);
        }
        if (pick(16) == 0) { /* more than was taken, and what does not fit: refused or exact, never wrapped */
            ps_change change = pick(2) ? PS_FORCE : pick(2) ? PS_GIVE_BACK : PS_FORGET;
            ps_change_all(limiter, key, 0, now, pick(2) ? any() | 1 : 1, caller, change, false);
            uint64_t units = units_counted(limiter, 0, key, now);
            CHECK(units <= p.limit, "%s: more counts than can be shown", what);
            ps_change_all(limiter, key, 0, now, 1, caller, PS_FORGET, false);
            CHECK(units_counted(limiter, 0, key, now) == 0, "%s: a key that was reset is not new", what);
            admission_count = 0;
            first_hit_from = 0;
            bucket_full_at = 0;
        }
    }
    close_limiter(limiter);
}

/* At PS_HORIZON time stands still: nothing wraps, nothing is free for ever. */
static void check_horizon(ps_policy p, const char *what) {
    ps_limiter *limiter = open_limiter(1, true, &p, 1);
    ps_caller caller = {&limiter->cells[1], 1, false};
    uint64_t key = key_number(limiter, 7), admitted = 0;
    while (admitted <= p.limit && admitted < 2000 && ps_hit(limiter, key, 0, PS_HORIZON, 1, caller, 0))
        admitted++;
    CHECK(admitted <= p.limit, "%s: %llu admitted at the horizon", what, (unsigned long long)admitted);
    ps_decision decision;
    ps_hit(limiter, key, 0, PS_HORIZON, p.limit, caller, &decision);
    ps_change_all(limiter, key, 0, PS_HORIZON, UINT64_C(1) << 53, caller, PS_FORCE, false);
    CHECK(!ps_hit(limiter, key, 0, PS_HORIZON, 1, caller, &decision), "%s: admitted after a great debt at the horizon", what);
    close_limiter(limiter);
}

static void check_policy(ps_policy p, uint64_t steps) {
    char what[160];
    snprintf(what, sizeof what, "%s of %llu per %llu ns (resolution %u, first hit %u)", algorithm_names[p.algorithm],
             (unsigned long long)p.limit, (unsigned long long)p.per_ns, p.resolution, p.first_hit);
    if (p.algorithm == PS_TOKEN_BUCKET)
        check_bucket_times(&p);
    if (p.algorithm == PS_SLIDING_WINDOW)
        check_window_times(&p);
    check_decisions(p, steps, what);
    p.resolution = p.algorithm == PS_TOKEN_BUCKET ? 0 : p.resolution;
    check_horizon(p, what);
}

#define SECOND UINT64_C(1000000000)
#define DAY (86400 * SECOND)

int main(int argc, char **argv) {
    uint64_t steps = argument_number(argc, argv, 1, 3000);
    random_state = argument_number(argc, argv, 2, 1) * 2654435761u + 1;
    check_wide(steps * 20);
    static const struct {
        uint64_t rate, per, burst;
    } buckets[] = {{1, DAY, 1}, {1, 365 * DAY, 3}, {3, SECOND, 3}, {7, 60 * SECOND, 50}, {10000000, SECOND, 1}, {10000000, SECOND, 100000},
                   {999983, 7 * SECOND, 11}, {1000, 1000, 1}, {1000, 1000, 5}, {999, 1000, 3}, {100, SECOND, 200}, {(UINT64_C(1) << 31) - 1, DAY, 1}};
    for (unsigned i = 0; i < sizeof buckets / sizeof *buckets; i++) {
        ps_policy p = make_bucket(buckets[i].rate, buckets[i].per, buckets[i].burst);
        p.resolution = (uint32_t)buckets[i].rate;
        check_policy(p, steps);
    }
    static const uint64_t pers[] = {1000, 999983, SECOND, 60 * SECOND, DAY, 365 * DAY};
    static const uint64_t limits[] = {1, 2, 5, 100};
    for (unsigned i = 0; i < sizeof pers / sizeof *pers; i++)
        for (unsigned j = 0; j < sizeof limits / sizeof *limits; j++) {
            static const uint32_t resolutions[] = {1, 2, 6, 7, 60};
            for (unsigned k = 0; k < 5; k++)
                if (pers[i] >= SECOND || (resolutions[k] <= 7 && limits[j] <= 5))
                    check_policy(make_window(limits[j], pers[i], resolutions[k]), steps / 4);
            if (pers[i] >= SECOND)
                check_policy(make_log(limits[j], pers[i]), steps / 4);
            check_policy(make_fixed(limits[j], pers[i], false, 0), steps / 4);
            check_policy(make_fixed(limits[j], pers[i], false, UINT64_C(1763780000123456789)), steps / 4);
            check_policy(make_fixed(limits[j], pers[i], true, 0), steps / 4);
        }
    for (unsigned j = 0; j < sizeof limits / sizeof *limits; j++)
        check_policy(make_concurrency(limits[j]), steps);
    check_policy(make_concurrency(UINT64_C(1) << 53), steps);
    return 0;
}
