"""merge.lua in plain Python, on a dict and a clock set by hand: the oracle of its tests, and Redis in simulations.

The arithmetic is the script's, operation for operation, so that both give the same doubles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from penstock.sync.wire import (
    BUCKET,
    DUP,
    ENTRY_BYTES,
    EVERYTHING,
    HELD,
    LOST,
    OK,
    SLIDING,
    Answer,
    Entry,
    Header,
    Reply,
    Rule,
    WireError,
    pack_reply,
    unpack_entries,
    unpack_header,
)

MEMBER_MS = 3_000
MEMBERS_TTL_MS = 60_000
SEQUENCE_TTL_MS = 120_000
STATE_TTL_MS = 2_000
"""How long a bucket is kept after it is full, a window after it cannot matter."""
NOTICES_TTL_MS, NOTICES_MOST = 120_000, 500
BACK_MS = 3_600_000
"""A value that seems to be so much short of 49 days old was written before the clock went back."""


class MergeError(Exception):
    """The script's error reply."""


Value = bytes | int | dict[Any, Any]


class _Kept(NamedTuple):
    value: Value
    until_ms: float


class Bucket(NamedTuple):
    """What is stored of a bucket: when it is full again, demand in units/s as of demand_ms (mod 2^32)."""

    tat_us: float
    demand: float
    demand_ms: int


class Window(NamedTuple):
    """What is stored of a window: its number (mod 2^32), its count and that of the one before, demand as in Bucket."""

    number: int
    cur: float
    prev: float
    demand: float
    demand_ms: int


class Holder(NamedTuple):
    """Units that an instance has, until when, server ms."""

    inst: bytes
    units: int
    until_ms: float


class Holders(NamedTuple):
    """What is stored of units held: demand as in Bucket, and who has how many."""

    demand: float
    demand_ms: int
    holders: tuple[Holder, ...]

    def pack(self) -> bytes:
        return struct.pack("<fI", *self[:2]) + b"".join(struct.pack("<16sId", *holder) for holder in self.holders)


State = Bucket | Window | Holders


def read_state(kind: int, value: bytes) -> State:
    """What is stored under a rule of this kind. MergeError when it cannot be that."""
    if kind == HELD and len(value) >= 8 and (len(value) - 8) % 28 == 0:
        holders = tuple(Holder(*fields) for fields in struct.iter_unpack("<16sId", value[8:]))
        return Holders(*struct.unpack_from("<fI", value), holders)
    if kind == BUCKET and len(value) == 16:
        return Bucket(*struct.unpack("<dfI", value))
    if kind not in (BUCKET, HELD) and len(value) == 28:
        return Window(*struct.unpack("<IddfI", value))
    raise MergeError("PENSTOCK foreign value at a key of ours")


