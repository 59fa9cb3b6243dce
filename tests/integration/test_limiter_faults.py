"""Shared limiters when something goes wrong: Redis hangs, dies, forgets, refuses; the process forks or ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, until
from sharing import Make, connected, making, settled, state

from penstock import Limiter


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may do anything to."""
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def make(limiter_class: Any, own: Server) -> Iterator[Make]:
    """As `shared`, by the test's own server."""
    with making(limiter_class, own) as make:
        yield make


def admitted(seconds: float, *limiters: Limiter) -> int:
    """Units that are admitted when all are asked about a thousand times a second."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        count += sum(limiter.hit("k") for limiter in limiters)
        time.sleep(0.001)
    return count


@pytest.mark.parametrize(
    ("mode", "least", "most"), [("share", 0.8, 1.5), ("open", 1.5, 100.0), ("closed", 0.0, 0.3)]
)
def test_an_outage_is_as_was_chosen(
    make: Make, own: Server, caplog: pytest.LogCaptureFixture, mode: str, least: float, most: float
) -> None:
    limiters = [make("200/second", on_outage=mode) for _ in range(2)]
    connected(*limiters)
    admitted(1.5, *limiters)
    with caplog.at_level(logging.WARNING, "penstock.sync"):
        own.pause()
        until("the outage", lambda: all(state(limiter).mode == mode for limiter in limiters))
        without = admitted(2, *limiters)
        slowest = 0.0
        for _ in range(1000):
            begin = time.perf_counter()
            limiters[0].hit("k")
            slowest = max(slowest, time.perf_counter() - begin)
        own.resume()
        until("the end", lambda: all(state(limiter).mode == "normal" for limiter in limiters))
    assert least * 400 <= without <= most * 400
    assert slowest < 0.05  # nothing waits for Redis
    assert 0.7 * 400 <= admitted(2, *limiters) <= 1.1 * (200 + 400)  # nobody asked for a while: a burst is there
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "Redis is away: " in text]) == 2
    assert len([text for text in told if text.endswith("Redis is back")]) == 2


def test_redis_that_forgets_is_told_again(make: Make, own: Server) -> None:
    one, other = make("14/hour"), make("14/hour")
    connected(one, other)
    assert one.hit("k", 10)
    until("settlement", lambda: settled(one))
    with own.client() as client:
        client.flushall()
        until("a restore", lambda: bool(client.keys("test:{0}:b*")))
    assert state(one).lost == 1
    assert state(other).instances == 2
    assert sum(other.acquire("k", timeout=0.3) for _ in range(6)) == 4


def test_redis_that_starts_anew_is_found_again(make: Make, own: Server) -> None:
    limiter = make("20/hour")
    connected(limiter)
    assert limiter.hit("k", 10)
    until("settlement", lambda: settled(limiter))
    own.restart()
    until("the new one", lambda: state(limiter).lost == 1 and state(limiter).mode == "normal")
    until("settlement", lambda: settled(limiter))
    assert not limiter.acquire("k", 11, timeout=0.3)
    assert limiter.acquire("k", 10, timeout=2)


def test_a_full_memory_is_said_and_shared_out(make: Make, own: Server) -> None:
    limiter = make("100/second")
    connected(limiter)
    with own.client() as client:
        client.config_set("maxmemory", 1)
        until("the refusal", lambda: "its memory is full" in (state(limiter).error or ""))
        until("the mode", lambda: state(limiter).mode == "share")
        assert limiter.hit("k")
        client.config_set("maxmemory", 0)
    until("the end", lambda: state(limiter).mode == "normal")


def test_a_value_of_another_program_is_said(make: Make, own: Server) -> None:
    with own.client() as client:
        limiter = make("100/hour")
        connected(limiter)
        limiter.hit("k")
        until("settlement", lambda: settled(limiter))
        (key,) = client.keys("test:{0}:b*")
        client.set(key, b"theirs")
        until("the complaint", lambda: limiter.hit("k") and state(limiter).error is not None)
        assert "another program" in (state(limiter).error or "")
        assert client.get(key) == b"theirs"
        client.delete(key)
    until("the end", lambda: state(limiter).mode == "normal" and state(limiter).error is None)


def test_a_wrong_password_is_said_but_not_which(limiter_class: Any, tmp_path: Path) -> None:
    with Server(tmp_path, "--requirepass", "right") as server, making(limiter_class, server) as make:
        limiter = make("5/hour", url=f"redis://:hunter2@{server.host}:{server.port}")
        until("the refusal", lambda: state(limiter).error is not None)
        assert "it refuses the user or the password" in (state(limiter).error or "")
        assert "hunter2" not in repr(limiter.stats())


# ---- processes ----


def in_child(limiter: Limiter, pipe: Any) -> None:
    """What a forked child does with its parent's limiter."""
    try:
        first = state(limiter)
        until("the child's own exchange", lambda: state(limiter).connected)
        taken = limiter.acquire("k", 4, timeout=2)
        until("settlement", lambda: settled(limiter))
        pipe.send((first.unsettled, first.leased, taken, state(limiter).instances))
        limiter.close()
    except BaseException as error:
        pipe.send(repr(error))
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_an_instance_of_its_own(make: Make) -> None:
    limiter = make("7/hour")
    connected(limiter)
    assert limiter.hit("k", 2)
    here, there = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        in_child(limiter, there)
    there.close()
    assert here.poll(20)
    told = here.recv()
    os.waitpid(child, 0)
    assert told == (0, 0, True, 2), told
    until("settlement", lambda: settled(limiter))
    assert limiter.acquire("k", timeout=2)
    assert not limiter.acquire("k", timeout=0.3)


def test_a_process_that_ends_settles(make: Make, own: Server) -> None:
    code = f"""
from penstock import Limiter, Sync
limiter = Limiter("10/hour", name="test", sync=Sync({own.url!r}, fleet_hint=1))
import time
while not limiter.stats().sync.connected:
    time.sleep(0.01)
assert limiter.hit("k", 5)
"""
    limiter = make("10/hour")
    environment = dict(os.environ)
    if type(limiter).__mro__[2].__module__.endswith("_reference"):
        environment["PENSTOCK_PURE"] = "1"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60, env=environment)
    connected(limiter)
    assert limiter.acquire("k", 5, timeout=2)
    assert not limiter.acquire("k", timeout=0.3)
