"""The compiled module's contract in plain Python: what runs where there is no compiled core, and the tests' oracle.

    key -> fingerprint -> state -> rule -> decision

A rule is one policy at work on the states of keys; it says how much room there is, from when a cost fits and from when
the key is as good as new, and a decision follows from these three. Times are whole nanoseconds since the engine was
made and never fall. Where ext/algorithms/ packs words and exchanges them, this keeps plain numbers under a lock.
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import threading
import weakref
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice, pairwise, repeat
from typing import Any, NoReturn

from penstock._rows import Pairs, rows_in, section_of
from penstock._rule import NEVER, Rule, State, View, until
from penstock._shared_reference import SharedRule, Sharing
from penstock.clock import Clock, SystemClock, ns_to_seconds
from penstock.decision import Decision
from penstock.errors import shown
from penstock.keys import Key, fingerprint
from penstock.policy import (
    CONCURRENCY,
    FIXED_WINDOW,
    HORIZON,
    SHARED,
    SLIDING_LOG,
    SLIDING_WINDOW,
    TICK_SHIFT,
    TIERS_MOST,
    TOKEN_BUCKET,
    Policy,
)
from penstock.rate import COUNT_MOST, LIMITS_MOST, check_count

HELD_MOST = 2**62 - 1
SAMPLE = 32
"""Keys that are compared when one must go: as many as the native table's window."""
PAIR_MOST = 2**56
"""Units of one pair that was saved; the native engine adds up to 61 of them."""
DENIED_MOST = 16_384
"""Refused keys that are counted; beyond them the least refused half is let go."""


# ---- rules: one class for each algorithm, over the states of keys ----


class BucketState(State):
    """tat: when the bucket is full again, in the ticks of the rule that wrote it."""

    __slots__ = ("tat", "writer")

    def __init__(self, writer: TokenBucketRule) -> None:
        self.writer = writer
        self.tat = 0


class TokenBucketRule(Rule[BucketState]):
    """GCRA in the policy's ticks, of which a token is a whole number; ext/algorithms/token_bucket.h says why."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.ticks_per_ns = policy.ticks_per_ns
        self.token = policy.token_ticks
        self.span = policy.span_ticks
        self.most = (1 << policy.tag_shift) - 1

    def fresh(self) -> BucketState:
        return BucketState(self)

    def _ticks(self, now: int) -> int:
        return (now * self.ticks_per_ns) >> TICK_SHIFT

    def _time(self, ticks: int) -> int:
        """The first nanosecond whose reading is `ticks` or later."""
        return -(-(ticks << TICK_SHIFT) // self.ticks_per_ns)

    def owed(self, state: BucketState, now: int) -> int:
        """Ticks of debt: of this rule, whichever wrote them."""
        if state.writer is self:
            return max(0, state.tat - self._ticks(now))
        return self._converted(state, now)

    def _converted(self, state: BucketState, now: int) -> int:
        """The same tokens spent, rounded up to a tick. Floats, as in the native engine: parity is to the tick."""
        before = state.writer
        tokens, rest = divmod(before.owed(state, now), before.token)
        part = int(float(rest) / float(before.token) * float(self.token)) + (rest != 0)
        debt = tokens * self.token + part if tokens < self.most // self.token else self.most
        return min(debt, self.most - self._ticks(now))

    def room(self, state: BucketState, now: int) -> int:
        return max(0, self.span - self.owed(state, now)) // self.token

    def fits_at(self, state: BucketState, now: int, cost: int) -> int:
        return self._time(self._ticks(now) + self.owed(state, now) + cost * self.token - self.span)

    def free_at(self, state: BucketState, now: int, more: int = 0) -> int:
        owed = self.owed(state, now) + more * self.token
        return self._time(self._ticks(now) + owed) if owed else now

    def _write(self, state: BucketState, now: int, owed: int) -> None:
        state.writer = self
        state.tat = self._ticks(now) + owed if owed else 0

    def force(self, state: BucketState, now: int, cost: int) -> None:
        owed, most = self.owed(state, now), self.most - self._ticks(now)
        self._write(state, now, owed + cost * self.token if cost < (most - owed) // self.token else most)

    def refund(self, state: BucketState, now: int, cost: int) -> None:
        self._write(state, now, max(0, self.owed(state, now) - cost * self.token))

    def debt(self, state: BucketState, now: int) -> int:
        return state.writer.owed(state, now)

    def forgotten_at(self, state: BucketState, now: int) -> int:
        return state.writer.free_at(state, now)

    def spent(self, state: BucketState, now: int) -> int:
        return -(-self.debt(state, now) // state.writer.token)

    def pairs(self, state: BucketState, now: int) -> Pairs:
        return [(state.writer.tier, state.tat)] if self.debt(state, now) else []

    def restored(self, state: BucketState, pairs: Pairs, now: int) -> None:
        ((_, tat),) = pairs
        if tat >= 2**63:
            raise ValueError("a bucket is full too late")
        state.writer, state.tat = self, min(tat, self.most)

    def take_over(self, state: BucketState, now: int) -> None:
        """Makes the state this rule's own."""
        self._write(state, now, self.owed(state, now))


