"""Log files of every kind into a trace: formats told from the content, odd lines counted, nothing ends the run."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from penstock.replay import files
from penstock.replay.files import BLOCK, LogFile, UnreadableFile
from penstock.replay.keys import FieldError, KeyTable, parse_key
from penstock.replay.logs import Manner, read_blocks, read_file
from penstock.replay.reader import PARTS
from penstock.replay.times import NS
from penstock.replay.trace import Trace

MAY_17 = 1431857103
COMBINED = (
    b'192.0.2.7 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 512 "http://e.com/" "curl/8"\n'
    b'2001:db8::1 - - [17/May/2015:10:05:04 +0000] "POST /login HTTP/1.1" 401 - "-" "Mozilla/5.0 (X11)"\n'
)
COMMON = (
    b'192.0.2.7 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 512\n'
    b'2001:db8::1 - - [17/May/2015:10:05:04 +0000] "POST /login HTTP/1.1" 401 -\n'
)
VHOST = b"".join(b"www.example.com:443 " + line for line in COMBINED.splitlines(keepends=True))
JSON = (
    b'{"time": "2015-05-17T10:05:03Z", "remote_addr": "192.0.2.7", "remote_user": "frank", "request_method": "GET",'
    b' "request_uri": "/a?b=1", "status": 200, "http_user_agent": "curl/8", "http_referer": "http://e.com/"}\n'
    b'{"time": 1431857104.0, "remote_addr": "2001:db8::1", "remote_user": null, "request_method": "POST",'
    b' "request_uri": "/login", "status": 401, "http_user_agent": "Mozilla/5.0 (X11)"}\n'
)
CSV = (
    b"Timestamp,Client-IP,user,method,url,status,User-Agent,referer\r\n"
    b"2015-05-17 10:05:03,192.0.2.7,frank,GET,/a?b=1,200,curl/8,http://e.com/\r\n"
    b'1431857104000,2001:db8::1,-,POST,/login,401,"Mozilla/5.0 (X11)",-\r\n'
)
ALL = {"combined": COMBINED, "common": COMMON, "vhost": VHOST, "json": JSON, "csv": CSV}


def read(
    data: bytes | Iterable[bytes], key: str = "address", format: str = "auto", skip_missing: bool = False, **named: str
) -> Trace:
    """A trace of a log given as bytes, finished."""
    trace = Trace(KeyTable(skip_missing))
    blocks = [data] if isinstance(data, bytes) else data
    read_blocks("a.log", blocks, Manner(parse_key(key), format, named), trace, lambda: None)
    trace.finish()
    return trace


def keys(trace: Trace) -> list[tuple[bytes, ...]]:
    """The key of each request, in order."""
    names = trace.table.names()
    return [names[number] for number in trace.keys]


@pytest.mark.parametrize("log", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("address", [(b"192.0.2.7",), (b"2001:db8::1",)]),
        ("ip", [(b"192.0.2.7",), (b"2001:db8::1",)]),
        ("address/24", [(b"192.0.2.0/24",), (b"2001:db8::/64",)]),
        ("user", [(b"frank",), (b"-",)]),
        ("method", [(b"GET",), (b"POST",)]),
        ("status", [(b"200",), (b"401",)]),
        ("path", [(b"/a",), (b"/login",)]),
        ("target", [(b"/a?b=1",), (b"/login",)]),
        ("path,address", [(b"/a", b"192.0.2.7"), (b"/login", b"2001:db8::1")]),
        ("method,path,method", [(b"GET", b"/a", b"GET"), (b"POST", b"/login", b"POST")]),
    ],
)
def test_the_same_requests_in_every_format(log: bytes, key: str, expected: list[tuple[bytes, ...]]) -> None:
    trace = read(log, key)
    assert list(trace.times) == [MAY_17 * NS, (MAY_17 + 1) * NS]
    assert keys(trace) == expected
    assert (trace.lines, trace.unreadable, trace.blank, trace.late) == (2, 0, 0, 0)


@pytest.mark.parametrize("log", [COMBINED, VHOST, JSON, CSV])
def test_user_agent_and_referrer(log: bytes) -> None:
    assert keys(read(log, "user-agent,referer")) == [(b"curl/8", b"http://e.com/"), (b"Mozilla/5.0 (X11)", b"-")]


def test_fields_only_the_common_formats_have() -> None:
    assert keys(read(COMBINED, "ident,request,protocol,size"))[1] == (b"-", b"POST /login HTTP/1.1", b"HTTP/1.1", b"-")
    assert keys(read(VHOST, "host")) == [(b"www.example.com:443",)] * 2


@pytest.mark.parametrize(
    ("log", "key", "said"),
    [
        (COMBINED, "adress", "it has address, ident, user"),
        (COMBINED, "time", "no field 'time'"),
        (COMBINED, "host", "no field 'host'"),
        (COMMON, "user-agent", "the common format has no field 'user-agent'"),
        (JSON, "account", "its fields are time, remote_addr"),
        (CSV, "account", "its fields are Timestamp, Client-IP"),
    ],
)
def test_a_field_that_is_not_there(log: bytes, key: str, said: str) -> None:
    with pytest.raises(FieldError, match=said):
        read(log, key)


def test_columns_by_the_users_word() -> None:
    log = b'{"when": 1, "time": "x", "a": {"b": "k"}}\n{"when": 2, "time": "x", "a": {"b": "l"}}\n'
    assert keys(read(log, "user", time="when", user="a.b")) == [(b"k",), (b"l",)]
    assert keys(read(log, "a.b", time="when")) == [(b"k",), (b"l",)]
    assert keys(read(b"when;who\n1;k\n2;l\n", "user", time="when", user="who")) == [(b"k",), (b"l",)]
    with pytest.raises(FieldError, match="--field user=whom: no such field"):
        read(log, "user", time="when", user="whom")
    with pytest.raises(FieldError, match="name it with --field time=COLUMN"):
        read(log, "a.b")


def test_nested_json_of_a_known_server() -> None:
    log = (
        b'{"level":"info","ts":1646861401.524,"request":{"remote_ip":"127.0.0.1","method":"GET","uri":"/x?y",'
        b'"headers":{"User-Agent":["curl/7.82.0"]}},"status":200}\n'
    )
    trace = read(log, "address,path,user-agent,method")
    assert keys(trace) == [(b"127.0.0.1", b"/x", b"curl/7.82.0", b"GET")]
    assert list(trace.times) == [1646861401_524000000]


def test_a_request_line_in_json() -> None:
    log = b'{"ts": 1, "ip": "a", "request": "GET /x?y HTTP/1.1"}\n'
    assert keys(read(log, "method,path,protocol")) == [(b"GET", b"/x", b"HTTP/1.1")]


def test_values_of_json_that_are_no_text() -> None:
    values = [b"true", b"null", b"1.50", b'["x","y"]', b'["x"]', b'"\\ud800"', b"{}"]
    log = b"".join(b'{"ts": 1, "k": %b}\n' % value for value in values) + b'{"ts": 1}\n'
    expected = [b"true", b"-", b"1.50", b'["x", "y"]', b"x", b"\xed\xa0\x80", b"{}", b"-"]
    assert keys(read(log, "k")) == [(value,) for value in expected]


def test_json_of_every_wrong_kind() -> None:
    bad = [
        b"{",
        b"[1]",
        b"null",
        b'{"ts": null, "k": 1}',
        b'{"ts": true, "k": 1}',
        b'{"ts": [1], "k": 1}',
        b'{"k": 1}',
        b'{"ts": NaN, "k": 1}',
        b'{"ts": "x", "k": 1}',
        b'{"ts": ' + b"9" * 5000 + b', "k": 1}',
        b'{"ts": 1, "k": "\xff"}',
        b'{"ts": 1, "k": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]
    good = b'{"ts": 1, "k": "a"}'
    trace = read(b"\n".join([good, *bad, good]) + b"\n", "k", "json")
    assert (len(trace), trace.unreadable, trace.lines) == (2, len(bad), len(bad) + 2)
    assert [line.number for line in trace.bad] == [2, 3, 4, 5, 6]
    assert all(line.reason for line in trace.bad)


def test_csv_of_every_wrong_kind() -> None:
    bad = [b"1", b"1,2,3", b'1,"open', b'1,"a"b', b"x,a", b",a", b"1\r2,a", b'1,"a\x00']
    good = [b"1,a", b'2,"b,c"', b'3,"d""e"', b"4,f\xff"]
    trace = read(b"ts,k\n" + b"\n".join([*good, *bad, b"", *good]) + b"\n", "k")
    assert (len(trace), trace.unreadable, trace.blank) == (8, len(bad), 1)
    assert sorted(keys(trace)[::2]) == [(b"a",), (b"b,c",), (b'd"e',), (b"f\xff",)]
    assert [line.number for line in trace.bad] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_separators(separator: str) -> None:
    log = "time,ip,x\n1,a,\n2,b,\n".replace(",", separator).encode()
    assert keys(read(log)) == [(b"a",), (b"b",)]


def test_a_csv_header_alone_is_no_request() -> None:
    assert len(read(b"\n\ntime,ip\n")) == 0


ODD = [
    # (line, key as address,path or None where it is unreadable)
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /x HTTP/1.1" 200 1 "-" "agent that never ends', (b"a", b"/x")),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /\\"x HTTP/1.1" 200 1 "-" "-"', (b"a", b'/\\"x')),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /"x" HTTP/1.1" 200 1 "-" "-"', (b"a", b'/"x"')),
    (b'a - - [17/May/2015:10:05:03 +0000] "\\x16\\x03" 400 0 "-" "-"', (b"a", b"\\x16\\x03")),
    (b'a - - [17/May/2015:10:05:03 +0000] "" 400 0 "-" "-"', (b"a", b"")),
    (b'a - john doe [17/May/2015:10:05:03 +0000] "GET /x HTTP/1.1" - - "-" "-"', (b"a", b"/x")),
    (b'a - - [2015-05-17T10:05:03+00:00] "GET /x HTTP/1.1" 200 1 "-" "-" "forwarded" 0.003', (b"a", b"/x")),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /x HTTP/1.1" 200 1\r', (b"a", b"/x")),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /\xff HTTP/1.1" 200 1', (b"a", b"/\xff")),
    (b'a - - [17/Mai/2015:10:05:03 +0000] "GET /x HTTP/1.1" 200 1 "-" "-"', None),
    (b'a - - [] "GET /x HTTP/1.1" 200 1 "-" "-"', None),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /x HTTP/1.1" 20', None),
    (b'a - - [17/May/2015:10:05:03 +0000] "GET /x HT', None),
    (b' - - [17/May/2015:10:05:03 +0000] "GET /x HTTP/1.1" 200 1', None),
    (b"a", None),
    (b"\x00\x00\x00", None),
    (b"x" * 100_000, None),
    (b"\xff\xfe\x01", None),
]


@pytest.mark.parametrize(("line", "key"), ODD)
def test_odd_lines_alone(line: bytes, key: tuple[bytes, ...] | None) -> None:
    trace = read(COMMON + line + b"\n", "address,path")
    assert keys(trace)[1:-1] == ([] if key is None else [key])
    assert trace.unreadable == (key is None)
    if key is None:
        assert (trace.bad[0].file, trace.bad[0].number) == ("a.log", 3)
        assert line.startswith(trace.bad[0].text)


def test_odd_lines_among_many_change_nothing_for_the_others() -> None:
    """Whole blocks, parts of blocks and single lines come to the same."""
    chance = random.Random(5)
    lines, expected, numbers = [], [], []
    for i in range(20 * PARTS):
        if chance.random() < 0.05:
            line, key = chance.choice([*ODD, (b"", None)])
        else:
            line, key = (
                b'b%d - - [17/May/2015:10:05:03 +0000] "GET /%d?q HTTP/1.1" 200 1' % (i, i),
                (b"b%d" % i, b"/%d" % i),
            )
        lines.append(line + b"\n")
        if key:
            expected.append(key)
        elif line:
            numbers.append(i + 1)
    whole = read(b"".join(lines), "address,path", "combined")
    cut = read([b"".join(lines[i : i + 7]) for i in range(0, len(lines), 7)], "address,path", "combined")
    for trace in (whole, cut):
        assert keys(trace) == expected
        assert [line.number for line in trace.bad] == numbers[:5]
        assert (trace.lines, trace.unreadable, trace.blank) == (len(lines), len(numbers), lines.count(b"\n"))


def test_only_the_fields_that_are_asked_for_are_looked_at_but_all_lines_are_judged_alike() -> None:
    log = COMBINED + b"\n".join(line for line, _ in ODD) + b"\n"
    counted = {
        (read(log, key).unreadable, len(read(log, key))) for key in ("address", "path", "user", "user-agent", "size")
    }
    assert len(counted) == 1


def test_most_lines_decide_the_format() -> None:
    assert len(read(b'{"ts": 1}\n' + COMBINED)) == 2
    assert len(read(b"# a comment\n\n" + COMBINED)) == 2
    assert len(read(b"# a comment\n" + JSON)) == 2


@pytest.mark.parametrize(
    "log", [b"hello\nworld\n", b"one,two\n1,2\n", b"\xff\xfe4\x002\x00\n\x00", bytes(range(256)) * 40 + b"\n"]
)
def test_what_is_not_a_log(log: bytes) -> None:
    with pytest.raises(UnreadableFile, match="not an access log in a known format"):
        read(log)


def test_nothing_and_blanks() -> None:
    assert read([]).lines == 0
    trace = read([b"\n\n", b" \n" + COMBINED])
    assert (trace.lines, trace.blank, len(trace)) == (5, 3, 2)


def test_lines_without_a_key_can_be_left_out() -> None:
    trace = read(COMBINED, "user", skip_missing=True)
    assert (keys(trace), trace.without_key, trace.lines) == ([(b"frank",)], 1, 2)


# ---- files ----


def zstd_compress() -> Callable[[bytes], bytes]:
    """The compressor of whichever module there is."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress
    return pytest.importorskip("zstandard", reason="neither Python 3.14 nor zstandard").compress  # type: ignore[no-any-return]


