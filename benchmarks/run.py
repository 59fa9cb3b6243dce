"""Runs the benchmarks and writes what came out into RESULTS.md and results.svg.

    python benchmarks/run.py                     about six minutes on two cores
    python benchmarks/run.py --pace 0.1          a quick look, with more noise
    python benchmarks/run.py --from saved.json   only the tables and the plot, from an earlier run's --save

Between its two marks RESULTS.md is written anew; what stands outside them is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from goals import GOALS
from plot import draw

from penstock.cli._peers import PEERS
from penstock.cli.bench import machine

HERE = Path(__file__).parent
RESULTS, PLOT = HERE / "RESULTS.md", HERE / "results.svg"
BEGIN, END = "<!-- measured: written by run.py -->", "<!-- measured: end -->"

PACKAGES = ("penstock", "numpy", "pyarrow", *(peer.name for peer in PEERS), "traffik")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pace", type=float, default=0.6, help="seconds for each measurement (default: 0.6)")
    parser.add_argument("--from", dest="source", type=Path, help="read this JSON instead of measuring")
    parser.add_argument("--save", type=Path, help="keep the JSON here")
    args = parser.parse_args()
    if args.source:
        results = json.loads(args.source.read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            target = args.save or Path(folder) / "results.json"
            measure(target, args.pace)
            results = json.loads(target.read_text())
    RESULTS.write_text(with_measured(RESULTS.read_text() if RESULTS.exists() else "", as_markdown(results)))
    draw(results, PLOT)


def measure(target: Path, pace: float) -> None:
    """Runs the suite, and leaves its numbers and where they were measured in `target`."""
    load = os.getloadavg()[0]
    suite = [sys.executable, "-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", f"--pace={pace}"]
    output = [f"--benchmark-json={target}", "--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=min"]
    done = subprocess.run([*suite, *output], check=False)
    if done.returncode:
        sys.exit(f"pytest ended with status {done.returncode}; nothing was written")
    results = json.loads(target.read_text())
    kept = {name: results[name] for name in ("facts", "goals", "datetime")}
    kept["benchmarks"] = [{"group": each["group"], **each["extra_info"]} for each in results["benchmarks"]]
    kept["machine"], kept["load"], kept["pace"] = machine(), load, pace
    kept["python"] = f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    kept["versions"] = {name: found for name in PACKAGES if (found := version_of(name))}
    target.write_text(json.dumps(kept, indent=1))


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def with_measured(page: str, measured: str) -> str:
    """The page with `measured` between the marks, which are added at its end where they are missing."""
    if BEGIN not in page:
        page += f"\n{BEGIN}\n{END}\n"
    before, rest = page.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{measured}\n{END}{rest.split(END, 1)[1]}"


# ---- tables ----

COMPARED = (
    "one hot key",
    "one refused key",
    "100,000 keys in random order",
    "1,000,000 keys in random order",
    "fresh strings of 10,000 clients",
    "two limits at once, one key",
)
"""The groups that every limiter takes part in."""


def as_markdown(results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in results["versions"].items())
    where = f"{results['machine']}, {results['python']}; load before the run {results['load']:.2f}"
    parts = [
        f"Measured {results['datetime'][:10]} on {where}.\n{versions}.",
        "## Goals",
        goals_table(results),
        "## One decision, beside the others",
        "ns, the least of all rounds; in brackets how many `dict.get` of the same keys in the same loop that is.",
        compared_table(
            results, lambda mine, costs: f"{mine['best']:,.0f} ({mine['best'] / costs['dict.get']['best']:.1f})"
        ),
        "How calm it was: of the same rounds the median, and the distance of the quartiles, in ns.",
        compared_table(results, lambda mine, _: f"{mine['median']:,.0f} ± {mine['spread']:,.0f}"),
        "How many times longer than penstock each takes, in turns with it.",
        compared_table(results, lambda mine, all_: f"{mine['best'] / all_['penstock']['best']:.1f}"),
    ]
    groups = dict.fromkeys(each["group"] for each in results["benchmarks"])
    for group in groups:
        if group not in COMPARED:
            parts += [f"## {heading(group)}", group_table(results, group)]
    for group in dict.fromkeys(fact["group"] for fact in results["facts"]):
        parts += [f"## {heading(group)}", facts_table(results, group)]
    return "\n\n".join(parts) + "\n"


def heading(group: str) -> str:
    """The group's name with a capital, unless it begins with a name in code."""
    return group if group.startswith("hit_many") else group[0].upper() + group[1:]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def goals_table(results: dict[str, Any]) -> str:
    rows = []
    for name, goal in GOALS.items():
        value = results["goals"].get(name)
        verdict = "not measured" if value is None else "reached" if goal.reached(value) else "**not reached**"
        rows.append([goal.what, str(goal), "" if value is None else f"{value:.2f}", verdict])
    return table(["what", "goal", "measured", ""], rows)


def costs_by_subject(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """subject -> group -> its costs, for the groups that all take part in; dict.get's are those of our own turns."""
    found: dict[str, dict[str, dict[str, Any]]] = {"dict.get": {}}
    for each in results["benchmarks"]:
        if each["group"] in COMPARED:
            found.setdefault(each["subject"], {})[each["group"]] = each["costs"]
            if each["subject"] == "penstock":
                found["dict.get"][each["group"]] = each["costs"]
    return found


def compared_table(results: dict[str, Any], cell: Callable[[Any, Any], str]) -> str:
    """Limiters by cases; cell(its cost, the costs of all in those turns) -> what is shown."""
    rows = []
    for subject, groups in costs_by_subject(results).items():
        cells = [cell(groups[group][subject], groups[group]) if group in groups else "" for group in COMPARED]
        rows.append([subject, *cells])
    return table(["", *COMPARED], rows)


def group_table(results: dict[str, Any], group: str) -> str:
    """One group's subjects, each beside what it took turns with."""
    rows = []
    for each in results["benchmarks"]:
        if each["group"] == group:
            mine, others = each["costs"][each["subject"]], dict(each["costs"])
            del others[each["subject"]]
            beside = ", ".join(f"{mine['best'] / cost['best']:.2f} {name}" for name, cost in others.items())
            numbers = [f"{mine[name]:,.1f}" for name in ("best", "median", "spread")]
            rows.append([each["subject"], *numbers, str(mine["rounds"]), beside])
    return table(["", "ns, least", "median", "quartiles apart", "rounds", "in units of"], rows)


def facts_table(results: dict[str, Any], group: str) -> str:
    facts = [fact for fact in results["facts"] if fact["group"] == group]
    names = list(dict.fromkeys(name for fact in facts for name in fact["values"]))
    rows = []
    for fact in facts:
        values = fact["values"]
        rows.append(
            [fact["subject"], *(f"{values[name]:,.5g}" if name in values else "" for name in names), fact["unit"]]
        )
    return table(["", *names, ""], rows)


if __name__ == "__main__":
    main()
