"""What answers tell of limits: RateLimit and RateLimit-Policy as the IETF drafts them, X-RateLimit-*, Retry-After."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from penstock.decision import Decision, whole_seconds
from penstock.errors import shown
from penstock.rate import Concurrency, Limit

Style = Literal["both", "draft", "x", "none"]
"""Which families are sent: "draft" is RateLimit and RateLimit-Policy, "x" is X-RateLimit-*. Retry-After always is."""

STYLES = ("both", "draft", "x", "none")
_INTEGER_MOST = 10**15 - 1
"""The largest integer of a structured field (RFC 9651, section 3.3.1)."""


Fields = tuple[tuple[bytes, bytes], ...]
"""Headers, names in lower case."""

NAMES = {
    name.lower().encode("ascii"): name
    for name in (
        "RateLimit-Policy",
        "RateLimit",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "Retry-After",
    )
}
"""How people write the names."""


class Policy(NamedTuple):
    """The limits of one limiter as its answers call them.

    names   of each limit, as an item of a structured field: b'"login-1"'
    text    all of RateLimit-Policy that is theirs: b'"login-1";q=5;w=60, "login-2";q=100;w=86400'
    """

    names: tuple[bytes, ...]
    text: bytes


def check_style(style: object) -> None:
    """Raises ValueError for what is not one of STYLES."""
    if not isinstance(style, str) or style not in STYLES:
        raise ValueError(f"headers={shown(style)} must be one of {', '.join(map(repr, STYLES))}")


def check_name(name: object) -> None:
    """Raises for a policy's name that a structured field could not hold as it is."""
    if not isinstance(name, str) or not re.fullmatch(r"[ !#-\[\]-~]+", name):
        raise ValueError(f"name={shown(name)} must be printable ASCII without quotes and backslashes")


def policy(name: str, limits: Sequence[Limit]) -> Policy:
    """How `limits` are announced. q: units; w: in so many seconds, left out where that is no whole number.

    A token bucket is announced by its rate; its burst is what X-RateLimit-Limit says. Units of a Concurrency limit are
    "concurrent-requests". Of several limits each has a number behind the name.
    """
    names = [f'"{name}"'] if len(limits) == 1 else [f'"{name}-{number}"' for number in range(1, len(limits) + 1)]
    text = ", ".join(item + _parameters(limit) for item, limit in zip(names, limits, strict=True))
    return Policy(tuple(item.encode("ascii") for item in names), text.encode("ascii"))


def _parameters(limit: Limit) -> str:
    quota = f";q={min(limit.limit, _INTEGER_MOST)}"
    if isinstance(limit, Concurrency):
        return quota + ';qu="concurrent-requests"'
    window = limit.per if isinstance(limit.per, (int, float)) else limit.per.total_seconds()
    whole = window == int(window) and window <= _INTEGER_MOST
    return f"{quota};w={int(window)}" if whole else quota


def retry_after(decision: Decision) -> int | None:
    """The seconds of Retry-After, at least 1; None on an admission, and where no wait is known to help."""
    wait = None if decision.allowed else whole_seconds(decision.retry_after)
    return None if wait is None else max(1, wait)


def fields(style: Style, decided: Sequence[tuple[Policy, Decision]], speaking: Decision) -> Fields:
    """The headers of one answer.

    decided: what each limiter said; speaking: the one that X-RateLimit-* is about. In RateLimit, r is what is left and
    t the seconds until the key is as good as new, or, when it was refused, until it is worth trying again: the same
    instant as Retry-After. Seconds are rounded up, so that whoever waits them out is not too early.
    """
    allowed, limit, remaining, _, reset_after, _ = speaking
    if style == "none" and allowed:
        return ()
    reset, wait = whole_seconds(reset_after), None if allowed else retry_after(speaking)
    if len(decided) == 1:
        policy = decided[0][0]
        return _of_one(style, policy, speaking.limit_index, allowed, limit, remaining, reset, wait)
    policies = b", ".join([policy.text for policy, _ in decided])
    current = []
    for policy, one in decided:
        rest = whole_seconds(one.reset_after) if one else retry_after(one)
        current.append(_current(policy.names[one.limit_index], one.remaining, rest))
    return _lines(style, policies, b", ".join(current), limit, remaining, reset, wait)


@functools.lru_cache(4096)  # clients of one limit are told the same few things over and over
def _of_one(
    style: Style,
    policy: Policy,
    index: int,
    allowed: bool,
    limit: int,
    remaining: int,
    reset: int | None,
    wait: int | None,
) -> Fields:
    current = _current(policy.names[index], remaining, reset if allowed else wait)
    return _lines(style, policy.text, current, limit, remaining, reset, wait)


def _current(name: bytes, remaining: int, rest: int | None) -> bytes:
    """One limiter's item of RateLimit."""
    if remaining > _INTEGER_MOST:
        remaining = _INTEGER_MOST
    return b"%b;r=%d" % (name, remaining) if rest is None else b"%b;r=%d;t=%d" % (name, remaining, rest)


def _lines(
    style: Style, policies: bytes, current: bytes, limit: int, remaining: int, reset: int | None, wait: int | None
) -> Fields:
    found: list[tuple[bytes, bytes]] = []
    if style == "both" or style == "draft":
        found += ((b"ratelimit-policy", policies), (b"ratelimit", current))
    if style == "both" or style == "x":
        found += ((b"x-ratelimit-limit", b"%d" % limit), (b"x-ratelimit-remaining", b"%d" % remaining))
        if reset is not None:
            found.append((b"x-ratelimit-reset", b"%d" % reset))
    if wait is not None:
        found.append((b"retry-after", b"%d" % wait))
    return tuple(found)
