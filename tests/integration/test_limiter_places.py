"""Shared limiters on a cluster, one master of which goes away, and by a Sentinel, whose master is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from redis.sentinel import Sentinel
from servers import cluster, sentinel, until
from sharing import connected, making, settled, state

from penstock import Limiter


def away(limiter: Limiter) -> int:
    """How many of the limiter's partitions do without Redis."""
    exchange = limiter._exchange
    assert exchange is not None
    return sum(part.away for part in exchange._member.plan._partitions)


def test_one_master_away_is_a_part_of_the_keys(limiter_class: Any, tmp_path: Path) -> None:
    with (
        cluster(tmp_path) as masters,
        redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client,
        making(limiter_class, masters[0]) as make,
    ):
        one, other = make("50/hour", url=client), make("50/hour", url=client)
        connected(one, other)
        for number in range(60):
            assert one.hit(f"key {number}", 2)
        until("settlement", lambda: settled(one))

        masters[0].pause()
        until("the outage", lambda: 5 <= away(one) <= 6, 20.0)  # of 16
        assert all(one.hit(f"key {number}") for number in range(60))
        until("settlement, there or by itself", lambda: state(one).unsettled == 0)
        masters[0].resume()
        until("the end", lambda: state(one).mode == "normal", 20.0)
        until("settlement", lambda: settled(one))


def test_a_failover_costs_no_more_than_what_was_not_replicated(limiter_class: Any, tmp_path: Path) -> None:
    with sentinel(tmp_path) as (master, _, watch):
        sentinels = Sentinel([(watch.host, watch.port)])
        with making(limiter_class, master) as make:
            limiter = make("1000/hour", url=sentinels.master_for("limits"))
            connected(limiter)
            assert limiter.hit("k", 100)
            until("settlement", lambda: settled(limiter))
            master.kill()
            assert limiter.hit("k")
            until("settlement by the new master", lambda: settled(limiter) and state(limiter).mode == "normal", 30.0)
            assert limiter.peek("k").remaining <= 899
            assert limiter.acquire("k", 400, timeout=2)
            until("settlement", lambda: settled(limiter))
            assert not limiter.acquire("k", 500, timeout=0.3)
        for client in sentinels.sentinels:
            client.close()
