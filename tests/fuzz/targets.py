"""What is fuzzed: one function for each target, which takes any bytes at all and raises when a promise is broken.

rate     rate strings against a grammar of their own, and what is written from a limit read back
keys     the fingerprint of any key, native and reference; different keys have different encodings
columns  batches: lists, NumPy and Arrow columns of one content mean the same keys, native and reference
times    a log's times against the standard library's, and the quick way against the careful one
logs     log lines of every format: blocks read as a whole and line by line, to the same result
files    log files, compressed and damaged: read, or refused with one kind of error
history  a history of calls, native and reference: the same answers and errors
saved    files of saved limiters, damaged and forged: refused with one kind of error, or the same to both engines
segment  segments' files, damaged and forged: refused with one kind of error, or looked at without harm
feeds    lists of addresses against ipaddress; words: literals and expressions against plain search (matching.py)
guard    requests through a whole guard under every preset: verdicts are well formed, memory stays (guarding.py)

numbers and decisions, the targets of the core in C, are core.c.
"""

from __future__ import annotations

import bz2
import contextlib
import datetime
import gzip
import lzma
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "parity"), str(TESTS)]

import guarding  # noqa: E402
import matching  # noqa: E402
import numpy  # noqa: E402
from choices import Fuzzed  # noqa: E402
from engines import SECRET, engine_of, make_engine, manual_clock  # noqa: E402
from histories import draw_history, draw_world  # noqa: E402
from test_histories import Twins  # noqa: E402

from penstock import native, snapshot  # noqa: E402
from penstock._rows import rows_in  # noqa: E402
from penstock.errors import RateSyntaxError, SegmentError, SnapshotError  # noqa: E402
from penstock.keys import encode, fingerprint  # noqa: E402
from penstock.policy import compile_policies  # noqa: E402
from penstock.rate import (  # noqa: E402
    FixedWindow,
    Limit,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
    parse_rate,
)
from penstock.replay.files import LogFile, UnreadableFile  # noqa: E402
from penstock.replay.keys import FieldError, KeyTable, parse_key  # noqa: E402
from penstock.replay.limits import rate_text  # noqa: E402
from penstock.replay.logs import FORMATS, Manner, open_reader  # noqa: E402
from penstock.replay.times import MOST_NS, NS, Times, time_ns  # noqa: E402
from penstock.replay.trace import Trace  # noqa: E402
from penstock.segment import file as segment_file  # noqa: E402
from penstock.segment.header import Header  # noqa: E402
from penstock.written import UNREADABLE  # noqa: E402

if native:
    from penstock._core import CAN_SHARE, segment_bytes
else:
    CAN_SHARE = False

try:
    import pyarrow
except ImportError:
    pyarrow = None

TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    TARGETS[check.__name__] = check
    return check


def refused_or(kind: Any, call: Callable[[], Any]) -> Any:
    """What the call answers, or the error that it may raise."""
    try:
        return call()
    except kind as error:
        return error


# ---- rate strings ----

ALGORITHMS = {
    "token-bucket": TokenBucket,
    "sliding-window": SlidingWindow,
    "sliding-log": SlidingLog,
    "fixed-window": FixedWindow,
}
UNIT_SECONDS = {
    1: ("s", "sec", "secs", "second", "seconds"),
    60: ("m", "min", "mins", "minute", "minutes"),
    3_600: ("h", "hr", "hrs", "hour", "hours"),
    86_400: ("d", "day", "days"),
    2_592_000: ("mo", "mon", "month", "months"),
    31_536_000: ("y", "yr", "yrs", "year", "years"),
}
SECONDS_OF = {name: seconds for seconds, names in UNIT_SECONDS.items() for name in names}
GRAMMAR = re.compile(
    r"""\s* (?P<count>[0-9]+) \s* (?: / | [pP][eE][rR] \b )
        \s* (?P<multiple>[0-9]+)? \s* (?P<unit>[a-zA-Z]+) (?![a-zA-Z])
        (?: \s* [bB][uU][rR][sS][tT] \b \s* =? \s* (?P<burst>[0-9]+) )? \s*""",
    re.VERBOSE,
)
"""One rate of a rate string, as the documentation tells it; parse_rate reads it from left to right instead."""


def read_by_grammar(text: str, algorithm: str) -> list[Limit] | None:
    """What the string means, or None when it has no meaning. ValueError for numbers that the limit refuses."""
    parts = re.split("[;,|]", text)
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    limits: list[Limit] = []
    for part in parts:
        match = GRAMMAR.fullmatch(part)
        if match is None or match["unit"].lower() not in SECONDS_OF or (match["burst"] and algorithm != "token-bucket"):
            return None
        numbers = [match[name] for name in ("count", "multiple", "burst") if match[name] is not None]
        if any(len(number) > 1000 or not 1 <= int(number) <= 2**53 for number in numbers):
            return None
        per = int(match["multiple"] or 1) * SECONDS_OF[match["unit"].lower()]
        if match["burst"]:
            limits.append(TokenBucket(int(match["count"]), per, int(match["burst"])))
        else:
            limits.append(ALGORITHMS[algorithm](int(match["count"]), per))
    return limits if len(limits) <= 8 else None


