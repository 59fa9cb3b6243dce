/* Random histories under random schedules: a few callers, all five algorithms, time that moves while they are at work,
 * callers that are stopped for ever. After each history everything that was promised is looked up in the record.
 *
 * Arguments: histories, first seed, and anything to print the steps of the first one. Built with
 * PENSTOCK_MODEL="schedule.h", and with PS_WINDOW_LINES=2 so that all keys share a window of four slots. A failure
 * prints its seed. */
#include "platform/clock.h"

static uint64_t clock_ns; /* what every clock shows; calls read it when they begin */
#define ps_clock_now(clock) ((void)(clock), clock_ns)
#include "testing.h"

#define CALLS_MOST 64
#define KEYS_MOST 6
#define LIMITS_TRIED 2
#define MOMENT UINT64_C(1000000) /* ns; with periods of a few, a window's word has versions for every refund here */

typedef enum { HIT, CHECK_CALL, PEEK, REFUND, RESET, VERBS } verb;
static const char *const verb_names[] = {"hit", "check", "peek", "refund", "reset"};

typedef struct {
    verb verb;
    unsigned fiber, key;
    uint64_t cost, began, ended;          /* by the clock */
    uint64_t began_step, ended_step;      /* in the order of the record */
    bool done, yes;
    int refunds; /* the call whose units this one gives back; -1 */
    bool refunded; /* of a hit: somebody gives its units back, from refund_step on */
    uint64_t refund_step;
} call;

static call calls[CALLS_MOST];
static unsigned call_count;
static uint64_t record_step, seed, random_state;
static ps_limiter *limiter;
static uint64_t keys[KEYS_MOST];
static unsigned key_count, limit_count, fiber_count;
static ps_policy policies[LIMITS_TRIED];
static uint64_t rate_limit[LIMITS_TRIED]; /* a bucket's limit, beside its burst */
static bool forgotten[KEYS_MOST][LIMITS_TRIED], stopped, with_resets, with_refunds, clock_moves;
static unsigned calls_each;

static uint64_t pick(uint64_t below) { return draw_below(&random_state, below); }

#define BROKEN(...)                                                                                                    \
    do {                                                                                                               \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
    } while (0)

static void print_record(void) {
    for (unsigned l = 0; l < limit_count; l++)
        fprintf(stderr, "  limit %u: %s %llu (%llu) per %llu, resolution %u%s\n", l, algorithm_names[policies[l].algorithm],
                (unsigned long long)policies[l].limit, (unsigned long long)rate_limit[l], (unsigned long long)policies[l].per_ns,
                policies[l].resolution, policies[l].first_hit ? ", from the first hit" : "");
    for (unsigned i = 0; i < call_count; i++)
        fprintf(stderr, "  %2u caller %u %-6s key %u cost %llu  time %llu-%llu  steps %llu-%llu  %s%s\n", i, calls[i].fiber,
                verb_names[calls[i].verb], calls[i].key, (unsigned long long)calls[i].cost, (unsigned long long)calls[i].began,
                (unsigned long long)calls[i].ended, (unsigned long long)calls[i].began_step,
                (unsigned long long)calls[i].ended_step, !calls[i].done ? "stopped" : calls[i].yes ? "yes" : "no",
                calls[i].refunded ? ", given back" : "");
}

/* ---- the callers ---- */

static call *call_begin(unsigned fiber, verb v, unsigned key, uint64_t cost) {
    CHECK(call_count < CALLS_MOST, "raise CALLS_MOST");
    call *c = &calls[call_count++];
    *c = (call){.verb = v, .fiber = fiber, .key = key, .cost = cost, .began = clock_ns, .began_step = ++record_step, .refunds = -1};
    c->ended_step = UINT64_MAX;
    if (schedule_trace)
        printf("%u: %s key %u cost %llu at %llu\n", fiber, verb_names[v], key, (unsigned long long)cost, (unsigned long long)clock_ns);
    return c;
}

static void call_end(call *c, bool yes) {
    c->ended = clock_ns;
    c->ended_step = ++record_step;
    c->done = true;
    c->yes = yes;
    if (schedule_trace)
        printf("%u: %s\n", c->fiber, yes ? "yes" : "no");
}

