/* Find the slot of a fingerprint, or claim one: open addressing over whole cache lines, without locks.
 *
 * A key has two home lines, from the two halves of its fingerprint. Its window is PS_WINDOW_LINES lines: the
 * first home, the second, the line after the first, the one after the second, and so on; it is never kept
 * elsewhere. Two places instead of one keep full windows rare at a high load (Azar, Broder, Karlin and Upfal,
 * "Balanced allocations", STOC 1994): benchmarks/RESULTS.md has the shares. A claim takes the first free slot of
 * the window, so a search may stop at the first EMPTY one: the key's slot lies before it, and EMPTY is never
 * written again. Hence searches end, at the latest at the window's end. Where the homes are near each other a
 * slot may come up twice; its place in the order is the first.
 *
 * One key, one slot. Two threads may bring the same new key at once and pick two slots. As in Purcell and
 * Harris, "Non-blocking hashtables with open addressing" (DISC 2005), a claim is first tentative:
 *
 *   1. put {fp, TENTATIVE | nonce} into a slot;
 *   2. read the whole window again, from its start. An established fp anywhere: withdraw, use that one.
 *      Tentative ones of fp: the first is the candidate, all later ones are killed by exchange;
 *   3. the candidate may be established by whoever has seen it in place *before* a whole reading that met
 *      no other fp which it did not kill. Helpers may be stopped at any point; any other may finish.
 *
 * Why two are never established: let c at place i and d at j > i both be. Who established d read slot i after it
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

/* At the rated load about one key in a million finds its window full. */
#ifndef PS_WINDOW_LINES
#define PS_WINDOW_LINES 12
#endif
#define PS_WINDOW_SLOTS (PS_WINDOW_LINES * PS_LINE_SLOTS)

/* Slots for each hundred keys of the rated capacity: a load of 0.69. */
#ifndef PS_SLOTS_PER_100_KEYS
#define PS_SLOTS_PER_100_KEYS 145
#endif

typedef struct {
    ps_pair *slots;
    uint64_t homes; /* lines that can be a home; more follow, so that no window wraps */
} ps_table;

/* What the table asks of whoever gives the words their meaning. */
typedef struct {
    void *context;
    /* What is forgiven when this slot is given to another key: 0 when it is free, PS_DEBT_HELD when it must
     * not be, else more than PS_DEBT_TENTATIVE. */
    uint64_t (*debt)(void *context, uint64_t index, uint64_t word);
    /* Called before an exchange that makes a slot tentative whose last tenant's word was `word`: one that has given
     * it up, or that owes nothing. Only of such may it be called in vain. */
    void (*retire)(void *context, uint64_t index, uint64_t word);
    /* A number below 2^63 that no other placement has or had: what tells a tentative slot from a later one. */
    uint64_t (*nonce)(void *context);
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

static inline uint64_t ps_table_slots(uint64_t homes) { return (homes + PS_WINDOW_LINES / 2) * PS_LINE_SLOTS; }

/* The first slots of a key's two homes: the fingerprint's high bits, and its low bits, scaled to the homes there are. */
typedef struct {
    uint64_t home[2];
} ps_window;

static inline ps_window ps_table_window(const ps_table *table, uint64_t fingerprint) {
    return (ps_window){{ps_mul_high(fingerprint, table->homes) * PS_LINE_SLOTS,
                        ps_mul_high(fingerprint << 32 | fingerprint >> 32, table->homes) * PS_LINE_SLOTS}};
}

/* The first slot of a line (0 .. PS_WINDOW_LINES - 1) of the window. */
static inline uint64_t ps_window_line(const ps_window *window, unsigned line) {
    return window->home[line & 1] + line / 2 * PS_LINE_SLOTS;
}

/* The slot whose key is `fingerprint`, established or tentative, or PS_NO_SLOT. Acquire: what the tenant
 * published before it was established (ring entries of an earlier tenancy) is seen. */
PS_HOT uint64_t ps_table_find(const ps_table *table, uint64_t fingerprint) {
    ps_window window = ps_table_window(table, fingerprint);
    for (unsigned line = 0; line < PS_WINDOW_LINES; line++) {
        uint64_t first = ps_window_line(&window, line);
        const ps_pair *slots = &table->slots[first];
        bool empty = false;
        for (unsigned i = 0; i < PS_LINE_SLOTS; i++) { /* unrolled: a line at a time */
            uint64_t key = ps_load_acquire(&slots[i].key);
            if (key == fingerprint)
                return first + i;
            empty |= key == PS_SLOT_EMPTY;
        }
        if (empty)
            break;
    }
    return PS_NO_SLOT;
}

/* The slot where the key is established, past any claim for it that stands before; or PS_NO_SLOT. */
PS_APART uint64_t ps_table_find_established(const ps_table *table, uint64_t fingerprint) {
    ps_window window = ps_table_window(table, fingerprint);
    for (unsigned place = 0; place < PS_WINDOW_SLOTS; place++) {
        uint64_t index = ps_window_line(&window, place / PS_LINE_SLOTS) + place % PS_LINE_SLOTS;
        const ps_pair *slot = &table->slots[index];
        if (ps_load_acquire(&slot->key) == fingerprint && !ps_is_tentative(ps_load_acquire(&slot->state)) &&
            ps_load_acquire(&slot->key) == fingerprint)
            return index;
    }
    return PS_NO_SLOT;
}

/* One whole reading of a window on behalf of a key. */
typedef struct {
    uint64_t established;       /* index, or PS_NO_SLOT */
    uint64_t candidate, candidate_state; /* the first tentative of the key, or PS_NO_SLOT */
    uint64_t victim, victim_key, victim_state; /* the slot to claim: free, else with the least debt */
    uint64_t victim_debt;
} ps_reading;

/* Looks at a slot that had the key. True when it is established, which ends the reading. A tentative one is the
 * candidate if it is the first, else it is killed. Ends: it looks again only when another exchange succeeded here. */
PS_APART bool ps_table_met(ps_table *table, uint64_t index, uint64_t fingerprint, ps_reading *reading) {
    ps_pair *slot = &table->slots[index];
    while (ps_load_seq(&slot->key) == fingerprint) {
        uint64_t state = ps_load_seq(&slot->state);
        if (!ps_is_tentative(state)) {
            reading->established = index;
            return true;
        }
        if (reading->candidate == PS_NO_SLOT) {
            reading->candidate = index;
            reading->candidate_state = state;
        }
        if (reading->candidate == index || ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, state))
            return false;
    }
    return false;
}

