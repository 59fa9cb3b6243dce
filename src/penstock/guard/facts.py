"""The facts of a request that things are counted by, and their numbers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from penstock.adapters.identity import TEXT_MOST, group, read_address
from penstock.errors import shown
from penstock.guard.request import Request

if TYPE_CHECKING:
    from penstock.guard.geo import Geo

NAMES = (
    "address", "user", "session", "ja4", "account", "agent", "path", "endpoint", "network", "asn", "country",
    "fingerprint", "method", "target",
)  # fmt: skip
"""address: "ip:192.0.2.1", or "ip:2001:db8::/64", since who has one address of a /64 has them all. account: the user,
else the session. agent: User-Agent, "" where there is none. endpoint: the configured prefix that the path begins with,
else its first segment. network: the autonomous system where it is known, else the /24 or /48. fingerprint: six
headers that stay the same for one device. target: path and query."""
NUMBERS = {name: number for number, name in enumerate(NAMES)}
ADDRESS, USER, SESSION, JA4 = (NUMBERS[name] for name in ("address", "user", "session", "ja4"))
AGENT, PATH, ENDPOINT = NUMBERS["agent"], NUMBERS["path"], NUMBERS["endpoint"]
EXTRA_MOST = 8
"""Facts beside these that an application may have read from requests."""

DEVICE = (
    "user-agent", "accept-language", "dnt", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
)  # fmt: skip
"""Not Accept and Accept-Encoding: a browser's own differ between pages, pictures, films and calls."""

Fact = str | int | bytes | None
Facts = tuple[Fact, ...]
Extractor = Callable[[Request], Fact]

_JA4 = re.compile(r"[tqd](?:[0-9]{2}|s[23]|d[123])[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")
_REMEMBERED = 16_384
_PATHS_REMEMBERED = 4096


class Place(NamedTuple):
    """An address as it is counted. packed: 16 bytes, IPv4 as ::ffff:a.b.c.d; b"" where it is no address."""

    key: str | None
    network: str | None
    packed: bytes


def place_of(address: str | None) -> Place:
    """The address's key and network.

    >>> place_of("2001:db8::7")[:2]
    ('ip:2001:db8::/64', 'net:2001:db8::/48')
    """
    return _place_of(address if address is None or len(address) <= TEXT_MOST else address[: TEXT_MOST + 1])


@functools.lru_cache(_REMEMBERED)
def _place_of(address: str | None) -> Place:
    if not address:
        return Place(None, None, b"")
    read = read_address(address)
    if read is None:
        return Place(f"peer:{address[:TEXT_MOST]}", None, b"")
    if read.version == 4:
        network = ip_network((int(read) & ~0xFF, 24))
        return Place(f"ip:{read}", f"net:{network}", bytes(10) + b"\xff\xff" + read.packed)
    mask = (1 << 128) - (1 << 64)
    packed = read.packed if read.is_link_local else (int(read) & mask).to_bytes(16, "big")
    return Place(f"ip:{group(read)}", f"net:{ip_network((read.packed, 48), strict=False)}", packed)


def address_of(packed: bytes) -> str:
    """The key that `place_of` had for these 16 bytes."""
    if packed.startswith(bytes(10) + b"\xff\xff"):
        return "ip:" + ".".join(map(str, packed[12:]))
    return f"ip:{group(ip_network((packed, 128)).network_address)}"


_AS_THEY_ARE = frozenset(
    {"address", "account", "network", "agent", "path", "endpoint", "asn", "country", "method", "target"}
)


def subject(name: str, value: Fact) -> str:
    """What evidence calls a fact. Where it may be about a person its kind stands in front, since events hash what
    follows a colon and show the rest.

    >>> subject("user", "ada"), subject("address", "ip:192.0.2.1"), subject("endpoint", "/login")
    ('user:ada', 'ip:192.0.2.1', '/login')
    """
    return str(value) if name in _AS_THEY_ARE else f"{name}:{value!s}"


