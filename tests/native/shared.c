/* Limits that instances share: threads decide, one drives the exchange, and at the end every unit is accounted for:
 *
 *   admitted = told to Redis + on the way + not told yet + leased - given back - left of leases
 *
 * Batches are answered, said never to have come, or drained anew; answers are drawn at random. While this goes on no key
 * has more units on trust than the cap, and none is evicted that owes something. With units that are held and given back:
 *
 *   held = taken - given back = what the key's word says
 *
 * Arguments: threads, exchanges, seed. */
#include "testing.h"
#include "sync/exchange.h"

#define KEYS 40 /* on 145 slots of 100, but windows of 8: some are full at times */
#define LIMIT 1000
#define BATCH 16

typedef struct {
    ps_limiter *limiter;
    uint64_t exchanges;
    ps_word done, admitted[KEYS], clock;
    bool held;
    uint64_t told[KEYS], leased[KEYS], back[KEYS]; /* the driver's */
} fleet;

static uint64_t key_of(const fleet *f, uint64_t fingerprint) {
    for (uint64_t k = 0; k < KEYS; k++)
        if (key_number(f->limiter, (int64_t)k) == fingerprint)
            return k;
    FAIL("a batch tells of a key that nobody used");
}

static uint64_t tell(fleet *f) {
    uint64_t now = ps_add_relaxed(&f->clock, 1000);
    ps_raise(&f->limiter->latest_ns, now);
    return ps_load_acquire(&f->limiter->latest_ns);
}

static void check_caps(const fleet *f) {
    const ps_limit *limit = &f->limiter->limits[0];
    for (uint64_t index = 0; index < ps_table_slots(limit->table.homes); index++) {
        uint64_t word = ps_shared_at(limit, index);
        uint64_t open = ps_shared_open(&limit->policies[0], word, ps_tail(limit, index), ps_load_acquire(&f->limiter->latest_ns));
        CHECK(open <= LIMIT / 2, "%llu units are on trust, the cap is %d", (unsigned long long)open, LIMIT / 2);
    }
}

static void drive(fleet *f, uint64_t *random) {
    for (uint64_t i = 0; i < f->exchanges; i++) {
        ps_entry entries[BATCH];
        uint64_t sent = tell(f), count = ps_drain(f->limiter, 0, sent, draw_below(random, 3) > 0, 0, 0, entries, BATCH);
        bool lost = draw_below(random, 4) == 0, granted = draw_below(random, 4) > 0;
        for (uint64_t e = 0; e < count; e++) {
            uint64_t key = key_of(f, entries[e].fingerprint);
            if (lost) {
                ps_undrain(f->limiter, &entries[e]);
                continue;
            }
            ps_answer answer = {.a = (double)draw_below(random, LIMIT), .grant = draw_below(random, 20), .demand = 100.0};
            answer.b = (double)(entries[e].debt + (granted ? answer.grant : 0)); /* as Redis has it of held units */
            f->told[key] += entries[e].debt;
            f->back[key] += entries[e].back;
            f->leased[key] += granted ? answer.grant : 0;
            ps_settle(f->limiter, &entries[e], &answer, tell(f), sent, 0.0, granted);
        }
        check_caps(f);
    }
    ps_store_release(&f->done, 1);
}

/* Gives back a unit that somebody holds, if there is one. Ends: a failed exchange means that another thread gave one. */
static void give_back(fleet *f, worker *w, uint64_t key, uint64_t fingerprint) {
    uint64_t held = ps_load_relaxed(&f->admitted[key]);
    do {
        if (!held)
            return;
    } while (!ps_exchange_if_equal(&f->admitted[key], &held, held - 1));
    ps_change_all(f->limiter, fingerprint, 0, tell(f), 1, w->caller, PS_GIVE_BACK, true);
}

static void body(worker *w) {
    fleet *f = (fleet *)w->shared;
    if (w->number == 0)
        drive(f, &w->random);
    while (!ps_load_acquire(&f->done)) {
        uint64_t key = draw_below(&w->random, KEYS), fingerprint = key_number(f->limiter, (int64_t)key);
        if (ps_hit(f->limiter, fingerprint, 0, tell(f), 1, w->caller, 0))
            ps_add_relaxed(&f->admitted[key], 1);
        if (f->held && draw_below(&w->random, 3) == 0)
            give_back(f, w, key_of(f, fingerprint), fingerprint);
    }
}

static void play(uint32_t kind, unsigned threads, uint64_t exchanges, uint64_t seed) {
    ps_policy p = {.algorithm = PS_SHARED, .limit = LIMIT, .per_ns = 1000000000, .rate = LIMIT, .interval_ns = 50000000, .kappa = 1 << 15};
    p.kind = kind;
    if (kind == PS_SHARED_HELD)
        p.per_ns = UINT64_C(1) << 50; /* no lease ends: what is on trust then is not bounded by what was decided here */
    uint64_t words = PS_SHARED_TAIL_WORDS;
    fleet f = {.limiter = (ps_limiter *)calloc(1, sizeof(ps_limiter)), .exchanges = exchanges, .held = kind == PS_SHARED_HELD};
    CHECK(f.limiter && ps_limiter_open(f.limiter, 100, &words, 1, true), "no memory");
    f.limiter->tier_count = 1;
    f.limiter->evict = true;
    f.limiter->secret = (ps_secret){UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    ps_install(f.limiter, 0, &p);
    run_workers(threads, seed, f.limiter, &f, body);
    check_table(f.limiter);
    uint64_t most = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        const ps_limit *limit = &f.limiter->limits[0];
        uint64_t index, state, word = ps_settled(limit, key_number(f.limiter, (int64_t)k), &index, &state) ? state : 0;
        uint64_t due = f.told[k] + ps_shared_fly(word) + ps_shared_x(word) + f.leased[k] - f.back[k] - ps_shared_credit(word);
        uint64_t admitted = ps_load_relaxed(&f.admitted[k]);
        due = f.held ? ps_shared_x(word) : due;
        CHECK(admitted == due, "key %llu: %llu units were admitted, %llu are accounted for", (unsigned long long)k,
              (unsigned long long)admitted, (unsigned long long)due);
        most = admitted > most ? admitted : most;
    }
    CHECK(most > 0, "nothing was admitted");
    close_limiter(f.limiter);
}

int main(int argc, char **argv) {
    unsigned threads = (unsigned)argument_number(argc, argv, 1, 3);
    uint64_t exchanges = argument_number(argc, argv, 2, 20000), seed = argument_number(argc, argv, 3, 1);
    play(PS_SHARED_BUCKET, threads, exchanges, seed);
    play(PS_SHARED_HELD, threads, exchanges, seed);
    report_meetings("shared");
    return 0;
}
