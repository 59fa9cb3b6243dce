/* One decision end to end: find the key's slot, step its algorithm, exchange the word, count the outcome.
 *
 *   key -> fingerprint -> slot -> algorithm -> decision
 *
 * A limiter has one table per limit, all of the same capacity. A decision on one limit is linearizable at its
 * exchange (admitted) or at the second reading that found the word unchanged (refused). Several limits are
 * first only looked at; if all would admit, they are taken in order, and what was taken is given back when a
 * later one has meanwhile been used up: such a caller is refused, and others may be for that moment. */
#ifndef PENSTOCK_LIMITER_H
#define PENSTOCK_LIMITER_H

#include "algorithms/concurrency.h"
#include "algorithms/fixed_window.h"
#include "algorithms/shared.h"
#include "algorithms/sliding_log.h"
#include "algorithms/sliding_window.h"
#include "algorithms/token_bucket.h"
#include "platform/clock.h"
#include "platform/fault.h"
#include "platform/memory.h"
#include "platform/thread.h"
#include "platform/wake.h"
#include "segment/holds.h"
#include "stats/cells.h"
#include "table/fingerprint.h"
#include "table/table.h"

#define PS_LIMITS_MOST 8
#define PS_TIERS_MOST 16
/* Policies of one limit: each tier's, and as many again for the limits that replace them. */
#define PS_POLICIES_MOST (2 * PS_TIERS_MOST)

typedef struct {
    ps_table table;
    ps_word *tails;      /* tail_words for each slot, in the order of the slots; NULL when 0 */
    uint64_t tail_words;
    ps_word *dirty;      /* shared limits: for each line, not 0 when a slot of it has something to tell Redis */
    ps_policy policies[PS_POLICIES_MOST]; /* by number */
} ps_limit;

typedef struct {
    ps_limit limits[PS_LIMITS_MOST];
    uint64_t limit_count;
    ps_word current[PS_TIERS_MOST]; /* the number of the policy that each tier has now: the tier's, or that plus tier_count */
    uint64_t tier_count; /* 0: limits are never replaced */
    ps_secret secret;
    bool evict; /* a full window gives the place of its least debt to a new key; else the new key is refused */
    /* Where decisions' times come from: a clock that showed `birth_ns` when they were 0; or, when that is NULL, another
     * that can't be asked here, and the latest time it gave. */
    ps_clock *clock;
    uint64_t birth_ns;
    ps_word latest_ns;
    ps_share *share; /* NULL, or all limits are shared between instances */
    ps_cell *cells;
    ps_caller callers[PS_CELLS]; /* by thread number; cell NULL: one is still to be taken */
    void *memory; /* cells, tables and tails, one mapping */
    size_t bytes;
    /* A segment: a mapping that other processes have too. NULL: a limiter of this process alone. */
    ps_commons *commons;
    uint32_t seat; /* PS_NO_SEAT: it only looks */
    int fd;
    ps_word trouble;  /* ps_trouble */
    int *fast;        /* taken away when there is trouble, so that the next call looks at it */
    ps_word named_ns; /* when the file was last seen to have a name */
    ps_word clearing; /* 1: a thread of this process is clearing up after dead seats */
} ps_limiter;

/* PS_BROKEN: the file was cut off, and what is mapped now is nobody else's. PS_NAMELESS: the file was removed; those who have it mapped
 * still share it. PS_NAMELESS_TOLD: and that was said. */
typedef enum { PS_NO_TROUBLE, PS_BROKEN, PS_NAMELESS, PS_NAMELESS_TOLD } ps_trouble;

/* A decision over all limits. limit and remaining are those of limit `index`: the one that refuses longest,
 * or, when all admit, the one with the fewest units left. */
typedef struct {
    bool allowed;
    uint64_t limit, remaining;
    uint64_t retry_ns, reset_ns; /* the longest of all limits */
    uint64_t index;
} ps_decision;

typedef enum { PS_ADMITTED, PS_REFUSED, PS_REFUSED_FULL } ps_outcome;

/* ---- one limit: the five algorithms behind one name each ---- */

static inline ps_word *ps_tail(const ps_limit *limit, uint64_t index) {
    return limit->tails + index * limit->tail_words;
}

/* A bucket's word in the ticks of policy p, whichever policy wrote it; other words mean the same in all. */
static inline uint64_t ps_word_as(const ps_limit *limit, const ps_policy *p, uint64_t word, uint64_t now) {
    if (p->algorithm != PS_TOKEN_BUCKET || word == 0 || word >> p->tag_shift == p->tag)
        return word;
    return ps_bucket_convert(&limit->policies[word >> p->tag_shift], p, word, now);
}

/* True for a bucket's word that p did not write: another tier's, one from before limits were replaced, or a claim. */
static inline bool ps_is_foreign(const ps_policy *p, uint64_t state) {
    return p->algorithm == PS_TOKEN_BUCKET && state >> p->tag_shift != p->tag;
}

/* The policy that p's tier has now. Asked after a foreign word was read or a slot claimed, which pairs with ps_replace:
 * it publishes a policy, then rewrites all words and takes back all claims. So either this finds what was published, or
 * the exchange that follows finds the word rewritten; nothing stays that was written by a policy out of force. */
static inline const ps_policy *ps_policy_in_force(const ps_limiter *limiter, const ps_limit *limit, const ps_policy *p) {
    if (limiter->tier_count == 0)
        return p;
    return &limit->policies[ps_load_seq(&limiter->current[p->tag % limiter->tier_count])];
}

static inline bool ps_step(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost, uint64_t *next) {
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: return ps_bucket_step(p, word, now, cost, next);
    case PS_SLIDING_WINDOW: return ps_window_step(p, word, tail, now, cost, next);
    case PS_SLIDING_LOG: return ps_log_step(p, word, tail, now, cost, next);
    case PS_FIXED_WINDOW: return ps_fixed_step(p, word, tail, now, cost, next);
    default: return ps_concurrency_step(p, word, cost, next);
    }
}

/* A shared limit, as the key's partition of the fleet has it. */
static inline ps_sharer ps_sharer_for(const ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                                      bool credit_only) {
    ps_sharer sharer = ps_sharer_of(limiter->share, p, (uint64_t)(limit - limiter->limits), fingerprint);
    if (credit_only)
        sharer.mode = PS_MODE_CLOSED;
    return sharer;
}

PS_APART uint64_t ps_force(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost) {
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: return ps_bucket_force(p, word, now, cost);
    case PS_SLIDING_WINDOW: return ps_window_force(p, word, tail, now, cost);
    case PS_SLIDING_LOG: return ps_log_force(p, word, tail, now, cost);
    case PS_FIXED_WINDOW: return ps_fixed_force(p, word, tail, now, cost);
    case PS_SHARED: return ps_shared_force(p, word, tail, now, cost);
    default: return ps_concurrency_force(p, word, cost);
    }
}

