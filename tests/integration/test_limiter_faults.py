"""Shared limiters when something goes wrong with Redis: it hangs, dies, forgets, refuses, or is none."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from proxy import Proxy
from servers import Server, until
from sharing import Make, connected, making, settled, state

from penstock import Limiter

MODES = ("share", "open", "closed")
PASSWORD = "hunter2"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may do anything to."""
    with Server(tmp_path, "--user", "app", "on", f">{PASSWORD}", "~*", "+@all") as server:
        yield server


@pytest.fixture
def make(limiter_class: Any, own: Server) -> Iterator[Make]:
    """As `shared`, by the test's own server."""
    with making(limiter_class, own) as make:
        yield make


def admitted(seconds: float, *limiters: Limiter) -> list[int]:
    """Units that each admits when all are asked about a thousand times a second."""
    counts, end = [0] * len(limiters), time.monotonic() + seconds
    while time.monotonic() < end:
        for index, limiter in enumerate(limiters):
            counts[index] += limiter.hit("k")
        time.sleep(0.001)
    return counts


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the synchronisation has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "penstock.sync"]


@pytest.mark.parametrize("pause_s", [1.0, pytest.param(10.0, marks=pytest.mark.soak)])
def test_an_outage_is_as_was_chosen(
    make: Make, own: Server, caplog: pytest.LogCaptureFixture, pause_s: float
) -> None:
    pairs = {mode: [make("200/second", name=mode, on_outage=mode) for _ in range(2)] for mode in MODES}
    everyone = [limiter for pair in pairs.values() for limiter in pair]
    for pair in pairs.values():
        connected(*pair)
    admitted(1.1, *everyone)  # until what was there in the beginning is used up
    with caplog.at_level(logging.WARNING, "penstock.sync"):
        own.pause()

        def is_away() -> bool:
            admitted(0.01, *everyone)
            return all(state(limiter).mode == mode for mode in MODES for limiter in pairs[mode])

        until("the outage", is_away)
        without = admitted(pause_s, *everyone)
        took = []
        for _ in range(1000):
            begin = time.perf_counter()
            everyone[0].hit("k")
            took.append(time.perf_counter() - begin)
        own.resume()
        until("the end", lambda: all(state(one).mode == "normal" for one in everyone))
    by_mode = {mode: sum(without[2 * index : 2 * index + 2]) for index, mode in enumerate(MODES)}
    assert 0.7 * 200 * pause_s <= by_mode["share"] <= 200 * pause_s + 100, by_mode
    assert by_mode["open"] > 1.5 * 200 * pause_s
    assert by_mode["closed"] <= 0.3 * 200  # leases that had not ended
    assert sorted(took)[990] < 0.05  # nothing waits for Redis, though a busy machine may hold up a few
    after = admitted(1.0, *everyone)
    for index, mode in enumerate(MODES):  # nobody asked for a while, so a burst may be there
        assert 0.7 * 200 <= sum(after[2 * index : 2 * index + 2]) <= 1.1 * (200 + 200), mode
    for mode in MODES:
        told = [line for line in lines(caplog) if repr(mode) in line]
        assert len([line for line in told if "Redis is away: " in line]) == 2
        assert len([line for line in told if line.endswith("Redis is back")]) == 2


# ---- every trouble: its word, the chosen mode, one line of log, and no exception ----


