/* A limit that instances share through Redis: this instance's part in one word, what it knows of the others beside it.
 *
 *   word: view | credit | fly | x
 *
 * x        units admitted on trust since the last exchange (optimistic use)
 * fly      the part of it in the batch that is on its way
 * credit   units that Redis has granted in advance (a lease), until `expiry`
 * view     0: never exchanged; 1, 2: which of the two views in the tail counts
 *
 * Of units that are held and given back (Concurrency) x is what is held now, told as it is whenever it changes and well
 * before Redis stops counting it; fly is 0, and what is on trust is by how much x + credit are above what Redis knows of.
 *
 * A view is what one reply of Redis told: the level then, what others use, this instance's part. The one that counts is
 * never written: an exchange fills the other, and one compare-exchange of the word switches views, ends the flight and
 * adds the grant. So a decision whose own exchange succeeds has read one whole view.
 *
 * Formulas are in doubles, in the order of _shared_reference.py, which computes the same to the last bit; they bound
 * what is admitted on trust, and are never added up. The protocol and its guarantee: share, settle, lease. */
#ifndef PENSTOCK_SHARED_H
#define PENSTOCK_SHARED_H

#include "decision.h"
#include <math.h>

#define PS_PARTITIONS_MOST 16
#define PS_SHARED_LIMITS_MOST 8
#define PS_SHARED_POLICIES_MOST 32

#define PS_X_BITS 21
#define PS_FLY_BITS 20
#define PS_CREDIT_BITS 20
#define PS_FLY_SHIFT PS_X_BITS
#define PS_CREDIT_SHIFT (PS_FLY_SHIFT + PS_FLY_BITS)
#define PS_VIEW_SHIFT (PS_CREDIT_SHIFT + PS_CREDIT_BITS)
#define PS_X_MOST ((UINT64_C(1) << PS_X_BITS) - 1)
#define PS_FLY_MOST ((UINT64_C(1) << PS_FLY_BITS) - 1)
#define PS_CREDIT_MOST ((UINT64_C(1) << PS_CREDIT_BITS) - 1)
#define PS_EARLY_AGE_NS UINT64_C(2000000) /* a view is not asked anew before */

typedef enum { PS_SHARED_BUCKET, PS_SHARED_FIXED, PS_SHARED_SLIDING, PS_SHARED_HELD } ps_shared_kind;
typedef enum { PS_MODE_NORMAL = 0, PS_MODE_OPEN = 2, PS_MODE_CLOSED = 3 } ps_share_mode;

/* The tail: two views, then what decisions note for the next exchange. Doubles are kept by their bits. */
enum {
    PS_VIEW_LEARNT, /* ns; when the reply came, so refill is never counted that the server had not */
    PS_VIEW_START,  /* windows: ns at which the server's window began (signed) */
    PS_VIEW_A,      /* bucket, held: room at `learnt`; windows: units counted in that window */
    PS_VIEW_B,      /* bucket: the server's TAT in us; windows: units counted in the window before; held: units of this instance */
    PS_VIEW_OTHERS, /* units/s that other instances use; held: by which what they have grows */
    PS_VIEW_PHI,    /* this instance's part of the demand, 0 to 1 */
    PS_VIEW_SOON,   /* x from which an exchange is asked for before the next tick */
    PS_VIEW_EXPIRY, /* ns; credit is good until then, and what is held counted */
    PS_VIEW_WORDS,
    PS_TAIL_SINCE = 2 * PS_VIEW_WORDS, /* ns of the first decision that is not told yet */
    PS_TAIL_SEEN,   /* units asked for, admitted or not */
    PS_TAIL_RULE,   /* number of the policy of the last decision */
    PS_TAIL_ASKED,  /* not 0: an early exchange is wanted */
    PS_TAIL_DEMAND, /* own units/s, smoothed as the server smooths everybody's */
    PS_TAIL_PACE,   /* own units/s over two intervals */
    PS_TAIL_FLIGHT, /* not 0: in the batch that is on its way */
    PS_SHARED_TAIL_WORDS,
};

