"""Detectors that an application registers: plain ones are asked inline, coroutines run behind on a thread of their
own."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from penstock.decision import Decision
from penstock.errors import shown
from penstock.guard.request import Request
from penstock.guard.verdict import Action, Evidence, Severity, Tier

Function = Callable[[Request], Any]
WAITING_MOST = 1024
"""Requests that wait for coroutines; more are not looked at by them."""
LATE_S = 10.0


_SEVERITIES = frozenset(Severity)
_FAILURES = (Exception, asyncio.CancelledError, SystemExit)


class Found(NamedTuple):
    """One piece of evidence and what it asks for. kind: of the answer; ban: seconds; banned: the kind of fact that is
    banned; decision: of the limit that refuses."""

    evidence: Evidence
    action: Action
    kind: str = "threat_detected"
    retry_after: float | None = None
    ban: float = 3600.0
    banned: str | None = "address"
    dry: bool = False
    tier: Tier | None = None
    decision: Decision | None = None


class _Detector(NamedTuple):
    name: str
    function: Function
    action: Action
    ban: float
    dry: bool

    def found(self, evidence: object) -> Found | None:
        if evidence is None:
            return None
        if not isinstance(evidence, Evidence):
            raise TypeError(f"detector {self.name!r} must return Evidence or None, not {type(evidence).__name__}")
        if not all(isinstance(text, str) for text in (evidence.detector, evidence.detail, evidence.key)):
            raise TypeError(f"detector {self.name!r}: the evidence's detector, detail and key must be texts")
        if evidence.severity not in _SEVERITIES:
            raise TypeError(f"detector {self.name!r}: the evidence's severity must be a Severity")
        return Found(evidence, self.action, ban=self.ban, dry=self.dry)


class Detectors:
    """The detectors of one guard. late: told what a coroutine has found."""

    def __init__(self, late: Callable[[Request, Found], None]) -> None:
        self._inline: tuple[_Detector, ...] = ()
        self._behind: tuple[_Detector, ...] = ()
        self._late = late
        self._waiting: queue.Queue[Request | None] = queue.Queue(WAITING_MOST)
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self.any = False
        self.missed = 0

    def add(self, name: str, action: Action, ban: float, dry: bool) -> Callable[[Function], Function]:
        """A decorator that registers a function under a name. ValueError for one that is taken."""
        if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
            raise ValueError(f"name={shown(name)} must be 1 to 64 printable characters")
        if any(one.name == name for one in (*self._inline, *self._behind)):
            raise ValueError(f"name={shown(name)} is another detector's")
        if isinstance(ban, bool) or not isinstance(ban, (int, float)) or not 0 < ban <= 30 * 86_400:
            raise ValueError(f"ban={shown(ban)} must be more than 0 and at most 2592000 seconds")

        def register(function: Function) -> Function:
            one = _Detector(name, function, action, ban, dry)
            if inspect.iscoroutinefunction(function):
                self._behind = (*self._behind, one)
            else:
                self._inline = (*self._inline, one)
            self.any = True
            return function

        return register

    def ask(self, request: Request, failed: Callable[[str], bool]) -> list[Found]:
        """What the plain ones find; the coroutines are told to look."""
        found = []
        for one in self._inline:
            try:
                its = one.found(one.function(request))
            except Exception:
                failed(f"detector {one.name}")
                continue
            if its is not None:
                found.append(its)
        if self._behind:
            self._begin(failed)
            try:
                self._waiting.put_nowait(request)
            except queue.Full:
                self.missed += 1
        return found

    def _begin(self, failed: Callable[[str], bool]) -> None:
        if self._thread is not None and self._process == os.getpid():
            return
        with self._lock:
            if self._thread is None or self._process != os.getpid():  # a forked child has no threads
                self._process = os.getpid()
                self._waiting = queue.Queue(WAITING_MOST)
                self._thread = threading.Thread(
                    target=self._run, args=(failed,), name="penstock-detectors", daemon=True
                )
                self._thread.start()

    def _run(self, failed: Callable[[str], bool]) -> None:
        with asyncio.Runner() as runner:
            while (request := self._waiting.get()) is not None:
                for one in self._behind:
                    try:
                        evidence = runner.run(_within(one.function(request)))
                        found = one.found(evidence)
                        if found is not None:
                            self._late(request, found)
                    except _FAILURES:
                        failed(f"detector {one.name}")
                self._waiting.task_done()

    def flush(self, timeout: float = 2.0) -> bool:
        """Waits until the coroutines have looked at everything so far; whether they have."""
        end = time.monotonic() + timeout
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.001)
        return not self._waiting.unfinished_tasks

    def close(self) -> None:
        thread = self._thread
        if thread is not None and self._process == os.getpid():
            while True:  # ends: only requests that come while it is closed fill it again
                try:
                    self._waiting.put_nowait(None)
                    break
                except queue.Full:
                    with contextlib.suppress(queue.Empty):
                        self._waiting.get_nowait()
                        self._waiting.task_done()
            thread.join(2.0)
            self._thread = None


async def _within(looking: Coroutine[Any, Any, object]) -> object:
    async with asyncio.timeout(LATE_S):
        return await looking
