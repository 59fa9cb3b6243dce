"""Draws the limiters side by side, one panel for each case, from the numbers that run.py gathered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot, ticker

PANELS = (
    ("one hot key", "one hot key"),
    ("one refused key", "one refused key"),
    ("100,000 keys in random order", "100,000 keys"),
    ("fresh strings of 10,000 clients", "fresh strings"),
)
OURS, OTHERS, INK, FLOOR = "#0b6e75", "#90a4ae", "#263238", "#c2571a"


def draw(results: dict[str, Any], target: Path) -> None:
    """Writes an SVG: ns for one decision on a logarithmic axis, with dict.get of the same loop as a line."""
    style = {"svg.fonttype": "none", "svg.hashsalt": "penstock", "font.family": "sans-serif", "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    costs = {(each["group"], each["subject"]): each["costs"] for each in results["benchmarks"]}
    subjects = [subject for group, subject in costs if group == PANELS[0][0]]
    subjects.sort(key=lambda subject: costs[PANELS[0][0], subject][subject]["best"])
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, len(PANELS), figsize=(10, 2.9), sharex=True, sharey=True)
        for panel, (group, title) in zip(panels, PANELS, strict=True):
            floor = costs[group, "penstock"]["dict.get"]["best"]
            panel.axvline(floor, color=FLOOR, linewidth=1, zorder=1)
            panel.text(floor, -0.75, f"dict.get {floor:,.0f}", color=FLOOR, ha="center", va="bottom", fontsize=8)
            for place, subject in enumerate(subjects):
                if (group, subject) not in costs:
                    continue
                ns = costs[group, subject][subject]["best"]
                color = OURS if subject == "penstock" else OTHERS
                panel.plot([floor, ns], [place, place], color=color, linewidth=1, zorder=1)
                panel.plot(ns, place, "o", color=color, markersize=6, zorder=2)
                panel.text(max(ns, floor) * 1.3, place, f"{ns:,.0f}", va="center", fontsize=8)
            panel.set_xscale("log")
            panel.set_xlim(10, 40_000)
            panel.set_title(title, fontsize=10, loc="left", pad=16)
            panel.tick_params(axis="y", length=0)
            panel.xaxis.set_major_locator(ticker.FixedLocator([10, 100, 1000, 10_000]))
            panel.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            for side in ("top", "right", "left"):
                panel.spines[side].set_visible(False)
        panels[0].set_yticks(range(len(subjects)), subjects)
        panels[0].set_ylim(len(subjects) - 0.5, -0.8)
        figure.supxlabel("ns per decision, logarithmic; the least of all rounds", fontsize=9)
        figure.tight_layout()
        figure.savefig(target, dpi=150, metadata={"Date": None} if target.suffix == ".svg" else None)
        pyplot.close(figure)
