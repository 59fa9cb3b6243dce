"""The plan: which batch goes when, what is sent again, who is believed to be there, and what happens without Redis."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

import pytest
from simulation.fleet import MS, Fleet, Instance
from simulation.merge import Holders, read_state

from penstock.clock import NS
from penstock.rate import Concurrency, FixedWindow, SlidingWindow, TokenBucket
from penstock.sync.plan import AWAY_AFTER, Plan, Send, Sleep, aged
from penstock.sync.wire import (
    BUCKET,
    ENTRY_BYTES,
    FIXED,
    HELD,
    OK,
    Answer,
    Entry,
    Reply,
    Rule,
    pack_entries,
    pack_reply,
    unpack_entries,
    unpack_header,
)

FAST = TokenBucket(400)


@pytest.fixture(autouse=True)
def engines(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test on each engine."""
    monkeypatch.setattr(Fleet, "backend", backend)


def headers(fleet: Fleet, instance: Instance | None = None) -> list[tuple[int, Any, int]]:
    """(time, header, number of entries) of the batches sent."""
    return [
        (when, unpack_header(send.header)[0], unpack_header(send.header)[2])
        for when, sender, send in fleet.batches
        if instance is None or sender is instance
    ]


def spent(fleet: Fleet, key: str = "k", rule: int = 0) -> float:
    """Units that the server counts against a bucket now."""
    fp = fleet.instances[0].engine.fingerprint(key)
    stored = fleet.server.peek(("state", rule, fp))
    policy = fleet.policies[0][rule]
    if stored is None:
        return 0.0
    return max(0.0, struct.unpack("<dfI", stored)[0] - fleet.server.now_us) * policy.rate / (policy.per_ns / 1000)


# ---- when ----


def test_the_first_thing_said_is_that_one_is_there() -> None:
    fleet = Fleet(FAST)
    ((when, header, entries),) = headers(fleet)
    assert (when, header.beat, header.seq, header.acked, entries) == (0, True, 1, 0, 0)
    fleet.run(0.01)
    assert fleet.instances[0].plan.state(fleet.now).connected


def test_an_idle_limiter_says_so_about_once_a_second() -> None:
    fleet = Fleet(FAST)
    fleet.run(20)
    sent = headers(fleet)
    assert 20 <= len(sent) <= 26
    assert all(header.beat and entries == 0 for _, header, entries in sent)
    assert [header.acked for _, header, _ in sent] == [header.seq - 1 for _, header, _ in sent]


def test_batches_are_an_interval_apart_and_early_ones_are_rationed() -> None:
    fleet = Fleet(FAST, count=4)
    fleet.load(2000, 4)
    for instance in fleet.instances:
        times = [when for when, _, _ in headers(fleet, instance)]
        assert len(times) <= 4 * (20 + 1.1 / 0.05) + 10 + 4
        assert min(b - a for a, b in itertools.pairwise(times)) >= MS // 2  # one on its way at a time
    ticks = Fleet(TokenBucket(1000, 1, 100_000))
    ticks.load(100, 5)  # so far from the limit that there is no hurry
    gaps = [b - a for a, b in itertools.pairwise(when for when, _, _ in headers(ticks))]
    assert max(gaps) <= 1.11 * (4 + 1) * 50 * MS


def test_one_batch_of_a_partition_is_on_its_way() -> None:
    fleet = Fleet(FAST)
    fleet.run(0.5)
    plan = fleet.instances[0].plan
    with pytest.raises(RuntimeError, match="partition 0 has no batch on its way"):
        plan.answered(0, b"", fleet.now)
    fleet.reaches = lambda instance: False
    fleet.run(0.8)
    sent = [header.seq for when, header, _ in headers(fleet) if when >= 0.5 * NS]
    assert len(set(sent)) == 1


def test_keys_beyond_a_batch_follow_at_once() -> None:
    fleet = Fleet(FAST)
    fleet.run(0.02)
    for number in range(450):
        fleet.instances[0].hit(f"key {number}")
    fleet.run(0.1)
    full = [entries for _, _, entries in headers(fleet) if entries]
    assert full == [200, 200, 50]
    assert fleet.instances[0].engine.unsettled() == (0, 0, 0)


# ---- again ----


