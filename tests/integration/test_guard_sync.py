"""Guards of several instances over a real Redis: bans, lists and limits cross, and Redis' absence stops nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from servers import Server, until

import penstock

if not penstock.native:
    pytest.skip("the guard needs the compiled modules", allow_module_level=True)

from penstock.guard import Guard, Request

CONFIG = {
    "addresses": True,
    "limits": {"everyone": None, "user": None, "address": "100/hour"},
    "ddos": {"per_second": 0, "per_minute": 0, "behaviour": 0, "in_flight": 2},
    "clients": 256,
}


@pytest.fixture
def pair(server: Server) -> Iterator[tuple[Guard, Guard]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(Guard(CONFIG, sync=server.url, name="front")) for _ in range(2))  # type: ignore[misc]


def ask(guard: Guard, address: str, **fields: Any) -> str:
    return guard.inspect(Request(address, **fields)).kind


def test_bans_and_lists_cross(pair: tuple[Guard, Guard]) -> None:
    one, two = pair
    one.ban("192.0.2.1", 600)
    one.ban("ada", 600, kind="user")
    one.deny("198.51.100.0/24", "a test")
    until("the bans", lambda: ask(two, "192.0.2.1") == "banned" and ask(two, "192.0.2.2", user="ada") == "banned")
    until("the list", lambda: ask(two, "198.51.100.7") == "ip_blocked")
    assert [ban.reason for ban in two.bans()] == ["another instance"] * 2
    assert all(ban.value is None for ban in two.bans()), "no clear address has crossed"
    two.allow("198.51.100.7", "a friend")
    two.unban("192.0.2.1")
    until("the other way", lambda: ask(one, "198.51.100.7") == "" and ask(one, "192.0.2.1") == "")


def test_a_limit_is_one(pair: tuple[Guard, Guard]) -> None:
    one, two = pair
    assert sum(ask(one, "192.0.2.3") == "" for _ in range(150)) <= 100
    until("that it is used up", lambda: ask(two, "192.0.2.3") == "rate_limited")


def test_without_redis(tmp_path: Path) -> None:
    """It starts, judges, and tells once Redis is there."""
    with Server(tmp_path) as server:
        url = server.url
    with Guard(CONFIG, sync=url, name="alone") as guard:
        assert ask(guard, "192.0.2.4") == ""
        guard.ban("192.0.2.4", 60)
        assert ask(guard, "192.0.2.4") == "banned"
        assert "away" in guard.status()["health"]["redis"]


def test_sync_needs_a_name(server: Server) -> None:
    with pytest.raises(ValueError, match="name"):
        Guard(CONFIG, sync=server.url)
