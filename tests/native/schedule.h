/* Words for atomics.h under a schedule of our own: each "thread" is a coroutine that can be held before any of its
 * operations on a shared word while others run. One order of all operations, that in which they run.
 *
 * This finds what needs one particular order of steps: a test names the order (hold_before), or draws many at random.
 * tests/model goes through all orders, and through weak memory, but for a handful of calls; here histories are long,
 * and time moves. */
#ifndef PENSTOCK_SCHEDULE_H
#define PENSTOCK_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

typedef struct {
    uint64_t value;
} ps_word;
typedef struct {
    _Alignas(16) ps_word key;
    ps_word state;
} ps_pair;

typedef enum { LOAD, STORE, EXCHANGE, ADD, PAIR, ANY } step_kind;

#define FIBERS_MOST 5
#define FIBER_STACK (256 * 1024)

typedef struct {
    ucontext_t context;
    void (*body)(unsigned);
    uint64_t steps; /* since it began */
    bool alive, held;
} fiber;

static fiber fibers[FIBERS_MOST];
static ucontext_t schedule_context;
static int running = -1;             /* the fiber at work; -1: code outside all fibers, which is never held */
static step_kind stop_kind;          /* the running fiber stops before the stop_count-th step of this kind */
static uint64_t stop_count;
static void (*on_pair)(uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state); /* after one that succeeded */
static bool schedule_trace;
_Alignas(64) static char fiber_stacks[FIBERS_MOST][FIBER_STACK];

static inline void step(step_kind kind) {
    if (running < 0)
        return;
    if ((stop_kind == ANY || stop_kind == kind) && --stop_count == 0)
        swapcontext(&fibers[running].context, &schedule_context);
    fibers[running].steps++;
}

static inline void step_note(const char *what, const void *word, uint64_t from, uint64_t to, bool done) {
    if (schedule_trace && running >= 0)
        printf("  %d %-8s %p %016llx -> %016llx%s\n", running, what, word, (unsigned long long)from, (unsigned long long)to,
               done ? "" : " failed");
}

static inline uint64_t ps_load_relaxed(const ps_word *word) {
    step(LOAD);
    return word->value;
}
static inline uint64_t ps_load_acquire(const ps_word *word) { return ps_load_relaxed(word); }
static inline uint64_t ps_load_seq(const ps_word *word) { return ps_load_relaxed(word); }
static inline void ps_store_relaxed(ps_word *word, uint64_t value) {
    step(STORE);
    word->value = value;
}
static inline void ps_store_release(ps_word *word, uint64_t value) { ps_store_relaxed(word, value); }
static inline void ps_store_seq(ps_word *word, uint64_t value) { ps_store_relaxed(word, value); }
static inline bool ps_exchange_if_equal(ps_word *word, uint64_t *expected, uint64_t desired) {
    step(EXCHANGE);
    bool done = word->value == *expected;
    step_note("exchange", word, *expected, desired, done);
    if (done)
        word->value = desired;
    else
        *expected = word->value;
    return done;
}
static inline uint64_t ps_add_relaxed(ps_word *word, uint64_t amount) {
    step(ADD);
    word->value += amount;
    return word->value - amount;
}
static inline uint64_t ps_add_seq(ps_word *word, uint64_t amount) {
    step(ADD);
    word->value += amount;
    return word->value - amount;
}
static inline bool ps_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
    step(PAIR);
    bool done = pair->key.value == key && pair->state.value == state;
    step_note("pair key", pair, key, new_key, done);
    step_note("   state", &pair->state, state, new_state, done);
    if (done) {
        pair->key.value = new_key;
        pair->state.value = new_state;
        if (on_pair)
            on_pair(key, state, new_key, new_state);
    }
    return done;
}

static void fiber_main(int number) {
    fibers[number].body((unsigned)number);
    fibers[number].alive = false;
    running = -1;
    swapcontext(&fibers[number].context, &schedule_context);
}

/* Makes a fiber; it does nothing yet. */
static inline void fiber_begin(unsigned number, void (*body)(unsigned)) {
    fiber *f = &fibers[number];
    f->body = body;
    f->steps = 0;
    f->alive = true;
    f->held = false;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = fiber_stacks[number];
    f->context.uc_stack.ss_size = FIBER_STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, (void (*)(void))fiber_main, 1, (int)number);
}

/* Runs the fiber until just before its count-th next step of this kind; false when it ended first. */
static inline bool hold_before(unsigned number, step_kind kind, uint64_t count) {
    if (!fibers[number].alive)
        return false;
    /* The step before which it is held now has been counted already: begin after it. */
    running = (int)number;
    stop_kind = kind;
    stop_count = count;
    swapcontext(&schedule_context, &fibers[number].context);
    running = -1;
    return fibers[number].alive;
}

/* Runs the fiber to its end. */
static inline void finish(unsigned number) { hold_before(number, ANY, UINT64_MAX); }

#endif
