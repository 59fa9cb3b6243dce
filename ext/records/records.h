/* What is counted about whom, beside limits: one word for each rule and key, in the limiter's own table (table/table.h).
 *
 *   facts -> fingerprints -> for each rule: key -> slot -> step -> is it over?
 *
 * A rule says what is counted (kind, capacity, span) of which facts. Its records live in one table with those of all other
 * rules; the low eight bits of a record's key are its rule's number, so that what owes least, of any kind, gives way when a
 * window of the table is full. Every change is one exchange of key and word, so events are neither lost nor counted for
 * another key, whichever thread or process stops in the middle; what a full window has given away is forgotten, which
 * can spare somebody and never accuse anybody.
 *
 * Bans are records of a table of their own, so that no flood of keys pushes one out; beside each stands the address it is
 * about, 16 bytes, which counts only as far as its fingerprint is the record's key. */
#ifndef PENSTOCK_RECORDS_H
#define PENSTOCK_RECORDS_H

#include "../platform/fault.h"
#include "../platform/memory.h"
#include "../table/fingerprint.h"
#include "../table/table.h"
#include "steps.h"
#include <string.h>

#define PS_RULES_MOST 200
#define PS_FACTS_MOST 24
#define PS_BY_MOST 4
#define PS_OF_MOST 2
#define PS_NO_FACT 0xFF
#define PS_COUNTERS 256

typedef enum { PS_KIND_NONE, PS_KIND_LEAKY, PS_KIND_WINDOW, PS_KIND_MEMBER, PS_KIND_SCORE, PS_KIND_PULSE, PS_KIND_FOCUS } ps_kind;

typedef struct {
    uint64_t rule;     /* the earlier rule whose count is compared with; */
    uint64_t at_least; /* it must have counted so many, */
    uint64_t share;    /* and this rule more than share / 2^16 of them */
} ps_of;

typedef struct {
    uint64_t kind;
    uint64_t capacity;   /* what is allowed; leaky, window: units; pulse: events before it is judged */
    uint64_t span_ns;    /* leaky: for one unit; window: a third; pulse: the pause that begins anew */
    uint64_t quiet_ns;   /* after it has fired; 0: it fires with each event that is too much */
    uint64_t member_ns;  /* how long a distinct value is remembered; 0: every event counts */
    uint64_t share;      /* pulse: deviation / mean, in 1/2^16, below which it is too regular */
    uint64_t needs;      /* conditions that must hold, as bits */
    uint64_t of_count;
    ps_of of[PS_OF_MOST];
    double half_life_s;  /* score */
    unsigned bits;       /* window: of each count */
    unsigned silent;     /* never fires: others are compared with it */
    unsigned caps;       /* window: what is too much is refused, and not counted */
    uint8_t by[PS_BY_MOST]; /* facts of the key, PS_NO_FACT after the last */
    uint8_t distinct;       /* the fact whose values are told apart; focus: the fact that is voted for */
    uint8_t member;         /* the number of the rule that remembers them; rules of the same facts have the same */
} ps_rule;

/* What all who share the records have in common, before the tables. */
typedef struct {
    ps_word claims;            /* slots claimed; what makes a claim's nonce unique */
    ps_word evicted;           /* records that still said something and had to go */
    ps_word emergency_until;   /* ns; emergency mode is on before it */
    ps_word emergency_manual;  /* 0 as the traffic says, 1 on, 2 off */
    ps_word generation;        /* raised when lists were changed */
    ps_word banned;            /* bans that were ever placed: 0 means that none need be looked for */
    ps_word pad[2];
    ps_word counters[PS_COUNTERS];
} ps_commons_of_records;

typedef struct {
    ps_table table, bans;
    ps_word *addresses; /* two words for each slot of bans */
    ps_commons_of_records *commons;
    ps_secret secret;
    uint64_t rule_count;
    ps_rule rules[PS_RULES_MOST];
    void *memory; /* what is mapped */
    size_t bytes;
    ps_word trouble; /* 1: the file was cut off */
    int fast;
} ps_records;

/* ---- laying out ---- */

static inline size_t ps_records_bytes(uint64_t capacity, uint64_t bans) {
    size_t slots = (size_t)ps_table_slots(ps_table_homes(capacity)), ban_slots = (size_t)ps_table_slots(ps_table_homes(bans));
    return sizeof(ps_commons_of_records) + (slots + ban_slots + PS_LINE_SLOTS) * sizeof(ps_pair) + ban_slots * 2 * sizeof(ps_word);
}