/* What decisions of all keys must know of the fleet; written by the driver. */
typedef struct {
    ps_word instances, partitions;
    ps_word modes[PS_PARTITIONS_MOST]; /* ps_share_mode */
    ps_word asked[PS_PARTITIONS_MOST]; /* not 0: some key there wants an early exchange */
    ps_word parts[PS_SHARED_LIMITS_MOST][PS_SHARED_POLICIES_MOST]; /* kappa * burst / instances of each limit's policies */
    ps_word wake; /* 0, or one more than the file descriptor that wakes the driver then */
    ps_word cost_most[PS_SHARED_LIMITS_MOST]; /* largest cost asked of each limit; it fits whatever the caps are */
    ps_word evicted[PS_SHARED_LIMITS_MOST];   /* not 0: a key's view may have been forgotten with its slot */
} ps_share;

static inline uint64_t ps_shared_x(uint64_t word) { return word & PS_X_MOST; }
static inline uint64_t ps_shared_fly(uint64_t word) { return word >> PS_FLY_SHIFT & PS_FLY_MOST; }
static inline uint64_t ps_shared_credit(uint64_t word) { return word >> PS_CREDIT_SHIFT & PS_CREDIT_MOST; }
static inline uint64_t ps_shared_word(uint64_t view, uint64_t credit, uint64_t fly, uint64_t x) {
    return view << PS_VIEW_SHIFT | (credit < PS_CREDIT_MOST ? credit : PS_CREDIT_MOST) << PS_CREDIT_SHIFT |
           (fly < PS_FLY_MOST ? fly : PS_FLY_MOST) << PS_FLY_SHIFT | (x < PS_X_MOST ? x : PS_X_MOST);
}

static inline double ps_load_double(const ps_word *word) {
    union {
        uint64_t bits;
        double value;
    } both = {ps_load_relaxed(word)};
    return both.value;
}
static inline void ps_store_double(ps_word *word, double value) {
    union {
        double value;
        uint64_t bits;
    } both = {value};
    ps_store_relaxed(word, both.bits);
}

/* The view that counts, NULL when there is none. */
static inline const ps_word *ps_shared_view(uint64_t word, const ps_word *tail) {
    uint64_t view = word >> PS_VIEW_SHIFT;
    return view ? tail + (view - 1) * PS_VIEW_WORDS : 0;
}

static inline uint64_t ps_partition_of(const ps_share *share, uint64_t fingerprint) {
    uint64_t partitions = ps_load_relaxed(&share->partitions);
    return partitions > 1 && partitions <= PS_PARTITIONS_MOST ? (fingerprint >> 48) % partitions : 0; /* more: scribbled */
}

static inline double ps_seconds(uint64_t from, uint64_t to) { return (double)(int64_t)(to - from) * 1e-9; }
static inline double ps_shared_interval(const ps_policy *p) { return (double)p->interval_ns * 1e-9; }
static inline double ps_least(double a, double b) { return a < b ? a : b; }
static inline double ps_most(double a, double b) { return a > b ? a : b; }

/* Windows since the view's began. */
static inline uint64_t ps_shared_turns(const ps_policy *p, uint64_t start, uint64_t now) {
    int64_t passed = (int64_t)(now - start);
    return passed > 0 ? (uint64_t)passed / p->per_ns : 0;
}

/* Units that Redis would have room for at `now`, if nobody used any since the view. */
static inline double ps_shared_level(const ps_policy *p, const ps_word *view, uint64_t now) {
    double b = (double)p->limit;
    if (!view)
        return b;
    double a = ps_load_double(&view[PS_VIEW_A]);
    if (p->kind == PS_SHARED_BUCKET)
        return ps_least(a + p->per_second * ps_seconds(ps_load_relaxed(&view[PS_VIEW_LEARNT]), now), b);
    if (p->kind == PS_SHARED_HELD)
        return a; /* only who holds them can bring units back */
    uint64_t start = ps_load_relaxed(&view[PS_VIEW_START]), turns = ps_shared_turns(p, start, now);
    if (p->kind == PS_SHARED_FIXED)
        return turns == 0 ? b - a : b;
    double part = (double)(int64_t)(now - start - turns * p->per_ns) / (double)p->per_ns;
    if (turns == 0)
        return b - a - ps_load_double(&view[PS_VIEW_B]) * (1.0 - part);
    return turns == 1 ? b - a * (1.0 - part) : b;
}

