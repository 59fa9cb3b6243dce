"""Exchange without a server: what may be told, what is made of foreign entries, whose change holds, no Redis."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("redis")

from penstock.errors import SyncError
from penstock.guard.events import pseudonym
from penstock.guard.exchange import PENDING_MOST, Change, Exchange, _is_over, _read_entry

NOWHERE = "redis://127.0.0.1:1/0"
KEY = "0123456789abcdef"
FAR = 4_000_000_000.0
OTHER = b"f" * 16


@pytest.fixture
def found() -> list[Change]:
    return []


@pytest.fixture
def alone(found: list[Change]) -> Iterator[Exchange]:
    """One whose thread has ended, with no Redis: its parts are called by hand."""
    exchange = Exchange(NOWHERE, "guard", found.extend)
    exchange.close(20)
    exchange._closed = False
    yield exchange
    exchange._closed = True


def soon(seconds: float = 3600) -> float:
    return time.time() + seconds


def entry(*changes: Any, instance: bytes = OTHER) -> dict[bytes, bytes]:
    return {b"v": b"1", b"i": instance, b"c": json.dumps(changes).encode()}


def own_entry(exchange: Exchange) -> dict[bytes, bytes]:
    """What the exchange would send now."""
    owns = list(exchange._pending.values())
    exchange._pending.clear()
    return entry(*([own.serial, *own.change] for own in owns), instance=exchange._instance.encode())


def test_others_changes_are_applied_in_order(alone: Exchange, found: list[Change]) -> None:
    until = soon()
    alone._take([entry([1, "ban", KEY, until, 2, "flood"], [2, "deny", "192.0.2.0/24", 0, 0, ""])])
    alone._take([entry([3, "unban", KEY, 0, 0, ""], instance=b"e" * 16)])
    assert found == [
        Change("ban", KEY, until, 2, "flood"),
        Change("deny", "192.0.2.0/24", 0.0, 0, ""),
        Change("unban", KEY, 0.0, 0, ""),
    ]
    assert alone.counts().applied == 3
    assert alone.counts().foreign == 0


def test_a_later_change_of_ones_own_holds(alone: Exchange, found: list[Change]) -> None:
    """Stream: their unban, our ban. We banned before we read: everybody ends with the ban."""
    alone.tell(Change("ban", KEY, soon()))
    mine = own_entry(alone)
    alone._take([entry([1, "unban", KEY, 0, 0, ""])])
    assert found == []
    alone._take([mine])
    assert found == []
    alone._take([entry([2, "unban", KEY, 0, 0, ""])])
    assert [change.kind for change in found] == ["unban"]


def test_an_older_echo_does_not_end_the_wait(alone: Exchange, found: list[Change]) -> None:
    alone.tell(Change("ban", KEY, soon()))
    first = own_entry(alone)
    alone.tell(Change("unban", KEY))
    second = own_entry(alone)
    alone._take([first, entry([1, "ban", KEY, soon(), 0, ""])])
    assert found == []
    alone._take([second, second, entry([2, "ban", KEY, soon(), 0, ""])])
    assert len(found) == 1


def test_a_ban_and_a_list_entry_are_different_things(alone: Exchange, found: list[Change]) -> None:
    alone.tell(Change("ban", KEY, soon()))
    alone._take([entry([1, "deny", KEY, 0, 0, ""])])
    assert [change.kind for change in found] == ["deny"]


def test_what_is_theirs_by_now_is_not_told_again(alone: Exchange) -> None:
    alone.tell(Change("ban", KEY, soon()))
    alone.tell(Change("ban", "a" * 16, soon(0.05)))
    alone.tell(Change("allow", "192.0.2.1"))
    alone._take([own_entry(alone), entry([1, "unban", KEY, 0, 0, ""])])
    time.sleep(0.06)
    alone._tell_again(True)
    assert [own.change.kind for own in alone._pending.values()] == ["allow"]


def test_what_is_taken_back_is_told_whatever_its_time(alone: Exchange) -> None:
    alone.tell(Change("unban", KEY, time.time() - 5))
    assert not [own for own in alone._pending.values() if _is_over(own.change)]
    own_entry(alone)
    alone._tell_again(False)
    assert not alone._pending
    alone._tell_again(True)
    assert [own.change.kind for own in alone._pending.values()] == ["unban"]


def test_a_change_that_cannot_be_applied_fails_alone() -> None:
    found: list[str] = []

    def apply(changes: list[Change]) -> None:
        for change in changes:
            if change.key == "bad":
                raise ValueError("not an address")
            found.append(change.key)

    exchange = Exchange(NOWHERE, "guard", apply)
    exchange._take([entry([1, "deny", "bad", 0, 0, ""], [2, "deny", "192.0.2.1", 0, 0, ""])])
    assert found == ["192.0.2.1"]
    exchange.close()


def test_bans_that_are_over_are_not_applied(alone: Exchange, found: list[Change]) -> None:
    alone._take([entry([1, "ban", KEY, time.time() - 1, 3, ""], [2, "ban", KEY, 1.0, 3, ""])])
    assert found == []
    assert alone.counts().foreign == 0


def test_a_ban_that_another_clock_made_too_long_is_cut(alone: Exchange, found: list[Change]) -> None:
    alone._take([entry([1, "ban", KEY, FAR, 1, ""])])
    assert found[0].until < time.time() + 31 * 86_400


MALFORMED = [
    {},
    {b"c": b"[]"},
    {b"v": b"2", b"i": OTHER, b"c": b"[]"},
    {b"v": b"1", b"i": b"short", b"c": b"[]"},
    {b"v": b"1", b"i": b"\xff" * 16, b"c": b"[]"},
    {b"v": b"1", b"i": OTHER, b"c": b""},
    {b"v": b"1", b"i": OTHER, b"c": b"[" * 60_000},
    {b"v": b"1", b"i": OTHER, b"c": b"[" * 70_000},
    {b"v": b"1", b"i": OTHER, b"c": b"{}"},
    {b"v": b"1", b"i": OTHER, b"c": b"\xff\xfe"},
    {b"v": b"1", b"i": OTHER, b"c": b"9" * 5_000},
]
BAD_CHANGES: list[Any] = [
    None,
    3,
    [],
    "text",
    [1],
    [1, "ban", KEY, FAR, 1],
    [True, "ban", KEY, FAR, 1, ""],
    ["1", "ban", KEY, FAR, 1, ""],
    [1, "explode", KEY, FAR, 1, ""],
    [1, [], KEY, FAR, 1, ""],
    [1, "ban", "192.0.2.1", FAR, 1, ""],
    [1, "ban", KEY.upper(), FAR, 1, ""],
    [1, "ban", KEY, 0, 1, ""],
    [1, "ban", KEY, -5, 1, ""],
    [1, "ban", KEY, float("nan"), 1, ""],
    [1, "ban", KEY, True, 1, ""],
    [1, "deny", "192.0.2.1", float("inf"), 1, ""],
    [1, "deny", "192.0.2.1", 10**400, 1, ""],
    [1, "deny", "x" * 65, 0, 1, ""],
    [1, "deny", "a\nb", 0, 1, ""],
    [1, "deny", "", 0, 1, ""],
    [1, "ban", KEY, FAR, -1, ""],
    [1, "ban", KEY, FAR, 1.5, ""],
    [1, "ban", KEY, FAR, 1 << 40, ""],
    [1, "ban", KEY, FAR, 1, None],
]


@pytest.mark.parametrize("fields", MALFORMED)
def test_malformed_entries_are_counted(fields: dict[bytes, bytes], alone: Exchange, found: list[Change]) -> None:
    alone._take([fields])
    assert found == []
    assert alone.counts().foreign == 1


@pytest.mark.parametrize("bad", BAD_CHANGES)
def test_malformed_changes_are_counted_and_the_others_applied(bad: Any, alone: Exchange, found: list[Change]) -> None:
    alone._take([entry(bad, [7, "unban", KEY, 0, 0, "kept"])])
    assert [change.reason for change in found] == ["kept"]
    assert alone.counts().foreign == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=7)
)


@given(st.lists(JSON, max_size=4))
def test_any_content_is_read(content: list[Any]) -> None:
    read = _read_entry(entry(*content))
    assert len(read.changes) + read.foreign == len(content)


@given(st.dictionaries(st.sampled_from([b"v", b"i", b"c", b"x"]), st.binary(max_size=40)))
def test_any_fields_are_read(fields: dict[bytes, bytes]) -> None:
    assert _read_entry(fields).foreign <= 1


def test_applying_that_raises_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def apply(changes: list[Change]) -> None:
        raise KeyError("192.0.2.1")

    exchange = Exchange(NOWHERE, "guard", apply)
    for number in range(3):
        exchange._take([entry([number, "unban", KEY, 0, 0, ""])])
    assert exchange.counts().failed == 3
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == ["guard 'guard': applying changes raised KeyError (logged once for each kind)"]
    exchange.close()


def test_what_waits_is_bounded_and_the_latest_about_a_key(alone: Exchange) -> None:
    for number in range(PENDING_MOST + 10):
        alone.tell(Change("ban", f"{number:016x}", soon()))
    alone.tell(Change("unban", f"{PENDING_MOST:016x}"))
    assert alone.counts().pending == PENDING_MOST
    assert alone.counts().dropped == 10
    assert list(alone._pending.values())[-1].change == Change("unban", f"{PENDING_MOST:016x}")
    assert len(alone._unread) == PENDING_MOST


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (Change("band", KEY), ValueError, "kind='band' must be one of allow, ban, deny, remove, unban"),
        (Change("ban", "192.0.2.1", FAR), ValueError, "key='192.0.2.1' must be a fingerprint of 16 hex digits"),
        (Change("ban", KEY), ValueError, "until=0.0 must be within 31 days"),
        (Change("ban", KEY, FAR), ValueError, "until=4000000000.0 must be within 31 days"),
        (Change("ban", KEY, float("nan")), ValueError, "until=nan"),
        (Change("deny", "x" * 100), ValueError, "must be 1 to 64 printable characters"),
        (Change("unban", KEY, offences=-1), ValueError, "offences=-1"),
        (Change("unban", KEY, reason=3), TypeError, "reason must be a str, not int"),  # type: ignore[arg-type]
        (("unban", KEY), TypeError, "change must be a Change, not tuple"),
    ],
)
def test_what_may_be_told_is_checked(change: Any, error: type[Exception], says: str, alone: Exchange) -> None:
    with pytest.raises(error, match=says):
        alone.tell(change)
    assert alone.counts().pending == 0


def test_reasons_are_bounded_and_printable(alone: Exchange) -> None:
    alone.tell(Change("unban", KEY, reason="a\n\x1b\udcff" + "x" * 131_072))
    (own,) = alone._pending.values()
    assert own.change.reason.startswith("a???x")
    assert len(own.change.reason) == 200


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (("ftp://x", "guard", print), {}, SyncError, "redis://"),
        ((3, "guard", print), {}, TypeError, "URL"),
        ((NOWHERE, "a b", print), {}, ValueError, "name='a b'"),
        ((NOWHERE, "guard", None), {}, TypeError, "apply must be callable, not NoneType"),
        ((NOWHERE, "guard", print, b"short"), {}, ValueError, "secret has 5 bytes"),
        ((NOWHERE, "guard", print), {"every": 0.01}, ValueError, "every=0.01"),
        ((NOWHERE, "guard", print), {"every": float("nan")}, ValueError, "every=nan"),
    ],
)
def test_arguments_are_checked(arguments: Any, options: Any, error: type[Exception], says: str) -> None:
    threads = threading.active_count()
    with pytest.raises(error, match=says):
        Exchange(*arguments, **options)
    assert threading.active_count() == threads


def test_secrets() -> None:
    made = [Exchange(NOWHERE, name, print, secret) for name, secret in (("a", None), ("b", None), ("a", b"x" * 16))]
    again = Exchange(NOWHERE, "a", print, b"x" * 16)
    assert len({exchange.secret for exchange in made}) == 3
    assert again.secret == made[2].secret
    assert len(pseudonym(again.secret, "address:192.0.2.1")) == 16
    for exchange in (*made, again):
        exchange.close()


def test_it_starts_without_redis_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "penstock.guard"):
        exchange = Exchange(NOWHERE, "guard", print, every=0.05)
        exchange.tell(Change("ban", KEY, soon()))
        end = time.monotonic() + 20
        while "nothing listens" not in exchange.state() and time.monotonic() < end:
            time.sleep(0.01)
        assert exchange.state().startswith("away for ")
        assert exchange.state().endswith("s: nothing listens there")
        time.sleep(0.3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert exchange.counts().pending == 1
    exchange.close()
    assert exchange.state() == "closed"
    exchange.tell(Change("ban", KEY, soon()))
    assert exchange.counts().dropped == 1


def test_a_password_is_never_said(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("redis://user:hunter2@127.0.0.1:1/0", "guard", print, every=0.05)
    end = time.monotonic() + 20
    while "nothing listens" not in exchange.state() and time.monotonic() < end:
        time.sleep(0.01)
    exchange.close()
    assert caplog.records
    assert "hunter2" not in caplog.text + exchange.state() + repr(exchange)


def test_a_forgotten_one_is_collected_and_its_thread_ends() -> None:
    exchange = Exchange(NOWHERE, "guard", print, every=0.05)
    thread = exchange._thread
    end = time.monotonic() + 20
    while "nothing listens" not in exchange.state() and time.monotonic() < end:
        time.sleep(0.01)  # so that what it says of that is logged, and kept by who keeps the log
    del exchange
    while thread.is_alive() and time.monotonic() < end:
        gc.collect()
        thread.join(0.05)
    assert not thread.is_alive()
