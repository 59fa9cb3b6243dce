"""Wakes this process's waiters when another process gives units back, or dies and can't."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock._core import Engine
    from penstock.waiting import Waiters

LOOK_NS = 250_000_000
"""So often it is looked for processes that died holding something, while somebody waits."""


class Listener:
    """A thread that is there while this process has waiters, asleep in the system until a key's bell rings.

    A release rings one of 64 bells; the waiters at the head of that bell's keys then ask again. First come, first
    served holds within a process; between processes whoever asks first.
    """

    def __init__(self, engine: Engine, waiters: Waiters) -> None:
        self._engine = engine
        self._waiters = waiters
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._runs = False

    def start(self) -> None:
        """To be called after a waiter has joined its queue."""
        if self._process != os.getpid():  # the thread, and perhaps the lock, are the parent's
            self._begin()
        with self._lock:
            if self._runs:
                return
            self._runs = True
        threading.Thread(target=self._run, name="penstock waiting", daemon=True).start()

    def _run(self) -> None:
        engine, waiters = self._engine, self._waiters
        engine.listen(True)
        try:
            before, rings = engine.heard()
            waiters.wake()  # what was given back before this thread listened was not rung
            while self._goes_on():
                engine.sleep(rings, LOOK_NS)
                bells, rings = engine.heard()
                if bells == before and engine.clear_dead():
                    waiters.wake()
                for fingerprint in waiters.waited() if bells != before else ():
                    if bells[fingerprint % len(bells)] != before[fingerprint % len(bells)]:
                        waiters.wake(fingerprint)
                before = bells
        finally:
            engine.listen(False)

    def _goes_on(self) -> bool:
        """False when nobody waits any more; who joins from then on starts another thread."""
        with self._lock:
            self._runs = bool(self._waiters.waited())
            return self._runs
