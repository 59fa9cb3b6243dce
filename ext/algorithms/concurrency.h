/* Concurrency: units in flight, given back by whoever took them. word: version | count.
 *
 * The count takes p->count_bits; with 0, as in a limiter of one process, all of the word, and there is no version. In a segment the
 * version, which each change raises, tells a word from an equal count later on (segment/holds.h); a new tenant begins with one drawn
 * from the time, so that it is not what the last tenant had. A count of 0 is as good as never seen, whatever the version. */
#ifndef PENSTOCK_CONCURRENCY_H
#define PENSTOCK_CONCURRENCY_H

#include "decision.h"

static inline uint64_t ps_concurrency_most(const ps_policy *p) { return (UINT64_C(1) << (p->count_bits ? p->count_bits : 62)) - 1; }

static inline uint64_t ps_concurrency_held(const ps_policy *p, uint64_t word) { return p->count_bits ? word & ps_concurrency_most(p) : word; }

/* The word after this one, with another count. */
static inline uint64_t ps_concurrency_word(const ps_policy *p, uint64_t word, uint64_t count) {
    if (!p->count_bits)
        return count;
    uint64_t version = (word >> p->count_bits) + 1;
    return (version << p->count_bits | count) & UINT64_MAX >> 1; /* a state's top bit is the table's */
}

static inline uint64_t ps_concurrency_fresh(const ps_policy *p, uint64_t now) {
    return p->count_bits ? ps_concurrency_word(p, now << p->count_bits, 0) : 0;
}

static inline bool ps_concurrency_step(const ps_policy *p, uint64_t word, uint64_t cost, uint64_t *next) {
    uint64_t held = ps_concurrency_held(p, word);
    *next = ps_concurrency_word(p, word, held + cost);
    return cost <= p->limit && held <= p->limit - cost;
}

static inline uint64_t ps_concurrency_force(const ps_policy *p, uint64_t word, uint64_t cost) {
    uint64_t held = ps_concurrency_held(p, word), most = ps_concurrency_most(p);
    return ps_concurrency_word(p, word, cost < most - held ? held + cost : most);
}

static inline uint64_t ps_concurrency_refund(const ps_policy *p, uint64_t word, uint64_t cost) {
    uint64_t held = ps_concurrency_held(p, word);
    return ps_concurrency_word(p, word, held > cost ? held - cost : 0);
}

/* No wait is known to help: only a holder can. */
static inline void ps_concurrency_describe(const ps_policy *p, uint64_t word, uint64_t cost, ps_view *view) {
    view->allowed = ps_concurrency_step(p, word, cost, &(uint64_t){0});
    uint64_t held = ps_concurrency_held(p, word) + (view->allowed ? cost : 0);
    view->remaining = ps_until(p->limit, held);
    view->reset_ns = held ? PS_NEVER : 0;
    view->retry_ns = view->allowed ? 0 : PS_NEVER;
}

#endif
