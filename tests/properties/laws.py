"""What the laws share: limits and histories for hypothesis, and a run of one through an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from engines import manual_clock
from hypothesis import strategies as st

from penstock.clock import NS
from penstock.rate import YEAR_NS, Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket, check_per

KEY = "user"


class Call(NamedTuple):
    """One call: when, ns since the engine was made; for how much; and whether it was admitted."""

    now: int
    cost: int
    allowed: bool


def periods(least: int = 1_000, most: int = 2**51) -> st.SearchStrategy[float]:
    """Periods in seconds, from usual ones to odd ones, between so many nanoseconds."""
    usual = [ns for ns in (1_000, 1_000_000, NS, 7 * NS, 60 * NS, 3_600 * NS, 86_400 * NS) if least <= ns]
    return st.one_of(st.sampled_from(usual), st.integers(least, 2 * least), st.integers(least, most)).map(
        lambda ns: ns / NS
    )


@st.composite
def buckets(draw: st.DrawFn, most_ns: int = YEAR_NS) -> TokenBucket:
    """Token buckets of any rate, many with no whole number of ns from token to token."""
    per = draw(periods(most=most_ns // 3))
    limit = draw(st.one_of(st.integers(1, 20), st.integers(1, min(check_per(per), 10**7))))
    most = max(1, min(3 * limit, 2 * YEAR_NS * limit // check_per(per)))
    return TokenBucket(limit, per, draw(st.none() | st.integers(1, most)))


sliding_windows = st.builds(
    SlidingWindow, st.integers(1, 30), periods(least=1_000_000), resolution=st.sampled_from((1, 2, 3, 6, 7, 60))
)
sliding_logs = st.builds(SlidingLog, st.integers(1, 30), periods())
fixed_windows = st.builds(
    FixedWindow, st.integers(1, 30), periods(least=1_000_000), align=st.sampled_from(("epoch", "first"))
)
concurrencies = st.builds(Concurrency, st.integers(1, 30))
timed = st.one_of(buckets(2**51), sliding_windows, sliding_logs, fixed_windows)
"""Limits that time alone frees again, in less than 2**53 ns: float seconds tell nanoseconds apart until then."""


def most_of(limit: Limit) -> int:
    """Units that it admits at once."""
    return getattr(limit, "burst", None) or limit.limit


def period_of(limit: Limit) -> int:
    """Nanoseconds in which it matters what happened."""
    if isinstance(limit, TokenBucket):
        return max(1, most_of(limit) * check_per(limit.per) // limit.limit)
    return NS if isinstance(limit, Concurrency) else check_per(limit.per)


@st.composite
def histories(draw: st.DrawFn, *limits: Limit, size: int = 30) -> list[tuple[int, int]]:
    """[(ns to wait, cost)]: waits about as long as these limits take to forget, and costs that they can admit."""
    period = max(period_of(limit) for limit in limits)
    most = min(most_of(limit) for limit in limits)
    near = [period, period + 1, period - 1, period // 6, -(-period // 6), period // most, -(-period // most), 0, 1]
    waits = st.one_of(st.sampled_from(near), st.integers(0, period // most), st.integers(0, 2 * period))
    costs = st.one_of(st.just(1), st.integers(1, most), st.sampled_from((most, (most + 1) // 2)))
    return draw(st.lists(st.tuples(waits, costs), max_size=size))


def run(engine: Any, clock: Any, history: Iterable[tuple[int, int]], key: Any = KEY) -> list[Call]:
    """The history's calls, one after another."""
    calls = []
    for wait, cost in history:
        pass_ns(clock, wait)
        calls.append(Call(engine.now_ns(), cost, engine.hit(key, cost)))
    return calls


def pass_ns(clock: Any, ns: int) -> None:
    """Moves a manual clock on by so many nanoseconds."""
    clock.set_ns(clock.now_ns() + ns)


def used_since(calls: Sequence[Call], since: int | Fraction) -> int:
    """Units admitted later than `since`."""
    return sum(call.cost for call in calls if call.allowed and call.now > since)


def fresh(make: Any, *limits: Limit, **named: Any) -> tuple[Any, Any]:
    """An engine with these limits, and its clock."""
    clock = manual_clock()
    return make(*limits, clock=clock, **named), clock
