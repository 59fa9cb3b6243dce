/* What each algorithm promises, said again as plainly as possible: one key, one thread, no words, no rings.
 *
 * The models compare what the lock-free code answered with what this would have, in some order of the same calls.
 * Nothing of ext/ is used here, so that the two cannot share a mistake. Times are ns. */
#ifndef PENSTOCK_MODEL_SPEC_H
#define PENSTOCK_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef enum { BUCKET, WINDOW, LOG, FIXED, FIRST_HIT, HELD } rule_kind;

/* TokenBucket(limit, per, burst), SlidingWindow(limit, per, resolution), and so on; a bucket's limit divides its per. */
typedef struct {
    rule_kind kind;
    uint64_t limit, per, burst, resolution;
} rule;

#define SPEC_ENTRIES_MOST 12

typedef struct {
    uint64_t full_at;   /* bucket: when it will be full again */
    bool seen;
    uint64_t latest;    /* windows: the sub-window or window that was last admitted in; first hit: its start; bucket: the
                         * latest time that an admission was dated */
    struct {
        uint64_t time;  /* log: of the admission; windows: which one */
        uint64_t units;
    } entries[SPEC_ENTRIES_MOST]; /* oldest first; held: one, without a time */
    unsigned count;
} spec_key;

static inline uint64_t spec_less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static inline uint64_t spec_newest(const spec_key *k) { return k->count ? k->entries[k->count - 1].time : 0; }

/* The time that counts, in the rule's own reckoning: never before what was admitted last. */
static inline uint64_t spec_now(const rule *r, const spec_key *k, uint64_t now) {
    uint64_t time = now, last = 0;
    if (r->kind == WINDOW) {
        time = now / (r->per / r->resolution);
        last = k->latest;
    } else if (r->kind == FIXED) {
        time = now / r->per;
        last = k->latest;
    } else if (r->kind == LOG) {
        last = spec_newest(k);
    }
    return time > last ? time : last;
}

static inline bool spec_counts(const rule *r, const spec_key *k, uint64_t entry_time, uint64_t time) {
    switch (r->kind) {
    case WINDOW: return entry_time + r->resolution >= time;
    case LOG: return entry_time + r->per > time;
    case FIXED: return entry_time == time;
    case FIRST_HIT: return time < k->latest + r->per;
    default: return true;
    }
}

static inline uint64_t spec_most(const rule *r) { return r->kind == BUCKET ? r->burst : r->limit; }

/* Units that are used up: for a bucket those begun. */
static inline uint64_t spec_used(const rule *r, const spec_key *k, uint64_t now) {
    if (r->kind == BUCKET) {
        uint64_t token = r->per / r->limit;
        return (spec_less(k->full_at, now) + token - 1) / token;
    }
    uint64_t time = spec_now(r, k, now), used = 0;
    for (unsigned i = 0; i < k->count; i++)
        if (spec_counts(r, k, k->entries[i].time, time))
            used += k->entries[i].units;
    return used;
}

static inline uint64_t spec_remaining(const rule *r, const spec_key *k, uint64_t now) {
    return spec_less(spec_most(r), spec_used(r, k, now));
}

/* Charges `cost`, fit or not; `dated` is at least `now`. */
static inline void spec_charge(const rule *r, spec_key *k, uint64_t dated, uint64_t cost) {
    if (r->kind == BUCKET) {
        k->full_at = (k->full_at > dated ? k->full_at : dated) + cost * (r->per / r->limit);
        k->latest = dated > k->latest ? dated : k->latest;
        return;
    }
    uint64_t time = spec_now(r, k, dated);
    if (r->kind == FIRST_HIT && !(k->seen && dated < k->latest + r->per)) {
        k->count = 0;
        k->latest = dated;
        k->seen = true;
    }
    if (r->kind == FIXED && spec_newest(k) != time)
        k->count = 0;
    if (r->kind == WINDOW || r->kind == FIXED)
        k->latest = time;
    if (k->count && (r->kind == FIRST_HIT || r->kind == HELD || (r->kind != LOG && spec_newest(k) == time))) {
        k->entries[k->count - 1].units += cost;
        return;
    }
    k->entries[k->count].time = r->kind == FIRST_HIT || r->kind == HELD ? 0 : time;
    k->entries[k->count++].units = cost;
}

/* Admits or refuses as of `now`; an admission is recorded as of `dated`. */
static inline bool spec_hit(const rule *r, spec_key *k, uint64_t now, uint64_t dated, uint64_t cost) {
    if (cost > spec_most(r))
        return false;
    if (r->kind == BUCKET) { /* exact to the ns, where spec_used counts begun units */
        if (spec_less(k->full_at, now) + cost * (r->per / r->limit) > r->burst * (r->per / r->limit))
            return false;
    } else if (spec_used(r, k, now) + cost > r->limit) {
        return false;
    }
    spec_charge(r, k, dated, cost);
    return true;
}

/* A log remembers no more than its limit. */
static inline void spec_force(const rule *r, spec_key *k, uint64_t now, uint64_t cost) {
    uint64_t room = r->kind == LOG ? spec_remaining(r, k, now) : cost;
    if (room)
        spec_charge(r, k, now, cost < room ? cost : room);
}

/* Gives back what would have expired first, and no more than there is. */
static inline void spec_refund(const rule *r, spec_key *k, uint64_t now, uint64_t cost) {
    if (r->kind == BUCKET) {
        uint64_t back = cost * (r->per / r->limit);
        k->full_at = spec_less(k->full_at, now) > back ? k->full_at - back : 0;
        return;
    }
    uint64_t time = spec_now(r, k, now);
    unsigned kept = 0;
    for (unsigned i = 0; i < k->count; i++) {
        if (spec_counts(r, k, k->entries[i].time, time)) {
            uint64_t back = cost < k->entries[i].units ? cost : k->entries[i].units;
            k->entries[i].units -= back;
            cost -= back;
        } else if (r->kind == LOG) {
            continue;
        }
        if (k->entries[i].units || r->kind != LOG)
            k->entries[kept++] = k->entries[i];
    }
    k->count = kept;
}

/* The key as if it had never been seen; only windows keep the time they have reached. */
static inline void spec_forget(const rule *r, spec_key *k) {
    uint64_t latest = r->kind == WINDOW ? k->latest : 0;
    memset(k, 0, sizeof *k);
    k->latest = latest;
}

#endif
