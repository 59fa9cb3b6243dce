"""`penstock inspect`: what is in a shared segment or in a saved limiter."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

from penstock import snapshot
from penstock._backend import Engine
from penstock.clock import NS, seconds_to_ns
from penstock.decision import TopKey
from penstock.errors import PenstockError, SegmentError, SnapshotError
from penstock.keys import Key
from penstock.limiter import top_keys
from penstock.policy import compile_policies
from penstock.rate import Limit
from penstock.replay.wording import clipped, duration, moment, number, percent, table
from penstock.segment.file import MAGIC, look
from penstock.segment.options import path_of
from penstock.snapshot import fill_with
from penstock.written import Tiers, write_key, write_tiers

SECONDS_DEFAULT = 2.0
TOP_DEFAULT = 10
NAME_MOST = 40
CLEAR = "\x1b[H\x1b[2J"
"""To the terminal's first place, and everything away."""

DONE, FAILED = 0, 2

_DESCRIPTION = """\
Shows what is in a shared segment, while processes decide on it, or in a file that limiter.save() wrote: limits, load,
decisions, the hottest keys, who is attached, and what is held. It only looks: it takes no part and changes nothing.
"""

_EPILOG = """\
what is shown
  load       keys that something counts against, of those the tables are rated for
  decisions  since the segment was made; of a saved limiter, since that was made
  keys       those refused most, then those that have spent most, by their fingerprint, since segments know no names;
             spent is in units, under the limit that has most of them
  processes  by their number where they run: dead ones' units come back when somebody is refused who wants them
  held       units of Concurrency limits, and the process that took them

exit status
  0  done, or interrupted while watching
  2  wrong arguments, or nothing there that can be read

examples
  penstock inspect api
  penstock inspect /dev/shm/penstock-1000-api --watch
  penstock inspect api --json | jq .refused
  penstock inspect /var/lib/app/limits.state --top 100
"""


class Process(NamedTuple):
    """One that has joined. attached: seconds since then."""

    pid: int
    attached: float
    alive: bool


class Held(NamedTuple):
    """What a process has of a Concurrency limit."""

    fingerprint: int
    limit: str
    units: int
    pid: int


class Look(NamedTuple):
    """What was found. kind: "segment" or "saved". when_ns: since the Unix epoch, when that was so; age_ns: how long it
    has been counted. sync: by what name hosts share the limits, or None. held, processes: of segments."""

    kind: str
    path: str
    size: int
    when_ns: int
    age_ns: int
    limits: Tiers
    on_full: str
    sync: str | None
    name: str | None
    capacity: int
    live: int
    admitted: int
    refused: int
    evicted: int
    keys: list[TopKey]
    processes: list[Process]
    held: list[Held]


class Rates(NamedTuple):
    """Decisions in a second between two looks."""

    admitted: float
    refused: float


# ---- the command ----


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `penstock inspect`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("what", metavar="NAME|PATH", help="a segment's name or file, or a saved limiter's file")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=SECONDS_DEFAULT,
        metavar="SECONDS",
        help="look again and again (default: every 2 s), until Ctrl-C",
    )
    parser.add_argument("-n", "--top", type=_count, default=TOP_DEFAULT, metavar="N", help="keys to list (default: 10)")
    parser.add_argument("--json", action="store_true", help="print a JSON object; with --watch, one on each line")


def run(args: argparse.Namespace) -> int:
    """Looks and prints; the exit status."""
    try:
        if args.watch is None:
            _print(look_at(args.what, args.top), None, args.json, indent=2)
        else:
            _watch(args)
    except (PenstockError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"penstock inspect: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        if args.watch is None:
            raise
    return DONE


def _watch(args: argparse.Namespace) -> None:
    """Looks again and again, until it is interrupted or there is nothing to be seen."""
    before, rates = None, None
    on_screen = sys.stdout.isatty() and not args.json
    while True:
        found = look_at(args.what, args.top)
        if before is not None and found.when_ns > before.when_ns:
            seconds = (found.when_ns - before.when_ns) / NS
            admitted, refused = found.admitted - before.admitted, found.refused - before.refused
            made_anew = admitted < 0 or refused < 0
            rates = None if made_anew else Rates(admitted / seconds, refused / seconds)
        if on_screen:
            sys.stdout.write(CLEAR)
        _print(found, rates, args.json, indent=None)
        if not (on_screen or args.json):
            print()
        sys.stdout.flush()
        before = found
        time.sleep(args.watch)


def _print(found: Look, rates: Rates | None, as_json: bool, indent: int | None) -> None:
    if as_json:
        print(json.dumps(as_object(found, rates), indent=indent))
        return
    text = "\n".join(line.rstrip() for line in as_lines(found, rates)) + "\n"
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        seconds_to_ns("SECONDS", seconds)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} must be 0.05 to 86400 seconds; NAME|PATH comes before --watch")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number")
    return int(text)