static void caller(unsigned number) {
    ps_caller who = {&limiter->cells[number + 1], number + 1, false};
    for (unsigned i = 0; i < calls_each; i++) {
        unsigned key = (unsigned)(pick(3) ? 0 : pick(key_count));
        verb v = pick(2) ? HIT : (verb)pick(VERBS);
        uint64_t cost = 1 + (pick(4) == 0), now = clock_ns;
        int of = -1;
        if (v == REFUND && with_refunds) /* what anybody was admitted and has not given back */
            for (unsigned j = 0; j < call_count; j++)
                if (calls[j].verb <= CHECK_CALL && calls[j].done && calls[j].yes && !calls[j].refunded)
                    of = (int)j;
        if ((v == REFUND && of < 0) || (v == RESET && !with_resets))
            v = CHECK_CALL;
        if (v == REFUND) {
            key = calls[of].key;
            cost = calls[of].cost;
            calls[of].refunded = true;
        }
        call *c = call_begin(number, v, key, cost);
        if (v == REFUND) {
            c->refunds = of;
            calls[of].refund_step = c->began_step;
        }
        ps_decision decision;
        bool yes = true;
        switch (v) {
        case HIT: yes = ps_hit(limiter, keys[key], 0, now, cost, who, 0); break;
        case CHECK_CALL:
            yes = ps_hit(limiter, keys[key], 0, now, cost, who, &decision);
            if (yes != decision.allowed)
                BROKEN("call %u was told %s, and %s", call_count - 1, decision.allowed ? "yes" : "no", yes ? "taken for" : "took nothing");
            break;
        case PEEK: yes = ps_peek(limiter, keys[key], 0, now, cost, &decision); break;
        case REFUND: ps_change_all(limiter, keys[key], 0, now, cost, who, PS_GIVE_BACK, false); break;
        default: ps_change_all(limiter, keys[key], 0, now, cost, who, PS_FORGET, false); break;
        }
        call_end(c, yes);
    }
}

/* A key that lost its slot while it was established has been forgotten: evicted, expired or reset. */
static void note_forgotten(uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
    (void)new_state;
    if (key != new_key && key > PS_SLOT_FREE && !ps_is_tentative(state))
        for (unsigned k = 0; k < key_count; k++)
            if (keys[k] == key)
                for (unsigned l = 0; l < limit_count; l++)
                    forgotten[k][l] = true;
}

/* ---- what was promised ---- */

/* A hit whose units count, in every order that the record allows, somewhere between its beginning and its end. */
static bool admitted(const call *c, unsigned key) { return c->verb <= CHECK_CALL && c->done && c->yes && c->key == key; }

static bool reset_between(unsigned key, uint64_t from_step, uint64_t to_step) {
    for (unsigned i = 0; i < call_count; i++)
        if (calls[i].verb == RESET && calls[i].key == key && calls[i].began_step <= to_step && calls[i].ended_step >= from_step)
            return true;
    return false;
}

/* Units admitted for certain within [from, to], and those that refunds at work meanwhile may have made room for. */
static void count_within(unsigned key, uint64_t from, uint64_t to, uint64_t *units, uint64_t *refunded, bool *reset) {
    uint64_t first = UINT64_MAX, last = 0;
    *units = *refunded = 0;
    for (unsigned i = 0; i < call_count; i++)
        if (admitted(&calls[i], key) && calls[i].began >= from && calls[i].ended <= to) {
            *units += calls[i].cost;
            first = calls[i].began_step < first ? calls[i].began_step : first;
            last = calls[i].ended_step > last ? calls[i].ended_step : last;
        }
    for (unsigned i = 0; i < call_count; i++)
        if (calls[i].verb == REFUND && calls[i].key == key && calls[i].began_step < last && calls[i].ended_step > first)
            *refunded += calls[i].cost;
    *reset = *units && reset_between(key, first, last);
}

static void check_interval(unsigned key, unsigned l, uint64_t from, uint64_t to, uint64_t most, const char *what) {
    uint64_t units, refunded;
    bool reset;
    count_within(key, from, to, &units, &refunded, &reset);
    if (!reset && units > most + refunded)
        BROKEN("limit %u: key %u was admitted %llu units from %llu to %llu, %s allows %llu and %llu were given back", l, key,
               (unsigned long long)units, (unsigned long long)from, (unsigned long long)to, what, (unsigned long long)most,
               (unsigned long long)refunded);
}

