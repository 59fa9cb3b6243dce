"""The coroutine that brings limiters' batches to one Redis: in a thread of its own (worker.py) or in a user's loop.

It does what each limiter's plan says (plan.py) and holds no lock while it waits. A limiter is held weakly: one that
nobody uses any more is let go, without having settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from struct import unpack_from
from typing import Protocol

from penstock.policy import Policy
from penstock.sync.agreement import TTL_MS, agreement_of
from penstock.sync.names import Names
from penstock.sync.plan import Plan, Send
from penstock.sync.redis import Call, Link, LinkError, Target
from penstock.sync.state import SyncState
from penstock.sync.wire import ENTRY_BYTES

NS = 1_000_000_000
CLOSE_S = 1.0
"""So long a limiter that is closed may take to settle."""
AGREE_S, AGREE_AGAIN_S, AGREE_WAIT_S = 30.0, 1.0, 0.5
"""How often instances compare what they must have in common, when it is tried again, how long an answer may take."""
LOOK_NS = 10_000_000
"""Clocks of tests do not run with ours: they are looked at so often."""

log = logging.getLogger("penstock.sync")


class Bell:
    """A pipe into which an engine writes a byte when a key wants to be early.

    It is closed when nobody has it any more, neither the limiter, whose next decision may write, nor a loop that
    listens: its numbers must not be another file's before.
    """

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        os.set_blocking(self.out, False)
        os.set_blocking(self.into, False)

    def heard(self) -> None:
        """Takes out what was written."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.out, 4096)

    def __del__(self) -> None:
        os.close(self.out)
        os.close(self.into)


def bell_of(limiter: SharingLimiter) -> Bell | None:
    """A bell that the limiter's engine rings; None where it cannot, and has to be asked."""
    try:
        limiter.wake(None)
    except NotImplementedError:
        return None  # before a bell is made: that, too, cannot be done everywhere
    bell = Bell()
    limiter.wake(bell.into)
    return bell


class SharingLimiter(Protocol):
    """What the courier needs of a limiter."""

    def now_ns(self) -> int: ...
    def wake(self, fd: int | None) -> None: ...
    def _wake_all(self, fingerprints: Sequence[int]) -> None: ...


