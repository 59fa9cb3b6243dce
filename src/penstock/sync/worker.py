"""The background threads that serve limiters: one for each Redis and process, for all limiters that share by it.

After a fork the child's limiters are served anew, as instances of their own: what the parent had leased, and what it
had not settled, is the parent's.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from penstock.sync.redis import Target
from penstock.sync.task import CLOSE_S, Courier, Member, log

_lock = threading.RLock()
_workers: dict[object, Worker] = {}
_abandoned: list[Worker] = []
"""Of the parent, after a fork: their event loops must not be closed here."""
_rejoin: dict[Member, Callable[[], None]] = {}
"""How each member is made anew in a forked child."""


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that finds hosts by name until the end of the process, where the pool that asks the system for
    addresses has been shut down before `_close_all` runs. This thread may wait then: nobody else is served."""

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        try:
            return await super().getaddrinfo(host, port, **hints)
        except RuntimeError:
            return socket.getaddrinfo(host, port, **hints)


class Worker:
    """One thread with an event loop. key: see `join`."""

    def __init__(self, key: object, target: Target) -> None:
        self.courier = Courier(target)
        self._key = key
        self._thread = threading.Thread(target=self._run, name="penstock-sync", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Waits until nobody is served any more and the connection is closed."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            try:
                with asyncio.Runner(loop_factory=_Loop) as runner:
                    runner.run(self.courier.run())
            except Exception:
                log.exception("a fault in the synchronisation of limits; it goes on in a second")
                time.sleep(1.0)
            with _lock:
                if not self.courier.members:
                    if _workers.get(self._key) is self:
                        del _workers[self._key]
                    return


def join(key: object, target: Target, member: Member, rejoin: Callable[[], None]) -> None:
    """Has a member served by the thread for its Redis, which is started if need be.

    key: what tells one Redis from another. rejoin: called in a forked child, to join anew.
    """
    with _lock:
        _serve(key, target, member)
        _rejoin[member] = rejoin


def _serve(key: object, target: Target, member: Member) -> None:
    worker = _workers.get(key)
    if worker is None:
        worker = _workers[key] = Worker(key, target)
        worker.courier.join(member)
        worker.start()
    else:
        worker.courier.join(member)


def nudge(key: object) -> None:
    """Has the thread for this Redis look again now."""
    worker = _workers.get(key)
    if worker is not None:
        worker.courier.nudge()


def leave(key: object, member: Member, forget: bool = True) -> None:
    """Lets a member go as it is. forget: also in a forked child."""
    with _lock:
        if forget:
            _rejoin.pop(member, None)
        worker = _workers.get(key)
        if worker is not None:
            worker.courier.leave(member)


def close(key: object, member: Member, seconds: float = CLOSE_S) -> None:
    """Settles, and lets the member go, within so many seconds."""
    worker = _workers.get(key)
    if worker is not None and any(one is member for one in worker.courier.members):
        member.close()
        worker.courier.nudge()
        member.settled.wait(seconds)
    leave(key, member)


def take_over(key: object, target: Target, member: Member) -> None:
    """Has the thread for this Redis settle a member that an event loop served, without waiting for it."""
    member.close()
    with _lock:
        _rejoin.pop(member, None)
        _serve(key, target, member)


@atexit.register
def _close_all() -> None:
    """At the end of the process, everyone settles; together within the time of one."""
    end = time.monotonic() + CLOSE_S
    with _lock:
        workers = list(_workers.values())
        served = [(key, member) for key, worker in _workers.items() for member in worker.courier.members]
    for _, member in served:
        member.close()
    for key, member in served:
        close(key, member, max(0.0, end - time.monotonic()))
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))


_held: list[Any] = []


def _before_fork() -> None:
    """Waits until no plan is at work, so that the child's engines are whole."""
    _lock.acquire()
    _held.append(_lock)
    served = (member for worker in _workers.values() for member in worker.courier.members)
    for member in {*_rejoin, *served}:
        member.lock.acquire()
        _held.append(member.lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _after_fork()
    _abandoned.extend(_workers.values())
    _workers.clear()
    again = list(_rejoin.values())
    _rejoin.clear()
    for rejoin in again:
        rejoin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
