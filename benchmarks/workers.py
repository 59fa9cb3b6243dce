"""Prints, as JSON, what worker processes decide together; run as a program, so that it forks from a clean process.

    python workers.py apart                      two processes on distinct keys, beside one, and with private limiters
    python workers.py together SUBJECT [URL]     four workers behind one limit: decisions a second, and exactness

"apart": {"one": ns, "two": ns, "private": ns}, ns of wall time for each decision, the least of ROUNDS in turns.
"together": {"decisions": a second, of all workers, "admitted": units, "promised": units}.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from penstock import FixedWindow, Limiter, TokenBucket

COUNT, ROUNDS, LEAD_NS = 100_000, 200, 3_000_000
TURNS = ["one", "two", "private"]
WORKERS, SECONDS, CHUNK = 4, 1.5, 200
DAY = 86_400
EXACT_KEYS, EXACT_LIMIT, EXACT_TIMES = 10, 100, 150
PLENTY, KEYS = 10**9, 1000
FORK = multiprocessing.get_context("fork")

Decide = Callable[[Sequence[str]], int]
"""Decides once for each key; how many were admitted."""


# ---- apart ----


def apart_worker(path: str, number: int, begin: Any, start: Any, results: Any) -> None:
    """One process: COUNT decisions for each turn that it takes part in, from the time `begin` on."""
    bucket, capacity = TokenBucket(10_000_000, per=100_000_000), 100_000
    shared, private = Limiter(bucket, shared=Path(path), capacity=capacity), Limiter(bucket, capacity=capacity)
    own = [f"process {number}, key {n}" for n in range(1000)]
    gc.disable()
    for turn in TURNS * ROUNDS:
        start.wait()
        if turn != "one" or number == 0:
            hit, steps = (private if turn == "private" else shared).hit, chain.from_iterable(repeat(own, COUNT // 1000))
            while perf_counter_ns() < begin.value:
                pass
            begun = perf_counter_ns()
            for key in steps:
                hit(key)
            results.put((begun, perf_counter_ns()))
        start.wait()


def apart(folder: str) -> dict[str, float]:
    """One process alone, two at once on keys of their own, and two at once with private limiters, in turns."""
    begin, start, results = FORK.Value("q"), FORK.Barrier(3), FORK.Queue()
    arguments = begin, start, results
    processes = [FORK.Process(target=apart_worker, args=(f"{folder}/apart", n, *arguments)) for n in range(2)]
    for process in processes:
        process.start()
    times: dict[str, list[float]] = {turn: [] for turn in TURNS}
    for turn in TURNS * ROUNDS:
        begin.value = perf_counter_ns() + LEAD_NS
        start.wait()
        spans = [results.get() for _ in range(1 if turn == "one" else 2)]
        start.wait()
        span = max(end for _, end in spans) - min(begun for begun, _ in spans)
        times[turn].append(span / (COUNT * len(spans)))
    for process in processes:
        process.join()
    return {turn: min(taken) for turn, taken in times.items()}


# ---- together ----


def each(hit: Callable[[str], Any]) -> Decide:
    return lambda keys: sum(map(hit, keys))


def penstock_segment(folder: str) -> Callable[[int], Decide]:
    def make(limit: int) -> Decide:
        return each(Limiter(FixedWindow(limit, per=DAY), shared=Path(folder) / f"limit-{limit}").hit)

    return make


def limits_storage(storage: Callable[[], Any]) -> Callable[[int], Decide]:
    import limits
    from limits.strategies import FixedWindowRateLimiter

    def make(limit: int) -> Decide:
        strategy, item = FixedWindowRateLimiter(storage()), limits.RateLimitItemPerDay(limit)
        return each(lambda key: strategy.hit(item, key))

    return make


def limits_memory(folder: str) -> Callable[[int], Decide]:
    from limits.storage import MemoryStorage

    return limits_storage(MemoryStorage)


def limits_redis(folder: str) -> Callable[[int], Decide]:
    from limits.storage import RedisStorage

    url = sys.argv[3]
    return limits_storage(lambda: RedisStorage(url))


def traffik_processes(folder: str) -> Callable[[int], Decide]:
    """Its backend must be made before the workers are forked."""
    from traffik.backends.multiprocess import MultiProcessInMemoryBackend
    from traffik.rates import Rate
    from traffik.strategies import FixedWindow as Strategy

    backend: Any = MultiProcessInMemoryBackend(namespace="bench")
    backend.start()
    strategy: Any = Strategy()

    def make(limit: int) -> Decide:
        rate, runner = Rate.parse(f"{limit}/d"), asyncio.Runner()
        runner.run(backend.initialize())

        async def decide(keys: Sequence[str]) -> int:
            admitted = 0
            for key in keys:
                admitted += not await strategy(key, rate, backend)
            return admitted

        return lambda keys: runner.run(decide(keys))

    return make


SUBJECTS = {
    "penstock": penstock_segment,
    "limits-memory": limits_memory,
    "limits-redis": limits_redis,
    "traffik": traffik_processes,
}


def together_worker(number: int, make: Callable[[int], Decide], start: Any, results: Any) -> None:
    exact, plenty = make(EXACT_LIMIT), make(PLENTY)
    draw = random.Random(number)
    few = [f"exact {n}" for n in range(EXACT_KEYS)] * EXACT_TIMES
    draw.shuffle(few)
    many = [f"many {n}" for n in range(KEYS)]
    draw.shuffle(many)
    parts = [many[place : place + CHUNK] for place in range(0, KEYS, CHUNK)]
    start.wait()
    admitted = exact(few)
    start.wait()
    count, turn, end = 0, 0, perf_counter() + SECONDS
    while perf_counter() < end:
        plenty(parts[turn % len(parts)])
        turn += 1
        count += CHUNK
    results.put((admitted, count))


def together(subject: str, folder: str) -> dict[str, float]:
    make = SUBJECTS[subject](folder)
    start, results = FORK.Barrier(WORKERS), FORK.Queue()
    processes = [FORK.Process(target=together_worker, args=(n, make, start, results)) for n in range(WORKERS)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    decisions = sum(count for _, count in answers) / SECONDS
    admitted = sum(admitted for admitted, _ in answers)
    return {"decisions": decisions, "admitted": admitted, "promised": EXACT_KEYS * EXACT_LIMIT}


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        found = apart(folder) if sys.argv[1] == "apart" else together(sys.argv[2], folder)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
