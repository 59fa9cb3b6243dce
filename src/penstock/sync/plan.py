"""Which partition sends which batch when, and what its answer means; a state machine without I/O, threads or a clock.

    plan.next(now) -> Send | Sleep        and then one of
    plan.answered(partition, reply, now)  plan.failed(partition, error, now)

A driver asks `next` until it is told to sleep, brings each Send to Redis and tells how it ended. Times are ns on the
engine's clock. Each partition has at most one batch on its way; it is sent again, under its number, until it is
answered. After three failures in a row a partition is away: its engine is answered by the stand-in, while the same
batch goes on knocking at Redis. After the first answer the stand-in stays for a second, since other instances may
still knock; what of the outage's use still counts is told meanwhile.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from penstock.policy import SHARED_BUCKET, Policy, cap_of
from penstock.sync.names import partition_of
from penstock.sync.standin import StandIn
from penstock.sync.state import SyncState
from penstock.sync.wire import (
    BUCKET,
    DUP,
    ENTRIES_MOST,
    ENTRY,
    ENTRY_BYTES,
    EVERYTHING,
    HELD,
    LOST,
    Answer,
    Header,
    Reply,
    Rule,
    WireError,
    check_grants,
    forgetting,
    pack_entries,
    pack_header,
    pack_reply,
    unpack_reply,
    without_notices,
)

MS = 1_000_000
SECOND = 1_000_000_000

EARLY_GAP_NS = 2 * MS
EARLY_PER_SECOND, EARLY_BURST = 20, 10
"""Early batches of a partition: at least so long apart, and so many."""
POLL_LEAST_NS, POLL_MOST_NS = 2 * MS, 10 * MS
"""Bounds of how often the engine is asked whether a key wants to be early; a tenth of the interval between them."""
INTERVAL_MOST_NS = SECOND
TIMEOUT_LEAST_NS, TIMEOUT_MOST_NS = 50 * MS, SECOND // 2
"""Of an answer; with the pause drawn after it, up to as long, a batch is sent again within a second."""
BEAT_NS = SECOND
HINT_NS = 3 * SECOND
"""So long a new instance supposes that the fleet is at least as large as it was told."""
FALL_NS = 3 * BEAT_NS // 2
"""A lower count of instances is believed after this time: after a flush, or an outage, the others are counted again as
soon as each has sent a beat."""
AWAY_AFTER = 3
"""Failures in a row after which Redis counts as away."""
PATIENCE_NS = 350 * MS
"""The same for one batch that does not end, because a connection is being made: the time of so many failures."""
STAY_NS = SECOND
"""After Redis is back the stand-in stays so long."""
KNOWN_MOST = 65_536
FORGETS_MOST = 65_536
"""Keys made as good as new while Redis is away, of which it is told when it is back; of more the first are let go."""
MARK_MOST_MS = 2**31 - 1
"""So long it is kept in mind at most that all keys were made as good as new."""

NORMAL, OPEN, CLOSED = 0, 2, 3
"""Modes of an engine's partition."""

Outage = Literal["share", "open", "closed"]
Wants = dict[tuple[int, int], int]


class SharingEngine(Protocol):
    """What the plan needs of an Engine; see ext/README.md."""

    def share(self, instances: int, modes: Sequence[int]) -> None: ...
    def drain(self, partition: int, most: int, tick: bool, wants: Wants) -> bytes: ...
    def applied(self, partition: int, reply: bytes, sent_ns: int) -> list[int]: ...
    def failed(self, partition: int) -> None: ...
    def restore(self, partition: int) -> bytes: ...
    def early(self) -> int: ...
    def unsettled(self) -> tuple[int, int, int]: ...
    def unlearn(self, fingerprint: int | None) -> None: ...
    def abandon(self) -> None: ...
    def largest(self) -> list[int]: ...


class Send(NamedTuple):
    """Bring this batch to Redis. fps: 8 bytes for each entry; timeout_ns: how long to wait for the answer."""

    partition: int
    header: bytes
    entries: bytes
    fps: bytes
    timeout_ns: int


class Sleep(NamedTuple):
    """Nothing to do for so long, unless something is answered or nudged."""

    ns: int


