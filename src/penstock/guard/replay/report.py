"""A replay as text for people and as an object for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from penstock.guard.replay.play import ADDRESSES_MOST, EXPLAINED_MOST, STORIES_MOST, Moment, Played, Story
from penstock.guard.verdict import Action, Evidence
from penstock.replay.wording import clipped, duration, iso, moment, number, percent, printable, table

_TARGET_MOST = 60
_WHY_MOST = 3


def text_report(played: Played, name: str, top: int, width: int) -> str:
    """The whole report, its lines ended by newlines. name: of the configuration; width: columns of the terminal."""
    lines = [
        f'"{name}" on {sources(played)}',
        f"  {_of_lines(played)}",
        f"  {moment(played.first_ns)} to {moment(played.last_ns)} UTC, {duration(played.last_ns - played.first_ns)}",
        "",
        f"  would have been refused   {_share(played.refused, played)}"
        + (f", of {_addresses(len(played.refused_addresses), played)}" if played.refused else ""),
    ]
    if played.delayed:
        lines.append(f"  would have been held up   {_share(played.delayed, played)}")
    stories = played.stories.values()
    for what, count in (
        ("would have been banned", sum(one.banned for one in stories)),
        ("suspected, no more", sum(not one.banned and not one.refused for one in stories)),
    ):
        if count:
            lines.append(f"  {what:24}  {_addresses(count, played)}")
    if played.refused:
        lines += ["", "Why", *_why(played), "", "Who", *_who(played, top)]
    if played.sample:
        lines += ["", _sample_title(played), *_moments(played.sample, width)]
    lines += ["", *(f"  {note}" for note in notes(played))]
    lines += ["", *unreadable(played)] if played.unreadable else []
    return "\n".join(clipped(line, width) if line.startswith("    ") else line for line in lines) + "\n"


def sources(played: Played) -> str:
    """The files, as a heading has them."""
    paths = ["standard input" if path == "-" else path for path in played.paths]
    return ", ".join(paths) if len(paths) <= 3 else f"{', '.join(paths[:2])} and {len(paths) - 2} more files"


def _of_lines(played: Played) -> str:
    addresses = many(len(played.offered), "address")
    if len(played.offered) >= ADDRESSES_MOST:
        addresses = f"more than {addresses}"
    unread = f", {number(played.unreadable)} of them unreadable" if played.unreadable else ""
    return f"{many(played.lines, 'line')}{unread}; {many(played.requests, 'request')} of {addresses}"


def many(count: int, what: str) -> str:
    """A count and its noun: "1 address", "1,753 addresses"."""
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number(count)} {what if count == 1 else plural}"


def _share(count: int, played: Played) -> str:
    return f"{number(count)} of {number(played.requests)} ({percent(count, played.requests)})"


def _addresses(count: int, played: Played) -> str:
    return f"{number(count)} of {many(len(played.offered), 'address')}"


def _why(played: Played) -> list[str]:
    counts = dict.fromkeys(played.detectors, 0)
    for story in played.stories.values():
        for detector in story.why:
            counts[detector] = counts.get(detector, 0) + 1
    rows = [["detector", "refused", "addresses"]]
    rows += [[name, number(refused), number(counts[name])] for name, refused in played.detectors.most_common()]
    return table(rows, "<>>")


def _who(played: Played, top: int) -> list[str]:
    rows = [["address", "requests", "refused", "from", "first refused at", "line", "why"]]
    stories = played.refused_addresses
    for story in stories[:top]:
        first = story.first
        assert first is not None
        rows.append(
            [
                story.address,
                number(played.offered[story.address]),
                number(story.refused),
                moment(first.entry.ns),
                printable(first.entry.target.encode("utf-8", "replace"), 40),
                number(first.entry.number),
                why_text(story),
            ]
        )
    lines = [line.rstrip() for line in table(rows, "<>><<><")]
    if len(stories) > top:
        lines.append(f"  and {number(len(stories) - top)} more (--top {len(stories)})")
    return lines


def why_text(story: Story) -> str:
    """For what an address was refused, most often first."""
    why = [f"{name} ({number(count)})" for name, count in story.why.most_common(_WHY_MOST)]
    rest = len(story.why) - len(why)
    return ", ".join(why) + (f" and {rest} more" if rest else "")


def _sample_title(played: Played) -> str:
    return f"Line by line: the first evidence of each kind for each address ({number(len(played.sample))})"


def _moments(moments: Sequence[Moment], width: int) -> Iterator[str]:
    """Two lines or more for each: what was asked, and below it the evidence."""
    several = len({one.entry.file for one in moments}) > 1
    for one in moments:
        entry = one.entry
        place = f"{Path(entry.file).name}:{entry.number}" if several else f"line {entry.number}"
        target = printable(entry.target.encode("utf-8", "replace"), _TARGET_MOST)
        status = f" -> {entry.status}" if entry.status else ""
        yield f"  {moment(entry.ns)}  {place}  {entry.address}  {_outcome(one)}"
        yield f"      {entry.method} {target}{status}"
        yield from (f"      {evidence_text(each)}" for each in one.evidence)


def _outcome(one: Moment) -> str:
    if one.answered:
        return "banned for the answer" if one.action is Action.BAN else "noted in the answer"
    if one.allowed:
        return "noted" if one.action is Action.LOG else f"let through ({one.action})"
    return f"refused: {one.kind}"


def evidence_text(evidence: Evidence) -> str:
    """One piece of evidence on one line."""
    found = ", ".join(f"{one.kind} by rule {one.rule}, {one.points} points" for one in evidence.findings[:_WHY_MOST])
    detail = printable(evidence.detail.encode("utf-8", "replace"), 160)
    return f"{evidence.detector}, {evidence.severity.name.lower()}: {detail}" + (f" [{found}]" if found else "")


def notes(played: Played) -> list[str]:
    """What a reader must know to trust the numbers."""
    said = []
    if played.late:
        said.append(f"{number(played.late)} requests were out of order and were played at the time of the one before")
    if played.strays:
        said.append(f"{number(played.strays)} requests were left out: they are years from the first")
    if played.untold:
        said.append(f"of addresses beyond {number(STORIES_MOST)} only the sums are kept")
    for name, count in played.errors.items():
        said.append(f"{name} failed {number(count)} times and said nothing")
    said.append("not in a log, so not judged: other headers, bodies, what is in flight at once")
    return said


def unreadable(played: Played) -> list[str]:
    """The first lines that could not be read."""
    lines = [f"Unreadable ({number(played.unreadable)})"]
    return lines + [f"    {one.file}:{one.number}: {one.reason}: {printable(one.text, 60)}" for one in played.bad]


def explain_text(played: Played, address: str, width: int) -> str:
    """All that happened to one address, runs of unremarkable requests in one line."""
    moments = played.explained
    if not moments:
        return f"{address} is in none of {many(played.requests, 'request')}\n"
    refused = sum(not one.allowed for one in moments)
    requests = sum(not one.answered for one in moments)
    lines = [f"{address}: {many(requests, 'request')}, {number(refused)} of them would have been refused", ""]
    for plain, run in groupby(moments, lambda one: not one.evidence):
        group = list(run)
        if plain:
            lines.append(f"  {moment(group[0].entry.ns)}  {_passed(group)}")
            continue
        for _, same in groupby(group, _likeness):
            alike = list(same)
            lines += _moments(alike[:1], width)
            if len(alike) > 1:
                last = alike[-1].entry
                more = number(len(alike) - 1)
                lines.append(f"      and {more} more like it, to line {last.number}, {moment(last.ns)}")
    if len(moments) >= EXPLAINED_MOST:
        lines.append(f"  only the first {number(EXPLAINED_MOST)} moments are kept")
    return "\n".join(clipped(line, width) if line.startswith("      ") else line for line in lines) + "\n"


def _likeness(one: Moment) -> tuple[bool, bool, list[str]]:
    """What moments that are told as one have in common."""
    return one.allowed, one.answered, [each.detector for each in one.evidence]


def _passed(group: Sequence[Moment]) -> str:
    first, last = group[0].entry, group[-1].entry
    if len(group) == 1:
        target = printable(first.target.encode("utf-8", "replace"), _TARGET_MOST)
        return f"line {first.number}  allowed: {first.method} {target}"
    lasted = duration(last.ns - first.ns) if last.ns > first.ns else "the same second"
    return f"lines {first.number} to {last.number}  {number(len(group))} requests allowed, in {lasted}"


def json_report(played: Played, name: str, top: int) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "config": name,
        "files": list(played.paths),
        "lines": played.lines,
        "unreadable": played.unreadable,
        "requests": played.requests,
        "addresses": len(played.offered),
        "from": iso(played.first_ns),
        "to": iso(played.last_ns),
        "out_of_order": played.late,
        "refused": played.refused,
        "delayed": played.delayed,
        "kinds": dict(played.kinds.most_common()),
        "detectors": dict(played.detectors.most_common()),
        "tiers": {tier.name: count for tier, count in sorted(played.tiers.items())},
        "refused_addresses": [_story_json(played, story) for story in played.refused_addresses[:top]],
        "sample": [moment_json(one) for one in played.sample],
        "explained": [moment_json(one) for one in played.explained],
        "bad": [{"file": one.file, "line": one.number, "reason": one.reason} for one in played.bad],
        "failures": [str(one) for one in played.failures],
    }


def _story_json(played: Played, story: Story) -> dict[str, Any]:
    return {
        "address": story.address,
        "requests": played.offered[story.address],
        "refused": story.refused,
        "banned": story.banned,
        "why": dict(story.why.most_common()),
        "first": None if story.first is None else moment_json(story.first),
        "last": iso(story.last_ns),
    }


def moment_json(one: Moment) -> dict[str, Any]:
    """One moment as plain values."""
    entry = one.entry
    return {
        "time": iso(entry.ns),
        "file": entry.file,
        "line": entry.number,
        "address": entry.address,
        "method": entry.method,
        "target": entry.target,
        "status": entry.status or None,
        "allowed": one.allowed,
        "tier": one.tier.name,
        "action": str(one.action),
        "kind": one.kind,
        "after_response": one.answered,
        "evidence": [
            {
                "detector": each.detector,
                "severity": each.severity.name,
                "detail": each.detail,
                "value": each.value,
                "limit": each.limit,
                "technique": None if each.technique is None else str(each.technique),
                "findings": [one._asdict() for one in each.findings],
            }
            for each in one.evidence
        ],
    }
