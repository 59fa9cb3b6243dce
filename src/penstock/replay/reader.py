"""Reader: lines of one file into a trace, a block at a time; each format says only what a record is.

A block is read as a whole; where one of its lines is odd it is read in ever smaller parts, to the same result. A line
that cannot be read is counted and ends nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from penstock.replay.keys import Raw, RawKeys
from penstock.replay.times import Times
from penstock.replay.trace import Trace

Record = Any
"""One line's fields, in the shape that its reader likes best."""

LINE_ERRORS = (ValueError, TypeError, RecursionError)
"""What a line of every wrong kind comes to: a bad time, a value of another type, ten thousand brackets."""

PARTS = 16


class Reader(ABC):
    """time_of: a record's time as Times takes it; raw_of: its key's texts as RawKeys takes them."""

    def __init__(
        self,
        name: str,
        trace: Trace,
        keys: RawKeys,
        time_of: Callable[[Record], object],
        raw_of: Callable[[Record], Raw | tuple[Raw, ...]],
    ) -> None:
        self._name = name
        self._trace = trace
        self._keys = keys
        self._time_of = time_of
        self._raw_of = raw_of
        self._times = Times()
        self._line = 0

    @abstractmethod
    def records(self, block: bytes, count: int) -> Sequence[Record]:
        """One record for each of `count` lines; raises one of LINE_ERRORS when any line is odd."""

    @abstractmethod
    def record(self, line: bytes) -> Record:
        """The record of a line that may be odd; raises one of LINE_ERRORS when it is none."""

    def read(self, block: bytes) -> None:
        """Adds the requests of whole lines, each ended by a newline, to the trace, and the unreadable ones."""
        count = block.count(b"\n")
        try:
            self._add(self.records(block, count))
        except LINE_ERRORS:
            if count == 1:
                self._read_odd(block[:-1])
                return
            lines = block.split(b"\n")[:-1]
            step = -(-count // PARTS)
            for i in range(0, count, step):
                self.read(b"\n".join(lines[i : i + step]) + b"\n")
        else:
            self._line += count
            self._trace.lines += count

    def _read_odd(self, line: bytes) -> None:
        self._line += 1
        if not line.strip():
            self._trace.add_blank(1)
            return
        self._trace.lines += 1
        try:
            self._add([self.record(line)])
        except LINE_ERRORS as error:
            self._trace.add_bad(self._name, self._line, str(error), line)

    def _add(self, records: Sequence[Record]) -> None:
        """All of the records, or none when one of them has no time."""
        times = array("q", map(self._times.__getitem__, map(self._time_of, records)))
        keys = array("I", map(self._keys.__getitem__, map(self._raw_of, records)))
        self._trace.add(times, keys)
