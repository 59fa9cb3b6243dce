"""What the jitter of ticks is worth: how long one Redis makes others wait while 64 instances settle, in step or not.

Every instance sends a batch each interval, over a connection of its own: all at the same moment, or with the random
phase and the +-10 % of the plan. A bystander asks PING at random moments meanwhile, which costs the server nothing: it
waits for whoever came before. The instances are one process that plays them by epoll, with batches packed before.
"""

from __future__ import annotations

import multiprocessing
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

for package in ("redis", "trustme"):
    pytest.importorskip(package, reason="there is nothing to talk to Redis with")
sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / part) for part in ("integration", "")]

from batches import script  # noqa: E402
from servers import Server  # noqa: E402

from penstock.sync.names import Names, namespace_secret  # noqa: E402
from penstock.sync.wire import BUCKET, Entry, Header, Rule, pack_entries, pack_header  # noqa: E402

CLIENTS = 64
KEYS = 20
"""Of each batch; drawn from ten times as many, so that instances share them."""
INTERVAL_S = 0.05
ROUNDS = 100
RULES = [Rule(BUCKET, 1_000.0, 100.0, 100.0, 50.0)]


def packed(words: Sequence[bytes]) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def batches(client: int, sha: str, draw: random.Random) -> list[bytes]:
    """The script calls of one instance, a round each."""
    inst = f"{client:016x}"
    names = Names("jitter", namespace_secret("jitter", None), inst)
    calls = []
    for seq in range(1, ROUNDS + 1):
        keys = [*names.own(0), *(names.state(0, 0, BUCKET, draw.randrange(10 * KEYS)) for _ in range(KEYS))]
        header = pack_header(Header(seq, seq - 1, seq % 20 == 0, round(INTERVAL_S * 1e6)), RULES, KEYS)
        entries = pack_entries([Entry(0, debt=2, seen=3, age_us=2_000)] * KEYS)
        words = [b"EVALSHA", sha.encode(), b"%d" % len(keys), *(key.encode() for key in keys)]
        calls.append(packed([*words, header, entries, inst.encode()]))
    return calls


def moments(jitter: bool, draw: random.Random) -> list[tuple[float, int, int]]:
    """(seconds after the start, client, round) of every batch, in order."""
    found = []
    for client in range(CLIENTS):
        when = draw.random() * INTERVAL_S if jitter else 0.0
        for turn in range(ROUNDS):
            found.append((when, client, turn))
            when += INTERVAL_S * draw.uniform(0.9, 1.1) if jitter else INTERVAL_S
    return sorted(found)


def instances(port: int, sha: str, jitter: bool, pipe: multiprocessing.connection.Connection) -> None:
    """Plays all instances; sends how long their batches took, in seconds."""
    draw = random.Random(7)
    calls = [batches(client, sha, draw) for client in range(CLIENTS)]
    ends = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    poll = select.epoll()
    clients = {end.fileno(): client for client, end in enumerate(ends)}
    for end in ends:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(end, select.EPOLLIN)
    waiting: list[list[bytes]] = [[] for _ in range(CLIENTS)]
    sent, took = [0.0] * CLIENTS, []  # 0: nothing on its way, for there is one batch at a time

    def go_on(client: int) -> None:
        if waiting[client] and not sent[client]:
            sent[client] = time.perf_counter()
            ends[client].sendall(waiting[client].pop(0))

    due = moments(jitter, draw)
    pipe.send("ready")
    start, following = time.perf_counter(), 0
    while len(took) < len(due):
        now = time.perf_counter() - start
        while following < len(due) and due[following][0] <= now:
            _, client, turn = due[following]
            waiting[client].append(calls[client][turn])
            go_on(client)
            following += 1
        wait = due[following][0] - now if following < len(due) else 1.0
        for fileno, _ in poll.poll(max(0.0, wait)):
            client = clients[fileno]
            reply = ends[client].recv(2**16)
            assert reply.startswith(b"$"), reply
            took.append(time.perf_counter() - sent[client])
            sent[client] = 0.0
            go_on(client)
    pipe.send(took)


def waits(server: Server, jitter: bool) -> tuple[list[float], list[float]]:
    """(how long the bystander waited, how long batches took), in seconds, sorted."""
    with server.client() as client:
        client.flushall()
        sha = client.script_load(script())
    here, there = multiprocessing.Pipe()
    playing = multiprocessing.get_context("spawn").Process(target=instances, args=(server.port, sha, jitter, there))
    playing.start()
    there.close()
    assert here.recv() == "ready"
    draw, waited = random.Random(8), []
    with socket.socket(socket.AF_UNIX) as bystander:
        bystander.connect(server.path)
        while not here.poll():
            begin = time.perf_counter()
            bystander.sendall(b"PING\r\n")
            assert bystander.recv(64) == b"+PONG\r\n"
            waited.append(time.perf_counter() - begin)
            time.sleep(draw.uniform(0.0, 0.002))
    took = here.recv()
    playing.join()
    return sorted(waited), sorted(took)


def test_jitter(tmp_path: Path, fact: Callable[..., None]) -> None:
    with Server(tmp_path) as server:
        for jitter in (False, True):
            of_whom = zip(("a bystander", "a batch"), waits(server, jitter), strict=True)
            how = "with jitter" if jitter else "in step"
            for who, times in of_whom:
                half, most = times[len(times) // 2], times[len(times) * 99 // 100]
                fact(f"Wait at Redis, {CLIENTS} instances", f"{who}, {how}", "ms", p50=half * 1e3, p99=most * 1e3)
