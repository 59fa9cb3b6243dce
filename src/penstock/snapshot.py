"""A limiter in a file: what counts against every key, so that it survives a restart.

    prelude | JSON | rows of the first limit | rows of the second | ...

The prelude says what it is, how long, and the digest of all that follows. Rows are as ext/snapshot/snapshot.h has
them: in times, units and ticks of the limiter that was saved, and nothing of how a table lays them out. They go on in a
limiter that is as old as the saved one was, plus the wall time that has passed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._rows import Pairs, rows_in, section_of
from penstock.errors import SnapshotError
from penstock.keys import Key
from penstock.policy import HORIZON, SLIDING_LOG, SLIDING_WINDOW, TICK_SHIFT, TOKEN_BUCKET, Policy, compile_policies
from penstock.rate import check_count
from penstock.written import UNREADABLE, Tiers, read_key, read_tiers, write_key, write_tiers

if TYPE_CHECKING:
    from penstock._backend import Engine

MAGIC = b"penstock state\r\n"
VERSION = 1
_PRELUDE = struct.Struct("<16sIIQ32s")
"""MAGIC, VERSION, bytes of JSON, bytes of the whole file, a digest of these and of all that follows."""
_UNDIGESTED = 32

Scale = tuple[int, int]
"""(ticks in a nanosecond, times 2**58; ticks in a token): in which a bucket's rows are."""


class Snapshot(NamedTuple):
    """What is saved of a limiter.

    limits: by tier (None: the one without a name). scales: [tier][limit], what buckets' rows are in. capacity, on_full,
    name, remember_names: as for a Limiter. secret: keys the hash. names: of fingerprints, if they were remembered.
    counters: decisions admitted and refused, keys evicted, until then. now_ns: the limiter's own time, which began when
    it was made. wall_ns: since the Unix epoch. rows: of each limit; none of Concurrency.
    """

    limits: Tiers
    scales: list[list[Scale]]
    capacity: int
    on_full: str
    name: str | None
    secret: bytes
    remember_names: bool
    names: dict[int, Key]
    counters: tuple[int, int, int]
    now_ns: int
    wall_ns: int
    rows: list[bytes]


def scales_of(policies: Sequence[Sequence[Policy]]) -> list[list[Scale]]:
    """In what each tier's and limit's buckets count."""
    return [[(policy.ticks_per_ns, policy.token_ticks) for policy in limits] for limits in policies]


# ---- the bytes ----


def pack(snapshot: Snapshot) -> list[bytes]:
    """The parts of the file, in order."""
    fields = snapshot._asdict() | {
        "limits": write_tiers(snapshot.limits),
        "secret": snapshot.secret.hex(),
        "names": [[found, write_key(key)] for found, key in snapshot.names.items()],
        "rows": [len(section) for section in snapshot.rows],
    }
    head = json.dumps(fields, separators=(",", ":")).encode()
    whole = _PRELUDE.size + len(head) + sum(map(len, snapshot.rows))
    prelude = _PRELUDE.pack(MAGIC, VERSION, len(head), whole, bytes(32))[:_UNDIGESTED]
    return [prelude, digest_of((prelude, head, *snapshot.rows)), head, *snapshot.rows]


