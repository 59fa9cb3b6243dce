"""Runs every model and every mutant and writes their tables: RESULTS.md, and the summary between README.md's marks.

    python tests/model/report.py        # some minutes on one processor, the large models included
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from checker import HERE, MEMORIES, STOPS, Model, Outcome, build, build_explorer, build_mutant, explore, models, run
from mutants import MUTANTS, SURVIVORS

RESULTS = HERE / "RESULTS.md"
README = HERE / "README.md"
NAMES = {"sc": "SC", "c11": "C11"}
BEGIN, END = "<!-- report.py -->\n", "<!-- end -->"

Outcomes = dict[tuple[str, str], Outcome]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; a head that ends in ":" is of numbers."""
    rule = ["---:" if cell.endswith(":") else "---" for cell in head]
    lines = [[cell.rstrip(":") for cell in head], rule, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def power(value: float) -> str:
    """A number too large to be written out: 3.7e34."""
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def verdict(outcome: Outcome) -> str:
    return "holds" if outcome.holds else outcome.verdict


def model_rows(found: list[Model], calls: dict[str, list[str]], outcomes: Outcomes) -> Iterable[list[str]]:
    for model in found:
        threads, limits, before, body = calls[model.name]
        for memory in MEMORIES:
            outcome = outcomes[model.name, memory]
            sizes = outcome.sizes
            first = memory == MEMORIES[0]
            yield [
                f"{model.name}{' (soak)' if model.soak else ''}" if first else "",
                threads if first else "",
                (limits + (f"; {before};" if before else ";") + " " + code(body)) if first else "",
                NAMES[memory],
                str(STOPS),
                f"{sizes.get('states', 0):,.0f}" + ("*" if sizes.get("cut") else ""),
                power(sizes.get("executions", 0)),
                f"{sizes.get('seconds', 0):.2f}",
                verdict(outcome),
            ]


def summary_rows(found: list[Model], outcomes: Outcomes) -> Iterable[list[str]]:
    for protocol in dict.fromkeys(model.protocol for model in found):
        names = [model.name for model in found if model.protocol == protocol]
        runs = [outcomes[name, memory] for name in names for memory in MEMORIES]
        held = sum(outcome.holds for outcome in runs)
        yield [
            protocol,
            str(len(names)),
            f"{sum(outcome.sizes.get('states', 0) for outcome in runs):,.0f}",
            power(sum(outcome.sizes.get("executions", 0) for outcome in runs)),
            f"{sum(outcome.sizes.get('seconds', 0) for outcome in runs):.1f}",
            "all hold" if held == len(runs) else f"{len(runs) - held} FAIL",
            str(sum(mutant.protocol == protocol for mutant in MUTANTS)),
            str(sum(mutant.protocol == protocol for mutant in SURVIVORS)),
        ]


def mutant_rows(folder: Path, explorer: Path) -> Iterable[list[str]]:
    for number, mutant in enumerate(MUTANTS):
        own = folder / str(number)
        own.mkdir()
        program = build_mutant(own, mutant, explorer)
        for model, memory in mutant.killers:
            outcome = explore(program, model, memory)
            said = re.sub(r"^violated: ", "", outcome.verdict) if not outcome.holds else "NOT FOUND"
            yield [mutant.name, model, NAMES[memory], said]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        explorer = build_explorer(folder)
        program = build(folder, "protocols", explorer)
        listed = run(program, "list", seconds=60).output.splitlines()
        calls = {line.split("\t")[0]: line.split("\t")[1:] for line in listed}
        found = models()
        outcomes: Outcomes = {}
        for model in found:
            for memory in MEMORIES:
                outcomes[model.name, memory] = explore(program, model.name, memory, seconds=3600)
                print(model.name, memory, verdict(outcomes[model.name, memory]), flush=True)
        mutants = list(mutant_rows(folder, explorer))

    head = ["model", "threads:", "limits; calls before; calls of each thread", "memory", "stops:", "states:"]
    RESULTS.write_text(
        "# What the models are and what became of them\n\n"
        "Written by report.py. A call is a verb, its key, its time and its cost if that is not 1; `//` separates\n"
        "threads. Stops: threads that may be stopped for ever, each at any of its steps. Executions: distinct orders\n"
        "of steps, and under C11 of the values read, that the states stand for. A star: paths are cut where one call\n"
        "has exchanged pairs more often than the model's wins_most. Seconds: of one processor.\n\n"
        "## Models\n\n"
        + table([*head, "executions:", "seconds:", "verdict"], model_rows(found, calls, outcomes))
        + "\n## Mutants, and what finds them out\n\n"
        + table(["mutant", "model", "memory", "violated"], mutants)
        + "\n## Mutants that nothing finds out, and why that is right\n\n"
        + table(["mutant", "why"], ([mutant.name, mutant.why] for mutant in SURVIVORS))
    )
    head = ["protocol", "models:", "states:", "executions:", "seconds:", "verdict", "mutants found:", "equivalent:"]
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + table(head, summary_rows(found, outcomes)) + END + after)


if __name__ == "__main__":
    main()