class Batch:
    """Entries on their way to Redis, in pieces of ENTRIES_MOST; each piece is one script call with a number of its own.

    of_engine: whether the engine waits for the answer. early: not of a tick. forgets: the fingerprints that it makes as
    good as new; such a batch tells nothing else.
    """

    __slots__ = (
        "answers", "beat", "begin", "early", "entries", "forgets", "fps", "of_engine", "restore", "sent_ns", "since_ns",
    )  # fmt: skip

    def __init__(self, packed: bytes, now: int, *, of_engine: bool, early: bool = False) -> None:
        self.entries, self.fps = split(packed)
        self.since_ns = now  # what ages in the entries are as of
        self.sent_ns = now
        self.of_engine = of_engine
        self.early = early
        self.beat = self.restore = False
        self.forgets: tuple[int, ...] = ()
        self.begin = 0  # the first entry of the piece on its way
        self.answers: list[Answer] = []

    @property
    def keys(self) -> int:
        return len(self.fps) // 8

    @property
    def end(self) -> int:
        """The entry after the piece on its way."""
        return min(self.begin + ENTRIES_MOST, self.keys)

    @property
    def piece(self) -> bytes:
        """The entries on their way."""
        return self.entries[self.begin * ENTRY_BYTES : self.end * ENTRY_BYTES]

    def restored(self, packed: bytes) -> None:
        """Starts from the beginning with entries that say what was known of their keys."""
        self.entries, self.fps = split(packed)
        self.restore = True
        self.begin = 0  # its pieces are numbered anew
        self.answers.clear()


def split(packed: bytes) -> tuple[bytes, bytes]:
    """An engine's batch -> its entries and their fingerprints."""
    cut = len(packed) // (ENTRY_BYTES + 8) * ENTRY_BYTES
    return packed[:cut], packed[cut:]


class Partition:
    """What the plan knows of one partition."""

    def __init__(self, index: int, interval_ns: int, now: int, phase: float, known_most: int) -> None:
        self.index = index
        self.seq = self.acked = 0
        self.batch: Batch | None = None
        self.busy = False  # a Send is out
        self.failures = 0  # in a row
        self.retry_ns = self.patience_ns = now
        self.interval_ns = interval_ns
        self.round_trip_ns = 0
        self.tick_ns = now + round(phase * interval_ns)
        self.beat_ns = now
        self.more: bool | None = None  # the last drain was full: as a tick (True) or early (False), go on
        self.asked = False  # to be early
        self.forgets: dict[int, None] = {}  # made as good as new, and Redis is not told yet
        self.heard_us = 0.0  # server time of the last notices heard
        self.gap_ns = EARLY_GAP_NS
        self.drained_ns = now - SECOND
        self.budget = float(EARLY_BURST)
        self.budget_ns = now
        self.away = False
        self.back_ns: int | None = None  # while away: when Redis answered again
        self.standin = StandIn(known_most)


