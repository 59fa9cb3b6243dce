"""Other limiters of the same policy behind one shape, to be measured beside ours; each is imported only when made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from time import monotonic_ns
from typing import Any, NamedTuple

Quota = tuple[int, int]
"""(limit, seconds): so many units in so many seconds; a full bucket holds `limit`."""


class Subject(NamedTuple):
    """One limiter, ready to be called."""

    hit: Callable[[str], object]
    """What its user calls for a decision."""
    admitted: Callable[[Any], bool]
    """What the answer of `hit` means."""
    settle: Callable[[], object] | None = None
    """Waits until what `hit` left running in the background is done."""


class Peer(NamedTuple):
    """A way to make limiters of one library."""

    name: str
    """On the package index; our own plain code has none there."""
    algorithm: str
    native: bool
    make: Callable[[Sequence[Quota], int], Subject]
    """(quotas, keys it will see) -> Subject; ImportError where the library is not installed."""

    def version(self) -> str | None:
        """Of the installed distribution; None where there is none."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return None


def all_of(hits: Sequence[Callable[[str], bool]]) -> Callable[[str], bool]:
    """Several limits where a library takes one: asks them in turn until one refuses. Not atomic."""
    if len(hits) == 1:
        return hits[0]

    def hit(key: str) -> bool:
        for one in hits:  # noqa: SIM110 - a generator would cost as much as the calls
            if not one(key):
                return False
        return True

    return hit


def _dict_and_lock(quotas: Sequence[Quota], keys: int) -> Subject:
    """What one writes by hand: when each key's bucket will be full again, in a dict that only grows, under one lock."""
    lock = Lock()

    def bucket(quota: Quota) -> Callable[[str], bool]:
        limit, seconds = quota
        token = seconds * 1_000_000_000 // limit
        full = token * limit
        full_at: dict[str, int] = {}

        def hit(key: str) -> bool:
            with lock:
                now = monotonic_ns()
                then = max(full_at.get(key, now), now) + token
                if then - now > full:
                    return False
                full_at[key] = then
                return True

        return hit

    return Subject(all_of([bucket(quota) for quota in quotas]), bool)


def _token_bucket(quotas: Sequence[Quota], keys: int) -> Subject:
    library = import_module("token_bucket")
    limiters = [library.Limiter(limit / seconds, limit, library.MemoryStorage()) for limit, seconds in quotas]
    return Subject(all_of([limiter.consume for limiter in limiters]), bool)


def _floodgate(quotas: Sequence[Quota], keys: int) -> Subject:
    library = import_module("floodgate")
    triggers = [library.FixedMapping(limit, timedelta(seconds=seconds)).trigger for limit, seconds in quotas]
    if len(triggers) == 1:
        return Subject(triggers[0], lambda wait: wait is None)

    def hit(key: str) -> bool:
        for trigger in triggers:  # noqa: SIM110 - as in all_of
            if trigger(key) is not None:
                return False
        return True

    return Subject(hit, bool)


def _rust_py(quotas: Sequence[Quota], keys: int) -> Subject:
    library = import_module("rust_py_rate_limit")
    limiters = [library.RateLimiter(limit=limit, window_seconds=seconds) for limit, seconds in quotas]
    return Subject(all_of([limiter.allow for limiter in limiters]), bool)


def _limits(quotas: Sequence[Quota], keys: int) -> Subject:
    library, strategies = import_module("limits"), import_module("limits.strategies")
    storage = import_module("limits.storage").MemoryStorage()
    strategy = strategies.FixedWindowRateLimiter(storage)
    items = [library.RateLimitItemPerSecond(limit, seconds) for limit, seconds in quotas]
    # Its timer thread walks over all keys 10 ms after a hit.
    return Subject(all_of([partial(strategy.hit, item) for item in items]), bool, lambda: storage.timer.join())


def _throttled(quotas: Sequence[Quota], keys: int) -> Subject:
    library = import_module("throttled")
    limits = [
        library.Throttled(
            using="gcra",
            quota=library.per_duration(timedelta(seconds=seconds), limit, burst=limit),
            store=library.MemoryStore(options={"MAX_SIZE": 2 * keys}),
        ).limit
        for limit, seconds in quotas
    ]
    if len(limits) == 1:
        return Subject(limits[0], lambda result: not result.limited)

    def hit(key: str) -> bool:
        for limit in limits:  # noqa: SIM110 - as in all_of
            if limit(key).limited:
                return False
        return True

    return Subject(hit, bool)


def _pyrate(quotas: Sequence[Quota], keys: int) -> Subject:
    library = import_module("pyrate_limiter")
    rates = [library.Rate(limit, seconds * 1000) for limit, seconds in quotas]
    clock, algorithm = library.MonotonicClock(), library.TokenBucket()

    class BucketOfKey(library.BucketFactory):  # type: ignore[misc, name-defined]  # a base that need not be installed
        """Its own documentation's recipe for a bucket per key, with the bucket that keeps a number instead of a log."""

        def __init__(self) -> None:
            self.buckets: dict[str, Any] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return library.RateItem(name, clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            if item.name not in self.buckets:
                self.buckets[item.name] = library.StateBucket(rates, algorithm=algorithm)
            return self.buckets[item.name]

    return Subject(partial(library.Limiter(BucketOfKey()).try_acquire, blocking=False), bool)


PEERS = (
    Peer("dict and lock", "token bucket, written by hand", False, _dict_and_lock),
    Peer("floodgate-rs", "fixed window from the first hit", True, _floodgate),
    Peer("rust-py-rate-limit", "fixed window", True, _rust_py),
    Peer("token-bucket", "token bucket", False, _token_bucket),
    Peer("limits", "fixed window, its cheapest (no token bucket)", False, _limits),
    Peer("throttled-py", "GCRA, the same as a token bucket", False, _throttled),
    Peer("pyrate-limiter", "GCRA, the same as a token bucket", False, _pyrate),
)