def digest_of(parts: Iterable[bytes | memoryview]) -> bytes:
    """The digest of a file: of its prelude up to where the digest is, and of what comes after it."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part)
    return digest.digest()


def unpack(data: bytes, path: str) -> Snapshot:
    """The snapshot again. SnapshotError for other bytes; path: what to call them."""
    if not data.startswith(MAGIC[: len(data)]) or not data:
        raise SnapshotError(f"{path} is not a saved limiter")
    if len(data) < _PRELUDE.size:
        raise SnapshotError(f"{path} has only {len(data)} bytes: it was cut off")
    _, version, head_bytes, whole, digest = _PRELUDE.unpack_from(data)
    if version != VERSION:
        raise SnapshotError(f"{path} was saved in format {version}; this penstock reads {VERSION}")
    if len(data) != whole:
        raise SnapshotError(f"{path} has {len(data)} bytes and was saved with {whole}: it was cut off or grew")
    view = memoryview(data)
    if digest_of((view[:_UNDIGESTED], view[_PRELUDE.size :])) != digest:
        raise SnapshotError(f"{path} is damaged: it does not have its digest")
    try:
        return _read(data, head_bytes)
    except UNREADABLE as error:
        raise SnapshotError(f"{path} has contents that this penstock cannot read: {error}") from None


def _read(data: bytes, head_bytes: int) -> Snapshot:
    """One of UNREADABLE for contents that are not as `pack` writes them."""
    at = _PRELUDE.size + head_bytes
    fields: dict[str, Any] = json.loads(data[_PRELUDE.size : at])
    rows = []
    for count in fields["rows"]:
        if not isinstance(count, int) or not 0 <= count <= len(data) - at:
            raise ValueError("rows")
        rows.append(data[at : at + count])
        at += count
    snapshot = Snapshot(
        **fields
        | {
            "limits": read_tiers(fields["limits"]),
            "scales": [[(int(ticks), int(token)) for ticks, token in limits] for limits in fields["scales"]],
            "secret": bytes.fromhex(fields["secret"]),
            "names": {int(found): read_key(key) for found, key in fields["names"]},
            "counters": tuple(map(int, fields["counters"])),
            "rows": rows,
        }
    )
    check_count("capacity", snapshot.capacity)
    compile_policies(list(snapshot.limits.values()), 0)  # refuses what no limiter has
    counts = [len(limits) for limits in snapshot.limits.values()]
    right = {
        "bytes": at == len(data),
        "rows": len(rows) == counts[0],
        "scales": [len(limits) for limits in snapshot.scales] == counts,
        "on_full": snapshot.on_full in ("evict", "deny"),
        "name": snapshot.name is None or isinstance(snapshot.name, str),
        "secret": len(snapshot.secret) == 16,
        "remember_names": isinstance(snapshot.remember_names, bool),
        "counters": len(snapshot.counters) == 3,
        "now_ns": isinstance(snapshot.now_ns, int) and 0 <= snapshot.now_ns <= HORIZON,
        "wall_ns": isinstance(snapshot.wall_ns, int) and abs(snapshot.wall_ns) < 2**80,
    }
    if wrong := [name for name, well in right.items() if not well]:
        raise ValueError(", ".join(wrong))
    return snapshot


# ---- the file ----


def write(path: str, snapshot: Snapshot) -> None:
    """Puts the snapshot in the file's place, all at once, for this user alone. SnapshotError, and the file that was
    there stays, when that fails."""
    unfinished = f"{path}.{os.urandom(6).hex()}.tmp"
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(unfinished, how, 0o600), "wb") as file:
            file.writelines(pack(snapshot))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(os.path.dirname(path))
    except OSError as error:
        raise SnapshotError(f"cannot save to {path}: {error.strerror}") from None
    finally:
        if os.path.lexists(unfinished):
            os.unlink(unfinished)


def _sync_folder(folder: str) -> None:
    """So that the new name outlives a power cut; not every system can."""
    if os.name != "posix":
        return
    fd = os.open(folder or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: str) -> Snapshot:
    """The snapshot in a file. SnapshotError when it cannot be read."""
    how = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, how), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SnapshotError(f"cannot load {path}: it is not a plain file")
            return unpack(file.read(), path)
    except OSError as error:
        raise SnapshotError(f"cannot load {path}: {error.strerror}") from None


# ---- going on from it ----


def go_on(snapshot: Snapshot, wall_ns: int, policies: Sequence[Sequence[Policy]]) -> tuple[int, list[bytes]]:
    """How old the limiter is that goes on from the snapshot at `wall_ns`, and its rows.

    A wall clock that was set back counts as one that stood still. An old limiter, whose time would come to its end, is
    made younger by a time that changes nothing: all its windows have turned a whole number of times in it. Where there
    is no such time, units in a sliding window count as up to one sub-window later than they were.
    """
    age = snapshot.now_ns + max(0, wall_ns - snapshot.wall_ns)
    less = _younger_by(age, policies[0])
    if less == 0 and snapshot.scales == scales_of(policies):
        return min(age, HORIZON), snapshot.rows
    sections = []
    for number, section in enumerate(snapshot.rows):
        of_limit = [limits[number] for limits in policies]
        scales = [limits[number] for limits in snapshot.scales]
        sections.append(
            section_of(
                (found, _moved(pairs, of_limit, scales, snapshot.now_ns, less)) for found, pairs in rows_in(section)
            )
        )
    return min(age - less, HORIZON), sections


def _younger_by(age: int, policies: Sequence[Policy]) -> int:
    """Nanoseconds to take from a limiter's age: 0 unless it is old."""
    most = age - 2 * max(policy.per_ns for policy in policies)  # what still counts must not begin before time 0
    if age <= HORIZON // 4 or most <= 0:
        return 0
    turn = lcm(*(policy.per_ns for policy in policies if policy.algorithm == SLIDING_WINDOW))
    whole = most // turn * turn
    return whole if whole or age <= HORIZON // 2 else most


def _moved(pairs: Pairs, policies: Sequence[Policy], scales: Sequence[Scale], now_ns: int, less: int) -> Pairs:
    """The pairs of a row as of a limiter younger by `less`; without what has not counted since then."""
    policy = policies[0]
    if policy.algorithm == TOKEN_BUCKET:
        tier, tat = pairs[0]
        if tier >= len(policies):
            raise ValueError(f"there is no tier {tier}")
        full = _rescaled(tat, scales[tier], policies[tier], now_ns) - (less * policies[tier].ticks_per_ns >> TICK_SHIFT)
        return [(tier, min(full, 2**63 - 1))] if full > 0 else []
    if policy.algorithm == SLIDING_WINDOW:
        units: dict[int, int] = {}
        for number, count in pairs:
            last = -(-(number + 1) * policy.per_ns // policy.resolution) - 1 - less  # a sub-window's last nanosecond
            if last >= 0:
                moved = min(last, max(now_ns - less, 0)) * policy.resolution // policy.per_ns
                units[moved] = units.get(moved, 0) + count
        return list(units.items())
    kept = [(at - less, count) for at, count in pairs]
    return [(at, count) for at, count in kept if at >= (0 if policy.algorithm == SLIDING_LOG else policy.per_ns)]


def _rescaled(tat: int, scale: Scale, policy: Policy, now_ns: int) -> int:
    """When a bucket is full again, in the policy's ticks: the same part of a token owed, rounded up."""
    ticks_per_ns, token = scale
    if scale == (policy.ticks_per_ns, policy.token_ticks):
        return tat
    if token < 1 or ticks_per_ns < 1:
        raise ValueError(f"scale {scale}")
    owed = max(0, tat - (now_ns * ticks_per_ns >> TICK_SHIFT))
    return (now_ns * policy.ticks_per_ns >> TICK_SHIFT) - (-owed * policy.token_ticks // token)


def fill_with(engine: Engine, rows: Sequence[bytes], names: Mapping[int, Key]) -> None:
    """Puts what was saved into a new engine. SnapshotError for what cannot have been saved of such limits."""
    try:
        engine.fill(rows, names)
    except ValueError as error:
        raise SnapshotError(f"what was saved cannot be read: {error}") from None