@target
def rate(data: bytes) -> None:
    algorithm = list(ALGORITHMS)[data[0] % 4 if data else 0]
    text = data[1:].decode("utf-8", "surrogateescape")
    expected = refused_or(ValueError, lambda: read_by_grammar(text, algorithm))
    expected = None if isinstance(expected, ValueError) else expected
    limits = refused_or(ValueError, lambda: list(parse_rate(text, algorithm)))
    if isinstance(limits, ValueError):
        assert expected is None, f"{text!r} means {expected}"
        if isinstance(limits, RateSyntaxError):
            assert (limits.text, 0 <= limits.position <= len(text)) == (text, True)
        return
    assert limits == expected, f"{text!r} means {expected}, and was read as {limits}"
    for limit in limits:
        assert list(parse_rate(rate_text(limit), algorithm)) == [limit]  # type: ignore[arg-type]


# ---- keys ----

_engines: dict[str, Any] = {}


def engine_on(backend: str) -> Any:
    """One engine for each backend, for what changes nothing in it."""
    if backend not in _engines:
        _engines[backend] = make_engine(backend, TokenBucket(5, 60))
    return _engines[backend]


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


@target
def keys(data: bytes) -> None:
    fuzzed = Fuzzed(data)
    told: dict[tuple[bytes, bytes], Any] = {}
    while fuzzed:
        key = fuzzed.key()
        native, reference = (outcome(engine_on(backend).fingerprint, key) for backend in ("native", "reference"))
        assert native == reference, f"{key!r}: {native} and {reference}"
        if isinstance(native, int):
            assert native == fingerprint(SECRET, key)
            assert 2 <= native < 2**64
            other = told.setdefault(encode(key), key)
            same = type(plain(other)) is type(plain(key)) and plain(other) == plain(key)
            assert same, f"{key!r} and {other!r} have one encoding"


def plain(key: Any) -> Any:
    """The key that an equal one is told by: True is 1, but 1 in a tuple is not b"1"."""
    if isinstance(key, tuple):
        return tuple((type(plain(item)), plain(item)) for item in key)
    return int(key) if isinstance(key, int) else key


# ---- columns ----


