"""A trace brings requests into the order of their times, and counts what was not in order."""

from __future__ import annotations

import random
from array import array

from penstock.replay.keys import KeyTable
from penstock.replay.times import NS
from penstock.replay.trace import SPAN_MOST, Trace


def trace_of(*requests: tuple[int, str]) -> Trace:
    """A finished trace of (time in nanoseconds, key)."""
    trace = Trace(KeyTable())
    numbers = [trace.table.number((key.encode(),)) for _, key in requests]
    trace.add(array("q", [time for time, _ in requests]), numbers)
    trace.lines = len(requests)
    trace.finish()
    return trace


def requests_of(trace: Trace) -> list[tuple[int, str]]:
    names = [key[0].decode() for key in trace.table.names()]
    return [(time, names[number]) for time, number in zip(trace.times, trace.keys, strict=True)]


def test_what_is_in_order_stays_as_it_is() -> None:
    requests = [(1, "b"), (1, "a"), (5, "b"), (5, "c")]
    trace = trace_of(*requests)
    assert requests_of(trace) == requests
    assert (trace.late, trace.latest_ns) == (0, 0)


def test_late_requests_are_counted_and_put_in_their_place() -> None:
    trace = trace_of((10, "a"), (30, "b"), (20, "c"), (29, "d"), (30, "e"), (5, "f"), (40, "g"))
    assert requests_of(trace) == [(5, "f"), (10, "a"), (20, "c"), (29, "d"), (30, "b"), (30, "e"), (40, "g")]
    assert (trace.late, trace.latest_ns) == (3, 25)


def test_any_order_is_sorted_by_time_and_then_by_place() -> None:
    chance = random.Random(2)
    requests = [(chance.randrange(50), f"k{i}") for i in range(500)]
    assert requests_of(trace_of(*requests)) == sorted(requests, key=lambda request: request[0])


def test_requests_years_from_the_rest_are_left_out() -> None:
    now = 1_750_000_000 * NS
    trace = trace_of((0, "1970"), (now, "a"), (now + SPAN_MOST, "b"), (now + SPAN_MOST + 1, "c"), (2**63 - 1, "2262"))
    assert requests_of(trace) == [(now, "a"), (now + SPAN_MOST, "b")]
    assert trace.stray == 3
    assert trace_of((0, "a"), (SPAN_MOST, "b")).stray == 0


def test_nothing() -> None:
    trace = trace_of()
    assert (len(trace), trace.late, trace.stray, trace.whole_seconds) == (0, 0, 0, True)


def test_whole_seconds_are_seen_and_spread() -> None:
    trace = trace_of((NS, "a"), (NS, "b"), (NS, "a"), (NS, "c"), (3 * NS, "a"))
    assert trace.whole_seconds
    trace.spread()
    quarter = NS // 4
    assert requests_of(trace) == [
        (NS, "a"), (NS + quarter, "b"), (NS + 2 * quarter, "a"), (NS + 3 * quarter, "c"), (3 * NS, "a"),
    ]  # fmt: skip
    assert not trace.whole_seconds


def test_only_the_first_bad_lines_are_kept() -> None:
    trace = Trace(KeyTable(), bad_kept=2)
    for number in range(1, 5):
        trace.add_bad("a.log", number, "odd", b"x" * 1000)
    assert trace.unreadable == 4
    assert [line.number for line in trace.bad] == [1, 2]
    assert all(len(line.text) <= 200 for line in trace.bad)