class MergeServer:
    """A Redis that knows one script. now_us: server time, us since 2025-01-01 UTC; set it, backwards too."""

    def __init__(self, now_us: int = 60_000_000_000_000) -> None:
        self.now_us = now_us
        self._kept: dict[Hashable, _Kept] = {}

    def restart(self) -> None:
        """Start again without persistence: everything is forgotten."""
        self._kept.clear()

    flush = restart

    def snapshot(self) -> dict[Hashable, _Kept]:
        """The data as they are now, for `revert`: what a late replica has."""
        return {key: kept._replace(value=_copy(kept.value)) for key, kept in self._kept.items()}

    def revert(self, snapshot: dict[Hashable, _Kept]) -> None:
        """Promote a replica that got nothing since `snapshot`: every write after it is lost."""
        self._kept = {key: kept._replace(value=_copy(kept.value)) for key, kept in snapshot.items()}

    def peek(self, key: Hashable) -> bytes | None:
        """What is stored at a bucket's or window's key."""
        value = self._get(key)
        return value if isinstance(value, bytes) else None

    def put(self, key: Hashable, value: bytes, ttl_ms: float = math.inf) -> None:
        """Store bytes at a key, as a test would with SET."""
        self._kept[key] = _Kept(value, self.now_us // 1000 + ttl_ms)

    def call(self, keys: Sequence[Hashable], header: bytes, entries: bytes, inst: bytes) -> bytes:
        """One script call: what EVALSHA would return. MergeError for what it refuses; nothing is changed then."""
        head, rules, listed = self._read(keys, header, entries, inst)
        now = float(self.now_us)
        stored = [self._state(key, rules[entry.rule]) for key, entry in zip(keys[3:], listed, strict=True)]
        forgotten = self._get(keys[2]) or {}
        assert isinstance(forgotten, dict)
        members = self._members(keys[1], head, inst, math.floor(now / 1000))
        notices = self._notices(head, forgotten)
        last = self._get(keys[0]) or 0
        assert isinstance(last, int)
        status = OK
        if head.seq <= last:
            status = DUP
        elif last != head.acked and not head.restore:
            return pack_reply(Reply(LOST, members, now, (), notices))
        if head.forget and status == OK:
            self._forget(keys, listed, forgotten)
        fresh: dict[Hashable, State] = {}
        answers = [Answer(0.0, 0.0, 0, 0.0)] * (len(listed) if head.forget else 0)
        for key, entry, old in zip(keys[3:], [] if head.forget else listed, stored, strict=not head.forget):
            rule = rules[entry.rule]
            merge = _Merge(head, rule, entry, now, status == OK, inst, forgotten.get(EVERYTHING))
            step = merge.held if rule.kind == HELD else merge.bucket if rule.kind == BUCKET else merge.window
            answer, state, ttl_ms = step(fresh[key] if key in fresh else merge.remembered(old))
            answers.append(answer)
            if status == OK:
                fresh[key] = state
                self.put(key, _packed(state), ttl_ms)
        if status == OK:
            self._kept[keys[0]] = _Kept(head.seq, self.now_us // 1000 + SEQUENCE_TTL_MS)
        return pack_reply(Reply(status, members, now, tuple(answers), notices))

    def _notices(self, head: Header, forgotten: dict[int, float]) -> tuple[int, ...]:
        """Fingerprints of what was made as good as new since the instance last heard of it, in order."""
        if not head.beat or not head.heard_us:
            return ()
        since = sorted((when, struct.pack("<Q", fp), fp) for fp, when in forgotten.items() if when > head.heard_us)
        return (EVERYTHING,) if len(since) > NOTICES_MOST else tuple(fp for _, _, fp in since)

    def _forget(self, keys: Sequence[Hashable], listed: Sequence[Entry], forgotten: dict[int, float]) -> None:
        old = self._kept.get(keys[2])
        until_ms = max(self.now_us // 1000 + NOTICES_TTL_MS, 0.0 if old is None else old.until_ms)
        young = self.now_us - NOTICES_TTL_MS * 1000
        kept = {fp: when for fp, when in forgotten.items() if when >= young or fp == EVERYTHING}
        for key, entry in zip(keys[3:], listed, strict=True):
            self._kept.pop(key, None)
            kept[entry.back << 32 | entry.debt] = float(self.now_us)
            until_ms = max(until_ms, self.now_us // 1000 + entry.want)
        self._kept[keys[2]] = _Kept(kept, until_ms)

    def _read(
        self, keys: Sequence[Hashable], header: bytes, entries: bytes, inst: bytes
    ) -> tuple[Header, tuple[Rule, ...], list[Entry]]:
        try:
            head, rules, count = unpack_header(header)
            listed = unpack_entries(entries)
        except WireError as error:
            raise MergeError(f"PENSTOCK {error}") from None
        if len(entries) != count * ENTRY_BYTES or len(keys) != count + 3 or len(inst) != 16:
            raise MergeError("PENSTOCK malformed batch")
        if any(entry.rule >= len(rules) for entry in listed):
            raise MergeError("PENSTOCK malformed batch")
        return head, rules, listed

    def _get(self, key: Hashable) -> Value | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self.now_us // 1000 > kept.until_ms:
            del self._kept[key]
            return None
        return kept.value

    def _state(self, key: Hashable, rule: Rule) -> State | None:
        value = self._get(key)
        if value is None:
            return None
        return read_state(rule.kind, value if isinstance(value, bytes) else b"")

    def _members(self, key: Hashable, head: Header, inst: bytes, now_ms: int) -> int:
        value = self._get(key)
        alive = dict(value) if isinstance(value, dict) else {}
        if head.beat:
            alive[inst] = now_ms
            alive = {member: min(beat, now_ms) for member, beat in alive.items() if beat >= now_ms - MEMBER_MS}
            self._kept[key] = _Kept(alive, now_ms + MEMBERS_TTL_MS)
        return sum(beat >= now_ms - MEMBER_MS for beat in alive.values())


def _copy(value: Value) -> Value:
    return dict(value) if isinstance(value, dict) else value


def _packed(state: State) -> bytes:
    if isinstance(state, Holders):
        return state.pack()
    return struct.pack("<dfI" if isinstance(state, Bucket) else "<IddfI", *state)


def _single(value: float) -> float:
    """`value` as four bytes hold it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class _Merge:
    """One entry against one stored state, at one instant. apply: false for a DUP, which only looks. cleared_us: when
    everything was forgotten."""

    def __init__(
        self, head: Header, rule: Rule, entry: Entry, now: float, apply: bool, inst: bytes, cleared_us: float | None
    ) -> None:
        self.head, self.rule, self.entry, self.now, self.apply = head, rule, entry, now, apply
        self.inst = inst
        self.full_ms = math.floor(now / 1000)
        self.now_ms = self.full_ms % 2**32
        self.cleared_ms = None if cleared_us is None or cleared_us // 1000 > self.full_ms else cleared_us // 1000
        self.interval_s = head.interval_us / 1e6
        self.decay_s = max(1.0, 4 * self.interval_s)

    def remembered(self, stored: State | None) -> State | None:
        """What is stored, unless it was written before everything was forgotten."""
        if stored is None or self.cleared_ms is None or isinstance(stored, Holders):
            return stored
        age = (self.now_ms - stored.demand_ms) % 2**32
        return stored if age < self.full_ms - self.cleared_ms or age >= 2**32 - BACK_MS else None

    def demand(self, stored: State | None) -> float:
        """Units/s asked of all instances, with this entry's share in it when it is applied."""
        demand = 0.0
        if stored is not None:
            passed = (self.now_ms - stored.demand_ms) % 2**32
            demand = stored.demand if passed >= 2**31 else stored.demand * math.exp(-passed / 1000 / self.decay_s)
        return demand + self.entry.seen / self.decay_s if self.apply else demand

    def grant(self, room: float, demand: float) -> int:
        """Units leased of `room`: what is wanted, but where demand exceeds the room no more than a fair part of it."""
        if not self.apply or self.entry.want == 0 or room < 1:
            return 0
        granted = min(self.entry.want, math.floor(room))
        asked = demand * self.interval_s
        if asked * 1.5 > room:
            granted = min(granted, max(1, math.floor(room * self.entry.seen / asked)))
        return granted

    def bucket(self, stored: State | None) -> tuple[Answer, Bucket, float]:
        """The answer, the state to store, and the milliseconds to keep it."""
        assert stored is None or isinstance(stored, Bucket)
        rule, entry, now = self.rule, self.entry, self.now
        demand, tat, granted = self.demand(stored), stored.tat_us if stored else 0.0, 0
        if self.apply:
            if self.head.restore:
                tat = max(tat, entry.known)
            tat = max(tat, now - entry.age_us) + (entry.debt - entry.back) * rule.tau_us
            tat = min(tat, now + (rule.burst + rule.debt_max) * rule.tau_us)
            granted = self.grant(rule.burst - (max(tat, now) - now) / rule.tau_us, demand)
            if granted:
                tat = max(tat, now) + granted * rule.tau_us
        room = rule.burst - (max(tat, now) - now) / rule.tau_us
        state = Bucket(tat, _single(demand), self.now_ms)
        return Answer(room, tat, granted, demand), state, max(0, math.ceil((tat - now) / 1000)) + STATE_TTL_MS

    def window(self, stored: State | None) -> tuple[Answer, Window, float]:
        """As `bucket`."""
        assert stored is None or isinstance(stored, Window)
        rule, entry, now, length = self.rule, self.entry, self.now, self.rule.tau_us
        number = math.floor(now / length)
        cur, prev, demand, granted = 0.0, 0.0, self.demand(stored), 0
        if stored is not None:
            turned = (number - stored.number) % 2**32
            if turned == 0 or turned >= 2**31:  # the server's clock went back: what it knows counts now
                cur, prev = stored.cur, stored.prev
            elif turned == 1:
                prev = stored.cur
        if self.apply:
            if self.head.restore:
                cur, prev = (max(cur, entry.known), prev) if entry.before == 0 else (cur, max(prev, entry.known))
            change = entry.debt - entry.back
            ago = number - math.floor((now - entry.age_us) / length)
            most = rule.burst + rule.debt_max
            if ago <= 0:
                cur = min(max(cur + change, 0), most)
            elif ago == 1:
                prev = min(max(prev + change, 0), most)
            room = rule.burst - cur
            if rule.kind == SLIDING:
                room = room - prev * (1 - (now - number * length) / length)
            granted = self.grant(room, demand)
            cur = cur + granted
        state = Window(number % 2**32, cur, prev, _single(demand), self.now_ms)
        return Answer(cur, prev, granted, demand), state, math.ceil(2 * length / 1000) + STATE_TTL_MS

    def held(self, stored: State | None) -> tuple[Answer, Holders, float]:
        """As `bucket`. An absolute account: to be told twice is to be told once."""
        assert stored is None or isinstance(stored, Holders)
        lease_ms, limit = math.floor(self.rule.tau_us / 1000), self.rule.burst
        demand, live = self.demand(stored), []
        for one in () if stored is None else stored.holders:
            forgotten = self.cleared_ms is not None and one.until_ms - lease_ms <= self.cleared_ms
            if one.until_ms > self.full_ms and not forgotten:
                live.append(one)
        others = [one for one in live if one.inst != self.inst]
        mine, granted = sum(one.units for one in live if one.inst == self.inst), 0
        taken = sum(one.units for one in others)
        latest = max((one.until_ms for one in others), default=float(self.full_ms))
        if self.apply:
            granted = self.grant(limit - taken - self.entry.debt, demand)
            mine = self.entry.debt + granted
            if mine:
                latest = float(self.full_ms + lease_ms)
                others.append(Holder(self.inst, mine, latest))
        state = Holders(_single(demand), self.now_ms, tuple(others))
        return Answer(limit - taken - mine, mine, granted, demand), state, max(latest - self.full_ms, STATE_TTL_MS)