static inline void ps_records_lay(ps_records *records, char *start, uint64_t capacity, uint64_t bans) {
    records->commons = (ps_commons_of_records *)(void *)start;
    records->table = (ps_table){(ps_pair *)(void *)(start + sizeof(ps_commons_of_records)), ps_table_homes(capacity)};
    records->bans = (ps_table){records->table.slots + ps_table_slots(records->table.homes), ps_table_homes(bans)};
    records->addresses = (ps_word *)(void *)(records->bans.slots + ps_table_slots(records->bans.homes));
}

_Static_assert(sizeof(ps_commons_of_records) % PS_CACHE_LINE == 0, "the first slot begins a cache line");

static inline bool ps_records_open(ps_records *records, uint64_t capacity, uint64_t bans) {
    records->bytes = ps_records_bytes(capacity, bans);
    records->memory = ps_memory_map(records->bytes);
    if (!records->memory)
        return false;
    ps_records_lay(records, (char *)records->memory, capacity, bans);
    return true;
}

/* Maps a file whose tables begin at `skip`; false when that can't be done. */
static inline bool ps_records_attach(ps_records *records, int fd, size_t skip, uint64_t capacity, uint64_t bans) {
    records->bytes = skip + ps_records_bytes(capacity, bans);
    records->memory = ps_memory_map_file(fd, records->bytes, false);
    if (!records->memory)
        return false;
    ps_records_lay(records, (char *)records->memory + skip, capacity, bans);
    if (ps_guard_add(records->memory, records->bytes, &records->trouble, &records->fast))
        return true;
    ps_memory_unmap(records->memory, records->bytes);
    records->memory = NULL;
    return false;
}

static inline void ps_records_close(ps_records *records) {
    if (!records->memory)
        return;
    ps_guard_remove(records->memory);
    ps_memory_unmap(records->memory, records->bytes);
    records->memory = NULL;
}

/* ---- keys ---- */

/* Several facts, or one and a value, as one number. They are keyed hashes already, so that nobody outside can choose them;
 * the mixer is Stafford's thirteenth ("Better bit mixing", 2011), a bijection of `a` for each `b`. */
static inline uint64_t ps_mix(uint64_t a, uint64_t b) {
    uint64_t z = a ^ (b * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0x632BE59BD9B4E019));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* The key of rule `number`'s record for a group; never a reserved value, since the low bits are at least 2. */
static inline uint64_t ps_record_key(uint64_t number, uint64_t group) {
    return (ps_mix(group, number) & ~UINT64_C(0xFF)) | (number + 2);
}

_Static_assert(PS_RULES_MOST + 2 < 0x100 && PS_SLOT_FREE < 2, "a rule's number fits beside the reserved keys");

/* ---- slots ---- */

/* Has the line of a key's first home brought from memory, for who will look at it soon. */
static inline void ps_record_fetch(const ps_records *records, uint64_t key) {
    ps_prefetch(&records->table.slots[ps_table_window(&records->table, key).home[0]]);
}

#define PS_MEMBER_WORDS ((PS_RULES_MOST + 63) / 64)

typedef struct {
    ps_records *records;
    uint64_t now;
    uint64_t met[PS_MEMBER_WORDS], fresh[PS_MEMBER_WORDS]; /* members that this feed has met, and those that were new to it */
} ps_asked;

/* ns until a word says nothing any more; 0 when it does not now. */
static inline uint64_t ps_record_rest(const ps_rule *rule, uint64_t word, uint64_t now) {
    uint64_t end = 0;
    if (!word)
        return 0;
    if (word & PS_QUIET)
        end = word & PS_TIME_MOST;
    else if (rule->kind == PS_KIND_WINDOW) {
        uint64_t at = ps_thirds_at(word, rule->bits, rule->span_ns, now);
        return ps_thirds_count(at, rule->bits) ? (ps_third(at, rule->bits, 0) ? 3 : ps_third(at, rule->bits, 1) ? 2 : 1) * rule->span_ns : 0;
    } else if (rule->kind == PS_KIND_PULSE) {
        uint64_t gap = ((now / 1000000) - (word >> 32)) & PS_PULSE_TIME_MASK;
        return gap * 1000000 < rule->span_ns ? rule->span_ns - gap * 1000000 : 0;
    } else if (rule->kind == PS_KIND_FOCUS) {
        uint64_t gap = ((now / 1000000000) - (word >> 40)) & PS_FOCUS_TIME_MASK;
        return gap * 1000000000 < rule->span_ns ? rule->span_ns - gap * 1000000000 : 0;
    } else if (rule->kind == PS_KIND_SCORE) {
        double points = ps_score_at(word, rule->half_life_s, now); /* a point is worth a minute, and less than one nothing */
        return points > -1 && points < 1 ? 0 : (uint64_t)(fabs(points) * 6e10);
    } else
        end = word; /* leaky, member */
    return end > now ? end - now : 0;
}

