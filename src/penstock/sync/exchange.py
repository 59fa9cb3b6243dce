"""A limiter's end of the exchange with Redis: it is joined to a thread, or to an event loop, and let go again."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from penstock.policy import INTERVAL_LEAST_NS, KAPPA_ONE, Policy, shared_turn_ns
from penstock.sync import worker
from penstock.sync.guarantee import Guarantee, guarantee_of
from penstock.sync.names import check_namespace, namespace_secret
from penstock.sync.plan import Plan, SharingEngine
from penstock.sync.redis import read_target
from penstock.sync.task import CLOSE_S, Bell, Courier, Member, SharingLimiter, bell_of, log
from penstock.sync.wire import EPOCH_S

if TYPE_CHECKING:
    from penstock.sync.options import Sync
    from penstock.sync.state import SyncState

OWN_LEAST = 4
"""Where an instance may have fewer units unsettled than this, who can wait is served from leases alone."""


class Waited(Protocol):
    """Who waits for what; penstock.waiting.Waiters."""

    def waited(self) -> Mapping[int, int]: ...


class Fleet(NamedTuple):
    """What is known of all instances together. open: Redis is away, and everything is admitted; interval_ns: between
    two exchanges now."""

    instances: int
    open: bool
    interval_ns: int


class Exchange:
    """Made before its limiter is, which `start` is given. Raises SyncError for a Redis that cannot be meant."""

    def __init__(self, options: Sync, name: str | None) -> None:
        if name is None:
            raise ValueError('sync needs a name that instances share by: Limiter("5/minute", name="login", sync=…)')
        self.name = check_namespace(name)
        self.options = options
        self.secret = namespace_secret(name, options.secret)
        self._target = read_target(options.url)
        self._key = options.target
        self._courier: Courier | None = None  # of an event loop of the user's
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    def start(
        self,
        limiter: SharingLimiter,
        policies: Sequence[Sequence[Policy]],
        waited: Waited,
        *,
        wall_ns: int,
        steady: bool,
    ) -> None:
        """Begins, in the background. wall_ns: the time since the Unix epoch when the limiter's engine was made; steady:
        whether its clock is the system's."""
        self._limiter = weakref.ref(limiter)
        self._steady = steady
        self._policies = policies
        self._waited = waited
        self._epoch_us = wall_ns / 1000 - EPOCH_S * 1e6
        self._warn_of_fast_limits()
        self._begin(limiter)

    def _warn_of_fast_limits(self) -> None:
        """One line of limits that change faster than instances can tell each other."""
        fast = [one for limits in self._policies for one in limits if shared_turn_ns(one) // 10 < INTERVAL_LEAST_NS]
        if fast:
            log.warning(
                "limiter %r: a limit of %s is used up and back within %g s, and instances exchange every %g s at most:"
                " together they may admit more, as guarantee() says",
                self.name,
                " and ".join(f"{one.rate} per {one.per_ns / 1e9:g} s" for one in fast),
                max(shared_turn_ns(one) for one in fast) / 1e9,
                INTERVAL_LEAST_NS / 1e9,
            )

    def _begin(self, limiter: SharingLimiter) -> None:
        """As an instance that nobody has heard of."""
        self._make(limiter)
        self._join()

    def _bell(self, limiter: SharingLimiter) -> tuple[Bell | None, bool]:
        """(what the engine rings, whether it has not to be asked)."""
        bell = bell_of(limiter)
        return bell, bell is not None

    def _wants(self) -> Mapping[int, int]:
        """By fingerprint, the units that callers wait for."""
        return self._waited.waited()

    def _make(self, limiter: SharingLimiter) -> None:
        """A plan and a member, let go when the limiter is."""
        bell, rings = self._bell(limiter)
        plan = Plan(
            cast(SharingEngine, weakref.proxy(limiter)),
            self._policies,
            now=limiter.now_ns(),
            partitions=self._target.partitions,
            fleet_hint=self.options.fleet_hint,
            on_outage=self.options.on_outage,
            wants=self._wants,
            epoch_us=self._epoch_us,
            rings=rings,
        )
        self._member = Member(
            limiter,
            plan,
            self._policies,
            name=self.name,
            secret=self.secret,
            partitions=self._target.partitions,
            bell=bell,
            steady=self._steady,
        )
        weakref.finalize(limiter, worker.leave, self._key, self._member).atexit = False

    def _join(self) -> None:
        worker.join(self._key, self._target, self._member, self._rejoin)

    def _rejoin(self) -> None:
        """In a forked child: anew, without what is the parent's."""
        limiter = self._limiter()
        if limiter is None or self._closed:
            return
        self._member.plan.abandon()
        self._courier = self._serving = None
        self._begin(limiter)

    def rejoined(self, limiter: SharingLimiter) -> None:
        """In a forked child, of a limiter on a segment: see HostExchange."""

    # ---- for decisions that can wait ----

    def ask(self, fingerprint: int) -> None:
        """Somebody waits for this key."""
        self._member.plan.ask(fingerprint)
        self._nudge()

    def forget(self, fingerprint: int | None) -> None:
        """A key, or all (None), was made as good as new: Redis and the other instances are to do the same."""
        if not self._closed:
            self._member.plan.forget(fingerprint)
            self._nudge()

    def _nudge(self) -> None:
        if self._courier is not None:
            self._courier.nudge()
        else:
            worker.nudge(self._key)

    def leases_only(self, tier: int, now: int) -> bool:
        """Whether who can wait is served from leases alone: where being ahead of Redis would be too coarse."""
        fleet = self._fleet(now)
        if fleet.open:
            return False
        most = OWN_LEAST * KAPPA_ONE * fleet.instances
        return any(policy.kappa * policy.limit < most for policy in self._policies[tier])

    def _fleet(self, now: int) -> Fleet:
        plan = self._member.plan
        return Fleet(plan.instances(now), plan.away and self.options.on_outage == "open", plan.interval_ns)

    # ---- looking in, changing, ending ----

    def state(self) -> SyncState:
        """What stats().sync shows."""
        return self._member.state()

    def guarantee(self, tiers: Sequence[str | None], now: int, largest: Sequence[int]) -> Guarantee:
        """What holds with as many instances as there are, and the interval there is."""
        fleet = self._fleet(now)
        named = list(zip(tiers, self._policies, strict=True))
        return guarantee_of(named, fleet.instances, fleet.interval_ns, largest)

    def replace(self, policies: Sequence[Sequence[Policy]]) -> None:
        """Other policies are in force."""
        self._policies = policies
        with self._member.lock:
            self._member.plan.replace(policies)

    def close(self) -> None:
        """Settles and gives leases back, within CLOSE_S; after that this instance is none any more. What an event loop
        served a thread settles, and goes on when this has returned, since the loop may be the one that calls."""
        if self._closed:
            return
        self._closed = True
        if self._courier is None:
            worker.close(self._key, self._member)
        else:
            self._courier.leave(self._member)
            worker.take_over(self._key, self._target, self._member)

    async def enter(self) -> None:
        """Is served by this event loop from now on, instead of a thread."""
        if self._closed or self._courier is not None:
            return
        worker.leave(self._key, self._member, forget=False)
        self._courier = Courier(self._target)
        self._courier.join(self._member)
        self._serving = asyncio.get_running_loop().create_task(self._courier.run())

    async def leave(self) -> None:
        """`close` in asyncio."""
        courier, serving = self._courier, self._serving
        if self._closed or courier is None or serving is None:
            await asyncio.to_thread(self.close)
            return
        self._closed = True
        self._member.close()
        courier.nudge()
        end = time.monotonic() + CLOSE_S
        while not self._member.settled.is_set() and time.monotonic() < end and not serving.done():
            await asyncio.sleep(0.002)
        courier.leave(self._member)
        worker.leave(self._key, self._member)
        await serving
