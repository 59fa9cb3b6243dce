/* What a decision costs from C, over the headers alone: 1,000 str keys in random order, clock and hash included,
 * beside an uncontended compare-exchange and a clock read. All are timed in turns; the least of ROUNDS is
 * printed, as one JSON object of nanoseconds.
 *
 *   cc -O3 -std=gnu11 -mcx16 -Iext benchmarks/native/decide.c -o decide && ./decide */
#include "limiter.h"
#include <stdio.h>
#include <stdlib.h>

#define KEYS 1000
#define STEPS 20000
#define ROUNDS 400
#define KEY_BYTES 32

static ps_clock clock_kept;
static ps_limiter plenty, spent; /* admits everything; refuses everything after the first */
static char keys[KEYS][KEY_BYTES];
static size_t lengths[KEYS];
static uint32_t order[STEPS];
static volatile uint64_t sink; /* keeps results alive */

static double monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint64_t pseudo_random(void) { /* xorshift64*, Vigna 2016 */
    static uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* A token bucket in ticks of 1 ns, as policy.py makes it when per / limit is a whole number of ns. */
static void open_limiter(ps_limiter *limiter, uint64_t limit, uint64_t token_ns) {
    uint64_t no_tail = 0;
    if (!ps_limiter_open(limiter, KEYS, &no_tail, 1, false))
        exit(1);
    limiter->evict = true;
    limiter->secret = (ps_secret){pseudo_random(), pseudo_random()};
    limiter->limits[0].policies[0] = (ps_policy){
        .algorithm = PS_TOKEN_BUCKET,
        .limit = limit,
        .per_ns = limit * token_ns,
        .ticks_per_ns = UINT64_C(1) << PS_TICK_SHIFT,
        .token_ticks = token_ns,
        .span_ticks = limit * token_ns,
        .tag_shift = PS_STATE_BITS - 1,
    };
}

static double none(void) {
    double start = monotonic_ns();
    uint64_t sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += (uint64_t)(uint8_t)keys[order[i]][0];
    sink = sum;
    return monotonic_ns() - start;
}

static double exchange(void) {
    static _Alignas(PS_CACHE_LINE) ps_word word;
    double start = monotonic_ns();
    for (int i = 0; i < STEPS; i++) {
        uint64_t seen = ps_load_relaxed(&word);
        ps_exchange_if_equal(&word, &seen, seen + 1);
    }
    return monotonic_ns() - start;
}

static double pair_exchange(void) {
    static _Alignas(PS_CACHE_LINE) ps_pair pair;
    double start = monotonic_ns();
    for (int i = 0; i < STEPS; i++) {
        uint64_t state = ps_load_relaxed(&pair.state);
        ps_pair_exchange(&pair, 0, state, 0, state + 1);
    }
    return monotonic_ns() - start;
}

static double system_clock(void) {
    double start = monotonic_ns(), sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += monotonic_ns();
    sink = (uint64_t)sum;
    return monotonic_ns() - start;
}

static double kept_clock(void) {
    double start = monotonic_ns();
    uint64_t sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += ps_clock_now(&clock_kept);
    sink = sum;
    return monotonic_ns() - start;
}

static double fingerprint(void) {
    double start = monotonic_ns();
    uint64_t sum = 0;
    for (int i = 0; i < STEPS; i++)
        sum += ps_fingerprint(&plenty.secret, PS_KEY_STR, keys[order[i]], lengths[order[i]]);
    sink = sum;
    return monotonic_ns() - start;
}

static uint64_t birth;

static double decide(ps_limiter *limiter) {
    ps_caller caller = {&limiter->cells[PS_CELL_GIL], PS_CELL_GIL, false};
    double start = monotonic_ns();
    uint64_t allowed = 0;
    for (int i = 0; i < STEPS; i++) {
        const char *key = keys[order[i]];
        uint64_t who = ps_fingerprint(&limiter->secret, PS_KEY_STR, key, lengths[order[i]]);
        allowed += ps_hit(limiter, who, 0, ps_clock_now(&clock_kept) - birth, 1, caller, NULL);
    }
    sink = allowed;
    return monotonic_ns() - start;
}

static double admitted(void) { return decide(&plenty); }
static double refused(void) { return decide(&spent); }

int main(void) {
    static const struct {
        const char *name;
        double (*loop)(void);
    } loops[] = {
        {"loop", none},
        {"exchange", exchange},
        {"pair_exchange", pair_exchange},
        {"system_clock", system_clock},
        {"kept_clock", kept_clock},
        {"fingerprint", fingerprint},
        {"admitted", admitted},
        {"refused", refused},
    };
    enum { LOOPS = sizeof loops / sizeof *loops };
    double least[LOOPS];

    for (int i = 0; i < KEYS; i++) {
        uint64_t r = pseudo_random();
        lengths[i] = (size_t)snprintf(keys[i], KEY_BYTES, "ip:203.%u.%u.%u", (unsigned)(r & 255), (unsigned)(r >> 8 & 255), (unsigned)i & 255);
    }
    for (int i = 0; i < STEPS; i++)
        order[i] = (uint32_t)(pseudo_random() % KEYS);
    if (!ps_thread_setup())
        return 1;
    birth = ps_clock_now(&clock_kept);
    open_limiter(&plenty, UINT64_C(10000000), UINT64_C(10000000000)); /* a key owes something for 10 s after each hit */
    open_limiter(&spent, 1, UINT64_C(3600000000000));
    for (int i = 0; i < 400; i++) { /* until the kept clock knows its scale */
        struct timespec pause = {0, 200000};
        nanosleep(&pause, NULL);
        (void)ps_clock_now(&clock_kept);
    }
    for (int round = 0; round <= ROUNDS; round++)
        for (int i = 0; i < LOOPS; i++) {
            double ns = loops[i].loop() / STEPS;
            if (round <= 1 || ns < least[i]) /* the first round warms up */
                least[i] = ns;
        }
    if (loops[LOOPS - 1].loop() < 0 || sink != 0) /* the last loop must have refused everything */
        return 2;
    for (int i = 0; i < LOOPS; i++)
        printf("%s\"%s\": %.2f", i ? ", " : "{", loops[i].name, least[i]);
    printf("}\n");
    ps_limiter_close(&plenty);
    ps_limiter_close(&spent);
    return 0;
}
