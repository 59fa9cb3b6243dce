"""What a trial says: a table and a verdict for people, one object for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from penstock.lab.design import DESIGNS, EACH, OURS
from penstock.lab.measure import SLICE_NS, Measured, worst_second
from penstock.lab.settings import Settings
from penstock.lab.trial import Outcome
from penstock.replay.limits import rate_text
from penstock.replay.wording import duration, number

LATE_S = 0.1
"""Calls that were later than this are worth a word."""


def headline(outcome: Outcome) -> str:
    """What was tried."""
    settings = outcome.settings
    return f"{rate_text(settings.rule)}: {settings.algorithm.replace('-', ' ')}, {settings.instances} instances"


def conditions(outcome: Outcome) -> str:
    """Under which load, and on what."""
    settings = outcome.settings
    times = f"{settings.offered:g} times the limit"
    load = f"{settings.load} load of {times}"
    if settings.load == "flash":
        load += ", and of ten times the limit in the middle third"
    parts = [load, f"{settings.seconds:g} s for each design", f"exchanges every {settings.every * 1000:g} ms"]
    if settings.strict:
        parts.append("strict")
    if settings.outage is not None:
        parts.append(
            f"Redis stopped for {settings.outage.seconds:g} s from {settings.outage.start:g} s on"
            f' (mode "{settings.mode}")'
        )
    if settings.kill:
        parts.append(f"an instance killed after {settings.kill_at:g} s")
    return "; ".join([*parts, f"{outcome.server}{' of its own' if outcome.own else ''}, seed {settings.seed}"])


def share(part: float) -> str:
    """A part as a percentage, to a hundredth of a percent."""
    return f"{100 * part:.2f} %"


def rows(outcome: Outcome) -> Iterator[tuple[str, list[str]]]:
    """(what, of each design) in order."""
    burst = outcome.bound.burst
    worst = "worst interval above b + r*t" if outcome.settings.window_s is None else "fullest window above its limit"
    each: list[tuple[str, Callable[[Measured], str]]] = [
        ("calls", lambda one: number(one.decisions)),
        ("admitted", lambda one: number(one.total)),
        ("one exact limit would admit", lambda one: number(sum(one.exact))),
        ("over-admitted", lambda one: share(one.over)),
        ("under-admitted", lambda one: share(one.under)),
        ("worst second over", lambda one: share(worst_second(one.admitted, one.exact)[0])),
        ("worst second under", lambda one: share(worst_second(one.admitted, one.exact)[1])),
        (worst, lambda one: f"{max(0.0, one.peak - burst):,.0f}"),
        ("  of what is promised", lambda one: f"{outcome.bound.excess:,.0f}" if one.design == OURS else "-"),
        ("key updates per 1000 calls", lambda one: f"{one.per_thousand(one.updates):,.0f}"),
        ("script calls per second", lambda one: f"{one.batches / outcome.settings.seconds:,.0f}"),
        ("Redis CPU per 1000 calls", lambda one: f"{1000 * one.per_thousand(one.cpu_s):.1f} ms"),
        ("decision, median", lambda one: duration(one.median_ns)),
        ("decision, p99", lambda one: duration(one.p99_ns)),
        ("latest call by", lambda one: duration(round(one.late_s * 1e9))),
    ]
    for what, of in each:
        yield what, [of(one) for one in outcome.designs.values()]


def titles(outcome: Outcome) -> list[str]:
    """The designs' names."""
    return [DESIGNS[design].title for design in outcome.designs]


def notes(outcome: Outcome) -> list[str]:
    """What the numbers mean."""
    found = ["A decision's time is taken around the call, with two clock reads, in a process that sleeps in between."]
    if not outcome.own:
        found.append("What others asked of this Redis meanwhile is in its CPU time, updates and script calls.")
    return found