# ---- looking ----


def look_at(what: str, top: int) -> Look:
    """Finds a segment by its name, or a segment or a saved limiter by its path, and looks in. Raises PenstockError or
    OSError."""
    path = _found(what)
    with open(path, "rb") as file:
        start = file.read(max(len(MAGIC), len(snapshot.MAGIC)))
    if start.startswith(snapshot.MAGIC):
        return _saved(path, top)
    if not start.startswith(MAGIC):
        raise SnapshotError(f"{path} is neither a penstock segment nor a saved limiter")
    return _segment(path, top)


def _found(what: str) -> str:
    """The file that is meant: a segment of that name comes first."""
    try:
        named = path_of(what)
    except ValueError:
        named = None
    if named is not None and os.path.lexists(named):
        return named
    if not os.path.lexists(what):
        nowhere = "" if named is None else f", and no segment {named}"
        raise SegmentError(f"there is no file {what}{nowhere}")
    path = os.path.abspath(what)
    if not os.path.isfile(path):
        raise SegmentError(f"{path} is not a plain file")
    return path


class _Stopped:
    """A clock that shows one time. A segment on a clock that was given goes by the latest time it gave anyone."""

    def __init__(self, now_ns: int, wall_ns: int) -> None:
        self._times = now_ns, wall_ns

    def now_ns(self) -> int:
        return self._times[0]

    def wall_ns(self) -> int:
        return self._times[1]


def _segment(path: str, top: int) -> Look:
    opened = look(path)
    header = opened.header
    given = None if header.clock == "the system's" else _Stopped(header.birth_ns, header.wall_ns)
    try:
        engine = Engine(
            header.policies,
            _index(header.limits),
            capacity=header.capacity,
            evict=header.on_full == "evict",
            secret=header.secret,
            clock=given,
            remember=False,
            segment=opened,
        )
    except BaseException:
        os.close(opened.fd)
        raise
    names = [_limit(limit) for limit in next(iter(header.limits.values()))]
    return _look(
        engine,
        top,
        kind="segment",
        path=path,
        size=engine.bytes,
        when_ns=time.time_ns(),
        limits=header.limits,
        on_full=header.on_full,
        sync=None if header.sync == "no" else header.sync,
        name=None,
        processes=[Process(pid, attached, alive is not False) for pid, attached, alive in engine.seats()],
        held=[Held(found, names[limit], units, pid) for found, limit, pid, units in engine.holders()],
    )


def _saved(path: str, top: int) -> Look:
    """As it was when it was saved, whatever time has made good since."""
    saved = snapshot.read(path)
    policies = compile_policies(list(saved.limits.values()), saved.wall_ns)
    age_ns, rows = snapshot.go_on(saved, saved.wall_ns, policies)
    engine = Engine(
        policies,
        _index(saved.limits),
        capacity=saved.capacity,
        evict=True,
        secret=saved.secret,
        clock=_Stopped(0, saved.wall_ns),
        remember=True,
        age=age_ns,
    )
    fill_with(engine, rows, saved.names)
    return _look(
        engine,
        top,
        kind="saved",
        path=path,
        size=os.stat(path).st_size,
        when_ns=saved.wall_ns,
        limits=saved.limits,
        on_full=saved.on_full,
        sync=None,
        name=saved.name,
        processes=[],
        held=[],
    )._replace(admitted=saved.counters[0], refused=saved.counters[1], evicted=saved.counters[2])


def _index(limits: Tiers) -> dict[str | None, int]:
    return {tier: index for index, tier in enumerate(limits)}


def _look(engine: Engine, top: int, **facts: Any) -> Look:
    admitted, refused, evicted = engine.counters()
    return Look(
        age_ns=engine.now_ns(),
        capacity=engine.capacity,
        live=engine.live(),
        admitted=admitted,
        refused=refused,
        evicted=evicted,
        keys=top_keys(engine, top),
        **facts,
    )


