/* What counts against the keys of one limit, as rows that any engine can read, whatever its words and layout are.
 *
 *   row: fingerprint | n | n pairs {a, b}
 *
 *   token bucket    {tier, the tick of that tier's policy at which the bucket is full again}
 *   sliding window  for each sub-window, the oldest first: {its number since time 0, units}
 *   sliding log     for each time, the oldest first: {ns, units admitted then}
 *   fixed window    {ns at which it ends, units}; one from the first hit also when all its units were given back
 *   concurrency     no rows: who held units is gone by the time they are read
 *
 * Reading. Others may decide meanwhile. A row is made from one word and taken if the slot has not changed since, so each key is
 * consistent in itself. Where a key is hit faster than its row can be read, the last reading counts: what it may have wrong is that
 * an admission overwritten meanwhile is dated now, and that a sub-window is missed which has just gone out of sight.
 *
 * Placing. Only before anyone else has the tables. Those who owe most come first, so whoever finds no free slot owes least. */
#ifndef PENSTOCK_SNAPSHOT_H
#define PENSTOCK_SNAPSHOT_H

#include "../limiter.h"
#include <stdlib.h>

#if defined(__BYTE_ORDER__)
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are little-endian, and written as they are");
#endif

#define PS_ROW_HEAD 2
#define PS_ROW_TRIES 64
#define PS_ROW_UNITS_MOST (UINT64_C(1) << 56) /* of one pair: more than any word counts, few enough to be added up */

/* Words of the longest row of a limit. */
static inline uint64_t ps_row_most(const ps_policy *p) {
    uint64_t pairs = p->algorithm == PS_SLIDING_WINDOW ? p->resolution + 1 : p->algorithm == PS_SLIDING_LOG ? p->ring : 1;
    return PS_ROW_HEAD + 2 * pairs;
}

/* ---- reading ---- */

static inline uint64_t ps_row_of_window(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t *pairs) {
    uint64_t own = ps_window_epoch(p, word), start = own - ps_window_age(p, word), r = p->resolution, count = 0;
    uint64_t oldest = ps_window_now(p, now) - r;
    for (uint64_t ago = own > r ? r : 0; ago > 0; ago--) {
        uint64_t epoch = own - ago, entry = ps_load_acquire(&tail[epoch % r]);
        if (epoch < start || epoch < oldest || ps_window_epoch(p, entry) != epoch || !ps_window_count(p, entry))
            continue;
        pairs[2 * count] = epoch - r - 1;
        pairs[2 * count++ + 1] = ps_window_count(p, entry);
    }
    if (own >= oldest && own > r && ps_window_count(p, word)) {
        pairs[2 * count] = own - r - 1;
        pairs[2 * count++ + 1] = ps_window_count(p, word);
    }
    return count;
}

static inline uint64_t ps_row_of_log(const ps_policy *p, uint64_t word, const ps_word *tail, uint64_t now, uint64_t *pairs) {
    uint64_t next = ps_log_next(p, word), count = 0, last = 0, time;
    now = ps_log_now(p, word, tail, now);
    uint64_t number = ps_log_oldest(p, word, tail, now);
    for (number = next - number > p->ring ? next - p->ring : number; number < next; number++) {
        time = ps_log_time(p, tail, number, &time) ? time : now;
        if (count && time <= last) {
            pairs[2 * count - 1]++;
            continue;
        }
        pairs[2 * count] = last = time;
        pairs[2 * count++ + 1] = 1;
    }
    return count;
}

