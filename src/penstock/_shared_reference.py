"""Limits that instances share, in plain Python: deciding on one's own, and the account of it that goes to Redis.

    decision -> x, credit -> drain -> (Redis) -> applied -> what is known of the level

An instance admits what it has leased (credit) and, ahead of Redis, some units more (x), at most its cap of unsettled
ones (x + fly). Of units that are held and given back (Concurrency), x are those held now: what is ahead of Redis is by
how much x and credit are more than Redis knows of. Levels are floats, in units; the order of operations is that of
ext/algorithms/shared.h, so that both give the same doubles. design/sync.md gives the protocol and its bound.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from penstock._rule import NEVER, Rule, State, View, until
from penstock.policy import CAP_MOST, SHARED_BUCKET, SHARED_FIXED, SHARED_HELD, Policy, cap_of
from penstock.sync.wire import ANSWER, ENTRY, LOST, OK, REPLY

NORMAL, OPEN, CLOSED = 0, 2, 3
"""How a partition decides: ahead of Redis up to the cap; everything; only what is leased."""

FLY_MOST = CREDIT_MOST = CAP_MOST
X_MOST = 2**21 - 1
SEEN_MOST = 2**32 - 1
RESTORED_MOST = 2**16 - 1
RECENT_NS = 2_000_000
"""What was learnt so lately need not be asked again."""
IDLE_INTERVALS = 4
"""A key that is calm, or only refused, is reported once in so many intervals."""
CALM_PART = 0.1
BURST_S = 0.002
"""Calls that come together are taken to be spread over so long."""
FORGOTTEN = 0.25
"""A mean falls without end; of a key that nobody has asked for, less than this forecast is nothing."""
LEASE_MARGIN = 64
"""Held units count here for so small a part less long than in Redis."""
LEASE_INTERVALS = 1.5
"""A lease is for so many intervals' demand, and lives two of them; so all leases together are at most what comes in
while they live."""


def seconds(start: int, end: int) -> float:
    return float(end - start) * 1e-9


class Sight(NamedTuple):
    """What an instance knows of a key since the last reply.

    learnt: when, ns. Buckets: a is the room then, in units, b the tat_us stored. Windows: start is when the server's
    window began, ns on this engine's clock, a and b the counts of it and of the one before. Units held: a is the room
    then, b what this instance is known to have, until expiry. others: units/s admitted
    elsewhere. phi: this instance's part of the demand, 0 to 1. soon: units of x from which the next exchange is asked
    for early. expiry: until when credit counts, ns.
    """

    learnt: int
    start: int
    a: float
    b: float
    others: float
    phi: float
    soon: float
    expiry: int


class SharedState(State):
    """x, fly, credit: units admitted and not reported, reported and not acknowledged, leased and not used; of a limit
    on units held, x is what is held, and fly 0. since: when
    the first decision came that is not reported, ns. seen: units asked for since the last report, admitted or not.
    demand, pace: units/s, over the server's time and over two intervals. tier: of the last decision. asked: not to wait
    for the next tick. flying: in the batch on its way."""

    __slots__ = ("asked", "credit", "demand", "fly", "flying", "pace", "seen", "sight", "since", "tier", "x")

    def __init__(self) -> None:
        self.x = self.fly = self.credit = 0
        self.since = self.seen = self.tier = 0
        self.demand = self.pace = 0.0
        self.sight: Sight | None = None
        self.asked = self.flying = False


class Fleet:
    """What holds for all limits of an engine. modes: of each partition."""

    def __init__(self) -> None:
        self.instances = 1
        self.modes: tuple[int, ...] = (NORMAL,)
        self.hurry = 0
        self.fd: int | None = None
        self.claiming = False  # while a caller takes only what is leased

    def partition(self, found: int) -> int:
        return (found >> 48) % len(self.modes)

    def mode(self, found: int) -> int:
        return self.modes[self.partition(found)]


class Table(Protocol):
    """The part of _reference.Table that is needed here."""

    rules: list[Any]
    evicted: int
    states: Any

    def place(self, found: int, rule: Rule[Any], now: int) -> Any: ...
    def note(self, found: int, state: Any, now: int) -> None: ...


class Share:
    """One limit: what its rules have in common. largest: the largest cost asked so far. flagged: keys with anything to
    report, in the order in which they got it."""

    def __init__(self, fleet: Fleet, table: Table) -> None:
        self.fleet = fleet
        self.table = table
        self.largest = 1
        self.flagged: dict[int, None] = {}

    def flag(self, state: SharedState) -> None:
        self.flagged[state.found] = None


class SharedRule(Rule[SharedState]):
    """b is the limit or burst, r the rate in units/s, T the interval in s."""

    share: Share

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.policy = policy
        self.kind = policy.kind
        self.rate = policy.rate
        self.interval_ns = policy.interval_ns
        self.kappa = policy.kappa
        self.b = float(policy.limit)
        self.r = float(policy.rate) * 1e9 / float(policy.per_ns)
        self.T = float(policy.interval_ns) * 1e-9
        self.decay_s = max(1.0, 4.0 * self.T)

    def fresh(self) -> SharedState:
        return SharedState()

    @property
    def gives_back(self) -> bool:
        """As of ConcurrencyRule."""
        return self.kind == SHARED_HELD

    def own(self, state: SharedState) -> SharedRule:
        """The rule of the state's last decision."""
        rule = self.share.table.rules[state.tier]
        assert isinstance(rule, SharedRule)
        return rule

    # ---- what is known ----

    def cap(self, asked: int = 0) -> int:
        """Units that may be unsettled; asked: a cost that is being asked now."""
        return cap_of(self.policy, self.share.fleet.instances, max(self.share.largest, asked))

    def level(self, state: SharedState, now: int) -> float:
        """Units left in Redis, as far as is known."""
        sight = state.sight
        if sight is None:
            return self.b
        if self.kind == SHARED_BUCKET:
            return min(sight.a + self.r * seconds(sight.learnt, now), self.b)
        if self.kind == SHARED_HELD:
            return sight.a  # only who holds them can bring units back
        turned = max(0, (now - sight.start) // self.per)
        if self.kind == SHARED_FIXED:
            return self.b - sight.a if turned == 0 else self.b
        left = 1.0 - float(now - sight.start - turned * self.per) / float(self.per)
        if turned == 0:
            return self.b - sight.a - sight.b * left
        return self.b - sight.a * left if turned == 1 else self.b

    def leased(self, state: SharedState, now: int) -> int:
        return state.credit if state.sight is not None and now < state.sight.expiry else 0

    def known_held(self, state: SharedState, now: int) -> int:
        """Units that Redis counts as this instance's."""
        if state.sight is None or now >= state.sight.expiry:
            return 0
        return int(min(max(state.sight.b, 0.0), 2.0**53))

    def open(self, state: SharedState, now: int) -> int:
        """Units ahead of Redis: admitted here, and not known there."""
        if self.kind != SHARED_HELD:
            return state.x + state.fly
        return max(0, state.x + self.leased(state, now) - self.known_held(state, now))

    def ahead(self, state: SharedState, now: int, asked: int = 0) -> int:
        """Units that can be admitted ahead of Redis."""
        mode = self.share.fleet.mode(state.found)
        if self.share.fleet.claiming or mode == CLOSED or (self.kappa == 0 and mode != OPEN):
            return 0
        if mode == OPEN:
            return X_MOST - state.x
        sight = state.sight
        if sight is None:
            cap = self.cap(asked)
            if self.share.table.evicted:  # then it may have been known, and forgotten
                cap = min(cap, max(self.share.largest, asked))
            return max(0, min(cap, self.limit) - state.x - state.fly)
        level = self.level(state, now)
        room = level - state.fly
        mine = max(sight.phi * room, level - sight.others * seconds(sight.learnt, now) - state.fly)
        most = min(mine + dither(sight.learnt), room)
        ahead = self.open(state, now)
        return max(0, min(self.cap(asked) - ahead, math.floor(most) - (ahead - state.fly)))

    def room(self, state: SharedState, now: int) -> int:
        return self.leased(state, now) + self.ahead(state, now)

    # ---- what changes ----

    def begin(self, state: SharedState, now: int) -> None:
        """Notes since when things are not reported. Use of two windows counts in the later one."""
        if state.seen == 0 or state.since < self._begun(state, now):
            state.since = now

    def force(self, state: SharedState, now: int, cost: int) -> None:
        """Draws on what is leased first: it will not keep. Of units held Redis is told all, also those."""
        used = min(self.leased(state, now), cost)
        state.credit -= used
        state.x = min(state.x + cost - (0 if self.kind == SHARED_HELD else used), X_MOST)

    def _begun(self, state: SharedState, now: int) -> int:
        """When the window that holds now began, as far as is known; 0 where there are none."""
        if self.kind in (SHARED_BUCKET, SHARED_HELD) or state.sight is None:
            return 0
        start = state.sight.start
        return start + max(0, (now - start) // self.per) * self.per

    def urgent(self, state: SharedState, now: int, cost: int, taken: bool, credit: int) -> bool:
        """After a decision: whether an exchange should not wait for the next tick. credit: what there was before it."""
        sight = state.sight
        if self.share.fleet.mode(state.found) != NORMAL:
            return False
        if taken:
            soon = self._soon_at_first() if sight is None else sight.soon
            told = state.x if self.kind != SHARED_HELD else self.open(state, now)
            return (self.kappa != 0 and told >= soon) or state.credit <= soon < credit
        age = 0 if sight is None else now - sight.learnt
        if sight is not None and age < RECENT_NS:
            return False
        if self.kind == SHARED_HELD and age >= 2 * self.interval_ns:
            return True  # others may have given back meanwhile
        return self.level(state, now) - self.open(state, now) >= max(cost, self.r * self.T)

    def _soon(self, phi: float, level: float) -> float:
        """Units of x that are not kept for the next tick: half of what they may be, so that there is room to go on."""
        n = self.share.fleet.instances
        return max(1.0, min(max(phi * self.r * self.T, level / (2.0 * n)), self.cap() / 2.0))

    def _soon_at_first(self) -> float:
        return math.inf if self.cap() < 2 else self._soon(1.0 / self.share.fleet.instances, self.b)

    def refund(self, state: SharedState, now: int, cost: int) -> None:
        back = min(state.x, cost)
        state.x -= back
        if self.kind == SHARED_HELD:  # the next one here may have the place, as far as Redis knows and has room for it
            over = 0.0 if state.sight is None else max(0.0, -state.sight.a)
            spare = max(0, math.floor(self.known_held(state, now) - over) - state.x - state.credit)
            state.credit = min(state.credit + min(back, spare), CREDIT_MOST)
        else:
            state.credit = min(state.credit + cost - back, CREDIT_MOST)
        if self.tells(state):
            self.share.flag(state)

    # ---- what is told, and learnt ----

    def tells(self, state: SharedState) -> bool:
        """Whether there is anything that Redis should know, now or later."""
        if state.x or state.credit or state.seen:
            return True
        sight = state.sight  # of held units, what Redis has of this instance, and that there were none left
        return self.kind == SHARED_HELD and sight is not None and (sight.b > 0 or sight.a < 1)

    def due(self, state: SharedState, now: int) -> bool:
        """Whether a tick reports the key."""
        sight = state.sight
        if state.credit or sight is None:
            return True
        if self.kind == SHARED_HELD:  # its lease is renewed long before it ends
            return bool(state.seen) or state.x != sight.b or now >= sight.expiry - 2 * self.per // 3
        idle = now - sight.learnt >= IDLE_INTERVALS * self.interval_ns
        level = self.level(state, now)
        if state.x:
            calm = state.seen == state.x and state.x <= CALM_PART * level / self.share.fleet.instances
            return idle or not calm
        return idle and level >= 1  # of an empty key nothing is told that Redis needs

    def report(self, state: SharedState, now: int, tick: bool, waited: int, index: int) -> Entry:
        """Moves what is told from the state into an entry. A tick gives every lease back, so that none outlives two
        intervals by being renewed; in between it is kept, to be used while the exchange lasts."""
        held, sight = self.kind == SHARED_HELD, state.sight
        debt, seen = min(state.x, X_MOST if held else FLY_MOST), state.seen
        kept = 0 if tick else self.leased(state, now)
        age_us = max(0, now - state.since) // 1000 if debt else 0
        span, weight = self._span(state, now)
        pace = state.pace + (seen / span - state.pace) * weight
        burst = float(max(seen, 1) - 1) / max(seconds(state.since, now), BURST_S)  # which the mean does not know yet
        phi = 1.0 if sight is None else sight.phi
        most = phi * self.r * self.T * 2.0
        if held:  # of what nobody holds half at most lies ready with those who do not use it yet
            most = phi * max(0.0, self.level(state, now) + self.leased(state, now)) / 2.0
        forecast = min(LEASE_INTERVALS * max(pace, burst) * self.T, most)
        if held and self.kappa == 0 and (state.x or seen):  # without trust one must lie ready before it is asked for
            forecast = max(forecast, most / 2.0)
        enough = max(self.cap() / 2.0, 0.0 if seen else FORGOTTEN)
        lease = max(1, math.floor(forecast)) if forecast > enough else 0
        if tick and held and sight is not None and sight.a >= 1:  # nobody lacks what this one will need again
            kept = min(self.leased(state, now), lease)
        back = state.credit - kept
        want = max(0, min(waited, self.limit) + lease - kept)
        if self.share.fleet.mode(state.found) == OPEN:
            want = 0
        if held:
            age_us = 0
        elif self.kind == SHARED_BUCKET:
            age_us = min(age_us, self.interval_ns // 1000)
        elif sight is not None:
            if debt or back:
                age_us = self._window_age(sight, state.since if debt else now, now) // 1000
            if now >= sight.start + self.per:
                back = 0  # its window is over; the next one must not get it
        if held:
            debt += kept
        else:
            state.x -= debt
            state.fly = debt
        state.credit, state.seen = kept, 0
        state.asked = False
        state.flying = True
        want, age_us = min(want, CREDIT_MOST), min(age_us, SEEN_MOST)
        return Entry(index, state, debt, back, want, age_us, seen, waited > 0, kept > 0)

    def _window_age(self, sight: Sight, at: int, now: int) -> int:
        """The age that tells Redis which window something of the time `at` is of: it points a quarter into that window,
        since the windows of here and of there are apart by as much as a message takes."""
        begun = sight.start + (at - sight.start) // self.per * self.per
        return max(0, now - begun - self.per // 4)

    def _span(self, state: SharedState, now: int) -> tuple[float, float]:
        """The time that `seen` is of, in s, and its weight in means over two intervals."""
        if state.sight is None:
            return self.T, 1.0
        span = max(seconds(state.sight.learnt, now), 1e-9)
        return span, min(1.0, span / (2.0 * self.T))

    def learn(
        self,
        entry: Entry,
        answer: tuple[float, float, int, float],
        now: int,
        now_us: float,
        sent: int,
        applied: bool,
    ) -> None:
        """Puts what Redis answered to an entry in the place of what was known. applied: now, not before."""
        a, b, grant, demand = answer
        state, old, n = entry.state, entry.state.sight, self.share.fleet.instances
        was = self.level(state, now)
        span, weight = self._span(state, now)
        state.demand = state.demand * math.exp(-span / self.decay_s) + entry.seen / self.decay_s
        state.pace = state.pace + (entry.seen / span - state.pace) * weight
        held = self.kind == SHARED_HELD
        start, expiry = 0, sent + 2 * self.interval_ns
        if held:  # clocks differ, and as of when it was applied before is not known
            ends = sent + self.per - self.per // LEASE_MARGIN
            expiry = ends if applied else 0 if old is None else old.expiry
        elif self.kind != SHARED_BUCKET:
            length_us = float(self.per) / 1000.0
            passed = math.floor((now_us - math.floor(now_us / length_us) * length_us) * 1000.0)
            start = now - passed  # the latest that it can have been
            expiry = min(expiry, sent - passed + self.per)  # the earliest: a lease dies with its window
        if entry.kept and old is not None and not held:
            expiry = min(expiry, old.expiry)
        state.sight = Sight(now, start, a, b, 0.0, 0.0, 0.0, expiry)
        fresh = self.level(state, now)
        if old is None:
            others = max(0.0, demand - state.demand)
        else:
            gone = was - fresh - (b - old.b) if held else was - entry.debt + entry.back - fresh - grant
            used = max(0.0, gone) / span
            others = old.others + (used - old.others) * weight
        phi = 1.0 / n if demand <= 0 else min(1.0, max(state.demand / demand, 1.0 / (4.0 * n)))
        others = max(others, (1.0 - phi) * min(demand, self.r))  # while nobody admits, nothing else tells of them
        soon = self._soon(phi, fresh)
        if self.cap() < 2 and max(demand, state.demand) * self.T < fresh / 4:
            soon = math.inf
        state.sight = state.sight._replace(others=others, phi=phi, soon=soon)
        state.fly = 0
        state.credit = min(state.credit + grant, CREDIT_MOST)
        if self.tells(state):
            self.share.flag(state)

    def known(self, state: SharedState, now: int) -> tuple[int, float]:
        """For an entry after LOST: 1 if it is of the window before, and the tat_us or count that was learnt."""
        sight = state.sight
        if sight is None:
            return 0, 0.0
        if self.kind == SHARED_BUCKET:
            return 0, sight.b
        if self.kind == SHARED_HELD:
            return 0, 0.0  # what is held is told as it is
        turned = max(0, (now - sight.start) // self.per)
        return (turned, sight.a) if turned < 2 else (0, 0.0)

    def is_told_again(self, state: SharedState, now: int) -> bool:
        """Whether Redis, when it has forgotten all, is to be told of a key that has nothing new."""
        if self.kind == SHARED_HELD:
            return bool(state.x or self.leased(state, now))
        return self.level(state, now) < self.b

    # ---- looking in ----

    def held(self, state: SharedState) -> bool:
        return bool(state.x or state.fly or state.credit or state.seen or state.flying)

    def debt(self, state: SharedState, now: int) -> int:
        return max(self.spent(state, now), self.held(state))

    def spent(self, state: SharedState, now: int) -> int:
        own = self.own(state)
        return max(0, math.ceil(own.b - own.level(state, now)) + own.open(state, now))

    def forgotten_at(self, state: SharedState, now: int) -> int:
        return NEVER  # what is known of demand is worth more than the place, until another key needs it

    def fits_at(self, state: SharedState, now: int, cost: int) -> int:
        need = cost + self.open(state, now)
        lack = need - self.level(state, now)
        if lack <= 0 or self.kind == SHARED_HELD:
            wait = 0
        elif self.kind == SHARED_BUCKET:
            wait = _ticks(lack * self.per / self.rate)
        else:
            wait = self._turn(state, now, need)
        return now + max(wait, self.interval_ns)  # what others give back is known at the next exchange

    def _turn(self, state: SharedState, now: int, need: int) -> int:
        """Nanoseconds until a window has room for `need` units."""
        sight = state.sight
        if sight is None:
            return 0
        end = sight.start + self.per
        turned = max(0, (now - sight.start) // self.per)
        if self.kind == SHARED_FIXED:
            return end - now
        if turned == 0 and sight.b > 0 and self.b - sight.a >= need:
            return max(0, sight.start + _ticks(self.per * (1.0 - (self.b - sight.a - need) / sight.b)) - now)
        if turned <= 1 and sight.a > 0 and need <= self.b:
            return max(0, end + _ticks(self.per * (1.0 - (self.b - need) / sight.a)) - now)
        return max(0, end + self.per - now)

    def free_at(self, state: SharedState, now: int, more: int = 0) -> int:
        taken = self.open(state, now) + more
        owed = self.b - self.level(state, now) + taken
        if owed <= 0:
            return now
        if self.kind == SHARED_HELD:
            return NEVER  # as far as time goes
        if self.kind == SHARED_BUCKET:
            return now + _ticks(owed * self.per / self.rate)
        windows = 1 if self.kind == SHARED_FIXED else 2
        if state.sight is None:
            return now + windows * self.per
        if taken:
            return self._begun(state, now) + windows * self.per
        return state.sight.start + (windows if state.sight.a > 0 else 1) * self.per

    def describe(self, state: SharedState, now: int, cost: int) -> View:
        room = self.leased(state, now) + self.ahead(state, now, cost if cost <= self.limit else 0)
        if cost <= room and cost <= self.limit:
            return View(True, room - cost, 0, until(self.free_at(state, now, cost), now))
        retry = NEVER if cost > self.limit else self.fits_at(state, now, cost) - now
        return View(False, room, retry, until(self.free_at(state, now), now))


def dither(learnt: int) -> float:
    """0 to 1, another one for each time: shares below one unit are rounded up as often as their size says."""
    return float((learnt * 0x9E3779B97F4A7C15 & (2**64 - 1)) >> 11) * 2.0**-53


def _ticks(ns: float) -> int:
    return math.ceil(min(ns, 2.0**62))


class Entry(NamedTuple):
    """What a batch tells of one key; rule: an index over tiers and limits. waited: somebody waits for the
    key. kept: a lease goes on."""

    rule: int
    state: SharedState
    debt: int
    back: int
    want: int
    age_us: int
    seen: int
    waited: bool
    kept: bool

    def packed(self, before: int = 0, known: float = 0.0) -> bytes:
        return ENTRY.pack(self.rule, before, self.debt, self.back, self.want, self.age_us, self.seen, known)


class Sharing:
    """All limits of an engine, and the batches on their way, by partition."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.fleet = Fleet()
        self.shares = [Share(self.fleet, table) for table in tables]
        self.flying: dict[int, list[Entry]] = {}
        self.join()

    def join(self) -> None:
        """To be called when tables have got new rules."""
        for share in self.shares:
            for rule in share.table.rules:
                assert isinstance(rule, SharedRule)
                rule.share = share

    def share(self, instances: int, modes: Sequence[int]) -> None:
        if not 1 <= instances < 2**32:
            raise ValueError(f"instances={instances} must be at least 1")
        if not 1 <= len(modes) <= 64 or any(mode not in (NORMAL, OPEN, CLOSED) for mode in modes):
            raise ValueError(f"modes={modes!r} must be 1 to 64 of {NORMAL}, {OPEN} and {CLOSED}")
        if self.flying and len(modes) != len(self.fleet.modes):
            raise RuntimeError("the number of partitions cannot change while a batch is on its way")
        self.fleet.instances, self.fleet.modes = instances, tuple(modes)

    def interval_ns(self, tier: int) -> int:
        """When a tier's callers will know more, whatever it was that refused them."""
        return max(int(share.table.rules[tier].interval_ns) for share in self.shares)

    # ---- decisions ----

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """While decisions take only what is leased."""
        self.fleet.claiming = True
        try:
            yield
        finally:
            self.fleet.claiming = False

    def take(self, found: int, tier: int, now: int, cost: int) -> bool:
        """One decision over all limits."""
        states = self._places(found, tier, now, cost)
        if states is None:
            return False
        fits = []
        for share, rule, state in states:
            share.largest = max(share.largest, cost)
            fits.append(cost <= rule.room(state, now))
        for (share, rule, state), fit in zip(states, fits, strict=True):
            credit = state.credit
            self._count(share, rule, state, tier, now, cost, all(fits))
            if fit == all(fits) and not self.fleet.claiming and rule.urgent(state, now, cost, fit, credit):
                self._ask(state)
        return all(fits)

    def _count(
        self, share: Share, rule: SharedRule, state: SharedState, tier: int, now: int, cost: int, taken: bool
    ) -> None:
        state.tier = tier
        rule.begin(state, now)
        state.seen = min(state.seen + cost, SEEN_MOST)
        if taken:
            rule.force(state, now, cost)
        share.flag(state)
        share.table.note(state.found, state, now)

    def _ask(self, state: SharedState) -> None:
        state.asked = True
        bit = 1 << self.fleet.partition(state.found)
        if not self.fleet.hurry & bit:
            self.fleet.hurry |= bit
            if self.fleet.fd is not None:
                with contextlib.suppress(OSError):  # a pipe that is full has woken its reader already
                    os.write(self.fleet.fd, b"\0")

    def force(self, found: int, tier: int, now: int, cost: int) -> None:
        for share in self.shares:
            rule = share.table.rules[tier]
            assert isinstance(rule, SharedRule)
            state = share.table.states.get(found) or share.table.place(found, rule, now)
            if state is not None:
                share.largest = max(share.largest, min(cost, rule.limit))
                credit = state.credit
                self._count(share, rule, state, tier, now, cost, True)
                if rule.urgent(state, now, cost, True, credit):
                    self._ask(state)

    def _places(
        self, found: int, tier: int, now: int, cost: int
    ) -> list[tuple[Share, SharedRule, SharedState]] | None:
        """The key's states under all limits; None when one of them can never admit the cost, or has no place."""
        rules: list[Any] = [share.table.rules[tier] for share in self.shares]
        if any(cost > rule.limit for rule in rules):
            return None
        places = []
        for share, rule in zip(self.shares, rules, strict=True):
            state = share.table.states.get(found) or share.table.place(found, rule, now)
            if state is None:
                return None
            places.append((share, rule, state))
        return places

    def forget(self, table: Any, found: int) -> bool:
        """Forgets what was learnt of a key, never what is unsettled; True when nothing is left of it."""
        state = table.states.get(found)
        if state is None:
            return False
        state.sight = None
        state.x = state.credit = 0
        return not table.rules[0].held(state)

    def unlearn(self, found: int | None) -> None:
        """What was learnt and leased of a key, or of all, is no more; what was admitted since is still told."""
        for share in self.shares:
            for one in share.table.states if found is None else [found]:
                state = share.table.states.get(one)
                if state is not None:
                    state.sight, state.credit = None, 0

    def abandon(self) -> None:
        """What is to be told, on its way or leased is another's to tell."""
        self.flying.clear()
        for share in self.shares:
            for state in share.table.states.values():
                state.x = state.fly = state.credit = state.seen = 0
                state.flying = state.asked = False
                if share.table.rules[state.tier].kind == SHARED_HELD:
                    state.sight = None  # it says what the other one has

    def unsettled(self, now: int) -> tuple[int, int, int]:
        x = fly = credit = 0
        for share in self.shares:
            for state in share.table.states.values():
                rule = share.table.rules[state.tier]
                x += rule.open(state, now) - state.fly
                fly += state.fly
                credit += state.credit
        return x, fly, credit

    def early(self) -> int:
        mask, self.fleet.hurry = self.fleet.hurry, 0
        return mask

    # ---- batches ----

    def drain(self, partition: int, most: int, tick: bool, wants: dict[tuple[int, int], int], now: int) -> bytes:
        if partition in self.flying:
            raise RuntimeError(f"partition {partition} has a batch on its way")
        batch = list(self._due(partition, most, tick, wants, now))
        if batch:
            self.flying[partition] = batch
        return _bytes(batch, [(0, 0.0)] * len(batch))

    def _due(
        self, partition: int, most: int, tick: bool, wants: dict[tuple[int, int], int], now: int
    ) -> Iterator[Entry]:
        count = 0
        for index, share in enumerate(self.shares):
            waiting = [found for limit, found in wants if limit == index]
            for found in dict.fromkeys([*share.flagged, *waiting]):
                if count == most:
                    return
                state = share.table.states.get(found)
                waited = wants.get((index, found), 0)
                if state is None:
                    share.flagged.pop(found, None)
                    continue
                rule = share.table.rules[state.tier]
                if not (waited or rule.tells(state)):
                    share.flagged.pop(found, None)
                    continue
                due = rule.due(state, now) if tick else state.asked
                if self.fleet.partition(found) == partition and (waited or due):
                    share.flagged.pop(found, None)
                    count += 1
                    yield rule.report(state, now, tick, waited, state.tier * len(self.shares) + index)

    def applied(self, partition: int, reply: bytes, sent: int, now: int) -> list[int]:
        batch = self._flying(partition)
        if len(reply) < REPLY.size:
            raise ValueError(f"reply has {len(reply)} bytes; it must have {REPLY.size} or more")
        status, _, count, _, now_us = REPLY.unpack_from(reply)
        if status >= LOST or count != len(batch) or len(reply) != REPLY.size + count * ANSWER.size:
            raise ValueError(f"reply of status {status} with {count} answers is none to a batch of {len(batch)}")
        del self.flying[partition]
        for entry, (a, b, grant, demand) in zip(batch, ANSWER.iter_unpack(reply[REPLY.size :]), strict=True):
            share, rule, here = self._place_of(entry)
            if here:
                rule.learn(entry, (a, b, grant if status == OK else 0, demand), now, now_us, sent, status == OK)
                entry.state.flying = False
                share.table.note(entry.state.found, entry.state, now)
        return list(dict.fromkeys(entry.state.found for entry in batch if entry.waited))

    def failed(self, partition: int, now: int) -> None:
        batch = self._flying(partition)
        del self.flying[partition]
        for entry in batch:
            share, _, here = self._place_of(entry)
            if here:
                state = entry.state
                state.flying = False
                state.x = min(state.x + state.fly, X_MOST)
                state.fly = 0
                state.credit = min(state.credit + entry.back, CREDIT_MOST)
                state.seen = min(state.seen + entry.seen, SEEN_MOST)
                share.flag(state)
                share.table.note(state.found, state, now)

    def restore(self, partition: int, now: int) -> bytes:
        batch = self.flying.setdefault(partition, [])
        for index, share in enumerate(self.shares):
            for found, state in share.table.states.items():
                if len(batch) == RESTORED_MOST:
                    break
                rule = share.table.rules[state.tier]
                skipped = state.flying or state.sight is None or self.fleet.partition(found) != partition
                if not skipped and rule.is_told_again(state, now):
                    state.flying = True
                    held = state.x + rule.leased(state, now) if rule.kind == SHARED_HELD else 0
                    batch.append(Entry(state.tier * len(self.shares) + index, state, held, 0, 0, 0, 0, False, True))
        if not batch:
            del self.flying[partition]
        return _bytes(batch, [self._place_of(entry)[1].known(entry.state, now) for entry in batch])

    def _flying(self, partition: int) -> list[Entry]:
        if partition not in self.flying:
            raise RuntimeError(f"partition {partition} has no batch on its way")
        return self.flying[partition]

    def _place_of(self, entry: Entry) -> tuple[Share, SharedRule, bool]:
        """The entry's limit and rule, and whether its key is still there."""
        tier, index = divmod(entry.rule, len(self.shares))
        share = self.shares[index]
        rule = share.table.rules[tier]
        assert isinstance(rule, SharedRule)
        return share, rule, share.table.states.get(entry.state.found) is entry.state


def _bytes(batch: list[Entry], known: Iterable[tuple[int, float]]) -> bytes:
    """The entries, then the fingerprints of their keys."""
    told = [entry.packed(*one) for entry, one in zip(batch, known, strict=True)]
    return b"".join(told) + struct.pack(f"<{len(batch)}Q", *(entry.state.found for entry in batch))