static inline uint64_t ps_refund_word(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: return ps_bucket_refund(p, word, now, cost);
    case PS_SLIDING_WINDOW: return ps_window_refund(p, word, now, cost);
    case PS_SLIDING_LOG: return ps_log_refund(p, word, tail, now, cost);
    case PS_FIXED_WINDOW: return ps_fixed_refund(p, word, tail, now, cost);
    case PS_SHARED: return ps_shared_refund(p, word, tail, now, cost);
    default: return ps_concurrency_refund(p, word, cost);
    }
}

/* Whether units taken at `then`, which led to the word `taken`, still count at `now`. A bucket's are less each moment. */
static inline bool ps_kept(const ps_policy *p, uint64_t word, uint64_t taken, const ps_word *tail, uint64_t then, uint64_t now) {
    switch (p->algorithm) {
    case PS_SLIDING_WINDOW: return ps_window_kept(p, word, taken, now);
    case PS_SLIDING_LOG: return ps_log_kept(p, word, taken, tail, then, now);
    case PS_FIXED_WINDOW: return ps_fixed_kept(p, word, taken);
    default: return true;
    }
}

PS_APART void ps_describe(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, ps_view *view) {
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: ps_bucket_describe(p, word, now, cost, view); break;
    case PS_SLIDING_WINDOW: ps_window_describe(p, word, tail, now, cost, view); break;
    case PS_SLIDING_LOG: ps_log_describe(p, word, tail, now, cost, view); break;
    case PS_FIXED_WINDOW: ps_fixed_describe(p, word, tail, now, cost, view); break;
    default: ps_concurrency_describe(p, word, cost, view); break;
    }
}

static inline uint64_t ps_fresh(const ps_policy *p, const ps_word *tail, uint64_t now) {
    switch (p->algorithm) {
    case PS_SLIDING_WINDOW: return ps_window_fresh(p, tail, now);
    case PS_SLIDING_LOG: return ps_log_fresh(p, tail);
    case PS_CONCURRENCY: return ps_concurrency_fresh(p, now);
    default: return 0;
    }
}

static inline void ps_retire(const ps_policy *p, uint64_t word, ps_word *tail) {
    if (p->algorithm == PS_SLIDING_WINDOW)
        ps_window_retire(p, word, tail);
    else if (p->algorithm == PS_SLIDING_LOG)
        ps_log_retire(p, word, tail);
    else if (p->algorithm == PS_SHARED)
        ps_shared_retire(tail);
}

/* Units (ticks, for a bucket) that count against the slot's key; needs no tier. */
PS_APART uint64_t ps_debt(const ps_limit *limit, uint64_t index, uint64_t word, uint64_t now) {
    const ps_policy *p = &limit->policies[0];
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET: return ps_bucket_debt(&limit->policies[word >> p->tag_shift], word, now);
    case PS_SLIDING_WINDOW: return ps_window_debt(p, word, ps_tail(limit, index), now);
    case PS_SLIDING_LOG: return ps_log_debt(p, word, ps_tail(limit, index), now);
    case PS_FIXED_WINDOW: return ps_fixed_debt(p, word, ps_tail(limit, index), now);
    case PS_SHARED: return ps_shared_debt(p, word, ps_tail(limit, index), now);
    default: return ps_concurrency_held(p, word);
    }
}

/* ---- tenancy: what the table asks ---- */

typedef struct {
    const ps_limit *limit;
    uint64_t now;
    ps_caller caller;
    /* For a bucket's words of one policy a slot's debt is a subtraction, from values that stay in registers. */
    uint64_t tag_bits, tat_mask, ticks; /* the words' tag in place, the bits below it, `now` in the policy's ticks */
    bool held; /* Concurrency: what is in flight must not be forgotten, or more than the limit would be held */
    bool shared; /* what Redis has not been told must not be forgotten either */
} ps_tenancy_context;

static inline ps_tenancy_context ps_tenancy_begin(const ps_limit *limit, const ps_policy *p, uint64_t now, ps_caller caller) {
    ps_tenancy_context c = {limit, now, caller, UINT64_MAX, 0, 0, p->algorithm == PS_CONCURRENCY, p->algorithm == PS_SHARED};
    if (p->algorithm == PS_TOKEN_BUCKET) {
        c.tag_bits = p->tag << p->tag_shift;
        c.tat_mask = (UINT64_C(1) << p->tag_shift) - 1;
        c.ticks = ps_bucket_ticks(p, now);
    }
    return c;
}

static inline uint64_t ps_tenancy_nonce(void *context) { return ps_nonce(((ps_tenancy_context *)context)->caller); }

PS_HOT uint64_t ps_tenancy_debt(void *context, uint64_t index, uint64_t word) {
    const ps_tenancy_context *c = (const ps_tenancy_context *)context;
    uint64_t debt;
    if ((word & ~c->tat_mask) == c->tag_bits)
        debt = ps_until(word & c->tat_mask, c->ticks);
    else
        debt = ps_debt(c->limit, index, word, c->now);
    if ((c->held && debt) || (c->shared && ps_shared_owes(word, ps_tail(c->limit, index))))
        return PS_DEBT_HELD;
    return debt ? debt + PS_DEBT_TENTATIVE : 0;
}

PS_HOT void ps_tenancy_retire(void *context, uint64_t index, uint64_t word) {
    const ps_tenancy_context *c = (const ps_tenancy_context *)context;
    ps_retire(&c->limit->policies[0], word, ps_tail(c->limit, index));
}

/* ---- one limit, one key ---- */

/* Claims a slot for the key, or finds that another caller has; ps_locate's second half. */
PS_APART ps_claim ps_locate_new(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                                uint64_t now, ps_caller caller, uint64_t *index, uint64_t *state) {
    ps_tenancy_context context = ps_tenancy_begin(limit, p, now, caller);
    ps_tenancy tenancy = {&context, ps_tenancy_debt, ps_tenancy_retire, ps_tenancy_nonce};
    ps_table table = limit->table;
    uint64_t evicted = 0;
    ps_claim claim = ps_table_claim(&table, fingerprint, &tenancy, limiter->evict, &evicted, index, state);
    if (evicted)
        ps_count(caller, &caller.cell->evicted, evicted);
    if (evicted && limiter->share)
        ps_store_relaxed(&limiter->share->evicted[limit - limiter->limits], 1);
    if (claim == PS_FOUND)
        *state = ps_load_acquire(&limit->table.slots[*index].state);
    return claim;
}

/* Finds the established slot of the key or claims one; PS_CLAIMED leaves it tentative with *state. */
PS_HOT ps_claim ps_locate(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                          uint64_t now, ps_caller caller, uint64_t *index, uint64_t *state) {
    *index = ps_table_find(&limit->table, fingerprint);
    if (*index != PS_NO_SLOT) {
        *state = ps_load_acquire(&limit->table.slots[*index].state);
        if (!ps_is_tentative(*state))
            return PS_FOUND;
    }
    return ps_locate_new(limiter, limit, p, fingerprint, now, caller, index, state);
}