class Member:
    """A limiter and its plan. lock: over the plan, never held during I/O. name, secret: of its namespace. bell: rung by
    its engine. steady: whether its clock runs as ours does. courier: who serves it now."""

    def __init__(
        self,
        limiter: SharingLimiter,
        plan: Plan,
        policies: Sequence[Sequence[Policy]],
        *,
        name: str,
        secret: bytes,
        partitions: int,
        bell: Bell | None = None,
        steady: bool = True,
    ) -> None:
        self.bell = bell
        self.steady = steady
        self.limiter = weakref.ref(limiter)
        self.plan = plan
        self.lock = threading.Lock()
        self.courier: Courier | None = None
        self.closing = False
        self.settled = threading.Event()  # or it never will be
        self._end_s = 0.0
        self.kept: SharingLimiter | None = None  # from `close` until it is let go
        self._name = name
        self._inst = os.urandom(8).hex()
        self._names = Names(name, secret, self._inst, partitions)
        self._secret = secret
        self._partitions = partitions
        self._disagreement: str | None = None
        self._agree_s = 0.0
        self._kinds = [policy.kind for limits in policies for policy in limits]
        self._away = False

    def call(self, send: Send) -> Call:
        """The script call of a batch."""
        names, partition = self._names, send.partition
        keys = names.own(partition)
        for index in range(len(send.fps) // 8):
            (rule,) = unpack_from("<H", send.entries, index * ENTRY_BYTES)
            (fp,) = unpack_from("<Q", send.fps, index * 8)
            keys.append(names.state(partition, rule, self._kinds[rule], fp))
        return Call(keys, send.header, send.entries, self._inst)

    def steps(self, limiter: SharingLimiter) -> tuple[list[Send], int, list[int]]:
        """(what is to be sent now, how long there is nothing to do then in ns, whose waiters should look again)."""
        sends: list[Send] = []
        with self.lock:
            now = limiter.now_ns()
            while isinstance(step := self.plan.next(now), Send):
                sends.append(step)
            if self.closing and (self.plan.settled or time.monotonic() >= self._end_s):
                self.settled.set()
            self._report()
            return sends, step.ns, self.plan.woken()

    def ended(self, send: Send, end: bytes | LinkError) -> None:
        """Tells the plan how a batch ended."""
        limiter = self.limiter()
        if limiter is None:
            return
        with self.lock:
            if isinstance(end, bytes):
                self.plan.answered(send.partition, end, limiter.now_ns())
            else:
                self.plan.failed(send.partition, str(end), limiter.now_ns())

    @property
    def is_to_agree(self) -> bool:
        """Whether it is time for `agree`."""
        return not self.closing and time.monotonic() >= self._agree_s

    async def agree(self, link: Link) -> None:
        """Compares what instances of this name must have in common; tells of a difference once."""
        limiter = self.limiter()
        if limiter is None or not self.is_to_agree:
            return
        self._agree_s = time.monotonic() + AGREE_S
        with self.lock:
            ours = agreement_of(self._partitions, self._secret, self.plan.rules(limiter.now_ns()))
        del limiter
        try:
            found = await link.agree(self._names.agreement, ours.pack(), TTL_MS, AGREE_WAIT_S)
        except LinkError:
            self._agree_s = time.monotonic() + AGREE_AGAIN_S
            return
        told, self._disagreement = self._disagreement, ours.conflict(found)
        if self._disagreement not in (None, told):
            log.warning("limiter %r: %s", self._name, self._disagreement)

    def close(self) -> None:
        """To be settled as fast as it goes, within CLOSE_S."""
        with self.lock:
            self.kept = self.limiter()
            self._end_s = time.monotonic() + CLOSE_S
            self.closing = True
            self.plan.close()

    def state(self) -> SyncState:
        """What stats().sync shows."""
        limiter = self.limiter()
        assert limiter is not None
        with self.lock:
            state = self.plan.state(limiter.now_ns())
        return state if state.error is not None else state._replace(error=self._disagreement)

    def _report(self) -> None:
        """One line when Redis goes away, one when it is back."""
        away = self.plan.away
        if away == self._away or (away and self.plan.error is None):
            return
        self._away = away
        if away:
            log.warning("limiter %r: Redis is away: %s", self._name, self.plan.error)
        else:
            log.warning("limiter %r: Redis is back", self._name)


class Courier:
    """Serves members over one link. Made in any thread; `run` belongs to one loop, `nudge` to any thread."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._members: list[Member] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged: asyncio.Event | None = None
        self._heard: set[Bell] = set()
        self._faulty = False
        self._well = True  # the last batch was answered

    def join(self, member: Member) -> None:
        """Takes a limiter in."""
        member.courier = self
        self._members = [*self._members, member]
        self.nudge()

    def leave(self, member: Member) -> None:
        """Lets a limiter go as it is."""
        self._members = [one for one in self._members if one is not member]
        member.kept = None
        self.nudge()

    @property
    def members(self) -> Sequence[Member]:
        return self._members

    def nudge(self) -> None:
        """Looks again now."""
        loop, nudged = self._loop, self._nudged
        if loop is not None and nudged is not None:
            try:
                loop.call_soon_threadsafe(nudged.set)
            except RuntimeError:
                self._loop = None  # it is closed, and nobody serves here any more

    async def run(self) -> None:
        """Serves until nobody is left."""
        self._loop, self._nudged = asyncio.get_running_loop(), asyncio.Event()
        calls: set[asyncio.Task[None]] = set()
        turn = asyncio.Lock()
        async with Link(self._target) as link:
            try:
                while self._members:
                    self._listen(self._members)
                    self._nudged.clear()
                    sends, sleep_s = self._step()
                    for member, send in sends:
                        task = self._loop.create_task(self._bring(link, turn, member, send))
                        calls.add(task)
                        task.add_done_callback(calls.discard)
                    timer = self._loop.call_later(sleep_s, self._nudged.set)
                    await self._nudged.wait()
                    timer.cancel()
                if calls:
                    await asyncio.wait(calls, timeout=CLOSE_S)
            finally:
                self._listen(())
                for task in calls:
                    task.cancel()

    def _listen(self, members: Sequence[Member]) -> None:
        """Has the bells of these members heard, and of no others."""
        loop = self._loop
        wanted = {member.bell: member for member in members if member.bell is not None}
        if loop is None or wanted.keys() == self._heard:
            return
        for bell in self._heard - wanted.keys():
            loop.remove_reader(bell.out)
        for bell in wanted.keys() - self._heard:
            loop.add_reader(bell.out, self._rung, wanted[bell])
        self._heard = set(wanted)

    def _rung(self, member: Member) -> None:
        if member.bell is not None and self._nudged is not None:
            member.bell.heard()
            member.plan.rung()
            self._nudged.set()

    def _step(self) -> tuple[list[tuple[Member, Send]], float]:
        """What is to be sent now, and how many seconds there is nothing to do then."""
        sends: list[tuple[Member, Send]] = []
        sleep_ns = NS
        for member in self._members:
            limiter = member.limiter()
            if limiter is None:
                self.leave(member)
                continue
            try:
                found, rest_ns, woken = member.steps(limiter)
            except Exception:
                self._fault()
                continue
            if member.settled.is_set():
                self.leave(member)
            sends += [(member, send) for send in found]
            sleep_ns = min(sleep_ns, rest_ns if member.steady else LOOK_NS)
            if woken:
                limiter._wake_all(woken)
        return sends, sleep_ns / NS

    async def _bring(self, link: Link, turn: asyncio.Lock, member: Member, send: Send) -> None:
        """Brings one batch. While Redis answers all take turns on one connection; when it does not, nobody waits until
        another's time is up. The shards of a cluster do not wait for each other."""
        end: bytes | LinkError
        try:
            if self._well and self._target.partitions == 1:
                async with turn:
                    end = await link.send(member.call(send), send.timeout_ns / NS)
            else:
                end = await link.send(member.call(send), send.timeout_ns / NS)
        except LinkError as error:
            end = error
        except asyncio.CancelledError:
            member.ended(send, LinkError(link.target.where, "given up"))  # another courier sends it again
            raise
        except Exception as error:
            self._fault()
            end = LinkError(link.target.where, f"a fault of ours: {type(error).__name__}")
        self._well = isinstance(end, bytes)
        try:
            member.ended(send, end)
        except Exception:
            self._fault()
        if member.courier is not None:
            member.courier.nudge()  # which may be another by now
        if isinstance(end, bytes) and member.is_to_agree:
            async with turn:
                await member.agree(link)

    def _fault(self) -> None:
        """A fault of ours must not end what other limiters rely on; it is told once."""
        if not self._faulty:
            self._faulty = True
            log.exception("a fault in the synchronisation of limits")

