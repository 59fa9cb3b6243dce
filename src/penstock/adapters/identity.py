"""Whose request it is: the client's address from the connection's peer and, behind trusted proxies, from a header."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from penstock.errors import shown

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lines = Callable[[str], Sequence[str]]
"""The values of a request header, one for each line it came in, in their order; empty where there is none."""

UNIX = "unix"
"""Among the trusted proxies: whoever connects without an address, as through a unix socket."""

HOPS_MOST = 32
"""Hops of a chain looked at, from the right; a client may send as many as fit into a header."""
TEXT_MOST = 64
"""Characters of an address or a peer's name; the longest address, with its port and quotes, has 56."""
_ELEMENT_MOST = 1024
_REMEMBERED = 16_384

_NAT64 = ip_network("64:ff9b::/96")
_PORT = re.compile(r"[0-9]{1,5}|_[0-9A-Za-z._-]+")
_PAIR = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))[ \t]*(?:;|$)""", re.DOTALL
)


def read_address(text: str) -> Address | None:
    """An address as proxies write it: alone or with a port, in brackets, mapped into IPv6, with a zone; else None.

    The zone is dropped: what a client writes there means nothing here, and each would make another key.

    >>> read_address("[2001:db8::7]:443"), read_address("::ffff:192.0.2.1"), read_address("unknown")
    (IPv6Address('2001:db8::7'), IPv4Address('192.0.2.1'), None)
    """
    if len(text) > TEXT_MOST:
        return None
    host, port = text.strip(" \t"), ""
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            return None
        port = rest[1:] if rest else "0"
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    else:
        port = "0"
    if not _PORT.fullmatch(port):
        return None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def group(address: Address, v4: int = 32, v6: int = 64) -> str:
    """The network that stands for an address: who has one address of a /64 has them all.

    Link-local addresses (fe80::/10) stay whole, since all hosts of a link share their first 64 bits.

    >>> group(ip_address("192.0.2.1")), group(ip_address("2001:db8::7"))
    ('192.0.2.1', '2001:db8::/64')
    """
    bits, most = (v4, 32) if address.version == 4 else (v6, 128)
    if bits == most or (address.version == 6 and address.is_link_local):
        return str(address)
    return str(ip_network((address.packed, bits), strict=False))


def forwarded_hops(lines: Sequence[str]) -> Iterable[str]:
    """The hops of X-Forwarded-For or a like list, from the right: the nearest proxy's word first."""
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            start = line.rfind(",", 0, end) + 1
            yield line[start:end] if end - start <= TEXT_MOST else ""
            end = start - 1


