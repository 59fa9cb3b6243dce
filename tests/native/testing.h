/* What the C tests share: checks, keys, limiters made as penstock/policy.py makes them, and threads that start at once.
 *
 * Include it before any header of ext/: it counts the exchanges of pairs, and how many failed, which is how a test
 * proves that its threads met. */
#ifndef PENSTOCK_TESTING_H
#define PENSTOCK_TESTING_H

#include "platform/atomics.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...) (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            FAIL(__VA_ARGS__);                                                                                         \
    } while (0)

/* xorshift64* (Vigna, 2016). The state must not be 0. */
static inline uint64_t draw(uint64_t *x) {
    *x ^= *x >> 12, *x ^= *x << 25, *x ^= *x >> 27;
    return *x * UINT64_C(0x2545f4914f6cdd1d);
}
/* 0 .. below - 1 */
static inline uint64_t draw_below(uint64_t *x, uint64_t below) { return (draw(x) >> 33) % below; }

#if !defined(PENSTOCK_MODEL)
#include <pthread.h>
#include <sched.h>

/* Of this thread: exchanges of pairs that were tried, that another thread had spoiled, and that took a slot from a key
 * established there. */
static _Thread_local uint64_t pairs_tried, pairs_failed, pairs_given_up;
/* Not 0: now and then this thread gives its turn away between reading a slot and exchanging it. */
static _Thread_local uint64_t shaken;

static inline bool counted_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
    if (shaken && draw_below(&shaken, 64) == 0)
        sched_yield();
    bool swapped = ps_pair_exchange(pair, key, state, new_key, new_state);
    pairs_tried++;
    pairs_failed += !swapped;
    pairs_given_up += swapped && key > 1 && key != new_key && !(state >> 63);
    return swapped;
}
#define ps_pair_exchange counted_pair_exchange
#endif

#include "limiter.h"

static inline uint64_t greatest_divisor(uint64_t a, uint64_t b) { return b ? greatest_divisor(b, a % b) : a; }

/* `rate` tokens per `per_ns`, at most `burst` at once; tag_bits as for one tier. */
static inline ps_policy make_bucket(uint64_t rate, uint64_t per_ns, uint64_t burst) {
    unsigned tag_shift = PS_STATE_BITS - 1;
    __extension__ unsigned __int128 wide = (unsigned __int128)burst * per_ns;
    uint64_t span_ns = (uint64_t)((wide + rate - 1) / rate);
    uint64_t most = (UINT64_C(1) << tag_shift) / (PS_HORIZON + 2 * span_ns + 2), exact = rate / greatest_divisor(rate, per_ns);
    most = most < 16 ? most : 16;
    wide = (unsigned __int128)per_ns * (exact < most ? exact : most) / rate;
    uint64_t token = (uint64_t)wide;
    return (ps_policy){
        .algorithm = PS_TOKEN_BUCKET,
        .limit = burst,
        .per_ns = per_ns,
        .ticks_per_ns = (uint64_t)((((unsigned __int128)token * rate) << PS_TICK_SHIFT) / per_ns),
        .token_ticks = token,
        .span_ticks = burst * token,
        .tag_shift = tag_shift,
    };
}

static inline ps_policy make_window(uint64_t limit, uint64_t per_ns, uint32_t resolution) {
    __extension__ unsigned __int128 epochs = (unsigned __int128)PS_HORIZON * resolution / per_ns + 2 * resolution + 8;
    unsigned epoch = ps_bits((uint64_t)epochs), age = ps_bits(resolution), need = ps_bits(limit);
    unsigned spare = PS_STATE_BITS - epoch - age - need, count = need + (spare / 2 < 16 ? spare / 2 : 16);
    return (ps_policy){
        .algorithm = PS_SLIDING_WINDOW,
        .limit = limit,
        .per_ns = per_ns,
        .resolution = resolution,
        .count_bits = count,
        .age_bits = age,
        .version_bits = PS_STATE_BITS - epoch - age - count,
        .per_inverse = UINT64_MAX / per_ns,
    };
}

