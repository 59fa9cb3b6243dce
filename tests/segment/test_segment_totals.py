"""Processes that share a segment admit its limit together, to the unit, counted from what they were answered."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crowd import Crowd, Tally
from jobs import made

PROCESSES = 3
ALGORITHMS = {
    "token-bucket": "TokenBucket(1, per=6e7 / {0}, burst={0})",
    "sliding-window": "SlidingWindow({0}, per=DAY)",
    "sliding-log": "SlidingLog({0}, per=DAY)",
    "fixed-window": "FixedWindow({0}, per=DAY, align='first')",
    "concurrency": "Concurrency({0})",
}


def totals(crowd: Crowd, tally: Tally, path: Path, limits: str, keys: list[str], *, job: str, times: int, tiers: list[str | None]) -> list[int]:
    """How often each key was admitted, over all processes; half of these join when the others run."""
    stride = len(keys) + 1
    slots = [8 + number * stride for number in range(PROCESSES)]
    more = () if job == "batches" else (tiers,)
    children = []
    for slot in slots:
        if slot != slots[0]:  # the later ones come when the first are at it
            tally[0] = 1
        children.append(crowd.start(f"jobs.{job}", path, limits, tally.path, slot, keys, times, *more))
        tally.until(slot + len(keys), 1)
    assert [crowd.end(child) for child in children] == [0] * PROCESSES
    return [sum(tally[slot + place] for slot in slots) for place in range(len(keys))]


@pytest.mark.parametrize("job", ["hits", "batches"])
@pytest.mark.parametrize("keys", [["hot"], [f"key {n}" for n in range(40)]], ids=["one key", "40 keys"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_limit_and_no_more(crowd: Crowd, tally: Tally, path: Path, algorithm: str, keys: list[str], job: str) -> None:
    limit = 2_000 if len(keys) == 1 else 100
    if job == "batches":
        pytest.importorskip("numpy")
        keys = keys * 3 if len(keys) == 1 else keys  # one key several times in a batch
    found = totals(crowd, tally, path, ALGORITHMS[algorithm].format(limit), keys, job=job, times=limit, tiers=[None])
    if len(set(keys)) == 1:
        assert sum(found) == limit
    else:
        assert found == [limit] * len(keys)
    stats = made(str(path), ALGORITHMS[algorithm].format(limit)).stats()
    assert stats.admitted == sum(found)
    assert stats.admitted + stats.denied == PROCESSES * len(keys) * limit


def test_several_limits_together(crowd: Crowd, tally: Tally, path: Path) -> None:
    limits = ", ".join(ALGORITHMS[name].format(limit) for name, limit in zip(ALGORITHMS, (900, 800, 700, 800, 900), strict=True))
    found = totals(crowd, tally, path, limits, ["a", "b"], job="hits", times=1_500, tiers=[None])
    assert found == [700, 700]
    limiter = made(str(path), limits)
    for key in ("a", "b"):
        left = {limiter.peek(key, cost).limit_index for cost in (1, 101, 201)}
        assert 2 in left  # the smallest refuses, and what was taken of the others for a refused call is back:
        assert limiter.peek(key).remaining == 0


def test_what_was_taken_for_a_refused_call_is_given_back(crowd: Crowd, tally: Tally, path: Path) -> None:
    limits = "Concurrency(1000), TokenBucket(1, per=DAY, burst=300)"
    assert totals(crowd, tally, path, limits, ["a"], job="hits", times=2_000, tiers=[None]) == [300]
    limiter = made(str(path), limits)
    assert limiter.spent(limiter.fingerprint("a")) <= 300  # those who took are gone, so that nothing is in flight
    limiter.refund("a", 300)
    limiter.clear_dead()
    assert limiter.peek("a", 300).allowed


def test_tiers_of_one_key(crowd: Crowd, tally: Tally, path: Path) -> None:
    limits = "tiers={'free': SlidingWindow(300, per=DAY), 'pro': SlidingWindow(1200, per=DAY)}"
    assert totals(crowd, tally, path, limits, ["a"], job="hits", times=4_000, tiers=["free", "pro"]) == [1200]


def test_eight_who_open_at_once_make_one_file(crowd: Crowd, tally: Tally, path: Path) -> None:
    for _ in range(5):
        path.unlink(missing_ok=True)
        for slot in range(10):
            tally[slot] = 0
        children = [crowd.start("jobs.open_together", path, "'5/day'", tally.path, slot) for slot in range(1, 9)]
        for slot in range(1, 9):
            while tally[slot] != -1:
                pass
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
    processes = [context.Process(target=work, args=(path, queue)) for _ in range(3)]
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