/* The pairs of a word; how many. */
PS_APART uint64_t ps_row_pairs(const ps_limiter *limiter, const ps_limit *limit, uint64_t word, const ps_word *tail, uint64_t now,
                               uint64_t *pairs) {
    const ps_policy *p = &limit->policies[0];
    uint64_t base, end;
    switch (p->algorithm) {
    case PS_TOKEN_BUCKET:
        p = &limit->policies[word >> p->tag_shift];
        pairs[0] = (word >> p->tag_shift) % limiter->tier_count;
        pairs[1] = word & ((UINT64_C(1) << p->tag_shift) - 1);
        return ps_bucket_debt(p, word, now) != 0;
    case PS_SLIDING_WINDOW: return ps_row_of_window(p, word, tail, now, pairs);
    case PS_SLIDING_LOG: return ps_row_of_log(p, word, tail, now, pairs);
    case PS_FIXED_WINDOW:
        pairs[1] = ps_fixed_used(p, word, tail, now, &base);
        end = p->first_hit ? ps_load_acquire(&tail[base >> p->count_bits & 1]) + p->per_ns : (base >> p->count_bits) * p->per_ns - p->grid_ns;
        pairs[0] = end;
        return p->first_hit ? base >> p->count_bits == word >> p->count_bits : pairs[1] != 0;
    default: return 0;
    }
}

/* Writes the row of a slot; its words, 0 when nothing counts there. `row` has room for ps_row_most. */
PS_APART uint64_t ps_row_read(const ps_limiter *limiter, const ps_limit *limit, uint64_t index, uint64_t now, uint64_t *row) {
    const ps_pair *slot = &limit->table.slots[index];
    for (unsigned tries = 0;; tries++) {
        uint64_t key = ps_load_acquire(&slot->key), state = ps_load_acquire(&slot->state);
        if (key <= PS_SLOT_FREE || ps_is_tentative(state))
            return 0;
        uint64_t pairs = ps_row_pairs(limiter, limit, state, ps_tail(limit, index), now, row + PS_ROW_HEAD);
        if (!ps_unchanged(slot, key, state) && (tries < PS_ROW_TRIES || ps_load_acquire(&slot->key) != key))
            continue;
        row[0] = key;
        row[1] = pairs;
        return pairs ? PS_ROW_HEAD + 2 * pairs : 0;
    }
}

/* ---- placing ---- */

static inline uint64_t ps_row_words(const uint64_t *row) { return PS_ROW_HEAD + 2 * row[1]; }

/* True when `words` words begin with a row of this limit, of a time that is not after `now`. */
static inline bool ps_row_legal(const ps_limiter *limiter, const ps_limit *limit, const uint64_t *row, uint64_t words, uint64_t now) {
    const ps_policy *p = &limit->policies[0];
    if (words < PS_ROW_HEAD + 2 || row[0] <= PS_SLOT_FREE || row[1] < 1 || row[1] > (words - PS_ROW_HEAD) / 2)
        return false;
    const uint64_t *pairs = row + PS_ROW_HEAD;
    bool many = p->algorithm == PS_SLIDING_WINDOW || p->algorithm == PS_SLIDING_LOG;
    if (!many && row[1] != 1)
        return false;
    if (p->algorithm == PS_TOKEN_BUCKET)
        return pairs[0] < limiter->tier_count && pairs[1] >> 63 == 0;
    if (p->algorithm == PS_FIXED_WINDOW)
        return pairs[0] <= now + p->per_ns + p->per_ns / 2 && (pairs[0] >= p->per_ns || !p->first_hit) &&
               pairs[1] <= PS_ROW_UNITS_MOST && (pairs[1] || p->first_hit);
    if (!many)
        return false;
    uint64_t latest = p->algorithm == PS_SLIDING_LOG ? now : ps_window_now(p, now) - p->resolution - 1;
    for (uint64_t i = 0; i < row[1]; i++)
        if (pairs[2 * i] > latest || (i && pairs[2 * i] <= pairs[2 * i - 2]) || !pairs[2 * i + 1] || pairs[2 * i + 1] > PS_ROW_UNITS_MOST)
            return false;
    return true;
}

/* The number of rows, or UINT64_MAX when these are not rows of this limit. */
PS_APART uint64_t ps_rows_count(const ps_limiter *limiter, const ps_limit *limit, const uint64_t *rows, uint64_t words, uint64_t now) {
    uint64_t count = 0, at = 0;
    for (; at < words; at += ps_row_words(rows + at), count++)
        if (!ps_row_legal(limiter, limit, rows + at, words - at, now))
            return UINT64_MAX;
    return count;
}