def read_path(path: Path | str) -> Trace:
    trace = Trace(KeyTable())
    read_file(str(path), Manner(parse_key("address")), trace, lambda done, total: None)
    trace.finish()
    return trace


@pytest.mark.parametrize("name", ["plain", "gzip", "bz2", "xz", "zstd"])
def test_compressed_files_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    compress = {"plain": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    one = (compress[name] if name in compress else zstd_compress())(COMBINED)
    path = tmp_path / "log.txt"
    path.write_bytes(one + one)  # logs are concatenated, and so are archives
    assert len(read_path(path)) == 4


@pytest.mark.parametrize("name", ["gzip", "bz2", "xz", "zstd"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_damaged_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str) -> None:
    """What comes before the damage counts, and the damage is an error."""
    monkeypatch.setattr(files, "BLOCK", 1 << 14)
    lines = b"".join(
        b'%d.0.2.7 - - [17/May/2015:10:05:03 +0000] "GET /%x HTTP/1.1" 200 512\n' % (i % 200, i * 2**31 % 1_000_003)
        for i in range(10_000)
    )
    compress = {
        "gzip": partial(gzip.compress, compresslevel=1),
        "bz2": partial(bz2.compress, compresslevel=1),
        "xz": partial(lzma.compress, preset=0),
    }
    data = (compress[name] if name in compress else zstd_compress())(lines)
    middle = len(data) * 9 // 10
    path = tmp_path / "log"
    path.write_bytes(data[:middle] if damage == "cut off" else data[:middle] + bytes(500) + data[middle + 500 :])
    trace = Trace(KeyTable())
    with pytest.raises(UnreadableFile, match=str(path)):
        read_file(str(path), Manner(parse_key("address")), trace, lambda done, total: None)
    trace.finish()
    assert 1000 < len(trace) < 10_000
    if damage == "cut off":
        assert trace.unreadable == 0


def test_zstandard_without_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "log.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(UnreadableFile, match=r"pip install penstock\[zstd\]"):
        read_path(path)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read_path(tmp_path / "none")
    with pytest.raises(UnreadableFile, match="directory"):
        read_path(tmp_path)
    with pytest.raises(UnreadableFile, match="null"):
        read_path("a\0b")


def test_a_file_without_lines_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableFile, match="no line ends"):
        read_path(path)


def test_a_hole_in_a_file_is_one_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(COMBINED + bytes(5 * BLOCK) + b"\n" + COMBINED)
    trace = read_path(path)
    assert (len(trace), trace.unreadable, trace.lines) == (4, 1, 5)


def test_lines_across_blocks_and_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xef\xbb\xbf" + (COMBINED * 50)[:-1])
    for size in (200, 333, 4096):
        monkeypatch.setattr(files, "BLOCK", size)
        with LogFile(str(path)) as file:
            blocks = list(file.blocks())
        assert b"".join(blocks) == COMBINED * 50
        assert all(block.endswith(b"\n") for block in blocks)
        assert len(read_path(path)) == 100


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(COMBINED))
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert len(read_path("-")) == 2
        assert not stdin.closed
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnreadableFile, match="standard input"):
        read_path("-")


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(COMBINED * 10_000)
    told: list[tuple[int, int]] = []
    read_file(
        str(path), Manner(parse_key("address")), Trace(KeyTable()), lambda done, total: told.append((done, total))
    )
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


def test_rows_of_another_shape_than_the_first() -> None:
    rows = io.StringIO()
    for i in range(100):
        rows.write(json.dumps({"ts": i, "ip": f"10.0.0.{i}"} if i % 2 else {"msg": "restart", "ts": i}) + "\n")
    trace = read(rows.getvalue().encode())
    assert len(trace) == 100
    assert keys(trace).count((b"-",)) == 50
