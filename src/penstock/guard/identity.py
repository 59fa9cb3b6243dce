"""The client's address behind trusted proxies, from an ASGI scope or a WSGI environ."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.adapters.identity import Identity, Network, read_address


@functools.lru_cache(64)
def _identity(trusted: int | tuple[str | Network, ...], header: str) -> Identity:
    return Identity(trusted, header, v6=128)


def client_address(
    carrier: Mapping[str, Any], trusted: int | str | Iterable[str | Network] = (), header: str = "x-forwarded-for"
) -> str | None:
    """The client's address as text, or None where it cannot be told (a unix socket, a forged or too long chain).

    carrier: an ASGI scope or a WSGI environ. trusted: networks whose word counts, or how many proxies each request
    passes; without it the connection's peer is the client, whatever headers say. header: the one that the proxies
    write, "x-forwarded-for" or "forwarded". Only the nearest untrusted address from the right is believed. Raises
    ValueError for a trusted= or header= that cannot be read.

    >>> scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"6.6.6.6, 203.0.113.7")]}
    >>> client_address(scope, ["10.0.0.0/8"])
    '203.0.113.7'
    """
    if not isinstance(trusted, int):
        trusted = (trusted,) if isinstance(trusted, str) else tuple(trusted)
    identity = _identity(trusted, header)
    if "headers" in carrier:
        client = carrier.get("client")
        peer = client[0] if client else None
        headers = carrier["headers"]

        def lines(name: str) -> list[str]:
            wanted = name.encode("latin-1")
            return [value.decode("latin-1") for key, value in headers if key.lower() == wanted]

    else:
        peer = carrier.get("REMOTE_ADDR") or None

        def lines(name: str) -> list[str]:
            value = carrier.get("HTTP_" + name.upper().replace("-", "_"))
            return [value] if value else []

    key = identity.key(peer, lines)
    if key is None or not key.startswith("ip:"):
        return None
    found = read_address(key.removeprefix("ip:"))
    return None if found is None else str(found)
