"""How numbers, times, tables and text from elsewhere are written for people."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from itertools import pairwise

from penstock.replay.times import NS

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def printable(raw: bytes, most: int = 0) -> str:
    """Text from a log, safe on a terminal: what is not printable is escaped. most: characters kept, 0 for all."""
    text = raw.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return clipped(text, most) if most else text


def clipped(text: str, most: int) -> str:
    """At most so many characters, the last of them an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def key_name(key: Sequence[bytes]) -> str:
    """A key's fields, separated by spaces."""
    return " ".join(printable(part) or '""' for part in key)


def iso(ns: int) -> str:
    """A time in UTC, with as many digits of a second as it takes: "2015-05-17T10:05:03Z"."""
    seconds, fraction = divmod(ns, NS)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()[:19]
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"


def moment(ns: int) -> str:
    """A time in UTC to the second: "2015-05-17 10:05:03"."""
    return str(datetime.datetime.fromtimestamp(ns // NS, datetime.UTC))[:19]


def duration(ns: int) -> str:
    """A length of time in its two largest units: "2 h 5 min", "1.25 s", "40 ms"."""
    if ns < NS:
        return f"{ns / 1e6:.3g} ms" if ns >= 1_000_000 else f"{ns / 1e3:.3g} µs" if ns else "0 s"
    if ns < 60 * NS:
        return f"{ns / NS:.3g} s"
    seconds = round(ns / NS)
    for (size, unit), (inner, inner_unit) in pairwise(_UNITS):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole} {unit}" + (f" {rest // inner} {inner_unit}" if rest // inner else "")
    return f"{seconds} s"


def number(count: int) -> str:
    """A count with its thousands set apart: "12,345"."""
    return f"{count:,}"


def percent(part: int, whole: int) -> str:
    """A share with as many digits as it deserves: "12 %", "0.31 %", "0 %"."""
    if not part:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %" if share >= 1 else f"{max(share, 0.01):.2f} %"


def table(rows: Iterable[list[str]], align: str) -> list[str]:
    """Rows of cells in columns as wide as they need to be; align: "<" or ">" for each column."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:{side}{size}}" for cell, side, size in zip(row, align, widths, strict=True))
        for row in rows
    ]
