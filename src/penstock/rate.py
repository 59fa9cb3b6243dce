"""Limits as users write them: five small classes, and rate strings such as "5/minute; 100/day"."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Literal

from penstock.errors import RateSyntaxError, shown

NS = 1_000_000_000
YEAR_NS = 365 * 86_400 * NS

LIMITS_MOST = 8
"""So many limits decide together on one limiter."""

COUNT_MOST = 2**53
"""The largest limit, burst and cost: beyond it a JSON number is no longer exact."""

Per = float | datetime.timedelta


def check_count(name: str, value: object, least: int = 1) -> int:
    """`value` as an int in least..COUNT_MOST; TypeError or ValueError that names it. bool is refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    number = int.__index__(value)  # of a subclass the plain int, whatever its own methods say
    if not least <= number <= COUNT_MOST:
        raise ValueError(f"{name}={shown(number)} must be between {least} and 2**53")
    return number


def check_per(value: object) -> int:
    """A period in seconds or as a timedelta -> nanoseconds, 1 us to 4 years."""
    if isinstance(value, datetime.timedelta):
        ns = (value.days * 86_400 + value.seconds) * NS + value.microseconds * 1000
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"per must be seconds (int or float) or a timedelta, not {type(value).__name__}")
    elif not 0 < value < YEAR_NS:  # nan too; what is left can be converted
        ns = 0
    else:
        ns = value * NS if isinstance(value, int) else round(value * NS)
    if not 1_000 <= ns <= 4 * YEAR_NS:
        raise ValueError(f"per={shown(value)} must be between one microsecond and 4 years")
    return ns


@dataclasses.dataclass(frozen=True, slots=True)
class TokenBucket:
    """`limit` tokens per `per`, and room for `burst` of them (default: limit).

    Any interval of length t admits at most burst + t * limit / per. One word of memory for each key: the algorithm to
    take unless there is a reason for another. limit and burst: 1 .. 2**53; per: seconds or a timedelta; a rate of at
    most one token per nanosecond, and at most 2 years to refill a burst above limit.
    """

    limit: int
    per: Per = 1
    burst: int | None = None

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        per_ns = check_per(self.per)
        if self.burst is not None:
            check_count("burst", self.burst)
        if self.limit > per_ns:
            raise ValueError(f"limit={self.limit} per {self.per!r} is more than one token per nanosecond")
        if self.burst is not None and self.burst > self.limit and self.burst * per_ns > 2 * YEAR_NS * self.limit:
            rate = f"limit={self.limit} per {self.per!r}"
            raise ValueError(f"burst={self.burst} must be refilled within 2 years at {rate}")


@dataclasses.dataclass(frozen=True, slots=True)
class SlidingWindow:
    """At most `limit` in any interval of length `per`: no burst at a boundary, ever.

    Counted in `resolution` (1 .. 60) sub-windows: nothing that fits in per * (1 + 1/resolution) is refused. Memory for
    each key: 16 + 8 * resolution bytes.
    """

    limit: int
    per: Per
    resolution: int = 6

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        check_per(self.per)
        check_count("resolution", self.resolution)
        if self.resolution > 60:
            raise ValueError(f"resolution={self.resolution} must be between 1 and 60")


@dataclasses.dataclass(frozen=True, slots=True)
class SlidingLog:
    """Exactly `limit` in any interval of length `per`, by the times of the last `limit` admissions.

    Memory for each key: 24 + 8 * limit bytes, so limit is at most 65536.
    """

    limit: int
    per: Per

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        check_per(self.per)
        if self.limit > 65_536:
            raise ValueError(f"limit={self.limit} must be at most 65536 for a log: a SlidingWindow needs less memory")


@dataclasses.dataclass(frozen=True, slots=True)
class FixedWindow:
    """At most `limit` in each window of length `per`: the cheapest to explain, up to 2 * limit around a boundary.

    align: "epoch", windows start on multiples of `per` since the Unix epoch (as of the limiter's making); "first", with
    the key's first hit.
    """

    limit: int
    per: Per
    align: Literal["epoch", "first"] = "epoch"

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        check_per(self.per)
        if self.align not in ("epoch", "first"):
            raise ValueError(f'align={shown(self.align)} must be "epoch" or "first"')


