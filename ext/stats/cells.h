/* Counters that no two threads write at once: each caller adds to a cell of its own, readers sum them all.
 *
 * So a refusal writes nothing that another thread's decision reads. On a CPython with the GIL its holder uses
 * cell PS_CELL_GIL; every other thread has a cell by its number (ps_thread_number). When there are more
 * threads than cells the last one is shared, and added to by locked instructions.
 *
 * Which keys are refused most is kept beside: per cell a set-associative Space-Saving summary (Metwally,
 * Agrawal and El Abbadi, ICDT 2005). A count is never too small, and too large by at most the smallest count
 * of its set when the key entered. */
#ifndef PENSTOCK_CELLS_H
#define PENSTOCK_CELLS_H

#include "../platform/atomics.h"
#include "../platform/memory.h"
#include <stddef.h>

#define PS_CELLS 32
#define PS_CELL_GIL 0
#define PS_CELL_SHARED (PS_CELLS - 1)
/* More than there are cells of any one limiter: a segment has some for each process that uses it (segment/seats.h). */
#define PS_NONCE_CELLS 256

#define PS_REFUSED_SETS 64
#define PS_REFUSED_WAYS 4 /* one cache line */

typedef struct {
    ps_word fingerprint, count;
} ps_refused;

typedef struct {
    ps_word admitted, denied; /* units are decisions, not costs */
    ps_word evicted;          /* keys that owed something and had to go */
    ps_word claims;           /* slots claimed: also what makes a claim's nonce unique */
    ps_word caught_ns;        /* the latest time that a call moved on to (ps_catch_up); the cell's next calls are no earlier */
    ps_word pad[3];
    ps_refused refused[PS_REFUSED_SETS][PS_REFUSED_WAYS];
} ps_cell;

_Static_assert(sizeof(ps_cell) % PS_CACHE_LINE == 0, "two cells share no cache line");

typedef struct {
    ps_cell *cell;
    uint32_t number; /* of the cell */
    bool credit_only; /* takes of a shared limit only what Redis has granted */
} ps_caller;

/* Adds to a counter of the caller's cell and returns what it was. */
static inline uint64_t ps_count(ps_caller caller, ps_word *counter, uint64_t amount) {
    if (caller.number == PS_CELL_SHARED)
        return ps_add_relaxed(counter, amount);
    uint64_t was = ps_load_relaxed(counter);
    ps_store_relaxed(counter, was + amount);
    return was;
}

/* A number that no other claim on this limiter has or had: the cell's, and its count of claims. */
static inline uint64_t ps_nonce(ps_caller caller) {
    return ps_count(caller, &caller.cell->claims, 1) * PS_NONCE_CELLS + caller.number;
}

/* Counts the key, displacing the least counted of its set; the key goes to the front, where it is looked for first. */
PS_APART void ps_note_refused_new(ps_refused *set, uint64_t fingerprint) {
    int way = 0;
    uint64_t fewest = UINT64_MAX;
    for (int i = 0; i < PS_REFUSED_WAYS; i++) {
        bool own = ps_load_relaxed(&set[i].fingerprint) == fingerprint;
        uint64_t count = own ? 0 : ps_load_relaxed(&set[i].count) + 1;
        if (count < fewest)
            fewest = count, way = i;
    }
    uint64_t count = ps_load_relaxed(&set[way].count) + 1;
    ps_store_relaxed(&set[way].fingerprint, ps_load_relaxed(&set[0].fingerprint));
    ps_store_relaxed(&set[way].count, ps_load_relaxed(&set[0].count));
    ps_store_relaxed(&set[0].fingerprint, fingerprint);
    ps_store_relaxed(&set[0].count, count);
}

static inline void ps_note_refused(ps_caller caller, uint64_t fingerprint) {
    ps_refused *set = caller.cell->refused[fingerprint % PS_REFUSED_SETS];
    if (ps_load_relaxed(&set->fingerprint) == fingerprint)
        ps_store_relaxed(&set->count, ps_load_relaxed(&set->count) + 1);
    else
        ps_note_refused_new(set, fingerprint);
}

#endif
