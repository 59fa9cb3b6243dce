/* What one word of a record says, and how an event changes it: pure arithmetic, times in ns since the records' birth.
 *
 *   QUIET | until                     it has fired, and takes no events before `until`
 *   leaky     time at which it will be empty
 *   window    index of the current third | events of that third, of the one before, of the one before that
 *   member    time at which the value is forgotten
 *   score     time of the last change, in s | how far from neutral, in 1/2^20 of a point, plus half the range
 *   focus     time of the last event, in s | the value that leads | by how many events it does
 *   pulse     time of the last event, in ms | events | mean interval | mean deviation from it
 *   ban       time at which it ends, in ms | offences | why
 *
 * No word of an established record has the top bit (table/slot.h), and 0 is "nothing known" in every kind. */
#ifndef PENSTOCK_STEPS_H
#define PENSTOCK_STEPS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define PS_QUIET (UINT64_C(1) << 62)
#define PS_TIME_MOST (PS_QUIET - 1)

static inline bool ps_is_quiet(uint64_t word, uint64_t now) { return (word & PS_QUIET) && (word & PS_TIME_MOST) > now; }

/* ---- leaky bucket: Turner, "New directions in communications", 1986, kept as the time at which it is empty ---- */

/* How much is in it, rounded up: units. */
static inline uint64_t ps_leaky_level(uint64_t word, uint64_t leak_ns, uint64_t now) {
    if (word & PS_QUIET || word <= now)
        return 0;
    return (word - now + leak_ns - 1) / leak_ns;
}

/* Threads may pour in another order than they read the time: so much later another's time may be, and never as much as a unit. */
#define PS_LEAKY_SLACK_NS UINT64_C(1000000)

/* Pours `units` in. One that would hold more than `capacity` overflows and stays as full as it may be. */
static inline uint64_t ps_leaky_pour(uint64_t word, uint64_t capacity, uint64_t leak_ns, uint64_t now, uint64_t units, bool *over) {
    uint64_t empty = word & PS_QUIET || word < now ? now : word;
    uint64_t most = now + capacity * leak_ns, slack = leak_ns / 2 < PS_LEAKY_SLACK_NS ? leak_ns / 2 : PS_LEAKY_SLACK_NS;
    *over = units > capacity || empty + units * leak_ns > most + slack;
    return *over ? most : empty + units * leak_ns;
}

/* ---- window: counts by thirds, so that what is counted lies within the window and never before it ----
 *
 * The current third and the two before it are the last 2/3 to 1 of the window. So whoever keeps to the limit in every
 * window is never over it, whoever exceeds it within 2/3 of one always is, and a steady excess is seen at a third's end. */
#define PS_THIRDS 3

/* Bits for each count: as many as leave the index of a third enough to come round only after 100 days, at most 16. */
static inline unsigned ps_third_bits(uint64_t third_ns) {
    unsigned bits = 16;
    while (bits > 8 && third_ns < (UINT64_C(8640000000000000) >> (62 - PS_THIRDS * bits)))
        bits--;
    return bits;
}

static inline uint64_t ps_third_most(unsigned bits) { return (UINT64_C(1) << bits) - 1; }
static inline uint64_t ps_third(uint64_t word, unsigned bits, unsigned age) { return word >> (age * bits) & ps_third_most(bits); }

/* The word as it is at `now`: thirds that are over have moved on. A word of a later third (another thread's newer
 * reading of the time) stays as it is. */
static inline uint64_t ps_thirds_at(uint64_t word, unsigned bits, uint64_t third_ns, uint64_t now) {
    unsigned all = PS_THIRDS * bits;
    uint64_t mask = (UINT64_C(1) << (62 - all)) - 1, index = now / third_ns & mask, counts = 0;
    if (word && !(word & PS_QUIET)) {
        uint64_t behind = (index - (word >> all)) & mask;
        if (behind > mask / 2)
            return word;
        if (behind < PS_THIRDS)
            counts = word << (behind * bits) & ((UINT64_C(1) << all) - 1);
    }
    return index << all | counts;
}

static inline uint64_t ps_thirds_count(uint64_t word, unsigned bits) {
    return ps_third(word, bits, 0) + ps_third(word, bits, 1) + ps_third(word, bits, 2);
}

/* `word` is one of ps_thirds_at. A full third stays full: it is above every capacity. */
static inline uint64_t ps_thirds_add(uint64_t word, unsigned bits, uint64_t units) {
    uint64_t room = ps_third_most(bits) - ps_third(word, bits, 0);
    return word + (units < room ? units : room);
}

/* ---- score: points from neutral, halved every half-life, so that nobody who stays away gets worse or better ---- */

#define PS_SCORE_BITS 32
#define PS_SCORE_ONE (1 << 20)
#define PS_SCORE_HALF (INT64_C(1) << (PS_SCORE_BITS - 1))
#define PS_SCORE_MOST 1000.0

static inline double ps_score_at(uint64_t word, double half_life_s, uint64_t now) {
    if (!word)
        return 0;
    uint64_t then_s = word >> PS_SCORE_BITS, now_s = now / 1000000000;
    double points = (double)((int64_t)(word & 0xFFFFFFFF) - PS_SCORE_HALF) / PS_SCORE_ONE;
    return now_s > then_s ? points * exp2(-(double)(now_s - then_s) / half_life_s) : points;
}

