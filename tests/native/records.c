/* records/records.h: no event is lost or counted for another key while threads meet on few keys, nobody is accused in a table
 * that is far too small, bans are never shortened, and words that were scribbled over are only ever wrong numbers.
 *
 * Arguments: threads, events of each, seed. */
#include "testing.h"
#include "records/records.h"

#define KEYS 5
#define SECOND UINT64_C(1000000000)

enum { HOT, SLOW, OTHERS, RULES };

static ps_records *open_records(uint64_t capacity, uint64_t bans) {
    ps_records *records = (ps_records *)calloc(1, sizeof(ps_records));
    CHECK(records && ps_records_open(records, capacity, bans), "no memory for records");
    ps_rule rules[RULES] = {
        {.kind = PS_KIND_WINDOW, .capacity = 60000, .span_ns = 3600 * SECOND, .by = {0, PS_NO_FACT, PS_NO_FACT, PS_NO_FACT}},
        {.kind = PS_KIND_LEAKY, .capacity = UINT64_C(1) << 20, .span_ns = 3600 * SECOND, .by = {0, PS_NO_FACT, PS_NO_FACT, PS_NO_FACT}},
        {.kind = PS_KIND_WINDOW, .capacity = 3, .span_ns = SECOND, .by = {0, PS_NO_FACT, PS_NO_FACT, PS_NO_FACT}},
    };
    memcpy(records->rules, rules, sizeof(rules));
    for (unsigned i = 0; i < RULES; i++)
        records->rules[i].bits = ps_third_bits(records->rules[i].span_ns);
    records->rule_count = RULES;
    return records;
}

static void close_records(ps_records *records) {
    ps_records_close(records);
    free(records);
}

typedef struct {
    ps_records *records;
    uint64_t events;
    ps_word told[KEYS];
} account;

/* Every event of a few keys is counted, by both kinds. */
static void count_body(worker *w) {
    account *a = (account *)w->shared;
    ps_asked asked = {.records = a->records, .now = 7200 * SECOND};
    uint64_t counts[PS_RULES_MOST];
    for (uint64_t i = 0; i < a->events; i++) {
        uint64_t key = draw_below(&w->random, KEYS);
        ps_record_event(&asked, HOT, key, 0, 1, counts);
        ps_outcome_of_rule slow = ps_record_event(&asked, SLOW, key, 0, 1, counts);
        CHECK(slow.count > 0 && !slow.over, "a bucket for a million holds %llu", (unsigned long long)slow.count);
        ps_add_relaxed(&a->told[key], 1);
    }
}

static void check_totals(unsigned threads, uint64_t events, uint64_t seed) {
    account a = {.records = open_records(16, 16), .events = events};
    run_workers(threads, seed, NULL, &a, count_body);
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t told = ps_load_relaxed(&a.told[key]), most = ps_third_most(a.records->rules[HOT].bits);
        uint64_t hot = ps_record_count(a.records, HOT, key, 7200 * SECOND), slow = ps_record_count(a.records, SLOW, key, 7200 * SECOND);
        CHECK(hot == (told < most ? told : most), "%llu events counted of %llu", (unsigned long long)hot, (unsigned long long)told);
        CHECK(slow == told, "%llu units poured of %llu", (unsigned long long)slow, (unsigned long long)told);
    }
    close_records(a.records);
}

/* In a table of one window threads push each other's keys out all the time; a key is over only when it was told more than allowed. */
#define SPRAY 400
static void spray_body(worker *w) {
    account *a = (account *)w->shared;
    uint64_t counts[PS_RULES_MOST], own[SPRAY] = {0};
    for (uint64_t i = 0; i < a->events; i++) {
        ps_asked asked = {.records = a->records, .now = 100 * SECOND};
        uint64_t one = draw_below(&w->random, SPRAY), key = one * WORKERS_MOST + w->number; /* nobody else's */
        own[one]++;
        ps_outcome_of_rule outcome = ps_record_event(&asked, OTHERS, ps_mix(key, 99), 0, 1, counts);
        CHECK(outcome.count <= own[one], "key %llu was told %llu and is said to have %llu", (unsigned long long)key, (unsigned long long)own[one],
              (unsigned long long)outcome.count);
    }
}

static void check_spray(unsigned threads, uint64_t events, uint64_t seed) {
    account a = {.records = open_records(4, 4), .events = events};
    run_workers(threads, seed, NULL, &a, spray_body);
    CHECK(ps_load_relaxed(&a.records->commons->evicted) > 0, "nothing had to go");
    close_records(a.records);
}

