"""Lists: allowed before everything, changes in one step and handed on as text, feeds replaced only when whole."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("penstock._match", reason="the guard needs the compiled modules")

from penstock.guard.addresses import AddressSet
from penstock.guard.lists import CHANGES_MOST, Listed, Lists


def test_the_order_of_lists() -> None:
    lists = Lists(allow=["192.0.2.0/24"], deny={"192.0.2.7": "scraper", "198.51.100.0/24": "abuse"})
    lists.set_feed("one", AddressSet(["203.0.113.0/24", "192.0.2.8", "198.51.100.1"]))
    lists.set_feed("two", AddressSet(["203.0.113.5"]))
    assert lists.judge("192.0.2.7") == Listed("allow", "192.0.2.0/24", "configuration", "")
    assert lists.judge("192.0.2.8") == Listed("allow", "192.0.2.0/24", "configuration", "")
    assert lists.judge("198.51.100.1") == Listed("deny", "198.51.100.0/24", "configuration", "abuse")
    assert lists.judge("203.0.113.5") == Listed("feed", "203.0.113.0/24", "one", "")
    for address in ("9.9.9.9", "::1", "nonsense", "", "1" * 100_000, "\udcff"):
        assert lists.judge(address) is None


def test_denying_does_not_drop_the_allow_entry() -> None:
    lists = Lists()
    lists.allow("192.0.2.7", "the office")
    lists.deny("192.0.2.7", "by mistake")
    assert lists.judge("192.0.2.7") == Listed("allow", "192.0.2.7", "runtime", "the office")
    assert lists.entries("deny") == (Listed("deny", "192.0.2.7", "runtime", "by mistake"),)
    assert lists.remove("192.0.2.7", "allow")
    assert lists.judge("192.0.2.7") == Listed("deny", "192.0.2.7", "runtime", "by mistake")


def test_no_feed_evicts_the_allow_list(tmp_path: Path) -> None:
    lists = Lists(allow=["2001:db8::/64"])
    path = tmp_path / "everyone"
    path.write_text("0.0.0.0/0\n::/0\n2001:db8::1\n")
    lists.load_feed("everyone", path)
    assert lists.judge("2001:db8::1") == Listed("allow", "2001:db8::/64", "configuration", "")
    assert lists.judge("2001:db9::1") == Listed("feed", "::/0", "everyone", "")


def test_changes_while_running() -> None:
    lists = Lists(deny=["10.0.0.0/8"])
    assert lists.deny("10.0.0.1/32", "one") == "10.0.0.1"
    assert lists.judge("10.0.0.1") == Listed("deny", "10.0.0.1", "runtime", "one")
    assert lists.deny("10.0.0.1", "two") == "10.0.0.1"
    assert lists.generation == 2
    assert lists.deny("10.0.0.1", "two") == "10.0.0.1"
    assert lists.generation == 2, "nothing changed"
    assert [listed.entry for listed in lists.entries()] == ["10.0.0.0/8", "10.0.0.1"]
    assert lists.remove("10.0.0.0/8", "deny"), "a configured entry"
    assert not lists.remove("10.0.0.0/8", "deny")
    assert not lists.remove("10.0.0.1", "allow")
    assert lists.judge("10.0.0.2") is None
    lists.deny("10.0.0.0/8", "again")
    assert lists.judge("10.0.0.2") == Listed("deny", "10.0.0.0/8", "runtime", "again")
    assert lists.remove("10.0.0.0/8", "deny")
    assert lists.judge("10.0.0.2") is None, "and the configured entry does not come back"
    assert lists.generation == 5


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda lists: lists.allow("10.0.0.1/8"), "bits beyond"),
        (lambda lists: lists.deny("nonsense"), "not an address"),
        (lambda lists: lists.deny("1.2.3.4", "x" * 201), "reason="),
        (lambda lists: lists.deny("1.2.3.4", None), "reason="),
        (lambda lists: lists.remove("1.2.3.4", "feed"), "kind="),
        (lambda lists: lists.entries("all"), "kind="),
        (lambda lists: lists.set_feed("", AddressSet()), "name="),
        (lambda _: Lists(allow=["1.2.3"]), "allow: entry='1.2.3'"),
    ],
)
def test_what_is_refused_changes_nothing(call: Any, error: str) -> None:
    lists = Lists(deny=["5.5.5.5"])
    with pytest.raises(ValueError, match=error):
        call(lists)
    assert (lists.generation, [one.entry for one in lists.entries()]) == (0, ["5.5.5.5"])


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="several entries"):
        Lists(deny="10.0.0.0/8")
    with pytest.raises(TypeError, match="AddressSet"):
        Lists().set_feed("x", ["1.2.3.4"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="address="):
        Lists().judge(None)  # type: ignore[arg-type]


# ---- feeds ----


def test_a_feed_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    lists = Lists(clock=lambda: now[0])
    path = tmp_path / "feed"
    path.write_text("1.1.1.1 5\n2.2.2.2 1\n")
    assert lists.load_feed("ipsum", path, level=3).below == 1
    now[0] = 130.0
    state = lists.feeds()["ipsum"]
    assert (state.entries, state.age, state.rejected.lines) == (1, 30.0, 0)
    caplog.set_level(logging.INFO, "penstock.guard")
    for content in ("<html>\n<p>\nerror\n", "", "<html>"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"no list of addresses|is empty"):
            lists.load_feed("ipsum", path)
        assert lists.judge("1.1.1.1") == Listed("feed", "1.1.1.1", "ipsum", "")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        lists.load_feed("ipsum", path)
    with pytest.raises(FileNotFoundError):
        lists.load_feed("another", path)
    assert [record.name for record in caplog.records] == ["penstock.guard", "penstock.guard"], "once for each feed"
    assert "the one in use stays" in caplog.messages[0]
    assert "none in use" in caplog.messages[1]
    path.write_text("3.3.3.3\n")
    lists.load_feed("ipsum", path)
    assert (lists.judge("1.1.1.1"), lists.feeds()["ipsum"].age) == (None, 0.0)
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        lists.load_feed("ipsum", path)
    assert len(caplog.records) == 3, "after a success it is said again"
    assert lists.remove_feed("ipsum")
    assert not lists.remove_feed("ipsum")
    assert lists.judge("3.3.3.3") is None


# ---- changes for other processes ----


def test_changes_are_handed_on() -> None:
    one, other = (Lists(allow=["192.0.2.1"], deny=["10.0.0.0/8"]) for _ in range(2))
    one.deny("198.51.100.7", 'a "reason" \udcff ☃')
    one.allow("10.1.1.1")
    one.remove("10.0.0.0/8", "deny")
    assert other.load(one.dump())
    assert other.entries() == one.entries()
    assert other.generation == one.generation == 3
    assert not other.load(one.dump()), "the same generation"
    other.remove("198.51.100.7", "deny")
    assert one.load(other.dump())
    assert one.judge("198.51.100.7") is None
    assert not other.load(json.dumps({"version": 1, "generation": 2, "changes": []})), "an earlier one"
    third = Lists()
    assert third.load(one.dump())
    assert [listed.entry for listed in third.entries()] == ["10.1.1.1"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "{", "[" * 100_000, '{"version": 2, "generation": 9, "changes": []}',
        '{"version": 1, "generation": -1, "changes": []}', '{"version": 1, "generation": true, "changes": []}',
        '{"version": 1, "generation": 9, "changes": 5}',
        '{"version": 1, "generation": 9, "changes": [["deny", "1.2.3.4"]]}',
        '{"version": 1, "generation": 9, "changes": [["deny", "x", ""]]}',
        '{"version": 1, "generation": 9, "changes": [["feed", "1.2.3.4", ""]]}',
        '{"version": 1, "generation": 9, "changes": [["deny", "1.2.3.4", 5]]}',
        '{"version": 1, "generation": 9, "changes": [[["deny"], "1.2.3.4", ""]]}',
        '{"version": 1, "generation": 1e999, "changes": []}', '{"version": 1, "generation": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_what_is_no_dump_changes_nothing(text: str) -> None:
    lists = Lists()
    lists.deny("1.1.1.1")
    with pytest.raises(ValueError, match="must be what dump"):
        lists.load(text)
    assert (lists.generation, len(lists.entries())) == (1, 1)


def test_changes_are_bounded() -> None:
    lists = Lists()
    changes = [["deny", f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", ""] for i in range(CHANGES_MOST)]
    assert lists.load(json.dumps({"version": 1, "generation": 5, "changes": changes}))
    with pytest.raises(ValueError, match="at most 16384"):
        lists.deny("1.1.1.1")
    lists.deny("10.0.0.0", "another reason for one that is there")
    assert lists.remove("10.0.0.0", "deny")
    lists.deny("1.1.1.1")
    more = json.dumps({"version": 1, "generation": 99, "changes": [*changes, ["allow", "1.1.1.1", ""]]})
    with pytest.raises(ValueError, match="at most 16384"):
        lists.load(more)


STEPS = st.tuples(
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(["10.0.0.1", "10.0.0.0/8", "10.0.0.0-10.0.0.5", "::1", "::/64"]),
    st.sampled_from(["", "why", None]),
)


@given(st.lists(STEPS, max_size=20), st.integers(0, 20))
def test_a_history_against_a_dictionary(steps: list[tuple[Any, str, str | None]], cut: int) -> None:
    """reason None removes. Another Lists of the same configuration, that loads now and then, says the same."""
    configured = {"10.0.0.1": "configured", "::/64": ""}
    lists, follower = Lists(deny=configured), Lists(deny=configured)
    model: dict[str, dict[str, str]] = {"allow": {}, "deny": dict(configured)}
    for i, (kind, entry, reason) in enumerate(steps):
        if reason is None:
            assert lists.remove(entry, kind) == (model[kind].pop(entry, None) is not None)
        else:
            (lists.allow if kind == "allow" else lists.deny)(entry, reason)
            model[kind][entry] = reason
        if i >= cut:
            follower.load(lists.dump())
            assert follower.entries() == lists.entries()
    for kind in ("allow", "deny"):
        assert {one.entry: one.reason for one in lists.entries(kind)} == model[kind]  # type: ignore[arg-type]
    covers = [entry for entry in model["allow"] if entry.startswith("10.")]
    listed = lists.judge("10.0.0.1")
    if covers:
        assert listed is not None
        assert listed.kind == "allow"
        assert listed.entry in covers


def test_readers_see_all_of_a_change_or_nothing() -> None:
    """A feed is swapped for another while others ask: an address is listed all the time, by one of them."""
    lists = Lists(allow=["192.0.2.1"])
    lists.set_feed("feed", AddressSet(["10.0.0.0/8"]))
    wrong: list[object] = []
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            listed = lists.judge("10.1.1.1")
            if listed is None or listed.kind != "feed":
                wrong.append(listed)
            else:
                seen.add(listed.entry)
            allowed = lists.judge("192.0.2.1")
            if allowed is None or allowed.kind != "allow":
                wrong.append(allowed)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    turns = 0
    while len(seen) < 2 and turns < 100_000:
        lists.set_feed("feed", AddressSet(["10.1.0.0/16" if turns % 2 else "10.0.0.0/8"]))
        lists.deny(f"198.51.100.{turns % 256}", str(turns))
        turns += 1
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert seen == {"10.0.0.0/8", "10.1.0.0/16"}
