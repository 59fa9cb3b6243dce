"""A replay says of each request what a limiter says that is asked one by one, and adds up its refusals."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from test_replay_trace import requests_of, trace_of

from penstock import Limiter, SlidingLog
from penstock.clock import ManualClock
from penstock.replay.limits import at_once, rate_text, read_limits
from penstock.replay.simulate import Refusals, replay
from penstock.replay.times import NS
from penstock.replay.trace import Trace

ALGORITHMS = ["token-bucket", "sliding-window", "sliding-log", "fixed-window"]
MAY_17 = 1431857103


def random_trace(seed: int, requests: int = 600, keys: int = 12, gap: float = 0.4, step: int = 1) -> Trace:
    """Requests of a few keys, some much busier than others, on times of `step` nanoseconds."""
    chance = random.Random(seed)
    now = MAY_17 * NS
    made = []
    for _ in range(requests):
        now += int(chance.expovariate(1 / gap) * NS) if chance.random() < 0.5 else 0
        made.append((now // step * step, f"key{int(keys * chance.random() ** 3)}"))
    return trace_of(*made)


def one_by_one(trace: Trace, *rates: str, algorithm: str) -> tuple[Counter[str], list[int], list[int]]:
    """(refusals by key, refusals by limit, times of refusals), by the public API alone."""
    clock = ManualClock()
    clock.set_ns(trace.times[0])
    limiter = Limiter(*rates, algorithm=algorithm, capacity=1000, clock=clock)  # type: ignore[arg-type]
    refused: Counter[str] = Counter()
    by_limit, times = [0] * len(read_limits(rates, algorithm)), []
    for time, key in requests_of(trace):
        clock.set_ns(time)
        if not (decision := limiter.check(key)):
            refused[key] += 1
            by_limit[decision.limit_index] += 1
            times.append(time)
    return refused, by_limit, times


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rate", ["2/second", "5 per 10 seconds", "2/second; 20/minute", "1/second; 3/minute; 40/hour"])
@pytest.mark.parametrize("step", [1, NS])
def test_a_replay_is_a_limiter_asked_one_by_one(algorithm: str, rate: str, step: int) -> None:
    trace = random_trace(seed=3, step=step)
    outcome = replay(trace, read_limits([rate], algorithm), lambda done, total: None)
    refused, by_limit, times = one_by_one(trace, rate, algorithm=algorithm)
    names = [key[0].decode() for key in trace.table.names()]
    assert {names[key]: refusals.count for key, refusals in outcome.refusals.items()} == dict(refused)
    assert outcome.by_limit == by_limit
    assert list(outcome.refused_ns) == times
    assert outcome.refused == sum(by_limit) > 0
    assert outcome.evicted == 0
    assert {names[key]: count for key, count in outcome.offered.items()} == Counter(
        key for _, key in requests_of(trace)
    )


def test_progress_ends_at_the_end() -> None:
    told: list[tuple[int, int]] = []
    replay(random_trace(1), read_limits(["1/second"], "token-bucket"), lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0


def test_keys_that_cannot_be_refused_need_no_memory() -> None:
    """A million keys under a log of 65,536 would need hundreds of gigabytes."""
    trace = trace_of(*((i, f"key{i}") for i in range(20_000)))
    outcome = replay(trace, [SlidingLog(65_536, 60)], lambda done, total: None)
    assert outcome.refused == 0
    assert len(outcome.offered) == 20_000


def test_spells_last_until_the_key_is_admitted_again() -> None:
    refusals = Refusals(100)
    refusals.add(100, 150)
    refusals.add(120, 150)
    refusals.add(140, 160)  # of another limit: still the same spell
    assert (refusals.count, refusals.spells, refusals.total_ns, refusals.longest_ns) == (3, 1, 60, 60)
    refusals.add(160, 165)  # admitted at 160, or another was
    refusals.add(300, 390)
    assert (refusals.count, refusals.spells, refusals.total_ns, refusals.longest_ns) == (5, 3, 155, 90)


@pytest.mark.parametrize(
    ("algorithm", "spells", "longest", "total"),
    [
        # Ten requests at once, ten more five seconds later, one after a minute and a half; 2/minute.
        ("token-bucket", 1, 30.0, 30.0),
        ("sliding-log", 1, 60.0, 60.0),
        ("fixed-window", 1, 57.0, 57.0),  # the window ends with the minute, 57 s after 10:05:03
    ],
)
def test_spells_of_a_real_limiter(algorithm: str, spells: int, longest: float, total: float) -> None:
    start = MAY_17 * NS
    requests = [(start, "a")] * 10 + [(start + 5 * NS, "a")] * 10 + [(start + 90 * NS, "a")]
    outcome = replay(trace_of(*requests), read_limits(["2/minute"], algorithm), lambda done, total: None)
    (refusals,) = outcome.refusals.values()
    assert (refusals.count, refusals.first_ns) == (18, start)
    assert (refusals.spells, refusals.longest_ns / NS, refusals.total_ns / NS) == (spells, longest, total)


@pytest.mark.parametrize(
    ("text", "written", "burst"),
    [
        ("10/second", "10/second", 10),
        ("10 per 1 second", "10/second", 10),
        ("100 per 5 minutes burst 7", "100 per 5 minutes burst 7", 7),
        ("60 per 60 seconds", "60/minute", 60),
        ("1/year", "1/year", 1),
        ("3 per 90 seconds", "3 per 90 seconds", 3),
    ],
)
def test_limits_are_written_as_they_are_read(text: str, written: str, burst: int) -> None:
    (limit,) = read_limits([text], "token-bucket")
    assert rate_text(limit) == written
    assert read_limits([written], "token-bucket") == [limit]
    assert at_once(limit) == burst


def test_what_no_limiter_takes_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="1 to 8 limits"):
        read_limits(["1/second"] * 9, "token-bucket")
    with pytest.raises(ValueError, match="65536"):
        read_limits(["65537/second"], "sliding-log")
