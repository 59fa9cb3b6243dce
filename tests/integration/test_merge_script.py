"""merge.lua on real servers, against the same merge in plain Python and against what sync.md promises of it."""

from __future__ import annotations

import random
import struct

import pytest
import redis
from batches import INSTANCE, PREFIX, Batch, contents, model, random_entry, random_rule, random_state, script, send
from servers import Server, until
from simulation.merge import Holders, MergeServer, read_state

from penstock.sync.names import LETTERS
from penstock.sync.wire import (
    BUCKET,
    DUP,
    EVERYTHING,
    FIXED,
    HELD,
    LOST,
    OK,
    SLIDING,
    Entry,
    Header,
    Reply,
    Rule,
    forgetting,
)

OTHER = b"fedcba9876543210"
SECOND_US = 1e6
BUCKET_RULE = Rule(BUCKET, 10.0 * SECOND_US, 100.0, 100.0, 50.0)
"""So slow that what it gains while a test runs can be told from what the test does."""
YEAR_RULES = [Rule(kind, 365 * 86_400 * SECOND_US, 100.0, 100.0, 50.0) for kind in (FIXED, SLIDING)]
T_US = 50_000


def batch(
    seq: int,
    *entries: Entry,
    acked: int | None = None,
    restore: bool = False,
    beat: bool = False,
    instance: bytes = INSTANCE,
    rules: list[Rule] | None = None,
    names: list[str] | None = None,
) -> Batch:
    """A batch on the keys b0, b1, ... as an instance sends it when all before it went well."""
    header = Header(seq, seq - 1 if acked is None else acked, beat, T_US, restore)
    return Batch(header, rules or [BUCKET_RULE], entries, names or [f"b{i}" for i in range(len(entries))], instance)


def assert_alike(found: Reply, expected: Reply) -> None:
    """Equal but for the demand, which comes out of exp and may differ by a rounding."""
    assert found._replace(answers=()) == expected._replace(answers=())
    for index, (answer, wanted) in enumerate(zip(found.answers, expected.answers, strict=True)):
        assert answer[:3] == wanted[:3], index
        assert answer.demand == pytest.approx(wanted.demand, rel=1e-6), index


def compared(client: redis.Redis, oracle: MergeServer, sent: Batch) -> Reply:
    """Send a batch to both; their replies and what they then store must be equal."""
    reply = send(client, sent)
    oracle.now_us = int(reply.now_us)
    assert_alike(reply, model(oracle, sent))
    for key in sent.keys[3:]:
        stored, expected = client.get(key), oracle.peek(key)
        assert (stored is None) == (expected is None)
        if stored is None or expected is None:
            continue
        kind = sent.rules[sent.entries[sent.keys.index(key) - 3].rule].kind
        ours, theirs = list(read_state(kind, expected)), list(read_state(kind, stored))
        demand = type(read_state(kind, stored))._fields.index("demand")
        assert theirs.pop(demand) == pytest.approx(ours.pop(demand), rel=1e-6)
        assert theirs == ours
    return reply


