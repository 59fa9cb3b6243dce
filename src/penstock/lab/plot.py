"""Draws a trial as PNG or SVG by matplotlib, or as a page of its own."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from penstock.drawing import GRID, plain, save
from penstock.lab.page import page
from penstock.lab.picture import BOUND, COLOURS, STEP_S, Panel, Picture, picture
from penstock.lab.report import headline
from penstock.lab.trial import Outcome
from penstock.replay.axes import count_axis

EXACT, SHADE = "#1c2024", "#f3e9d7"


def draw(outcome: Outcome, path: Path) -> None:
    """Writes the plot. Raises PlotError."""
    save(path, lambda: page(outcome), lambda: _figure(outcome))


def _figure(outcome: Outcome) -> Any:
    drawn = picture(outcome)
    count = len(drawn.panels)
    figure = import_module("matplotlib.figure").Figure(figsize=(10, 2.1 * count + 3.2), layout="constrained")
    all_axes = figure.subplots(count + 1, 1, sharex=True, height_ratios=[*([1] * count), 1.25])
    for panel, axes in zip(drawn.panels, all_axes, strict=False):
        _draw_panel(axes, drawn, panel)
    _draw_heights(all_axes[-1], drawn)
    figure.suptitle(headline(outcome), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def _edges(drawn: Picture) -> list[float]:
    return [STEP_S * i for i in range(len(drawn.panels[0].offered) + 1)]


def _draw_panel(axes: Any, drawn: Picture, panel: Panel) -> None:
    edges = _edges(drawn)
    _draw_marks(axes, drawn)
    cut = " (cut off)" if drawn.cut else ""
    axes.stairs(panel.offered, edges, fill=True, color=GRID, label=f"offered{cut}")
    axes.stairs(panel.admitted, edges, fill=True, color=COLOURS[panel.design], alpha=0.85, label="admitted")
    axes.stairs(panel.exact, edges, color=EXACT, linewidth=0.8, baseline=None, label="by one exact limit")
    axes.axhline(drawn.limit, color=BOUND, linewidth=1, linestyle="--", label="the rate")
    axes.set_ylim(0, drawn.most)
    counts = count_axis(drawn.most, 4)
    axes.set_yticks(counts.places, counts.labels)
    axes.set_ylabel("calls in 100 ms")
    plain(axes, panel.title, "y")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, borderaxespad=0, fontsize=8, handlelength=1.2
    )


def _draw_heights(axes: Any, drawn: Picture) -> None:
    edges = _edges(drawn)
    _draw_marks(axes, drawn)
    for below, panel in enumerate(drawn.panels):  # ours on top
        axes.stairs(
            drawn.heights[panel.design],
            edges,
            color=COLOURS[panel.design],
            linewidth=1.4,
            baseline=None,
            label=panel.title,
            zorder=4 - below / 10,
        )
    for value, label, style in ((drawn.burst, drawn.limit_label, ":"), (drawn.bound, drawn.bound_label, "--")):
        axes.axhline(value, color=BOUND, linewidth=1, linestyle=style, label=label)
    axes.set_xlim(0, drawn.seconds)
    axes.set_ylim(0, drawn.highest)
    counts, times = count_axis(drawn.highest, 4), count_axis(int(drawn.seconds), 10)
    axes.set_yticks(counts.places, counts.labels)
    axes.set_xticks(times.places, times.labels)
    axes.set_xlabel("seconds from the start")
    axes.set_ylabel("units")
    plain(axes, drawn.height_title, "y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=5, frameon=False, fontsize=8, handlelength=1.6)


def _draw_marks(axes: Any, drawn: Picture) -> None:
    """The outage, and when an instance was killed."""
    said = {"fontsize": 8, "color": EXACT, "va": "top", "transform": axes.get_xaxis_transform()}
    if drawn.outage is not None:
        axes.axvspan(*drawn.outage, color=SHADE, linewidth=0)
        axes.text(drawn.outage[0] + drawn.seconds * 0.005, 0.97, "Redis stopped", **said)
    if drawn.killed is not None:
        axes.axvline(drawn.killed, color=EXACT, linewidth=0.8, linestyle=":")
        axes.text(drawn.killed + drawn.seconds * 0.005, 0.97, "an instance killed", **said)
