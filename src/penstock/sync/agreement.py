"""What all instances of a namespace must have in common, as they leave it in Redis for each other."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

from penstock.sync.wire import VERSION, Rule

_LAYOUT = struct.Struct("<BBH8s8s")
TTL_MS = 120_000
"""So long it holds after the last instance that renewed it; renew it a few times in this."""


class Agreement(NamedTuple):
    """partitions: of the namespace. secret, limits: 8 bytes each, which differ where those do and tell nothing else."""

    partitions: int
    secret: bytes
    limits: bytes

    def pack(self) -> bytes:
        """As it is in Redis: '<BBH8s8s', version, 0, and the fields."""
        return _LAYOUT.pack(VERSION, 0, self.partitions, self.secret, self.limits)

    def conflict(self, found: bytes) -> str | None:
        """What other instances, which left `found`, have otherwise, and what comes of it; None when nothing."""
        if len(found) != _LAYOUT.size or found[0] != VERSION:
            return "other instances of this name are of another version of penstock, or no instances of ours at all"
        _, _, partitions, secret, limits = _LAYOUT.unpack(found)
        if partitions != self.partitions:
            return (
                f"other instances of this name have {partitions} partitions, this one {self.partitions}: some talk to a"
                " cluster and some to a server, and they do not share"
            )
        if secret != self.secret:
            return "other instances of this name have another secret: their keys are not ours, and they do not share"
        if limits != self.limits:
            return "other instances of this name have other limits: each settles by its own"
        return None


def agreement_of(partitions: int, secret: bytes, rules: Sequence[Rule]) -> Agreement:
    """What this instance stands for. secret: the namespace's 16 bytes; rules: of all tiers, in order."""
    limits = "\n".join(f"{rule.kind} {rule.tau_us!r} {rule.burst!r}" for rule in rules)
    return Agreement(partitions, _check(secret, b"secret"), _check(secret, b"limits\n" + limits.encode()))


def _check(secret: bytes, what: bytes) -> bytes:
    return hashlib.blake2s(what, digest_size=8, key=secret, person=b"agrees").digest()