@pytest.mark.parametrize("seed", range(6))
def test_random_batches_come_out_as_in_plain_python(each_client: redis.Redis, seed: int) -> None:
    rng = random.Random(seed)
    oracle = MergeServer()
    last = {INSTANCE: 0, OTHER: 0}
    acked = dict(last)
    statuses = set()
    rules = [random_rule(rng) for _ in range(6)]
    now_us = send(each_client, batch(1, instance=b"f" * 16)).now_us
    for _ in range(40):
        if rng.random() < 0.3:
            rules = [random_rule(rng)._replace(kind=rule.kind) for rule in rules]  # limits change, their keys stay
        instance = rng.choice([INSTANCE, OTHER])
        new, restore = rng.random() < 0.8, rng.random() < 0.2
        seq = last[instance] + 1 if new else max(1, last[instance] - rng.randrange(2))
        entries = [random_entry(rng, rules, now_us, restore) for _ in range(rng.choice([0, 1, 20, 60]))]
        names = [f"{LETTERS[rules[entry.rule].kind]}{entry.rule}-{rng.randrange(12)}" for entry in entries]
        for name, entry in zip(names, entries, strict=True):
            if rng.random() < 0.1:
                state = random_state(rng, rules[entry.rule], now_us)
                each_client.set(PREFIX + name, state, px=10**6)
                oracle.put((PREFIX + name).encode(), state, 10**6)
        known = min(seq - 1, acked[instance] if rng.random() < 0.9 else 0)
        forget, heard_us = rng.random() < 0.1, rng.choice([0.0, now_us - 1, now_us - rng.randrange(200_000)])
        if forget:
            gone = [rng.getrandbits(64), EVERYTHING] if rng.random() < 0.3 else [rng.getrandbits(64)]
            entries = [forgetting(entry.rule, rng.choice(gone), 1000) for entry in entries]
        beat = forget or rng.random() < 0.3
        header = Header(seq, known, beat, rng.choice([5_000, 50_000, 1_000_000]), restore, forget, heard_us)
        reply = compared(each_client, oracle, Batch(header, rules, entries, names, instance))
        now_us = reply.now_us
        statuses.add(reply.status)
        if reply.status != LOST:
            last[instance] = acked[instance] = max(seq, last[instance])
    assert OK in statuses
    assert len(statuses) > 1


def test_states_are_kept_as_long_as_they_matter(each_client: redis.Redis) -> None:
    rules = [Rule(BUCKET, SECOND_US, 10.0, 10.0, 5.0), Rule(FIXED, 60 * SECOND_US, 10.0, 10.0, 5.0)]
    send(each_client, batch(1, Entry(0, debt=5), Entry(1, debt=5), rules=rules, names=["b", "w"], beat=True))
    lives = {name: each_client.pttl(PREFIX + name) / 1000 for name in ("b", "w", "m", "s" + INSTANCE.decode())}
    expected = {"b": 5 + 2, "w": 2 * 60 + 2, "m": 60, "s" + INSTANCE.decode(): 120}
    assert lives == pytest.approx(expected, abs=0.5)


def test_a_batch_sent_twice_counts_once(each_client: redis.Redis) -> None:
    rules = [BUCKET_RULE, *YEAR_RULES]
    for seq in range(1, 6):
        entries = [Entry(0, debt=3, seen=4), Entry(0, want=2), Entry(1, debt=2, want=1), Entry(2, debt=1, seen=9)]
        sent = batch(seq, *entries, rules=rules, names=["b0", "b1", "w1", "w2"])
        first = send(each_client, sent)
        after = contents(each_client)
        again = send(each_client, sent)
        assert (first.status, again.status) == (OK, DUP)
        assert contents(each_client) == after
        assert [answer.grant for answer in first.answers] == [0, 2, 1, 0]
        assert [answer.grant for answer in again.answers] == [0, 0, 0, 0]
        for one, two in zip(first.answers, again.answers, strict=True):
            assert two[:2] == pytest.approx(one[:2], abs=0.01)
    assert [round(answer.a) for answer in again.answers] == [85, 90, 15, 5]


def test_late_duplicates_count_not_again(each_client: redis.Redis) -> None:
    sent = [batch(seq, Entry(0, debt=seq)) for seq in range(1, 6)]
    rooms = [send(each_client, one).answers[0].a for one in sent]
    assert [round(room) for room in rooms] == [99, 97, 94, 90, 85]
    for late in sent:
        reply = send(each_client, late)
        assert (reply.status, round(reply.answers[0].a)) == (DUP, 85)


def test_a_reply_that_was_lost_is_made_good_by_sending_again(each_client: redis.Redis) -> None:
    send(each_client, batch(1, Entry(0, debt=1)))
    lost = batch(2, Entry(0, debt=10, want=5, age_us=1_000))
    send(each_client, lost)  # and its reply is lost: the instance knows of 1 only, and sends what has grown older
    again = send(each_client, lost._replace(entries=[lost.entries[0]._replace(age_us=90_000)]))
    assert (again.status, again.answers[0].grant) == (DUP, 0)
    after = send(each_client, batch(3, Entry(0, debt=1)))
    assert (after.status, round(after.answers[0].a)) == (OK, 100 - 1 - 10 - 5 - 1)


