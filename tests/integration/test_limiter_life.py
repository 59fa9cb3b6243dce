"""Shared limiters and processes: forks, from inside an event loop too, closing inside one, and the end of a process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from servers import Server, until
from sharing import Make, connected, known, served, settled, state

from penstock import Limiter, Sync

pytestmark = pytest.mark.usefixtures("patient")

# ---- an event loop ----


async def reaches(ready: Callable[[], bool]) -> None:
    """Waits until something is so, while the loop goes on."""
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("end", ["the loop goes on", "the loop ends", "nobody has it any more"])
def test_close_inside_the_loop_that_serves_settles(shared: Make, limiter_class: Any, server: Server, end: str) -> None:
    async def life() -> Limiter | None:
        limiter = limiter_class("10/hour", name="test", sync=Sync(server.url, fleet_hint=1))
        await limiter.__aenter__()
        await reaches(lambda: known(limiter) == 1)
        assert limiter.hit("k", 4)
        limiter.close()
        if end == "the loop goes on":
            await reaches(lambda: not served())
            assert (state(limiter).unsettled, state(limiter).leased) == (0, 0)
        return None if end == "nobody has it any more" else limiter

    limiter = asyncio.run(life())
    until("its end", lambda: not served())
    del limiter
    second = shared("10/hour", strict=True)
    connected(second)
    assert second.acquire("k", 6, timeout=30)
    assert not second.acquire("k", timeout=0.1)


def test_closing_a_limiter_whose_loop_has_ended_settles(shared: Make) -> None:
    limiter = shared("10/hour")

    async def life() -> None:
        await limiter.__aenter__()
        await reaches(lambda: known(limiter) == 1)
        assert limiter.hit("k", 4)

    asyncio.run(life())
    limiter.close()
    until("its end", lambda: not served())
    second = shared("10/hour", strict=True)
    connected(second)
    assert second.acquire("k", 6, timeout=30)
    assert not second.acquire("k", timeout=0.1)


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


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
fork_warns = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forks
@fork_warns
def test_a_forked_child_is_an_instance_of_its_own(shared: Make) -> None:
    limiter = shared("7/hour")
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
    assert limiter.acquire("k", timeout=30)
    assert not limiter.acquire("k", timeout=0.1)


@forks
@fork_warns
def test_a_child_forked_inside_the_loop_that_serves_is_one_too(
    shared: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def life() -> None:
        async with shared("7/hour") as limiter:
            await reaches(lambda: known(limiter) == 1)
            assert limiter.hit("k", 2)
            here, there = multiprocessing.Pipe()
            child = multiprocessing.get_context("fork").Process(target=in_child, args=(limiter, there))
            child.start()
            there.close()
            await reaches(here.poll)  # it goes on meanwhile
            told = here.recv()
            await asyncio.to_thread(child.join)
            assert told == (0, 0, True, 2), told
            await reaches(lambda: settled(limiter))
            assert not served()
            assert await limiter.acquire_async("k", timeout=30)
            assert not await limiter.acquire_async("k", timeout=0.1)

    asyncio.run(life())
    assert not caplog.records


@pytest.mark.parametrize("connected_before", [True, False])
def test_a_process_that_ends_settles(shared: Make, server: Server, connected_before: bool) -> None:
    """Also one that ends sooner than its connection is there, to a host that must be looked up by name first."""
    url = server.url.replace(server.host, "localhost")
    code = f"""
from penstock import Limiter, Sync
from penstock.sync import task, worker
task.CLOSE_S = worker.CLOSE_S = 30.0
limiter = Limiter("10/hour", name="test", sync=Sync({url!r}, fleet_hint=1))
import time
while {connected_before} and not limiter.stats().sync.connected:
    time.sleep(0.01)
assert limiter.hit("k", 5)
"""
    limiter = shared("10/hour")
    environment = dict(os.environ)
    if type(limiter).__mro__[2].__module__.endswith("_reference"):
        environment["PENSTOCK_PURE"] = "1"
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, check=True, timeout=60, env=environment, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == ""
    connected(limiter)
    assert limiter.acquire("k", 5, timeout=30)
    assert not limiter.acquire("k", timeout=0.3)
