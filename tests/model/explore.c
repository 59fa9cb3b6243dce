/* The explorer: coroutines, the two memory models, depth-first search over what explore.h promises. */
#include "explore.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define WORDS_MOST 64
#define VALUES_MOST 96 /* of one word on one path */
#define DEPTH_MOST 2048
#define STACK_BYTES 65536
#define STACK_SAVED_MOST 8192 /* of it in use at a step */
#define JOURNAL_MOST 8192

typedef enum { OP_LOAD, OP_STORE, OP_EXCHANGE, OP_ADD, OP_PAIR } op_kind;

typedef struct {
    op_kind kind;
    model_order order;
    uint8_t word; /* of a pair, its key; the state is the next */
    uint64_t expected, desired, expected_state, desired_state;
} request;

typedef enum { LIVE, FINISHED, STOPPED } thread_status;

typedef struct {
    jmp_buf resume;
    char *low; /* the stack is in use from here on */
    request pending;
    uint64_t result, seen; /* of the step just done: what it returns, what it read */
    uint64_t code[2];      /* hash of its stack and registers: all that its code can know and do */
    uint64_t own;          /* hash of its own words */
    uint32_t steps, wins;  /* in this call */
    uint32_t calls_done;
    uint8_t call, status;
    bool calling, begun;
    uint8_t view[WORDS_MOST];
} thread;

/* All that a step changes, but for stacks, the values behind `count`, and own words (see the journal). */
typedef struct {
    thread threads[MODEL_THREADS_MOST];
    uint8_t count[WORDS_MOST]; /* values so far */
    uint8_t seq[WORDS_MOST];   /* the last value that a seq_cst operation read or wrote */
    uint32_t begun, done, after[MODEL_CALLS_MOST];
    uint64_t results[MODEL_CALLS_MOST];
    uint32_t journal;
    uint8_t stopped;
} world;

static world now;
static uint64_t values[WORDS_MOST][VALUES_MOST];
static uint8_t views[WORDS_MOST][VALUES_MOST][WORDS_MOST]; /* what whoever acquires the value has seen */

static const model *running;
static model_size *size;
static enum { BEFORE, EXPLORING, CHECKING } phase;
static int current = -1;
static jmp_buf explorer;
static ucontext_t explorer_context, thread_contexts[MODEL_THREADS_MOST];
static char stacks[MODEL_THREADS_MOST][STACK_BYTES] __attribute__((aligned(64)));

/* ---- which words are shared, which a thread's own ---- */

static struct {
    ps_word *first;
    unsigned count, base, width;
    const char *name;
} ranges[16];
static unsigned range_count, word_count;

static struct {
    const char *first;
    uint64_t bytes;
    unsigned thread;
} owned[MODEL_THREADS_MOST];
static unsigned owned_count;

void model_share(ps_word *first, unsigned count, unsigned width, const char *name) {
    if (word_count + count > WORDS_MOST || range_count == sizeof ranges / sizeof *ranges)
        model_fail("too many shared words: raise WORDS_MOST");
    ranges[range_count].first = first;
    ranges[range_count].count = count;
    ranges[range_count].base = word_count;
    ranges[range_count].width = width;
    ranges[range_count++].name = name;
    for (unsigned i = 0; i < count; i++, word_count++) {
        values[word_count][0] = first[i].value;
        now.count[word_count] = 1;
    }
}

void model_own(unsigned thread, const void *first, uint64_t bytes) {
    owned[owned_count].first = (const char *)first;
    owned[owned_count].bytes = bytes;
    owned[owned_count++].thread = thread;
}

static int shared_index(const ps_word *word) {
    for (unsigned r = 0; r < range_count; r++)
        if (word >= ranges[r].first && word < ranges[r].first + ranges[r].count)
            return (int)(ranges[r].base + (unsigned)(word - ranges[r].first));
    return -1;
}

/* The owner of a word that is not shared, or -1. */
static int owner(const ps_word *word) {
    for (unsigned i = 0; i < owned_count; i++)
        if ((uint64_t)((const char *)word - owned[i].first) < owned[i].bytes)
            return (int)owned[i].thread;
    return -1;
}

static void print_word(unsigned index) {
    for (unsigned r = 0; r < range_count; r++)
        if (index >= ranges[r].base && index < ranges[r].base + ranges[r].count)
            printf(ranges[r].name, (index - ranges[r].base) / ranges[r].width, (index - ranges[r].base) % ranges[r].width);
}

