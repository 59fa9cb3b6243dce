"""A clock that stands still, steps back or runs out admits nothing extra."""

from __future__ import annotations

from typing import Any

from engines import START_NS
from hypothesis import given
from hypothesis import strategies as st
from laws import KEY, concurrencies, fresh, histories, most_of, timed

from penstock.policy import HORIZON
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket


@given(timed, st.data())
def test_a_step_back_is_standing_still(engine: Any, limit: Limit, data: st.DataObject) -> None:
    history = data.draw(histories(limit))
    signs = data.draw(st.lists(st.sampled_from((1, 1, -1)), min_size=len(history), max_size=len(history)))
    (one, wobbling), (other, steady) = fresh(engine, limit), fresh(engine, limit)
    latest = START_NS
    for (wait, cost), sign in zip(history, signs, strict=True):
        wobbling.set_ns(wobbling.now_ns() + sign * wait)
        latest = max(latest, wobbling.now_ns())
        steady.set_ns(latest)
        assert one.check(KEY, cost) == other.check(KEY, cost)
        assert one.now_ns() == other.now_ns() == latest - START_NS


@given(timed | concurrencies, st.lists(st.integers(1, 40), max_size=40))
def test_no_time_no_more_than_the_limit(engine: Any, limit: Limit, costs: list[int]) -> None:
    one, clock = fresh(engine, limit)
    clock.set_ns(START_NS - 10**12)
    admitted = sum(cost for cost in costs if one.hit(KEY, cost))
    assert admitted <= most_of(limit)
    assert one.now_ns() == 0


def test_past_the_horizon_time_stands_still(engine: Any) -> None:
    limits = TokenBucket(2), SlidingWindow(2, 60), SlidingLog(2, 60), FixedWindow(2, 60), FixedWindow(2, 60, "first")
    for limit in (*limits, Concurrency(2)):
        one, clock = fresh(engine, limit)
        clock.set_ns(START_NS + HORIZON - 1)
        assert one.hit("a", 2)
        for beyond in (0, 1, 10**9, 2**62):
            clock.set_ns(START_NS + HORIZON + beyond)
            assert one.now_ns() == HORIZON
            assert not one.hit("a", 2)
        assert one.hit("b", 2)


def test_the_systems_clock_never_falls(limiter_class: Any) -> None:
    one = limiter_class("2/minute")
    readings = [one.now_ns() for _ in range(2_000)]
    assert readings == sorted(readings)
    assert 0 <= readings[0] < readings[-1] < HORIZON
    assert one.hit("a", 2)
    assert not one.hit("a")
    assert 0 < one.peek("a").retry_after <= 30
