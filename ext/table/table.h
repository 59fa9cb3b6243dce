/* Find the slot of a fingerprint, or claim one: open addressing over whole cache lines, without locks.
 *
 * A key's window is PS_WINDOW_SLOTS slots from the start of its home line; it is never kept elsewhere. A
 * claim takes the first free slot of the window, so a search may stop at the first EMPTY one: the key's slot
 * lies before it, and EMPTY is never written again. Hence searches end, at the latest at the window's end.
 *
 * One key, one slot. Two threads may bring the same new key at once and pick two slots. As in Purcell and
 * Harris, "Non-blocking hashtables with open addressing" (DISC 2005), a claim is first tentative:
 *
 *   1. put {fp, TENTATIVE | nonce} into a slot;
 *   2. read the whole window again, from its start. An established fp anywhere: withdraw, use that one.
 *      Tentative ones of fp: the lowest is the candidate, all higher ones are killed by exchange;
 *   3. the candidate may be established by whoever has seen it in place *before* a whole reading that met
 *      no other fp which it did not kill. Helpers may be stopped at any point; any other may finish.
 *
 * Why two are never established: let c at i and d at j > i both be. Who established d read slot i after it
 * had seen d in place and met no c, so c was put after that. Who established c read slot j later still, so
 * met d: either killed it, and then the exchange that establishes d fails, because a nonce is never used
 * twice; or met it established and withdrew c. This compares a store to one slot with a load of another in
 * two threads, and neither may miss the other's: those loads are sequentially consistent, as the exchanges.
 *
 * Ends: a caller starts over only when an exchange of another thread succeeded in its window. */
#ifndef PENSTOCK_TABLE_H
#define PENSTOCK_TABLE_H

#include "../platform/memory.h"
#include "../platform/wide.h"
#include "slot.h"

/* Eight lines. At the rated load a window is full for fewer than one key in a million (benchmarks/RESULTS.md). */
#define PS_WINDOW_LINES 8
#define PS_WINDOW_SLOTS (PS_WINDOW_LINES * PS_LINE_SLOTS)

/* Slots for each key of the rated capacity, in hundredths: a load of 0.7. */
#define PS_SLOTS_PER_100_KEYS 143

typedef struct {
    ps_pair *slots;
    uint64_t homes; /* lines that can be a home; PS_WINDOW_LINES - 1 more follow, so no window wraps */
} ps_table;

/* What the table asks of whoever gives the words their meaning. */
typedef struct {
    void *context;
    /* What is forgiven when this slot is given to another key: 0 when it is free, PS_DEBT_HELD when it must
     * not be, else more than PS_DEBT_TENTATIVE. */
    uint64_t (*debt)(void *context, uint64_t index, uint64_t word);
    /* Called before an exchange that takes a slot from a tenant whose last word was `word`. May be called in vain. */
    void (*retire)(void *context, uint64_t index, uint64_t word);
} ps_tenancy;

#define PS_DEBT_TENTATIVE UINT64_C(1)
#define PS_DEBT_HELD UINT64_MAX
#define PS_NO_SLOT UINT64_MAX

/* How a claim ended. */
typedef enum {
    PS_FOUND,   /* the key is established at *index */
    PS_CLAIMED, /* tentative at *index with *state; the caller may establish it */
    PS_FULL,    /* no slot may be taken */
} ps_claim;

static inline uint64_t ps_table_homes(uint64_t capacity) {
    uint64_t slots = capacity + capacity * (PS_SLOTS_PER_100_KEYS - 100) / 100;
    return slots / PS_LINE_SLOTS + 1;
}

static inline uint64_t ps_table_slots(uint64_t homes) { return (homes + PS_WINDOW_LINES - 1) * PS_LINE_SLOTS; }

/* The first slot of the key's window: the fingerprint's high bits scaled to the number of homes. */
static inline uint64_t ps_table_home(const ps_table *table, uint64_t fingerprint) {
    return ps_mul_high(fingerprint, table->homes) * PS_LINE_SLOTS;
}

/* The slot whose key is `fingerprint`, established or tentative, or PS_NO_SLOT. Acquire: what the tenant
 * published before it was established (ring entries of an earlier tenancy) is seen. */