/* Threads ban, ask and lift; a ban that nobody lifts is at least as long as every thread said. */
static void ban_body(worker *w) {
    account *a = (account *)w->shared;
    ps_asked asked = {.records = a->records, .now = SECOND};
    for (uint64_t i = 0; i < a->events; i++) {
        uint64_t key = 1000 + draw_below(&w->random, KEYS), until = 2000 + draw_below(&w->random, 1000000);
        ps_ban after;
        CHECK(ps_ban_place(&asked, key, (ps_ban){until, 1, 3}, (const uint8_t *)"0123456789abcdef", &after), "no place for a ban");
        CHECK(after.until_ms >= until, "a ban until %llu ends at %llu", (unsigned long long)until, (unsigned long long)after.until_ms);
        CHECK(ps_ban_find(a->records, key).until_ms >= until, "a ban is gone");
        ps_ban_place(&asked, 5000 + w->number, (ps_ban){until, 1, 3}, NULL, &after);
        CHECK(ps_ban_lift(&asked, 5000 + w->number), "a ban cannot be lifted");
        CHECK(ps_ban_find(a->records, 5000 + w->number).until_ms <= 1000, "a ban that was lifted is in force");
    }
}

static void check_bans(unsigned threads, uint64_t events, uint64_t seed) {
    account a = {.records = open_records(4, 64), .events = events};
    run_workers(threads, seed, NULL, &a, ban_body);
    close_records(a.records);
}

/* Whatever stands in the tables, as where another process has scribbled: every call ends, and stays within them. */
static void check_scribbled(uint64_t events, uint64_t seed) {
    uint64_t random = seed * 2 + 1, counts[PS_RULES_MOST];
    for (unsigned round = 0; round < 20; round++) {
        ps_records *records = open_records(16, 16);
        uint64_t slots = ps_table_slots(records->table.homes) + ps_table_slots(records->bans.homes);
        for (uint64_t i = 0; i < events / 20; i++) {
            if (i % 8 == 0) {
                ps_pair *slot = &records->table.slots[draw_below(&random, slots)];
                uint64_t rule = draw_below(&random, 5) + 1;
                ps_store_relaxed(&slot->key, draw_below(&random, 4) ? (draw(&random) & ~UINT64_C(0xFF)) | rule : draw_below(&random, 3));
                ps_store_relaxed(&slot->state, draw(&random) & ~PS_TENTATIVE);
            }
            ps_asked asked = {.records = records, .now = draw(&random) >> (2 + draw_below(&random, 40))};
            uint64_t group = draw_below(&random, 40), number = draw_below(&random, RULES);
            ps_record_event(&asked, number, group, 0, 1 + draw_below(&random, 3), counts);
            ps_record_count(records, number, group, asked.now);
            ps_ban after;
            ps_ban_place(&asked, ps_record_key(0, group), (ps_ban){draw(&random) >> 30, 1, 1}, NULL, &after);
            ps_ban_lift(&asked, ps_record_key(0, draw_below(&random, 40)));
            ps_record_forget(&records->table, ps_record_key(number, draw_below(&random, 40)));
        }
        close_records(records);
    }
}

/* Words there and back, and what each kind says of them. */
static void check_steps(uint64_t events, uint64_t seed) {
    uint64_t random = seed * 2 + 1;
    for (uint64_t i = 0; i < events; i++) {
        uint64_t ms = draw(&random) >> (41 + draw_below(&random, 22)), back = ps_long(ps_short(ms));
        CHECK(back <= ms && ms - back <= ms / 256 + (ms >= (UINT64_C(511) << 14) ? ms : 0), "%llu ms are kept as %llu",
              (unsigned long long)ms, (unsigned long long)back);
        uint64_t third = 1 + draw_below(&random, 1000 * SECOND), now = draw(&random) >> 3;
        unsigned bits = ps_third_bits(third);
        CHECK(bits >= 8 && bits <= 16, "%u bits", bits);
        uint64_t word = ps_thirds_add(ps_thirds_at(0, bits, third, now), bits, 3);
        CHECK(ps_thirds_count(ps_thirds_at(word, bits, third, now), bits) == 3, "a count is gone at once");
        CHECK(ps_thirds_count(ps_thirds_at(word, bits, third, now + 2 * third), bits) == 3, "a count is gone too early");
        CHECK(ps_thirds_count(ps_thirds_at(word, bits, third, now + 3 * third), bits) == 0, "a count stays too long");
        CHECK(word < PS_QUIET, "a window's word has a bit that is not its own");
        double points = (double)(int64_t)draw_below(&random, 2001) - 1000, read = ps_score_at(ps_score_word(points, now >> 20), 60, now >> 20);
        CHECK(fabs(points - read) < 0.001, "%g points are read as %g", points, read);
        ps_ban ban = {draw(&random) >> 22, draw_below(&random, 64), draw_below(&random, 256)}, same = ps_ban_of(ps_ban_word(ban));
        CHECK(same.until_ms == ban.until_ms && same.offences == ban.offences && same.why == ban.why, "a ban is another");
        CHECK(ps_ban_word(ban) < PS_TENTATIVE, "a ban's word has the top bit");
    }
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 4);
    uint64_t events = argument_number(argc, argv, 2, 20000), seed = argument_number(argc, argv, 3, 1);
    check_steps(events, seed);
    check_scribbled(events, seed);
    check_totals(threads, events, seed);
    check_spray(threads, events, seed);
    check_bans(threads, events / 4, seed);
    report_meetings("records");
    return 0;
}
