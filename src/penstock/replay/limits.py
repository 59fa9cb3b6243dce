"""Limits that a replay can try: those with a rate. What they admit at once, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.policy import compile_policies
from penstock.rate import FixedWindow, SlidingLog, SlidingWindow, TokenBucket, check_per, parse_rate
from penstock.replay.times import NS
from penstock.replay.wording import duration

RateLimit = TokenBucket | SlidingWindow | SlidingLog | FixedWindow

ALGORITHMS: dict[type[RateLimit], str] = {
    TokenBucket: "token-bucket",
    SlidingWindow: "sliding-window",
    SlidingLog: "sliding-log",
    FixedWindow: "fixed-window",
}
"""The names that Limiter knows them by."""

_PERIODS = (
    (365 * 86_400, "year"),
    (30 * 86_400, "month"),
    (86_400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)


def read_limits(texts: Iterable[str], algorithm: str) -> list[RateLimit]:
    """All limits of some rate strings, in order. Raises RateSyntaxError, or ValueError for refused numbers."""
    limits = [limit for text in texts for limit in parse_rate(text, algorithm) if isinstance(limit, RateLimit)]
    compile_policies([limits], 0)  # refuses what a limiter would refuse
    return limits


def at_once(limit: RateLimit) -> int:
    """Requests that a key can make without any being refused, however fast."""
    return limit.burst or limit.limit if isinstance(limit, TokenBucket) else limit.limit


def rate_text(limit: RateLimit) -> str:
    """A limit as a rate string: "10/second", "100 per 5 minutes", "100/second burst 200"."""
    per = check_per(limit.per)
    burst = f" burst {limit.burst}" if isinstance(limit, TokenBucket) and limit.burst else ""
    for size, unit in _PERIODS:
        if per % (size * NS) == 0:
            count = per // (size * NS)
            return (f"{limit.limit}/{unit}" if count == 1 else f"{limit.limit} per {count} {unit}s") + burst
    return f"{limit.limit} per {duration(per)}{burst}"
