"""`penstock bench`: what a decision costs on this machine, beside dict.get, a clock read and the limiters installed."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from random import Random
from time import perf_counter, perf_counter_ns
from typing import Any, NamedTuple

import penstock
from penstock import Limiter, TokenBucket
from penstock.cli._peers import PEERS, Quota, Subject
from penstock.cli._timing import Call, Cost, Loop, batch, each_key, fresh_keys, in_turns, no_call, no_key, one_key, then

PLENTY: Quota = (10_000_000, 100_000_000)
"""Refuses nothing, and leaves a key owing something for 10 s after each hit."""
SPENT: Quota = (1, 3600)
"""Refuses all but the first hit."""

GET, HIT, CHECK = "dict.get", "penstock hit", "penstock check"
LIST, NUMPY = "penstock hit_many, list", "penstock hit_many, NumPy uint64"
SECONDS_DEFAULT = 20.0

_DESCRIPTION = """\
Measures what a decision costs on this machine, beside dict.get, a clock read, and the other limiters that are
installed."""

_EPILOG = """\
what is shown
  ns a decision, the least of many turns, and how many times dict.get of the same keys that is: of one key that is
  admitted, one that is refused, 100,000 keys in random order, and strings that are new each time.

other limiters
  Those of these that can be imported are measured too, each by the algorithm that is named below the table:
  floodgate-rs, rust-py-rate-limit, token-bucket, limits, throttled-py, pyrate-limiter; and a dict and a lock.

exit status
  0  done
  2  wrong arguments

examples
  penstock bench
  penstock bench --seconds 5 --json
"""


class Case(NamedTuple):
    """One column of the table."""

    title: str
    quota: Quota
    keys: list[str]
    loop: Callable[[Call, int], Loop]
    """(what is called for a key, how many times) -> Loop"""
    most: int
    """Calls in one lap, and milliseconds that a lap may take: slow subjects make fewer calls."""
    milliseconds: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `penstock bench`."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("--seconds", type=_seconds, default=SECONDS_DEFAULT, help="how long to measure (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Measures and prints; the exit status is 0."""
    report = measure(args.seconds, _progress if sys.stderr.isatty() and not args.json else _silent)
    print(json.dumps(report, indent=2) if args.json else as_table(report))
    return 0


def measure(seconds: float, progress: Callable[[str], None]) -> dict[str, Any]:
    """Everything that is printed: who was measured, on what, and each subject's cost in each case."""
    end = perf_counter() + seconds
    floors = {"an empty loop": no_call(10_000), "a clock read (time.monotonic)": no_key(time.monotonic, 10_000)}
    progress("floors")
    taken = {"floors": in_turns(floors, seconds=seconds / 40)}
    cases = all_cases()
    for done, case in enumerate(cases):
        progress(case.title)
        share = (end - perf_counter()) / (len(cases) - done)
        case_end = perf_counter() + share
        loops = loops_of(case)
        taken[case.title] = in_turns(loops, seconds=case_end - perf_counter())
    progress("")
    order = (GET, HIT, CHECK, LIST, NUMPY, *(peer.name for peer in PEERS))
    subjects = [name for name in order if any(name in costs for costs in taken.values())]
    return {
        "penstock": penstock.__version__,
        "native": penstock.native,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": machine(),
        "peers": {peer.name: peer.version() for peer in PEERS if peer.name in subjects},
        "subjects": subjects,
        "cases": {title: _with_ratios(costs) for title, costs in taken.items()},
    }


# ---- what is measured ----


def all_cases() -> list[Case]:
    """The columns, in order."""
    one, many = [_address(7)], [_address(number) for number in range(100_000)]
    clients = many[:10_000]
    Random(1).shuffle(many)
    names = [clients[number * 7919 % len(clients)].encode() for number in range(len(many))]
    return [
        Case("one key", PLENTY, one, lambda call, count: one_key(call, one[0], count), 10_000, 2),
        Case("refused", SPENT, one, lambda call, count: one_key(call, one[0], count), 10_000, 2),
        Case("100,000 keys", PLENTY, many, lambda call, count: each_key(call, many, count), 100_000, 20),
        Case("fresh strings", PLENTY, clients, lambda call, count: fresh_keys(call, names, count), 10_000, 5),
    ]


def loops_of(case: Case) -> dict[str, Loop]:
    """Every subject of a case; each has seen all keys once, and twice where it shall refuse."""
    loops = {GET: case.loop(dict.fromkeys(case.keys, 1).get, case.most)}
    ours = _limiter(case)
    for call, name in ((ours.hit, HIT), (ours.check, CHECK)):
        loops[name] = _prepared(case, Subject(call, bool))
    if find_spec("numpy") is not None:
        loops.update(_batches(case, ours))
    for peer in PEERS:
        try:
            subject = peer.make([case.quota], len(case.keys))
        except ImportError:
            continue
        loops[peer.name] = _prepared(case, subject)
    return loops