/* The slot where the key is established and its word; false when it has none that was counted on. A claim of another
 * caller's may stand before it. Ends: it looks again only when the slot has changed hands. */
static inline bool ps_settled(const ps_limit *limit, uint64_t fingerprint, uint64_t *index, uint64_t *state) {
    for (;;) {
        *index = ps_table_find(&limit->table, fingerprint);
        if (*index != PS_NO_SLOT && ps_is_tentative(ps_load_acquire(&limit->table.slots[*index].state)))
            *index = ps_table_find_established(&limit->table, fingerprint);
        if (*index == PS_NO_SLOT)
            return false;
        const ps_pair *slot = &limit->table.slots[*index];
        *state = ps_load_acquire(&slot->state);
        if (!ps_is_tentative(*state) && ps_load_acquire(&slot->key) == fingerprint)
            return true;
    }
}

/* True while the slot still holds what a decision was read from. */
static inline bool ps_unchanged(const ps_pair *slot, uint64_t fingerprint, uint64_t state) {
    return ps_load_acquire(&slot->key) == fingerprint && ps_load_relaxed(&slot->state) == state;
}

/* The soonest time at which some slot of the key's window becomes free. */
PS_APART uint64_t ps_soonest_free(const ps_limit *limit, uint64_t fingerprint, uint64_t now) {
    uint64_t soonest = PS_NEVER;
    ps_window window = ps_table_window(&limit->table, fingerprint);
    for (unsigned place = 0; place < PS_WINDOW_SLOTS; place++) {
        uint64_t index = ps_window_line(&window, place / PS_LINE_SLOTS) + place % PS_LINE_SLOTS;
        uint64_t key = ps_load_acquire(&limit->table.slots[index].key);
        uint64_t state = ps_load_acquire(&limit->table.slots[index].state);
        const ps_policy *p = &limit->policies[0];
        ps_view view = {0};
        if (key > PS_SLOT_FREE && !ps_is_tentative(state)) {
            if (p->algorithm == PS_TOKEN_BUCKET)
                p = &limit->policies[state >> p->tag_shift];
            if (p->algorithm == PS_SHARED)
                view.reset_ns = p->interval_ns; /* then it will have told Redis what it owes */
            else
                ps_describe(p, state, ps_tail(limit, index), now, 0, &view);
        }
        if (view.reset_ns < soonest)
            soonest = view.reset_ns;
    }
    return soonest;
}

/* The latest time of a clock that can't be asked here, over all who share the limiter. */
static inline ps_word *ps_latest(ps_limiter *limiter) { return limiter->commons ? &limiter->commons->latest_ns : &limiter->latest_ns; }

/* That time; what others may scribble is no later than time can be. */
static inline uint64_t ps_latest_now(ps_limiter *limiter) {
    uint64_t latest = ps_load_acquire(ps_latest(limiter));
    return latest < PS_HORIZON ? latest : PS_HORIZON;
}

/* The time by now: no earlier than any that was used for what the caller has seen. */
PS_APART uint64_t ps_later(ps_limiter *limiter, uint64_t now) {
    uint64_t later;
    if (limiter->clock && limiter->commons) /* other processes' readings may be PS_CLOCK_LAG ahead of this one's, none of the system's */
        later = ps_since(limiter->birth_ns, ps_clock_system());
    else if (limiter->clock)
        later = ps_since(limiter->birth_ns, ps_clock_now(limiter->clock));
    else
        later = ps_latest_now(limiter);
    return later > now ? later : now;
}

/* To be called between finding or claiming a slot and judging its word: another policy may have come into force, and
 * what is in the slot, or was there before it was free, may be younger than this decision's time. A window from the
 * first hit keeps that time: whoever loses the race to open one must not move its start past its end. True when the
 * time has moved on. */
static inline bool ps_catch_up(ps_limiter *limiter, const ps_limit *limit, ps_claim claim, uint64_t state,
                               const ps_policy **p, uint64_t *now) {
    if (claim != PS_CLAIMED && !ps_is_foreign(*p, state))
        return false;
    *p = ps_policy_in_force(limiter, limit, *p);
    if (!(*p)->first_hit)
        *now = ps_later(limiter, *now);
    return !(*p)->first_hit;
}

/* Dates what a sliding log has just admitted. While the one before is not dated, its time is not known, but past. */
static inline void ps_date(ps_limiter *limiter, const ps_policy *p, uint64_t word, uint64_t next, ps_word *tail, uint64_t now) {
    ps_log_publish(p, word, next, tail, ps_log_undated(p, word, tail) ? ps_later(limiter, now) : now);
}

/* ps_describe of any limit. */
static inline void ps_tell(const ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint, uint64_t word,
                           const ps_word *tail, uint64_t now, uint64_t cost, bool credit_only, ps_view *view) {
    if (p->algorithm != PS_SHARED) {
        ps_describe(p, word, tail, now, cost, view);
        return;
    }
    ps_sharer sharer = ps_sharer_for(limiter, limit, p, fingerprint, credit_only);
    ps_shared_describe(&sharer, word, tail, now, cost, view);
}

/* An admission that is in the way of `cost` may have no date because its caller is gone. */
static inline void ps_fill(ps_limiter *limiter, const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t missing;
    ps_log_fits_at(p, word, tail, now, cost, &missing);
    if (missing != PS_NEVER)
        ps_log_write(p, tail, missing, ps_later(limiter, now));
}

/* What `cost` would be answered now; writes nothing that decides anything. */
PS_APART void ps_look(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                           uint64_t now, uint64_t cost, bool credit_only, ps_view *view) {
    static const ps_word nothing[PS_WINDOW_RING_MOST]; /* the tail of a key never seen */
    uint64_t index, state;
    for (;;) {
        while (ps_settled(limit, fingerprint, &index, &state)) {
            ps_catch_up(limiter, limit, PS_FOUND, state, &p, &now);
            ps_tell(limiter, limit, p, fingerprint, ps_word_as(limit, p, state, now), ps_tail(limit, index), now, cost, credit_only, view);
            if (ps_unchanged(&limit->table.slots[index], fingerprint, state))
                return;
        }
        ps_tell(limiter, limit, p, fingerprint, ps_fresh(p, nothing, now), nothing, now, cost, credit_only, view);
        if (!view->allowed || cost == 0 || (limiter->evict && p->algorithm != PS_CONCURRENCY))
            return;
        ps_tenancy_context context = ps_tenancy_begin(limit, p, now, (ps_caller){0});
        ps_tenancy tenancy = {&context, ps_tenancy_debt, ps_tenancy_retire, ps_tenancy_nonce};
        ps_table table = limit->table;
        ps_reading reading;
        ps_table_read(&table, fingerprint, &tenancy, &reading);
        if (reading.established != PS_NO_SLOT)
            continue; /* since it was looked for; a reading that meets it looks for no other slot */
        if (reading.candidate == PS_NO_SLOT &&
            (reading.victim == PS_NO_SLOT || (reading.victim_debt > PS_DEBT_TENTATIVE && !limiter->evict)))
            *view = (ps_view){.allowed = false, .retry_ns = ps_soonest_free(limit, fingerprint, now)};
        return;
    }
}

