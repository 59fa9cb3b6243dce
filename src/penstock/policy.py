"""From a limit as written to the numbers that engines compute with; the only place that knows how they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

from penstock.rate import (
    LIMITS_MOST,
    Concurrency,
    FixedWindow,
    Limit,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    check_per,
)

TOKEN_BUCKET, SLIDING_WINDOW, SLIDING_LOG, FIXED_WINDOW, CONCURRENCY, SHARED = range(6)
ALGORITHM_NAMES = ("token-bucket", "sliding-window", "sliding-log", "fixed-window", "concurrency")
SHARED_BUCKET, SHARED_FIXED, SHARED_SLIDING, SHARED_HELD = range(4)
"""What kind of limit is shared with other instances; as in sync/wire.py."""
KAPPA_ONE = 2**16
CAP_MOST = 2**20 - 1
SHARED_TAIL_WORDS = 23
HELD_BITS = 32
"""Of a Concurrency word in a segment, for the count; the rest is its version."""
HELD_TAIL_WORDS = 64

HORIZON = 2**57
"""Nanoseconds (4.5 years) that a limiter can run for; past that its time stands still."""
STATE_BITS = 63
TICK_SHIFT = 58
TICKS_PER_NS_MOST = 16

TIERS_MOST = 16
GENERATIONS = 2
"""Each tier has this many policy numbers, so that replaced limits can be told from the present ones."""


class Policy(NamedTuple):
    """One limit in an engine's units; the fields are ps_policy's, explained in ext/algorithms/decision.h."""

    algorithm: int
    limit: int
    per_ns: int = 0
    resolution: int = 0
    ticks_per_ns: int = 0
    token_ticks: int = 0
    span_ticks: int = 0
    tag: int = 0
    tag_shift: int = 0
    count_bits: int = 0
    age_bits: int = 0
    version_bits: int = 0
    per_inverse: int = 0
    grid_ns: int = 0
    first_hit: int = 0
    ring: int = 0
    kind: int = 0
    rate: int = 0
    interval_ns: int = 0
    kappa: int = 0

    @property
    def tail_words(self) -> int:
        """Words of 8 bytes that each slot has outside the table."""
        if self.algorithm == SLIDING_WINDOW:
            return self.resolution
        if self.algorithm == SLIDING_LOG:
            return self.ring + 1
        if self.algorithm == SHARED:
            return SHARED_TAIL_WORDS
        if self.algorithm == CONCURRENCY:
            return HELD_TAIL_WORDS if self.count_bits else 0
        return 2 if self.first_hit else 0


def compile_policies(tiers: Sequence[Sequence[Limit]], wall_ns: int) -> list[list[Policy]]:
    """The policies of every tier, limit by limit; a policy's tag is the number it has in the engine.

    tiers: for each tier its limits; all tiers have the same algorithms in the same order, and windows the same `per`
    (and resolution or align), because a key keeps its slot when it changes tier. wall_ns: the limiter's birth, for
    windows on the epoch grid. Raises ValueError.
    """
    _check_shapes(tiers, tiers[0])
    tag_bits = (len(tiers) * GENERATIONS - 1).bit_length()
    most = [max(limits[i].limit for limits in tiers) for i in range(len(tiers[0]))]
    return [
        [_compile(limit, tier, tag_bits, wall_ns, most[i]) for i, limit in enumerate(limits)]
        for tier, limits in enumerate(tiers)
    ]


def for_segment(tiers: Sequence[Sequence[Policy]]) -> list[list[Policy]]:
    """The same policies for tables that several processes have: what each of them holds is noted beside the word, so
    that it comes back when one dies. Raises ValueError for a Concurrency limit too large for that."""
    return [[_for_segment(policy) for policy in limits] for limits in tiers]


def _for_segment(policy: Policy) -> Policy:
    if policy.algorithm != CONCURRENCY:
        return policy
    if policy.limit >= 2 ** (HELD_BITS - 1):
        raise ValueError(f"Concurrency({policy.limit}) is too large to be shared: at most {2 ** (HELD_BITS - 1) - 1}")
    return policy._replace(count_bits=HELD_BITS)


INTERVAL_LEAST_NS = 5_000_000


def compile_shared(tiers: Sequence[Sequence[Limit]], every_ns: int, kappa: float) -> list[list[Policy]]:
    """`compile_policies` for limits that instances share: what an instance needs to decide on its part.

    every_ns: the sync interval asked for; a limit that fills or turns faster gets a shorter one, a tenth of that time,
    but never below 5 ms (sync.md, section 4). kappa: the part of a full limit that all instances together may admit
    ahead of Redis, 0 to 1. Raises ValueError for limits that cannot be shared.
    """
    _check_shapes(tiers, tiers[0])
    return [[_shared(limit, tier, every_ns, kappa) for limit in limits] for tier, limits in enumerate(tiers)]


def _shared(limit: Limit, tag: int, every_ns: int, kappa: float) -> Policy:
    if isinstance(limit, SlidingLog):
        raise ValueError(f"{limit!r} cannot be shared between instances; use TokenBucket, SlidingWindow or FixedWindow")
    if isinstance(limit, Concurrency):
        return _shared_held(limit, tag, every_ns, kappa)
    if isinstance(limit, FixedWindow) and limit.align == "first":
        raise ValueError(f"{limit!r} cannot be shared between instances: its windows must be those of all keys")
    burst, kind = limit.limit, SHARED_FIXED if isinstance(limit, FixedWindow) else SHARED_SLIDING
    if isinstance(limit, TokenBucket):
        burst, kind = limit.burst or limit.limit, SHARED_BUCKET
    part = round(kappa * KAPPA_ONE)
    policy = Policy(SHARED, burst, check_per(limit.per), tag=tag, kind=kind, rate=limit.limit, kappa=part)
    return policy._replace(interval_ns=max(INTERVAL_LEAST_NS, min(every_ns, shared_turn_ns(policy) // 10)))


def shared_turn_ns(policy: Policy) -> int:
    """Time in which a shared bucket fills, or a window turns. A tenth of it below INTERVAL_LEAST_NS is too fast to be
    shared well."""
    return policy.limit * policy.per_ns // policy.rate if policy.kind == SHARED_BUCKET else policy.per_ns


def _shared_held(limit: Concurrency, tag: int, every_ns: int, kappa: float) -> Policy:
    """per_ns: how long Redis counts what an instance holds."""
    from penstock.sync.wire import LEASE_NS  # here, because limits of one process do without it

    return Policy(
        SHARED,
        limit.limit,
        LEASE_NS,
        tag=tag,
        kind=SHARED_HELD,
        interval_ns=max(INTERVAL_LEAST_NS, every_ns),
        kappa=round(kappa * KAPPA_ONE),
    )


def cap_of(policy: Policy, instances: int, largest: int) -> int:
    """Units that one of so many instances may admit ahead of Redis; ps_shared_cap in ext/algorithms/shared.h.

    largest: the largest single cost asked for so far, of any tier; what is above this one's limit is never admitted.
    """
    if policy.kappa == 0:
        return 0
    part = (policy.kappa * min(policy.limit, 2**46) // KAPPA_ONE) // instances
    return min(max(part, min(largest, policy.limit)), CAP_MOST)


def replace_policies(
    old: Sequence[Sequence[Policy]], old_limits: Sequence[Limit], tiers: Sequence[Sequence[Limit]]
) -> list[list[Policy]]:
    """Policies for new limits on tables that are in use: the other generation's numbers, the old words' layout.

    old: the policies in force; old_limits: the limits of one of their tiers. Raises ValueError for limits of another
    shape, or too large for the words or rings there are; a new limiter is needed then.
    """
    _check_shapes(tiers, old_limits)
    tag_bits = (len(tiers) * GENERATIONS - 1).bit_length()
    return [
        [
            _recompile(limit, policy, (policy.tag + len(tiers)) % (len(tiers) * GENERATIONS), tag_bits)
            for limit, policy in zip(limits, policies, strict=True)
        ]
        for limits, policies in zip(tiers, old, strict=True)
    ]


def _recompile(limit: Limit, old: Policy, tag: int, tag_bits: int) -> Policy:
    if isinstance(limit, TokenBucket):
        return _bucket(limit, tag, tag_bits)
    if isinstance(limit, SlidingLog):
        if limit.limit > old.ring:
            raise ValueError(f"{limit!r}: its ring was made for at most {old.ring} admissions; make a new limiter")
        return _sliding_log(limit, tag, old.ring)
    if old.count_bits and limit.limit >= 2**old.count_bits:
        raise ValueError(f"{limit!r}: its word was made for counts below {2**old.count_bits}; make a new limiter")
    return old._replace(limit=limit.limit, tag=tag)


def _check_shapes(tiers: Sequence[Sequence[Limit]], first: Sequence[Limit]) -> None:
    if not 1 <= len(first) <= LIMITS_MOST:
        raise ValueError(f"a limiter has 1 to {LIMITS_MOST} limits, not {len(first)}")
    if len(tiers) > TIERS_MOST:
        raise ValueError(f"a limiter has at most {TIERS_MOST} tiers (the one without a name counts), not {len(tiers)}")
    for limits in tiers:
        if [_shape(limit) for limit in limits] != [_shape(limit) for limit in first]:
            raise ValueError(
                "a key keeps its state when its limits or its tier change, so all need the same algorithms in the"
                f" same order, and windows the same per: {_shapes(limits)} does not match {_shapes(first)}"
            )


def _shape(limit: Limit) -> tuple[object, ...]:
    """What two limits must share for their keys' words to mean the same."""
    if isinstance(limit, SlidingWindow):
        return SlidingWindow, check_per(limit.per), limit.resolution
    if isinstance(limit, FixedWindow):
        return FixedWindow, check_per(limit.per), limit.align
    if isinstance(limit, SlidingLog):  # a tier with a shorter per would forget what one with a longer still counts
        return SlidingLog, check_per(limit.per)
    return (type(limit),)


