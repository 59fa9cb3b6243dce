"""Sliding windows whose words have few versions: native may run out of them, and then is stricter, never looser."""

from __future__ import annotations

import random
from typing import Any

import pytest
from engines import make_engine, manual_clock

from penstock.policy import compile_policies
from penstock.rate import SlidingWindow

pytestmark = pytest.mark.usefixtures("both")

TIGHT = [
    SlidingWindow(300, 0.001, 60),
    SlidingWindow(2**25, 1, 1),
    SlidingWindow(2**24, 1, 6),
    SlidingWindow(3, 1e-6, 6),
]


def versions_of(limit: SlidingWindow) -> int:
    return compile_policies([[limit]], 0)[0][0].version_bits


@pytest.mark.parametrize("limit", TIGHT, ids=repr)
@pytest.mark.parametrize("seed", range(5))
def test_stricter_never_looser(limit: SlidingWindow, seed: int) -> None:
    """What native admits, a reference that has been charged the same and given back all refunds would admit too."""
    assert versions_of(limit) <= 4, "the case is still tight"
    draw = random.Random(seed)
    clock = manual_clock()
    native, reference = (make_engine(backend, limit, clock=clock) for backend in ("native", "reference"))
    sub_ns = max(1, round(limit.per * 10**9) // limit.resolution)
    admitted = 0
    for _ in range(4_000):
        action = draw.choice(("hit", "hit", "hit", "refund", "reset", "advance", "advance"))
        cost = draw.choice((1, 1, limit.limit // 3 + 1, limit.limit))
        if action == "advance":
            clock.set_ns(clock.now_ns() + draw.choice((1, sub_ns // 2, sub_ns, sub_ns + 1, limit.resolution * sub_ns)))
        elif action == "hit" and native.hit("a", cost):
            admitted += 1
            assert reference.peek("a", cost)
            reference.force("a", cost)
        elif action != "hit" and draw.random() < 0.3:
            for engine in (native, reference):
                engine.refund("a", cost) if action == "refund" else engine.reset("a")
    assert admitted > 200
    clock.set_ns(clock.now_ns() + (limit.resolution + 2) * sub_ns + limit.resolution)
    fresh: list[Any] = [engine.check("a", limit.limit) for engine in (native, reference)]
    assert fresh[0] == fresh[1]
    assert fresh[0].allowed
