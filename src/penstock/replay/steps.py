"""Two counts over time, one behind the other, as steps in inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from penstock.replay.axes import count_axis, time_axis
from penstock.replay.wording import duration

_WIDTH, _LEFT = 900, 56


def steps(
    start_ns: int, step_ns: int, height: int, behind: tuple[str, Sequence[int]], before: tuple[str, Sequence[int]]
) -> Iterator[str]:
    """The figure, a line of HTML at a time. behind, before: (CSS class, count of each step), the larger behind; height:
    of the drawing, in its own units, 900 across."""
    end, most = start_ns + len(behind[1]) * step_ns, max(behind[1])
    times, counts = time_axis(start_ns, end), count_axis(most)

    def across(ns: int) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT) * (ns - start_ns) / (end - start_ns):.1f}"

    def down(count: int) -> str:
        return f"{height - (height - 10) * count / most:.1f}"

    def path(values: Iterable[int]) -> str:
        edges = range(start_ns + step_ns, end + 1, step_ns)
        tops = (f"V{down(value)}H{across(edge)}" for value, edge in zip(values, edges, strict=True))
        return f"M{across(start_ns)},{down(0)}{''.join(tops)}V{down(0)}Z"

    yield f'<figure><svg viewBox="0 0 {_WIDTH} {height + 42}" role="img" aria-label="requests over time">'
    for place, label in zip(counts.places, counts.labels, strict=True):
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{down(place)}" y2="{down(place)}"/>'
        yield f'<text x="{_LEFT - 8}" y="{down(place)}" dy=".32em" text-anchor="end">{label}</text>'
    for kind, values in (behind, before):
        yield f'<path class="{kind}" d="{path(values)}"/>'
    for place, label in zip(times.places, times.labels, strict=True):
        anchor = "end" if place > end - (end - start_ns) // 40 else "middle"
        yield f'<text x="{across(place)}" y="{height + 18}" text-anchor="{anchor}">{label}</text>'
    middle = (_LEFT + _WIDTH) // 2
    yield f'<text x="{middle}" y="{height + 38}" text-anchor="middle">{times.caption} (UTC)</text></svg>'
    yield f"<figcaption>requests in {duration(step_ns)}</figcaption></figure>"
