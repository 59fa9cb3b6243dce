"""The table is bounded: who has to go when it is full, who is refused, and who may stay."""

from __future__ import annotations

import math
from typing import Any

import pytest
from laws import fresh, pass_ns

from penstock.clock import NS
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket

CAPACITY = 200
TIMED = [TokenBucket(5, 60), SlidingWindow(5, 60), SlidingLog(5, 60), FixedWindow(5, 60), FixedWindow(5, 60, "first")]
EVERY = [*TIMED, Concurrency(5)]


def keys(count: int) -> list[str]:
    return [f"address {i}" for i in range(count)]


@pytest.mark.parametrize("limit", TIMED, ids=repr)
def test_a_spray_does_not_free_who_owes_more(engine: Any, limit: Limit) -> None:
    one, _ = fresh(engine, limit, capacity=CAPACITY)
    assert one.hit("heavy", 5)
    assert one.hit_many(keys(20 * CAPACITY)).all()
    admitted, denied, evicted = one.counters()
    assert (admitted, denied) == (20 * CAPACITY + 1, 0)
    assert one.live() <= 2 * CAPACITY, "bounded"
    assert evicted == admitted - one.live()
    assert not one.hit("heavy")
    assert dict(one.denied_keys()) == {one.fingerprint("heavy"): 1}
    assert one.spending(1) == [(one.fingerprint("heavy"), 0, 5)]


@pytest.mark.parametrize("limit", TIMED, ids=repr)
def test_deny_keeps_who_is_there(engine: Any, limit: Limit) -> None:
    one, clock = fresh(engine, limit, capacity=CAPACITY, evict=False)
    answers = one.hit_many(keys(20 * CAPACITY))
    assert answers[: CAPACITY // 2].all(), "no refusal far below capacity"
    assert CAPACITY // 2 < answers.sum() <= 2 * CAPACITY
    assert one.counters()[2] == 0
    first = [key for key, answer in zip(keys(20 * CAPACITY), answers.tolist(), strict=True) if answer]
    assert one.hit_many(first, 4).all(), "who is there is served"
    refused = one.check("one more", 1) if not one.peek("one more") else one.check("another")
    assert refused[:3] == (False, 5, 0)
    assert 0 < refused.retry_after <= 120
    pass_ns(clock, round(refused.retry_after * NS) - 1)
    assert not one.peek("one more")
    pass_ns(clock, 1)
    assert one.check("one more")
    pass_ns(clock, 120 * NS)
    assert one.live() == 0
    assert one.hit_many([f"later {i}" for i in range(CAPACITY // 2)]).all()
    assert one.counters()[2] == 0


@pytest.mark.parametrize("evict", [True, False])
def test_holders_are_never_evicted(engine: Any, evict: bool) -> None:
    one, _ = fresh(engine, Concurrency(5), capacity=CAPACITY, evict=evict)
    answers = one.hit_many(keys(20 * CAPACITY), 3)
    held = [key for key, answer in zip(keys(20 * CAPACITY), answers.tolist(), strict=True) if answer]
    assert CAPACITY // 2 < len(held) <= 2 * CAPACITY
    assert one.counters() == (len(held), 20 * CAPACITY - len(held), 0)
    assert not one.hit_many(held, 3).any()
    lost = next(key for key, answer in zip(keys(20 * CAPACITY), answers.tolist(), strict=True) if not answer)
    assert one.peek(lost) == (False, 5, 0, math.inf, 0.0, 0)
    for key in held:
        one.release(key, 3)
    assert one.live() == 0
    assert one.hit(lost)


@pytest.mark.parametrize("limit", EVERY, ids=repr)
def test_free_slots_are_used_again(engine: Any, limit: Limit) -> None:
    """Ten times more keys than capacity, but never more than half of it at once: nobody has to go."""
    one, clock = fresh(engine, limit, capacity=CAPACITY)
    for turn in range(20):
        wave = [(turn, i) for i in range(CAPACITY // 2)]
        assert one.hit_many(wave).all()
        assert one.live() == CAPACITY // 2
        if isinstance(limit, Concurrency):
            for key in wave:
                one.refund(key)
        pass_ns(clock, 120 * NS)
        assert one.live() == 0
    assert one.counters() == (10 * CAPACITY, 0, 0)


@pytest.mark.parametrize("limit", EVERY, ids=repr)
def test_clear_and_reset(engine: Any, limit: Limit) -> None:
    one, _ = fresh(engine, limit, capacity=CAPACITY, remember=True)
    assert one.hit_many(keys(50), 5).all()
    assert one.name_of(one.fingerprint("address 7")) == "address 7"
    one.reset("address 7")
    assert one.hit("address 7", 5)
    assert not one.hit("address 8")
    one.clear()
    assert one.live() == 0
    assert one.spending(10) == []
    assert one.name_of(one.fingerprint("address 7")) is None
    assert one.hit_many(keys(50), 5).all()
    assert one.counters() == (101, 1, 0), "what was decided stays counted"


def test_a_forced_charge_in_a_full_table_is_not_remembered(engine: Any) -> None:
    one, _ = fresh(engine, TokenBucket(5, 60), capacity=CAPACITY, evict=False)
    answers = one.hit_many(keys(20 * CAPACITY)).tolist()
    lost = keys(20 * CAPACITY)[answers.index(False)]
    one.force(lost, 5)
    assert one.live() == sum(answers)
    assert not one.peek(lost)
