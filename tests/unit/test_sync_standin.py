"""The stand-in: what it remembers of Redis, how it settles without it, and what it reports afterwards."""

from __future__ import annotations

import random

import pytest
from simulation.merge import MergeServer

from penstock.sync.standin import DRIFT_US, StandIn
from penstock.sync.wire import (
    BUCKET,
    FIXED,
    HELD,
    OK,
    SLIDING,
    Answer,
    Entry,
    Header,
    Reply,
    Rule,
    pack_entries,
    pack_header,
    unpack_entries,
    unpack_reply,
)

NOW_US = 60_000_000_000_000.0
BUCKET_RULE = Rule(BUCKET, 10_000.0, 100.0, 100.0, 50.0)  # 100/s
T_US = 50_000


def fps(*keys: int) -> bytes:
    return b"".join(key.to_bytes(8, "little") for key in keys)


def settle(
    standin: StandIn, entry: Entry, now_us: float, *, rule: Rule = BUCKET_RULE, instances: int = 4, mode: str = "share"
) -> Answer:
    """One key's batch, settled without Redis."""
    packed = standin.settle(
        [rule],
        pack_entries([entry]),
        fps(7),
        now_us=now_us,
        interval_us=T_US,
        instances=instances,
        mode=mode,
    )
    (answer,) = unpack_reply(packed, 1).answers
    return answer


def learn(standin: StandIn, entry: Entry, answer: Answer, now_us: float = NOW_US, rule: Rule = BUCKET_RULE) -> bool:
    return standin.learn([rule], pack_entries([entry]), fps(7), Reply(OK, 4, now_us, (answer,)), T_US)


def test_alone_it_is_what_redis_would_be() -> None:
    """With a part of 1, its answers are those of the merge, operation for operation."""
    for seed in range(200):
        rng = random.Random(seed)
        rule = Rule(rng.choice([BUCKET, FIXED, SLIDING]), rng.choice([900.0, 1e6]), 50.0, 50.0, 10.0)
        server, standin, now_us = MergeServer(int(NOW_US)), StandIn(10), NOW_US
        standin.begin(now_us)
        for seq in range(1, 20):
            now_us += rng.randrange(200_000)
            server.now_us = int(now_us)
            age_us = rng.randrange(T_US) if rule.kind == BUCKET else 0
            entry = Entry(0, 0, rng.randrange(30), 0, 0, age_us, rng.randrange(5))
            header = pack_header(Header(seq, seq - 1, False, T_US), [rule], 1)
            theirs = unpack_reply(server.call(("s", "m", "r", "k"), header, pack_entries([entry]), b"0" * 16), 1)
            ours = settle(standin, entry, now_us, rule=rule, instances=1)
            assert ours[:3] == pytest.approx(theirs.answers[0][:3], abs=1e-6), (seed, seq)


def test_a_unit_counts_as_often_as_there_are_instances() -> None:
    standin = StandIn(10)
    standin.begin(NOW_US)
    assert settle(standin, Entry(0, debt=10, seen=10), NOW_US).a == pytest.approx(60)
    assert settle(standin, Entry(0, debt=10, seen=10), NOW_US).a == pytest.approx(20)
    assert settle(standin, Entry(0), NOW_US + 100_000).a == pytest.approx(30)


def test_the_part_is_what_it_was_and_drifts() -> None:
    standin = StandIn(10)
    learn(standin, Entry(0, seen=90), Answer(100.0, NOW_US, 0, 100.0))
    standin.begin(NOW_US)
    assert settle(standin, Entry(0, debt=9), NOW_US).a == pytest.approx(90)
    later = NOW_US + DRIFT_US
    assert settle(standin, Entry(0, debt=10), later).a == pytest.approx(60)


def test_it_begins_where_redis_was() -> None:
    standin = StandIn(10)
    learn(standin, Entry(0, seen=25), Answer(40.0, NOW_US + 600_000, 0, 100.0))
    standin.begin(NOW_US)
    assert settle(standin, Entry(0), NOW_US).a == pytest.approx(40)


def test_leases_come_from_the_part_and_when_closed_there_are_none() -> None:
    for mode, granted in (("share", 25), ("closed", 0), ("open", 0)):
        standin = StandIn(10)
        standin.begin(NOW_US)
        assert settle(standin, Entry(0, want=60), NOW_US, mode=mode).grant == granted


def test_an_open_bucket_never_owes() -> None:
    standin = StandIn(10)
    standin.begin(NOW_US)
    assert settle(standin, Entry(0, debt=1000), NOW_US, mode="open").a == pytest.approx(0)
    assert settle(standin, Entry(0, debt=1000), NOW_US, mode="share").a == pytest.approx(-100)


def test_the_report_is_what_still_counts() -> None:
    standin = StandIn(10)
    standin.begin(NOW_US)
    for step in range(100):  # 10 s at the part's rate
        settle(standin, Entry(0, debt=25 if step == 0 else 2 + step % 2, seen=4), NOW_US + step * 100_000)
    assert standin.unreported
    now_us = NOW_US + 99 * 100_000
    entries, told = standin.report([BUCKET_RULE], 200, now_us=now_us, instances=4)
    (entry,) = unpack_entries(entries)
    assert told == fps(7)
    assert entry.seen == 400
    assert 22 <= entry.debt <= 28  # about 1/4 of the burst, of 270 admitted
    assert not standin.unreported
    settle(standin, Entry(0, debt=2), now_us)
    (entry,) = unpack_entries(standin.report([BUCKET_RULE], 200, now_us=now_us, instances=4)[0])
    assert entry.debt == 2


