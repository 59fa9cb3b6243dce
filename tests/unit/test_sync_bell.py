"""The bell: how a decision has a loop look at once, and when its pipe is closed."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest

from penstock.policy import compile_shared
from penstock.rate import TokenBucket
from penstock.sync.task import Bell, bell_of

SECRET = bytes(16)


def engine_with(engine_class: Any) -> Any:
    """An engine whose limit is shared by two."""
    policies = compile_shared([[TokenBucket(50)]], 50_000_000, 0.5)
    engine = engine_class(policies, {None: 0}, capacity=8, evict=True, secret=SECRET, clock=None, remember=False)
    engine.share(2, [0])
    return engine


def test_a_decision_that_is_in_a_hurry_rings(engine_class: Any) -> None:
    engine = engine_with(engine_class)
    bell = bell_of(engine)
    assert bell is not None
    with pytest.raises(BlockingIOError):
        os.read(bell.out, 1)
    for _ in range(3):
        engine.hit("k", 10)
    assert os.read(bell.out, 100)
    engine.hit("k", 10)
    with pytest.raises(BlockingIOError):
        os.read(bell.out, 1)  # once until it was looked
    assert engine.early() == 1


def test_nothing_to_hear_is_fine() -> None:
    bell = Bell()
    bell.heard()
    os.write(bell.into, b"x" * 10)
    bell.heard()
    bell.heard()


def test_the_pipe_is_closed_with_the_last_who_has_it() -> None:
    bell = Bell()
    numbers = bell.out, bell.into
    held = {bell}
    del bell
    gc.collect()
    for number in numbers:
        os.fstat(number)
    held.clear()
    gc.collect()
    for number in numbers:
        with pytest.raises(OSError):
            os.fstat(number)


def test_an_engine_that_cannot_ring_is_asked() -> None:
    class Deaf:
        def wake(self, fd: int) -> None:
            raise NotImplementedError

    assert bell_of(Deaf()) is None  # type: ignore[arg-type]
