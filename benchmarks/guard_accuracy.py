"""What the guard's scanner finds in labelled data, what it takes wrongly for an attack, and what a value costs.

    python benchmarks/guard_accuracy.py [--data ../shared/data] [--peers]

Prints tables in Markdown: recall and false alarms on the half that the scanner was made with and on the half that it
was not, kind found against kind labelled, the real log, and microseconds of processor time per value. --peers puts
libinjection-python and guard-core beside it where they are installed (the latter on a sample: a value takes it 100 ms).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote_plus

from penstock import _scan
from penstock.guard.scan import CONVICTS, KINDS, scan

Values = list[str]
Convicts = Callable[[str], set[str]]

LABELS = {"sqli": "sqli", "xss": "xss", "path-traversal": "traversal", "cmdi": "command"}
SAMPLE = 60


def half(value: str) -> int:
    """0: used to make the scanner; 1: only to score it."""
    return hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=8, key=b"halves").digest()[0] & 1


def read(data: Path) -> dict[str, Values]:
    """The sets by name; those of attacks end with the kind they are labelled with."""
    sets: dict[str, Values] = {}
    with (data / "payloads" / "http_params_half.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kind = LABELS.get(row["attack_type"])
            sets.setdefault(f"parameters: {kind}" if kind else "ordinary values", []).append(row["payload"])
    for name, pattern in (("lists: sqli", "sqli-*"), ("lists: xss", "xss-*"), ("hard values", "false_positives*")):
        files = sorted((data / "payloads" / "libinjection").glob(pattern))
        lines = [one for path in files for one in path.read_bytes().splitlines()]
        kept = [one for one in lines if one.strip() and not one.startswith(b"#")]
        sets[name] = [one.decode("utf-8", "surrogateescape") for one in kept]
    return sets


def ours(value: str) -> set[str]:
    points: Counter[str] = Counter()
    for finding in scan(value):
        points[finding.kind] += finding.points
    return {kind for kind, sum_of in points.items() if sum_of >= CONVICTS}


def peers() -> dict[str, tuple[Convicts, int]]:
    """Other detectors: what they convict a value of, and how many values of each set they are asked about (0: all)."""
    found: dict[str, tuple[Convicts, int]] = {}
    try:
        import libinjection
    except ImportError:
        pass
    else:

        def by_libinjection(value: str) -> set[str]:
            data = unquote_plus(value) if "%" in value else value  # it decodes nothing by itself
            data = data.encode("utf-8", "replace").decode()
            kinds = {"sqli"} if libinjection.is_sql_injection(data)["is_sqli"] else set()
            return kinds | ({"xss"} if libinjection.is_xss(data)["is_xss"] else set())

        found["libinjection-python"] = by_libinjection, 0
    try:
        from guard_core.sync.handlers.suspatterns_handler import sus_patterns_handler
    except ImportError:
        pass
    else:

        def by_guard_core(value: str) -> set[str]:
            data = value.encode("utf-8", "replace").decode()
            return {"attack"} if sus_patterns_handler.detect(data, "192.0.2.1", "query_param")["is_threat"] else set()

        found["guard-core"] = by_guard_core, SAMPLE
    return found


def microseconds(call: Callable[[str], object], values: Sequence[str], rounds: int = 7) -> float:
    """Processor time of one call, the least of some rounds, without that of the loop."""

    def lap(one: Callable[[str], object]) -> float:
        start = time.process_time()
        for value in values:
            one(value)
        return time.process_time() - start

    return (min(lap(call) for _ in range(rounds)) - min(lap(len) for _ in range(rounds))) / len(values) * 1e6


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    for row in (head, ["---", *("---:" for _ in head[1:])], *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def share(convicts: Convicts, name: str, values: Values) -> str:
    """Recall of a set of attacks, by the kind it is labelled with; of ordinary values the number of false alarms."""
    _, _, kind = name.partition(": ")
    hits = sum(1 for value in values if convicts(value) & {kind or "", "attack"} or (not kind and convicts(value)))
    return f"{hits / len(values):.4f}" if kind else f"{hits} of {len(values):,}"


def accuracy(sets: dict[str, Values]) -> None:
    print("### Found, and falsely found, at paranoia 1\n")
    rows = []
    for name, values in sets.items():
        parts = [[value for value in values if half(value) == which] for which in (0, 1)]
        rows.append([name, *(cell for part in parts for cell in (f"{len(part):,}", share(ours, name, part)))])
    table(["set", "made with", "recall, or false alarms", "scored on", "recall, or false alarms"], rows)
    for which, title in ((1, "scored half"), (0, "half it was made with")):
        print(f"Found (columns) against labelled (rows), {title}; a value can be found to be several:\n")
        rows = []
        for name, values in sets.items():
            counts: Counter[str] = Counter()
            chosen = [value for value in values if half(value) == which]
            for value in chosen:
                counts.update(ours(value) or {"nothing"})
            rows.append([name, len(chosen), *(counts[kind] for kind in (*KINDS, "nothing"))])
        table(["labelled", "values", *KINDS, "nothing"], rows)


def levels(sets: dict[str, Values]) -> None:
    print("### By paranoia: values whose points are 5 or more, both halves\n")
    rows = []
    for name, values in sets.items():
        row: list[object] = [name, f"{len(values):,}"]
        for paranoia in range(1, 5):
            row.append(sum(1 for value in values if sum(one.points for one in scan(value, paranoia)) >= CONVICTS))
        rows.append(row)
    table(["set", "values", "1", "2", "3", "4"], rows)


def log(path: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    requests = [match for line in lines if (match := re.search(r'"\S+ (\S+) [^"]*" \d+ \S+ "([^"]*)" "([^"]*)"', line))]
    found = 0
    for target, referer, agent in (match.groups() for match in requests):
        where, _, query = target.partition("?")
        found += bool(scan(where) or scan(referer) or scan(agent) or _scan.scan_pairs(query))
    print(f"Real log: {len(requests):,} requests, {found} with a finding in path, query, referer or user agent.\n")


def costs(sets: dict[str, Values]) -> None:
    print("### Microseconds of processor time per value\n")
    rows = []
    for name, values in sets.items():
        length = round(sum(map(len, values)) / len(values))
        rows.append([name, length, *(f"{microseconds(one, values):.2f}" for one in (scan, _scan.scan))])
    table(["set", "mean length", "scan", "of it native"], rows)
    query = "page=2&q=red+shoes&sort=price&utm_source=newsletter&utm_medium=email&id=12345"
    print(f"A query of six pairs in one call: {microseconds(_scan.scan_pairs, [query] * 10_000):.2f} us.\n")


def beside(sets: dict[str, Values]) -> None:
    others = peers()
    if not others:
        return
    print("### Beside others: recall by the kind labelled, or false alarms; us per value\n")
    rows = []
    for name, values in sets.items():
        row: list[object] = [name, f"{share(ours, name, values)}; {microseconds(scan, values):.2f}"]
        for convicts, most in others.values():
            chosen = random.Random(1).sample(values, min(most, len(values))) if most else values
            row.append(f"{share(convicts, name, chosen)}; {microseconds(convicts, chosen, 1 if most else 3):,.1f}")
        rows.append(row)
    table(["set", "penstock", *others], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    sets = read(options.data)
    accuracy(sets)
    levels(sets)
    if (options.data / "logs" / "apache_logs").exists():
        log(options.data / "logs" / "apache_logs")
    costs(sets)
    if options.peers:
        beside(sets)


if __name__ == "__main__":
    main()
