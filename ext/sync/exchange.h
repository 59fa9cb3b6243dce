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
#define PS_LEASE_MARGIN 64     /* held units count here for so small a part less long than in Redis */
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
    if (p->kind == PS_SHARED_HELD) /* its lease is renewed long before it ends */
        return ps_load_relaxed(&tail[PS_TAIL_SEEN]) || (double)ps_shared_x(word) != ps_load_double(&view[PS_VIEW_B]) ||
               (int64_t)now >= (int64_t)(ps_load_relaxed(&view[PS_VIEW_EXPIRY]) - 2 * p->per_ns / 3);
    bool idle = now - ps_load_relaxed(&view[PS_VIEW_LEARNT]) >= 4 * p->interval_ns;
    uint64_t x = ps_shared_x(word);
    double level = ps_shared_level(p, view, now);
    if (x == 0) /* refused only: while the key is empty there is nothing to learn */
        return idle && level >= 1.0;
    bool calm = ps_load_relaxed(&tail[PS_TAIL_SEEN]) == x && (double)x <= 0.1 * level / (double)ps_load_relaxed(&share->instances);
    return idle || !calm;
}

/* True when there is anything that Redis should know, now or later: of held units also that it has some of this instance,
 * and that there were none left. */
static inline bool ps_shared_tells(const ps_policy *p, uint64_t word, const ps_word *tail) {
    const ps_word *view = ps_shared_view(word, tail);
    return ps_shared_x(word) || ps_shared_credit(word) || ps_load_relaxed(&tail[PS_TAIL_SEEN]) ||
           (p->kind == PS_SHARED_HELD && view && (ps_load_double(&view[PS_VIEW_B]) > 0.0 || ps_load_double(&view[PS_VIEW_A]) < 1.0));
}

/* The age that tells Redis which window something of the time `at` is of: it points a quarter into that window, since the
 * windows of here and of there are apart by as much as a message takes. */
