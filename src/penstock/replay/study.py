"""One study: what was asked, what was read, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from penstock.replay import traffic
from penstock.replay.files import UnreadableFile
from penstock.replay.keys import FieldError, KeyTable
from penstock.replay.limits import RateLimit
from penstock.replay.logs import Manner, read_blocks, read_file
from penstock.replay.series import Series, series_of
from penstock.replay.simulate import Outcome, Refusals, replay
from penstock.replay.smallest import Smallest, find_smallest, times_by_key
from penstock.replay.trace import Trace

Watch = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it: bytes or requests; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. paths: none for the built-in day; limits: decide together; at_most: a share of all requests."""

    paths: Sequence[str]
    manner: Manner
    limits: Sequence[RateLimit]
    at_most: Fraction = Fraction(1, 100)
    skip_missing: bool = False
    spread: bool = False
    bad_kept: int = 5
    seed: int = traffic.SEED


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: a finished trace, perhaps empty, and the files that could not be read to their end."""

    question: Question
    trace: Trace
    failures: list[UnreadableFile | FieldError]
    whole_seconds: bool


@dataclass(frozen=True, slots=True)
class Study:
    """What came out of a reading with at least one request. smallest: for each of the question's limits."""

    reading: Reading
    outcome: Outcome
    smallest: list[Smallest]
    tolerated: int
    """Requests that may be refused by the question's at_most."""

    @property
    def question(self) -> Question:
        return self.reading.question

    @property
    def trace(self) -> Trace:
        return self.reading.trace

    @property
    def admitted(self) -> int:
        return len(self.trace) - self.outcome.refused

    def over_time(self, most: int = 300) -> Series:
        """Offered and refused in at most `most` steps."""
        return series_of(self.trace.times, self.outcome.refused_ns, most)

    def most_refused(self, n: int) -> list[tuple[tuple[bytes, ...], int, Refusals]]:
        """Of the n keys that were refused most: the key, what it offered, and its refusals."""
        names = self.trace.table.names()
        ranked = sorted(self.outcome.refusals.items(), key=lambda item: (-item[1].count, item[0]))
        return [(names[key], self.outcome.offered[key], refusals) for key, refusals in ranked[:n]]


def read(question: Question, watch: Watch) -> Reading:
    """Reads all files, or makes up the day."""
    trace = Trace(KeyTable(question.skip_missing), question.bad_kept)
    failures: list[UnreadableFile | FieldError] = []
    for path in question.paths:
        try:
            read_file(path, question.manner, trace, partial(watch, f"reading {path}"))
        except (UnreadableFile, FieldError) as error:
            failures.append(error)
    if not question.paths:
        blocks = traffic.day_blocks(question.seed)
        read_blocks(traffic.NAME, blocks, question.manner, trace, lambda: watch("making up a day", 0, 0))
    watch("sorting", 0, 0)
    trace.finish()
    whole_seconds = trace.whole_seconds
    if question.spread and whole_seconds:
        trace.spread()
    return Reading(question, trace, failures, whole_seconds)


def study(reading: Reading, watch: Watch) -> Study:
    """Replays what was read, and reckons the smallest limits. Raises MemoryError for tables that are too large."""
    trace, limits = reading.trace, reading.question.limits
    outcome = replay(trace, limits, partial(watch, "replaying"))
    tolerated = int(reading.question.at_most * len(trace))
    by_key = times_by_key(trace, outcome.offered)
    smallest: list[Smallest] = []
    for limit in limits:
        watch("trying other limits", len(smallest), len(limits))
        smallest.append(find_smallest(trace, by_key, limit, tolerated))
    return Study(reading, outcome, smallest, tolerated)
