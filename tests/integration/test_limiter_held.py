"""Concurrency limits that instances share by a real Redis: held, waited for, given back, and lost with their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from servers import Server, until
from sharing import Make, connected, settled, state
from simulation.merge import Holders, read_state

from penstock import Concurrency, Limiter, RateLimited
from penstock.sync.wire import HELD

HOLDER = """
import sys, time
import penstock.sync.wire
penstock.sync.wire.LEASE_NS = {lease_ns}
from penstock import Concurrency, Limiter, Sync
limiter = Limiter(Concurrency({limit}), name="test", sync=Sync({url!r}, fleet_hint=1, strict=True))
taken = sum(limiter.acquire("k", timeout=2) for _ in range({units}))
while limiter.stats().sync.unsettled or not limiter.stats().sync.connected:
    time.sleep(0.01)
print(taken, flush=True)
sys.stdin.read()
limiter.release("k", taken)
limiter.close()
"""


@contextmanager
def holding(server: Server, limit: int, units: int, lease_s: float) -> Iterator[subprocess.Popen[str]]:
    """A process that holds units of a strict limit until its input ends."""
    text = HOLDER.format(limit=limit, url=server.url, units=units, lease_ns=round(lease_s * 1e9))
    command = [sys.executable, "-c", text]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{units}\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def held_in_redis(server: Server) -> int:
    """Units that Redis counts under the one key there is."""
    with server.client() as client:
        (key,) = [key for key in client.keys("test:{0}:c*") if len(key) > len("test:{0}:c")]
        stored = read_state(HELD, client.get(key))
        now_ms = client.time()[0] * 1000 - 1_735_689_600_000
    assert isinstance(stored, Holders)
    return sum(one.units for one in stored.holders if one.until_ms > now_ms)


def test_what_one_holds_the_other_lacks(shared: Make) -> None:
    one, other = shared(Concurrency(3), strict=True), shared(Concurrency(3), strict=True)
    connected(one, other)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(one.hold("k", timeout=2))
        until("all is told", lambda: settled(one))
        assert not other.acquire("k", timeout=0.3)
        with pytest.raises(RateLimited), other.hold("k"):
            pass
    with other.hold("k", 3, timeout=2):
        assert not one.acquire("k", timeout=0.2)


def test_who_waits_is_served_when_another_instance_gives_back(shared: Make) -> None:
    one, other = shared(Concurrency(1)), shared(Concurrency(1))
    connected(one, other)
    got = threading.Event()
    with one.hold("k", timeout=2):
        waiter = threading.Thread(target=lambda: other.acquire("k", timeout=5) and got.set())
        waiter.start()
        assert not got.wait(0.3)
    assert got.wait(5)
    waiter.join()


def test_together_they_hold_the_limit_and_little_more(shared: Make) -> None:
    """Many callers at four instances; what is held is counted at every turn."""
    limiters = [shared(Concurrency(40)) for _ in range(4)]
    connected(*limiters)
    bound = limiters[0].guarantee().bounds[0].admitted(0)
    held: list[int] = []
    most = turns = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        limiter = turns % 4
        turns += 1
        if limiters[limiter].hit("k"):
            held.append(limiter)
        most = max(most, len(held))
        if len(held) > 25 and turns % 3 == 0:
            limiters[held[0]].release("k")
            del held[0]
        time.sleep(0.0002)
    assert 30 <= most <= bound


def test_a_rate_and_units_held_are_decided_together(shared: Make) -> None:
    one, other = shared("1000/hour", Concurrency(2)), shared("1000/hour", Concurrency(2))
    connected(one, other)
    with one.hold("k", timeout=2), one.hold("k", timeout=2):
        until("all is told", lambda: settled(one))
        assert not other.acquire("k", timeout=0.3)
    with other.hold("k", timeout=2):
        pass
    until("all is told", lambda: settled(one) and settled(other))
    assert 3 <= max(limiter.spent(limiter.fingerprint("k")) for limiter in (one, other)) <= 10


def test_tiers_have_limits_of_their_own_which_can_be_replaced(shared: Make) -> None:
    tiers = {"free": Concurrency(1), "pro": Concurrency(8)}
    one, other = shared(tiers=tiers), shared(tiers=tiers)
    connected(one, other)
    with one.hold("k", tier="free", timeout=2):
        until("all is told", lambda: settled(one))
        assert not other.acquire("k", timeout=0.2, tier="free")
        assert other.acquire("another", 8, timeout=2, tier="pro")
        one.replace(tiers={"free": Concurrency(2)})
        other.replace(tiers={"free": Concurrency(2)})
        assert other.acquire("k", timeout=2, tier="free")


def test_what_a_killed_process_held_comes_back(shared: Make, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    lease_s = 1.0
    monkeypatch.setattr("penstock.sync.wire.LEASE_NS", round(lease_s * 1e9))
    limiter = shared(Concurrency(4), strict=True)
    connected(limiter)
    with holding(server, 4, 3, lease_s) as process:
        assert held_in_redis(server) >= 3
        time.sleep(2 * lease_s)  # it is renewed
        assert limiter.acquire("k", timeout=30)
        assert not limiter.acquire("k", timeout=0.3)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert limiter.acquire("k", 3, timeout=30)
        assert not limiter.acquire("k", timeout=0.2)


def test_what_a_process_gives_back_at_its_end_is_free_at_once(shared: Make, server: Server) -> None:
    limiter = shared(Concurrency(2), strict=True)
    connected(limiter)
    with holding(server, 2, 2, 10.0) as process:
        assert not limiter.acquire("k", timeout=0.2)
        process.communicate("", timeout=10)
        assert process.returncode == 0
        assert limiter.acquire("k", 2, timeout=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_holds_nothing(shared: Make, server: Server) -> None:
    one, other = shared(Concurrency(3), strict=True), shared(Concurrency(3), strict=True)
    connected(one, other)
    with one.hold("k", 2, timeout=2):
        until("all is told", lambda: settled(one))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                one.release("k", 2)  # as at the end of the block that it was forked in
                code = 0 if one.acquire("k", timeout=3) and not one.acquire("k", timeout=0.3) else 2
                one.release("k")
                one.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert held_in_redis(server) >= 2
        assert other.acquire("k", timeout=30)
        assert not other.acquire("k", timeout=0.2)


def test_units_are_held_through_a_flush(shared: Make, server: Server) -> None:
    one, other = shared(Concurrency(3), strict=True), shared(Concurrency(3), strict=True)
    connected(one, other)
    with one.hold("k", 3, timeout=2):
        until("all is told", lambda: settled(one))
        with server.client() as client:
            client.flushall()
        until("the loss", lambda: state(one).lost > 0)
        until("the account", lambda: held_in_redis(server) >= 3)
        assert not other.acquire("k", timeout=0.3)


def test_a_reset_frees_what_the_dead_held(shared: Make, server: Server) -> None:
    limiter = shared(Concurrency(2), strict=True)
    connected(limiter)
    with holding(server, 2, 2, 10.0) as process:
        process.kill()
        process.wait(timeout=10)
        assert not limiter.acquire("k", timeout=0.2)
        limiter.reset("k")
        assert limiter.acquire("k", 2, timeout=30)


def test_what_is_guaranteed_is_said(shared: Make) -> None:
    limiter: Limiter = shared(Concurrency(100), fleet_hint=4)
    (bound,) = limiter.guarantee().bounds
    assert (bound.formula, bound.excess) == ("held <= b + Q", 48)
