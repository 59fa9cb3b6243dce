"""Random histories: limits of all kinds, then calls and moves of the clock that come close to where answers change."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st

from penstock.clock import NS
from penstock.policy import Policy, compile_policies
from penstock.rate import COUNT_MOST, YEAR_NS, Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket

KEYS: tuple[Any, ...] = ("a", b"a", 1, ("a", 1), "кир\ud800", 2**64)
WRONG_KEYS: tuple[Any, ...] = (1.5, None, ["a"], ("a", ("b",)), ("a", None), bytearray(b"a"), {"a": 1})
WRONG_COSTS: tuple[Any, ...] = (0, -1, 2**53 + 1, -(2**80), True, 1.0, "1", None)
WRONG_TIERS: tuple[Any, ...] = ("gold", "", 1, ("pro",), ["pro"], b"pro")
VERSIONS_LEAST = 14
"""Bits of a sliding window's version without which a long history must do without refunds: they may run out."""


class Draws(Protocol):
    """Where choices come from: hypothesis, which can take them back one by one, or a seed."""

    def integer(self, low: int, high: int) -> int: ...

    def pick(self, options: Sequence[Any]) -> Any: ...


class Seeded:
    """Choices from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.integer = self._random.randint
        self.pick = self._random.choice


class Drawn:
    """Choices of hypothesis."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        drawn: int = self._draw(st.integers(low, high))
        return drawn

    def pick(self, options: Sequence[Any]) -> Any:
        return self._draw(st.sampled_from(options))


Op = tuple[Any, ...]
"""(name, arguments...): a call of the engine's method `name`; or one of the moves in test_histories."""


@dataclass
class World:
    """Limits by tier, and their kinds: what replaced ones must keep."""

    tiers: dict[str | None, list[Limit]]
    kinds: list[Any]
    refunds: bool

    def policies(self, wall_ns: int) -> list[list[Policy]]:
        return compile_policies(list(self.tiers.values()), wall_ns)


def draw_world(d: Draws) -> World:
    """One to three limits, in one to three tiers."""
    kinds = [draw_kind(d) for _ in range(d.pick((1, 1, 1, 2, 3)))]
    names: list[str | None] = d.pick(([None], [None], [None, "pro"], ["free", "pro"], [None, "free", "pro"]))
    tiers = {name: [draw_limit(d, kind) for kind in kinds] for name in names}
    world = World(tiers, kinds, True)
    try:
        policies = world.policies(0)
    except ValueError:  # too many units for too short a window: smaller ones of the same kind
        kinds = [kind if kind[0] is TokenBucket else (kind[0], 60 * NS, *kind[2:]) for kind in kinds]
        tiers = {name: [draw_limit(d, kind) for kind in kinds] for name in names}
        world = World(tiers, kinds, True)
        policies = world.policies(0)
    world.refunds = all(policy.version_bits >= VERSIONS_LEAST or not policy.version_bits for policy in policies[0])
    return world


def draw_kind(d: Draws) -> tuple[Any, ...]:
    """What limits must share to replace one another."""
    kind = d.pick((TokenBucket, TokenBucket, SlidingWindow, SlidingLog, FixedWindow, FixedWindow, Concurrency))
    if kind in (TokenBucket, Concurrency):
        return (kind,)
    per_ns = draw_per(d)
    if kind is SlidingWindow:
        return kind, per_ns, d.pick((1, 2, 3, 6, 7, 60))
    if kind is FixedWindow:
        return kind, per_ns, d.pick(("epoch", "first"))
    return kind, per_ns


def draw_per(d: Draws) -> int:
    """A period in nanoseconds, of any size."""
    if d.integer(0, 2):
        period: int = d.pick((NS, 60 * NS, 86_400 * NS, 1_000, 1_000_000, 7 * NS, YEAR_NS, 4 * YEAR_NS))
        return period
    return d.integer(1_000, d.pick((10**4, 10**9, 10**12, 10**16)))


def draw_limit(d: Draws, kind: tuple[Any, ...]) -> Limit:
    if kind[0] is TokenBucket:
        return draw_bucket(d)
    if kind[0] is Concurrency:
        return Concurrency(d.pick((1, 2, 3, 5, 100, COUNT_MOST)))
    limit = d.pick((1, 2, 3, 5, 10, d.integer(1, 60)))
    per = kind[1] / NS
    if kind[0] is SlidingLog:
        return SlidingLog(limit, per)
    if d.integer(0, 3) == 0:
        limit = d.integer(1, 10**6)
    if kind[0] is SlidingWindow:
        return SlidingWindow(limit, per, kind[2])
    return FixedWindow(limit, per, kind[2])


