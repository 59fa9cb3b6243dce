/* The only file that spells a memory order: named loads, stores and exchanges on words and pairs.
 *
 * Every shared word of the core is a ps_word; the order is in the name of the operation, so a
 * search for "_acquire" or "_seq" lists all the places that lean on one. Two orders are in use
 * beside relaxed: acquire/release where a word publishes others (ring entries before the head that
 * counts on them), and sequential consistency where two threads must not both miss each other's
 * store (claiming a slot; table.h says why).
 *
 * A ps_pair is 16 bytes exchanged at once. It must be inline: libatomic's may take a lock. Loads of
 * its halves are two 8-byte loads; nothing is ever decided on a pair that no exchange confirmed. */
#ifndef PENSTOCK_ATOMICS_H
#define PENSTOCK_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#if defined(PENSTOCK_MODEL)
#include PENSTOCK_MODEL /* a model checker's words and exchanges, under the same names */
#elif defined(_MSC_VER) && !defined(__clang__)

#if !defined(_M_X64) && !defined(_M_ARM64)
#error "no inline 16-byte compare-exchange on this machine: install with PENSTOCK_PURE=1"
#endif
#include <intrin.h>
typedef volatile int64_t ps_word;
typedef struct {
    __declspec(align(16)) ps_word key; /* the exchange of 16 bytes faults where it is not */
    ps_word state;
} ps_pair;

/* x64 loads acquire and stores release; on Arm64 the barrier below is needed. The Interlocked intrinsics without a suffix
 * are full barriers on both, whether they exchange or not. Loads and stores of an aligned word are whole. */
#if defined(_M_ARM64)
#define PS_BARRIER() __dmb(_ARM64_BARRIER_ISH)
#else
#define PS_BARRIER() _ReadWriteBarrier()
#endif
static inline uint64_t ps_load_relaxed(const ps_word *word) { return (uint64_t)*word; }
static inline uint64_t ps_load_acquire(const ps_word *word) {
    uint64_t value = (uint64_t)*word;
    PS_BARRIER();
    return value;
}
static inline uint64_t ps_load_seq(const ps_word *word) {
    PS_BARRIER();
    return ps_load_acquire(word);
}
static inline void ps_store_relaxed(ps_word *word, uint64_t value) { *word = (int64_t)value; }
static inline void ps_store_release(ps_word *word, uint64_t value) {
    PS_BARRIER();
    *word = (int64_t)value;
}
static inline void ps_store_seq(ps_word *word, uint64_t value) { _InterlockedExchange64(word, (int64_t)value); }
static inline bool ps_exchange_if_equal(ps_word *word, uint64_t *expected, uint64_t desired) {
    int64_t seen = _InterlockedCompareExchange64(word, (int64_t)desired, (int64_t)*expected);
    bool swapped = (uint64_t)seen == *expected;
    *expected = (uint64_t)seen;
    return swapped;
}
static inline uint64_t ps_add_relaxed(ps_word *word, uint64_t amount) {
    return (uint64_t)_InterlockedExchangeAdd64(word, (int64_t)amount);
}
static inline uint64_t ps_add_seq(ps_word *word, uint64_t amount) { return ps_add_relaxed(word, amount); }
static inline bool ps_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
    __int64 expected[2] = {(__int64)key, (__int64)state};
    return _InterlockedCompareExchange128((volatile __int64 *)pair, (__int64)new_state, (__int64)new_key, expected) != 0;
}

#else

#include "wide.h"
#include <stdatomic.h>
typedef _Atomic uint64_t ps_word;
typedef struct {
    _Alignas(16) ps_word key;
    ps_word state;
} ps_pair;

_Static_assert(sizeof(ps_word) == 8 && sizeof(ps_pair) == 16, "a pair is exchanged as 16 plain bytes");

static inline uint64_t ps_load_relaxed(const ps_word *word) { return atomic_load_explicit(word, memory_order_relaxed); }
static inline uint64_t ps_load_acquire(const ps_word *word) { return atomic_load_explicit(word, memory_order_acquire); }
static inline uint64_t ps_load_seq(const ps_word *word) { return atomic_load_explicit(word, memory_order_seq_cst); }
static inline void ps_store_relaxed(ps_word *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}
static inline void ps_store_release(ps_word *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_release);
}
static inline void ps_store_seq(ps_word *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_seq_cst);
}
/* Strong; acquire and release on success, acquire on failure. On failure *expected is what was there. */
static inline bool ps_exchange_if_equal(ps_word *word, uint64_t *expected, uint64_t desired) {
    return atomic_compare_exchange_strong_explicit(word, expected, desired, memory_order_acq_rel, memory_order_acquire);
}
static inline uint64_t ps_add_relaxed(ps_word *word, uint64_t amount) {
    return atomic_fetch_add_explicit(word, amount, memory_order_relaxed);
}
static inline uint64_t ps_add_seq(ps_word *word, uint64_t amount) {
    return atomic_fetch_add_explicit(word, amount, memory_order_seq_cst);
}

/* Strong and sequentially consistent: {key, state} becomes {new_key, new_state}, or nothing happens. */
static inline bool ps_pair_exchange(ps_pair *pair, uint64_t key, uint64_t state, uint64_t new_key, uint64_t new_state) {
#if defined(__x86_64__)
#if !defined(__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16)
#error "build with -mcx16: the slot's exchange must be one instruction"
#endif
    ps_uint128 expected = ((ps_uint128)state << 64) | key;
    ps_uint128 desired = ((ps_uint128)new_state << 64) | new_key;
    return __sync_bool_compare_and_swap((ps_uint128 *)(void *)pair, expected, desired);
#elif defined(__aarch64__)
    uint64_t seen_key, seen_state;
    uint32_t failed;
    /* A torn first read can only differ from what is expected, and then says "not equal", which is a
     * failed exchange like any other. stlxp, then the full barrier: later loads stay behind it. */
    __asm__ volatile("1: ldaxp %[k], %[s], [%[p]]\n"
                     "   cmp %[k], %[ek]\n"
                     "   ccmp %[s], %[es], #0, eq\n"
                     "   mov %w[f], #1\n"
                     "   b.ne 2f\n"
                     "   stlxp %w[f], %[nk], %[ns], [%[p]]\n"
                     "   cbnz %w[f], 1b\n"
                     "   dmb ish\n"
                     "2:\n"
                     : [k] "=&r"(seen_key), [s] "=&r"(seen_state), [f] "=&r"(failed)
                     : [p] "r"(pair), [ek] "r"(key), [es] "r"(state), [nk] "r"(new_key), [ns] "r"(new_state)
                     : "cc", "memory");
    return failed == 0;
#else
#error "no inline 16-byte compare-exchange on this machine: install with PENSTOCK_PURE=1"
#endif
}

#endif /* model, MSVC, C11 */

/* Raises the word to `value` and never lowers it. Ends: each failed exchange has seen it grow. */
static inline void ps_raise(ps_word *word, uint64_t value) {
    uint64_t seen = ps_load_acquire(word);
    while (seen < value && !ps_exchange_if_equal(word, &seen, value)) {
    }
}

#endif