def _limiter(case: Case) -> Limiter:
    limit, seconds = case.quota
    return Limiter(TokenBucket(limit, per=seconds), capacity=max(1000, len(case.keys)))


def _prepared(case: Case, subject: Subject) -> Loop:
    """Shows the subject its keys, checks that it decides as it should, and chooses how many calls make a lap."""
    for key in case.keys:
        subject.hit(key)
    if subject.admitted(subject.hit(case.keys[0])) != (case.quota is PLENTY):
        raise AssertionError(f"{subject.hit!r} does not decide as {case.quota!r} says")
    start = perf_counter_ns()
    for key in repeat(case.keys[0], 100):
        subject.hit(key)
    fitting = 100_000_000 * case.milliseconds // (perf_counter_ns() - start)
    loop = case.loop(subject.hit, max(200, min(case.most, fitting)))
    return then(loop, subject.settle) if subject.settle else loop


def _batches(case: Case, ours: Limiter) -> dict[str, Loop]:
    """hit_many over the case's keys as it would be given them."""
    keys = case.keys * (1000 if len(case.keys) == 1 else 1)
    if case.title == "fresh strings":
        return {}
    loops = {LIST: batch(lambda: ours.hit_many(keys), len(keys))}
    if len(case.keys) > 1:
        import numpy

        numbers = numpy.random.default_rng(1).permutation(len(keys)).astype(numpy.uint64)
        by_number = _limiter(case)
        loops[NUMPY] = batch(lambda: by_number.hit_many(numbers), len(keys))
    return loops


def _address(number: int) -> str:
    mixed = number * 2654435761 & 0xFFFFFFFF
    return f"ip:{mixed >> 24}.{mixed >> 16 & 255}.{mixed >> 8 & 255}.{mixed & 255}"


def machine() -> str:
    """Processor, how many of it, and system, in a line."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    except OSError:  # not Linux: what platform says is all there is
        pass
    return f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


# ---- how it is shown ----


def _with_ratios(costs: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    """Each cost in ns, with `ratio`, how many dict.get it is, where dict.get was measured in the same turns."""
    get = costs.get(GET)
    return {
        name: {key: round(value, 2) for key, value in cost._asdict().items()}
        | ({"ratio": round(cost.best / get.best, 2)} if get else {})
        for name, cost in costs.items()
    }


def as_table(report: Mapping[str, Any]) -> str:
    """The report as lines for a person."""
    core = "compiled core" if report["native"] else "plain-Python reference, NOT the compiled core"
    lines = [f"penstock {report['penstock']}, {core}, {report['python']}", report["machine"], ""]
    if not report["native"]:
        lines += ["What follows is the cost of the reference; the compiled core is a hundred times faster or more.", ""]
    cases = {title: costs for title, costs in report["cases"].items() if title != "floors"}
    rows = [["ns per decision, in dict.get", *cases]]
    for subject in report["subjects"]:
        version = report["peers"].get(subject)
        cells = [_cell(costs.get(subject)) for costs in cases.values()]
        rows.append([f"{subject} {version}" if version else subject, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("   ".join([row[0].ljust(widths[0]), *cells]))
    lines.append("")
    floors = [f"{name} {cost['best']:.0f} ns" for name, cost in report["cases"]["floors"].items()]
    lines.append(f"{' and '.join(floors)}; every number contains the loop.")
    rounds = min(cost["rounds"] for costs in cases.values() for cost in costs.values())
    lines.append(f"Each took its turn again and again; shown is the least of {rounds} turns or more.")
    peers = [f"{peer.name}: {peer.algorithm}" for peer in PEERS if peer.name in report["subjects"]]
    lines += ["", "Algorithms differ (penstock: token bucket).", *(f"  {line}" for line in peers)]
    return "\n".join(lines)


def _cell(cost: Mapping[str, float] | None) -> str:
    return f"{cost['best']:,.0f} {cost['ratio']:6.1f}x" if cost else "-"


def _progress(title: str) -> None:
    """The case being measured, on a line that the next one overwrites."""
    sys.stderr.write(f"\r\033[K{'measuring ' + title + ' …' if title else ''}")
    sys.stderr.flush()


def _silent(title: str) -> None:
    """For output that is not a terminal's."""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, more than 0 and at most 3600")
    return seconds