static inline uint64_t ps_shared_valid(uint64_t word, const ps_word *tail, uint64_t now) {
    const ps_word *view = ps_shared_view(word, tail);
    return view && now < ps_load_relaxed(&view[PS_VIEW_EXPIRY]) ? ps_shared_credit(word) : 0;
}

/* Held: units that Redis counts as this instance's. */
static inline uint64_t ps_shared_known(const ps_word *view, uint64_t now) {
    if (!view || now >= ps_load_relaxed(&view[PS_VIEW_EXPIRY]))
        return 0;
    return (uint64_t)ps_least(ps_most(ps_load_double(&view[PS_VIEW_B]), 0.0), 0x1p53);
}

/* Units on trust: admitted here, and not known to Redis. */
static inline uint64_t ps_shared_open(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t x = ps_shared_x(word);
    if (p->kind != PS_SHARED_HELD)
        return x + ps_shared_fly(word);
    return ps_until(x + ps_shared_valid(word, tail, now), ps_shared_known(ps_shared_view(word, tail), now));
}

static inline uint64_t ps_shared_part(const ps_policy *p, uint64_t instances) {
    uint64_t burst = p->limit < UINT64_C(1) << 46 ? p->limit : UINT64_C(1) << 46;
    return (p->kappa * burst >> 16) / (instances ? instances : 1);
}

/* Units that this instance may have admitted on trust; `cost`: the largest that was asked. */
static inline uint64_t ps_shared_cap(const ps_share *share, const ps_policy *p, uint64_t limit_index, uint64_t cost) {
    if (p->kappa == 0)
        return 0;
    uint64_t part = ps_load_relaxed(&share->parts[limit_index][p->tag]), large = cost < p->limit ? cost : p->limit;
    uint64_t cap = part > large ? part : large;
    return cap < PS_FLY_MOST ? cap : PS_FLY_MOST;
}

/* Who decides: the policy, the fleet, which limit, in which mode. */
typedef struct {
    const ps_share *share;
    const ps_policy *p;
    uint64_t limit_index, mode;
} ps_sharer;

static inline ps_sharer ps_sharer_of(const ps_share *share, const ps_policy *p, uint64_t limit_index, uint64_t fingerprint) {
    return (ps_sharer){share, p, limit_index, ps_load_relaxed(&share->modes[ps_partition_of(share, fingerprint)])};
}

/* Units that would be admitted on trust now, were `cost` asked. */
static inline uint64_t ps_shared_trust(const ps_sharer *s, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t x = ps_shared_x(word), fly = ps_shared_fly(word);
    const ps_word *view = ps_shared_view(word, tail);
    if (s->mode == PS_MODE_OPEN)
        return PS_X_MOST - x;
    if (s->mode == PS_MODE_CLOSED || s->p->kappa == 0)
        return 0;
    uint64_t most_cost = ps_load_relaxed(&s->share->cost_most[s->limit_index]);
    most_cost = cost > most_cost ? cost : most_cost;
    uint64_t cap = ps_shared_cap(s->share, s->p, s->limit_index, most_cost);
    if (!view && ps_load_relaxed(&s->share->evicted[s->limit_index]) && most_cost < cap)
        cap = most_cost; /* its view may have been forgotten: no fresh cap for that */
    uint64_t open = ps_shared_open(s->p, word, tail, now), free = ps_until(cap, open);
    if (!view) {
        uint64_t room = ps_until(s->p->limit, x + fly);
        return free < room ? free : room;
    }
    uint64_t learnt = ps_load_relaxed(&view[PS_VIEW_LEARNT]);
    double level = ps_shared_level(s->p, view, now), room = level - (double)fly, age = ps_seconds(learnt, now);
    double mine = ps_most(ps_load_double(&view[PS_VIEW_PHI]) * room, level - ps_load_double(&view[PS_VIEW_OTHERS]) * age - (double)fly);
    /* Where shares are fractions of a unit, each instance rounds up now and then. */
    double dither = (double)(learnt * UINT64_C(0x9e3779b97f4a7c15) >> 11) * 0x1p-53;
    double most = floor(ps_least(mine + dither, room)) - (double)(open - fly);
    return most <= 0.0 ? 0 : most < (double)free ? (uint64_t)most : free;
}