static inline const ps_policy *ps_row_policy(const ps_limiter *limiter, const ps_limit *limit, const uint64_t *row) {
    const ps_policy *p = &limit->policies[0];
    return p->algorithm == PS_TOKEN_BUCKET ? &limit->policies[ps_load_acquire(&limiter->current[row[PS_ROW_HEAD]])] : p;
}

static inline uint64_t ps_row_least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The word of a fixed window that ends nearest to where the row's did: the grid may have been laid anew since. */
static inline uint64_t ps_row_fixed_word(const ps_policy *p, const uint64_t *pair) {
    uint64_t units = ps_row_least(pair[1], (UINT64_C(1) << p->count_bits) - 1), half = p->per_ns / 2;
    uint64_t window = p->first_hit ? 1 : ps_until(pair[0] + p->grid_ns, half) / p->per_ns + 1;
    return window << p->count_bits | units;
}

/* Units (ticks, for a bucket) of a row that count at `now`. */
static inline uint64_t ps_row_debt(const ps_limiter *limiter, const ps_limit *limit, const uint64_t *row, uint64_t now) {
    const ps_policy *p = ps_row_policy(limiter, limit, row);
    const uint64_t *pairs = row + PS_ROW_HEAD;
    uint64_t debt = 0;
    if (p->algorithm == PS_TOKEN_BUCKET)
        return ps_bucket_debt(p, ps_bucket_word(p, pairs[1]), now);
    if (p->algorithm == PS_FIXED_WINDOW && p->first_hit)
        return pairs[0] > now ? pairs[1] : 0;
    if (p->algorithm == PS_FIXED_WINDOW)
        return ps_fixed_debt(p, ps_row_fixed_word(p, pairs), 0, now);
    for (uint64_t i = 0; i < row[1]; i++) {
        bool counts = p->algorithm == PS_SLIDING_LOG ? pairs[2 * i] + p->per_ns > now
                                                     : pairs[2 * i] + 2 * p->resolution + 1 >= ps_window_now(p, now);
        debt += counts ? ps_row_least(pairs[2 * i + 1], PS_ROW_UNITS_MOST) : 0;
        debt = ps_row_least(debt, PS_ROW_UNITS_MOST);
    }
    return debt;
}

/* Writes what the row says beside a slot that is claimed and nobody else's yet; the word to establish it with. */
static inline uint64_t ps_row_write(const ps_policy *p, const uint64_t *row, ps_word *tail) {
    const uint64_t *pairs = row + PS_ROW_HEAD, *last = pairs + 2 * (row[1] - 1);
    if (p->algorithm == PS_TOKEN_BUCKET)
        return ps_bucket_word(p, pairs[1]);
    if (p->algorithm == PS_FIXED_WINDOW) {
        if (p->first_hit)
            ps_store_relaxed(&tail[1], pairs[0] - p->per_ns);
        return ps_row_fixed_word(p, pairs);
    }
    if (p->algorithm == PS_SLIDING_WINDOW) {
        uint64_t r = p->resolution, most = (UINT64_C(1) << p->count_bits) - 1, own = last[0] + r + 1;
        for (const uint64_t *pair = pairs; pair < last; pair += 2)
            if (pair[0] + 2 * r + 1 >= own)
                ps_store_relaxed(&tail[(pair[0] + r + 1) % r], ps_window_word(p, pair[0] + r + 1, 0, ps_row_least(pair[1], most)));
        return ps_window_word(p, own, r, ps_row_least(last[1], most)); /* the ring has nothing of a former tenant's */
    }
    uint64_t word = ps_log_fresh(p, tail), number = ps_log_next(p, word), units = 0, skip;
    for (const uint64_t *pair = pairs; pair <= last; pair += 2)
        units += ps_row_least(pair[1], p->ring);
    skip = ps_until(units, p->ring); /* the oldest, of more than the ring has room for */
    for (const uint64_t *pair = pairs; pair <= last; pair += 2)
        for (uint64_t i = 0; i < ps_row_least(pair[1], p->ring); i++)
            if (skip)
                skip--;
            else
                ps_log_write(p, tail, number++, pair[0]);
    return ps_log_word(p, number, ps_row_least(units, p->ring));
}

