/* Does the explorer explore? Programs whose outcomes are known: from the literature for C11, by arithmetic for counts. */
#include "explore.h"
#include <stdio.h>
#include <string.h>

#include "platform/atomics.h"

static ps_pair words[4];
#define X (&words[0].key)
#define Y (&words[1].key)
#define PAIR (&words[2])

static bool met[256];     /* the outcomes: read values as digits to base 4 */
static void nothing(void) {}

static void note(void) {
    unsigned outcome = 0;
    for (unsigned call = 0; call < 4; call++) {
        uint64_t result;
        if (!model_call_done(call, &result))
            result = 0;
        outcome = outcome * 4 + (unsigned)(result & 3);
    }
    met[outcome] = true;
}

/* Store buffering: both read 0 unless the loads may not overtake the exchanges. */
static void store_buffering(unsigned thread, bool seq) {
    ps_pair *mine = &words[thread], *other = &words[1 - thread];
    model_call_begin(thread);
    ps_pair_exchange(mine, 0, 0, 1, 0);
    model_call_end(seq ? ps_load_seq(&other->key) : ps_load_acquire(&other->key));
}
static void sb_seq(unsigned thread) { store_buffering(thread, true); }
static void sb_acquire(unsigned thread) { store_buffering(thread, false); }

/* Message passing: who sees the flag sees the data. */
static void message(unsigned thread, bool release, bool acquire) {
    model_call_begin(thread);
    if (thread == 0) {
        ps_store_relaxed(X, 1);
        if (release)
            ps_store_release(Y, 1);
        else
            ps_store_relaxed(Y, 1);
        model_call_end(0);
    } else {
        uint64_t flag = acquire ? ps_load_acquire(Y) : ps_load_relaxed(Y);
        uint64_t data = ps_load_relaxed(X);
        model_call_end(flag << 1 | data);
    }
}
static void mp(unsigned thread) { message(thread, true, true); }
static void mp_relaxed_store(unsigned thread) { message(thread, false, true); }
static void mp_relaxed_load(unsigned thread) { message(thread, true, false); }

/* A reader of one word never sees it go back. */
static void coherence(unsigned thread) {
    model_call_begin(thread);
    if (thread == 0) {
        ps_store_relaxed(X, 1);
        model_call_end(0);
    } else {
        uint64_t first = ps_load_relaxed(X), second = ps_load_relaxed(X);
        model_call_end(first << 1 | second);
    }
}

/* Two additions of one thread each: none is lost, by exchange or by addition; two stores may lose one. */
static void count_exchange(unsigned thread) {
    model_call_begin(thread);
    uint64_t seen = ps_load_relaxed(X);
    while (!ps_exchange_if_equal(X, &seen, seen + 1)) {
    }
    model_call_end(0);
}
static void count_add(unsigned thread) {
    model_call_begin(thread);
    ps_add_relaxed(X, 1);
    model_call_end(0);
}
static void count_store(unsigned thread) {
    model_call_begin(thread);
    ps_store_relaxed(X, ps_load_relaxed(X) + 1);
    model_call_end(0);
}
static void note_count(void) { met[ps_load_relaxed(X)] = true; }

/* A pair's halves are two loads: in order when the first acquires, and torn between exchanges. */
static void pair_halves(unsigned thread) {
    model_call_begin(thread);
    if (thread == 0) {
        ps_pair_exchange(PAIR, 0, 0, 1, 1);
        model_call_end(0);
    } else {
        uint64_t key = ps_load_acquire(&PAIR->key), state = ps_load_relaxed(&PAIR->state);
        model_call_end(key << 1 | state);
    }
}
static void pair_halves_relaxed(unsigned thread) {
    model_call_begin(thread);
    if (thread == 0) {
        ps_pair_exchange(PAIR, 0, 0, 1, 1);
        model_call_end(0);
    } else {
        uint64_t key = ps_load_relaxed(&PAIR->key), state = ps_load_relaxed(&PAIR->state);
        model_call_end(key << 1 | state);
    }
}

/* Three steps each, nothing shared between them: the orders are a multinomial. */
static void three_steps(unsigned thread) {
    model_call_begin(thread);
    for (int i = 0; i < 3; i++)
        ps_load_relaxed(thread == 0 ? X : Y);
    model_call_end(0);
}

