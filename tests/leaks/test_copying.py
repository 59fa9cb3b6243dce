"""Copying and pickling: what stands for itself comes back the same, what is alive says that it cannot be copied."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from engines import make_engine

from penstock import (
    Concurrency,
    CostTooLarge,
    FixedWindow,
    Hold,
    PenstockError,
    RateLimited,
    RateSyntaxError,
    Reservation,
    SegmentError,
    SlidingLog,
    SlidingWindow,
    SyncError,
    TokenBucket,
)
from penstock.clock import ManualClock, SystemClock


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda thing: pickle.loads(pickle.dumps(thing, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}
every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_answers_come_back(limiter_class: type[Any], way: str) -> None:
    limiter = limiter_class("2/minute", remember_names=True, clock=ManualClock())
    limiter.hit_many(["a", "a", "a"])
    for answer in (limiter.check("a"), limiter.peek("b"), limiter.peek("a", 9), limiter.stats(), limiter.top(1)[0]):
        back = WAYS[way](answer)
        assert back == answer
        assert type(back) is type(answer)
        assert bool(back) == bool(answer)


@every_way
@pytest.mark.parametrize(
    "limit",
    [TokenBucket(5, 60, 7), SlidingWindow(5, 60, 3), SlidingLog(5, 60), FixedWindow(5, 60, "first"), Concurrency(5)],
    ids=lambda limit: type(limit).__name__,
)
def test_limits_come_back(limit: Any, way: str) -> None:
    assert WAYS[way](limit) == limit


@every_way
def test_errors_come_back(limiter_class: type[Any], way: str) -> None:
    decision = limiter_class("2/minute", clock=ManualClock()).peek("a", 3)
    errors: list[PenstockError] = [RateSyntaxError("5/x" * 100, 2, "a unit"), RateLimited(decision)]
    errors += [kind("text") for kind in (PenstockError, CostTooLarge, SyncError, SegmentError)]
    for error in errors:
        back = WAYS[way](error)
        assert type(back) is type(error)
        assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@every_way
def test_the_system_clock_comes_back(way: str) -> None:
    clock = WAYS[way](SystemClock())
    assert 0 <= clock.now_ns() - SystemClock().now_ns() + 10**9 <= 10**9


@every_way
def test_what_is_alive_cannot_be_copied(limiter_class: type[Any], way: str) -> None:
    """Two limiters with one set of counters, or none, would admit too much; a unit cannot be given back twice."""
    limiter = limiter_class("2/minute", Concurrency(3), clock=ManualClock())
    sub = type("Sub", (limiter_class,), {})("2/minute")
    reservation, hold = limiter.reserve("a", 1), limiter.hold("b")
    assert isinstance(reservation, Reservation)
    assert isinstance(hold, Hold)
    with hold:
        for thing, kind in [(limiter, "Limiter"), (sub, "Limiter"), (reservation, "Reservation"), (hold, "Hold")]:
            with pytest.raises(TypeError, match=f"^a {kind} cannot be copied or pickled: "):
                WAYS[way](thing)
            with pytest.raises(TypeError, match=f"^a {kind} cannot be copied or pickled: "):
                copy.deepcopy({"inside": [thing]})
    reservation.settle(0)
    assert limiter.peek("a").remaining == limiter.peek("new").remaining, "given back once"
    assert limiter.peek("b").remaining == 0, "what the rate took at the start is not given back"


@pytest.mark.parametrize("how", ["hit", "check", "acquire", "hit_many"])
def test_methods_cannot_be_pickled(limiter_class: type[Any], how: str) -> None:
    """As they would be to send work to another process."""
    with pytest.raises(TypeError, match=r"^a Limiter cannot be copied or pickled: .*make one in each process"):
        pickle.dumps(getattr(limiter_class("2/minute"), how))


@every_way
def test_an_engine_cannot_be_copied(backend: str, way: str) -> None:
    with pytest.raises(TypeError, match=r"^an Engine cannot be copied or pickled: "):
        WAYS[way](make_engine(backend, "2/minute"))


@every_way
def test_a_manual_clock_cannot_be_copied(way: str) -> None:
    """A copy would wake those who wait on the first one."""
    with pytest.raises(TypeError, match=r"^a ManualClock cannot be copied or pickled: "):
        WAYS[way](ManualClock())