static uint64_t ps_record_debt(void *context, uint64_t index, uint64_t word) {
    const ps_asked *asked = (const ps_asked *)context;
    uint64_t number = (ps_load_relaxed(&asked->records->table.slots[index].key) & 0xFF) - 2;
    if (number >= asked->records->rule_count)
        return 0; /* of no rule: whatever was scribbled there */
    uint64_t rest = ps_record_rest(&asked->records->rules[number], word, asked->now);
    return rest ? rest + PS_DEBT_TENTATIVE : 0;
}

/* Bans outlast their end by a day, so that offences are counted on. */
#define PS_BAN_MEMORY_MS UINT64_C(86400000)

static uint64_t ps_ban_debt(void *context, uint64_t index, uint64_t word) {
    uint64_t now_ms = ((const ps_asked *)context)->now / 1000000, until_ms = ps_ban_of(word).until_ms;
    (void)index;
    if (until_ms > now_ms) /* in force: before all that are not */
        return (UINT64_C(1) << 62) + (until_ms - now_ms);
    return until_ms + PS_BAN_MEMORY_MS > now_ms ? until_ms + PS_BAN_MEMORY_MS - now_ms + PS_DEBT_TENTATIVE : 0;
}

static void ps_record_retire(void *context, uint64_t index, uint64_t word) { (void)context, (void)index, (void)word; }

static uint64_t ps_record_nonce(void *context) {
    return ps_add_relaxed(&((ps_asked *)context)->records->commons->claims, 1) & (PS_TENTATIVE - 1);
}

/* The slot of a key, established or claimed for it, and its word (0 when claimed) with what must be there for an exchange. False when
 * the window is full of what may not go. */
static inline bool ps_record_slot(ps_asked *asked, ps_table *table, uint64_t key, uint64_t *index, uint64_t *state) {
    *index = ps_table_find(table, key);
    if (*index != PS_NO_SLOT) {
        *state = ps_load_acquire(&table->slots[*index].state);
        if (!ps_is_tentative(*state))
            return true; /* if the key is another's by now, the exchange fails */
    }
    ps_tenancy tenancy = {asked, table == &asked->records->bans ? ps_ban_debt : ps_record_debt, ps_record_retire, ps_record_nonce};
    uint64_t evicted = 0;
    ps_claim claim = ps_table_claim(table, key, &tenancy, true, &evicted, index, state);
    if (evicted)
        ps_add_relaxed(&asked->records->commons->evicted, evicted);
    if (claim == PS_FOUND)
        *state = ps_load_acquire(&table->slots[*index].state);
    return claim != PS_FULL;
}

/* The word of a key, 0 if there is none. Reads only. */
static inline uint64_t ps_record_word(const ps_table *table, uint64_t key) {
    uint64_t index = ps_table_find(table, key);
    if (index == PS_NO_SLOT)
        return 0;
    uint64_t word = ps_load_acquire(&table->slots[index].state);
    return ps_is_tentative(word) || ps_load_acquire(&table->slots[index].key) != key ? 0 : word;
}

/* ---- events ---- */

/* What an event of a rule came to. */
typedef struct {
    bool over;
    uint64_t count; /* what the rule has counted, this event included */
} ps_outcome_of_rule;

/* Whether the counts that a rule is compared with let it fire. `counts`: of earlier rules, by number, in this feed. */
static inline bool ps_of_holds(const ps_rule *rule, uint64_t count, const uint64_t *counts) {
    for (uint64_t i = 0; i < rule->of_count; i++) {
        uint64_t whole = counts[rule->of[i].rule];
        if (whole < rule->of[i].at_least || count << 16 <= whole * rule->of[i].share)
            return false;
    }
    return true;
}

