"""One line of an access log -> what the server was asked and how it answered, whatever stands around that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from penstock.adapters.identity import read_address
from penstock.replay.columns import ALIASES
from penstock.replay.times import Times

LINE_MOST = 65_536
"""Bytes of a line; a longer one cannot be read."""


class Entry(NamedTuple):
    """One request of a log.

    ns: since the epoch; number: of the line in its file, from 1 on; status: 0 where the line has none; size: bytes of
    the answer, or None; agent, referrer, user: None where the log does not tell, "" where it tells that there was none.
    """

    ns: int
    file: str
    number: int
    address: str
    method: str
    target: str
    status: int
    size: int | None
    agent: str | None
    referrer: str | None
    user: str | None

    @property
    def path(self) -> str:
        """Decoded, as servers hand it to applications."""
        path = self.target.partition("?")[0]
        return unquote_to_bytes(path).decode("utf-8", "replace") if "%" in path else path

    @property
    def query(self) -> str:
        """As it was sent."""
        return self.target.partition("?")[2]


class Lines:
    """Reads the lines of one file. Raises ValueError for a line that is no request."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._times = Times()

    def read(self, line: bytes, number: int) -> Entry:
        """The request that a line tells of."""
        if len(line) > LINE_MOST:
            raise ValueError(f"longer than {LINE_MOST:,} bytes")
        found: Fields | None = None
        for way in _WAYS:
            found = way(line)
            if found is not None:
                break
        if found is None:
            raise ValueError("not a request in a format that is known")
        address = _address(str(found.get("address") or ""))
        if address is None:
            raise ValueError("no address of a client")
        time = found["time"]
        ns = self._times[time if isinstance(time, (bytes, int)) else str(time)]
        status, size = str(found.get("status") or ""), str(found.get("size") or "")
        method, target = _asked(found)
        return Entry(
            ns,
            self.file,
            number,
            address,
            method,
            target,
            int(status) if status.isascii() and status.isdigit() and len(status) == 3 else 0,
            int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None,
            _text(found.get("user-agent")),
            _text(found.get("referrer")),
            _text(found.get("user")),
        )


Fields = Mapping[str, Any]
"""Of a line: time, address, request (or method and target), and what else it has, by the names of the replay's keys."""