static inline uint64_t ps_shared_window_age(const ps_policy *p, uint64_t start, uint64_t at, uint64_t now) {
    int64_t width = (int64_t)p->per_ns, passed = (int64_t)(at - start);
    int64_t into = passed % width, begun = passed - (into < 0 ? into + width : into); /* since `start` */
    int64_t age = (int64_t)(now - start) - begun - width / 4;
    return age > 0 ? (uint64_t)age : 0;
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
        uint64_t tier = ps_load_relaxed(&tail[PS_TAIL_RULE]) % limiter->tier_count;
        const ps_policy *p = ps_policy_now(limiter, limit, tier);
        bool tells = ps_shared_tells(p, word, tail), held = p->kind == PS_SHARED_HELD;
        if (ps_partition_of(limiter->share, key) != partition || ps_load_relaxed(&tail[PS_TAIL_FLIGHT]) || !(tells || waited) ||
            !ps_shared_due(limiter->share, p, word, tail, now, tick, waited)) {
            *again |= tells;
            return false;
        }
        const ps_word *view = ps_shared_view(word, tail);
        /* A tick gives every lease back, so that none outlives two intervals by being renewed; in between it is kept, to
         * be used while the exchange lasts. */
        uint64_t x = ps_shared_x(word), debt = held || x < PS_FLY_MOST ? x : PS_FLY_MOST, credit = ps_shared_credit(word);
        uint64_t since = ps_load_relaxed(&tail[PS_TAIL_SINCE]), valid = ps_shared_valid(word, tail, now), kept = tick ? 0 : valid;
        uint64_t seen = ps_load_relaxed(&tail[PS_TAIL_SEEN]);
        double span, weight, interval = ps_shared_interval(p), phi = view ? ps_load_double(&view[PS_VIEW_PHI]) : 1.0;
        double pace = ps_shared_pace(p, view, tail, now, seen, &span, &weight);
        double burst = (double)((seen > 1 ? seen : 1) - 1) / ps_most(ps_seconds(since, now), PS_BURST_S); /* the mean knows it late */
        /* Leases that overlap hold a bucket down for good: all instances' together are at most two intervals' rate. */
        double most = phi * p->per_second * interval * 2.0;
        if (held) /* of what nobody holds half at most lies ready with those who do not use it yet */
            most = phi * ps_most(0.0, ps_shared_level(p, view, now) + (double)valid) / 2.0;
        double forecast = ps_least(PS_LEASE_INTERVALS * ps_most(pace, burst) * interval, most);
        if (held && p->kappa == 0 && (x || seen)) /* without trust one must lie ready before it is asked for */
            forecast = ps_most(forecast, most / 2.0);
        uint64_t cap = ps_shared_cap(limiter->share, p, limit_index, ps_load_relaxed(&limiter->share->cost_most[limit_index]));
        double enough = ps_most((double)cap / 2.0, seen ? 0.0 : PS_FORGOTTEN);
        double lease = forecast > enough ? ps_most(1.0, floor(forecast)) : 0.0;
        waited = waited < p->limit ? waited : p->limit;
        if (tick && held && view && ps_load_double(&view[PS_VIEW_A]) >= 1.0) /* nobody lacks what this one will need again */
            kept = lease < (double)valid ? (uint64_t)lease : valid;
        double want = ps_most(0.0, lease + (double)waited - (double)kept);
        uint64_t fly = held ? 0 : debt;
        if (!ps_pair_exchange(slot, key, word, key, ps_shared_word(word >> PS_VIEW_SHIFT, kept, fly, held ? x : x - debt)))
            continue;
        ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 1);
        ps_add_relaxed(&tail[PS_TAIL_SEEN], 0 - seen);
        ps_store_relaxed(&tail[PS_TAIL_ASKED], 0);
        *again |= x != debt;

        bool windows = p->kind == PS_SHARED_FIXED || p->kind == PS_SHARED_SLIDING;
        /* A window's credit dies with it: taken back, it would be taken from the next one's count. */
        bool turned = windows && view && ps_shared_turns(p, ps_load_relaxed(&view[PS_VIEW_START]), now) > 0;
        if (ps_load_relaxed(&limiter->share->modes[partition]) == PS_MODE_OPEN)
            want = 0.0;
        uint64_t age_us = debt ? ps_until(now, since) / 1000 : 0, most_us = p->kind == PS_SHARED_BUCKET ? p->interval_ns / 1000 : UINT32_MAX;
        if (windows && view && (debt || credit != kept))
            age_us = ps_shared_window_age(p, ps_load_relaxed(&view[PS_VIEW_START]), debt ? since : now, now) / 1000;
        *entry = (ps_entry){
            .limit = limit_index,
            .index = index,
            .fingerprint = key,
            .debt = held ? x + kept : debt, /* an absolute account: to be told twice is to be told once */
            .back = turned ? 0 : credit - kept,
            .kept = kept != 0,
            .seen = seen < UINT32_MAX ? seen : UINT32_MAX,
            .waited = waited,
            .want = want < (double)PS_CREDIT_MOST ? (uint64_t)want : PS_CREDIT_MOST,
            .age_us = held ? 0 : age_us < most_us ? age_us : most_us,
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
    bool held = p->kind == PS_SHARED_HELD, windows = !held && p->kind != PS_SHARED_BUCKET;
    uint64_t start = windows ? now - into : 0; /* the latest that it can have been */
    if (held) /* clocks differ, and as of when it was applied before is not known */
        expiry = granted ? sent_ns + p->per_ns - p->per_ns / PS_LEASE_MARGIN : old ? ps_load_relaxed(&old[PS_VIEW_EXPIRY]) : 0;
    if (windows && sent_ns - into + p->per_ns < expiry)
        expiry = sent_ns - into + p->per_ns; /* the earliest: a lease dies with its window */
    if (e->kept && old && !held && ps_load_relaxed(&old[PS_VIEW_EXPIRY]) < expiry)
        expiry = ps_load_relaxed(&old[PS_VIEW_EXPIRY]);
    ps_store_relaxed(&view[PS_VIEW_LEARNT], now);
    ps_store_relaxed(&view[PS_VIEW_START], start);
    ps_store_double(&view[PS_VIEW_A], answer->a);
    ps_store_double(&view[PS_VIEW_B], answer->b);
    double fresh = ps_shared_level(p, view, now), others = ps_most(0.0, global - demand);
    if (old) {
        double before = ps_load_double(&old[PS_VIEW_OTHERS]), gone = was - (double)e->debt + (double)e->back - fresh - grant;
        if (held)
            gone = was - fresh - (answer->b - ps_load_double(&old[PS_VIEW_B]));
        others = before + (ps_most(0.0, gone) / span - before) * weight;
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
        uint64_t next = ps_shared_word(word >> PS_VIEW_SHIFT, ps_shared_credit(word) + e->back, 0, ps_shared_x(word) + ps_shared_fly(word));
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
    if (!view || p->kind == PS_SHARED_HELD) /* what is held is told as it is */
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
            uint64_t has = p->kind == PS_SHARED_HELD ? ps_shared_x(word) + ps_shared_valid(word, tail, now) : 0;
            if (!view || (p->kind == PS_SHARED_HELD ? !has : ps_shared_level(p, view, now) >= (double)p->limit))
                continue;
            ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 1);
            if (ps_load_seq(&slot->key) != key) { /* evicted meanwhile */
                ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 0);
                continue;
            }
            entries[count] = (ps_entry){.limit = l, .index = index, .fingerprint = key, .rule = tier * limiter->limit_count + l, .debt = has, .kept = true};
            ps_known(p, view, now, &entries[count].known, &entries[count].before);
            count++;
        }
    }
    return count;
}

