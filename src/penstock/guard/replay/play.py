"""Log files -> a guard with a clock set by the log -> what it would have done, in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from penstock.clock import ManualClock
from penstock.guard.config import Config
from penstock.guard.facts import place_of
from penstock.guard.guard import Guard
from penstock.guard.replay.lines import Entry, Lines
from penstock.guard.request import Request, Response
from penstock.guard.verdict import Action, Evidence, Tier, Verdict
from penstock.replay.files import LogFile, UnreadableFile
from penstock.replay.times import NS
from penstock.replay.trace import SPAN_MOST, BadLine

ADDRESSES_MOST = 262_144
"""Addresses whose requests are counted one by one; those of later ones count in the sums alone."""
STORIES_MOST = 16_384
"""Addresses that evidence is kept of."""
EXPLAINED_MOST = 10_000
FILES_MOST = 64
OUT_OF_ORDER_MOST = 2048
"""Lines read ahead of each file, to bring them into the order of their times."""
SLICES_MOST = 1024
BAD_KEPT = 5

Watch = Callable[[str, int, int], None]
"""Told what is being done, how many bytes of how many (0: unknown)."""


class Moment(NamedTuple):
    """One line and what the guard had to say to it. answered: whether it said so after the response, not before."""

    entry: Entry
    allowed: bool
    tier: Tier
    action: Action
    kind: str
    evidence: tuple[Evidence, ...]
    answered: bool = False


@dataclass(slots=True)
class Story:
    """What became of one address. why: refusals by detector; first: what it was refused first for; suspected: evidence
    that refused nothing."""

    address: str
    refused: int = 0
    delayed: int = 0
    suspected: int = 0
    banned: bool = False
    why: Counter[str] = field(default_factory=Counter)
    first: Moment | None = None
    last_ns: int = 0


_STEPS_S = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400)
"""Seconds of a slice; each is a multiple of the one before. Longer ones are doubled."""


class Slices:
    """Allowed and refused requests over time, in at most SLICES_MOST slices that grow with the log."""

    def __init__(self, start_ns: int) -> None:
        self._steps = iter(_STEPS_S)
        self.step_ns = next(self._steps) * NS
        self.start_ns = start_ns // self.step_ns * self.step_ns
        self.allowed = [0]
        self.refused = [0]

    def add(self, ns: int, allowed: bool) -> None:
        """ns: not before the start."""
        while (place := (ns - self.start_ns) // self.step_ns) >= SLICES_MOST:
            step_ns = next(self._steps, self.step_ns // NS * 2) * NS
            many = step_ns // self.step_ns
            self.allowed, self.refused = (
                [sum(counts[i : i + many]) for i in range(0, len(counts), many)]
                for counts in (self.allowed, self.refused)
            )
            self.step_ns = step_ns
        for counts in (self.allowed, self.refused):
            counts.extend([0] * (place + 1 - len(counts)))
        (self.allowed if allowed else self.refused)[place] += 1


@dataclass(slots=True)
class Played:
    """What a replay has found. late: requests with a time before one that was played already, which count at that one.
    strays: requests left out because they are years from the first. untold: evidence on addresses beyond STORIES_MOST.
    errors: what failed in the guard itself."""

    config: Config
    paths: Sequence[str]
    lines: int = 0
    unreadable: int = 0
    requests: int = 0
    refused: int = 0
    delayed: int = 0
    late: int = 0
    strays: int = 0
    first_ns: int = 0
    last_ns: int = 0
    bad: list[BadLine] = field(default_factory=list)
    failures: list[UnreadableFile] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    tiers: Counter[Tier] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    stories: dict[str, Story] = field(default_factory=dict)
    untold: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    sample: list[Moment] = field(default_factory=list)
    explained: list[Moment] = field(default_factory=list)
    slices: Slices | None = None

    @property
    def refused_addresses(self) -> list[Story]:
        """Those that were refused something, most first."""
        return sorted((one for one in self.stories.values() if one.refused), key=lambda one: -one.refused)


def play(
    paths: Sequence[str], config: Config, explain: str | None = None, sample: int = 50, watch: Watch = lambda *_: None
) -> Played:
    """Plays the requests of all files, in the order of their times, through a guard of its own.

    explain: an address all of whose requests are kept, EXPLAINED_MOST at most; sample: moments to keep, the first of
    each address and detector. Headers that a log does not hold are taken for ordinary ones; what is in flight cannot be
    known from a log, so limits of that never refuse here. Files that cannot be read are among the failures.
    """
    played = Played(config, paths)
    wanted = None if explain is None else place_of(explain).key
    clock = ManualClock()
    guard: Guard | None = None
    shown: set[tuple[str, str]] = set()
    try:
        for entry in _in_order(paths, played, watch):
            if guard is None:
                clock.set_ns(entry.ns)
                guard = Guard(config, clock=clock)
                played.first_ns = played.last_ns = entry.ns
                played.slices = Slices(entry.ns)
            if entry.ns - played.first_ns > SPAN_MOST:
                played.strays += 1
                continue
            if entry.ns < played.last_ns:
                played.late += 1
            else:
                played.last_ns = entry.ns
                clock.set_ns(entry.ns)
            for moment in _judge(guard, entry):
                _note(played, moment, shown, sample)
                if wanted is not None and place_of(entry.address).key == wanted:
                    played.explained.append(moment)
                    del played.explained[EXPLAINED_MOST:]
    finally:
        if guard is not None:
            played.errors = guard.status()["health"]["detector_errors"]
            guard.close()
    return played


def _judge(guard: Guard, entry: Entry) -> Iterator[Moment]:
    """What the guard says to a request, and what it finds in the answer to one that passed."""
    request = request_of(entry)
    verdict = guard.inspect(request)
    yield _moment(entry, verdict)
    if verdict.allowed and entry.status:
        evidence = guard.observe(request, Response(entry.status, entry.size))
        if evidence:
            banned = guard.assess(entry.address).ban is not None
            tier, action = (Tier.BANNED, Action.BAN) if banned else (Tier.SUSPICIOUS, Action.LOG)
            yield Moment(entry, True, tier, action, "", evidence, answered=True)


def _moment(entry: Entry, verdict: Verdict) -> Moment:
    return Moment(entry, verdict.allowed, verdict.tier, verdict.action, verdict.kind, verdict.reasons)


_ASSUMED = {"accept": "*/*", "accept-language": "en", "accept-encoding": "gzip", "user-agent": "not logged"}


def request_of(entry: Entry) -> Request:
    """The request of a line, with ordinary headers where a log has none."""
    headers = dict(_ASSUMED)
    for name, value in (("user-agent", entry.agent), ("referer", entry.referrer)):
        if value:
            headers[name] = value
        elif value is not None:
            headers.pop(name, None)
    return Request(entry.address, entry.method, entry.path, entry.query, headers, entry.user or None)


def _note(played: Played, moment: Moment, shown: set[tuple[str, str]], sample: int) -> None:
    """Counts a moment. shown: pairs of address and detector that are in the sample."""
    entry = moment.entry
    address = entry.address
    if not moment.answered:
        played.requests += 1
        played.tiers[moment.tier] += 1
        if address in played.offered or len(played.offered) < ADDRESSES_MOST:
            played.offered[address] += 1
        if played.slices is not None:
            played.slices.add(played.last_ns, moment.allowed)
    if not moment.evidence:
        return
    story = played.stories.get(address)
    if story is None:
        if len(played.stories) >= STORIES_MOST:
            played.untold += 1
            story = Story(address)
        else:
            story = played.stories[address] = Story(address)
    detector = reason_of(moment.evidence[0])
    story.last_ns = entry.ns
    story.banned |= moment.action is Action.BAN
    if not moment.allowed:
        played.refused += 1
        played.kinds[moment.kind] += 1
        played.detectors[detector] += 1
        story.refused += 1
        story.why[detector] += 1
        if story.first is None:
            story.first = moment
    elif moment.action is Action.TARPIT:
        played.delayed += 1
        story.delayed += 1
    else:
        story.suspected += 1
    if len(played.sample) < sample and (address, detector) not in shown:
        shown.add((address, detector))
        played.sample.append(moment)


def reason_of(evidence: Evidence) -> str:
    """The detector; of a ban in force, what it was for."""
    return evidence.detail if evidence.detector == "ban" else evidence.detector


def _in_order(paths: Sequence[str], played: Played, watch: Watch) -> Iterator[Entry]:
    """The requests of all files, as nearly in the order of their times as OUT_OF_ORDER_MOST lines allow."""
    streams = [_sorted(_entries(path, played, watch)) for path in paths]
    return heapq.merge(*streams, key=attrgetter("ns"))


def _sorted(entries: Iterable[Entry]) -> Iterator[Entry]:
    waiting: list[tuple[int, int, Entry]] = []
    for place, entry in enumerate(entries):
        if len(waiting) < OUT_OF_ORDER_MOST:
            heapq.heappush(waiting, (entry.ns, place, entry))
        else:
            yield heapq.heappushpop(waiting, (entry.ns, place, entry))[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _entries(path: str, played: Played, watch: Watch) -> Iterator[Entry]:
    """The requests of one file; what cannot be read is counted."""
    number = 0
    try:
        with LogFile(path) as file:
            reader = Lines(file.name)
            for block in file.blocks():
                for line in block.split(b"\n")[:-1]:
                    number += 1
                    if not line.strip():
                        continue
                    played.lines += 1
                    try:
                        entry = reader.read(line.rstrip(b"\r"), number)
                    except ValueError as error:
                        played.unreadable += 1
                        if len(played.bad) < BAD_KEPT:
                            played.bad.append(BadLine(file.name, number, str(error), line[:200]))
                        continue
                    yield entry
                watch("reading", file.position(), file.size)
    except UnreadableFile as failure:
        played.failures.append(failure)
