/* Sliding window: a ring of sub-window counters, so that no boundary lets a burst through.
 *
 * With R sub-windows of g = per/R each, sub-window e covers [e*g, (e+1)*g). Those that touch (now - per, now]
 * are e-R .. e with e = floor(now/g), R+1 of them: their sum plus the cost must not exceed the limit. So any
 * interval of length per admits at most the limit, and nothing that fits in per + g is refused.
 *
 * word:    epoch | version | age | count     the sub-window it counts in, and its count
 * tail[R]: words of finished sub-windows, at epoch % R; compared as numbers they only grow (ps_raise)
 *
 *   age      sub-windows since this tenancy began, at most R: older ring entries are a former tenant's
 *   version  raised when a count goes down (refund) or the tenant changes, so that later words of one epoch
 *            are always greater numbers. Out of versions, a refund is not given and a new tenant begins in the
 *            next epoch: its admissions count as later than they were, never as earlier
 *
 * Advance. Whoever first admits in a later sub-window raises ring[epoch % R] to the word it read, then
 * exchanges the word for one of the new epoch. If that exchange succeeds, the raised word was final. A helper
 * that is late raises what is there already, or less. Nothing is ever zeroed: an entry counts while its epoch
 * is in the window and the tenancy.
 *
 * A raise overwrites the entry of R sub-windows before. A thread whose clock is a little behind may still be
 * in the word's own epoch and need that entry: it finds the word's own epoch in its place instead, learns that
 * a later time has been seen, and decides as of the next sub-window. */
#ifndef PENSTOCK_SLIDING_WINDOW_H
#define PENSTOCK_SLIDING_WINDOW_H

#include "decision.h"

#define PS_WINDOW_RING_MOST 60 /* now * R must fit: PS_HORIZON * 60 < 2^63 */

static inline uint64_t ps_window_count(const ps_policy *p, uint64_t word) {
    return word & ((UINT64_C(1) << p->count_bits) - 1);
}
static inline uint64_t ps_window_age(const ps_policy *p, uint64_t word) {
    return word >> p->count_bits & ((UINT64_C(1) << p->age_bits) - 1);
}
static inline uint64_t ps_window_epoch(const ps_policy *p, uint64_t word) {
    return word >> (p->count_bits + p->age_bits + p->version_bits);
}
static inline uint64_t ps_window_word(const ps_policy *p, uint64_t epoch, uint64_t age, uint64_t count) {
    return epoch << (p->count_bits + p->age_bits + p->version_bits) | age << p->count_bits | count;
}
static inline uint64_t ps_window_word_next_version(const ps_policy *p, uint64_t word) {
    return word + (UINT64_C(1) << (p->count_bits + p->age_bits));
}
/* The units that a refund may take from this word: none when it has no version left to say so with. */
static inline uint64_t ps_window_refundable(const ps_policy *p, uint64_t word) {
    uint64_t last = (UINT64_C(1) << p->version_bits) - 1;
    return (word >> (p->count_bits + p->age_bits) & last) == last ? 0 : ps_window_count(p, word);
}

/* floor(now / g) + R + 1: epochs are numbered so that 0 is "never seen", and out of every window. */
static inline uint64_t ps_window_now(const ps_policy *p, uint64_t now) {
    return ps_divide(now * p->resolution, p->per_ns, p->per_inverse) + p->resolution + 1;
}
/* The first nanosecond of an epoch. */
static inline uint64_t ps_window_time(const ps_policy *p, uint64_t epoch) {
    uint64_t whole = epoch - p->resolution - 1, r = p->resolution;
    return whole / r * p->per_ns + (whole % r * p->per_ns + r - 1) / r;
}

typedef struct {
    uint64_t epoch;  /* as of which the decision is taken */
    uint64_t used;   /* units counted in the window then */
} ps_window_sum;

/* Sums what counts as of `now` or of the latest time that the slot shows to have been seen. */
static inline ps_window_sum ps_window_read(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t own = ps_window_epoch(p, word), start = own - ps_window_age(p, word), r = p->resolution;
    ps_window_sum sum = {ps_window_now(p, now), 0};
    uint64_t place = own % r, there = ps_load_acquire(&tail[place]); /* read once: what is summed is what was looked at */
    if (sum.epoch <= own)
        sum.epoch = start < own && ps_window_epoch(p, there) == own ? own + 1 : own;
    if (own + r >= sum.epoch)
        sum.used = ps_window_count(p, word);
    for (uint64_t i = 0; i < r; i++) {
        uint64_t entry = i == place ? there : ps_load_acquire(&tail[i]), epoch = ps_window_epoch(p, entry);
        if (epoch >= start && epoch < own && epoch + r >= sum.epoch)
            sum.used += ps_window_count(p, entry);
    }
    return sum;
}

/* The word with `count` more units, as of sum.epoch; raises the ring when that is a later one. */
static inline uint64_t ps_window_take(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t epoch, uint64_t count) {
    uint64_t own = ps_window_epoch(p, word);
    if (epoch == own)
        return word + count;
    ps_raise(&tail[own % p->resolution], word);
    uint64_t age = ps_window_age(p, word) + (epoch - own);
    return ps_window_word(p, epoch, age < p->resolution ? age : p->resolution, count);
}

static inline bool ps_window_step(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost, uint64_t *next) {
    if (cost > p->limit)
        return false;
    ps_window_sum sum = ps_window_read(p, word, tail, now);
    if (sum.used > p->limit - cost)
        return false;
    *next = ps_window_take(p, word, tail, sum.epoch, cost);
    return true;
}

