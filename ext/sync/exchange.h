/* The exchange with Redis, without the I/O: what this instance has to tell becomes a batch of entries, and each reply
 * becomes new views. One driver calls these for a limiter, one call at a time; decisions go on meanwhile.
 *
 *   ps_drain     x -> fly, unused credit is taken back          the batch is on its way
 *   ps_settle    fly -> 0, a new view, credit += grant          Redis has it (or had it before: then without grants)
 *   ps_undrain   fly -> x, credit as it was                     it surely never came to Redis
 *   ps_restore   the same batch once more, and all that is known of other keys: Redis has lost writes
 *
 * A slot is held while it is in a batch (ps_shared_owes), so an entry's slot is its key's until it is settled. */
#ifndef PENSTOCK_EXCHANGE_H
#define PENSTOCK_EXCHANGE_H

#include "../limiter.h"
#include <string.h>

#define PS_ENTRY_BYTES 32  /* of an entry on its way out; sync.md and sync/wire.py have the fields */
#define PS_ANSWER_BYTES 24 /* of its answer */
#define PS_LEASE_INTERVALS 1.5 /* a lease is for that many intervals' demand; it lives two */
#define PS_FORGOTTEN 0.25 /* a forecast that is not worth a lease to a key that nobody asks for */
#define PS_BURST_S 0.002       /* the least time that a burst's pace is taken over */

/* A key in the batch that is on its way. */
typedef struct {
    uint64_t limit, index, fingerprint;
    uint64_t debt, back, seen, waited;
    uint64_t want, age_us, rule;
    bool kept;       /* a lease goes on meanwhile */
    uint64_t before; /* restored windows: how many windows ago `known` was counted */
    double known;    /* restored: what Redis had said */
} ps_entry;

/* One answer, as the wire has it. */
typedef struct {
    double a, b;
    uint64_t grant;
    double demand;
} ps_answer;

static inline double ps_shared_tau(const ps_policy *p) { return ps_most(1.0, 4.0 * ps_shared_interval(p)); }

/* Own pace after `seen` units since the view, and the part of it that is new; *weight for others' use as well. */
static inline double ps_shared_pace(const ps_policy *p, const ps_word *view, const ps_word *tail, uint64_t now, uint64_t seen,
                                    double *span, double *weight) {
    double interval = ps_shared_interval(p), pace = ps_load_double(&tail[PS_TAIL_PACE]);
    *span = view ? ps_most(ps_seconds(ps_load_relaxed(&view[PS_VIEW_LEARNT]), now), 1e-9) : interval;
    *weight = view ? ps_least(1.0, *span / (2.0 * interval)) : 1.0;
    return pace + ((double)seen / *span - pace) * *weight;
}

/* True when the key is to be told to Redis now. */
static inline bool ps_shared_due(const ps_share *share, const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now,
                                 bool tick, uint64_t waited) {
    const ps_word *view = ps_shared_view(word, tail);
    if (waited || (!tick && ps_load_relaxed(&tail[PS_TAIL_ASKED])))
        return true;
    if (!tick)
        return false;
    if (!view || ps_shared_credit(word))
        return true;
    bool idle = now - ps_load_relaxed(&view[PS_VIEW_LEARNT]) >= 4 * p->interval_ns;
    uint64_t x = ps_shared_x(word);
    double level = ps_shared_level(p, view, now);
    if (x == 0) /* refused only: while the key is empty there is nothing to learn */
        return idle && level >= 1.0;
    bool calm = ps_load_relaxed(&tail[PS_TAIL_SEEN]) == x && (double)x <= 0.1 * level / (double)ps_load_relaxed(&share->instances);
    return idle || !calm;
}

/* Takes what one slot has to tell into `entry`; false when it has nothing, is on its way already, or is not due. *again is
 * set where something is left for later. Ends: a failed exchange means that a decision was counted. */
