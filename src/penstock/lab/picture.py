"""What the plot of a trial shows, whoever draws it: its panels, their lines and marks."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.lab.design import DESIGNS, EACH, OURS, PUSH
from penstock.lab.measure import SLICE_NS, Measured
from penstock.lab.trial import Outcome
from penstock.replay.wording import number

COLOURS = {OURS: "#2a78b8", EACH: "#c07a12", PUSH: "#8457a8"}
COLOURS_DARK = {OURS: "#4d9bd6", EACH: "#e0a03c", PUSH: "#b08ad0"}
BOUND, BOUND_DARK = "#d1495b", "#ea6c7b"
STEP_S = SLICE_NS / 1e9


@dataclass(frozen=True)
class Panel:
    """One design over time, counts per slice."""

    design: str
    title: str
    offered: list[int]
    admitted: list[int]
    exact: list[int]


@dataclass(frozen=True)
class Picture:
    """panels: of the designs. limit: units per slice that the rate allows. most: the top of the panels. cut: whether
    more was offered than that. heights: of each design, see Measured. burst, bound: what an exact limit keeps to, and
    what we promise. highest: the top of that panel. outage: from and to, seconds. killed: when, seconds."""

    seconds: float
    panels: list[Panel]
    limit: float
    most: int
    cut: bool
    heights: dict[str, list[float]]
    burst: int
    bound: float
    highest: int
    windows: bool
    outage: tuple[float, float] | None
    killed: float | None

    @property
    def height_title(self) -> str:
        """Of the last panel."""
        if self.windows:
            return "The window of this time: units admitted in it so far"
        return "The worst interval that ends here: units it admitted beyond its length times the rate"

    @property
    def limit_label(self) -> str:
        return f"limit: {number(self.burst)}" + ("" if self.windows else ", the burst")

    @property
    def bound_label(self) -> str:
        return f"penstock's bound: {self.bound:,.0f}"


def picture(outcome: Outcome) -> Picture:
    """What there is to draw."""
    settings = outcome.settings
    designs = outcome.designs.values()
    limit = settings.rate * STEP_S
    most = max(2, round(1.08 * max(limit, *(max(*one.admitted, *one.exact) for one in designs))))
    outage = settings.outage
    return Picture(
        seconds=len(next(iter(designs)).offered) * STEP_S,
        panels=[_panel(one) for one in designs],
        limit=limit,
        most=most,
        cut=any(max(one.offered) > most for one in designs),
        heights={one.design: one.height for one in designs},
        burst=outcome.bound.burst,
        bound=outcome.bound.most,
        highest=round(1.12 * max(outcome.bound.most, *(one.peak for one in designs))),
        windows=settings.window_s is not None,
        outage=None if outage is None else (outage.start, outage.end),
        killed=settings.kill_at if settings.kill else None,
    )


def _panel(one: Measured) -> Panel:
    return Panel(one.design, DESIGNS[one.design].title, one.offered, one.admitted, one.exact)
