"""Whole lives, repeated like the calls of entry_points.py: limiters, threads, waiters and holds that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from engines import limiter_of
from entry_points import Boom, Make, Variant, empty_limiter, make, variant

from penstock import Concurrency, FixedWindow
from penstock.clock import ManualClock

LIVES: dict[str, Make] = {}


def life(name: str) -> Callable[[Make], Make]:
    def put(make: Make) -> Make:
        LIVES[name] = make
        return make

    return put


def run_threads(count: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@life("threads")
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend, [FixedWindow(10**9, 3600)])
    gate = threading.Barrier(40)

    def at_once() -> None:
        gate.wait()
        limiter.hit_many(range(5))

    def fails() -> None:
        holding = make("Limiter", backend, [Concurrency(1)])
        try:
            with holding.hold("a"):
                raise Boom
        except Boom:
            holding.hit(threading.get_ident())

    yield variant("a few", run_threads, 3, lambda: limiter.hit_many(["a", "b"]))
    yield variant("more than there are cells", run_threads, 40, at_once)
    yield variant("with limiters of their own", run_threads, 2, lambda: make("Limiter", backend).hit_many(["a", "b"]))
    yield variant("that fail in a hold", run_threads, 2, fails)


@life("waiters")
def _(backend: str) -> Iterator[Variant]:
    def closed() -> None:
        limiter = empty_limiter(backend)
        thread = threading.Thread(target=limiter.acquire, args=("a",))
        thread.start()
        while not limiter._waiters._queues:
            pass
        limiter.close()
        thread.join()

    def on_a_clock() -> None:
        clock = ManualClock()
        limiter = make("Limiter", backend, [FixedWindow(1, 60, "first")], clock=clock)
        limiter.hit("a")
        thread = threading.Thread(target=limiter.acquire, args=("a",))
        thread.start()
        while not limiter._waiters._queues:
            pass
        clock.advance(60)
        thread.join()
        assert not clock._watchers

    async def several(limiter: Any) -> None:
        async with asyncio.timeout(0.0005):
            await asyncio.gather(*(limiter.acquire_async("a") for _ in range(5)))

    def loops() -> None:
        try:
            asyncio.run(several(empty_limiter(backend)))
        except TimeoutError:
            return
        raise AssertionError("not timed out")

    yield variant("ended by close", closed)
    yield variant("ended by a clock", on_a_clock)
    yield variant("cancelled, with loops of their own", loops)


@life("holds")
def _(backend: str) -> Iterator[Variant]:
    limiter = make("Limiter", backend, [Concurrency(1)])

    def inside() -> Iterator[None]:
        with limiter.hold("a"):
            yield

    def left_in_a_generator() -> None:
        next(inside())

    def in_a_cycle() -> None:
        hold: Any = [limiter.hold("b")]
        hold[0].__enter__()
        hold.append(hold)

    def carried_by_an_error() -> None:
        try:
            with limiter.hold("c"):
                raise Boom
        except Boom as error:
            error.args = (error, limiter.reserve("c", 1))
        limiter.reset("c")

    def in_cycles() -> None:
        in_a_cycle()
        gc.collect()
        assert limiter.peek("b"), "given back"

    yield variant("left in a generator", left_in_a_generator)
    yield variant("in a cycle", in_cycles)
    yield variant("carried by an error", carried_by_an_error)


@life("limiters")
def _(backend: str) -> Iterator[Variant]:
    limiter = limiter_of(backend)

    def dies() -> None:
        one = limiter("5/minute", capacity=64, remember_names=True)
        one.hit("a")
        one.acquire("b", timeout=0)
        gone = weakref.ref(one)
        del one
        assert gone() is None, "nothing of its own holds it"

    def outlived() -> None:
        one = limiter("5/minute", Concurrency(5), capacity=64)
        reservation, hold, hit = one.reserve("a", 2), one.hold("b"), one.hit
        hold.__enter__()
        del one
        reservation.settle(1)
        assert hit("c")

    def decorates() -> None:
        one = limiter("5/minute", capacity=64)
        function = one.limit(key="a")(lambda: 1)
        assert function() == 1
        gone = weakref.ref(one)
        del one
        assert gone() is not None, "held by what it decorates"
        del function
        assert gone() is None

    yield variant("die at once", dies)
    yield variant("outlived by what they gave", outlived)
    yield variant("die with what they decorate", decorates)