static inline uint64_t ps_window_force(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost) {
    ps_window_sum sum = ps_window_read(p, word, tail, now);
    uint64_t most = (UINT64_C(1) << p->count_bits) - 1;
    uint64_t own = sum.epoch == ps_window_epoch(p, word) ? ps_window_count(p, word) : 0;
    return ps_window_take(p, word, tail, sum.epoch, cost < most - own ? cost : most - own);
}

/* Gives back what would have expired first: which hit is refunded is not known, and so the window never admits
 * more than it promised. Ring entries are lowered by exchange, under a higher version; what they can't give is
 * left for the word: the units still to be taken from it. */
static inline uint64_t ps_window_refund_ring(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost) {
    ps_window_sum sum = ps_window_read(p, word, tail, now);
    uint64_t own = ps_window_epoch(p, word), start = own - ps_window_age(p, word), r = p->resolution;
    uint64_t oldest = sum.epoch > r ? sum.epoch - r : 0;
    for (uint64_t epoch = oldest > start ? oldest : start; epoch < own && cost; epoch++) {
        ps_word *place = &tail[epoch % r];
        uint64_t entry = ps_load_acquire(place);
        while (ps_window_epoch(p, entry) == epoch && ps_window_refundable(p, entry)) {
            uint64_t count = ps_window_refundable(p, entry), back = cost < count ? cost : count;
            if (ps_exchange_if_equal(place, &entry, ps_window_word_next_version(p, entry) - back)) {
                cost -= back;
                break;
            }
        }
    }
    return cost;
}

/* The word with up to `cost` units given back from its own sub-window. */
static inline uint64_t ps_window_refund(const ps_policy *p, uint64_t word, uint64_t now, uint64_t cost) {
    uint64_t count = ps_window_refundable(p, word), back = cost < count ? cost : count;
    if (back == 0 || ps_window_epoch(p, word) + p->resolution < ps_window_now(p, now))
        return word;
    return ps_window_word_next_version(p, word) - back;
}

static inline bool ps_window_kept(const ps_policy *p, uint64_t word, uint64_t taken, uint64_t now) {
    uint64_t until = ps_window_epoch(p, taken) + p->resolution;
    return until >= ps_window_epoch(p, word) && until >= ps_window_now(p, now);
}

/* What the ring must remember of a word that has gone, or that is as good as new. Not of one that may yet be hit:
 * it would put the entry of R sub-windows before out of sight although nobody has seen a later time. */
static inline void ps_window_retire(const ps_policy *p, uint64_t word, ps_word *tail) {
    ps_raise(&tail[ps_window_epoch(p, word) % p->resolution], word);
}

/* A key never seen: nothing counted, above every word that the ring has seen. */
static inline uint64_t ps_window_fresh(const ps_policy *p, const ps_word *tail, uint64_t now) {
    uint64_t epoch = ps_window_now(p, now), last = 0, below = p->count_bits + p->age_bits;
    for (uint64_t i = 0; i < p->resolution; i++) {
        uint64_t entry = ps_load_acquire(&tail[i]);
        if (entry > last)
            last = entry;
    }
    if (ps_window_epoch(p, last) < epoch)
        return ps_window_word(p, epoch, 0, 0);
    return ((last >> below) + 1) << below;
}

/* Cheap for a free slot: when the word's own sub-window is past, so are all before it. */
static inline uint64_t ps_window_debt(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    if (ps_window_epoch(p, word) + p->resolution < ps_window_now(p, now))
        return 0;
    return ps_window_read(p, word, tail, now).used;
}

static inline void ps_window_describe(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, ps_view *view) {
    uint64_t own = ps_window_epoch(p, word), start = own - ps_window_age(p, word), r = p->resolution;
    ps_window_sum sum = ps_window_read(p, word, tail, now);
    uint64_t counts[PS_WINDOW_RING_MOST + 1] = {0}; /* by how many sub-windows ago, as of sum.epoch */
    uint64_t used = 0;
    if (own + r >= sum.epoch)
        counts[sum.epoch - own] = used = ps_window_count(p, word);
    for (uint64_t i = 0; i < r; i++) {
        uint64_t entry = ps_load_acquire(&tail[i]), epoch = ps_window_epoch(p, entry);
        if (epoch >= start && epoch < own && epoch + r >= sum.epoch) { /* each in its place, but where somebody has scribbled */
            counts[sum.epoch - epoch] += ps_window_count(p, entry);
            used += ps_window_count(p, entry);
        }
    }
    view->allowed = cost <= ps_until(p->limit, used);
    view->retry_ns = 0;
    if (view->allowed) {
        used += cost;
        counts[0] += cost;
    } else if (cost > p->limit) {
        view->retry_ns = PS_NEVER;
    } else {
        uint64_t left = used, ago = r + 1;
        while (left > p->limit - cost)
            left -= counts[--ago];
        view->retry_ns = ps_until(ps_window_time(p, sum.epoch + (r + 1 - ago)), now);
    }
    view->remaining = ps_until(p->limit, used);
    view->reset_ns = 0;
    for (uint64_t ago = 0; used && ago <= r && view->reset_ns == 0; ago++)
        if (counts[ago])
            view->reset_ns = ps_until(ps_window_time(p, sum.epoch + (r + 1 - ago)), now);
}

#endif