/* Tells the driver of a slot that has something for Redis. Ordered after the exchange that made it so; pairs with ps_drain,
 * which takes the mark away before it reads the line. */
static inline void ps_mark_dirty(const ps_limit *limit, uint64_t index) {
    ps_word *mark = &limit->dirty[index / PS_LINE_SLOTS];
    if (!ps_load_seq(mark))
        ps_store_release(mark, 1);
}

PS_APART void ps_note_shared(ps_limiter *limiter, const ps_limit *limit, const ps_sharer *sharer, uint64_t fingerprint,
                             uint64_t index, uint64_t word, uint64_t next, uint64_t now, uint64_t cost, bool admitted) {
    ps_word *tail = ps_tail(limit, index);
    bool early = ps_shared_note(sharer, word, next, tail, now, cost, admitted);
    if (early) {
        ps_word *asked = &limiter->share->asked[ps_partition_of(limiter->share, fingerprint)];
        if (!ps_load_relaxed(&tail[PS_TAIL_ASKED]))
            ps_store_relaxed(&tail[PS_TAIL_ASKED], 1);
        if (!ps_load_relaxed(asked)) {
            uint64_t wake = ps_load_acquire(&limiter->share->wake);
            ps_store_release(asked, 1);
            if (wake && limiter->commons)
                ps_bell_ring(&limiter->commons->asked); /* the descriptor would be another process's */
            else if (wake)
                ps_wake((int)(wake - 1));
        }
    }
    ps_mark_dirty(limit, index);
}

/* ---- units in flight in a segment: segment/holds.h ---- */

PS_APART bool ps_write_held(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t index, uint64_t fingerprint,
                          uint64_t state, uint64_t next) {
    ps_word *transit = &limiter->commons->seats[limiter->seat].transit;
    uint64_t before = ps_is_tentative(state) ? 0 : ps_concurrency_held(p, state);
    ps_add_seq(transit, 1);
    bool put = ps_pair_exchange(&limit->table.slots[index], fingerprint, state, fingerprint, next);
    if (put)
        ps_held_add(ps_tail(limit, index), limiter->seat, ps_concurrency_held(p, next) - before);
    ps_add_seq(transit, UINT64_MAX);
    return put;
}

/* Puts a word in place that took units, or took none. */
PS_HOT bool ps_write_word(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t index, uint64_t fingerprint, uint64_t state,
                   uint64_t next) {
    if (p->algorithm == PS_CONCURRENCY && limiter->commons)
        return ps_write_held(limiter, limit, p, index, fingerprint, state, next);
    return ps_pair_exchange(&limit->table.slots[index], fingerprint, state, fingerprint, next);
}

/* Gives units back, as many as somebody holds. Ends: as ps_alter. */
PS_APART void ps_let_go(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint, uint64_t cost) {
    ps_word *transit = &limiter->commons->seats[limiter->seat].transit;
    uint64_t index, state;
    ps_add_seq(transit, 1);
    if (ps_settled(limit, fingerprint, &index, &state)) {
        uint64_t back = ps_held_less_all(ps_tail(limit, index), limiter->seat, cost);
        while (back && ps_settled(limit, fingerprint, &index, &state) &&
               !ps_pair_exchange(&limit->table.slots[index], fingerprint, state, fingerprint, ps_concurrency_refund(p, state, back))) {
        }
    }
    ps_add_seq(transit, UINT64_MAX);
}

/* Gives back what the holders of these seats had, for who has their locks; false when some of it must wait. */
PS_APART bool ps_clear_holds(ps_limiter *limiter, const ps_seat_set *dead) {
    bool whole = true;
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        uint64_t slots = limit->policies[0].algorithm == PS_CONCURRENCY ? ps_table_slots(limit->table.homes) : 0;
        for (uint64_t index = 0; index < slots; index++)
            if (ps_load_acquire(&limit->table.slots[index].key) > PS_SLOT_FREE)
                whole &= ps_holds_audit(&limit->policies[0], limiter->commons, &limit->table.slots[index], ps_tail(limit, index), dead);
    }
    return whole;
}

/* Clears up after seats whose holders are gone; true when there were any. */
PS_APART bool ps_clear_dead(ps_limiter *limiter) {
    ps_seat_set dead = {{0}};
    bool any = false, whole;
    uint64_t idle = 0;
    if (limiter->seat == PS_NO_SEAT || !ps_exchange_if_equal(&limiter->clearing, &idle, 1))
        return false; /* two threads would both be given the lock: it is the descriptor's */
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) {
        if (seat == limiter->seat || !ps_load_acquire(&limiter->commons->seats[seat].taken) || !ps_seat_lock(limiter->fd, seat))
            continue;
        if (!ps_load_acquire(&limiter->commons->seats[seat].taken)) { /* somebody else has cleared it */
            ps_seat_unlock(limiter->fd, seat);
            continue;
        }
        ps_seat_put(&dead, seat);
        any = true;
    }
    whole = !any || ps_clear_holds(limiter, &dead);
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) {
        if (!ps_seat_in(&dead, seat))
            continue;
        if (whole)
            ps_seat_clear(limiter->commons, seat);
        ps_seat_unlock(limiter->fd, seat);
    }
    ps_store_release(&limiter->clearing, 0);
    return any && whole;
}

#define PS_LOOK_NS UINT64_C(50000000)   /* dead seats are looked for no more often than that */
#define PS_NAMED_NS UINT64_C(1000000000) /* and whether the file still has its name, by each process */

/* What somebody must do now and then in a segment, and callers do that were refused. True when units of the dead came back. */
PS_APART bool ps_look_around(ps_limiter *limiter, uint64_t now) {
    uint64_t named = ps_load_relaxed(&limiter->named_ns), looked = ps_load_relaxed(&limiter->commons->looked_ns);
    if (now - named >= PS_NAMED_NS && ps_exchange_if_equal(&limiter->named_ns, &named, now) && ps_nameless(limiter->fd)) {
        uint64_t none = PS_NO_TROUBLE;
        if (ps_exchange_if_equal(&limiter->trouble, &none, PS_NAMELESS))
            *limiter->fast = 0;
    }
    if (now - looked < PS_LOOK_NS || !ps_exchange_if_equal(&limiter->commons->looked_ns, &looked, now))
        return false;
    return ps_clear_dead(limiter);
}

/* Takes `cost` or nothing. With a view, describes the decision from the reading that was confirmed. *taken, unless
 * NULL: the word that has them. */
