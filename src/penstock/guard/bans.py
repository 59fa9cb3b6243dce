"""Bans: how long, on whom, and which there are."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from penstock._records import BAN_MEMORY_MS, Records
from penstock.errors import shown
from penstock.guard.facts import NUMBERS, address_of, place_of
from penstock.guard.scenario import BAN_MOST
from penstock.guard.settings import Bans

KINDS = ("address", "user", "session", "ja4", "account", "endpoint")
"""Facts that can be banned. A ban on an endpoint keeps nobody out: it is limited more strictly."""
BANNING = sum(1 << NUMBERS[kind] for kind in KINDS if kind != "endpoint")
TIGHT = 1 << NUMBERS["endpoint"]
_KIND_OF = {NUMBERS[kind] + 2: kind for kind in KINDS}
REASONS = ("", "by hand", "reputation", "another instance", "detector")
"""Reasons that every guard has; those of scenarios follow, in their order."""


def kind_of_ban(by: str | tuple[str, ...]) -> str | None:
    """Whom what is counted by these facts bans; None where it is what many have in common: a network, a path.

    >>> kind_of_ban(("address", "path")), kind_of_ban(("user",)), kind_of_ban(("endpoint",))
    ('address', 'user', None)
    """
    return next((name for name in by if name in KINDS and name != "endpoint"), None)


class Ban(NamedTuple):
    """A ban in force. id: 16 hex digits, the same in all instances that share a secret; value: None where only the id
    is known (a user, or what another instance has told)."""

    id: str
    kind: str
    value: str | None
    seconds_left: float
    offences: int
    reason: str


class Placed(NamedTuple):
    """A ban as it was placed."""

    key: int
    until_ms: int
    offences: int
    why: int


class BanBook:
    """The bans of one guard, in its records."""

    def __init__(self, records: Records, settings: Bans, reasons: tuple[str, ...], jitter: random.Random) -> None:
        self._records, self._settings, self._jitter = records, settings, jitter
        self.reasons = (REASONS + reasons)[:256]
        self._numbers = {reason: number for number, reason in enumerate(self.reasons)}

    def key(self, kind: str, value: str) -> int:
        """The key of a ban. ValueError for a kind that cannot be banned."""
        if kind not in KINDS:
            raise ValueError(f"kind={shown(kind)} must be one of {', '.join(KINDS)}")
        return self._records.ban_key(NUMBERS[kind], value)

    def place(
        self, kind: str, value: str, seconds: float, reason: str, now: int, exactly: bool = False
    ) -> Placed | None:
        """Bans for `seconds`, times the factor for each offence that is remembered; None without a place for it.

        exactly: for `seconds` as they are, as a person said it. What is banned already has not offended again: what
        else comes of the same burst.
        """
        key = self.key(kind, value)
        offences = self.offences(key, now)
        known = self._records.ban_of(key)
        if known is not None and known[0] * 1_000_000 > now:
            offences = max(0, offences - 1)
        wanted = seconds if exactly else self.length(seconds, offences)
        wanted = min(wanted, self._settings.most, BAN_MOST)
        packed = place_of(value.removeprefix("ip:").partition("/")[0]).packed if kind == "address" else b""
        until = now // 1_000_000 + max(1, math.ceil(wanted * 1000))
        numbers = self._numbers  # strategies have the name of their part in front, the application's detectors any
        why = numbers.get(reason) or numbers.get(reason.partition(".")[0]) or numbers["detector"]
        placed = self._records.ban(key, now, until, min(offences + 1, 63), why, packed or None)
        return None if placed is None else Placed(key, *placed)

    def length(self, seconds: float, offences: int) -> float:
        """Seconds of a ban after so many offences before it."""
        grown = min(seconds * self._settings.factor ** min(offences, 60), self._settings.most)
        return grown * (1 + self._jitter.uniform(-1, 1) * self._settings.jitter)

    def offences(self, key: int, now: int) -> int:
        """Offences that are remembered: one is forgotten for each `memory` seconds since the last ban's end."""
        known = self._records.ban_of(key)
        if known is None:
            return 0
        since = now / 1e6 - known[0]
        memory = min(self._settings.memory * 1000, BAN_MEMORY_MS)
        return max(0, known[1] - (int(since // memory) if since > 0 else 0))

    def apply(self, key: int, until_ms: int, offences: int, now: int) -> None:
        """A ban that another instance has placed."""
        until_ms = min(until_ms, now // 1_000_000 + int(BAN_MOST * 1000))
        self._records.ban(key, now, until_ms, min(offences, 63), REASONS.index("another instance"))

    def reason(self, why: int) -> str:
        return self.reasons[why] if why < len(self.reasons) else ""

    def lift(self, key: int, now: int) -> bool:
        return self._records.unban(key, now)

    def __call__(self, now: int, most: int) -> list[Ban]:
        """The bans in force that last longest."""
        found = sorted(self._records.bans(now), key=lambda ban: -ban[1])[:most]
        return [
            Ban(
                f"{key:016x}",
                _KIND_OF.get(key & 0xFF, "address"),
                self._value(key, packed),
                (until_ms - now // 1_000_000) / 1000,
                offences,
                self.reason(why),
            )
            for key, until_ms, offences, why, packed in found
        ]

    def _value(self, key: int, packed: bytes) -> str | None:
        """The address that is banned; what stands there counts only if it has this key."""
        if key & 0xFF != NUMBERS["address"] + 2 or not any(packed):
            return None
        text = address_of(packed)
        return text if self._records.ban_key(NUMBERS["address"], text) == key else None
