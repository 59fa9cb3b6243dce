"""merge.lua in plain Python, on a dict and a clock set by hand: the oracle of its tests, and Redis in simulations.

The arithmetic is the script's, operation for operation, so that both give the same doubles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from penstock.sync.wire import (
    BUCKET,
    DUP,
    ENTRY_BYTES,
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


class MergeError(Exception):
    """The script's error reply."""


class _Kept(NamedTuple):
    value: bytes | int | dict[bytes, int]
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
        stored = [self._state(key, rules[entry.rule]) for key, entry in zip(keys[2:], listed, strict=True)]
        members = self._members(keys[1], head, inst, math.floor(now / 1000))
        last = self._get(keys[0]) or 0
        assert isinstance(last, int)
        status = OK
        if head.seq <= last:
            status = DUP
        elif last != head.acked and not head.restore:
            return pack_reply(Reply(LOST, members, now, ()))
        fresh: dict[Hashable, Bucket | Window] = {}
        answers = []
        for key, entry, old in zip(keys[2:], listed, stored, strict=True):
            rule = rules[entry.rule]
            merge = _Merge(head, rule, entry, now, status == OK)
            step = merge.bucket if rule.kind == BUCKET else merge.window
            answer, state, ttl_ms = step(fresh.get(key, old))
            answers.append(answer)
            if status == OK:
                fresh[key] = state
                layout = "<dfI" if rule.kind == BUCKET else "<IddfI"
                self.put(key, struct.pack(layout, *state), ttl_ms)
        if status == OK:
            self._kept[keys[0]] = _Kept(head.seq, self.now_us // 1000 + SEQUENCE_TTL_MS)
        return pack_reply(Reply(status, members, now, tuple(answers)))

    def _read(
        self, keys: Sequence[Hashable], header: bytes, entries: bytes, inst: bytes
    ) -> tuple[Header, tuple[Rule, ...], list[Entry]]:
        try:
            head, rules, count = unpack_header(header)
            listed = unpack_entries(entries)
        except WireError as error:
            raise MergeError(f"PENSTOCK {error}") from None
        if len(entries) != count * ENTRY_BYTES or len(keys) != count + 2 or len(inst) != 16:
            raise MergeError("PENSTOCK malformed batch")
        if any(entry.rule >= len(rules) for entry in listed):
            raise MergeError("PENSTOCK malformed batch")
        return head, rules, listed

    def _get(self, key: Hashable) -> bytes | int | dict[bytes, int] | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self.now_us // 1000 > kept.until_ms:
            del self._kept[key]
            return None
        return kept.value

    def _state(self, key: Hashable, rule: Rule) -> Bucket | Window | None:
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, bytes) or len(value) != (16 if rule.kind == BUCKET else 28):
            raise MergeError("PENSTOCK foreign value at a key of ours")
        return Bucket(*struct.unpack("<dfI", value)) if rule.kind == BUCKET else Window(*struct.unpack("<IddfI", value))

    def _members(self, key: Hashable, head: Header, inst: bytes, now_ms: int) -> int:
        value = self._get(key)
        alive = dict(value) if isinstance(value, dict) else {}
        if head.beat:
            alive[inst] = now_ms
            alive = {member: min(beat, now_ms) for member, beat in alive.items() if beat >= now_ms - MEMBER_MS}
            self._kept[key] = _Kept(alive, now_ms + MEMBERS_TTL_MS)
        return sum(beat >= now_ms - MEMBER_MS for beat in alive.values())


def _copy(value: bytes | int | dict[bytes, int]) -> bytes | int | dict[bytes, int]:
    return dict(value) if isinstance(value, dict) else value


def _single(value: float) -> float:
    """`value` as four bytes hold it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class _Merge:
    """One entry against one stored state, at one instant. apply: false for a DUP, which only looks."""

    def __init__(self, head: Header, rule: Rule, entry: Entry, now: float, apply: bool) -> None:
        self.head, self.rule, self.entry, self.now, self.apply = head, rule, entry, now, apply
        self.now_ms = math.floor(now / 1000) % 2**32
        self.interval_s = head.interval_us / 1e6
        self.decay_s = max(1.0, 4 * self.interval_s)

    def demand(self, stored: Bucket | Window | None) -> float:
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

    def bucket(self, stored: Bucket | Window | None) -> tuple[Answer, Bucket, float]:
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

    def window(self, stored: Bucket | Window | None) -> tuple[Answer, Window, float]:
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
