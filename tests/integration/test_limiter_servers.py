"""Limiters on a cluster, by windows, through a network that hangs; and what of them can be seen from outside."""

from __future__ import annotations

import asyncio
import logging
import re
import statistics
import time
from base64 import b64encode

import pytest
import redis
from proxy import Proxy
from servers import Server, until
from sharing import Make, connected, settled, state

from penstock import FixedWindow, SlidingWindow

WINDOWS = (SlidingWindow(100, per=0.5), FixedWindow(100, per=0.5))
CALLERS = ["alice@example.com", "203.0.113.77", b"\x00binary\xffkey", ("tenant-4711", "secret-project"), 1234567890123]


def test_windows_are_shared(shared: Make) -> None:
    pairs = {limit: [shared(limit, name=type(limit).__name__) for _ in range(2)] for limit in WINDOWS}
    for pair in pairs.values():
        connected(*pair)
    start, admitted, asked = time.monotonic(), dict.fromkeys(WINDOWS, 0), 0
    while (passed := time.monotonic() - start) < 0.8 or asked < 500:  # longer on a busy machine
        asked += 1
        for limit, pair in pairs.items():
            admitted[limit] += sum(one.hit("k") for one in pair)
        time.sleep(0.001)
    # So many windows are touched; what both may admit ahead of Redis comes on top, in each.
    windows = passed // 0.5 + 2
    assert all(100 < count <= windows * 2 * 100 for count in admitted.values()), admitted


def test_no_text_of_a_key_leaves_the_process(
    shared: Make, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with server.client() as client, client.monitor() as monitor:
        limiter = shared(tiers={"tier-premium-9": "100/second; 999/hour", "tier-basic-8": "10/second; 100/hour"})
        for caller in CALLERS:
            assert limiter.hit(caller, tier="tier-basic-8")
            assert all(limiter.hit_many([caller, caller], tier="tier-premium-9"))
            assert limiter.peek(caller, tier="tier-premium-9")
            limiter.refund(caller, tier="tier-premium-9")
            limiter.reserve(caller, 2, "tier-premium-9").settle(1)
            limiter.force(caller, tier="tier-premium-9")
            assert limiter.acquire(caller, timeout=5, tier="tier-premium-9")
            assert asyncio.run(limiter.acquire_async(caller, timeout=5, tier="tier-premium-9"))
        until("settlement", lambda: settled(limiter))
        for caller in CALLERS[1:]:
            limiter.reset(caller)
        assert all(limiter.hit(caller, tier="tier-premium-9") for caller in CALLERS)
        limiter.stats()
        limiter.close()
        client.echo("the end")
        seen: list[str] = []
        until("the monitor", lambda: (seen.append(str(monitor.next_command())), "the end" in seen[-1])[1])
        keys = list(client.scan_iter())
        stored = b"\n".join(key + b"=" + (client.dump(key) or b"") for key in keys)
    everything = "\n".join(seen).encode() + stored + caplog.text.encode() + server.log.encode()
    assert "EVALSHA" in "".join(seen)
    assert len(set(re.findall(r"test:\{0\}:b[\w-]{15}", "".join(seen)))) >= 2 * len(CALLERS)  # two limits in each tier
    for caller in (*CALLERS, "tier-premium-9", "tier-basic-8"):
        for part in caller if isinstance(caller, tuple) else (caller,):
            plain = part if isinstance(part, bytes) else str(part).encode()
            for shape in (plain, plain.hex().encode(), b64encode(plain)[:-4]):
                assert shape not in everything, part


def test_a_network_that_hangs_holds_no_decision_up(shared: Make, server: Server) -> None:
    with Proxy(server.host, server.port) as proxy:
        limiter = shared("50/second", url=proxy.url)
        connected(limiter)
        proxy.faults.half_open = True
        took: list[float] = []

        def noticed() -> bool:
            for _ in range(10):
                start = time.perf_counter()
                limiter.hit("k")
                took.append(time.perf_counter() - start)
            return "no answer within" in (state(limiter).error or "")

        until("the silence to be noticed", noticed)
        assert statistics.median(took) < 0.04  # each would take a timeout, 50 ms; a busy machine holds only some up
        proxy.faults.half_open = False
        until("settlement", lambda: settled(limiter))
        assert state(limiter).error is None


@pytest.mark.usefixtures("patient")
def test_a_cluster_has_the_keys_in_all_its_parts(shared: Make, masters: list[Server]) -> None:
    with redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client:
        several = [shared("100/hour", name="cluster", url=client) for _ in range(2)]
        connected(*several)
        for key in range(64):
            assert several[key % 2].hit(key)
        until("settlement", lambda: all(map(settled, several)))
        found = [key for key in client.scan_iter("cluster:*", count=1_000) if b":b" in key]
    assert len(found) == 64
    assert len({key.split(b"}")[0] for key in found}) > 8
