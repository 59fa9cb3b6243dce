"""Where the marks of an axis lie, and what they say: round counts, and times that clocks show."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from penstock.replay.times import NS
from penstock.replay.wording import number

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_DAYS = (1, 2, 7, 14, 28, 56, 91, 182, 364)
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Axis:
    """places: in the axis's own units, rising; labels: one for each; caption: what all of them have in common."""

    places: list[int]
    labels: list[str]
    caption: str = ""


def count_axis(most: int, marks: int = 5) -> Axis:
    """0 to about `most` in steps of 1, 2 or 5 times a power of ten."""
    step = 1
    while most > step * marks:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    places = list(range(0, most + 1, step))
    return Axis(places, [number(place) for place in places])


def time_axis(start_ns: int, end_ns: int, marks: int = 10) -> Axis:
    """Moments between two others, in nanoseconds: "14:30", and "17 May" where a new day begins."""
    span = (end_ns - start_ns) // NS
    step = next((step for step in (*_STEPS, *(days * DAY for days in _DAYS)) if span <= step * marks), 364 * DAY)
    first = -(-start_ns // (step * NS)) * step
    seconds = list(range(first, end_ns // NS + 1, step))
    start, end = _utc(start_ns // NS), _utc(end_ns // NS)
    one_day = start.date() == end.date() or end_ns - start_ns <= DAY * NS
    labels = []
    for second in seconds:
        at = _utc(second)
        if step >= DAY or (second % DAY == 0 and not one_day):
            labels.append(f"{at.day} {at:%b}")
        else:
            labels.append(f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}")
    caption = f"{start.day} {start:%B %Y}"
    if start.date() != end.date() and not (one_day and end.time() == datetime.time()):
        caption += f" to {end.day} {end:%B %Y}"
    return Axis([second * NS for second in seconds], labels, caption)


def _utc(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
