"""Counts the instructions of a unit of work, under valgrind's callgrind: the cases, and the comparison of two trees.

    python benchmarks/instructions.py names
    python benchmarks/instructions.py run CASE              # under callgrind, by .ci/benchmarks.sh
    python benchmarks/instructions.py compare OLD NEW       # folders with what callgrind wrote: CASE.1, CASE.2, ...

Time on a shared machine moves by a tenth from run to run; instructions hardly move at all, so that a change of one in a
hundred is seen. What they leave out, caches, branches and contention, is what the other benchmarks are for.

A case runs so many units, then three times as many, and counts half of the difference: start-up, imports and the marks
themselves cancel. Time and what is drawn at random come from native/counted.c, the same in each run; the hash of str is
fixed, and garbage is not collected.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

Run = Callable[[int], object]

KEY = "ip:203.0.113.7"
PLENTY = "1000000000/second"
THOUSAND = [f"ip:198.51.{number // 250}.{number % 250}" for number in range(1000)]

HEADERS = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"cookie", b"sid=4f2a9c1e77d0"),
    (b"referer", b"https://shop.example/page/7"),
    (b"connection", b"keep-alive"),
]
CLIENTS = [f"203.0.113.{number}" for number in range(1, 101)]


def calling(call: Callable[[Any], object], argument: Any) -> Run:
    def run(count: int) -> None:
        for _ in repeat(None, count):
            call(argument)

    return run


def in_turn(call: Callable[[Any], object], arguments: list[Any]) -> Run:
    """Calls with each of them; the count is of calls, a multiple of their number."""

    def run(count: int) -> None:
        for _ in repeat(None, count // len(arguments)):
            for argument in arguments:
                call(argument)

    return run


# ---- the cases: what each makes is not counted ----


def hot() -> Run:
    from penstock import Limiter

    return calling(Limiter(PLENTY, capacity=4096).hit, KEY)


def refused() -> Run:
    from penstock import Limiter

    return calling(Limiter("1/day", capacity=4096).hit, KEY)


def thousand_keys() -> Run:
    from penstock import Limiter

    return in_turn(Limiter(PLENTY, capacity=4096).hit, THOUSAND)


def two_limits() -> Run:
    from penstock import Limiter

    return calling(Limiter(PLENTY, "1000000000000/hour", capacity=4096).hit, KEY)


def sliding_window() -> Run:
    from penstock import Limiter, SlidingWindow

    return calling(Limiter(SlidingWindow(100_000_000, per=86_400), capacity=4096).hit, KEY)


def check() -> Run:
    from penstock import Limiter

    return calling(Limiter(PLENTY, capacity=4096).check, KEY)


def peek() -> Run:
    from penstock import Limiter

    return calling(Limiter(PLENTY, capacity=4096).peek, KEY)


def shared() -> Run:
    from penstock import Limiter, Segment

    path = Path(tempfile.mkdtemp()) / "segment"
    return calling(Limiter(PLENTY, capacity=4096, shared=Segment(path=str(path))).hit, KEY)


def many_of_a_list() -> Run:
    from penstock import Limiter

    call = Limiter(PLENTY, capacity=4096).hit_many
    return lambda count: [call(THOUSAND) for _ in repeat(None, count // 1000)]


def many_of_an_array() -> Run:
    import numpy

    from penstock import Limiter

    call = Limiter(PLENTY, capacity=4096).hit_many
    keys = numpy.arange(1000, dtype="uint64")
    return lambda count: [call(keys) for _ in repeat(None, count // 1000)]


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    return None


def asgi() -> Run:
    from penstock import Limiter
    from penstock.adapters.asgi import LimitMiddleware

    app = LimitMiddleware(_bare, Limiter(PLENTY, capacity=4096))

    async def some(count: int) -> None:
        for number in range(count):
            await app(
                {
                    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
                    "scheme": "http", "path": "/page/7", "raw_path": b"/page/7", "root_path": "",
                    "query_string": b"sort=price&page=2", "headers": HEADERS,
                    "client": (CLIENTS[number % len(CLIENTS)], 4711), "server": ("bench", 80), "state": {},
                },
                _receive,
                _send,
            )  # fmt: skip

    def run(count: int) -> None:
        with contextlib.suppress(StopIteration):
            some(count).send(None)
            raise RuntimeError("the application waits for something")

    return run


def inspect() -> Run:
    from penstock.guard import Guard, Request, Response

    quiet = {"limits": {"everyone": None, "user": "1000/second", "address": "1000/second"}}
    guard = Guard({"preset": "web", **quiet, "ddos": {"per_second": 4000, "per_minute": 16_000, "emergency": 0}})
    answer = Response(200)

    def run(count: int) -> None:
        for number in range(count):
            request = Request(CLIENTS[number % len(CLIENTS)], "GET", "/page/7", "sort=price&page=2", HEADERS)
            if not guard.inspect(request):
                raise RuntimeError("a benign request was refused")
            guard.observe(request, answer)

    return run


def scan_words() -> Run:
    from penstock.guard.scan import scan

    return calling(scan, "a quiet evening in the old town")


def scan_attack() -> Run:
    from penstock.guard.scan import scan

    return calling(scan, "1' UNION SELECT name, password FROM users WHERE '1'='1")


def address() -> Run:
    from penstock.guard.addresses import AddressSet

    entries = [f"{100 + number % 90}.{number * 7 % 256}.{number * 13 % 256}.0/24" for number in range(3000)]
    return in_turn(AddressSet(dict.fromkeys(entries)).__contains__, CLIENTS)


def agent() -> Run:
    from penstock.guard.agents import Agents

    agents = Agents()
    texts = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Gecko/20100101 Firefox/128.0" for number in range(50)]
    return in_turn(agents.match, texts)


class Case(NamedTuple):
    """make: what runs so many units; units: how many, the first time; dearer: percent that it may gain unexplained."""

    make: Callable[[], Run]
    what: str
    units: int
    dearer: float


# One tree counted twice differs by nothing, and where Python does most of the work by a two-thousandth. What a compiler
# makes of code that was only moved is more, so this much is left to it.
CASES = {
    "hot": Case(hot, "hit, one hot key", 5000, 2),
    "refused": Case(refused, "hit, one refused key", 5000, 2),
    "thousand-keys": Case(thousand_keys, "hit, 1000 keys in turn", 10_000, 2),
    "two-limits": Case(two_limits, "hit, two limits at once", 5000, 2),
    "sliding-window": Case(sliding_window, "hit, a sliding window", 5000, 2),
    "check": Case(check, "check", 5000, 2),
    "peek": Case(peek, "peek", 5000, 2),
    "shared": Case(shared, "hit, one hot key of a shared segment", 5000, 2),
    "many-of-a-list": Case(many_of_a_list, "hit_many, a key of a list", 20_000, 2),
    "many-of-an-array": Case(many_of_an_array, "hit_many, a key of a uint64 array", 50_000, 2),
    "asgi": Case(asgi, "a request through the ASGI middleware", 500, 3),
    "guard": Case(inspect, "guard.inspect and observe, a benign request", 300, 3),
    "scan-words": Case(scan_words, "scan of ordinary words", 2000, 2),
    "scan-attack": Case(scan_attack, "scan of an injection", 500, 2),
    "address": Case(address, "an address in a set of 3000 networks", 5000, 2),
    "agent": Case(agent, "a user agent seen before", 5000, 2),
}


def run_case(name: str) -> int:
    make, _, units, _ = CASES[name]
    counted = ctypes.CDLL(None)  # counted.c, which is loaded before everything
    mark, now = counted.counted_mark, ctypes.c_uint64.in_dll(counted, "counted_ns")
    gc.disable()
    try:
        run = make()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"{name}: not in this tree ({type(error).__name__}: {error})", file=sys.stderr)
        return 3
    for _ in range(3):  # the clock of the core believes the processor's counter after a while, not at once
        run(units)
        now.value += 50_000_000
    mark(b"start")
    run(units)
    mark(b"once")
    run(3 * units)
    mark(b"thrice")
    sys.stdout.flush()
    os._exit(0)  # nobody counts what ending costs


def counted(folder: Path, name: str) -> float | None:
    """Instructions for one unit of a case, or None where the tree does not have it."""
    totals: dict[str, int] = {}
    for path in folder.glob(f"{name}.[0-9]*"):
        text = path.read_text(encoding="latin-1")
        trigger = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if trigger and total:
            totals[trigger[1]] = int(total[1])
    if "thrice" not in totals:
        return None
    return (totals["thrice"] - totals["once"]) / 2 / CASES[name].units


class Row(NamedTuple):
    """One case on both trees. verdict: what there is to say; fails: dearer than it may, and unexplained."""

    what: str
    old: float | None
    new: float | None
    verdict: str
    fails: bool


def accepted(messages: str) -> set[str]:
    """The cases that commit messages name: "Dearer: hot, check: because of ..."."""
    return {name for line in re.findall(r"^Dearer: ([\w, -]+):", messages, re.MULTILINE) for name in line.split(", ")}


def compare(name: str, old: float | None, new: float | None, accept: set[str]) -> Row:
    case = CASES[name]
    if new is None:
        return Row(case.what, old, new, "gone" if old is not None else "in neither", old is not None)
    if old is None:
        return Row(case.what, old, new, "new", False)
    percent = (new / old - 1) * 100
    if percent <= case.dearer:
        return Row(case.what, old, new, "cheaper" if percent < -case.dearer else "", False)
    if name in accept:
        return Row(case.what, old, new, "dearer, accepted", False)
    return Row(case.what, old, new, f"dearer than {case.dearer:g} % ({name})", True)


def shown(count: float | None) -> str:
    return "" if count is None else f"{count:,.1f}" if count < 10_000 else f"{count:,.0f}"


def table(rows: list[Row], markdown: bool) -> str:
    cells = [["instructions for", "old", "new", "ratio", ""]]
    for row in rows:
        ratio = f"{row.new / row.old:.3f}" if row.old and row.new else ""
        cells.append([row.what, shown(row.old), shown(row.new), ratio, row.verdict])
    if markdown:
        cells.insert(1, ["---", "---:", "---:", "---:", "---"])
        return "\n".join("| " + " | ".join(line) + " |" for line in cells)
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]:>5}  {line[4]}".rstrip()
        for line in cells
    )


def compare_all(arguments: argparse.Namespace) -> int:
    accept = accepted(arguments.messages.read_text(encoding="utf-8")) if arguments.messages else set()
    names = arguments.cases.split() if arguments.cases else list(CASES)
    rows = [compare(name, counted(arguments.old, name), counted(arguments.new, name), accept) for name in names]
    print(table(rows, markdown=False))
    if arguments.markdown:
        with arguments.markdown.open("a", encoding="utf-8") as file:
            file.write(table(rows, markdown=True) + "\n")
    return any(row.fails for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("names")
    run = commands.add_parser("run")
    run.add_argument("case", choices=CASES)
    both = commands.add_parser("compare")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path)
    both.add_argument("--cases", help="names, with blanks between them (default: all)")
    both.add_argument("--messages", type=Path, help="a file of commit messages, whose lines 'Dearer: CASE: why' count")
    both.add_argument("--markdown", type=Path, help="a file that the table is added to, as Markdown")
    arguments = parser.parse_args()
    if arguments.command == "names":
        print(*CASES)
        return 0
    if arguments.command == "run":
        return run_case(arguments.case)
    return compare_all(arguments)


if __name__ == "__main__":
    sys.exit(main())