def draw_bucket(d: Draws) -> TokenBucket:
    """From one token in years to one each nanosecond, with a whole number of ns between them or without."""
    per_ns = draw_per(d)
    per = per_ns / NS
    per_ns = round(per * NS)
    fastest = min(per_ns, COUNT_MOST)
    limit = min(fastest, d.pick((1, 2, 3, 5, 7, 10, 100, 999_983, 10**7, d.integer(1, fastest), fastest)))
    if d.integer(0, 1):
        return TokenBucket(limit, per)
    most = min(COUNT_MOST, 2 * YEAR_NS * limit // per_ns)
    if most < 1:
        return TokenBucket(limit, per)
    return TokenBucket(limit, per, min(most, d.pick((1, 2, 3, 10, limit, 2 * limit, d.integer(1, most), most))))


def draw_history(d: Draws, world: World, length: int | None = None) -> Iterator[Op]:
    """Operations, one after another; `length` of them, or about 40."""
    limits = [limit for tier in world.tiers.values() for limit in tier]
    known = list(world.tiers)
    calls = ["hit"] * 8 + ["check"] * 7 + ["peek"] * 3 + ["force"] * 2
    if world.refunds:
        calls += ["refund"] * 4 + ["release"] * 2
    moves = ["advance"] * 8 + ["until"] * 8 + ["back", "back", "many", "many", "wrong", "replace", "replace", "live"]
    moves += ["spending", "clear", "reset", "churn"] if world.refunds else ["spending"]
    while d.integer(0, 40) if length is None else length:
        length = None if length is None else length - 1
        name = d.pick(calls if d.integer(0, 2) else moves)
        if name in calls:
            cost = draw_cost(d, limits)
            yield name, d.pick(KEYS), cost if name != "force" else min(cost, COUNT_MOST), d.pick(known)
        elif name == "churn":  # numbers that only grow come round
            key, tier = d.pick(KEYS), d.pick(known)
            for _ in range(d.pick((1, 7, 70))):
                yield "hit", key, 1, tier
                yield d.pick(("refund", "release")), key, 1, tier
        elif name == "advance":
            yield "advance", draw_step(d, limits)
        elif name == "until":
            yield "until", d.pick(("retry", "retry", "reset")), d.pick((-1, 0, 0, 1))
        elif name == "back":
            yield "advance", -draw_step(d, limits)
        elif name == "many":
            keys = [d.pick(KEYS) for _ in range(d.integer(0, 8))]
            costs = draw_cost(d, limits) if d.integer(0, 1) else [draw_cost(d, limits) for _ in keys]
            yield d.pick(("hit_many", "check_many")), keys, costs, d.pick(known)
        elif name == "wrong":
            yield draw_wrong(d, known)
        elif name == "replace":
            yield "replace", {tier: [draw_limit(d, kind) for kind in world.kinds] for tier in world.tiers}
        elif name == "spending":
            yield name, 1000
        elif name == "reset":
            yield name, d.pick(KEYS)
        else:
            yield (name,)


def draw_cost(d: Draws, limits: Sequence[Limit]) -> int:
    """Mostly one; else what a limit just admits, does not, or a part of it."""
    if d.integer(0, 2):
        return 1
    limit = d.pick(limits)
    most = getattr(limit, "burst", None) or limit.limit
    cost = d.pick((2, 3, most, most + 1, (most + 1) // 2, d.integer(1, most), d.integer(1, COUNT_MOST)))
    return min(max(cost, 1), COUNT_MOST)


def draw_step(d: Draws, limits: Sequence[Limit]) -> int:
    """Nanoseconds that matter to one of the limits, and some that do not."""
    limit = d.pick(limits)
    per_ns = round(getattr(limit, "per", 1) * NS)
    step = d.pick(
        (
            *(0, 1, 2, per_ns, per_ns - 1, per_ns + 1, per_ns // 6, per_ns // 6 + 1, per_ns // limit.limit),
            *(-(-per_ns // limit.limit), 3 * per_ns, d.integer(0, per_ns), d.integer(0, 2 * per_ns // limit.limit)),
        )
    )
    if d.integer(0, 60) == 0:
        step = d.pick((YEAR_NS, 2**56, 2**57))
    return int(step)


def draw_wrong(d: Draws, known: Sequence[str | None]) -> Op:
    """A call with something that is no key, cost or tier."""
    wrong_tiers = [tier for tier in WRONG_TIERS if tier not in known] + ([] if None in known else [None])
    key, cost, tier = d.pick(KEYS), 1, d.pick(known)
    if d.integer(0, 1):
        key = d.pick(WRONG_KEYS)
    if d.integer(0, 1):
        cost = d.pick(WRONG_COSTS)
    if d.integer(0, 1):
        tier = d.pick(wrong_tiers)
    return d.pick(("hit", "check", "peek", "refund", "release", "force")), key, cost, tier


@st.composite
def histories(draw: Any) -> tuple[World, list[Op]]:
    """A world and a history in it, for hypothesis."""
    d = Drawn(draw)
    world = draw_world(d)
    return world, list(draw_history(d, world))
