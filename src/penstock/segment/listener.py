"""Wakes this process's waiters when another process gives units back, or dies and can't."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

from penstock.errors import SegmentError

if TYPE_CHECKING:
    from penstock._core import Engine
    from penstock.waiting import Waiters

LOOK_NS = 250_000_000
"""So often it is looked for processes that died holding something, while somebody waits."""


class Listener:
    """A thread that is there while this process has waiters, asleep in the system until a key's bell rings.

    A release rings one of 64 bells; the waiters at the head of that bell's keys then ask again. First come, first
    served holds within a process; between processes whoever asks first. The engine is referred to weakly: the seat of a
    limiter that is dropped is free at once.
    """

    def __init__(self, engine: Engine, waiters: Waiters) -> None:
        self._engine = weakref.ref(engine)
        self._waiters = waiters
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._runs = False
        self._process = os.getpid()

    def start(self) -> None:
        """To be called after a waiter has joined its queue."""
        if self._process != os.getpid():  # the thread, and perhaps the lock, are the parent's
            self._begin()
        engine = self._engine()
        if engine is None:
            return
        with self._lock:
            if self._runs:
                return
            engine.listen(True)
            self._runs = True
        try:
            threading.Thread(target=self._run, args=(engine,), name="penstock waiting", daemon=True).start()
        except BaseException:  # no thread to be had: whoever waits next tries again
            with self._lock:
                self._runs = False
                engine.listen(False)
            raise

    def _run(self, engine: Engine) -> None:
        waiters = self._waiters
        try:
            before, rings = engine.heard()
            waiters.wake()  # what was given back before this engine listened was not rung
            while self._goes_on(engine):
                engine.sleep(rings, LOOK_NS)
                bells, rings = engine.heard()
                if bells == before and engine.clear_dead():
                    waiters.wake()
                for fingerprint in waiters.waited() if bells != before else ():
                    if bells[fingerprint % len(bells)] != before[fingerprint % len(bells)]:
                        waiters.wake(fingerprint)
                before = bells
        except SegmentError:  # the file was cut off: every waiter is told so when it asks
            with self._lock:
                self._runs = False
            waiters.wake()

    def _goes_on(self, engine: Engine) -> bool:
        """False when nobody waits any more; who joins from then on starts another thread."""
        with self._lock:
            self._runs = bool(self._waiters.waited())
            if not self._runs:
                engine.listen(False)
            return self._runs
