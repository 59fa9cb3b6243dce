/* Concurrency: units in flight, given back by whoever took them. word: the count, and nothing else. */
#ifndef PENSTOCK_CONCURRENCY_H
#define PENSTOCK_CONCURRENCY_H

#include "decision.h"

static inline bool ps_concurrency_step(const ps_policy *p, uint64_t word, uint64_t cost, uint64_t *next) {
    *next = word + cost;
    return cost <= p->limit && word <= p->limit - cost;
}

static inline uint64_t ps_concurrency_force(uint64_t word, uint64_t cost) {
    uint64_t most = (UINT64_C(1) << 62) - 1;
    return cost < most - word ? word + cost : most;
}

static inline uint64_t ps_concurrency_refund(uint64_t word, uint64_t cost) { return word > cost ? word - cost : 0; }

/* No wait is known to help: only a holder can. */
static inline void ps_concurrency_describe(const ps_policy *p, uint64_t word, uint64_t cost, ps_view *view) {
    view->allowed = ps_concurrency_step(p, word, cost, &(uint64_t){0});
    uint64_t held = view->allowed ? word + cost : word;
    view->remaining = ps_until(p->limit, held);
    view->reset_ns = held ? PS_NEVER : 0;
    view->retry_ns = view->allowed ? 0 : PS_NEVER;
}

#endif
