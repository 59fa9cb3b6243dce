"""A file that is cut off or scribbled over while processes decide on it: errors and answers, no crash and no hang."""

from __future__ import annotations

import mmap
import os
import random
import time
from pathlib import Path

import pytest
from crowd import Crowd, Tally, eventually
from jobs import CUT_OFF, hosting, made

SLOT = 8
CALLS = ["hit", "check", "peek", "cost", "hit_many", "refund", "release", "stats", "top", "acquire"]
CALLS += ["wait", "wait_async", "seats"]


@pytest.mark.parametrize("left", [0, 4096, 0.5])
@pytest.mark.parametrize("limits", ["'1000/day'", "Concurrency(5), SlidingWindow(9, per=DAY)"])
def test_cut_off_while_it_is_used(crowd: Crowd, tally: Tally, path: Path, limits: str, left: float) -> None:
    """Of several calls at once, each in a process of its own. A page that is left keeps whoever needs no more."""
    pytest.importorskip("numpy")
    made(path=str(path), limits=limits, capacity=64)
    calls = {0: CALLS, 4096: ["hit", "hit_many", "stats", "wait", "wait_async"], 0.5: ["stats", "top"]}[left]
    children = [
        crowd.start("jobs.until_cut_off", path, limits, tally.path, SLOT + number, call)
        for number, call in enumerate(calls)
    ]
    for number in range(len(calls)):
        tally.until(SLOT + number, 1)
    time.sleep(0.02)
    os.truncate(path, int(left if left != 0.5 else path.stat().st_size / 2 // 4096 * 4096))
    codes = {call: crowd.end(child) for call, child in zip(calls, children, strict=True)}
    assert codes == dict.fromkeys(calls, CUT_OFF)


SCRIBBLED = {
    "token-bucket": "TokenBucket(5, per=1)",
    "sliding-window": "SlidingWindow(5, per=1)",
    "sliding-log": "SlidingLog(5, per=1)",
    "fixed-window": "FixedWindow(5, per=1)",
    "fixed-window-first": "FixedWindow(5, per=1, align='first')",
    "concurrency": "Concurrency(5)",
    "tiers": "'5/second', tiers={'a': '9/second', 'b': '10/day'}",
    "all": "TokenBucket(5), SlidingWindow(5, per=1), SlidingLog(5, per=1), FixedWindow(5, per=1), Concurrency(5)",
    "deny": "'5/second', on_full='deny'",
    "deny-concurrency": "Concurrency(5), on_full='deny'",
}
WORDS = (0, 1, 2, 2**32, 2**57, 2**58 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def scribble(path: Path, seconds: float) -> int:
    """Writes words all over the file, its header included, for as long as that; how many."""
    fd = os.open(path, os.O_RDWR)
    size, count = os.fstat(fd).st_size, 0
    with mmap.mmap(fd, size) as memory:
        os.close(fd)
        words = memoryview(memory).cast("Q")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(300):
                part = random.choice((1, 1, 20))  # what all keys have in common is at the beginning, and at the end
                place, old = random.randrange(len(words) // part), words[random.randrange(len(words))]
                place = len(words) - 1 - place if random.random() < 0.5 else place
                flipped, next_one = old ^ 1 << random.randrange(64), old + 1 & 2**64 - 1
                words[place] = random.choice((random.choice(WORDS), random.getrandbits(64), old, flipped, next_one))
                count += 1
            if random.random() < 0.02:  # all of it at once
                start = random.randrange(0, size, 4096) if random.random() < 0.5 else 0
                memory[start:] = os.urandom(size - start) if random.random() < 0.7 else bytes(size - start)
                count += 1
        words.release()
    return count


def scribbled(crowd: Crowd, tally: Tally, path: Path, name: str, seconds: float) -> None:
    slots = [SLOT, SLOT + 1]
    if name == "hosts":
        hosting(str(path))
        children = [crowd.start("jobs.host_calls", path, tally.path, slot, slot) for slot in slots]
    else:
        made(str(path), SCRIBBLED[name])
        children = [crowd.start("jobs.all_calls", path, SCRIBBLED[name], tally.path, slot, slot) for slot in slots]
    for slot in slots:
        tally.until(slot, 20)
    assert scribble(path, seconds) > 500
    before = [tally[slot] for slot in slots]
    for slot, calls in zip(slots, before, strict=True):
        tally.until(slot, calls + 20)
    tally[0] = 1
    assert [crowd.end(child) for child in children] == [0, 0]


@pytest.mark.parametrize("name", [*SCRIBBLED, "hosts"])
def test_scribbled_over_while_it_is_used(crowd: Crowd, tally: Tally, path: Path, name: str) -> None:
    pytest.importorskip("numpy")
    scribbled(crowd, tally, path, name, 0.4)


@pytest.mark.soak
@pytest.mark.parametrize("name", [*SCRIBBLED, "hosts"])
def test_scribbled_over_for_a_minute(crowd: Crowd, tally: Tally, path: Path, name: str) -> None:
    pytest.importorskip("numpy")
    scribbled(crowd, tally, path, name, 60)


def test_a_file_that_is_removed_is_told_of_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who has it keeps it and says so in the log, who opens the name makes another."""
    one, other = made(str(path), "'5/day'"), made(str(path), "'5/day'")
    path.unlink()
    assert sum(limiter.hit("k") for limiter in (one, other) * 5) == 5
    for limiter in (one, other):
        caplog.clear()
        eventually(lambda limiter=limiter: limiter.hit("k") or caplog.records)
        for _ in range(100):
            assert not limiter.hit("k")
        assert [(record.name, record.levelname) for record in caplog.records] == [("penstock.segment", "ERROR")]
        assert "the segment's file was removed" in caplog.text
    assert made(str(path), "'5/day'").hit("k")
