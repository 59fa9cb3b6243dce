"""Decision: what a limiter answers, immutable and true when allowed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from penstock.sync.state import SyncState


class Decision(NamedTuple):
    """The answer to one call, all fields of one instant.

    allowed       the cost was taken (by `peek`: would be)
    limit         units that the limit speaking here admits at once
    remaining     units of it still left, after this call
    retry_after   seconds until the same call would be admitted if nobody else comes; 0 when allowed, infinite when
                  no wait is known to help (a cost above the limit, or a Concurrency limit that is held)
    reset_after   seconds until the key is as good as new if nobody else comes
    limit_index   which of the limiter's limits `limit` and `remaining` are of: the one that refuses longest, or,
                  when all admit, the one with the fewest units left

    With several limits retry_after and reset_after are the longest of all, so waiting that long is enough.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    limit_index: int

    def __bool__(self) -> bool:
        return self.allowed

    def headers(self) -> dict[str, str]:
        """The response headers most clients know: X-RateLimit-Limit, -Remaining and -Reset, and Retry-After.

        Reset and Retry-After are whole seconds from now, rounded up, so that whoever waits them out is not too early;
        Retry-After is there only on a refusal that a wait can help (RFC 9110, section 10.2.3).
        """
        headers = {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining)}
        if (reset := whole_seconds(self.reset_after)) is not None:
            headers["X-RateLimit-Reset"] = str(reset)
        if not self.allowed and (wait := whole_seconds(self.retry_after)) is not None:
            headers["Retry-After"] = str(max(1, wait))
        return headers


def whole_seconds(seconds: float) -> int | None:
    """Seconds rounded up, so that whoever waits them out is not too early; None where they are without end."""
    return None if seconds == math.inf else math.ceil(seconds)


class Stats(NamedTuple):
    """What a limiter has done and holds.

    admitted, denied  decisions (of any cost) since it was made
    evicted           keys that had to go, still owing, to make room for new ones
    live              keys that now have anything counted against them, under the limit that has most of them
    capacity          keys it is rated for
    bytes             memory of its tables, fixed; pages never touched take none
    sync              how it stands with Redis, a SyncState; None where its limits are not shared
    """

    admitted: int
    denied: int
    evicted: int
    live: int
    capacity: int
    bytes: int
    sync: SyncState | None = None


class TopKey(NamedTuple):
    """A key that stands out.

    fingerprint  64 bits, the key's only name here unless names are remembered
    name         the key itself with `remember_names=True`, else None
    denied       how often it was refused: never too low; too high by at most the count of the key it displaced
    spent        units now counted against it, by the limit under which they are the most
    """

    fingerprint: int
    name: object
    denied: int
    spent: int
