"""Key functions: from a call to what its limit counts by, or None where that cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from penstock.adapters.call import Call
from penstock.errors import shown

Key = str | bytes | int | tuple[str | bytes | int, ...]
KeyFunction = Callable[[Call], Key | None]

VALUE_MOST = 4096
"""Characters of a header that can be a key; a longer one cannot be told from any other."""

_JA4 = re.compile(r"[tqd](?:1[0-3]|s[1-3]|d[1-3]|00)[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}")


def address(call: Call) -> Key | None:
    """The client's address, IPv6 by its /64; what is believed of proxies is the application's `trusted`."""
    identity = call.identity
    key, trusted = identity.peer(call.peer)
    return identity.behind(key, call.lines) if trusted else key


def user(call: Call) -> Key | None:
    """Who has logged in."""
    name = call.user
    return None if name is None else f"user:{name}"


def everyone(call: Call) -> Key | None:
    """One key for all: a limit of the application as a whole."""
    return "everyone"


def path(call: Call) -> Key | None:
    """The path asked for; for `together`, where each path counts for itself."""
    return call.path


def method(call: Call) -> Key | None:
    """The method; for `together`."""
    return call.method


def header(name: str) -> KeyFunction:
    """The value of a header. Who may choose it chooses its key: for headers that a proxy sets or the handler checks."""
    name = _header_name(name)

    def by_header(call: Call) -> Key | None:
        value = _single(call, name)
        return None if value is None else f"{name}:{value}"

    return by_header


def api_key(name: str = "x-api-key") -> KeyFunction:
    """The API key in a header; of "authorization" what follows "Bearer". Only its digest is kept anywhere.

    An application that answers any key alike must limit by address as well: keys cost nothing to make up.
    """
    name = _header_name(name)

    def by_api_key(call: Call) -> Key | None:
        value = _single(call, name)
        if value is not None and name == "authorization":
            scheme, _, value = value.partition(" ")
            value = value.strip() if scheme.lower() == "bearer" else None
        return None if not value else "api-key:" + blake2b(value.encode(), digest_size=16).hexdigest()

    return by_api_key


def ja4(name: str = "x-ja4") -> KeyFunction:
    """The JA4 fingerprint of the client's TLS handshake, as a trusted proxy writes it into a header.

    None when the peer is no trusted proxy, or for anything that has not a fingerprint's form.
    """
    name = _header_name(name)

    def by_ja4(call: Call) -> Key | None:
        if not call.identity.peer(call.peer).trusted:
            return None
        value = _single(call, name)
        return f"ja4:{value}" if value is not None and _JA4.fullmatch(value) else None

    return by_ja4


def first(*functions: KeyFunction) -> KeyFunction:
    """The first that can tell: first(user, address) counts visitors by address until they log in."""
    _check_functions(functions)

    def by_first(call: Call) -> Key | None:
        for function in functions:
            key = function(call)
            if key is not None:
                return key
        return None

    return by_first


def together(*functions: KeyFunction) -> KeyFunction:
    """All of them as one key: together(address, path). None where one of them cannot tell."""
    _check_functions(functions)

    def by_all(call: Call) -> Key | None:
        parts: list[str | bytes | int] = []
        for function in functions:
            key = function(call)
            if key is None:
                return None
            if isinstance(key, tuple):
                parts += (len(key), *key)
            else:
                parts.append(key)
        return tuple(parts)

    return by_all


def _header_name(name: str) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"name={shown(name)} must be the name of a header")
    return name.lower()


def _single(call: Call, name: str) -> str | None:
    """A header that came once, with something in it, and not too much."""
    lines = call.lines(name)
    if len(lines) != 1:
        return None
    value = lines[0].strip()
    return value if 0 < len(value) <= VALUE_MOST else None


def _check_functions(functions: tuple[KeyFunction, ...]) -> None:
    if not functions or not all(map(callable, functions)):
        raise TypeError("key functions are needed, at least one, such as address")
