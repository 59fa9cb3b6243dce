"""What a decision costs as the table fills, and when ten times more keys come than it holds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from conftest import Bench, address

from penstock import Limiter, TokenBucket
from penstock.cli._timing import each_key

CAPACITY, VISITED, HEAVY = 200_000, 10_000, 1000
LEVELS = (10, 25, 50, 75, 90, 95, 100, 1000)

HIT_ONCE = TokenBucket(100, per=100_000_000)
"""Every key that came still owes its hit."""


def limiter_with(keys: int) -> Limiter:
    limiter = Limiter(HIT_ONCE, capacity=CAPACITY)
    for number in range(keys):
        limiter.hit(address(number))
    return limiter


def some_of(keys: int) -> list[str]:
    """Any VISITED of the first `keys` keys, as new objects side by side in memory, so that only the table differs."""
    return [address(number) for number in random.Random(2).sample(range(keys), VISITED)]


@pytest.mark.parametrize("percent", LEVELS)
def test_filling(bench: Bench, goal: Callable[[str, float], None], fact: Callable[..., None], percent: int) -> None:
    keys = CAPACITY * percent // 100
    limiter, least = limiter_with(keys), limiter_with(CAPACITY // 10)
    evicted = limiter.stats().evicted
    loops = {"10 %": each_key(least.hit, some_of(CAPACITY // 10), VISITED)}
    loops[f"{percent} %"] = each_key(limiter.hit, some_of(keys), VISITED)
    best = bench.turns(f"keys in a table rated for {CAPACITY:,}", f"{percent} %", loops, most=60)
    fact("evicted while filling", f"{percent} %", f"of {keys:,} keys that came once", evicted=evicted)
    if percent == 95:
        goal("filling", best["95 %"] / best["10 %"])
    elif percent == 1000:
        goal("overfull", best["1000 %"] / best["10 %"])


def test_nobody_is_set_free(fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    """Keys at their limit, then ten times more one-hit keys than the table holds: who is still refused?"""
    limiter = Limiter(HIT_ONCE, capacity=CAPACITY)
    heavy = [f"user:{number}" for number in range(HEAVY)]
    for key in heavy:
        while limiter.hit(key):
            pass
    for number in range(10 * CAPACITY):
        limiter.hit(address(number))
    free = sum(limiter.peek(key).allowed for key in heavy)
    fact("evicted while filling", "keys under limit", f"of {HEAVY:,} set free by {10 * CAPACITY:,} others", free=free)
    goal("set free", free)
