"""A study as one HTML page that needs nothing else: inline SVG, light or dark as the reader's screen is."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from penstock.drawing import sheet, table
from penstock.replay.limits import rate_text
from penstock.replay.report import found, kind, limits_text, sources
from penstock.replay.steps import steps
from penstock.replay.study import Study
from penstock.replay.wording import clipped, duration, key_name, moment, number, percent

_STYLE = """
:root { --admitted: #2a78b8; --refused: #d1495b; }
@media (prefers-color-scheme: dark) { :root { --admitted: #4389c0; --refused: #ea6c7b; } }
.admitted { fill: var(--admitted); background: var(--admitted); }
.refused { fill: var(--refused); background: var(--refused); }
"""
_WIDTH = 900
_ROW, _NAMES, _SAID = 24, 240, 170


def page(study: Study, keys: int) -> str:
    """The page. keys: how many of the refused ones to show."""
    first, last = study.trace.times[0], study.trace.times[-1]
    title = limits_text(study.question)
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(kind(study.question))}, replayed on {escape(sources(study.question))}</p>",
        f'<p class="faint">{moment(first)} to {moment(last)} UTC, {duration(last - first)}</p>',
        *_counts(study),
        "<h2>Requests over time</h2>",
        *_over_time(study),
        "<h2>Limits</h2>",
        *_limits(study),
        "<h2>The keys refused most</h2>",
        *(_keys(study, keys) if study.outcome.refusals else ["<p>No key would have been refused.</p>"]),
    ]
    return sheet(f"penstock replay: {title}", body, _STYLE)


def _counts(study: Study) -> Iterator[str]:
    outcome, trace, offered = study.outcome, study.trace, len(study.trace)
    admitted, refused = percent(study.admitted, offered), percent(outcome.refused, offered)
    yield '<ul class="counts">'
    yield f"<li><b>{number(offered)}</b>requests offered</li>"
    yield f'<li><b>{number(study.admitted)}</b><i class="admitted"></i>admitted, {admitted}</li>'
    yield f'<li><b>{number(outcome.refused)}</b><i class="refused"></i>refused, {refused}</li>'
    yield f"<li><b>{number(len(outcome.refusals))}</b>of {number(len(outcome.offered))} keys refused something</li>"
    yield "</ul>"
    if trace.unreadable or trace.late:
        yield f'<p class="faint">{number(trace.lines)} lines read, {number(trace.unreadable)} of them unreadable,'
        yield f"{number(trace.late)} out of order and replayed at their own time</p>"


def _over_time(study: Study) -> Iterator[str]:
    """Steps of what was admitted, and of what was refused on top of it."""
    series = study.over_time()
    return steps(series.start_ns, series.step_ns, 260, ("refused", series.offered), ("admitted", series.admitted))


def _limits(study: Study) -> Iterator[str]:
    share = f"{float(study.question.at_most * 100):g} %"
    yield from table(
        ["limit", "refused", "smallest that refuses nobody", f"smallest that refuses at most {share}"],
        (
            [rate_text(limit), number(refused), found(smallest.refuses_nobody), found(smallest.refuses_at_most)]
            for limit, refused, smallest in zip(
                study.question.limits, study.outcome.by_limit, study.smallest, strict=True
            )
        ),
    )
    if len(study.question.limits) > 1:
        yield '<p class="faint">A refusal counts for the limit that refuses longest;'
        yield "the smallest are of each limit by itself.</p>"


def _keys(study: Study, keys: int) -> Iterator[str]:
    most = study.most_refused(keys)
    scale = (_WIDTH - _NAMES - _SAID) / max(offered for _, offered, _ in most)
    yield f'<figure><svg viewBox="0 0 {_WIDTH} {_ROW * len(most)}" role="img" aria-label="the keys refused most">'
    for row, (key, offered, refusals) in enumerate(most):
        name, top, middle = key_name(key), row * _ROW + 4, row * _ROW + _ROW // 2
        refused, admitted = refusals.count * scale, (offered - refusals.count) * scale
        said = f"{number(refusals.count)} of {number(offered)}, {percent(refusals.count, offered)}"
        size = f'y="{top}" height="{_ROW - 8}"'
        yield f"<g><title>{escape(name)}</title>"
        yield f'<text class="name" x="0" y="{middle}" dy=".32em">{escape(clipped(name, 34))}</text>'
        yield f'<rect class="refused" x="{_NAMES}" width="{refused:.1f}" {size}/>'
        yield f'<rect class="admitted" x="{_NAMES + refused:.1f}" width="{admitted:.1f}" {size}/>'
        yield f'<text x="{_NAMES + refused + admitted + 8:.1f}" y="{middle}" dy=".32em">{said}</text></g>'
    yield "</svg></figure>"
    yield from table(
        ["key", "offered", "refused", "spells", "longest", "in all"],
        (
            [
                key_name(key),
                number(offered),
                number(refusals.count),
                number(refusals.spells),
                duration(refusals.longest_ns),
                duration(refusals.total_ns),
            ]
            for key, offered, refusals in most
        ),
    )
    yield '<p class="faint">A spell lasts from a refusal until the limiter would admit the key again.</p>'