static void check_promise(unsigned key, unsigned l) {
    const ps_policy *p = &policies[l];
    for (unsigned i = 0; i < call_count; i++) {
        if (!admitted(&calls[i], key))
            continue;
        uint64_t from = calls[i].began;
        switch (p->algorithm) {
        case PS_TOKEN_BUCKET:
            for (unsigned j = 0; j < call_count; j++)
                if (admitted(&calls[j], key) && calls[j].ended >= from)
                    check_interval(key, l, from, calls[j].ended, p->limit + (calls[j].ended - from) * rate_limit[l] / p->per_ns, "a bucket");
            break;
        case PS_SLIDING_WINDOW:
        case PS_SLIDING_LOG: check_interval(key, l, from, from + p->per_ns - 1, p->limit, "the window"); break;
        case PS_FIXED_WINDOW:
            if (p->first_hit) {
                check_interval(key, l, from, from + p->per_ns - 1, 2 * p->limit, "two windows");
            } else {
                uint64_t begin = (from + p->grid_ns) / p->per_ns * p->per_ns;
                check_interval(key, l, begin < p->grid_ns ? 0 : begin - p->grid_ns, begin + p->per_ns - p->grid_ns - 1, p->limit, "the window");
            }
            break;
        default: {
            /* Held at the end of this hit: admitted by then, and nobody has begun to give it back. */
            uint64_t held = 0;
            for (unsigned j = 0; j < call_count; j++)
                if (admitted(&calls[j], key) && calls[j].ended_step <= calls[i].ended_step &&
                    !(calls[j].refunded && calls[j].refund_step < calls[i].ended_step) &&
                    !reset_between(key, calls[j].began_step, calls[i].ended_step))
                    held += calls[j].cost;
            if (held > p->limit)
                BROKEN("limit %u: %llu units of key %u are held of %llu", l, (unsigned long long)held, key, (unsigned long long)p->limit);
        }
        }
    }
}

/* How long a unit may count after its call has ended. */
static uint64_t counts_for(unsigned l) {
    const ps_policy *p = &policies[l];
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: return (p->limit * p->per_ns + rate_limit[l] - 1) / rate_limit[l];
    case PS_SLIDING_WINDOW: return p->per_ns + 2 * (p->per_ns / p->resolution + 1);
    case PS_CONCURRENCY: return UINT64_MAX / 2;
    default: return p->per_ns;
    }
}

/* A hit may be refused only if, under some limit, what could have counted then left no room. Whoever was under way may
 * have counted for a while; a log's entries count as "just now" until they are written; a bucket that others have used
 * since a call read its clock seems to that call as much fuller as time has passed. */
static void check_refusals(unsigned key) {
    for (unsigned i = 0; i < call_count; i++) {
        const call *c = &calls[i];
        if (c->verb > PEEK || !c->done || c->yes || c->key != key)
            continue;
        bool justified = key_count > 4; /* a full table may refuse a new key */
        for (unsigned l = 0; l < limit_count && !justified; l++) {
            /* An entry that was not written may have been filled in, with the time of whoever missed it. */
            bool filled_in = policies[l].algorithm == PS_SLIDING_LOG && clock_moves;
            uint64_t possible = rate_limit[l] ? ((c->ended - c->began) * rate_limit[l] + policies[l].per_ns - 1) / policies[l].per_ns : 0;
            for (unsigned j = 0; j < call_count; j++) {
                const call *d = &calls[j];
                if (d == c || d->verb > CHECK_CALL || d->key != key || d->began_step > c->ended_step)
                    continue;
                bool over = d->ended_step < c->began_step;
                if (over && !d->yes)
                    continue; /* took nothing, or has handed it back */
                if (over && d->done && !filled_in && d->ended + counts_for(l) < c->began)
                    continue; /* has expired */
                /* Given back before this call began. Windows and logs give back what would have expired first: the
                 * units of this very call may count on, in place of others. */
                bool back = false, oldest = policies[l].algorithm == PS_SLIDING_WINDOW || policies[l].algorithm == PS_SLIDING_LOG;
                for (unsigned k = 0; k < call_count && !(oldest && clock_moves); k++)
                    back |= calls[k].refunds == (int)j && calls[k].ended_step < c->began_step;
                bool reset = false;
                for (unsigned k = 0; k < call_count; k++)
                    reset |= calls[k].verb == RESET && calls[k].key == key && calls[k].began_step > d->ended_step && calls[k].ended_step < c->began_step;
                if (!back && !reset)
                    possible += d->cost;
            }
            justified = c->cost > policies[l].limit || possible > policies[l].limit - c->cost;
        }
        if (!justified && !stopped)
            BROKEN("call %u was refused, although at no time in it could so much have counted", i);
    }
}

