"""What `limits` answers on its own memory storage, penstock answers: strategy by strategy, over random histories."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import needed

needed("limits")

import limits.aio.strategies  # noqa: E402
import limits.storage.memory  # noqa: E402
import limits.strategies  # noqa: E402
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond  # noqa: E402
from limits.storage import storage_from_string  # noqa: E402
from limits.storage.memory import MemoryStorage  # noqa: E402

import penstock.compat.limits as compat  # noqa: E402
from penstock.clock import ManualClock  # noqa: E402

ITEMS = [
    RateLimitItemPerSecond(1),
    RateLimitItemPerSecond(5, 2),
    RateLimitItemPerSecond(6, 2),
    RateLimitItemPerSecond(3, 3, namespace="other"),
    RateLimitItemPerMinute(4),
    RateLimitItemPerSecond(0),
]
NAMES = ["FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"]
START = 1_700_000_000

histories = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([1, 1, 2, 3, 4, 7, 8, 9, 15, 16, 24, 100, 480, 4801])),  # 1/8 s
        st.tuples(
            st.sampled_from(["hit", "hit", "hit", "hit", "test", "clear"]),
            st.sampled_from(ITEMS),
            st.sampled_from([("a",), ("a", "b"), (b"a", 7)]),
            st.sampled_from([1, 1, 1, 2, 3, 0]),
        ),
    ),
    max_size=60,
)


class Idle:
    """A timer that never fires: the memory storage's sweep is called by the test instead."""

    def __init__(self, *_: object) -> None: ...

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return True


@pytest.fixture(scope="module")
def clock() -> Iterator[ManualClock]:
    """A clock that both sides go by; each history moves it on."""
    clock = ManualClock(START)
    time = SimpleNamespace(time=lambda: clock.wall_ns() / 1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits.storage.memory, "time", time)
        patch.setattr(limits.strategies, "time", time)
        patch.setattr(limits.aio.strategies, "time", time)
        patch.setattr(limits.storage.memory, "threading", SimpleNamespace(Timer=Idle, RLock=threading.RLock))
        yield clock


def swept(storage: MemoryStorage) -> None:
    """What the memory storage's timer does a hundredth of a second after a hit, here at once: then its answers do not
    depend on when the timer came by."""
    storage._MemoryStorage__expire_events()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("through", ["storage", "strategy", "async storage"])
def test_answers_are_those_of_the_memory_storage(name: str, through: str, clock: ManualClock) -> None:
    @settings(max_examples=max(20, settings().max_examples // 3))
    @given(histories)
    def same(history: list[Any]) -> None:
        memory = MemoryStorage()
        theirs = getattr(limits.strategies, name)(memory)
        ours: Any
        if through == "strategy":
            ours = getattr(compat, name)(capacity=64, clock=clock)
        elif through == "storage":
            ours = getattr(limits.strategies, name)(storage_from_string("penstock://?capacity=64", clock=clock))
        else:
            ours = getattr(limits.aio.strategies, name)(
                storage_from_string("async+penstock://?capacity=64", clock=clock)
            )

        def answer(side: Any, call: str, *args: Any, **options: Any) -> Any:
            found = getattr(side, call)(*args, **options)
            return result_of(found) if asyncio.iscoroutine(found) else found

        for step in history:
            if step[0] == "advance":
                clock.advance(step[1] / 8)
                swept(memory)
                continue
            call, item, names, cost = step
            if name == "FixedWindowRateLimiter":
                cost = max(1, cost)  # there a hit of 0 begins a window in the memory storage, and takes nothing here
            options = {} if call == "clear" else {"cost": cost}
            assert answer(ours, call, item, *names, **options) == answer(theirs, call, item, *names, **options)
            for each in (item, ITEMS[1]):
                reset, remaining = answer(ours, "get_window_stats", each, *names)
                expected = answer(theirs, "get_window_stats", each, *names)
                assert (reset, remaining) == (pytest.approx(expected.reset_time, rel=0, abs=1e-6), expected.remaining)

    same()


def result_of(coroutine: Any) -> Any:
    """What a coroutine that never waits returns."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value
