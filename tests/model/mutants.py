"""Deliberately broken protocols: each a textual change to a copy of the headers, and the models that must notice.

A change whose text is not found exactly once makes its test fail, so that none is lost when the headers change.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One way to break a protocol."""

    name: str
    """What was done to it."""
    changes: tuple[tuple[str, str, str], ...]
    """(file below ext/, text as it is, text as it becomes)"""
    killers: tuple[tuple[str, str], ...]
    """(model, memory model) that must each report a violation."""


TABLE, LIMITER, CELLS = "table/table.h", "limiter.h", "stats/cells.h"
WINDOW, LOG, FIXED = "algorithms/sliding_window.h", "algorithms/sliding_log.h", "algorithms/fixed_window.h"
WORDS = "words.h"
"""The model's own words, for what atomics.h promises."""

MUTANTS = (
    # ---- claim ----
    Mutant(
        "claim: no second reading",
        (
            (
                TABLE,
                "            seen = reading.victim;\n            seen_state = tentative;\n",
                "            *index = reading.victim;\n            *state = tentative;\n            return PS_CLAIMED;\n",
            ),
        ),
        (),
    ),
    Mutant(
        "claim: a helper establishes what it has just met, without reading again",
        ((TABLE, "if (reading.candidate == seen && reading.candidate_state == seen_state) {", "{ seen = reading.candidate; seen_state = reading.candidate_state;"),),
        (),
    ),
    Mutant(
        "claim: later claims of the key are not killed",
        ((TABLE, "if (reading->candidate == index || ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, state))", "if (true)"),),
        (),
    ),
    Mutant(
        "claim: nonces are used again",
        ((CELLS, "return ps_count(caller, &caller.cell->claims, 1) * PS_CELLS + caller.number;", "return caller.number & 0;"),),
        (),
    ),
    Mutant(
        "claim: an established slot does not end the reading",
        ((TABLE, "            reading->established = index;\n            return true;", "            return false;"),),
        (),
    ),
    Mutant(
        "claim: the first claim is not the candidate, the last is",
        ((TABLE, "        if (reading->candidate == PS_NO_SLOT) {\n            reading->candidate = index;", "        {\n            reading->candidate = index;"),),
        (),
    ),
    Mutant(
        "claim: withdrawn claims look like words of 0",
        (
            (TABLE, "|| ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, state))", "|| ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, 0))"),
            (
                TABLE,
                "PS_SLOT_FREE,\n                                 reading.candidate_state);",
                "PS_SLOT_FREE, 0);",
            ),
        ),
        (),
    ),
    Mutant(
        "claim: loads of the reading are acquire only",
        (
            (TABLE, "uint64_t key = ps_load_seq(&table->slots[index].key);", "uint64_t key = ps_load_acquire(&table->slots[index].key);"),
        ),
        (),
    ),
    Mutant(
        "claim: the exchange is not sequentially consistent",
        ((WORDS, "new_key, new_state, MODEL_SEQ)", "new_key, new_state, MODEL_ACQ_REL)"),),
        (),
    ),
    Mutant(
        "claim: threads that share a cell count with plain stores",
        ((CELLS, "if (caller.number == PS_CELL_SHARED)", "if (false)"),),
        (),
    ),
    Mutant(
        "clear: slots become EMPTY again",
        ((LIMITER, "ps_is_tentative(state) || ps_pair_exchange(slot, key, state, PS_SLOT_FREE, state))", "ps_is_tentative(state) || ps_pair_exchange(slot, key, state, PS_SLOT_EMPTY, 0))"),),
        (),
    ),
    # ---- update ----
    Mutant(
        "update: a failed exchange counts as an admission",
        ((LIMITER, "        if (ps_pair_exchange(slot, fingerprint, state, fingerprint, next)) {\n            if (p->algorithm == PS_SLIDING_LOG)\n", "        ps_pair_exchange(slot, fingerprint, state, fingerprint, next);\n        {\n            if (p->algorithm == PS_SLIDING_LOG)\n"),),
        (),
    ),
    Mutant(
        "update: a refusal is not confirmed by a second reading",
        ((LIMITER, "            else if (!ps_unchanged(slot, fingerprint, state))\n                continue;\n", ""),),
        (),
    ),
    Mutant(
        "update: a refusal confirms the word but not the key",
        ((LIMITER, "return ps_load_acquire(&slot->key) == fingerprint && ps_load_relaxed(&slot->state) == state;", "return ps_load_relaxed(&slot->state) == state;"),),
        (),
    ),
    Mutant(
        "update: the word is read relaxed",
        (
            (LIMITER, "        *state = ps_load_acquire(&limit->table.slots[*index].state);\n        if (!ps_is_tentative(*state))\n            return PS_FOUND;", "        *state = ps_load_relaxed(&limit->table.slots[*index].state);\n        if (!ps_is_tentative(*state))\n            return PS_FOUND;"),
        ),
        (),
    ),
    # ---- release, refund ----
    Mutant(
        "refund: a claim in front hides the slot that holds",
        ((LIMITER, "*index = ps_table_find_established(&limit->table, fingerprint);", "*index = PS_NO_SLOT;"),),
        (),
    ),
    Mutant(
        "refund: the key is not read again after its word",
        ((LIMITER, "if (!ps_is_tentative(*state) && ps_load_acquire(&slot->key) == fingerprint)", "if (!ps_is_tentative(*state))"),),
        (),
    ),
    Mutant(
        "refund: nothing to give back is believed without an exchange",
        (
            (LIMITER, "        if (ps_pair_exchange(slot, fingerprint, state, fingerprint, next)) {\n            if (p->algorithm == PS_SLIDING_LOG && change", "        if (next == state || ps_pair_exchange(slot, fingerprint, state, fingerprint, next)) {\n            if (p->algorithm == PS_SLIDING_LOG && change"),
            (LIMITER, "if (!ps_is_tentative(*state) && ps_load_acquire(&slot->key) == fingerprint)", "if (!ps_is_tentative(*state))"),
        ),
        (),
    ),
    Mutant(
        "refund: a sliding window's ring gives back in the first attempt only",
        (
            (LIMITER, "    if (p->algorithm == PS_SLIDING_WINDOW)\n        *cost = ps_window_refund_ring(p, word, tail, now, *cost);", "    if (p->algorithm == PS_SLIDING_WINDOW && !*ring_done)\n        *cost = ps_window_refund_ring(p, word, tail, now, *cost);\n    *ring_done = true;"),
            (LIMITER, "uint64_t *cost, ps_change change, uint64_t taken) {", "uint64_t *cost, ps_change change, uint64_t taken, bool *ring_done) {"),
            (LIMITER, "next = ps_less(limiter, p, word, tail, now, &cost, change, ps_word_as(limit, p, taken, now));", "next = ps_less(limiter, p, word, tail, now, &cost, change, ps_word_as(limit, p, taken, now), &ring_done);"),
            (LIMITER, "uint64_t now, uint64_t cost, ps_caller caller, ps_change change, uint64_t taken) {\n    for (;;) {", "uint64_t now, uint64_t cost, ps_caller caller, ps_change change, uint64_t taken) {\n    bool ring_done = false;\n    for (;;) {"),
        ),
        (),
    ),
    Mutant(
        "refund: ring entries are lowered by a store",
        ((WINDOW, "if (ps_exchange_if_equal(place, &entry, ps_window_word_next_version(p, entry) - back)) {", "ps_store_release(place, ps_window_word_next_version(p, entry) - back);\n            {"),),
        (),
    ),
    Mutant(
        "refund: a lowered word keeps its version",
        ((WINDOW, "        return word;\n    return ps_window_word_next_version(p, word) - back;", "        return word;\n    return word - back;"),),
        (),
    ),
    # ---- evict ----
    Mutant(
        "evict: what is held may go",
        ((LIMITER, "if (c->held && debt)", "if (false)"),),
        (),
    ),
    Mutant(
        "evict: the word is not retired",
        ((TABLE, "            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);", "            ;"),),
        (),
    ),
    Mutant(
        "evict: a word is retired though the slot was read in two halves",
        ((TABLE, "        if (ps_load_seq(&victim->key) != reading.victim_key)\n            continue;", "        if (false)\n            continue;"),),
        (),
    ),
    Mutant(
        "evict: the word is retired while it may still be hit",
        ((TABLE, "            if (!ps_pair_exchange(victim, reading.victim_key, reading.victim_state, PS_SLOT_FREE, reading.victim_state))", "            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);\n            if (!ps_pair_exchange(victim, reading.victim_key, reading.victim_state, PS_SLOT_FREE, reading.victim_state))"),),
        (),
    ),
    Mutant(
        "evict: a new tenant begins at the former one's version",
        ((WINDOW, "return ((last >> below) + 1) << below;", "return (last >> below) << below;"),),
        (),
    ),
    Mutant(
        "evict: the heaviest debt goes first",
        ((TABLE, "if (debt < least) {", "if (debt < least && (least == PS_DEBT_HELD || debt == 0)) {"),),
        (),
    ),
    # ---- advance: sliding window ----
    Mutant(
        "advance: the ring is raised after the exchange",
        (
            (WINDOW, "    ps_raise(&tail[own % p->resolution], word);\n    uint64_t age", "    uint64_t age"),
            (LIMITER, "            if (p->algorithm == PS_SLIDING_LOG)\n                ps_date(limiter, p, word, next, tail, now);\n            if (taken)", "            if (p->algorithm == PS_SLIDING_LOG)\n                ps_date(limiter, p, word, next, tail, now);\n            if (p->algorithm == PS_SLIDING_WINDOW && ps_window_epoch(p, next) != ps_window_epoch(p, word))\n                ps_raise(&tail[ps_window_epoch(p, word) % p->resolution], word);\n            if (taken)"),
        ),
        (),
    ),
    Mutant(
        "advance: entries of a former tenant count",
        ((WINDOW, "        if (epoch >= start && epoch < own && epoch + r >= sum.epoch)\n            sum.used +=", "        if (epoch < own && epoch + r >= sum.epoch)\n            sum.used +="),),
        (),
    ),
    Mutant(
        "advance: the word's own epoch in the ring is not noticed",
        ((WINDOW, "sum.epoch = start < own && ps_window_epoch(p, there) == own ? own + 1 : own;", "sum.epoch = own;"),),
        (),
    ),
    Mutant(
        "advance: the entry that may be overwritten is read twice",
        ((WINDOW, "uint64_t entry = i == place ? there : ps_load_acquire(&tail[i]), epoch", "uint64_t entry = ps_load_acquire(&tail[i]), epoch"),),
        (),
    ),
    Mutant(
        "advance: the ring is lowered as well as raised",
        (("platform/atomics.h", "while (seen < value && !ps_exchange_if_equal", "while (seen != value && !ps_exchange_if_equal"),),
        (),
    ),
    # ---- sliding log ----
    Mutant(
        "log: a gap is not filled in",
        ((LIMITER, "        ps_log_write(p, tail, missing, ps_later(limiter, now));", "        ;"),),
        (),
    ),
    Mutant(
        "log: a gap is filled in with a time from before it was seen",
        ((LIMITER, "        ps_log_write(p, tail, missing, ps_later(limiter, now));", "        ps_log_write(p, tail, missing, now);"),),
        (),
    ),
    Mutant(
        "log: an admission is dated by its own clock though the one before is not dated",
        ((LIMITER, "ps_log_undated(p, word, tail) ? ps_later(limiter, now) : now", "now"),),
        (),
    ),
    Mutant(
        "log: an admission that nobody has dated does not count",
        ((LOG, "            *missing = number;\n            time = now;", "            *missing = number;\n            time = 0;"),),
        (),
    ),
    Mutant(
        "log: laps are not looked at",
        ((LOG, "return entry >> PS_LOG_TIME_BITS == number / p->ring % PS_LOG_LAPS && entry != 0;", "return entry != 0;"),),
        (),
    ),
    Mutant(
        "log: a late writer overwrites a later lap",
        ((LOG, "if (seen != 0 && (ahead >= PS_LOG_LAPS / 2 || ahead == 0))", "if (seen != 0 && ahead == 0)"),),
        (),
    ),
    Mutant(
        "log: a new tenant's numbers begin anew",
        ((LOG, "return ps_log_word(p, next ? next : p->ring, 0);", "return ps_log_word(p, p->ring, 0);"),),
        (),
    ),
    # ---- fixed window ----
    Mutant(
        "fixed: a clock that is behind opens an earlier window",
        ((FIXED, "return current > window ? current : window;", "return current;"),),
        (),
    ),
    Mutant(
        "first hit: the start is raised after the exchange",
        (
            (FIXED, "    ps_fixed_open(p, word, *next, tail, now);\n    return true;", "    return true;"),
            (LIMITER, "            if (p->algorithm == PS_SLIDING_LOG)\n                ps_date(limiter, p, word, next, tail, now);\n            if (taken)", "            if (p->algorithm == PS_SLIDING_LOG)\n                ps_date(limiter, p, word, next, tail, now);\n            if (p->algorithm == PS_FIXED_WINDOW)\n                ps_fixed_open(p, word, next, tail, now);\n            if (taken)"),
        ),
        (),
    ),
    Mutant(
        "first hit: both windows share one start",
        ((FIXED, "ps_raise(&tail[window & 1], now);", "ps_raise(&tail[0], now), ps_raise(&tail[1], now);"),),
        (),
    ),
    # ---- several limits ----
    Mutant(
        "limits: what was taken is not given back",
        ((LIMITER, "                ps_alter(limiter, limit, policies[i], fingerprint, now, cost, caller, PS_HAND_BACK, taken[i]);", "                ;"),),
        (),
    ),
    Mutant(
        "limits: units are handed back as of when they were taken",
        ((LIMITER, "        now = ps_later(limiter, then);\n", ""),),
        (),
    ),
    Mutant(
        "limits: the one that refuses gives back as well",
        ((LIMITER, "            while (i-- > 0) {", "            for (i++; i-- > 0;) {"),),
        (),
    ),
)