/* The word with `cost` taken, of which `used` from credit. Of units held Redis is told all, also those. */
static inline uint64_t ps_shared_taken(const ps_policy *p, uint64_t word, uint64_t used, uint64_t cost) {
    uint64_t more = p->kind == PS_SHARED_HELD ? cost : cost - used, x = ps_shared_x(word);
    word -= used << PS_CREDIT_SHIFT;
    return more < PS_X_MOST - x ? word + more : word - x + PS_X_MOST;
}

/* Credit first, the rest on trust. */
static inline bool ps_shared_step(const ps_sharer *s, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, uint64_t *next) {
    uint64_t valid = ps_shared_valid(word, tail, now), used = valid < cost ? valid : cost;
    *next = ps_shared_taken(s->p, word, used, cost);
    return cost <= s->p->limit && (used == cost || cost - used <= ps_shared_trust(s, word, tail, now, cost));
}

static inline uint64_t ps_shared_force(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t valid = ps_shared_valid(word, tail, now);
    return ps_shared_taken(p, word, valid < cost ? valid : cost, cost);
}

/* What was settled already comes back as credit: good here while the lease lives, else returned by the next exchange.
 * Held: the next one here may have the place, as far as Redis knows and has room for it. */
static inline uint64_t ps_shared_refund(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t x = ps_shared_x(word), back = cost < x ? cost : x, credit = ps_shared_credit(word), rest = cost - back;
    if (p->kind == PS_SHARED_HELD) {
        const ps_word *view = ps_shared_view(word, tail);
        double over = view ? ps_most(0.0, -ps_load_double(&view[PS_VIEW_A])) : 0.0;
        double known = floor((double)ps_shared_known(view, now) - over);
        uint64_t spare = ps_until(known > 0.0 ? (uint64_t)known : 0, x - back + credit);
        rest = back < spare ? back : spare;
    }
    return ps_shared_word(word >> PS_VIEW_SHIFT, rest < PS_CREDIT_MOST - credit ? credit + rest : PS_CREDIT_MOST, ps_shared_fly(word), x - back);
}

/* As good as new, here: nothing is known, and nothing to be told but what is on its way. */
static inline uint64_t ps_shared_forget(uint64_t word) { return word & (PS_FLY_MOST << PS_FLY_SHIFT); }

/* As good as new, elsewhere: nothing is known or leased; what was admitted here is to be told still. */
static inline uint64_t ps_shared_unlearn(uint64_t word) { return ps_shared_word(0, 0, ps_shared_fly(word), ps_shared_x(word)); }

/* Another process's, whose fork this is: nothing is to be told. What is known stays, but of held units what that one has. */
static inline uint64_t ps_shared_abandon(const ps_policy *p, uint64_t word) {
    return p->kind == PS_SHARED_HELD ? 0 : ps_shared_word(word >> PS_VIEW_SHIFT, 0, 0, 0);
}

/* True while something here is not told to Redis yet: such a slot must not go. */
static inline bool ps_shared_owes(uint64_t word, const ps_word *tail) {
    return (word & ((UINT64_C(1) << PS_VIEW_SHIFT) - 1)) || ps_load_relaxed(&tail[PS_TAIL_SEEN]) || ps_load_relaxed(&tail[PS_TAIL_FLIGHT]);
}

