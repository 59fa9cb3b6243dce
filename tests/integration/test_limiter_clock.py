"""Shared limiters on a server whose clock is set: a step of a second is worth a second of the rate, and only once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
    monkeypatch.setattr("penstock.sync.plan.AWAY_AFTER", 10**6)  # a busy machine is no outage
    monkeypatch.setattr("penstock.sync.plan.PATIENCE_NS", 10**12)
    server, step = stepped
    step(0)
    with server.client() as client:
        client.flushall()
    with making(Limiter, server) as make:
        pairs = {name: [make(limit, name=name) for _ in range(2)] for name, limit in LIMITS.items()}
        for pair in pairs.values():
            connected(*pair)
        begin, admitted = time.monotonic(), dict.fromkeys(LIMITS, 0)

        def decide(seconds: float) -> tuple[dict[str, int], dict[str, float]]:
            """(what was admitted in so many seconds, what may have been since the beginning)."""
            before, end = dict(admitted), time.monotonic() + seconds
            while time.monotonic() < end:
                for name, pair in pairs.items():
                    admitted[name] += sum(limiter.hit("k") for limiter in pair * 3)
                time.sleep(0.001)
            passed = time.monotonic() - begin
            bounds = {name: most(name, pair[0], passed) for name, pair in pairs.items()}
            return {name: admitted[name] - before[name] for name in LIMITS}, bounds

        decide(0.8)
        step(steps[0])
        second, bounds = decide(0.8)
        for name in LIMITS:
            assert admitted[name] <= bounds[name] + RATE * max(0, steps[0]), (name, second, bounds)
        if steps[0] > 0:
            assert second["bucket"] >= 0.8 * RATE + 0.5 * RATE  # it is as if a second had passed
        else:
            assert second["bucket"] <= 0.5 * RATE  # it has had this second before
        step(steps[1])
        third, bounds = decide(1.2)
        for name in LIMITS:
            assert 0.6 * RATE * (time.monotonic() - begin) <= admitted[name] <= bounds[name], (name, third, bounds)
        assert not any(state(limiter).lost for pair in pairs.values() for limiter in pair)