def standard_hops(lines: Sequence[str]) -> Iterable[str]:
    """The nodes of Forwarded (RFC 7239), from the right; "" for an element that is malformed or names none.

    Read from the right, so that a quote left open by a client hides nothing that a proxy added after it.
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            start = line.rfind(",", 0, end) + 1
            while start and end - start <= _ELEMENT_MOST and line.count('"', start, end) % 2:
                start = line.rfind(",", 0, start - 1) + 1
            yield _node(line[start:end]) if end - start <= _ELEMENT_MOST else ""
            end = start - 1


def _node(element: str) -> str:
    """The value of `for` in one element of Forwarded."""
    found: str | None = None
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return ""
        if pair[1].lower() == "for":
            if found is not None:
                return ""
            found = pair[2] if pair[2] is not None else pair[3]
        position = pair.end()
    return found or ""


class Peer(NamedTuple):
    """What is known of the other end of a connection. key: as a client; None where it has no name that could be one."""

    key: str | None
    trusted: bool


class Identity:
    """How clients are told apart by address.

    trusted  proxies whose word counts: networks ("10.0.0.0/8", "unix" for peers without an address), or how many
             proxies each request passes (an int)
    header   the one header they write: "x-forwarded-for", "forwarded", or one with a single address such as
             "cf-connecting-ip". Others are never read, since proxies pass on what they don't write themselves
    v4, v6   bits of an address that make a client

    Without trusted proxies the client is the connection's peer. With networks it is the first address from the right
    that is not one of theirs, the peer being the rightmost; with a number it is so many places left of the peer. Where
    a server has put the client in the peer's place already (uvicorn's --proxy-headers), networks look no further.

    >>> Identity(trusted=["10.0.0.0/8"]).key("10.0.0.1", lambda name: ["198.51.100.9, 203.0.113.7"])
    'ip:203.0.113.7'
    """

    __slots__ = ("_hops", "_networks", "_of_hop", "_unix", "header", "peer", "v4", "v6")

    def __init__(
        self,
        trusted: int | Iterable[str | Network] = (),
        header: str = "x-forwarded-for",
        v4: int = 32,
        v6: int = 64,
    ) -> None:
        self._hops, self._networks, self._unix = _read_trusted(trusted)
        if not isinstance(header, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header):
            raise ValueError(f"header={shown(header)} must be the name of a header")
        for name, bits, most in (("v4", v4, 32), ("v6", v6, 128)):
            if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= most:
                raise ValueError(f"{name}={shown(bits)} must be a prefix length, 1 to {most}")
        self.header, self.v4, self.v6 = header.lower(), v4, v6
        self.peer = functools.lru_cache(_REMEMBERED)(self._look_up)
        self._of_hop = functools.lru_cache(_REMEMBERED)(self._read_hop)

    def key(self, peer: str | None, lines: Lines) -> str | None:
        """The client's key, "ip:192.0.2.1" or "ip:2001:db8::/64"; None where it cannot be told.

        peer: as the server gives it. What is no address ("testclient") is a key of its own class, "peer:testclient".
        lines: reads a header of the request; not asked where no proxy is trusted.
        """
        key, trusted = self.peer(peer)
        return self.behind(key, lines) if trusted else key

    def _look_up(self, peer: str | None) -> Peer:
        if peer is None or not peer or len(peer) > TEXT_MOST:
            return Peer(None, self._hops > 0 or self._unix)
        address = read_address(peer)
        if address is None:
            return Peer(f"peer:{peer}", self._hops > 0)
        if "%" in peer and address.version == 6 and address.is_link_local:  # the interface: part of who it is
            return Peer(f"ip:{address}%{peer.partition('%')[2]}", self._hops > 0 or self._trusts(address))
        return Peer(self._name(address), self._hops > 0 or self._trusts(address))

    def _trusts(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)

    def _name(self, address: Address) -> str:
        return "ip:" + group(address, self.v4, self.v6)

    def _read_hop(self, text: str) -> Peer:
        address = read_address(text)
        return Peer(None, False) if address is None else Peer(self._name(address), self._trusts(address))

    def behind(self, nearest: str | None, lines: Lines) -> str | None:
        """The client behind a trusted peer, whose own key is `nearest`."""
        written = lines(self.header)
        hops = standard_hops(written) if self.header == "forwarded" else forwarded_hops(written)
        for count, hop in enumerate(hops, 1):
            if count > HOPS_MOST:
                return None
            key, trusted = self._of_hop(hop)
            if self._hops:
                if count == self._hops:
                    return key
            elif key is None or not trusted:
                return key
            nearest = key
        return None if self._hops else nearest


def _read_trusted(trusted: int | Iterable[str | Network]) -> tuple[int, tuple[Network, ...], bool]:
    """(proxies each request passes, networks, whether a peer without an address is trusted)."""
    if isinstance(trusted, int):
        if isinstance(trusted, bool) or not 0 <= trusted <= HOPS_MOST:
            raise ValueError(f"trusted={shown(trusted)} must be networks, or a number of proxies, 0 to {HOPS_MOST}")
        return trusted, (), False
    if isinstance(trusted, str):
        trusted = (trusted,)
    networks, unix = [], False
    for one in trusted:
        if one == UNIX:
            unix = True
            continue
        try:
            network = one if isinstance(one, (IPv4Network, IPv6Network)) else ip_network(one)
        except ValueError as error:
            rule = "must be a network such as '10.0.0.0/8', or 'unix'"
            raise ValueError(f"trusted: {shown(one)} {rule} ({error})") from None
        networks.append(network)
    return 0, tuple(networks), unix
