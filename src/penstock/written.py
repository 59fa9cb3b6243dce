"""Limits and keys as plain JSON values, and back: what segments and saved limiters say of themselves."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.keys import Key
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket, check_per

Tiers = dict[str | None, list[Limit]]
"""Limits by tier; None: those of calls without one."""

UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a JSON text that is not as it should be ends in."""

_KINDS: dict[str, type[Limit]] = {
    kind.__name__: kind for kind in (TokenBucket, SlidingWindow, SlidingLog, FixedWindow, Concurrency)
}


def write_tiers(tiers: Mapping[str | None, Sequence[Limit]]) -> list[Any]:
    """Limits by tier as a JSON value."""
    return [[tier, [_write_limit(limit) for limit in limits]] for tier, limits in tiers.items()]


def read_tiers(value: Any) -> Tiers:
    """The limits again. One of UNREADABLE for other values."""
    tiers: Tiers = {}
    for tier, limits in value:
        if not (tier is None or isinstance(tier, str)) or tier in tiers:
            raise ValueError(f"tier {tier!r}")
        tiers[tier] = [_read_limit(limit) for limit in limits]
    if not tiers:
        raise ValueError("no limits")
    return tiers


def _write_limit(limit: Limit) -> dict[str, Any]:
    fields = dataclasses.asdict(limit)
    per = fields.get("per")
    if isinstance(per, datetime.timedelta):
        fields["per"] = [per.days, per.seconds, per.microseconds]
    return {"kind": type(limit).__name__, **fields}


def _read_limit(value: Any) -> Limit:
    fields = dict(value)
    if isinstance(per := fields.get("per"), list):
        fields["per"] = datetime.timedelta(*per)
    return _KINDS[fields.pop("kind")](**fields)


def meaning(tiers: Mapping[str | None, Sequence[Limit]]) -> dict[str | None, list[tuple[Any, ...]]]:
    """What decides, however it was written: equal for limits that decide the same."""
    return {tier: [_meaning(limit) for limit in limits] for tier, limits in tiers.items()}


def _meaning(limit: Limit) -> tuple[Any, ...]:
    fields = dataclasses.asdict(limit)
    if "per" in fields:
        fields["per"] = check_per(fields["per"])
    if isinstance(limit, TokenBucket):
        fields["burst"] = limit.burst or limit.limit
    return (type(limit).__name__, *fields.values())


def wording(tiers: Mapping[str | None, Sequence[Limit]]) -> str:
    """Limits by tier on one line."""
    return "; ".join(("" if tier is None else f"{tier}: ") + ", ".join(map(repr, of)) for tier, of in tiers.items())


def write_key(key: Key) -> Any:
    """A key as a JSON value."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bytes):
        return {"bytes": key.hex()}
    if isinstance(key, int):
        return {"int": hex(key)}  # a JSON number may be read as another
    return [write_key(item) for item in key]


def read_key(value: Any) -> Key:
    """The key again. One of UNREADABLE for other values."""
    if isinstance(value, list):
        return tuple(_read_scalar(item) for item in value)
    return _read_scalar(value)


def _read_scalar(value: Any) -> str | bytes | int:
    if isinstance(value, str):
        return value
    ((kind, text),) = dict(value).items()
    if kind == "bytes":
        return bytes.fromhex(text)
    if kind == "int":
        return int(text, 16)
    raise ValueError(f"key {kind!r}")
