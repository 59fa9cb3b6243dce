"""What a Limiter is given, read and checked: limits, tiers, secret, clock, capacity."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from penstock.clock import Clock
from penstock.errors import shown
from penstock.policy import Policy
from penstock.rate import (
    Concurrency,
    FixedWindow,
    Limit,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    check_count,
    parse_rate,
)
from penstock.written import Tiers

Rates = str | Limit

CAPACITY_DEFAULT = 65_536
MEMORY_DEFAULT = 64 * 2**20
"""Without `capacity`, as many keys as CAPACITY_DEFAULT or as fit in this many bytes, whichever is less."""
SEGMENT_DEFAULT = 16 * 2**20
"""The same for a segment, which takes its memory at once, and often of a small file system."""


def read_limits(name: str, rates: Sequence[Rates], algorithm: str) -> list[Limit]:
    """Rate strings and limits, mixed -> limits, in order."""
    limits: list[Limit] = []
    for rate in rates:
        if isinstance(rate, str):
            limits.extend(parse_rate(rate, algorithm))
        elif isinstance(rate, (TokenBucket, SlidingWindow, SlidingLog, FixedWindow, Concurrency)):
            limits.append(rate)
        else:
            raise TypeError(f"{name} must be rate strings or limits such as TokenBucket(10), not {type(rate).__name__}")
    return limits


def read_by_tier(
    limits: Sequence[Rates], tiers: Mapping[str, Rates | Sequence[Rates]] | None, algorithm: str
) -> Tiers:
    """The limits of calls without a tier, and those of each named tier."""
    by_tier: Tiers = {}
    if limits or not tiers:
        by_tier[None] = read_limits("limits", limits, algorithm)
    return by_tier if tiers is None else by_tier | read_tiers(tiers, algorithm)


def read_tiers(tiers: Mapping[str, Rates | Sequence[Rates]], algorithm: str) -> Tiers:
    """The limits of each named tier."""
    if not isinstance(tiers, Mapping):
        raise TypeError(f"tiers must map names to rates, not {type(tiers).__name__}")
    read: Tiers = {}
    for name, rates in tiers.items():
        if not isinstance(name, str):
            raise TypeError(f"tiers: a name must be a str, not {type(name).__name__}")
        several = [rates] if isinstance(rates, str) or not isinstance(rates, Sequence) else rates
        read[name] = read_limits(f"tiers[{name!r}]", several, algorithm)
    return read


def read_secret(secret: bytes | None) -> bytes:
    """The 16 bytes that key the hash: random, or drawn from what is given so that instances agree."""
    if secret is None:
        return os.urandom(16)
    if not isinstance(secret, bytes):
        raise TypeError(f"secret must be bytes, not {type(secret).__name__}")
    if len(secret) < 16:
        raise ValueError(f"secret has {len(secret)} bytes; at least 16 are needed")
    import hashlib  # here, because it loads OpenSSL

    return hashlib.blake2b(secret, digest_size=16, person=b"penstock key").digest()


def read_clock(clock: Clock | None) -> int:
    """The time since the Unix epoch in nanoseconds, of the system or of the clock given, which is tried out."""
    if clock is None:
        return time.time_ns()
    wall_ns = 0
    for name in ("now_ns", "wall_ns"):
        method = getattr(clock, name, None)
        if isinstance(clock, type) or not callable(method):
            raise TypeError(f"clock must be an object with now_ns() and wall_ns(), not {shown(clock)}")
        wall_ns = method()
        if isinstance(wall_ns, bool) or not isinstance(wall_ns, int):
            raise TypeError(f"clock.{name}() must return nanoseconds as an int, not {shown(wall_ns)}")
    return wall_ns


def choose_capacity(capacity: int | None, policies: Sequence[Policy], most: int = MEMORY_DEFAULT) -> int:
    """Keys to rate the tables for, checked against the machine's memory; most: bytes without `capacity`."""
    each = sum((16 + 8 * policy.tail_words) * 145 // 100 for policy in policies)
    if capacity is None:
        return max(64, min(CAPACITY_DEFAULT, most // each))
    needed, there = check_count("capacity", capacity) * each, memory_of_machine()
    if needed > there:
        raise MemoryError(f"capacity={capacity} needs {needed} bytes of tables; this machine has {there}")
    return capacity


def memory_of_machine() -> int:
    """Bytes of physical memory, or a bound no machine reaches where that can't be asked."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**46
