/* The models: what each thread calls, on which limiter, and the properties that every ending must have.
 *
 * The limiter is the real one (limiter.h and all below it), on a window of a few slots. After every step that wrote:
 * no key is established twice, and no more is held than may be. At every ending: some order of the calls, each between
 * its first step and its return, in which spec.h gives the same answers and leaves every key with as much as it has.
 * So nothing is admitted that an atomic limiter would refuse, and no unit is lost or counted twice. A call whose
 * thread was stopped may be in that order or not, whole (or, with several limits, as far as it came): at most that one
 * decision is uncounted. Where the design allows more than one answer the model says so by a flag. */
#include "explore.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The table's window, set per model; table.h takes them in place of its own. */
static unsigned model_window_lines = 1, model_line_slots = 2;
#define PS_WINDOW_LINES model_window_lines
#define PS_LINE_SLOTS model_line_slots

/* The limiter's clock, in place of platform/clock.h: it shows the latest time that any call has begun with, so that no
 * call's time is later than the clock shows, as it was read from it. */
#define PENSTOCK_CLOCK_H
#include "platform/atomics.h"
typedef struct {
    ps_word time;
} ps_clock;
static ps_clock model_clock;
static inline uint64_t ps_clock_system(void) { return 0; } /* of segments, which no model has */
static inline uint64_t ps_clock_now(ps_clock *c) { return ps_load_seq(&c->time); }

#include "limiter.h"

#include "spec.h"

/* ---- what a model is made of ---- */

/* BACK: refund, if the thread's call before it was admitted. REPLACE: limit number `cost` takes the other one's place. */
typedef enum { NO_CALL, HIT, CHECK, PEEK, REFUND, BACK, FORCE, RESET, CLEAR, REPLACE } verb;

typedef struct {
    verb verb;
    uint64_t key, now, cost;
} call;

typedef struct {
    uint64_t key, now;
} probe;

enum {
    /* A refusal may be undeserved if another call was under way: units on their way back, entries not yet dated. */
    UNDESERVED = 1,
    /* A call may count as of the time of another that was under way or before it, if that is later. */
    LATER = 2,
    /* After a stop, keys may have less left than they should have (never more). */
    LESS_AFTER_STOP = 4,
    /* All threads share one cell, as more than PS_THREAD_MOST threads do. */
    ONE_CELL = 8,
    /* The second limit is not there from the beginning; see REPLACE. */
    REPLACED = 32,
    /* A new key is refused when all slots owe something (on_full="deny"); else one of them is evicted. */
    DENY_WHEN_FULL = 16,
};

#define LIMITS 2
#define KEYS_MOST 4
#define CALLS_EACH 4

typedef struct {
    const char *name;
    rule limits[LIMITS];
    call before[6];                               /* one after the other, until the first NO_CALL */
    call threads[MODEL_THREADS_MOST][CALLS_EACH]; /* likewise; a thread without calls is not there */
    probe probes[4];                              /* what is left of a key at a time, at the end; until key 0 */
    unsigned flags;
    unsigned slots, lines;        /* in a line, of a window; 0 is 2 and 1. One slot a line makes two homes, else there is one */
    unsigned evictions;           /* at most, of keys that owed something */
    uint64_t kept;                /* a key that must not be evicted */
    unsigned wins_most;           /* see explore.h */
    unsigned unstoppable;         /* bit t: thread t is not stopped */
    bool soak;                    /* too large to run each time (read by checker.py) */
} protocol;

/* Fingerprints. Of two homes A, B, C, D have the first twice, G the second and the first, H the second twice. */
enum { A = 10, B, C, D };
#define G (UINT64_C(1) << 63 | 7)
#define H (UINT64_C(1) << 63 | UINT64_C(1) << 31 | 7)

#include "models.h"

static const protocol *the;
static ps_limiter limiter;
static ps_policy policies[LIMITS];
static uint64_t limit_count, thread_count;
static uint64_t keys[KEYS_MOST];
static unsigned key_count;