def test_a_batch_is_sent_again_under_its_number_and_only_older() -> None:
    fleet = Fleet(FAST)
    fleet.run(0.2)
    fleet.batches.clear()
    fleet.reaches = lambda instance: False
    fleet.instances[0].hit("k", 5)
    fleet.run(0.3)
    first, *others = [send for _, _, send in fleet.batches if send.entries]
    assert others
    for send in others:
        assert send.header == first.header
        (before,), (after,) = unpack_entries(first.entries), unpack_entries(send.entries)
        assert after._replace(age_us=0) == before._replace(age_us=0)
        assert before.age_us <= after.age_us <= 50_000
    timeouts = [send.timeout_ns for _, _, send in fleet.batches if send.entries]
    assert timeouts[:3] == [50 * MS, 100 * MS, 200 * MS][: len(timeouts)]


def test_ages_stop_at_the_interval_but_for_windows() -> None:
    entries = pack_entries([Entry(0, debt=3, age_us=20_000), Entry(1, debt=3, age_us=20_000)])
    rules = [Rule(BUCKET, 1000.0, 1000.0, 1000.0, 5.0), Rule(FIXED, 1e6, 10.0, 10.0, 5.0)]
    bucket, window = unpack_entries(aged(entries, 70_000, rules, 50_000, fades=False))
    assert (bucket.age_us, window.age_us) == (50_000, 90_000)
    bucket, window = unpack_entries(aged(entries, 999_000, rules, 50_000, fades=True))
    assert (bucket.debt, window.debt) == (0, 0)


def test_what_was_answered_in_vain_is_not_counted_twice() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 100))
    fleet.run(0.2)
    fleet.returns = lambda instance: fleet.rng.random() < 0.5
    for _ in range(40):
        fleet.instances[0].hit("k")
        fleet.run(0.1)
    fleet.returns = lambda instance: True
    fleet.run(3)
    state = fleet.instances[0].plan.state(fleet.now)
    assert state.duplicates > 0
    assert state.unsettled == 0
    assert spent(fleet) == pytest.approx(40, abs=0.1)


def test_losses_leave_the_rate_as_it_is() -> None:
    fleet = Fleet(FAST, count=4)
    fleet.reaches = lambda instance: fleet.rng.random() > 0.01
    fleet.returns = lambda instance: fleet.rng.random() > 0.01
    assert sum(fleet.load(600, 25)[5:]) == pytest.approx(20 * 400, rel=0.01)


def test_lost_writes_are_restored() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500), count=2)
    fleet.run(0.2)
    for number in range(300):
        assert fleet.instances[0].hit(f"key {number}", 20)
    fleet.run(1)
    assert spent(fleet, "key 7") == pytest.approx(20, abs=0.1)
    fleet.server.flush()
    fleet.run(2)
    assert spent(fleet, "key 7") == pytest.approx(20, abs=0.1)
    assert all(spent(fleet, f"key {number}") > 19 for number in range(300))
    assert max(entries for _, _, entries in headers(fleet)) == 200  # in pieces
    state = fleet.instances[0].plan.state(fleet.now)
    assert state.lost == 1
    assert state.mode == "normal"


def test_an_old_replica_gets_what_it_missed() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500))
    fleet.run(0.2)
    old = fleet.server.snapshot()
    fleet.instances[0].hit("k", 100)
    fleet.run(0.5)
    fleet.server.revert(old)
    fleet.instances[0].hit("k", 10)
    fleet.run(1)
    assert spent(fleet) == pytest.approx(110, abs=0.1)


# ---- how far Redis is ----


def test_a_long_way_makes_the_interval_longer_and_a_short_one_shorter_again() -> None:
    fleet = Fleet(FAST)
    fleet.delay_ns = 60 * MS
    fleet.load(100, 6)
    far = fleet.instances[0].plan.state(fleet.now)
    assert far.mode == "normal"
    assert far.round_trip == pytest.approx(0.12)
    assert far.interval >= 0.2
    fleet.delay_ns = MS
    fleet.load(100, 18)
    assert fleet.instances[0].plan.state(fleet.now).interval == pytest.approx(0.05)


# ---- who is there ----


