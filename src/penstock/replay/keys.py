"""Which fields of a line make its key: "address", "address/24,path", "user"; and keys as small numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError

Transform = Callable[[bytes], bytes]
Raw = bytes | str
"""A field's text as its reader found it."""

MISSING = 0xFFFF_FFFF
"""The number of a line without a key, where such lines are to be left out."""

_RAW_MOST = 1 << 20
"""Distinct raw texts remembered before all are forgotten: requests may carry a number that is never the same."""


class FieldError(PenstockError, ValueError):
    """A field that is not written as it must be, or that the log does not have."""


SYNONYMS = {
    "ip": "address", "addr": "address", "client": "address", "remote_addr": "address", "remote-addr": "address",
    "agent": "user-agent", "user_agent": "user-agent", "useragent": "user-agent", "ua": "user-agent",
    "referer": "referrer", "url": "target", "uri": "target", "verb": "method", "vhost": "host", "bytes": "size",
}  # fmt: skip
"""Other words for the fields of the common and combined formats."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a key. v4, v6: how many bits of an address are kept; None: the field as it is."""

    name: str
    v4: int | None = None
    v6: int | None = None

    def __str__(self) -> str:
        if self.v4 is None or self.v6 is None:
            return self.name
        return f"{self.name}/{self.v4}" if self.v6 == 64 else f"{self.name}/{self.v4}/{self.v6}"


def parse_key(text: str) -> tuple[Part, ...]:
    """Fields separated by commas, each perhaps an address with a prefix length. Raises FieldError.

    >>> parse_key("address/24,path")
    (Part(name='address', v4=24, v6=64), Part(name='path', v4=None, v6=None))
    """
    return tuple(_parse_part(part.strip(), text) for part in text.split(","))


def _parse_part(part: str, text: str) -> Part:
    name, *lengths = part.split("/")
    if not name:
        raise FieldError(f"key={text!r}: expected the name of a field between commas, such as 'address/24,path'")
    if not lengths:
        return Part(name)
    if len(lengths) > 2 or not all(re.fullmatch("[0-9]{1,3}", length) for length in lengths):
        raise FieldError(f"key={text!r}: {part!r} must be a field and a prefix length, such as 'address/24'")
    first, second = int(lengths[0]), int(lengths[1]) if lengths[1:] else None
    v4, v6 = (32, first) if second is None and first > 32 else (first, 64 if second is None else second)
    if v4 > 32 or v6 > 128:
        raise FieldError(f"key={text!r}: a prefix length must be at most 32 for IPv4 and 128 for IPv6")
    return Part(name, v4, v6)


def without_port(address: bytes) -> bytes:
    """Addresses such as "10.0.0.1:443" and "[2001:db8::1]:443" without their ports; anything else as it is."""
    if address.startswith(b"["):
        return address[1:].partition(b"]")[0]
    host, colon, port = address.rpartition(b":")
    return host if colon and b":" not in host and port.isdigit() and host.count(b".") == 3 else address


def network(address: bytes, v4: int, v6: int) -> bytes:
    """The network of an address, b"192.0.2.0/24"; an IPv4 address written as IPv6 is an IPv4 one.

    What is not an address stays as it is: some servers log names.
    """
    try:
        ip = ipaddress.ip_address(without_port(address).partition(b"%")[0].decode())
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    bits = v4 if ip.version == 4 else v6
    return str(ipaddress.ip_network((ip.packed, bits), strict=False)).encode()


def request_method(request: bytes) -> bytes:
    """Of a request line: "GET /a?b HTTP/1.1" -> "GET"; "-" where it is none."""
    method, space, _ = request.partition(b" ")
    return method if space else b"-"


def request_target(request: bytes) -> bytes:
    """Of a request line: "GET /a?b HTTP/1.1" -> "/a?b"; a line of another shape as it is."""
    _, space, rest = request.partition(b" ")
    target, _, protocol = rest.rpartition(b" ")
    return (target if target and protocol.startswith(b"HTTP/") else rest) if space else request


def request_path(request: bytes) -> bytes:
    """Of a request line: "GET /a?b HTTP/1.1" -> "/a"."""
    return path(request_target(request))


def request_protocol(request: bytes) -> bytes:
    """Of a request line: "GET /a?b HTTP/1.1" -> "HTTP/1.1"; "-" where it is none."""
    protocol = request.rpartition(b" ")[2]
    return protocol if protocol.startswith(b"HTTP/") else b"-"


def path(target: bytes) -> bytes:
    """What comes before the query: "/a?b" -> "/a"."""
    return target.partition(b"?")[0].partition(b"#")[0]


OF_REQUEST: dict[str, Transform] = {
    "method": request_method,
    "target": request_target,
    "path": request_path,
    "protocol": request_protocol,
}


def transform_of(part: Part, first: Transform | None = None) -> Transform | None:
    """What is done to a field's text to make it a part of the key: `first`, then the prefix; None for nothing."""
    if part.v4 is None or part.v6 is None:
        return first or (without_port if part.name == "address" else None)
    v4, v6 = part.v4, part.v6
    return lambda text: network(first(text) if first else text, v4, v6)


class KeyTable:
    """Every key seen and its number, from 0 on. skip_missing: a key with an empty part, or "-", has no number."""

    def __init__(self, skip_missing: bool = False) -> None:
        self._numbers: dict[tuple[bytes, ...], int] = {}
        self._skip_missing = skip_missing

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, key: tuple[bytes, ...]) -> int:
        """The number of `key`, a new one if it was never seen; MISSING."""
        if self._skip_missing and not {b"", b"-"}.isdisjoint(key):
            return MISSING
        return self._numbers.setdefault(key, len(self._numbers))

    def names(self) -> list[tuple[bytes, ...]]:
        """The keys in the order of their numbers."""
        return list(self._numbers)


class RawKeys(dict["Raw | tuple[Raw, ...]", int]):
    """From the raw texts of one reader, one text or a tuple of them, to the number of the key they make."""

    def __init__(self, table: KeyTable, transforms: Sequence[Transform | None]) -> None:
        super().__init__()
        self._table = table
        self._transforms = tuple(transforms)

    def __missing__(self, raw: Raw | tuple[Raw, ...]) -> int:
        texts = raw if isinstance(raw, tuple) else (raw,)
        key = tuple(
            transform(text) if transform else text
            for text, transform in zip(map(_as_bytes, texts), self._transforms, strict=True)
        )
        if len(self) >= _RAW_MOST:
            self.clear()
        number = self[raw] = self._table.number(key)
        return number


def _as_bytes(text: Raw) -> bytes:
    """Bytes of a log as they were; only JSON can bring surrogates that never were any."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