static unsigned key_index(uint64_t key) {
    unsigned i = 0;
    while (i < key_count && keys[i] != key)
        i++;
    if (i == key_count)
        keys[key_count++] = key;
    return i;
}

/* ---- the limiter of a model ---- */

/* As penstock/policy.py does, with the smallest fields that hold the model's numbers. */
static ps_policy policy_of(const rule *r) {
    ps_policy p = {.limit = r->kind == BUCKET ? r->burst : r->limit, .per_ns = r->per, .resolution = (uint32_t)r->resolution};
    p.per_inverse = r->per ? UINT64_MAX / r->per : 0;
    switch (r->kind) {
    case BUCKET:
        p.algorithm = PS_TOKEN_BUCKET;
        p.ticks_per_ns = UINT64_C(1) << PS_TICK_SHIFT;
        p.token_ticks = r->per / r->limit;
        p.span_ticks = r->burst * p.token_ticks;
        p.tag_shift = PS_STATE_BITS - 1;
        break;
    case WINDOW:
        p.algorithm = PS_SLIDING_WINDOW;
        p.count_bits = 8;
        p.age_bits = 3;
        p.version_bits = 4;
        break;
    case LOG:
        p.algorithm = PS_SLIDING_LOG;
        p.ring = (uint32_t)r->limit;
        p.count_bits = 8;
        break;
    case FIXED:
    case FIRST_HIT:
        p.algorithm = PS_FIXED_WINDOW;
        p.count_bits = 8;
        p.first_hit = r->kind == FIRST_HIT;
        break;
    case HELD: p.algorithm = PS_CONCURRENCY; break;
    }
    return p;
}

static uint64_t tail_words_of(const rule *r) {
    return r->kind == WINDOW ? r->resolution : r->kind == LOG ? r->limit + PS_LOG_TAIL_HEAD
           : r->kind == FIRST_HIT ? PS_FIXED_TAIL_WORDS : 0;
}

static ps_caller caller_of(unsigned thread) {
    uint64_t number = the->flags & ONE_CELL ? PS_CELL_SHARED : thread;
    return (ps_caller){&limiter.cells[number], number, false};
}

static uint64_t perform(const call *c, unsigned number) {
    ps_caller caller = caller_of(number);
    ps_decision decision;
    switch (c->verb) {
    case HIT: return ps_hit(&limiter, c->key, 0, c->now, c->cost, caller, NULL);
    case CHECK: return ps_hit(&limiter, c->key, 0, c->now, c->cost, caller, &decision) | decision.remaining << 1;
    case PEEK: return ps_peek(&limiter, c->key, 0, c->now, c->cost, &decision) | decision.remaining << 1;
    case REFUND:
    case BACK: ps_change_all(&limiter, c->key, 0, c->now, c->cost, caller, PS_GIVE_BACK, false); return 1;
    case FORCE: ps_change_all(&limiter, c->key, 0, c->now, c->cost, caller, PS_FORCE, false); return 1;
    case RESET: ps_change_all(&limiter, c->key, 0, c->now, 1, caller, PS_FORGET, false); return 1;
    case CLEAR:
        for (uint64_t i = 0; i < limit_count; i++)
            ps_clear(&limiter.limits[i]);
        return 1;
    case REPLACE: ps_replace(&limiter, 0, &policies[c->cost], c->now); return 1;
    default: model_fail("a call of no kind");
    }
}

static void body(unsigned thread) {
    bool admitted = false;
    for (unsigned i = 0; i < CALLS_EACH && the->threads[thread][i].verb; i++) {
        const call *c = &the->threads[thread][i];
        if (c->verb == BACK && !admitted)
            continue;
        model_call_begin(thread * CALLS_EACH + i);
        uint64_t result = perform(c, thread + 1);
        admitted = result & 1;
        model_call_end(result);
    }
}

static const call *call_at(unsigned number) { return &the->threads[number / CALLS_EACH][number % CALLS_EACH]; }

static void begins(unsigned number) { ps_raise(&model_clock.time, call_at(number)->now); }

/* ---- what holds at any time ---- */

