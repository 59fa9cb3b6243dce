"""What `stats().sync` shows of the exchange with Redis."""

from __future__ import annotations

from typing import NamedTuple


class SyncState(NamedTuple):
    """How a limiter stands with Redis, as of this moment.

    connected       the last batch was answered
    mode            "normal"; or what holds while Redis is away: "share", "open" or "closed". With several partitions,
                    that of any that is not normal
    instances       how many are supposed to share the limits
    interval        seconds between two exchanges now; longer than asked for where round trips are long
    round_trip      seconds the last batch took; None before the first
    keys            keys in the last batch
    batches         batches answered
    unsettled       units admitted here that Redis has not confirmed, those on their way included
    leased          units leased and not used yet
    overuse         units seen admitted above a limit, by all instances, since the start
    repaid          how many of these are made up for by now
    duplicates      batches that had been applied already when they were sent again
    lost            times that Redis turned out to have lost writes
    error           what the last exchange failed with, while it fails, or what instances of this name do not agree on;
                    never with a password in it
    """

    connected: bool
    mode: str
    instances: int
    interval: float
    round_trip: float | None
    keys: int
    batches: int
    unsettled: int
    leased: int
    overuse: float
    repaid: float
    duplicates: int
    lost: int
    error: str | None