static inline bool ps_drain_slot(ps_limiter *limiter, uint64_t limit_index, uint64_t index, uint64_t partition, uint64_t now,
                                 bool tick, uint64_t waited, ps_entry *entry, bool *again) {
    const ps_limit *limit = &limiter->limits[limit_index];
    ps_pair *slot = &limit->table.slots[index];
    ps_word *tail = ps_tail(limit, index);
    for (;;) {
        uint64_t key = ps_load_seq(&slot->key), word = ps_load_seq(&slot->state);
        if (key <= PS_SLOT_FREE || ps_is_tentative(word))
            return false;
        bool tells = ps_shared_x(word) || ps_shared_credit(word) || ps_load_relaxed(&tail[PS_TAIL_SEEN]);
        uint64_t tier = ps_load_relaxed(&tail[PS_TAIL_RULE]) % limiter->tier_count;
        const ps_policy *p = ps_policy_now(limiter, limit, tier);
        if (ps_partition_of(limiter->share, key) != partition || ps_load_relaxed(&tail[PS_TAIL_FLIGHT]) || !(tells || waited) ||
            !ps_shared_due(limiter->share, p, word, tail, now, tick, waited)) {
            *again |= tells;
            return false;
        }
        const ps_word *view = ps_shared_view(word, tail);
        /* A tick gives every lease back, so that none outlives two intervals by being renewed; in between it is kept, to
         * be used while the exchange lasts. */
        uint64_t x = ps_shared_x(word), debt = x < PS_FLY_MOST ? x : PS_FLY_MOST, credit = ps_shared_credit(word);
        uint64_t since = ps_load_relaxed(&tail[PS_TAIL_SINCE]), kept = tick ? 0 : ps_shared_valid(word, tail, now);
        if (!ps_pair_exchange(slot, key, word, key, ps_shared_word(word >> PS_VIEW_SHIFT, kept, debt, x - debt)))
            continue;
        ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 1);
        uint64_t seen = ps_load_relaxed(&tail[PS_TAIL_SEEN]);
        ps_add_relaxed(&tail[PS_TAIL_SEEN], 0 - seen);
        ps_store_relaxed(&tail[PS_TAIL_ASKED], 0);
        *again |= x != debt;

        /* A window's credit dies with it: taken back, it would be taken from the next one's count. */
        bool turned = p->kind != PS_SHARED_BUCKET && view && ps_shared_turns(p, ps_load_relaxed(&view[PS_VIEW_START]), now) > 0;
        double span, weight, interval = ps_shared_interval(p), phi = view ? ps_load_double(&view[PS_VIEW_PHI]) : 1.0;
        double pace = ps_shared_pace(p, view, tail, now, seen, &span, &weight);
        double burst = (double)((seen > 1 ? seen : 1) - 1) / ps_most(ps_seconds(since, now), PS_BURST_S); /* the mean knows it late */
        /* Leases that overlap hold a bucket down for good: all instances' together are at most two intervals' rate. */
        double forecast = ps_least(PS_LEASE_INTERVALS * ps_most(pace, burst) * interval, phi * p->per_second * interval * 2.0);
        uint64_t cap = ps_shared_cap(limiter->share, p, limit_index, ps_load_relaxed(&limiter->share->cost_most[limit_index]));
        double enough = ps_most((double)cap / 2.0, seen ? 0.0 : PS_FORGOTTEN);
        double want = forecast > enough ? ps_most(1.0, floor(forecast)) : 0.0;
        waited = waited < p->limit ? waited : p->limit;
        want = ps_most(0.0, want + (double)waited - (double)kept);
        if (ps_load_relaxed(&limiter->share->modes[partition]) == PS_MODE_OPEN)
            want = 0.0;
        uint64_t age_us = now > since ? (now - since) / 1000 : 0, most_us = p->kind == PS_SHARED_BUCKET ? p->interval_ns / 1000 : UINT32_MAX;
        *entry = (ps_entry){
            .limit = limit_index,
            .index = index,
            .fingerprint = key,
            .debt = debt,
            .back = turned ? 0 : credit - kept,
            .kept = kept != 0,
            .seen = seen < UINT32_MAX ? seen : UINT32_MAX,
            .waited = waited,
            .want = want < (double)PS_CREDIT_MOST ? (uint64_t)want : PS_CREDIT_MOST,
            .age_us = debt == 0 ? 0 : age_us < most_us ? age_us : most_us,
            .rule = tier * limiter->limit_count + limit_index,
        };
        return true;
    }
}