static void written(void) {
    for (uint64_t l = 0; l < limit_count; l++) {
        const ps_limit *limit = &limiter.limits[l];
        uint64_t slots = ps_table_slots(limit->table.homes);
        for (uint64_t i = 0; i < slots; i++) {
            uint64_t key = ps_load_relaxed(&limit->table.slots[i].key), word = ps_load_relaxed(&limit->table.slots[i].state);
            if (key <= PS_SLOT_FREE || ps_is_tentative(word))
                continue;
            if (the->limits[l].kind == HELD && word > the->limits[l].limit)
                model_fail("%" PRIu64 " held of limit %" PRIu64, word, the->limits[l].limit);
            for (uint64_t j = 0; j < i; j++)
                if (ps_load_relaxed(&limit->table.slots[j].key) == key &&
                    !ps_is_tentative(ps_load_relaxed(&limit->table.slots[j].state)))
                    model_fail("key %" PRIu64 " is established in slots %" PRIu64 " and %" PRIu64, key, j, i);
        }
    }
}

/* ---- what holds at an ending: some order of the calls explains it ---- */

typedef struct {
    spec_key of[LIMITS][KEYS_MOST];
    uint64_t in_force; /* which limit, when they replace one another */
} spec_all;

static const rule *rule_of(const spec_all *all, uint64_t limit) { return &the->limits[all->in_force ? all->in_force : limit]; }

/* A call, or its part on one limit or key where the parts are not one act. */
typedef struct {
    unsigned number, limit, key;
    bool whole; /* on all limits at once */
} piece;

#define PIECES_MOST 24
static piece pieces[PIECES_MOST];
static unsigned piece_count;

static void add_pieces(unsigned number) {
    const call *c = call_at(number);
    bool whole = c->verb == HIT || c->verb == CHECK || c->verb == PEEK;
    for (unsigned l = 0; l < (whole ? 1 : limit_count); l++)
        for (unsigned k = 0; k < (c->verb == CLEAR ? key_count : 1); k++) {
            if (piece_count == PIECES_MOST)
                model_fail("raise PIECES_MOST");
            unsigned key = c->verb == CLEAR ? k : c->verb == REPLACE ? 0 : key_index(c->key);
            pieces[piece_count++] = (piece){number, l, key, whole};
        }
}

typedef struct {
    bool begun[MODEL_CALLS_MOST], done[MODEL_CALLS_MOST];
    uint64_t result[MODEL_CALLS_MOST];
    uint32_t after[MODEL_CALLS_MOST];
    uint64_t left[LIMITS][4]; /* per probe */
    uint64_t evictions;
    unsigned stopped; /* threads */
} ending;

static ending end;

static bool before(unsigned a, unsigned b) { return end.done[a] && end.begun[b] && (end.after[b] >> a & 1); }

static bool overlapped(unsigned number) {
    for (unsigned other = 0; other < MODEL_CALLS_MOST; other++)
        if (other != number && end.begun[other] && !before(other, number) && !before(number, other))
            return true;
    return false;
}

/* The times that a call may count as of: its own, and later ones up to what the clock had shown before it returned.
 * A sliding window may be in any sub-window between. */
#define TIMES_MOST 16
static unsigned times_of(unsigned number, uint64_t *times) {
    unsigned count = 1;
    times[0] = call_at(number)->now;
    for (unsigned other = 0; (the->flags & LATER) && other < MODEL_CALLS_MOST; other++) {
        if (!end.begun[other] || before(number, other) || call_at(other)->now <= times[0])
            continue;
        uint64_t sub = the->limits[0].kind == WINDOW ? the->limits[0].per / the->limits[0].resolution : UINT64_MAX;
        for (uint64_t time = times[0] - times[0] % sub + sub; time > sub && time < call_at(other)->now && count < TIMES_MOST; time += sub)
            times[count++] = time;
        if (count < TIMES_MOST)
            times[count++] = call_at(other)->now;
    }
    return count;
}

