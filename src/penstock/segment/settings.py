"""What a limiter wants of its segment: what it makes, and what it refuses of one that is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from penstock._arguments import SEGMENT_DEFAULT, choose_capacity
from penstock._backend import Engine
from penstock.clock import Clock
from penstock.policy import Policy, compile_policies, compile_shared, for_segment
from penstock.rate import Concurrency
from penstock.segment.file import Opened, join
from penstock.segment.header import Header, boottime_ns, difference
from penstock.segment.options import Segment
from penstock.snapshot import fill_with
from penstock.written import Tiers, wording

if TYPE_CHECKING:
    from penstock.sync.exchange import Exchange


def open_segment(
    segment: Segment,
    by_tier: Tiers,
    capacity: int | None,
    on_full: str,
    exchange: Exchange | None,
    key: bytes | None,
    clock: Clock | None,
    wall_ns: int,
    age: int,
    rows: list[bytes] | None,
) -> Opened:
    """The segment with these settings, made if there is none. rows: what a new one begins with, at this age; one
    that is there has newer ones, under a key of its own."""
    tiers = list(by_tier.values())
    kind = "the system's" if clock is None else "given"
    synced = "no"
    if exchange is not None:
        strict = "strictly, " if exchange.options.strict else ""
        synced = f"as {exchange.name!r}, {strict}every {exchange.options.every:g} s"
        key = exchange.secret

    def compiled(born_ns: int) -> list[list[Policy]]:
        if exchange is None:
            return for_segment(compile_policies(tiers, born_ns))
        if any(isinstance(limit, Concurrency) for limit in tiers[0]):
            raise ValueError("a Concurrency limit can be shared= by a host or sync= through Redis, not both")
        return compile_shared(tiers, exchange.options.every_ns, exchange.options.kappa)

    policies = compiled(wall_ns - age)
    keys = choose_capacity(capacity, policies[0], SEGMENT_DEFAULT)

    def make() -> Header:
        birth_ns = (boottime_ns() if clock is None else clock.now_ns()) - age
        secret = os.urandom(16) if key is None else key
        return Header(by_tier, policies, keys, on_full, secret, kind, synced, birth_ns, wall_ns - age)

    def fill(opened: Opened) -> None:
        try:
            engine = Engine(
                policies,
                {tier: index for index, tier in enumerate(by_tier)},
                capacity=keys,
                evict=False,
                secret=opened.header.secret,
                clock=clock,
                remember=False,
                segment=opened,
            )
        except BaseException:
            os.close(opened.fd)
            raise
        fill_with(engine, rows or [], {})

    def differs(found: Header) -> str | None:
        wanted = {"on_full": on_full, "clock": kind, "sync": synced}
        there = {"on_full": found.on_full, "clock": found.clock, "sync": found.sync}
        same = list(by_tier) == list(found.limits) and compiled(found.wall_ns) == found.policies
        if not same:  # else they may still be written in other ways
            wanted["limits"], there["limits"] = wording(by_tier), wording(found.limits)
        if capacity is not None and rows is None:
            wanted["capacity"], there["capacity"] = str(capacity), str(found.capacity)
        if wrong := difference(wanted, there):
            return wrong
        if key is not None and rows is None and key != found.secret:
            return "another secret"
        return None if same else "this penstock computes otherwise with the same limits; use another name"

    return join(segment, make, differs, None if rows is None else fill)
