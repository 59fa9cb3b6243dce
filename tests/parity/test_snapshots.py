"""A limiter that is saved and loaded goes on as if nothing had been: the same answers at every step."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from engines import BACKENDS, SECRET, START_NS, limiter_of, manual_clock
from histories import KEYS, Op, Seeded, World, draw_history, draw_world, histories
from hypothesis import HealthCheck, assume, given, note, settings
from test_histories import Twins, outcome

from penstock.decision import Decision
from penstock.policy import HORIZON
from penstock.rate import Concurrency

pytestmark = pytest.mark.usefixtures("both")
WAYS = list(itertools.product(BACKENDS, BACKENDS))


class Saved(Twins):
    """A limiter, and later the one that was loaded from its file beside it, on one clock."""

    def __init__(self, world: World, backend: str) -> None:
        self.clock = manual_clock()
        self.limits = world.tiers
        named = {tier: limits for tier, limits in world.tiers.items() if tier is not None}
        unnamed = world.tiers.get(None, ())
        self.native = limiter_of(backend)(*unnamed, tiers=named, clock=self.clock, secret=SECRET, capacity=10_000)
        self.reference = None
        self.last = Decision(True, 1, 0, 0.0, 0.0, 0)

    def save_and_load(self, backend: str, path: Path) -> None:
        behind = self.native.now_ns() - (self.clock.now_ns() - START_NS)
        self.clock.set_ns(self.clock.now_ns() + max(0, behind))  # one that stepped back stands still until then
        self.native.save(path)
        self.reference = limiter_of(backend).load(path, clock=self.clock)
        assert type(self.reference) is limiter_of(backend)

    def do(self, op: Op) -> None:
        if self.reference is not None or op[0] in ("advance", "until"):
            super().do(op)
        elif isinstance(answer := outcome(self.native, op[0], op[1:]), Decision):
            self.last = answer

    def compare(self) -> None:
        for name in ("live", "now_ns"):
            self.do((name,))
        self.do(("spending", 1000))
        for key, tier in itertools.product(KEYS, self.limits):
            for cost in (1, 2, 5):
                self.do(("peek", key, cost, tier))


def forgets(world: World) -> bool:
    """True when there is something that is not saved."""
    return any(isinstance(limit, Concurrency) for limits in world.tiers.values() for limit in limits)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power cut is expected here, and waiting for the disk would be most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def live_through(world: World, history: Iterable[Op], way: tuple[str, str], path: Path, middle: int) -> None:
    saved = Saved(world, way[0])
    for number, op in enumerate(history):
        if number == middle:
            saved.save_and_load(way[1], path)
            saved.compare()
        if op[0] not in ("replace", "live"):
            before = saved.clock.now_ns()
            saved.do(op)
            if saved.clock.now_ns() - START_NS > HORIZON // 4:  # then a loaded limiter is younger than the saved one
                saved.clock.set_ns(before)
    if saved.reference is None:
        saved.save_and_load(way[1], path)
    saved.compare()


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(story=histories())
def test_short_histories(story: tuple[World, list[Op]], way: tuple[str, str], tmp_path: Path) -> None:
    world, history = story
    assume(not forgets(world))
    note(repr(world))
    live_through(world, history, way, tmp_path / "state", len(history) // 2)


@pytest.mark.parametrize("seed", range(16))
def test_long_histories(seed: int, tmp_path: Path) -> None:
    draws = Seeded(seed)
    world = draw_world(draws)
    while forgets(world):
        world = draw_world(draws)
    live_through(world, draw_history(draws, world, 1000), WAYS[seed % 4], tmp_path / "state", 500)


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=5_000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(story=histories())
def test_many_short_histories(story: tuple[World, list[Op]], way: tuple[str, str], tmp_path: Path) -> None:
    assume(not forgets(story[0]))
    live_through(*story, way, tmp_path / "state", len(story[1]) // 2)


