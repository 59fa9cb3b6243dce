"""Instances that are driven by penstock.sync.plan, and a Redis they reach with delays and losses, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from engines import SECRET, engine_of
from simulation.merge import MergeServer

from penstock.clock import NS, ManualClock
from penstock.policy import compile_shared
from penstock.rate import Limit
from penstock.sync.plan import Plan, Send
from penstock.sync.wire import ENTRY_BYTES

MS = 1_000_000
SERVER_US = 60_000_000_000_000


class Fleet:
    """One clock, one server, any number of instances with the same limits.

    backend: what decides, for all fleets of a test. delay_ns: one way. reaches, returns: whether a batch reaches the
    server, and its answer the instance; tests replace them. batches: (time ns, instance, Send) of all that were sent.
    """

    backend = "reference"

    def __init__(
        self,
        *limits: Limit,
        count: int = 1,
        every: float = 0.05,
        kappa: float = 0.5,
        partitions: int = 1,
        seed: int = 1,
        **plan: Any,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = ManualClock()
        self.server = MergeServer(SERVER_US)
        self.policies = compile_shared([limits], round(every * NS), kappa)
        self.partitions = partitions
        self.delay_ns = MS // 4
        self.reaches: Callable[[Instance], bool] = lambda instance: True
        self.returns: Callable[[Instance], bool] = lambda instance: True
        self.batches: list[tuple[int, Instance, Send]] = []
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._plan = {"fleet_hint": count, **plan}
        self.instances: list[Instance] = []
        for _ in range(count):
            self.join()

    @property
    def now(self) -> int:
        """Nanoseconds since the beginning."""
        return self.clock.now_ns()

    def join(self) -> Instance:
        """One more instance, which may suppose that there are fleet_hint."""
        instance = Instance(self, engine_of(self.backend), self._plan)
        self.instances.append(instance)
        instance.look()
        return instance

    def at(self, when: int, act: Callable[[], None]) -> None:
        """Has `act` done at a time."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), act))

    def run(self, seconds: float) -> None:
        """Lets so much time pass."""
        end = self.now + round(seconds * NS)
        while self._events and self._events[0][0] <= end:
            when, _, act = heapq.heappop(self._events)
            self._set(when)
            act()
        self._set(end)

    def _set(self, ns: int) -> None:
        self.clock.set_ns(ns)
        self.server.now_us = SERVER_US + ns // 1000

    def load(
        self, per_second: float, seconds: float, key: str = "k", weights: Sequence[float] | None = None
    ) -> list[int]:
        """Asks at random times, of instances at random; the units admitted in each second."""
        admitted = [0] * (round(seconds) + 1)
        begin = self.now

        def ask() -> None:
            (instance,) = self.rng.choices(self.instances, weights)
            admitted[(self.now - begin) // NS] += instance.hit(key)
            when = self.now + round(self.rng.expovariate(per_second) * NS)
            if when < begin + seconds * NS:
                self.at(when, ask)

        self.at(begin, ask)
        self.run(seconds)
        return admitted[: max(1, round(seconds))]


class Instance:
    """An engine, its plan, and who waits."""

    def __init__(self, fleet: Fleet, engine_class: type[Any], plan: dict[str, Any]) -> None:
        self.fleet = fleet
        self.engine = engine_class(
            fleet.policies, {None: 0}, capacity=10_000, evict=True, secret=SECRET, clock=fleet.clock, remember=False
        )
        self.waited: dict[int, int] = {}
        self.woken: list[int] = []
        self.alive = True
        self._inst = fleet.rng.randbytes(8).hex().encode()
        self.plan = Plan(
            self.engine,
            fleet.policies,
            now=self.engine.now_ns(),
            partitions=fleet.partitions,
            wants=lambda: self.waited,
            epoch_us=fleet.server.now_us,
            rng=random.Random(fleet.rng.random()),
            **plan,
        )
        self._looking = 0

    def hit(self, key: str, cost: int = 1) -> int:
        """Units taken now."""
        return cost if self.engine.hit(key, cost) else 0

    def look(self) -> None:
        """Does what the plan says now, and looks again when it says."""
        if not self.alive:
            return
        now = self.engine.now_ns()
        while isinstance(step := self.plan.next(now), Send):
            self._send(step)
        self.woken += self.plan.woken()
        self._looking += 1
        mine = self._looking
        self.fleet.at(self.fleet.now + step.ns, lambda: self.look() if self._looking == mine else None)

    def _send(self, send: Send) -> None:
        fleet = self.fleet
        fleet.batches.append((fleet.now, self, send))
        ended: list[bool] = []

        def end(tell: Callable[[], None]) -> None:
            if not ended and self.alive:
                ended.append(True)
                tell()
                self.look()

        def late() -> None:
            end(lambda: self.plan.failed(send.partition, "no answer", self.engine.now_ns()))

        def arrive() -> None:
            reply = fleet.server.call(self.keys(send), send.header, send.entries, self._inst)
            if fleet.returns(self):
                answer = lambda: self.plan.answered(send.partition, reply, self.engine.now_ns())  # noqa: E731
                fleet.at(fleet.now + fleet.delay_ns, lambda: end(answer))

        fleet.at(fleet.now + send.timeout_ns, late)
        if fleet.reaches(self):
            fleet.at(fleet.now + fleet.delay_ns, arrive)

    def keys(self, send: Send) -> list[tuple[object, ...]]:
        """What stands for the keys of the script call."""
        fps = struct.unpack(f"<{len(send.fps) // 8}Q", send.fps)
        rules = [struct.unpack_from("<H", send.entries, at)[0] for at in range(0, len(send.entries), ENTRY_BYTES)]
        states = [("state", rule, fp) for rule, fp in zip(rules, fps, strict=True)]
        part = send.partition
        return [("sequence", part, self._inst), ("members", part), ("notices", part), *states]