/* Fills `entries` with at most `most` keys of one partition that are due; returns how many. `wanted`: keys that callers
 * wait for, with limit, fingerprint and waited filled in. */
static inline uint64_t ps_drain(ps_limiter *limiter, uint64_t partition, uint64_t now, bool tick, const ps_entry *wanted,
                                uint64_t wanted_count, ps_entry *entries, uint64_t most) {
    uint64_t count = 0;
    bool again = false;
    for (uint64_t i = 0; i < wanted_count && count < most; i++) {
        uint64_t index, state;
        if (ps_settled(&limiter->limits[wanted[i].limit], wanted[i].fingerprint, &index, &state))
            count += ps_drain_slot(limiter, wanted[i].limit, index, partition, now, tick, wanted[i].waited, &entries[count], &again);
    }
    for (uint64_t l = 0; l < limiter->limit_count; l++) {
        const ps_limit *limit = &limiter->limits[l];
        uint64_t lines = ps_table_slots(limit->table.homes) / PS_LINE_SLOTS;
        for (uint64_t line = 0; line < lines && count < most; line++) {
            if (!ps_load_relaxed(&limit->dirty[line]))
                continue;
            ps_store_seq(&limit->dirty[line], 0); /* before the line is read; pairs with ps_mark_dirty */
            again = false;
            for (uint64_t index = line * PS_LINE_SLOTS; index < (line + 1) * PS_LINE_SLOTS; index++) {
                if (count < most)
                    count += ps_drain_slot(limiter, l, index, partition, now, tick, 0, &entries[count], &again);
                else
                    again = true;
            }
            if (again)
                ps_store_release(&limit->dirty[line], 1);
        }
    }
    return count;
}

