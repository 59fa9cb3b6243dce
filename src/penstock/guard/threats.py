"""Which parts of a request are scanned, what is left out, and when what was found is evidence.

    threats = Threats(paranoia=1, exclude=[("/search", "q", "sqli")])
    threats.look(request, request.path)   # Evidence, or None

Scanned are the path, the names and values of the query, some headers, and the body as far as it is there: forms by
their pairs, JSON by its strings, multipart forms by their texts and file names, other text as it is. Bodies of other
types (images, archives) are not text and are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_plus

from penstock import _scan
from penstock.errors import shown
from penstock.guard.request import Request
from penstock.guard.scan import CONVICTS, KINDS, Finding
from penstock.guard.verdict import Evidence, Severity

Exclusion = tuple[str, str, str]
Pattern = str | Callable[[str], bool]

HEADERS: Mapping[str, float] = MappingProxyType({"user-agent": 1.0, "referer": 1.0, "cookie": 0.6})
"""The headers that are scanned, and what a point counts there: sites' cookies hold all sorts of things."""
FINDINGS_MOST = 16
"""Findings that evidence carries; points are counted of all."""
SUSPECTS_MOST = 512
"""Values with findings whose points are counted, where nothing is excluded: far more than convict, and a request of
thousands costs no more."""
NODES_MOST = 10_000
"""Values of a JSON body, or parts of a form, that are looked at."""
NAME_MOST = 60
"""Characters of a parameter's name that evidence tells."""

_REMEMBERED = 512  # characters of a header that is remembered with what was found in it

Rows = tuple[tuple[str, int, str, int, int], ...]


@lru_cache(2048)
def _header(value: str, paranoia: int) -> Rows:
    """Clients send the same user agent each time."""
    return _scan.scan(value, paranoia)