/* The word for `points` from neutral at `now`; never 0. */
static inline uint64_t ps_score_word(double points, uint64_t now) {
    if (points > PS_SCORE_MOST)
        points = PS_SCORE_MOST;
    if (points < -PS_SCORE_MOST)
        points = -PS_SCORE_MOST;
    uint64_t fixed = (uint64_t)((int64_t)(points * PS_SCORE_ONE) + PS_SCORE_HALF);
    return (now / 1000000000 & 0x3FFFFFFF) << PS_SCORE_BITS | fixed;
}

/* ---- pulse: the mean interval between events and the mean deviation from it, as moving averages over about eight ---- */

/* Intervals are kept in twelve bits, an exponent of 4 and 8 after the first: to 0.4 %, up to 2^23 ms. */
static inline uint64_t ps_short(uint64_t ms) {
    uint64_t exponent = 0;
    while (ms >> exponent >= 512 && exponent < 14)
        exponent++;
    if (ms >> exponent >= 512)
        return 0xFFF;
    if (ms < 256)
        return ms;
    return (exponent + 1) << 8 | (ms >> exponent & 0xFF);
}
static inline uint64_t ps_long(uint64_t word) {
    uint64_t exponent = word >> 8;
    return exponent ? ((word & 0xFF) | 0x100) << (exponent - 1) : word;
}

#define PS_PULSE_TIME_MASK ((UINT64_C(1) << 30) - 1)

typedef struct {
    uint64_t events, mean, deviation; /* ms, in sixteenths: a client of 20 requests a second has 800 */
} ps_pulse;

static inline ps_pulse ps_pulse_of(uint64_t word) {
    return (ps_pulse){word >> 24 & 0xFF, ps_long(word >> 12 & 0xFFF), ps_long(word & 0xFFF)};
}

/* The word after an event. A pause of more than `forget_ns` begins anew. */
static inline uint64_t ps_pulse_beat(uint64_t word, uint64_t forget_ns, uint64_t now) {
    uint64_t now_ms = now / 1000000, gap = (now_ms - (word >> 32)) & PS_PULSE_TIME_MASK;
    uint64_t stamp = (now_ms & PS_PULSE_TIME_MASK) << 32;
    if (gap > PS_PULSE_TIME_MASK / 2) /* an event of another thread's later time */
        return word;
    ps_pulse pulse = ps_pulse_of(word);
    if (!pulse.events || gap > forget_ns / 1000000)
        return stamp | UINT64_C(1) << 24;
    gap *= 16;
    if (pulse.events == 1) {
        pulse.mean = gap;
        pulse.deviation = 0;
    } else {
        uint64_t off = gap > pulse.mean ? gap - pulse.mean : pulse.mean - gap;
        pulse.mean = (pulse.mean * 7 + gap + 4) / 8;
        pulse.deviation = (pulse.deviation * 7 + off + 4) / 8;
    }
    uint64_t events = pulse.events < 0xFF ? pulse.events + 1 : 0xFF;
    return stamp | events << 24 | ps_short(pulse.mean) << 12 | ps_short(pulse.deviation);
}

/* ---- focus: by how many events one value leads all others together, in one word whatever values there are. Boyer and Moore,
 * "MJRTY: a fast majority vote algorithm", 1991: if a value has the share s of n events, s > 1/2, it leads by (2s - 1) n at
 * least. ---- */

#define PS_FOCUS_LEAD_MOST 0xFFFFF
#define PS_FOCUS_TIME_MASK 0x3FFFFF

static inline uint64_t ps_focus_lead(uint64_t word) { return word & PS_FOCUS_LEAD_MOST; }

/* The word after an event of `value`. A pause of more than `forget_ns` begins anew. */
static inline uint64_t ps_focus_vote(uint64_t word, uint64_t value, uint64_t forget_ns, uint64_t now) {
    uint64_t now_s = now / 1000000000 & PS_FOCUS_TIME_MASK, mark = value >> 44, lead = ps_focus_lead(word), leader = word >> 20 & PS_FOCUS_LEAD_MOST;
    uint64_t pause = (now_s - (word >> 40)) & PS_FOCUS_TIME_MASK;
    if (pause > forget_ns / 1000000000 && pause <= PS_FOCUS_TIME_MASK / 2)
        lead = 0;
    if (lead == 0)
        leader = mark;
    if (leader == mark)
        lead += lead < PS_FOCUS_LEAD_MOST;
    else
        lead--;
    return now_s << 40 | leader << 20 | lead;
}

/* ---- ban ---- */

#define PS_BAN_MS_BITS 42
#define PS_OFFENCES_MOST 63
#define PS_WHY_MOST 255

typedef struct {
    uint64_t until_ms; /* since the records' birth */
    uint64_t offences, why;
} ps_ban;

static inline ps_ban ps_ban_of(uint64_t word) {
    return (ps_ban){word >> 14 & ((UINT64_C(1) << PS_BAN_MS_BITS) - 1), word >> 8 & PS_OFFENCES_MOST, word & PS_WHY_MOST};
}
static inline uint64_t ps_ban_word(ps_ban ban) {
    uint64_t most = (UINT64_C(1) << PS_BAN_MS_BITS) - 1;
    return (ban.until_ms < most ? ban.until_ms : most) << 14 | (ban.offences < PS_OFFENCES_MOST ? ban.offences : PS_OFFENCES_MOST) << 8 |
           (ban.why & PS_WHY_MOST);
}

#endif
