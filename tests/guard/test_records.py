"""The records against plain descriptions of what they count: windows, leaky buckets, distinct values, scores, bans."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._records import FOCUS, LEAKY, PULSE, SCORE, WINDOW, Records, Rule, window_capacity_most

S = 1_000_000_000
SECRET = bytes(range(16))


def records(*rules: Rule, capacity: int = 4096, bans: int = 64) -> Records:
    return Records(rules, capacity, bans, SECRET)


def facts(*values: Any) -> tuple[Any, ...]:
    return tuple(values)


gaps = st.lists(st.integers(0, 2 * S), min_size=1, max_size=120)


def times(steps: list[int]) -> Iterator[int]:
    now = 5 * S
    for step in steps:
        now += step
        yield now


@settings(max_examples=150, deadline=None)
@given(gaps, st.integers(0, 12), st.integers(S // 2, 8 * S))
def test_a_window_never_accuses_and_never_misses(steps: list[int], capacity: int, window: int) -> None:
    """Who has at most `capacity` events in every window is never over it; who has more within 2/3 of one always is."""
    third = window // 3
    one = records(Rule(WINDOW, (0,), capacity=capacity, span_ns=third))
    seen: list[int] = []
    for now in times(steps):
        seen.append(now)
        over = one.feed(0, 1, facts("a"), 0, now)
        if over:
            assert sum(now - then <= 3 * third for then in seen) > capacity
        if sum(now - then <= 2 * third for then in seen) > capacity:
            assert over


@settings(max_examples=150, deadline=None)
@given(gaps, st.integers(0, 12), st.integers(S // 10, 3 * S))
def test_a_leaky_bucket_to_the_nanosecond(steps: list[int], capacity: int, leak: int) -> None:
    one = records(Rule(LEAKY, (0,), capacity=capacity, span_ns=leak))
    full = 0  # ns of leaking that are in it
    last = 0
    for now in times(steps):
        full = max(0, full - (now - last))
        last = now
        over = full + leak > capacity * leak + 1_000_000  # another thread's time may be so much later
        full = capacity * leak if over else full + leak
        assert bool(one.feed(0, 1, facts("a"), 0, now)) is over


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, S), st.integers(0, 9)), min_size=1, max_size=120), st.integers(1, 6))
def test_distinct_values(steps: list[tuple[int, int]], capacity: int) -> None:
    """A value counts once in its time, however often it comes; the count never says more than there were."""
    window = 6 * S
    one = records(Rule(WINDOW, (0,), capacity=capacity, span_ns=window // 3, distinct=1, member_ns=window))
    seen: list[tuple[int, int]] = []
    now = 5 * S
    for step, value in steps:
        now += step
        seen.append((now, value))
        over = one.feed(0, 1, facts("a", value), 0, now)
        there = len({its for then, its in seen if now - then <= window})
        count = one.counts(0, 1, facts("a"), now)[0]
        assert count is not None
        assert count <= there
        assert bool(over) == (count > capacity)
        if len(seen) == len({its for _, its in seen}) and all(now - then <= 2 * window // 3 for then, _ in seen):
            assert count == min(there, capacity + 1)


def test_quiet_after_it_has_fired() -> None:
    one = records(Rule(WINDOW, (0,), capacity=2, span_ns=S, quiet_ns=10 * S))
    fired = [bool(one.feed(0, 1, facts("a"), 0, 5 * S + number)) for number in range(6)]
    assert fired == [False, False, True, False, False, False]
    assert not one.feed(0, 1, facts("a"), 0, 15 * S)
    assert [bool(one.feed(0, 1, facts("a"), 0, 15 * S + 10 + number)) for number in range(3)] == [False, False, True]


def test_conditions_and_missing_facts() -> None:
    one = records(Rule(WINDOW, (0, 1), 0b10, 0, S), Rule(WINDOW, (), 0, 0, S))
    assert one.feed(0, 2, facts("a", "b"), 0b10, S) == ((0, 1), (1, 1))
    assert one.feed(0, 2, facts("a", "b"), 0b01, S) == ((1, 2),)
    assert one.feed(0, 1, facts("a", None), 0b10, S) == ()
    assert one.feed(0, 1, facts("a"), 0b10, S) == ()


def test_facts_of_other_types_are_others() -> None:
    one = records(Rule(WINDOW, (0,), capacity=0, span_ns=S))
    counts = [one.feed(0, 1, facts(value), 0, S)[0][1] for value in ("1", b"1", 1, "1", "é", "\udc80", -1, 2**70)]
    assert counts == [1, 1, 1, 2, 1, 1, 1, 1]


def test_long_facts_are_told_apart_by_their_beginning_and_length() -> None:
    one = records(Rule(WINDOW, (0,), capacity=0, span_ns=S))
    long = "x" * 200_000
    assert one.feed(0, 1, facts(long), 0, S)[0][1] == 1
    assert one.feed(0, 1, facts(long), 0, S)[0][1] == 2
    assert one.feed(0, 1, facts(long + "x"), 0, S)[0][1] == 1
    assert one.feed(0, 1, facts("é" * 200_000), 0, S)[0][1] == 1


def test_compared_with_another_rule() -> None:
    whole = Rule(WINDOW, (0,), capacity=0, span_ns=100 * S, silent=True)
    part = Rule(WINDOW, (0,), 1, 2, 100 * S, of=((0, 10, 1 << 15),))  # more than half, of at least ten
    one = records(whole, part)
    for number in range(9):
        assert one.feed(0, 2, facts("a"), number & 1, 500 * S) == ()
    assert [one.feed(0, 2, facts("a"), 1, 500 * S) for _ in range(2)] == [(), ((1, 6),)]


def test_a_metronome_and_a_person() -> None:
    rule = Rule(PULSE, (0,), capacity=20, span_ns=600 * S, share=65536 // 20)
    one = records(rule)
    assert any(one.feed(0, 1, facts("clock"), 0, S + number * S) for number in range(60))
    now = S
    for number in range(200):
        now += S // 2 + (number * 7919 % 997) * S // 400
        assert not one.feed(0, 1, facts("person"), 0, now)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 50))
def test_a_focus_leads_by_no_more_than_it_has(values: list[int], capacity: int) -> None:
    """Whoever has a share above half leads at least by the rest; nobody is said to lead by more than he has."""
    rule = Rule(FOCUS, (0,), capacity=capacity, span_ns=600 * S, distinct=1)
    one = records(rule)
    for place, value in enumerate(values, 1):
        over = one.feed(0, 1, facts("a", value), 0, 900 * S + place)
        most = max(values[:place].count(its) for its in range(4))
        count = one.counts(0, 1, facts("a"), 900 * S + place)[0]
        assert count is not None
        assert 2 * most - place <= count <= most
        assert bool(over) == (count > capacity)
    assert not one.feed(0, 1, facts("a", 1), 0, 9000 * S)  # after a pause it begins anew
    assert one.counts(0, 1, facts("a"), 9000 * S) == [1]


def test_rules_of_the_same_values_share_their_memory() -> None:
    rules = [Rule(WINDOW, (0,), capacity=9, span_ns=20 * S, distinct=1, member_ns=ns) for ns in (5 * S, 60 * S)]
    alone, both = records(rules[0]), records(*rules)
    for number in range(10):
        alone.feed(0, 1, facts("a", number), 0, 90 * S)
        assert bool(both.feed(0, 2, facts("a", number), 0, 90 * S)) == (number == 9)
    assert alone.used() + 1 == both.used()
    assert both.counts(0, 2, facts("a"), 90 * S) == [10, 10]


def test_scores_fade_to_neutral() -> None:
    one = records(Rule(SCORE, (0,), half_life=100.0))
    assert one.score(0, facts("a"), S) == 0
    assert one.score(0, facts("a"), S, -40, -50, 0) == -40
    assert one.score(0, facts("a"), S, -40, -50, 0) == -50
    assert one.score(0, facts("a"), 101 * S) == pytest.approx(-25, rel=0.01)
    assert one.score(0, facts("a"), 100_000 * S) == pytest.approx(0, abs=0.01)
    assert one.score(0, facts(None), S) is None


def test_bans() -> None:
    one = records(Rule(WINDOW, (0,), span_ns=S))
    key = one.ban_key(0, "ip:192.0.2.1")
    assert one.banned(facts("ip:192.0.2.1"), 1, S) is None
    assert one.ban(key, S, 5_000, 1, 7, b"a" * 16) == (5_000, 1, 7)
    assert one.ban(key, S, 3_000, 2, 8) == (5_000, 2, 7)  # never shortened
    assert one.banned(facts("ip:192.0.2.1"), 1, S) == (0, 4_000, 2, 7)
    assert one.banned(facts("ip:192.0.2.1"), 2, S) is None
    assert one.banned(facts("ip:192.0.2.2"), 1, S) is None
    assert one.bans(S) == [(key, 5_000, 2, 7, b"a" * 16)]
    assert one.unban(key, 2 * S)
    assert not one.unban(key, 2 * S)
    assert one.ban_of(key) == (2_000, 2, 7)
    assert one.bans(2 * S) == []


def test_a_spray_of_keys_pushes_out_no_ban() -> None:
    one = records(Rule(WINDOW, (0,), capacity=10, span_ns=S), capacity=256, bans=64)
    for number in range(40):
        one.ban(one.ban_key(0, number), S, 3_600_000, 1, 0)
    for number in range(20_000):
        one.feed(0, 1, facts(f"spray {number}"), 0, S + number)
    assert len(one.bans(2 * S)) == 40
    assert one.evicted > 0
    assert one.bytes < 64_000


def test_more_bans_than_there_is_place_for_forget_the_shortest() -> None:
    one = records(Rule(WINDOW, (0,), span_ns=S), bans=64)
    for number in range(2_000):
        one.ban(one.ban_key(0, number), S, 10_000 + number, 1, 0)
    kept = {until for _, until, _, _, _ in one.bans(S)}
    assert 64 <= len(kept) <= 200
    assert sum(kept) / len(kept) > 11_000


def test_forgetting() -> None:
    one = records(Rule(WINDOW, (0,), capacity=9, span_ns=S), Rule(SCORE, (0,), half_life=9.0))
    one.feed(0, 1, facts("a"), 0, S)
    one.score(1, facts("a"), S, -9, -50, 0)
    one.ban(one.ban_key(0, "a"), S, 9_000, 1, 0)
    assert one.forget(facts("a")) == 3
    assert one.forget(facts("a")) == 0
    assert one.counts(0, 1, facts("a"), S) == [0]


def test_threads_lose_no_event() -> None:
    """Eight threads, one key and many: every event is counted, none twice."""
    one = records(*(Rule(WINDOW, (fact,), capacity=20_000, span_ns=1000 * S) for fact in (0, 1)))
    start = threading.Barrier(8)

    def run() -> None:
        start.wait()
        for number in range(1500):
            one.feed(0, 2, facts("hot", number % 50), 0, 5000 * S)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.counts(0, 1, facts("hot"), 5000 * S) == [12_000]
    assert sum(one.counts(1, 2, facts(None, number), 5000 * S)[0] or 0 for number in range(50)) == 12_000


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([Rule(9, (0,), span_ns=1)], "kind=9"),
        ([Rule(WINDOW, (0,), capacity=5000, span_ns=S // 3)], "capacity=5000 of a window must be 0 to 4094"),
        ([Rule(WINDOW, (0,), span_ns=0)], "span_ns=0"),
        ([Rule(LEAKY, (0,), capacity=2**40, span_ns=2**30)], "more than 36 years"),
        ([Rule(WINDOW, (0, 1, 2, 3, 4), span_ns=1)], "at most 4 facts"),
        ([Rule(WINDOW, (0,), span_ns=1, of=((0, 1, 1),))], "does not come before it"),
    ],
)
def test_rules_that_are_none(rules: list[Rule], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Records(rules, 64, 64, SECRET)


def test_arguments_that_are_wrong() -> None:
    one = records(Rule(WINDOW, (0,), span_ns=S))
    for wrong in ((-1, 1), (0, 2), (1, 0)):
        with pytest.raises(ValueError, match="rules"):
            one.feed(*wrong, facts("a"), 0, S)
    with pytest.raises(TypeError, match="float"):
        one.feed(0, 1, facts(1.5), 0, S)
    with pytest.raises(ValueError, match="16"):
        Records([], 64, 64, b"short")
    with pytest.raises(TypeError, match="pickled"):
        one.__reduce__()
    assert window_capacity_most(S // 3) == 4094


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5 * S)), max_size=300), st.binary(min_size=16, max_size=16)
)
def test_a_small_table_never_accuses(events: list[tuple[int, int]], secret: bytes) -> None:
    """With far too little place keys are forgotten; none is ever said to have more than it had."""
    one = Records([Rule(WINDOW, (0,), capacity=3, span_ns=S)], 4, 4, secret)
    seen: dict[int, list[int]] = {}
    now = 10 * S
    for key, step in events:
        now += step // 50
        seen.setdefault(key, []).append(now)
        if one.feed(0, 1, facts(key), 0, now):
            assert sum(now - then <= 3 * S for then in seen[key]) > 3


def test_a_time_a_little_older_counts_all_the_same() -> None:
    """As another thread's that was read earlier; a whole step back is the guard's to hold back."""
    one = records(Rule(WINDOW, (0,), capacity=2, span_ns=S), Rule(LEAKY, (0,), 0, 2, S))
    assert [one.feed(0, 2, facts("a"), 0, now) for now in (100 * S, 100 * S - 9_000)] == [(), ()]
    assert one.feed(0, 2, facts("a"), 0, 100 * S) == ((0, 3), (1, 3))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_has_its_own(tmp_path: object) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    one = records(Rule(WINDOW, (0,), capacity=9, span_ns=S))
    one.feed(0, 1, facts("a"), 0, S)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        one.feed(0, 1, facts("a"), 0, S)
        os.write(writing, str(one.counts(0, 1, facts("a"), S)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"[2]"
    assert one.counts(0, 1, facts("a"), S) == [1]
