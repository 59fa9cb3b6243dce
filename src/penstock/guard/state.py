"""Where a guard's records are: in memory of its own, or in a file that all workers of the host have."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock._records import Records, Rule, records_bytes
from penstock.clock import Clock
from penstock.segment.file import join
from penstock.segment.header import boottime_ns, difference
from penstock.segment.options import Segment
from penstock.sync.names import namespace_secret

RECORDS_PER_CLIENT = 8
"""Places for records that a client is given: what all parts together count about one."""
BANS_PER_CLIENT = 4
"""Clients for each place of a ban."""


class GuardHeader(NamedTuple):
    """What the file says of itself. rules: a digest of what is counted; birth_ns, wall_ns: when its time was 0, by the
    clock that counts suspend (or the one that was given), and since the Unix epoch."""

    rules: str
    capacity: int
    bans: int
    secret: bytes
    clock: str
    birth_ns: int
    wall_ns: int

    def packed(self) -> bytes:
        return json.dumps(self._asdict() | {"secret": self.secret.hex(), "guard": 1}, separators=(",", ":")).encode()

    @classmethod
    def unpacked(cls, packed: bytes) -> GuardHeader:
        fields: dict[str, Any] = json.loads(packed)
        if fields.pop("guard") != 1:
            raise ValueError("it is no guard's")
        header = cls(**fields | {"secret": bytes.fromhex(fields["secret"])})
        if len(header.secret) != 16 or not all(1 <= one < 2**36 for one in (header.capacity, header.bans)):
            raise ValueError("secret or capacity")
        if not all(isinstance(ns, int) and abs(ns) < 2**63 for ns in (header.birth_ns, header.wall_ns)):
            raise ValueError("birth")
        return header

    def table_bytes(self) -> int:
        return records_bytes(self.capacity, self.bans)


class State(NamedTuple):
    """The records, when their time was 0 by the clock and since the Unix epoch (ns), and the 16 bytes that key
    hashes."""

    records: Records
    birth_ns: int
    wall_ns: int
    secret: bytes


def open_state(
    rules: Sequence[Rule], clients: int, secret: bytes | None, name: str | None, synced: bool, clock: Clock | None,
    now_ns: int, wall_ns: int, segment: Segment | None,
) -> State:  # fmt: skip
    """Makes the records, or joins those of the host. Raises MemoryError, SegmentError, ValueError."""
    if secret is not None:
        secret = hashlib.blake2b(secret, digest_size=16, person=b"penstock guard").digest()
    if synced:
        if name is None:
            raise ValueError("sync needs a name that instances share by: Guard(…, name=…, sync=…)")
        secret = namespace_secret(name, secret)
    capacity, bans = clients * RECORDS_PER_CLIENT, max(64, clients // BANS_PER_CLIENT)
    if segment is None:
        secret = os.urandom(16) if secret is None else secret
        return State(Records(rules, capacity, bans, secret), now_ns - 1, wall_ns - 1, secret)
    digest = hashlib.blake2b(repr(list(rules)).encode(), digest_size=16).hexdigest()
    kind = "the system's" if clock is None else "given"

    def make() -> GuardHeader:
        birth_ns = (boottime_ns() if clock is None else now_ns) - 1
        return GuardHeader(
            digest, capacity, bans, os.urandom(16) if secret is None else secret, kind, birth_ns, wall_ns - 1
        )

    def differs(found: GuardHeader) -> str | None:
        wanted = {"clients": capacity // RECORDS_PER_CLIENT, "clock": kind}
        there = {"clients": found.capacity // RECORDS_PER_CLIENT, "clock": found.clock}
        if wrong := difference(wanted, there):
            return wrong
        if found.rules != digest:
            return "another configuration, or another version of penstock, counts other things"
        return "another secret" if secret is not None and secret != found.secret else None

    opened = join(segment, make, differs, kind=GuardHeader)
    header: GuardHeader = opened.header
    records = Records(rules, header.capacity, header.bans, header.secret, opened)
    return State(records, header.birth_ns, header.wall_ns, header.secret)
