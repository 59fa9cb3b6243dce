"""A trial: every design in turn on one Redis, under the same load and the same faults."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from penstock.clock import NS
from penstock.lab import measure
from penstock.lab.design import DESIGNS, OURS
from penstock.lab.fleet import PROGRAM, Fleet, now_ns
from penstock.lab.instance import Job
from penstock.lab.measure import Measured
from penstock.lab.server import Server, in_words, reach
from penstock.lab.settings import Settings
from penstock.sync.redis import read_target

Progress = Callable[[str, int, int], None]
Event = tuple[float, Callable[[], object]]


@dataclass(frozen=True)
class Bound:
    """What our guarantee promised: the largest that any instance named, before or after.

    formula: its words; burst: b; excess: units above it; instances: N; interval: T in seconds; unsettled: Q. warning:
    what it warned of.
    """

    formula: str
    burst: int
    excess: float
    instances: int
    interval: float
    unsettled: int
    warning: str | None

    @property
    def most(self) -> float:
        """What `Measured.peak` may be."""
        return self.burst + self.excess


@dataclass(frozen=True)
class Outcome:
    """settings; server: what Redis said it is; own: whether the trial had it for itself."""

    settings: Settings
    server: str
    own: bool
    bound: Bound
    designs: dict[str, Measured]


def run(settings: Settings, progress: Progress, designs: Sequence[str] = tuple(DESIGNS)) -> Outcome:
    """Runs the trial. progress(what, done, of); designs: of DESIGNS, ours among them. Raises LabError, SyncError."""
    read_target(settings.redis or "redis://localhost")  # before anything is started: a URL, and redis-py
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-lab-")))
        own = None if settings.redis is not None else stack.enter_context(Server(folder))
        url = settings.redis if own is None else own.url
        assert url is not None
        client, told = reach(url)
        stack.callback(client.close)
        stack.enter_context(in_words())
        found: dict[str, Measured] = {}
        bound: Bound | None = None
        for done, design in enumerate(designs):
            progress(DESIGNS[design].title, done, len(designs))
            with _name(None if own else client) as name:
                events = partial(_events, settings, own)
                found[design], promised = play(settings, design, folder, url, name, Meter(client), events)
                bound = promised or bound
        progress("", len(designs), len(designs))
    assert bound is not None
    return Outcome(settings, _kind(told), own is not None, bound, found)


def _kind(told: dict[str, Any]) -> str:
    name = "Valkey" if "valkey_version" in told else "Redis"
    return f"{name} {told.get('valkey_version', told.get('redis_version', '?'))}"


@contextmanager
def _name(client: Any) -> Iterator[str]:
    """A namespace that nobody else has; its keys are removed from a Redis that is somebody's. client: of that one."""
    name = f"penstock-lab-{os.urandom(6).hex()}"
    try:
        yield name
    finally:
        keys = [] if client is None else list(client.scan_iter(f"{name}:*", count=1000))
        if keys:
            client.unlink(*keys)


def play(
    settings: Settings,
    design: str,
    folder: Path,
    url: str,
    name: str,
    meter: Meter,
    events: Callable[[Fleet], Sequence[Event]],
    program: Sequence[str] = PROGRAM,
) -> tuple[Measured, Bound | None]:
    """One design's run: what came of it, and what it promised, where it promises anything.

    folder: for files; url: of Redis; name: what the fleet shares by; events: what happens to it; program: what an
    instance runs.
    """
    with Fleet(folder, program) as fleet:
        for number in range(settings.instances):
            fleet.join(Job(settings, design, number, str(folder / f"{design}-{number}"), url, name))
        fleet.ready()
        fleet.set_off()
        meter.begin()
        fleet.play(events(fleet), settings.seconds)
        meter.end()
        facts = [told for one in fleet.members for told in one.facts]
        return _measured(settings, design, fleet, meter), _bound(facts) if design == OURS else None


def _events(settings: Settings, own: Server | None, fleet: Fleet) -> list[Event]:
    """The faults that were asked for."""
    found: list[Event] = []
    if settings.outage is not None:
        assert own is not None
        found += [(settings.outage.start, own.pause), (settings.outage.end, own.resume)]
    if settings.kill:
        found.append((settings.kill_at, fleet.members[-1].kill))
    return found


def _measured(settings: Settings, design: str, fleet: Fleet, meter: Meter) -> Measured:
    """What came of a fleet that has played."""
    answers = measure.merge(fleet.answers(), fleet.start)
    asked = [answer.at for answer in answers]
    admitted = [answer.at for answer in answers if answer.admitted]
    start_us = meter.server_us(fleet.start)
    would = measure.exact(settings.rule, asked, start_us)
    if settings.window_s is None:
        height = measure.envelope(admitted, settings.rate, settings.seconds)
    else:
        height = measure.windows(admitted, round(settings.window_s * NS), start_us, settings.seconds)
    took = sorted(answer.took for answer in answers)
    done = [one.facts[-1] for one in fleet.members if not one.killed]
    planned = sum(len(settings.load_of.arrivals(number, settings.instances)) for number in range(settings.instances))
    return Measured(
        design=design,
        offered=measure.slices(asked, settings.seconds),
        admitted=measure.slices(admitted, settings.seconds),
        exact=measure.slices(would, settings.seconds),
        height=height,
        updates=meter.sets - meter.calls if design == OURS else meter.calls,
        batches=meter.calls,
        cpu_s=meter.cpu_s,
        median_ns=measure.quantile(took, 0.5),
        p99_ns=measure.quantile(took, 0.99),
        late_s=max((facts["late"] for facts in done), default=0) / NS,
        unasked=planned - len(asked),
        duplicates=sum(facts.get("duplicates", 0) for facts in done),
        lost=sum(facts.get("lost", 0) for facts in done),
    )


class Meter:
    """What a Redis has spent between `begin` and `end`, by its own count. client: of it.

    cpu_s: processor time; calls: of scripts; sets: of SET, in scripts too. Our script sets each key of a batch, and one
    for the batch.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.cpu_s, self.calls, self.sets = 0.0, 0, 0
        self._offset_us = 0.0

    def begin(self) -> None:
        """From here on. Compares clocks too."""
        before = now_ns()
        seconds, micros = self._client.time()
        self._offset_us = seconds * 1e6 + micros - (before + now_ns()) / 2000
        self._read(-1)

    def end(self) -> None:
        """Until here."""
        self._read(1)

    def server_us(self, ns: int) -> float:
        """The server's time, us since the Unix epoch, at `ns` on the host's clock."""
        return ns / 1000 + self._offset_us

    def _read(self, sign: int) -> None:
        spent, counted = self._client.info("cpu"), self._client.info("commandstats")
        self.cpu_s += sign * float(spent["used_cpu_user"] + spent["used_cpu_sys"])
        self.calls += sign * int(counted.get("cmdstat_evalsha", {}).get("calls", 0))
        self.sets += sign * int(counted.get("cmdstat_set", {}).get("calls", 0))


def _bound(facts: Sequence[dict[str, Any]]) -> Bound:
    told = max((one["bound"] for one in facts), key=lambda bound: float(bound["excess"]))
    return Bound(
        formula=told["formula"],
        burst=told["burst"],
        excess=told["excess"],
        instances=told["instances"],
        interval=told["interval"],
        unsettled=told["unsettled"],
        warning=next((one["warning"] for one in facts if one["warning"]), None),
    )