/* Whether `value` is new to the group, which it is then no more; all rules of one feed that ask are told the same. Without a
 * place it counts as known: that accuses nobody. */
static inline bool ps_record_meet(ps_asked *asked, const ps_rule *rule, uint64_t group, uint64_t value) {
    uint64_t word = rule->member / 64, bit = UINT64_C(1) << rule->member % 64;
    if (asked->met[word] & bit)
        return (asked->fresh[word] & bit) != 0;
    asked->met[word] |= bit;
    uint64_t key = ps_record_key(rule->member, ps_mix(group, value)), index, state;
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        if (!ps_record_slot(asked, &asked->records->table, key, &index, &state))
            return false;
        if (!ps_is_tentative(state) && state > asked->now)
            return false;
        if (ps_pair_exchange(&asked->records->table.slots[index], key, state, key, asked->now + rule->member_ns)) {
            asked->fresh[word] |= bit;
            return true;
        }
    }
}

/* One event of rule `number` about a group: counted, and whether that is too much. `counts` has this rule's count after it. */
static inline ps_outcome_of_rule ps_record_event(ps_asked *asked, uint64_t number, uint64_t group, uint64_t value, uint64_t units,
                                                 uint64_t *counts) {
    ps_records *records = asked->records;
    const ps_rule *rule = &records->rules[number];
    uint64_t key = ps_record_key(number, group), index, state, now = asked->now;
    ps_outcome_of_rule outcome = {false, 0};
    counts[number] = 0;
    if (rule->member_ns) { /* one that counts nothing more needs no memory of values */
        uint64_t word = ps_record_word(&records->table, key);
        uint64_t count = word & PS_QUIET                  ? 0
                         : rule->kind == PS_KIND_LEAKY    ? ps_leaky_level(word, rule->span_ns, now)
                                                          : ps_thirds_count(ps_thirds_at(word, rule->bits, rule->span_ns, now), rule->bits);
        counts[number] = outcome.count = count;
        if (ps_is_quiet(word, now))
            return outcome;
        if (count > rule->capacity)
            units = 0;
        else if (!ps_record_meet(asked, rule, group, value))
            return outcome;
    }
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        if (!ps_record_slot(asked, &records->table, key, &index, &state))
            return outcome;
        uint64_t word = ps_is_tentative(state) ? 0 : state, next;
        if (ps_is_quiet(word, now))
            return outcome;
        if (word & PS_QUIET)
            word = 0;
        if (rule->kind == PS_KIND_LEAKY) {
            next = ps_leaky_pour(word, rule->capacity, rule->span_ns, now, units, &outcome.over);
            outcome.count = outcome.over ? rule->capacity + 1 : ps_leaky_level(next, rule->span_ns, now);
        } else if (rule->kind == PS_KIND_WINDOW) {
            next = ps_thirds_add(ps_thirds_at(word, rule->bits, rule->span_ns, now), rule->bits, units);
            outcome.count = ps_thirds_count(next, rule->bits);
            outcome.over = outcome.count > rule->capacity;
            if (outcome.over && rule->caps)
                next = word; /* who comes too often is let in as often as is allowed, and not kept out until he stops */
        } else if (rule->kind == PS_KIND_FOCUS) {
            next = ps_focus_vote(word, value, rule->span_ns, now);
            outcome.count = ps_focus_lead(next);
            outcome.over = outcome.count > rule->capacity;
        } else {
            next = ps_pulse_beat(word, rule->span_ns, now);
            ps_pulse pulse = ps_pulse_of(next);
            outcome.count = pulse.events;
            outcome.over = pulse.events > rule->capacity && pulse.mean && pulse.deviation << 16 < pulse.mean * rule->share;
        }
        counts[number] = outcome.count;
        outcome.over = outcome.over && !rule->silent && ps_of_holds(rule, outcome.count, counts);
        if (outcome.over && rule->quiet_ns)
            next = PS_QUIET | (now + rule->quiet_ns);
        if (next == state || ps_pair_exchange(&records->table.slots[index], key, state, key, next))
            return outcome;
    }
}