@dataclasses.dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `limit` units held at once: take them with `hold`, or with `hit` and `refund`."""

    limit: int

    def __post_init__(self) -> None:
        check_count("limit", self.limit)


Limit = TokenBucket | SlidingWindow | SlidingLog | FixedWindow | Concurrency
Algorithm = Literal["token-bucket", "sliding-window", "sliding-log", "fixed-window"]

_ALGORITHMS: dict[str, type[TokenBucket] | type[SlidingWindow] | type[SlidingLog] | type[FixedWindow]] = {
    "token-bucket": TokenBucket,
    "sliding-window": SlidingWindow,
    "sliding-log": SlidingLog,
    "fixed-window": FixedWindow,
}

_UNITS = {
    name: seconds
    for seconds, names in {
        1: "s sec secs second seconds",
        60: "m min mins minute minutes",
        3600: "h hr hrs hour hours",
        86_400: "d day days",
        30 * 86_400: "mo mon month months",
        365 * 86_400: "y yr yrs year years",
    }.items()
    for name in names.split()
}

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"[0-9]+")
_SLASH = re.compile(r"/|per\b", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[a-zA-Z]+")
_BURST = re.compile(r"burst\b\s*=?", re.IGNORECASE | re.ASCII)
_SEPARATOR = re.compile(r"[;,|]")


def check_algorithm(algorithm: object) -> None:
    """Raises ValueError for what is not the name of an algorithm."""
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm={shown(algorithm)} must be one of {', '.join(map(repr, _ALGORITHMS))}")


class _Reader:
    """Reads a rate string from left to right, and knows where it stands for the error message."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, _SPACE.match(self.text, self.position).end())  # type: ignore[union-attr]
        if match is None:
            return None
        self.position = match.end()
        return match.group()

    def fail(self, reason: str) -> RateSyntaxError:
        position = _SPACE.match(self.text, self.position).end()  # type: ignore[union-attr]
        return RateSyntaxError(self.text, position, reason)

    def number(self, what: str) -> int:
        before = self.position
        digits = self.take(_NUMBER)
        if digits is None:
            raise self.fail(f"expected {what}, a whole number")
        if len(digits) > 1000 or not 1 <= int(digits) <= COUNT_MOST:
            self.position = before
            raise self.fail(f"{what} must be between 1 and 2**53")
        return int(digits)

    def ended(self) -> bool:
        return _SPACE.match(self.text, self.position).end() == len(self.text)  # type: ignore[union-attr]


def parse_rate(text: str, algorithm: str = "token-bucket") -> tuple[Limit, ...]:
    """The limits that a rate string names, in its order.

    "<count>/<unit>" or "<count> per [<multiple>] <unit>", with "burst <count>" behind it for a token bucket, and ";",
    "," or "|" between several. Units: second minute hour day month (30 days) year (365 days), their plurals, and s sec
    m min h hr d mo mon y yr; upper case too. Raises RateSyntaxError with the place marked; ValueError for an unknown
    algorithm or for numbers that the algorithm refuses.

    >>> parse_rate("5/minute; 100 per 2 hours")
    (TokenBucket(limit=5, per=60, burst=None), TokenBucket(limit=100, per=7200, burst=None))
    """
    if not isinstance(text, str):
        raise TypeError(f"a rate must be a str such as '10/second', not {type(text).__name__}")
    check_algorithm(algorithm)
    reader = _Reader(text)
    limits = [_read_limit(reader, algorithm)]
    while not reader.ended():
        if reader.take(_SEPARATOR) is None:
            burst = ", or 'burst'" if algorithm == "token-bucket" else ""
            raise reader.fail(f"expected ';', ',' or '|' between rates{burst}")
        if reader.ended():
            break
        if len(limits) == LIMITS_MOST:
            raise reader.fail(f"a limiter has at most {LIMITS_MOST} limits")
        limits.append(_read_limit(reader, algorithm))
    return tuple(limits)


def _read_limit(reader: _Reader, algorithm: str) -> Limit:
    limit = reader.number("the count")
    if reader.take(_SLASH) is None:
        raise reader.fail("expected '/' or 'per' after the count")
    multiple = 1
    if reader.take(re.compile(r"(?=[0-9])")) is not None:
        multiple = reader.number("the number of units")
    before = reader.position
    unit = reader.take(_WORD)
    if unit is None or unit.lower() not in _UNITS:
        reader.position = before
        raise reader.fail("expected a unit: second, minute, hour, day, month or year")
    per = multiple * _UNITS[unit.lower()]
    if reader.take(_BURST) is None:
        return _ALGORITHMS[algorithm](limit, per)
    if algorithm != "token-bucket":
        raise reader.fail(f"'burst' belongs to a token bucket, not to algorithm={algorithm!r}")
    return TokenBucket(limit, per, reader.number("the burst"))
