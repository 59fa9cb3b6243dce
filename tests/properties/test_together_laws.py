"""Several limits, tiers and replaced limits: all or nothing, and what was spent stays spent."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import KEY, buckets, concurrencies, fresh, histories, most_of, pass_ns, run, timed

from penstock.policy import HORIZON, compile_policies, replace_policies
from penstock.rate import COUNT_MOST, Concurrency, FixedWindow, Limit, SlidingLog, SlidingWindow, TokenBucket, check_per

SEVERAL = st.lists(st.one_of(timed, timed, concurrencies), min_size=2, max_size=4)


@given(SEVERAL, st.data())
def test_all_admit_or_nothing_is_taken(engine: Any, limits: list[Limit], data: st.DataObject) -> None:
    """Against engines of one limit each, which are only hit when all of them would admit."""
    together, clock = fresh(engine, *limits)
    alone = [engine(limit, clock=clock) for limit in limits]
    for wait, cost in data.draw(histories(*limits)):
        pass_ns(clock, wait)
        views = [one.peek(KEY, cost) for one in alone]
        decision = together.check(KEY, cost)
        assert decision.allowed == all(views)
        if decision:
            for one in alone:
                assert one.hit(KEY, cost)
        now = [view if decision or not view else one.peek(KEY, most_of(limit) + 1)
               for view, one, limit in zip(views, alone, limits, strict=True)]  # fmt: skip
        assert decision.retry_after == max(view.retry_after for view in views)
        assert decision.reset_after == max(view.reset_after for view in now)
        speaking = views[decision.limit_index]
        assert decision[1:3] == speaking[1:3]
        assert speaking.allowed == decision.allowed
        assert decision == together.peek(KEY, cost)._replace(**decision._asdict())


@given(timed | concurrencies, st.data())
def test_a_refund_makes_room_but_never_above_full(engine: Any, limit: Limit, data: st.DataObject) -> None:
    one, clock = fresh(engine, limit)
    run(one, clock, data.draw(histories(limit, size=8)))
    room, cost = one.peek(KEY, most_of(limit) + 1).remaining, data.draw(st.integers(1, most_of(limit)))
    if one.hit(KEY, cost):
        one.refund(KEY, cost)
        assert one.peek(KEY, most_of(limit) + 1).remaining == room
    one.refund(KEY, COUNT_MOST)
    assert one.peek(KEY, most_of(limit))
    assert not one.peek(KEY, most_of(limit) + 1)
    assert one.live() == 0
    assert one.hit(KEY, most_of(limit))
    assert not one.hit(KEY)


@given(timed | concurrencies, st.data())
def test_what_is_forced_is_owed(engine: Any, limit: Limit, data: st.DataObject) -> None:
    """A debt of any size refuses until it is paid, and no sum of debts wraps around to nothing."""
    one, clock = fresh(engine, limit)
    run(one, clock, data.draw(histories(limit, size=8)))
    for _ in range(data.draw(st.integers(1, 5))):
        one.force(KEY, data.draw(st.integers(most_of(limit), COUNT_MOST)))
    for _ in range(4):
        one.force(KEY, COUNT_MOST)
    decision = one.check(KEY)
    assert not decision
    assert decision.remaining == 0
    assert decision.retry_after > 0
    assert one.live() == 1
    one.reset(KEY)
    assert one.peek(KEY, most_of(limit)) == one.peek("never seen", most_of(limit))
    assert one.live() == 0


@given(buckets(), buckets(), st.data())
def test_a_tier_keeps_the_tokens_spent(
    engine: Any, limit: TokenBucket, other: TokenBucket, data: st.DataObject
) -> None:
    """Under another tier the same tokens are missing, rounded up by no more than a tick or a float's last bits."""
    clock = fresh(engine, limit)[1]
    one = engine(tiers={None: [limit], "other": [other]}, clock=clock)
    run(one, clock, data.draw(histories(limit, size=8)))
    spent = spent_tokens(one, limit)
    assume(can_be_owed(other, spent))
    assert kept(one, other, spent, tier="other")
    one.hit(KEY, 1, "other")
    again = spent_tokens(one, other, tier="other")
    assert kept(one, limit, again)


@given(buckets(), buckets(), st.data())
def test_replaced_limits_keep_the_tokens_spent(
    engine: Any, limit: TokenBucket, other: TokenBucket, data: st.DataObject
) -> None:
    one, clock = fresh(engine, limit)
    run(one, clock, data.draw(histories(limit, size=8)))
    spent = spent_tokens(one, limit)
    assume(can_be_owed(other, spent))
    policies = compile_policies([[limit]], clock.wall_ns())
    one.replace(replace_policies(policies, [limit], [[other]]))
    assert kept(one, other, spent)


def spent_tokens(one: Any, limit: TokenBucket, tier: str | None = None) -> tuple[Fraction, Fraction]:
    """What the key owes, in tokens, from when its bucket will be full: not more than the second, above the first."""
    reset = one.peek(KEY, most_of(limit) + 1, tier).reset_after
    ns = round(reset * 10**9)
    return tuple(Fraction(max(0, time) * limit.limit, check_per(limit.per)) for time in (ns - 2, ns + 1))  # type: ignore[return-value]


def can_be_owed(limit: TokenBucket, spent: tuple[Fraction, Fraction]) -> bool:
    """Whether so many tokens come back within the horizon; more are cut down to that."""
    return spent[1] * check_per(limit.per) / limit.limit < HORIZON // 2


def kept(one: Any, limit: TokenBucket, spent: tuple[Fraction, Fraction], tier: str | None = None) -> bool:
    least, most = spent_tokens(one, limit, tier)
    close = Fraction(1, 10**12)
    return least <= spent[1] * (1 + close) + close and most >= spent[0] * (1 - close)


@given(st.data())
@settings(max_examples=20)
def test_windows_keep_their_counts_across_tiers(engine: Any, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from((SlidingWindow, SlidingLog, FixedWindow)))
    small, large = kind(data.draw(st.integers(1, 9)), 60), kind(20, 60)
    clock = fresh(engine, small)[1]
    one = engine(tiers={"small": [small], "large": [large]}, clock=clock)
    taken = data.draw(st.integers(1, 20))
    assert one.hit(KEY, taken, "large")
    assert one.check(KEY, 1, "small").allowed == (taken < small.limit)
    assert one.peek(KEY, 21, "large").remaining == 20 - taken - (taken < small.limit)


def test_release_is_for_what_is_held(engine: Any) -> None:
    one, _ = fresh(engine, TokenBucket(5, 60), Concurrency(2))
    assert one.hit("a", 2)
    assert not one.hit("a")
    one.release("a", 2)
    assert one.check("a", 2)[:3] == (True, 2, 0)
    one.release("a", 1)
    one.release("a", 9)
    assert one.peek("a", 2)[:3] == (False, 5, 1)
