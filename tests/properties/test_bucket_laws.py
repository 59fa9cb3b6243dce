"""The token bucket's promise, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Call, buckets, fresh, histories, most_of, pass_ns, run

from penstock.clock import NS
from penstock.policy import TICK_SHIFT, compile_policies
from penstock.rate import TokenBucket, check_per

STORIES = buckets().flatmap(lambda limit: st.tuples(st.just(limit), histories(limit)))


def token_of(limit: TokenBucket) -> Fraction:
    """Nanoseconds from token to token."""
    return Fraction(check_per(limit.per), limit.limit)


def slack_of(limit: TokenBucket) -> Fraction:
    """Nanoseconds by which a reading of the clock may be off: none where a nanosecond is a whole number of ticks."""
    policy = compile_policies([[limit]], 0)[0][0]
    whole = policy.ticks_per_ns % 2**TICK_SHIFT == 0
    if whole and policy.ticks_per_ns * token_of(limit) == policy.token_ticks * 2**TICK_SHIFT:
        return Fraction(0)
    return 2 * token_of(limit) / policy.token_ticks


def check_any_interval(limit: TokenBucket, calls: list[Call], slack: Fraction) -> None:
    """Any interval of length t admits at most burst + t / T: those that begin and end with an admission are enough."""
    token, admitted = token_of(limit), [call for call in calls if call.allowed]
    for first, begin in enumerate(admitted):
        used = 0
        for end in admitted[first:]:
            used += end.cost
            assert (used - most_of(limit)) * token <= end.now - begin.now + slack


def check_answers(limit: TokenBucket, calls: list[Call], slack: Fraction) -> None:
    """Admitted exactly when max(tat, now) + cost * T - now <= burst * T."""
    token, tat = token_of(limit), Fraction(0)
    for call in calls:
        late = max(tat, call.now) + (call.cost - most_of(limit)) * token - call.now
        assert late <= slack if call.allowed else late > -slack
        if call.allowed:
            tat = max(tat, call.now) + call.cost * token


def check_story(engine: Any, story: tuple[TokenBucket, list[tuple[int, int]]]) -> None:
    limit, history = story
    calls = run(*fresh(engine, limit), history)
    check_answers(limit, calls, slack_of(limit))
    check_any_interval(limit, calls, slack_of(limit))


@given(STORIES)
def test_admits_what_was_promised(engine: Any, story: tuple[TokenBucket, list[tuple[int, int]]]) -> None:
    check_story(engine, story)


@pytest.mark.soak
@settings(max_examples=5_000)
@given(STORIES)
def test_admits_what_was_promised_at_length(engine: Any, story: tuple[TokenBucket, list[tuple[int, int]]]) -> None:
    check_story(engine, story)


@given(buckets())
def test_ticks_are_a_small_part_of_a_token_and_of_a_nanosecond(limit: TokenBucket) -> None:
    assert slack_of(limit) <= 2 * Fraction(1, 8)
    assert slack_of(limit) <= 2 * token_of(limit)


USUAL = [
    *((1, 86_400), (7, 86_400), (1, 3_600), (5, 60), (999, 60), (1, 1), (3, 1), (7, 1), (1_000, 1), (9_973, 1)),
    *((1_000_003, 1), (9_999_991, 1), (10_000_000, 1), (600_000_000, 60), (7, 0.001), (10, 0.000_001)),
]


def long_run_error(engine: Any, limit: TokenBucket, cost: int, calls: int) -> Fraction:
    """Takes `cost` again and again, each time as soon as it is there; the relative error of the rate."""
    one, clock = fresh(engine, limit)
    assert one.hit("a", most_of(limit))
    begin, taken = one.now_ns(), 0
    for _ in range(calls):
        refused = one.check("a", cost)
        if not refused:
            pass_ns(clock, round(refused.retry_after * NS))
            assert one.hit("a", cost)
        taken += cost
    return abs(Fraction(taken * check_per(limit.per), limit.limit * (one.now_ns() - begin)) - 1)


@pytest.mark.parametrize(("limit", "per"), USUAL)
def test_long_run_rate(engine: Any, limit: int, per: float) -> None:
    bucket = TokenBucket(limit, per)
    assert long_run_error(engine, bucket, -(-limit // 7), 300) <= Fraction(1, 10**6)


@given(st.integers(1, 10_000_000), st.sampled_from((1, 7, 60, 3_600, 86_400)), st.integers(1, 1_000))
@settings(max_examples=25)
def test_long_run_rate_of_any(engine: Any, limit: int, per: int, part: int) -> None:
    """From 1/day to 10 million a second; costs as large as need be for the run to take a millisecond or more."""
    bucket = TokenBucket(min(limit, 10_000_000 * per), per)
    cost = max(min(part, bucket.limit), -(-bucket.limit // (20_000 * per)))
    assert long_run_error(engine, bucket, cost, 60) <= Fraction(1, 10**6)


def test_equal_waits_do_not_drift(engine: Any) -> None:
    """Three a second is a third of a second each: what one wait is rounded up, the next is shorter."""
    one, clock = fresh(engine, TokenBucket(3, 1, burst=2))
    assert one.hit("a")
    times = []
    for _ in range(1_000):
        decision = one.check("a")
        if not decision:
            pass_ns(clock, round(decision.retry_after * NS))
            assert one.hit("a")
        times.append(one.now_ns())
    assert {after - before for before, after in pairwise(times)} == {333_333_333, 333_333_334}
    assert times[-1] == -(-999 * NS // 3)
