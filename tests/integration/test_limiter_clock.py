"""Shared limiters on a server whose clock is set: a step of a second is worth a second of the rate, and only once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from servers import Server, missing, until
from sharing import connected, making, state

from penstock import FixedWindow, Limiter, SlidingWindow, TokenBucket

RATE = 200
"""Of every limit here, a second; also what is there at once."""
STEP_S = 1
Steps = tuple[Server, Callable[[int], None]]


def served_s(client: redis.Redis) -> float:
    """The server's time, seconds since the Unix epoch."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """A server, and what sets its clock so many seconds ahead of the machine's."""
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        missing("no C compiler, which setting a server's clock takes: set CC")
    folder = tmp_path_factory.mktemp("clock")
    library, ahead = folder / "walltime.so", folder / "ahead"
    source = Path(__file__).with_name("walltime.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source)], check=True)
    ahead.write_bytes(bytes(8))
    with Server(folder, environment={"LD_PRELOAD": str(library), "WALL_AHEAD": str(ahead)}) as server:

        def step(seconds: int) -> None:
            with ahead.open("r+b") as file:
                file.write(struct.pack("<q", seconds * 10**6))
            with server.client() as client:
                until("the step", lambda: round(served_s(client) - time.time()) == seconds)

        yield server, step


LIMITS = {
    "bucket": TokenBucket(RATE, per=1),
    "fixed": FixedWindow(RATE // 4, per=0.25),
    "sliding": SlidingWindow(RATE, per=1),
}


def most(name: str, limiter: Limiter, seconds: float) -> float:
    """What the guarantee allows in so many seconds."""
    admitted = limiter.guarantee().bounds[0].admitted(seconds)
    windows = {"bucket": 1.0, "fixed": seconds // 0.25 + 2, "sliding": seconds // 1 + 2}  # that are touched
    return windows[name] * admitted


@pytest.mark.parametrize("steps", [(STEP_S, 0), (-STEP_S, 0)], ids=["forwards and back", "back and forwards"])
def test_a_step_of_the_servers_clock_is_worth_its_length_once(
    stepped: Steps, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, int]
) -> None:
    """Measured again where the machine stood still meanwhile, and then less is asked for by what it stood still; what
    must never be exceeded must not be then, either."""
    monkeypatch.setattr("penstock.sync.plan.AWAY_AFTER", 10**6)  # a busy machine is no outage
    monkeypatch.setattr("penstock.sync.plan.PATIENCE_NS", 10**12)
    tries: list[Measured] = []
    while not tries or (tries[-1].stall_s > STALL_S and len(tries) < TRIES_MOST):
        tries.append(measured(*stepped, steps))
        assert tries[-1].kept, tries
    found = min(tries, key=lambda one: one.stall_s)
    missed = 2 * RATE * found.stall_s
    if steps[0] > 0:
        assert found.second >= 0.8 * RATE + 0.5 * RATE - missed, found  # it is as if a second had passed
    else:  # it has had this second before
        assert found.second <= 0.5 * RATE + RATE * max(0.0, found.second_s - 0.8), found
    for name, admitted in found.admitted.items():
        assert 0.6 * RATE * found.took_s - missed <= admitted, (name, found)


STALL_S, TRIES_MOST = 0.05, 4
"""So long nobody was asked, or Redis did not answer: what a limiter has not admitted then is not its fault."""


class Measured(NamedTuple):
    """kept: no limit admitted more than it may. second: what the bucket admitted after the first step, in second_s.
    admitted: by limit, all that it did, in took_s. stall_s: the longest that the machine was away."""

    kept: bool
    second: int
    second_s: float
    admitted: dict[str, int]
    took_s: float
    stall_s: float


def measured(server: Server, step: Callable[[int], None], steps: tuple[int, int]) -> Measured:
    """Both steps, under load, with limiters that nobody had before."""
    step(0)
    with server.client() as client:
        client.flushall()
    with making(Limiter, server) as make:
        pairs = {name: [make(limit, name=name) for _ in range(2)] for name, limit in LIMITS.items()}
        for pair in pairs.values():
            connected(*pair)
        begin, admitted, stall = time.monotonic(), dict.fromkeys(LIMITS, 0), 0.0

        def decide(seconds: float) -> dict[str, float]:
            """Asks for so many seconds; what may have been admitted since the beginning."""
            nonlocal stall
            asked = time.monotonic()
            end = asked + seconds
            while asked < end:
                for name, pair in pairs.items():
                    admitted[name] += sum(limiter.hit("k") for limiter in pair * 3)
                time.sleep(0.001)
                asked, before = time.monotonic(), asked
                stall = max(stall, asked - before)
            stall = max(stall, *(state(limiter).round_trip or 0.0 for pair in pairs.values() for limiter in pair))
            passed = time.monotonic() - begin
            return {name: most(name, pair[0], passed) for name, pair in pairs.items()}

        decide(0.8)
        step(steps[0])
        before, since = dict(admitted), time.monotonic()
        bounds = decide(0.8)
        second, second_s = admitted["bucket"] - before["bucket"], time.monotonic() - since
        kept = all(admitted[name] <= bounds[name] + RATE * max(0, steps[0]) for name in LIMITS)
        step(steps[1])
        bounds = decide(1.2)
        kept = kept and all(admitted[name] <= bounds[name] for name in LIMITS)
        assert not any(state(limiter).lost for pair in pairs.values() for limiter in pair)
        return Measured(kept, second, second_s, admitted, time.monotonic() - begin, stall)
