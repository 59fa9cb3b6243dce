"""What an instance remembers of the keys it shares, and the merge it does for itself while Redis is away.

During an outage every instance keeps a part s of each limit: a bucket of s * b filled at s * r. It is kept as Redis
would keep the whole one, with every unit of this instance's counted 1/s times, as if the others went on asking in
proportion; so the engine is answered in the bytes it knows, with rooms and demands of the whole limit, and takes its
part of them as ever. Of units held it has s * b, all of them leased. Pure: no I/O, and time is an argument, in us of
the server's clock.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from struct import unpack

from penstock.sync.wire import (
    BUCKET,
    HELD,
    OK,
    SLIDING,
    Answer,
    Entry,
    Reply,
    Rule,
    pack_entries,
    pack_reply,
    unpack_entries,
)

DRIFT_US = 60_000_000
"""So long it takes for a part that was observed before an outage to become 1/N."""
US = 1_000_000


class Known:
    """One key under one rule, as Redis had it last, or as the stand-in has it.

    tat_us of a bucket; number, cur and prev of a window; cur of units held: what this instance has of them. own, all:
    demand of this instance and of all, units/s, of own_us. heard: the tat_us or cur that Redis told last, of window
    heard_number. out: units admitted in an outage and not reported yet, seen those asked for. part: s when it began.
    """

    __slots__ = (
        "all", "cur", "heard", "heard_number", "number", "out", "outage", "own", "own_us", "part", "prev", "seen",
        "tat_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.tat_us = self.cur = self.prev = self.own = self.all = self.own_us = self.part = self.heard = 0.0
        self.number = self.heard_number = self.out = self.seen = self.outage = 0

    def asked(self, seen: int, now_us: float, decay_s: float) -> None:
        """Adds `seen` units to this instance's demand, as merge.lua does to that of all."""
        passed = max(0.0, now_us - self.own_us) / US
        self.own = self.own * math.exp(-passed / decay_s) + seen / decay_s
        self.own_us = now_us