class WindowState(State):
    """counts: units by sub-window, in the order of time."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}


class SlidingWindowRule(Rule[WindowState]):
    """Sub-window e covers [e * per / R, (e + 1) * per / R); those from e - R on touch the `per` before its end."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.resolution = policy.resolution
        self.most = (1 << policy.count_bits) - 1

    def fresh(self) -> WindowState:
        return WindowState()

    def _epoch(self, now: int) -> int:
        return now * self.resolution // self.per

    def _gone(self, epoch: int) -> int:
        """The first nanosecond at which sub-window `epoch` no longer counts."""
        return -(-(epoch + self.resolution + 1) * self.per // self.resolution)

    def _counts(self, state: WindowState, now: int) -> dict[int, int]:
        """What counts now; the rest is dropped."""
        counts, oldest = state.counts, self._epoch(now) - self.resolution
        while counts and (first := next(iter(counts))) < oldest:
            del counts[first]
        return counts

    def room(self, state: WindowState, now: int) -> int:
        return max(0, self.limit - sum(self._counts(state, now).values()))

    def fits_at(self, state: WindowState, now: int, cost: int) -> int:
        counts = self._counts(state, now)
        excess = sum(counts.values()) + cost - self.limit
        for epoch, count in counts.items():
            excess -= count
            if excess <= 0:
                return self._gone(epoch)
        return now

    def free_at(self, state: WindowState, now: int, more: int = 0) -> int:
        if more:
            return self._gone(self._epoch(now))
        counts = self._counts(state, now)
        return self._gone(next(reversed(counts))) if counts else now

    def force(self, state: WindowState, now: int, cost: int) -> None:
        counts, epoch = self._counts(state, now), self._epoch(now)
        counts[epoch] = min(counts.get(epoch, 0) + cost, self.most)

    def refund(self, state: WindowState, now: int, cost: int) -> None:
        counts = self._counts(state, now)
        for epoch in list(counts):
            back = min(cost, counts[epoch])
            cost -= back
            counts[epoch] -= back
            if counts[epoch]:
                break
            del counts[epoch]

    def debt(self, state: WindowState, now: int) -> int:
        return sum(self._counts(state, now).values())

    def pairs(self, state: WindowState, now: int) -> Pairs:
        return [(epoch, count) for epoch, count in self._counts(state, now).items() if count]

    def restored(self, state: WindowState, pairs: Pairs, now: int) -> None:
        _check_pairs(pairs, self._epoch(now))
        state.counts = {epoch: min(count, self.most) for epoch, count in pairs}


class LogState(State):
    """times: of the latest admissions, a ring's worth at least, in their order."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times: list[int] = []


class SlidingLogRule(Rule[LogState]):
    """An admission counts while it is inside (now - per, now]."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.ring = policy.ring

    def fresh(self) -> LogState:
        return LogState()

    def _first(self, state: LogState, now: int) -> int:
        """The index of the oldest admission that counts."""
        return bisect_right(state.times, now - self.per)

    def debt(self, state: LogState, now: int) -> int:
        return len(state.times) - self._first(state, now)

    def room(self, state: LogState, now: int) -> int:
        return max(0, self.limit - self.debt(state, now))

    def fits_at(self, state: LogState, now: int, cost: int) -> int:
        return state.times[cost - 1 - self.limit] + self.per

    def free_at(self, state: LogState, now: int, more: int = 0) -> int:
        if more:
            return now + self.per
        return state.times[-1] + self.per if self.debt(state, now) else now

    def force(self, state: LogState, now: int, cost: int) -> None:
        times = state.times
        times.extend(repeat(now, min(cost, self.ring - self.debt(state, now))))
        if len(times) > 2 * self.ring:
            del times[: -self.ring]

    def refund(self, state: LogState, now: int, cost: int) -> None:
        first = self._first(state, now)
        del state.times[first : first + cost]

    def pairs(self, state: LogState, now: int) -> Pairs:
        return sorted(Counter(state.times[self._first(state, now) :][-self.ring :]).items())

    def restored(self, state: LogState, pairs: Pairs, now: int) -> None:
        _check_pairs(pairs, now)
        state.times = [time for time, count in pairs for _ in range(min(count, self.ring))][-self.ring :]


class FixedState(State):
    """count: units in the window that closes at `end`, ns; 0: none yet."""

    __slots__ = ("count", "end")

    def __init__(self) -> None:
        self.end = 0
        self.count = 0


class FixedWindowRule(Rule[FixedState]):
    """One window after another: on the epoch's grid, or from the first hit after the last one closed."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.first_hit = policy.first_hit
        self.grid = policy.grid_ns
        self.most = (1 << policy.count_bits) - 1

    def fresh(self) -> FixedState:
        return FixedState()

    def _end(self, state: FixedState, now: int) -> int:
        """When the window closes that a hit would count in."""
        if now < state.end:
            return state.end
        if self.first_hit:
            return now + self.per
        return ((now + self.grid) // self.per + 1) * self.per - self.grid

    def debt(self, state: FixedState, now: int) -> int:
        return state.count if now < state.end else 0

    def room(self, state: FixedState, now: int) -> int:
        return max(0, self.limit - self.debt(state, now))

    def fits_at(self, state: FixedState, now: int, cost: int) -> int:
        return state.end

    def free_at(self, state: FixedState, now: int, more: int = 0) -> int:
        return self._end(state, now) if self.debt(state, now) + more else now

    def forgotten_at(self, state: FixedState, now: int) -> int:
        return max(state.end, now)  # a window that was begun goes on, though all was given back

    def force(self, state: FixedState, now: int, cost: int) -> None:
        state.count = min(self.debt(state, now) + cost, self.most)
        state.end = self._end(state, now)

    def refund(self, state: FixedState, now: int, cost: int) -> None:
        state.count = max(0, self.debt(state, now) - cost)

    def pairs(self, state: FixedState, now: int) -> Pairs:
        goes_on = now < state.end and (state.count or self.first_hit)
        return [(state.end, state.count)] if goes_on else []

    def restored(self, state: FixedState, pairs: Pairs, now: int) -> None:
        ((end, count),) = pairs
        too_soon = self.first_hit and end < self.per
        if too_soon or end > now + self.per + self.per // 2 or count > PAIR_MOST or not (count or self.first_hit):
            raise ValueError("a window ends too soon or too late, or has too many units or none")
        if not self.first_hit:  # the window that ends nearest: the grid may have been laid anew since
            end = (max(0, end + self.grid - self.per // 2) // self.per + 1) * self.per - self.grid
        state.end, state.count = end, min(count, self.most)


class HeldState(State):
    """held: units in flight."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0


class ConcurrencyRule(Rule[HeldState]):
    """Units come back from whoever took them; no wait is known to help."""

    @property
    def gives_back(self) -> bool:
        return True

    def fresh(self) -> HeldState:
        return HeldState()

    def room(self, state: HeldState, now: int) -> int:
        return max(0, self.limit - state.held)

    def fits_at(self, state: HeldState, now: int, cost: int) -> int:
        return NEVER

    def free_at(self, state: HeldState, now: int, more: int = 0) -> int:
        return NEVER if state.held + more else now

    def force(self, state: HeldState, now: int, cost: int) -> None:
        state.held = min(state.held + cost, HELD_MOST)

    def refund(self, state: HeldState, now: int, cost: int) -> None:
        state.held = max(0, state.held - cost)

    def debt(self, state: HeldState, now: int) -> int:
        return state.held


def _check_pairs(pairs: Pairs, latest: int) -> None:
    """ValueError unless they are in the order of time, none after `latest`, each of some units."""
    in_order = all(before[0] < after[0] for before, after in pairwise(pairs))
    if not in_order or pairs[-1][0] > latest or not all(1 <= count <= PAIR_MOST for _, count in pairs):
        raise ValueError("pairs are not in order, of a time to come, or of too many units or none")


RULES: dict[int, type[Rule[Any]]] = {
    TOKEN_BUCKET: TokenBucketRule,
    SLIDING_WINDOW: SlidingWindowRule,
    SLIDING_LOG: SlidingLogRule,
    FIXED_WINDOW: FixedWindowRule,
    CONCURRENCY: ConcurrencyRule,
    SHARED: SharedRule,
}


# ---- one limit, all keys ----


class Table:
    """The states of one limit's keys, at most `capacity` of them.

    A state whose key is as good as new is dropped when there is time for it: a heap holds for every state a time not
    later than that at which it may be forgotten, and whatever has come due is asked again, a few at each new key and as
    many as it takes when the table is full. So each hit pays for at most one such question, and nothing sweeps.
    """

    def __init__(self, rules: list[Rule[Any]], capacity: int, evict: bool) -> None:
        self.rules = rules  # by tier
        self.capacity = capacity
        self.evict = evict and not isinstance(rules[0], ConcurrencyRule)  # what is held must not be forgotten
        self.evicted = 0
        self.states: OrderedDict[int, Any] = OrderedDict()
        self._due: list[tuple[int, int]] = []

    def has_place(self, now: int) -> bool:
        """Whether a key that has no state would be given one."""
        self._forget(now)
        if len(self.states) < self.capacity:
            return True
        if self.evict:
            return not all(self.rules[0].held(state) for state in islice(self.states.values(), SAMPLE))
        return self._least(now)[1] == 0

    def place(self, found: int, rule: Rule[Any], now: int) -> Any:
        """A fresh state for a key that has none; in a full table another key gives way, else None."""
        self._forget(now)
        if len(self.states) >= self.capacity:
            held, debt, victim = self._least(now)
            if held or (debt and not self.evict):
                return None
            self.evicted += debt != 0
            del self.states[victim]
        state = self.states[found] = self.fresh(found, rule)
        return state

    @staticmethod
    def fresh(found: int, rule: Rule[Any]) -> Any:
        """The state of a key never seen, which is not kept."""
        state = rule.fresh()
        state.found, state.due = found, NEVER
        return state

    def note(self, found: int, state: Any, now: int) -> None:
        """To be called after each change: the state may be forgotten sooner than was thought."""
        at = self.rules[0].forgotten_at(state, now)
        if at < state.due:
            state.due = at
            heapq.heappush(self._due, (at, found))
            if len(self._due) > 2 * len(self.states) + SAMPLE:
                self._rebuild()

    def soonest(self, now: int) -> int:
        """When the first of the states may be forgotten, or NEVER."""
        while self._due:
            at, found = self._due[0]
            if not self._settle(at, found, now):
                return at
        return NEVER

    def drop(self, found: int) -> None:
        """Forgets one key; what the heap still says of it is passed over later."""
        self.states.pop(found, None)

    def clear(self) -> None:
        self.states.clear()
        self._due.clear()

    def replace(self, rules: list[Rule[Any]], now: int) -> None:
        """Puts other rules in force; buckets keep their debt in tokens."""
        successors = dict(zip(self.rules, rules, strict=True))
        self.rules = rules
        for state in self.states.values():
            if isinstance(state, BucketState):
                rule = successors[state.writer]
                assert isinstance(rule, TokenBucketRule)
                rule.take_over(state, now)
                state.due = rule.forgotten_at(state, now)
        self._rebuild()

    def rows(self, now: int) -> bytes:
        """What counts against each key, as Engine.rows has it."""
        return section_of((found, self.rules[0].pairs(state, now)) for found, state in self.states.items())

    def read(self, section: bytes, now: int) -> list[tuple[int, int, Any]]:
        """[(debt, fingerprint, state)] of such rows. ValueError for others."""
        read, rule = [], self.rules[0]
        for found, pairs in rows_in(section):
            if isinstance(rule, TokenBucketRule):
                if pairs[0][0] >= len(self.rules):
                    raise ValueError(f"there is no tier {pairs[0][0]}")
                rule = self.rules[pairs[0][0]]
            state = self.fresh(found, rule)
            rule.restored(state, pairs, now)
            read.append((rule.debt(state, now), found, state))
        return read

    def fill(self, read: list[tuple[int, int, Any]], now: int) -> None:
        """Puts in what `read` has found, those who owe most first; what finds no place counts as evicted."""
        for debt, found, state in sorted(read, key=lambda one: -one[0]):
            if self.rules[0].forgotten_at(state, now) <= now or found in self.states:
                continue
            if len(self.states) >= self.capacity:
                self.evicted += debt != 0
            else:
                self.states[found] = state
                self.note(found, state, now)

    def _rebuild(self) -> None:
        self._due = [(state.due, found) for found, state in self.states.items() if state.due != NEVER]
        heapq.heapify(self._due)

    def _forget(self, now: int) -> None:
        """Drops states that have come due: some, or in a full table as many as it takes."""
        questions = 4
        while self._due and self._due[0][0] <= now and (questions > 0 or len(self.states) >= self.capacity):
            questions -= 1
            at, found = self._due[0]
            if not self._settle(at, found, now):
                heapq.heappop(self._due)
                del self.states[found]

    def _settle(self, at: int, found: int, now: int) -> bool:
        """Corrects the heap's first entry if the state it is of has changed since; False when it is right."""
        state = self.states.get(found)
        if state is None or state.due != at:
            heapq.heappop(self._due)
            return True
        later = self.rules[0].forgotten_at(state, now)
        if later <= at or later <= now:
            return False
        if later == NEVER:
            heapq.heappop(self._due)
        else:
            heapq.heapreplace(self._due, (later, found))
        state.due = later
        return True

    def _least(self, now: int) -> tuple[bool, int, int]:
        """The least debt among some keys (and whether it is held), and whose it is; other keys the next time."""
        rule = self.rules[0]
        sample = [
            (rule.held(state), rule.debt(state, now), found) for found, state in islice(self.states.items(), SAMPLE)
        ]
        for _, _, found in sample:
            self.states.move_to_end(found)
        return min(sample)


# ---- all limits, all keys ----


_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()  # every engine's
_forking = threading.Lock()
_held: list[threading.RLock] = []  # by the thread that forks


def _before_fork() -> None:
    """Waits until no thread is inside an engine, so that the child's copies are whole."""
    _forking.acquire()
    for lock in list(_locks):
        lock.acquire()
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Engine:
    """The decisions of one limiter. Safe from any thread: one call at a time.

    policies: for each tier, for each limit, a penstock.policy.Policy; tiers: name -> index into policies; capacity:
    keys; evict: what a full table does for a new key; secret: 16 bytes; clock: a penstock.clock.Clock, or None for the
    system's; remember: whether keys are kept for `name_of`; age: nanoseconds that have passed already, for who goes on
    from rows that were saved. Private names are mangled: a Limiter derives from this.
    """

    __slots__ = (
        "__admitted",
        "__birth",
        "__clock",
        "__denials",
        "__denials_lost",
        "__denied",
        "__latest",
        "__lock",
        "__names",
        "__secret",
        "__sharing",
        "__tables",
        "__tiers",
        "capacity",
    )

    def __init__(
        self,
        policies: Sequence[Sequence[Policy]],
        tiers: dict[str | None, int],
        *,
        capacity: int,
        evict: bool,
        secret: bytes,
        clock: Clock | None,
        remember: bool,
        age: int = 0,
    ) -> None:
        if hasattr(self, "capacity"):
            raise RuntimeError("a limiter is made once: __init__ was called again")
        if not 1 <= len(policies) <= TIERS_MOST or not 1 <= len(policies[0]) <= LIMITS_MOST:
            raise ValueError(f"policies must be of 1 to {TIERS_MOST} tiers and 1 to {LIMITS_MOST} limits")
        if any(len(limits) != len(policies[0]) for limits in policies):
            raise ValueError("policies must be of as many limits in every tier")
        if not 1 <= capacity < 2**40:
            raise ValueError(f"capacity={capacity} must be between 1 and 2**40 - 1")
        if len(secret) != 16:
            raise ValueError(f"secret has {len(secret)} bytes; it must have 16")
        self.capacity = capacity
        self.__tiers = tiers
        self.__secret = secret
        self.__clock = clock if clock is not None else SystemClock()
        self.__birth = _clock_ns(self.__clock) - age
        self.__latest = 0
        self.__names: dict[int, Key] | None = {} if remember else None
        self.__tables = [Table(rules, capacity, evict) for rules in _rules(policies)]
        shared = policies[0][0].algorithm == SHARED
        self.__sharing = Sharing(self.__tables) if shared else None
        self.__admitted = self.__denied = 0
        self.__denials: dict[int, int] = {}
        self.__denials_lost = 0  # no key that was let go had been refused more often than this
        self.__lock = threading.RLock()  # entered anew by a clock that asks its limiter
        _locks.add(self.__lock)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Engine cannot be copied or pickled: its counters are live; make one in each process")

    def __getattr__(self, name: str) -> Any:
        """Only for what __init__ would have set."""
        if name.startswith("_Engine__"):
            raise RuntimeError("this limiter was never made: __init__ was not called")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    # ---- decisions ----

    def hit(self, key: Key, cost: int = 1, tier: str | None = None) -> bool:
        """Take `cost` units of `key` from every limit, or nothing: True when taken."""
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            self.__remember(found, key)
            return self.__hit(found, index, self.__now(), units)

    def check(self, key: Key, cost: int = 1, tier: str | None = None) -> Decision:
        """As `hit`, answering with a Decision."""
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            self.__remember(found, key)
            return self.__check(found, index, self.__now(), units)

    def claim(self, key: Key, cost: int = 1, tier: str | None = None) -> Decision:
        """As `check`, but of shared limits takes only what Redis has leased to this instance."""
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            self.__remember(found, key)
            with nullcontext() if self.__sharing is None else self.__sharing.claiming():
                return self.__check(found, index, self.__now(), units)

    def peek(self, key: Key, cost: int = 1, tier: str | None = None) -> Decision:
        """The Decision that `check` would give now; takes nothing."""
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            return self.__look(found, index, self.__now(), units)

    def refund(self, key: Key, cost: int = 1, tier: str | None = None) -> None:
        """Give `cost` units back to every limit, never above full."""
        self.__give_back(key, cost, tier, only_held=False)

    def release(self, key: Key, cost: int = 1, tier: str | None = None) -> None:
        """Give `cost` units back to the Concurrency limits alone."""
        self.__give_back(key, cost, tier, only_held=True)

    def force(self, key: Key, cost: int = 1, tier: str | None = None) -> None:
        """Take `cost` units whether they fit or not; what does not fit is owed."""
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            if self.__sharing is None:
                self.__take(found, index, self.__now(), units)
            else:
                self.__sharing.force(found, index, self.__now(), units)

    def reset(self, key: Key) -> None:
        """Make `key` as good as new under every limit."""
        found = fingerprint(self.__secret, key)
        with self.__lock:
            self.__now()
            for table in self.__tables:
                if self.__sharing is None or self.__sharing.forget(table, found):
                    table.drop(found)

    def clear(self) -> None:
        """Make every key as good as new."""
        with self.__lock:
            for table in self.__tables:
                if self.__sharing is None:
                    table.clear()
                else:
                    for found in [found for found in table.states if self.__sharing.forget(table, found)]:
                        table.drop(found)
            if self.__names is not None:
                self.__names.clear()

    def replace(self, policies: Sequence[Sequence[Policy]]) -> None:
        """Put other policies in force, those of penstock.policy.replace_policies; keys keep what they have spent."""
        with self.__lock:
            now = self.__now()
            for table, rules in zip(self.__tables, _rules(policies), strict=True):
                table.replace(rules, now)
            if self.__sharing is not None:
                self.__sharing.join()

    # ---- limits shared with other instances: what Redis is told and what it said ----

    def share(self, instances: int, modes: Sequence[int]) -> None:
        """How many instances there are, this one counted, and for each partition NORMAL, OPEN or CLOSED."""
        with self.__lock:
            self.__shared().share(instances, modes)

    def drain(self, partition: int, most: int, tick: bool, wants: dict[tuple[int, int], int]) -> bytes:
        """The next batch of a partition: at most `most` entries of 32 bytes, then as many fingerprints of 8; empty when
        nothing is due. tick: everything that is due by now, else only what is asked for early. wants: units that
        callers wait for, by (limit index, fingerprint). RuntimeError while a batch is on its way."""
        with self.__lock:
            return self.__shared().drain(partition, most, tick, wants, self.__now())

    def applied(self, partition: int, reply: bytes, sent_ns: int) -> list[int]:
        """Takes in the reply to the batch on its way, first sent at sent_ns: fingerprints of keys that were waited for.
        ValueError for a reply that is not one to it, or that says LOST: `restore` then."""
        with self.__lock:
            return self.__shared().applied(partition, reply, sent_ns, self.__now())

    def failed(self, partition: int) -> None:
        """The batch on its way was not applied and never will be: all that it told is told anew."""
        with self.__lock:
            self.__shared().failed(partition, self.__now())

    def restore(self, partition: int) -> bytes:
        """The batch on its way once more, if there is one, with what was known of its keys; behind it all other keys
        that are not full. They are one batch from now on."""
        with self.__lock:
            return self.__shared().restore(partition, self.__now())

    def unlearn(self, fingerprint: int | None) -> None:
        """What was learnt and leased of the key with this fingerprint, or of all (None), is no more: it was made as
        good as new elsewhere. What was admitted here, and not told yet, still is."""
        with self.__lock:
            self.__shared().unlearn(fingerprint)

    def abandon(self) -> None:
        """What is to be told, on its way, leased or held is another's: the process's that this one was forked from."""
        with self.__lock:
            self.__shared().abandon()

    def early(self) -> int:
        """Bit by bit, the partitions that should not wait for the next tick; reading clears it."""
        with self.__lock:
            return self.__shared().early()

    def wake(self, fd: int | None) -> None:
        """From now on a byte goes to this file descriptor, which must not block, when `early` has something to tell
        that it had not; None: no more. NotImplementedError where that cannot be done."""
        if sys.platform == "win32":
            raise NotImplementedError("decisions cannot wake a driver on this system; ask early() now and then")
        if fd is not None and (not isinstance(fd, int) or not 0 <= fd < 2**31 - 1):
            raise ValueError(f"fd={shown(fd)} must be a file descriptor or None")
        with self.__lock:
            self.__shared().fleet.fd = fd

    def largest(self) -> list[int]:
        """For each limit, the largest cost asked so far."""
        with self.__lock:
            return [share.largest for share in self.__shared().shares]

    def unsettled(self) -> tuple[int, int, int]:
        """Units admitted and not reported, reported and not acknowledged, and leased."""
        with self.__lock:
            return self.__shared().unsettled(self.__now())

    def __shared(self) -> Sharing:
        if self.__sharing is None:
            raise RuntimeError("these limits are not shared between instances")
        return self.__sharing

    # ---- batches ----

    def hit_many(self, keys: Iterable[Key], costs: Any = 1, tier: str | None = None) -> Any:
        """`hit` for each key in order, at one time: a NumPy bool array, or a list where there is no NumPy. Keys: any
        iterable of keys, a NumPy or Arrow array. costs: an int, or as many as there are keys."""
        numpy = _numpy()
        with self.__lock:
            index, found, units = self.__batch(numpy, keys, costs, tier)
            now = self.__now()
            hits = [self.__hit(one, index, now, cost) for one, cost in zip(found, units, strict=True)]
        return hits if numpy is None else numpy.array(hits, dtype=numpy.bool_)

    def check_many(self, keys: Iterable[Key], costs: Any = 1, tier: str | None = None) -> Any:
        """`check` for each key in order: a structured NumPy array with the fields of Decision, or a list of these."""
        numpy = _numpy()
        with self.__lock:
            index, found, units = self.__batch(numpy, keys, costs, tier)
            now = self.__now()
            decisions = [self.__check(one, index, now, cost) for one, cost in zip(found, units, strict=True)]
        return decisions if numpy is None else numpy.array(decisions, dtype=_decision_dtype(numpy))

    # ---- what is saved and loaded ----

    def rows(self) -> list[bytes]:
        """For each limit, what counts against its keys: rows of 8-byte little-endian words, as ext/snapshot/snapshot.h
        has them."""
        with self.__lock:
            now = self.__now()
            return [table.rows(now) for table in self.__tables]

    def fill(self, sections: Sequence[bytes], names: Mapping[int, Key]) -> None:
        """Puts rows into the tables of an engine that nobody else has yet, and keys' names if they are remembered.
        ValueError, and nothing changes, for what are not rows of these limits, of a time by now. Rows that find no
        place are those that owe least; they count as evicted."""
        with self.__lock:
            now = self.__now()
            if len(sections) != len(self.__tables):
                raise ValueError(f"sections must be of {len(self.__tables)} limits, not {len(sections)}")
            read = [table.read(section, now) for table, section in zip(self.__tables, sections, strict=True)]
            for table, rows in zip(self.__tables, read, strict=True):
                table.fill(rows, now)
            if self.__names is not None:
                self.__names.update(names)

    def remembered(self) -> dict[int, Key]:
        """{fingerprint: key} of the names that are remembered."""
        with self.__lock:
            return dict(self.__names or {})

    # ---- looking in ----

    def fingerprint(self, key: Key) -> int:
        """The 64-bit fingerprint of a key."""
        return fingerprint(self.__secret, key)

    def now_ns(self) -> int:
        """Nanoseconds since this engine was made."""
        with self.__lock:
            return self.__now()

    @property
    def bytes(self) -> int:
        """Memory of the tables, about: here it grows with the keys."""
        with self.__lock:
            total = 0
            for table in self.__tables:
                one = next(iter(table.states.values()), None)
                total += sys.getsizeof(table.states) + len(table.states) * (sys.getsizeof(one) + 8 * 16)
            return total

    def counters(self) -> tuple[int, int, int]:
        """(admitted, denied, evicted) since the engine was made."""
        with self.__lock:
            return self.__admitted, self.__denied, sum(table.evicted for table in self.__tables)

    def live(self) -> int:
        """Keys with anything counted against them, under the limit that has most of them."""
        with self.__lock:
            now = self.__now()
            return max(
                sum(table.rules[0].debt(state, now) != 0 for state in table.states.values()) for table in self.__tables
            )

    def denied_keys(self) -> list[tuple[int, int]]:
        """[(fingerprint, times refused)], most first; of at least the keys refused most."""
        with self.__lock:
            return sorted(self.__denials.items(), key=lambda item: (-item[1], item[0]))

    def spending(self, n: int) -> list[tuple[int, int, int]]:
        """[(fingerprint, limit index, units)], the n keys with most counted against them, most first."""
        with self.__lock:
            now = self.__now()
            spent = (
                (-table.rules[0].spent(state, now), found, i)
                for i, table in enumerate(self.__tables)
                for found, state in table.states.items()
            )
            return [(found, i, -units) for units, found, i in heapq.nsmallest(n, spent) if units]

    def spent(self, fingerprint: int) -> int:
        """Units counted against the key with this fingerprint, under the limit that has most of them."""
        with self.__lock:
            now = self.__now()
            states = [(table.rules[0], table.states.get(fingerprint)) for table in self.__tables]
            return max(0 if state is None else rule.spent(state, now) for rule, state in states)

    def name_of(self, fingerprint: int) -> Key | None:
        """The key with this fingerprint, if names are remembered and it still is; else None."""
        return None if self.__names is None else self.__names.get(fingerprint)

    # ---- one key, all limits; the lock is held ----

    def __hit(self, found: int, tier: int, now: int, cost: int) -> bool:
        if self.__sharing is not None:
            if not self.__sharing.take(found, tier, now, cost):
                return self.__refused(found)
            self.__admitted += 1
            return True
        for table in self.__tables:
            rule = table.rules[tier]
            state = table.states.get(found)
            if cost > (rule.limit if state is None else rule.room(state, now)):
                return self.__refused(found)
            if state is None and not table.has_place(now):
                return self.__refused(found)
        self.__take(found, tier, now, cost)
        self.__admitted += 1
        return True

    def __check(self, found: int, tier: int, now: int, cost: int) -> Decision:
        decision = self.__look(found, tier, now, cost)
        if self.__sharing is not None:
            self.__sharing.take(found, tier, now, cost)
        elif decision.allowed:
            self.__take(found, tier, now, cost)
        if decision.allowed:
            self.__admitted += 1
        else:
            self.__refused(found)
        return decision

    def __look(self, found: int, tier: int, now: int, cost: int) -> Decision:
        views = [self.__view(table, found, tier, now, cost) for table in self.__tables]
        refused = [view for view in views if not view.allowed]
        if refused:  # then nothing is taken from the others either
            speaking = max(refused, key=lambda view: view.retry_ns)
            views = [
                self.__view(table, found, tier, now, 0) if view.allowed else view
                for table, view in zip(self.__tables, views, strict=True)
            ]
        else:
            speaking = min(views, key=lambda view: view.remaining)
        index = next(i for i, view in enumerate(views) if view is speaking)
        return Decision(
            not refused,
            self.__tables[index].rules[tier].limit,
            speaking.remaining,
            _seconds(max(view.retry_ns for view in views)),
            _seconds(max(view.reset_ns for view in views)),
            index,
        )

    def __view(self, table: Table, found: int, tier: int, now: int, cost: int) -> View:
        rule, state = table.rules[tier], table.states.get(found)
        if state is None and cost <= rule.limit and not table.has_place(now):
            shared = self.__sharing
            return View(False, 0, until(table.soonest(now), now) if shared is None else shared.interval_ns(tier), 0)
        return rule.describe(table.fresh(found, rule) if state is None else state, now, cost)

    def __take(self, found: int, tier: int, now: int, cost: int) -> None:
        for table in self.__tables:
            rule = table.rules[tier]
            state = table.states.get(found) or table.place(found, rule, now)
            if state is not None:
                rule.force(state, now, cost)
                table.note(found, state, now)

    def __give_back(self, key: Key, cost: int, tier: str | None, only_held: bool) -> None:
        found, units, index = self.__arguments(key, cost, tier)
        with self.__lock:
            now = self.__now()
            for table in self.__tables:
                rule = table.rules[index]
                state = table.states.get(found)
                if state is None or (only_held and not rule.gives_back):
                    continue
                rule.refund(state, now, units)
                if rule.forgotten_at(state, now) <= now:
                    table.drop(found)
                else:
                    table.note(found, state, now)

    def __refused(self, found: int) -> bool:
        """Counts a refusal, exactly while not more than DENIED_MOST keys are refused; then never too low."""
        self.__denied += 1
        denials = self.__denials
        if found not in denials and len(denials) >= DENIED_MOST:
            kept = heapq.nlargest(DENIED_MOST // 2, denials.items(), key=lambda item: item[1])
            self.__denials = dict(kept)
            self.__denials_lost = max(count for one, count in denials.items() if one not in self.__denials)
            denials = self.__denials
        denials[found] = denials.get(found, self.__denials_lost) + 1
        return False

    # ---- arguments ----

    def __arguments(self, key: Key, cost: int, tier: str | None) -> tuple[int, int, int]:
        return fingerprint(self.__secret, key), check_count("cost", cost), self.__tier(tier)

    def __tier(self, tier: str | None) -> int:
        index = self.__tiers.get(tier) if isinstance(tier, str) or tier is None else None
        if index is None:
            known = ", ".join(repr(name) for name in self.__tiers)
            raise ValueError(f"tier={shown(tier)} must be one of {known}")
        return index

    def __now(self) -> int:
        """Nanoseconds since the engine was made, at most HORIZON, never less than before."""
        self.__latest = max(self.__latest, min(_clock_ns(self.__clock) - self.__birth, HORIZON))
        return self.__latest

    def __remember(self, found: int, key: Key) -> None:
        """Keeps the key's name; of more than twice the capacity, the older half goes."""
        names = self.__names
        if names is not None and found not in names:
            if len(names) >= 2 * self.capacity:
                for old in list(islice(names, self.capacity)):
                    del names[old]
            names[found] = key

    def __batch(
        self, numpy: Any, keys: Any, costs: Any, tier: str | None
    ) -> tuple[int, list[int], Iterable[int]]:
        """The tier's index, the fingerprints and the costs; nothing has been decided when one of them is wrong."""
        index = self.__tier(tier)
        column = False  # of values that are no objects, so nobody's names
        if numpy is not None and isinstance(keys, numpy.ndarray):
            if keys.ndim != 1:
                raise ValueError(f"keys must have one dimension, not {keys.ndim}")
            masked = isinstance(keys, numpy.ma.MaskedArray)
            column = keys.dtype.kind in "iuSU" and keys.dtype.itemsize > 0 and not masked
            keys = keys.tolist()
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys must be several keys, not one {type(keys).__name__}")
        if hasattr(keys, "__arrow_c_array__") or hasattr(keys, "__arrow_c_stream__"):
            column, keys = True, _arrow_rows(keys)
        found = []
        for key in tuple(keys):
            found.append(fingerprint(self.__secret, key))
            if not column:
                self.__remember(found[-1], key)
        return index, found, _batch_costs(numpy, costs, len(found))


def adopt(cls: type, *names: str) -> None:
    """Where there is a compiled core, makes these methods of Engine fast in a subclass; here there is nothing to do."""
    if not issubclass(cls, Engine):
        raise TypeError(f"cls must be a subclass of Engine, not {cls!r}")
    for name in names:
        if not callable(getattr(Engine, name)):
            raise TypeError(f"names must be of methods of Engine, not {name!r}")


def _rules(policies: Sequence[Sequence[Policy]]) -> list[list[Rule[Any]]]:
    """For each limit, the rules of its tiers."""
    rules = [[RULES[policy.algorithm](policy) for policy in tiers] for tiers in zip(*policies, strict=True)]
    for of_limit in rules:
        for tier, rule in enumerate(of_limit):
            rule.tier = tier
    return rules


def _clock_ns(clock: Clock) -> int:
    now = clock.now_ns()
    if not isinstance(now, int):
        raise TypeError(f"clock.now_ns() must return nanoseconds as an int, not {shown(now)}")
    return now


def _seconds(ns: int) -> float:
    return math.inf if ns == NEVER else ns_to_seconds(ns)


def _numpy() -> Any:
    """NumPy, or None where it is not installed; imported by the first batch."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _decision_dtype(numpy: Any) -> Any:
    """One row of check_many: the fields of Decision, 48 bytes."""
    kinds = zip(Decision._fields, ("?", "i8", "i8", "f8", "f8", "i8"), strict=True)
    return numpy.dtype(list(kinds), align=True)


def _arrow_rows(keys: Any) -> list[str | bytes | int]:
    """The rows of an Arrow array, read through its own library; what the native engine takes, and no more."""
    if hasattr(getattr(keys, "type", None), "index_type"):
        raise TypeError("keys must be an Arrow array of integers, utf8 or binary, not a dictionary")
    listed = getattr(keys, "to_pylist", None) or getattr(keys, "to_list", None)
    rows = listed() if listed is not None else list(keys)
    for row, key in enumerate(rows):
        if key is None:
            raise ValueError(f"keys must not be null: row {row} is")
        if type(key) not in (str, bytes, int):
            kind = getattr(keys, "type", type(key).__name__)
            raise TypeError(f"keys must be an Arrow array of integers, utf8 or binary, not of {kind}")
    return rows


def _batch_costs(numpy: Any, costs: Any, count: int) -> Iterable[int]:
    """The costs of `count` keys, every one checked."""
    if numpy is None:
        if isinstance(costs, int) or not hasattr(costs, "__len__"):
            return repeat(check_count("costs", costs), count)
        if len(costs) != count:
            raise ValueError(f"costs must be one int or as many as there are keys ({count}), not {len(costs)}")
        return [check_count("costs", cost) for cost in costs]
    if isinstance(costs, (int, numpy.integer)) or not hasattr(costs, "__len__"):
        return repeat(check_count("costs", costs.item() if isinstance(costs, numpy.integer) else costs), count)
    given = numpy.asarray(costs)
    if given.dtype.kind not in "iu" and count:
        raise TypeError(f"costs must be integers, not {given.dtype}")
    if given.shape != (count,):
        raise ValueError(f"costs must be one int or as many as there are keys ({count}), not of shape {given.shape}")
    if count and (given.min() < 1 or given.max() > COUNT_MOST):
        wrong = given.min() if given.min() < 1 else given.max()
        raise ValueError(f"costs has {wrong}; each must be between 1 and 2**53")
    return [int(cost) for cost in given.tolist()]
