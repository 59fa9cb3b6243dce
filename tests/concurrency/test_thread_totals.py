"""Many threads on one limiter, one decision at a time: exact totals, on both engines, and proof that they met."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest
from meeting import Witness, gil_enabled, together

from penstock import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.rate import Limit

THREADS = 6
LIMITS = [
    TokenBucket(50, per=3600),
    SlidingWindow(50, per=3600, resolution=3),
    SlidingLog(50, per=3600),
    FixedWindow(50, per=3600),
    FixedWindow(50, per=3600, align="first"),
    Concurrency(50),
]
IDS = ["token-bucket", "sliding-window", "sliding-log", "fixed-window", "fixed-window-first", "concurrency"]


@pytest.mark.parametrize("limit", LIMITS, ids=IDS)
def test_each_unit_is_admitted_once(limit: Limit, limiter_class: type[Any], clock: ManualClock) -> None:
    """While the clock stands, exactly the limit of each key is admitted, whoever asks."""
    keys = ["one", "two", b"three", 4, ("fi", "ve")]
    limiter = limiter_class(limit, clock=clock)
    witness, barrier = Witness(), threading.Barrier(THREADS)

    def work(number: int) -> Counter[Any]:
        decide, admitted = (limiter.hit if number % 2 else limiter.check), Counter[Any]()
        for round_ in range(60):
            if round_ % 6 == 0:
                barrier.wait(60)
            witness.turn(number)
            for key in keys[round_ % 5 :] + keys[: round_ % 5]:
                admitted[key] += bool(decide(key))
        return admitted

    total: Counter[Any] = sum(together(THREADS, work), Counter())
    assert total == dict.fromkeys(keys, 50)
    assert witness.changes() >= 2 * THREADS
    stats = limiter.stats()
    assert (stats.admitted, stats.denied, stats.evicted) == (50 * 5, THREADS * 60 * 5 - 50 * 5, 0)
    assert all(not limiter.peek(key) for key in keys)


@pytest.mark.parametrize("limit", LIMITS, ids=IDS)
def test_new_keys_at_the_same_moment(limit: Limit, limiter_class: type[Any], clock: ManualClock) -> None:
    """Two threads that bring the same new key must end in one slot, or both have the whole limit."""
    rounds, units = 150, limit.limit
    limiter = limiter_class(limit, clock=clock, capacity=rounds * 3)
    barrier = threading.Barrier(THREADS)

    def work(number: int) -> list[int]:
        admitted = []
        for round_ in range(rounds):
            barrier.wait(60)
            admitted.append(sum(limiter.hit((round_, "new"), 1 + units // 6) for _ in range(3)))
        return admitted

    fits = units // (1 + units // 6)
    assert [sum(one) for one in zip(*together(THREADS, work), strict=True)] == [fits] * rounds


def test_several_limits_count_what_was_admitted(limiter_class: type[Any], clock: ManualClock) -> None:
    """Hits and refunds from all sides: at the end each limit counts what was admitted and not given back."""
    limits = [TokenBucket(9, per=3600), SlidingLog(7, per=7200), FixedWindow(8, per=3600), Concurrency(6)]
    limiter = limiter_class(*limits, clock=clock)
    witness, held, most = Witness(), Counter[str](), Counter[str]()
    lock = threading.Lock()

    def work(number: int) -> Counter[str]:
        draw, mine = random.Random(number), Counter[str]()
        for _ in range(400):
            witness.turn(number)
            key = draw.choice(("a", "b"))
            if mine[key] and draw.random() < 0.5:
                mine[key] -= 1
                with lock:
                    held[key] -= 1
                limiter.refund(key)
            elif limiter.check(key, 1):
                mine[key] += 1
                with lock:
                    held[key] += 1
                    most[key] = max(most[key], held[key])
        return mine

    kept: Counter[str] = sum(together(THREADS, work), Counter())
    assert witness.changes() >= THREADS
    assert max(most.values()) <= 6
    for index, limit in enumerate(limits):
        alone = {fingerprint: units for fingerprint, which, units in limiter.spending(100) if which == index}
        assert alone == {limiter.fingerprint(key): units for key, units in kept.items() if units}, limit


def test_holds_never_exceed_the_limit(limiter_class: type[Any]) -> None:
    """`hold` and `acquire` from many threads: no more inside than allowed, and all is given back."""
    limiter = limiter_class(Concurrency(3))
    inside, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal inside, most
        for _ in range(40):
            with limiter.hold("door", timeout=60):
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1
        return number

    together(THREADS, work)
    assert 1 <= most <= 3
    assert limiter.peek("door", 3)


def test_time_moves_while_threads_hit(limiter_class: type[Any], clock: ManualClock) -> None:
    """A window's promise with the clock moving under the callers: what was admitted within any window fits it."""
    limiter = limiter_class(SlidingLog(10, per=1), clock=clock)
    steps = 60

    def work(number: int) -> list[tuple[float, float]]:
        admitted = []
        for _ in range(600):
            before = clock.now_ns()
            if limiter.hit("key"):
                admitted.append((before, clock.now_ns()))
            if number == 0 and len(admitted) < steps:
                clock.advance(0.017)
        return admitted

    spans = sorted(span for spans in together(4, work) for span in spans)
    for start, _ in spans:
        within = sum(start <= begun and ended < start + 10**9 for begun, ended in spans)
        assert within <= 10


