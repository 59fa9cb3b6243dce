"""The answers to refused requests: status, headers and a short JSON body for each kind of refusal."""

from __future__ import annotations

import functools
import json
import math
from typing import NamedTuple

from penstock.errors import shown

Fields = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """What is sent in the application's place."""

    status: int
    headers: Fields
    body: bytes


class _Kind(NamedTuple):
    """status: 429 where waiting helps, 403 where it does not, 503 where a rule could not be asked."""

    status: int
    error: str
    detail: str


_DENIED = "Access denied by security policy"

KINDS = {
    "rate_limited": _Kind(429, "Too many requests", "Rate limit exceeded"),
    "in_flight": _Kind(429, "Too many requests", "Too many requests at once"),
    "ddos_blocked": _Kind(429, "Request blocked by DDoS protection", "Too many requests from this client"),
    "ip_blocked": _Kind(403, _DENIED, "IP is blacklisted"),
    "banned": _Kind(403, _DENIED, "Banned for a time"),
    "unidentified": _Kind(403, _DENIED, "Client could not be identified"),
    "threat_detected": _Kind(403, "Request blocked by threat detection", "The request looks like an attack"),
    "bypass_detected": _Kind(403, _DENIED, "Attempt to get around the limits"),
    "challenge": _Kind(403, "Challenge required", "Solve the challenge and try again"),
    "unavailable": _Kind(503, "Service unavailable", "The request could not be checked"),
}
"""The kinds of refusals; each is the `type` of its body."""

WAIT_MOST = 10**9
"""Seconds; a longer wait, or an endless one, is no advice and is left out."""


def respond(
    kind: str,
    retry_after: float | None = None,
    limit: int | None = None,
    remaining: int | None = None,
    reset: float | None = None,
) -> Answer:
    """The answer to a refusal: (status, headers, body).

    kind: one of KINDS. retry_after: seconds until it is worth trying again, rounded up and at least 1; None where
    waiting does not help, and then neither the header nor the body speaks of it. limit, remaining, reset: what
    X-RateLimit-* say, of the limit that refused: units, units, and seconds from now until it is as good as new, as
    everywhere in this package; each is left out where it is None.

    >>> respond("rate_limited", 59.2).body
    b'{"error":"Too many requests","detail":"Rate limit exceeded","type":"rate_limited","retry_after":60}'

    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={shown(kind)} must be one of {', '.join(KINDS)}")
    return _respond(kind, _seconds(retry_after, 1), limit, remaining, _seconds(reset, 0))


def _seconds(seconds: float | None, least: int) -> int | None:
    """Whole seconds, rounded up, so that whoever waits them out is not too early."""
    if seconds is None or not seconds <= WAIT_MOST:
        return None
    return max(least, math.ceil(seconds))


@functools.lru_cache(4096)  # a flood is told the same few things over and over
def _respond(kind: str, wait: int | None, limit: int | None, remaining: int | None, reset: int | None) -> Answer:
    status, error, detail = KINDS[kind]
    words: dict[str, str | int] = {"error": error, "detail": detail, "type": kind}
    headers = [("Content-Type", "application/json")]
    if wait is not None:
        words["retry_after"] = wait
        headers.append(("Retry-After", str(wait)))
    for name, value in (("Limit", limit), ("Remaining", remaining), ("Reset", reset)):
        if value is not None:
            headers.append((f"X-RateLimit-{name}", str(value)))
    body = json.dumps(words, separators=(",", ":")).encode()
    headers += [("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
    return Answer(status, tuple(headers), body)


@functools.lru_cache(4096)
def encoded(headers: Fields) -> tuple[tuple[bytes, bytes], ...]:
    """Headers as ASGI has them: bytes, names in lower case."""
    return tuple([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers])
