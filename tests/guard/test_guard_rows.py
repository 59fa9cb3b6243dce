"""What a guard is asked for, row by row, where no other file shows it: presets, tiers, bans, rules, privacy."""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Any

import pytest
from visitors import ADDRESS, ask, guarding

from penstock.guard import Config, Evidence, Guard, Request, Scenario, Severity

JA4 = "t13d1516h2_8daaf6152771_02713d6af862"


def test_no_user_or_session_stands_in_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scenarios = [
        Scenario(name=f"by-{'-'.join(by)}", by=by, capacity=0, window=10, action="ban")
        for by in (("user",), ("session",), ("account",), ("ja4",), ("endpoint", "user"), ("user", "address"))
    ]
    with guarding({"scenarios": scenarios}) as (guard, _), caplog.at_level(logging.INFO, "penstock.guard"):
        verdict = ask(guard, path="/shop", user="ada-lovelace", session="s3cr3t", ja4=JA4)
        assert {one.key for one in verdict.reasons} >= {"user:ada-lovelace", "session:s3cr3t"}  # the application knows
        assert ask(guard, user="ada-lovelace").reasons[0].key == "user:ada-lovelace"
        assert guard.events.flush()
        told = repr(guard.events.recent()) + repr([vars(record) for record in caplog.records])
        for text in ("ada-lovelace", "s3cr3t", JA4, ADDRESS):
            assert text not in told
        assert "/shop user:" in told
        guard.forget("ada-lovelace", "user")
        assert "user:" not in repr([one.key for event in guard.events.recent() for one in event.evidence[:1]])


def test_a_ban_says_what_for() -> None:
    with guarding({}) as (guard, _):

        @guard.detector("trap", action="ban", ban=60)
        def trap(request: Request) -> Evidence | None:
            return Evidence("a trap", Severity.HIGH, "went in") if request.path == "/trap" else None

        ask(guard, path="/trap")
        assert ask(guard).reasons[0].detail == "banned for detector"
        assert guard.status()["refusals"] == {"ban": 1, "detector": 1}
        assert guard.ban("198.51.100.1", 60, "scrapes").reason == "scrapes"
        assert guard.events.flush()
        assert "banned for 60 s: scrapes" in {event.evidence[0].detail for event in guard.events.recent()}
        assert {ban.reason for ban in guard.bans()} == {"detector", "by hand"}
    with guarding({"tracking": True}) as (guard, _):
        for _ in range(30):
            ask(guard)
        assert [ban.reason for ban in guard.bans()] == ["tracking"]


def test_a_condition_that_fails_refuses_where_it_is_told_to() -> None:
    def broken(request: Request) -> bool:
        raise KeyError("no such header")

    for on_error, dry_run, status in (("allow", False, 200), ("deny", False, 503), ("deny", True, 200)):
        scenario = Scenario(name="broken", when=broken, window=1, on_error=on_error, dry_run=dry_run)
        with guarding({"scenarios": [scenario]}) as (guard, _):
            verdict = ask(guard)
            assert (verdict.status, verdict.kind) == (status, "unavailable" if status == 503 else "")
            assert guard.status()["health"]["detector_errors"] == {"scenario broken": 1}


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"dry_run": "false"}, TypeError, "dry_run='false' must be true or false"),
        ({"limits": {"dry_run": "no"}}, ValueError, "Limits: dry_run='no' must be true or false"),
        ({"threats": {"scan": 1}}, ValueError, "Threats: scan=1 must be true or false"),
        ({"addresses": {"reputation": "off"}}, ValueError, "Addresses: reputation='off' must be"),
        ({"tracking": {"dry_run": None}}, ValueError, "Tracking: dry_run=None must be"),
        ({"ddos": {"action": "drop"}}, ValueError, "Ddos: action='drop' must be one of allow, log"),
        ({"bypass": {"action": ""}}, ValueError, "Bypass: action='' must be one of"),
    ],
)
def test_settings_that_are_wrong_are_named(config: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        Guard(config)


def test_a_mapping_changes_a_preset() -> None:
    web = Config.read("web")
    read = Config.read({"preset": "web", "limits": True, "ddos": {"per_second": 7}, "threats": False})
    assert read.limits == web.limits
    assert read.ddos == dataclasses.replace(web.ddos, per_second=7)
    assert read.threats is None
    assert read.bypass == web.bypass


@pytest.mark.parametrize("preset", ["api", "iot"])
def test_an_honest_client_of_an_interface_is_a_script(preset: str) -> None:
    script = {"user-agent": "python-requests/2.32", "accept": "*/*"}
    with guarding(preset) as (guard, clock):
        for number in range(55):
            assert ask(guard, path=f"/orders/{number}", headers=script, status=200)
            clock.advance(0.2)
        assert guard.bans() == []
    with guarding({"preset": preset, "threats": {"crawl": True}}) as (guard, clock):
        assert not all(ask(guard, path=f"/orders/{number}", headers=script) for number in range(55))


def test_patterns_of_the_application() -> None:
    def broken(value: str) -> bool:
        raise KeyError("no such value")

    patterns = {"internal": "intranet.local", "digits": lambda value: value.count("9") > 20, "broken": broken}
    with guarding({"threats": {"patterns": patterns, "probing": False}}) as (guard, _):
        assert ask(guard, query="next=example.com")
        for query in ("next=https://INTRANET.local/", "n=" + "9" * 30):
            verdict = ask(guard, query=query)
            assert verdict.kind == "threat_detected"
            assert verdict.reasons[0].findings[0].kind == "custom"
        assert set(guard.status()["health"]["detector_errors"]) == {"pattern broken"}
    with pytest.raises(TypeError, match="Threats: patterns="):
        Guard({"threats": {"patterns": ["intranet.local"]}})
    with pytest.raises(TypeError, match="add_pattern: pattern=5"):
        Guard({"threats": {"patterns": {"number": 5}}})
