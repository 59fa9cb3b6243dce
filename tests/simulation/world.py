"""Many instances, one Redis and the network between them, in simulated time: what sync.md says, without waiting.

    traffic -> Instance (engine + driver) -> network -> MergeServer -> network -> Instance

Nothing here is concurrent and everything comes from one seed, so a run can be repeated. World time is whole nanoseconds
from 0; every instance and the server have clocks of their own that show something else.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from merge import MergeServer

from penstock._backend import Engine
from penstock.policy import KAPPA_ONE, SHARED_BUCKET, Policy, cap_of, compile_shared
from penstock.rate import Limit
from penstock.sync.plan import Plan, Send
from penstock.sync.wire import (
    ENTRIES_MOST,
    ENTRY_BYTES,
    LOST,
    Header,
    Rule,
    pack_header,
    unpack_reply,
)

SECRET = bytes(range(16))
MS, S = 1_000_000, 1_000_000_000
BEAT_NS = S
YOUNG_NS = 3 * S
"""For so long an instance believes in fleet_hint others, and Redis in an instance that fell silent."""
EARLY_GAP_NS, EARLY_RATE, EARLY_BURST = 2 * MS, 20, 10
TIMEOUT_NS, TIMEOUT_MOST_NS = 50 * MS, S
_AGE = struct.Struct("<I")
_AGE_AT = 16


class Hit(NamedTuple):
    """One call to come: when (world ns), where (number of the instance), which key, what cost. wait_ns: as `acquire`
    with this timeout, -1 for `hit`."""

    at: int
    instance: int
    key: Any = "k"
    cost: int = 1
    wait_ns: int = -1


class Network(NamedTuple):
    """One way takes delay_ns, plus up to jitter_ns; a message is lost, or comes again up to late_ns later, with these
    probabilities."""

    delay_ns: int = MS // 4
    jitter_ns: int = MS // 4
    loss: float = 0.0
    twice: float = 0.0
    late_ns: int = S


class Clock:
    """An instance's clock: world time from another origin."""

    def __init__(self, world: World, origin: int) -> None:
        self.world = world
        self.origin = origin

    def now_ns(self) -> int:
        return self.world.now + self.origin

    wall_ns = now_ns


class Batch:
    """What is on its way from one partition. attempt: how often it was sent; early: whether a tick had to wait."""

    def __init__(self, seq: int, told: bytes, at: int, early: bool) -> None:
        self.seq, self.told, self.at, self.early = seq, told, at, early
        self.attempt = 0
        self.restore = False
        self.sent_ns = 0

    @property
    def entries(self) -> int:
        return len(self.told) // (ENTRY_BYTES + 8)


class Partition:
    """The driver's account of one partition."""

    def __init__(self) -> None:
        self.seq = self.acked = 0
        self.batch: Batch | None = None
        self.again = False  # a tick came, or a drain was cut short, while the batch was on its way
        self.hurry = False
        self.planned = False
        self.tokens, self.tokens_at = float(EARLY_BURST), 0
        self.gap = EARLY_GAP_NS
        self.last = -S


class Waiter(NamedTuple):
    hit: Hit
    until: int


