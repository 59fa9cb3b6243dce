"""Waiting: first come first served for threads and tasks in one line, woken in time, nobody asking in vain."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from penstock import Concurrency, CostTooLarge, Decision, RateLimited, SlidingWindow, TokenBucket
from penstock.clock import ManualClock

PATIENCE = 20.0
"""Seconds after which something that must happen is taken for never happening."""


def until(condition: Callable[[], object], what: str = "") -> None:
    """Waits for what another thread is about to do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.0005)


def in_line(limiter: Any) -> int:
    """How many wait, for any key."""
    return sum(len(queue) for queue in list(limiter._waiters._queues.values()))


def start(call: Callable[..., Any], *arguments: Any, **settings: Any) -> Future[Any]:
    """The call in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*arguments, **settings))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def queue_up(limiter: Any, call: Callable[..., Any], *arguments: Any, **settings: Any) -> Future[Any]:
    """The call in a thread of its own, once it stands in line."""
    before = in_line(limiter)
    future = start(call, *arguments, **settings)
    until(lambda: in_line(limiter) == before + 1 or future.done(), "standing in line")
    assert not future.done()
    return future


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


def begin(limiter: Any, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    """The coroutine as a task of `loop`, once it stands in line."""
    before = in_line(limiter)
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    until(lambda: in_line(limiter) == before + 1 or future.done(), "standing in line")
    assert not future.done()
    return future


# ---- at once ----


def test_nobody_waits_for_what_is_there(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("2/minute", clock=clock)
    assert limiter.acquire("a") is True
    assert asyncio.run(limiter.acquire_async("a")) is True
    assert limiter.acquire("a", timeout=0) is False
    assert asyncio.run(limiter.acquire_async("a", timeout=0)) is False
    assert limiter.acquire("b", 2, 0)
    assert limiter.stats()[:2] == (3, 2)


@pytest.mark.parametrize(
    "how",
    [
        lambda limiter, cost, tier: limiter.acquire("a", cost, tier=tier),
        lambda limiter, cost, tier: asyncio.run(limiter.acquire_async("a", cost, tier=tier)),
    ],
    ids=["sync", "async"],
)
def test_a_cost_that_can_never_be_admitted(
    limiter_class: Any, clock: ManualClock, how: Callable[[Any, int, str | None], object]
) -> None:
    limiter = limiter_class("5/minute; 3/second burst 4", clock=clock, tiers={"small": "2/minute; 2/second"})
    for cost, tier, most in [(5, None, 4), (6, None, 5), (2**53, None, 5), (3, "small", 2)]:
        with pytest.raises(CostTooLarge, match=f"cost={cost} can never be admitted: a limit admits at most {most}"):
            how(limiter, cost, tier)
    assert limiter.acquire("a", 4)
    assert limiter.stats()[:2] == (1, 0)


# ---- time ----


def test_a_manual_clock_ends_the_wait(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/minute", clock=clock)
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a")
    clock.advance(59.999)
    clock.advance(0.000999999)
    assert not waiter.done()
    clock.advance(0.000000001)
    assert waiter.result(PATIENCE) is True
    assert in_line(limiter) == 0
    assert limiter.stats()[:2] == (2, 1)


def test_a_timeout_is_counted_by_the_manual_clock(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/minute", clock=clock)
    assert limiter.hit("a")
    first = queue_up(limiter, limiter.acquire, "a", timeout=10)
    second = queue_up(limiter, limiter.acquire, "a", timeout=9.5)
    clock.advance(9.25)
    assert not first.done()
    clock.advance(0.25)
    assert second.result(PATIENCE) is False
    assert not first.done()
    clock.advance(0.5)
    assert first.result(PATIENCE) is False
    assert limiter.stats().admitted == 1
    clock.advance(50)
    assert limiter.hit("a")


def test_the_last_moment_is_in_time(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/minute", clock=clock)
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a", timeout=60)
    clock.advance(60)
    assert waiter.result(PATIENCE) is True


def test_the_system_clock_ends_waits(limiter_class: Any) -> None:
    limiter = limiter_class("1000/second burst 1")
    assert [limiter.acquire("a", timeout=PATIENCE) for _ in range(10)] == [True] * 10

    async def both() -> list[bool]:
        return list(await asyncio.gather(*(limiter.acquire_async("a", timeout=PATIENCE) for _ in range(10))))

    assert asyncio.run(both()) == [True] * 10


def test_the_system_clock_ends_timeouts(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")
    assert limiter.hit("a")
    assert limiter.acquire("a", timeout=0.002) is False
    assert asyncio.run(limiter.acquire_async("a", timeout=0.002)) is False

    async def several() -> list[bool]:
        return list(await asyncio.gather(*(limiter.acquire_async("a", timeout=0.002) for _ in range(5))))

    assert asyncio.run(several()) == [False] * 5
    assert limiter.stats().admitted == 1
    assert in_line(limiter) == 0


def test_a_clock_without_watch_works_too(limiter_class: Any) -> None:
    class Coarse:
        """Twenty times as fast as the system's, in steps of 10 ms."""

        def now_ns(self) -> int:
            return time.monotonic_ns() * 20 // 10**7 * 10**7

        def wall_ns(self) -> int:
            return 0

    limiter = limiter_class("10/second burst 1", clock=Coarse())
    assert [limiter.acquire("a", timeout=PATIENCE) for _ in range(4)] == [True] * 4