PS_HOT ps_outcome ps_take(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                                 uint64_t now, uint64_t cost, ps_caller caller, ps_view *view, uint64_t *taken) {
    if (p->algorithm == PS_SHARED && cost <= p->limit)
        ps_raise(&limiter->share->cost_most[limit - limiter->limits], cost);
    for (;;) {
        uint64_t index, state, next = 0;
        if (cost > p->limit) {
            if (view)
                ps_look(limiter, limit, p, fingerprint, now, cost, caller.credit_only, view);
            return PS_REFUSED;
        }
        ps_claim claim = ps_locate(limiter, limit, p, fingerprint, now, caller, &index, &state);
        if (claim == PS_FULL) {
            if (view)
                *view = (ps_view){.allowed = false, .retry_ns = ps_soonest_free(limit, fingerprint, now)};
            return PS_REFUSED_FULL;
        }
        ps_pair *slot = &limit->table.slots[index];
        ps_word *tail = ps_tail(limit, index);
        if (claim == PS_FOUND && ps_is_tentative(state))
            continue; /* it was taken from the key since; look again */
        if (ps_catch_up(limiter, limit, claim, state, &p, &now))
            ps_raise(&caller.cell->caught_ns, now);
        uint64_t word = claim == PS_CLAIMED ? ps_fresh(p, tail, now) : ps_word_as(limit, p, state, now);
        ps_sharer sharer;
        bool shared = p->algorithm == PS_SHARED, fits;
        if (shared) {
            sharer = ps_sharer_for(limiter, limit, p, fingerprint, caller.credit_only);
            if (view)
                ps_shared_describe(&sharer, word, tail, now, cost, view);
            fits = ps_shared_step(&sharer, word, tail, now, cost, &next);
        } else {
            if (view)
                ps_describe(p, word, tail, now, cost, view);
            fits = ps_step(p, word, tail, now, cost, &next);
        }
        if (view && view->allowed != fits)
            continue; /* the tail was written between the two readings: what is told must be what is done */
        if (!fits && shared) { /* a key that is only refused is told to Redis too: it is demand */
            if (claim == PS_CLAIMED ? !ps_pair_exchange(slot, fingerprint, state, fingerprint, word) : !ps_unchanged(slot, fingerprint, state))
                continue;
            ps_note_shared(limiter, limit, &sharer, fingerprint, index, word, word, now, cost, false);
            return PS_REFUSED;
        }
        if (!fits) {
            if (claim == PS_CLAIMED)
                ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, state);
            else if (!ps_unchanged(slot, fingerprint, state))
                continue;
            else if (p->algorithm == PS_SLIDING_LOG)
                ps_fill(limiter, p, word, tail, now, cost);
            else if (limiter->commons && ps_look_around(limiter, now) && p->algorithm == PS_CONCURRENCY)
                continue; /* holders had died: what they held is back */
            return PS_REFUSED;
        }
        if (ps_write_word(limiter, limit, p, index, fingerprint, state, next)) {
            if (p->algorithm == PS_SLIDING_LOG)
                ps_date(limiter, p, word, next, tail, now);
            if (shared)
                ps_note_shared(limiter, limit, &sharer, fingerprint, index, word, next, now, cost, true);
            if (taken)
                *taken = next;
            return PS_ADMITTED;
        }
    }
}

/* What to do with a key whatever its word is. */
typedef enum { PS_GIVE_BACK, PS_HAND_BACK, PS_FORCE, PS_FORGET } ps_change;

/* The word with units given back; *cost falls by what the tail has taken of them. */
static inline uint64_t ps_less(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t *cost) {
    if (p->algorithm == PS_SLIDING_WINDOW)
        *cost = ps_window_refund_ring(p, word, tail, now, *cost);
    return ps_refund_word(p, word, tail, now, *cost);
}

/* The word with the units given back that led to `taken` at the time `then`, as far as they still count. */
static inline uint64_t ps_hand_back(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t word,
                                    ps_word *tail, uint64_t then, uint64_t *cost, uint64_t taken) {
    uint64_t now = ps_later(limiter, then);
    if (!ps_kept(p, word, taken, tail, then, now))
        return word;
    if (p->algorithm != PS_TOKEN_BUCKET)
        return ps_less(p, word, tail, now, cost);
    /* Where limits were replaced in between, the old rate and the new bound from both sides what time has made good. */
    uint64_t early = ps_word_as(limit, p, taken, then), late = ps_word_as(limit, p, taken, now);
    return ps_bucket_hand_back(p, word, early < late ? early : late, now, *cost);
}

/* Gives a slot back; one of which something is on its way to Redis, or is to be told there, stays. */
static inline bool ps_forget(const ps_policy *p, ps_pair *slot, uint64_t key, uint64_t state, const ps_word *tail) {
    if (p->algorithm == PS_SHARED && ps_shared_owes(ps_shared_forget(state), tail))
        return ps_pair_exchange(slot, key, state, key, ps_shared_forget(state));
    return ps_pair_exchange(slot, key, state, PS_SLOT_FREE, state);
}

/* Ends: as ps_take. A key that is not there has nothing to give back or forget. taken: what ps_take left there; for
 * PS_HAND_BACK, at the time `now` that ps_take was called with. */
PS_APART void ps_alter(ps_limiter *limiter, const ps_limit *limit, const ps_policy *p, uint64_t fingerprint,
                            uint64_t now, uint64_t cost, ps_caller caller, ps_change change, uint64_t taken) {
    uint64_t then = now;
    if (p->algorithm == PS_CONCURRENCY && limiter->commons && change != PS_FORCE) {
        if (change != PS_FORGET) /* what processes hold stays theirs, and comes back when they let go or die */
            ps_let_go(limiter, limit, p, fingerprint, cost);
        return;
    }
    if (p->algorithm == PS_SHARED && change == PS_FORCE)
        ps_raise(&limiter->share->cost_most[limit - limiter->limits], cost < p->limit ? cost : p->limit);
    for (;;) {
        uint64_t index, state, next;
        ps_claim claim = PS_FOUND;
        if (change == PS_FORCE)
            claim = ps_locate(limiter, limit, p, fingerprint, now, caller, &index, &state);
        else if (!ps_settled(limit, fingerprint, &index, &state))
            return;
        if (claim == PS_FULL)
            return;
        if (claim == PS_FOUND && ps_is_tentative(state))
            continue; /* it was taken from the key since; look again */
        ps_pair *slot = &limit->table.slots[index];
        ps_word *tail = ps_tail(limit, index);
        if (change == PS_FORGET) {
            if (ps_forget(p, slot, fingerprint, state, tail))
                return;
            continue;
        }
        ps_catch_up(limiter, limit, claim, state, &p, &now);
        uint64_t word = claim == PS_CLAIMED ? ps_fresh(p, tail, now) : ps_word_as(limit, p, state, now);
        if (change == PS_FORCE)
            next = ps_force(p, word, tail, now, cost);
        else if (change == PS_HAND_BACK)
            next = ps_hand_back(limiter, limit, p, word, tail, then, &cost, taken);
        else
            next = ps_less(p, word, tail, now, &cost);
        if (ps_write_word(limiter, limit, p, index, fingerprint, state, next)) {
            if (p->algorithm == PS_SLIDING_LOG && change == PS_FORCE)
                ps_date(limiter, p, word, next, tail, now);
            if (p->algorithm == PS_SHARED && change == PS_FORCE) {
                ps_sharer sharer = ps_sharer_for(limiter, limit, p, fingerprint, caller.credit_only);
                ps_note_shared(limiter, limit, &sharer, fingerprint, index, word, next, now, cost, true);
            } else if (p->algorithm == PS_SHARED) {
                ps_mark_dirty(limit, index);
            }
            return;
        }
    }
}

