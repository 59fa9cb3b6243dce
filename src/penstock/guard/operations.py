"""What an operator does by hand and looks at: bans, lists, emergency mode, one address, the whole's state."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._records import Records
from penstock.clock import Clock
from penstock.errors import PenstockError, SegmentError, shown
from penstock.guard import tracking
from penstock.guard.bans import BANNING, KINDS, Ban, BanBook
from penstock.guard.conditions import Conditions
from penstock.guard.config import Config
from penstock.guard.detectors import Found
from penstock.guard.events import Events, pseudonym
from penstock.guard.facts import ADDRESS, Facts, Reader, place_of, subject
from penstock.guard.geo import Geo
from penstock.guard.limits import LimitSet
from penstock.guard.listing import SharedLists
from penstock.guard.request import Request
from penstock.guard.scenario import Scenario
from penstock.guard.statistics import Statistics
from penstock.guard.verdict import Evidence, Severity

if TYPE_CHECKING:
    from penstock.guard.exchange import Change, Exchange

NEUTRAL = 50.0
"""The reputation of an address of which nothing is known; 0 is the worst, 100 the best."""
ALL = (1 << 63) - 1
"""All conditions."""


class Assessment(NamedTuple):
    """What is known about an address. risk: "low", "medium" from 40, "high" from 60, "critical" from 80, by score, 0 to
    100; recommendation: "allow", "monitor", "challenge" or "block"; reputation: 0 to 100, 50 when nothing is known;
    counts: {scenario: (counted, allowed)} of those that have counted something."""

    address: str
    score: float
    risk: str
    recommendation: str
    reputation: float
    listed: str | None
    ban: Ban | None
    counts: dict[str, tuple[int, int]]
    country: str | None
    asn: int | None


class Operations:
    """The operator's side of a guard; Guard is this with the requests' side."""

    config: Config
    shared: str | None
    events: Events
    statistics: Statistics
    _bans: BanBook
    _clock: Clock
    _conditions: Conditions
    _errors: Mapping[str, int]
    _exchange: Exchange | None
    _geo: Geo | None
    _in_path: bool
    _limits: LimitSet | None
    _lists: SharedLists
    _reader: Reader
    _records: Records
    _scenarios: list[Scenario]
    _score: int | None
    _secret: bytes
    _top: dict[str, list[int]]
    _tracker: tracking.Tracker | None
    _wall_ns: int

    def _time(self) -> int:
        raise NotImplementedError

    def _fired(self, over: tuple[tuple[int, int], ...], facts: Facts, now: int, found: list[Found]) -> None:
        raise NotImplementedError

    def _ban(
        self, whom: tuple[str, str], seconds: float, reason: str, now: int, exactly: bool = False, why: str = ""
    ) -> float | None:
        raise NotImplementedError

    def _tell(self, kind: str, key: str, until: float = 0.0, offences: int = 0, reason: str = "") -> None:
        raise NotImplementedError

    def _condition_failed(self, scenario: str, deny: bool) -> None:
        raise NotImplementedError

    # ---- by hand ----

    def _whom(self, value: str, kind: str) -> tuple[str, str]:
        if not isinstance(value, str) or not value:
            raise ValueError(f"value={shown(value)} must be a text, of the kind {shown(kind)}")
        if kind == "address" and not value.startswith("peer:"):
            plain = value.removeprefix("ip:")
            place = place_of(plain.removesuffix("/64") if ":" in plain else plain)
            if not place.packed:
                raise ValueError(f"value={shown(value)} must be an address, such as '192.0.2.1'")
            return kind, str(place.key)
        return kind, value

    def ban(self, value: str, seconds: float | None = None, reason: str = "by hand", kind: str = "address") -> Ban:
        """Bans an address (or a "user", "session", "ja4", "account") for `seconds`, at most 30 days; None: 3600, longer
        for each ban before. For ever is `deny`. reason: told in the event; `bans` says "by hand". Raises ValueError for
        other values, PenstockError when there is no place for it."""
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 30 * 86_400
        ):
            raise ValueError(f"seconds={shown(seconds)} must be more than 0 and at most 2592000 (30 days)")
        whom = self._whom(value, kind)
        now = self._time()
        left = self._ban(whom, seconds or 3600.0, "by hand", now, seconds is not None, reason)
        if left is None:
            raise PenstockError("there is no place for another ban; give the guard more clients=")
        key = self._bans.key(*whom)
        known = self._records.ban_of(key)
        return Ban(f"{key:016x}", whom[0], whom[1], left, known[1] if known else 1, reason)

    def unban(self, value: str, kind: str = "address") -> bool:
        """Ends a ban, by its value or its id; whether there was one. A later ban is longer all the same."""
        now = self._time()
        if kind == "id":
            if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{16}", value) or int(value[14:], 16) < 2:
                raise ValueError(f"value={shown(value)} must be 16 hex digits, as a ban's id")
            key = int(value, 16)
        else:
            key = self._bans.key(*self._whom(value, kind))
        lifted = self._bans.lift(key, now)
        self._tell("unban", f"{key:016x}", self._clock.wall_ns() / 1e9, reason="by hand")
        return lifted

    def bans(self, n: int = 100) -> list[Ban]:
        """The bans in force that last longest."""
        return self._bans(self._time(), n)

    def allow(self, entry: str, reason: str = "") -> str:
        """Lets an address or a network in, whatever else is known of it; returns the entry in its one spelling."""
        return self._list("allow", entry, reason)

    def deny(self, entry: str, reason: str = "") -> str:
        """Keeps an address or a network out, until `unlist`; where it is allowed too, it is let in."""
        return self._list("deny", entry, reason)

    def _list(self, kind: str, entry: str, reason: str) -> str:
        spelt = self._lists.add(kind, entry, reason)
        self._tell(kind, spelt, reason=reason)
        return spelt

    def unlist(self, entry: str) -> bool:
        """Takes an entry off both lists; whether it was on one."""
        found = self._lists.remove(entry)
        self._tell("remove", entry)
        return found

    def load_feed(self, name: str, path: str | os.PathLike[str], level: int | None = None) -> int:
        """Puts a feed from a file in use, once it is whole; its entries. Raises OSError, ValueError."""
        return len(self._lists.load_feed(name, path, level))

    def _apply(self, changes: list[Change]) -> None:
        """What other instances have told."""
        now = self._time()
        for one in changes:
            if one.kind == "ban":
                until_ms = int((one.until - self._wall_ns / 1e9) * 1000)
                if until_ms > now // 1_000_000:
                    self._bans.apply(int(one.key, 16), until_ms, one.offences, now)
            elif one.kind == "unban":
                self._bans.lift(int(one.key, 16), now)
            elif one.kind == "remove":
                self._lists.remove(one.key)
            else:
                self._lists.add(one.kind, one.key, one.reason)

    def emergency(self, on: bool | None) -> None:
        """Emergency mode by hand: on, off, or as the traffic says (None)."""
        if on is not None and not isinstance(on, bool):
            raise TypeError(f"on must be True, False or None, not {shown(on)}")
        self._records.override(0 if on is None else 1 if on else 2)

    @property
    def emergency_on(self) -> bool:
        """Whether limits are those of an emergency now."""
        until, manual = self._records.emergency
        return manual == 1 or (manual == 0 and until > 0 and self._time() < until)

    # ---- what is known ----

    def assess(self, address: str) -> Assessment:
        """What is known about an address; counts nothing. ValueError for what is no address."""
        _, key = self._whom(address, "address")
        now = self._time()
        place = place_of(address)
        facts = self._reader.read(Request(address), place)
        reputation = NEUTRAL
        if self._score is not None:
            reputation += self._records.score(self._score, facts, now) or 0.0
        counts = self._records.counts(0, len(self._scenarios), facts, now)
        loads = {
            one.name: (count, one.capacity)
            for one, count in zip(self._scenarios, counts, strict=True)
            if count and one.by == ("address",)
        }
        listed = self._lists.judge(address)
        found = self._records.banned(facts, BANNING, now)
        ban = None
        if found is not None:
            ban_key = self._records.ban_key(found[0], facts[found[0]] or "")
            ban = Ban(f"{ban_key:016x}", "address", key, found[1] / 1000, found[2], self._bans.reason(found[3]))
        load = max((count / (allowed + 1) for name, (count, allowed) in loads.items() if allowed), default=0.0)
        score = min(100.0, max(0.0, (NEUTRAL - reputation) * 2) + 40 * min(1.0, load))
        if ban is not None or (listed is not None and listed.kind != "allow"):
            score = 100.0
        if listed is not None and listed.kind == "allow":
            score = 0.0
        risk, advice = next(
            (risk, advice)
            for least, risk, advice in (
                (80, "critical", "block"),
                (60, "high", "challenge"),
                (40, "medium", "monitor"),
                (0, "low", "allow"),
            )
            if score >= least
        )
        where = self._geo.lookup(address) if self._geo is not None else None
        return Assessment(
            address,
            round(score, 1),
            risk,
            advice,
            round(reputation, 1),
            None if listed is None else f"{listed.kind} {listed.entry}",
            ban,
            loads,
            where.country if where else None,
            where.asn if where else None,
        )

    def track_connection(self, ja4: str | None, ip: str) -> dict[str, tracking.RateMetrics]:
        """Counts a connection and says what each strategy of `tracking` has counted, whatever that means for it."""
        if self._tracker is None:
            raise ValueError("the guard's configuration has no tracking=")
        now = self._time()
        facts = self._reader.read(Request(ip, ja4=ja4), place_of(ip))
        self._records.feed(self._tracker.first, self._tracker.last, facts, ALL, now)
        return self._tracker.metrics(self._records, facts, now)

    def check_for_bypass(self, request: Request, auto_block: bool = True) -> tuple[Evidence, ...]:
        """Counts a request for the bypass detectors alone; the evidence, empty for none. auto_block: bans whom evidence
        from HIGH on convicts, for 3600 s at first. Not to be called beside `inspect`, which does the same."""
        if self.config.bypass is None:
            raise ValueError("the guard's configuration has no bypass=")
        now = self._time()
        facts = self._reader.read(request, place_of(request.address))
        mask = self._conditions.of(request, facts, 0, self._condition_failed)
        found: list[Found] = []
        for number, scenario in enumerate(self._scenarios):
            if scenario.name.startswith("bypass.") and scenario.on == "request":
                self._fired(self._records.feed(number, number + 1, facts, mask, now), facts, now, found)
        grave = [one for one in found if one.evidence.severity >= Severity.HIGH and one.evidence.technique is not None]
        if auto_block and grave and facts[ADDRESS] is not None and not self.config.dry_run:
            self._ban(("address", str(facts[ADDRESS])), self.config.bypass.ban, grave[0].evidence.detector, now)
        return tuple(one.evidence for one in found)

    def remaining(self, request: Request) -> dict[str, int]:
        """What each limit has left for a request, which is not counted."""
        if self._limits is None:
            return {}
        return self._limits.remaining(self._reader.read(request, place_of(request.address)))

    def forget(self, value: str, kind: str = "address") -> int:
        """Erases what is known about an address or another fact: counts, reputation, bans, limits, stored detections;
        how many of these there were. Lists stay: they are the operator's word."""
        if kind not in self._reader.numbers:
            raise ValueError(f"kind={shown(kind)} must be one of {', '.join(self._reader.names)}")
        if kind in KINDS:
            _, value = self._whom(value, kind)
        facts: list[str | None] = [None] * len(self._reader.names)
        facts[self._reader.numbers[kind]] = value
        if kind in ("user", "session"):
            facts[self._reader.numbers["account"]] = subject(kind, value)
        gone = self._records.forget(tuple(facts))
        if self._limits is not None:
            self._limits.forget(tuple(facts))
        self._top.pop(value, None)
        told = value if kind == "address" else subject(kind, value).partition(":")[2]  # as events have hashed it
        return gone + self.events.forget(pseudonym(self._secret, told))

    def status(self) -> dict[str, Any]:
        """Everything that an operator looks at, as plain values; addresses are masked."""
        now = self._time()
        until, manual = self._records.emergency
        counts = self.events.counts()
        ranked = sorted(self._top.items(), key=lambda item: -item[1][0])[:20]
        return {
            "enabled": self.config.parts,
            "statistics": self.statistics.read(),
            "tiers": self.statistics.tiers(),
            "actions": self.statistics.actions(),
            "refusals": self.statistics.refusals(),
            "top": [{"address": masked(key), "requests": of[0], "refused": of[1]} for key, of in ranked],
            "bans": [one._asdict() | {"value": masked(one.value)} for one in self._bans(now, 100)],
            "emergency": {
                "on": self.emergency_on,
                "manual": {0: None, 1: True, 2: False}.get(manual),
                "seconds": max(0.0, (until - now) / 1e9),
            },
            "health": {
                "in_path": self._in_path,
                "shared": self._shared_state(),
                "redis": "off" if self._exchange is None else self._exchange.state(),
                "geoip": "off" if self._geo is None else self._geo.state,
                "feeds": self._lists.feeds(),
                "events": {
                    "queued": counts.queued,
                    "dropped": counts.dropped,
                    "told": counts.told,
                    "failed": counts.failed,
                },
                "dry_run": self.config.dry_run,
                "detector_errors": dict(self._errors),
                "memory": self._records.bytes,
            },
        }

    def _shared_state(self) -> str | None:
        """The segment's path, with what is wrong with it."""
        if self.shared is None:
            return None
        try:
            self._records.check()
        except SegmentError as error:
            return f"{self.shared}: {error}"
        return self.shared


def masked(key: str | None) -> str | None:
    """An address as a page may show it.

    >>> masked("ip:203.0.113.7"), masked("ip:2001:db8:1:2::/64")
    ('203.0.x.x', '2001:db8:…')
    """
    if key is None:
        return None
    text = key.removeprefix("ip:")
    if ":" in text:
        return ":".join(text.split(":")[:2]) + ":…"
    parts = text.split(".")
    return f"{parts[0]}.{parts[1]}.x.x" if len(parts) == 4 else "…"