/* While the clock stands still every unit can be accounted for. */
static void check_totals(void) {
    for (unsigned k = 0; k < key_count; k++)
        for (unsigned l = 0; l < limit_count; l++) {
            uint64_t expected = 0, counted = units_counted(limiter, l, keys[k], clock_ns);
            for (unsigned i = 0; i < call_count; i++)
                if (admitted(&calls[i], k) && !calls[i].refunded)
                    expected += calls[i].cost;
            if (!forgotten[k][l] && counted != expected)
                BROKEN("limit %u: key %u counts %llu units, %llu were admitted and not given back", l, k,
                       (unsigned long long)counted, (unsigned long long)expected);
        }
}

/* ---- one history ---- */

static ps_policy random_policy(unsigned which) {
    uint64_t limit = 1 + pick(4), per = MOMENT * (8 + pick(60));
    rate_limit[which] = 0;
    switch (pick(6)) {
    case 0: {
        rate_limit[which] = 1 + pick(4);
        return make_bucket(rate_limit[which], per * rate_limit[which], limit);
    }
    case 1: return make_window(limit, per * 4, (uint32_t)(1 + pick(4)));
    case 2: return make_log(limit, per);
    case 3: return make_fixed(limit, per, false, MOMENT * pick(1000) + pick(MOMENT));
    case 4: return make_fixed(limit, per, true, 0);
    default: return make_concurrency(limit);
    }
}

static void history(void) {
    random_state = seed * 2654435761u + 88172645463325252u;
    limit_count = 1 + (pick(3) == 0);
    for (unsigned l = 0; l < limit_count; l++)
        policies[l] = random_policy(l);
    bool evict = pick(2);
    limiter = open_limiter(1, evict, policies, limit_count);
    limiter->clock = (ps_clock *)&clock_ns; /* not NULL; ps_clock_now is ours */
    key_count = (unsigned)(pick(2) ? 1 + pick(4) : 5 + pick(2));
    for (unsigned k = 0; k < key_count; k++)
        keys[k] = key_number(limiter, (int64_t)k);
    fiber_count = (unsigned)(2 + pick(3));
    calls_each = (unsigned)(1 + pick(5));
    with_resets = pick(4) == 0;
    with_refunds = pick(2);
    clock_moves = pick(4) != 0;
    bool may_stop = pick(6) == 0;
    clock_ns = MOMENT * pick(400);
    call_count = 0;
    record_step = 0;
    stopped = false;
    memset(forgotten, 0, sizeof forgotten);
    on_pair = note_forgotten;

    for (unsigned f = 0; f < fiber_count; f++)
        fiber_begin(f, caller);
    static const uint64_t turns[] = {1, 2, 4, 12, 40};
    uint64_t turn = turns[pick(5)], steps = 0, asleep = UINT64_MAX;
    while (true) {
        unsigned awake[FIBERS_MOST], count = 0;
        for (unsigned f = 0; f < fiber_count; f++)
            if (fibers[f].alive && f != asleep)
                awake[count++] = f;
        if (count == 0 && asleep != UINT64_MAX && fibers[asleep].alive && !stopped) {
            asleep = UINT64_MAX; /* a caller whose turn comes only when all others are done */
            continue;
        }
        if (count == 0)
            break;
        unsigned f = awake[pick(count)];
        if (asleep == UINT64_MAX && pick(40) == 0) {
            asleep = f;
            stopped = may_stop;
            continue;
        }
        uint64_t before = fibers[f].steps;
        hold_before(f, ANY, 1 + pick(turn));
        steps += fibers[f].steps - before + 1;
        if (steps > 200000)
            BROKEN("the calls do not end");
        if (clock_moves && pick(8) == 0)
            clock_ns += MOMENT * (pick(3) ? pick(4) : pick(80)) + pick(2);
    }

    for (unsigned k = 0; k < key_count; k++) {
        bool lost = false;
        for (unsigned l = 0; l < limit_count; l++)
            lost |= forgotten[k][l];
        if (!lost || with_resets) {
            for (unsigned l = 0; l < limit_count; l++)
                if (!lost)
                    check_promise(k, l);
        }
        check_refusals(k);
    }
    if (!stopped) {
        check_table(limiter);
        if (!clock_moves && !with_resets)
            check_totals();
    }
    close_limiter(limiter);
}

static bool finished;
static void print_unless_finished(void) {
    if (!finished) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        print_record();
    }
}

int main(int argc, char **argv) {
    atexit(print_unless_finished);
    uint64_t count = argument_number(argc, argv, 1, 20000), first = argument_number(argc, argv, 2, 1);
    for (seed = first; seed < first + count; seed++) {
        schedule_trace = argc > 3 && seed == first;
        history();
    }
    finished = true;
    printf("%llu histories\n", (unsigned long long)count);
    return 0;
}
