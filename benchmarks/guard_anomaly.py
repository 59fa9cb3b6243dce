"""The anomaly score beside scikit-learn's isolation forest and river's half-space trees: cost, accuracy, teaching.

    python benchmarks/guard_anomaly.py ../shared/data > tables.md

Each learns one half of a real day's requests and of ordinary parameter values, sent as searches, and scores the other
half and attacks in the same place. Trees and features were chosen on the attacks of http_params_half.csv; those of
libinjection's lists were never looked at before. What is not installed is left out.
"""

from __future__ import annotations

import argparse
import csv
import platform
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote_plus

from penstock.guard.anomaly import FEATURES, THRESHOLD, Anomaly, row_of
from penstock.guard.request import Request

EXT = Path(__file__).parent.parent / "ext"
LINE = re.compile(r'^(\S+) \S+ \S+ \[[^\]]+\] "(\S+) ([^ ?"]*)\??(\S*)[^"]*" \d+ \S+ "[^"]*" "([^"]*)')
BROWSER = {
    "user-agent": "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 Chrome/33.0 Safari/537.36",
    "accept": "text/html,*/*;q=0.8",
    "accept-language": "en",
    "accept-encoding": "gzip",
    "host": "example.org",
}
RARE = 10**-2.8
"""The share of ordinary rows that scores THRESHOLD; the others' thresholds are set there with hindsight."""

Row = tuple[float, ...]
Scores = Callable[[Sequence[Row]], list[float]]
Learn = Callable[[Sequence[tuple[Row, str]], int], Scores]


# ---- the data ----


def day(data: Path) -> list[Request]:
    found = []
    for line in (data / "logs" / "apache_logs").read_text("latin-1").splitlines():
        if parts := LINE.match(line):
            address, method, path, query, agent = parts.groups()
            found.append(Request(address, method, path, query, {**BROWSER, "user-agent": agent}))
    return found


def values(data: Path) -> dict[str, list[str]]:
    """Queries by kind, encoded as a form would send them."""
    found: dict[str, list[str]] = {}
    with (data / "payloads" / "http_params_half.csv").open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["attack_type"], []).append("q=" + quote_plus(row["payload"]))
    for path in sorted((data / "payloads" / "libinjection").glob("*-*.txt")):
        kind = f"{path.name.partition('-')[0]} (libinjection)"
        for line in path.read_text("utf-8", "replace").splitlines():
            if line and not line.startswith("#"):
                found.setdefault(kind, []).append("q=" + line)
    return found


def search(query: str, number: int) -> Request:
    return Request(f"198.51.100.{number % 250}", "GET", "/search", query, BROWSER)


# ---- who is compared ----


def ours(rows: Sequence[tuple[Row, str]], seed: int) -> Scores:
    anomaly = Anomaly(seed=seed)
    for row, key in rows:
        anomaly.score(row, key)
    return lambda asked: [anomaly.score(row, learn=False) for row in asked]


def isolation(rows: Sequence[tuple[Row, str]], seed: int) -> Scores:
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=100, random_state=seed).fit([row for row, _ in rows])
    return lambda asked: [-float(score) for score in forest.score_samples(list(asked))]


def river(rows: Sequence[tuple[Row, str]], seed: int) -> Scores:
    from river.anomaly import HalfSpaceTrees

    trees = HalfSpaceTrees(n_trees=25, height=8, window_size=1024, seed=seed)
    for row, _ in rows:
        trees.learn_one(dict(zip(FEATURES, row, strict=True)))
    return lambda asked: [trees.score_one(dict(zip(FEATURES, row, strict=True))) for row in asked]


PEERS: dict[str, Learn] = {"penstock": ours, "scikit-learn IsolationForest": isolation, "river HalfSpaceTrees": river}


def area(ordinary: Sequence[float], odd: Sequence[float]) -> float:
    """Under the ROC curve: how often an odd row scores above an ordinary one, ties by half."""
    ranked = sorted([(score, 0) for score in ordinary] + [(score, 1) for score in odd])
    total, place = 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        total += sum(which for _, which in ranked[place:end]) * (place + end + 1) / 2
        place = end
    return (total - len(odd) * (len(odd) + 1) / 2) / (len(odd) * len(ordinary))


# ---- the tables ----


def accuracy(data: Path, seeds: Sequence[int]) -> None:
    queries = values(data)
    ordinary = [*day(data), *(search(query, number) for number, query in enumerate(queries.pop("norm")))]
    odd = {kind: [row_of(search(query, 0)) for query in found] for kind, found in queries.items()}
    print("### Accuracy\n")
    print(f"{len(ordinary)} ordinary requests, half of them learned. Mean of {len(seeds)} seeds (least-most).\n")
    print("| | ordinary above | " + " | ".join(f"{kind}, {len(rows)}" for kind, rows in odd.items()) + " |")
    print("|---|---|" + "---|" * len(odd))
    for name, learn in PEERS.items():
        areas: dict[str, list[float]] = {kind: [] for kind in odd}
        recalls: dict[str, list[float]] = {kind: [] for kind in odd}
        fixed: dict[str, list[float]] = {kind: [] for kind in odd}
        above: list[float] = []
        for seed in seeds:
            rows = [(row_of(request), request.address or "") for request in ordinary]
            random.Random(seed).shuffle(rows)
            half = len(rows) // 2
            try:
                score = learn(rows[:half], seed)
            except ModuleNotFoundError:
                break
            plain = score([row for row, _ in rows[half:]])
            bar = sorted(plain)[round(len(plain) * (1 - RARE))]
            above.append(sum(one >= THRESHOLD for one in plain) / len(plain))
            for kind, asked in odd.items():
                found = score(asked)
                areas[kind].append(area(plain, found))
                recalls[kind].append(sum(one > bar for one in found) / len(found))
                fixed[kind].append(sum(one >= THRESHOLD for one in found) / len(found))
        if not above:
            continue
        print(f"| {name}, area under ROC | | " + " | ".join(spread(areas[kind], 4) for kind in odd) + " |")
        shown = f"| {name}, recall at {RARE:.2%} | {RARE:.2%} | "
        print(shown + " | ".join(spread(recalls[kind]) for kind in odd) + " |")
        if learn is ours:
            shown = f"| {name}, recall at score {THRESHOLD} | {spread([100 * one for one in above])} % | "
            print(shown + " | ".join(spread(fixed[kind]) for kind in odd) + " |")
    print()


