"""From limits to an engine's numbers: rates are kept to a millionth, words never overflow, misfits are refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.policy import (
    ALGORITHM_NAMES,
    CONCURRENCY,
    FIXED_WINDOW,
    GENERATIONS,
    HORIZON,
    SLIDING_LOG,
    SLIDING_WINDOW,
    STATE_BITS,
    TICK_SHIFT,
    TIERS_MOST,
    TOKEN_BUCKET,
    Policy,
    compile_policies,
    replace_policies,
)
from penstock.rate import LIMITS_MOST, YEAR_NS, Limit, check_per

NS = 10**9
WALL = 1_700_000_000 * NS + 123


def policy_of(limit: Limit, tiers: int = 1) -> Policy:
    """The policy of this limit beside `tiers - 1` equal ones."""
    return compile_policies([[limit]] * tiers, WALL)[0][0]


@st.composite
def buckets(draw: st.DrawFn) -> TokenBucket:
    """Any bucket that the class accepts."""
    per_ns = draw(st.sampled_from([1000, NS, 60 * NS, 86_400 * NS, 4 * YEAR_NS]) | st.integers(1000, 4 * YEAR_NS))
    per = per_ns / NS
    per_ns = check_per(per)
    limit = draw(st.integers(1, min(per_ns, 2**53)) | st.integers(1, min(per_ns, 100)))
    most = min(2**53, max(limit, 2 * YEAR_NS * limit // per_ns))
    burst = draw(st.none() | st.integers(1, most))
    return TokenBucket(limit, per, burst)


# ---- the bucket's ticks ----


@given(buckets())
def test_a_bucket_is_never_faster_than_stated_and_slower_by_a_millionth_at_most(bucket: TokenBucket) -> None:
    policy = policy_of(bucket)
    stated = Fraction(bucket.limit, check_per(bucket.per))
    real = Fraction(policy.ticks_per_ns, 2**TICK_SHIFT) / policy.token_ticks
    assert real <= stated
    assert (stated - real) / stated <= Fraction(1, 10**6)


@given(buckets(), st.integers(1, TIERS_MOST))
def test_a_bucket_word_holds_the_horizon_and_a_full_bucket_twice_over(bucket: TokenBucket, tiers: int) -> None:
    try:
        policy = policy_of(bucket, tiers)
    except ValueError:
        assert tiers > 1
        with pytest.raises(ValueError, match="takes too long to fill for"):
            policy_of(bucket, tiers)
        return
    now_most = (HORIZON * policy.ticks_per_ns) >> TICK_SHIFT
    assert now_most + 2 * policy.span_ticks < 2**policy.tag_shift
    assert GENERATIONS * tiers <= 2 ** (STATE_BITS - policy.tag_shift)
    assert policy.span_ticks == policy.limit * policy.token_ticks
    assert policy.token_ticks >= 1
    assert policy.ticks_per_ns < 2**64


def test_usual_rates_are_whole_numbers_of_ticks() -> None:
    for limit, per in [(1, 1), (10, 1), (1000, 1), (3, 1), (7, 60), (100, 3600), (10**7, 1), (1, 86_400)]:
        policy = policy_of(TokenBucket(limit, per))
        assert Fraction(policy.ticks_per_ns, 2**TICK_SHIFT) / policy.token_ticks == Fraction(limit, per * NS)


# ---- the other algorithms' words ----


@pytest.mark.parametrize("per", [1e-6, 0.001, 1, 60, 86_400, 4 * 365 * 86_400])
@pytest.mark.parametrize("resolution", [1, 6, 60])
@pytest.mark.parametrize("limit", [1, 100, 10**6, 2**40, 2**53])
def test_a_window_word_holds_what_it_must(limit: int, per: float, resolution: int) -> None:
    window = SlidingWindow(limit, per, resolution)
    try:
        policy = policy_of(window)
    except ValueError:
        assert limit >= 10**6 or per == 1e-6
        with pytest.raises(ValueError, match="is too large for sub-windows of"):
            policy_of(window)
        return
    epochs = HORIZON * resolution // check_per(per) + 2 * resolution
    epoch_bits = STATE_BITS - policy.count_bits - policy.age_bits - policy.version_bits
    assert epochs < 2**epoch_bits
    assert limit < 2**policy.count_bits
    assert resolution < 2**policy.age_bits
    assert policy.version_bits >= 2
    assert policy.tail_words == resolution


@pytest.mark.parametrize(("limit", "per"), [(1, 0.001), (100, 60), (65_536, 60), (1, 4 * 365 * 86_400)])
def test_a_log_has_a_ring_for_its_limit(limit: int, per: float) -> None:
    policy = policy_of(SlidingLog(limit, per))
    assert policy.ring == limit
    assert limit < 2**policy.count_bits
    assert policy.tail_words == limit + 1


def test_words_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SlidingLog.* is too fast for a log: use SlidingWindow or TokenBucket"):
        policy_of(SlidingLog(65_536, 1e-6))
    with pytest.raises(ValueError, match=r"FixedWindow.* is too large for so short a window: at most [0-9]+$"):
        policy_of(FixedWindow(2**53, 1e-6))
    with pytest.raises(ValueError, match=r"SlidingWindow.* raise per or lower resolution"):
        policy_of(SlidingWindow(2**53, 1, 60))
    with pytest.raises(ValueError, match="takes too long to fill for 16 tiers"):
        policy_of(TokenBucket(1, 4 * 365 * 86_400), TIERS_MOST)
    policy_of(TokenBucket(1, 4 * 365 * 86_400))


def test_a_window_on_the_epoch_grid_knows_where_it_was_born() -> None:
    assert policy_of(FixedWindow(5, 60)).grid_ns == WALL % (60 * NS)
    first = policy_of(FixedWindow(5, 60, "first"))
    assert (first.grid_ns, first.first_hit, first.tail_words) == (0, 1, 2)


def test_names_and_numbers_agree() -> None:
    limits: list[Limit] = [TokenBucket(1), SlidingWindow(1, 1), SlidingLog(1, 1), FixedWindow(1, 1), Concurrency(1)]
    assert [policy_of(limit).algorithm for limit in limits] == [0, 1, 2, 3, 4]
    assert (TOKEN_BUCKET, SLIDING_WINDOW, SLIDING_LOG, FIXED_WINDOW, CONCURRENCY) == (0, 1, 2, 3, 4)
    assert len(ALGORITHM_NAMES) == 5


# ---- tiers ----


def test_tiers_have_numbers_of_their_own_and_rings_for_the_largest() -> None:
    policies = compile_policies([[SlidingLog(5, 1)], [SlidingLog(50, 1)], [SlidingLog(7, 1)]], WALL)
    assert [limits[0].tag for limits in policies] == [0, 1, 2]
    assert {limits[0].ring for limits in policies} == {50}


@pytest.mark.parametrize("count", [0, LIMITS_MOST + 1])
def test_so_many_limits(count: int) -> None:
    with pytest.raises(ValueError, match=f"a limiter has 1 to {LIMITS_MOST} limits, not {count}"):
        compile_policies([[TokenBucket(1)] * count], WALL)


def test_so_many_tiers() -> None:
    compile_policies([[TokenBucket(1)]] * TIERS_MOST, WALL)
    with pytest.raises(ValueError, match=f"at most {TIERS_MOST} tiers .* not {TIERS_MOST + 1}"):
        compile_policies([[TokenBucket(1)]] * (TIERS_MOST + 1), WALL)


MISFITS: list[tuple[list[Limit], list[Limit]]] = [
    ([TokenBucket(1)], [SlidingWindow(1, 1)]),
    ([TokenBucket(1)], [TokenBucket(1), TokenBucket(1)]),
    ([TokenBucket(1), SlidingLog(1, 1)], [SlidingLog(1, 1), TokenBucket(1)]),
    ([SlidingLog(1, 1)], [SlidingLog(2, 60)]),  # the short one would forget what the long one counts
    ([SlidingWindow(1, 1)], [SlidingWindow(1, 2)]),
    ([SlidingWindow(1, 1)], [SlidingWindow(1, 1, 5)]),
    ([FixedWindow(1, 1)], [FixedWindow(1, 2)]),
    ([FixedWindow(1, 1)], [FixedWindow(1, 1, "first")]),
    ([Concurrency(1)], [TokenBucket(1)]),
]


@pytest.mark.parametrize(("first", "second"), MISFITS)
def test_tiers_of_other_shapes(first: list[Limit], second: list[Limit]) -> None:
    with pytest.raises(ValueError, match="same algorithms in the same order"):
        compile_policies([first, second], WALL)
    with pytest.raises(ValueError, match="same algorithms in the same order"):
        replace_policies(compile_policies([first], WALL), first, [second])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([TokenBucket(1)], [TokenBucket(7, 60, 9)]),
        ([SlidingWindow(1, 60)], [SlidingWindow(9, 60.0)]),
        ([SlidingLog(5, 60)], [SlidingLog(4, 60)]),
        ([FixedWindow(1, 60)], [FixedWindow(9, 60)]),
        ([Concurrency(1)], [Concurrency(9)]),
    ],
)
def test_tiers_of_one_shape(first: list[Limit], second: list[Limit]) -> None:
    assert len(compile_policies([first, second], WALL)) == 2
    assert replace_policies(compile_policies([first], WALL), first, [second])[0][0].limit


# ---- replacements ----


def test_a_replacement_has_the_other_generations_numbers() -> None:
    limits: list[list[Limit]] = [[TokenBucket(1)], [TokenBucket(2)]]
    policies = compile_policies(limits, WALL)
    tags = []
    for _ in range(4):
        tags.append([tier[0].tag for tier in policies])
        policies = replace_policies(policies, limits[0], limits)
    assert tags == [[0, 1], [2, 3], [0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (SlidingLog(5, 1), SlidingLog(6, 1), "made for at most 5 admissions"),
        (SlidingWindow(5, 1), SlidingWindow(2**50, 1), "made for counts below [0-9]+"),
        (FixedWindow(5, 0.001), FixedWindow(2**50, 0.001), "made for counts below [0-9]+"),
    ],
)
def test_a_replacement_too_large_for_the_words_there_are(old: Limit, new: Limit, why: str) -> None:
    with pytest.raises(ValueError, match=f"{why}; make a new limiter"):
        replace_policies(compile_policies([[old]], WALL), [old], [[new]])


def test_a_window_leaves_room_to_be_raised() -> None:
    old: list[Any] = [SlidingWindow(1000, 60)]
    assert replace_policies(compile_policies([old], WALL), old, [[SlidingWindow(1_000_000, 60)]])[0][0].limit == 10**6
