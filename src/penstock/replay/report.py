"""A study as text for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from penstock.rate import TokenBucket, check_per
from penstock.replay import traffic
from penstock.replay.limits import ALGORITHMS, RateLimit, at_once, rate_text
from penstock.replay.study import Question, Reading, Study
from penstock.replay.times import NS
from penstock.replay.trace import Trace
from penstock.replay.wording import clipped, duration, iso, key_name, moment, number, percent, printable, table

BARS = " ▁▂▃▄▅▆▇█"
BARS_ASCII = " .:-=+*#@"
_CURVE = 72
_SHORT_PER_NS = 60 * NS
"""Limits over less than this look stricter than they are on times cut off to the second."""


def text_report(study: Study, top: int, width: int, bars: str = BARS) -> str:
    """For a terminal of `width` columns. top: keys to list; bars: the signs for low to high."""
    return _text(
        [
            _heading(study.question),
            table([*_read(study.trace), *_counts(study)], "<<"),
            _curves(study, min(width - 24, _CURVE), bars),
            _limits(study),
            _keys(study, top, width),
            _notes(study),
            _bad_lines(study.trace, width),
        ]
    )


def empty_report(reading: Reading, width: int) -> str:
    """What is to be said of a reading without a request."""
    return _text([_heading(reading.question), table(_read(reading.trace), "<<"), _bad_lines(reading.trace, width)])


def _text(paragraphs: Iterable[Iterable[str]]) -> str:
    texts = ["\n".join(line.rstrip() for line in lines) for lines in paragraphs]
    return "\n\n".join(text for text in texts if text) + "\n"


def sources(question: Question, most: int = 3) -> str:
    """The files replayed, the first of them by name."""
    names = [printable(path.encode("utf-8", "surrogateescape")) for path in question.paths]
    if len(names) > most:
        names[most - 1 :] = [f"{len(names) - most + 1} more"]
    return ", ".join(names) or f"{traffic.NAME} (seed {question.seed})"


def limits_text(question: Question) -> str:
    """The limits as one rate string."""
    return "; ".join(map(rate_text, question.limits))


def kind(question: Question) -> str:
    """What the limits are and for whom: "token bucket, one for each address"."""
    algorithm = ALGORITHMS[type(question.limits[0])].replace("-", " ")
    return f"{algorithm}, one for each {' + '.join(map(str, question.manner.parts))}"


def _heading(question: Question) -> Iterator[str]:
    yield f"penstock replay: {sources(question)}"
    yield f"{limits_text(question)}: {kind(question)}"


def _read(trace: Trace) -> Iterator[list[str]]:
    facts = [f"{number(trace.lines)} read"]
    for count, what in (
        (trace.unreadable, "unreadable"),
        (trace.blank, "blank"),
        (trace.without_key, "without a key"),
        (trace.stray, "left out, years from the rest"),
        (trace.late, f"out of order, by up to {duration(trace.latest_ns)}; replayed at their own time"),
    ):
        if count:
            facts.append(f"{number(count)} {what}")
    yield ["lines", ", ".join(facts)]


def _counts(study: Study) -> Iterator[list[str]]:
    trace, outcome = study.trace, study.outcome
    first, last = trace.times[0], trace.times[-1]
    refused_keys = f"{number(len(outcome.refusals))} would have been refused something"
    yield ["span", f"{moment(first)} to {moment(last)} UTC, {duration(last - first)}"]
    yield ["keys", f"{number(len(outcome.offered))}, of which {refused_keys}"]
    yield ["offered", f"{number(len(trace))} requests"]
    yield ["admitted", f"{number(study.admitted)} ({percent(study.admitted, len(trace))})"]
    yield ["refused", f"{number(outcome.refused)} ({percent(outcome.refused, len(trace))})"]


def _curves(study: Study, width: int, bars: str) -> Iterator[str]:
    """Offered and refused over time, on one scale."""
    series = study.over_time(max(width, 10))
    most = max(series.offered)
    for name, values in (("offered", series.offered), ("refused", series.refused)):
        curve = "".join(bars[-(-value * (len(bars) - 1) // most)] for value in values)
        yield f"  {name:<8}  {curve}"
    yield f"  {'':<8}  {duration(series.step_ns)} a column, the highest {number(most)}"


def _limits(study: Study) -> Iterator[str]:
    share = f"{float(study.question.at_most * 100):g} %"
    rows = [["limit", "refused", "smallest that refuses nobody", f"smallest that refuses at most {share}"]]
    for limit, refused, smallest in zip(study.question.limits, study.outcome.by_limit, study.smallest, strict=True):
        answers = [found(smallest.refuses_nobody), found(smallest.refuses_at_most)]
        rows.append([rate_text(limit), number(refused), *answers])
    yield from table(rows, "<><<")
    if len(study.question.limits) > 1:
        yield "  (a refusal counts for the limit that refuses longest; the smallest are of each limit by itself)"


def found(limit: RateLimit | None) -> str:
    """A smallest limit, if there is any."""
    return "none is large enough" if limit is None else rate_text(limit)


def _keys(study: Study, top: int, width: int) -> Iterator[str]:
    refused_keys = len(study.outcome.refusals)
    if not refused_keys:
        yield "  No key would have been refused."
    if not refused_keys or not top:
        return
    rows = [["most refused", "offered", "refused", "", "spells", "longest", "in all"]]
    for key, offered, refusals in study.most_refused(top):
        counts = [number(offered), number(refusals.count), percent(refusals.count, offered), number(refusals.spells)]
        rows.append([key_name(key), *counts, duration(refusals.longest_ns), duration(refusals.total_ns)])
    others = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[1:])
    for row in rows:
        row[0] = clipped(row[0], max(20, width - 2 - others))
    yield from table(rows, "<>>>>>>")
    if refused_keys > top:
        yield f"  and {number(refused_keys - top)} more"
    yield "  (a spell lasts from a refusal until the limiter would admit the key again)"


def _notes(study: Study) -> Iterator[str]:
    short = any(check_per(limit.per) < _SHORT_PER_NS for limit in study.question.limits)
    if study.reading.whole_seconds and short and not study.question.spread:
        yield "  The log's times are whole seconds, so all requests of a second are replayed at once: limits over"
        yield "  seconds look stricter than they are. --spread spreads requests over their second."
    if study.outcome.evicted:
        yield f"  {number(study.outcome.evicted)} keys were forgotten for lack of room: too few requests were refused."


def _bad_lines(trace: Trace, width: int) -> Iterator[str]:
    if trace.bad:
        yield f"  {'the first ' if trace.unreadable > len(trace.bad) else ''}unreadable lines:"
    for bad in trace.bad:
        place = f"  {bad.file}:{bad.number}: {bad.reason}: "
        yield place + printable(bad.text, max(20, width - len(place)))


def json_report(study: Study, top: int) -> dict[str, Any]:
    """The same as numbers: times in ISO 8601 (UTC), lengths of time in seconds, keys as lists of their fields."""
    question, trace, outcome, series = study.question, study.trace, study.outcome, study.over_time()
    limits = zip(question.limits, outcome.by_limit, study.smallest, strict=True)
    return empty_json(study.reading) | {
        "span": {
            "from": iso(trace.times[0]),
            "to": iso(trace.times[-1]),
            "seconds": (trace.times[-1] - trace.times[0]) / NS,
            "whole_seconds": study.reading.whole_seconds,
        },
        "keys": {"seen": len(outcome.offered), "refused": len(outcome.refusals), "forgotten": outcome.evicted},
        "offered": len(trace),
        "admitted": study.admitted,
        "refused": outcome.refused,
        "at_most": {"share": float(question.at_most), "requests": study.tolerated},
        "limits": [
            {
                **_limit_json(limit),
                "refused": refused,
                "smallest_refusing_nobody": smallest.refuses_nobody and _limit_json(smallest.refuses_nobody),
                "smallest_refusing_at_most": smallest.refuses_at_most and _limit_json(smallest.refuses_at_most),
            }
            for limit, refused, smallest in limits
        ],
        "most_refused": [
            {
                "key": [printable(part) for part in key],
                "offered": offered,
                "refused": refusals.count,
                "spells": refusals.spells,
                "longest_seconds": refusals.longest_ns / NS,
                "total_seconds": refusals.total_ns / NS,
                "first": iso(refusals.first_ns),
            }
            for key, offered, refusals in study.most_refused(top)
        ],
        "over_time": {
            "from": iso(series.start_ns),
            "step_seconds": series.step_ns // NS,
            "offered": series.offered,
            "refused": series.refused,
        },
    }


def empty_json(reading: Reading) -> dict[str, Any]:
    """What there is to say of a reading without a request."""
    question, trace = reading.question, reading.trace
    return {
        "source": list(question.paths) or [traffic.NAME],
        "failures": [str(failure) for failure in reading.failures],
        "key": [str(part) for part in question.manner.parts],
        "lines": {
            "read": trace.lines,
            "unreadable": trace.unreadable,
            "blank": trace.blank,
            "without_key": trace.without_key,
            "stray": trace.stray,
            "out_of_order": trace.late,
            "out_of_order_by_seconds": trace.latest_ns / NS,
        },
        "unreadable": [
            {"file": bad.file, "line": bad.number, "reason": bad.reason, "text": printable(bad.text)}
            for bad in trace.bad
        ],
        "offered": 0,
        "admitted": 0,
        "refused": 0,
    }


def _limit_json(limit: RateLimit) -> dict[str, Any]:
    described = {
        "rate": rate_text(limit),
        "algorithm": ALGORITHMS[type(limit)],
        "limit": limit.limit,
        "per_seconds": check_per(limit.per) / NS,
    }
    return described | ({"burst": at_once(limit)} if isinstance(limit, TokenBucket) else {})