def test_lost_writes_are_noticed_and_nothing_is_applied(each_client: redis.Redis) -> None:
    send(each_client, batch(1, Entry(0, debt=40)))
    each_client.flushall()
    reply = send(each_client, batch(2, Entry(0, debt=7)))
    assert (reply.status, reply.answers) == (LOST, ())
    assert contents(each_client) == {}


def test_restored_once_by_each_instance_that_knew(each_client: redis.Redis) -> None:
    known = send(each_client, batch(1, Entry(0, debt=40)))
    seen_by_other = send(each_client, batch(1, Entry(0, debt=20), instance=OTHER))
    each_client.flushall()
    first = batch(2, Entry(0, debt=7, known=known.answers[0].b), restore=True)
    reply = send(each_client, first)
    assert (reply.status, round(reply.answers[0].a)) == (OK, 100 - 40 - 7)
    assert send(each_client, first).status == DUP
    other = batch(2, Entry(0, known=seen_by_other.answers[0].b), restore=True, instance=OTHER)
    reply = send(each_client, other)
    assert (reply.status, round(reply.answers[0].a)) == (OK, 100 - 60)  # the greatest that anyone knows of, not the sum
    assert send(each_client, batch(3, Entry(0, debt=1))).status == OK


def test_windows_are_restored_too(each_client: redis.Redis) -> None:
    each_client.flushall()
    entries = [Entry(0, debt=2, known=30.0), Entry(1, before=1, known=20.0), Entry(1, debt=3, known=5.0)]
    sent = batch(9, *entries, rules=YEAR_RULES, names=["w0", "w1", "w1"], restore=True)
    reply = send(each_client, sent)
    assert [answer[:2] for answer in reply.answers] == [(32.0, 0.0), (0.0, 20.0), (8.0, 20.0)]


def test_an_expired_sequence_is_lost_writes(each_client: redis.Redis) -> None:
    send(each_client, batch(1, Entry(0, debt=40)))
    each_client.delete(f"{PREFIX}s{INSTANCE.decode()}")
    assert send(each_client, batch(2, Entry(0, debt=1))).status == LOST


def test_debt_is_carried_and_clamped(each_client: redis.Redis) -> None:
    reply = send(each_client, batch(1, Entry(0, debt=150)))
    assert reply.answers[0].a == pytest.approx(-50, abs=0.01)
    reply = send(each_client, batch(2, Entry(0, debt=10**6, want=3)))
    assert reply.answers[0].a == pytest.approx(-100, abs=0.01)
    assert reply.answers[0].grant == 0
    reply = send(each_client, batch(3, Entry(0, back=20)))
    assert reply.answers[0].a == pytest.approx(-80, abs=0.01)


def test_a_debt_is_charged_as_of_when_it_was_made(each_client: redis.Redis) -> None:
    fast = [Rule(BUCKET, 1_000.0, 100.0, 100.0, 50.0)]
    late = send(each_client, batch(1, Entry(0, debt=10, age_us=4_000), Entry(0, debt=10), rules=fast))
    assert [round(answer.a, 6) for answer in late.answers] == [94.0, 90.0]


def test_grants_leave_a_fair_part_to_others(each_client: redis.Redis) -> None:
    reply = send(each_client, batch(1, Entry(0, want=1_000)))
    assert reply.answers[0].grant == 100
    reply = send(each_client, batch(2, Entry(0, want=1)))
    assert (reply.answers[0].grant, round(reply.answers[0].a)) == (0, 0)
    # Others ask for 1600 units/s of a limit that has 40 left, this instance for a tenth of all.
    busy = [f"c{i}" for i in range(2)]
    send(each_client, batch(1, Entry(0, debt=60, seen=1_800), instance=OTHER, names=busy[:1]))
    reply = send(each_client, batch(3, Entry(0, want=30, seen=10), names=busy[:1]))
    assert reply.answers[0].grant == int(40 * 10 / (1_810 * T_US / SECOND_US))


# ---- units held ----

LEASE_RULE = Rule(HELD, 1e7, 10.0, 0.0, 5.0)


