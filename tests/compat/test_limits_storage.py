"""The `penstock` storages of `limits`: URIs and options, keys without a window, bounds, threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from peers import needed

needed("limits")

from limits import RateLimitItemPerMinute, parse  # noqa: E402
from limits.errors import ConfigurationError, StorageError  # noqa: E402
from limits.storage import storage_from_string  # noqa: E402
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter  # noqa: E402

import penstock  # noqa: E402
import penstock.compat.limits as compat  # noqa: E402
from penstock.clock import ManualClock  # noqa: E402
from penstock.compat import _windows  # noqa: E402

STRATEGIES = [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter]
needs_segments = pytest.mark.skipif(
    sys.platform != "linux" or not penstock.native, reason="segments are for Linux and the compiled core"
)


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("penstock://?capcity=5", {}, "unknown option 'capcity' of penstock://: capacity and on_full are known"),
        ("penstock://", {"socket_timeout": 3}, "unknown option 'socket_timeout'"),
        ("penstock://?clock=now", {}, "unknown option 'clock'"),
        ("penstock://?capacity=0", {}, "capacity=0 must be between 1 and"),
        ("penstock://?capacity=many", {}, "capacity must be an int, not str"),
        ("penstock://?capacity=", {}, "capacity must be an int, not str"),
        ("penstock://?capacity", {}, "bad query field"),
        ("penstock://?capacity=5", {"capacity": 6}, "option capacity of penstock:// is given twice"),
        ("penstock://?on_full=panic", {}, "on_full='panic' must be"),
        ("penstock://localhost:6379", {}, r"penstock:// takes no name; penstock\+shm://localhost:6379 shares one"),
        ("penstock:///path", {}, "after the name only options are read"),
        ("penstock+shm://", {}, "a segment's name has 1 to"),
        ("penstock+shm://two words", {}, "a segment's name has 1 to"),
        ("penstock+shm://" + "n" * 49, {}, "the name has 49 characters; at most 48"),
        ("async+penstock://?x=1", {}, "unknown option 'x'"),
    ],
)
def test_a_uri_that_cannot_be_meant_says_why(uri: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        storage_from_string(uri, **options)


def test_other_schemes_stay_unknown() -> None:
    with pytest.raises(ConfigurationError, match="unknown storage scheme"):
        storage_from_string("penstok://")
    with pytest.raises(ConfigurationError, match="unknown storage scheme 'redis'"):
        compat.FixedWindowRateLimiter("redis://localhost")


def test_the_scheme_comes_with_the_import() -> None:
    script = """
import sys, threading
from limits.errors import ConfigurationError
from limits.storage import storage_from_string
try:
    storage_from_string("penstock://")