class StandIn:
    """The keys of one partition. most: keys that are remembered; those not heard of for longest go first.

    overuse: units below empty that were ever seen, of all instances; what of them is not made up for yet is `owed`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[tuple[int, int], Known] = OrderedDict()
        self._unreported: dict[tuple[int, int], None] = {}
        self._owing: dict[tuple[int, int], tuple[float, float]] = {}
        self._outage = 0
        self._began_us = 0.0
        self.overuse = 0.0

    # ---- while Redis answers ----

    def learn(self, rules: Sequence[Rule], entries: bytes, fps: bytes, reply: Reply, interval_us: int) -> bool:
        """Notes what Redis said of a batch's keys. True when any of them has room for a unit, or was leased one."""
        decay_s = max(1.0, 4 * interval_us / US)
        helped = False
        for entry, fp, answer in zip(_entries(entries), _fps(fps), reply.answers, strict=True):
            rule = rules[entry.rule]
            known = self._touch((entry.rule, fp))
            known.asked(entry.seen, reply.now_us, decay_s)
            known.all = answer.demand
            room = answer.a
            if rule.kind == BUCKET:
                known.tat_us = known.heard = answer.b
                self._note_debt((entry.rule, fp), rule, answer, reply.now_us)
            elif rule.kind == HELD:
                known.cur = answer.b
            else:
                known.number = known.heard_number = math.floor(reply.now_us / rule.tau_us)
                known.cur, known.prev = answer.a, answer.b
                known.heard = answer.a
                room = _window_room(rule, known, reply.now_us)
            helped = helped or answer.grant > 0 or room >= 1
        return helped

    def _note_debt(self, name: tuple[int, int], rule: Rule, answer: Answer, now_us: float) -> None:
        """Keeps count of the debts seen: units below an empty bucket, and when they are filled up again."""
        before = self._owing.pop(name, None)
        if answer.a < 0:
            left = 0.0 if before is None else max(0.0, (before[0] - now_us) / before[1])
            self.overuse += max(0.0, -answer.a - left)
            self._owing[name] = (now_us - answer.a * rule.tau_us, rule.tau_us)

    def owed(self, now_us: float) -> float:
        """Units of the debts seen that are not filled up yet."""
        return sum(max(0.0, (until - now_us) / tau_us) for until, tau_us in self._owing.values())

    def forget(self, fp: int | None, rules: int) -> None:
        """A key, or every one, was made as good as new. rules: how many there are."""
        for name in list(self._known) if fp is None else [(rule, fp) for rule in range(rules)]:
            self._known.pop(name, None)
            self._unreported.pop(name, None)
            self._owing.pop(name, None)

    def restore(self, rules: Sequence[Rule], entries: bytes, fps: bytes, now_us: float) -> tuple[bytes, bytes]:
        """A batch with all that Redis ever told in the fields for a restore: its entries, then other keys'."""
        told = {}
        for entry, fp in zip(_entries(entries), _fps(fps), strict=True):
            name = (entry.rule, fp)
            told[name] = _restored(rules[entry.rule], entry, self._known.get(name), now_us)
        for name, known in self._known.items():
            blank = Entry(name[0], debt=int(known.cur) if rules[name[0]].kind == HELD else 0)
            if name not in told and (entry := _restored(rules[name[0]], blank, known, now_us)) != Entry(name[0]):
                told[name] = entry
        return pack_entries(told.values()), b"".join(fp.to_bytes(8, "little") for _, fp in told)

    # ---- while it does not ----

    def begin(self, now_us: float) -> None:
        """An outage begins: parts are what they were, and drift from now on."""
        self._outage += 1
        self._began_us = now_us

    def settle(
        self,
        rules: Sequence[Rule],
        entries: bytes,
        fps: bytes,
        *,
        now_us: float,
        interval_us: int,
        instances: int,
        mode: str,
        sent: bool = False,
    ) -> bytes:
        """Answers the engine in Redis' place: the bytes of a reply.

        mode: "share"; "open", where a bucket never owes, since what is admitted has no bound; "closed", where nothing
        is leased. sent: whether the entries are on their way to Redis already, and so are not to be reported.
        """
        decay_s = max(1.0, 4 * interval_us / US)
        answers = []
        for entry, fp in zip(_entries(entries), _fps(fps), strict=True):
            rule, name = rules[entry.rule], (entry.rule, fp)
            known = self._touch(name)
            part = self._part(known, now_us, instances)
            known.asked(entry.seen, now_us, decay_s)
            demand = min(known.own / part, 1e30)
            if rule.kind not in (BUCKET, HELD):
                _turn(rule, known, now_us)
            if not sent:
                known.seen += entry.seen
                known.out += 0 if rule.kind == HELD else entry.debt
                if entry.debt or known.seen:
                    self._unreported[name] = None
            if rule.kind == HELD:
                # The part is leased as a whole, and there is no room beside it: none must be believed in afterwards.
                granted = max(0, math.floor(part * rule.burst) - entry.debt) if mode == "share" else 0
                known.cur = entry.debt + granted
                answers.append(Answer(0.0, known.cur, granted, demand))
                continue
            units = (entry.debt - entry.back) / part
            most = 0.0 if mode == "open" else rule.debt_max
            if rule.kind == BUCKET:
                tat = max(known.tat_us, now_us - entry.age_us) + units * rule.tau_us
                tat = min(tat, now_us + (rule.burst + most) * rule.tau_us)
                room = rule.burst - (max(tat, now_us) - now_us) / rule.tau_us
            else:
                known.cur = min(max(known.cur + units, 0.0), rule.burst + most)
                room = _window_room(rule, known, now_us)
            granted = min(entry.want, max(0, math.floor(part * room))) if mode == "share" else 0
            if rule.kind == BUCKET:
                known.tat_us = max(tat, now_us) + granted / part * rule.tau_us if granted else tat
                a, b = room - granted / part, known.tat_us
            else:
                known.cur += granted / part
                a, b = known.cur, known.prev
            answers.append(Answer(a, b, granted, demand))
        return pack_reply(Reply(OK, instances, now_us, tuple(answers)))

    def _part(self, known: Known, now_us: float, instances: int) -> float:
        """s: this instance's part of a key, from what it was before the outage to 1/N."""
        even = 1 / instances
        if known.outage != self._outage:
            known.outage = self._outage
            known.part = even if known.all <= 0 else min(1.0, max(known.own / known.all, even / 4))
        return known.part + (even - known.part) * min(1.0, max(0.0, now_us - self._began_us) / DRIFT_US)

    @property
    def unreported(self) -> bool:
        """Whether there is anything to tell Redis of the outage."""
        return bool(self._unreported)

    @property
    def unsettled(self) -> int:
        """Units that Redis was not told of, admitted in this outage."""
        return sum(self._known[name].out for name in self._unreported if name in self._known)

    def report(self, rules: Sequence[Rule], most: int, *, now_us: float, instances: int) -> tuple[bytes, bytes]:
        """(entries, fingerprints) of up to `most` keys: what of the outage's use still counts, and no more.

        That is what the local bucket lacks: the rest has been refilled meanwhile. Telling all of it would black the key
        out, telling nothing would give its burst away once more.
        """
        entries: list[Entry] = []
        fps: list[bytes] = []
        while self._unreported and len(entries) < most:
            name = next(iter(self._unreported))
            del self._unreported[name]
            known = self._known.get(name)
            if known is None:
                continue
            rule, part = rules[name[0]], self._part(known, now_us, instances)
            if rule.kind == BUCKET:
                lacking = max(0.0, known.tat_us - now_us) / rule.tau_us
            elif rule.kind != HELD:
                _turn(rule, known, now_us)
                lacking = known.cur
            held = rule.kind == HELD  # an absolute account
            debt = int(known.cur) if held else min(known.out, math.floor(part * lacking + 0.5))
            entries.append(Entry(name[0], debt=min(debt, 2**32 - 1), seen=min(known.seen, 2**32 - 1)))
            fps.append(name[1].to_bytes(8, "little"))
            known.out = known.seen = 0
        return pack_entries(entries), b"".join(fps)

    def _touch(self, name: tuple[int, int]) -> Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = Known()
            if len(self._known) > self._most:
                gone, _ = self._known.popitem(last=False)
                self._owing.pop(gone, None)
        else:
            self._known.move_to_end(name)
        return known