/* Waits for the other thread: must be reported when that one may be stopped. */
static void waits(unsigned thread) {
    model_call_begin(thread);
    if (thread == 0) {
        ps_pair_exchange(PAIR, 0, 0, 1, 0);
        ps_pair_exchange(PAIR, 1, 0, 0, 0);
    } else {
        while (ps_load_seq(&PAIR->key) == 1) {
        }
    }
    model_call_end(0);
}

static unsigned outcome(uint64_t first, uint64_t second) { return (unsigned)(first * 64 + second * 16); }

/* After a run: is the outcome (result of call 0, result of call 1) met exactly when it should be? */
static int expect(const char *name, unsigned which, bool wanted) {
    printf("%s: %s\n", name, met[which] == wanted ? "as it should be" : wanted ? "NOT MET" : "MET, must not be");
    return met[which] != wanted;
}

int main(int count, char **arguments) {
    const char *name = count > 1 ? arguments[1] : "";
    bool weak = count > 2 && !strcmp(arguments[2], "c11");
    model m = {.threads = 2, .weak = weak, .steps_most = 40, .written = nothing, .ended = note};
    model_size size;
    int wrong = 0;
    for (unsigned i = 0; i < 4; i++)
        model_share(&words[i].key, 2, 2, i == 0 ? "x%u.%u" : i == 1 ? "y%u.%u" : i == 2 ? "pair%u.%u" : "z%u.%u");

    if (!strcmp(name, "sb-seq")) {
        m.body = sb_seq;
        model_explore(&m, &size);
        wrong += expect("both read 0", outcome(0, 0), false) + expect("both read 1", outcome(1, 1), true);
    } else if (!strcmp(name, "sb-acquire")) {
        m.body = sb_acquire;
        model_explore(&m, &size);
        wrong += expect("both read 0", outcome(0, 0), weak);
    } else if (!strcmp(name, "mp")) {
        m.body = mp;
        model_explore(&m, &size);
        wrong += expect("flag without data", outcome(0, 2), false) + expect("both", outcome(0, 3), true);
    } else if (!strcmp(name, "mp-relaxed-store")) {
        m.body = mp_relaxed_store;
        model_explore(&m, &size);
        wrong += expect("flag without data", outcome(0, 2), weak);
    } else if (!strcmp(name, "mp-relaxed-load")) {
        m.body = mp_relaxed_load;
        model_explore(&m, &size);
        wrong += expect("flag without data", outcome(0, 2), weak);
    } else if (!strcmp(name, "coherence")) {
        m.body = coherence;
        model_explore(&m, &size);
        wrong += expect("new, then old", outcome(0, 2), false) + expect("old, then new", outcome(0, 1), true);
    } else if (!strncmp(name, "count-", 6)) {
        bool stores = !strcmp(name, "count-store");
        m.body = stores ? count_store : !strcmp(name, "count-add") ? count_add : count_exchange;
        m.threads = 3;
        m.ended = note_count;
        model_explore(&m, &size);
        wrong += expect("all three counted", 3, true) + expect("one lost", 2, stores);
    } else if (!strcmp(name, "pair")) {
        m.body = pair_halves;
        model_explore(&m, &size);
        wrong += expect("new key, old state", outcome(0, 2), false) + expect("old key, new state", outcome(0, 1), true);
    } else if (!strcmp(name, "pair-relaxed")) {
        m.body = pair_halves_relaxed;
        model_explore(&m, &size);
        wrong += expect("new key, old state", outcome(0, 2), weak);
    } else if (!strcmp(name, "orders")) {
        m.body = three_steps;
        m.threads = 3;
        model_explore(&m, &size);
        wrong += size.executions != 1680; /* 9! / 3!^3 */
        printf("%.0f orders, %llu states\n", size.executions, (unsigned long long)size.states);
        wrong += size.states >= 1680 / 4; /* 4 * 4 * 4, and more where a stack remembers what its code does not */
    } else if (!strcmp(name, "waits")) {
        m.body = waits;
        m.stops = 1;
        model_explore(&m, &size); /* exits with status 1 */
        wrong = 0;
    } else {
        printf("unknown: %s\n", name);
        return 2;
    }
    return wrong ? 1 : 0;
}
