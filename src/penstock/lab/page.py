"""A trial as one HTML page that needs nothing else: inline SVG, light or dark as the reader's screen is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from penstock.drawing import sheet, table
from penstock.lab.picture import BOUND, BOUND_DARK, COLOURS, COLOURS_DARK, STEP_S, Panel, Picture, picture
from penstock.lab.report import conditions, headline, notes, rows, titles, verdict
from penstock.lab.trial import Outcome
from penstock.replay.axes import count_axis

_WIDTH, _LEFT, _TOP = 900, 56, 10
_PANEL, _HEIGHTS = 140, 200


def _variables(colours: dict[str, str], bound: str, shade: str) -> str:
    named = "".join(f" --{design}: {colour};" for design, colour in colours.items())
    return f":root {{{named} --bound: {bound}; --shade: {shade}; }}"


_STYLE = f"""
{_variables(COLOURS, BOUND, "#f3e9d7")}
@media (prefers-color-scheme: dark) {{ {_variables(COLOURS_DARK, BOUND_DARK, "#3a3222")} }}
{"".join(f".{design} {{ fill: var(--{design}); background: var(--{design}); }} " for design in COLOURS)}
{"".join(f".line.{design} {{ stroke: var(--{design}); }} " for design in COLOURS)}
.line {{ fill: none; stroke-width: 1.6; background: none; }}
.offered {{ fill: var(--line); background: var(--line); }}
.exact {{ fill: none; stroke: var(--ink); stroke-width: 1; }}
.bound {{ stroke: var(--bound); stroke-width: 1.2; stroke-dasharray: 6 4; }}
.burst {{ stroke: var(--bound); stroke-width: 1.2; stroke-dasharray: 2 3; }}
svg text.of-bound {{ fill: var(--bound); }}
.shade {{ fill: var(--shade); }}
.mark {{ stroke: var(--ink); stroke-dasharray: 2 3; }}
.scroll svg {{ min-width: 44rem; }}
h2 {{ margin-bottom: .2rem; }}
.key {{ display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; margin: 0 0 .4rem; font-size: .9rem; color: var(--faint); }}
.key i {{ display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }}
.key i.rule {{ height: 0; border-radius: 0; width: 1.2em; vertical-align: .3em; background: none; }}
.key i.exact {{ border-top: 1px solid var(--ink); }}
.key i.bound {{ border-top: 2px dashed var(--bound); }}
"""


def page(outcome: Outcome) -> str:
    """The page."""
    drawn = picture(outcome)
    title = headline(outcome)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(conditions(outcome))}</p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in verdict(outcome)),
    ]
    for panel in drawn.panels:
        body += [f"<h2>{escape(panel.title)}</h2>", *_panel(drawn, panel)]
    body += [f"<h2>{escape(drawn.height_title)}</h2>", *_heights(drawn), "<h2>Numbers</h2>"]
    body += table(["", *titles(outcome)], ([what, *cells] for what, cells in rows(outcome)))
    body += [f'<p class="faint">{escape(note)}</p>' for note in notes(outcome)]
    return sheet(f"penstock sync-lab: {title}", body, _STYLE)


def _across(drawn: Picture) -> Callable[[float], float]:
    return lambda second: _LEFT + (_WIDTH - _LEFT) * second / drawn.seconds


def _down(height: int, most: float) -> Callable[[float], float]:
    """What is above the top is cut off there."""
    return lambda value: height - (height - _TOP) * min(value, most) / most


def _panel(drawn: Picture, panel: Panel) -> Iterator[str]:
    down = _down(_PANEL, drawn.most)
    cut = " (cut off at the top)" if drawn.cut else ""
    yield '<p class="key">'
    yield f'<span><i class="{panel.design}"></i>admitted</span><span><i class="offered"></i>offered{cut}</span>'
    yield '<span><i class="rule exact"></i>by one exact limit</span><span><i class="rule bound"></i>the rate</span></p>'
    yield from _opened(drawn, _PANEL, drawn.most, f"{panel.title}: calls in 100 ms")
    yield f'<path class="offered" d="{_steps(drawn, panel.offered, down, True)}"/>'
    yield f'<path class="{panel.design}" d="{_steps(drawn, panel.admitted, down, True)}"/>'
    yield f'<path class="exact" d="{_steps(drawn, panel.exact, down, False)}"/>'
    yield _rule("bound", down(drawn.limit))
    yield from _closed(drawn, _PANEL, "calls in 100 ms, over seconds from the start")


def _heights(drawn: Picture) -> Iterator[str]:
    down = _down(_HEIGHTS, drawn.highest)
    yield '<p class="key">'
    for panel in drawn.panels:
        yield f'<span><i class="{panel.design}"></i>{escape(panel.title)}</span>'
    yield "</p>"
    yield from _opened(drawn, _HEIGHTS, drawn.highest, drawn.height_title)
    for panel in reversed(drawn.panels):  # ours on top
        yield f'<path class="line {panel.design}" d="{_steps(drawn, drawn.heights[panel.design], down, False)}"/>'
    for name, value, label in (("burst", drawn.burst, drawn.limit_label), ("bound", drawn.bound, drawn.bound_label)):
        yield _rule(name, down(value))
        yield f'<text class="of-bound" x="{_WIDTH}" y="{down(value) - 6:.1f}" text-anchor="end">{label}</text>'
    yield from _closed(drawn, _HEIGHTS, "units, over seconds from the start")


def _opened(drawn: Picture, height: int, most: int, label: str) -> Iterator[str]:
    """A figure with its axes and marks."""
    across, down = _across(drawn), _down(height, most)
    view = f'viewBox="0 0 {_WIDTH} {height + 24}"'
    yield f'<figure><div class="scroll"><svg {view} role="img" aria-label="{escape(label)}">'
    if drawn.outage is not None:
        start, end = (across(second) for second in drawn.outage)
        yield f'<rect class="shade" x="{start:.1f}" width="{end - start:.1f}" y="{_TOP}" height="{height - _TOP}"/>'
    counts, times = count_axis(most, 4), count_axis(int(drawn.seconds), 10)
    for place, text in zip(counts.places, counts.labels, strict=True):
        y = f"{down(place):.1f}"
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y}" dy=".32em" text-anchor="end">{text}</text>'
    for place, text in zip(times.places, times.labels, strict=True):
        anchor = "end" if place >= drawn.seconds * 0.99 else "middle"
        yield f'<text x="{across(place):.1f}" y="{height + 18}" text-anchor="{anchor}">{text}</text>'


def _closed(drawn: Picture, height: int, caption: str) -> Iterator[str]:
    """The marks' words, which lie above all lines, and the end of the figure."""
    across = _across(drawn)
    if drawn.outage is not None:
        yield f'<text class="name" x="{across(drawn.outage[0]) + 5:.1f}" y="{_TOP + 12}">Redis stopped</text>'
    if drawn.killed is not None:
        x = across(drawn.killed)
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height}"/>'
        yield f'<text class="name" x="{x + 5:.1f}" y="{_TOP + 12}">an instance killed</text>'
    yield f"</svg></div><figcaption>{caption}</figcaption></figure>"


def _rule(name: str, y: float) -> str:
    return f'<line class="{name}" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _steps(drawn: Picture, values: Sequence[float], down: Callable[[float], float], filled: bool) -> str:
    """A path of steps, one for each slice; a filled one begins and ends at the bottom."""
    across = _across(drawn)
    tops = [f"V{down(value):.1f}H{across((i + 1) * STEP_S):.1f}" for i, value in enumerate(values)]
    begin = down(0) if filled else down(values[0])
    return f"M{across(0):.1f},{begin:.1f}{''.join(tops)}" + (f"V{down(0):.1f}Z" if filled else "")
