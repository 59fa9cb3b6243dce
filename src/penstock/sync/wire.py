"""What instances and Redis say to each other, byte by byte; merge.lua is the other side of it.

Everything is little endian and without padding. A batch is a header (with the table of rules), and entries that name
their rules by index; the answer has one part per entry. Times are microseconds, of the server's clock since 2025-01-01
UTC where they are points in time; amounts are units of the limit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

VERSION = 2
EPOCH_S = 1_735_689_600
"""Unix time of 2025-01-01 UTC, where the server's microseconds are counted from."""

BUCKET, FIXED, SLIDING, HELD = range(4)
"""Kinds of rules: token bucket, fixed window, sliding window, units that are held and given back."""
OK, DUP, LOST = range(3)
"""What became of a batch: applied; applied before, so not again; not applied, for Redis has lost writes since."""
RESTORE = 1
"""Flag of a batch that follows LOST: take it on, and what its entries know of earlier times."""
FORGET = 2
"""Flag of a batch that makes its keys as good as new; its entries are as `forgetting` makes them."""
EVERYTHING = 0
"""In place of a fingerprint, which none is: every key of the partition."""
LEASE_NS = 10_000_000_000
"""So long Redis counts what an instance holds, if it does not hear of it again."""
ENTRIES_MOST = 200

_HEADER = struct.Struct("<IIIIHHBBd")
_RULE = struct.Struct("<Bddddd")
ENTRY = struct.Struct("<HHIIIIId")
REPLY = struct.Struct("<BBHId")
ANSWER = struct.Struct("<ddIf")
HEADER_BYTES, RULE_BYTES, ENTRY_BYTES = _HEADER.size, _RULE.size, ENTRY.size
REPLY_BYTES, ANSWER_BYTES = REPLY.size, ANSWER.size

_NOW_MOST, _NUMBER_MOST = 2.0**53, 1e30
"""No answer comes near; what is computed with numbers within them stays finite. A comparison with NaN is false."""
_UNSIGNED = {"B": 2**8 - 1, "H": 2**16 - 1, "I": 2**32 - 1}


class WireError(ValueError):
    """Something that cannot be sent, or bytes that are not what this version of the protocol says."""


class Rule(NamedTuple):
    """One rule as Redis sees it.

    kind: BUCKET, FIXED, SLIDING or HELD. tau_us: us per unit (buckets), length of the window, or for how long units are
    held without further notice; above 0. burst: units at once, or the window's limit; above 0. debt_max: units that a
    level may stand below empty. cap: units that this instance may admit ahead of Redis; for whoever reads a batch, the
    merge does not need it.
    """

    kind: int
    tau_us: float
    burst: float
    debt_max: float
    cap: float


class Header(NamedTuple):
    """What holds for a whole batch.

    seq: number of the batch, counted from 1 per instance and partition. acked: the last one known to be applied, 0 for
    none. beat: whether to note that this instance lives, and to answer with notices. interval_us: the sync interval.
    restore, forget: see RESTORE and FORGET. heard_us: server time of the last notices heard, 0 for none.
    """

    seq: int
    acked: int
    beat: bool
    interval_us: int
    restore: bool = False
    forget: bool = False
    heard_us: float = 0.0


class Entry(NamedTuple):
    """What an instance reports of one key under one rule.

    rule: its index. before: for `known` of a window, which one it is of: 0 the server's current one, 1 the one before.
    debt: units admitted and not yet reported; of HELD, all that this instance has, held and leased. back: leased units
    given back; of HELD they are out of debt already. want: units asked for as a lease. age_us: how long ago the oldest
    of the debt was admitted; of windows, a time well within the one that debt and back belong to. seen: units asked of
    this instance since its last report.
    known: with RESTORE, the highest tat_us heard of (buckets), or the count (windows); else 0.
    """

    rule: int
    before: int = 0
    debt: int = 0
    back: int = 0
    want: int = 0
    age_us: int = 0
    seen: int = 0
    known: float = 0.0


