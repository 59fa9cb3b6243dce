"""What a segment's file says of itself, and how that differs from what a limiter wants."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from penstock.policy import SHARED, TIERS_MOST, Policy
from penstock.rate import LIMITS_MOST


def boottime_ns() -> int:
    """The clock that counts suspend, as the engine reads it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Header(NamedTuple):
    """What a segment's file says of itself.

    limits: by tier (None: the one without a name) the limits as they are written. policies: [tier][limit] in an
    engine's units. capacity, on_full: as for a Limiter. secret: keys the hash. clock: "the system's" or "given".
    sync: "no", or the name that hosts share the limits by. birth_ns: when it was made, by the clock that counts suspend
    (CLOCK_BOOTTIME), or by the clock that was given. wall_ns: the same as time since the Unix epoch.
    """

    limits: dict[str | None, list[str]]
    policies: list[list[Policy]]
    capacity: int
    on_full: str
    secret: bytes
    clock: str
    sync: str
    birth_ns: int
    wall_ns: int

    def packed(self) -> bytes:
        """The JSON of the file."""
        fields = self._asdict() | {
            "limits": [[tier, limits] for tier, limits in self.limits.items()],
            "secret": self.secret.hex(),
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def unpacked(cls, packed: bytes) -> Header:
        """ValueError, KeyError, TypeError, OverflowError or RecursionError for other bytes."""
        fields = json.loads(packed)
        fields["limits"] = {tier: [str(limit) for limit in limits] for tier, limits in fields["limits"]}
        fields["policies"] = [[Policy(*map(int, policy)) for policy in limits] for limits in fields["policies"]]
        fields["secret"] = bytes.fromhex(fields["secret"])
        header = cls(**fields)
        if len(header.secret) != 16 or not 1 <= header.capacity < 2**40:
            raise ValueError("secret or capacity")
        if not all(isinstance(ns, int) and 0 <= ns < 2**63 for ns in (header.birth_ns, header.wall_ns)):
            raise ValueError("birth")
        of = {tuple(policy.tail_words for policy in limits) for limits in header.policies}
        if len(of) != 1 or len(header.policies) > TIERS_MOST or not all(1 <= len(words) <= LIMITS_MOST for words in of):
            raise ValueError("policies")
        if not all(words >= 0 for words in header.tail_words) or header.capacity * sum(header.tail_words) >= 2**48:
            raise ValueError("tail words")
        return header

    @property
    def shared(self) -> bool:
        """Whether its limits are shared through Redis, too."""
        return self.policies[0][0].algorithm == SHARED

    @property
    def tail_words(self) -> list[int]:
        return [policy.tail_words for policy in self.policies[0]]


def describe(limits: Mapping[str | None, Sequence[object]]) -> dict[str | None, list[str]]:
    """Limits by tier, as people write them."""
    return {tier: [repr(limit) for limit in of] for tier, of in limits.items()}


def wording(limits: Mapping[str | None, Sequence[str]]) -> str:
    """Limits by tier on one line."""
    return "; ".join(("" if tier is None else f"{tier}: ") + ", ".join(of) for tier, of in limits.items())


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """In words, what two sets of settings differ in; None when they don't."""
    different = [name for name in wanted if wanted[name] != found[name]]
    return "; ".join(f"{name} {found[name]}, not {wanted[name]}" for name in different) or None
