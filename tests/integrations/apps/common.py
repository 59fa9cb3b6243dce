"""What the applications of these tests share: the same routes under the same limits, on segments of the host."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from penstock import Concurrency, Limiter, TokenBucket
from penstock.adapters import keys
from penstock.adapters.call import Call
from penstock.adapters.rules import Rule

FOLDER = Path(os.environ["PENSTOCK_TEST_FOLDER"])
TRUSTED = ["127.0.0.1"]
"""Tests that come from this address are taken for a proxy."""


def shared(name: str, limit: TokenBucket | Concurrency) -> Limiter:
    """A limiter that all workers share."""
    return Limiter(limit, shared=FOLDER / name)


def failing(call: Call) -> str:
    """A key function that raises for some callers."""
    return f"tenant:{call.lines('x-tenant')[0]}"


RULES = [
    Rule(shared("items", TokenBucket(3, per=3600)), "/items/{number}", methods=["GET"], name="items"),
    Rule(shared("put", TokenBucket(1, per=3600)), "/items/*", methods=["PUT"]),
    Rule(shared("many", TokenBucket(20, per=86_400)), "/many"),
    Rule(shared("stream", Concurrency(1)), "/stream", key=keys.everyone),
    Rule(shared("boom", Concurrency(1)), "/boom", key=keys.everyone),
    Rule(shared("ws", TokenBucket(2, per=3600)), "/ws"),
    Rule(shared("tenant", TokenBucket(2, per=3600)), "/tenant", key=failing),
    Rule(shared("wide", TokenBucket(100, per=3600)), "/decorated", layer="wide"),
]

DECORATED = shared("decorated", TokenBucket(2, per=3600))


def slow() -> Iterator[bytes]:
    """A body in three parts; the last one waits until the test has made a file."""
    yield b"one,"
    yield b"two,"
    deadline = time.monotonic() + 30
    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    yield b"three"


async def slow_async() -> AsyncIterator[bytes]:
    """The same for an event loop."""
    yield b"one,"
    yield b"two,"
    deadline = time.monotonic() + 30
    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    yield b"three"
