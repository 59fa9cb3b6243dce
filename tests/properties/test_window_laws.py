"""What the windows promise, against the bare list of what was admitted."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from engines import START_NS
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Call, concurrencies, fixed_windows, fresh, histories, run, sliding_logs, sliding_windows, used_since

from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, check_per

Story = tuple[Any, list[tuple[int, int]]]


def stories(limits: st.SearchStrategy[Any]) -> st.SearchStrategy[Story]:
    return limits.flatmap(lambda limit: st.tuples(st.just(limit), histories(limit)))


def check_never_more(limit: SlidingWindow | SlidingLog, calls: list[Call]) -> None:
    """No interval of length per, closed at its end, has more than the limit."""
    for i, call in enumerate(calls):
        assert used_since(calls[: i + 1], call.now - check_per(limit.per)) <= limit.limit


def check_refuses_nothing_that_fits(limit: SlidingWindow, calls: list[Call]) -> None:
    """A refusal would have been more than the limit in per * (1 + 1/resolution)."""
    reach = check_per(limit.per) * (1 + Fraction(1, limit.resolution))
    for i, call in enumerate(calls):
        assert call.allowed or used_since(calls[:i], call.now - reach) + call.cost > limit.limit


def check_sliding_window(limit: SlidingWindow, calls: list[Call]) -> None:
    check_never_more(limit, calls)
    check_refuses_nothing_that_fits(limit, calls)


def check_sliding_log(limit: SlidingLog, calls: list[Call]) -> None:
    for i, call in enumerate(calls):
        fits = used_since(calls[:i], call.now - check_per(limit.per)) + call.cost <= limit.limit
        assert call.allowed == fits


def check_fixed_window(limit: FixedWindow, calls: list[Call]) -> None:
    """On the epoch grid, or in windows that a first admission opens."""
    per, begin, used = check_per(limit.per), -check_per(limit.per), 0
    for call in calls:
        if limit.align == "epoch":
            now_begin = (call.now + START_NS) // per * per - START_NS
        else:
            now_begin = call.now if call.now >= begin + per else begin
        if now_begin != begin:
            begin, used = now_begin, 0
        assert call.allowed == (used + call.cost <= limit.limit)
        used += call.cost * call.allowed


CHECKS = {
    "sliding window": (sliding_windows, check_sliding_window),
    "sliding log": (sliding_logs, check_sliding_log),
    "fixed window": (fixed_windows, check_fixed_window),
}


@pytest.mark.parametrize("name", CHECKS)
@given(st.data())
def test_admits_what_was_promised(engine: Any, name: str, data: st.DataObject) -> None:
    limits, check = CHECKS[name]
    limit, history = data.draw(stories(limits))
    check(limit, run(*fresh(engine, limit), history))


@pytest.mark.soak
@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=5_000)
@given(st.data())
def test_admits_what_was_promised_at_length(engine: Any, name: str, data: st.DataObject) -> None:
    limits, check = CHECKS[name]
    limit, history = data.draw(stories(limits))
    check(limit, run(*fresh(engine, limit), history))


def test_no_burst_at_a_boundary(engine: Any) -> None:
    """Where a fixed window lets twice its limit through within a moment, a sliding one does not."""
    per_ns, story = 60 * 10**9, [(59_999_999_999, 10), (2, 10)]
    fixed = run(*fresh(engine, FixedWindow(10, 60, "first")), [(0, 1), (59_999_999_998, 9), (2, 10)])
    assert all(call.allowed for call in fixed)
    sliding = run(*fresh(engine, SlidingWindow(10, 60)), story)
    assert [call.allowed for call in sliding] == [True, False]
    assert used_since(sliding, sliding[-1].now - per_ns) == 10


def mixed(limit: Limit) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Calls of hit, refund and force, with costs."""
    costs = st.integers(1, limit.limit + 1)
    return st.lists(st.tuples(st.sampled_from(("hit", "hit", "hit", "refund", "refund", "force")), costs), max_size=40)


@given(concurrencies.flatmap(lambda limit: st.tuples(st.just(limit), mixed(limit))))
def test_concurrency_counts(engine: Any, story: tuple[Concurrency, list[tuple[str, int]]]) -> None:
    limit, calls = story
    one, _ = fresh(engine, limit)
    held = 0
    for name, cost in calls:
        answer = getattr(one, name)("a", cost)
        if name == "hit":
            assert answer == (held + cost <= limit.limit)
            held += cost * answer
        else:
            held = held + cost if name == "force" else max(0, held - cost)
        seen = one.peek("a")
        assert (seen.remaining, seen.allowed) == (max(0, limit.limit - held - 1), held < limit.limit)
        assert seen.reset_after == float("inf")
        assert seen.retry_after == (0 if seen else float("inf"))
