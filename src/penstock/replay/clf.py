"""The common and combined formats of Apache and nginx, also with a virtual host in front."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from operator import itemgetter

from penstock.replay.keys import OF_REQUEST, SYNONYMS, FieldError, Part, RawKeys, transform_of
from penstock.replay.reader import Reader, Record
from penstock.replay.trace import Trace

_QUOTED = rb'[^"\\\n]*(?:\\.[^"\\\n]*)*'

_FIELDS: tuple[tuple[str, bytes, bytes, bytes, bytes], ...] = (
    ("host", b"", rb"[^ ]+", rb"[^ \n]+", b" "),
    ("address", b"", rb"[^ ]+", rb"[^ \n]+", b" "),
    ("ident", b"", rb"[^ ]+", rb"[^ \n]+", b" "),
    ("user", b"", rb"[^[]*", rb"[^[\n]*", b" "),
    ("time", rb"\[", rb"[^]]*", rb"[^]\n]*", rb"\] "),
    ("request", b'"', rb'[^"]*', rb"[^\n]*?", b'" '),
    ("status", b"", rb"\d\d\d", rb"\d\d\d|-", b" "),
    ("size", b"", rb"\d+|-", rb"\d+|-", b""),
    ("referrer", b'(?: "', _QUOTED, _QUOTED, b'"'),
    ("user-agent", b' "', _QUOTED, _QUOTED, b'")?'),
)
"""The combined format: each field's name, what stands before it, its pattern in haste and with care, what stands behind
it.

The common format lacks the last two, and only the vhost format has the first. What some servers add at the end is not
looked at. The hasty patterns are for whole blocks: "all but one character" is what the matcher does fastest. They may
run across the end of a line, but then there are fewer matches than lines. The careful ones also take a request with
quotation marks in it: it ends where a status and a size follow.
"""

_NAMES = [name for name, *_ in _FIELDS]


def _pattern(captured: Iterable[str], vhost: bool, careful: bool) -> re.Pattern[bytes]:
    """A pattern for a line that has groups for the `captured` fields only."""
    pattern = b"^"
    for name, before, hasty, with_care, behind in _FIELDS:
        if name == "referrer" and not {"referrer", "user-agent"}.intersection(captured):
            break
        if name != "host" or vhost:
            field = with_care if careful else hasty
            pattern += before + (b"(" if name in captured else b"(?:") + field + b")" + behind
    return re.compile(pattern + b".*$", re.MULTILINE)


_COMMON = _pattern(["address"], vhost=False, careful=True)


def looks_common(line: bytes) -> bool:
    """True for a line in the common, combined or vhost format."""
    return _COMMON.match(line) is not None


def has_host(lines: Iterable[bytes]) -> bool:
    """True when the lines' second word is more often an address than the first."""
    words = [line.split(b" ", 2) for line in lines]
    return sum(_is_address(w[1]) - _is_address(w[0]) for w in words if len(w) == 3) > 0


def _is_address(text: bytes) -> bool:
    try:
        ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    return True


class ClfReader(Reader):
    """sample: some of the first lines. Raises FieldError for a field that the format, or this log, has not."""

    def __init__(
        self, name: str, trace: Trace, sample: Sequence[bytes], parts: Sequence[Part], vhost: bool = False
    ) -> None:
        fields = [SYNONYMS.get(part.name, part.name) for part in parts]
        sources = ["request" if field in OF_REQUEST else field for field in fields]
        captured = [field for field in _NAMES if field in sources or field == "time"]
        self._hasty = _pattern(captured, vhost, careful=False)
        self._careful = _pattern(captured, vhost, careful=True)
        for field, source in zip(fields, sources, strict=True):
            if source not in captured or source == "time" or (source == "host" and not vhost):
                has = [f for f in _NAMES if f != "time" and (f != "host" or vhost)] + list(OF_REQUEST)
                raise FieldError(f"{name}: the combined format has no field {field!r}; it has {', '.join(has)}")
            if source in ("referrer", "user-agent") and not self._has(source, captured, sample):
                raise FieldError(f"{name}: the common format has no field {field!r}; the combined format has")
        transforms = [
            transform_of(part, OF_REQUEST.get(field) or (_or_dash if field in ("referrer", "user-agent") else None))
            for part, field in zip(parts, fields, strict=True)
        ]
        time_of = itemgetter(captured.index("time"))
        raw_of = itemgetter(*map(captured.index, sources))
        super().__init__(name, trace, RawKeys(trace.table, transforms), time_of, raw_of)

    def _has(self, source: str, captured: Sequence[str], sample: Iterable[bytes]) -> bool:
        group = captured.index(source) + 1
        return any((match := self._careful.match(line)) and match.group(group) is not None for line in sample)

    def records(self, block: bytes, count: int) -> Sequence[Record]:
        found = self._hasty.findall(block)
        if len(found) != count:
            raise ValueError("a line is odd")
        return found

    def record(self, line: bytes) -> Record:
        match = self._careful.match(line)
        if match is None:
            raise ValueError("not in the combined format")
        return match.groups(default=b"")


def _or_dash(text: bytes) -> bytes:
    return text or b"-"