def _entries(packed: bytes) -> list[Entry]:
    return unpack_entries(packed)


def _fps(packed: bytes) -> tuple[int, ...]:
    return unpack(f"<{len(packed) // 8}Q", packed)


def _restored(rule: Rule, entry: Entry, known: Known | None, now_us: float) -> Entry:
    """The entry with what Redis told of its key, unless that is over: a full bucket, an old window."""
    if known is None or rule.kind == HELD:  # what is held is told as it is
        return entry
    if rule.kind == BUCKET:
        return entry._replace(known=known.heard if known.heard > now_us else 0.0)
    before = math.floor(now_us / rule.tau_us) - known.heard_number
    return entry._replace(before=before, known=known.heard) if before in (0, 1) else entry


def _turn(rule: Rule, known: Known, now_us: float) -> None:
    """Brings a window's counts to the window that holds now; what was admitted in an earlier one is not reported."""
    number = math.floor(now_us / rule.tau_us)
    if number > known.number:
        known.prev = known.cur if number == known.number + 1 else 0.0
        known.cur, known.out, known.number = 0.0, 0, number


def _window_room(rule: Rule, known: Known, now_us: float) -> float:
    room = rule.burst - known.cur
    if rule.kind == SLIDING:
        room -= known.prev * (1 - (now_us % rule.tau_us) / rule.tau_us)
    return room