/* Units that count against the key, as far as is known here. */
static inline uint64_t ps_shared_debt(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    const ps_word *view = ps_shared_view(word, tail);
    double owed = view ? ceil((double)p->limit - ps_shared_level(p, view, now)) : 0.0;
    return (owed > 0.0 ? (uint64_t)owed : 0) + ps_shared_open(p, word, tail, now);
}

/* What the last tenant's exchanges noted must not be taken for the next one's. */
static inline void ps_shared_retire(ps_word *tail) {
    ps_store_relaxed(&tail[PS_TAIL_ASKED], 0);
    ps_store_double(&tail[PS_TAIL_DEMAND], 0.0);
    ps_store_double(&tail[PS_TAIL_PACE], 0.0);
}

static inline uint64_t ps_shared_wait(double ns) {
    return ns <= 0.0 ? 0 : ns < 0x1p62 ? (uint64_t)ns : UINT64_C(1) << 62;
}

/* ns until the sliding window's level reaches `need`. */
static inline double ps_shared_sliding_wait(const ps_policy *p, const ps_word *view, uint64_t now, double need) {
    double b = (double)p->limit, width = (double)p->per_ns;
    if (!view)
        return 0.0;
    double a = ps_load_double(&view[PS_VIEW_A]), before = ps_load_double(&view[PS_VIEW_B]);
    uint64_t start = ps_load_relaxed(&view[PS_VIEW_START]), turns = ps_shared_turns(p, start, now);
    double begun = (double)(int64_t)(start - now);
    if (turns == 0 && b - a >= need && before > 0.0)
        return ps_most(0.0, begun + ceil(width * (1.0 - (b - a - need) / before)));
    if (turns <= 1 && a > 0.0 && need <= b)
        return ps_most(0.0, begun + width + ceil(width * (1.0 - (b - need) / a)));
    return ps_most(0.0, begun + 2.0 * width);
}

static inline double ps_shared_reset(const ps_policy *p, const ps_word *view, uint64_t now, uint64_t taken) {
    double level = ps_shared_level(p, view, now), width = (double)p->per_ns;
    double used = (double)taken, owed = (double)p->limit - level + used;
    if (owed <= 0.0)
        return 0.0;
    if (p->kind == PS_SHARED_HELD)
        return 1.0;
    if (p->kind == PS_SHARED_BUCKET)
        return ceil(owed * width / (double)p->rate);
    uint64_t start = view ? ps_load_relaxed(&view[PS_VIEW_START]) : now, turns = ps_shared_turns(p, start, now);
    double begun = (double)(int64_t)(start - now);
    if (p->kind == PS_SHARED_FIXED)
        return view ? begun + (double)(turns + 1) * width : width;
    if (!view)
        return 2.0 * width;
    if (used > 0.0)
        return begun + (double)(turns + 2) * width;
    if (turns == 0 && ps_load_double(&view[PS_VIEW_A]) <= 0.0)
        return begun + width;
    return begun + 2.0 * width;
}

static inline void ps_shared_describe(const ps_sharer *s, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, ps_view *answer) {
    const ps_policy *p = s->p;
    const ps_word *view = ps_shared_view(word, tail);
    uint64_t open = ps_shared_open(p, word, tail, now);
    uint64_t total = ps_shared_valid(word, tail, now) + ps_shared_trust(s, word, tail, now, cost <= p->limit ? cost : 0);
    answer->allowed = cost <= p->limit && cost <= total;
    answer->remaining = answer->allowed ? total - cost : total;
    answer->retry_ns = 0;
    if (cost > p->limit) {
        answer->retry_ns = PS_NEVER;
    } else if (!answer->allowed) {
        double need = (double)(cost + open), lack = need - ps_shared_level(p, view, now), wait = 0.0;
        if (lack <= 0.0 || p->kind == PS_SHARED_HELD)
            wait = 0.0;
        else if (p->kind == PS_SHARED_SLIDING)
            wait = ps_shared_sliding_wait(p, view, now, need);
        else if (p->kind == PS_SHARED_BUCKET)
            wait = ceil(lack * (double)p->per_ns / (double)p->rate);
        else if (view)
            wait = (double)(int64_t)(ps_load_relaxed(&view[PS_VIEW_START]) - now) + (double)p->per_ns;
        answer->retry_ns = ps_shared_wait(ps_most(wait, (double)p->interval_ns));
    }
    answer->reset_ns = ps_shared_wait(ps_shared_reset(p, view, now, open + (answer->allowed ? cost : 0)));
    if (p->kind == PS_SHARED_HELD && answer->reset_ns)
        answer->reset_ns = PS_NEVER; /* as far as time goes */
}

