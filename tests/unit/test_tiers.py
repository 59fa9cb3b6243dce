"""Tiers and replacement: the same key under other limits keeps the units it has spent."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Concurrency, FixedWindow, Limiter, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.policy import TIERS_MOST


def limits_of(count: int) -> list[Any]:
    """Every algorithm with this limit over a minute."""
    return [
        TokenBucket(count, 60),
        SlidingWindow(count, 60),
        SlidingLog(count, 60),
        FixedWindow(count, 60),
        FixedWindow(count, 60, align="first"),
        Concurrency(count),
    ]


ALGORITHMS = range(len(limits_of(1)))
every_algorithm = pytest.mark.parametrize("which", ALGORITHMS, ids=[repr(limit) for limit in limits_of(1)])


# ---- tiers ----


def test_tiers_in_words(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("1/hour", tiers={"free": "2/hour", "pro": TokenBucket(4, 3600)}, clock=clock)
    assert [limiter.hit("a") for _ in range(2)] == [True, False]
    assert [limiter.hit("b", tier="free") for _ in range(3)] == [True, True, False]
    assert [limiter.hit("c", 1, "pro") for _ in range(5)] == [True] * 4 + [False]
    assert limiter.check("d", tier="pro").limit == 4
    assert limiter.peek("d", tier="free").limit == 2


@every_algorithm
def test_a_key_that_changes_tier_keeps_what_it_has_spent(limiter_class: Any, clock: ManualClock, which: int) -> None:
    limiter = limiter_class(limits_of(5)[which], tiers={"pro": limits_of(50)[which]}, clock=clock)
    assert limiter.hit("a", 5)
    assert not limiter.hit("a")
    decision = limiter.check("a", 5, "pro")
    assert decision
    assert decision.remaining == 40
    assert limiter.peek("a").remaining == 0
    assert limiter.hit("b", 48, "pro")
    assert not limiter.hit("b")
    assert limiter.check("b", 2, "pro").remaining == 0
    limiter.refund("b", 46, "pro")
    assert limiter.peek("b").remaining == 0, "peek takes one off what would be left"
    assert limiter.peek("b")
    assert not limiter.peek("b", 2)


def test_only_named_tiers(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class(tiers={"free": "2/hour", "pro": ["4/hour"]}, clock=clock)
    for call in (limiter.hit, limiter.check, limiter.peek, limiter.refund, limiter.acquire, limiter.force):
        with pytest.raises(ValueError, match="tier=None must be one of 'free', 'pro'"):
            call("a")
    with pytest.raises(ValueError, match="tier=None must be one of 'free', 'pro'"):
        limiter.hit_many(["a"])
    assert limiter.stats()[:4] == (0, 0, 0, 0)
    assert limiter.hit("a", 4, "pro")
    limiter.reset("a")
    assert limiter.hit("a", 2, "free")


def test_an_unknown_tier(limiter_class: Any) -> None:
    limiter = limiter_class("5/minute", tiers={"pro": "50/minute"})
    unknown: list[Any] = ["x", "", "None", 5, b"pro", [], object]
    for tier in unknown:
        for call in (limiter.hit, limiter.check, limiter.peek, limiter.refund, limiter.release, limiter.force):
            with pytest.raises(ValueError, match=r"^tier=.* must be one of None, 'pro'$"):
                call("a", 1, tier)
        with pytest.raises(ValueError, match=r"^tier=.* must be one of None, 'pro'$"):
            limiter.acquire("a", tier=tier)
        with pytest.raises(ValueError, match=r"^tier=.* must be one of None, 'pro'$"):
            limiter.hit_many(["a"], tier=tier)
    assert limiter.stats()[:4] == (0, 0, 0, 0)


def test_tiers_with_several_limits(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class(
        "2/second; 9/minute",
        Concurrency(8),
        tiers={"pro": ("20/second; 90/minute", Concurrency(80)), "max": ["200/second", "900/minute", Concurrency(800)]},
        clock=clock,
    )
    assert limiter.check("a", 2).remaining == 0
    assert limiter.check("a", 10, "pro").remaining == 8
    assert limiter.check("a", 100, "max").limit_index == 0


def test_as_many_tiers_as_there_may_be(limiter_class: Any, clock: ManualClock) -> None:
    tiers = {f"t{number}": f"{number + 1}/minute" for number in range(TIERS_MOST - 1)}
    limiter = limiter_class("100/minute", tiers=tiers, clock=clock)
    for number, tier in enumerate(tiers):
        assert limiter.hit(tier, number + 1, tier)
        assert not limiter.hit(tier, 1, tier)
    with pytest.raises(ValueError, match=f"at most {TIERS_MOST} tiers"):
        limiter_class("100/minute", tiers={**tiers, "more": "1/minute"})


def test_the_algorithm_is_that_of_tiers_too(limiter_class: Any) -> None:
    limiter = limiter_class("5/minute", algorithm="sliding-log", tiers={"pro": "50/minute"})
    assert repr(limiter) == "<Limiter SlidingLog(limit=5, per=60); pro: SlidingLog(limit=50, per=60)>"


# ---- replacement ----


@every_algorithm
@pytest.mark.parametrize("new", [3, 5, 8, 20])
def test_a_replacement_keeps_the_units_spent(limiter_class: Any, clock: ManualClock, which: int, new: int) -> None:
    limiter = limiter_class(limits_of(20)[which], clock=clock)
    assert limiter.hit("a", 4)
    assert limiter.replace(limits_of(new)[which]) is None
    assert limiter.peek("fresh", new)
    assert not limiter.peek("fresh", new + 1)
    if new > 4:
        assert limiter.check("a", new - 4).remaining == 0
        assert not limiter.hit("a")
    else:
        assert not limiter.hit("a")
        assert limiter.peek("a").remaining == 0
    assert limiter.peek("a").limit == new


@every_algorithm
def test_many_replacements_lose_nothing(limiter_class: Any, clock: ManualClock, which: int) -> None:
    limiter = limiter_class(limits_of(50)[which], clock=clock)
    for turn in range(1, 21):
        assert limiter.hit("a")
        limiter.replace(limits_of(50 - turn)[which])
        assert limiter.peek("a", 50 - 2 * turn).remaining == 0
    limiter.replace(limits_of(50)[which])
    assert limiter.peek("a").remaining == 29


def test_a_bucket_keeps_its_tokens_spent_under_another_rate(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class(TokenBucket(10, 10), clock=clock)
    assert limiter.hit("a", 10)
    clock.advance(2)
    limiter.replace(TokenBucket(1, 1, 20))
    assert limiter.check("a", 12)
    assert not limiter.hit("a")
    clock.advance(3)
    assert limiter.hit("a", 3)
    limiter.replace("1/hour burst 100")
    assert limiter.peek("a", 80)
    assert not limiter.peek("a", 81)
    decision = limiter.peek("a", 81)
    assert decision.retry_after == pytest.approx(3600, abs=1e-5)
    assert decision.retry_after >= 3600


def test_tiers_can_be_replaced_one_by_one(limiter_class: Any, clock: ManualClock) -> None:
    limiter = limiter_class("5/minute", tiers={"free": "7/minute", "pro": "9/minute"}, clock=clock)
    assert limiter.hit("a", 5)
    limiter.replace(tiers={"pro": "90/minute"})
    assert (limiter.peek("a").limit, limiter.peek("a", 1, "free").limit, limiter.peek("a", 1, "pro").limit) == (
        5,
        7,
        90,
    )
    limiter.replace("50/minute", tiers={"free": "70/minute"})
    assert (limiter.peek("a").limit, limiter.peek("a", 1, "free").limit, limiter.peek("a", 1, "pro").limit) == (
        50,
        70,
        90,
    )
    assert limiter.peek("a").remaining == 44
    assert limiter.peek("a", 1, "free").remaining == 64
    assert limiter.peek("a", 1, "pro").remaining == 84
    assert repr(limiter).count("burst=None") == 3
    limiter.replace()
    assert limiter.peek("a").remaining == 44


def test_what_waits_behind_a_replacement_is_a_new_limit_for_the_same_slots(limiter_class: Any) -> None:
    clock = ManualClock(1_700_000_030)
    limiter = limiter_class(FixedWindow(2, 60), clock=clock)
    assert limiter.hit("a", 2)
    limiter.replace(FixedWindow(3, 60))
    assert limiter.hit("a")
    assert not limiter.hit("a")
    clock.advance(60)
    assert limiter.hit("a", 3)


MISFITS: list[tuple[list[Any], dict[str, Any], list[Any], dict[str, Any], str]] = [
    (["5/minute"], {}, [SlidingWindow(5, 60)], {}, "same algorithms in the same order"),
    (["5/minute"], {}, ["5/minute", "9/hour"], {}, "same algorithms in the same order"),
    (["5/minute; 9/hour"], {}, ["5/minute"], {}, "same algorithms in the same order"),
    ([SlidingWindow(5, 60)], {}, [SlidingWindow(5, 61)], {}, "windows the same per"),
    ([SlidingWindow(5, 60)], {}, [SlidingWindow(5, 60, 7)], {}, "windows the same per"),
    ([FixedWindow(5, 60)], {}, [FixedWindow(5, 30)], {}, "windows the same per"),
    ([FixedWindow(5, 60)], {}, [FixedWindow(5, 60, "first")], {}, "windows the same per"),
    ([SlidingLog(5, 60)], {}, [SlidingLog(6, 60)], {}, "its ring was made for at most 5 admissions"),
    ([SlidingWindow(5, 60)], {}, [SlidingWindow(2**52, 60)], {}, "its word was made for counts below"),
    ([FixedWindow(5, 0.01)], {}, [FixedWindow(2**52, 0.01)], {}, "its word was made for counts below"),
    (["5/minute"], {}, [], {"tiers": {"pro": "9/minute"}}, "tier='pro' must be one of None"),
    ([], {"tiers": {"pro": "9/minute"}}, ["5/minute"], {}, "this limiter has only named tiers: 'pro'"),
    (["5/minute"], {"tiers": {"pro": "9/minute"}}, [], {"tiers": {"pro": [Concurrency(1)]}}, "same algorithms"),
    (["5/minute"], {"tiers": {"pro": "9/minute"}}, [], {"tiers": {"pro": []}}, "same algorithms"),
    (["5/minute"], {}, ["nonsense"], {}, "the count, a whole number"),
    (["5/minute"], {}, ["5/minute"], {"algorithm": "x"}, "algorithm='x' must be one of"),
    (["5/minute"], {}, ["5/minute"], {"algorithm": "sliding-log"}, "same algorithms in the same order"),
]


@pytest.mark.parametrize(("limits", "settings", "new", "new_settings", "words"), MISFITS)
def test_a_replacement_that_does_not_fit_changes_nothing(
    limiter_class: Any,
    clock: ManualClock,
    limits: list[Any],
    settings: dict[str, Any],
    new: list[Any],
    new_settings: dict[str, Any],
    words: str,
) -> None:
    limiter = limiter_class(*limits, **settings, clock=clock)
    tier = None if limits else "pro"
    assert limiter.hit("a", 3, tier)
    before = (repr(limiter), limiter.peek("a", 1, tier), limiter.peek("b", 1, tier), limiter.stats())
    with pytest.raises(ValueError, match=words):
        limiter.replace(*new, **new_settings)
    assert (repr(limiter), limiter.peek("a", 1, tier), limiter.peek("b", 1, tier), limiter.stats()) == before


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ([5], {}, "limits must be rate strings or limits such as TokenBucket.10., not int"),
        ([["5/minute"]], {}, "limits must be rate strings or limits .* not list"),
        ([], {"tiers": 5}, "tiers must map names to rates, not int"),
        ([], {"tiers": [("pro", "5/minute")]}, "tiers must map names to rates, not list"),
        ([], {"tiers": {5: "5/minute"}}, "tiers: a name must be a str, not int"),
        ([], {"tiers": {"pro": 5}}, r"tiers\['pro'\] must be rate strings or limits .* not int"),
        ([], {"tiers": {"pro": [None]}}, r"tiers\['pro'\] must be rate strings or limits .* not NoneType"),
    ],
)
def test_replacements_of_wrong_types(
    limiter_class: Any, arguments: list[Any], settings: dict[str, Any], words: str
) -> None:
    limiter = limiter_class("5/minute", tiers={"pro": "9/minute"})
    before = repr(limiter)
    with pytest.raises(TypeError, match=words):
        limiter.replace(*arguments, **settings)
    with pytest.raises(TypeError, match=words):
        limiter_class(*(arguments or ["5/minute"]), **settings)
    assert repr(limiter) == before


def test_a_replacement_under_a_clock_that_fails_changes_nothing() -> None:
    class Failing(ManualClock):
        broken = False

        def now_ns(self) -> int:
            if self.broken:
                raise OSError("no time")
            return super().now_ns()

    clock = Failing()
    limiter = Limiter("5/minute", clock=clock)
    clock.broken = True
    with pytest.raises(OSError, match="no time"):
        limiter.replace("9/minute")
    clock.broken = False
    assert limiter.peek("a").limit == 5
    assert "limit=5" in repr(limiter)
