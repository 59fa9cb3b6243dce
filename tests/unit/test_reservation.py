"""What is kept between taking and giving back: reservations settled once, holds given back however they end."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from penstock import (
    Concurrency,
    CostTooLarge,
    FixedWindow,
    Hold,
    RateLimited,
    Reservation,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from penstock.clock import ManualClock

LIMITS = [
    TokenBucket(10, 60),
    SlidingWindow(10, 60),
    SlidingLog(10, 60),
    FixedWindow(10, 60),
    FixedWindow(10, 60, align="first"),
    Concurrency(10),
]
every_limit = pytest.mark.parametrize("limit", LIMITS, ids=repr)


# ---- reservations ----


@every_limit
@pytest.mark.parametrize(("actual", "left"), [(0, 10), (1, 9), (6, 4), (9, 1), (10, 0)])
def test_settling_leaves_what_was_really_used(
    limiter_class: Any, clock: ManualClock, limit: Any, actual: int, left: int
) -> None:
    limiter = limiter_class(limit, clock=clock)
    reservation = limiter.reserve("a", 6)
    assert isinstance(reservation, Reservation)
    assert reservation
    assert reservation.cost == 6
    assert reservation.decision.remaining == 4
    reservation.settle(actual)
    decision = limiter.peek("a")
    assert decision.remaining == max(left - 1, 0)
    assert bool(decision) is (left > 0)


@every_limit
def test_more_than_there_is_is_owed(limiter_class: Any, clock: ManualClock, limit: Any) -> None:
    limiter = limiter_class(limit, clock=clock)
    limiter.reserve("a", 6).settle(15)
    assert limiter.peek("a").remaining == 0
    assert not limiter.hit("a")
    clock.advance(6.000001)
    if isinstance(limit, TokenBucket):
        assert not limiter.hit("a"), "five more are owed first"
        clock.advance(5 * 6)
        assert limiter.hit("a")


def test_a_debt_of_any_size_is_kept_within_the_words(limiter_class: Any, clock: ManualClock) -> None:
    for limit in LIMITS:
        limiter = limiter_class(limit, clock=clock)
        limiter.reserve("a", 1).settle(2**53)
        assert not limiter.hit("a")
        limiter.reset("a")
        assert limiter.hit("a", 10)


def test_a_refused_reservation(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", clock=clock)
    assert limiter.hit("a", 5)
    reservation = limiter.reserve("a", 6)
    assert not reservation
    assert reservation.decision.retry_after == 6
    assert repr(reservation) == "<Reservation of 6, refused>"
    with pytest.raises(RuntimeError, match="on a reservation that was refused: nothing was taken"):
        reservation.settle(3)
    assert limiter.peek("a", 5)
    assert limiter.reserve("b", 11).decision.retry_after == float("inf")


def test_a_reservation_is_settled_once(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", clock=clock)
    reservation = limiter.reserve("a", 6)
    assert repr(reservation) == "<Reservation of 6, open>"
    reservation.settle(6)
    assert repr(reservation) == "<Reservation of 6, settled>"
    with pytest.raises(RuntimeError, match="on a reservation that is settled already"):
        reservation.settle(0)
    assert limiter.peek("a").remaining == 3


def test_a_wrong_settlement_leaves_it_open(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", clock=clock)
    reservation = limiter.reserve("a", 6)
    for wrong in (-1, 2**53 + 1, 2**63):
        with pytest.raises(ValueError, match=r"actual=-?[0-9]+ must be between 0 and 2\*\*53"):
            reservation.settle(wrong)
    for wrong_type in (True, 1.0, None, "1"):
        with pytest.raises(TypeError, match=f"actual must be an int, not {type(wrong_type).__name__}"):
            reservation.settle(wrong_type)
    assert limiter.peek("a").remaining == 3
    reservation.settle(1)
    assert limiter.peek("a").remaining == 8


def test_a_reservation_is_settled_in_its_tier(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", clock=clock, tiers={"pro": "100/minute"})
    limiter.reserve("a", 50, "pro").settle(95)
    assert limiter.peek("a", tier="pro").remaining == 4
    limiter.reserve("b", 5, tier="pro").settle(0)
    assert limiter.peek("b", 10)


def test_a_reservation_that_is_dropped_stays_charged(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", clock=clock)
    limiter.reserve("a", 6)
    gc.collect()
    assert limiter.peek("a").remaining == 3


# ---- holds ----


def test_a_hold_is_held_inside_the_block(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(3))
    hold = limiter.hold("a", 2)
    assert isinstance(hold, Hold)
    assert limiter.peek("a").remaining == 2, "nothing is taken before the block"
    with hold as decision:
        assert decision
        assert decision.remaining == 1
        assert limiter.peek("a").remaining == 0
        with limiter.hold("a") as inner:
            assert inner.remaining == 0
            with pytest.raises(RateLimited) as caught, limiter.hold("a"):
                raise AssertionError("must not be entered")
            assert caught.value.decision.retry_after == float("inf")
        assert limiter.peek("a").remaining == 0
    assert limiter.peek("a").remaining == 2
    with hold:
        assert limiter.peek("a").remaining == 0
    assert limiter.peek("a").remaining == 2


def test_a_hold_in_asyncio(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(2))
    most = now = 0

    async def work() -> None:
        nonlocal most, now
        async with limiter.hold("a", timeout=None) as decision:
            assert decision
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async def several() -> None:
        await asyncio.gather(*(work() for _ in range(20)))

    asyncio.run(several())
    assert most == 2
    assert limiter.peek("a", 2)


def test_holds_of_threads(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(2))
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with limiter.hold("a", timeout=None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 2
    assert len(most) == 80
    assert limiter.peek("a", 2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_an_exception_gives_back_and_goes_on(limiter_class: Any, error: type[BaseException]) -> None:
    limiter = limiter_class(Concurrency(1))
    with pytest.raises(error), limiter.hold("a"):
        raise error("out")
    assert limiter.hit("a")


def test_an_exception_in_asyncio_gives_back(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1))

    async def fail() -> None:
        async with limiter.hold("a"):
            raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        asyncio.run(fail())
    assert limiter.peek("a")

    async def cancelled() -> None:
        async def body() -> None:
            async with limiter.hold("a"):
                await asyncio.sleep(3600)

        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        assert not limiter.peek("a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert limiter.peek("a")


def test_a_hold_that_is_dropped_inside_gives_back(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(2))
    first = limiter.hold("a")
    first.__enter__()
    second = limiter.hold("a")
    second.__enter__()
    cycle: list[Any] = [second]
    cycle.append(cycle)
    assert not limiter.peek("a")
    del first
    gc.collect()
    assert limiter.peek("a").remaining == 0
    del cycle, second
    gc.collect()
    assert limiter.peek("a").remaining == 1


def test_a_hold_collected_while_its_thread_is_among_the_waiters(limiter_class: Any) -> None:
    """The garbage collector runs anywhere: nothing that a Hold's end does may wait for its own thread."""
    limiter = limiter_class(Concurrency(1))
    done: list[bool] = []

    def work() -> None:
        hold = limiter.hold("a")
        hold.__enter__()
        thread = threading.Thread(target=lambda: done.append(limiter.acquire("a")))
        thread.start()
        while not limiter._waiters._queues:
            pass
        with limiter._waiters._lock:
            del hold
        thread.join()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(20)
    assert done == [True]


