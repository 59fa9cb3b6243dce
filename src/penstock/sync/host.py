"""One process of a host exchanges with Redis for all that have a limiter's segment; another takes over when it is gone.

To Redis and to the fleet such a host is one instance. The process that leads has a lock on the segment's file, and its
plan drives the tables that all decide on. The others say in the segment what only they know: who waits there, and which
keys were made as good as new.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from penstock.errors import SegmentError
from penstock.segment.file import locked, unlocked
from penstock.sync.exchange import Exchange, Fleet
from penstock.sync.plan import NORMAL, OPEN
from penstock.sync.state import SyncState
from penstock.sync.task import Bell, SharingLimiter, log

if TYPE_CHECKING:
    from penstock._core import Engine

STAND_S = 0.25
"""So often a process tries whether it can lead."""
REST_NS = 250_000_000
"""So long a leader rests when nothing is urgent; then it looks whether it still is to lead."""


class HostExchange(Exchange):
    """An Exchange of a limiter on a segment: at work in one process of the host, ready in the others."""

    _leads = False

    def _begin(self, limiter: SharingLimiter) -> None:
        self._end = threading.Event()
        self._turn = threading.RLock()  # taking the lead and ending: one comes first, and the other sees it
        if self._may_lead(engine_of(limiter)):
            self._lead(limiter)
        else:
            self._leads = False
            self._start(self._stand, "penstock standing by")

    @staticmethod
    def _may_lead(engine: Engine) -> bool:
        return engine.fd is not None and locked(engine.fd, _lead_byte())

    def _lead(self, limiter: SharingLimiter) -> None:
        engine_of(limiter).lead()
        super()._begin(limiter)
        self._leads = True  # from now on there is a plan to ask
        self._start(self._attend, "penstock leading")

    @staticmethod
    def _start(what: Callable[[], None], name: str) -> None:
        threading.Thread(target=what, name=name, daemon=True).start()

    def _stand(self) -> None:
        """In a thread of a process that does not lead. A file that was cut off is told of where decisions are made."""
        with contextlib.suppress(SegmentError):
            while not self._end.wait(STAND_S):
                limiter = self._limiter()
                if limiter is None:
                    return
                engine = engine_of(limiter)
                engine.wait_here(dict(self._waited.waited()))
                if self._takes_the_lead(limiter):
                    return
                del engine, limiter

    def _takes_the_lead(self, limiter: SharingLimiter) -> bool:
        """If nobody leads and this one has not been ended."""
        with self._turn:
            if self._end.is_set() or not self._may_lead(engine_of(limiter)):
                return False
            log.info("limiter %r: this process exchanges with Redis for its host from now on", self.name)
            self._lead(limiter)
            return True

    def _attend(self) -> None:
        """In a thread of the process that leads: brings to its plan what is urgent in other processes."""
        asked, end = 0, self._end
        with contextlib.suppress(SegmentError):
            while not end.is_set():
                limiter = self._limiter()
                if limiter is None:
                    return
                engine = engine_of(limiter)
                asked = engine.rest(asked, REST_NS)
                plan = self._member.plan
                for fingerprint in engine.forgotten():
                    plan.forget(fingerprint)
                plan.rung()
                self._nudge()
                del engine, limiter

    def _bell(self, limiter: SharingLimiter) -> tuple[Bell | None, bool]:
        return None, True

    def _wants(self) -> Mapping[int, int]:
        limiter = self._limiter()
        wants = dict(self._waited.waited())
        for fingerprint, units in engine_of(limiter).waited_elsewhere().items() if limiter is not None else ():
            wants[fingerprint] = wants.get(fingerprint, 0) + units
        return wants

    def _rejoin(self) -> None:
        """Nothing: `rejoined` is called once the child has a seat of its own."""

    def rejoined(self, limiter: SharingLimiter) -> None:
        """In a forked child: the parent goes on leading, if it did, and everything in the segment stays as it is."""
        self._courier = self._serving = None
        if not self._closed:
            self._begin(limiter)

    # ---- for decisions that can wait ----

    def ask(self, fingerprint: int) -> None:
        """Somebody waits for this key."""
        if self._leads:
            super().ask(fingerprint)
        elif (limiter := self._limiter()) is not None:
            engine_of(limiter).wait_here(dict(self._waited.waited()))
            engine_of(limiter).urge(fingerprint)

    def forget(self, fingerprint: int | None) -> None:
        """A key, or all (None), was made as good as new: Redis and the other hosts are to do the same."""
        limiter = self._limiter()
        if self._leads:
            super().forget(fingerprint)
        elif limiter is not None and not self._closed and not engine_of(limiter).leave_forgotten(fingerprint):
            log.warning("limiter %r: so many keys were reset at once that Redis keeps what it counts of one", self.name)

    def _fleet(self, now: int) -> Fleet:
        if self._leads:
            return super()._fleet(now)
        instances, modes = self._told()
        interval_ns = min(policy.interval_ns for limits in self._policies for policy in limits)
        return Fleet(instances, OPEN in modes, interval_ns)

    def _told(self) -> tuple[int, list[int]]:
        """How many instances there are, and each partition's mode, as the leader has set them."""
        limiter = self._limiter()
        return (1, [NORMAL]) if limiter is None else engine_of(limiter).fleet()

    # ---- looking in, changing, ending ----

    def state(self) -> SyncState:
        """What stats().sync shows; where another process leads, only what this one can see."""
        if self._leads:
            return super().state()
        fleet, (_, modes) = self._fleet(0), self._told()
        mode = "host" if all(one == NORMAL for one in modes) else "open" if fleet.open else "closed"
        return SyncState(True, mode, fleet.instances, fleet.interval_ns / 1e9, None, 0, 0, 0, 0, 0.0, 0.0, 0, 0, None)

    def close(self) -> None:
        """As Exchange.close; then another process of the host may lead."""
        if self._ends():
            try:
                if self._leads:
                    super().close()
            finally:
                self._retire()

    async def enter(self) -> None:
        """Is served by this event loop, if it leads."""
        if self._leads:
            await super().enter()

    async def leave(self) -> None:
        """`close` in asyncio."""
        if self._courier is None:
            await asyncio.to_thread(self.close)
        elif self._ends():
            try:
                await super().leave()
            finally:
                self._retire()

    def _ends(self) -> bool:
        """From here on it does not begin to lead. True for the first who asks, whose it is to settle and to retire."""
        with self._turn:
            first = not self._end.is_set()
            self._end.set()
            return first

    def _retire(self) -> None:
        self._closed = True
        limiter = self._limiter()
        if self._leads and limiter is not None:
            self._leads = False
            fd = engine_of(limiter).fd
            if fd is not None:
                unlocked(fd, _lead_byte())


def _lead_byte() -> int:
    """Which byte of the file who leads has locked. Asked late: where there is no compiled core nobody leads."""
    from penstock._core import LEAD_BYTE

    return LEAD_BYTE


def engine_of(limiter: SharingLimiter) -> Engine:
    """The limiter as the engine it is."""
    return cast("Engine", limiter)

