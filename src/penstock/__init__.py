"""An exact rate limiter that decides in tens of nanoseconds, in bounded memory, without a lock.

>>> from penstock import Limiter
>>> login = Limiter("5/minute; 100/day")
>>> login.hit("user:ada")
True
"""

from penstock._backend import native
from penstock.decision import Decision, Stats, TopKey
from penstock.errors import (
    CostTooLarge,
    PenstockError,
    RateLimited,
    RateSyntaxError,
    SegmentError,
    SnapshotError,
    SyncError,
)
from penstock.limiter import Limiter
from penstock.rate import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.reservation import Hold, Reservation
from penstock.segment.options import Segment
from penstock.sync.options import Sync

__version__ = "0.1.0"

__all__ = [
    "Limiter",
    "TokenBucket",
    "SlidingWindow",
    "SlidingLog",
    "FixedWindow",
    "Concurrency",
    "Sync",
    "Segment",
    "Decision",
    "Reservation",
    "Hold",
    "Stats",
    "TopKey",
    "PenstockError",
    "RateSyntaxError",
    "CostTooLarge",
    "RateLimited",
    "SyncError",
    "SegmentError",
    "SnapshotError",
    "native",
]