def test_a_new_instance_supposes_a_fleet_until_it_knows_better() -> None:
    fleet = Fleet(FAST, fleet_hint=8)
    seen = []
    for _ in range(50):
        fleet.run(0.1)
        seen.append(fleet.instances[0].plan.instances(fleet.now))
    assert seen[:29] == [8] * 29
    assert seen[-1] == 1


def test_the_fleet_is_larger_at_once_and_smaller_after_silence() -> None:
    fleet = Fleet(FAST, count=2, fleet_hint=1)
    fleet.run(5)
    first = fleet.instances[0].plan
    assert first.instances(fleet.now) == 2
    fleet.join()
    fleet.run(1.1)
    assert first.instances(fleet.now) == 3
    fleet.instances[1].alive = fleet.instances[2].alive = False
    fleet.run(2)
    assert first.instances(fleet.now) == 3
    fleet.run(5)
    assert first.instances(fleet.now) == 1


def test_a_flush_does_not_make_everyone_believe_to_be_alone() -> None:
    fleet = Fleet(FAST, count=6, fleet_hint=1)
    fleet.run(5)
    fleet.server.flush()
    for _ in range(30):
        fleet.run(0.1)
        assert all(instance.plan.instances(fleet.now) == 6 for instance in fleet.instances)


# ---- keys made as good as new ----


def reset(instance: Instance, key: str | None) -> None:
    """As Limiter.reset and clear do it."""
    if key is None:
        instance.engine.clear()
    else:
        instance.engine.reset(key)
    instance.plan.forget(None if key is None else instance.engine.fingerprint(key))
    instance.look()


def used_up(fleet: Fleet, *keys: str) -> None:
    """Admits all that there is of some keys, at every instance, until Redis and each of them know."""
    fleet.run(4)
    for _ in range(20):
        for instance in fleet.instances:
            for key in keys:
                instance.hit(key, 10)
        fleet.run(0.1)
    for key in keys:
        assert not any(instance.engine.peek(key).allowed for instance in fleet.instances)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("everything", [False, True])
def test_a_reset_key_is_new_for_all_instances(partitions: int, everything: bool) -> None:
    fleet = Fleet(TokenBucket(1, 1000, 200), FixedWindow(500, 3600), count=3, partitions=partitions)
    used_up(fleet, "k", "other")
    one = fleet.instances[0]
    reset(one, None if everything else "k")
    assert one.engine.peek("k").allowed
    fleet.run(1.1)
    for instance in fleet.instances:
        assert instance.engine.peek("k", 20).allowed
        assert instance.engine.peek("other").allowed == everything
    assert sum(instance.hit("k", 10) for instance in fleet.instances for _ in range(3)) >= 60
    fleet.run(0.5)
    assert 60 <= spent(fleet) <= 100
    assert all(instance.plan.state(fleet.now).lost == 0 for instance in fleet.instances)
    assert all(not part.forgets for part in one.plan._partitions)


def test_a_reset_during_an_outage_is_told_afterwards() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 200), count=2)
    used_up(fleet, "k")
    fleet.reaches = lambda instance: False
    fleet.run(2)
    one = fleet.instances[0]
    assert one.plan.away
    reset(one, "k")
    assert one.engine.peek("k").allowed
    assert spent(fleet) > 190
    fleet.run(3)
    fleet.reaches = lambda instance: True
    fleet.run(4)
    assert not one.plan.away
    assert spent(fleet) == 0
    assert all(instance.engine.peek("k", 20).allowed for instance in fleet.instances)


def test_a_reset_that_meets_lost_writes_comes_after_what_is_restored() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 200), count=2)
    used_up(fleet, "k", "other")
    fleet.server.flush()
    one = fleet.instances[0]
    reset(one, "k")
    fleet.run(0.5)
    assert one.plan.state(fleet.now).lost >= 1
    assert one.engine.peek("k", 20).allowed
    assert spent(fleet, "other") > 190


def test_no_more_resets_wait_for_redis_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sync.plan.FORGETS_MOST", 3)
    fleet = Fleet(TokenBucket(10))
    fleet.reaches = lambda instance: False
    one = fleet.instances[0]
    for number in range(5):
        reset(one, f"key {number}")
    kept = [one.engine.fingerprint(f"key {number}") for number in (2, 3, 4)]
    assert list(one.plan._partitions[0].forgets) == kept


