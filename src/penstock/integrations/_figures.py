"""What metrics of a limiter are called, what they mean, and how they are read: one table for every exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from penstock.decision import Stats
from penstock.limiter import Limiter


class Figure(NamedTuple):
    """One metric. name: without prefix and suffix; total: it only grows; of: its value, None where there is none."""

    name: str
    unit: str
    total: bool
    help: str
    of: Callable[[Stats], float | None]


FIGURES = (
    Figure("admitted", "", True, "Calls that were admitted", lambda stats: stats.admitted),
    Figure("denied", "", True, "Calls that were refused", lambda stats: stats.denied),
    Figure("evicted", "", True, "Keys that went, still owing, to make room", lambda stats: stats.evicted),
    Figure("live", "keys", False, "Keys that have anything counted against them", lambda stats: stats.live),
    Figure("capacity", "keys", False, "Keys the tables are rated for", lambda stats: stats.capacity),
    Figure("table", "bytes", False, "Memory of the tables", lambda stats: stats.bytes),
    Figure(
        "sync_connected", "", False, "Whether the last exchange with Redis was answered, 1 or 0",
        lambda stats: None if stats.sync is None else float(stats.sync.connected),
    ),
    Figure(
        "sync_round_trip", "seconds", False, "Duration of the last exchange with Redis",
        lambda stats: None if stats.sync is None else stats.sync.round_trip,
    ),
    Figure(
        "sync_unsettled", "units", False, "Units admitted here that Redis has not confirmed",
        lambda stats: None if stats.sync is None else stats.sync.unsettled,
    ),
    Figure(
        "sync_overuse", "", True, "Units seen admitted above a limit by all instances",
        lambda stats: None if stats.sync is None else stats.sync.overuse + stats.sync.repaid,
    ),
)  # fmt: skip


def named(limiters: Mapping[str, Limiter] | Iterable[Limiter]) -> dict[str, Limiter]:
    """Limiters by the name they are reported under: the mapping's, or their own.

    Raises ValueError for a limiter without a name and for a name given twice, TypeError for what is no limiter.
    """
    if isinstance(limiters, Mapping):
        found = dict(limiters)
    else:
        found = {}
        for limiter in limiters:
            name = getattr(limiter, "name", None)
            if not isinstance(name, str):
                raise ValueError(f"{limiter!r} has no name to be reported under: give one, or a mapping of names")
            if name in found:
                raise ValueError(f"limiters has the name {name!r} twice")
            found[name] = limiter
    for name, limiter in found.items():
        if not isinstance(name, str) or not isinstance(limiter, Limiter):
            kind = type(limiter).__name__
            raise TypeError(f"limiters must be Limiters, or map names to them, not {name!r} to {kind}")
    return found
