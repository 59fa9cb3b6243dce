"""Clocks: the protocol, and one that tests move by hand. The system's own clock is in the core."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn, Protocol

from penstock.errors import shown

NS = 1_000_000_000
SECONDS_MOST = 10**12


class Clock(Protocol):
    """Where a limiter takes its time from. Both in nanoseconds; a step back is treated as standing still."""

    def now_ns(self) -> int:
        """Time that only moves forward; its origin does not matter."""

    def wall_ns(self) -> int:
        """Time since the Unix epoch, for windows on the epoch grid; read once, when the limiter is made."""


def seconds_to_ns(name: str, seconds: float) -> int:
    """Seconds, 0 to SECONDS_MOST, as the nearest whole number of nanoseconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not 0 <= seconds <= SECONDS_MOST:
        raise ValueError(f"{name}={shown(seconds)} must be finite, not negative and at most 10**12 seconds")
    return round(seconds * NS)


def ns_to_seconds(ns: int) -> float:
    """Nanoseconds as float seconds, never rounded to a shorter wait: seconds_to_ns gives at least `ns` back."""
    seconds = float(ns) / NS  # as the core does, where the quotient of two ints would be rounded once less
    while round(seconds * NS) < ns:
        seconds = math.nextafter(seconds, math.inf)
    return seconds


def _system_clock() -> Callable[[], int]:
    """Windows' performance counter, or the clock of POSIX that ext/platform/clock.h names."""
    if sys.platform == "win32":
        return time.perf_counter_ns
    number = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":
        number = time.CLOCK_MONOTONIC_RAW
    return partial(time.clock_gettime_ns, number)


_system_ns = _system_clock()


class SystemClock:
    """The clock a limiter uses by default, for whatever else must agree with it: the one that ext/platform/clock.h
    reads, which counts the time that the machine sleeps."""

    def now_ns(self) -> int:
        return _system_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is told otherwise; whoever waits on it is woken by the telling.

    start: seconds since the Unix epoch.

    Safe from any thread.

    >>> from penstock import Limiter
    >>> clock = ManualClock()
    >>> limiter = Limiter("1/minute", clock=clock)
    >>> limiter.hit("a"), limiter.hit("a")
    (True, False)
    >>> clock.advance(60)
    >>> limiter.hit("a")
    True
    """

    def __init__(self, start: float = 0.0) -> None:
        self._ns = seconds_to_ns("start", start)
        self._lock = threading.RLock()  # the garbage collector may end a waiting task in the midst of a move
        self._watchers: dict[int, Callable[[], None]] = {}

    def now_ns(self) -> int:
        return self._ns

    def wall_ns(self) -> int:
        return self._ns

    def advance(self, seconds: float) -> None:
        """Moves time on by `seconds`, to the nearest nanosecond."""
        step = seconds_to_ns("seconds", seconds)
        with self._lock:
            self._ns += step
        self._wake()

    def set_ns(self, ns: int) -> None:
        """Sets the time outright; setting it back is how to test a clock that steps back."""
        if isinstance(ns, bool) or not isinstance(ns, int):
            raise TypeError(f"ns must be an int, not {type(ns).__name__}")
        with self._lock:
            self._ns = ns
        self._wake()

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after every move of this clock, until the function returned is called."""
        with self._lock:
            self._watchers[id(wake)] = wake

        def unwatch() -> None:
            with self._lock:
                self._watchers.pop(id(wake), None)

        return unwatch

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ManualClock cannot be copied or pickled: limiters wait on it; make one in each process")

    def _wake(self) -> None:
        with self._lock:
            watchers = list(self._watchers.values())
        for wake in watchers:
            wake()
