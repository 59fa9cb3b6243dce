/* Sliding log: a ring of the last admission times, the exact window both ways.
 *
 * Admissions are numbered from 0. word: next | live, where `next` is the number the next one gets and `live` how
 * many before it still matter: numbers below next - live are refunded, forgotten, or a former tenant's.
 *
 *   admit k at `now` when all admissions up to next + k - 1 - limit that matter are out of (now - per, now];
 *   exchange the word for {next + k, live + k}; then write the k entries as {lap, time}, lap = number / ring
 *
 * tail[0]:  a number that no former tenant's `next` exceeded (ps_raise before a tenant goes)
 * tail[1+]: the ring. Times are kept one up, so that no entry that was written is 0. Within one lap
 *           entries do not change; an entry whose lap is behind belongs to a thread between the exchange and its
 *           write. It counts as "just now", which is the truth to within the time that takes. If that thread
 *           died, whoever is refused by the gap fills it in with a time read after the gap was seen.
 *
 * Laps are compared modulo 32: to be taken for another, an entry would have to be left unwritten by 32 laps of
 * threads in a row that all died there.
 *
 * No entry is dated earlier than its own admission, nor than any before it: who finds the one before it written takes
 * that time if it is later than its own, and who does not reads the clock again (ps_date). So nothing that an entry
 * shows to be out of the window leaves one before it inside, and ps_log_oldest may search by halves. */
#ifndef PENSTOCK_SLIDING_LOG_H
#define PENSTOCK_SLIDING_LOG_H

#include "decision.h"

#define PS_LOG_TAIL_HEAD 1 /* tail words before the ring */
#define PS_LOG_TIME_BITS 58 /* PS_HORIZON, and the 32 laps above it with the top bit clear */
#define PS_LOG_LAPS 32

static inline uint64_t ps_log_next(const ps_policy *p, uint64_t word) { return word >> p->count_bits; }
static inline uint64_t ps_log_live(const ps_policy *p, uint64_t word) {
    return word & ((UINT64_C(1) << p->count_bits) - 1);
}
/* Numbers end here; policy.py sees to it that no limit gets there within the horizon unless it is refunded. */
static inline uint64_t ps_log_most(const ps_policy *p) { return UINT64_C(1) << (63 - p->count_bits); }
static inline uint64_t ps_log_word(const ps_policy *p, uint64_t next, uint64_t live) {
    return next << p->count_bits | live;
}

/* The time of admission `number`, or false when its entry has not been written. */
static inline bool ps_log_time(const ps_policy *p, const ps_word *tail, uint64_t number, uint64_t *time) {
    uint64_t entry = ps_load_acquire(&tail[PS_LOG_TAIL_HEAD + number % p->ring]);
    *time = (entry & ((UINT64_C(1) << PS_LOG_TIME_BITS) - 1)) - 1;
    return entry >> PS_LOG_TIME_BITS == number / p->ring % PS_LOG_LAPS && entry != 0;
}

/* Writes an entry that nobody has written; never touches one of a later lap. */
static inline void ps_log_write(const ps_policy *p, ps_word *tail, uint64_t number, uint64_t time) {
    ps_word *place = &tail[PS_LOG_TAIL_HEAD + number % p->ring];
    uint64_t lap = number / p->ring % PS_LOG_LAPS, entry = lap << PS_LOG_TIME_BITS | (time + 1);
    uint64_t seen = ps_load_acquire(place);
    for (;;) {
        uint64_t ahead = (lap - (seen >> PS_LOG_TIME_BITS)) & (PS_LOG_LAPS - 1);
        if (seen != 0 && (ahead >= PS_LOG_LAPS / 2 || ahead == 0))
            return;
        if (ps_exchange_if_equal(place, &seen, entry))
            return;
    }
}

/* Time for a decision: not before the newest admission that is written. */
static inline uint64_t ps_log_now(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t last;
    if (ps_log_live(p, word) && ps_log_time(p, tail, ps_log_next(p, word) - 1, &last) && last > now)
        return last;
    return now;
}

/* True while admission `number` is inside (now - per, now]. */
static inline bool ps_log_counts(const ps_policy *p, const ps_word *tail, uint64_t number, uint64_t now) {
    uint64_t time;
    return !ps_log_time(p, tail, number, &time) || time + p->per_ns > now;
}