class Instance:
    """An engine, those who call it, and what befalls it; how it is driven is told by its subclasses."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.name = b"%016x" % world.random.getrandbits(64)
        self.born = world.now
        self.engine = world.engine_class(
            world.policies,
            world.tiers,
            capacity=world.capacity,
            evict=True,
            secret=SECRET,
            clock=Clock(world, world.random.randrange(10**15)),
            remember=False,
        )
        self.alive = True
        self.paused = False
        self.waiters: dict[int, list[Waiter]] = {}

    # ---- the driver ----

    @property
    def instances(self) -> int:
        """How many instances there are, as far as this one knows."""
        raise NotImplementedError

    def hurry(self) -> None:
        """A call has been decided: looks whether there is reason for an early exchange."""

    def ask(self, fp: int) -> None:
        """Somebody waits for a key, and an exchange might help."""
        raise NotImplementedError

    def cap(self) -> int:
        """Units that this instance may have unsettled, of the first limit."""
        return cap_of(self.world.policies[0][0], self.instances, self.engine.largest()[0])

    def keys(self, number: int, entries: bytes, fps: bytes) -> list[Any]:
        """What stands for the keys of a script call."""
        listed: list[Any] = [("s", number, self.name), ("m", number), ("r", number)]
        for i, (fp,) in enumerate(struct.iter_unpack("<Q", fps)):
            (rule,) = struct.unpack_from("<H", entries, i * ENTRY_BYTES)
            listed.append(("b", rule % len(self.world.policies[0]), fp))
        return listed

    # ---- callers ----

    def hit(self, hit: Hit) -> bool:
        """One call of `hit`, or the beginning of one of `acquire`."""
        if hit.wait_ns < 0:
            taken: bool = self.engine.hit(hit.key, hit.cost)
        else:
            taken = self._try(hit)
            if not taken:
                self._wait(hit)
        self.hurry()
        return taken

    def _try(self, hit: Hit) -> bool:
        policy = self.world.policies[0][0]
        small = policy.kappa * policy.limit < 4 * self.instances * KAPPA_ONE
        call = self.engine.claim if small else self.engine.check
        return bool(call(hit.key, hit.cost).allowed)

    def _wait(self, hit: Hit) -> None:
        fp = self.engine.fingerprint(hit.key)
        self.waiters.setdefault(fp, []).append(Waiter(hit, self.world.now + hit.wait_ns))
        self.ask(fp)
        self.world.after(hit.wait_ns, lambda: self._expire(fp))

    def _expire(self, fp: int) -> None:
        left = [one for one in self.waiters.pop(fp, ()) if one.until > self.world.now]
        if left:
            self.waiters[fp] = left

    def wake(self, fp: int) -> None:
        """Gives those who wait for a key another try, in their order."""
        waiting = self.waiters.pop(fp, [])
        while waiting and self._try(waiting[0].hit):
            self.world.note(self, waiting.pop(0).hit)
        if waiting and self.alive:
            self.waiters[fp] = waiting
            head = waiting[0].hit
            wait = self.engine.peek(head.key, head.cost).retry_after
            self.world.after(max(EARLY_GAP_NS, round(wait * S)), lambda: self.ask(fp))

    def wanted(self) -> dict[int, int]:
        """Units waited for, by fingerprint."""
        return {fp: sum(one.hit.cost for one in waiting) for fp, waiting in self.waiters.items()}

    # ---- accidents ----

    def crash(self) -> None:
        self.alive = False
        self.world.note_caps()

    def pause(self, ns: int) -> None:
        """Nothing runs for so long: no calls, no driver."""
        self.paused = True
        self.world.after(ns, self._resume)

    def _resume(self) -> None:
        self.paused = False


class Model(Instance):
    """Driven as sync.md, section 4, says, to the letter: an early exchange begins when it is asked for."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.members = 0
        self.partitions = [Partition() for _ in range(world.partitions)]
        self.beat_at = -BEAT_NS
        self._share()
        self.world.after(0, self._tick_first)

    # ---- membership ----

    @property
    def instances(self) -> int:
        hint = self.world.fleet_hint if self.world.now - self.born < YOUNG_NS else 1
        return max(self.members, hint, 1)

    def _share(self) -> None:
        self.engine.share(self.instances, (0,) * self.world.partitions)
        self.world.note_caps()

    # ---- when to send ----

    def _tick_first(self) -> None:
        for number in range(len(self.partitions)):
            self._send_new(number, b"", early=False)
        self.world.after(self.world.random.randrange(self.world.interval_ns), self._tick)
        self.world.after(YOUNG_NS, self._share_again)

    def _share_again(self) -> None:
        if self.alive:
            self._share()

    def _tick(self) -> None:
        if not self.alive:
            return
        if not self.paused:
            for number in range(len(self.partitions)):
                self._drain(number, tick=True)
        self.world.after(round(self.world.interval_ns * self.world.random.uniform(0.9, 1.1)), self._tick)

    def _drain(self, number: int, tick: bool) -> None:
        part = self.partitions[number]
        if part.batch is not None:
            part.again |= tick
            return
        told = self.engine.drain(number, ENTRIES_MOST, tick, self._wants(number))
        if not told and tick and self.world.now - self.beat_at < BEAT_NS:
            return
        if told or tick:
            self._send_new(number, told, early=not tick)

    def _wants(self, number: int) -> dict[tuple[int, int], int]:
        return {(0, fp): units for fp, units in self.wanted().items() if self._partition(fp) == number}

    def _partition(self, fp: int) -> int:
        return (fp >> 48) % len(self.partitions)

    def ask(self, fp: int) -> None:
        self.partitions[self._partition(fp)].hurry = True
        self._plan(self._partition(fp))

    def hurry(self) -> None:
        mask = self.engine.early()
        for number in range(len(self.partitions)):
            if mask >> number & 1:
                self.partitions[number].hurry = True
                self._plan(number)

    def _plan(self, number: int) -> None:
        """Sets the time of the early exchange that is asked for: now, after the gap, or with the next token."""
        part = self.partitions[number]
        if part.planned or part.batch is not None or not part.hurry or not self.alive:
            return
        now = self.world.now
        part.tokens = min(EARLY_BURST, part.tokens + (now - part.tokens_at) / S * EARLY_RATE)
        part.tokens_at = now
        wait = max(part.last + part.gap - now, 0, math.ceil((1 - part.tokens) / EARLY_RATE * S))
        part.planned = True
        self.world.after(wait, lambda: self._early(number))

    def _early(self, number: int) -> None:
        part = self.partitions[number]
        part.planned = False
        if not self.alive or self.paused or part.batch is not None:
            return
        if part.tokens + (self.world.now - part.tokens_at) / S * EARLY_RATE < 0.999:
            self._plan(number)
            return
        part.hurry = False
        self._drain(number, tick=False)
        if part.batch is not None:
            part.tokens -= 1

    # ---- sending and hearing ----

    def _send_new(self, number: int, told: bytes, early: bool) -> None:
        part = self.partitions[number]
        part.seq += 1
        part.batch = Batch(part.seq, told, self.world.now, early)
        part.last = self.world.now
        part.batch.sent_ns = self.engine.now_ns()
        self._send(number)

    def _send(self, number: int) -> None:
        part = self.partitions[number]
        batch = part.batch
        assert batch is not None
        world, now = self.world, self.world.now
        batch.attempt += 1
        attempt = batch.attempt
        beat = now - self.beat_at >= BEAT_NS or not batch.entries
        if beat:
            self.beat_at = now
        entries = _aged(batch.told, batch.entries, (now - batch.at) // 1000, world.policies)
        keys = self.keys(number, entries, batch.told[len(entries) :])
        header = pack_header(
            Header(batch.seq, part.acked, beat, world.interval_ns // 1000, batch.restore), self._rules(), batch.entries
        )
        world.updates += batch.entries
        world.batches += 1
        call = (keys, header, entries, self.name)
        world.request(call, lambda reply: self._heard(number, batch, attempt, reply))
        timeout = min(TIMEOUT_NS << (attempt - 1), TIMEOUT_MOST_NS)
        world.after(timeout, lambda: self._timeout(number, batch, attempt))

    def _rules(self) -> list[Rule]:
        """The table of rules, by tier and limit."""
        rules = []
        for limits in self.world.policies:
            for policy, largest in zip(limits, self.engine.largest(), strict=True):
                bucket = policy.kind == SHARED_BUCKET
                tau_us = policy.per_ns / 1000 / (policy.rate if bucket else 1)
                cap = cap_of(policy, self.instances, largest)
                rules.append(Rule(policy.kind, tau_us, policy.limit, max(policy.limit, 2 * cap * self.instances), cap))
        return rules

    def _timeout(self, number: int, batch: Batch, attempt: int) -> None:
        part = self.partitions[number]
        if not self.alive or part.batch is not batch or batch.attempt != attempt:
            return
        if self.paused:
            self.world.after(TIMEOUT_NS, lambda: self._timeout(number, batch, attempt))
            return
        spread = min(TIMEOUT_NS << (attempt - 1), TIMEOUT_MOST_NS)
        batch.attempt += 1  # whatever still comes of the last attempt is not listened to
        self.world.after(self.world.random.randrange(spread // 4), lambda: self._again(number, batch))

    def _again(self, number: int, batch: Batch) -> None:
        if self.alive and self.partitions[number].batch is batch:
            batch.attempt -= 1
            self._send(number)

    def _heard(self, number: int, batch: Batch, attempt: int, reply: bytes) -> None:
        part = self.partitions[number]
        if not self.alive or part.batch is not batch or batch.attempt != attempt:
            return
        if self.paused:
            self.world.after(MS, lambda: self._heard(number, batch, attempt, reply))
            return
        said = unpack_reply(reply, batch.entries)
        if said.members != self.members:
            self.members = said.members
            self._share()
        if said.status == LOST:
            self.world.lost += 1
            batch.told = self.engine.restore(number)
            assert batch.entries <= ENTRIES_MOST, "the model sends a restored batch in one piece"
            batch.restore, batch.attempt = True, 0
            self._send(number)
            return
        part.acked = batch.seq
        part.batch = None
        if batch.entries:
            for fp in self.engine.applied(number, reply, batch.sent_ns):
                self.wake(fp)
        brought = any(answer.grant or answer.a >= 1 for answer in said.answers)
        if batch.early:
            part.gap = EARLY_GAP_NS if brought else min(2 * part.gap, self.world.interval_ns)
        if part.again or batch.entries == ENTRIES_MOST:
            part.again = False
            self._drain(number, tick=True)
        self.hurry()
        self._plan(number)


class Planned(Instance):
    """Driven by the plan that real drivers follow."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.plan = Plan(
            self.engine,
            world.policies,
            now=self.engine.now_ns(),
            partitions=world.partitions,
            fleet_hint=world.fleet_hint,
            on_outage="closed",
            wants=self.wanted,
            epoch_us=world.server_us(world.now),
            rng=random.Random(world.random.random()),
        )
        self._looks = self._known = 0
        world.after(0, self._look)

    @property
    def instances(self) -> int:
        return self.plan.instances(self.engine.now_ns())

    def ask(self, fp: int) -> None:
        self.plan.ask(fp)
        self._look()

    def _look(self) -> None:
        """Does what the plan says, and looks again when it says."""
        if not self.alive:
            return
        if self.paused:
            self.world.after(MS, self._look)
            return
        while isinstance(step := self.plan.next(self.engine.now_ns()), Send):
            self._send(step)
        for fp in self.plan.woken():
            self.wake(fp)
        self._looks += 1
        this = self._looks
        self.world.after(step.ns, lambda: self._look() if self._looks == this else None)
        known, self._known = self._known, self.instances
        if known != self._known:
            self.world.note_caps()

    def _send(self, send: Send) -> None:
        world, ended = self.world, [False]

        def end(tell: Callable[[int], None]) -> None:
            if self.paused:
                world.after(MS, lambda: end(tell))
            elif self.alive and not ended[0]:
                ended[0] = True
                tell(self.engine.now_ns())
                self._look()

        world.updates += len(send.fps) // 8
        world.batches += 1
        keys = self.keys(send.partition, send.entries, send.fps)
        world.request(
            (keys, send.header, send.entries, self.name),
            lambda reply: end(lambda now: self.plan.answered(send.partition, reply, now)),
        )
        world.after(send.timeout_ns, lambda: end(lambda now: self.plan.failed(send.partition, "no answer", now)))


def _aged(told: bytes, count: int, more_us: int, policies: Sequence[Sequence[Policy]]) -> bytes:
    """The entries of a batch, older by more_us; a bucket's use is never older than its interval."""
    entries = bytearray(told[: count * ENTRY_BYTES])
    for i in range(count):
        (rule,) = struct.unpack_from("<H", entries, i * ENTRY_BYTES)
        policy = policies[rule // len(policies[0])][rule % len(policies[0])]
        (age,) = _AGE.unpack_from(entries, i * ENTRY_BYTES + _AGE_AT)
        most = policy.interval_ns // 1000 if policy.kind == SHARED_BUCKET else 2**32 - 1
        _AGE.pack_into(entries, i * ENTRY_BYTES + _AGE_AT, min(age + more_us, most))
    return bytes(entries)


class World:
    """Instances that share limits (of one tier), as many as are said at the start; times are world nanoseconds."""

    def __init__(
        self,
        limits: Sequence[Limit],
        instances: int,
        *,
        seed: int = 0,
        kappa: float = 0.5,
        every_ns: int = 50 * MS,
        network: Network = Network(),  # noqa: B008
        fleet_hint: int = 8,
        partitions: int = 1,
        capacity: int = 1000,
        engine_class: Any = Engine,
        instance_class: Callable[[World, int], Instance] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.policies: list[list[Policy]] = compile_shared([limits], every_ns, kappa)
        self.tiers: dict[str | None, int] = {None: 0}
        self.interval_ns = min(policy.interval_ns for policy in self.policies[0])
        self.network = network
        self.fleet_hint = fleet_hint
        self.partitions = partitions
        self.capacity = capacity
        self.engine_class = engine_class
        self.instance_class = instance_class or Model
        self.now = 0
        self.server = MergeServer(60_000_000_000_000 + self.random.randrange(10**9))
        self._server_origin = self.server.now_us
        self.server_away = False
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self.instances: list[Instance] = []
        self.admitted: list[tuple[int, Hit]] = []
        self.refused = 0
        self.decisions = 0
        self.updates = self.batches = self.lost = 0
        self.most_caps = 0  # the largest sum of caps there was: Q
        self.unsettled: Callable[[Instance], None] | None = None  # called after each admission
        for _ in range(instances):
            self.join()

    def join(self) -> Instance:
        """Another instance."""
        one = self.instance_class(self, len(self.instances))
        self.instances.append(one)
        self.note_caps()
        return one

    def note_caps(self) -> None:
        self.most_caps = max(self.most_caps, sum(one.cap() for one in self.instances if one.alive))

    def outage(self, ns: int) -> None:
        """The server neither does nor answers anything for so long."""
        self.server_away = True
        self.after(ns, self._return)

    def _return(self) -> None:
        self.server_away = False

    def befall(self, chance: random.Random, count: int, within_ns: int, crashing: Callable[[Instance], object]) -> None:
        """Has so many accidents happen: crashes (`crashing` is told of whom), pauses, joins, and outages."""

        def crash() -> None:
            one = chance.choice(self.instances)
            if one.alive:
                crashing(one)
                one.crash()
                self.join()

        kinds: list[Callable[[], object]] = [
            crash,
            lambda: chance.choice(self.instances).pause(chance.randrange(S)),
            self.join,
            lambda: self.outage(S // 2),
        ]
        for _ in range(count):
            self.after(chance.randrange(within_ns), chance.choice(kinds))

    # ---- time ----

    def after(self, ns: int, call: Callable[[], None]) -> None:
        """Calls so many nanoseconds from now."""
        heapq.heappush(self._events, (self.now + ns, next(self._count), call))

    def run(self, traffic: Iterable[Hit], until_ns: int) -> None:
        """Lets time pass until until_ns, with these calls in it."""
        hits = iter(traffic)
        hit = next(hits, None)
        while True:
            event_at = self._events[0][0] if self._events else until_ns
            if hit is not None and hit.at <= event_at:
                if hit.at >= until_ns:
                    break
                self.now = hit.at
                self._hit(hit)
                hit = next(hits, None)
            elif event_at < until_ns:
                self.now = event_at
                heapq.heappop(self._events)[2]()
            else:
                break
        self.now = until_ns

    def _hit(self, hit: Hit) -> None:
        one = self.instances[hit.instance]
        if not one.alive or one.paused:
            return
        self.decisions += 1
        if one.hit(hit):
            self.note(one, hit)
        elif hit.wait_ns < 0:
            self.refused += 1

    def note(self, one: Instance, hit: Hit) -> None:
        """An admission."""
        self.admitted.append((self.now, hit))
        if self.unsettled is not None:
            self.unsettled(one)

    def server_us(self, at: int) -> int:
        """The server's time at a world time."""
        return self._server_origin + at // 1000

    # ---- network ----

    def request(self, call: tuple[Any, ...], heard: Callable[[bytes], None]) -> None:
        """Carries a call to the server, and what it returns back: maybe, and maybe more than once."""
        if self.random.random() < self.network.loss:
            return
        self.after(self._way(), lambda: self._serve(call, heard))
        if self.random.random() < self.network.twice:
            self.after(self._way() + self.random.randrange(self.network.late_ns), lambda: self._serve(call, heard))

    def _way(self) -> int:
        return self.network.delay_ns + self.random.randrange(self.network.jitter_ns + 1)

    def _serve(self, call: tuple[Any, ...], heard: Callable[[bytes], None]) -> None:
        if self.server_away:
            return
        self.server.now_us = self.server_us(self.now)
        reply = self.server.call(*call)
        if self.random.random() >= self.network.loss:
            self.after(self._way(), lambda: heard(reply))


# ---- loads ----


def placed(load: str, chance: random.Random, instances: int, length: float) -> tuple[float, int]:
    """When (seconds from the beginning) and where one call of a load of so many seconds comes.

    even: all alike. skewed: nine tenths at one instance. waves: all at once, twice a second. flash: a tenth of the load
    at all times, the rest within a twentieth of it. turns: all at one instance, another one every 150 ms.
    """
    at, one = chance.uniform(0, length), chance.randrange(instances)
    if load == "skewed" and chance.random() < 0.9:
        one = 0
    elif load == "waves":
        at = (int(2 * at) + chance.random() * 0.002) / 2
    elif load == "flash":
        at = at if chance.random() < 0.1 else length / 2 + at / 20
    elif load == "turns":
        one = int(at / 0.15) % instances
    return at, one


# ---- measures ----


def worst_excess(admitted: Iterable[tuple[int, Hit]], rate_per_s: float) -> float:
    """The most that any interval (s, t] has admitted beyond rate * (t - s): with the running minimum of A(t) - r t."""
    total, low, worst = 0.0, 0.0, 0.0
    for at, hit in admitted:
        low = min(low, total - rate_per_s * at / S)
        total += hit.cost
        worst = max(worst, total - rate_per_s * at / S - low)
    return worst


def exact_bucket(traffic: Iterable[Hit], rate_per_s: float, burst: float) -> list[tuple[int, Hit]]:
    """What one bucket that sees all calls at once would have admitted."""
    level, last = burst, 0
    admitted = []
    for hit in traffic:
        level = min(burst, level + (hit.at - last) / S * rate_per_s)
        last = hit.at
        if level >= hit.cost:
            level -= hit.cost
            admitted.append((hit.at, hit))
    return admitted


def poisson(
    seed: int, rates: Sequence[float], seconds: float, start: float = 0.0, key: Any = "k", wait_ns: int = -1
) -> list[Hit]:
    """Calls at random times, at rates[i] per second on instance i."""
    chance = random.Random(seed)
    hits = []
    for number, rate in enumerate(rates):
        at = start
        while rate > 0:
            at += chance.expovariate(rate)
            if at >= start + seconds:
                break
            hits.append(Hit(round(at * S), number, key, 1, wait_ns))
    return sorted(hits)
