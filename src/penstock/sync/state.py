"""What `stats().sync` shows of the exchange with Redis."""

from __future__ import annotations

from typing import NamedTuple


class SyncState(NamedTuple):
    """How a limiter stands with Redis, as of this moment.

    connected       the last batch was answered
    mode            "normal"; or what holds while Redis is away: "share", "open" or "closed". With several partitions,
                    that of any that is not normal. "host" where another process of the host exchanges for this one:
                    then only the mode and the instances are known
    instances       how many are supposed to share the limits
    interval        seconds between two exchanges now; longer than asked for where round trips are long
    round_trip      seconds the last batch took; None before the first
    keys            keys in the last batch
    batches         batches answered
    unsettled       units admitted here that Redis has not confirmed: those on their way, and while it is away those of
                    the outage, included
    leased          units leased and not used yet
    overuse         units that buckets stand below empty now, as far as was seen: admitted by all instances above a
                    limit, and not made up for yet
    repaid          units that were below empty since the start, and are made up for
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