/* A key, or all (key 0), was made as good as new elsewhere. */
static inline void ps_unlearn(ps_limiter *limiter, uint64_t fingerprint) {
    for (uint64_t l = 0; l < limiter->limit_count; l++) {
        const ps_limit *limit = &limiter->limits[l];
        uint64_t slots = ps_table_slots(limit->table.homes), first = 0, state;
        if (fingerprint) {
            if (!ps_settled(limit, fingerprint, &first, &state))
                continue;
            slots = first + 1;
        }
        for (uint64_t index = first; index < slots; index++) {
            ps_pair *slot = &limit->table.slots[index];
            for (;;) { /* ends: a failed exchange means that a decision was counted */
                uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
                if (key <= PS_SLOT_FREE || ps_is_tentative(word) || (fingerprint && key != fingerprint) ||
                    ps_pair_exchange(slot, key, word, key, ps_shared_unlearn(word)))
                    break;
            }
        }
    }
}

/* In a process that was forked from another: what that one has to tell, on its way or leased is its own. No other thread
 * is here yet. */
static inline void ps_abandon(ps_limiter *limiter) {
    for (uint64_t l = 0; l < limiter->limit_count; l++) {
        const ps_limit *limit = &limiter->limits[l];
        for (uint64_t index = 0; index < ps_table_slots(limit->table.homes); index++) {
            ps_pair *slot = &limit->table.slots[index];
            ps_word *tail = ps_tail(limit, index);
            uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
            if (key <= PS_SLOT_FREE || ps_is_tentative(word))
                continue;
            ps_pair_exchange(slot, key, word, key, ps_shared_abandon(&limit->policies[0], word));
            ps_store_relaxed(&tail[PS_TAIL_SEEN], 0);
            ps_store_relaxed(&tail[PS_TAIL_ASKED], 0);
            ps_store_relaxed(&tail[PS_TAIL_FLIGHT], 0);
        }
    }
}

/* The word of a slot; 0 where none is established. */
static inline uint64_t ps_shared_at(const ps_limit *limit, uint64_t index) {
    const ps_pair *slot = &limit->table.slots[index];
    uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
    return key <= PS_SLOT_FREE || ps_is_tentative(word) ? 0 : word;
}

/* Adds to the units of a slot that Redis has not been told, that are on their way, and that are leased. */
static inline void ps_unsettled_add(const ps_limiter *limiter, uint64_t limit_index, uint64_t index, uint64_t now, uint64_t *x,
                                    uint64_t *fly, uint64_t *credit) {
    const ps_limit *limit = &limiter->limits[limit_index];
    const ps_word *tail = ps_tail(limit, index);
    const ps_policy *p = ps_policy_now(limiter, limit, ps_load_relaxed(&tail[PS_TAIL_RULE]) % limiter->tier_count);
    uint64_t word = ps_shared_at(limit, index);
    *x += ps_shared_open(p, word, tail, now) - ps_shared_fly(word);
    *fly += ps_shared_fly(word);
    *credit += ps_shared_credit(word);
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
