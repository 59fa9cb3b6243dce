"""Processes that share a segment admit its limit together, to the unit, counted from what they were answered."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crowd import Crowd, Tally, eventually
from jobs import made

from penstock.segment import file as segment_file

PROCESSES = 3
ALGORITHMS = {
    "token-bucket": "TokenBucket(1, per=6e7 / {0}, burst={0})",
    "sliding-window": "SlidingWindow({0}, per=DAY)",
    "sliding-log": "SlidingLog({0}, per=DAY)",
    "fixed-window": "FixedWindow({0}, per=DAY, align='first')",
    "concurrency": "Concurrency({0})",
}


def totals(
    crowd: Crowd, tally: Tally, path: Path, limits: str, keys: list[str], times: int, *tiers: list[str | None], job: str
) -> list[int]:
    """How often each key was admitted, over all processes; the last of them joins when the others are at it."""
    stride = len(keys) + 1
    slots = [8 + number * stride for number in range(PROCESSES)]
    children = []
    for slot in slots:
        if slot == slots[-1]:
            tally[0] = 1
        children.append(crowd.start(f"jobs.{job}", path, limits, tally.path, slot, keys, times, *tiers))
        tally.until(slot + len(keys), 1)
    for slot in slots:
        tally.until(slot + len(keys), 2)
    tally[0] = 2
    assert [crowd.end(child) for child in children] == [0] * PROCESSES
    return [sum(tally[slot + place] for slot in slots) for place in range(len(keys))]


@pytest.mark.parametrize("job", ["hits", "batches"])
@pytest.mark.parametrize("keys", [["hot"], [f"key {n}" for n in range(40)]], ids=["one key", "40 keys"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_limit_and_no_more(
    crowd: Crowd, tally: Tally, path: Path, algorithm: str, keys: list[str], job: str
) -> None:
    limit = 100 if len(keys) > 1 else 2_000 if algorithm == "sliding-log" else 20_000
    limits, times, tiers = ALGORITHMS[algorithm].format(limit), limit, [[None]]
    if job == "batches":
        pytest.importorskip("numpy")
        keys, tiers = keys * 40 if len(keys) == 1 else keys, []  # one key several times in a batch
        times = limit // (40 // len(set(keys))) + 1
    found = totals(crowd, tally, path, limits, keys, times, *tiers, job=job)
    assert found == [limit] * len(keys) or (len(set(keys)) == 1 and sum(found) == limit)
    stats = made(str(path), limits).stats()
    assert stats.admitted == sum(found)
    assert stats.admitted + stats.denied == PROCESSES * len(keys) * times


def test_several_limits_together(crowd: Crowd, tally: Tally, path: Path) -> None:
    each = zip(ALGORITHMS, (900, 800, 700, 800, 900), strict=True)
    limits = ", ".join(ALGORITHMS[name].format(limit) for name, limit in each)
    assert totals(crowd, tally, path, limits, ["a", "b"], 1_500, [None], job="hits") == [700, 700]
    limiter = made(str(path), limits)
    for key in ("a", "b"):
        decision = limiter.peek(key)
        assert (decision.allowed, decision.limit_index, decision.remaining) == (False, 2, 0)
        limiter.refund(key, 700)
        assert limiter.peek(key, 700).allowed  # of no limit more was taken than that


def test_what_was_taken_for_a_refused_call_is_given_back(crowd: Crowd, tally: Tally, path: Path) -> None:
    limits = "Concurrency(1000), TokenBucket(1, per=DAY, burst=300)"
    assert totals(crowd, tally, path, limits, ["a"], 2_000, [None], job="hits") == [300]
    limiter = made(str(path), limits)
    limiter.clear_dead()
    limiter.refund("a", 300)
    assert limiter.check("a", 300).allowed
    assert limiter.release("a", 300) is None
    assert limiter.live() == 1


def test_tiers_of_one_key(crowd: Crowd, tally: Tally, path: Path) -> None:
    limits = "tiers={'free': SlidingWindow(300, per=DAY), 'pro': SlidingWindow(1200, per=DAY)}"
    assert totals(crowd, tally, path, limits, ["a"], 4_000, ["free", "pro"], job="hits") == [1200]


def of_another_boot(path: Path) -> None:
    """A segment as it is left behind when the machine is started anew."""
    made(str(path), "'5/day'")
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, segment_file._prelude(fd, str(path))._replace(boot=b"\1" * 16).written(), 0)
    os.close(fd)


@pytest.mark.parametrize("stale", [False, True], ids=["none there", "a stale one there"])
def test_eight_who_open_at_once_make_one_file(crowd: Crowd, tally: Tally, path: Path, stale: bool) -> None:
    for _ in range(3):
        path.unlink(missing_ok=True)
        if stale:
            of_another_boot(path)
        for slot in range(10):
            tally[slot] = 0
        children = [crowd.start("jobs.open_together", path, "'5/day'", tally.path, slot) for slot in range(1, 9)]
        for slot in range(1, 9):
            eventually(lambda slot=slot: tally[slot] == -1)
        tally[0] = 1
        for slot in range(1, 9):
            tally.until(slot, 1)
        assert {tally[slot] for slot in range(1, 9)} == {path.stat().st_ino}
        assert len(made(str(path), "'5/day'").seats()) == 9
        tally[0] = 2
        assert [crowd.end(child) for child in children] == [0] * 8
        assert sorted(os.listdir(path.parent)) == [path.name, Path(tally.path).name]


SCRIPT = """
import multiprocessing, sys
from pathlib import Path
from penstock import Limiter

def work(path, queue):
    limiter = Limiter("1000/day", shared=path, capacity=64)
    queue.put(sum(limiter.hit("k") for _ in range(600)))

if __name__ == "__main__":
    method, path = sys.argv[1], Path(sys.argv[2])
    own = Limiter("1000/day", shared=path, capacity=64)
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    processes = [context.Process(target=work, args=(path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    total = sum(queue.get() for _ in processes)
    for process in processes:
        process.join()
    print(total, sum(own.hit("k") for _ in range(10)))
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(tmp_path: Path, path: Path, method: str) -> None:
    assert method in multiprocessing.get_all_start_methods()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1000 0\n", "")