class Plan:
    """The plan of one limiter. Its methods are called from one thread at a time, but for `ask`.

    engine: with the policies given; a weak proxy will do. policies: of every tier. wants: units waited for, by
    fingerprint. epoch_us: the time, us since 2025, at which the engine was made, as far as known; Redis corrects it.
    rings: whether `rung` is called when a key wants to be early, so that the engine need not be asked all the time.
    """

    def __init__(
        self,
        engine: SharingEngine,
        policies: Sequence[Sequence[Policy]],
        *,
        now: int,
        partitions: int = 1,
        fleet_hint: int = 8,
        on_outage: Outage = "share",
        wants: Callable[[], Mapping[int, int]] = dict,
        epoch_us: float = 0.0,
        rings: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self._engine = engine
        self._rng = rng or random.Random()
        self._fleet_hint = fleet_hint
        self._on_outage = on_outage
        self._wants = wants
        self._rings = rings
        self._offset_us = epoch_us
        self._born_ns = now
        self._members = 0
        self._fewer_ns: int | None = None  # since when Redis counts fewer
        self._asked: deque[int] = deque()
        self._forgotten: deque[int] = deque()
        self._woken: list[int] = []
        self._poll_ns = now
        self._closing = False
        self._shared: tuple[int, tuple[int, ...]] | None = None
        self._terms: tuple[tuple[object, ...], list[Rule]] | None = None
        self._round_trip_ns: int | None = None
        self._last_keys = self._batches = self._duplicates = self._lost = 0
        self._error: str | None = None
        self.replace(policies)
        interval_ns = self._interval_ns
        self._partitions = [
            Partition(index, interval_ns, now, self._rng.random(), max(1, KNOWN_MOST // partitions))
            for index in range(partitions)
        ]
        self._turn = 0
        self._share(now)

    def replace(self, policies: Sequence[Sequence[Policy]]) -> None:
        """Other policies are in force."""
        self._policies = [policy for limits in policies for policy in limits]
        self._limits = len(policies[0])
        self._interval_ns = min(policy.interval_ns for policy in self._policies)
        self._terms = None

    # ---- what the driver asks ----

    def next(self, now: int) -> Send | Sleep:
        """The next thing to do at `now`. Asked again at once after a Send, other partitions may have one too."""
        if now >= self._poll_ns:
            self._poll(now)
        soonest = self._poll_ns
        for _ in self._partitions:
            part = self._partitions[self._turn]
            self._turn = (self._turn + 1) % len(self._partitions)
            step = self._away(part, now) if part.away else self._normal(part, now)
            if isinstance(step, Send):
                return step
            soonest = min(soonest, step)
        return Sleep(max(0, soonest - now))

    def ask(self, fingerprint: int) -> None:
        """Somebody waits for this key: its partition is to be early. From any thread."""
        self._asked.append(fingerprint)
        self._poll_ns = 0

    def forget(self, fingerprint: int | None) -> None:
        """A key, or all (None), was made as good as new here: Redis, and with its next beat each other instance, is to
        do the same. From any thread."""
        self._forgotten.append(EVERYTHING if fingerprint is None else fingerprint)
        self._poll_ns = 0

    def rung(self) -> None:
        """A key wants to be early."""
        self._poll_ns = 0

    def woken(self) -> list[int]:
        """Fingerprints whose waiters should look again, since the last call."""
        woken, self._woken = self._woken, []
        return woken

    def close(self) -> None:
        """From now on everything is settled as fast as it goes, until `settled`."""
        self._closing = True
        for part in self._partitions:
            part.tick_ns = 0
        self._poll_ns = 0

    @property
    def away(self) -> bool:
        """Whether any partition does without Redis."""
        return any(part.away for part in self._partitions)

    @property
    def error(self) -> str | None:
        """What the last exchange failed with, while it fails."""
        return self._error

    @property
    def interval_ns(self) -> int:
        """The interval now, of the partition that has the longest."""
        return max(part.interval_ns for part in self._partitions)

    def instances(self, now: int) -> int:
        """N, as far as known."""
        hinted = not self._members or now - self._born_ns < HINT_NS
        return max(1, self._members, self._fleet_hint if hinted else 1)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to tell Redis, or nobody there to tell it."""
        if self.away:
            return True
        if self._forgotten or any(part.batch or part.forgets for part in self._partitions):
            return False
        return not any(self._engine.unsettled())

    def state(self, now: int) -> SyncState:
        """What stats().sync shows."""
        unsettled, flying, credit = self._engine.unsettled()
        ever = sum(part.standin.overuse for part in self._partitions)
        owed = sum((part.standin.owed(self._server_us(now)) for part in self._partitions), 0.0)
        alone = sum(part.standin.unsettled for part in self._partitions)
        return SyncState(
            connected=self._batches > 0 and self._error is None,
            mode=self._on_outage if self.away else "normal",
            instances=self.instances(now),
            interval=self.interval_ns / SECOND,
            round_trip=None if self._round_trip_ns is None else self._round_trip_ns / SECOND,
            keys=self._last_keys,
            batches=self._batches,
            unsettled=unsettled + flying + alone,
            leased=credit,
            overuse=owed,
            repaid=max(0.0, ever - owed),
            duplicates=self._duplicates,
            lost=self._lost,
            error=self._error,
        )

    def abandon(self) -> None:
        """Drops leases and what is unsettled: after a fork they are the parent's."""
        self._engine.abandon()

    # ---- what the driver tells ----

    def answered(self, partition: int, packed: bytes, now: int) -> None:
        """Redis answered the partition's batch."""
        part, batch = self._ended(partition)
        try:
            reply = unpack_reply(packed, batch.end - batch.begin)
            check_grants(reply, batch.piece)
        except WireError as error:
            self._failed(part, f"not an answer of ours: {error}", now)
            return
        if part.away and part.back_ns is None:
            part.back_ns = now
        self._heard(part, batch, reply, now)
        if reply.status == LOST:
            self._restore(part, batch, now)
        else:
            self._arrived(part, batch, reply, without_notices(packed, reply), now)
        self._share(now)

    def failed(self, partition: int, error: str, now: int) -> None:
        """No answer came in time, or Redis refused. error: for people."""
        part, _ = self._ended(partition)
        self._failed(part, error, now)
        self._share(now)

    # ---- how often ----

    def _poll(self, now: int) -> None:
        """Looks for keys that want to be early, and for a changed number of instances."""
        often_ns = min(max(self._interval_ns // 10, POLL_LEAST_NS), POLL_MOST_NS)
        self._poll_ns = now + (self._interval_ns if self._rings else often_ns)
        self._sort_forgotten()
        early = self._engine.early()
        while self._asked:
            early |= 1 << partition_of(self._asked.popleft(), len(self._partitions))
        if early:
            for part in self._partitions:
                part.asked = part.asked or bool(early >> part.index & 1)
        self._share(now)

    def _sort_forgotten(self) -> None:
        """Puts what was made as good as new where its partition, or each, finds it."""
        while self._forgotten:
            fp = self._forgotten.popleft()
            count = len(self._partitions)
            for part in self._partitions if fp == EVERYTHING else [self._partitions[partition_of(fp, count)]]:
                part.forgets[fp] = None
                part.standin.forget(None if fp == EVERYTHING else fp, len(self._policies))
                if len(part.forgets) > FORGETS_MOST:
                    del part.forgets[next(iter(part.forgets))]

    def _jittered(self, part: Partition) -> int:
        interval_ns = part.interval_ns // 4 if self._closing else part.interval_ns
        return round(interval_ns * self._rng.uniform(0.9, 1.1))

    def _early_ns(self, part: Partition, now: int) -> int:
        """From when on the partition may be early."""
        part.budget = min(EARLY_BURST, part.budget + (now - part.budget_ns) * EARLY_PER_SECOND / SECOND)
        part.budget_ns = now
        soonest = part.drained_ns + part.gap_ns
        if part.budget < 1 and not part.away:  # the stand-in costs Redis nothing
            soonest = max(soonest, now + round((1 - part.budget) * SECOND / EARLY_PER_SECOND))
        return soonest

    def _timeout_ns(self, part: Partition) -> int:
        least = max(TIMEOUT_LEAST_NS, 4 * part.round_trip_ns)
        return min(TIMEOUT_MOST_NS, least << min(part.failures, 8))

    # ---- while Redis answers ----

    def _normal(self, part: Partition, now: int) -> Send | int:
        """The partition's next batch, or when to look again."""
        if part.busy:
            if now < part.patience_ns:
                return part.patience_ns
            self._leave(part, now)
            return self._away(part, now)
        if part.batch is not None:
            return self._send(part, part.batch, now) if now >= part.retry_ns else part.retry_ns
        batch = self._forgetting(part, now) if part.forgets else self._drained(part, now)
        if batch is None and now >= part.beat_ns:
            batch = Batch(b"", now, of_engine=False)
        if batch is not None:
            return self._begin(part, batch, now)
        return min(part.tick_ns, part.beat_ns, self._early_ns(part, now) if part.asked else part.tick_ns)

    def _forgetting(self, part: Partition, now: int) -> Batch:
        """A batch that has Redis make keys as good as new, under every rule."""
        fps = tuple(part.forgets)[: max(1, ENTRIES_MOST // len(self._policies))]
        if EVERYTHING in part.forgets:
            fps = (EVERYTHING,)
        keep_ms = min(MARK_MOST_MS, math.ceil(max(_life_us(rule) for rule in self.rules(now)) / 1000))
        rules = 1 if fps == (EVERYTHING,) else len(self._policies)
        entries = [forgetting(rule, fp, keep_ms) for fp in fps for rule in range(rules)]
        named = b"".join(fp.to_bytes(8, "little") for fp in fps for _ in range(rules))
        batch = Batch(pack_entries(entries) + named, now, of_engine=False)
        batch.forgets, part.beat_ns = fps, now  # with a beat: what others have made so meanwhile is not missed
        return batch

    def _drain(self, part: Partition, now: int, tick: bool, wants: Wants) -> Batch | None:
        packed = self._engine.drain(part.index, ENTRIES_MOST, tick, wants)
        return Batch(packed, now, of_engine=True, early=not tick) if packed else None

    def _drained(self, part: Partition, now: int) -> Batch | None:
        """What the engine has to tell, if it is time to ask."""
        tick, more = now >= part.tick_ns, part.more
        part.more = None
        if tick:
            part.tick_ns = now + self._jittered(part)
        elif more is not None:
            tick = more
        elif not part.asked or now < self._early_ns(part, now):
            return None
        batch = self._drain(part, now, tick, self._wanted(part))
        part.asked = False
        if batch is not None:
            part.drained_ns = now
            part.budget -= batch.early
            part.more = tick if batch.keys == ENTRIES_MOST else None
        return batch

    def _wanted(self, part: Partition) -> Wants:
        """(limit, fingerprint) -> units waited for, of this partition."""
        count = len(self._partitions)
        return {
            (limit, fp): units
            for fp, units in self._wants().items()
            if partition_of(fp, count) == part.index
            for limit in range(self._limits)
        }

    def _begin(self, part: Partition, batch: Batch, now: int) -> Send:
        part.batch = batch
        part.seq += 1
        if now >= part.beat_ns:
            part.beat_ns = now + round(BEAT_NS * self._rng.uniform(0.8, 1.0))
            batch.beat = True
        return self._send(part, batch, now)

    def _send(self, part: Partition, batch: Batch, now: int) -> Send:
        """The piece on its way, for the first time or again: the same but for the ages."""
        part.busy = True
        batch.sent_ns = now
        part.patience_ns = now + max(PATIENCE_NS, 2 * self._timeout_ns(part))
        interval_us = part.interval_ns // 1000
        rules = self.rules(now)
        entries = batch.piece
        passed_us = (now - batch.since_ns) // 1000
        if passed_us > 0 and not batch.forgets:
            entries = aged(entries, passed_us, rules, interval_us, fades=not batch.of_engine)
        forget = bool(batch.forgets)
        header = Header(part.seq, part.acked, batch.beat, interval_us, batch.restore, forget, part.heard_us)
        packed = pack_header(header, rules, batch.end - batch.begin)
        fps = batch.fps[batch.begin * 8 : batch.end * 8]
        return Send(part.index, packed, entries, fps, self._timeout_ns(part))

    def rules(self, now: int) -> list[Rule]:
        """The table of rules as Redis is to see it, for as many instances as there are."""
        instances, largest = self.instances(now), self._engine.largest()
        terms = (instances, *largest)
        if self._terms is None or self._terms[0] != terms:
            rules = []
            for index, policy in enumerate(self._policies):
                tau_us = policy.per_ns / 1000
                if policy.kind == SHARED_BUCKET:
                    tau_us /= policy.rate
                cap = cap_of(policy, instances, largest[index % self._limits])
                debt_max = float(max(policy.limit, 2 * cap * instances))
                rules.append(Rule(policy.kind, tau_us, float(policy.limit), debt_max, float(cap)))
            self._terms = (terms, rules)
        return self._terms[1]

    # ---- answers ----

    def _ended(self, partition: int) -> tuple[Partition, Batch]:
        part = self._partitions[partition]
        if not part.busy or part.batch is None:
            raise RuntimeError(f"partition {partition} has no batch on its way")
        part.busy = False
        return part, part.batch

    def _heard(self, part: Partition, batch: Batch, reply: Reply, now: int) -> None:
        """What any answer tells: the round trip, the server's time, who is there."""
        trip_ns = now - batch.sent_ns
        if part.acked:  # the first time it was for connecting too
            part.round_trip_ns = trip_ns if not part.round_trip_ns else (7 * part.round_trip_ns + trip_ns) // 8
            self._adapt(part, trip_ns)
        part.failures = 0
        self._round_trip_ns = trip_ns
        self._offset_us = reply.now_us - (batch.sent_ns + now) / 2000
        self._batches += 1
        self._last_keys = batch.end - batch.begin
        self._error = None
        for fp in reply.notices:
            self._unlearn(part, fp)
        if batch.beat:
            part.heard_us = reply.now_us
        if reply.members >= self._members:
            self._members, self._fewer_ns = reply.members, None
        elif self._fewer_ns is None:
            self._fewer_ns = now
        elif now - self._fewer_ns >= FALL_NS:
            self._members, self._fewer_ns = reply.members, None

    def _unlearn(self, part: Partition, fp: int) -> None:
        """A key, or all of the partition, was made as good as new."""
        part.standin.forget(None if fp == EVERYTHING else fp, len(self._policies))
        self._engine.unlearn(None if fp == EVERYTHING else fp)
        self._woken += self._wants() if fp == EVERYTHING else [fp]

    def _adapt(self, part: Partition, trip_ns: int) -> None:
        """A round trip of more than half the interval doubles it; it comes back slowly."""
        if trip_ns > part.interval_ns // 2:
            part.interval_ns = max(part.interval_ns, min(2 * part.interval_ns, INTERVAL_MOST_NS))
        elif trip_ns < part.interval_ns // 4:
            part.interval_ns = max(self._interval_ns, part.interval_ns - part.interval_ns // 32)

    def _restore(self, part: Partition, batch: Batch, now: int) -> None:
        """Redis has lost writes: the same again, with all that is known of what it had."""
        self._lost += 1
        part.seq += 1
        part.retry_ns = 0
        if batch.forgets:  # after what is to be restored
            batch.forgets, batch.entries, batch.fps = (), b"", b""
        if batch.of_engine:
            batch.restored(self._engine.restore(part.index))
        else:
            rules, now_us = self.rules(now), self._server_us(now)
            batch.restored(b"".join(part.standin.restore(rules, batch.entries, batch.fps, now_us)))

    def _arrived(self, part: Partition, batch: Batch, reply: Reply, packed: bytes, now: int) -> None:
        """Redis has applied the piece on its way, now or before."""
        part.acked = part.seq
        self._duplicates += reply.status == DUP
        whole = batch.keys <= ENTRIES_MOST
        batch.answers.extend(reply.answers)
        batch.begin = batch.end
        if batch.begin < batch.keys:
            part.seq += 1
            part.retry_ns = 0
            return
        part.batch = None
        for fp in batch.forgets:
            part.forgets.pop(fp, None)
            self._unlearn(part, fp)
        if not batch.of_engine:
            return
        if not whole:
            reply = reply._replace(answers=tuple(batch.answers))
            packed = pack_reply(reply)
        helped = part.standin.learn(self.rules(now), batch.entries, batch.fps, reply, part.interval_ns // 1000)
        self._applied(part, packed, batch.sent_ns)
        for fp in part.forgets:  # what this answer said of them is over
            self._engine.unlearn(None if fp == EVERYTHING else fp)
        if batch.early:
            part.gap_ns = EARLY_GAP_NS if helped else min(2 * part.gap_ns, part.interval_ns)

    def _applied(self, part: Partition, packed: bytes, sent_ns: int) -> None:
        self._woken += self._engine.applied(part.index, packed, sent_ns)

    def _failed(self, part: Partition, error: str, now: int) -> None:
        """The batch will be sent again after a while drawn at random, so that a fleet does not come in step."""
        part.retry_ns = now + round(self._timeout_ns(part) * self._rng.random())
        part.failures += 1
        part.back_ns = None
        self._error = error
        if part.failures >= AWAY_AFTER and not part.away:
            self._leave(part, now)

    # ---- while Redis is away ----

    def _leave(self, part: Partition, now: int) -> None:
        """The stand-in takes over. The batch on its way stays as it is: Redis may have applied it."""
        part.away = True
        part.more = None
        part.tick_ns = now
        part.standin.begin(self._server_us(now))
        if part.batch is not None and part.batch.of_engine:
            self._settle(part, part.batch, now, sent=True)
            part.batch.of_engine = False

    def _settle(self, part: Partition, batch: Batch, now: int, sent: bool = False) -> None:
        reply = part.standin.settle(
            self.rules(now),
            batch.entries,
            batch.fps,
            now_us=self._server_us(now),
            interval_us=part.interval_ns // 1000,
            instances=self.instances(now),
            mode=self._on_outage,
            sent=sent,
        )
        self._applied(part, reply, now)

    def _away(self, part: Partition, now: int) -> Send | int:
        """Settles with the stand-in, knocks at Redis, and once it answers tells it what still counts of the outage."""
        staying = part.back_ns is None or now < part.back_ns + STAY_NS
        tick = now >= part.tick_ns
        if staying:
            while (batch := self._drained(part, now)) is not None:
                self._settle(part, batch, now)
        elif tick:
            part.tick_ns = now + self._jittered(part)
        if part.busy:
            return part.tick_ns
        if part.batch is not None:
            return self._send(part, part.batch, now) if now >= part.retry_ns else min(part.tick_ns, part.retry_ns)
        if part.back_ns is None:
            return self._begin(part, Batch(b"", now, of_engine=False), now)
        if part.standin.unreported and (tick or not staying):
            instances = self.instances(now)
            entries, fps = part.standin.report(
                self.rules(now), ENTRIES_MOST, now_us=self._server_us(now), instances=instances
            )
            return self._begin(part, Batch(entries + fps, now, of_engine=False), now)
        if not staying:
            part.away, part.back_ns, part.tick_ns = False, None, now
            self._share(now)
            return self._normal(part, now)
        if now >= part.beat_ns:
            return self._begin(part, Batch(b"", now, of_engine=False), now)
        return min(part.tick_ns, part.beat_ns)

    # ---- the fleet, and time ----

    def _share(self, now: int) -> None:
        """Tells the engine what has changed of N and the modes."""
        away = {"share": NORMAL, "open": OPEN, "closed": CLOSED}[self._on_outage]
        shared = self.instances(now), tuple(away if part.away else NORMAL for part in self._partitions)
        if shared != self._shared:
            self._shared = shared
            self._engine.share(shared[0], shared[1])

    def _server_us(self, now: int) -> float:
        """The server's time at `now`, us since 2025."""
        return now / 1000 + self._offset_us


def _life_us(rule: Rule) -> float:
    """How long at most something stored under a rule matters."""
    if rule.kind == BUCKET:
        return (rule.burst + rule.debt_max) * rule.tau_us + 2e6
    return 2 * rule.tau_us + 2e6


def aged(entries: bytes, passed_us: int, rules: Sequence[Rule], interval_us: int, fades: bool) -> bytes:
    """Entries as they are to be sent `passed_us` after their ages were taken.

    A bucket's age is at most the interval, as the guarantee supposes. fades: what has been refilled since is not owed
    any more; of a batch that the engine waits for, Redis must apply all or find that it has.
    """
    sent = bytearray(entries)
    for at in range(0, len(entries), ENTRY_BYTES):
        rule, before, debt, back, want, age_us, seen, known = ENTRY.unpack_from(entries, at)
        kind = rules[rule].kind
        bucket = kind == BUCKET
        older = age_us + passed_us
        if fades and kind != HELD and older > rules[rule].tau_us * (rules[rule].burst if bucket else 1):
            debt = 0
        age_us = min(older, max(age_us, interval_us) if bucket else 2**32 - 1)
        ENTRY.pack_into(sent, at, rule, before, debt, back, want, age_us, seen, known)
    return bytes(sent)
