"""Time texts of log files -> nanoseconds since the Unix epoch."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from functools import lru_cache

NS = 1_000_000_000
MOST_NS = 2**63 - 1
"""The latest time, in the year 2262; the earliest is 0, the epoch."""

_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_MONTHS = {name: i for i, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_CLOCK = rb"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?"
_ZONE = rb"\s*(?:Z|z|UTC|GMT|([+-])(\d\d):?(\d\d)?)?"
_CLF = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):" + _CLOCK + _ZONE)
_ISO = re.compile(rb"(\d{4})[-/](\d\d)[-/](\d\d)[Tt _]" + _CLOCK + _ZONE)
_NUMBER = re.compile(rb"[+-]?\d{1,25}(?:\.\d*)?(?:[eE][+-]?\d{1,2})?")
_TIMES_MOST = 200_000


def time_ns(text: bytes) -> int:
    """A log's own time of any known kind; one without a zone is taken for UTC. Raises ValueError.

    "17/May/2015:10:05:03 +0000", ISO 8601 with at least minutes, or a number since the epoch: seconds below 1e10,
    milliseconds below 1e13, microseconds below 1e16, else nanoseconds.
    """
    text = text.strip()
    if match := _CLF.fullmatch(text):
        day, month, year, *rest = match.groups()
        return _moment(int(year), _MONTHS.get(month, 0), int(day), rest)
    if match := _ISO.fullmatch(text):
        year, month, day, *rest = match.groups()
        return _moment(int(year), int(month), int(day), rest)
    if _NUMBER.fullmatch(text):
        value = Decimal(text.decode())
        digits = 9 if value < 10**10 else 6 if value < 10**13 else 3 if value < 10**16 else 0
        return _in_range(int(value.scaleb(digits)))
    raise ValueError("not a time")


class Times(dict[object, int]):
    """Times as a reader finds them (bytes, str or int), each read once: `times[text]`; raises ValueError.

    Forgets all when it has many, so that a log with fractions of a second does not fill the memory.
    """

    def __missing__(self, time: object) -> int:
        if len(self) >= _TIMES_MOST:
            self.clear()
        text = time if isinstance(time, bytes) else str(time).encode("utf-8", "replace")
        if len(text) == 26 and text[11] == 58:  # a second in the common format, as nearly always
            try:
                ns = _midnight_ns(text[:11], text[20:]) + _clock_ns(text[12:20])
            except ValueError:  # not quite: the careful way decides
                ns = time_ns(text)
        else:
            ns = time_ns(text)
        self[time] = ns
        return ns


@lru_cache(256)
def _midnight_ns(day: bytes, zone: bytes) -> int:
    return time_ns(day + b":00:00:00" + zone)


@lru_cache(86_400)
def _clock_ns(clock: bytes) -> int:
    hour, minute, second = clock[:2], clock[3:5], clock[6:]
    digits = (hour + minute + second).isdigit()
    if not digits or clock[2::3] != b"::" or hour > b"23" or minute > b"59" or second > b"59":
        raise ValueError("not a time of day")
    return (int(hour) * 3600 + int(minute) * 60 + int(second)) * NS


@lru_cache(256)
def _day_ns(year: int, month: int, day: int) -> int:
    try:
        days = datetime.date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise ValueError(f"not a time: {error}") from None
    return days * 86_400 * NS


def _moment(year: int, month: int, day: int, rest: list[bytes | None]) -> int:
    """rest: hour, minute, second, fraction, and the zone's sign, hours and minutes. Second 60 is a leap second."""
    hour, minute, second, fraction, sign, zone_hour, zone_minute = (part or b"" for part in rest)
    if hour > b"23" or minute > b"59" or second > b"60" or zone_hour > b"23" or zone_minute > b"59":
        raise ValueError("not a time of day")
    seconds = int(hour) * 3600 + int(minute) * 60 + int(second or b"0")
    east = int(zone_hour or b"0") * 3600 + int(zone_minute or b"0") * 60
    seconds += east if sign == b"-" else -east
    return _in_range(_day_ns(year, month, day) + seconds * NS + int(fraction[:9].ljust(9, b"0")))


def _in_range(ns: int) -> int:
    if not 0 <= ns <= MOST_NS:
        raise ValueError("a time before 1970 or after 2262")
    return ns
