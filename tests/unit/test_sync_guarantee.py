"""What `guarantee` says: formulas and numbers, of one process and of many."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Concurrency, FixedWindow, Limiter, SlidingWindow, TokenBucket
from penstock.policy import compile_shared
from penstock.rate import Limit
from penstock.sync.guarantee import Guarantee, guarantee_of, too_small

T_NS = 50_000_000


def shared(*limits: Limit, instances: int, kappa: float = 0.5, largest: int = 1, interval_ns: int = T_NS) -> Guarantee:
    """The guarantee of limits that so many instances share."""
    policies = compile_shared([limits], T_NS, kappa)
    return guarantee_of([(None, policies[0])], instances, interval_ns, [largest] * len(limits))


def test_a_bucket_of_many_instances() -> None:
    found = shared(TokenBucket(1000, 1, 2000), instances=16)
    (bound,) = found.bounds
    assert (bound.burst, bound.rate, bound.interval, bound.instances) == (2000, 1000.0, 0.05, 16)
    assert bound.unsettled == 16 * (1000 // 16)
    assert found.excess == bound.excess == 3 * 1000 * 0.05 + 2 * bound.unsettled
    assert found.formula == "admitted(t) <= b + r*t + 3*r*T + 2*Q"
    assert bound.admitted(10) == 2000 + 10_000 + bound.excess
    assert str(found) == (
        "limit 0: admitted(t) <= b + r*t + 3*r*T + 2*Q, with b=2000, r=1000/s, T=0.05 s, N=16, Q=992:"
        " at most 2134 above the limit"
    )


def test_large_costs_and_long_ways_count() -> None:
    few = shared(TokenBucket(1000), instances=16)
    assert shared(TokenBucket(1000), instances=16, largest=100).bounds[0].unsettled == 1600
    assert shared(TokenBucket(1000), instances=16, interval_ns=4 * T_NS).excess == few.excess + 3 * 1000 * 0.15


def test_a_cost_that_one_tier_never_admits_does_not_count_there() -> None:
    policies = compile_shared([[TokenBucket(10)], [TokenBucket(1000)]], T_NS, 0.5)
    small, large = guarantee_of([(None, policies[0]), ("pro", policies[1])], 4, T_NS, [600]).bounds
    assert (small.unsettled, large.unsettled) == (4 * 10, 4 * 600)


def test_strict_limits_leave_nothing_unsettled() -> None:
    bound = shared(TokenBucket(1000), instances=16, kappa=0).bounds[0]
    assert bound.unsettled == 0
    assert bound.excess == pytest.approx(3 * 1000 * 0.05 + 16)


def test_windows() -> None:
    found = shared(FixedWindow(1000, 60), SlidingWindow(500, 60), instances=4)
    assert [bound.unsettled for bound in found.bounds] == [500, 248]
    assert found.excess == 500
    assert found.bounds[0].admitted(60) == 1000 + 500
    assert found.formula == "admitted(window) <= b + Q + what arrives within half a round trip of its edges"


def test_units_held() -> None:
    (bound,) = shared(Concurrency(100), instances=4, largest=3).bounds
    assert (bound.formula, bound.unsettled, bound.excess, bound.admitted(60)) == ("held <= b + Q", 48, 48, 148)
    (bound,) = shared(Concurrency(100), instances=4, kappa=0).bounds
    assert (bound.formula, bound.excess) == ("held <= b", 0)


def test_small_limits_are_told() -> None:
    assert too_small(shared(TokenBucket(100), instances=16)) is None
    text = too_small(shared(TokenBucket(100), TokenBucket(5), instances=16))
    assert text is not None
    assert text.startswith("a limit of 5 is small for 16 instances: together they may admit up to ")
    assert text.endswith("acquire() waits and is exact, hit() and check() are not")
    strict = too_small(shared(TokenBucket(5), instances=16, kappa=0))
    assert strict is not None
    assert strict.endswith("strict=True leaves no more than a unit lying ready in each")
    assert too_small(shared(Concurrency(5), instances=16, kappa=0)) is None, "exact"
    assert "acquire() waits" in text


def test_one_process_is_exact(limiter_class: Any) -> None:
    limiter: Limiter = limiter_class("5/minute; 100/day", Concurrency(3), FixedWindow(7, 1))
    found = limiter.guarantee()
    assert found.excess == 0
    assert [bound.burst for bound in found.bounds] == [5, 100, 3, 7]
    assert found.formula == "admitted(t) <= b + r*t; held <= b; admitted(window) <= b"


def test_tiers_are_named(limiter_class: Any) -> None:
    limiter: Limiter = limiter_class(tiers={"free": "100/hour", "pro": "10000/hour"})
    assert [bound.tier for bound in limiter.guarantee().bounds] == ["free", "pro"]
    assert str(limiter.guarantee()).startswith("tier 'free', limit 0: ")


def test_an_admission_needs_a_time() -> None:
    assert shared(TokenBucket(10), instances=1).bounds[0].admitted(0) == pytest.approx(10 + 3 * 10 * 0.05 + 2 * 5)
