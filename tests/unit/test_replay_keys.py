"""Keys of a replay: how they are asked for, what becomes of addresses and requests, and their numbers."""

from __future__ import annotations

import pytest

from penstock.replay.keys import (
    MISSING,
    FieldError,
    KeyTable,
    Part,
    RawKeys,
    network,
    parse_key,
    request_method,
    request_path,
    request_protocol,
    request_target,
    without_port,
)


def test_fields_are_separated_by_commas() -> None:
    assert parse_key("address") == (Part("address"),)
    assert parse_key(" user , path ") == (Part("user"), Part("path"))


@pytest.mark.parametrize(
    ("text", "v4", "v6"),
    [
        ("address/24", 24, 64),
        ("address/32", 32, 64),
        ("address/0", 0, 64),
        ("address/48", 32, 48),
        ("address/128", 32, 128),
        ("address/24/56", 24, 56),
        ("client_ip/16/32", 16, 32),
    ],
)
def test_prefix_lengths(text: str, v4: int, v6: int) -> None:
    (part,) = parse_key(text)
    assert (part.v4, part.v6) == (v4, v6)
    assert parse_key(str(part)) == (part,)


@pytest.mark.parametrize(
    "text", ["", ",", "address,", "/24", "address/", "address/x", "address/24/64/1", "address/33/64", "address/129"]
)
def test_keys_that_are_refused(text: str) -> None:
    with pytest.raises(FieldError, match="key="):
        parse_key(text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"192.0.2.77", b"192.0.2.0/24"),
        (b"192.0.2.77:8080", b"192.0.2.0/24"),
        (b"2001:db8:1:2:3:4:5:6", b"2001:db8:1:2::/64"),
        (b"[2001:db8:1:2::9]:443", b"2001:db8:1:2::/64"),
        (b"fe80::1%eth0", b"fe80::/64"),
        (b"::ffff:192.0.2.77", b"192.0.2.0/24"),
        (b"example.com", b"example.com"),
        (b"-", b"-"),
        (b"\xff", b"\xff"),
    ],
)
def test_networks(address: bytes, expected: bytes) -> None:
    assert network(address, 24, 64) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"10.0.0.1:40000", b"10.0.0.1"),
        (b"[2001:db8::1]:443", b"2001:db8::1"),
        (b"2001:db8::1", b"2001:db8::1"),
        (b"10.0.0.1", b"10.0.0.1"),
        (b"host:80", b"host:80"),
        (b"", b""),
    ],
)
def test_ports_are_left_out(address: bytes, expected: bytes) -> None:
    assert without_port(address) == expected


@pytest.mark.parametrize(
    ("request_line", "method", "target", "path", "protocol"),
    [
        (b"GET /a?b=1 HTTP/1.1", b"GET", b"/a?b=1", b"/a", b"HTTP/1.1"),
        (b"GET /a", b"GET", b"/a", b"/a", b"-"),
        (b"GET /a b HTTP/1.0", b"GET", b"/a b", b"/a b", b"HTTP/1.0"),
        (b"CONNECT example.com:25 HTTP/1.1", b"CONNECT", b"example.com:25", b"example.com:25", b"HTTP/1.1"),
        (b"-", b"-", b"-", b"-", b"-"),
        (b"\\x16\\x03\\x01", b"-", b"\\x16\\x03\\x01", b"\\x16\\x03\\x01", b"-"),
        (b"", b"-", b"", b"", b"-"),
    ],
)
def test_parts_of_a_request(request_line: bytes, method: bytes, target: bytes, path: bytes, protocol: bytes) -> None:
    assert request_method(request_line) == method
    assert request_target(request_line) == target
    assert request_path(request_line) == path
    assert request_protocol(request_line) == protocol


def test_equal_keys_have_one_number_whatever_they_were_read_from() -> None:
    table = KeyTable()
    from_clf, from_json = RawKeys(table, [None, None]), RawKeys(table, [None, None])
    assert from_clf[b"a", b"x"] == from_json["a", "x"] == 0
    assert from_clf[b"a", b"y"] == 1
    assert table.names() == [(b"a", b"x"), (b"a", b"y")]


def test_a_transform_joins_raw_texts_into_one_key() -> None:
    table = KeyTable()
    keys = RawKeys(table, [request_path])
    assert keys[b"GET /a?1 HTTP/1.1"] == keys[b"POST /a?2 HTTP/1.1"] == 0
    assert len(table) == 1


def test_raw_texts_are_forgotten_but_not_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.replay.keys._RAW_MOST", 10)
    keys = RawKeys(KeyTable(), [None])
    numbers = [keys[b"%d" % i] for i in range(35)]
    assert len(keys) <= 10
    assert [keys[b"%d" % i] for i in range(35)] == numbers == list(range(35))


def test_missing_fields_can_be_left_out() -> None:
    table = KeyTable(skip_missing=True)
    assert table.number((b"a", b"-")) == table.number((b"", b"x")) == MISSING
    assert table.number((b"a", b"x")) == 0
    assert KeyTable().number((b"-",)) == 0


def test_texts_of_json_that_no_bytes_stand_for() -> None:
    keys = RawKeys(KeyTable(), [None])
    assert len({keys["\ud800"], keys["\udc80"], keys["a"], keys[b"\x80"]}) == 3, "only \\udc80 stands for a byte"