/* Units of x that are not kept for the next tick: half of what they may be, so that there is room to go on meanwhile. */
static inline double ps_shared_soon(const ps_share *share, const ps_policy *p, uint64_t limit_index, double phi, double level) {
    uint64_t cost_most = ps_load_relaxed(&share->cost_most[limit_index]);
    double instances = (double)ps_load_relaxed(&share->instances), cap = (double)ps_shared_cap(share, p, limit_index, cost_most);
    return ps_most(1.0, ps_least(ps_most(phi * p->per_second * ps_shared_interval(p), level / (2.0 * instances)), cap / 2.0));
}

/* Notes a decision for the next exchange, after it was taken: from `word` to `next`. True when the key should be told to
 * Redis before the next tick. */
static inline bool ps_shared_note(const ps_sharer *s, uint64_t word, uint64_t next, ps_word *tail, uint64_t now, uint64_t cost, bool admitted) {
    const ps_policy *p = s->p;
    const ps_word *view = ps_shared_view(word, tail);
    uint64_t seen = ps_add_relaxed(&tail[PS_TAIL_SEEN], cost), begun = 0;
    if (ps_load_relaxed(&tail[PS_TAIL_RULE]) != p->tag)
        ps_store_relaxed(&tail[PS_TAIL_RULE], p->tag);
    if ((p->kind == PS_SHARED_FIXED || p->kind == PS_SHARED_SLIDING) && view) { /* use of two windows counts in the later one */
        begun = ps_load_relaxed(&view[PS_VIEW_START]);
        begun += ps_shared_turns(p, begun, now) * p->per_ns;
    }
    if (seen == 0 || (int64_t)ps_load_relaxed(&tail[PS_TAIL_SINCE]) < (int64_t)begun)
        ps_store_relaxed(&tail[PS_TAIL_SINCE], now);
    if (s->mode != PS_MODE_NORMAL)
        return false;
    uint64_t age = view ? now - ps_load_relaxed(&view[PS_VIEW_LEARNT]) : 0;
    if (!admitted && p->kind == PS_SHARED_HELD && age >= 2 * p->interval_ns)
        return true; /* others may have given back meanwhile */
    if (!admitted)
        return (!view || age >= PS_EARLY_AGE_NS) &&
               ps_shared_level(p, view, now) - (double)ps_shared_open(p, word, tail, now) >=
                   ps_most((double)cost, p->per_second * ps_shared_interval(p));
    uint64_t cost_most = ps_load_relaxed(&s->share->cost_most[s->limit_index]);
    double soon = INFINITY;
    if (view)
        soon = ps_load_double(&view[PS_VIEW_SOON]);
    else if (ps_shared_cap(s->share, p, s->limit_index, cost_most) >= 2)
        soon = ps_shared_soon(s->share, p, s->limit_index, 1.0 / (double)ps_load_relaxed(&s->share->instances), (double)p->limit);
    uint64_t told = p->kind == PS_SHARED_HELD ? ps_shared_open(p, next, tail, now) : ps_shared_x(next);
    return (p->kappa && (double)told >= soon) ||
           ((double)ps_shared_credit(next) <= soon && soon < (double)ps_shared_credit(word)); /* a lease is renewed before it ends */
}

#endif
