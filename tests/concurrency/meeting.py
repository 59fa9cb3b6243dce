"""Threads that start together, and the proof that they met: a witness that knows in which order they worked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter_ns, sleep
from typing import TypeVar

T = TypeVar("T")


def gil_enabled() -> bool:
    """False on a free-threaded interpreter that really runs without."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


@contextmanager
def frequent_switches() -> Iterator[None]:
    """With the GIL, threads take turns every few microseconds instead of every 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(count: int, work: Callable[[int], T], timeout: float = 120) -> list[T]:
    """Runs work(0) .. work(count - 1), each in a thread of its own, all from one moment; their results, in order.

    Raises what the first of them raised, or TimeoutError for a thread that does not end.
    """
    barrier = threading.Barrier(count)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def body(number: int) -> None:
        try:
            barrier.wait(timeout)
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(count)]
    with frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
    if errors:
        raise errors[0]
    if len(results) != count:
        raise TimeoutError(f"{count - len(results)} of {count} threads did not end in {timeout} s")
    return [results[number] for number in range(count)]


class Witness:
    """Who worked when. Threads tell it as they go; afterwards it says how often they met."""

    def __init__(self) -> None:
        self._turns: list[int] = []
        self._spans: list[tuple[int, int, int]] = []

    def turn(self, number: int) -> None:
        """Thread `number` is at work now; then it lets another in, as any I/O between two decisions would."""
        self._turns.append(number)  # atomic, with and without the GIL
        sleep(0)

    @contextmanager
    def span(self, number: int) -> Iterator[None]:
        """Thread `number` is at work from here to there."""
        start = perf_counter_ns()
        yield
        self._spans.append((start, perf_counter_ns(), number))

    def changes(self) -> int:
        """How often another thread was at work than just before."""
        return sum(before != after for before, after in pairwise(self._turns))

    def overlaps(self) -> int:
        """Pairs of neighbouring spans of two threads that share some time."""
        spans = sorted(self._spans[:])
        return sum(later[0] < earlier[1] and later[2] != earlier[2] for earlier, later in pairwise(spans))
