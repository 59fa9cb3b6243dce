"""Native and reference through the same history: the same answers, and the same errors, at every step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from engines import SECRET, engine_of, manual_clock
from histories import KEYS, Op, Seeded, World, draw_history, draw_world, histories
from hypothesis import given, note, settings

from penstock.clock import NS
from penstock.decision import Decision
from penstock.policy import replace_policies
from penstock.rate import YEAR_NS, FixedWindow

pytestmark = pytest.mark.usefixtures("both")


class Twins:
    """Two engines in one world, on one clock."""

    def __init__(self, world: World) -> None:
        self.clock = manual_clock()
        self.limits = world.tiers
        self.policies = world.policies(self.clock.wall_ns())
        tiers = {name: index for index, name in enumerate(world.tiers)}
        self.native, self.reference = (
            engine_of(backend)(
                self.policies, tiers, capacity=10_000, evict=True, secret=SECRET, clock=self.clock, remember=False
            )
            for backend in ("native", "reference")
        )
        self.last = Decision(True, 1, 0, 0.0, 0.0, 0)

    def do(self, op: Op) -> None:
        """One operation on both; AssertionError where they differ."""
        name, *arguments = op
        if name == "advance":
            self.clock.set_ns(self.clock.now_ns() + arguments[0])
        elif name == "until":
            self._move_until(*arguments)
        elif name == "replace":
            self._replace(arguments[0])
        else:
            native, reference = (outcome(engine, name, arguments) for engine in (self.native, self.reference))
            assert native == reference, f"{name}{tuple(arguments)} at {self.native.now_ns()} ns"
            if isinstance(native, Decision):
                self.last = native

    def _move_until(self, field: str, delta: int) -> None:
        """To where the last decision said that something changes, or just beside it."""
        wait = self.last.retry_after if field == "retry" else self.last.reset_after
        if wait != float("inf"):
            self.clock.set_ns(self.clock.now_ns() + max(0, round(wait * NS) + delta))

    def _replace(self, limits: dict[str | None, list[Any]]) -> None:
        first = next(iter(self.limits.values()))
        try:
            policies = replace_policies(self.policies, first, list(limits.values()))
        except ValueError:  # larger than the words there are
            return
        self.native.replace(policies)
        self.reference.replace(policies)
        self.policies, self.limits = policies, limits

    def compare(self) -> None:
        """All that can be asked."""
        tiers = list(self.limits)
        self.do(("live",))
        self.do(("spending", 1000))
        self.do(("counters",))
        self.do(("denied_keys",))
        self.do(("now_ns",))
        for key in KEYS:
            self.do(("fingerprint", key))
            for tier in tiers:
                self.do(("peek", key, 1, tier))


def outcome(engine: Any, name: str, arguments: Iterable[Any]) -> Any:
    """What a call answers, or its error."""
    try:
        answer = getattr(engine, name)(*arguments)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return answer.tolist() if hasattr(answer, "tolist") else answer


def live_through(world: World, history: Iterable[Op]) -> None:
    twins = Twins(world)
    for op in history:
        twins.do(op)
    twins.compare()


@settings(max_examples=300)
@given(histories())
def test_short_histories(story: tuple[World, list[Op]]) -> None:
    world, history = story
    note(repr(world))
    live_through(world, history)


@pytest.mark.parametrize("seed", range(24))
def test_long_histories(seed: int) -> None:
    draws = Seeded(seed)
    world = draw_world(draws)
    live_through(world, draw_history(draws, world, 2500))


@pytest.mark.soak
@settings(max_examples=20_000)
@given(histories())
def test_many_short_histories(story: tuple[World, list[Op]]) -> None:
    live_through(*story)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_many_long_histories(seed: int) -> None:
    draws = Seeded(seed)
    world = draw_world(draws)
    live_through(world, draw_history(draws, world, 10_000))


@pytest.mark.parametrize("ns", [11038079277645003, 26852237429408174, 64491279946447053, 91542666011125631])
def test_waits_that_no_float_tells_to_the_nanosecond(ns: int) -> None:
    """Beyond 2**53 ns both round up from the same quotient, so that they end at the same float."""
    per_ns = 4 * YEAR_NS
    twins = Twins(World({None: [FixedWindow(1, 4 * YEAR_NS // NS, "first")]}, [], True))
    twins.do(("hit", "a"))
    twins.do(("advance", per_ns - ns))
    twins.do(("check", "a"))
    assert not twins.last
    assert round(twins.last.retry_after * NS) >= ns