def test_one_block_at_a_time(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(5))
    hold = limiter.hold("a", 2)

    async def enter() -> None:
        await hold.__aenter__()

    with hold:
        with pytest.raises(RuntimeError, match="this hold is inside a block already: make one for each block"):
            hold.__enter__()
        with pytest.raises(RuntimeError, match="inside a block already"):
            asyncio.run(enter())
        assert limiter.peek("a").remaining == 2
    assert limiter.peek("a").remaining == 4


def test_one_block_at_a_time_even_while_it_waits(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1))
    assert limiter.hit("a")
    hold = limiter.hold("a", timeout=None)

    async def two() -> None:
        async def enter() -> None:
            async with hold:
                await asyncio.sleep(0)

        first = asyncio.create_task(enter())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="inside a block already"):
            await enter()
        limiter.release("a")
        await first

    asyncio.run(two())
    assert limiter.peek("a")
    with hold:
        pass
    assert limiter.peek("a")


def test_a_hold_that_was_refused_can_be_entered_later(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1))
    hold = limiter.hold("a")
    assert limiter.hit("a")
    with pytest.raises(RateLimited):
        hold.__enter__()
    assert not limiter.peek("a")
    hold.__exit__(None, None, None)
    assert not limiter.peek("a"), "what others hold is theirs"
    limiter.release("a")
    with hold:
        assert not limiter.peek("a")
    assert limiter.peek("a")