def several(fuzzed: Fuzzed) -> tuple[list[Any], list[Any]]:
    """(keys, columns that mean these)."""
    kind, count = fuzzed.integer(0, 3), fuzzed.integer(0, 12)
    if kind == 0:
        texts = [fuzzed.text(12).rstrip("\0") for _ in range(count)]
        array = numpy.array(texts, dtype=f"U{max(map(len, texts), default=0) or 1}")
        columns: list[Any] = [array, array.astype(array.dtype.newbyteorder())]
        if pyarrow is not None:
            with contextlib.suppress(UnicodeEncodeError):  # Arrow has no lone surrogates
                columns += [pyarrow.array(texts, pyarrow.string()), pyarrow.array(texts, pyarrow.large_string())]
        return texts, columns
    if kind == 1:
        strings = [fuzzed.take(fuzzed.integer(0, 20)).rstrip(b"\0") for _ in range(count)]
        columns = [numpy.array(strings, dtype=f"S{max(map(len, strings), default=0) or 1}")]
        if pyarrow is not None:
            columns += [pyarrow.array(strings, pyarrow.binary()), pyarrow.array(strings, pyarrow.large_binary())]
        return strings, columns
    if kind == 2:
        name = fuzzed.pick(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
        size = int(name[1])
        array = numpy.frombuffer(fuzzed.take(size * count).ljust(size * count, b"\0"), dtype=f"<{name}")
        columns = [array, array.astype(f">{name}"), numpy.repeat(array, 2)[::2], array[::-1][::-1]]
        if pyarrow is not None:
            columns.append(pyarrow.array(array))
        return array.tolist(), columns
    mixed = [fuzzed.scalar() for _ in range(count)]
    objects = numpy.empty(count, dtype=object)
    objects[:] = mixed
    return mixed, [mixed, tuple(mixed), objects]


@target
def columns(data: bytes) -> None:
    fuzzed = Fuzzed(data)
    listed, forms = several(fuzzed)
    costs: Any = fuzzed.integer(1, 3)
    if fuzzed.integer(0, 1):
        costs = [fuzzed.integer(1, 5) for _ in listed]
    start, stop = fuzzed.integer(0, 3), len(listed) - fuzzed.integer(0, 2)
    clock = manual_clock()
    expected = None
    for backend in ("reference", "native"):
        for form in [listed, *forms]:
            engine = make_engine(backend, TokenBucket(3, 60), clock=clock)
            given = form[start:stop] if start < stop else form
            each = costs if isinstance(costs, int) or start >= stop else costs[start:stop]
            found = engine.check_many(given, each).tolist(), engine.spending(100), engine.counters()
            expected = found if expected is None else expected
            assert found == expected, f"{backend}, {type(form)}: {found}, not {expected}"


# ---- replay: times, lines, files ----


def by_the_library(text: str) -> int | None:
    """Nanoseconds since the epoch of a time that datetime can read as well; None for others."""
    for form in ("%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"):
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.datetime.strptime(text, form)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1_000
    return None


@target
def times(data: bytes) -> None:
    known = Times()
    for text in data.split(b"\n"):
        careful = outcome(time_ns, text)
        quick = outcome(known.__getitem__, text)
        assert quick == careful or (isinstance(quick, tuple) and isinstance(careful, tuple)), f"{text!r}: {quick}"
        if isinstance(careful, int):
            assert 0 <= careful <= MOST_NS
            library = by_the_library(text.decode("latin-1"))
            assert library in (None, careful), f"{text!r}: {careful}, the library says {library}"
            number = re.fullmatch(rb"\d{1,9}", text)
            assert number is None or careful == int(text) * NS


KEY_SPECS = ("address", "address/24", "address/20/56,path", "user", "method,status", "user-agent", "host", "x.y")
FIELDS: tuple[dict[str, str], ...] = ({}, {"time": "when"}, {"time": "a.b", "user": "c"})


@target
def logs(data: bytes) -> None:
    fuzzed = Fuzzed(data)
    form, spec, named = fuzzed.pick(FORMATS), fuzzed.pick(KEY_SPECS), fuzzed.pick(FIELDS)
    skip = bool(fuzzed.integer(0, 1))
    block = fuzzed.rest() + b"\n"
    if not block.strip():
        return
    manner = Manner(parse_key(spec), form, named)
    whole, single = Trace(KeyTable(skip), 10**6), Trace(KeyTable(skip), 10**6)
    refused = refused_or((UnreadableFile, FieldError), lambda: open_reader("log", block, manner, whole).read(block))
    if refused is not None:
        assert "log: " in str(refused)
        return
    reader = open_reader("log", block, manner, single)
    blank = len(block) - len(block.lstrip())  # these belong to the first line: no reader is given only blank ones
    first, _, others = block[blank:].partition(b"\n")
    for line in (block[:blank] + first, *others.split(b"\n")[:-1]):
        reader.read(line + b"\n")
    for trace in (whole, single):
        assert trace.unreadable == len(trace.bad)
        assert trace.blank + trace.unreadable + len(trace) == trace.lines, "every line is something"
        header = block.lstrip().split(b"\n")[0] if trace.lines < block.count(b"\n") else None
        assert header is None or form in ("csv", "auto")
    assert facts(whole) == facts(single)
    whole.finish()
    assert list(whole.times) == sorted(whole.times)
    assert whole.late >= 0 <= whole.stray
    assert whole.without_key + whole.blank + whole.unreadable + whole.stray + len(whole) == whole.lines
    before = list(whole.times)
    whole.spread()
    assert [ns // NS for ns in whole.times] == [ns // NS for ns in before]
    assert list(whole.times) == sorted(whole.times)


def facts(trace: Trace) -> tuple[Any, ...]:
    names = trace.table.names()
    keys = [names[number] if number < len(names) else None for number in trace.keys]
    bad = [(one.number, one.reason, one.text) for one in trace.bad]
    return list(trace.times), keys, trace.lines, trace.blank, bad


COMPRESSIONS: tuple[Callable[[bytes], bytes], ...] = (
    bytes,
    lambda text: gzip.compress(text, 1, mtime=0),
    lambda text: bz2.compress(text, 1),
    lambda text: lzma.compress(text, preset=0),
)
_file = tempfile.NamedTemporaryFile(prefix="penstock-fuzz-", delete=False)  # noqa: SIM115
_file.close()
_owner = os.getpid()


def remove_file() -> None:
    """To be called at the end of a run, which atheris would not let atexit do."""
    if os.getpid() == _owner:
        Path(_file.name).unlink(missing_ok=True)


@target
def files(data: bytes) -> None:
    fuzzed = Fuzzed(data)
    compress, damage, place = fuzzed.pick(COMPRESSIONS), fuzzed.integer(0, 3), fuzzed.integer(0, 2**16 - 1)
    repeats = fuzzed.pick((1, 1, 1, 9_000))
    text = fuzzed.rest() * repeats
    stored = compress(text)
    if damage == 1:
        stored = stored[: place % (len(stored) + 1)]
    elif damage == 2 and stored:
        place %= len(stored)
        stored = stored[:place] + bytes([stored[place] ^ (1 + repeats % 255)]) + stored[place + 1 :]
    elif damage == 3:
        stored = text
    Path(_file.name).write_bytes(stored)
    blocks: list[bytes] = []

    def read() -> None:
        with LogFile(_file.name) as file:
            for block in file.blocks():
                blocks.append(block)
                assert file.position() >= 0

    refused = refused_or(UnreadableFile, read)
    Path(_file.name).write_bytes(b"")
    assert all(block.endswith(b"\n") for block in blocks if block is not blocks[-1] or refused is None)
    if refused is not None:
        assert refused.name == _file.name
        assert damage or compress is bytes or len(text) > 2**18, "nothing was wrong with it"
        return
    got = b"".join(blocks)
    if damage == 0 and compress is not bytes:
        whole = text.removeprefix(b"\xef\xbb\xbf")
        whole += b"\n" if whole and not whole.endswith(b"\n") else b""
        assert len(got) <= len(whole)
        assert got == whole or max(map(len, text.split(b"\n"))) > 2**18, "only a very long line loses anything"


# ---- histories ----


@target
def history(data: bytes) -> None:
    fuzzed = Fuzzed(data)
    world = draw_world(fuzzed)
    twins = Twins(world)
    for op in limited(draw_history(fuzzed, world), 300):
        twins.do(op)
    twins.compare()


# ---- what is read from files: saved limiters and segments ----


@target
def saved(data: bytes) -> None:
    """The input is a file; its digest is made right, so that what is behind it is tried too."""
    refused_or(SnapshotError, lambda: snapshot.unpack(data, "file"))
    head, rest = min(int.from_bytes(data[20:24], "little"), len(data)), data[64:]
    start = snapshot._PRELUDE.pack(snapshot.MAGIC, snapshot.VERSION, head, 64 + len(rest), b"")[:32]
    forged = start + snapshot.digest_of((start, rest)) + rest
    found = refused_or(SnapshotError, lambda: snapshot.unpack(forged, "file"))
    if isinstance(found, SnapshotError):
        assert str(found).startswith("file ")
        return
    assert snapshot.unpack(b"".join(snapshot.pack(found)), "file") == found
    policies = compile_policies(list(found.limits.values()), found.wall_ns)
    gone_on = refused_or(UNREADABLE, lambda: snapshot.go_on(found, found.wall_ns + 10**9, policies))
    if not isinstance(gone_on, tuple):
        return
    age, rows = gone_on
    told = []
    for backend in ("native", "reference"):
        engine = engine_of(backend)(
            policies, {tier: index for index, tier in enumerate(found.limits)}, capacity=20_000, evict=True,
            secret=found.secret, clock=manual_clock(), remember=True, age=age,
        )  # fmt: skip
        wrong = refused_or(ValueError, lambda engine=engine: engine.fill(rows, found.names))
        told.append((wrong is not None, [sorted(rows_in(section)) for section in engine.rows()], engine.spending(99)))
    assert told[0] == told[1], f"{told[0]}, the reference: {told[1]}"


@target
def segment(data: bytes) -> None:
    """The input is a whole file, or the JSON of one in which all else is right."""
    if not CAN_SHARE:
        return
    fuzzed = Fuzzed(data)
    raw, packed = fuzzed.integer(0, 7) == 0, data[1:]
    content, size = packed, len(packed)
    if not raw:
        prelude = segment_file._Prelude(packed, 0, segment_file.boot())
        header = refused_or(UNREADABLE, lambda: Header.unpacked(packed))
        size = prelude.start
        if isinstance(header, Header) and header.capacity * (1 + sum(header.tail_words)) < 2**20:
            size += segment_bytes(header.capacity, header.tail_words, header.shared)
        content = prelude._replace(whole=size).written()
    with open(_file.name, "wb") as file:
        file.write(content)
        file.truncate(size)
    opened = refused_or(SegmentError, lambda: segment_file.look(_file.name))
    if isinstance(opened, SegmentError):
        assert _file.name in str(opened)
        return
    tiers = {tier: index for index, tier in enumerate(opened.header.limits)}
    engine = engine_of("native")(
        opened.header.policies, tiers, capacity=opened.header.capacity, evict=True, secret=opened.header.secret,
        clock=None, remember=False, segment=opened,
    )  # fmt: skip
    assert (engine.live(), engine.spending(9), engine.counters()) == (0, [], (0, 0, 0))
    assert (engine.seats(), engine.holders(), engine.denied_keys()) == ([], [], [])


def limited(ops: Iterable[Any], most: int) -> Iterable[Any]:
    for number, op in enumerate(ops):
        if number >= most:
            return
        yield op


target(matching.feeds)
target(matching.words)
target(guarding.guard)
