/* Units in flight of a Concurrency limit in a segment, and what comes back of a holder that died.
 *
 * The word decides, as everywhere: {version | count}. Beside it, in the tail, is how much of the count each seat holds; that only ever
 * lags behind, and only for a seat that is in transit:
 *
 *   take       transit + 1;  exchange the word to count + c;  held[seat] += c;  transit - 1
 *   give back  transit + 1;  held[seat] -= c;  exchange the word to count - c;  transit - 1
 *
 * A holder may be killed between any two of these. Then its seat's share of the count is anyone's guess, but that of the living is not:
 * the truth is the sum of what their seats hold, and the dead seat's own entry need not be known. Who clears up after it lowers that entry
 * to 0, reads the word, then the living seats' entries, with nobody in transit before an entry is read and nobody after all are, and
 * exchanges the word to the sum.
 *
 * Why that is exact, where the exchange succeeds: no call was over that began after the word was read, for it would have raised the
 * version. One that began before was counted in `transit` until it had written its entry, so it is in what was read. One that began
 * after and had lowered an entry before that was read, its own or another seat's, was in transit when this was looked at again; else the
 * entries were read before it was lowered, and the word is, too. Two who clear up after two dead seats do not count each other's, for
 * both lower first. All of these are sequentially consistent. It ends because it is tried only so often: a seat that is stopped in
 * transit puts it off, and the dead seat stays taken until the next look. tests/model/holds.c runs it through every order of steps. */
#ifndef PENSTOCK_HOLDS_H
#define PENSTOCK_HOLDS_H

#include "../algorithms/concurrency.h"
#include "../table/slot.h"
#include "seats.h"

#ifndef PS_HOLDS_TRIES
#define PS_HOLDS_TRIES 64
#define PS_TRANSIT_TRIES 4096
#endif

typedef struct {
    uint64_t seats[PS_SEATS_MOST / 64];
} ps_seat_set;

static inline bool ps_seat_in(const ps_seat_set *set, uint32_t seat) { return set->seats[seat / 64] >> seat % 64 & 1; }
static inline void ps_seat_put(ps_seat_set *set, uint32_t seat) { set->seats[seat / 64] |= UINT64_C(1) << seat % 64; }

static inline unsigned ps_held_shift(uint32_t seat) { return seat % 2 * 32; }
static inline uint64_t ps_held_by(const ps_word *tail, uint32_t seat) {
    return ps_load_seq(&tail[seat / 2]) >> ps_held_shift(seat) & UINT32_MAX;
}

static inline void ps_held_add(ps_word *tail, uint32_t seat, uint64_t units) { ps_add_seq(&tail[seat / 2], units << ps_held_shift(seat)); }

/* Takes up to `units` away from what a seat holds; how many it were. Ends: a failed exchange has seen one of two seats' calls. */
static inline uint64_t ps_held_less(ps_word *tail, uint32_t seat, uint64_t units) {
    ps_word *word = &tail[seat / 2];
    uint64_t was = ps_load_seq(word), less;
    do {
        uint64_t held = was >> ps_held_shift(seat) & UINT32_MAX;
        less = held < units ? held : units;
    } while (less && !ps_exchange_if_equal(word, &was, was - (less << ps_held_shift(seat))));
    return less;
}

/* The same over all seats, the own one first: units may be given back in another process than took them. */
static inline uint64_t ps_held_less_all(ps_word *tail, uint32_t own, uint64_t units) {
    uint64_t less = ps_held_less(tail, own, units);
    for (uint32_t seat = 0; seat < PS_SEATS_MOST && less < units; seat++)
        less += ps_held_less(tail, seat, units - less);
    return less;
}

/* What the living hold of a key. False when somebody was in transit: before the entries were read, or after. */
static inline bool ps_holds_living(const ps_commons *commons, const ps_word *tail, const ps_seat_set *dead, uint64_t *sum) {
    unsigned waits = 0;
    *sum = 0;
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) {
        if (ps_seat_in(dead, seat) || !ps_load_seq(&commons->seats[seat].taken))
            continue;
        while (ps_load_seq(&commons->seats[seat].transit))
            if (++waits == PS_TRANSIT_TRIES)
                return false;
        *sum += ps_held_by(tail, seat);
    }
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) /* new ones too: any may have lowered any entry */
        if (!ps_seat_in(dead, seat) && ps_load_seq(&commons->seats[seat].transit))
            return false;
    return true;
}

/* Makes the count of one key that of the living alone, and wakes who waits for what comes back. False when there was no quiet moment:
 * then it is to be done again. */
static inline bool ps_holds_audit(const ps_policy *p, ps_commons *commons, ps_pair *slot, ps_word *tail, const ps_seat_set *dead) {
    for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++) /* first, so that nobody else's audit takes them for a living seat's */
        if (ps_seat_in(dead, seat))
            ps_held_less(tail, seat, UINT32_MAX);
    for (unsigned tries = 0; tries < PS_HOLDS_TRIES; tries++) {
        uint64_t key = ps_load_seq(&slot->key), state = ps_load_seq(&slot->state), sum;
        uint64_t held = ps_is_tentative(state) ? 0 : ps_concurrency_held(p, state);
        if (key <= PS_SLOT_FREE || !held)
            return true;
        if (!ps_holds_living(commons, tail, dead, &sum))
            continue;
        if (ps_pair_exchange(slot, key, state, key, ps_concurrency_word(p, state, sum))) {
            if (sum < held)
                ps_ring(commons, key);
            return true;
        }
    }
    return false;
}

#endif