/* ---- hashes ---- */

static uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) * (b ^ UINT64_C(0xd1b54a32d192ed03));
    uint64_t h = (uint64_t)product ^ (uint64_t)(product >> 64);
    return h ^ a << 23 ^ b << 47 ^ h >> 29;
}

static void absorb(uint64_t hash[2], uint64_t value) {
    hash[0] = mix(hash[0] + UINT64_C(0xa0761d6478bd642f), value);
    hash[1] = mix(hash[1] ^ UINT64_C(0xe7037ed1a0b428db), value + UINT64_C(0x8ebc6af09c88c6e3));
}

/* ---- the trace, for a failure ---- */

typedef struct {
    uint8_t thread, word, call;
    op_kind kind;
    bool stop, stale;
    uint64_t read, read_state, written, written_state;
    bool success;
} trace_step;

static trace_step trace[DEPTH_MOST];
static unsigned depth;

static void print_trace(void) {
    for (unsigned i = 0; i < depth; i++) {
        const trace_step *s = &trace[i];
        printf("%4u  thread %u call %u  ", i, s->thread, s->call);
        if (s->stop) {
            printf("is stopped for ever\n");
            continue;
        }
        print_word(s->word);
        switch (s->kind) {
        case OP_LOAD: printf(" reads %#llx%s", (unsigned long long)s->read, s->stale ? " (stale)" : ""); break;
        case OP_STORE: printf(" := %#llx", (unsigned long long)s->written); break;
        case OP_ADD: printf(" += to %#llx", (unsigned long long)s->written); break;
        case OP_EXCHANGE:
            printf(s->success ? " %#llx -> %#llx" : " is %#llx, not exchanged for %#llx%s", (unsigned long long)s->read,
                   (unsigned long long)s->written, s->stale ? " (stale)" : "");
            break;
        case OP_PAIR:
            printf(s->success ? " {%llu, %#llx} -> {%llu, %#llx}" : " is {%llu, %#llx}, not exchanged for {%llu, %#llx}",
                   (unsigned long long)s->read, (unsigned long long)s->read_state, (unsigned long long)s->written,
                   (unsigned long long)s->written_state);
            break;
        }
        printf("\n");
    }
}

void model_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("violated: ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_trace();
    if (phase != BEFORE) {
        printf("words at the end:\n");
        for (unsigned i = 0; i < word_count; i++) {
            printf("      ");
            print_word(i);
            printf(" = %#llx\n", (unsigned long long)values[i][now.count[i] - 1]);
        }
    }
    fflush(stdout);
    _Exit(1);
}

/* ---- coroutines ---- */

/* An address below everything that the caller's frame holds. */
static __attribute__((noinline)) char *stack_mark(void) { return (char *)__builtin_frame_address(0); }

/* In a thread: hands the operation to the explorer, and comes back when it has been done. */
static __attribute__((noinline)) void hand_over(const request *r) {
    thread *t = &now.threads[current];
    t->pending = *r;
    t->low = stack_mark();
    if (_setjmp(t->resume) == 0)
        _longjmp(explorer, 1);
}

static void thread_main(void) {
    running->body((unsigned)current);
    now.threads[current].status = FINISHED;
    _longjmp(explorer, 1);
}

/* What is dead on the stack is hashed too: it may tell states apart that are one, and never takes two for one. */
static void note_code(thread *t, const char *stack) {
    t->code[0] = t->code[1] = 0;
    for (const char *at = t->low; at < stack + STACK_BYTES; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        absorb(t->code, word);
    }
    for (unsigned i = 0; i < sizeof t->resume[0].__jmpbuf / sizeof(uint64_t); i++)
        absorb(t->code, (uint64_t)t->resume[0].__jmpbuf[i]);
}

/* Runs thread t up to its next step or its end. */
static __attribute__((noinline)) void run_thread(int t, bool first) {
    current = t;
    if (_setjmp(explorer) == 0) {
        if (first)
            swapcontext(&explorer_context, &thread_contexts[t]);
        else
            _longjmp(now.threads[t].resume, 1);
    }
    current = -1;
    note_code(&now.threads[t], stacks[t]);
}

