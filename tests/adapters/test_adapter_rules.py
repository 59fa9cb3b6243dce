"""Rules: which of them a request meets."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from calls import call

from penstock import Limiter, TokenBucket
from penstock.adapters import keys
from penstock.adapters.gate import Gate
from penstock.adapters.rules import Rule, Rules


def names(rules: Rules, path: str, method: str = "GET") -> list[str]:
    return [rule.name for rule in rules.find(method, path)]


def rules(*paths: str) -> Rules:
    return Rules(Rule("1/second", path, name=path) for path in paths)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "/"),
        ("", "/"),
        ("/login", "/login"),
        ("/login/", "/login"),
        ("//login", "/login"),
        ("/login/x", "*"),
        ("/LOGIN", "*"),
        ("/api", "/api/*"),
        ("/api/", "/api/*"),
        ("/api/v2/x", "/api/*"),
        ("/apis", "*"),
        ("/api/v1", "/api/v1/*"),
        ("/api/v1/users", "/api/v1/*"),
        ("/api/v1/users/7", "/api/v1/users/{id}"),
        ("/api/v1/users/me", "/api/v1/users/me"),
        ("/api/v1/users/7/x", "/api/v1/*"),
        ("/api/v1/users/me/keys", "/api/v1/users/<id>/keys"),
        ("/other", "*"),
    ],
)
def test_the_most_specific_path(path: str, name: str) -> None:
    found = rules(
        "*", "/", "/login", "/api/*", "/api/v1/*", "/api/v1/users/{id}", "/api/v1/users/me", "/api/v1/users/<id>/keys"
    )
    assert names(found, path) == [name]
    assert names(found, path) == [name], "remembered"


def test_without_a_rule_for_all_others_are_free() -> None:
    assert names(rules("/login"), "/other") == []


def test_methods() -> None:
    found = Rules([
        Rule("1/second", "/a", methods=["get"], name="get"),
        Rule("1/second", "/a", methods=["POST", "PUT"], name="write"),
        Rule("1/second", "/a", name="any"),
        Rule("1/second", "*", methods=["DELETE"], name="delete"),
        Rule("1/second", "/b", methods=["OPTIONS"], name="options"),
    ])  # fmt: skip
    by_method = {"GET": "get", "HEAD": "get", "POST": "write", "PUT": "write", "DELETE": "any", "WEBSOCKET": "any"}
    for method, name in by_method.items():
        assert names(found, "/a", method) == [name]
    assert names(found, "/a", "OPTIONS") == []
    assert names(found, "/b", "OPTIONS") == ["options"]
    assert names(found, "/b", "DELETE") == ["delete"]
    assert names(found, "/b", "GET") == []


def test_layers_count_together() -> None:
    found = Rules([
        Rule("1/second", layer="all"), Rule("1/second", "/a", layer="all", name="all of a"),
        Rule("1/second", "/a", layer="users"), Rule("1/second", "/a/*"),
    ])  # fmt: skip
    assert names(found, "/a") == ["all of a", "users", "default"]
    assert names(found, "/a/b") == ["all", "default"]


def test_what_is_remembered_is_bounded() -> None:
    found = rules("/a/{b}")
    for number in range(5000):
        assert names(found, f"/a/{number}") == ["/a/{b}"]
    assert len(found.found) <= 4096
    assert names(found, "/a/" + "x" * 65_536) == ["/a/{b}"]
    assert names(found, "/a" * 30_000) == []
    assert names(found, "/" * 65_536 + "a/b") == ["/a/{b}"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"path": "login"}, "path='login'"),
        ({"path": "/a*"}, r"must end in \"/\*\""),
        ({"path": "/*/a"}, "path="),
        ({"path": 7}, "path=7"),
        ({"methods": "GET"}, "must be several"),
        ({"key": "address"}, "key must be a function"),
        ({"exempt": True}, "exempt must be a function"),
        ({"cost": 0}, "cost=0"),
        ({"cost": "1"}, "cost"),
        ({"tier": "gold"}, "tier='gold'"),
        ({"unknown": "ignore"}, "unknown='ignore'"),
        ({"layer": 'a"b'}, "printable ASCII"),
        ({"name": "\xe9"}, "printable ASCII"),
    ],
)
def test_bad_rules(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        Rule("1/second", **arguments)


def test_two_rules_for_the_same() -> None:
    with pytest.raises(ValueError, match="can never count beside"):
        Rules([Rule("1/second", "/a"), Rule("2/second", "/a/")])
    Rules([Rule("1/second", "/a"), Rule("2/second", "/a", layer="other"), Rule("2/second", "/a", methods=["GET"])])


def test_cost_tier_and_exempt() -> None:
    limiter = Limiter(tiers={"free": TokenBucket(10, per=3600), "pro": TokenBucket(100, per=3600)})
    rule = Rule(
        limiter,
        key=keys.everyone,
        cost=lambda call: int(call.lines("x-cost")[0]),
        tier=lambda call: "pro" if call.lines("x-pro") else "free",
        exempt=lambda call: call.path == "/health",
    )
    gate = Gate([rule])
    assert gate.outcome(call(x_cost="7")).speaking.remaining == 3  # type: ignore[union-attr]
    assert gate.outcome(call(x_cost="7", x_pro="1")).speaking.remaining == 86  # type: ignore[union-attr]
    assert gate.outcome(call(path="/health")).speaking is None
    assert gate.outcome(call(x_cost="0")).speaking is None
    assert gate.outcome(call(x_cost="11")).retry_after is None, "no wait helps a cost above the limit"
    assert limiter.stats().admitted == 2


FAULTS: list[dict[str, Any]] = [
    {"key": lambda call: None},
    {"key": lambda call: 1 / 0},
    {"key": lambda call: 1.5},
    {"key": lambda call: ("a", ("b",))},
    {"key": lambda call: ["a"]},
    {"key": keys.everyone, "cost": lambda call: 1 / 0},
    {"key": keys.everyone, "cost": lambda call: -1},
    {"key": keys.everyone, "cost": lambda call: "1"},
    {"key": keys.everyone, "cost": lambda call: False},
    {"key": keys.everyone, "tier": lambda call: "gold"},
    {"key": keys.everyone, "exempt": lambda call: 1 / 0},
]


@pytest.mark.parametrize("fault", FAULTS)
def test_who_cannot_be_told(fault: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """The three policies, and one line in the log for a function that fails."""
    caplog.set_level(logging.ERROR, "penstock.adapters")
    for unknown, statuses in (("refuse", [403] * 3), ("admit", [200] * 3), ("share", [200, 429, 429])):
        gate = Gate([Rule("1/hour", unknown=unknown, **fault)])  # type: ignore[arg-type]
        caplog.clear()
        assert [gate.outcome(call()).status for _ in range(3)] == statuses
        fails = fault is not FAULTS[0]
        assert len(caplog.records) == fails
        assert not fails or caplog.records[0].exc_info is not None


def test_unknown_callers_of_two_peers_share_nothing() -> None:
    gate = Gate([Rule("1/hour", key=keys.header("x-api-key"), unknown="share")])
    clients = [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1), None, None]
    assert [gate.outcome(call(client=client)).status for client in clients] == [200, 429, 200, 200, 429]


def test_by_default_no_peer_is_refused_and_not_one_bucket() -> None:
    gate = Gate(["1/hour"])
    assert [gate.outcome(call(client=None)).status for _ in range(2)] == [403, 403]
    assert gate.rules.all[0].limiter.stats().live == 0
