"""Reads the fields of a request's body, and says exactly what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from penstock.errors import shown

REASON_MOST = 200
"""Characters of a reason."""
TEXT_MOST = 256


class Invalid(ValueError):
    """A field that is not as it must be. field: its name; the message has its value and the rule."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def fields(body: Mapping[str, Any], kinds: Mapping[str, str], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a body. kinds: field -> what it must be, one of the words below. Raises Invalid."""
    for name in body:
        if name not in kinds:
            raise Invalid(name, f"{shown(name)} is no field here; there are {', '.join(kinds)}")
    read = {}
    for name, kind in kinds.items():
        if name in body:
            rule, parse = _KINDS[kind]
            try:
                read[name] = parse(body[name])
            except ValueError:
                raise Invalid(name, f"{name}={shown(body[name])} must be {rule}") from None
        elif name not in optional:
            raise Invalid(name, f"{name} is missing; it must be {_KINDS[kind][0]}")
    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MOST:
        raise ValueError
    return value


def _reason(value: Any) -> str:
    if not isinstance(value, str) or len(value) > REASON_MOST or not value.isprintable():
        raise ValueError
    return value


def _address(value: Any) -> str:
    return str(ip_address(_text(value)))


def _network(value: Any) -> str:
    text = _text(value)
    return str(ip_network(text)) if "/" in text else str(ip_address(text))


def _id(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{16}", _text(value)):
        raise ValueError
    return str(value)


def _switch(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError
    return value


_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "address": ("an IPv4 or IPv6 address", _address),
    "network": ("an IPv4 or IPv6 address, or a network without bits set below its prefix", _network),
    "id": ("16 hexadecimal digits in lower case", _id),
    "reason": (f"printable text of at most {REASON_MOST} characters", _reason),
    "switch": ("true, false or null", _switch),
    "text": (f"text of 1 to {TEXT_MOST} characters", _text),
}
