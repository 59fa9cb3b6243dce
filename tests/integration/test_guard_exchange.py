"""Exchange on a real Redis: instances in one process and several, late joiners, outages, lost data, foreign entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from servers import Server, until

import penstock

if not penstock.native:
    pytest.skip("the guard needs the compiled modules", allow_module_level=True)

from penstock.guard.events import pseudonym
from penstock.guard.exchange import Change, Exchange

ADDRESS = "192.0.2.77"
Make = Callable[..., tuple[Exchange, list[Change]]]


def ban(number: int = 0, seconds: float = 3600, **more: Any) -> Change:
    return Change("ban", f"{number:016x}", time.time() + seconds, **more)


def stream_of(name: str = "guard") -> str:
    return f"{name}:{{0}}:g"


@pytest.fixture
def make() -> Iterator[Make]:
    """Exchanges, each with the list of what it was told."""
    with ExitStack() as stack:

        def made(server: Server, name: str = "guard", **options: Any) -> tuple[Exchange, list[Change]]:
            found: list[Change] = []
            exchange = Exchange(server.url, name, found.extend, every=0.05, **options)
            stack.callback(exchange.close)
            return exchange, found

        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """A server that may be killed."""
    with Server(tmp_path) as server:
        yield server


def test_everybody_else_hears(server: Server, make: Make) -> None:
    (one, heard_one), (two, heard_two), (_, heard_three) = (make(server) for _ in range(3))
    change, allowed = ban(1, offences=2, reason="flood"), Change("allow", "192.0.2.0/24", reason="office")
    one.tell(change)
    until("the ban", lambda: heard_two == heard_three == [change])
    two.tell(allowed)
    until("the entry", lambda: heard_one == [allowed] and heard_three == [change, allowed])
    assert heard_two == [change]
    until("the echo", lambda: not one._unread and not two._unread)
    assert one.state() == two.state() == "ok"
    assert one.counts()[:4] == (1, 1, 0, 0)


def test_names_are_apart(server: Server, make: Make) -> None:
    (one, _), (_, heard) = make(server, "one"), make(server, "two")
    same, heard_same = make(server, "one")
    one.tell(ban())
    until("the ban", lambda: len(heard_same) == 1)
    assert heard == []
    assert same.counts().applied == 1


def test_who_comes_late_hears_what_still_holds(server: Server, make: Make) -> None:
    one, _ = make(server)
    one.tell(ban(1))
    one.tell(ban(2, seconds=0.3))
    one.tell(Change("deny", "198.51.100.9"))
    until("all told", lambda: one.counts().told == 3)
    one.close()
    time.sleep(0.4)
    _, heard = make(server)
    until("what holds", lambda: len(heard) == 2)
    assert sorted(change.kind for change in heard) == ["ban", "deny"]


def test_many_changes(server: Server, make: Make) -> None:
    (one, _), (_, heard) = make(server), make(server)
    for number in range(3_000):
        one.tell(ban(number))
    until("all of them", lambda: len(heard) == 3_000)
    assert [int(change.key, 16) for change in heard] == list(range(3_000))
    late, heard_late = make(server)
    until("all of them, late", lambda: len(heard_late) == 3_000)
    assert late.counts().foreign == 0
    with server.client() as client:
        assert client.xlen(stream_of()) < 200


def test_no_address_of_a_banned_client_is_in_redis(server: Server, make: Make) -> None:
    (one, _), (two, heard) = make(server), make(server)
    assert one.secret == two.secret
    one.tell(Change("ban", pseudonym(one.secret, f"address:{ADDRESS}"), time.time() + 60, reason="flood"))
    until("the ban", lambda: len(heard) == 1)
    assert heard[0].key == pseudonym(two.secret, f"address:{ADDRESS}")
    with server.client() as client:
        assert ADDRESS not in repr(client.xrange(stream_of()))
        names = sorted(client.keys())
        assert names == [b"guard:{0}:g", b"guard:{0}:ge"]
        until("both have an end", lambda: all(client.ttl(name) > 86_400 for name in names))


def test_everybody_ends_alike(server: Server, make: Make) -> None:
    """Many changes about few keys from all sides at once: the stream's order decides, for all of them."""
    made = [make(server) for _ in range(3)]
    told: list[dict[str, str]] = [{} for _ in made]
    ends: list[dict[str, str]] = []
    for number in range(300):
        which = number % 3
        exchange, heard = made[which]
        change = ban(number % 5) if number * 7 % 11 < 6 else Change("unban", f"{number % 5:016x}")
        # As a guard has it: what it decides holds at once, and so does what it hears.
        for one in heard:
            told[which][one.key] = one.kind
        heard.clear()
        told[which][change.key] = change.kind
        exchange.tell(change)
        if number % 20 == 0:
            time.sleep(0.03)

    def quiet() -> bool:
        return all(not exchange._unread and not exchange.counts().pending for exchange, _ in made)

    until("all read back", quiet)
    time.sleep(0.3)
    for which, (_, heard) in enumerate(made):
        for one in heard:
            told[which][one.key] = one.kind
        ends.append(told[which])
    assert len(ends[0]) == 5
    assert ends[0] == ends[1] == ends[2]


