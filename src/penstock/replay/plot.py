"""Draws a study: requests over time and the keys refused most, as PNG or SVG by matplotlib, or as a page of its own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from penstock.drawing import plain, save
from penstock.replay.axes import count_axis, time_axis
from penstock.replay.page import page
from penstock.replay.report import kind, limits_text
from penstock.replay.study import Study
from penstock.replay.wording import clipped, duration, key_name, number, percent

KEYS = 12
ADMITTED, REFUSED = "#2a78b8", "#d1495b"


def draw(study: Study, path: Path) -> None:
    """Writes the plot. Raises PlotError."""
    save(path, lambda: page(study, KEYS), lambda: _figure(study))


def _figure(study: Study) -> Any:
    keys = min(KEYS, len(study.outcome.refusals))
    below = 0.8 + 0.28 * keys if keys else 0
    figure = import_module("matplotlib.figure").Figure(figsize=(10, 4 + below), layout="constrained")
    if keys:
        time, bars = figure.subplots(2, 1, height_ratios=[4, below])
        _draw_keys(bars, study)
    else:
        time = figure.subplots()
    _draw_time(time, study)
    return figure


def _draw_time(axes: Any, study: Study) -> None:
    """Steps of what was admitted, and of what was refused on top of it."""
    series = study.over_time()
    edges = [series.start_ns + i * series.step_ns for i in range(len(series.offered) + 1)]
    axes.stairs(series.offered, edges, fill=True, color=REFUSED, label=f"{number(study.outcome.refused)} refused")
    axes.stairs(series.admitted, edges, fill=True, color=ADMITTED, label=f"{number(study.admitted)} admitted")
    most = max(series.offered)
    times, counts = time_axis(edges[0], edges[-1]), count_axis(most)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, most * 1.02)
    axes.set_xticks(times.places, times.labels)
    axes.set_yticks(counts.places, counts.labels)
    axes.set_xlabel(f"{times.caption} (UTC)")
    axes.set_ylabel(f"requests in {duration(series.step_ns)}")
    plain(axes, f"{limits_text(study.question)}: {kind(study.question)}", "y")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0, handlelength=1)


def _draw_keys(axes: Any, study: Study) -> None:
    """For each key what it offered, the refused part first; the most refused on top."""
    most = study.most_refused(KEYS)
    rows = range(len(most))
    refused = [refusals.count for _, _, refusals in most]
    widest = max(offered for _, offered, _ in most)
    axes.barh(rows, refused, color=REFUSED, height=0.7)
    admitted = [offered - refusals.count for _, offered, refusals in most]
    axes.barh(rows, admitted, left=refused, color=ADMITTED, height=0.7)
    for row, (_, offered, refusals) in zip(rows, most, strict=True):
        said = f" {number(refusals.count)} of {number(offered)}, {percent(refusals.count, offered)}"
        axes.text(offered, row, said, va="center", fontsize=8)
    names = [clipped(key_name(key), 44) for key, _, _ in most]
    axes.set_yticks(rows, names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    counts = count_axis(widest)
    axes.set_xticks(counts.places, counts.labels)
    axes.set_xlim(0, widest * 1.25)
    plain(axes, "The keys refused most", "x")