/* ---- own words: written in place, undone from a journal ---- */

static struct {
    ps_word *word;
    uint64_t was;
} journal[JOURNAL_MOST];

static void write_own(ps_word *word, uint64_t value) {
    if (phase == EXPLORING) {
        if (current != owner(word))
            model_fail("thread %d writes a word that is neither shared nor its own", current);
        uint64_t address = (uint64_t)(uintptr_t)word;
        now.threads[current].own ^= mix(address, word->value) ^ mix(address, value);
    }
    if (phase != BEFORE) {
        if (now.journal == JOURNAL_MOST)
            model_fail("the journal is full: raise JOURNAL_MOST");
        journal[now.journal].word = word;
        journal[now.journal++].was = word->value;
    }
    word->value = value;
}

static uint64_t read_own(const ps_word *word) {
    int whose = owner(word); /* words that are nobody's are constants: write_own lets no thread write them */
    if (phase == EXPLORING && whose >= 0 && whose != current)
        model_fail("thread %d reads thread %d's own word", current, whose);
    return word->value;
}

/* ---- the operations of words.h, from within a thread or directly ---- */

/* Outside threads there is one order: reads are of the latest value, writes follow it. */
static uint64_t *latest(int word) { return &values[word][now.count[word] - 1]; }

static void append(int word, uint64_t value) {
    if (now.count[word] == VALUES_MOST)
        model_fail("a word was written more than %d times: raise VALUES_MOST", VALUES_MOST);
    values[word][now.count[word]] = value;
    memset(views[word][now.count[word]], 0, word_count);
    now.count[word]++;
}

/* From outside all threads: known to every one of them at once. */
static void write_directly(int word, uint64_t value) {
    if (phase == BEFORE) {
        *latest(word) = value;
        return;
    }
    append(word, value);
    for (unsigned t = 0; t < running->threads; t++)
        now.threads[t].view[word] = (uint8_t)(now.count[word] - 1);
}

uint64_t model_load(const ps_word *word, model_order order) {
    int index = shared_index(word);
    if (index < 0)
        return read_own(word);
    if (phase != EXPLORING)
        return *latest(index);
    request r = {.kind = OP_LOAD, .order = order, .word = (uint8_t)index};
    hand_over(&r);
    return now.threads[current].result;
}

void model_store(ps_word *word, uint64_t value, model_order order) {
    int index = shared_index(word);
    if (index < 0) {
        write_own(word, value);
    } else if (phase != EXPLORING) {
        write_directly(index, value);
    } else {
        request r = {.kind = OP_STORE, .order = order, .word = (uint8_t)index, .desired = value};
        hand_over(&r);
    }
}

bool model_exchange(ps_word *word, uint64_t *expected, uint64_t desired, model_order success) {
    int index = shared_index(word);
    uint64_t seen;
    bool swapped;
    if (index >= 0 && phase == EXPLORING) {
        request r = {.kind = OP_EXCHANGE, .order = success, .word = (uint8_t)index, .expected = *expected, .desired = desired};
        hand_over(&r);
        swapped = now.threads[current].result != 0;
        *expected = now.threads[current].seen;
        return swapped;
    }
    seen = index < 0 ? read_own(word) : *latest(index);
    swapped = seen == *expected;
    if (swapped && index < 0)
        write_own(word, desired);
    else if (swapped)
        write_directly(index, desired);
    *expected = seen;
    return swapped;
}

uint64_t model_add(ps_word *word, uint64_t amount, model_order order) {
    int index = shared_index(word);
    if (index >= 0 && phase == EXPLORING) {
        request r = {.kind = OP_ADD, .order = order, .word = (uint8_t)index, .desired = amount};
        hand_over(&r);
        return now.threads[current].result;
    }
    uint64_t was = index < 0 ? read_own(word) : *latest(index);
    if (index < 0)
        write_own(word, was + amount);
    else
        write_directly(index, was + amount);
    return was;
}