static bool ends_as_it_did(const spec_all *all) {
    for (unsigned i = 0; i < 4 && the->probes[i].key; i++)
        for (unsigned l = 0; l < limit_count; l++) {
            uint64_t left = spec_remaining(rule_of(all, l), &all->of[l][key_index(the->probes[i].key)], the->probes[i].now);
            bool less = end.stopped && (the->flags & LESS_AFTER_STOP);
            if (less ? end.left[l][i] > left : end.left[l][i] != left)
                return false;
        }
    return true;
}

/* True when no slot can be had for the key: all are held, or owe something and nobody is evicted. */
static bool table_full(const spec_all *all, unsigned limit, unsigned key, uint64_t at) {
    const rule *r = rule_of(all, limit);
    if (!(the->flags & DENY_WHEN_FULL) && r->kind != HELD)
        return false;
    unsigned taken = 0;
    for (unsigned k = 0; k < key_count; k++)
        taken += k != key && spec_used(r, &all->of[limit][k], at) > 0;
    return taken >= PS_WINDOW_SLOTS && spec_used(r, &all->of[limit][key], at) == 0;
}

static bool search(uint32_t placed, const spec_all *all, uint64_t evictions);

/* Tries hits, checks and peeks at one pair of times, on the first `limits` limits. */
static bool try_decision(uint32_t placed, const spec_all *all, uint64_t evictions, const piece *p, uint64_t at, uint64_t dated,
                         unsigned limits, bool free_result) {
    const call *c = call_at(p->number);
    spec_all next = *all;
    bool allowed = true;
    uint64_t left = UINT64_MAX;
    for (unsigned l = 0; l < limits; l++) {
        spec_key *k = &next.of[l][p->key];
        bool here = !table_full(all, l, p->key, at) && spec_hit(rule_of(all, l), k, at, dated, c->cost);
        uint64_t remaining = table_full(all, l, p->key, at) ? 0 : spec_remaining(rule_of(all, l), k, here ? dated : at);
        allowed = allowed && here;
        left = remaining < left ? remaining : left;
    }
    if (!allowed || c->verb == PEEK)
        next = *all;
    if (!free_result) {
        uint64_t result = end.result[p->number];
        if ((result & 1) != allowed || (c->verb != HIT && result >> 1 != left))
            return false;
    } else if (!allowed) {
        return false; /* the same as not being in the order */
    }
    return search(placed, &next, evictions);
}

/* Every key keeps the tokens that it has spent, and parts of them, as of a time that its last admission was not after. */
static void replace_all(spec_all *all, uint64_t number, uint64_t now) {
    const rule *old = rule_of(all, 0), *new = &the->limits[number];
    for (unsigned k = 0; k < key_count; k++) {
        spec_key *key = &all->of[0][k];
        uint64_t at = now > key->latest ? now : key->latest;
        uint64_t debt = spec_less(key->full_at, at), token = old->per / old->limit;
        key->full_at = debt ? at + (debt * (new->per / new->limit) + token - 1) / token : 0;
    }
    all->in_force = number;
}

static bool try_piece(uint32_t placed, const spec_all *all, uint64_t evictions, unsigned index) {
    const piece *p = &pieces[index];
    const call *c = call_at(p->number);
    uint32_t next_placed = placed | 1u << index;
    uint64_t times[TIMES_MOST];
    unsigned count = times_of(p->number, times);
    if (p->whole) {
        bool done = end.done[p->number];
        for (unsigned i = 0; i < count; i++)
            for (unsigned j = 0; j < count; j++) {
                if (times[j] < times[i])
                    continue;
                for (unsigned limits = done ? (unsigned)limit_count : 1; limits <= limit_count; limits++)
                    if (try_decision(next_placed, all, evictions, p, times[i], times[j], limits, !done))
                        return true;
            }
        return done && !(end.result[p->number] & 1) && (the->flags & UNDESERVED) && overlapped(p->number) &&
               search(next_placed, all, evictions);
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t least = end.done[p->number] || (c->verb != REFUND && c->verb != BACK) ? c->cost : 1;
        for (uint64_t cost = least; cost <= c->cost; cost++) { /* a refund that was stopped may be one in part */
            spec_all next = *all;
            spec_key *k = &next.of[p->limit][p->key];
            const rule *r = rule_of(all, p->limit);
            if (c->verb == REFUND || c->verb == BACK)
                spec_refund(r, k, times[i], cost);
            else if (c->verb == FORCE)
                spec_force(r, k, times[i], cost);
            else if (c->verb == REPLACE)
                replace_all(&next, c->cost, times[i]);
            else
                spec_forget(r, k);
            if (search(next_placed, &next, evictions))
                return true;
        }
    }
    return false;
}

