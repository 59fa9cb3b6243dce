"""Batches from many threads: hit_many decides without the GIL, so threads truly run at the same time on any build."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from engines import limiter_of
from meeting import Witness, together

from penstock import FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.rate import Limit

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(
    os.environ.get("PENSTOCK_PURE", "") not in ("", "0"), reason="the reference keeps the GIL"
)

THREADS = 4
BATCH = 20_000
LIMITS = [
    TokenBucket(500, per=3600),
    SlidingWindow(500, per=3600, resolution=4),
    SlidingLog(500, per=3600),
    FixedWindow(500, per=3600),
    FixedWindow(500, per=3600, align="first"),
]


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{type(limit).__name__}-{getattr(limit, 'align', '')}")
def test_batches_admit_each_unit_once(limit: Limit, clock: ManualClock) -> None:
    """All threads send the same keys, some new, some hot: exactly the limit of each is admitted."""
    limiter = limiter_of("native")(limit, clock=clock, capacity=4096)
    witness = Witness()
    keys = numpy.random.default_rng(1).integers(0, 100, BATCH)
    rounds = 8

    def work(number: int) -> Any:
        mine, admitted = numpy.random.default_rng(number).permutation(keys), numpy.zeros(100, dtype=numpy.int64)
        for _ in range(rounds):
            with witness.span(number):
                allowed = limiter.hit_many(mine)
            admitted += numpy.bincount(mine[allowed], minlength=100)
        return admitted

    total = sum(together(THREADS, work))
    assert total.tolist() == numpy.minimum(numpy.bincount(keys, minlength=100) * rounds * THREADS, 500).tolist()
    stats = limiter.stats()
    assert stats.admitted == total.sum()
    assert stats.admitted + stats.denied == BATCH * rounds * THREADS
    if (os.cpu_count() or 1) > 1:
        assert witness.overlaps() > 0


def test_batches_of_new_keys(clock: ManualClock) -> None:
    """Every key is new and brought by all threads at once, in the same order: each is admitted once."""
    limiter = limiter_of("native")(FixedWindow(1, per=3600), clock=clock, capacity=1_000_000)
    rounds, count = 5, 100_000
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> list[int]:
        admitted = []
        for round_ in range(rounds):
            keys = numpy.arange(round_ * count, (round_ + 1) * count)
            barrier.wait(60)
            admitted.append(int(limiter.hit_many(keys).sum()))
        return admitted

    results = together(THREADS, work)
    assert [sum(one) for one in zip(*results, strict=True)] == [count] * rounds
    assert limiter.stats().evicted == 0
    shared = sum(0 < admitted < count for admitted in results[0])  # rounds whose keys this thread shared with others
    if (os.cpu_count() or 1) > 1:
        assert shared > 0


def test_decisions_of_checks_are_what_was_taken(clock: ManualClock) -> None:
    """check_many from many threads beside refunds: who was told yes was counted, and nobody else."""
    limiter = limiter_of("native")(SlidingWindow(300, per=3600, resolution=2), clock=clock)
    keys = numpy.zeros(2000, dtype=numpy.int64)

    def work(number: int) -> int:
        kept = 0
        for _ in range(20):
            admitted = int(limiter.check_many(keys)["allowed"].sum())
            back = admitted // 2
            for _ in range(back):
                limiter.refund(0)
            kept += admitted - back
        return kept

    kept = sum(together(THREADS, work))
    assert kept <= 300
    [(_, _, spent)] = limiter.spending(10)
    assert spent == kept


def test_batches_while_limits_are_replaced(clock: ManualClock) -> None:
    """Replacing limits under decisions that are under way must leave no word that is read by another policy."""
    limits = [
        TokenBucket(1000, per=1000),
        TokenBucket(999_983, per=700, burst=1000),  # other ticks in a nanosecond
        TokenBucket(7, per=3, burst=900),
    ]
    limiter = limiter_of("native")(limits[0], clock=clock, capacity=64)
    keys, stop = numpy.arange(50), threading.Event()

    def work(number: int) -> None:
        if number:
            while not stop.is_set():
                limiter.hit_many(keys)
                clock.advance(0.25)
        else:
            for step in range(300):
                clock.advance(0.25)
                limiter.replace(limits[step % 3])
            stop.set()

    together(3, work)
    limiter.replace(limits[0])
    assert all(units <= 1001 for _, _, units in limiter.spending(100))  # each replacement rounds up to a tick
    clock.advance(1001)
    assert [limiter.peek(key).remaining for key in range(50)] == [999] * 50


def test_keys_that_change_under_a_batch() -> None:
    """A list of keys that another thread makes longer and shorter: the batch is of one state of it."""
    limiter = limiter_of("native")("1000000/second")
    keys: list[object] = list(range(1000))
    stop = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            sizes = [len(limiter.hit_many(keys)) for _ in range(300)]
            stop.set()
            return min(sizes)
        while not stop.is_set():
            keys.extend(range(5000))
            del keys[1000:]
        return 1000

    assert min(together(2, work)) >= 1000
