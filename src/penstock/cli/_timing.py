"""Times small loops in turns, so that costs that are compared were measured in the same moments."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, repeat
from time import perf_counter, perf_counter_ns
from typing import NamedTuple, TypeVar

Call = Callable[[str], object]
Loop = Callable[[], float]
"""Runs once and answers how many nanoseconds one call in it took, the loop's own step included."""

T = TypeVar("T")


class Cost(NamedTuple):
    """What one call costs over all rounds of a loop, in nanoseconds."""

    best: float
    median: float
    spread: float
    """The distance of the quartiles: half of the rounds lie within it."""
    rounds: int


def cost_of(samples: Sequence[float]) -> Cost:
    """What `samples` (nanoseconds, at least one) come to."""
    quartiles = statistics.quantiles(samples, n=4) if len(samples) > 1 else [0.0, 0.0, 0.0]
    return Cost(min(samples), statistics.median(samples), quartiles[2] - quartiles[0], len(samples))


def time_calls(call: Call, keys: Iterable[str], count: int) -> float:
    """Nanoseconds for each of `count` calls, one for each key. Whatever is compared runs in this very loop."""
    start = perf_counter_ns()
    for key in keys:
        call(key)
    return (perf_counter_ns() - start) / count


def one_key(call: Call, key: str, count: int) -> Loop:
    """`count` calls with the same key."""
    return lambda: time_calls(call, repeat(key, count), count)


def each_key(call: Call, keys: Sequence[str], count: int) -> Loop:
    """Each time the next `count` of `keys`, from the first again when fewer are left."""
    parts = _parts(keys, count)
    return lambda: time_calls(call, next(parts), count)


def fresh_keys(call: Call, names: Sequence[bytes], count: int) -> Loop:
    """As each_key, but each key is a str made just before that nobody has hashed yet, as a web server makes them."""
    parts = _parts(names, count)
    return lambda: time_calls(call, [name.decode() for name in next(parts)], count)


def no_key(call: Callable[[], object], count: int) -> Loop:
    """`count` calls without an argument."""

    def loop() -> float:
        steps = repeat(None, count)
        start = perf_counter_ns()
        for _ in steps:
            call()
        return (perf_counter_ns() - start) / count

    return loop


def no_call(count: int) -> Loop:
    """The loop alone, which every other number contains."""

    def loop() -> float:
        steps = repeat(None, count)
        start = perf_counter_ns()
        for _ in steps:
            pass
        return (perf_counter_ns() - start) / count

    return loop


def batch(call: Callable[[], object], count: int) -> Loop:
    """One call that decides for `count` keys."""

    def loop() -> float:
        start = perf_counter_ns()
        call()
        return (perf_counter_ns() - start) / count

    return loop


def then(loop: Loop, settle: Callable[[], object]) -> Loop:
    """The loop, and after it, untimed, `settle`: so that what it left running does not disturb the next one."""

    def settled() -> float:
        ns = loop()
        settle()
        return ns

    return settled


def in_turns(loops: Mapping[str, Loop], *, seconds: float, least: int = 5) -> dict[str, Cost]:
    """Gives each loop its turn, then each again, for `seconds` but at least `least` times.

    A first round warms up and is not counted. Garbage is not collected meanwhile.
    """
    samples: dict[str, list[float]] = {name: [] for name in loops}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for loop in loops.values():
            turn(loop)
        end, rounds = perf_counter() + seconds, 0
        while rounds < least or perf_counter() < end:
            for name, loop in loops.items():
                samples[name].append(turn(loop))
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return {name: cost_of(taken) for name, taken in samples.items()}


def turn(loop: Loop) -> float:
    """Two laps of which the second counts, so that no loop pays for what the one before did to the caches."""
    loop()
    return loop()


def _parts(items: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    for place in cycle(range(0, len(items) - count + 1, count)):
        yield items[place : place + count]