static bool search(uint32_t placed, const spec_all *all, uint64_t evictions) {
    bool complete = true;
    for (unsigned i = 0; i < piece_count; i++)
        complete = complete && ((placed >> i & 1) || !end.done[pieces[i].number]);
    if (complete && ends_as_it_did(all))
        return true;
    for (unsigned i = 0; i < piece_count; i++) {
        if ((placed >> i & 1) || !end.begun[pieces[i].number])
            continue;
        bool ready = true;
        for (unsigned j = 0; j < piece_count; j++)
            ready = ready && ((placed >> j & 1) || !before(pieces[j].number, pieces[i].number));
        if (ready && try_piece(placed, all, evictions, i))
            return true;
    }
    for (unsigned l = 0; evictions && l < limit_count; l++)
        for (unsigned k = 0; k < key_count; k++) {
            static const spec_key never;
            if (keys[k] == the->kept || !memcmp(&all->of[l][k], &never, sizeof never))
                continue;
            spec_all next = *all;
            memset(&next.of[l][k], 0, sizeof next.of[l][k]);
            if (search(placed, &next, evictions - 1))
                return true;
        }
    return false;
}

static spec_all at_start;

static void note_result(unsigned number) {
    end.begun[number] = model_call_begun(number);
    end.done[number] = model_call_done(number, &end.result[number]);
    end.after[number] = model_call_after(number);
}

/* Endings that look alike are explained once. */
static struct explained {
    uint64_t hash;
    struct explained *next;
} *explained[4096];

static bool already_explained(void) {
    const unsigned char *bytes = (const unsigned char *)&end;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof end; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3) ^ hash >> 32;
    struct explained **bucket = &explained[hash % 4096];
    for (struct explained *e = *bucket; e; e = e->next)
        if (e->hash == hash)
            return true;
    struct explained *e = (struct explained *)malloc(sizeof *e);
    if (!e)
        model_fail("no memory");
    e->hash = hash;
    e->next = *bucket;
    *bucket = e;
    return false;
}

static const char *names[] = {"?", "hit", "check", "peek", "refund", "refund if admitted", "force", "reset", "clear", "replace"};

static void describe_ending(void) {
    for (unsigned n = 0; n < MODEL_CALLS_MOST; n++) {
        if (!end.begun[n])
            continue;
        const call *c = call_at(n);
        printf("call %u: %s(key %" PRIu64 ", now %" PRIu64 ", cost %" PRIu64 ")", n, names[c->verb], c->key, c->now, c->cost);
        if (end.done[n])
            printf(" = %s, %" PRIu64 " left; after calls %#x\n", end.result[n] & 1 ? "yes" : "no", end.result[n] >> 1, end.after[n]);
        else
            printf(" was stopped\n");
    }
    for (unsigned i = 0; i < 4 && the->probes[i].key; i++)
        for (unsigned l = 0; l < limit_count; l++)
            printf("limit %u: key %" PRIu64 " has %" PRIu64 " left at %" PRIu64 "\n", l, the->probes[i].key, end.left[l][i],
                   the->probes[i].now);
    printf("evictions: %" PRIu64 "\n", end.evictions);
}

static uint64_t counted(size_t offset) {
    uint64_t sum = 0;
    for (unsigned cell = 0; cell < PS_CELLS; cell++)
        sum += ps_load_relaxed((const ps_word *)(const void *)((const char *)&limiter.cells[cell] + offset));
    return sum;
}

static uint64_t counted_before[2];

