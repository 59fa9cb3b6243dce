"""What the exchange with Redis is told of those who wait: the units of each key's line."""

from __future__ import annotations

import asyncio
import threading
import time

from penstock import Limiter
from penstock.clock import ManualClock


def test_the_units_of_a_line_are_told_until_it_is_gone() -> None:
    clock = ManualClock()
    limiter = Limiter("10/minute", clock=clock)
    assert limiter.hit("k", 10)
    assert limiter._waiters.waited() == {}
    threads = [threading.Thread(target=limiter.acquire, args=("k", cost, 30)) for cost in (2, 3)]
    for thread in threads:
        thread.start()
    key = limiter.fingerprint("k")
    end = time.monotonic() + 10
    while limiter._waiters.waited() != {key: 5} and time.monotonic() < end:
        time.sleep(0.001)
    assert limiter._waiters.waited() == {key: 5}
    clock.advance(31)
    for thread in threads:
        thread.join(10)
    assert limiter._waiters.waited() == {}


def test_a_task_that_is_cancelled_is_told_no_more() -> None:
    limiter = Limiter("10/minute", clock=ManualClock())
    assert limiter.hit("k", 10)

    async def given_up() -> None:
        waiting = asyncio.create_task(limiter.acquire_async("k", 4))
        await asyncio.sleep(0.01)
        assert limiter._waiters.waited() == {limiter.fingerprint("k"): 4}
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(given_up())
    assert limiter._waiters.waited() == {}
