/* Token bucket as GCRA (ITU-T I.371, "virtual scheduling"): one time per key says how full its bucket is.
 *
 * tat, the theoretical arrival time, is when the bucket will be full again. With T = per/limit:
 *
 *   admit `cost` at `now` when  max(tat, now) + cost*T - now <= burst*T;  then  tat = max(tat, now) + cost*T
 *
 * per/limit is seldom a whole number of nanoseconds, so time is counted in ticks chosen per limit such that a
 * token is a whole number of them (policy.py): 1/q ns with the smallest q that makes it exact, where q <= 16
 * will do, else T / floor(16 T). Tokens never round, so no error accumulates; only a reading of the clock is
 * rounded down, by less than a tick, as the clock itself rounds down to its nanosecond.
 *
 * word: tag | tat. The tag says under which policy (tier, or generation of replaced limits) tat was written;
 * a word of another policy keeps what it has spent: its debt in tokens, not in time. 0: never seen. */
#ifndef PENSTOCK_TOKEN_BUCKET_H
#define PENSTOCK_TOKEN_BUCKET_H

#include "decision.h"

#define PS_TICK_SHIFT 58

static inline uint64_t ps_bucket_ticks(const ps_policy *p, uint64_t now) {
    return ps_mul_shift(now, p->ticks_per_ns, PS_TICK_SHIFT);
}

/* The first nanosecond whose reading is `ticks` or later. */
static inline uint64_t ps_bucket_time(const ps_policy *p, uint64_t ticks) {
    uint64_t whole = p->ticks_per_ns >> PS_TICK_SHIFT;
    if (whole << PS_TICK_SHIFT == p->ticks_per_ns) /* the same quotient, without 128 bits */
        return (ticks + whole - 1) / whole;
    return ps_shift_divide_up(ticks, PS_TICK_SHIFT, p->ticks_per_ns);
}

static inline uint64_t ps_bucket_word(const ps_policy *p, uint64_t tat) {
    uint64_t most = (UINT64_C(1) << p->tag_shift) - 1;
    return p->tag << p->tag_shift | (tat < most ? tat : most);
}

/* Ticks of debt at `t`, which is a time in p's ticks. */
static inline uint64_t ps_bucket_owed(const ps_policy *p, uint64_t word, uint64_t t) {
    uint64_t tat = word & ((UINT64_C(1) << p->tag_shift) - 1);
    return ps_until(tat, t);
}

/* A word written under `from`, in the words of `to`: the same tokens spent, rounded up to a tick. */
static inline uint64_t ps_bucket_convert(const ps_policy *from, const ps_policy *to, uint64_t word, uint64_t now) {
    uint64_t owed = ps_bucket_owed(from, word, ps_bucket_ticks(from, now));
    uint64_t tokens = owed / from->token_ticks, rest = owed % from->token_ticks;
    uint64_t part = (uint64_t)((double)rest / (double)from->token_ticks * (double)to->token_ticks) + (rest != 0);
    uint64_t most = (UINT64_C(1) << to->tag_shift) - 1;
    uint64_t debt = tokens < most / to->token_ticks ? tokens * to->token_ticks + part : most;
    uint64_t t = ps_bucket_ticks(to, now);
    return ps_bucket_word(to, debt < most - t ? t + debt : most);
}

static inline bool ps_bucket_step(const ps_policy *p, uint64_t word, uint64_t now, uint64_t cost, uint64_t *next) {
    if (cost > p->limit)
        return false;
    uint64_t t = ps_bucket_ticks(p, now);
    uint64_t owed = ps_bucket_owed(p, word, t) + cost * p->token_ticks;
    *next = p->tag << p->tag_shift | (t + owed); /* fits: policy.py leaves room for the horizon and a full bucket */
    return owed <= p->span_ticks;
}

static inline uint64_t ps_bucket_force(const ps_policy *p, uint64_t word, uint64_t now, uint64_t cost) {
    uint64_t t = ps_bucket_ticks(p, now), most = (UINT64_C(1) << p->tag_shift) - 1;
    uint64_t tat = t + ps_bucket_owed(p, word, t);
    return ps_bucket_word(p, cost < (most - tat) / p->token_ticks ? tat + cost * p->token_ticks : most);
}

static inline uint64_t ps_bucket_refund(const ps_policy *p, uint64_t word, uint64_t now, uint64_t cost) {
    uint64_t t = ps_bucket_ticks(p, now), owed = ps_bucket_owed(p, word, t);
    uint64_t back = cost <= owed / p->token_ticks ? cost * p->token_ticks : owed;
    return owed ? ps_bucket_word(p, t + owed - back) : word; /* never before `t`: a caller with an older time must not gain */
}

/* Of the units that led to `taken`, what time has not made good by `now`, which is the real time or later than any
 * that others have used: a bucket that has filled up since must not be filled once more. */
static inline uint64_t ps_bucket_hand_back(const ps_policy *p, uint64_t word, uint64_t taken, uint64_t now, uint64_t cost) {
    uint64_t t = ps_bucket_ticks(p, now), owed = ps_bucket_owed(p, word, t), back = ps_bucket_owed(p, taken, t);
    if (back > cost * p->token_ticks)
        back = cost * p->token_ticks;
    return owed ? ps_bucket_word(p, t + (owed > back ? owed - back : 0)) : word;
}

static inline uint64_t ps_bucket_debt(const ps_policy *p, uint64_t word, uint64_t now) {
    return ps_bucket_owed(p, word, ps_bucket_ticks(p, now));
}

static inline void ps_bucket_describe(const ps_policy *p, uint64_t word, uint64_t now, uint64_t cost, ps_view *view) {
    uint64_t t = ps_bucket_ticks(p, now), owed = ps_bucket_owed(p, word, t), next;
    view->allowed = ps_bucket_step(p, word, now, cost, &next);
    view->retry_ns = 0;
    if (view->allowed)
        owed += cost * p->token_ticks;
    else if (cost > p->limit)
        view->retry_ns = PS_NEVER;
    else
        view->retry_ns = ps_bucket_time(p, t + owed + cost * p->token_ticks - p->span_ticks) - now;
    view->remaining = ps_until(p->span_ticks, owed) / p->token_ticks;
    view->reset_ns = owed ? ps_until(ps_bucket_time(p, t + owed), now) : 0;
}

#endif
