"""Limiters on one segment that share through Redis, too: to the fleet their host is one instance, and one leads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Server, until
from sharing import Make, connected, known, settled, state

from penstock import Concurrency, Limiter, Segment, SegmentError, Sync, native
from penstock.sync.host import HostExchange

pytestmark = pytest.mark.skipif(not native, reason="a segment needs the compiled core")

Host = Callable[..., Limiter]

WORKER = """
import sys, time
from penstock import Limiter, Segment, Sync
path, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
limiter = Limiter("200/second", name="test", shared=Segment(path=path), sync=Sync(url, fleet_hint=1))
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(5):
        limiter.hit("k")
    time.sleep(0.005)
"""


@pytest.fixture
def host(segment_folder: Path, server: Server) -> Iterator[Host]:
    """Makes limiters on one segment, each as if it were of a process of its own, and closes them."""
    made: list[Limiter] = []

    def make(*limits: Any, url: str | None = None, **options: Any) -> Limiter:
        sync = Sync(server.url if url is None else url, **{"fleet_hint": 1, **options})
        made.append(Limiter(*limits, name="test", shared=Segment(path=segment_folder / "host"), sync=sync))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


def leads(limiter: Limiter) -> bool:
    return state(limiter).mode == "normal"


def test_the_processes_of_a_host_are_one_instance(host: Host, shared: Make) -> None:
    first, second, third = (host("100/minute") for _ in range(3))
    other = shared("100/minute")
    connected(other, first)
    assert [leads(limiter) for limiter in (first, second, third)] == [True, False, False]
    until("the followers", lambda: state(third).instances == 2)
    until("the other host", lambda: known(other) == 2)
    assert [limiter.hit("k") for limiter in (first, second, third)] == [True] * 3
    until("Redis", lambda: settled(first))
    assert state(second).mode == "host"
    until("the other host", lambda: other.check("k").remaining <= 96)


def test_a_follower_takes_over_from_a_leader_that_closes(host: Host, shared: Make) -> None:
    first, second = host("10/hour"), host("10/hour")
    connected(first)
    assert second.hit("k", 4)
    first.close()
    until("the follower", lambda: leads(second) and state(second).connected)
    other = shared("10/hour", strict=True)
    connected(other)
    assert other.acquire("k", 6, timeout=30)
    assert not other.acquire("k", timeout=0.1)


def test_a_follower_that_is_closed_as_it_takes_the_lead_leads_no_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held up between having the leader's lock and leading, and is closed meanwhile; the next one then leads."""
    first, second = host("10/hour"), host("10/hour")
    taking, closed = threading.Event(), threading.Event()
    may_lead = HostExchange._may_lead

    def slowly(engine: Any) -> bool:
        if not may_lead(engine):
            return False
        taking.set()
        closed.wait(0.5)
        return True

    monkeypatch.setattr(HostExchange, "_may_lead", staticmethod(slowly))
    first.close()
    assert taking.wait(30)
    second.close()
    closed.set()
    monkeypatch.undo()
    third = host("10/hour")
    until("the next one", lambda: leads(third))
    assert not leads(second)


def test_a_follower_takes_over_from_a_limiter_that_is_dropped(host: Host, segment_folder: Path, server: Server) -> None:
    path = segment_folder / "host"
    first: Any = Limiter("10/hour", name="test", shared=Segment(path=path), sync=Sync(server.url, fleet_hint=1))
    second = host("10/hour")
    connected(first)
    del first

    def leads_now() -> bool:
        gc.collect()
        return leads(second)

    until("the follower", leads_now)


def test_another_process_takes_over_from_a_killed_leader(server: Server, segment_folder: Path, shared: Make) -> None:
    """Never above what the host may be ahead of Redis, and what was unsettled is told by the next leader."""
    path, seconds = segment_folder / "host", 3.0
    command = [sys.executable, "-c", WORKER, str(path), server.url, str(seconds)]
    watch = Limiter("200/second", name="test", shared=Segment(path=path), sync=Sync(server.url, fleet_hint=1))
    begun = time.monotonic()
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        watch.close()  # so that one of the workers leads
        fleet = shared("200/second")
        connected(fleet)
        pids = {worker.pid for worker in workers}
        until("a leader among them", lambda: bool(pids & leaders(path)))
        (led,) = leaders(path)
        os.kill(led, 9)
        until("another leader", lambda: bool(leaders(path) - {led}))
        for worker in workers:
            worker.wait(timeout=30)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()
    took = time.monotonic() - begun
    admitted = watch.stats().admitted
    bound = shared("200/second").guarantee().excess
    assert 200 <= admitted <= 200 + 200 * took + bound


def leaders(path: Path) -> set[int]:
    """The process that has the leader's lock, as the system tells it."""
    inode = path.stat().st_ino
    return {int(folder.parts[2]) for folder in Path("/proc").glob("[0-9]*/fd") if _has_lock(folder, inode)}


def _has_lock(folder: Path, inode: int) -> bool:
    from penstock._core import LEAD_BYTE

    try:
        for fd in folder.iterdir():
            if fd.stat().st_ino == inode:
                info = (folder.parent / "fdinfo" / fd.name).read_text()
                if any("OFDLCK" in line and line.split()[-2] == str(LEAD_BYTE) for line in info.splitlines()):
                    return True
    except OSError:
        return False  # it has ended meanwhile
    return False


def test_a_forked_child_follows(host: Host) -> None:
    parent = host("100/hour")
    connected(parent)
    assert parent.hit("k", 3)
    child = os.fork()
    if child == 0:
        right = False
        try:
            right = not leads(parent) and parent.hit("k", 4) and parent.peek("k").remaining <= 93
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert leads(parent)
    assert parent.peek("k").remaining <= 93
    until("Redis", lambda: settled(parent))


def test_who_waits_in_a_follower_is_served(host: Host) -> None:
    leader, follower = host("5/second", strict=True), host("5/second", strict=True)
    connected(leader)
    assert all(follower.acquire("k", timeout=10) for _ in range(8))


def test_a_key_that_a_follower_resets_is_new_everywhere(host: Host, shared: Make) -> None:
    leader, follower = host("3/hour"), host("3/hour")
    other = shared("3/hour")
    connected(leader, other)
    assert other.acquire("k", 3, timeout=30)
    until("the host", lambda: not follower.check("k").allowed)
    follower.reset("k")
    until("the other host", lambda: other.check("k").allowed)


def test_settings_that_differ_are_refused(host: Host, segment_folder: Path, server: Server) -> None:
    host("5/minute")
    path = segment_folder / "host"
    with pytest.raises(SegmentError, match=r"sync as 'test', every 0\.05 s, not no"):
        Limiter("5/minute", shared=Segment(path=path))
    with pytest.raises(SegmentError, match=r"sync as 'test', .*, not as 'other'"):
        Limiter("5/minute", name="other", shared=Segment(path=path), sync=server.url)
    with pytest.raises(SegmentError, match=r"every 0\.05 s, not as 'test', strictly, every 0\.05 s"):
        host("5/minute", strict=True)
    with pytest.raises(SegmentError, match="another secret"):
        host("5/minute", secret=b"0123456789abcdef")


def test_concurrency_is_shared_by_a_host_or_through_redis(host: Host) -> None:
    with pytest.raises(ValueError, match="not both"):
        host(Concurrency(3))