def test_told_once_redis_is_there(own: Server, make: Make) -> None:
    own.kill()
    (one, _), (two, heard) = make(own), make(own)
    one.tell(ban(1))
    until("both away", lambda: "nothing listens" in one.state() and "nothing listens" in two.state())
    one.tell(ban(2))
    Path(own.path).unlink(missing_ok=True)
    own.start()
    until("both bans", lambda: len(heard) == 2)
    until("there", lambda: one.state() == two.state() == "ok")
    assert one.counts().lost == two.counts().lost == 0


def test_redis_restarts_empty(own: Server, make: Make) -> None:
    """What holds is there again for who comes after; what was taken back meanwhile is not."""
    (one, heard_one), (two, heard_two) = make(own), make(own)
    one.tell(ban(1))
    one.tell(ban(2))
    one.tell(Change("deny", "198.51.100.9"))
    until("all heard", lambda: len(heard_two) == 3)
    two.tell(Change("unban", f"{2:016x}", time.time()))
    until("the unban", lambda: len(heard_one) == 1)
    own.restart()
    until("the loss was seen", lambda: one.counts().lost == two.counts().lost == 1)
    until("told again", lambda: one.counts().told >= 5 and not one.counts().pending)
    _, heard = make(own)
    until("late", lambda: len(heard) >= 3)
    time.sleep(0.3)
    banned = {change.key for change in heard if change.kind == "ban"}
    assert banned == {f"{1:016x}"}
    assert [change.kind for change in heard if change.key == "198.51.100.9"] == ["deny"]


def test_emptied_while_everybody_is_there(server: Server, make: Make) -> None:
    (one, _), (two, heard) = make(server), make(server)
    one.tell(ban(1))
    until("heard", lambda: len(heard) == 1)
    with server.client() as client:
        client.flushall()
    until("the loss was seen", lambda: one.counts().lost == two.counts().lost == 1)
    one.tell(ban(2))
    until("the new one", lambda: f"{2:016x}" in {change.key for change in heard})
    _, heard_late = make(server)
    until("both, late", lambda: {change.key for change in heard_late} == {f"{1:016x}", f"{2:016x}"})


def test_redis_hangs(own: Server, make: Make) -> None:
    (one, _), (_, heard) = make(own), make(own)
    until("there", lambda: one.state() == "ok")
    own.pause()
    try:
        started = time.monotonic()
        one.tell(ban(1))
        assert time.monotonic() - started < 1.0
        until("away", lambda: "no answer within" in one.state())
    finally:
        own.resume()
    until("the ban", lambda: len(heard) >= 1)
    assert {change.key for change in heard} == {f"{1:016x}"}


def test_foreign_entries_are_counted_and_passed_over(server: Server, make: Make) -> None:
    with server.client() as client:
        client.xadd(stream_of(), {"hello": "world"})
        client.xadd(stream_of(), {"v": "1", "i": "e" * 16, "c": "[[[["})
        good = [[1, *ban(1)], [2, "ban", ADDRESS, time.time() + 60, 0, ""]]
        client.xadd(stream_of(), {"v": "1", "i": "e" * 16, "c": json.dumps(good)})
    exchange, heard = make(server)
    until("the good one", lambda: len(heard) == 1)
    assert exchange.counts().foreign == 3


def test_a_key_of_another_program(server: Server, make: Make) -> None:
    with server.client() as client:
        client.set(stream_of(), "not a stream")
        exchange, heard = make(server)
        until("it is said", lambda: "WRONGTYPE" in exchange.state())
        exchange.tell(ban(1))
        client.delete(stream_of())
    until("there", lambda: exchange.state() == "ok")
    _, heard = make(server)
    until("told", lambda: len(heard) == 1)