bool model_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state,
                         model_order success) {
    int index = shared_index(&pair->key);
    if (index < 0 && phase != BEFORE)
        model_fail("a pair outside the shared words is exchanged");
    if (index < 0) {
        if (pair->key.value != key || pair->state.value != state)
            return false;
        pair->key.value = new_key;
        pair->state.value = new_state;
        return true;
    }
    if (phase == EXPLORING) {
        request r = {.kind = OP_PAIR, .order = success, .word = (uint8_t)index, .expected = key, .desired = new_key,
                     .expected_state = state, .desired_state = new_state};
        hand_over(&r);
        return now.threads[current].result != 0;
    }
    if (*latest(index) != key || *latest(index + 1) != state)
        return false;
    write_directly(index, new_key);
    write_directly(index + 1, new_state);
    return true;
}

/* ---- calls ---- */

void model_call_begin(unsigned call) {
    thread *t = &now.threads[current];
    if (call >= MODEL_CALLS_MOST)
        model_fail("call %u: raise MODEL_CALLS_MOST", call);
    t->call = (uint8_t)call;
    t->calling = true;
    t->begun = false;
    t->steps = t->wins = 0;
}

void model_call_end(uint64_t result) {
    thread *t = &now.threads[current];
    t->calling = false;
    now.results[t->call] = result;
    now.done |= 1u << t->call;
    t->calls_done |= 1u << t->call;
}

bool model_call_begun(unsigned call) { return now.begun >> call & 1; }

bool model_call_done(unsigned call, uint64_t *result) {
    *result = now.results[call];
    return now.done >> call & 1;
}

uint32_t model_call_after(unsigned call) { return now.after[call]; }

unsigned model_stopped(void) { return (unsigned)__builtin_popcount(now.stopped); }

/* ---- one step ---- */

static bool acquires(model_order order) { return order == MODEL_ACQUIRE || order == MODEL_ACQ_REL || order == MODEL_SEQ; }
static bool releases(model_order order) { return order == MODEL_RELEASE || order == MODEL_ACQ_REL || order == MODEL_SEQ; }

static void join(uint8_t *view, const uint8_t *other) {
    for (unsigned i = 0; i < word_count; i++)
        if (other[i] > view[i])
            view[i] = other[i];
}

/* Thread t has read value `i` of the word. */
static void note_read(thread *t, unsigned word, unsigned i, model_order order) {
    if (!running->weak)
        return;
    if (i > t->view[word])
        t->view[word] = (uint8_t)i;
    if (acquires(order))
        join(t->view, views[word][i]);
    if (order == MODEL_SEQ && i > now.seq[word])
        now.seq[word] = (uint8_t)i;
}

/* Appends a value; an exchange or addition carries on what the value before it released. */
static void note_write(thread *t, unsigned word, uint64_t value, model_order order, bool read_too) {
    append((int)word, value);
    unsigned i = now.count[word] - 1u;
    if (!running->weak)
        return;
    t->view[word] = (uint8_t)i;
    uint8_t *view = views[word][i];
    if (releases(order))
        join(view, t->view);
    if (read_too)
        join(view, views[word][i - 1]);
    if (view[word] < i)
        view[word] = (uint8_t)i;
    if (order == MODEL_SEQ)
        now.seq[word] = (uint8_t)i;
}

/* The values that a step may read, newest first: choice 0 is the latest. */
static unsigned oldest_readable(const thread *t, const request *r) {
    if (!running->weak || r->kind == OP_STORE || r->kind == OP_ADD || r->kind == OP_PAIR)
        return now.count[r->word] - 1u;
    unsigned oldest = t->view[r->word];
    if (r->order == MODEL_SEQ && now.seq[r->word] > oldest)
        oldest = now.seq[r->word];
    return oldest;
}

