"""Shared limits in one engine: what it admits on its own, what it tells, and what it makes of the answers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from engines import SECRET, engine_of, manual_clock

from penstock.clock import NS, ManualClock
from penstock.policy import compile_shared
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingWindow, TokenBucket
from penstock.sync.wire import DUP, ENTRY_BYTES, LEASE_NS, LOST, OK, Answer, Entry, Reply, pack_reply, unpack_entries

MS = 1_000_000
T = 50 * MS


class Shared(NamedTuple):
    """An engine of shared limits, its clock, and the calls that a driver makes."""

    engine: Any
    clock: ManualClock

    def after(self, ns: int) -> Shared:
        self.clock.set_ns(self.clock.now_ns() + ns)
        return self

    def told(self, tick: bool = True, wants: dict[tuple[int, int], int] | None = None, most: int = 200) -> list[Entry]:
        """Drains partition 0."""
        batch = self.engine.drain(0, most, tick, wants or {})
        return unpack_entries(batch[: len(batch) // (ENTRY_BYTES + 8) * ENTRY_BYTES])

    def hear(self, *answers: Answer, status: int = OK, now_us: float = 6e13, sent_ns: int | None = None) -> list[int]:
        sent = self.engine.now_ns() if sent_ns is None else sent_ns
        told: list[int] = self.engine.applied(0, pack_reply(Reply(status, 1, now_us, answers)), sent)
        return told

    def learn(self, a: float, grant: int = 0, demand: float = 0.0, b: float = 0.0, now_us: float = 6e13) -> Entry:
        """One exchange about one key, with this answer."""
        (entry,) = self.told()
        self.hear(Answer(a, b, grant, demand), now_us=now_us)
        return entry

    def hits(self, count: int, key: str = "k") -> int:
        """How many of so many calls are admitted."""
        return sum(self.engine.hit(key) for _ in range(count))


Make = Callable[..., Shared]


@pytest.fixture
def shared(backend: str) -> Make:
    """shared(TokenBucket(100), instances=4): an engine on the backend that shares limits."""
    if not hasattr(engine_of(backend), "share"):
        pytest.skip("this engine cannot share yet")

    def make(
        *limits: Limit,
        instances: int = 4,
        modes: Sequence[int] = (0,),
        kappa: float = 0.5,
        tiers: dict[str | None, Sequence[Limit]] | None = None,
        capacity: int = 100,
        evict: bool = True,
    ) -> Shared:
        named = tiers or {None: limits}
        clock = manual_clock()
        engine = engine_of(backend)(
            compile_shared(list(named.values()), T, kappa),
            {tier: index for index, tier in enumerate(named)},
            capacity=capacity,
            evict=evict,
            secret=SECRET,
            clock=clock,
            remember=False,
        )
        engine.share(instances, modes)
        return Shared(engine, clock)

    return make


# ---- deciding ----


def test_an_unknown_key_has_the_cap(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)  # 0.5 * 100 / 4
    assert one.hits(50) == 12
    assert one.engine.unsettled() == (12, 0, 0)


def test_a_large_cost_raises_the_cap(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=50)
    assert one.engine.largest() == [1]
    assert one.engine.hit("k", 30)
    assert one.engine.largest() == [30]
    assert not one.engine.hit("k", 101)
    assert one.engine.largest() == [30]
    assert not one.engine.hit("k")
    assert one.hits(40, "other") == 30


@pytest.mark.parametrize(("a", "demand", "most"), [(100.0, 0.0, 12), (3.0, 0.0, 3), (0.5, 0.0, 0), (-4.0, 0.0, 0)])
def test_a_known_key_has_its_room_up_to_the_cap(shared: Make, a: float, demand: float, most: int) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(1)
    one.learn(a, demand=demand)
    assert one.hits(50) == most


def test_room_comes_back_with_time(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(1)
    one.learn(-4.0)
    assert one.after(45 * MS).hits(5) == 0
    assert one.after(10 * MS).hits(5) == 1


def test_others_take_their_part_of_it(shared: Make) -> None:
    """Where demand is above the rate, an instance has its part of what there is and of what comes."""
    one = shared(TokenBucket(1000), instances=4)
    one.hits(1)
    one.learn(40.0, demand=4000.0)  # this one's demand, 1/s, is next to nothing: phi is 1/16
    assert 40 - 4 <= one.hits(100) <= 41  # until others can be supposed to have used it
    one.learn(40.0, demand=4000.0)
    assert one.after(40 * MS).hits(100) <= 4 + 80 / 16 + 1


def test_leases_come_first_and_run_out(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(1)
    one.learn(0.0, grant=5)
    assert one.engine.unsettled() == (0, 0, 5)
    assert one.hits(3) == 3
    assert one.engine.unsettled() == (0, 0, 2)
    one.after(2 * T)
    assert one.engine.unsettled() == (0, 0, 2)
    assert one.engine.hit("k")  # of the level by now
    assert one.engine.unsettled() == (1, 0, 2)
    (entry,) = one.told()
    assert (entry.debt, entry.back, entry.seen) == (1, 2, 4)


def test_strict_limits_admit_what_is_leased(shared: Make) -> None:
    one = shared(TokenBucket(100), kappa=0.0)
    assert one.hits(3) == 0
    assert one.engine.early() == 1
    (entry,) = one.told(tick=False)
    assert (entry.debt, entry.seen) == (0, 3)
    assert entry.want >= 1
    one.hear(Answer(97.0, 0.0, 3, 3.0))
    assert one.hits(5) == 3


def test_a_claim_takes_no_more_than_is_leased(shared: Make) -> None:
    one = shared(TokenBucket(100))
    refused = one.engine.claim("k")
    assert not refused.allowed
    assert refused.retry_after == 0.05
    one.learn(90.0, grant=1)
    assert one.engine.claim("k").allowed
    assert not one.engine.claim("k").allowed
    assert one.engine.check("k").allowed


@pytest.mark.parametrize(("mode", "admitted"), [(0, 3), (2, 50), (3, 0)])
def test_modes(shared: Make, mode: int, admitted: int) -> None:
    one = shared(TokenBucket(8), instances=2, kappa=0.75, modes=(mode,))
    assert one.hits(50) == admitted
    assert not one.engine.hit("k", 9)


def test_a_modes_partition_is_named_by_the_fingerprint(shared: Make) -> None:
    one = shared(TokenBucket(8), modes=(0, 2, 3))
    for i in range(30):
        partition = (one.engine.fingerprint(i) >> 48) % 3
        assert sum(one.engine.hit(i) for _ in range(20)) == (1, 20, 0)[partition]


# ---- what is told ----


def test_an_entry_tells_what_was_used(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(20)
    (entry,) = one.after(7 * MS).told()
    assert entry == Entry(0, debt=12, age_us=7000, seen=20, want=entry.want)
    assert one.engine.unsettled() == (0, 12, 0)
    assert one.hits(5) == 0  # the cap is used up until this is known to be settled
    with pytest.raises(RuntimeError):
        one.told()
    one.hear(Answer(88.0, 0.0, 0, 12.0))
    assert one.engine.unsettled() == (0, 0, 0)


def test_no_use_is_older_than_an_interval(shared: Make) -> None:
    one = shared(TokenBucket(100))
    one.hits(1)
    assert one.after(NS).told()[0].age_us == 50_000


def test_what_failed_is_told_again(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(1)
    one.learn(50.0, grant=4)
    one.hits(7)
    (before,) = one.told()
    assert (before.debt, before.back) == (3, 0)
    one.engine.failed(0)
    with pytest.raises(RuntimeError):
        one.engine.failed(0)
    assert one.engine.unsettled() == (3, 0, 0)
    (again,) = one.told()
    assert (again.debt, again.back, again.seen) == (3, 0, 7)


def test_a_batch_that_was_applied_before_brings_no_lease(shared: Make) -> None:
    one = shared(TokenBucket(100))
    one.hits(2)
    one.told()
    one.hear(Answer(50.0, 0.0, 9, 2.0), status=DUP)
    assert one.engine.unsettled() == (0, 0, 0)


NO_REPLIES = {
    "nothing": b"",
    "too few": pack_reply(Reply(OK, 1, 0.0, ())),
    "lost": pack_reply(Reply(LOST, 1, 0.0, ())),
    "cut short": struct.pack("<BBHId", 0, 1, 1, 1, 0.0),
}


@pytest.mark.parametrize("reply", NO_REPLIES.values(), ids=NO_REPLIES)
def test_a_reply_that_is_none_changes_nothing(shared: Make, reply: bytes) -> None:
    one = shared(TokenBucket(100))
    one.hits(2)
    one.told()
    with pytest.raises(ValueError, match="reply"):
        one.engine.applied(0, reply, 0)
    assert one.engine.unsettled() == (0, 2, 0)
    one.hear(Answer(50.0, 0.0, 0, 2.0))


def test_calm_and_refused_keys_wait_four_intervals(shared: Make) -> None:
    one = shared(TokenBucket(1000), instances=4)
    one.hits(1)
    one.learn(900.0)
    one.hits(2)
    assert one.after(T).told() == []
    assert [entry.debt for entry in one.after(3 * T).told()] == [2]
    one.hear(Answer(-1000.0, 0.0, 0, 2.0))
    assert one.hits(5) == 0
    for _ in range(6):
        assert one.after(T).told() == []  # of an empty key nothing is told
    assert [entry.seen for entry in one.after(NS).told()] == [5]


def test_only_so_many_entries_and_only_of_the_partition(shared: Make) -> None:
    one = shared(TokenBucket(100), modes=(0, 0))
    for i in range(40):
        one.engine.hit(i)
    batch = one.engine.drain(1, 5, True, {})
    found = struct.unpack("<5Q", batch[5 * ENTRY_BYTES :])
    assert [(fp >> 48) % 2 for fp in found] == [1] * 5
    one.engine.failed(1)
    batch = one.engine.drain(1, 200, True, {})
    assert 5 < len(batch) // (ENTRY_BYTES + 8) < 40
    assert one.engine.drain(1 - 1, 200, True, {})


def test_early_is_asked_when_half_the_cap_is_used(shared: Make) -> None:
    one = shared(TokenBucket(1000), instances=4)  # a cap of 125
    one.hits(62)
    assert one.engine.early() == 0
    assert one.told(tick=False) == []
    one.hits(1)
    assert one.engine.early() == 1
    assert one.engine.early() == 0
    assert [entry.debt for entry in one.told(tick=False)] == [63]


def test_a_lease_is_kept_by_an_early_exchange_and_given_back_by_a_tick(shared: Make) -> None:
    one = shared(TokenBucket(1000), instances=4)
    one.hits(100)
    assert one.engine.early() == 1
    one.learn(0.0, grant=80, demand=100.0)  # all demand is this instance's
    one.after(3 * MS).hits(29)
    assert one.engine.early() == 0
    one.hits(1)
    assert one.engine.early() == 1  # no more than what comes in in an interval is left
    (entry,) = one.told(tick=False)
    assert (entry.debt, entry.back, entry.want) == (0, 0, 100 - 50)
    one.hits(2)
    one.hear(Answer(0.0, 0.0, 50, 130.0))
    assert one.engine.unsettled() == (0, 0, 98)
    one.hits(1)
    (entry,) = one.told(tick=True)
    assert (entry.debt, entry.back) == (0, 97)


def test_a_kept_lease_lives_no_longer(shared: Make) -> None:
    one = shared(TokenBucket(1000), instances=4)
    one.hits(100)
    one.learn(0.0, grant=50)
    one.after(3 * MS).hits(40)  # it runs low
    one.told(tick=False)
    one.after(T)
    one.hear(Answer(-500.0, 0.0, 10, 150.0))
    assert one.after(T - 4 * MS).hits(1) == 1
    assert one.after(MS).hits(1) == 0


def test_who_waits_is_told_and_woken(shared: Make) -> None:
    one = shared(TokenBucket(10), instances=16)
    fp = one.engine.fingerprint("k")
    assert not one.engine.claim("k", 3).allowed
    assert one.engine.early() == 0  # whoever waits asks the driver
    (entry,) = one.told(tick=False, wants={(0, fp): 3, (0, 12345): 1})
    assert entry.want == 3
    assert one.hear(Answer(4.0, 0.0, 3, 3.0)) == [fp]
    assert one.engine.claim("k", 3).allowed


def test_a_lease_is_no_more_than_comes_in_while_it_lives(shared: Make) -> None:
    """2 phi r T: else idle leases, one after the other, would hold more than the burst."""
    one = shared(TokenBucket(1000), instances=100, kappa=0.5)
    one.hits(900)
    (entry,) = one.after(MS).told()
    assert entry.want == 100
    one.hear(Answer(990.0, 0.0, 100, 900.0))
    one.hits(500)
    one.after(T)
    assert one.told()[0].want == 100


# ---- when Redis forgot ----


def test_a_restored_batch_tells_what_was_known(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    for key, a, tat in (("a", 60.0, 123.0), ("b", 70.0, 456.0)):
        one.engine.hit(key)
        one.learn(a, b=tat)
    one.engine.hit("a", 12)
    (entry,) = one.told()
    with pytest.raises(ValueError, match="reply"):
        one.hear(status=LOST)
    batch = one.engine.restore(0)
    entries = unpack_entries(batch[: 2 * ENTRY_BYTES])
    assert entries == [entry._replace(known=123.0), Entry(0, known=456.0)]
    assert struct.unpack("<2Q", batch[2 * ENTRY_BYTES :]) == tuple(one.engine.fingerprint(key) for key in "ab")
    one.hear(Answer(48.0, 1.0, 0, 1.0), Answer(70.0, 2.0, 0, 1.0))
    assert one.engine.unsettled() == (0, 0, 0)


def test_restoring_needs_no_batch_on_its_way(shared: Make) -> None:
    """Even a heartbeat may find out that writes are lost."""
    one = shared(TokenBucket(100), instances=4)
    assert one.engine.restore(0) == b""
    one.hits(1)
    one.learn(60.0, b=123.0)
    assert unpack_entries(one.engine.restore(0)[:ENTRY_BYTES]) == [Entry(0, known=123.0)]
    with pytest.raises(RuntimeError):
        one.told()
    one.hear(Answer(60.0, 123.0, 0, 1.0))
    assert one.told() == []


def test_a_key_that_is_full_by_now_is_not_restored(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    for key, a in (("a", 60.0), ("b", 95.0)):
        one.engine.hit(key)
        one.learn(a)
    one.after(60 * MS).engine.hit("a", 12)
    one.told()
    assert len(one.engine.restore(0)) == ENTRY_BYTES + 8


# ---- giving back, forgetting ----


def test_a_refund_takes_back_what_is_not_told_and_returns_the_rest(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(5)
    one.engine.refund("k", 2)
    assert one.engine.unsettled() == (3, 0, 0)
    one.learn(97.0)
    one.engine.refund("k", 2)
    assert one.engine.unsettled() == (0, 0, 2)
    one.after(3 * T)
    assert one.told()[0].back == 2
    one.engine.refund("nobody")


def test_force_goes_below_the_cap(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.engine.force("k", 40)
    assert one.engine.unsettled() == (40, 0, 0)
    assert one.told()[0].debt == 40


@pytest.mark.parametrize("clear", [False, True])
def test_a_reset_key_is_new_but_for_what_is_on_its_way(shared: Make, clear: bool) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(5)
    one.learn(0.0, grant=3)
    one.after(120 * MS).hits(5)
    assert one.engine.unsettled() != (0, 0, 0)
    one.told()
    one.hits(2)
    flying = one.engine.unsettled()[1]
    if clear:
        one.engine.clear()
    else:
        one.engine.reset("k")
    assert one.engine.unsettled() == (0, flying, 0)
    assert one.hits(50) == 12 - flying
    one.engine.failed(0)
    assert one.engine.unsettled()[:2] == (12, 0)


def test_what_is_made_new_elsewhere_is_told_here_still(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(5)
    one.learn(20.0, grant=2)
    one.hits(5)
    one.engine.unlearn(one.engine.fingerprint("other"))
    assert one.engine.peek("k").remaining < 9
    one.engine.unlearn(one.engine.fingerprint("k"))
    assert one.engine.unsettled() == (3, 0, 0)
    assert one.hits(50) == 12 - 3
    one.learn(0.0)
    one.engine.unlearn(None)
    assert one.hits(50) == 12


def test_a_forked_process_has_nothing_to_tell(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(5)
    one.learn(20.0, grant=2)
    one.hits(5)
    one.told(tick=False)
    one.engine.abandon()
    assert one.engine.unsettled() == (0, 0, 0)
    assert one.told() == []
    assert one.hits(50) <= 12
    assert one.hits(1, "new") == 1


def test_keys_with_anything_to_tell_keep_their_places(shared: Make) -> None:
    one = shared(TokenBucket(100), capacity=8)
    kept = [i for i in range(500) if one.engine.hit(i)]
    assert 8 <= len(kept) < 500
    assert one.engine.unsettled() == (len(kept), 0, 0)
    assert one.engine.counters() == (len(kept), 500 - len(kept), 0)
    one.told()
    one.hear(*[Answer(99.0, 0.0, 0, 1.0)] * len(kept))
    assert one.hits(20, "late") == 1  # it may have been known before: it begins with the largest cost
    assert one.engine.counters()[2] == 1


def test_a_full_key_is_forgotten(shared: Make) -> None:
    one = shared(TokenBucket(100))
    one.hits(1)
    one.learn(99.0)
    assert one.engine.live() == 1
    one.after(10 * MS)
    assert one.engine.live() == 0


# ---- several limits, tiers, new limits ----


def test_limits_decide_together(shared: Make) -> None:
    one = shared(TokenBucket(100), TokenBucket(10), instances=1, kappa=0.5)
    assert one.hits(20) == 5
    entries = one.told()
    assert [(entry.rule, entry.debt) for entry in entries] == [(0, 5), (1, 5)]
    assert entries[0].seen == entries[1].seen == 20
    assert one.engine.unsettled() == (0, 10, 0)


def test_an_entry_names_the_rule_of_the_last_tier(shared: Make) -> None:
    one = shared(tiers={None: [TokenBucket(10), TokenBucket(20)], "gold": [TokenBucket(1000), TokenBucket(2000)]})
    one.engine.hit("k")
    one.engine.hit("k", tier="gold")
    assert [(entry.rule, entry.debt) for entry in one.told()] == [(2, 2), (3, 2)]


def test_replaced_limits_keep_what_is_unsettled(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    one.hits(5)
    one.engine.replace(compile_shared([[TokenBucket(40)]], T, 0.5))
    assert one.engine.unsettled() == (5, 0, 0)
    assert one.hits(50) == 0
    one.learn(35.0)
    assert one.hits(50) == 5


# ---- decisions in full ----


def test_a_decision_says_what_is_left(shared: Make) -> None:
    one = shared(TokenBucket(100), instances=4)
    assert one.engine.peek("k") == (True, 100, 11, 0.0, 0.01, 0)
    assert one.engine.check("k", 3) == (True, 100, 9, 0.0, 0.03, 0)
    one.learn(2.0, grant=1)
    found = one.engine.peek("k", 2)
    assert found[:3] == (True, 100, 1)
    refused = one.engine.check("k", 4)
    assert refused[:4] == (False, 100, 3, 0.05)
    one.after(2 * T + 1)
    assert one.hits(50) == 12
    refused = one.engine.check("k", 80)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(0.8)
    assert refused.reset_after == pytest.approx(1.0, abs=1e-6)
    assert one.engine.check("k", 101).retry_after == math.inf


@pytest.mark.parametrize("limit", [TokenBucket(50), FixedWindow(50, 2), SlidingWindow(50, 2)], ids=repr)
def test_a_refusal_says_when_to_come_back(shared: Make, limit: Limit) -> None:
    """With nobody else about, a cost that was refused for want of room fits when it was said to, and not before."""
    one = shared(limit, instances=1, kappa=1.0)
    one.engine.hit("k", 10)
    counts = not isinstance(limit, TokenBucket)
    one.learn(30.0 if counts else 20.0, b=30.0 if counts else 0.0, now_us=6e13 + 500_000)
    refused = one.engine.peek("k", 30)
    assert not refused.allowed
    assert refused.retry_after >= 0.05
    one.after(round(refused.retry_after * NS) - 1000)
    assert not one.engine.peek("k", 30).allowed
    one.after(1000)
    assert one.engine.peek("k", 30).allowed


# ---- windows ----


@pytest.mark.parametrize(
    ("limit", "at_s", "room"),
    [
        (FixedWindow(100, 2), 0.0, 60),
        (FixedWindow(100, 2), 1.499, 60),
        (FixedWindow(100, 2), 1.5, 100),
        (SlidingWindow(100, 2), 0.0, 60 - 15),
        (SlidingWindow(100, 2), 1.0, 60 - 5),
        (SlidingWindow(100, 2), 1.5, 60),
        (SlidingWindow(100, 2), 2.5, 80),
        (SlidingWindow(100, 2), 3.5, 100),
    ],
)
def test_what_a_window_has_left(shared: Make, limit: Limit, at_s: float, room: int) -> None:
    one = shared(limit, instances=1, kappa=1.0)
    one.engine.hit("k", 1)
    one.learn(40.0, b=20.0, now_us=6e13 + 500_000)
    one.after(round(at_s * NS))
    assert one.engine.peek("k").remaining + 1 == room


def test_a_lease_dies_with_its_window(shared: Make) -> None:
    one = shared(FixedWindow(100, 2), kappa=0.0)
    one.hits(1)
    one.learn(1.0, grant=5, now_us=6e13 + 1_990_000)
    one.after(9 * MS)
    assert one.hits(1) == 1
    one.after(2 * MS)
    assert one.hits(1) == 0
    (entry,) = one.told()
    assert entry.back == 0  # the next window must not get what is left of this one
    assert one.engine.unsettled() == (0, 0, 0)


def test_use_of_two_windows_counts_in_the_later_one(shared: Make) -> None:
    one = shared(FixedWindow(100, 2), instances=1)
    one.hits(1)
    one.learn(1.0, now_us=6e13 + 1_990_000)
    one.hits(20)
    one.after(12 * MS).hits(3)
    (entry,) = one.after(700 * MS).told()  # 702 ms into the later one: the age points a quarter into it
    assert (entry.debt, entry.age_us) == (23, 202_000)


def test_use_counts_in_its_window_and_so_do_leases_given_back(shared: Make) -> None:
    one = shared(FixedWindow(100, 2), instances=1)
    one.hits(1)
    one.learn(1.0, grant=5, now_us=6e13 + 1_000_000)
    one.hits(20)
    (entry,) = one.after(400 * MS).told()  # 1.4 s into the window
    assert (entry.debt, entry.back, entry.age_us) == (15, 0, 900_000)
    one.hear(Answer(21.0, 0.0, 5, 1.0), now_us=6e13 + 1_400_000)
    (entry,) = one.after(590 * MS).told()
    assert (entry.debt, entry.back, entry.age_us) == (0, 5, 1_490_000)
    one.hear(Answer(21.0, 0.0, 0, 1.0), now_us=6e13 + 1_990_000)
    one.hits(30)
    (entry,) = one.after(100 * MS).told()  # of the window before, by now
    assert (entry.debt, entry.age_us) == (30, 90_000 + 1_500_000)


# ---- units held ----


def test_held_units_are_told_as_they_are_when_they_change(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    assert one.hits(20) == 12  # the cap
    entry = one.learn(88.0, b=12.0, demand=20.0)
    assert (entry.debt, entry.back, entry.age_us) == (12, 0, 0)
    assert one.engine.unsettled() == (0, 0, 0)  # Redis knows of them
    assert one.after(T).told() == []
    one.hits(1)
    one.engine.release("k", 3)
    (entry,) = one.after(T).told()
    assert entry.debt == 10
    one.hear(Answer(90.0, 10.0, 0, 20.0))
    assert one.after(T).told() == []


def test_a_place_given_back_is_the_next_callers(shared: Make) -> None:
    one = shared(Concurrency(10), instances=4, kappa=0.0)
    assert one.hits(1) == 0
    one.learn(7.0, grant=3, b=3.0, demand=4.0)
    assert one.hits(5) == 3
    one.engine.release("k", 2)
    assert one.engine.unsettled() == (0, 0, 2)
    assert one.hits(5) == 2
    one.engine.release("k", 50)
    assert one.engine.unsettled() == (0, 0, 3)  # no more than were held
    assert one.hits(5) == 3


def test_what_is_on_trust_goes_back_before_what_is_leased(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    one.hits(2)
    one.learn(90.0, grant=3, b=5.0, demand=1.0)
    assert one.hits(3 + 4) == 7
    assert one.engine.unsettled() == (4, 0, 0)
    one.engine.release("k", 3)
    assert one.engine.unsettled() == (1, 0, 0)
    one.engine.release("k", 3)
    assert one.engine.unsettled() == (0, 0, 2)


def test_trust_ends_with_the_room_and_with_the_cap(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    one.hits(1)
    one.learn(5.0, b=1.0, demand=1.0)
    assert one.hits(20) == 5
    one.learn(0.0, b=6.0, demand=1.0)
    assert one.after(3600 * NS).hits(1) == 0  # time brings nothing back
    one.learn(90.0, b=6.0, demand=1.0)
    assert one.hits(50) == 12


def test_held_units_are_told_again_before_their_lease_ends(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    one.hits(5)
    one.learn(95.0, b=5.0, demand=1.0)
    one.after(LEASE_NS // 4)
    assert one.told() == []
    (entry,) = one.after(LEASE_NS // 12).told()
    assert entry.debt == 5


def test_a_lease_that_ended_counts_no_more(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    one.hits(5)
    one.learn(90.0, grant=3, b=8.0, demand=1.0)
    one.after(LEASE_NS - LEASE_NS // 64 - 1)  # a little before Redis thinks so
    assert one.engine.peek("k").remaining == 3 + 12 - 1
    one.after(1)
    assert one.engine.unsettled()[0] == 5  # on trust, since Redis has forgotten them
    assert one.engine.peek("k").remaining == 12 - 5 - 1
    one.engine.release("k", 5)
    assert one.engine.unsettled()[0] == 0


def test_a_duplicate_grants_nothing_and_renews_nothing(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4, kappa=0.0)
    one.hits(1)
    one.learn(97.0, grant=3, b=3.0, demand=1.0)
    assert one.hits(3) == 3
    one.after(LEASE_NS // 2).told()
    one.hear(Answer(90.0, 10.0, 7, 1.0), status=DUP)
    assert one.hits(1) == 0
    (entry,) = one.after(T).told()  # what Redis has of it is too much
    assert entry.debt == 3
    one.hear(Answer(90.0, 3.0, 0, 1.0), status=DUP)
    one.after(LEASE_NS // 2)
    one.engine.release("k", 3)
    assert one.hits(1) == 0  # from the first lease on it is over


def test_held_units_are_told_to_a_redis_that_forgot(shared: Make) -> None:
    one = shared(Concurrency(100), Concurrency(50), instances=4)
    one.hits(5)
    one.told()
    one.hear(Answer(95.0, 5.0, 2, 1.0), Answer(45.0, 5.0, 0, 1.0))
    batch = one.engine.restore(0)
    entries = unpack_entries(batch[: len(batch) // (ENTRY_BYTES + 8) * ENTRY_BYTES])
    assert sorted((entry.rule, entry.debt, entry.known) for entry in entries) == [(0, 7, 0.0), (1, 5, 0.0)]


def test_release_is_for_held_units_alone(shared: Make) -> None:
    one = shared(TokenBucket(100), Concurrency(50), instances=4)
    one.hits(4)
    one.engine.release("k", 3)
    assert [(entry.rule, entry.debt) for entry in one.told()] == [(0, 4), (1, 1)]


def test_a_forked_process_holds_nothing(shared: Make) -> None:
    one = shared(Concurrency(100), instances=4)
    one.hits(5)
    one.learn(95.0, b=5.0, demand=1.0)
    one.engine.abandon()
    one.engine.release("k", 5)
    assert one.engine.unsettled() == (0, 0, 0)
    assert one.told() == []


def test_a_refusal_by_held_units_is_asked_again_and_ends_with_no_time(shared: Make) -> None:
    one = shared(Concurrency(10), instances=4)
    one.hits(1)
    one.learn(0.0, b=1.0, demand=1.0)
    decision = one.engine.check("k")
    assert (decision.allowed, decision.remaining) == (False, 0)
    assert decision.retry_after == pytest.approx(T / NS)
    assert decision.reset_after == math.inf
    assert one.engine.check("k", 11).retry_after == math.inf
    one.told()
    one.hear(Answer(0.0, 1.0, 0, 1.0))
    one.after(T).hits(1)
    assert one.engine.early() == 0  # known lately
    one.after(T).hits(1)
    assert one.engine.early() == 1


def test_an_instance_that_knew_of_no_room_asks_again_though_nobody_calls(shared: Make) -> None:
    one = shared(Concurrency(10), instances=4)
    one.hits(1)
    one.engine.release("k")
    one.learn(0.0, demand=1.0)
    one.after(LEASE_NS // 4)
    assert one.told() == []
    assert len(one.after(LEASE_NS // 12).told()) == 1
    one.hear(Answer(5.0, 0.0, 0, 1.0))
    assert one.after(LEASE_NS).told() == []


# ---- wrong calls ----


def test_wrong_arguments_are_named(shared: Make) -> None:
    one = shared(TokenBucket(100))
    with pytest.raises(ValueError, match="instances"):
        one.engine.share(0, (0,))
    with pytest.raises(ValueError, match="modes"):
        one.engine.share(1, (1,))
    with pytest.raises(ValueError, match="modes"):
        one.engine.share(1, ())
    with pytest.raises(RuntimeError):
        one.engine.applied(0, b"", 0)