/* Reads the window to its end or to the first EMPTY slot, killing every tentative of the key but the first. With a
 * tenancy it also looks for a victim; a tentative of another key counts as all but free there: if its caller died,
 * the slot comes back this way. */
PS_HOT void ps_table_read(ps_table *table, uint64_t fingerprint, const ps_tenancy *tenancy, ps_reading *reading) {
    ps_window window = ps_table_window(table, fingerprint);
    uint64_t least = PS_DEBT_HELD;
    *reading = (ps_reading){PS_NO_SLOT, PS_NO_SLOT, 0, PS_NO_SLOT, 0, 0, PS_DEBT_HELD};
    for (unsigned line = 0; line < PS_WINDOW_LINES; line++) {
        uint64_t first = ps_window_line(&window, line);
        for (uint64_t index = first; index < first + PS_LINE_SLOTS; index++) {
            uint64_t key = ps_load_seq(&table->slots[index].key);
            while (key == fingerprint) {
                bool alone = reading->candidate == PS_NO_SLOT;
                if (ps_table_met(table, index, fingerprint, reading))
                    return;
                if (!alone || reading->candidate == index)
                    break; /* with a candidate no slot is looked for, and to kill claim after claim here would never end */
                key = ps_load_seq(&table->slots[index].key); /* withdrawn before it was looked at: free, or another's by now */
            }
            if (key == fingerprint)
                continue;
            if (tenancy && least) {
                uint64_t state = ps_load_seq(&table->slots[index].state), debt = 0;
                if (key > PS_SLOT_FREE)
                    debt = ps_is_tentative(state) ? PS_DEBT_TENTATIVE : tenancy->debt(tenancy->context, index, state);
                if (debt < least) {
                    least = reading->victim_debt = debt;
                    reading->victim = index;
                    reading->victim_key = key;
                    reading->victim_state = state;
                }
            }
            if (key == PS_SLOT_EMPTY)
                return;
        }
    }
}

/* Finds the key or makes a slot tentative for it; `*evicted` counts the tenants that owed something and had to go,
 * which happens only with `evict`. */
PS_HOT ps_claim ps_table_claim(ps_table *table, uint64_t fingerprint, const ps_tenancy *tenancy, bool evict,
                                      uint64_t *evicted, uint64_t *index, uint64_t *state) {
    uint64_t seen = PS_NO_SLOT, seen_state = 0; /* the candidate as it was before this reading */
    for (;;) {
        ps_reading reading;
        if (seen == PS_NO_SLOT)
            ps_table_read(table, fingerprint, tenancy, &reading);
        else
            ps_table_read(table, fingerprint, 0, &reading);
        if (reading.established != PS_NO_SLOT) {
            if (reading.candidate != PS_NO_SLOT) /* before the established one: nobody may establish it */
                ps_pair_exchange(&table->slots[reading.candidate], fingerprint, reading.candidate_state, PS_SLOT_FREE,
                                 reading.candidate_state);
            else if (seen != PS_NO_SLOT) /* behind it, where the reading did not come */
                ps_pair_exchange(&table->slots[seen], fingerprint, seen_state, PS_SLOT_FREE, seen_state);
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
        if (seen != PS_NO_SLOT) { /* it was killed: somebody else's is in place, or was */
            seen = PS_NO_SLOT;
            continue;
        }
        if (reading.victim == PS_NO_SLOT || (reading.victim_debt > PS_DEBT_TENTATIVE && !evict))
            return PS_FULL;
        ps_pair *victim = &table->slots[reading.victim];
        if (reading.victim_debt > PS_DEBT_TENTATIVE) { /* it may be hit yet: it goes before its word is retired */
            if (!ps_pair_exchange(victim, reading.victim_key, reading.victim_state, PS_SLOT_FREE, reading.victim_state))
                continue;
            reading.victim_key = PS_SLOT_FREE;
            ++*evicted;
        }
        if (ps_load_seq(&victim->key) != reading.victim_key)
            continue; /* the two halves were not of one tenant: the word may be one that is in use */
        if (reading.victim_state && !ps_is_tentative(reading.victim_state))
            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);
        uint64_t tentative = PS_TENTATIVE | tenancy->nonce(tenancy->context);
        if (ps_pair_exchange(victim, reading.victim_key, reading.victim_state, fingerprint, tentative)) {
            seen = reading.victim;
            seen_state = tentative;
        }
    }
}

#endif
