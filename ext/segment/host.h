/* What the processes of a host leave for the one of them that exchanges with Redis for all.
 *
 * That one leads: it has a lock on a byte of the file (PS_LEAD_BYTE), and when it is gone another takes it. To exchanges it is the only
 * driver there is (ext/README.md); the others decide on the same words, and say here what a driver would be told by its own process:
 * who waits for what, which keys were made as good as new, that something is urgent.
 *
 * A leader that died may have had a batch on its way. Nobody knows whether Redis has it, so its successor tells it once more: what was
 * told twice is refused twice, which is the safe side, and is no more than one batch. */
#ifndef PENSTOCK_HOST_H
#define PENSTOCK_HOST_H

#include "../limiter.h"

/* Says which keys this seat's callers wait for: up to PS_SEAT_WAITS of them. One thread of a seat at a time. */
static inline void ps_host_wait(ps_commons *commons, uint32_t seat, const uint64_t *fingerprints, const uint64_t *units, unsigned count) {
    for (unsigned i = 0; i < PS_SEAT_WAITS; i++) {
        ps_wait *wait = &commons->waits[seat][i];
        ps_store_relaxed(&wait->units, 0); /* who reads in between finds nothing, or units of a key that was waited for */
        ps_store_release(&wait->fingerprint, i < count ? fingerprints[i] : 0);
        ps_store_release(&wait->units, i < count ? units[i] : 0);
    }
}

/* Leaves a key that is to be as good as new everywhere, or PS_SLOT_FREE for all keys. False when there is no room for it now. */
static inline bool ps_host_forget(ps_commons *commons, uint64_t fingerprint) {
    for (unsigned i = 0; i < PS_FORGETS; i++) {
        uint64_t none = 0;
        if (ps_load_acquire(&commons->forgets[i]) == fingerprint || ps_exchange_if_equal(&commons->forgets[i], &none, fingerprint))
            return true;
    }
    return false;
}

/* Takes one of them away: the fingerprint, or 0. */
static inline uint64_t ps_host_forgotten(ps_commons *commons, unsigned which) {
    uint64_t fingerprint = ps_load_acquire(&commons->forgets[which]);
    return fingerprint && ps_exchange_if_equal(&commons->forgets[which], &fingerprint, 0) ? fingerprint : 0;
}

/* Something is urgent for the leader: a key that somebody waits for. */
static inline void ps_host_urge(ps_limiter *limiter, uint64_t fingerprint) {
    ps_store_release(&limiter->share->asked[ps_partition_of(limiter->share, fingerprint)], 1);
    ps_bell_ring(&limiter->commons->asked);
}

/* For a new leader: units on their way are untold again. Ends: an exchange fails only when a decision succeeded there. */
static inline void ps_host_lead(ps_limiter *limiter) {
    for (uint64_t i = 0; i < limiter->limit_count; i++) {
        const ps_limit *limit = &limiter->limits[i];
        uint64_t slots = ps_table_slots(limit->table.homes);
        for (uint64_t index = 0; index < slots; index++) {
            ps_pair *slot = &limit->table.slots[index];
            for (;;) {
                uint64_t key = ps_load_acquire(&slot->key), word = ps_load_acquire(&slot->state);
                if (key <= PS_SLOT_FREE || ps_is_tentative(word))
                    break;
                uint64_t x = ps_shared_x(word) + ps_shared_fly(word);
                uint64_t next = ps_shared_word(word >> PS_VIEW_SHIFT, ps_shared_credit(word), 0, x < PS_X_MOST ? x : PS_X_MOST);
                if (ps_pair_exchange(slot, key, word, key, next)) {
                    ps_store_relaxed(&ps_tail(limit, index)[PS_TAIL_FLIGHT], 0);
                    ps_mark_dirty(limit, index);
                    break;
                }
            }
        }
    }
}

#endif