class Answer(NamedTuple):
    """What Redis says of one entry.

    Buckets: a is the room left, in units, below 0 in debt; b the tat_us stored. Windows: a and b are the counts of the
    server's current window and of the one before. HELD: a is the room left, b what this instance is known to have.
    grant: units leased. demand: units/s asked for by all instances.
    """

    a: float
    b: float
    grant: int
    demand: float


class Reply(NamedTuple):
    """The answer to a batch. members: instances alive. now_us: server time. answers: one per entry, none when LOST.
    notices: to a batch with `beat`, fingerprints of the keys that were made as good as new since heard_us."""

    status: int
    members: int
    now_us: float
    answers: tuple[Answer, ...]
    notices: tuple[int, ...] = ()


def pack_header(header: Header, rules: Sequence[Rule], entries: int) -> bytes:
    """ARGV[1]: the header for a batch of `entries` entries, then the rules. WireError names what does not fit."""
    if not 0 <= entries <= ENTRIES_MOST:
        raise WireError(f"a batch has 0 to {ENTRIES_MOST} entries, not {entries}")
    if header.seq <= header.acked:
        raise WireError(f"seq={header.seq} must be above acked={header.acked}: a batch's number is new")
    for index, rule in enumerate(rules):
        _check_rule(index, rule)
    flags = RESTORE * header.restore + FORGET * header.forget
    words = (*header[:2], int(header.beat), header.interval_us, entries, len(rules), flags, VERSION)
    values = (*words, header.heard_us)
    names = ("seq", "acked", "beat", "interval_us", "entries", "rules", "flags", "version", "heard_us")
    packed = [_pack(_HEADER, "header", names, values)]
    fields = (*Rule._fields, "spare")
    packed += [_pack(_RULE, f"rule {index}", fields, (*rule, 0.0)) for index, rule in enumerate(rules)]
    return b"".join(packed)


def _check_rule(index: int, rule: Rule) -> None:
    if rule.kind not in (BUCKET, FIXED, SLIDING, HELD):
        raise WireError(f"rule {index}: kind={rule.kind!r} must be {BUCKET}, {FIXED}, {SLIDING} or {HELD}")
    for name, value in zip(Rule._fields[1:], rule[1:], strict=True):
        least = "0 or more" if name in ("debt_max", "cap") else "above 0"
        if not (math.isfinite(value) and (value > 0 or (value == 0 and least == "0 or more"))):
            raise WireError(f"rule {index}: {name}={value!r} must be finite and {least}")


def unpack_header(data: bytes) -> tuple[Header, tuple[Rule, ...], int]:
    """The header, the rules and the number of entries in ARGV[1]. WireError for other bytes."""
    if len(data) < HEADER_BYTES:
        raise WireError(f"a header has {HEADER_BYTES} bytes or more, not {len(data)}")
    seq, acked, beat, interval_us, entries, count, flags, version, heard_us = _HEADER.unpack_from(data)
    _check_version("header", version)
    wanted = HEADER_BYTES + count * RULE_BYTES
    if len(data) != wanted:
        raise WireError(f"a header with {count} rules has {wanted} bytes, not {len(data)}")
    rules = tuple(Rule(*fields[:5]) for fields in _RULE.iter_unpack(data[HEADER_BYTES:]))
    header = Header(seq, acked, bool(beat), interval_us, bool(flags & RESTORE), bool(flags & FORGET), heard_us)
    return header, rules, entries


def pack_entries(entries: Iterable[Entry]) -> bytes:
    """ARGV[2]: the entries, ENTRY_BYTES each. WireError names the entry, the field and its rule."""
    return b"".join([_pack(ENTRY, f"entry {index}", Entry._fields, entry) for index, entry in enumerate(entries)])


def forgetting(rule: int, fp: int, keep_ms: int = 0) -> Entry:
    """The entry of a FORGET batch for a fingerprint, or EVERYTHING, which is then kept in mind for so many ms."""
    return Entry(rule, debt=fp % 2**32, back=fp >> 32, want=keep_ms)


def unpack_entries(data: bytes) -> list[Entry]:
    """The entries in ARGV[2]. WireError when they are not whole."""
    if len(data) % ENTRY_BYTES:
        raise WireError(f"entries have {ENTRY_BYTES} bytes each; {len(data)} bytes are not a whole number of them")
    return [Entry(*fields) for fields in ENTRY.iter_unpack(data)]


