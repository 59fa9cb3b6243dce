"""What a segment's file says of itself, and how that differs from what a limiter wants."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.policy import (
    KAPPA_ONE,
    SHARED,
    TIERS_MOST,
    Policy,
    compile_policies,
    compile_shared,
    for_segment,
)
from penstock.rate import LIMITS_MOST
from penstock.written import Tiers, read_tiers, write_tiers


def boottime_ns() -> int:
    """The clock that counts suspend, as the engine reads it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Header(NamedTuple):
    """What a segment's file says of itself.

    limits: by tier (None: the one without a name). policies: [tier][limit] in an engine's units. capacity, on_full: as
    for a Limiter. secret: keys the hash. clock: "the system's" or "given". sync: "no", or the name that hosts share the
    limits by. birth_ns: when its time was 0, by the clock that counts suspend (CLOCK_BOOTTIME) or by the clock that was
    given; below 0 where it goes on from a saved limiter that is older than the clock. wall_ns: the same as time since
    the Unix epoch.
    """

    limits: Tiers
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
            "limits": write_tiers(self.limits),
            "secret": self.secret.hex(),
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def unpacked(cls, packed: bytes) -> Header:
        """One of penstock.written.UNREADABLE for other bytes."""
        fields = json.loads(packed)
        fields["limits"] = read_tiers(fields["limits"])
        fields["policies"] = [[Policy(*map(int, policy)) for policy in limits] for limits in fields["policies"]]
        fields["secret"] = bytes.fromhex(fields["secret"])
        header = cls(**fields)
        if len(header.secret) != 16 or not isinstance(header.capacity, int) or not 1 <= header.capacity < 2**40:
            raise ValueError("secret or capacity")
        if not all(isinstance(ns, int) and abs(ns) < 2**63 for ns in (header.birth_ns, header.wall_ns)):
            raise ValueError("birth")
        of = {tuple(policy.tail_words for policy in limits) for limits in header.policies}
        if len(of) != 1 or len(header.policies) > TIERS_MOST or not all(1 <= len(words) <= LIMITS_MOST for words in of):
            raise ValueError("policies")
        if not all(words >= 0 for words in header.tail_words) or header.capacity * sum(header.tail_words) >= 2**48:
            raise ValueError("tail words")
        if len(header.policies) != len(header.limits):
            raise ValueError("limits")
        return header

    def agrees(self) -> bool:
        """Whether this penstock would have these policies for these limits: no others are fit to be computed with."""
        tiers, first = list(self.limits.values()), self.policies[0]
        try:
            if self.shared:
                every_ns = max(policy.interval_ns for policy in first)
                return compile_shared(tiers, every_ns, first[0].kappa / KAPPA_ONE) == self.policies
            return for_segment(compile_policies(tiers, self.wall_ns)) == self.policies
        except ValueError:
            return False

    def table_bytes(self) -> int:
        """Bytes that the file has after its header."""
        from penstock._core import segment_bytes

        return segment_bytes(self.capacity, self.tail_words, self.shared)

    @property
    def shared(self) -> bool:
        """Whether its limits are shared through Redis, too."""
        return self.policies[0][0].algorithm == SHARED

    @property
    def tail_words(self) -> list[int]:
        return [policy.tail_words for policy in self.policies[0]]


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """In words, what two sets of settings differ in; None when they don't."""
    different = [name for name in wanted if wanted[name] != found[name]]
    return "; ".join(f"{name} {found[name]}, not {wanted[name]}" for name in different) or None