def test_who_waits_for_a_key_that_is_reset_looks_again() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 20), count=2)
    used_up(fleet, "k")
    other = fleet.instances[1]
    other.woken.clear()
    reset(fleet.instances[0], "k")
    fleet.run(1.1)
    assert other.engine.fingerprint("k") in other.woken


# ---- who waits ----


def test_units_waited_for_are_leased_and_their_waiters_woken() -> None:
    fleet = Fleet(TokenBucket(5), kappa=0.0)
    fleet.run(0.2)
    waiting = fleet.instances[0]
    found = waiting.engine.fingerprint("k")
    assert not waiting.engine.claim("k", 3)
    waiting.waited = {found: 3}
    waiting.plan.ask(found)
    fleet.run(0.02)  # not the time of a tick
    assert set(waiting.woken) == {found}
    waiting.waited = {}
    assert waiting.engine.claim("k", 3)
    fleet.run(1)
    assert waiting.engine.unsettled()[:2] == (0, 0)


def test_waiters_are_of_their_partition() -> None:
    fleet = Fleet(TokenBucket(50), kappa=0.0, partitions=4)
    fleet.run(0.2)
    one = fleet.instances[0]
    one.waited = {one.engine.fingerprint(f"key {number}"): 2 for number in range(20)}
    for number in range(20):
        one.engine.claim(f"key {number}", 2)
    fleet.run(0.2)
    assert set(one.woken) == set(one.waited)
    for when, _, send in fleet.batches:
        fps = struct.unpack(f"<{len(send.fps) // 8}Q", send.fps)
        assert all((fp >> 48) % 4 == send.partition for fp in fps), when


# ---- without Redis ----


@pytest.mark.parametrize("weights", [[0.25] * 4, [0.9, 0.1 / 3, 0.1 / 3, 0.1 / 3]])
def test_in_an_outage_each_enforces_its_part(weights: list[float]) -> None:
    fleet = Fleet(FAST, count=4)
    fleet.load(600, 5, weights=weights)
    fleet.reaches = lambda instance: False
    outage = fleet.load(600, 30, weights=weights)
    assert {instance.plan.state(fleet.now).mode for instance in fleet.instances} == {"share"}
    least = 0.95 if weights[0] == 0.25 else 0.75
    assert least * 12_000 <= sum(outage) <= 1.05 * 12_000
    fleet.reaches = lambda instance: True
    back = fleet.load(600, 8, weights=weights)
    assert {instance.plan.state(fleet.now).mode for instance in fleet.instances} == {"normal"}
    assert min(back[1:]) >= 360
    assert sum(back) <= 8 * 400 + 400


def test_open_admits_all_and_reports_no_more_than_counts() -> None:
    fleet = Fleet(FAST, count=2, on_outage="open")
    fleet.load(600, 4)
    fleet.reaches = lambda instance: False
    outage = fleet.load(1200, 6)
    assert min(outage[1:]) >= 1050
    fleet.reaches = lambda instance: True
    back = fleet.load(600, 8)
    assert min(back) >= 200  # who is still open takes from those who know better
    assert max(back[3:]) <= 440


def test_closed_admits_nothing() -> None:
    fleet = Fleet(FAST, count=2, on_outage="closed")
    fleet.load(600, 4)
    fleet.reaches = lambda instance: False
    outage = fleet.load(600, 5)
    assert outage[1:] == [0] * 4
    fleet.reaches = lambda instance: True
    assert min(fleet.load(600, 6)[3:]) >= 390


def test_a_hanging_connection_counts_as_silence() -> None:
    fleet = Fleet(FAST)
    fleet.run(0.5)
    plan = fleet.instances[0].plan
    now = fleet.now
    while not isinstance(step := plan.next(now), Send):
        now += max(step.ns, MS)
    while not plan.away:
        rest = plan.next(now)
        assert isinstance(rest, Sleep)
        now += max(rest.ns, MS)
    assert now - fleet.now <= 1.5 * NS
    assert plan.error is None
    plan.failed(0, "no way in", now)
    assert plan.state(now).error == "no way in"


