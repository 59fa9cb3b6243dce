"""Processes that are killed at any instruction, or stopped: never more than the limit, at most one decision uncounted
for each kill, and nothing stuck."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from crowd import Crowd, Tally, eventually
from jobs import BACK, BACK_BEGUN, BEGUN, TAKEN, left, made

SLOT = 8
STRIDE = 8
LOOPS = {
    "token-bucket": ("TokenBucket(1, per=6e7 / {0}, burst={0})", "hit", 100_000),
    "sliding-window": ("SlidingWindow({0}, per=DAY)", "hit", 100_000),
    "sliding-log": ("SlidingLog({0}, per=DAY)", "hit", 5_000),
    "fixed-window": ("FixedWindow({0}, per=DAY, align='first')", "hit", 100_000),
    "several": ("SlidingWindow({0}, per=DAY), FixedWindow({0}, per=DAY, align='first')", "hit", 100_000),
    "refund": ("FixedWindow({0}, per=DAY, align='first')", "refund", 1_000),
    "refund-bucket": ("TokenBucket(1, per=6e7 / {0}, burst={0})", "refund", 1_000),
    "acquire": ("TokenBucket(1, per=6e7 / {0}, burst={0})", "acquire", 20_000),
    "batch": ("TokenBucket(1, per=6e7 / {0}, burst={0})", "batch", 100_000),
}
BATCH = 20


def nap(most: float = 0.012) -> None:
    time.sleep(random.random() * most)


def killed_in_a_loop(crowd: Crowd, tally: Tally, path: Path, name: str, kills: int) -> None:
    limits, kind, limit = LOOPS[name]
    limits = limits.format(limit)
    keys = [f"key {n}" for n in range(BATCH)] if kind == "batch" else ["a", "b", "c"]
    workers = []
    for number in range(2):
        slot = SLOT + STRIDE * number
        workers.append((crowd.start("jobs.loop", path, limits, tally.path, slot, kind, keys), slot))
    for _ in range(kills):
        nap()
        worker, slot = workers.pop(0)
        before = tally[slot + BEGUN]
        eventually(lambda slot=slot, before=before: tally[slot + BEGUN] > before)  # it is at it
        crowd.kill(worker)
        workers.append((crowd.start("jobs.loop", path, limits, tally.path, slot, kind, keys), slot))
    for worker, _ in workers:
        crowd.kill(worker)
    slots = [slot for _, slot in workers]
    answered = sum(tally[slot + TAKEN] for slot in slots)
    back = [sum(tally[slot + word] for slot in slots) for word in (BACK_BEGUN, BACK)]
    limiter = made(str(path), limits)
    limiter.clear_dead()
    taken = sum(limit - left(limiter, key) for key in keys)
    each = BATCH if kind == "batch" else 1  # a batch that is killed may have taken each of its units
    assert answered > kills
    assert answered - back[0] <= taken <= answered - back[1] + each * (kills + 2)
    assert taken <= limit * len(keys)
    for key in keys:  # nothing is stuck: what is left can be taken, to the unit
        rest = left(limiter, key)
        assert not rest or limiter.hit(key, rest)
        assert not limiter.hit(key)


@pytest.mark.parametrize("name", LOOPS)
def test_killed_in_a_loop(crowd: Crowd, tally: Tally, path: Path, name: str) -> None:
    if name == "batch":
        pytest.importorskip("numpy")
    killed_in_a_loop(crowd, tally, path, name, 8)


@pytest.mark.soak
@pytest.mark.parametrize("name", LOOPS)
def test_killed_a_thousand_times(crowd: Crowd, tally: Tally, path: Path, name: str) -> None:
    killed_in_a_loop(crowd, tally, path, name, 1_000)


# ---- units in flight ----


def killed_while_holding(crowd: Crowd, tally: Tally, path: Path, units: int, wait: float, kills: int) -> None:
    limits, places, processes = f"Concurrency({units})", path.with_name("places"), 3
    arguments = path, limits, tally.path
    workers = [
        (crowd.start("jobs.holds", *arguments, SLOT + number, places, units, wait), SLOT + number)
        for number in range(processes)
    ]
    for _ in range(kills):
        nap()
        worker, slot = workers.pop(random.randrange(processes))
        crowd.kill(worker)
        assert not tally[1], f"more than {units} units were held at once"
        workers.append((crowd.start("jobs.holds", *arguments, slot, places, units, wait), slot))
    for _, slot in workers:
        tally.until(slot, tally[slot] + 1)  # everybody comes to have one: nothing is stuck
    tally[0] = 1
    assert [crowd.end(worker) for worker, _ in workers] == [0] * processes
    assert not tally[1], f"more than {units} units were held at once"
    limiter = made(str(path), limits)
    eventually(lambda: limiter.clear_dead() or limiter.check("k", units).allowed)
    limiter.release("k", units)
    assert limiter.live() == 0
    assert [seat[2] for seat in limiter.seats()] == [None]


@pytest.mark.parametrize(("units", "wait"), [(1, 0.0), (2, 30.0)], ids=["one unit", "two units, waiting"])
def test_killed_while_holding(crowd: Crowd, tally: Tally, path: Path, units: int, wait: float) -> None:
    killed_while_holding(crowd, tally, path, units, wait, 12)


@pytest.mark.soak
@pytest.mark.parametrize(("units", "wait"), [(1, 0.0), (1, 30.0), (2, 0.0), (2, 30.0)])
def test_killed_a_thousand_times_while_holding(crowd: Crowd, tally: Tally, path: Path, units: int, wait: float) -> None:
    killed_while_holding(crowd, tally, path, units, wait, 1_000)


def test_more_than_the_limit_would_be_found(crowd: Crowd, tally: Tally, path: Path) -> None:
    """The measure of the tests above, where three units may be held and one is said to be the limit."""
    arguments = path, "Concurrency(3)", tally.path
    workers = [
        crowd.start("jobs.holds", *arguments, SLOT + number, path.with_name("places"), 1, 0.0) for number in range(3)
    ]
    tally.until(1, 1)
    tally[0] = 1
    assert [crowd.end(worker) for worker in workers] == [0] * 3


def test_many_who_died_together_are_cleared_up_together(crowd: Crowd, tally: Tally, path: Path) -> None:
    """Four workers are killed and four start again at once, each clearing up after another of the dead."""
    for turn in range(6):
        tally[0] = 0
        for slot in range(SLOT, SLOT + 8):
            tally[slot] = 0
        limits = "Concurrency(8)"
        workers = [crowd.start("jobs.keep", path, limits, tally.path, SLOT + number, "k", 2) for number in range(4)]
        for number in range(4):
            tally.until(SLOT + number, 1)
        for worker in workers:
            crowd.kill(worker)
        again = range(SLOT + 4, SLOT + 8)
        workers = [crowd.start("jobs.open_together", path, limits, tally.path, slot) for slot in again]
        eventually(lambda again=again: all(tally[slot] == -1 for slot in again))
        tally[0] = 1
        for slot in again:
            tally.until(slot, 1)
        tally[0] = 2
        assert [crowd.end(worker) for worker in workers] == [0] * 4
        limiter = made(str(path), limits)
        limiter.clear_dead()
        assert left(limiter) == 8, f"in turn {turn}"
        del limiter


# ---- stopped ----


@pytest.mark.parametrize("limits", ["TokenBucket(1, per=60, burst=10**6)", "Concurrency(1000)"])
def test_one_who_is_stopped_stops_nobody(crowd: Crowd, tally: Tally, path: Path, limits: str) -> None:
    """Wherever it is stopped, others decide on the same key."""
    kind = "refund" if "Concurrency" in limits else "hit"
    stopped = crowd.start("jobs.loop", path, limits, tally.path, SLOT, kind, ["a"])
    limiter = made(str(path), limits)
    for _ in range(20):
        nap(0.005)
        os.kill(stopped, signal.SIGSTOP)
        for _ in range(300):
            assert limiter.hit("a")
            limiter.refund("a")
        assert not limiter.clear_dead()
        os.kill(stopped, signal.SIGCONT)
    crowd.kill(stopped)


def test_one_who_is_stopped_keeps_what_it_holds(crowd: Crowd, tally: Tally, path: Path) -> None:
    """It is not dead."""
    holder = crowd.start("jobs.keep", path, "Concurrency(1)", tally.path, SLOT, "k", 1)
    tally.until(SLOT, 1)
    os.kill(holder, signal.SIGSTOP)
    limiter = made(str(path), "Concurrency(1)")
    assert not limiter.acquire("k", timeout=0.2)
    assert not limiter.clear_dead()
    crowd.kill(holder)
    assert limiter.acquire("k", timeout=30)