/* Does the pending step of t, reading value `i`; false when it cannot read that one. */
static bool do_step(thread *t, unsigned i) {
    const request r = t->pending;
    unsigned last = now.count[r.word] - 1u;
    uint64_t read = values[r.word][i], read_state = 0;
    bool wrote = false;
    if (r.kind == OP_EXCHANGE && i != last && read == r.expected)
        return false; /* a strong exchange fails only when it read something else */
    if (t->calling && !t->begun) {
        t->begun = true;
        now.begun |= 1u << t->call;
        now.after[t->call] = running->weak ? t->calls_done : now.done;
        if (running->begins) {
            phase = CHECKING;
            running->begins(t->call);
            phase = EXPLORING;
        }
    }
    t->result = read;
    t->seen = read;
    uint64_t written = r.desired;
    switch (r.kind) {
    case OP_LOAD:
        note_read(t, r.word, i, r.order);
        break;
    case OP_STORE:
        note_write(t, r.word, r.desired, r.order, false);
        wrote = true;
        break;
    case OP_ADD:
        note_read(t, r.word, i, r.order);
        written = read + r.desired;
        note_write(t, r.word, written, r.order, true);
        wrote = true;
        break;
    case OP_EXCHANGE:
        wrote = i == last && read == r.expected;
        note_read(t, r.word, i, wrote || r.order == MODEL_RELAXED ? r.order : MODEL_ACQUIRE);
        if (wrote)
            note_write(t, r.word, r.desired, r.order, true);
        t->result = wrote;
        break;
    case OP_PAIR:
        read_state = values[r.word + 1][i];
        wrote = read == r.expected && read_state == r.expected_state;
        note_read(t, r.word, i, r.order);
        note_read(t, r.word + 1u, i, r.order);
        if (wrote) { /* both words first, so that each carries a view of both */
            if (running->weak) {
                t->view[r.word] = t->view[r.word + 1] = (uint8_t)(i + 1);
            }
            note_write(t, r.word, r.desired, r.order, true);
            note_write(t, r.word + 1u, r.desired_state, r.order, true);
            t->wins++;
        }
        t->result = wrote;
        break;
    }
    trace[depth++] = (trace_step){.thread = (uint8_t)(t - now.threads), .word = r.word, .call = t->call, .kind = r.kind,
                                  .stale = i != last, .read = read, .read_state = read_state, .written = written,
                                  .written_state = r.desired_state, .success = wrote};
    if (depth > size->depth)
        size->depth = depth;
    if (depth == DEPTH_MOST)
        model_fail("a path of %d steps: raise DEPTH_MOST, or something does not end", DEPTH_MOST);
    size->steps++;
    if (++t->steps > running->steps_most)
        model_fail("call %u of thread %u does not end within %u steps", t->call, (unsigned)(t - now.threads), running->steps_most);
    if (wrote && running->written) {
        phase = CHECKING;
        running->written();
        phase = EXPLORING;
    }
    run_thread((int)(t - now.threads), false);
    return true;
}

/* ---- states met ---- */

typedef struct {
    uint64_t hash[2];
    double executions;
} state;

static state *states;
static uint64_t states_room;

static state *find_state(const uint64_t hash[2]) {
    uint64_t i = hash[0] & (states_room - 1);
    while ((states[i].hash[0] || states[i].hash[1]) && (states[i].hash[0] != hash[0] || states[i].hash[1] != hash[1]))
        i = (i + 1) & (states_room - 1);
    return &states[i];
}

static void add_state(const uint64_t hash[2], double executions) {
    if (size->states * 2 >= states_room) {
        state *old = states;
        uint64_t old_room = states_room;
        states_room = states_room ? states_room * 2 : 1 << 16;
        states = (state *)calloc(states_room, sizeof *states);
        if (!states)
            model_fail("no memory for %llu states", (unsigned long long)states_room);
        for (uint64_t i = 0; i < old_room; i++)
            if (old[i].hash[0] || old[i].hash[1])
                *find_state(old[i].hash) = old[i];
        free(old);
    }
    state *place = find_state(hash);
    place->hash[0] = hash[0];
    place->hash[1] = hash[1];
    place->executions = executions;
    size->states++;
}

/* Values that nobody alive can read any more are no part of the state, and views are told from the oldest that
 * somebody can. */