except ConfigurationError:
    import penstock.compat.limits
    print(type(storage_from_string("penstock://")).__name__, threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["PenstockStorage", "1"]


def test_options_reach_the_tables() -> None:
    storage = storage_from_string("penstock://?capacity=100&on_full=deny")
    limiter = FixedWindowRateLimiter(storage)
    item = RateLimitItemPerMinute(1)
    admitted = sum(limiter.hit(item, str(i)) for i in range(5_000))
    table = storage.windows.counter(60)
    assert (table.capacity, table.counters()[2]) == (100, 0)
    assert 100 <= admitted < 300


def test_memory_is_bounded_and_who_owes_most_stays() -> None:
    storage = storage_from_string("penstock://?capacity=1000")
    limiter, item = FixedWindowRateLimiter(storage), RateLimitItemPerMinute(50)
    while limiter.hit(item, "heavy"):
        pass
    table = storage.windows.counter(60)
    size = table.bytes
    for i in range(20_000):
        limiter.hit(item, str(i))
    assert table.live() <= 2_000
    assert table.bytes == size or not penstock.native
    assert not limiter.hit(item, "heavy")


def test_keys_that_name_no_window_are_found_in_any() -> None:
    clock = ManualClock(1e9)
    storage = storage_from_string("penstock://", clock=clock)
    assert (storage.get("k"), storage.get_expiry("k")) == (0, 1e9)
    assert (storage.incr("k", 10), storage.incr("k", 10, 4), storage.incr("other", 30)) == (1, 5, 1)
    assert (storage.get("k"), storage.get_expiry("k")) == (5, 1e9 + 10)
    assert storage.incr("misleading/1/minute", 10) == 1
    assert storage.get("misleading/1/minute") == 1
    clock.advance(10)
    assert (storage.get("k"), storage.get("other")) == (0, 1)
    storage.clear("other")
    assert storage.get("other") == 0
    assert storage.check()


def test_reset_counts_and_forgets() -> None:
    storage = storage_from_string("penstock://")
    fixed, moving = FixedWindowRateLimiter(storage), MovingWindowRateLimiter(storage)
    minute, hour = parse("1/minute"), parse("1/hour")
    assert [fixed.hit(minute, "a"), fixed.hit(hour, "a"), moving.hit(minute, "a")] == [True] * 3
    assert storage.reset() == 2
    assert [fixed.hit(minute, "a"), fixed.hit(hour, "a"), moving.hit(minute, "a")] == [True] * 3
    storage.clear(minute.key_for("a"))
    assert [fixed.hit(minute, "a"), fixed.hit(hour, "a"), moving.hit(minute, "a")] == [True, False, True]


def test_what_a_window_cannot_be_is_told_at_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_from_string("penstock://", wrap_exceptions=True)
    with pytest.raises(StorageError, match=r"limit=70000 must be at most 65536 for a log"):
        MovingWindowRateLimiter(storage).hit(parse("70000/hour"), "a")
    with pytest.raises(StorageError, match="cost=-1 must be between"):
        storage.incr("k", 60, -1)
    monkeypatch.setattr(_windows, "TABLES_MOST", 2)
    fixed = compat.FixedWindowRateLimiter()
    assert fixed.hit(parse("1/second"), "a")
    assert fixed.hit(parse("1/minute"), "a")
    with pytest.raises(ValueError, match="would be window 3 of one storage: at most 2"):
        fixed.hit(parse("1/hour"), "a")
    assert not fixed.hit(parse("1/minute"), "a")


def test_strange_keys_are_keys_like_others() -> None:
    fixed = FixedWindowRateLimiter(storage_from_string("penstock://"))
    native = compat.FixedWindowRateLimiter()
    item = RateLimitItemPerMinute(1)
    for strange in ("", "ключ", "\udcff", "x" * 65_536, "a/b", "\0"):
        for limiter in (fixed, native):
            assert limiter.hit(item, strange)
            assert not limiter.hit(item, strange)
    assert native.hit(item, "a", "b")  # one key with "a/b" in limits, which joins what it is given


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_threads_together_never_pass_the_limit(strategy: type[Any]) -> None:
    limiter = strategy(storage_from_string("penstock://"))
    item = parse("1000/day")
    admitted: list[int] = []
    start = threading.Barrier(4)

    def hit() -> None:
        start.wait()
        admitted.append(sum(limiter.hit(item, "a") for _ in range(500)))

    threads = [threading.Thread(target=hit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 1000


HITS = """
import sys
import penstock.compat.limits
from limits import parse, strategies
from limits.storage import storage_from_string
item = parse("100/day")
for name in "fixed-window", "moving-window", "sliding-window-counter":
    limiter = strategies.STRATEGIES[name](storage_from_string("penstock+shm://" + sys.argv[1]))
    print(sum(limiter.hit(item, "a") for _ in range(60)))
"""


@needs_segments
def test_processes_of_one_name_share_a_limit(name: str) -> None:
    workers = [subprocess.Popen([sys.executable, "-c", HITS, name], stdout=subprocess.PIPE, text=True) for _ in "abc"]
    admitted = [[int(line) for line in worker.communicate(timeout=60)[0].split()] for worker in workers]
    assert [sum(of_strategy) for of_strategy in zip(*admitted, strict=True)] == [100, 100, 100]


@needs_segments
def test_a_process_that_comes_later_finds_what_others_counted(name: str) -> None:
    item = parse("2/day")
    first = FixedWindowRateLimiter(storage_from_string(f"penstock+shm://{name}"))
    moving = MovingWindowRateLimiter(first.storage)
    assert [first.hit(item, "a"), first.hit(item, "a"), moving.hit(item, "a")] == [True] * 3
    first.storage.incr("k", 1.5)

    later = storage_from_string(f"penstock+shm://{name}")
    assert FixedWindowRateLimiter(later).get_window_stats(item, "a").remaining == 0
    assert later.get("k") == 1
    later = storage_from_string(f"async+penstock+shm://{name}").windows
    later.forget_everywhere(item.key_for("a"))
    assert first.get_window_stats(item, "a").remaining == 2
    assert moving.get_window_stats(item, "a").remaining == 2
    assert first.storage.check()
    Path(f"/dev/shm/penstock-{os.geteuid()}-{name}.fixed.86400").unlink()
    assert not first.storage.check()


def test_times_are_of_the_wall_clock() -> None:
    limiter = compat.FixedWindowRateLimiter()
    before = time.time()
    limiter.hit(parse("2/minute"), "a")
    reset, remaining = limiter.get_window_stats(parse("2/minute"), "a")
    assert remaining == 1
    assert before + 50 < reset < time.time() + 61