def test_after_a_long_pause_nothing_counts() -> None:
    standin = StandIn(10)
    standin.begin(NOW_US)
    settle(standin, Entry(0, debt=10), NOW_US)
    (entry,) = unpack_entries(standin.report([BUCKET_RULE], 200, now_us=NOW_US + 5e6, instances=4)[0])
    assert entry.debt == 0


def test_of_windows_only_the_present_one_is_reported() -> None:
    rule = Rule(FIXED, 1e6, 100.0, 100.0, 50.0)
    standin = StandIn(10)
    standin.begin(NOW_US)
    settle(standin, Entry(0, debt=10), NOW_US, rule=rule)
    settle(standin, Entry(0, debt=7), NOW_US + 1.5e6, rule=rule)
    (entry,) = unpack_entries(standin.report([rule], 200, now_us=NOW_US + 1.6e6, instances=4)[0])
    assert entry.debt == 7


def test_a_restore_has_what_redis_told_and_not_what_was_made_up() -> None:
    standin = StandIn(10)
    learn(standin, Entry(0), Answer(40.0, NOW_US + 600_000, 0, 100.0))
    standin.begin(NOW_US)
    settle(standin, Entry(0, debt=20), NOW_US)
    entries, told = standin.restore([BUCKET_RULE], b"", b"", NOW_US)
    assert told == fps(7)
    assert unpack_entries(entries) == [Entry(0, known=NOW_US + 600_000)]
    assert standin.restore([BUCKET_RULE], b"", b"", NOW_US + 700_000) == (b"", b"")
    entries, told = standin.restore([BUCKET_RULE], pack_entries([Entry(0, debt=3)]), fps(7), NOW_US)
    assert unpack_entries(entries) == [Entry(0, debt=3, known=NOW_US + 600_000)]


def test_debts_are_counted_once_and_repaid_by_time() -> None:
    standin = StandIn(10)
    assert not learn(standin, Entry(0), Answer(-20.0, 0.0, 0, 100.0))
    assert not learn(standin, Entry(0), Answer(-15.0, 0.0, 0, 100.0), NOW_US + 100_000)
    assert standin.overuse == pytest.approx(25)
    assert standin.owed(NOW_US + 100_000) == pytest.approx(15)
    assert standin.owed(NOW_US + 1e6) == 0
    assert learn(standin, Entry(0), Answer(5.0, 0.0, 0, 100.0), NOW_US + 400_000)


HELD_RULE = Rule(HELD, 1e7, 100.0, 0.0, 50.0)


def test_of_units_held_it_leases_its_part_and_believes_in_no_room() -> None:
    for mode, granted in (("share", 22), ("closed", 0), ("open", 0)):
        standin = StandIn(10)
        standin.begin(NOW_US)
        assert settle(standin, Entry(0, debt=3), NOW_US, rule=HELD_RULE, mode=mode)[:3] == (0.0, 3 + granted, granted)
        assert settle(standin, Entry(0, debt=30), NOW_US, rule=HELD_RULE, mode=mode)[:3] == (0.0, 30.0, 0)
        assert standin.unsettled == 0


def test_units_held_are_reported_and_restored_as_they_are() -> None:
    standin = StandIn(10)
    learn(standin, Entry(0, debt=7), Answer(93.0, 9.0, 2, 0.0), rule=HELD_RULE)
    assert standin.restore([HELD_RULE], b"", b"", NOW_US) == (pack_entries([Entry(0, debt=9)]), fps(7))
    told = pack_entries([Entry(0, debt=4)]), fps(7)
    assert standin.restore([HELD_RULE], *told, NOW_US) == told
    standin.begin(NOW_US)
    settle(standin, Entry(0, debt=8, seen=2), NOW_US, rule=HELD_RULE)
    assert standin.unreported
    entries, _ = standin.report([HELD_RULE], 200, now_us=NOW_US, instances=4)
    assert unpack_entries(entries) == [Entry(0, debt=25, seen=2)]


def test_what_was_made_as_good_as_new_is_not_remembered() -> None:
    for forgotten, left in ((7, fps(8)), (9, fps(8, 7)), (None, b"")):
        standin = StandIn(10)
        for key in (7, 8):
            reply = Reply(OK, 1, NOW_US, (Answer(-1.0, NOW_US + 1e6, 0, 1.0),))
            standin.learn([BUCKET_RULE], pack_entries([Entry(0)]), fps(key), reply, T_US)
        standin.begin(NOW_US)
        settle(standin, Entry(0, debt=5), NOW_US)
        standin.forget(forgotten, 1)
        assert standin.restore([BUCKET_RULE], b"", b"", NOW_US)[1] == left
        assert standin.owed(NOW_US) == pytest.approx(len(left) / 8)
        assert standin.unreported == (forgotten == 9)


def test_no_more_keys_are_remembered_than_there_is_room_for() -> None:
    standin = StandIn(3)
    for key in range(10):
        reply = Reply(OK, 1, NOW_US, (Answer(-1.0, NOW_US + 1e6, 0, 1.0),))
        standin.learn([BUCKET_RULE], pack_entries([Entry(0)]), fps(key), reply, T_US)
    _, told = standin.restore([BUCKET_RULE], b"", b"", NOW_US)
    assert told == fps(7, 8, 9)
    assert standin.owed(NOW_US) == pytest.approx(3)