/* The first number at or after next - live that still counts; `next` when none does. Binary: times never fall. */
static inline uint64_t ps_log_oldest(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t high = ps_log_next(p, word), low = high - ps_log_live(p, word);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (ps_log_counts(p, tail, middle, now))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* From when `cost` fits: when the admissions that must be out of the window for it are; 0 when none must. *missing: one
 * of them that has not been written and counts as of `now`, or PS_NEVER. */
static inline uint64_t ps_log_fits_at(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, uint64_t *missing) {
    uint64_t next = ps_log_next(p, word), live = ps_log_live(p, word), latest = 0, time;
    *missing = PS_NEVER;
    if (live + cost <= p->limit)
        return 0;
    for (uint64_t number = next - live; number < next + cost - p->limit; number++) {
        if (!ps_log_time(p, tail, number, &time)) {
            *missing = number;
            time = now;
        }
        latest = time > latest ? time : latest;
    }
    return latest + p->per_ns;
}

static inline bool ps_log_step(const ps_policy *p, uint64_t word, ps_word *tail, uint64_t now, uint64_t cost, uint64_t *next) {
    if (cost > p->limit)
        return false;
    uint64_t number = ps_log_next(p, word), live = ps_log_live(p, word), missing;
    now = ps_log_now(p, word, tail, now);
    if (ps_log_fits_at(p, word, tail, now, cost, &missing) > now)
        return false;
    live = live + cost < p->limit ? live + cost : p->limit;
    *next = ps_log_word(p, number + cost, live);
    return number + cost < ps_log_most(p);
}

static inline uint64_t ps_log_force(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t number = ps_log_next(p, word), live = number - ps_log_oldest(p, word, tail, ps_log_now(p, word, tail, now));
    uint64_t room = ps_until(p->ring, live), taken = cost < room ? cost : room; /* live > ring: somebody has scribbled */
    if (number + taken >= ps_log_most(p))
        return word;
    return ps_log_word(p, number + taken, live + taken);
}

/* True when the newest admission of `word` has not been dated yet. */
static inline bool ps_log_undated(const ps_policy *p, uint64_t word, const ps_word *tail) {
    uint64_t time;
    return ps_log_live(p, word) && !ps_log_time(p, tail, ps_log_next(p, word) - 1, &time);
}

/* After the exchange from `word` to `next`: dates the admissions between. */
static inline void ps_log_publish(const ps_policy *p, uint64_t word, uint64_t next, ps_word *tail, uint64_t now) {
    now = ps_log_now(p, word, tail, now);
    for (uint64_t number = ps_log_next(p, word); number < ps_log_next(p, next); number++)
        ps_log_write(p, tail, number, now);
}

/* Gives back what would have expired first (sliding_window.h says why). */
static inline uint64_t ps_log_refund(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost) {
    uint64_t next = ps_log_next(p, word), live = next - ps_log_oldest(p, word, tail, ps_log_now(p, word, tail, now));
    return ps_log_word(p, next, ps_until(live, cost));
}

/* then: when they were taken, in case their entries are no longer there to say how they were dated. */
static inline bool ps_log_kept(const ps_policy *p, uint64_t word, uint64_t taken, const ps_word *tail, uint64_t then, uint64_t now) {
    uint64_t time;
    if (!ps_log_time(p, tail, ps_log_next(p, taken) - 1, &time))
        time = then;
    return ps_log_now(p, word, tail, now) < time + p->per_ns;
}

static inline void ps_log_retire(const ps_policy *p, uint64_t word, ps_word *tail) {
    ps_raise(&tail[0], ps_log_next(p, word));
}

/* Numbers go on above every former tenant's, so that its entries are behind; 1 at least, as 0 is never seen. */
static inline uint64_t ps_log_fresh(const ps_policy *p, const ps_word *tail) {
    uint64_t next = ps_load_acquire(&tail[0]);
    return ps_log_word(p, next ? next : p->ring, 0);
}

static inline uint64_t ps_log_debt(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now) {
    uint64_t next = ps_log_next(p, word);
    if (ps_log_live(p, word) == 0 || !ps_log_counts(p, tail, next - 1, now))
        return 0;
    return next - ps_log_oldest(p, word, tail, now);
}

static inline void ps_log_describe(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t cost, ps_view *view) {
    uint64_t then = ps_log_now(p, word, tail, now), next = ps_log_next(p, word), missing, time;
    bool possible = cost <= p->limit && next + cost < ps_log_most(p);
    uint64_t fits_at = possible && cost ? ps_log_fits_at(p, word, tail, then, cost, &missing) : 0;
    uint64_t live = next - ps_log_oldest(p, word, tail, then), room = ps_until(p->limit, live);
    view->allowed = possible && fits_at <= then;
    view->retry_ns = view->allowed ? 0 : possible ? ps_until(fits_at, now) : PS_NEVER;
    if (view->allowed) {
        view->remaining = ps_until(room, cost);
    } else {
        view->remaining = possible && room >= cost ? cost - 1 : room;
        cost = 0;
    }
    view->reset_ns = 0;
    if (cost)
        view->reset_ns = ps_until(then + p->per_ns, now);
    else if (live)
        view->reset_ns = ps_until((ps_log_time(p, tail, next - 1, &time) ? time : then) + p->per_ns, now);
}

#endif
