"""Limiters on a test's own server: how they are made, and what to wait for before they are asked anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from servers import Server, until

from penstock import Limiter, Sync
from penstock.sync import worker
from penstock.sync.state import SyncState

Make = Callable[..., Limiter]


@contextlib.contextmanager
def making(limiter_class: Any, server: Server) -> Iterator[Make]:
    """Makes limiters that share by this server, each supposing that it is alone, and closes them."""
    made: list[Limiter] = []

    def make(
        *limits: Any, name: str = "test", url: Any = None, clock: Any = None, tiers: Any = None, **options: Any
    ) -> Limiter:
        sync = Sync(server.url if url is None else url, **{"fleet_hint": 1, **options})
        made.append(limiter_class(*limits, name=name, sync=sync, clock=clock, tiers=tiers))
        return made[-1]

    try:
        yield make
    finally:
        for limiter in made:
            limiter.close()


def state(limiter: Limiter) -> SyncState:
    """stats().sync of a limiter that is shared."""
    sync = limiter.stats().sync
    assert sync is not None
    return sync


def connected(*limiters: Limiter) -> None:
    """Waits until they know of each other."""
    for limiter in limiters:
        until("the limiter", lambda limiter=limiter: known(limiter) >= len(limiters))  # type: ignore[misc]


def known(limiter: Limiter) -> int:
    """How many instances it knows of; 0 before the first answer."""
    sync = state(limiter)
    return sync.instances if sync.connected else 0


def settled(limiter: Limiter) -> bool:
    """Whether Redis has confirmed all that it admitted."""
    sync = state(limiter)
    return sync.connected and sync.mode == "normal" and not sync.unsettled


def served() -> list[Any]:
    """Limiters that threads of this process serve."""
    return [member for one in worker._workers.values() for member in one.courier.members]