# ---- order ----


@pytest.mark.parametrize("kinds", ["ssss", "aaaa", "sasa", "asas", "aass"])
def test_first_come_first_served(
    limiter_class: Any, clock: ManualClock, loop: asyncio.AbstractEventLoop, kinds: str
) -> None:
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.hit("a")
    served: list[int] = []

    def sync(number: int) -> None:
        assert limiter.acquire("a")
        served.append(number)

    async def task(number: int) -> None:
        assert await limiter.acquire_async("a")
        served.append(number)

    waiters = [
        queue_up(limiter, sync, number) if kind == "s" else begin(limiter, loop, task(number))
        for number, kind in enumerate(kinds)
    ]
    for count in range(1, len(kinds) + 1):
        clock.advance(1)
        until(lambda count=count: len(served) == count, "being served")  # type: ignore[misc]
        assert served == list(range(count))
        assert in_line(limiter) == len(kinds) - count
    for waiter in waiters:
        waiter.result(PATIENCE)


def test_the_small_ones_do_not_overtake_a_large_one(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("10/second", clock=clock)
    assert limiter.hit("a", 10)
    served: list[str] = []

    def take(name: str, cost: int) -> None:
        assert limiter.acquire("a", cost)
        served.append(name)

    large = queue_up(limiter, take, "large", 10)
    small = queue_up(limiter, take, "small", 1)
    clock.advance(0.9)
    until(lambda: limiter.peek("a").remaining == 8)
    assert served == []
    assert limiter.acquire("a", timeout=0) is False, "nor does who cannot wait"
    clock.advance(0.1)
    large.result(PATIENCE)
    assert served == ["large"]
    clock.advance(0.1)
    small.result(PATIENCE)
    assert served == ["large", "small"]


def test_keys_have_lines_of_their_own(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a")
    assert limiter.acquire("b")
    clock.advance(1)
    assert waiter.result(PATIENCE)


def test_many_threads_and_tasks_take_exactly_what_there_is(
    limiter_class: Any, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    limiter = limiter_class(TokenBucket(5, 1), clock=clock)
    assert limiter.hit("a", 5)
    waiters = [queue_up(limiter, limiter.acquire, "a", timeout=2) for _ in range(8)]
    waiters += [begin(limiter, loop, limiter.acquire_async("a", timeout=2)) for _ in range(8)]
    for served in range(1, 11):
        clock.advance(0.2)
        until(lambda served=served: limiter.stats().admitted == 1 + served, "being served")  # type: ignore[misc]
    results = [waiter.result(PATIENCE) for waiter in waiters]
    assert results == [True] * 10 + [False] * 6
    assert limiter.stats().admitted == 11


# ---- leaving the line ----


def test_a_cancelled_task_has_taken_nothing_and_lets_the_next_one_up(
    limiter_class: Any, clock: ManualClock, loop: asyncio.AbstractEventLoop
) -> None:
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.hit("a")
    first = begin(limiter, loop, limiter.acquire_async("a"))
    middle = begin(limiter, loop, limiter.acquire_async("a"))
    last = queue_up(limiter, limiter.acquire, "a")
    middle.cancel()
    until(lambda: in_line(limiter) == 2)
    first.cancel()
    until(lambda: in_line(limiter) == 1)
    assert limiter.stats().admitted == 1
    clock.advance(1)
    assert last.result(PATIENCE) is True
    assert limiter.stats().admitted == 2
    assert in_line(limiter) == 0


def test_who_is_cancelled_in_the_moment_of_his_turn_has_taken_nothing(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/second", clock=clock)

    async def race() -> None:
        assert limiter.hit("a")
        task = asyncio.create_task(limiter.acquire_async("a"))
        while not in_line(limiter):
            await asyncio.sleep(0)
        clock.advance(1)  # his turn has come, but he has not run yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(race())
    assert in_line(limiter) == 0
    assert limiter.hit("a")
    assert limiter.stats().admitted == 2


def test_wait_for_cuts_a_wait_short(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")
    assert limiter.hit("a")

    async def short() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.acquire_async("a"), 0.002)

    asyncio.run(short())
    assert in_line(limiter) == 0


def test_a_loop_that_was_closed_over_a_waiter_holds_nobody_up(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.hit("a")
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(limiter.acquire_async("a"))
    loop.run_until_complete(asyncio.sleep(0))
    assert in_line(limiter) == 1
    loop.close()
    second = queue_up(limiter, limiter.acquire, "a")
    limiter.refund("a")
    clock.advance(1)
    del task
    gc.collect()
    assert second.result(PATIENCE) is True


def test_an_error_while_asking_leaves_the_line(limiter_class: Any) -> None:
    class Failing(ManualClock):
        broken = False

        def now_ns(self) -> int:
            if self.broken:
                raise OSError("no time")
            return super().now_ns()

    clock = Failing()
    limiter = limiter_class("1/second", clock=clock)
    assert limiter.hit("a")
    first = queue_up(limiter, limiter.acquire, "a")
    clock.broken = True
    clock.advance(0.5)
    with pytest.raises(OSError, match="no time"):
        first.result(PATIENCE)
    assert in_line(limiter) == 0
    clock.broken = False
    clock.advance(0.5)
    assert limiter.acquire("a", timeout=0)


def test_close_ends_every_wait_with_no(limiter_class: Any, clock: ManualClock, loop: asyncio.AbstractEventLoop) -> None:
    limiter = limiter_class("1/second", Concurrency(9), clock=clock)
    assert limiter.hit("a")
    waiters = [queue_up(limiter, limiter.acquire, "a") for _ in range(2)]
    waiters += [begin(limiter, loop, limiter.acquire_async("a", timeout=1000)) for _ in range(2)]
    hold = queue_up(limiter, limiter.hold("a", timeout=None).__enter__)
    limiter.close()
    assert [waiter.result(PATIENCE) for waiter in waiters] == [False] * 4
    with pytest.raises(RateLimited):
        hold.result(PATIENCE)
    assert in_line(limiter) == 0
    assert limiter.acquire("a") is False, "nor does anybody wait afterwards"
    assert asyncio.run(limiter.acquire_async("a")) is False
    clock.advance(1)
    assert limiter.acquire("a") is True


def test_the_end_of_a_with_block_closes(limiter_class: Any, clock: ManualClock) -> None:
    with limiter_class("1/second", clock=clock) as limiter:
        assert limiter.hit("a")
        waiter = queue_up(limiter, limiter.acquire, "a")
    assert waiter.result(PATIENCE) is False

    async def inside() -> bool:
        async with limiter_class("1/second", clock=clock) as limiter:
            assert await limiter.acquire_async("a")
            task = asyncio.create_task(limiter.acquire_async("a"))
            await asyncio.sleep(0)
            assert in_line(limiter) == 1
        result: bool = await task
        return result

    assert asyncio.run(inside()) is False


# ---- being woken ----

WAKES: dict[str, Callable[[Any], object]] = {
    "refund": lambda limiter: limiter.refund("a", 2),
    "release": lambda limiter: limiter.release("a", 2),
    "reset": lambda limiter: limiter.reset("a"),
    "clear": lambda limiter: limiter.clear(),
    "replace": lambda limiter: limiter.replace(Concurrency(5)),
    "settle": lambda limiter: limiter.last.settle(0),
}


@pytest.mark.parametrize("wake", WAKES.values(), ids=WAKES)
def test_whatever_gives_back_wakes_the_first_in_line(limiter_class: Any, wake: Callable[[Any], object]) -> None:
    class Own(limiter_class):  # type: ignore[misc]
        last: Any

    limiter = Own(Concurrency(2))
    limiter.last = limiter.reserve("a", 2)
    first, second, third = (queue_up(limiter, limiter.acquire, "a") for _ in range(3))
    wake(limiter)
    assert first.result(PATIENCE) is True
    assert second.result(PATIENCE) is True
    now = limiter.peek("a")
    if now.remaining or now.limit == 5:  # there is room for it, or it has taken that
        assert third.result(PATIENCE) is True
    else:
        time.sleep(0.005)
        assert not third.done()
    limiter.close()


def test_giving_back_to_another_key_wakes_nobody(limiter_class: Any) -> None:
    asks = []

    class Counting(limiter_class):  # type: ignore[misc]
        def peek(self, *arguments: Any) -> Decision:
            asks.append(arguments)
            return super().peek(*arguments)  # type: ignore[no-any-return]

    limiter = Counting(Concurrency(1))
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a")
    until(lambda: asks)
    time.sleep(0.002)
    before = len(asks)
    for _ in range(100):
        limiter.refund("b")
    time.sleep(0.002)
    assert len(asks) == before
    limiter.refund("a")
    assert waiter.result(PATIENCE)


def test_a_replacement_that_makes_a_wait_hopeless_says_so(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("5/minute", clock=clock)
    assert limiter.hit("a", 5)
    waiter = queue_up(limiter, limiter.acquire, "a", 5)
    limiter.replace("3/minute")
    with pytest.raises(CostTooLarge, match="cost=5 can never be admitted: a limit admits at most 3"):
        waiter.result(PATIENCE)
    assert in_line(limiter) == 0


def test_a_replacement_may_shorten_a_wait(limiter_class: Any) -> None:
    limiter = limiter_class("1/day")
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a")
    limiter.replace("1000/second burst 2")
    assert waiter.result(PATIENCE) is True


# ---- without a busy loop ----


def counting(limiter_class: Any, *limits: Any, **settings: Any) -> tuple[Any, list[object]]:
    """A limiter that notes every look and every try."""
    asks: list[object] = []

    class Counting(limiter_class):  # type: ignore[misc]
        def peek(self, *arguments: Any) -> Decision:
            asks.append(("peek", *arguments))
            return super().peek(*arguments)  # type: ignore[no-any-return]

        def check(self, *arguments: Any) -> Decision:
            asks.append(("check", *arguments))
            return super().check(*arguments)  # type: ignore[no-any-return]

    return Counting(*limits, **settings), asks


def test_only_the_first_in_line_asks_and_only_when_something_moved(limiter_class: Any, clock: ManualClock) -> None:
    limiter, asks = counting(limiter_class, "1/second", clock=clock)
    assert limiter.hit("a")
    waiters = [queue_up(limiter, limiter.acquire, "a") for _ in range(5)]
    until(lambda: len(asks) >= 2)
    time.sleep(0.005)
    assert len(asks) == 2, "one try before the line, one look at its head"
    clock.advance(0.5)
    until(lambda: len(asks) >= 3)
    time.sleep(0.005)
    assert len(asks) == 3
    for waiter in waiters:
        clock.advance(1)
        assert waiter.result(PATIENCE) is True
    assert len(asks) <= 3 + 5 * 3


@pytest.mark.parametrize("how", ["sync", "async"])
def test_by_the_system_clock_a_wait_takes_a_few_asks(limiter_class: Any, how: str) -> None:
    limiter, asks = counting(limiter_class, SlidingWindow(1, 0.03, resolution=1))
    for _ in range(2):
        if how == "sync":
            assert limiter.acquire("a", timeout=PATIENCE)
        else:
            assert asyncio.run(limiter.acquire_async("a", timeout=PATIENCE))
    assert len(asks) <= 12


def test_a_long_wait_is_one_refusal(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/minute", clock=clock)
    assert limiter.hit("a")
    waiter = queue_up(limiter, limiter.acquire, "a", timeout=59)
    for _ in range(50):
        clock.advance(1)
    clock.advance(9)
    assert waiter.result(PATIENCE) is False
    assert limiter.stats().denied == 1
