"""The smallest limit that would have refused nobody, or no more than a share of all requests.

"Smaller" keeps the algorithm and `per` and lowers `limit`, and with it the burst of a token bucket in proportion. A
larger limit never refuses more of the same requests: if there were a first one after which it had admitted fewer, then
before that one it had admitted as many, none of them later, and so had room for it. Hence both answers are found by
bisection.

To replay twenty limits would be slow. But keys do not touch each other, so each is tried by itself in a model of a few
lines, exact in whole nanoseconds:

    windows        each request has a position: its time, its sub-window or its window; it is refused when the request
                   admitted `limit` places before it is less than `width` positions back
    token bucket   debt in units of 1/limit ns: a request adds `per`, time takes away elapsed * limit

Keys with no more requests than a limit admits at once are not looked at, nor are those that a smaller limit did not
refuse. The limiter itself has the last word: it replays the answer, and the answer less one, for all keys that the
model finds anywhere near it, and where the tick of its clock makes a difference the answer is moved until it agrees.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from operator import gt, sub
from typing import Protocol

from penstock.rate import COUNT_MOST, FixedWindow, SlidingLog, SlidingWindow, TokenBucket, check_per
from penstock.replay.limits import RateLimit
from penstock.replay.simulate import count_refused, requests_of
from penstock.replay.trace import Trace

LOG_MOST = 65_536
"""The largest limit of a SlidingLog."""

Requests = Sequence[int]
"""One key's requests in order: times in nanoseconds since the trace began, or what a model makes of them."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """None: no limit of this algorithm, `per` and proportion of burst is large enough."""

    refuses_nobody: RateLimit | None
    refuses_at_most: RateLimit | None


class Model(Protocol):
    """How one key fares under a limit scaled to `n`; most: the largest n that the algorithm takes."""

    most: int

    def scaled(self, n: int) -> RateLimit:
        """The limit with its number changed to `n`."""

    def at_once(self, n: int) -> int:
        """Requests that are never refused, however fast."""

    def prepare(self, times: Requests) -> Requests:
        """What the model looks at, made of the times once."""

    def admits_all(self, requests: Requests, n: int) -> bool:
        """True when none is refused."""

    def refused(self, requests: Requests, n: int) -> int:
        """How many are refused."""