/* Redis has the entry: its answer becomes the view that counts. granted: not so when the batch had come before. */
static inline void ps_settle(ps_limiter *limiter, const ps_entry *e, const ps_answer *answer, uint64_t now, uint64_t sent_ns,
                             double server_us, bool granted) {
    const ps_limit *limit = &limiter->limits[e->limit];
    const ps_policy *p = ps_policy_now(limiter, limit, e->rule / limiter->limit_count);
    ps_pair *slot = &limit->table.slots[e->index];
    ps_word *tail = ps_tail(limit, e->index);
    uint64_t word = ps_load_acquire(&slot->state);
    const ps_word *old = ps_shared_view(word, tail); /* only this function changes it */
    uint64_t number = word >> PS_VIEW_SHIFT == 1 ? 2 : 1, instances = ps_load_relaxed(&limiter->share->instances);
    ps_word *view = tail + (number - 1) * PS_VIEW_WORDS;
    double interval = ps_shared_interval(p), tau = ps_shared_tau(p), seen = (double)e->seen;
    double grant = granted ? (double)answer->grant : 0.0, global = answer->demand;

    double span, weight, was = ps_shared_level(p, old, now);
    double pace = ps_shared_pace(p, old, tail, now, e->seen, &span, &weight);
    double demand = ps_load_double(&tail[PS_TAIL_DEMAND]) * exp(-span / tau) + seen / tau;
    double width_us = (double)p->per_ns / 1000.0, into_us = server_us - floor(server_us / width_us) * width_us;
    uint64_t into = (uint64_t)(int64_t)floor(into_us * 1000.0), expiry = sent_ns + 2 * p->interval_ns;
    uint64_t start = p->kind == PS_SHARED_BUCKET ? 0 : now - into; /* the latest that it can have been */
    if (p->kind != PS_SHARED_BUCKET && sent_ns - into + p->per_ns < expiry)
        expiry = sent_ns - into + p->per_ns; /* the earliest: a lease dies with its window */
    if (e->kept && old && ps_load_relaxed(&old[PS_VIEW_EXPIRY]) < expiry)
        expiry = ps_load_relaxed(&old[PS_VIEW_EXPIRY]);
    ps_store_relaxed(&view[PS_VIEW_LEARNT], now);
    ps_store_relaxed(&view[PS_VIEW_START], start);
    ps_store_double(&view[PS_VIEW_A], answer->a);
    ps_store_double(&view[PS_VIEW_B], answer->b);
    double fresh = ps_shared_level(p, view, now), others = ps_most(0.0, global - demand);
    if (old) {
        double before = ps_load_double(&old[PS_VIEW_OTHERS]);
        others = before + (ps_most(0.0, was - (double)e->debt + (double)e->back - fresh - grant) / span - before) * weight;
    }
    double phi = global <= 0.0 ? 1.0 / (double)instances : ps_least(1.0, ps_most(demand / global, 1.0 / (4.0 * (double)instances)));
    others = ps_most(others, (1.0 - phi) * ps_least(global, p->per_second)); /* while nobody admits, nothing else tells of them */
    uint64_t cost_most = ps_load_relaxed(&limiter->share->cost_most[e->limit]);
    double soon = ps_shared_soon(limiter->share, p, e->limit, phi, fresh);
    if (ps_shared_cap(limiter->share, p, e->limit, cost_most) < 2 && ps_most(global, demand) * interval < fresh / 4.0)
        soon = INFINITY;
    ps_store_double(&view[PS_VIEW_OTHERS], others);
    ps_store_double(&view[PS_VIEW_PHI], phi);
    ps_store_double(&view[PS_VIEW_SOON], soon);
    ps_store_relaxed(&view[PS_VIEW_EXPIRY], expiry);
    ps_store_double(&tail[PS_TAIL_DEMAND], demand);
    ps_store_double(&tail[PS_TAIL_PACE], pace);
    for (;;) { /* ends: a failed exchange means that a decision was counted */
        uint64_t key = ps_load_acquire(&slot->key);
        word = ps_load_acquire(&slot->state);
        if (key != e->fingerprint || ps_is_tentative(word))
            break; /* it owed nothing and was reset */
        uint64_t credit = ps_shared_credit(word) + (uint64_t)grant;
        if (ps_pair_exchange(slot, key, word, key, ps_shared_word(number, credit, 0, ps_shared_x(word))))
            break;
    }
    ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 0);
    ps_mark_dirty(limit, e->index);
}

/* Redis never saw the entry. */
static inline void ps_undrain(ps_limiter *limiter, const ps_entry *e) {
    const ps_limit *limit = &limiter->limits[e->limit];
    ps_pair *slot = &limit->table.slots[e->index];
    ps_word *tail = ps_tail(limit, e->index);
    for (;;) {
        uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
        if (key != e->fingerprint || ps_is_tentative(word))
            break;
        uint64_t next = ps_shared_word(word >> PS_VIEW_SHIFT, ps_shared_credit(word) + e->back, 0, ps_shared_x(word) + e->debt);
        if (ps_pair_exchange(slot, key, word, key, next))
            break;
    }
    ps_add_relaxed(&tail[PS_TAIL_SEEN], e->seen);
    ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 0);
    ps_mark_dirty(limit, e->index);
}

/* What Redis had said of an entry's key, as it is to be told again. */
static inline void ps_known(const ps_policy *p, const ps_word *view, uint64_t now, double *known, uint64_t *before) {
    *known = 0.0;
    *before = 0;
    if (!view)
        return;
    uint64_t turns = p->kind == PS_SHARED_BUCKET ? 0 : ps_shared_turns(p, ps_load_relaxed(&view[PS_VIEW_START]), now);
    if (turns > 1)
        return;
    *known = ps_load_double(&view[p->kind == PS_SHARED_BUCKET ? PS_VIEW_B : PS_VIEW_A]);
    *before = turns;
}

