/* One slot: a key word and a state word that change together, and the states they can be in.
 *
 *   {EMPTY, 0}            never used; a search for any key may stop here
 *   {FREE, word}          given back; a search goes on. word: as it was, the last tenant's or a withdrawn claim's, so
 *                         that who read the key before and the word after takes no claim for an established word of 0
 *   {fp, TENTATIVE | n}   claimed by the caller with nonce n, not yet counted on
 *   {fp, word}            established: `word` belongs to the algorithm, its top bit is clear
 *
 *        claim                establish
 *   any --------> tentative ------------> established --+  decide: {fp, word} -> {fp, next}
 *    ^               |  withdraw / kill       ^     |   |
 *    |               v                        +-----|---+
 *    +------------- FREE <--------------------------+  give up: evicted, reset, cleared
 *
 * Every arrow is one exchange of both words (ps_pair_exchange), so an exchange prepared against one tenant
 * cannot touch the next. EMPTY is never written: what stopped a search once has nothing behind it. An
 * established slot whose state equals "never seen" is free as it stands; it keeps its key until it is
 * claimed for another. */
#ifndef PENSTOCK_SLOT_H
#define PENSTOCK_SLOT_H

#include "../platform/atomics.h"

#define PS_SLOT_EMPTY UINT64_C(0)
#define PS_SLOT_FREE UINT64_C(1)
#define PS_TENTATIVE (UINT64_C(1) << 63)
#define PS_STATE_BITS 63

/* Slots in a cache line: a probe reads whole lines. */
#ifndef PS_LINE_SLOTS
#define PS_LINE_SLOTS 4
#endif

static inline bool ps_is_tentative(uint64_t state) { return (state & PS_TENTATIVE) != 0; }

#endif