def test_redis_is_away_after_three_failures_and_one_partition_alone() -> None:
    fleet = Fleet(TokenBucket(100), partitions=4)
    fleet.run(0.5)
    instance = fleet.instances[0]
    send, failed = instance._send, 0

    def without_the_third(step: Send) -> None:
        nonlocal failed
        if step.partition == 2:
            failed += 1
            fleet.at(
                fleet.now + MS,
                lambda: (instance.plan.failed(2, "gone", instance.engine.now_ns()), instance.look()),
            )
        else:
            send(step)

    instance._send = without_the_third  # type: ignore[method-assign]
    fleet.run(5)
    assert failed >= AWAY_AFTER
    assert [part.away for part in instance.plan._partitions] == [False, False, True, False]
    for number in range(40):
        assert instance.hit(f"key {number}", 2)
    fleet.run(0.5)
    assert instance.engine.unsettled() == (0, 0, 0)
    instance._send = send  # type: ignore[method-assign]
    fleet.run(4)
    assert not instance.plan.away
    assert all(spent(fleet, f"key {number}") == 0 for number in range(40))  # refilled since


@pytest.mark.parametrize(("mode", "held"), [("share", 25), ("closed", 0)])
def test_units_held_without_redis(mode: str, held: int) -> None:
    """Each instance holds its part of the limit; who comes back tells what it holds before anything is granted."""
    fleet = Fleet(Concurrency(100), count=4, on_outage=mode)
    fleet.run(4)
    fleet.reaches = lambda instance: False
    for instance in fleet.instances:
        instance.hit("other")
    fleet.run(2)
    taken = []
    for instance in fleet.instances:
        instance.hit("k")
        fleet.run(0.2)
        taken.append(sum(instance.hit("k") for _ in range(200)))
    assert {instance.plan.state(fleet.now).mode for instance in fleet.instances} == {mode}
    assert all(held - 1 <= units <= held for units in taken)
    fleet.reaches = lambda instance: True
    fleet.run(4)
    fp = fleet.instances[0].engine.fingerprint("k")
    stored = fleet.server.peek(("state", 0, fp))
    if mode == "share":
        holders = read_state(HELD, stored or b"")
        assert isinstance(holders, Holders)
        assert sum(one.units for one in holders.holders) == sum(taken) + 4
    for instance in fleet.instances:
        instance.engine.release("k", 50)
    again = 0
    for _ in range(40):
        again += sum(instance.hit("k") for instance in fleet.instances)
        fleet.run(0.05)
    assert 100 <= again <= 100 + 4 * 12


def test_the_use_of_an_outage_is_unsettled() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500), count=2)
    fleet.run(4)
    fleet.reaches = lambda instance: False
    fleet.run(2)
    one = fleet.instances[0]
    taken = sum(one.hit("k") for _ in range(100))
    fleet.run(1)
    assert one.plan.state(fleet.now).mode == "share"
    assert one.engine.unsettled()[:2] == (0, 0)
    assert one.plan.state(fleet.now).unsettled == taken > 0
    fleet.reaches = lambda instance: True
    fleet.run(4)
    assert one.plan.state(fleet.now).unsettled == 0
    assert spent(fleet) == pytest.approx(taken, abs=2)


def test_overuse_is_what_is_owed_now() -> None:
    fleet = Fleet(TokenBucket(200, 1, 100), count=8)
    fleet.load(1000, 6)
    states = [instance.plan.state(fleet.now) for instance in fleet.instances]
    assert all(state.overuse <= 100 for state in states)
    assert max(state.repaid for state in states) > 0
    fleet.run(2)
    after = [instance.plan.state(fleet.now) for instance in fleet.instances]
    assert all(state.overuse == 0 for state in after)
    assert all(late.repaid >= early.overuse + early.repaid for late, early in zip(after, states, strict=True))


def test_a_short_outage_loses_nothing() -> None:
    """A bucket that takes long to fill: what was used during the outage still counts after it."""
    fleet = Fleet(TokenBucket(1, 1000, 500))
    fleet.run(4)
    fleet.reaches = lambda instance: False
    fleet.run(2)
    for _ in range(50):
        fleet.instances[0].hit("k")
        fleet.run(0.02)
    assert fleet.instances[0].plan.away
    fleet.reaches = lambda instance: True
    fleet.run(4)
    assert not fleet.instances[0].plan.away
    assert spent(fleet) == pytest.approx(50, abs=1.5)