static inline uint64_t ps_table_find(const ps_table *table, uint64_t fingerprint) {
    uint64_t home = ps_table_home(table, fingerprint);
    const ps_pair *window = table->slots + home;
    for (unsigned i = 0; i < PS_WINDOW_SLOTS; i++) {
        uint64_t key = ps_load_acquire(&window[i].key);
        if (key == fingerprint)
            return home + i;
        if (key == PS_SLOT_EMPTY)
            break;
    }
    return PS_NO_SLOT;
}

/* One whole reading of a window on behalf of a key. */
typedef struct {
    uint64_t established;       /* index, or PS_NO_SLOT */
    uint64_t candidate, candidate_state; /* the lowest tentative of the key, or PS_NO_SLOT */
    uint64_t victim, victim_key, victim_state; /* the slot to claim: free, else with the least debt */
    uint64_t victim_debt;
} ps_reading;

/* Reads the window to its end or to the first EMPTY slot, killing every tentative of the key but the lowest.
 * A tentative of another key counts as all but free: if its caller died, the slot comes back this way. */
static inline void ps_table_read(ps_table *table, uint64_t fingerprint, const ps_tenancy *tenancy, ps_reading *reading) {
    uint64_t home = ps_table_home(table, fingerprint);
    reading->established = reading->candidate = reading->victim = PS_NO_SLOT;
    reading->victim_debt = PS_DEBT_HELD;
    for (uint64_t index = home; index < home + PS_WINDOW_SLOTS; index++) {
        ps_pair *slot = &table->slots[index];
        uint64_t key = ps_load_seq(&slot->key);
        uint64_t state = ps_load_seq(&slot->state);
        if (key == fingerprint) {
            if (!ps_is_tentative(state)) {
                reading->established = index;
                return;
            }
            if (reading->candidate == PS_NO_SLOT) {
                reading->candidate = index;
                reading->candidate_state = state;
                continue;
            }
            if (!ps_pair_exchange(slot, key, state, PS_SLOT_FREE, 0)) {
                index--; /* it moved: it may be established now; look at it again */
                continue;
            }
            key = PS_SLOT_FREE, state = 0;
        }
        if (reading->victim_debt != 0) {
            uint64_t debt = 0;
            if (key > PS_SLOT_FREE && ps_is_tentative(state))
                debt = PS_DEBT_TENTATIVE;
            else if (key > PS_SLOT_FREE)
                debt = tenancy->debt(tenancy->context, index, state);
            if (debt < reading->victim_debt) {
                reading->victim = index;
                reading->victim_key = key;
                reading->victim_state = state;
                reading->victim_debt = debt;
            }
        }
        if (key == PS_SLOT_EMPTY)
            return;
    }
}

/* Finds the key or makes a slot tentative for it. `nonce` is used by no other claim; `*evicted` is set when a
 * tenant that owed something had to go, which happens only with `evict`. */
static inline ps_claim ps_table_claim(ps_table *table, uint64_t fingerprint, const ps_tenancy *tenancy, uint64_t nonce,
                                      bool evict, bool *evicted, uint64_t *index, uint64_t *state) {
    uint64_t seen = PS_NO_SLOT, seen_state = 0; /* the candidate as it was before this reading */
    for (;;) {
        ps_reading reading;
        ps_table_read(table, fingerprint, tenancy, &reading);
        if (reading.established != PS_NO_SLOT) {
            if (reading.candidate != PS_NO_SLOT) /* lower than the established one: nobody may establish it */
                ps_pair_exchange(&table->slots[reading.candidate], fingerprint, reading.candidate_state, PS_SLOT_FREE, 0);
            *index = reading.established;
            return PS_FOUND;
        }
        if (reading.candidate != PS_NO_SLOT) {
            if (reading.candidate == seen && reading.candidate_state == seen_state) {
                *index = seen;
                *state = seen_state;
                return PS_CLAIMED;
            }
            seen = reading.candidate;
            seen_state = reading.candidate_state;
            continue;
        }
        if (reading.victim == PS_NO_SLOT || (reading.victim_debt > PS_DEBT_TENTATIVE && !evict))
            return PS_FULL;
        if (reading.victim_key > PS_SLOT_FREE && !ps_is_tentative(reading.victim_state))
            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);
        if (ps_pair_exchange(&table->slots[reading.victim], reading.victim_key, reading.victim_state, fingerprint,
                             PS_TENTATIVE | nonce)) {
            *evicted |= reading.victim_debt > PS_DEBT_TENTATIVE;
            seen = reading.victim;
            seen_state = PS_TENTATIVE | nonce;
        }
    }
}

#endif
