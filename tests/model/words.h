/* The model checker's words: what atomics.h includes in place of the machine's when PENSTOCK_MODEL names this file.
 *
 * A word is a struct, so that no header can read or write one except through these operations: the compiler proves
 * that nothing shared escapes the model. The orders are those that atomics.h promises under the same names. */
#ifndef PENSTOCK_MODEL_WORDS_H
#define PENSTOCK_MODEL_WORDS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t value; /* used by words that no model shares; a shared word lives in explore.c, which knows its past */
} ps_word;

typedef struct {
    _Alignas(16) ps_word key;
    ps_word state;
} ps_pair;

typedef enum { MODEL_RELAXED, MODEL_ACQUIRE, MODEL_RELEASE, MODEL_ACQ_REL, MODEL_SEQ } model_order;

uint64_t model_load(const ps_word *word, model_order order);
void model_store(ps_word *word, uint64_t value, model_order order);
bool model_exchange(ps_word *word, uint64_t *expected, uint64_t desired, model_order success);
uint64_t model_add(ps_word *word, uint64_t amount, model_order order);
bool model_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state,
                         model_order success);

static inline uint64_t ps_load_relaxed(const ps_word *word) { return model_load(word, MODEL_RELAXED); }
static inline uint64_t ps_load_acquire(const ps_word *word) { return model_load(word, MODEL_ACQUIRE); }
static inline uint64_t ps_load_seq(const ps_word *word) { return model_load(word, MODEL_SEQ); }
static inline void ps_store_relaxed(ps_word *word, uint64_t value) { model_store(word, value, MODEL_RELAXED); }
static inline void ps_store_release(ps_word *word, uint64_t value) { model_store(word, value, MODEL_RELEASE); }
static inline void ps_store_seq(ps_word *word, uint64_t value) { model_store(word, value, MODEL_SEQ); }
static inline bool ps_exchange_if_equal(ps_word *word, uint64_t *expected, uint64_t desired) {
    return model_exchange(word, expected, desired, MODEL_ACQ_REL);
}
static inline uint64_t ps_add_relaxed(ps_word *word, uint64_t amount) {
    return model_add(word, amount, MODEL_RELAXED);
}
static inline uint64_t ps_add_seq(ps_word *word, uint64_t amount) { return model_add(word, amount, MODEL_SEQ); }
static inline bool ps_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
    return model_pair_exchange(pair, key, state, new_key, new_state, MODEL_SEQ);
}

#endif