def held(seq: int, has: int, want: int = 0, seen: int = 0, instance: bytes = INSTANCE, lease_us: float = 1e7) -> Batch:
    """A batch in which an instance tells what it has of the units of c0, and asks for more."""
    rule = LEASE_RULE._replace(tau_us=lease_us)
    return batch(seq, Entry(0, debt=has, want=want, seen=seen), instance=instance, rules=[rule], names=["c0"])


def holders(client: redis.Redis) -> dict[bytes, int]:
    """Who is known to have how many."""
    stored = read_state(HELD, client.get(PREFIX + "c0"))
    assert isinstance(stored, Holders)
    return {one.inst: one.units for one in stored.holders}


def test_held_units_are_told_as_they_are(each_client: redis.Redis) -> None:
    assert send(each_client, held(1, 3)).answers[0][:3] == (7.0, 3.0, 0)
    assert send(each_client, held(1, 4, instance=OTHER)).answers[0][:3] == (3.0, 4.0, 0)
    assert send(each_client, held(2, 3)).answers[0][:3] == (3.0, 3.0, 0)
    assert send(each_client, held(3, 1)).answers[0][:3] == (5.0, 1.0, 0)
    assert holders(each_client) == {INSTANCE: 1, OTHER: 4}
    assert send(each_client, held(4, 0)).answers[0][:3] == (6.0, 0.0, 0)
    assert holders(each_client) == {OTHER: 4}


def test_held_units_are_granted_as_there_is_room_and_once(each_client: redis.Redis) -> None:
    assert send(each_client, held(1, 2, want=5)).answers[0][:3] == (3.0, 7.0, 5)
    assert send(each_client, held(1, 2, want=5)).answers[0][:3] == (3.0, 7.0, 0)
    assert send(each_client, held(1, 0, want=5, instance=OTHER)).answers[0][:3] == (0.0, 3.0, 3)
    assert send(each_client, held(2, 9)).answers[0][:3] == (-2.0, 9.0, 0)  # on trust, and told
    assert send(each_client, held(2, 3, want=1, instance=OTHER)).answers[0][:3] == (-2.0, 3.0, 0)


def test_what_nobody_tells_of_any_more_comes_back(each_client: redis.Redis) -> None:
    send(each_client, held(1, 6, lease_us=200_000.0))
    assert send(each_client, held(1, 0, want=9, instance=OTHER, lease_us=200_000.0)).answers[0].grant == 4
    until("the end of the lease", lambda: each_client.pttl(PREFIX + "c0") < 1_750)
    answer = send(each_client, held(2, 4, want=9, instance=OTHER, lease_us=200_000.0)).answers[0]
    assert answer[:3] == (0.0, 10.0, 6)
    assert holders(each_client) == {OTHER: 10}


# ---- keys made as good as new ----


def forget(seq: int, *names: str, fp: int = 7, heard_us: float = 0.0, keep_ms: int = 0) -> Batch:
    """A batch that makes these keys as good as new."""
    header = Header(seq, seq - 1, True, T_US, forget=True, heard_us=heard_us)
    return Batch(header, [BUCKET_RULE], [forgetting(0, fp, keep_ms)] * len(names), list(names))


def test_a_key_that_is_forgotten_is_full_and_the_sequence_goes_on(each_client: redis.Redis) -> None:
    send(each_client, batch(1, Entry(0, debt=40), Entry(0, debt=30)))
    reply = send(each_client, forget(2, "b0"))
    assert (reply.status, reply.answers) == (OK, ((0.0, 0.0, 0, 0.0),))
    assert not each_client.exists(PREFIX + "b0")
    after = send(each_client, batch(3, Entry(0, debt=1), Entry(0)))
    assert (after.status, [round(answer.a) for answer in after.answers]) == (OK, [99, 70])
    assert send(each_client, forget(2, "b0")).status == DUP
    assert each_client.exists(PREFIX + "b0")


