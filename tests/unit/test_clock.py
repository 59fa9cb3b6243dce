"""Clocks: seconds and nanoseconds, the manual clock, and time that misbehaves."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import NS, ManualClock, SystemClock, ns_to_seconds, seconds_to_ns

TIMED = [
    TokenBucket(2, 1),
    SlidingWindow(2, 1),
    SlidingLog(2, 1),
    FixedWindow(2, 1),
    FixedWindow(2, 1, align="first"),
]


# ---- seconds and nanoseconds ----


@given(st.integers(0, 2**63))
def test_no_wait_comes_out_shorter(ns: int) -> None:
    seconds = ns_to_seconds(ns)
    assert round(seconds * NS) >= ns
    assert seconds == ns / NS or round(math.nextafter(seconds, 0) * NS) < ns


@given(st.integers(0, 2**52))
def test_seconds_come_back_as_the_nanoseconds_they_were(ns: int) -> None:
    assert seconds_to_ns("t", ns_to_seconds(ns)) >= ns
    assert seconds_to_ns("t", ns / NS) == pytest.approx(ns, abs=1)


@pytest.mark.parametrize(("seconds", "ns"), [(0, 0), (0.0, 0), (1, NS), (1.5, 3 * NS // 2), (10**12, NS * 10**12)])
def test_seconds(seconds: float, ns: int) -> None:
    assert seconds_to_ns("t", seconds) == ns


@pytest.mark.parametrize(
    "seconds",
    [-1, -1e-9, math.nan, math.inf, -math.inf, 1e300, 10**12 + 1, pytest.param(10**5000, id="huge")],
)
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^timeout=.* must be finite, not negative and at most 10\*\*12 seconds$"):
        seconds_to_ns("timeout", seconds)


@pytest.mark.parametrize("seconds", [True, "1", None, 1j, [1]])
def test_seconds_of_another_type(seconds: Any) -> None:
    with pytest.raises(TypeError, match=f"timeout must be a number of seconds, not {type(seconds).__name__}"):
        seconds_to_ns("timeout", seconds)


# ---- the manual clock ----


def test_it_stands_still_until_told() -> None:
    clock = ManualClock(start=12.5)
    assert clock.now_ns() == clock.wall_ns() == 12_500_000_000
    clock.advance(0.5)
    clock.advance(0)
    assert clock.now_ns() == clock.wall_ns() == 13_000_000_000
    clock.set_ns(7)
    assert clock.now_ns() == clock.wall_ns() == 7


def test_what_it_refuses() -> None:
    clock = ManualClock()
    for wrong in (-1, math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="seconds="):
            clock.advance(wrong)
        with pytest.raises(ValueError, match="start="):
            ManualClock(wrong)
    with pytest.raises(TypeError, match="seconds must be a number of seconds, not str"):
        clock.advance("1")  # type: ignore[arg-type]
    for wrong_ns in (1.0, True, None):
        with pytest.raises(TypeError, match=f"ns must be an int, not {type(wrong_ns).__name__}"):
            clock.set_ns(wrong_ns)  # type: ignore[arg-type]
    assert clock.now_ns() == 0


def test_whoever_watches_is_called_at_every_move_until_he_stops() -> None:
    clock = ManualClock()
    calls: list[str] = []

    def first() -> None:
        calls.append("first")

    def second() -> None:
        calls.append("second")

    unwatch_first = clock.watch(first)
    unwatch_second = clock.watch(second)
    clock.advance(1)
    assert calls == ["first", "second"]
    unwatch_first()
    unwatch_first()
    clock.set_ns(5)
    assert calls == ["first", "second", "second"]
    unwatch_second()
    clock.advance(1)
    assert len(calls) == 3


def test_moves_from_many_threads_add_up() -> None:
    clock = ManualClock()

    def move() -> None:
        for _ in range(500):
            clock.advance(0.001)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now_ns() == 2000 * 1_000_000


# ---- the system's clock ----


def test_the_system_clock_moves_forward_only() -> None:
    clock = SystemClock()
    times = [clock.now_ns() for _ in range(1000)]
    assert times == sorted(times)
    assert abs(clock.wall_ns() - time.time_ns()) < 3600 * NS


def test_a_limiter_takes_the_system_clock_as_an_object_too(limiter_class: Any) -> None:
    limiter = limiter_class("1/day", clock=SystemClock())
    assert limiter.hit("a")
    assert not limiter.hit("a")


def test_an_engine_counts_from_its_making(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.now_ns() == 0
    clock.advance(1.5)
    assert limiter.now_ns() == 1_500_000_000
    ours = limiter_class("1/second")
    before = ours.now_ns()
    assert 0 <= before <= ours.now_ns()


# ---- time that misbehaves ----


@pytest.mark.parametrize("limit", TIMED, ids=repr)
@pytest.mark.parametrize("back", [1, NS, 10**18])
def test_a_step_back_is_standing_still(limiter_class: Any, limit: Any, back: int) -> None:
    clock = ManualClock(1_700_000_000)
    limiter = limiter_class(limit, clock=clock)
    clock.advance(100)
    assert limiter.hit("a", 2)
    clock.set_ns(clock.now_ns() - back)
    assert not limiter.hit("a")
    assert limiter.now_ns() == 100 * NS
    clock.advance(0.0)
    assert not limiter.hit("a")
    clock.set_ns(1_700_000_103 * NS)
    assert limiter.hit("a", 2)
    assert not limiter.hit("a")


@pytest.mark.parametrize("limit", TIMED, ids=repr)
def test_time_far_beyond_the_horizon_stands_still(limiter_class: Any, limit: Any) -> None:
    clock = ManualClock()
    limiter = limiter_class(limit, clock=clock)
    assert limiter.hit("a", 2)
    clock.set_ns(2**200)
    assert limiter.hit("b", 2)
    assert limiter.now_ns() == 2**57
    assert not limiter.hit("b")
    clock.advance(10)
    assert not limiter.hit("b")
    assert limiter.peek("b").retry_after > 0


def test_a_clock_may_ask_its_own_limiter(limiter_class: Any) -> None:
    class Asking:
        limiter: Any = None

        def now_ns(self) -> int:
            limiter, self.limiter = self.limiter, None
            if limiter is not None:
                limiter.hit("asked")
            return 0

        def wall_ns(self) -> int:
            return 0

    clock = Asking()
    limiter = limiter_class(Concurrency(1), clock=clock)
    clock.limiter = limiter
    assert limiter.hit("a")
    assert not limiter.hit("asked")
