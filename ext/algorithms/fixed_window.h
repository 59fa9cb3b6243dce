/* Fixed window: one counter and the window it counts in.
 *
 * word: window | count. On the epoch grid the window is the number of whole periods since the grid's origin,
 * plus one, so that 0 is never seen. Started by the key's first hit, it is a serial number, and tail[window & 1]
 * holds when it began: whoever opens the next window raises its start before the exchange that opens it, so a
 * window is never shorter than promised; a late raiser can only lengthen it, by how late it was. */
#ifndef PENSTOCK_FIXED_WINDOW_H
#define PENSTOCK_FIXED_WINDOW_H

#include "decision.h"

#define PS_FIXED_TAIL_WORDS 2 /* first-hit windows only */

static inline uint64_t ps_fixed_count(const ps_policy *p, uint64_t word) {
    return word & ((UINT64_C(1) << p->count_bits) - 1);
}

/* The window that counts at `now`, given the word's own: never an earlier one, whatever the clock says. */
static inline uint64_t ps_fixed_window(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t window = word >> p->count_bits;
    if (p->first_hit) {
        if (window == 0 || now >= ps_load_acquire(&tail[window & 1]) + p->per_ns)
            return window + 1;
        return window;
    }
    uint64_t current = ps_divide(now + p->grid_ns, p->per_ns, p->per_inverse) + 1;
    return current > window ? current : window;
}

/* The word's count as of `now`, and the word of the window that counts, still without any count. */
static inline uint64_t ps_fixed_used(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t *base) {
    uint64_t window = ps_fixed_window(p, word, tail, now);
    *base = window << p->count_bits;
    return window == word >> p->count_bits ? ps_fixed_count(p, word) : 0;
}

/* To be called before an exchange from `word` to a word with another window. */
static inline void ps_fixed_open(const ps_policy *p, uint64_t word, uint64_t next, ps_word *tail, uint64_t now) {
    uint64_t window = next >> p->count_bits;
    if (p->first_hit && window != word >> p->count_bits)
        ps_raise(&tail[window & 1], now);
}

static inline bool ps_fixed_step(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost, uint64_t *next) {
    uint64_t base, used = ps_fixed_used(p, word, tail, now, &base);
    if (cost > p->limit || used > p->limit - cost)
        return false;
    *next = base | (used + cost);
    ps_fixed_open(p, word, *next, tail, now);
    return true;
}

static inline uint64_t ps_fixed_force(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t base, used = ps_fixed_used(p, word, tail, now, &base), most = (UINT64_C(1) << p->count_bits) - 1;
    uint64_t next = base | (cost < most - used ? used + cost : most);
    ps_fixed_open(p, word, next, tail, now);
    return next;
}

/* What an earlier window took has been given back by time already. */
static inline uint64_t ps_fixed_refund(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t base, used = ps_fixed_used(p, word, tail, now, &base);
    if (used == 0)
        return word;
    return base | (used > cost ? used - cost : 0);
}

static inline bool ps_fixed_kept(const ps_policy *p, uint64_t word, uint64_t taken) {
    return word >> p->count_bits == taken >> p->count_bits;
}

static inline uint64_t ps_fixed_debt(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t base;
    return ps_fixed_used(p, word, tail, now, &base);
}

static inline void ps_fixed_describe(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, ps_view *view) {
    uint64_t base, used = ps_fixed_used(p, word, tail, now, &base), window = base >> p->count_bits, end;
    if (!p->first_hit)
        end = window * p->per_ns - p->grid_ns;
    else if (window == word >> p->count_bits)
        end = ps_load_acquire(&tail[window & 1]) + p->per_ns;
    else
        end = now + p->per_ns;
    view->allowed = cost <= ps_until(p->limit, used);
    if (view->allowed)
        used += cost;
    view->remaining = ps_until(p->limit, used);
    view->reset_ns = used ? ps_until(end, now) : 0;
    view->retry_ns = view->allowed ? 0 : cost > p->limit ? PS_NEVER : view->reset_ns;
}

#endif
