"""Waiting for units that another process has: woken by its release, or after its death, and asleep until then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from crowd import Crowd, Tally, eventually
from jobs import made

HOLDER, WAITER = 8, 16
ONE = "Concurrency(1)"
WAYS = ["acquire", "acquire_async", "hold"]


def settled() -> None:
    """Gives processes time to fall asleep. Without it they would not be woken, but find what they want at once."""
    time.sleep(0.08)


@pytest.mark.parametrize("how", WAYS)
def test_a_release_wakes_who_waits_elsewhere(crowd: Crowd, tally: Tally, path: Path, how: str) -> None:
    """The waiter does not look for itself: only the release can have woken it."""
    holder = crowd.start("jobs.keep", path, ONE, tally.path, HOLDER, "k", 1)
    tally.until(HOLDER, 1)
    waiter = crowd.start("jobs.wait", path, ONE, tally.path, WAITER, "k", how, False)
    tally.until(WAITER, 1)
    settled()
    assert tally[WAITER] == 1
    tally[0] = 1
    tally.until(WAITER, 2)
    assert not made(str(path), ONE).peek("k").allowed
    tally[0] = 2
    assert [crowd.end(holder), crowd.end(waiter)] == [0, 0]


@pytest.mark.parametrize("how", WAYS)
def test_the_holders_death_wakes_who_waits(crowd: Crowd, tally: Tally, path: Path, how: str) -> None:
    holder = crowd.start("jobs.keep", path, ONE, tally.path, HOLDER, "k", 1)
    tally.until(HOLDER, 1)
    waiter = crowd.start("jobs.wait", path, ONE, tally.path, WAITER, "k", how, True)
    tally.until(WAITER, 1)
    settled()
    assert tally[WAITER] == 1
    crowd.kill(holder)
    tally.until(WAITER, 2)
    tally[0] = 2
    assert crowd.end(waiter) == 0


def test_everybody_who_waited_for_a_dead_holder_is_woken(crowd: Crowd, tally: Tally, path: Path) -> None:
    """Whoever clears up tells the others: two of them wait here and do not look for the dead themselves."""
    limits = "Concurrency(3)"
    holder = crowd.start("jobs.keep", path, limits, tally.path, HOLDER, "k", 3)
    tally.until(HOLDER, 1)
    slots = [WAITER, WAITER + 8, WAITER + 16]
    waiters = [
        crowd.start("jobs.wait", path, limits, tally.path, slot, "k", "acquire", slot == slots[0]) for slot in slots
    ]
    for slot in slots:
        tally.until(slot, 1)
    settled()
    crowd.kill(holder)
    for slot in slots:
        tally.until(slot, 2)
    tally[0] = 2
    assert [crowd.end(waiter) for waiter in waiters] == [0] * 3


@pytest.mark.parametrize("cause", ["a refused hit", "a newcomer", "a limiter that is dropped"])
def test_whatever_brings_units_back_wakes_who_waits(crowd: Crowd, tally: Tally, path: Path, cause: str) -> None:
    own = made(str(path), ONE)
    holder = 0
    if cause == "a limiter that is dropped":
        assert own.hit("k")
    else:
        holder = crowd.start("jobs.keep", path, ONE, tally.path, HOLDER, "k", 1)
        tally.until(HOLDER, 1)
    waiter = crowd.start("jobs.wait", path, ONE, tally.path, WAITER, "k", "acquire", False)
    tally.until(WAITER, 1)
    settled()
    assert tally[WAITER] == 1
    if cause == "a limiter that is dropped":
        del own
    else:
        crowd.kill(holder)
    if cause == "a refused hit":  # refused for its cost, so that the waiter is not beaten to it
        both = made(str(path) + "-other", "Concurrency(1)")
        assert both.hit("k")
        eventually(lambda: own.hit("k") or tally[WAITER] == 2)
        own.release("k")
    elif cause == "a newcomer":
        newcomers = [made(str(path), ONE) for _ in range(3)]
        assert newcomers
    tally.until(WAITER, 2)
    tally[0] = 2
    assert crowd.end(waiter) == 0


def test_a_waiter_sleeps(crowd: Crowd, tally: Tally, path: Path) -> None:
    """It asks when it comes, and when a key of its bell is given back; its listener wakes for releases and to look."""
    own = made(str(path), ONE)
    assert own.hit("k")
    bell = own.fingerprint("k") % 64
    others = [key for key in map(str, range(200)) if own.fingerprint(key) % 64 != bell]
    start = time.monotonic()
    waiter = crowd.start("jobs.wait", path, ONE, tally.path, WAITER, "k", "acquire", True)
    tally.until(WAITER, 1)
    eventually(lambda: tally[WAITER + 2])
    settled()
    asked, slept = tally[WAITER + 1], tally[WAITER + 2]
    assert asked <= 3
    for key in others[:50]:
        assert own.hit(key)
        own.release(key)
    settled()
    looks = (time.monotonic() - start) / 0.25 + 2
    assert tally[WAITER + 1] == asked, "it asked for a key that was not given back"
    assert tally[WAITER + 2] - slept <= 50 + looks
    time.sleep(0.6)
    looks = (time.monotonic() - start) / 0.25 + 2
    assert tally[WAITER + 1] == asked
    assert tally[WAITER + 2] <= 50 + slept + looks
    own.release("k")
    tally.until(WAITER, 2)
    assert tally[WAITER + 1] <= asked + 2
    tally[0] = 2
    assert crowd.end(waiter) == 0


def test_releases_without_waiters_ring_nobody(path: Path) -> None:
    own, other = made(str(path), ONE), made(str(path), ONE)
    before = other.heard()
    for _ in range(100):
        assert own.hit("k")
        own.release("k")
    assert other.heard() == before


def test_a_listener_ends_with_its_last_waiter_and_comes_again(path: Path) -> None:
    import threading

    own, other = made(str(path), ONE), made(str(path), ONE)
    for _ in range(300):
        assert own.hit("k")
        thread = threading.Thread(target=other.acquire, args=("k",))
        thread.start()
        own.release("k")
        thread.join(30)
        assert not thread.is_alive(), "a wake-up was lost"
        other.release("k")
    eventually(lambda: not any(thread.name == "penstock waiting" for thread in threading.enumerate()))


def test_a_dropped_waiter_leaves_no_listener(path: Path) -> None:
    import asyncio
    import threading

    own, other = made(str(path), ONE), made(str(path), ONE)
    assert own.hit("k")

    async def cancelled() -> None:
        task = asyncio.create_task(other.acquire_async("k"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    eventually(lambda: not any(thread.name == "penstock waiting" for thread in threading.enumerate()))
    assert not other.hit("k")
    own.release("k")
    assert other.hit("k")