# ---- showing ----


def as_object(found: Look, rates: Rates | None) -> dict[str, Any]:
    """For machines. Fingerprints are hexadecimal, times in seconds."""
    spoken = {
        "age_s": found.age_ns / NS,
        "when": found.when_ns / NS,
        "limits": write_tiers(found.limits),
        "keys": [
            {"fingerprint": _hex(key.fingerprint), "name": _name(key.name), "spent": key.spent, "refused": key.denied}
            for key in found.keys
        ],
        "processes": [
            {"pid": process.pid, "attached_s": process.attached, "alive": process.alive} for process in found.processes
        ],
        "held": [held._asdict() | {"fingerprint": _hex(held.fingerprint)} for held in found.held],
    }
    fields = {name: value for name, value in found._asdict().items() if name not in ("age_ns", "when_ns")} | spoken
    if rates is not None:
        fields |= {"admitted_per_s": rates.admitted, "refused_per_s": rates.refused}
    return fields


def _hex(fingerprint: int) -> str:
    return f"{fingerprint:016x}"


def _name(key: object) -> Any:
    return None if key is None else write_key(cast(Key, key))


def as_lines(found: Look, rates: Rates | None) -> Iterator[str]:
    """For people."""
    yield f"penstock inspect: {found.path}"
    yield ""
    yield from table(_facts(found, rates), "<<")
    keys = [[_hex(key.fingerprint), _shown(key.name), number(key.spent), number(key.denied)] for key in found.keys]
    if not any(key.name is not None for key in found.keys):
        keys = [[fingerprint, *counts] for fingerprint, _, *counts in keys]
        yield from _titled("hottest keys", ["fingerprint", "spent", "refused"], keys, "<>>")
    else:
        yield from _titled("hottest keys", ["fingerprint", "key", "spent", "refused"], keys, "<<>>")
    processes = [
        [str(process.pid), f"{duration(round(process.attached * NS))} ago", "alive" if process.alive else "dead"]
        for process in found.processes
    ]
    yield from _titled("processes", ["pid", "attached", ""], processes, "><<")
    held = [[_hex(held.fingerprint), held.limit, number(held.units), str(held.pid)] for held in found.held]
    yield from _titled("held", ["fingerprint", "limit", "units", "pid"], held, "<<>>")


def _facts(found: Look, rates: Rates | None) -> Iterator[list[str]]:
    age = duration(found.age_ns)
    if found.kind == "segment":
        yield ["segment", f"{_size(found.size)}, counting for {age}"]
    else:
        named = "" if found.name is None else f" {found.name!r}"
        yield ["saved", f"limiter{named}, {_size(found.size)}, {_when(found.when_ns)}, after counting for {age}"]
    if found.sync is not None:
        yield ["sync", f"through Redis, {found.sync}"]
    first = "limits"
    for tier, limits in found.limits.items():
        named = "" if tier is None else f"{tier}: "
        yield [first, named + ", ".join(map(_limit, limits))]
        first = ""
    full = "a new key takes the least owing one's place" if found.on_full == "evict" else "new keys are refused"
    share = percent(found.live, found.capacity)
    yield ["load", f"{number(found.live)} of {number(found.capacity)} keys ({share}); when full, {full}"]
    counts = f"{number(found.admitted)} admitted, {number(found.refused)} refused, {number(found.evicted)} evicted"
    yield ["decisions", counts]
    if rates is not None:
        yield ["a second", f"{rates.admitted:,.0f} admitted, {rates.refused:,.0f} refused"]


def _limit(limit: Limit) -> str:
    """As it is written in code, without what is not set."""
    return repr(limit).replace(", burst=None", "")


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _when(ns: int) -> str:
    """A time since 1970, which a clock that was given may show as it likes."""
    try:
        return f"{moment(ns)} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{ns // NS} s after 1970"


def _shown(key: object) -> str:
    """A key's name, safe on a terminal."""
    text = "" if key is None else key if isinstance(key, str) else repr(key)
    if not text.isprintable():
        text = repr(text)
    return clipped(text, NAME_MOST)


def _titled(title: str, head: list[str], rows: Sequence[list[str]], sides: str) -> Iterator[str]:
    """A table under its title; nothing without rows."""
    if rows:
        yield ""
        yield title
        yield from table([head, *rows], sides)