class Threats:
    """Scans requests. Safe from any thread once the patterns are added.

    paranoia: 1 to 4, as in scan. threshold: points from which on a request is evidence. exclude: (route prefix,
    parameter, kind) triples, "" for any; the parameter is a name of the query, the form or the JSON body, or
    "header:name", ":path" or ":body". body_most: bytes of a body, 0 for none. request_most: bytes of a request that are
    scanned in all, in the order path, query, headers, body. headers: names, and what points count there, 0 to 1.
    """

    def __init__(
        self,
        paranoia: int = 1,
        threshold: float = CONVICTS,
        *,
        exclude: Iterable[Exclusion] = (),
        body_most: int = 65_536,
        request_most: int = 262_144,
        headers: Mapping[str, float] = HEADERS,
    ) -> None:
        for name, value, least, most in (
            ("paranoia", paranoia, 1, 4),
            ("threshold", threshold, 1, 1000),
            ("body_most", body_most, 0, 1 << 30),
            ("request_most", request_most, 1, 1 << 30),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ValueError(f"Threats: {name}={shown(value)} must be a number, {least} to {most}")
        self.paranoia = int(paranoia)
        self.threshold = threshold
        self.body_most = body_most
        self.request_most = request_most
        self._exclude = tuple(_checked(one) for one in exclude)
        self._headers = tuple((name.lower(), _weight(name, weight)) for name, weight in headers.items())
        self._patterns: dict[str, tuple[Pattern, int]] = {}

    def add_pattern(self, name: str, pattern: Pattern, points: int = CONVICTS) -> None:
        """Looks for more: a literal, found in any case, or a function of a value that answers whether it is suspicious.

        name: tells it in the finding, whose kind is "custom". points: 1 to 1000. Asked of the path, the query, the
        headers and the body, as they came and once decoded; a slow function makes every request slow. Raises ValueError
        for a name that there is.
        """
        if not name or name in self._patterns:
            raise ValueError(f"add_pattern: name={shown(name)} must be new, and not empty")
        if not (callable(pattern) or (isinstance(pattern, str) and pattern)):
            raise TypeError(f"add_pattern: pattern={shown(pattern)} must be a text that is not empty, or a function")
        if isinstance(points, bool) or not isinstance(points, int) or not 1 <= points <= 1000:
            raise ValueError(f"add_pattern: points={shown(points)} must be a whole number, 1 to 1000")
        self._patterns = {**self._patterns, name: (pattern if callable(pattern) else pattern.lower(), points)}

    def look(self, request: Request, path: str) -> Evidence | None:
        """The evidence, when what the request contains has `threshold` points or more.

        path: what exclusions' route prefixes are compared with. The evidence's value is the points, its limit the
        threshold, its findings the first ones, with places in the values they were found in; its detail tells where.
        """
        scan, paranoia, left = _scan.scan, self.paranoia, self.request_most
        found: list[tuple[str, float, Rows]] = []
        rows = scan(request.path, paranoia)
        if rows:
            found.append((":path", 1.0, rows))
        left -= len(request.path)
        query = request.query
        if query and left > 0:
            self._pairs(query, left, found)
            left -= len(query)
        fields = request.fields
        for name, weight in self._headers:
            value = fields.get(name)
            if value and left > 0:
                self._in_header(name, value[:left], weight, found)
                left -= len(value)
        if request.body and self.body_most and left > 0:
            self._in_body(request, request.body[: min(left, self.body_most)], found)
        if self._patterns:
            self._ask_patterns(request, found)
        return self._judged(found, path) if found else None

    def _pairs(self, query: str | bytes, left: int, found: list[tuple[str, float, Rows]]) -> None:
        for name, _, of_name, of_value in _scan.scan_pairs(query, self.paranoia, left):
            found.append((unquote_plus(name.decode("utf-8", "replace")), 1.0, of_name + of_value))
            if self._enough(found):
                break

    def _enough(self, found: list[tuple[str, float, Rows]]) -> bool:
        """Whether no more need be looked for. With exclusions all are: the first ones may not count."""
        return len(found) >= SUSPECTS_MOST and not self._exclude

    def _in_header(self, name: str, value: str, weight: float, found: list[tuple[str, float, Rows]]) -> None:
        if name == "referer":
            value, _, query = value.partition("?")
            if query and (pairs := _scan.scan_pairs(query, self.paranoia)):
                found.extend(("header:referer", weight, of_name + of_value) for _, _, of_name, of_value in pairs)
        elif name == "cookie":  # pairs, too, and names with a value of their own
            for one in value.split(";", NODES_MOST):
                rows = _scan.scan(one.partition("=")[2] or one, self.paranoia)
                if rows:
                    found.append(("header:cookie", weight, rows))
                    if self._enough(found):
                        break
            return
        rows = _header(value, self.paranoia) if len(value) <= _REMEMBERED else _scan.scan(value, self.paranoia)
        if rows:
            found.append((f"header:{name}", weight, rows))

    def _in_body(self, request: Request, body: bytes, found: list[tuple[str, float, Rows]]) -> None:
        kind, _, rest = (request.header("content-type") or "").partition(";")
        kind = kind.strip().lower()
        if kind == "application/x-www-form-urlencoded":
            self._pairs(body, len(body), found)
        elif kind == "application/json" or kind.endswith("+json"):
            self._in_json(body, found)
        elif kind == "multipart/form-data":
            self._in_multipart(body, rest, found)
        elif not kind or kind.startswith("text/") or kind.endswith(("/xml", "+xml", "/javascript")):
            self._note(":body", body, found)

    def _note(self, name: str, value: str | bytes, found: list[tuple[str, float, Rows]]) -> None:
        rows = _scan.scan(value, self.paranoia)
        if rows:
            found.append((name, 1.0, rows))

    def _in_json(self, body: bytes, found: list[tuple[str, float, Rows]]) -> None:
        """Its strings and names; what is not JSON, or is cut off, is scanned as text."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            self._note(":body", body, found)
            return
        waiting: list[tuple[str, Any]] = [("", document)]
        for _ in range(NODES_MOST):
            if not waiting or self._enough(found):
                break
            name, value = waiting.pop()
            if isinstance(value, str):
                self._note(name or ":body", value, found)
            elif isinstance(value, list):
                waiting.extend((name, item) for item in value[:NODES_MOST])
            elif isinstance(value, dict):
                for key, item in value.items():
                    self._note(key or ":body", key, found)
                    if len(waiting) < NODES_MOST:
                        waiting.append((key, item))

    def _in_multipart(self, body: bytes, parameters: str, found: list[tuple[str, float, Rows]]) -> None:
        """The texts of its fields, and of files their names."""
        _, _, boundary = parameters.partition("boundary=")
        boundary = boundary.partition(";")[0].strip().strip('"')
        if not boundary:
            self._note(":body", body, found)
            return
        for part in body.split(b"--" + boundary.encode("latin-1", "replace"), NODES_MOST)[1:]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = _disposition(head, b"name") or ":body"
            file = _disposition(head, b"filename")
            self._note(name, name, found)
            self._note(name, content.removesuffix(b"\r\n") if file is None else file, found)

    def _ask_patterns(self, request: Request, found: list[tuple[str, float, Rows]]) -> None:
        """Each value as it came, and decoded where that is something else."""
        left = self.request_most
        parts = [(":path", request.path), (":query", request.query)]
        parts += [(f"header:{name}", request.header(name) or "") for name, _ in self._headers]
        if request.body and self.body_most:
            parts.append((":body", request.body[: self.body_most].decode("utf-8", "replace")))
        for part, value in parts:
            value = value[: max(left, 0)]
            left -= len(value)
            for form in dict.fromkeys((value, unquote_plus(value))) if value else ():
                folded = form.lower()
                for name, (pattern, points) in self._patterns.items():
                    if isinstance(pattern, str):
                        at = folded.find(pattern)
                        place = (at, at + len(pattern)) if at >= 0 else None
                    else:
                        place = (0, len(form)) if pattern(form) else None
                    if place is not None:
                        found.append((part, 1.0, (("custom", points, name, *place),)))

    def _judged(self, found: list[tuple[str, float, Rows]], path: str) -> Evidence | None:
        points, gravest, detail = 0.0, 0.0, ""
        told: list[Finding] = []
        once: set[tuple[str, str]] = set()
        for name, weight, rows in found:
            for row in rows:
                if self._excluded(path, name, row[0]) or (name, row[2]) in once:
                    continue
                once.add((name, row[2]))
                points += row[1] * weight
                if len(told) < FINDINGS_MOST:
                    told.append(Finding(*row))
                if row[1] * weight > gravest:
                    gravest = row[1] * weight
                    shown_name = name if len(name) <= NAME_MOST else name[:NAME_MOST] + "…"
                    detail = f"{row[0]} in {shown_name!a}: {row[2]}"
        if points < self.threshold or not told:
            return None
        severity = Severity.CRITICAL if points >= 2 * self.threshold else Severity.HIGH
        return Evidence("scan", severity, detail, points, self.threshold, findings=tuple(told))

    def _excluded(self, path: str, name: str, kind: str) -> bool:
        return any(
            path.startswith(route) and parameter in ("", name) and of in ("", kind)
            for route, parameter, of in self._exclude
        )


def _checked(one: Exclusion) -> Exclusion:
    route, parameter, kind = one
    if not (isinstance(route, str) and isinstance(parameter, str) and kind in ("", "custom", *KINDS)):
        kinds = ", ".join((*KINDS, "custom"))
        raise ValueError(f"Threats: exclude: {shown(one)} must be (route prefix, parameter, kind), the kind of {kinds}")
    return route, parameter, kind


def _weight(name: str, weight: float) -> float:
    if not 0 <= weight <= 1:
        raise ValueError(f"Threats: headers: {shown(name)} counts {shown(weight)}, and must count from 0 to 1")
    return weight


def _disposition(head: bytes, parameter: bytes) -> str | None:
    """A parameter of a part's content-disposition."""
    _, found, rest = head.partition(b" " + parameter + b'="')
    if not found:
        return None
    return rest.partition(b'"')[0].decode("utf-8", "replace")
