"""Who waits for a key, in which order, and until when: the queues behind `acquire` and `acquire_async`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from penstock.clock import NS, Clock
from penstock.decision import Decision

Ask = Callable[[bool], Decision]
"""Tries to take (True), or for one whose turn it is not looks only and says no (False)."""


class Waiters:
    """For each key a queue: only its head asks, the others sleep until it is their turn. One for each limiter.

    Sync and async callers stand in one line. Nobody polls: the head sleeps for the decision's retry_after, or until
    something was given back (`wake`); a clock that a test moves by hand wakes it by moving.

    The garbage collector may end a Hold or a waiting task, and so come in here, while its thread is inside already: the
    lock can be entered anew, and waking somebody takes none.
    """

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock
        self.joined: Callable[[], None] = lambda: None
        """Called whenever somebody has joined a queue."""
        self._watch = getattr(clock, "watch", None)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._queues: dict[int, deque[Callable[[], None]]] = {}
        self._units: dict[int, int] = {}  # by fingerprint, what its queue waits for in all
        self._process = os.getpid()
        self._closed = False

    def _own(self) -> None:
        """After a fork the queues, and perhaps the lock, are those of threads that are not here."""
        if self._process != os.getpid():
            self._begin()

    def any(self, fingerprint: int) -> bool:
        """True while somebody waits for this key."""
        return fingerprint in self._queues and self._process == os.getpid()

    def waited(self) -> dict[int, int]:
        """The units that callers wait for, by fingerprint."""
        if not self._queues:
            return {}
        self._own()
        with self._lock:
            return self._units.copy()

    def wake(self, fingerprint: int | None = None) -> None:
        """Lets the head of this key's queue, or of all, ask again now."""
        if not self._queues:
            return
        self._own()
        with self._lock:
            queues = list(self._queues.values()) if fingerprint is None else [self._queues.get(fingerprint, deque())]
            heads = [queue[0] for queue in queues if queue]
        for head in heads:
            head()

    def close(self) -> None:
        """Ends every wait as if its time were up."""
        self._own()
        self._closed = True
        with self._lock:
            waiters = [waiter for queue in self._queues.values() for waiter in queue]
        for waiter in waiters:
            waiter()

    def _join(self, fingerprint: int, wake: Callable[[], None], units: int) -> None:
        self._own()
        with self._lock:
            queue = self._queues.get(fingerprint)
            if queue is None:
                queue = self._queues[fingerprint] = deque()
            queue.append(wake)
            self._units[fingerprint] = self._units.get(fingerprint, 0) + units
        try:
            self.joined()
        except BaseException:
            self._leave(fingerprint, wake, units)
            raise

    def _leave(self, fingerprint: int, wake: Callable[[], None], units: int) -> None:
        """Leaves the queue from any place in it; a new head is told."""
        self._own()
        with self._lock:
            queue = self._queues.get(fingerprint)
            if queue is None or wake not in queue:  # this process was forked off during the wait
                return
            was_head = queue[0] is wake
            queue.remove(wake)
            self._units[fingerprint] -= units
            head = queue[0] if was_head and queue else None
            if not queue:
                del self._queues[fingerprint], self._units[fingerprint]
        if head is not None:
            head()

    def _now(self) -> int:
        return time.monotonic_ns() if self._watch is None or self._clock is None else self._clock.now_ns()

    def _step(
        self, fingerprint: int, wake: Callable[[], None], ask: Ask, deadline: int | None
    ) -> Decision | float | None:
        """One turn of a waiter: the Decision when it is over, else seconds of real time to sleep, None until woken."""
        rest = float("inf") if deadline is None else (deadline - self._now()) / NS
        if self._queues[fingerprint][0] is wake:
            decision = ask(True)
            if decision or rest <= 0 or self._closed:
                return decision
            rest = min(rest, decision.retry_after)
        elif rest <= 0 or self._closed:
            return ask(False)
        if self._watch is not None or rest == float("inf"):
            return None
        return max(rest, 0.0)

    def wait(self, fingerprint: int, ask: Ask, timeout_ns: int | None, units: int = 1) -> Decision:
        """Stands in line for `units` of the key until `ask` admits or the time is up."""
        deadline = None if timeout_ns is None else self._now() + timeout_ns
        gate = threading.Lock()
        gate.acquire()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # it is open already
                gate.release()

        self._join(fingerprint, wake, units)
        unwatch = self._watch(wake) if self._watch else None
        try:
            while True:
                gate.acquire(blocking=False)
                turn = self._step(fingerprint, wake, ask, deadline)
                if isinstance(turn, Decision):
                    return turn
                gate.acquire(timeout=-1 if turn is None else min(turn, threading.TIMEOUT_MAX))
        finally:
            if unwatch:
                unwatch()
            self._leave(fingerprint, wake, units)

    async def wait_async(self, fingerprint: int, ask: Ask, timeout_ns: int | None, units: int = 1) -> Decision:
        """`wait` in asyncio: the loop runs on, and a cancelled task leaves the line."""
        import asyncio  # here, because it is two thirds of what importing penstock would cost

        deadline = None if timeout_ns is None else self._now() + timeout_ns
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        event_or_none = weakref.ref(event)  # so that a task whose loop was closed can be collected, and leaves the line

        def wake() -> None:
            if (event := event_or_none()) is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(event.set)

        self._join(fingerprint, wake, units)
        unwatch = self._watch(wake) if self._watch else None
        try:
            while True:
                event.clear()
                turn = self._step(fingerprint, wake, ask, deadline)
                if isinstance(turn, Decision):
                    return turn
                timer = None if turn is None else loop.call_later(turn, event.set)
                try:
                    await event.wait()
                finally:
                    if timer is not None:
                        timer.cancel()
        finally:
            if unwatch:
                unwatch()
            self._leave(fingerprint, wake, units)