/* What a rule has counted about a group, without an event. */
static inline uint64_t ps_record_count(const ps_records *records, uint64_t number, uint64_t group, uint64_t now) {
    const ps_rule *rule = &records->rules[number];
    uint64_t word = ps_record_word(&records->table, ps_record_key(number, group));
    if (ps_is_quiet(word, now))
        return rule->capacity + 1;
    if (word & PS_QUIET)
        return 0;
    switch (rule->kind) {
    case PS_KIND_LEAKY: return ps_leaky_level(word, rule->span_ns, now);
    case PS_KIND_WINDOW: return ps_thirds_count(ps_thirds_at(word, rule->bits, rule->span_ns, now), rule->bits);
    case PS_KIND_PULSE: return ps_pulse_of(word).events;
    case PS_KIND_FOCUS: return ps_focus_lead(word);
    default: return 0;
    }
}

/* Adds `points` to a score, which stays within [least, most]; what it then is. 0 points only read it. */
static inline double ps_record_score(ps_asked *asked, uint64_t number, uint64_t group, double points, double least, double most) {
    ps_records *records = asked->records;
    const ps_rule *rule = &records->rules[number];
    uint64_t key = ps_record_key(number, group), index, state;
    if (points == 0)
        return ps_score_at(ps_record_word(&records->table, key), rule->half_life_s, asked->now);
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        if (!ps_record_slot(asked, &records->table, key, &index, &state))
            return points;
        double score = ps_score_at(ps_is_tentative(state) ? 0 : state, rule->half_life_s, asked->now) + points;
        score = score < least ? least : score > most ? most : score;
        if (ps_pair_exchange(&records->table.slots[index], key, state, key, ps_score_word(score, asked->now)))
            return score;
    }
}

/* Forgets what a rule knows about a group; true if that was something. */
static inline bool ps_record_forget(ps_table *table, uint64_t key) {
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        uint64_t index = ps_table_find_established(table, key);
        if (index == PS_NO_SLOT)
            return false;
        uint64_t state = ps_load_acquire(&table->slots[index].state);
        if (!ps_is_tentative(state) && ps_pair_exchange(&table->slots[index], key, state, PS_SLOT_FREE, state))
            return true;
    }
}

/* ---- bans ---- */

/* Bans a key until at least `until_ms`; `offences`: what is added to those it has, 0 for a word that another instance has sent,
 * which then replaces what is less. Never shortens a ban. False when there is no place. */
static inline bool ps_ban_place(ps_asked *asked, uint64_t key, ps_ban ban, const uint8_t *address, ps_ban *after) {
    ps_records *records = asked->records;
    uint64_t index, state, now_ms = asked->now / 1000000;
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        if (!ps_record_slot(asked, &records->bans, key, &index, &state))
            return false;
        *after = ban;
        if (!ps_is_tentative(state)) {
            ps_ban was = ps_ban_of(state);
            if (was.until_ms > now_ms && was.until_ms >= ban.until_ms) {
                after->until_ms = was.until_ms;
                after->why = was.why;
            }
            if (was.offences > after->offences && was.until_ms > now_ms)
                after->offences = was.offences;
        }
        if (ps_pair_exchange(&records->bans.slots[index], key, state, key, ps_ban_word(*after)))
            break;
    }
    if (address) {
        uint64_t halves[2];
        memcpy(halves, address, 16);
        ps_store_relaxed(&records->addresses[index * 2], halves[0]);
        ps_store_relaxed(&records->addresses[index * 2 + 1], halves[1]);
    }
    ps_add_seq(&records->commons->banned, 1);
    return true;
}

/* The ban on a key, or one with until_ms 0. */
static inline ps_ban ps_ban_find(const ps_records *records, uint64_t key) { return ps_ban_of(ps_record_word(&records->bans, key)); }

/* Ends a ban, and leaves its offences, so that a second one is longer all the same. True when it was in force. */
static inline bool ps_ban_lift(ps_asked *asked, uint64_t key) {
    ps_table *bans = &asked->records->bans;
    uint64_t now_ms = asked->now / 1000000;
    for (;;) { /* ends: it goes round only when another thread's exchange on this slot succeeded */
        uint64_t index = ps_table_find_established(bans, key);
        if (index == PS_NO_SLOT)
            return false;
        uint64_t state = ps_load_acquire(&bans->slots[index].state);
        ps_ban ban = ps_ban_of(state);
        if (ps_is_tentative(state) || ban.until_ms <= now_ms)
            return false;
        ban.until_ms = now_ms;
        if (ps_pair_exchange(&bans->slots[index], key, state, key, ps_ban_word(ban)))
            return true;
    }
}

#endif