def spread(found: Sequence[float], places: int = 2) -> str:
    return f"{sum(found) / len(found):.{places}f} ({min(found):.{places}f}-{max(found):.{places}f})"


def cost(data: Path) -> None:
    requests = day(data)
    rows = [(row_of(request), request.address or "") for request in requests]
    print("### Cost of one row or request, processor time, least of five laps\n\n| | µs |\n|---|---|")
    if native := in_c():
        for name, ns in zip(("score", "score and learn", "the row of a request"), native, strict=True):
            print(f"| from C: {name} | {ns / 1000:.2f} |")
    anomaly = Anomaly()
    loops: dict[str, Callable[[], object]] = {
        "Anomaly.score, learning": lambda: [anomaly.score(row, key) for row, key in rows],
        "Anomaly.score, learn=False": lambda: [anomaly.score(row, learn=False) for row, _ in rows],
        "Anomaly.score_request, its headers read before": lambda: [anomaly.score_request(one) for one in requests],
    }
    for name, loop in loops.items():
        print(f"| {name} | {lap(loop, len(rows)):.2f} |")
    for name, learn in list(PEERS.items())[1:]:
        try:
            score = learn(rows[:2_000], 1)
        except ModuleNotFoundError:
            continue
        few = [[row] for row, _ in rows[2_000:2_050]]
        print(f"| {name}, a row at a time | {lap(lambda few=few, score=score: [score(one) for one in few], 50):.0f} |")
    print(f"\nMemory: {anomaly.learned.memory / 1000:.0f} kB, whatever the traffic.\n")


def lap(work: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(5):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times) / count * 1e6


def in_c() -> list[float]:
    """ns, or nothing without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "score"
        source = Path(__file__).parent / "native" / "score.c"
        machine = ["-mcx16"] if platform.machine() in ("x86_64", "amd64") else []
        flags = ["-std=gnu11", "-O3", *machine, f"-I{EXT}"]
        done = subprocess.run([compiler, *flags, source, "-o", out, "-lm"], check=False)
        if done.returncode:
            return []
        return [float(one) for one in subprocess.run([out], capture_output=True, text=True, check=True).stdout.split()]


def real_day(data: Path) -> None:
    print("### A real day, scored as it comes, from nothing\n")
    print("| seed | requests | at 0.5 and above | at 0.7 and above | addresses at 0.7 and above |")
    print("|---|---|---|---|---|")
    requests = day(data)
    for seed in range(5):
        anomaly = Anomaly(seed=seed)
        scores = [anomaly.score_request(request) for request in requests]
        half, odd = (sum(score >= bar for score in scores) / len(scores) for bar in (0.5, THRESHOLD))
        who = {one.address for one, score in zip(requests, scores, strict=True) if score >= THRESHOLD}
        everybody = {one.address for one in requests}
        print(f"| {seed} | {len(requests)} | {half:.2%} | {odd:.2%} | {len(who)} of {len(everybody)} |")
    print()


def teaching(data: Path) -> None:
    """How much of an attack stays above the threshold while it goes on."""
    queries = values(data)
    rows = [(row_of(one), one.address or "") for one in day(data)]
    rows += [(row_of(search(query, 0)), f"n{number % 2000}") for number, query in enumerate(queries["norm"])]
    random.Random(1).shuffle(rows)
    attacks = [row_of(search(query, 0)) for query in queries["sqli"]]
    print("### What can be taught: share of attacks at 0.7 and above (and their median score)\n")
    print("| attack, as a part of all requests | clients | first 20,000 requests | 20,000-100,000 | 100,000-200,000 |")
    print("|---|---|---|---|---|")
    cases = (("one payload, half", 0.5), ("one payload, 1 in 20", 0.05), ("5,405 payloads, half", 0.5))
    for what, share in cases:
        for clients in (1, 10, 1_000):
            lot, anomaly = random.Random(2), Anomaly(seed=3)
            for row, key in rows:
                anomaly.score(row, key)
            parts: list[list[float]] = [[], [], []]
            for number in range(200_000):
                if lot.random() < share:
                    row = attacks[17] if what.startswith("one") else attacks[number % len(attacks)]
                    score = anomaly.score(row, f"attacker {lot.randrange(clients)}")
                    parts[(number >= 20_000) + (number >= 100_000)].append(score)
                else:
                    anomaly.score(*rows[number % len(rows)])
            cells = [
                f"{sum(score >= THRESHOLD for score in part) / len(part):.2f} ({sorted(part)[len(part) // 2]:.2f})"
                for part in parts
            ]
            print(f"| {what} | {clients} | " + " | ".join(cells) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with logs/ and payloads/")
    parser.add_argument("--seeds", type=int, default=5, help="how often each learns (default: 5)")
    args = parser.parse_args()
    cost(args.data)
    accuracy(args.data, range(1, args.seeds + 1))
    real_day(args.data)
    teaching(args.data)


if __name__ == "__main__":
    main()
