/* What every algorithm is told (a policy and the time) and what every algorithm answers.
 *
 * Each algorithm is one header with the same functions over {policy, word, tail}: the word is the slot's
 * state, the tail the slot's own memory outside the table (none, or words that only ever grow). Only the
 * word is exchanged, by limiter.h; here nothing is written but tail words, which are raised.
 *
 *   NAME_step     (.., now, cost, &next)  true when `cost` fits, with the word that says so
 *   NAME_publish  (.., now, word, cost)   what must be written to the tail once the exchange succeeded
 *   NAME_force    (.., now, cost)         the word with `cost` taken although it may not fit
 *   NAME_refund   (.., now, cost)         the word with `cost` given back, never above full
 *   NAME_kept     (.., taken, now)        whether the units that led to the word `taken` still count; if not, others
 *                                         may have had their place since, and to give them back would admit too much
 *   NAME_fresh    (.., now)               the word of a key never seen, above what the tail remembers
 *   NAME_retire   (.., word)              tail keeps what `fresh` needs when the word goes away
 *   NAME_debt     (.., now)               units still counted against the key: 0 exactly when it is as good as new
 *   NAME_describe (.., now, cost, *view)  the fields of the decision that `step` takes, from one reading
 *
 * Times are nanoseconds since the limiter was made, at most PS_HORIZON: later than that, time stands still. */
#ifndef PENSTOCK_DECISION_H
#define PENSTOCK_DECISION_H

#include "../platform/atomics.h"
#include "../platform/wide.h"

#define PS_HORIZON (UINT64_C(1) << 57) /* 4.5 years in ns */
#define PS_NEVER UINT64_MAX            /* a wait that would not help */

typedef enum {
    PS_TOKEN_BUCKET,
    PS_SLIDING_WINDOW,
    PS_SLIDING_LOG,
    PS_FIXED_WINDOW,
    PS_CONCURRENCY,
    PS_SHARED,
} ps_algorithm;

/* One limit, in the units its algorithm computes in. Made by penstock/policy.py, then only read. */
typedef struct {
    uint32_t algorithm; /* ps_algorithm */
    uint32_t resolution; /* sliding window: sub-windows in one `per` */
    uint64_t limit;     /* units a full key may take at once: the burst of a token bucket */
    uint64_t per_ns;
    uint64_t tag;       /* the policy's number among its limit's */
    /* token bucket (token_bucket.h) */
    uint64_t ticks_per_ns; /* ticks in a nanosecond, times 2^58 */
    uint64_t token_ticks;  /* ticks in a token */
    uint64_t span_ticks;   /* ticks in a full bucket */
    uint32_t tag_shift;    /* the word's bits above hold the tag: in whose ticks it is */
    /* windows, and units in flight: where the word's fields lie, and how to find the window of a time */
    uint32_t count_bits, age_bits, version_bits;
    uint64_t per_inverse; /* for ps_divide by per_ns */
    uint64_t grid_ns;     /* fixed window on the epoch grid: the limiter's birth, past the last grid line */
    uint32_t first_hit;   /* fixed window: it starts at the key's first hit */
    uint32_t ring;        /* sliding log: entries in the ring, at least `limit` */
    /* shared between instances (shared.h) */
    uint32_t kind;        /* ps_shared_kind */
    uint32_t kappa;       /* part of a full limit that instances may admit ahead of Redis, times 2^16 */
    uint64_t rate;        /* units in `per_ns` */
    uint64_t interval_ns; /* between two exchanges of a key in use */
    double per_second;    /* rate; set by ps_install */
} ps_policy;

/* The fields of one limit's decision; all from one state at one time. */
typedef struct {
    bool allowed;
    uint64_t remaining; /* units that still fit, after this call */
    uint64_t retry_ns;  /* 0 when allowed; PS_NEVER when no wait helps */
    uint64_t reset_ns;  /* until the key is as good as new, if nothing more comes */
} ps_view;

/* A limiter's time from a clock's: never negative, and no later than the horizon. A limiter that goes on from a saved one may
 * be older than its clock; then birth_ns has wrapped, as the difference does. */
static inline uint64_t ps_since(uint64_t birth_ns, uint64_t clock_ns) {
    uint64_t passed = clock_ns - birth_ns;
    if (passed <= PS_HORIZON)
        return passed;
    return passed >> 63 ? 0 : PS_HORIZON;
}

static inline uint64_t ps_until(uint64_t then, uint64_t now) { return then > now ? then - now : 0; }

#endif