class WindowModel:
    """position = (time + offset) * parts // ns; at most n are admitted in any `width` positions."""

    def __init__(self, limit: SlidingWindow | SlidingLog | FixedWindow, start_ns: int) -> None:
        self._limit = limit
        per_ns = check_per(limit.per)
        self.most = LOG_MOST if isinstance(limit, SlidingLog) else COUNT_MOST
        self._parts, self._ns, self._offset, self._width = 1, 1, 0, per_ns
        if isinstance(limit, SlidingWindow):  # the sub-window of a request counts, and `resolution` before it
            self._parts, self._ns, self._width = limit.resolution, per_ns, limit.resolution + 1
        elif isinstance(limit, FixedWindow):
            self._ns, self._offset, self._width = per_ns, start_ns % per_ns, 1

    def scaled(self, n: int) -> RateLimit:
        return replace(self._limit, limit=n)

    def at_once(self, n: int) -> int:
        return n

    def prepare(self, times: Requests) -> Requests:
        parts, ns, offset = self._parts, self._ns, self._offset
        return times if ns == 1 else array("q", [(time + offset) * parts // ns for time in times])

    def admits_all(self, requests: Requests, n: int) -> bool:
        apart = map(sub, islice(requests, n, None), requests)
        return not any(map(gt, repeat(self._width), apart))

    def refused(self, requests: Requests, n: int) -> int:
        admitted = list(requests[:n])
        for position in islice(requests, n, None):
            if position - admitted[-n] >= self._width:
                admitted.append(position)
        return len(requests) - len(admitted)


class BucketModel:
    """Debt in units of 1/n ns: time takes away elapsed * n, a request adds `per` where that fits below burst * per."""

    def __init__(self, limit: TokenBucket) -> None:
        self._limit = limit
        self._per_ns = check_per(limit.per)
        self.most = self._per_ns

    def scaled(self, n: int) -> RateLimit:
        return replace(self._limit, limit=n, burst=None if self._limit.burst is None else self.at_once(n))

    def at_once(self, n: int) -> int:
        burst = self._limit.burst
        return n if burst is None else max(1, n * burst // self._limit.limit)

    def prepare(self, times: Requests) -> Requests:
        return times

    def _room(self, n: int) -> int:
        """The debt up to which one more request fits."""
        return (self.at_once(n) - 1) * self._per_ns

    def admits_all(self, requests: Requests, n: int) -> bool:
        room, per_ns, debt, last = self._room(n), self._per_ns, 0, 0
        for time in requests:
            debt -= (time - last) * n
            last = time
            if debt <= 0:
                debt = per_ns
            elif debt <= room:
                debt += per_ns
            else:
                return False
        return True

    def refused(self, requests: Requests, n: int) -> int:
        room, per_ns, debt, last, refused = self._room(n), self._per_ns, 0, 0, 0
        for time in requests:
            debt -= (time - last) * n
            last = time
            if debt <= 0:
                debt = per_ns
            elif debt <= room:
                debt += per_ns
            else:
                refused += 1
        return refused


def model_of(limit: RateLimit, start_ns: int) -> Model:
    """The model of a limit, of a limiter born at start_ns. Windows that begin with a key's first hit have none."""
    if isinstance(limit, TokenBucket):
        return BucketModel(limit)
    if isinstance(limit, FixedWindow) and limit.align != "epoch":
        raise ValueError(f"{limit!r}: only windows on the epoch grid can be scaled")
    return WindowModel(limit, start_ns)


def times_by_key(trace: Trace, offered: Counter[int]) -> dict[int, Requests]:
    """The times of each key with more than one request, since the trace began; the busiest first."""
    by_key = {key: array("q") for key, count in offered.most_common() if count > 1}
    append = {key: times.append for key, times in by_key.items()}
    start = trace.times[0]
    for time, key in zip(*requests_of(trace, by_key), strict=True):
        append[key](time - start)
    return dict(by_key)


def find_smallest(trace: Trace, by_key: Mapping[int, Requests], limit: RateLimit, tolerated: int) -> Smallest:
    """The smallest limits like `limit`, by itself, that refuse none and at most `tolerated` of the trace's requests."""
    model = model_of(limit, trace.times[0])
    prepared = {key: model.prepare(times) for key, times in by_key.items()}
    requests = list(prepared.values())
    nobody = least_for_all(model, requests)
    some = least_for_most(model, requests, nobody, tolerated) if tolerated else nobody
    found = _agreed(trace, model, prepared, nobody, 0)
    return Smallest(found, _agreed(trace, model, prepared, some, tolerated) if tolerated else found)


def least_for_all(model: Model, by_key: Iterable[Requests]) -> int:
    """The least n under which no request is refused, or model.most + 1 for none; by_key: the busiest first."""
    n = 1
    for requests in by_key:
        if n > model.most or len(requests) <= model.at_once(n):
            break
        n = _least(partial(model.admits_all, requests), n, model.most)
    return n


def _least(fits: Callable[[int], bool], n: int, most: int) -> int:
    """The least number from `n` on that fits, or most + 1: in growing steps, then by bisection."""
    low, step = n - 1, 1
    while not fits(min(n, most)):
        if n >= most:
            return most + 1
        low, n, step = n, n + step, 2 * step
    high = min(n, most)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


def least_for_most(model: Model, by_key: Sequence[Requests], high: int, tolerated: int) -> int:
    """The least n under which at most `tolerated` requests are refused; high: one under which none is."""
    low, high = 0, min(high, model.most)
    undecided = by_key
    while high - low > 1:
        middle = (low + high) // 2
        refused, still = 0, []
        for i, requests in enumerate(undecided):
            if len(requests) <= model.at_once(middle):
                break
            if more := model.refused(requests, middle):
                refused += more
                still.append(requests)
                if refused > tolerated:
                    still.extend(undecided[i + 1 :])
                    break
        if refused > tolerated:
            low, undecided = middle, still
        else:
            high = middle
    return high


def _agreed(trace: Trace, model: Model, by_key: Mapping[int, Requests], n: int, tolerated: int) -> RateLimit | None:
    """The limit that the limiter itself finds the smallest, `n` or one close to it.

    Keys that are not refused under an eighth less, as the model has it, are left out: no clock's tick makes so much.
    """
    while n <= model.most:
        less = n - n // 8 - 2
        near = [key for key, requests in by_key.items() if less < 1 or model.refused(requests, less)]
        times, keys = requests_of(trace, near)
        refused = partial(count_refused, times, keys, trace.times[0])
        if refused(model.scaled(n)) > tolerated:
            n += 1
        elif n > 1 and refused(model.scaled(n - 1)) <= tolerated:
            n -= 1
        else:
            return model.scaled(n)
    return None