def test_everything_at_once(limiter_class: type[Any]) -> None:
    """Every entry point from every side, the table too small, limits replaced meanwhile: nothing breaks."""
    limiter = limiter_class("20/second; 300/minute", capacity=64, remember_names=True)

    def work(number: int) -> int:
        draw, done = random.Random(number), 0
        calls: list[Callable[[Any], Any]] = [
            limiter.hit,
            limiter.check,
            limiter.peek,
            limiter.refund,
            limiter.reset,
            lambda key: limiter.hit(key, 3),
            lambda key: (reservation := limiter.reserve(key, 2)) and reservation.settle(1),
            lambda key: limiter.acquire(key, timeout=0),
        ]
        while done < 2500:
            done += 1
            draw.choice(calls)(draw.choice((draw.randrange(500), "hot", b"bytes", ("tu", "ple"))))
            if done % 100 == number:
                rate = draw.randrange(10, 30)
                rates = f"{rate}/second; {rate * 15}/minute"
                draw.choice((limiter.stats, limiter.top, limiter.clear, lambda rates=rates: limiter.replace(rates)))()
        return done

    assert together(THREADS, work) == [2500] * THREADS
    stats = limiter.stats()
    assert stats.live <= 500 + 3
    limiter.clear()
    assert limiter.hit("hot")


def test_time_of_an_engine_never_falls(limiter_class: type[Any]) -> None:
    """The system's clock as each thread sees it, and a clock of the user's that steps back."""
    limiter = limiter_class("1/second")
    clock = ManualClock(1000)
    behind = limiter_class("1/second", clock=clock)

    def work(number: int) -> int:
        falls, last, last_behind = 0, 0, 0
        for step in range(3000):
            if number == 0:
                clock.set_ns(1000 * 10**9 + (step * 7919) % 10_000)
            now, now_behind = limiter.now_ns(), behind.now_ns()
            falls += (now < last) + (now_behind < last_behind)
            last, last_behind = now, now_behind
        return falls

    assert together(4, work) == [0] * 4


@pytest.mark.skipif(gil_enabled(), reason="with the GIL, threads of Python never decide at the same time")
def test_decisions_overlap_without_the_gil(limiter_class: type[Any]) -> None:
    """On a free-threaded interpreter the threads above really run at the same time."""
    limiter, witness = limiter_class(TokenBucket(10**6, per=1)), Witness()
    end = monotonic() + 60

    def work(number: int) -> None:
        while witness.overlaps() < 20 and monotonic() < end:  # other work on the machine may keep them apart
            for _ in range(20):
                with witness.span(number):
                    for _ in range(500):
                        limiter.hit("hot")

    together(2, work)
    assert witness.overlaps() >= 20
