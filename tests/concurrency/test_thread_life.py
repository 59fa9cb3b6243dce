"""Threads and processes that come and go while others decide: thread numbers, forks, and limiters that die."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import Any

import pytest
from meeting import gil_enabled, together

from penstock import Concurrency, FixedWindow, Limiter
from penstock.clock import ManualClock


def test_more_threads_than_cells(limiter_class: type[Any], clock: ManualClock) -> None:
    """Past 30 threads some share a cell of the counters; nothing is lost there either."""
    limiter = limiter_class(FixedWindow(1000, per=3600), clock=clock)

    def work(number: int) -> int:
        return sum(limiter.hit("key") for _ in range(50))

    assert sum(together(48, work)) == 1000
    stats = limiter.stats()
    assert (stats.admitted, stats.denied) == (1000, 48 * 50 - 1000)


def test_threads_that_come_and_go(limiter_class: type[Any], clock: ManualClock) -> None:
    """A thread's number is given on when it ends, and what it counted stays counted."""
    limiter = limiter_class(FixedWindow(10**6, per=3600), clock=clock)
    for _ in range(60):
        together(4, lambda number: limiter.hit(number))
    assert limiter.stats().admitted == 240


def test_limiters_that_die_under_threads(limiter_class: type[Any]) -> None:
    """Limiters made, used and dropped by many threads at once."""

    def work(number: int) -> int:
        return sum(limiter_class("5/second", capacity=64).hit("key") for _ in range(100))

    assert together(4, work) == [100] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_threads_decide() -> None:
    """A child made in the middle of others' decisions has its own copy, and it works."""
    limiter, stop = Limiter(FixedWindow(100, per=3600), Concurrency(100)), threading.Event()
    for _ in range(40):
        limiter.hit("child's")

    def work(number: int) -> list[int]:
        if number:
            while not stop.is_set():
                limiter.hit(("parent's", number))
            return []
        codes = []
        for _ in range(10):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads is what is tested
                child = os.fork()
            if child == 0:
                code = 1
                try:
                    admitted = sum(limiter.hit("child's") for _ in range(100))
                    code = 0 if admitted == 60 and limiter.hit("new") and not limiter.hit("child's") else 2
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        return codes

    assert together(3, work)[0] == [0] * 10
    assert sum(limiter.hit("child's") for _ in range(100)) == 60, "children have copies of their own"


@pytest.mark.skipif(
    "free-threading" not in sys.version, reason="only a free-threaded interpreter could have its GIL switched on"
)
def test_import_leaves_the_gil_off() -> None:
    """The compiled core says that it needs no GIL; else importing it would switch the GIL on for the whole process."""
    if sys._xoptions.get("gil") == "1" or os.environ.get("PYTHON_GIL") == "1":
        pytest.skip("the GIL was asked for")
    assert not gil_enabled()
