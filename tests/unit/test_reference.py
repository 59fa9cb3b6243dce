"""The reference beyond its contract: what it forgets and when, threads, forks, and life without NumPy."""

from __future__ import annotations

import os
import sys
import threading
from itertools import pairwise
from typing import Any

import pytest
from engines import make_engine, manual_clock

from penstock import _reference
from penstock.clock import NS, ManualClock
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket

TIMED = [TokenBucket(5, 60), SlidingWindow(5, 60), SlidingLog(5, 60), FixedWindow(5, 60), FixedWindow(5, 60, "first")]
EVERY = [*TIMED, Concurrency(5)]


def make(*limits: Limit, **named: Any) -> tuple[Any, ManualClock]:
    clock = manual_clock()
    return make_engine("reference", *limits, clock=clock, **named), clock


def tables(engine: Any) -> list[_reference.Table]:
    found: list[_reference.Table] = engine._Engine__tables
    return found


@pytest.mark.parametrize("limit", EVERY, ids=repr)
def test_what_is_free_is_forgotten_in_passing(limit: Limit) -> None:
    """However many keys come and go, those that owe nothing do not pile up; no sweep is needed for that."""
    engine, clock = make(limit, capacity=100_000)
    (table,) = tables(engine)
    for i in range(5_000):
        assert engine.hit(i)
        if isinstance(limit, Concurrency):
            engine.release(i)
        clock.advance(1)
        assert len(table.states) <= 250
        assert len(table._due) <= 2 * len(table.states) + _reference.SAMPLE


@pytest.mark.parametrize("limit", TIMED, ids=repr)
def test_a_full_table_knows_exactly_who_is_free(limit: Limit) -> None:
    """Refusing new keys, it serves one as soon as any of those it has owes nothing, and says when that is."""
    engine, clock = make(limit, capacity=100, evict=False)
    for i in range(100):
        assert engine.hit(i, 1 + i % 5)
        clock.advance(0.125)
    for i in range(0, 100, 3):
        engine.hit(i)
    for i in range(100, 160):
        refused = engine.check(i)
        if not refused:
            assert refused[:3] == (False, 5, 0)
            clock.set_ns(clock.now_ns() + round(refused.retry_after * NS) - 1)
            assert not engine.peek(i)
            clock.set_ns(clock.now_ns() + 1)
            assert engine.hit(i)
        assert len(tables(engine)[0].states) <= 100
    assert engine.counters()[2] == 0


def test_a_refund_frees_a_place_at_once() -> None:
    engine, _ = make(TokenBucket(5, 60), capacity=1, evict=False)
    assert engine.hit("a", 3)
    assert not engine.hit("b")
    engine.refund("a", 3)
    assert engine.hit("b")
    engine.reset("b")
    assert engine.hit("c")


def test_the_least_debt_gives_way() -> None:
    engine, _ = make(SlidingWindow(100, 60), capacity=_reference.SAMPLE)
    for i in range(_reference.SAMPLE):
        assert engine.hit(i, 10 + (7 * i) % 37)
    least = min(range(_reference.SAMPLE), key=lambda i: 10 + (7 * i) % 37)
    assert engine.hit("new", 50)
    assert engine.peek(least).remaining == 99
    assert engine.counters() == (_reference.SAMPLE + 1, 0, 1)


def test_an_open_window_goes_on_though_all_was_refunded() -> None:
    engine, clock = make(FixedWindow(5, 60, "first"))
    assert engine.hit("a", 2)
    clock.advance(50)
    engine.refund("a", 2)
    assert engine.peek("a").reset_after == 10
    assert engine.live() == 0


def test_many_tiers_share_one_heap() -> None:
    """A key may owe less long once a faster tier has written its word: it must be asked sooner."""
    engine, clock = make(
        tiers={"slow": [TokenBucket(1, 3_600)], "fast": [TokenBucket(10, 1)]}, capacity=1, evict=False
    )
    assert engine.hit("a", 1, "slow")
    assert engine.hit("a", 1, "fast")
    clock.advance(1)
    assert engine.hit("b", 1, "fast")


def test_refusals_are_counted_for_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reference, "DENIED_MOST", 64)
    engine, _ = make(TokenBucket(1, 60))
    assert engine.hit("often")
    truth = {"often": 500}
    for _ in range(500):
        assert not engine.hit("often")
    for i in range(300):
        engine.hit(i, 2)
        engine.hit(i, 2)
        truth[i] = 2
        counts = dict(engine.denied_keys())
        assert len(counts) <= 64
        assert counts[engine.fingerprint("often")] == 500
        assert all(counts.get(engine.fingerprint(key), count) >= count for key, count in truth.items()), "never too low"
    ordered = [count for _, count in engine.denied_keys()]
    assert all(before >= after for before, after in pairwise(ordered))


def test_threads_take_exactly_the_limit() -> None:
    engine, _ = make(TokenBucket(1_000, 3_600), SlidingLog(1_000, 3_600))
    taken, start = [], threading.Barrier(4)

    def work() -> None:
        start.wait()
        taken.append(sum(engine.hit("a") for _ in range(400)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1_000
    assert engine.counters() == (1_000, 600, 0)


class AskingClock(ManualClock):
    """A clock that looks into the limiter it serves."""

    engine: Any = None

    def now_ns(self) -> int:
        if self.engine is not None:
            self.engine.counters()
        return super().now_ns()


def test_a_clock_may_ask_its_engine() -> None:
    clock = AskingClock()
    clock.engine = make_engine("reference", TokenBucket(5), clock=clock)
    assert clock.engine.hit("a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_a_thread_decides() -> None:
    """The child's copy is whole and its lock is free, wherever the other thread was."""
    engine, _ = make(TokenBucket(10**6, 3_600))
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            engine.hit("a")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                before = engine.counters()[0]
                spent = engine.spending(1)[0][2]
                os._exit(0 if engine.hit("a") and spent == before else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()


def test_batches_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    engine, _ = make(TokenBucket(5, 60))
    assert engine.hit_many(["a", "b", "a"], [3, 1, 3]) == [True, True, False]
    assert engine.check_many(iter(["a"])) == [(True, 5, 1, 0.0, 48.0, 0)]
    with pytest.raises(ValueError, match=r"^costs must be one int or as many as there are keys \(1\), not 2$"):
        engine.hit_many(["a"], [1, 2])
    with pytest.raises(TypeError, match=r"^costs must be an int, not float$"):
        engine.hit_many(["a"], [1.0])
    with pytest.raises(ValueError, match=r"^costs=0 must be between 1 and 2\*\*53$"):
        engine.hit_many(["a"], 0)


def test_adopt_wants_an_engine() -> None:
    _reference.adopt(type("Sub", (_reference.Engine,), {"__slots__": ()}), "hit")
    with pytest.raises(TypeError, match="cls must be a subclass of Engine"):
        _reference.adopt(int, "hit")


def test_memory_follows_the_keys() -> None:
    engine, _ = make(TokenBucket(5, 60), SlidingLog(5, 60))
    empty = engine.bytes
    engine.hit_many(range(500))
    assert engine.bytes > empty + 500 * 100
