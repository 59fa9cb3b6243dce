/* An exhaustive explorer: runs a few threads of real code through every order of their accesses to shared words.
 *
 * Each thread is a coroutine on a stack of its own. Every operation of words.h on a shared word is one step; before
 * each step the explorer may let any other thread go first, or stop a thread for ever. States that were met before
 * are not entered again: a state is the shared words, each thread's own, its stack and its registers, and what the calls
 * have returned so far. States are told apart by 128-bit hashes.
 *
 * Two memory models:
 *
 *   sequentially consistent   a load returns the latest value
 *   C11 (weak)                a word is the list of its values in modification order; a thread has a view, the
 *                             oldest entry of each list that it may still read, and a load branches over all it may
 *                             read. A releasing write carries its thread's view, an acquiring read takes it over; a
 *                             seq_cst operation reads no entry older than the last seq_cst one on that word. This is
 *                             the operational form of C11's release/acquire/seq_cst without load buffering: no load
 *                             reads what is written later. Words are only written at the end of their list, which
 *                             loses nothing as long as every shared word is written by exchange, or by one thread. */
#ifndef PENSTOCK_MODEL_EXPLORE_H
#define PENSTOCK_MODEL_EXPLORE_H

#include "words.h"

#define MODEL_THREADS_MOST 4
#define MODEL_CALLS_MOST 16 /* of all threads together */

typedef struct {
    unsigned threads;
    bool weak;            /* C11 instead of sequential consistency */
    unsigned stops;       /* threads that may be stopped for ever, each at any of its steps */
    unsigned unstoppable; /* bit t: but not thread t */
    unsigned steps_most;  /* in one call; more is reported as a call that does not end */
    unsigned wins_most;   /* 0, or: a path is cut off when exchanges of pairs succeeded more often than this in one call */
    void (*body)(unsigned thread);
    void (*begins)(unsigned call); /* NULL, or: in the first step of a call, before it; for words it does not touch */
    void (*written)(void); /* after each step that wrote: what must hold at any time */
    void (*ended)(void);   /* when every thread has finished or was stopped; what it writes is undone */
} model;

typedef struct {
    uint64_t states, steps, ends, cut;
    double executions; /* distinct orders of steps (and of values read, when weak) that those states stand for */
    unsigned depth;    /* steps of the longest */
} model_size;

/* Makes `count` words from `first` on shared, in groups of `width`; `name` is a printf format for the group and the
 * word in it. Before model_explore. */
void model_share(ps_word *first, unsigned count, unsigned width, const char *name);

/* Lets thread `thread`, and no other, use the bytes from `first` on as its own: accesses there are not steps. */
void model_own(unsigned thread, const void *first, uint64_t bytes);

/* Explores everything from the words' present values on; exits with status 1 and a trace where a model fails. */
void model_explore(const model *m, model_size *size);

/* In a body: around each call. `call` is a number of its own in 0 .. MODEL_CALLS_MOST - 1. */
void model_call_begin(unsigned call);
void model_call_end(uint64_t result);

/* In `ended`: what became of the calls. A call has begun with its first step. */
bool model_call_begun(unsigned call);
bool model_call_done(unsigned call, uint64_t *result);
/* The calls that were done before this one began: when weak, those of its own thread, as there is no common time. */
uint32_t model_call_after(unsigned call);
unsigned model_stopped(void); /* how many threads */

/* Anywhere: the property that does not hold. Prints how it came to that, and exits with status 1. */
_Noreturn void model_fail(const char *format, ...);

#endif