_DATE = re.compile(rb"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?:[.,]\d+)?(?: [+-]\d{4})?)\] ")
_ANSWERED = re.compile(
    rb'"([^"\\]*(?:\\.[^"\\]*)*)" (\d{3}|-) (\d+|-)(?: "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)")?'
)
_QUOTES_WITHIN = re.compile(rb'"(.*?)" (\d{3}|-) (\d+|-)(?: "([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)")?')
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([\"\\]))")
_WORDS_MOST = 16
"""Words in front of a time that are looked at for the client's address."""
_METHOD = re.compile(r"[A-Z][A-Z_-]{1,31}")


def _common(line: bytes) -> Fields | None:
    """The common and combined formats, whatever stands in front: a virtual host, what syslog adds."""
    date = _DATE.search(line)
    if date is None:
        return None
    answered = _ANSWERED.match(line, date.end()) or _QUOTES_WITHIN.match(line, date.end())
    if answered is None:
        return None
    request, status, size, referrer, agent = answered.groups()
    words = line[: date.start()].decode("utf-8", "replace").split(maxsplit=_WORDS_MOST)
    clients = [place for place, word in enumerate(words) if ("." in word or ":" in word) and _address(word)]
    if not clients:
        return None
    # "HOST CLIENT IDENT USER" where the first two are addresses and two words follow, else the first is the client.
    first = clients[1] if clients[:2] == [0, 1] and len(words) >= 4 else clients[0]
    return {
        "time": date[1],
        "address": words[first],
        "user": words[first + 2] if len(words) == first + 3 else None,
        "request": _unescaped(request),
        "status": status.decode(),
        "size": size.decode(),
        "referrer": _unescaped(referrer),
        "user-agent": _unescaped(agent),
    }


_KUBERNETES = re.compile(rb"\S{1,64} std(?:out|err) [FP] (?=\{)")


def _json(line: bytes) -> Fields | None:
    """A JSON object, perhaps behind what a container's log puts in front."""
    text = line.strip()
    if not text.endswith(b"}"):
        return None
    prefix = _KUBERNETES.match(text)
    text = text[prefix.end() :] if prefix else text
    if not text.startswith(b"{"):
        return None
    try:
        row = json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None
    values: dict[str, Any] = {}
    for name, value in _leaves(row):
        values.setdefault(_plain(name), value)
    found = {}
    for field, aliases in ALIASES.items():
        for alias in aliases.split():
            value = values.get(alias)
            if value not in (None, "", "-"):
                found[field] = value
                break
    return found if "time" in found and "address" in found else None


def _leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Values that are not objects, five levels deep; of a list of one, as some servers write headers, that one."""
    if isinstance(value, dict) and depth < 5:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key, depth + 1)
    elif isinstance(value, list) and len(value) == 1 and not isinstance(value[0], (dict, list)):
        yield name, value[0]
    elif not isinstance(value, (dict, list)):
        yield name, value


@lru_cache(4096)
def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")


_BALANCER = re.compile(
    rb'(?:https?|h2|grpcs?|wss?) (\d{4}-\d\d-\d\dT\S{8,20}) \S+ (\S+) \S+ (?:\S+ ){3}(\d{3}|-) \S+ \S+ (\d+|-) '
    rb'"([^"\\]*(?:\\.[^"\\]*)*)" "([^"\\]*(?:\\.[^"\\]*)*)"'
)


_ORIGIN = re.compile(rb" [a-z]{2,5}://[^/ ]*")
"""What a balancer writes before each path; elsewhere it is a client that takes the server for a proxy."""


def _balancer(line: bytes) -> Fields | None:
    """AWS's application load balancers."""
    found = _BALANCER.match(line)
    if found is None:
        return None
    time, address, status, size, request, agent = found.groups()
    return {
        "time": time,
        "address": address.decode("latin-1"),
        "status": status.decode(),
        "size": size.decode(),
        "request": _ORIGIN.sub(b" ", request, count=1).decode("utf-8", "replace"),
        "user-agent": _unescaped(agent),
    }


_MOMENT = re.compile(
    rb"\[?(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
    rb"|\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)"
)
_LABELLED = re.compile(rb"\[?client:? \[?([0-9A-Fa-f:.]{3,45})", re.IGNORECASE)
_QUOTED_REQUEST = re.compile(rb'"([A-Z]{3,10} [^"]{1,8192}? HTTP/\d(?:\.\d)?)"')
_BARE_REQUEST = re.compile(
    rb"\b(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE)(?: https?)? "
    rb'(?:[A-Za-z0-9.:-]{1,255} )?"?(/[^" ]{0,8192})"?'
)
_STATUS = re.compile(rb"(?<![\w.:/-])([1-5]\d\d)(?![\w.:/-])")
_LABELLED_AGENT = re.compile(rb"\[useragent: ([^\]]{0,1024})\]", re.IGNORECASE)
_QUOTED = re.compile(rb'(?<!: )"([^"]{0,1024})"')
_PASSWORD = re.compile(rb'user "[^"]{0,256}"(?:: password mismatch| was not found)')


def _loose(line: bytes) -> Fields | None:
    """Lines of no format that is known: a time, an address and a request, found wherever they are."""
    moment = _MOMENT.search(line)
    request = _QUOTED_REQUEST.search(line) or _BARE_REQUEST.search(line)
    if moment is None or request is None:
        return None
    labelled = _LABELLED.search(line)
    words = islice(re.finditer(rb"[0-9A-Fa-f:.]{7,45}", line), 64)
    address = labelled[1].decode() if labelled else next((w[0].decode() for w in words if _address(w[0].decode())), "")
    found: dict[str, Any] = {"time": moment[1], "address": address}
    if len(request.groups()) == 1:
        found["request"] = request[1].decode("utf-8", "replace")
    else:
        found["method"], found["target"] = request[1].decode(), request[2].decode("utf-8", "replace")
    if _PASSWORD.search(line):
        found["status"] = "401"  # what a server that logs this has answered
    elif statuses := _STATUS.findall(line, moment.end(), request.start()) or _STATUS.findall(line, request.end())[:1]:
        found["status"] = statuses[-1].decode()  # some write it in front of the request, behind the upstream's
    rest = _QUOTED.findall(line, request.end())
    agent = _LABELLED_AGENT.search(line)
    if agent or rest:
        found["user-agent"] = (agent[1] if agent else rest[0]).decode("utf-8", "replace")
    return found


_WAYS: tuple[Callable[[bytes], Fields | None], ...] = (_common, _json, _balancer, _loose)


@lru_cache(16_384)
def _address(text: str) -> str | None:
    address = read_address(text)
    return None if address is None else str(address)


def _asked(found: Fields) -> tuple[str, str]:
    """Method and target; a request line that is none, as scanners send them, is a target as it is."""
    request = found.get("request")
    if request is None:
        target = found.get("target") or found.get("path")
        return str(found.get("method") or "GET"), "/" if target is None else str(target)
    request = str(request)
    method, space, rest = request.partition(" ")
    if not space or not _METHOD.fullmatch(method):
        return "-", request
    target, _, protocol = rest.rpartition(" ")
    target = target if target and protocol.startswith("HTTP/") else rest
    return method, target


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = str(value)
    return "" if text == "-" else text


def _unescaped(text: bytes | None) -> str | None:
    r"""What a server wrote as \x22, \" and \\, as it was sent."""
    if text is None:
        return None
    if b"\\" in text:
        text = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], text)
    return text.decode("utf-8", "replace")
