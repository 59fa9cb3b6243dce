"""The smallest limits: the one found refuses no more than asked, and one less refuses more."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pytest
from test_replay_simulate import ALGORITHMS, MAY_17, random_trace
from test_replay_trace import requests_of, trace_of

from penstock import FixedWindow, Limiter, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.replay.limits import RateLimit, read_limits
from penstock.replay.smallest import Smallest, find_smallest, model_of, times_by_key
from penstock.replay.times import NS
from penstock.replay.trace import Trace


def found(trace: Trace, limit: RateLimit, tolerated: int) -> Smallest:
    return find_smallest(trace, times_by_key(trace, Counter(trace.keys)), limit, tolerated)


def refused(trace: Trace, limit: RateLimit) -> int:
    """Requests refused by a limiter that is asked one by one."""
    clock = ManualClock()
    clock.set_ns(trace.times[0])
    limiter = Limiter(limit, capacity=1000, clock=clock)
    count = 0
    for time, key in requests_of(trace):
        clock.set_ns(time)
        count += not limiter.hit(key)
    return count


def less(limit: RateLimit, like: RateLimit) -> RateLimit | None:
    """The limit by one smaller, the burst in proportion."""
    if limit.limit == 1:
        return None
    return model_of(like, 0).scaled(limit.limit - 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rate", ["10/second", "7 per 3 seconds", "100/minute", "1/hour"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [1, NS])
def test_the_limiter_agrees(algorithm: str, rate: str, seed: int, step: int) -> None:
    trace = random_trace(seed, requests=300, step=step)
    (limit,) = read_limits([rate], algorithm)
    tolerated = len(trace) // 20
    smallest = found(trace, limit, tolerated)
    for answer, allowed in ((smallest.refuses_nobody, 0), (smallest.refuses_at_most, tolerated)):
        assert answer is not None
        assert refused(trace, answer) <= allowed
        if (smaller := less(answer, limit)) is not None:
            assert refused(trace, smaller) > allowed
    assert smallest.refuses_at_most.limit <= smallest.refuses_nobody.limit  # type: ignore[union-attr]


@pytest.mark.parametrize("burst", [1, 3, 15, 40, 1000])
def test_a_burst_is_scaled_in_proportion(burst: int) -> None:
    trace = random_trace(7, requests=300)
    limit = TokenBucket(10, 60, burst)
    smallest = found(trace, limit, 15)
    for answer, allowed in ((smallest.refuses_nobody, 0), (smallest.refuses_at_most, 15)):
        assert isinstance(answer, TokenBucket)
        assert answer.burst == max(1, answer.limit * burst // 10)
        assert refused(trace, answer) <= allowed
        smaller = less(answer, limit)
        assert smaller is None or refused(trace, smaller) > allowed


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_models_count_what_the_limiter_refuses(algorithm: str) -> None:
    """The model is not only right at the answer."""
    trace = random_trace(11, requests=400, keys=4)
    for rate in ("10/second", "10 per 7 seconds", "10/minute"):
        (limit,) = read_limits([rate], algorithm)
        model = model_of(limit, trace.times[0])
        by_key = [model.prepare(times) for times in times_by_key(trace, Counter(trace.keys)).values()]
        for n in (1, 2, 3, 5, 8, 13, 40):
            counts = [model.refused(requests, n) for requests in by_key]
            assert sum(counts) == refused(trace, model.scaled(n))
            assert [model.admits_all(requests, n) for requests in by_key] == [count == 0 for count in counts]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_larger_limit_never_refuses_more(algorithm: str) -> None:
    trace = random_trace(13, requests=500, keys=3)
    (limit,) = read_limits(["1 per 5 seconds"], algorithm)
    model = model_of(limit, trace.times[0])
    by_key = [model.prepare(times) for times in times_by_key(trace, Counter(trace.keys)).values()]
    counts = [sum(model.refused(requests, n) for requests in by_key) for n in range(1, 80)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]


def test_answers_that_can_be_worked_out_by_hand() -> None:
    start = MAY_17 * NS
    burst = trace_of(*[(start, "a")] * 7, (start + 3600 * NS, "a"))
    for limit in (TokenBucket(1, 60), SlidingWindow(1, 60), SlidingLog(1, 60), FixedWindow(1, 60)):
        answer = found(burst, limit, 0).refuses_nobody
        assert answer is not None
        assert answer.limit == 7
    steady = trace_of(*((start + i * NS, "a") for i in range(100)))
    assert found(steady, TokenBucket(5, 1), 0).refuses_nobody == TokenBucket(1, 1)
    assert found(steady, SlidingLog(5, 10), 0).refuses_nobody == SlidingLog(10, 10)
    # sub-windows of two seconds: the present one counts, and the five before it
    assert found(steady, SlidingWindow(5, 10, 5), 0).refuses_nobody == SlidingWindow(12, 10, 5)
    one_each = trace_of(*((start, f"key{i}") for i in range(100)))
    assert found(one_each, TokenBucket(50, 1), 0) == Smallest(TokenBucket(1, 1), TokenBucket(1, 1))


def test_where_every_limit_is_too_small() -> None:
    start = MAY_17 * NS
    many = trace_of(*[(start, "a")] * 65_537)
    assert found(many, SlidingLog(10, 60), 0).refuses_nobody is None
    assert found(many, SlidingLog(10, 60), 1).refuses_at_most == SlidingLog(65_536, 60)
    # one token a nanosecond is the most, and a burst of a millionth of it
    assert found(trace_of(*[(start, "a")] * 2_000), TokenBucket(1_000_000, 1, 1), 0).refuses_nobody is None


def test_windows_that_begin_with_a_key_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="epoch grid"):
        model_of(FixedWindow(5, 60, align="first"), 0)


def test_fast_requests_between_ticks() -> None:
    """Rates whose tokens are no whole number of nanoseconds: the limiter has the last word."""
    chance = random.Random(17)
    for limit in (48_211, 999_983, 7_654_321):
        period = Fraction(NS, limit)
        start = MAY_17 * NS + chance.randrange(NS)
        trace = trace_of(*((start + int(i * period), "a") for i in range(400)))
        answer = found(trace, TokenBucket(1_000_000, 1, 10), 0).refuses_nobody
        assert answer is not None
        assert refused(trace, answer) == 0
        assert refused(trace, model_of(TokenBucket(1_000_000, 1, 10), 0).scaled(answer.limit - 1)) > 0