static void hash_world(uint64_t hash[2]) {
    uint8_t base[WORDS_MOST];
    hash[0] = hash[1] = 1;
    for (unsigned w = 0; w < word_count; w++) {
        base[w] = (uint8_t)(now.count[w] - 1);
        for (unsigned t = 0; running->weak && t < running->threads; t++)
            if (now.threads[t].status == LIVE && now.threads[t].view[w] < base[w])
                base[w] = now.threads[t].view[w];
    }
    for (unsigned w = 0; w < word_count; w++) {
        for (unsigned i = base[w]; i < now.count[w]; i++) {
            absorb(hash, values[w][i]);
            if (!running->weak)
                continue;
            uint64_t packed = 0;
            for (unsigned k = 0; k < word_count; k++) {
                packed = packed << 8 | (views[w][i][k] > base[k] ? (unsigned)(views[w][i][k] - base[k]) : 0u);
                if (k % 8 == 7 || k + 1 == word_count)
                    absorb(hash, packed);
            }
        }
        absorb(hash, (uint64_t)(now.count[w] - base[w]) << 8 | (now.seq[w] > base[w] ? (unsigned)(now.seq[w] - base[w]) : 0u));
    }
    for (unsigned i = 0; i < running->threads; i++) {
        const thread *t = &now.threads[i];
        absorb(hash, (uint64_t)t->status << 16 | (uint64_t)t->call << 8 | (t->begun ? 2u : 0u) | (t->calling ? 1u : 0u));
        absorb(hash, t->status == LIVE ? t->code[0] : 0);
        absorb(hash, t->status == LIVE ? t->code[1] : 0);
        absorb(hash, t->own);
        if (running->wins_most)
            absorb(hash, t->wins);
        for (unsigned w = 0; running->weak && t->status == LIVE && w < word_count; w += 8) {
            uint64_t packed = 0;
            for (unsigned k = w; k < w + 8 && k < word_count; k++)
                packed = packed << 8 | (unsigned)(t->view[k] - base[k]);
            absorb(hash, packed);
        }
    }
    absorb(hash, (uint64_t)now.begun << 32 | now.done);
    for (unsigned call = 0; call < MODEL_CALLS_MOST; call++) {
        if (now.begun >> call & 1)
            absorb(hash, now.after[call]);
        if (now.done >> call & 1)
            absorb(hash, now.results[call]);
    }
}

/* ---- the search ---- */

static void restore(const world *saved) {
    while (now.journal > saved->journal) {
        now.journal--;
        journal[now.journal].word->value = journal[now.journal].was;
    }
    now = *saved;
}

static double explore(void) {
    uint64_t hash[2];
    hash_world(hash);
    if (states_room) {
        state *met = find_state(hash);
        if (met->hash[0] || met->hash[1])
            return met->executions;
    }
    double executions = 0;
    bool live = false;
    unsigned mark = depth;
    world saved = now;
    for (unsigned i = 0; i < running->threads; i++) {
        if (saved.threads[i].status != LIVE)
            continue;
        live = true;
        char *low = saved.threads[i].low;
        size_t used = (size_t)(stacks[i] + STACK_BYTES - low);
        if (used > STACK_SAVED_MOST)
            model_fail("a thread uses %zu bytes of stack: raise STACK_SAVED_MOST", used);
        char kept[used];
        memcpy(kept, low, used);
        unsigned newest = saved.count[saved.threads[i].pending.word] - 1u;
        unsigned oldest = oldest_readable(&saved.threads[i], &saved.threads[i].pending);
        for (unsigned value = newest + 1; value-- > oldest;) {
            if (do_step(&now.threads[i], value)) {
                if (running->wins_most && now.threads[i].wins > running->wins_most && now.threads[i].calling)
                    size->cut++;
                else
                    executions += explore();
            }
            depth = mark;
            restore(&saved);
            memcpy(low, kept, used);
        }
        if (running->stops > (unsigned)__builtin_popcount(saved.stopped) && !(running->unstoppable >> i & 1)) {
            now.threads[i].status = STOPPED;
            now.stopped |= (uint8_t)(1u << i);
            trace[depth++] = (trace_step){.thread = (uint8_t)i, .call = saved.threads[i].call, .stop = true};
            executions += explore();
            depth = mark;
            restore(&saved);
        }
    }
    if (!live) {
        executions = 1;
        size->ends++;
        phase = CHECKING;
        running->ended();
        phase = EXPLORING;
        restore(&saved);
    }
    add_state(hash, executions);
    return executions;
}

void model_explore(const model *m, model_size *result) {
    running = m;
    size = result;
    *size = (model_size){0};
    phase = EXPLORING;
    memset(now.threads, 0, sizeof now.threads);
    for (unsigned i = 0; i < m->threads; i++) {
        ucontext_t *context = &thread_contexts[i];
        getcontext(context);
        context->uc_stack.ss_sp = stacks[i];
        context->uc_stack.ss_size = STACK_BYTES;
        context->uc_link = NULL;
        makecontext(context, thread_main, 0);
        run_thread((int)i, true);
    }
    size->executions = explore();
    phase = BEFORE;
    free(states);
    states = NULL;
    states_room = 0;
}
