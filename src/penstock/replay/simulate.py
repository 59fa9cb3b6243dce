"""Replays a trace through a real Limiter at the trace's own time, and keeps account of what was refused."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import compress

from penstock.limiter import Limiter
from penstock.replay.limits import RateLimit, at_once
from penstock.replay.times import NS
from penstock.replay.trace import Trace

BATCH = 1 << 16
"""Requests between two reports of progress."""

Watch = Callable[[int, int], None]
"""Told how many requests of how many are replayed."""

_SECRET = b"penstock replay: the same answer every time"


@dataclass(slots=True)
class Refusals:
    """What one key was refused. A spell lasts from a refusal until the moment the limiter would admit the key again."""

    first_ns: int
    count: int = 0
    spells: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    _since_ns: int = 0
    _until_ns: int = -1

    def add(self, now_ns: int, until_ns: int) -> None:
        """One more refusal, at `now_ns`; nothing of this key is admitted before `until_ns`."""
        self.count += 1
        if now_ns >= self._until_ns:
            self.spells += 1
            self._since_ns = self._until_ns = now_ns
        if until_ns > self._until_ns:
            self.total_ns += until_ns - self._until_ns
            self._until_ns = until_ns
            self.longest_ns = max(self.longest_ns, until_ns - self._since_ns)


@dataclass(slots=True)
class Outcome:
    """offered: requests by key; by_limit: refused requests by the limit that refused longest; refused_ns: the times of
    all refused requests, in order; refusals: by key; evicted: keys the limiter forgot for lack of room."""

    offered: Counter[int]
    by_limit: list[int]
    refused_ns: array[int]
    refusals: dict[int, Refusals]
    evicted: int

    @property
    def refused(self) -> int:
        return len(self.refused_ns)


def requests_of(trace: Trace, chosen: Collection[int]) -> tuple[array[int], array[int]]:
    """Times and keys of the requests of the `chosen` keys."""
    if len(chosen) == len(trace.table):
        return trace.times, trace.keys
    flags = bytearray(len(trace.table))
    for key in chosen:
        flags[key] = 1
    wanted = bytes(map(flags.__getitem__, trace.keys))
    return array("q", compress(trace.times, wanted)), array("I", compress(trace.keys, wanted))


class TraceClock:
    """The trace's time as a limiter's clock: a ManualClock that may be moved often, as nobody waits on it."""

    __slots__ = ("ns",)

    def __init__(self, start_ns: int) -> None:
        self.ns = start_ns

    def now_ns(self) -> int:
        return self.ns

    def wall_ns(self) -> int:
        return self.ns


def make_limiter(limits: Sequence[RateLimit], clock: TraceClock, keys: int) -> Limiter:
    """A limiter with room for all `keys`. Raises MemoryError when the machine has none."""
    return Limiter(*limits, capacity=keys + keys // 4 + 64, clock=clock, secret=_SECRET)


def replay(trace: Trace, limits: Sequence[RateLimit], watch: Watch) -> Outcome:
    """What `limits`, deciding together, make of a finished trace that is not empty.

    Keys with no more requests than each limit admits at once are left out, as nothing of theirs can be refused: the
    limiter's memory is for the others.
    """
    offered = Counter(trace.keys)
    never_refused = min(map(at_once, limits))
    times, keys = requests_of(trace, [key for key, count in offered.items() if count > never_refused])
    clock = TraceClock(trace.times[0])
    limiter = make_limiter(limits, clock, len(set(keys)))
    hit, peek = limiter.hit, limiter.peek
    by_limit = [0] * len(limits)
    refused_ns = array("q")
    refusals: dict[int, Refusals] = {}
    for start in range(0, len(times), BATCH):
        for now, key in zip(times[start : start + BATCH], keys[start : start + BATCH], strict=True):
            clock.ns = now
            if not hit(key):
                decision = peek(key)  # a refusal changes nothing: this is the answer that was given
                by_limit[decision.limit_index] += 1
                refused_ns.append(now)
                if key not in refusals:
                    refusals[key] = Refusals(now)
                refusals[key].add(now, now + round(decision.retry_after * NS))
        watch(min(start + BATCH, len(times)), len(times))
    return Outcome(offered, by_limit, refused_ns, refusals, limiter.stats().evicted)


def count_refused(times: Sequence[int], keys: Sequence[int], start_ns: int, limit: RateLimit) -> int:
    """Requests that `limit` alone refuses, of a limiter born at `start_ns`."""
    clock = TraceClock(start_ns)
    hit = make_limiter([limit], clock, len(set(keys))).hit
    refused = 0
    for now, key in zip(times, keys, strict=True):
        clock.ns = now
        refused += not hit(key)
    return refused