def _shapes(limits: Sequence[Limit]) -> str:
    return "; ".join(repr(limit) for limit in limits)


def _compile(limit: Limit, tag: int, tag_bits: int, wall_ns: int, most: int) -> Policy:
    match limit:
        case TokenBucket():
            return _bucket(limit, tag, tag_bits)
        case SlidingWindow():
            return _sliding_window(limit, tag, most)
        case SlidingLog():
            return _sliding_log(limit, tag, most)
        case FixedWindow():
            return _fixed_window(limit, tag, most, wall_ns)
        case Concurrency():
            return Policy(CONCURRENCY, limit.limit, tag=tag)


def _bucket(limit: TokenBucket, tag: int, tag_bits: int) -> Policy:
    """Chooses the tick: 1/q ns with the smallest q that makes a token a whole number of ticks, where q is small enough
    for the word to hold the horizon and a full bucket twice over; else a little more than 1/q ns with the largest such
    q."""
    per_ns, burst = check_per(limit.per), limit.burst or limit.limit
    tag_shift = STATE_BITS - tag_bits
    span_ns = -(-burst * per_ns // limit.limit)
    most = min(TICKS_PER_NS_MOST, 2**tag_shift // (HORIZON + 2 * span_ns + 2))
    if most < 1:
        tiers = 2 ** (tag_bits - 1)
        raise ValueError(f"{limit!r} takes too long to fill for {tiers} tiers: burst * per / limit is {span_ns} ns")
    exact = limit.limit // gcd(limit.limit, per_ns)
    token_ticks = per_ns * min(exact, most) // limit.limit
    return Policy(
        TOKEN_BUCKET,
        burst,
        per_ns,
        ticks_per_ns=(token_ticks * limit.limit << TICK_SHIFT) // per_ns,
        token_ticks=token_ticks,
        span_ticks=burst * token_ticks,
        tag=tag,
        tag_shift=tag_shift,
    )


def _inverse(per_ns: int) -> int:
    return (2**64 - 1) // per_ns


def _sliding_window(limit: SlidingWindow, tag: int, most: int) -> Policy:
    """Shares the word's bits out: as many to the epoch and the age as they need, half of the rest to the count beyond
    what the largest limit needs (so that a limit can be raised later), the rest to the version."""
    per_ns = check_per(limit.per)
    epoch_bits = (HORIZON * limit.resolution // per_ns + 2 * limit.resolution + 8).bit_length()
    age_bits = limit.resolution.bit_length()
    need = most.bit_length()
    spare = STATE_BITS - epoch_bits - age_bits - need
    if spare < 4:
        sub_ns = per_ns // limit.resolution
        raise ValueError(f"{limit!r} is too large for sub-windows of {sub_ns} ns: raise per or lower resolution")
    count_bits = need + min(spare // 2, 16)
    return Policy(
        SLIDING_WINDOW,
        limit.limit,
        per_ns,
        limit.resolution,
        tag=tag,
        count_bits=count_bits,
        age_bits=age_bits,
        version_bits=STATE_BITS - epoch_bits - age_bits - count_bits,
        per_inverse=_inverse(per_ns),
    )


def _sliding_log(limit: SlidingLog, tag: int, ring: int) -> Policy:
    """The number of admissions must fit beside `live` for the whole horizon, with room for refunded ones."""
    per_ns = check_per(limit.per)
    count_bits = ring.bit_length() + 1
    if 16 * ring * (HORIZON // per_ns + 1) >= 2 ** (STATE_BITS - count_bits):
        raise ValueError(f"{limit!r} is too fast for a log: use SlidingWindow or TokenBucket")
    return Policy(SLIDING_LOG, limit.limit, per_ns, tag=tag, count_bits=count_bits, ring=ring)


def _fixed_window(limit: FixedWindow, tag: int, most: int, wall_ns: int) -> Policy:
    per_ns = check_per(limit.per)
    count_bits = STATE_BITS - (HORIZON // per_ns + 3).bit_length()
    if most.bit_length() > count_bits:
        raise ValueError(f"{limit!r} is too large for so short a window: at most {2**count_bits - 1}")
    first_hit = limit.align == "first"
    return Policy(
        FIXED_WINDOW,
        limit.limit,
        per_ns,
        tag=tag,
        count_bits=count_bits,
        per_inverse=_inverse(per_ns),
        grid_ns=0 if first_hit else wall_ns % per_ns,
        first_hit=int(first_hit),
    )
