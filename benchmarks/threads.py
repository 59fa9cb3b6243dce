"""Prints, as JSON, what two threads decide in the time one needs alone; run under the interpreter to be measured.

For each case {"one": ns, "two": ns}: nanoseconds of wall time for each decision, with one thread and with two.
Every thread has its own bound method and its own key objects, so that they meet only in the limiter.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from itertools import chain, repeat
from threading import Barrier, Thread
from time import perf_counter_ns

from penstock import Limiter, TokenBucket

COUNT, ROUNDS = 400_000, 15


def run(limiter: Limiter, keys: Callable[[int], list[str]], count: int) -> float:
    """Nanoseconds from the first thread's first decision to the last one's last, for each decision."""
    barrier = Barrier(count)
    times: list[tuple[int, int]] = []

    def work(number: int) -> None:
        hit, own = limiter.hit, keys(number)  # made here: without the GIL, others' objects cost more
        steps = chain.from_iterable(repeat(own, COUNT // len(own)))
        barrier.wait()
        start = perf_counter_ns()
        for key in steps:
            hit(key)
        times.append((start, perf_counter_ns()))

    threads = [Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (max(end for _, end in times) - min(start for start, _ in times)) / (COUNT * len(threads))


def case(limiter: Limiter, keys: Callable[[int], list[str]]) -> dict[str, float]:
    """The least of ROUNDS in turns; keys(i) makes thread i's key objects."""
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(run(limiter, keys, 1))
        two.append(run(limiter, keys, 2))
    return {"one": min(one), "two": min(two)}


def one_key(thread: int) -> list[str]:
    """One key, an object of the calling thread's; many times, since to begin a list anew costs as much as a hit."""
    return ["".join(("one", " key"))] * 1000


def main() -> None:
    plenty = TokenBucket(10_000_000, per=100_000_000)
    spent, shared = Limiter(TokenBucket(1, per=3600)), Limiter(TokenBucket(2_000_000_000, per=100_000_000))
    spent.hit("one key")
    gc.disable()
    results = {
        "distinct keys": case(Limiter(plenty), lambda thread: [f"thread {thread}, key {n}" for n in range(1000)]),
        "one refused key": case(spent, one_key),
        "one admitted key": case(shared, one_key),
    }
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    json.dump({"python": sys.version.split()[0], "gil": gil, "cases": results}, sys.stdout)


if __name__ == "__main__":
    main()