/* ---- all limits, one key ---- */

static inline const ps_policy *ps_policy_now(const ps_limiter *limiter, const ps_limit *limit, uint64_t tier) {
    return &limit->policies[ps_load_acquire(&limiter->current[tier])];
}

static inline void ps_decision_begin(ps_decision *decision) {
    *decision = (ps_decision){.allowed = true, .remaining = UINT64_MAX};
}

/* Adds one limit's view to the decision over all. */
static inline void ps_decision_add(ps_decision *decision, const ps_policy *p, uint64_t index, const ps_view *view) {
    bool worse = view->allowed ? decision->allowed && view->remaining < decision->remaining
                               : decision->allowed || view->retry_ns > decision->retry_ns;
    if (worse || index == 0) {
        decision->index = index;
        decision->limit = p->limit;
        decision->remaining = view->remaining;
    }
    if (!view->allowed)
        decision->allowed = false;
    if (view->retry_ns > decision->retry_ns)
        decision->retry_ns = view->retry_ns;
    if (view->reset_ns > decision->reset_ns)
        decision->reset_ns = view->reset_ns;
}

/* The decision that ps_hit would take now; takes nothing. */
PS_APART bool ps_peek_as(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost, bool credit_only,
                           ps_decision *decision) {
    ps_view views[PS_LIMITS_MOST];
    ps_decision_begin(decision);
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_policy *p = ps_policy_now(limiter, &limiter->limits[i], tier);
        ps_look(limiter, &limiter->limits[i], p, fingerprint, now, cost, credit_only, &views[i]);
        ps_decision_add(decision, p, i, &views[i]);
    }
    if (decision->allowed)
        return true;
    decision->reset_ns = 0; /* of the key as it is: those that would admit are not taken from */
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        if (views[i].allowed)
            ps_look(limiter, limit, ps_policy_now(limiter, limit, tier), fingerprint, now, 0, credit_only, &views[i]);
        if (views[i].reset_ns > decision->reset_ns)
            decision->reset_ns = views[i].reset_ns;
    }
    return false;
}

static inline bool ps_peek(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost, ps_decision *decision) {
    return ps_peek_as(limiter, fingerprint, tier, now, cost, false, decision);
}

/* Takes from the limits in order; gives back and says no when one of them refuses. */
PS_APART bool ps_take_all(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                               ps_caller caller, ps_decision *decision) {
    const ps_policy *policies[PS_LIMITS_MOST];
    uint64_t taken[PS_LIMITS_MOST];
    if (decision)
        ps_decision_begin(decision);
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        const ps_policy *p = policies[i] = ps_policy_now(limiter, limit, tier);
        ps_view view;
        ps_outcome outcome = ps_take(limiter, limit, p, fingerprint, now, cost, caller, decision ? &view : 0, &taken[i]);
        if (decision)
            ps_decision_add(decision, p, i, &view);
        if (outcome != PS_ADMITTED) {
            while (i-- > 0) {
                limit = &limiter->limits[i];
                ps_alter(limiter, limit, policies[i], fingerprint, now, cost, caller, PS_HAND_BACK, taken[i]);
            }
            return false;
        }
    }
    return true;
}

/* Notes for Redis a decision that was refused before anything was tried to be taken; not one that no wait would help. */
PS_APART void ps_note_demand(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost, ps_caller caller) {
    for (uint64_t i = 0; i < limiter->limit_count; i++)
        if (cost > ps_policy_now(limiter, &limiter->limits[i], tier)->limit)
            return;
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        const ps_policy *p = ps_policy_now(limiter, limit, tier);
        uint64_t index, state, next;
        ps_raise(&limiter->share->cost_most[i], cost);
        if (ps_locate(limiter, limit, p, fingerprint, now, caller, &index, &state) == PS_FULL)
            continue;
        if (ps_is_tentative(state)) {
            if (!ps_pair_exchange(&limit->table.slots[index], fingerprint, state, fingerprint, 0))
                continue; /* lost to another caller, whose demand it is then */
            state = 0;
        }
        ps_sharer sharer = ps_sharer_for(limiter, limit, p, fingerprint, caller.credit_only);
        if (ps_shared_step(&sharer, state, ps_tail(limit, index), now, cost, &next))
            sharer.mode = PS_MODE_CLOSED; /* this limit is not why: nothing to ask for */
        ps_note_shared(limiter, limit, &sharer, fingerprint, index, state, state, now, cost, false);
    }
}

/* One decision: true when `cost` was taken from every limit. `decision` may be NULL. */
static inline bool ps_hit(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                          ps_caller caller, ps_decision *decision) {
    bool allowed;
    /* The next row of a batch, which has one time for all, or the next call by a clock that lags (in a segment): judged at
     * less than its own key's time, it would be refused that much too early. */
    uint64_t caught = ps_load_relaxed(&caller.cell->caught_ns);
    if (caught > now && caught <= PS_HORIZON)
        now = caught;
    if (limiter->limit_count == 1 && !decision) { /* the common case, without a view */
        const ps_policy *p = ps_policy_now(limiter, &limiter->limits[0], tier);
        allowed = ps_take(limiter, &limiter->limits[0], p, fingerprint, now, cost, caller, 0, 0) == PS_ADMITTED;
    } else if (limiter->limit_count == 1) {
        allowed = ps_take_all(limiter, fingerprint, tier, now, cost, caller, decision);
    } else {
        ps_decision looked;
        allowed = ps_peek_as(limiter, fingerprint, tier, now, cost, caller.credit_only, &looked);
        if (!allowed && decision)
            *decision = looked;
        if (!allowed && limiter->share)
            ps_note_demand(limiter, fingerprint, tier, now, cost, caller);
        if (allowed)
            allowed = ps_take_all(limiter, fingerprint, tier, now, cost, caller, decision);
    }
    ps_count(caller, allowed ? &caller.cell->admitted : &caller.cell->denied, 1);
    if (!allowed)
        ps_note_refused(caller, fingerprint);
    return allowed;
}

static inline void ps_change_all(ps_limiter *limiter, uint64_t fingerprint, uint64_t tier, uint64_t now, uint64_t cost,
                                 ps_caller caller, ps_change change, bool only_held) {
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_policy *p = ps_policy_now(limiter, &limiter->limits[i], tier);
        if (!only_held || p->algorithm == PS_CONCURRENCY || (p->algorithm == PS_SHARED && p->kind == PS_SHARED_HELD))
            ps_alter(limiter, &limiter->limits[i], p, fingerprint, now, cost, caller, change, 0);
    }
}

