"""Engines and limiters of either backend for tests, made from limits as users write them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any
from unittest import mock

import penstock._backend
import penstock._reference
import penstock.limiter
from penstock.clock import NS, ManualClock
from penstock.policy import compile_policies
from penstock.rate import Limit, parse_rate

BACKENDS = ("native", "reference")
SECRET = bytes(range(16))
START_NS = 1_700_000_000 * NS + 123_456_789
"""Where tests' clocks begin: some moment that is no multiple of anything."""


def engine_of(backend: str) -> type[Any]:
    """The Engine class of a backend."""
    if backend == "reference":
        return penstock._reference.Engine
    from penstock._core import Engine

    return Engine


@cache
def limiter_of(backend: str) -> type[Any]:
    """A Limiter class that decides on the backend, whichever this process has chosen for itself."""
    engine = engine_of(backend)
    if penstock._backend.Engine is engine:
        return penstock.limiter.Limiter
    spec = importlib.util.spec_from_file_location(f"limiter_on_{backend}", penstock.limiter.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    adopt = __import__(engine.__module__, fromlist=["adopt"]).adopt
    with mock.patch.multiple(penstock._backend, Engine=engine, adopt=adopt):
        spec.loader.exec_module(module)
    limiter: type[Any] = module.Limiter
    return limiter


def manual_clock(ns: int = START_NS) -> ManualClock:
    """A clock that stands at `ns` since the epoch."""
    clock = ManualClock()
    clock.set_ns(ns)
    return clock


def make_engine(
    backend: str,
    *limits: Limit | str,
    tiers: dict[str | None, Sequence[Limit]] | None = None,
    clock: ManualClock | None = None,
    capacity: int = 1000,
    evict: bool = True,
    secret: bytes = SECRET,
    remember: bool = False,
) -> Any:
    """An engine with these limits, for all keys or by tier. Without a clock, on one that stands still."""
    named: dict[str | None, Sequence[Limit]] = dict(tiers or {})
    if limits:
        named[None] = [one for limit in limits for one in (parse_rate(limit) if isinstance(limit, str) else [limit])]
    clock = clock or manual_clock()
    return engine_of(backend)(
        compile_policies(list(named.values()), clock.wall_ns()),
        {tier: index for index, tier in enumerate(named)},
        capacity=capacity,
        evict=evict,
        secret=secret,
        clock=clock,
        remember=remember,
    )