/* Adds to the `count` entries of the batch on its way, of which `room` fit, every key of the partition whose view says
 * that it is not full; all of them tell what was known. Returns how many there are. */
static inline uint64_t ps_restore(ps_limiter *limiter, uint64_t partition, uint64_t now, ps_entry *entries, uint64_t count, uint64_t room) {
    for (uint64_t i = 0; i < count; i++) {
        const ps_limit *limit = &limiter->limits[entries[i].limit];
        uint64_t word = ps_load_acquire(&limit->table.slots[entries[i].index].state);
        const ps_policy *p = ps_policy_now(limiter, limit, entries[i].rule / limiter->limit_count);
        ps_known(p, ps_shared_view(word, ps_tail(limit, entries[i].index)), now, &entries[i].known, &entries[i].before);
    }
    for (uint64_t l = 0; l < limiter->limit_count; l++) {
        const ps_limit *limit = &limiter->limits[l];
        uint64_t slots = ps_table_slots(limit->table.homes);
        for (uint64_t index = 0; index < slots && count < room; index++) {
            const ps_pair *slot = &limit->table.slots[index];
            ps_word *tail = ps_tail(limit, index);
            uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
            if (key <= PS_SLOT_FREE || ps_is_tentative(word) || ps_partition_of(limiter->share, key) != partition ||
                ps_load_relaxed(&tail[PS_TAIL_FLIGHT]))
                continue;
            uint64_t tier = ps_load_relaxed(&tail[PS_TAIL_RULE]) % limiter->tier_count;
            const ps_policy *p = ps_policy_now(limiter, limit, tier);
            const ps_word *view = ps_shared_view(word, tail);
            if (!view || ps_shared_level(p, view, now) >= (double)p->limit)
                continue;
            ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 1);
            if (ps_load_seq(&slot->key) != key) { /* evicted meanwhile */
                ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 0);
                continue;
            }
            entries[count] = (ps_entry){.limit = l, .index = index, .fingerprint = key, .rule = tier * limiter->limit_count + l, .kept = true};
            ps_known(p, view, now, &entries[count].known, &entries[count].before);
            count++;
        }
    }
    return count;
}

/* The word of a slot; 0 where none is established. */
static inline uint64_t ps_shared_at(const ps_limit *limit, uint64_t index) {
    const ps_pair *slot = &limit->table.slots[index];
    uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
    return key <= PS_SLOT_FREE || ps_is_tentative(word) ? 0 : word;
}

static inline void ps_put(unsigned char **place, const void *value, size_t bytes) {
    const unsigned char *from = (const unsigned char *)value;
    for (size_t i = 0; i < bytes; i++)
        *(*place)++ = from[i];
}

/* An entry as the wire has it: rule u16, before u16, debt, back, want, age_us, seen u32, known f64; little-endian, as every
 * supported machine is. */
static inline void ps_pack_entry(const ps_entry *e, unsigned char *place) {
    const uint16_t small[2] = {(uint16_t)e->rule, (uint16_t)e->before};
    const uint32_t counts[5] = {(uint32_t)e->debt, (uint32_t)e->back, (uint32_t)e->want, (uint32_t)e->age_us, (uint32_t)e->seen};
    ps_put(&place, small, sizeof small);
    ps_put(&place, counts, sizeof counts);
    ps_put(&place, &e->known, sizeof e->known);
}

/* An answer from the wire: a, b f64, grant u32, demand f32. */
static inline ps_answer ps_unpack_answer(const unsigned char *place) {
    ps_answer answer;
    uint32_t grant;
    float demand;
    memcpy(&answer.a, place, 8);
    memcpy(&answer.b, place + 8, 8);
    memcpy(&grant, place + 16, 4);
    memcpy(&demand, place + 20, 4);
    answer.grant = grant;
    answer.demand = (double)demand;
    return answer;
}

#endif