static void ended(void) {
    memset(&end, 0, sizeof end);
    end.stopped = model_stopped();
    uint64_t decided = 0;
    for (unsigned n = 0; n < thread_count * CALLS_EACH; n++) {
        if (!call_at(n)->verb)
            continue;
        note_result(n);
        decided += end.done[n] && (call_at(n)->verb == HIT || call_at(n)->verb == CHECK);
    }
    end.evictions = counted(offsetof(ps_cell, evicted));
    if (end.evictions > the->evictions)
        model_fail("%" PRIu64 " keys evicted where %u had to be", end.evictions, the->evictions);
    uint64_t sum = counted(offsetof(ps_cell, admitted)) + counted(offsetof(ps_cell, denied)) - counted_before[0] - counted_before[1];
    if (sum < decided || sum > decided + end.stopped)
        model_fail("%" PRIu64 " decisions in the statistics, %" PRIu64 " were taken", sum, decided);
    for (unsigned i = 0; i < 4 && the->probes[i].key; i++)
        for (unsigned l = 0; l < limit_count; l++) {
            ps_view view;
            const ps_policy *p = ps_policy_now(&limiter, &limiter.limits[l], 0);
            ps_look(&limiter, &limiter.limits[l], p, the->probes[i].key, the->probes[i].now, 0, false, &view);
            end.left[l][i] = view.remaining;
        }
    if (already_explained())
        return;
    /* Evictions are counted when their call has found its slot: those of one that was stopped are not. */
    uint64_t evictions = end.stopped ? the->evictions : end.evictions;
    if (!search(0, &at_start, evictions)) {
        describe_ending();
        model_fail("no order of the calls explains this ending");
    }
}

/* ---- from a name to a verdict ---- */

static void set_up(void) {
    model_line_slots = the->slots ? the->slots : 2;
    model_window_lines = the->lines ? the->lines : 1;
    while (limit_count < LIMITS && the->limits[limit_count].limit && !(limit_count && the->flags & REPLACED))
        limit_count++;
    while (thread_count < MODEL_THREADS_MOST && the->threads[thread_count][0].verb)
        thread_count++;
    uint64_t tail_words[LIMITS];
    for (uint64_t l = 0; l < limit_count; l++)
        tail_words[l] = tail_words_of(&the->limits[l]);
    if (!ps_limiter_open(&limiter, 1, tail_words, limit_count, false))
        model_fail("no memory for a limiter");
    limiter.evict = !(the->flags & DENY_WHEN_FULL);
    limiter.clock = &model_clock;
    limiter.tier_count = 1;
    for (uint64_t l = 0; l < LIMITS && the->limits[l].limit; l++) {
        policies[l] = policy_of(&the->limits[l]);
        policies[l].tag = the->flags & REPLACED ? l : 0;
    }
    ps_install(&limiter, 0, policies);

    for (unsigned i = 0; i < 4 && the->probes[i].key; i++)
        key_index(the->probes[i].key);
    for (unsigned i = 0; i < 6 && the->before[i].verb; i++) {
        const call *c = &the->before[i];
        unsigned k = key_index(c->key);
        perform(c, 0);
        for (uint64_t l = 0; l < limit_count; l++) {
            spec_key *key = &at_start.of[l][k];
            if (c->verb == HIT && !spec_hit(&the->limits[l], key, c->now, c->now, c->cost))
                model_fail("call %u of those before is refused", i);
            if (c->verb == REFUND)
                spec_refund(&the->limits[l], key, c->now, c->cost);
            if (c->verb == RESET)
                spec_forget(&the->limits[l], key);
        }
    }
    counted_before[0] = counted(offsetof(ps_cell, admitted));
    counted_before[1] = counted(offsetof(ps_cell, denied));
    for (unsigned n = 0; n < thread_count * CALLS_EACH; n++)
        if (call_at(n)->verb && call_at(n)->verb != CLEAR && call_at(n)->verb != REPLACE)
            key_index(call_at(n)->key);
    if (key_count > KEYS_MOST)
        model_fail("raise KEYS_MOST");
    for (unsigned n = 0; n < thread_count * CALLS_EACH; n++)
        if (call_at(n)->verb)
            add_pieces(n);

    for (uint64_t l = 0; l < limit_count; l++) {
        uint64_t slots = ps_table_slots(limiter.limits[l].table.homes);
        model_share(&limiter.limits[l].table.slots[0].key, (unsigned)(2 * slots), 2, l ? "limit 1 slot %u.%u" : "slot %u.%u");
        if (tail_words[l])
            model_share(limiter.limits[l].tails, (unsigned)(tail_words[l] * slots), (unsigned)tail_words[l],
                        l ? "limit 1 tail %u[%u]" : "tail %u[%u]");
    }
    model_share(&model_clock.time, 1, 1, "clock");
    if (the->flags & REPLACED)
        model_share(&limiter.current[0], 1, 1, "policy in force");
    if (the->flags & ONE_CELL)
        model_share(&limiter.cells[PS_CELL_SHARED].admitted, 5, 5, "cell %u[%u]");
    else
        for (unsigned t = 0; t < thread_count; t++)
            model_own(t, &limiter.cells[t + 1], sizeof(ps_cell));
}

