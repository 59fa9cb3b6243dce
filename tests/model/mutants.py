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
    why: str = ""
    """Of a survivor: why nothing finds it out."""

    @property
    def protocol(self) -> str:
        """The protocol that is broken: a heading of models.h, or "holds"."""
        return self.name.split(":")[0]

    @property
    def program(self) -> str:
        """The program whose models are its killers."""
        return "holds" if self.protocol == "holds" else "protocols"


TABLE, LIMITER, CELLS = "table/table.h", "limiter.h", "stats/cells.h"
WINDOW, LOG, FIXED = "algorithms/sliding_window.h", "algorithms/sliding_log.h", "algorithms/fixed_window.h"
HOLDS, CONCURRENCY = "segment/holds.h", "algorithms/concurrency.h"
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
        (("claim-near-homes", "sc"), ("claim-near-homes", "c11")),
    ),
    Mutant(
        "claim: a helper establishes what it has just met, without reading again",
        ((TABLE, "if (reading.candidate == seen && reading.candidate_state == seen_state) {", "{ seen = reading.candidate; seen_state = reading.candidate_state;"),),
        (("claim-three-beside-expiring", "sc"), ("claim-three-beside-expiring", "c11")),
    ),
    Mutant(
        "claim: later claims of the key are not killed",
        ((TABLE, "if (reading->candidate == index || ps_pair_exchange(slot, fingerprint, state, PS_SLOT_FREE, state))", "if (true)"),),
        (("claim-near-homes", "sc"), ("claim-near-homes", "c11")),
    ),
    Mutant(
        "claim: nonces are used again",
        ((CELLS, "return ps_count(caller, &caller.cell->claims, 1) * PS_NONCE_CELLS + caller.number;", "return caller.number & 0;"),),
        (("claim-three-beside-expiring", "sc"), ("claim-three-beside-expiring", "c11")),
    ),
    Mutant(
        "claim: an established slot does not end the reading",
        ((TABLE, "            reading->established = index;\n            return true;", "            return false;"),),
        (("bucket-force", "sc"), ("bucket-force", "c11")),
    ),
    Mutant(
        "claim: the first claim is not the candidate, the last is",
        ((TABLE, "        if (reading->candidate == PS_NO_SLOT) {\n            reading->candidate = index;", "        {\n            reading->candidate = index;"),),
        (("claim-near-homes", "sc"), ("claim-near-homes", "c11")),
    ),
    Mutant(
        "claim: a slot whose claim was withdrawn is not seen as free",
        ((TABLE, "                key = ps_load_seq(&table->slots[index].key); /* withdrawn", "                break; /* withdrawn"),),
        (("replace-claim-three", "sc"), ("replace-claim-three", "c11")),
    ),
    Mutant(
        "claim: claim after claim is killed in one reading",
        ((TABLE, "if (!alone || reading->candidate == index)", "if (reading->candidate == index)"),),
        (("claim-near-homes", "sc"), ("claim-near-homes", "c11")),
    ),
    Mutant(
        "claim: loads of the reading are acquire only",
        (
            (TABLE, "uint64_t key = ps_load_seq(&table->slots[index].key);", "uint64_t key = ps_load_acquire(&table->slots[index].key);"),
        ),
        (("claim-near-homes", "c11"), ("peek-claim", "c11")),
    ),
    Mutant(
        "claim: the exchange is not sequentially consistent",
        ((WORDS, "new_key, new_state, MODEL_SEQ)", "new_key, new_state, MODEL_ACQ_REL)"),),
        (("clear-claim", "c11"), ("claim-beside-expiring", "c11")),
    ),
    Mutant(
        "claim: threads that share a cell count with plain stores",
        ((CELLS, "if (caller.number == PS_CELL_SHARED)", "if (false)"),),
        (("claim-one-cell", "sc"), ("claim-one-cell", "c11")),
    ),
    Mutant(
        "update: cleared slots become EMPTY again",
        ((LIMITER, "ps_is_tentative(state) || ps_forget(&limit->policies[0], slot, key, state, ps_tail(limit, index)))", "ps_is_tentative(state) || ps_pair_exchange(slot, key, state, PS_SLOT_EMPTY, 0))"),),
        (("clear-lines", "sc"), ("clear-lines", "c11")),
    ),
    # ---- update ----
    Mutant(
        "update: a failed exchange counts as an admission",
        ((LIMITER, "        if (ps_write_word(limiter, limit, p, index, fingerprint, state, next)) {\n            if (p->algorithm == PS_SLIDING_LOG)\n", "        ps_write_word(limiter, limit, p, index, fingerprint, state, next);\n        {\n            if (p->algorithm == PS_SLIDING_LOG)\n"),),
        (("window-behind", "sc"), ("window-behind", "c11")),
    ),
    Mutant(
        "update: a refusal is not confirmed by a second reading",
        ((LIMITER, "            else if (!ps_unchanged(slot, fingerprint, state))\n                continue;\n", ""),),
        (("first-evict", "sc"), ("first-evict", "c11")),
    ),
    Mutant(
        "update: a refusal confirms the word but not the key",
        ((LIMITER, "return ps_load_acquire(&slot->key) == fingerprint && ps_load_relaxed(&slot->state) == state;", "return ps_load_relaxed(&slot->state) == state;"),),
        (("first-evict", "sc"), ("first-evict", "c11")),
    ),
    Mutant(
        "update: the word is read relaxed",
        (
            (LIMITER, "        *state = ps_load_acquire(&limit->table.slots[*index].state);\n        if (!ps_is_tentative(*state))\n            return PS_FOUND;", "        *state = ps_load_relaxed(&limit->table.slots[*index].state);\n        if (!ps_is_tentative(*state))\n            return PS_FOUND;"),
        ),
        (("first-open", "c11"), ("first-reopen", "c11")),
    ),
    # ---- replace ----
    Mutant(
        "replace: words are not rewritten",
        ((LIMITER, "    ps_convert_all(limiter, old, number, now);\n", ""),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: words are rewritten before the policy is published",
        (
            (LIMITER, "    ps_install(limiter, tier, policies);\n    ps_convert_all(limiter, old, number, now);\n", "    ps_convert_all(limiter, old, number, now);\n    ps_install(limiter, tier, policies);\n"),
        ),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: a word that changed under its conversion is left as it is",
        ((LIMITER, "keep ? ps_bucket_convert(from, to, state, now) : state))\n                    break;", "keep ? ps_bucket_convert(from, to, state, now) : state) || true)\n                    break;"),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: claims are not taken back",
        ((LIMITER, "if (key <= PS_SLOT_FREE || (!claim && state >> to->tag_shift != old_number))", "if (key <= PS_SLOT_FREE || claim || state >> to->tag_shift != old_number)"),),
        (("replace-claim", "sc"), ("replace-claim", "c11")),
    ),
    Mutant(
        "replace: a word is converted as of when the replacement began",
        ((LIMITER, "                now = ps_later(limiter, now); /*", "                /*"),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: a word comes back to what it was",
        ((LIMITER, "bool keep = !claim && ps_bucket_debt(from, state, now);", "bool keep = !claim;"),),
        (("replace-back-idle", "sc"), ("replace-back-idle", "c11")),
    ),
    Mutant(
        "replace: the reading of the words is acquire only",
        ((LIMITER, "uint64_t key = ps_load_seq(&slot->key), state = ps_load_acquire(&slot->state);\n                bool claim", "uint64_t key = ps_load_acquire(&slot->key), state = ps_load_acquire(&slot->state);\n                bool claim"),),
        (("replace-back-claim", "c11"), ("replace-claim", "c11")),
    ),
    Mutant(
        "replace: a decision keeps the policy that it began with",
        ((LIMITER, "    *p = ps_policy_in_force(limiter, limit, *p);\n", ""),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: a decision asks for the policy in force with a relaxed load",
        ((LIMITER, "ps_load_seq(&limiter->current[p->tag % limiter->tier_count])", "ps_load_relaxed(&limiter->current[p->tag % limiter->tier_count])"),),
        (("replace-back-claim", "c11"), ("replace-claim", "c11")),
    ),
    Mutant(
        "replace: only found words are judged by the policy in force, new keys are not",
        ((LIMITER, "if (claim != PS_CLAIMED && !ps_is_foreign(*p, state))", "if (claim == PS_CLAIMED || !ps_is_foreign(*p, state))"),),
        (("replace-claim", "sc"), ("replace-claim", "c11")),
    ),
    Mutant(
        "replace: a foreign word is read as the policy's own",
        ((LIMITER, "if (p->algorithm != PS_TOKEN_BUCKET || word == 0 || word >> p->tag_shift == p->tag)", "if (true)"),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    Mutant(
        "replace: a foreign word is converted as of the call's own time",
        ((LIMITER, "    if (!(*p)->first_hit)\n        *now = ps_later(limiter, *now);", "    (void)now;"),),
        (("replace-times", "sc"), ("replace-times", "c11")),
    ),
    # ---- release ----
    Mutant(
        "release: a claim in front hides the slot that holds",
        ((LIMITER, "*index = ps_table_find_established(&limit->table, fingerprint);", "*index = PS_NO_SLOT;"),),
        (("claim-near-homes", "sc"), ("claim-near-homes", "c11")),
    ),
    Mutant(
        "release: the key is not read again after its word",
        ((LIMITER, "if (!ps_is_tentative(*state) && ps_load_acquire(&slot->key) == fingerprint)", "if (!ps_is_tentative(*state))"),),
        (("window-evict-refund", "sc"), ("window-evict-refund", "c11")),
    ),
    Mutant(
        "release: nothing to give back is believed without an exchange",
        (
            (LIMITER, "        if (ps_write_word(limiter, limit, p, index, fingerprint, state, next)) {\n            if (p->algorithm == PS_SLIDING_LOG && change", "        if (next == state || ps_write_word(limiter, limit, p, index, fingerprint, state, next)) {\n            if (p->algorithm == PS_SLIDING_LOG && change"),
            (LIMITER, "if (!ps_is_tentative(*state) && ps_load_acquire(&slot->key) == fingerprint)", "if (!ps_is_tentative(*state))"),
        ),
        (("window-evict-refund", "sc"), ("window-evict-refund", "c11")),
    ),
    Mutant(
        "release: a sliding window's ring gives back the whole cost in each attempt",
        ((WINDOW, "                cost -= back;\n                break;", "                break;"),),
        (("window-force", "sc"), ("window-force", "c11")),
    ),
    Mutant(
        "release: ring entries are lowered by a store",
        ((WINDOW, "if (ps_exchange_if_equal(place, &entry, ps_window_word_next_version(p, entry) - back)) {", "ps_store_release(place, ps_window_word_next_version(p, entry) - back);\n            {"),),
        (("window-refunds", "sc"), ("window-refunds", "c11")),
    ),
    Mutant(
        "release: a lowered word keeps its version",
        ((WINDOW, "        return word;\n    return ps_window_word_next_version(p, word) - back;", "        return word;\n    return word - back;"),),
        (("window-refund-advance", "sc"), ("window-refund-advance", "c11")),
    ),
    # ---- evict ----
    Mutant(
        "evict: what is held may go",
        ((LIMITER, "if ((c->held && debt) || ", "if ("),),
        (("held-full", "sc"), ("held-full", "c11")),
    ),
    Mutant(
        "evict: the word is not retired",
        ((TABLE, "            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);", "            {}"),),
        (("log-reset", "sc"), ("log-reset", "c11")),
    ),
    Mutant(
        "evict: a word is retired though the slot was read in two halves",
        ((TABLE, "        if (ps_load_seq(&victim->key) != reading.victim_key)\n            continue;", "        if (false)\n            continue;"),),
        (("window-tenants", "sc"), ("window-tenants", "c11")),
    ),
    Mutant(
        "evict: the word is retired while it may still be hit",
        ((TABLE, "            if (!ps_pair_exchange(victim, reading.victim_key, reading.victim_state, PS_SLOT_FREE, reading.victim_state))", "            tenancy->retire(tenancy->context, reading.victim, reading.victim_state);\n            if (!ps_pair_exchange(victim, reading.victim_key, reading.victim_state, PS_SLOT_FREE, reading.victim_state))"),),
        (("window-tenants", "sc"), ("window-tenants", "c11")),
    ),
    Mutant(
        "evict: a new tenant begins at the former one's version",
        ((WINDOW, "return ((last >> below) + 1) << below;", "return (last >> below) << below;"),),
        (("window-tenants", "sc"), ("window-tenants", "c11")),
    ),
    Mutant(
        "evict: the heaviest debt goes first",
        ((TABLE, "if (debt < least) {", "if (debt < least && (least == PS_DEBT_HELD || debt == 0)) {"),),
        (("evict-refund", "sc"), ("evict-refund", "c11")),
    ),
    # ---- advance ----
    Mutant(
        "advance: the ring is raised after the exchange",
        (
            (WINDOW, "    ps_raise(&tail[own % p->resolution], word);\n    uint64_t age", "    uint64_t age"),
            (LIMITER, "            if (taken)", "            if (p->algorithm == PS_SLIDING_WINDOW && ps_window_epoch(p, next) != ps_window_epoch(p, word))\n                ps_raise(&tail[ps_window_epoch(p, word) % p->resolution], word);\n            if (taken)"),
        ),
        (("window-refund-advance", "sc"), ("window-refund-advance", "c11")),
    ),
    Mutant(
        "advance: entries of a former tenant count",
        ((WINDOW, "        if (epoch >= start && epoch < own && epoch + r >= sum.epoch)\n            sum.used +=", "        if (epoch < own && epoch + r >= sum.epoch)\n            sum.used +="),),
        (("window-reset", "sc"), ("window-reset", "c11")),
    ),
    Mutant(
        "advance: the word's own epoch in the ring is not noticed",
        ((WINDOW, "sum.epoch = start < own && ps_window_epoch(p, there) == own ? own + 1 : own;", "sum.epoch = own;"),),
        (("window-behind", "sc"), ("window-behind", "c11")),
    ),
    Mutant(
        "advance: the entry that may be overwritten is read twice",
        ((WINDOW, "uint64_t entry = i == place ? there : ps_load_acquire(&tail[i]), epoch", "uint64_t entry = ps_load_acquire(&tail[i]), epoch"),),
        (("window-behind", "sc"), ("window-behind", "c11")),
    ),
    Mutant(
        "advance: the ring is lowered as well as raised",
        (("platform/atomics.h", "while (seen < value && !ps_exchange_if_equal", "while (seen != value && !ps_exchange_if_equal"),),
        (("window-force", "sc"), ("window-force", "c11")),
    ),
    # ---- log ----
    Mutant(
        "log: a gap is not filled in",
        ((LIMITER, "        ps_log_write(p, tail, missing, ps_later(limiter, now));", "        {}"),),
        (("log-gap", "sc"), ("log-gap", "c11")),
    ),
    Mutant(
        "log: a gap is filled in with a time from before it was seen",
        ((LIMITER, "        ps_log_write(p, tail, missing, ps_later(limiter, now));", "        ps_log_write(p, tail, missing, now);"),),
        (("log-skew", "sc"), ("log-skew", "c11")),
    ),
    Mutant(
        "log: an admission is dated by its own clock though the one before is not dated",
        ((LIMITER, "ps_log_undated(p, word, tail) ? ps_later(limiter, now) : now", "now"),),
        (("limits-log", "sc"), ("limits-log", "c11")),
    ),
    Mutant(
        "log: an admission that nobody has dated does not count",
        ((LOG, "            *missing = number;\n            time = now;", "            *missing = number;\n            time = 0;"),),
        (("log-skew", "sc"), ("log-skew", "c11")),
    ),
    Mutant(
        "log: laps are not looked at",
        ((LOG, "return entry >> PS_LOG_TIME_BITS == number / p->ring % PS_LOG_LAPS && entry != 0;", "return entry != 0;"),),
        (("log-reset", "sc"), ("log-reset", "c11")),
    ),
    Mutant(
        "log: a late writer overwrites a later lap",
        ((LOG, "if (seen != 0 && (ahead >= PS_LOG_LAPS / 2 || ahead == 0))", "if (seen != 0 && ahead == 0)"),),
        (("log-refund", "sc"), ("log-refund", "c11")),
    ),
    Mutant(
        "log: a new tenant's numbers begin anew",
        ((LOG, "return ps_log_word(p, next ? next : p->ring, 0);", "return ps_log_word(p, p->ring, 0);"),),
        (("log-reset", "sc"), ("log-reset", "c11")),
    ),
    # ---- fixed ----
    Mutant(
        "fixed: a clock that is behind opens an earlier window",
        ((FIXED, "return current > window ? current : window;", "return current;"),),
        (("limits-fixed", "sc"), ("limits-fixed", "c11")),
    ),
    Mutant(
        "fixed: the start of a window from the first hit is raised after the exchange",
        (
            (FIXED, "    ps_fixed_open(p, word, *next, tail, now);\n    return true;", "    return true;"),
            (LIMITER, "            if (taken)", "            if (p->algorithm == PS_FIXED_WINDOW)\n                ps_fixed_open(p, word, next, tail, now);\n            if (taken)"),
        ),
        (("first-open", "sc"), ("first-open", "c11")),
    ),
    Mutant(
        "fixed: who loses the race to open a window from the first hit does so as of the time by now",
        ((LIMITER, "    if (!(*p)->first_hit)\n", ""),),
        (("first-open", "sc"), ("first-open", "c11")),
    ),
    Mutant(
        "fixed: both windows from the first hit share one start",
        ((FIXED, "ps_raise(&tail[window & 1], now);", "ps_raise(&tail[0], now), ps_raise(&tail[1], now);"),),
        (("first-open", "sc"), ("first-open", "c11")),
    ),
    # ---- limits ----
    Mutant(
        "limits: what was taken is not given back",
        ((LIMITER, "                ps_alter(limiter, limit, policies[i], fingerprint, now, cost, caller, PS_HAND_BACK, taken[i]);", "                ;"),),
        (("limits-fixed", "sc"), ("limits-fixed", "c11")),
    ),
    Mutant(
        "limits: units are handed back as of when they were taken",
        ((LIMITER, "    uint64_t now = ps_later(limiter, then);\n    if (!ps_kept", "    uint64_t now = then;\n    if (!ps_kept"),),
        (("limits-give-back", "sc"), ("limits-give-back", "c11")),
    ),
    Mutant(
        "limits: the one that refuses gives back as well",
        ((LIMITER, "            while (i-- > 0) {", "            for (i++; i-- > 0;) {"),),
        (("limits-fixed", "sc"), ("limits-fixed", "c11")),
    ),
    # ---- holds ----
    Mutant(
        "holds: an entry is read while its seat is in transit",
        ((HOLDS, "        while (ps_load_seq(&commons->seats[seat].transit))", "        while (false)"),),
        (("no-longer-noted", "sc"), ("no-longer-noted", "c11")),
    ),
    Mutant(
        "holds: nobody looks whether a seat came to be in transit before the entries were read",
        ((HOLDS, "if (!ps_seat_in(dead, seat) && ps_load_seq(&commons->seats[seat].transit))", "if (false)"),),
        (("one-for-another", "sc"), ("one-for-another", "c11")),
    ),
    Mutant(
        "holds: a dead seat's entry is lowered last",
        (
            (
                HOLDS,
                "        if (ps_seat_in(dead, seat))\n            ps_held_less(tail, seat, UINT32_MAX);\n    for (unsigned tries",
                "        if (false)\n            ps_held_less(tail, seat, UINT32_MAX);\n    for (unsigned tries",
            ),
            (
                HOLDS,
                "            if (sum < held)\n                ps_ring(commons, key);\n",
                "            for (uint32_t seat = 0; seat < PS_SEATS_MOST; seat++)\n                if (ps_seat_in(dead, seat))\n"
                "                    ps_held_less(tail, seat, UINT32_MAX);\n",
            ),
        ),
        (("two-dead", "sc"), ("two-dead", "c11")),
    ),
    Mutant(
        "holds: taking is no transit",
        (
            (
                LIMITER,
                "    ps_add_seq(transit, 1);\n    bool put =",
                "    bool put =",
            ),
            (
                LIMITER,
                "ps_concurrency_held(p, next) - before);\n    ps_add_seq(transit, UINT64_MAX);",
                "ps_concurrency_held(p, next) - before);",
            ),
        ),
        (("recorded", "sc"), ("recorded", "c11")),
    ),
    Mutant(
        "holds: the word has no version",
        ((CONCURRENCY, "uint64_t version = (word >> p->count_bits) + 1;", "uint64_t version = word >> p->count_bits;"),),
        (("one-for-another", "sc"), ("one-for-another", "c11")),
    ),
)

SURVIVORS = (
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
        "Who takes such a word for an established one of 0 fails at its exchange, or where it looks at the key again, "
        "and only loses a round. With a window from the first hit it may raise the start of the slot's next tenant on "
        "the way, as any late opener may for its own key.",
    ),
    Mutant(
        "replace: words of an older replacement are left",
        ((LIMITER, "    ps_convert_all(limiter, number, old, now); /*", "    /*"),),
        (),
        "Such a word can only be a decision's that slept through two replacements which brought the word that it had "
        "read back to what it was. The pass is for those; no model has a third replacement, which alone would misread "
        "it.",
    ),
)
"""Changes that nothing finds out, and why that is right."""