def test_a_batch_of_before_the_outage_counts_once() -> None:
    for applied in (True, False):
        fleet = Fleet(TokenBucket(1, 1000, 500))
        fleet.run(4)
        fleet.returns = lambda instance: False
        fleet.reaches = lambda instance, applied=applied: applied  # type: ignore[misc]
        fleet.instances[0].hit("k", 30)
        fleet.run(0.2)
        fleet.reaches = lambda instance: False
        fleet.run(3)
        assert fleet.instances[0].plan.away
        fleet.reaches = fleet.returns = lambda instance: True
        fleet.run(4)
        assert spent(fleet) == pytest.approx(30, abs=0.1)
        assert fleet.instances[0].plan.state(fleet.now).duplicates == applied


def test_redis_that_comes_back_empty_is_told() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500), count=2)
    fleet.run(4)
    fleet.instances[0].hit("k", 100)
    fleet.run(1)
    fleet.reaches = lambda instance: False
    fleet.run(3)
    fleet.server.restart()
    fleet.reaches = lambda instance: True
    fleet.run(5)
    assert spent(fleet) == pytest.approx(100, abs=2)


@pytest.mark.parametrize("limit", [FixedWindow(100, 1), SlidingWindow(100, 1)])
def test_windows_are_shared_with_and_without_redis(limit: FixedWindow | SlidingWindow) -> None:
    fleet = Fleet(limit, count=4)
    fleet.run(1)
    assert all(count <= 150 for count in fleet.load(300, 6))
    fleet.reaches = lambda instance: False
    fleet.run(1)
    assert all(40 <= count <= 150 for count in fleet.load(300, 6))
    fleet.reaches = lambda instance: True
    fleet.run(4)
    assert all(60 <= count <= 150 for count in fleet.load(300, 6))


@pytest.mark.parametrize(
    "answer", [None, Answer(math.nan, 0.0, 0, 0.0), Answer(9.0, 0.0, 2**32 - 1, 0.0)], ids=["bytes", "nan", "lease"]
)
def test_an_answer_that_cannot_be_is_a_failure(answer: Answer | None) -> None:
    """From who controls Redis; the engine never sees it, and the next true answer is taken."""
    fleet = Fleet(FAST)
    fleet.run(0.5)
    instance = fleet.instances[0]
    instance.hit("k")
    plan, now = instance.plan, fleet.now
    while not isinstance(step := plan.next(now), Send) or not step.entries:
        if isinstance(step, Send):
            plan.failed(0, "lost", now)
            now += MS
        else:
            now += max(step.ns, MS)
    count = len(step.entries) // ENTRY_BYTES
    plan.answered(0, b"+PONG" if answer is None else pack_reply(Reply(OK, 1, 1e12, (answer,) * count)), now)
    assert plan.error is not None
    assert plan.error.startswith("not an answer of ours: ")
    fleet.run(2)
    assert not plan.away


# ---- the end ----


def test_closing_settles_and_gives_back() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500))
    fleet.run(4)
    instance = fleet.instances[0]
    instance.waited = {instance.engine.fingerprint("k"): 50}
    instance.hit("k")
    fleet.run(0.06)
    assert instance.engine.unsettled()[2] > 0
    instance.waited = {}
    instance.hit("k", 3)
    instance.plan.close()
    instance.look()
    fleet.run(0.5)
    assert instance.plan.settled
    assert instance.engine.unsettled() == (0, 0, 0)
    assert spent(fleet) <= 54


def test_a_forked_child_has_nothing_of_its_parents() -> None:
    fleet = Fleet(TokenBucket(1, 1000, 500))
    fleet.run(4)
    instance = fleet.instances[0]
    instance.waited = {instance.engine.fingerprint("k"): 50}
    instance.hit("k")
    fleet.run(0.06)
    instance.hit("k", 200)
    instance.plan.abandon()
    assert instance.engine.unsettled() == (0, 0, 0)
    plan = Plan(instance.engine, fleet.policies, now=instance.engine.now_ns())
    assert isinstance(plan.next(instance.engine.now_ns()), Send)