static inline ps_policy make_log(uint64_t limit, uint64_t per_ns) {
    return (ps_policy){
        .algorithm = PS_SLIDING_LOG,
        .limit = limit,
        .per_ns = per_ns,
        .count_bits = ps_bits(limit) + 1,
        .ring = (uint32_t)limit,
    };
}

static inline ps_policy make_fixed(uint64_t limit, uint64_t per_ns, bool first_hit, uint64_t wall_ns) {
    return (ps_policy){
        .algorithm = PS_FIXED_WINDOW,
        .limit = limit,
        .per_ns = per_ns,
        .count_bits = PS_STATE_BITS - ps_bits(PS_HORIZON / per_ns + 3),
        .per_inverse = UINT64_MAX / per_ns,
        .grid_ns = first_hit ? 0 : wall_ns % per_ns,
        .first_hit = first_hit,
    };
}

static inline ps_policy make_concurrency(uint64_t limit) {
    return (ps_policy){.algorithm = PS_CONCURRENCY, .limit = limit};
}

static inline uint64_t tail_words_of(const ps_policy *p) {
    switch (p->algorithm) {
    case PS_SLIDING_WINDOW: return p->resolution;
    case PS_SLIDING_LOG: return p->ring + 1;
    default: return p->first_hit ? 2 : 0;
    }
}

static const char *const algorithm_names[] = {"token bucket", "sliding window", "sliding log", "fixed window", "concurrency"};

/* A limiter of one tier with these limits; close_limiter gives it back. */
static inline ps_limiter *open_limiter(uint64_t capacity, bool evict, const ps_policy *policies, unsigned count) {
    ps_limiter *limiter = (ps_limiter *)calloc(1, sizeof *limiter);
    uint64_t words[PS_LIMITS_MOST];
    for (unsigned i = 0; i < count; i++)
        words[i] = tail_words_of(&policies[i]);
    CHECK(limiter && ps_limiter_open(limiter, capacity, words, count, false), "no memory for %llu keys", (unsigned long long)capacity);
    for (unsigned i = 0; i < count; i++)
        limiter->limits[i].policies[0] = policies[i];
    limiter->evict = evict;
    limiter->tier_count = 1;
    limiter->secret = (ps_secret){UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    return limiter;
}

static inline void close_limiter(ps_limiter *limiter) {
    ps_limiter_close(limiter);
    free(limiter);
}

static inline uint64_t key_number(const ps_limiter *limiter, int64_t number) {
    return ps_fingerprint_int(&limiter->secret, number);
}

/* What counts against the key under limit `which`, in units; nobody else may be at work. */
static inline uint64_t units_counted(const ps_limiter *limiter, unsigned which, uint64_t fingerprint, uint64_t now) {
    const ps_limit *limit = &limiter->limits[which];
    uint64_t index = ps_table_find(&limit->table, fingerprint);
    if (index == PS_NO_SLOT)
        return 0;
    uint64_t state = ps_load_acquire(&limit->table.slots[index].state);
    CHECK(!ps_is_tentative(state), "a claim was left half done in slot %llu", (unsigned long long)index);
    const ps_policy *p = &limit->policies[ps_load_acquire(&limiter->current[0])];
    ps_view view;
    ps_describe(p, ps_word_as(limit, p, state, now), ps_tail(limit, index), now, 0, &view);
    return p->limit - view.remaining;
}

/* No key may have two slots of a limit, and none a slot outside its window. Nobody else may be at work. */
static inline void check_table(const ps_limiter *limiter) {
    for (unsigned which = 0; which < limiter->limit_count; which++) {
        const ps_table *table = &limiter->limits[which].table;
        uint64_t slots = ps_table_slots(table->homes);
        for (uint64_t i = 0; i < slots; i++) {
            uint64_t key = ps_load_acquire(&table->slots[i].key);
            if (key <= PS_SLOT_FREE)
                continue;
            CHECK(ps_table_find(table, key) == i, "key %016llx is in slot %llu and in slot %llu of limit %u",
                  (unsigned long long)key, (unsigned long long)ps_table_find(table, key), (unsigned long long)i, which);
        }
    }
}

/* The sum over all cells of the counter at `offset`. */
static inline uint64_t counter_sum(const ps_limiter *limiter, size_t offset) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < PS_CELLS; i++)
        sum += ps_load_relaxed((const ps_word *)(const void *)((const char *)&limiter->cells[i] + offset));
    return sum;
}