def test_other_instances_hear_of_it_once(each_client: redis.Redis) -> None:
    begin = send(each_client, batch(1, beat=True, instance=OTHER)).now_us
    forgetting_too = send(each_client, forget(1, "b0", fp=0xFEDC_BA98_7654_3210, heard_us=begin))
    assert forgetting_too.notices == ()  # not its own
    header = Header(2, 1, True, T_US, heard_us=begin)
    heard = send(each_client, Batch(header, [BUCKET_RULE], [], [], OTHER))
    assert heard.notices == (0xFEDC_BA98_7654_3210,)
    header = Header(3, 2, True, T_US, heard_us=heard.now_us)
    assert send(each_client, Batch(header, [BUCKET_RULE], [], [], OTHER)).notices == ()
    assert 100_000 < each_client.pttl(PREFIX + "r") <= 120_000


def test_too_many_to_tell_are_told_as_all(each_client: redis.Redis) -> None:
    begin = send(each_client, batch(1, beat=True, instance=OTHER)).now_us
    for seq in range(1, 5):
        entries = [forgetting(0, seq * 1000 + i) for i in range(150)]
        header = Header(seq, seq - 1, True, T_US, forget=True)
        send(each_client, Batch(header, [BUCKET_RULE], entries, [f"b{i}" for i in range(150)]))
    header = Header(2, 1, True, T_US, heard_us=begin)
    assert send(each_client, Batch(header, [BUCKET_RULE], [], [], OTHER)).notices == (EVERYTHING,)