def is_ja4(text: str) -> bool:
    """Whether it is shaped like a JA4 (FoxIO, "JA4: TLS client fingerprinting", 2023).

    >>> is_ja4("t13d1516h2_8daaf6152771_02713d6af862")
    True
    """
    return len(text) == 36 and _JA4.fullmatch(text) is not None


class Endpoints:
    """The endpoint of a path: the longest of the given prefixes that it begins with, segment by segment.

    >>> Endpoints(["/api/v1", "/auth"]).of("/api/v1/users"), Endpoints([]).of("/shop/7")
    ('/api/v1', '/shop')
    """

    def __init__(self, prefixes: Iterable[str]) -> None:
        self.prefixes = tuple(sorted(set(prefixes), key=len, reverse=True))
        for prefix in self.prefixes:
            if not isinstance(prefix, str) or not prefix.startswith("/"):
                raise ValueError(f'endpoints: {shown(prefix)} must be the beginning of a path, such as "/api/v1"')
        self.of = functools.lru_cache(_PATHS_REMEMBERED)(self._of)

    def _of(self, path: str) -> str:
        for prefix in self.prefixes:
            if path.startswith(prefix) and (
                len(path) == len(prefix) or prefix.endswith("/") or path[len(prefix)] == "/"
            ):
                return prefix
        return "/" + path[1:65].partition("/")[0]


class Reader:
    """Reads a request's facts. extra: what else is read, by name; geo: where addresses are, if that is known; failed:
    told inside `except` which of `extra` failed, a fact that is then missing."""

    def __init__(
        self,
        endpoints: Endpoints,
        extra: Mapping[str, Extractor],
        geo: Geo | None,
        wanted: Sequence[str],
        failed: Callable[[str], object],
    ) -> None:
        if len(extra) > EXTRA_MOST:
            raise ValueError(f"extra: there are {len(extra)} facts; at most {EXTRA_MOST} can be added")
        for name in extra:
            if name in NUMBERS:
                raise ValueError(f"extra: {shown(name)} is a fact already; the facts are {', '.join(NAMES)}")
        self.endpoints = endpoints
        self.names = (*NAMES, *extra)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.geo = geo
        self._extra = tuple(extra.items())
        self._failed = failed
        self._device = "fingerprint" in wanted
        self._target = "target" in wanted
        self._endpoint = endpoints.of
        self._ja4 = functools.lru_cache(_REMEMBERED)(is_ja4)

    def _more(self, request: Request) -> Iterator[Fact]:
        for name, function in self._extra:
            fact = None
            try:
                fact = function(request)
                if fact is not None and not isinstance(fact, (str, int, bytes)):
                    raise TypeError(f"fact {name!r} must be str, int, bytes or None, not {type(fact).__name__}")
            except Exception:
                self._failed(f"fact {name}")
                fact = None
            yield fact

    def read(self, request: Request, place: Place) -> Facts:
        """The facts, None for those that the request does not have."""
        user, session, ja4, path = request.user, request.session, request.ja4, request.path
        fields = request.fields
        network = place.network
        if user is not None and not isinstance(user, str):  # an id that is a number is the same as a text
            user = str(user)
        if session is not None and not isinstance(session, str):
            session = str(session)
        asn = country = fingerprint = target = account = None
        if user is not None:
            account = f"user:{user}"
        elif session is not None:
            account = f"session:{session}"
        if ja4 is not None and not (isinstance(ja4, str) and len(ja4) == 36 and self._ja4(ja4)):
            ja4 = None
        if self.geo is not None and request.address is not None:
            where = self.geo.lookup(request.address)
            asn, country = where.asn, where.country
            if asn is not None:
                network = f"as:{asn}"
        if self._device and account is not None:
            fingerprint = "\n".join([fields.get(name, "") for name in DEVICE])
        if self._target:
            target = f"{path}?{request.query}" if request.query else path
        prefix = path if len(path) <= 512 else path[:512]
        facts = (
            place.key, user, session, ja4, account, fields.get("user-agent", ""), path, self._endpoint(prefix), network,
            asn, country, fingerprint, request.method, target,
        )  # fmt: skip
        return facts + tuple(self._more(request)) if self._extra else facts