/* ---- threads ---- */

#if !defined(PENSTOCK_MODEL)
typedef struct {
    unsigned number; /* from 0 */
    uint64_t random;
    ps_caller caller;
    void *shared;
} worker;

#define WORKERS_MOST 64
static pthread_barrier_t workers_ready;
static void (*workers_body)(worker *);
static unsigned workers_count;
static ps_word workers_arrived; /* at meetings so far */
static ps_word pairs_tried_by_all, pairs_failed_by_all, pairs_given_up_by_all; /* by workers that have ended */

/* Waits for all workers; the last to come finds what the others wrote before. Spins, so that they start together. */
static inline void meet(void) {
    uint64_t seen = ps_load_acquire(&workers_arrived);
    while (!ps_exchange_if_equal(&workers_arrived, &seen, seen + 1)) {
    }
    for (unsigned spins = 0; ps_load_acquire(&workers_arrived) / workers_count == seen / workers_count; spins++)
        if (spins > 200)
            sched_yield();
}

static inline void *worker_main(void *argument) {
    worker *w = (worker *)argument;
    shaken = w->random | 1;
    pthread_barrier_wait(&workers_ready);
    workers_body(w);
    ps_add_relaxed(&pairs_tried_by_all, pairs_tried);
    ps_add_relaxed(&pairs_failed_by_all, pairs_failed);
    ps_add_relaxed(&pairs_given_up_by_all, pairs_given_up);
    return NULL;
}

/* The cell of a thread that holds `number`. */
static inline ps_caller caller_numbered(ps_limiter *limiter, unsigned number) {
    return (ps_caller){&limiter->cells[number < PS_CELL_SHARED ? number : PS_CELL_SHARED],
                       number < PS_CELL_SHARED ? number : PS_CELL_SHARED, false};
}

/* Runs `count` threads of `body` from one barrier to their ends. limiter may be NULL. */
static inline void run_workers(unsigned count, uint64_t seed, ps_limiter *limiter, void *shared, void (*body)(worker *)) {
    static worker workers[WORKERS_MOST];
    pthread_t threads[WORKERS_MOST];
    workers_body = body;
    workers_count = count;
    ps_store_relaxed(&workers_arrived, 0);
    CHECK(count && count <= WORKERS_MOST && pthread_barrier_init(&workers_ready, NULL, count) == 0, "cannot start %u threads", count);
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (worker){.number = i, .random = (seed + 1) * 2654435761u + i, .shared = shared};
        if (limiter)
            workers[i].caller = caller_numbered(limiter, i + 1);
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0, "cannot start thread %u", i);
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&workers_ready);
}

/* Says how often threads met, and fails if they never did: then nothing was tested. */
static inline void report_meetings(const char *what) {
    uint64_t tried = ps_load_relaxed(&pairs_tried_by_all), failed = ps_load_relaxed(&pairs_failed_by_all);
    printf("%s: %llu exchanges, %llu met another thread's\n", what, (unsigned long long)tried, (unsigned long long)failed);
    CHECK(failed > 0, "%s: no two threads met in %llu exchanges", what, (unsigned long long)tried);
}
#endif

/* The number in argument `place`, or `otherwise`. */
static inline uint64_t argument_number(int argc, char **argv, int place, uint64_t otherwise) {
    return argc > place ? strtoull(argv[place], NULL, 10) : otherwise;
}

#endif