static void print_call(const call *c, const char *between) {
    printf("%s%s", between, names[c->verb]);
    if (c->verb == REPLACE)
        printf(" by limit %" PRIu64 " @%" PRIu64, c->cost, c->now);
    else if (c->verb != CLEAR)
        printf(" %c@%" PRIu64, c->key == G ? 'G' : c->key == H ? 'H' : (char)('A' + (c->key - A)), c->now);
    if (c->cost > 1 && c->verb != REPLACE)
        printf(" x%" PRIu64, c->cost);
}

/* A line: name, threads, limits, calls before and of each thread, separated by tabs. */
static void print_model(const protocol *p) {
    static const char *kinds[] = {"bucket", "window", "log", "fixed", "first hit", "held"};
    unsigned threads = 0;
    while (threads < MODEL_THREADS_MOST && p->threads[threads][0].verb)
        threads++;
    printf("%s\t%u\t", p->name, threads);
    for (unsigned l = 0; l < LIMITS && p->limits[l].limit; l++) {
        const rule *r = &p->limits[l];
        printf("%s%s %" PRIu64, l ? ", " : "", kinds[r->kind], r->limit);
        if (r->per)
            printf("/%" PRIu64, r->per);
        if (r->burst)
            printf(" burst %" PRIu64, r->burst);
    }
    printf("\t");
    for (unsigned i = 0; i < 6 && p->before[i].verb; i++)
        print_call(&p->before[i], i ? ", " : "");
    printf("\t");
    for (unsigned t = 0; t < threads; t++)
        for (unsigned i = 0; i < CALLS_EACH && p->threads[t][i].verb; i++)
            print_call(&p->threads[t][i], i ? ", " : t ? " // " : "");
    printf("\n");
}

static void refuse(const char *program) {
    printf("usage: %s list | %s MODEL sc|c11 STOPS\n", program, program);
    exit(2);
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "list")) {
        for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
            print_model(&protocols[i]);
        return 0;
    }
    if (count != 4)
        refuse(arguments[0]);
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (!strcmp(protocols[i].name, arguments[1]))
            the = &protocols[i];
    if (!the)
        refuse(arguments[0]);
    set_up();
    model m = {.threads = (unsigned)thread_count, .weak = !strcmp(arguments[2], "c11"), .stops = (unsigned)atoi(arguments[3]),
               .steps_most = 120, .wins_most = the->wins_most,
               .unstoppable = the->unstoppable, .begins = begins, .body = body, .written = written, .ended = ended};
    model_size size;
    clock_t start = clock();
    model_explore(&m, &size);
    printf("holds: states=%" PRIu64 " steps=%" PRIu64 " endings=%" PRIu64 " cut=%" PRIu64 " executions=%.3g longest=%u seconds=%.2f\n",
           size.states, size.steps, size.ends, size.cut, size.executions, size.depth, (double)(clock() - start) / CLOCKS_PER_SEC);
    return 0;
}