/* Asks for the key's lines ahead of a decision; for batches. Inlined by force: gcc takes a function that only
 * prefetches for one without effect, and drops its calls. */
PS_HOT void ps_prefetch_key(const ps_limiter *limiter, uint64_t fingerprint) {
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        ps_window window = ps_table_window(&limit->table, fingerprint);
        ps_prefetch(&limit->table.slots[window.home[0]]);
        ps_prefetch(&limit->table.slots[window.home[1]]);
        if (limit->tail_words)
            ps_prefetch(ps_tail(limit, window.home[0]));
    }
}

/* ---- the whole limiter ---- */

/* A part of the mapping; each begins on a cache line of its own. */
static inline size_t ps_whole_lines(uint64_t bytes) { return (size_t)((bytes + PS_CACHE_LINE - 1) / PS_CACHE_LINE * PS_CACHE_LINE); }

/* Bytes of the mapping for `capacity` keys; the caller has checked that they can be counted. */
static inline size_t ps_limiter_bytes(uint64_t capacity, const uint64_t *tail_words, uint64_t limit_count, bool shared, bool segment) {
    uint64_t slots = ps_table_slots(ps_table_homes(capacity));
    size_t bytes = segment ? sizeof(ps_commons) + sizeof(ps_cell) * PS_SEGMENT_CELLS : sizeof(ps_cell) * PS_CELLS;
    bytes += shared ? ps_whole_lines(sizeof(ps_share)) : 0;
    for (uint64_t i = 0; i < limit_count; i++) {
        bytes += slots * sizeof(ps_pair) + ps_whole_lines(slots * tail_words[i] * sizeof(ps_word));
        bytes += shared ? ps_whole_lines(slots / PS_LINE_SLOTS * sizeof(ps_word)) : 0;
    }
    return bytes;
}

/* Says where in zeroed memory everything is, or in memory where others work already. */
static inline void ps_limiter_lay(ps_limiter *limiter, char *place, uint64_t capacity, const uint64_t *tail_words, uint64_t limit_count, bool shared) {
    uint64_t homes = ps_table_homes(capacity), slots = ps_table_slots(homes);
    limiter->limit_count = limit_count;
    limiter->cells = (ps_cell *)(void *)place;
    place += sizeof(ps_cell) * (limiter->commons ? PS_SEGMENT_CELLS : PS_CELLS);
    for (uint64_t i = 0; i < limit_count; i++) {
        ps_limit *limit = &limiter->limits[i];
        limit->table = (ps_table){(ps_pair *)(void *)place, homes};
        place += slots * sizeof(ps_pair);
        limit->tail_words = tail_words[i];
        limit->tails = (ps_word *)(void *)place;
        place += ps_whole_lines(slots * tail_words[i] * sizeof(ps_word));
        limit->dirty = shared ? (ps_word *)(void *)place : 0;
        place += shared ? ps_whole_lines(slots / PS_LINE_SLOTS * sizeof(ps_word)) : 0;
    }
    limiter->share = shared ? (ps_share *)(void *)place : 0;
    if (shared) { /* in a segment others may have done more than this by now */
        ps_raise(&limiter->share->instances, 1);
        ps_raise(&limiter->share->partitions, 1);
        for (uint64_t i = 0; i < limit_count; i++)
            ps_raise(&limiter->share->cost_most[i], 1);
    }
}

/* Maps the tables. Policies (ps_install), secret and evict are the caller's to fill in before the first decision.
 * False when there is not that much memory. */
static inline bool ps_limiter_open(ps_limiter *limiter, uint64_t capacity, const uint64_t *tail_words, uint64_t limit_count, bool shared) {
    limiter->bytes = ps_limiter_bytes(capacity, tail_words, limit_count, shared, false);
    limiter->memory = ps_memory_map(limiter->bytes);
    if (!limiter->memory)
        return false;
    ps_limiter_lay(limiter, (char *)limiter->memory, capacity, tail_words, limit_count, shared);
    for (uint32_t number = 0; number < PS_CELLS; number++)
        limiter->callers[number] = (ps_caller){&limiter->cells[number], number, false};
    return true;
}

/* Takes a seat of the segment, clearing up after who had it before; false when all are taken. The others' dead are left for later. */
static inline bool ps_seat_take(ps_limiter *limiter, uint64_t pid, uint64_t now) {
    ps_commons *commons = limiter->commons;
    limiter->seat = PS_NO_SEAT;
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) {
        if (!ps_seat_lock(limiter->fd, seat))
            continue;
        ps_seat_set dead = {{0}};
        ps_seat_put(&dead, seat);
        if (ps_load_acquire(&commons->seats[seat].taken) && !ps_clear_holds(limiter, &dead)) {
            ps_seat_unlock(limiter->fd, seat);
            continue;
        }
        ps_seat_clear(commons, seat);
        ps_store_relaxed(&commons->seats[seat].pid, pid);
        ps_store_seq(&commons->seats[seat].taken, now + 1);
        limiter->seat = seat;
        uint32_t cell = ps_seat_cell(seat);
        for (uint32_t number = 0; number < PS_CELLS; number++)
            limiter->callers[number].cell = 0;
        limiter->callers[PS_CELL_GIL] = (ps_caller){&limiter->cells[cell], cell, false};
        limiter->callers[PS_CELL_SHARED] = (ps_caller){&limiter->cells[PS_CELL_SHARED], PS_CELL_SHARED, false};
        return true;
    }
    return false;
}

/* Maps a segment's file, of which the first `header` bytes are somebody else's; limiter->fd is open. The file is as long as it must be.
 * False when it can't be mapped. ps_seat_take comes next, unless it is only looked at. */
static inline bool ps_limiter_attach(ps_limiter *limiter, size_t header, uint64_t capacity, const uint64_t *tail_words,
                                     uint64_t limit_count, bool shared, bool look_only) {
    limiter->bytes = header + ps_limiter_bytes(capacity, tail_words, limit_count, shared, true);
    int fd = ps_reopen(limiter->fd, look_only); /* see seats.h */
    limiter->memory = fd < 0 ? 0 : ps_memory_map_file(fd, limiter->bytes, look_only);
    if (fd >= 0)
        ps_close(fd);
    if (!limiter->memory)
        return false;
    char *place = (char *)limiter->memory + header;
    limiter->commons = (ps_commons *)(void *)place;
    limiter->seat = PS_NO_SEAT;
    ps_limiter_lay(limiter, place + sizeof(ps_commons), capacity, tail_words, limit_count, shared);
    return true;
}

static inline uint64_t ps_cell_count(const ps_limiter *limiter) { return limiter->commons ? PS_SEGMENT_CELLS : PS_CELLS; }

/* The caller that a thread is, by its number. */
static inline ps_caller ps_caller_numbered(ps_limiter *limiter, uint64_t number) {
    if (!limiter->callers[number].cell) { /* in a segment; the number is this thread's alone */
        uint32_t cell = ps_spare_take(limiter->commons, limiter->seat);
        limiter->callers[number] = (ps_caller){&limiter->cells[cell], cell, false};
    }
    return limiter->callers[number];
}

