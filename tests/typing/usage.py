"""How penstock is used, for mypy: a comment behind a line is the type it must reveal, or `error:` and its code."""

from __future__ import annotations

import datetime
import pathlib
from typing import reveal_type

import numpy

import penstock
from penstock import (
    Concurrency,
    CostTooLarge,
    Decision,
    FixedWindow,
    Limiter,
    RateLimited,
    SlidingLog,
    SlidingWindow,
    Sync,
    TokenBucket,
)
from penstock.clock import Clock, ManualClock, SystemClock

limiter = Limiter("5/minute; 100/day")
reveal_type(limiter)  # penstock.limiter.Limiter
Limiter(TokenBucket(100, per=1, burst=200), SlidingWindow(1000, per=60, resolution=6), capacity=1_000_000)
Limiter(SlidingLog(5, datetime.timedelta(minutes=1)), FixedWindow(5, 60.0, "first"), Concurrency(3))
Limiter("5/minute", algorithm="sliding-log", on_full="deny", name="api", secret=bytes(16), clock=ManualClock())
Limiter(tiers={"free": "100/hour", "pro": [TokenBucket(5), "5/minute"]}, remember_names=True)
Limiter("5/minute", clock=SystemClock())
Limiter("5/minute", name="api", sync="redis://localhost:6379/0")
Limiter("5/minute", name="api", sync=Sync("rediss://example.org", every=0.1, strict=True, on_outage="open"))

# decisions
reveal_type(limiter.hit("a"))  # bool
reveal_type(limiter.check(("user", 5, b"x"), 2, tier="pro"))  # penstock.decision.Decision
decision = limiter.peek(key=b"a", cost=3, tier=None)
reveal_type(decision.allowed)  # bool
reveal_type(decision.remaining)  # int
reveal_type(decision.retry_after)  # float
reveal_type(decision.headers())  # dict[str, str]
reveal_type(limiter.refund("a", 2))  # None
reveal_type(limiter.reset(5))  # None
reveal_type(limiter.clear())  # None
reveal_type(limiter.stats().admitted)  # int
reveal_type(limiter.stats().sync)  # penstock.sync.state.SyncState | None
reveal_type(limiter.guarantee().excess)  # float
reveal_type(limiter.top(5))  # list[penstock.decision.TopKey]
reveal_type(limiter.capacity)  # int
reveal_type(limiter.bytes)  # int
reveal_type(limiter.name)  # str | None
reveal_type(penstock.native)  # bool
reveal_type(limiter.replace("9/minute; 200/day", tiers={"pro": "5/minute"}, algorithm="token-bucket"))  # None

# saving and loading
reveal_type(limiter.save("limits.state"))  # None
reveal_type(Limiter.load(pathlib.Path("limits.state")))  # penstock.limiter.Limiter
Limiter.load("limits.state", "5/minute; 100/day", capacity=9, name="api", clock=ManualClock(), shared="api")

# batches
answers = limiter.hit_many(["a", b"b", 5, ("c", 1)], [1, 2, 3, 4])
reveal_type(answers.any())  # numpy.bool[bool]
limiter.hit_many(numpy.arange(10), numpy.ones(10, dtype=int))
limiter.hit_many((key for key in "abc"), costs=2, tier="pro")
reveal_type(limiter.check_many(("a", "b"))["allowed"])  # numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]

# reservations, holds, waiting
reservation = limiter.reserve("a", 100)
reveal_type(reservation)  # penstock.reservation.Reservation
reveal_type(reservation.decision)  # penstock.decision.Decision
reveal_type(reservation.settle(50))  # None
reveal_type(limiter.acquire("a", timeout=1.5))  # bool
with limiter.hold("a", timeout=None) as held:
    reveal_type(held)  # penstock.decision.Decision
with Limiter("5/minute") as inside:
    reveal_type(inside)  # penstock.limiter.Limiter


class Own(Limiter):
    """A subclass keeps its own type."""

    def __init__(self) -> None:
        super().__init__("5/minute")
        self.label = "mine"


with Own() as own:
    reveal_type(own)  # usage.Own
    reveal_type(own.label)  # str


# the decorator keeps the signature
@limiter.limit(key=lambda user, size: user, cost=lambda user, size: size)
def send(user: str, size: int = 1) -> float:
    return 1.0


reveal_type(send)  # def (user: str, size: int =) -> float
reveal_type(send("ada", size=3))  # float
send(5)  # error: arg-type


@limiter.limit()
async def fetch(url: str) -> bytes:
    return url.encode()


async def asynchronous() -> None:
    """The asyncio half."""
    reveal_type(await limiter.acquire_async("a", 2, 1.0))  # bool
    reveal_type(await fetch("x"))  # bytes
    async with limiter.hold("a") as decision, Limiter("5/minute") as inside:
        reveal_type(decision)  # penstock.decision.Decision
        reveal_type(inside)  # penstock.limiter.Limiter


class Mail:
    """Methods keep theirs too."""

    @limiter.limit(key=lambda self: "mail")
    def send(self, to: str) -> int:
        return 1


reveal_type(Mail().send("ada"))  # int

# errors
try:
    limiter.acquire("a", 10**6)
except CostTooLarge as large:
    reveal_type(large.args)  # tuple[Any, ...]
except RateLimited as limited:
    reveal_type(limited.decision)  # penstock.decision.Decision

# what must not pass
limiter.hit(1.5)  # error: arg-type
limiter.hit(["a"])  # error: arg-type
limiter.hit("a", 1.5)  # error: arg-type
limiter.hit("a", tier=5)  # error: arg-type
limiter.hit()  # error: call-arg
limiter.peek("a", costs=1)  # error: call-arg
limiter.hit_many(5)  # error: arg-type
limiter.hit_many([1.5])  # error: list-item
limiter.anything = 5  # error: attr-defined
Limiter(5)  # error: arg-type
Limiter("5/minute", algorithm="leaky")  # error: arg-type
Limiter("5/minute", on_full="drop")  # error: arg-type
Limiter("5/minute", clock=5)  # error: arg-type
Limiter("5/minute", sync=5)  # error: arg-type
Sync("redis://x", on_outage="panic")  # error: arg-type
Limiter("5/minute", secret="text")  # error: arg-type
TokenBucket("5")  # error: arg-type
FixedWindow(5, 60, "now")  # error: arg-type
decision.allowed = True  # error: misc
TokenBucket(5).limit = 6  # error: misc


class Frozen:
    """A clock by structure alone."""

    def now_ns(self) -> int:
        return 0

    def wall_ns(self) -> int:
        return 0


clock: Clock = Frozen()
Limiter("5/minute", clock=Frozen())
answer: Decision = limiter.check("a")
