"""What a decision says of the future is true to the nanosecond, on both sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import KEY, fresh, histories, most_of, pass_ns, run, timed

from penstock.clock import NS
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket

LIMITS = st.lists(timed, min_size=1, max_size=3).filter(
    lambda limits: max(map(most_of, limits)) <= 50 * min(map(most_of, limits))
)
STORIES = LIMITS.flatmap(
    lambda limits: st.tuples(
        st.just(limits), histories(*limits, size=15), st.integers(1, min(map(most_of, limits)) + 1)
    )
)


def check_retry(engine: Any, story: tuple[list[Limit], list[tuple[int, int]], int]) -> None:
    limits, history, cost = story
    one, clock = fresh(engine, *limits)
    run(one, clock, history)
    decision = one.check(KEY, cost)
    assert decision == one.peek(KEY, cost)._replace(**decision._asdict()), "all fields are there"
    if decision:
        assert decision.retry_after == 0
        return
    assert decision.remaining < cost
    if cost > min(map(most_of, limits)):
        assert decision.retry_after == math.inf
        return
    assert decision.retry_after > 0
    pass_ns(clock, round(decision.retry_after * NS) - 1)
    assert not one.peek(KEY, cost)
    pass_ns(clock, 1)
    assert one.peek(KEY, cost)
    assert one.hit(KEY, cost)


def check_reset(engine: Any, story: tuple[list[Limit], list[tuple[int, int]], int]) -> None:
    limits, history, cost = story
    one, clock = fresh(engine, *limits)
    run(one, clock, history)
    decision = one.check(KEY, cost)
    if decision.reset_after == 0:
        assert not decision
    else:
        pass_ns(clock, round(decision.reset_after * NS) - 1)
        assert one.peek(KEY, max(map(most_of, limits)) + 1).reset_after == pytest.approx(1e-9)
        if len(limits) == 1:
            assert not one.peek(KEY, most_of(limits[0]))
        pass_ns(clock, 1)
    for units in {1, cost, *map(most_of, limits)}:
        assert one.peek(KEY, units) == one.peek("never seen", units)
    assert one.spending(10) == []
    assert one.live() == 0


@given(STORIES)
def test_retry_after(engine: Any, story: tuple[list[Limit], list[tuple[int, int]], int]) -> None:
    check_retry(engine, story)


@given(STORIES)
def test_reset_after(engine: Any, story: tuple[list[Limit], list[tuple[int, int]], int]) -> None:
    check_reset(engine, story)


@pytest.mark.soak
@settings(max_examples=5_000)
@given(STORIES)
def test_waits_at_length(engine: Any, story: tuple[list[Limit], list[tuple[int, int]], int]) -> None:
    check_retry(engine, story)
    check_reset(engine, story)


@pytest.mark.parametrize(
    "limit",
    [
        *(TokenBucket(3, 2 * 365 * 86_400), SlidingWindow(3, 3 * 365 * 86_400, 7), SlidingLog(3, 10**8 + 1e-9)),
        *(FixedWindow(3, 4 * 365 * 86_400), FixedWindow(3, 10**8 + 1, "first")),
    ],
    ids=repr,
)
def test_waits_of_years_are_never_too_short(engine: Any, limit: Limit) -> None:
    """Beyond 2**53 ns a float second is coarser than a nanosecond: it is rounded up, by less than a microsecond."""
    one, clock = fresh(engine, limit)
    pass_ns(clock, 1)
    assert one.hit("a", 3)
    decision = one.check("a")
    wait = round(decision.retry_after * NS)
    pass_ns(clock, wait - 1_000)
    assert not one.peek("a")
    pass_ns(clock, 1_000)
    assert one.hit("a")


@given(timed, st.data())
def test_an_admitted_call_leaves_what_it_said(engine: Any, limit: Limit, data: st.DataObject) -> None:
    one, clock = fresh(engine, limit)
    run(one, clock, data.draw(histories(limit, size=10)))
    foretold = one.peek(KEY)
    assert one.check(KEY) == foretold
    if foretold.remaining:
        assert one.peek(KEY, foretold.remaining)
    assert not one.peek(KEY, foretold.remaining + 1)


def test_no_wait_helps(engine: Any) -> None:
    one, _ = fresh(engine, TokenBucket(5), Concurrency(3))
    assert one.check("a", 4) == (False, 3, 3, math.inf, 0.0, 1)
    assert one.check("a", 6) == (False, 5, 5, math.inf, 0.0, 0)
    assert one.check("a", 3) == (True, 3, 0, 0.0, math.inf, 1)
    assert one.check("a", 1) == (False, 3, 0, math.inf, math.inf, 1)