/* Leaves the segment and gives back what was held; what can't be given back now is, by whoever looks next. */
static inline void ps_seat_leave(ps_limiter *limiter) {
    ps_seat_set own = {{0}};
    if (!limiter->commons || limiter->seat == PS_NO_SEAT)
        return;
    ps_seat_put(&own, limiter->seat);
    if (ps_clear_holds(limiter, &own))
        ps_seat_clear(limiter->commons, limiter->seat);
    limiter->seat = PS_NO_SEAT; /* its lock goes with the descriptor */
}

static inline void ps_limiter_close(ps_limiter *limiter) {
    if (limiter->commons && limiter->memory)
        ps_guard_remove(limiter->memory);
    if (limiter->memory)
        ps_memory_unmap(limiter->memory, limiter->bytes);
    limiter->memory = 0;
}

/* Forgets every key of one limit. Slots are given back, never emptied: a search that runs now must not stop short. */
static inline void ps_clear(const ps_limit *limit) {
    uint64_t slots = ps_table_slots(limit->table.homes);
    for (uint64_t index = 0; index < slots; index++) {
        ps_pair *slot = &limit->table.slots[index];
        for (;;) {
            uint64_t key = ps_load_acquire(&slot->key), state = ps_load_acquire(&slot->state);
            if (key <= PS_SLOT_FREE || ps_is_tentative(state) || ps_forget(&limit->policies[0], slot, key, state, ps_tail(limit, index)))
                break;
        }
    }
}

/* Rewrites every bucket word of one policy as another would have written it, and takes back all claims: no decision
 * that read the table before can still write to it. A full bucket's slot is given back, so that its word can't come
 * back to what it was: the next one there is of a later time. */
static inline void ps_convert_all(ps_limiter *limiter, uint64_t old_number, uint64_t new_number, uint64_t now) {
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        const ps_policy *from = &limit->policies[old_number], *to = &limit->policies[new_number];
        uint64_t slots = to->algorithm == PS_TOKEN_BUCKET ? ps_table_slots(limit->table.homes) : 0;
        for (uint64_t index = 0; index < slots; index++) {
            ps_pair *slot = &limit->table.slots[index];
            for (;;) {
                uint64_t key = ps_load_seq(&slot->key), state = ps_load_acquire(&slot->state);
                bool claim = ps_is_tentative(state);
                if (key <= PS_SLOT_FREE || (!claim && state >> to->tag_shift != old_number))
                    break;
                now = ps_later(limiter, now); /* no earlier than what wrote the word, or more would be owed than a bucket holds */
                bool keep = !claim && ps_bucket_debt(from, state, now);
                if (ps_pair_exchange(slot, key, state, keep ? key : PS_SLOT_FREE, keep ? ps_bucket_convert(from, to, state, now) : state))
                    break;
            }
        }
    }
}

/* Puts a policy of each limit in force for one tier, under the number that they bear. A decision that still reads what
 * had that number before has slept through the replacement before this one: its exchange, or the second reading that
 * confirms a refusal, finds the word rewritten (ps_convert_all), and what it made of a half-written policy is dropped.
 * (Two replacements may bring a word back to what it was, where they leave the rate as it is or no time passes:
 * README.md, "What is not promised".)
 * Words of the other algorithms are not rewritten, but there only the limit is another, which is one field. */
static inline void ps_install(ps_limiter *limiter, uint64_t tier, const ps_policy *policies) {
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        ps_policy *p = &limiter->limits[i].policies[policies[i].tag];
        *p = policies[i];
        p->per_second = p->per_ns ? (double)p->rate * 1e9 / (double)p->per_ns : 0.0;
        if (limiter->share)
            ps_store_relaxed(&limiter->share->parts[i][p->tag], ps_shared_part(p, ps_load_relaxed(&limiter->share->instances)));
    }
    ps_store_seq(&limiter->current[tier], policies[0].tag);
}

/* Gives the numbers of no tier's policy that of tier 0: words that somebody has scribbled may bear them. */
static inline void ps_install_rest(ps_limiter *limiter) {
    for (uint64_t i = 0; i < limiter->limit_count; i++)
        for (uint64_t number = limiter->tier_count; number < PS_POLICIES_MOST; number++)
            limiter->limits[i].policies[number] = limiter->limits[i].policies[0];
}

/* So many instances share the limits from now on. */
static inline void ps_share_among(ps_limiter *limiter, uint64_t instances) {
    ps_store_relaxed(&limiter->share->instances, instances);
    for (uint64_t i = 0; i < limiter->limit_count; i++)
        for (uint64_t number = 0; number < 2 * limiter->tier_count; number++)
            ps_store_relaxed(&limiter->share->parts[i][number], ps_shared_part(&limiter->limits[i].policies[number], instances));
}

/* Puts others in force, and keys keep what they have spent; `policies` bear the number of that tier that is
 * free. Not for two threads at once. */
static inline void ps_replace(ps_limiter *limiter, uint64_t tier, const ps_policy *policies, uint64_t now) {
    uint64_t old = ps_load_acquire(&limiter->current[tier]), number = policies[0].tag;
    ps_convert_all(limiter, number, old, now); /* nothing of the policies before these may be read by these */
    ps_install(limiter, tier, policies);
    ps_convert_all(limiter, old, number, now);
}

/* What slot `index` of a limit holds: false when no key is established there or nothing counts against it. */
static inline bool ps_inspect(const ps_limit *limit, uint64_t index, uint64_t now, uint64_t *fingerprint, uint64_t *spent) {
    const ps_pair *slot = &limit->table.slots[index];
    uint64_t key = ps_load_acquire(&slot->key), state = ps_load_acquire(&slot->state);
    if (key <= PS_SLOT_FREE || ps_is_tentative(state))
        return false;
    const ps_policy *p = &limit->policies[0];
    uint64_t debt = ps_debt(limit, index, state, now);
    if (p->algorithm == PS_TOKEN_BUCKET) { /* whole and begun tokens */
        uint64_t token = limit->policies[state >> p->tag_shift].token_ticks;
        debt = token ? debt / token + (debt % token != 0) : 0; /* 0: a segment that somebody has scribbled over */
    }
    *fingerprint = key;
    *spent = debt;
    return debt != 0;
}

/* What the holder of a seat has of slot `index` of a Concurrency limit; false for nothing. */
static inline bool ps_holders(const ps_limit *limit, uint64_t index, uint32_t seat, uint64_t *fingerprint, uint64_t *units) {
    *fingerprint = ps_load_acquire(&limit->table.slots[index].key);
    *units = ps_held_by(ps_tail(limit, index), seat);
    return *fingerprint > PS_SLOT_FREE && *units && !ps_is_tentative(ps_load_acquire(&limit->table.slots[index].state));
}

#endif