def test_the_stream_is_bounded(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.guard.exchange.ENTRIES_MOST", 200)
    monkeypatch.setattr("penstock.guard.exchange.CHANGES_MOST", 1)
    one, _ = make(server)
    for number in range(1_500):
        one.tell(ban(number))
    until("all told", lambda: one.counts().told == 1_500)
    with server.client() as client:
        assert client.xlen(stream_of()) < 500


def test_a_password(tmp_path: Path) -> None:
    with Server(tmp_path, "--requirepass", "hunter2") as server:
        found: list[Change] = []
        wrong = Exchange(server.url, "guard", found.extend, every=0.05)
        until("refused", lambda: "password" in wrong.state())
        url = server.url.replace("redis://", "redis://:hunter2@")
        right, other = (Exchange(url, "guard", found.extend, every=0.05) for _ in range(2))
        right.tell(ban(1))
        until("heard", lambda: len(found) == 1)
        for exchange in (wrong, right, other):
            exchange.close()


def test_a_client_lends_its_settings(server: Server) -> None:
    found: list[Change] = []
    with server.client() as client:
        one, two = Exchange(client, "guard", print, every=0.05), Exchange(client, "guard", found.extend, every=0.05)
        one.tell(ban(1))
        until("heard", lambda: len(found) == 1)
        one.close()
        two.close()


CHILD = """
import sys, time
from penstock.guard.exchange import Change, Exchange
found = []
exchange = Exchange(sys.argv[1], "guard", found.extend, every=0.05)
exchange.tell(Change("ban", "c" * 16, time.time() + 60, 1, "child"))
end = time.monotonic() + 30
while not any(change.kind == "deny" for change in found) and time.monotonic() < end:
    time.sleep(0.01)
print([change.kind for change in found])
"""


def test_two_processes(server: Server, make: Make) -> None:
    one, heard = make(server)
    one.tell(ban(1))
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url], stdout=subprocess.PIPE, text=True)
    try:
        until("the child's ban", lambda: [change.reason for change in heard] == ["child"], 30)
        one.tell(Change("deny", "198.51.100.9"))
        out, _ = child.communicate(timeout=40)
    finally:
        child.kill()
        child.wait()
    assert out.strip() == "['ban', 'deny']"


def test_the_end_of_a_process_tells_what_waits(server: Server, make: Make) -> None:
    code = CHILD.split("end =")[0].replace("every=0.05", "every=60")
    code = code.replace("exchange.tell", "time.sleep(1); exchange.tell")
    _, heard = make(server)
    subprocess.run([sys.executable, "-c", code, server.url], check=True, timeout=60)
    until("the ban", lambda: [change.reason for change in heard] == ["child"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_an_instance_of_its_own(server: Server, make: Make) -> None:
    code = """
import os, sys, time, warnings
from penstock.guard.exchange import Change, Exchange
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is what is tried
found = []
exchange = Exchange(sys.argv[1], "guard", found.extend, every=0.05)
end = time.monotonic() + 20
while exchange.state() != "ok" and time.monotonic() < end:
    time.sleep(0.01)
child = os.fork()
if child == 0:
    exchange.tell(Change("ban", "c" * 16, time.time() + 60, 1, "child"))
    while exchange.counts().told < 1 and time.monotonic() < end:
        time.sleep(0.01)
    os._exit(0)
os.waitpid(child, 0)
while not found and time.monotonic() < end:
    time.sleep(0.01)
assert [change.reason for change in found] == ["child"], found
"""
    _, heard = make(server)
    subprocess.run([sys.executable, "-c", code, server.url], check=True, timeout=60)
    until("the ban", lambda: [change.reason for change in heard] == ["child"])


def test_a_cluster(masters: list[Server]) -> None:
    found: list[Change] = []
    with redis.RedisCluster(host=masters[0].host, port=masters[0].port) as client:
        one = Exchange(client, "clustered", print, every=0.05)
        two = Exchange(client, "clustered", found.extend, every=0.05)
        one.tell(ban(1))
        until("heard", lambda: len(found) == 1)
        one.close()
        two.close()
        assert client.exists(stream_of("clustered")) == 1
