"""Shared limiters on a cluster, whose slots move and one master of which goes away, and by a Sentinel, whose master is
replaced."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel
from servers import Server, move_slot, owner_of, sentinel, until
from sharing import connected, making, settled, state

import penstock.sync.cluster
from penstock import FixedWindow, Limiter
from penstock.sync.names import CLUSTER_PARTITIONS, slot_of, tags

VICTIM = 1


def partitions(limiter: Limiter) -> list[Any]:
    """What the limiter's plan knows of each."""
    exchange = limiter._exchange
    assert exchange is not None
    return exchange._member.plan._partitions


def test_one_master_away_is_a_part_of_the_keys(masters: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sync.plan.AWAY_AFTER", 8)  # a busy machine is no outage
    monkeypatch.setattr("penstock.sync.plan.PATIENCE_NS", 2_000_000_000)
    monkeypatch.setattr("penstock.sync.cluster.NODE_S", 5.0)  # who waited for the map of slots would be away
    monkeypatch.setattr("penstock.sync.cluster.CONNECT_S", 5.0)
    slots = [slot_of(tag) for tag in tags(CLUSTER_PARTITIONS)]
    theirs = {index for index, slot in enumerate(slots) if owner_of(masters, slot) == VICTIM}
    with (
        redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client,
        making(Limiter, masters[0]) as make,
    ):
        one, other = (make("5000/hour", name="one-away", url=client) for _ in range(2))
        connected(one, other)
        parts = partitions(one)
        keys = [f"key {number}" for number in range(100)]
        assert all(one.hit(key, 2) for key in keys)
        until("settlement", lambda: settled(one))

        def exchanged(rounds: int) -> bool:
            """Whether each partition of the other masters has had so many more batches answered; none is ever away."""
            assert all(one.hit(key) for key in keys)
            time.sleep(0.005)
            assert not any(part.away for part in parts if part.index not in theirs)
            return all(part.acked >= before[part.index] + rounds for part in parts if part.index not in theirs)

        masters[VICTIM].pause()
        try:
            before = [part.acked for part in parts]
            until("the outage", lambda: exchanged(1) and all(parts[index].away for index in theirs))
            before = [part.acked for part in parts]
            until("the others", lambda: exchanged(6))
            assert all(parts[index].away and parts[index].acked == before[index] for index in theirs)
        finally:
            masters[VICTIM].resume()
        until("the end", lambda: state(one).mode == "normal", 20.0)
        until("settlement", lambda: settled(one))


def test_slots_that_move_under_load_lose_and_double_nothing(
    masters: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.sync.plan.AWAY_AFTER", 10**6)  # the stand-in's units are not all told
    monkeypatch.setattr("penstock.sync.plan.PATIENCE_NS", 10**12)
    told: list[str] = []

    def code_of(error: BaseException) -> str:
        told.append(code := penstock.sync.failures.code_of(error))
        return code

    monkeypatch.setattr("penstock.sync.cluster.code_of", code_of)
    slot = slot_of(tags(CLUSTER_PARTITIONS)[3])
    here = owner_of(masters, slot)
    there = (here + 1) % 3
    with (
        redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client,
        making(Limiter, masters[0]) as make,
    ):
        limiters = [make(FixedWindow(10**6, per=86_400), name="moving", url=client) for _ in range(2)]
        connected(*limiters)
        admitted = 0

        def has(code: str) -> bool:
            """Whether Redis has answered so, while there is always something to tell it."""
            nonlocal admitted
            admitted += sum(limiter.hit(key) for limiter in limiters for key in range(100))
            return code in told

        def meets(code: str) -> None:
            until(code, lambda: has(code))

        def has_the_map() -> bool:
            told.clear()
            has("MOVED")
            until("settlement", lambda: all(map(settled, limiters)))
            return "MOVED" not in told

        at = here
        try:
            for turn in ((here, there), (there, here)):
                monkeypatch.setattr("penstock.sync.cluster.REDRAW_S", 1e6)
                at = turn[1]
                with move_slot(masters, slot, *turn) as (half, rest):
                    half()
                    meets("TRYAGAIN")  # it has some keys of a batch, the other master has the others
                    rest()
                    meets("ASK")
                meets("MOVED")
                monkeypatch.setattr("penstock.sync.cluster.REDRAW_S", 0.0)
                until("the new map", has_the_map, 30.0)
        finally:
            if at != here:  # other tests find the slots as they were parted
                with move_slot(masters, slot, at, here):
                    pass
        for limiter in limiters:
            until("settlement", lambda limiter=limiter: settled(limiter))  # type: ignore[misc]
            limiter.close()
        assert sum(state(limiter).lost for limiter in limiters) == 0
        counted = [client.get(key) for key in client.scan_iter("moving:*", count=1_000) if b"}:w" in key]
        assert len(counted) == 100
        assert sum(struct.unpack("<IddfI", value)[1] for value in counted) == admitted


def test_a_failover_costs_no_more_than_what_was_not_replicated(tmp_path: Path) -> None:
    with sentinel(tmp_path) as (master, _, watch):
        sentinels = Sentinel([(watch.host, watch.port)])
        with making(Limiter, master) as make:
            limiter = make("1000/hour", url=sentinels.master_for("limits"))
            connected(limiter)
            assert limiter.hit("k", 100)
            until("settlement", lambda: settled(limiter))
            master.kill()
            assert limiter.hit("k")
            until("settlement by the new master", lambda: settled(limiter) and state(limiter).mode == "normal", 30.0)
            assert limiter.peek("k").remaining <= 899
            assert limiter.acquire("k", 400, timeout=30)
            until("settlement", lambda: settled(limiter))
            assert not limiter.acquire("k", 500, timeout=0.1)
        for client in sentinels.sentinels:
            client.close()
