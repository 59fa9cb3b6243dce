"""Logs of rows with named columns: JSON lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

from penstock.replay.columns import Columns
from penstock.replay.keys import Part, Raw, RawKeys
from penstock.replay.reader import LINE_ERRORS, Reader, Record
from penstock.replay.trace import Trace

Path = tuple[str, ...]
"""Where a value lies in objects inside objects: ("request", "method")."""

# Numbers with a point stay text: a float would not keep the nanoseconds of a time.
_decode = json.JSONDecoder(parse_float=str).decode


class JsonReader(Reader):
    """One object a line; a field inside another is called "outer.inner". sample: some of the first lines.

    Raises FieldError for a field that is in none of them. A row that lacks a field of the key has "-" there.
    """

    def __init__(
        self,
        name: str,
        trace: Trace,
        sample: Sequence[bytes],
        parts: Sequence[Part],
        named: Mapping[str, str],
    ) -> None:
        rows = []
        for line in sample:
            with suppress(*LINE_ERRORS):
                rows.append({".".join(path): (path, value) for path, value in _leaves(self.record(line))})
        paths = {column: path for row in reversed(rows) for column, (path, _) in row.items()}
        columns = Columns(name, paths, [{column: value for column, (_, value) in row.items()} for row in rows], named)
        time_of = _time_of(columns.time(), paths)
        found = [columns.find(part) for part in parts]
        values = [_value_of(paths[column]) for column, _ in found]
        first = values[0]

        def raw_of(row: Record) -> Raw | tuple[Raw, ...]:
            return _text(first(row)) if len(values) == 1 else tuple([_text(value(row)) for value in values])

        super().__init__(name, trace, RawKeys(trace.table, [transform for _, transform in found]), time_of, raw_of)

    def records(self, block: bytes, count: int) -> Sequence[Record]:
        return list(map(self.record, block.split(b"\n")[:-1]))

    def record(self, line: bytes) -> Record:
        try:
            row = _decode(line.decode())
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None
        if type(row) is not dict:
            raise ValueError("not a JSON object")
        return row


def _leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """All values that are not objects themselves, with their paths, five levels deep."""
    if isinstance(value, dict) and len(path) < 5:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _value_of(path: Path) -> Callable[[Record], Any]:
    """What finds the value at `path` in a row, or None."""
    if len(path) == 1:
        key = path[0]
        return lambda row: row.get(key)

    def value(row: Record) -> Any:
        for key in path:
            if not isinstance(row, dict):
                return None
            row = row.get(key)
        return row

    return value


def _time_of(column: str, paths: Mapping[str, Path]) -> Callable[[Record], object]:
    """What finds a row's time, a text or a whole number."""
    find = _value_of(paths[column])

    def time_of(row: Record) -> object:
        value = find(row)
        if type(value) not in (str, int):
            raise ValueError(f"no time in field {column!r}")
        return value

    return time_of


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "-"
    if isinstance(value, list) and len(value) == 1:  # as some servers write headers
        return _text(value[0])
    return json.dumps(value)


class CsvReader(Reader):
    """Columns named by the first line of the file; one record a line, so that a quote left open spoils one line only.

    sample: the header and some of the lines behind it. Raises FieldError for a column that is not there.
    """

    def __init__(
        self,
        name: str,
        trace: Trace,
        sample: Sequence[bytes],
        parts: Sequence[Part],
        named: Mapping[str, str],
    ) -> None:
        self._delimiter = _delimiter(_decoded(sample[0]))
        self._header = header_of(sample[0])
        rows = []
        for line in sample[1:]:
            with suppress(*LINE_ERRORS):
                rows.append(dict(zip(self._header, self.record(line), strict=True)))
        columns = Columns(name, self._header, rows, named)
        found = [columns.find(part) for part in parts]
        time_of = itemgetter(self._header.index(columns.time()))
        raw_of = itemgetter(*(self._header.index(column) for column, _ in found))
        super().__init__(name, trace, RawKeys(trace.table, [transform for _, transform in found]), time_of, raw_of)
        self._before_header = True

    def read(self, block: bytes) -> None:
        while self._before_header and block:  # and it is no request
            line, _, block = block.partition(b"\n")
            self._line += 1
            self._before_header = not line.strip()
        if block:
            super().read(block)

    def records(self, block: bytes, count: int) -> Sequence[Record]:
        rows = _split(_decoded(block).split("\n")[:-1], self._delimiter)
        if len(rows) != count or {len(self._header)} != set(map(len, rows)):
            raise ValueError("a line is odd")
        return rows

    def record(self, line: bytes) -> Record:
        row = _split([_decoded(line)], self._delimiter)[0]
        if len(row) != len(self._header):
            raise ValueError(f"{len(row)} columns where the header has {len(self._header)}")
        return row


def _delimiter(header: str) -> str:
    """What separates the columns, to judge by the first line: the commonest of the usual signs."""
    return max(",;\t|", key=header.count)


def header_of(line: bytes) -> list[str]:
    """The names in the first line of a CSV file; nothing sensible when it is not one."""
    text = _decoded(line)
    try:
        return [name.strip() for name in _split([text], _delimiter(text))[0]]
    except ValueError:
        return []


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from None


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape").replace("\r\n", "\n").removesuffix("\r")