@contextmanager
def hangs(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    own.pause()
    yield
    own.resume()


@contextmanager
def dies(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    own.kill()
    yield
    own.restart()


@contextmanager
def is_busy(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.config_set("lua-time-limit", 5)

        def endless() -> None:
            with own.client() as another, pytest.raises(redis.ResponseError, match="killed"):
                another.eval("while true do end", 0)

        thread = threading.Thread(target=endless)
        thread.start()
        yield
        client.execute_command("SCRIPT KILL")
        thread.join()


@contextmanager
def is_full(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def is_a_replica(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.execute_command("REPLICAOF", other.host, other.port)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def has_another_password(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "resetpass", ">another")
        proxy.cut()
        yield
        client.execute_command("ACL", "SETUSER", "app", f">{PASSWORD}")


@contextmanager
def forbids(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "-set")
        yield
        client.execute_command("ACL", "SETUSER", "app", "+set")


@contextmanager
def takes_nobody(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        client.config_set("maxclients", 1)
        proxy.cut()
        yield
        client.config_set("maxclients", 1_000)


@contextmanager
def is_no_redis(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with listener:
                while proxy.faults.elsewhere is not None:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):  # who hung up meanwhile
                        connection.recv(2**16)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        proxy.faults.elsewhere = listener.getsockname()
        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        proxy.cut()
        yield
        place, proxy.faults.elsewhere = proxy.faults.elsewhere, None
        with socket.create_connection(place) as last:
            last.sendall(b"the end")
        thread.join()


@contextmanager
def has_keys_of_another_version(own: Server, proxy: Proxy, other: Server) -> Iterator[None]:
    with own.client() as client:
        keys = [key for mode in MODES for key in client.keys(f"{mode}:{{0}}:b*")]
        assert len(keys) == len(MODES)
        for key in keys:
            client.set(key, b"another version's")
        yield
        assert all(client.get(key) == b"another version's" for key in keys)
        client.delete(*keys)


Trouble = Callable[[Server, Proxy, Server], AbstractContextManager[None]]
TROUBLES: list[tuple[Trouble, str]] = [
    (hangs, "no answer within"),
    (dies, "the connection failed|nothing listens there|[Cc]onnection closed"),
    (is_busy, "it is busy with a script that does not end|no answer within"),
    (is_full, r"its memory is full \(maxmemory\)"),
    (is_a_replica, "it is a read-only replica|it is a replica that has lost its master"),
    (has_another_password, "it refuses the user or the password"),
    (forbids, "this user may not do what our script does"),
    (takes_nobody, r"it has no connection left for us \(maxclients\)"),
    (is_no_redis, "what answers there is no Redis"),
    (has_keys_of_another_version, "another program, or another version, uses this limiter's name"),
]


@pytest.mark.parametrize(("trouble", "says"), TROUBLES, ids=[trouble.__name__ for trouble, _ in TROUBLES])
def test_a_trouble_is_said_once_and_shared_out(
    own: Server,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Trouble,
    says: str,
) -> None:
    monkeypatch.setattr("penstock.sync.plan.STAY_NS", 50_000_000)
    caplog.set_level(logging.DEBUG)
    with Proxy(own.host, own.port) as proxy, making(Limiter, own) as make:
        url = f"redis://app:{PASSWORD}@{proxy.host}:{proxy.port}/0"
        limiters = {mode: make("100/hour", name=mode, url=url, on_outage=mode) for mode in MODES}
        for limiter in limiters.values():
            connected(limiter)
            assert limiter.hit("k", 2)
        until("settlement", lambda: all(map(settled, limiters.values())))
        assert not lines(caplog)

        with trouble(own, proxy, server):

            def is_said() -> bool:
                states = {mode: (limiter.hit("k"), state(limiter)) for mode, limiter in limiters.items()}
                return all(one.mode == mode and re.search(says, one.error or "") for mode, (_, one) in states.items())

            until("the outage", is_said)
            assert not any(state(limiter).connected for limiter in limiters.values())
            admits = {mode: sum(limiter.hit("k") for _ in range(300)) for mode, limiter in limiters.items()}
            assert (admits["open"], admits["closed"]) == (300, 0)
            assert admits["share"] <= 100
        until("the end", lambda: all(state(one).mode == "normal" and settled(one) for one in limiters.values()))
        shown = repr([limiter.stats() for limiter in limiters.values()])
    for mode in MODES:
        away_line, back_line = (line for line in lines(caplog) if repr(mode) in line)
        assert re.search(f"Redis is away: .*({says})", away_line)
        assert back_line.endswith("Redis is back")
    assert len(lines(caplog)) == 2 * len(MODES)
    assert PASSWORD not in shown + caplog.text


# ---- what Redis loses ----


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
    assert limiter.acquire("k", 10, timeout=30)