def test_all_keys_are_forgotten_by_one_notice(each_client: redis.Redis) -> None:
    rules = [BUCKET_RULE, YEAR_RULES[0], LEASE_RULE]
    told = [Entry(0, debt=40), Entry(1, debt=30), Entry(2, debt=4)]
    send(each_client, batch(1, *told, rules=rules, names=["b0", "w1", "c2"], instance=OTHER))
    before = send(each_client, batch(1)).now_us
    until("a later millisecond", lambda: each_client.time()[1] // 1000 != before % 1e6 // 1000)
    send(each_client, forget(2, "b-none", fp=EVERYTHING, keep_ms=10_000_000))
    assert 9_000_000 < each_client.pttl(PREFIX + "r") <= 10_000_000
    first = each_client.time()
    until("a later millisecond", lambda: each_client.time()[1] // 1000 != first[1] // 1000)
    blank = [Entry(0), Entry(1), Entry(2)]
    after = send(each_client, batch(3, *blank, rules=rules, names=["b0", "w1", "c2"]))
    assert [answer.a for answer in after.answers] == [100.0, 0.0, 10.0]
    again = send(each_client, batch(2, *told, rules=rules, names=["b0", "w1", "c2"], instance=OTHER))
    assert [round(answer.a) for answer in again.answers] == [60, 30, 6]
    send(each_client, forget(4, "b1", keep_ms=1))
    assert 9_000_000 < each_client.pttl(PREFIX + "r") <= 10_000_000
    later = send(each_client, batch(5, *blank, rules=rules, names=["b0", "w1", "c2"]))
    assert [round(answer.a) for answer in later.answers] == [60, 30, 6]


def test_demand_fades(each_client: redis.Redis) -> None:
    stored = struct.pack("<df", 0.0, 1_000.0)
    number = int(send(each_client, batch(1)).now_us / 1000)
    for name, ago in (("b0", 0), ("b1", 1_000), ("b2", 5_000)):
        each_client.set(PREFIX + name, stored + struct.pack("<I", (number - ago) % 2**32))
    reply = send(each_client, batch(2, Entry(0), Entry(0, seen=7), Entry(0)))
    expected = [1_000.0, 1_000 / 2.718281828 + 7, 1_000 / 2.718281828**5]
    assert [answer.demand for answer in reply.answers] == pytest.approx(expected, rel=0.05)


def test_members_are_those_that_gave_a_sign_of_life(each_client: redis.Redis) -> None:
    assert send(each_client, batch(1, beat=True)).members == 1
    assert send(each_client, batch(1, instance=OTHER)).members == 1
    assert send(each_client, batch(2, instance=OTHER, beat=True)).members == 2
    now_ms = int(send(each_client, batch(2)).now_us / 1000)
    each_client.zadd(f"{PREFIX}m", {OTHER: now_ms - 4_000, b"recent": now_ms - 2_000, b"future": now_ms + 10**6})
    assert send(each_client, batch(3)).members == 3
    assert send(each_client, batch(4, beat=True)).members == 3
    scores = dict(each_client.zrange(f"{PREFIX}m", 0, -1, withscores=True))
    assert set(scores) == {INSTANCE, b"recent", b"future"}
    assert scores[b"future"] <= now_ms + 1_000


@pytest.mark.parametrize("at", ["b1", "s" + INSTANCE.decode(), "m", "r"])
@pytest.mark.parametrize("kind", ["list", "text"])
def test_a_foreign_value_is_left_alone_and_nothing_is_applied(each_client: redis.Redis, at: str, kind: str) -> None:
    if kind == "list":
        each_client.rpush(PREFIX + at, "theirs")
    else:
        each_client.set(PREFIX + at, "theirs")
    before = contents(each_client), each_client.keys()
    with pytest.raises(redis.ResponseError, match="PENSTOCK foreign value at a key of ours"):
        send(each_client, batch(1, Entry(0, debt=1), Entry(0, debt=1), beat=True))
    assert (contents(each_client), each_client.keys()) == before


@pytest.mark.parametrize("size", [0, 7, 16, 28, 37])
def test_what_cannot_be_an_account_of_units_held_is_foreign(each_client: redis.Redis, size: int) -> None:
    each_client.set(PREFIX + "c0", bytes(size))
    with pytest.raises(redis.ResponseError, match="PENSTOCK foreign value at a key of ours"):
        send(each_client, held(1, 3))
    assert each_client.get(PREFIX + "c0") == bytes(size)


def test_a_batch_that_is_malformed_is_refused(each_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    good = batch(1, Entry(0, debt=1), beat=True)
    header, entries, instance = good.arguments
    other_version = header[:21] + b"\x09" + header[22:]
    no_such_rule = b"\x01\x00" + entries[2:]
    bad = [(header[:-1], entries, instance), (header, entries[:-1], instance), (header, entries, b"short")]
    bad += [(header, no_such_rule, instance), (other_version, entries, instance), (b"", b"", b"")]
    for arguments in bad:
        monkeypatch.setattr(Batch, "arguments", property(lambda _, arguments=arguments: arguments))
        with pytest.raises(redis.ResponseError, match=r"PENSTOCK (malformed batch|header: version=9)"):
            send(each_client, good)
    assert each_client.keys() == []


def test_a_full_memory_refuses_the_whole_batch(each_client: redis.Redis) -> None:
    each_client.config_set("maxmemory-policy", "noeviction")
    for beat in (False, True):
        send(each_client, batch(1, Entry(0, debt=1), instance=OTHER))
        before = contents(each_client)
        sha = each_client.script_load(script())
        each_client.config_set("maxmemory", 1)
        sent = batch(1, Entry(0, debt=1), Entry(0, debt=1), beat=beat)
        with pytest.raises(redis.RedisError, match=r"OOM|maxmemory"):
            each_client.evalsha(sha, len(sent.keys), *sent.keys, *sent.arguments)
        each_client.config_set("maxmemory", 0)
        assert contents(each_client) == before


def test_numbers_stay_exact_at_both_ends(each_client: redis.Redis) -> None:
    rules = [Rule(BUCKET, 0.001, 1e6, 1e6, 1e6), Rule(BUCKET, 86_400e6, 1e6, 1e6, 1e6)]
    reply = send(each_client, batch(1, Entry(0, debt=10**6), Entry(1, debt=999_999, seen=2**32 - 1), rules=rules))
    fast, slow = reply.answers
    assert slow.a == pytest.approx(1.0, abs=1e-6)  # 2700 years ahead; still exact to 1/1000 s
    assert 0 <= fast.a <= 1e6
    assert slow.demand == pytest.approx(2**32, rel=1e-6)
    again = send(each_client, batch(2, Entry(0), Entry(1, debt=1), rules=rules))
    assert again.answers[1].a == pytest.approx(0.0, abs=1e-4)


def test_the_server_has_what_the_script_needs(each_server: Server) -> None:
    assert each_server.version() >= (6, 2)