/* Frees a slot in a key's window by moving one of its tenants to a free slot of that one's own window; false when none can be moved.
 * Tables get fuller by evictions than by claims alone, so a full one could not be filled anew without. */
PS_APART bool ps_rows_make_room(const ps_limit *limit, uint64_t fingerprint) {
    ps_window window = ps_table_window(&limit->table, fingerprint);
    for (unsigned place = 0; place < PS_WINDOW_SLOTS * PS_WINDOW_SLOTS; place++) {
        unsigned one = place / PS_WINDOW_SLOTS, other = place % PS_WINDOW_SLOTS;
        uint64_t from = ps_window_line(&window, one / PS_LINE_SLOTS) + one % PS_LINE_SLOTS;
        uint64_t key = ps_load_acquire(&limit->table.slots[from].key), word = ps_load_acquire(&limit->table.slots[from].state);
        ps_window own = ps_table_window(&limit->table, key);
        uint64_t to = ps_window_line(&own, other / PS_LINE_SLOTS) + other % PS_LINE_SLOTS;
        uint64_t there = ps_load_acquire(&limit->table.slots[to].key), state = ps_load_acquire(&limit->table.slots[to].state);
        if (key <= PS_SLOT_FREE || there > PS_SLOT_FREE)
            continue;
        for (uint64_t i = 0; i < limit->tail_words; i++) { /* the next tenant must not find this one's admissions */
            ps_store_relaxed(&ps_tail(limit, to)[i], ps_load_relaxed(&ps_tail(limit, from)[i]));
            ps_store_relaxed(&ps_tail(limit, from)[i], 0);
        }
        return ps_pair_exchange(&limit->table.slots[to], there, state, key, word) &&
               ps_pair_exchange(&limit->table.slots[from], key, word, PS_SLOT_FREE, 0);
    }
    return false;
}

/* A row as it is put in order. */
typedef struct {
    uint64_t debt, at;
} ps_row_order;

static inline int ps_row_compare(const void *left, const void *right) {
    const ps_row_order *a = (const ps_row_order *)left, *b = (const ps_row_order *)right;
    if (a->debt != b->debt)
        return a->debt < b->debt ? 1 : -1;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Puts rows that are legal into a table that nobody uses yet; `order` has room for all of them. Those that find no place are counted
 * as evicted. */
PS_APART void ps_rows_place(ps_limiter *limiter, const ps_limit *limit, const uint64_t *rows, uint64_t words, ps_row_order *order,
                            uint64_t now, ps_caller caller) {
    uint64_t count = 0, index, state, lost = 0;
    const ps_policy *first = &limit->policies[0];
    for (uint64_t at = 0; at < words; at += ps_row_words(rows + at))
        order[count++] = (ps_row_order){ps_row_debt(limiter, limit, rows + at, now), at};
    qsort(order, count, sizeof(*order), ps_row_compare);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t *row = rows + order[i].at;
        if (order[i].debt == 0 && !(first->first_hit && row[PS_ROW_HEAD] > now))
            continue; /* time has made good what it owed */
        ps_tenancy_context context = ps_tenancy_begin(limit, first, now, caller);
        ps_tenancy tenancy = {&context, ps_tenancy_debt, ps_tenancy_retire, ps_tenancy_nonce};
        ps_table table = limit->table;
        ps_claim claim = ps_table_claim(&table, row[0], &tenancy, false, &lost, &index, &state);
        if (claim == PS_FULL && order[i].debt && ps_rows_make_room(limit, row[0]))
            claim = ps_table_claim(&table, row[0], &tenancy, false, &lost, &index, &state);
        if (claim == PS_FULL && order[i].debt)
            ps_count(caller, &caller.cell->evicted, 1);
        if (claim != PS_CLAIMED)
            continue;
        uint64_t word = ps_row_write(ps_row_policy(limiter, limit, row), row, ps_tail(limit, index));
        ps_pair_exchange(&limit->table.slots[index], row[0], state, row[0], word);
    }
}

#endif