def pack_reply(reply: Reply) -> bytes:
    """The bytes that merge.lua returns for `reply`."""
    names = ("status", "version", "entries", "members", "now_us")
    values = (reply.status, VERSION, len(reply.answers), reply.members, reply.now_us)
    packed = [_pack(REPLY, "reply", names, values)]
    packed += [_pack(ANSWER, f"answer {i}", Answer._fields, answer) for i, answer in enumerate(reply.answers)]
    packed += [struct.pack("<Q", fp) for fp in reply.notices]
    return b"".join(packed)


def unpack_reply(data: bytes, entries: int | None = None) -> Reply:
    """What merge.lua returned; entries: how many the batch had, if that is to be checked. WireError for other bytes."""
    if len(data) < REPLY_BYTES:
        raise WireError(f"a reply has {REPLY_BYTES} bytes or more, not {len(data)}")
    status, version, count, members, now_us = REPLY.unpack_from(data)
    _check_version("reply", version)
    if status not in (OK, DUP, LOST):
        raise WireError(f"reply: status={status} must be {OK}, {DUP} or {LOST}")
    end = REPLY_BYTES + count * ANSWER_BYTES
    if len(data) < end or (len(data) - end) % 8:
        raise WireError(f"a reply with {count} answers has {end} bytes and 8 for each notice, not {len(data)}")
    if entries is not None and count != (0 if status == LOST else entries):
        raise WireError(f"a reply to {entries} entries has {count} answers")
    answers = tuple(Answer(*fields) for fields in ANSWER.iter_unpack(data[REPLY_BYTES:end]))
    if not 0 <= now_us <= _NOW_MOST:
        raise WireError(f"reply: now_us={now_us!r} must be from 0 to 2**53")
    for index, (a, b, _, demand) in enumerate(answers):
        if not (abs(a) <= _NUMBER_MOST and abs(b) <= _NUMBER_MOST and 0 <= demand <= _NUMBER_MOST):
            raise WireError(f"answer {index}: a={a!r}, b={b!r}, demand={demand!r} are not numbers that an answer has")
    return Reply(status, members, now_us, answers, struct.unpack(f"<{(len(data) - end) // 8}Q", data[end:]))


def check_grants(reply: Reply, entries: bytes) -> None:
    """WireError for a reply that leases more than the batch's entries asked for: nobody but who controls Redis does."""
    for index, (answer, entry) in enumerate(zip(reply.answers, ENTRY.iter_unpack(entries), strict=False)):
        want = entry[4]
        if answer.grant > want:
            raise WireError(f"answer {index}: grant={answer.grant} must be at most the {want} that were asked for")


def without_notices(data: bytes, reply: Reply) -> bytes:
    """The bytes of a reply as an engine takes them."""
    return data[: REPLY_BYTES + len(reply.answers) * ANSWER_BYTES]


def _check_version(what: str, version: int) -> None:
    if version != VERSION:
        raise WireError(f"{what}: version={version}; this penstock speaks version {VERSION}")


def _pack(layout: struct.Struct, what: str, names: Sequence[str], values: Sequence[Any]) -> bytes:
    try:
        return layout.pack(*values)
    except (struct.error, OverflowError, TypeError):
        raise WireError(f"{what}: {_misfit(layout.format[1:], names, values)}") from None


def _misfit(codes: str, names: Sequence[str], values: Sequence[Any]) -> str:
    """Which value it was that its code could not take, and what would be right."""
    for code, name, value in zip(codes, names, values, strict=True):
        most = _UNSIGNED.get(code)
        if most is None:
            try:
                struct.pack("<" + code, value)
            except (struct.error, OverflowError, TypeError):
                return f"{name}={value!r} must be a number that {'four' if code == 'f' else 'eight'} bytes can hold"
        elif not isinstance(value, int) or not 0 <= value <= most:
            return f"{name}={value!r} must be an int from 0 to {most}"
    raise AssertionError("every value fits its code")