def verdict(outcome: Outcome) -> list[str]:
    """The outcome in words, a sentence or two each."""
    ours, others = outcome.designs[OURS], [one for name, one in outcome.designs.items() if name != OURS]
    said = [_kept(outcome, ours)]
    said.append(
        f"Over the whole run penstock {_beside_exact(ours)}"
        + "".join(f"; {DESIGNS[one.design].title} {_beside_exact(one)}" for one in others)
        + "."
    )
    each = outcome.designs.get(EACH)
    if each is not None and each.cpu_s > 0:
        said.append(
            f"For 1000 calls Redis looked at {ours.per_thousand(ours.updates):.0f} keys for penstock and at"
            f" {each.per_thousand(each.updates):.0f} for one script per request, in"
            f" {ours.per_thousand(ours.cpu_s) / each.per_thousand(each.cpu_s):.2f} of the time."
            f" Of decisions, 99 % took at most {duration(ours.p99_ns)} and {duration(each.p99_ns)}."
        )
    late = max(one.late_s for one in outcome.designs.values())
    if late > LATE_S:
        said.append(
            f"Calls were made up to {duration(round(late * 1e9))} late, as decisions waited or this machine was busy;"
            " each is judged at the time at which it was answered."
        )
    if outcome.bound.warning:
        said.append(f"A warning of guarantee(): {outcome.bound.warning}.")
    return said


def _kept(outcome: Outcome, ours: Measured) -> str:
    settings, bound = outcome.settings, outcome.bound
    above, promised = max(0.0, ours.peak - bound.burst), f"{bound.excess:,.0f}"
    if settings.outage is not None and settings.mode == "open":
        return f'In mode "open" nothing is promised while Redis is away; the worst interval was {above:,.0f} over.'
    what = "its worst interval" if settings.window_s is None else "its fullest window"
    found = f"{what} was {above:,.0f} units above the limit, where {promised} are promised"
    if above <= bound.excess:
        return f"penstock kept its guarantee: {found}."
    if settings.window_s is not None:
        return f"Of penstock {found}, and beside them what arrives within half a round trip of its edges."
    return f"penstock BROKE its guarantee: {found}. Please report this with the seed and the settings."


def _beside_exact(one: Measured) -> str:
    if abs(one.drift) < 0.00005:
        return "admitted what one exact limit would have"
    return f"admitted {share(abs(one.drift))} {'more' if one.drift > 0 else 'less'} than one exact limit would have"


def text_report(outcome: Outcome, width: int) -> str:
    """The table and the verdict. width: characters of a line."""
    lines = [*wrap(headline(outcome), width), *wrap(conditions(outcome), width), ""]
    body = [["", *titles(outcome)], *([what, *cells] for what, cells in rows(outcome))]
    widths = [max(len(row[column]) for row in body) for column in range(len(body[0]))]
    for row in body:
        cells = [cell.rjust(size) for cell, size in zip(row[1:], widths[1:], strict=True)]
        lines.append("   ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    for paragraph in (*verdict(outcome), *notes(outcome)):
        lines += ["", *wrap(paragraph, width)]
    return "\n".join(lines) + "\n"


def json_report(outcome: Outcome) -> dict[str, Any]:
    """All of it; counts are per slice, times in seconds and nanoseconds as their names say. No URL is in it."""
    settings = outcome.settings
    return {
        "limit": rate_text(settings.rule),
        "rate": settings.rate,
        "burst": settings.burst,
        "server": outcome.server,
        "own_server": outcome.own,
        "settings": _plain_settings(settings),
        "bound": asdict(outcome.bound),
        "slice_s": SLICE_NS / 1e9,
        "designs": {name: _of_design(one, outcome) for name, one in outcome.designs.items()},
        "verdict": verdict(outcome),
    }


def _plain_settings(settings: Settings) -> dict[str, Any]:
    """Without the URL, which may hold a password."""
    told = asdict(settings)
    del told["redis"]
    return told | {"factor": settings.offered}


def _of_design(one: Measured, outcome: Outcome) -> dict[str, Any]:
    over, under = worst_second(one.admitted, one.exact)
    return asdict(one) | {
        "calls": one.decisions,
        "total_admitted": one.total,
        "total_exact": sum(one.exact),
        "over": one.over,
        "under": one.under,
        "worst_second_over": over,
        "worst_second_under": under,
        "excess": max(0.0, one.peak - outcome.bound.burst),
        "updates_per_1000": one.per_thousand(one.updates),
        "cpu_s_per_1000": one.per_thousand(one.cpu_s),
    }
