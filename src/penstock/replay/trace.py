"""Trace: what a replay needs of all the lines read, twelve bytes for each of them, in the order of their times."""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, compress, groupby, islice

from penstock.policy import HORIZON
from penstock.replay.keys import MISSING, KeyTable
from penstock.replay.times import NS

SPAN_MOST = HORIZON - 86_400 * NS
"""The longest span that a limiter's clock can follow, with a day to spare: 4.5 years."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be read. number: from 1 on, in its file; text: its beginning."""

    file: str
    number: int
    reason: str
    text: bytes


class Trace:
    """One time and one key for each request.

    times: nanoseconds since the epoch; keys: numbers in `table`; the same length. After `finish`, in the order of the
    times, and requests of one time in the order they were read in.
    """

    def __init__(self, table: KeyTable, bad_kept: int = 5) -> None:
        self.table = table
        self.times = array("q")
        self.keys = array("I")
        self.lines = 0
        self.blank = 0
        self.unreadable = 0
        self.bad: list[BadLine] = []
        self.without_key = 0
        self.late = 0
        self.latest_ns = 0
        self.stray = 0
        self._bad_kept = bad_kept

    def __len__(self) -> int:
        return len(self.times)

    def add(self, times: array[int], keys: Iterable[int]) -> None:
        """Requests as they are read; as many keys as times."""
        self.times.extend(times)
        self.keys.extend(keys)

    def add_bad(self, file: str, number: int, reason: str, text: bytes) -> None:
        """A line that is counted, and kept if it is one of the first."""
        self.unreadable += 1
        if len(self.bad) < self._bad_kept:
            self.bad.append(BadLine(file, number, reason, text[:200]))

    def add_blank(self, count: int) -> None:
        """Lines with nothing on them."""
        self.lines += count
        self.blank += count

    def finish(self) -> None:
        """Brings the requests into the order of their times, and counts those that were not.

        late: requests with an earlier time than one read before; latest_ns: how much earlier at most. stray: requests
        left out because they are years away from the others, where no limiter's clock could follow. without_key:
        those left out because a field of the key is missing.
        """
        self._keep(map(MISSING.__ne__, self.keys) if MISSING in self.keys else None)
        self.without_key = self.lines - self.blank - self.unreadable - len(self)
        times = self.times
        if not all(map(operator.le, times, islice(times, 1, None))):
            so_far = accumulate(times, max)
            behind = array("q", map(operator.sub, so_far, times))
            self.late = len(behind) - behind.count(0)
            self.latest_ns = max(behind)
            order = sorted(range(len(times)), key=times.__getitem__)
            self.times = array("q", map(times.__getitem__, order))
            self.keys = array("I", map(self.keys.__getitem__, order))
        self._leave_out_strays()

    def spread(self) -> None:
        """Spreads the requests of each time stamp evenly over its second, for logs that count in whole seconds."""
        spread = array("q")
        for second, same in groupby(self.times, lambda ns: ns // NS):
            count = sum(1 for _ in same)
            spread.extend(second * NS + i * NS // count for i in range(count))
        self.times = spread

    @property
    def whole_seconds(self) -> bool:
        """True when no time has a fraction of a second."""
        return not any(ns % NS for ns in self.times)

    def _keep(self, wanted: Iterable[bool] | None) -> None:
        if wanted is not None:
            chosen = list(wanted)
            self.times = array("q", compress(self.times, chosen))
            self.keys = array("I", compress(self.keys, chosen))

    def _leave_out_strays(self) -> None:
        times = self.times
        if not times or times[-1] - times[0] <= SPAN_MOST:
            return
        ends = [bisect_right(times, time + SPAN_MOST) for time in times]
        first = max(range(len(times)), key=lambda i: ends[i] - i)
        self.stray = len(times) - (ends[first] - first)
        self.times = times[first : ends[first]]
        self.keys = self.keys[first : ends[first]]