def test_a_timeout_says_what_stood_in_the_way(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class(Concurrency(3), clock=clock)
    assert limiter.hit("a", 3)
    caught: list[Any] = []

    def wait() -> None:
        try:
            limiter.hold("a", timeout=1).__enter__()
        except RateLimited as error:
            caught.append(error.decision)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while sum(len(queue) for queue in list(limiter._waiters._queues.values())) < 3:
        pass
    clock.advance(1)
    for thread in threads:
        thread.join(20)
    assert [(decision.allowed, decision.limit, decision.remaining) for decision in caught] == [(False, 3, 0)] * 3


def test_other_limits_are_taken_at_the_start_and_not_given_back(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class(Concurrency(1), "2/minute", clock=clock)
    for _ in range(2):
        with limiter.hold("a"):
            pass
    with pytest.raises(RateLimited) as caught, limiter.hold("a"):
        pass
    assert caught.value.decision.limit_index == 1
    assert caught.value.decision.retry_after == 30
    clock.advance(30)
    with limiter.hold("a"):
        pass


def test_a_hold_in_a_tier(limiter_class: Any) -> None:
    limiter = limiter_class(Concurrency(1), tiers={"pro": Concurrency(5)})
    with limiter.hold("a", 5, "pro"):
        assert not limiter.peek("a", tier="pro")
    assert limiter.peek("a", 5, "pro")
    with pytest.raises(CostTooLarge, match="cost=2 can never be admitted: a limit admits at most 1"):
        limiter.hold("a", 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda limiter: limiter.hold(1.5), TypeError, "key must be str, bytes, int or a tuple"),
        (lambda limiter: limiter.hold("a", 0), ValueError, "cost=0 must be between"),
        (lambda limiter: limiter.hold("a", True), TypeError, "cost must be an int, not bool"),
        (lambda limiter: limiter.hold("a", 6), CostTooLarge, "cost=6 can never be admitted"),
        (lambda limiter: limiter.hold("a", tier="x"), ValueError, "tier='x' must be one of None"),
        (lambda limiter: limiter.hold("a", tier=[]), ValueError, r"tier=\[\] must be one of None"),
        (lambda limiter: limiter.hold("a", timeout=-1), ValueError, "timeout=-1 must be finite, not negative"),
        (lambda limiter: limiter.hold("a", timeout="1"), TypeError, "timeout must be a number of seconds, not str"),
    ],
)
def test_wrong_arguments_are_told_at_once(
    limiter_class: Any, make: Callable[[Any], object], error: type[Exception], words: str
) -> None:
    limiter = limiter_class(Concurrency(5))
    with pytest.raises(error, match=words):
        make(limiter)
    assert limiter.stats()[:2] == (0, 0)


def test_only_a_limiter_with_a_concurrency_limit_holds(limiter_class: Any) -> None:
    with pytest.raises(TypeError, match=r"hold\(\) needs a Concurrency limit; <Limiter TokenBucket.* has none"):
        limiter_class("5/minute").hold("a")


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
def test_neither_can_be_copied(limiter_class: Any, attempt: Callable[[Any], object]) -> None:
    limiter = limiter_class(Concurrency(2))
    with limiter.hold("a") as _, pytest.raises(TypeError, match="a Hold cannot be copied or pickled"):
        attempt(limiter.hold("a"))
    with pytest.raises(TypeError, match="a Reservation cannot be copied or pickled"):
        attempt(limiter.reserve("a", 1))
    gc.collect()
    assert limiter.peek("a").remaining == 0
