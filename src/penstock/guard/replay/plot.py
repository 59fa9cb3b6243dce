"""Draws a replay: requests over time and the addresses refused most, by matplotlib or as a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from penstock.drawing import plain, save, sheet, table
from penstock.guard.replay.play import Played, Slices
from penstock.guard.replay.report import evidence_text, sources, why_text
from penstock.replay.axes import Axis, count_axis, time_axis
from penstock.replay.steps import steps
from penstock.replay.wording import clipped, duration, moment, number, percent, printable

ALLOWED, REFUSED = "#2a78b8", "#d1495b"
_TOP = 12

_STYLE = """
:root { --allowed: #2a78b8; --refused: #d1495b; }
@media (prefers-color-scheme: dark) { :root { --allowed: #4389c0; --refused: #ea6c7b; } }
.allowed { fill: var(--allowed); background: var(--allowed); }
.refused { fill: var(--refused); background: var(--refused); }
td { vertical-align: top; }
td:last-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 18rem; }
th:last-child { text-align: left; }
"""


def draw(played: Played, name: str, path: Path) -> None:
    """Writes the plot of a replay with at least one request. name: of the configuration. Raises PlotError."""
    save(path, lambda: _page(played, name), lambda: _figure(played, name))


def _axes(slices: Slices) -> tuple[int, int, Axis, Axis]:
    """(end, most, times, counts)."""
    end = slices.start_ns + len(slices.allowed) * slices.step_ns
    most = max(map(sum, zip(slices.allowed, slices.refused, strict=True)))
    return end, most, time_axis(slices.start_ns, end), count_axis(most)


def _figure(played: Played, name: str) -> Any:
    slices = played.slices
    assert slices is not None
    end, most, times, counts = _axes(slices)
    stories = played.refused_addresses[:_TOP]
    below = 0.8 + 0.28 * len(stories) if stories else 0
    figure = import_module("matplotlib.figure").Figure(figsize=(10, 4 + below), layout="constrained")
    if stories:
        time, bars = figure.subplots(2, 1, height_ratios=[4, below])
        _draw_addresses(bars, played)
    else:
        time = figure.subplots()
    edges = [slices.start_ns + i * slices.step_ns for i in range(len(slices.allowed) + 1)]
    total = [sum(pair) for pair in zip(slices.allowed, slices.refused, strict=True)]
    time.stairs(total, edges, fill=True, color=REFUSED, label=f"{number(played.refused)} refused")
    passed = f"{number(played.requests - played.refused)} allowed"
    time.stairs(slices.allowed, edges, fill=True, color=ALLOWED, label=passed)
    time.set_xlim(slices.start_ns, end)
    time.set_ylim(0, most * 1.02)
    time.set_xticks(times.places, times.labels)
    time.set_yticks(counts.places, counts.labels)
    time.set_xlabel(f"{times.caption} (UTC)")
    time.legend(loc="upper right", fontsize=8, frameon=False)
    plain(time, f'Requests in {duration(slices.step_ns)}, guarded by "{name}"', "y")
    return figure


def _draw_addresses(axes: Any, played: Played) -> None:
    stories = played.refused_addresses[:_TOP]
    rows = range(len(stories))
    offered = [played.offered[story.address] for story in stories]
    axes.barh(rows, [story.refused for story in stories], color=REFUSED, height=0.7)
    passed = [most - story.refused for most, story in zip(offered, stories, strict=True)]
    axes.barh(rows, passed, left=[story.refused for story in stories], color=ALLOWED, height=0.7)
    for row, (story, most) in enumerate(zip(stories, offered, strict=True)):
        said = f" {number(story.refused)} of {number(most)}: {clipped(why_text(story), 60)}"
        axes.text(most, row, said, va="center", fontsize=8, parse_math=False)
    axes.set_yticks(rows, [story.address for story in stories], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    counts = count_axis(max(offered))
    axes.set_xticks(counts.places, counts.labels)
    axes.set_xlim(0, max(offered) * 1.8)
    plain(axes, "The addresses refused most", "x")


def _page(played: Played, name: str) -> str:
    title = f'What "{name}" would have refused'
    share = percent(played.refused, played.requests)
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(sources(played))}</p>",
        f'<p class="faint">{moment(played.first_ns)} to {moment(played.last_ns)} UTC</p>',
        '<ul class="counts">',
        f"<li><b>{number(played.requests)}</b>requests of {number(len(played.offered))} addresses</li>",
        f"<li><b>{number(played.requests - played.refused)}</b><i class='allowed'></i>allowed</li>",
        f"<li><b>{number(played.refused)}</b><i class='refused'></i>refused, {share}</li>",
        f"<li><b>{number(len(played.refused_addresses))}</b>addresses refused something</li>",
        "</ul>",
        "<h2>Requests over time</h2>",
        *_over_time(played),
        "<h2>Why</h2>",
        *table(["detector", "refused"], ([one, number(count)] for one, count in played.detectors.most_common())),
        "<h2>The addresses refused most</h2>",
        *_addresses(played),
        "<h2>The evidence, line by line</h2>",
        *_sample(played),
    ]
    return sheet(f"penstock guard replay: {name}", body, _STYLE)


def _over_time(played: Played) -> Iterator[str]:
    slices = played.slices
    assert slices is not None
    total = [sum(pair) for pair in zip(slices.allowed, slices.refused, strict=True)]
    return steps(slices.start_ns, slices.step_ns, 240, ("refused", total), ("allowed", slices.allowed))


def _addresses(played: Played) -> Iterator[str]:
    stories = played.refused_addresses[:_TOP]
    if not stories:
        yield "<p>Nobody would have been refused.</p>"
        return
    yield from table(
        ["address", "requests", "refused", "from", "why"],
        (
            [
                story.address,
                number(played.offered[story.address]),
                number(story.refused),
                "" if story.first is None else moment(story.first.entry.ns),
                why_text(story),
            ]
            for story in stories
        ),
    )


def _sample(played: Played) -> Iterator[str]:
    if not played.sample:
        yield "<p>There was no evidence against anybody.</p>"
        return
    yield from table(
        ["address", "time", "line", "request and evidence"],
        (
            [
                one.entry.address,
                moment(one.entry.ns),
                number(one.entry.number),
                f"{one.entry.method} {printable(one.entry.target.encode('utf-8', 'replace'), 80)}: "
                + "; ".join(map(evidence_text, one.evidence)),
            ]
            for one in played.sample
        ),
    )
