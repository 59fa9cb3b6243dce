"""What a guard is asked for, row by row, where no other file shows it: presets, tiers, bans, rules, privacy."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from samples import OUTSIDE, needs
from visitors import ADDRESS, BROWSER, ask, guarding

from penstock import SegmentError, SlidingWindow, TokenBucket
from penstock.guard import (
    Action,
    Config,
    Evidence,
    Guard,
    Request,
    Scenario,
    Severity,
    Technique,
    Tier,
    Tracking,
    from_env,
    sync_from_env,
)

GEO = OUTSIDE / "geo"
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
        ({"limits": {"dry_run": "no"}}, TypeError, "Limits: dry_run='no' must be true or false"),
        ({"threats": {"scan": 1}}, TypeError, "Threats: scan=1 must be true or false"),
        ({"addresses": {"reputation": "off"}}, TypeError, "Addresses: reputation='off' must be"),
        ({"tracking": {"dry_run": None}}, TypeError, "Tracking: dry_run=None must be"),
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


# ---- limits ----


def rates(given: object) -> object:
    """(per second, at once) of a bucket, ("window", most, seconds) of a window, texts as they are."""
    if isinstance(given, TokenBucket):
        return given.limit / given.per, given.burst
    if isinstance(given, SlidingWindow):
        return "window", given.limit, given.per
    return tuple(map(rates, given)) if isinstance(given, tuple) else given


ENDPOINTS = {"/calculate": (5, 50), "/auth": (1, 10), "/api/v1": (10, 100)}


@pytest.mark.parametrize(
    ("preset", "everyone", "user", "address", "endpoints", "flood"),
    [
        ("web", None, (50, 200), (50, 400), {}, (100, 1500)),
        ("api", (100, 1000), (10, 100), (20, 200), ENDPOINTS, (50, 1000)),
        ("login", None, "10/minute; 50/hour", "20/minute; 200/hour", {}, (10, 60)),
        ("iot", None, None, (("window", 60, 60), ("window", 1000, 3600)), {}, (50, 1000)),
        ("strict", (100, 1000), (10, 100), (20, 200), {}, (50, 1000)),
    ],
)
def test_numbers_of_presets(
    preset: str, everyone: object, user: object, address: object, endpoints: object, flood: object
) -> None:
    config = Config.read(preset)
    assert config.limits is not None
    assert config.ddos is not None
    assert rates(config.limits.everyone) == everyone
    assert rates(config.limits.user) == user
    assert rates(config.limits.address) == address
    assert {prefix: rates(rate) for prefix, rate in config.limits.endpoints.items()} == endpoints
    assert (config.ddos.per_second, config.ddos.per_minute) == flood
    assert (config.ddos.in_flight, config.ddos.emergency) == (100, 10_000)
    assert config.addresses is not None
    assert (config.addresses.auto_ban, config.addresses.ban) == (10, 3600)
    assert (config.tracking.policy if config.tracking else None) == ("majority" if preset == "strict" else None)
    assert (config.threats.paranoia if config.threats else None) == (2 if preset == "strict" else 1)
    assert (config.bypass.action if config.bypass else None) == {
        "web": "log", "api": "log", "login": "block", "iot": None, "strict": "block",
    }[preset]  # fmt: skip


def test_buckets_of_all_users_addresses_and_endpoints() -> None:
    limits = {"everyone": TokenBucket(100, 1, 1000), "endpoints": {"/api": "50/minute", "/api/v1/slow": "2/minute"}}
    with guarding({"limits": limits}) as (guard, clock):
        for number in range(10):  # ten addresses, a hundred each: each within its 200, together all 1000
            for place in range(100):
                assert ask(guard, f"10.0.0.{number}", f"/{place}")
        assert ask(guard, "10.0.1.1").reasons[0].detail == "limit everyone: 1000 are allowed"
        clock.advance(1)
        assert sum(bool(ask(guard, f"10.1.0.{n}")) for n in range(150)) == 100  # refilled by a hundred a second
        clock.advance(60)
        assert sum(bool(ask(guard, user="ada")) for _ in range(150)) == 100
        assert sum(bool(ask(guard, "10.2.0.1")) for _ in range(250)) == 200
        clock.advance(60)
        assert [bool(ask(guard, path="/api/v1/slow/7")) for _ in range(3)] == [True, True, False]  # the longest prefix
        assert all(ask(guard, path="/api/v1/fast") for _ in range(50))
        refused = ask(guard, path="/api/v1/fast")
        assert refused.reasons[0].detail == "limit /api: 50 are allowed"
        assert ask(guard, "10.2.0.9", "/api/v1/slow")


def test_a_limit_by_key_and_both_remainders_of_a_device() -> None:
    config = {
        "preset": "iot",
        "extra": {"key": lambda request: request.header("x-api-key")},
        "limits": {"facts": {"key": "5/minute"}},
        "ddos": False,
    }
    with guarding(config) as (guard, clock):
        with_key = {**BROWSER, "x-api-key": "k1"}
        assert [bool(ask(guard, f"10.0.0.{n}", headers=with_key)) for n in range(6)] == [True] * 5 + [False]
        assert ask(guard, "10.0.0.9", headers={**BROWSER, "x-api-key": "k2"})
        for _ in range(60):
            assert ask(guard)
        for _ in range(40):
            refused = ask(guard)
            assert (refused.status, refused.kind) == (429, "rate_limited")
        left = guard.remaining(Request(ADDRESS))
        assert sorted(left.values()) == [0, 940], "of sixty a minute and a thousand an hour; refusals took none"
        wait = refused.retry_after
        assert wait is not None
        clock.advance(wait)
        assert ask(guard)


def test_a_limit_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for on_error, status in (("local", 200), ("allow", 200), ("deny", 503)):
        with guarding({"limits": {"on_error": on_error}}) as (guard, _):

            def gone(*_: object) -> None:
                raise SegmentError("cut off")

            monkeypatch.setattr(guard._limits, "ask", gone)
            verdict = ask(guard)
            assert (verdict.status, verdict.kind) == (status, "unavailable" if status == 503 else "")
            assert guard.status()["statistics"]["errors"] == 1
            assert guard.status()["health"]["detector_errors"] == {"limits": 1}


# ---- several strategies ----


def test_ladders() -> None:
    """What reaches which tier: the count allowed does not, one more in its own window does."""
    strategies = Tracking().strategies
    assert {name: (one.suspicious, one.block, one.ban) for name, one in strategies.items()} == {
        "by_ip": (2, 10, 20), "by_ja4": (5, 25, 50), "by_ip_ja4_pair": (1, 5, 10),
    }  # fmt: skip
    assert [(str(one.action), one.seconds) for one in strategies.values()] == [
        ("block", 7200), ("log", 3600), ("tarpit", 3600),
    ]  # fmt: skip
    assert Tracking().windows == (1, 10, 60)
    with guarding({"tracking": True}) as (guard, clock):
        verdicts = [ask(guard) for _ in range(21)]
        tiers = [verdict.tier for verdict in verdicts]
        assert tiers == [Tier.NORMAL] * 2 + [Tier.SUSPICIOUS] * 8 + [Tier.BLOCK] * 10 + [Tier.BANNED]
        assert verdicts[-1].action is Action.BAN
        assert guard.bans()[0].seconds_left == pytest.approx(7200, rel=0.1)
        assert guard.bans()[0].value == f"ip:{ADDRESS}"
        for _ in range(1300):  # twenty a second for a minute would be a ban; 1.9 a second is nothing at all
            assert ask(guard, "10.0.0.1").tier is Tier.NORMAL
            clock.advance(1 / 1.9)


def test_a_pair_is_held_and_a_fingerprint_is_logged() -> None:
    with guarding({"tracking": True, "tarpit": {"seconds": 3}}) as (guard, _):
        verdicts = [ask(guard, ja4=JA4) for _ in range(6)]
        assert [bool(one) for one in verdicts] == [True] * 6
        assert [one.delay for one in verdicts] == [0.0] * 5 + [3.0]
        assert {one.detector for one in verdicts[-1].reasons} >= {"tracking.by_ip_ja4_pair", "tracking.by_ip"}
        for number in range(60):  # a fingerprint that thousands share
            assert ask(guard, f"10.0.0.{number}", ja4=JA4).delay == 0
        assert guard.bans() == []
    for given in ("t13d1516h2_8daaf6152771", JA4.upper(), JA4 + "0", "x13d1516h2_8daaf6152771_02713d6af862", "\ud800"):
        with guarding({"tracking": True}) as (guard, _):
            assert not any(ask(guard, f"10.0.0.{number}", ja4=given).reasons for number in range(60))


@pytest.mark.parametrize(
    ("policy", "tier"), [("any", Tier.BANNED), ("all", Tier.NORMAL), ("majority", Tier.SUSPICIOUS)]
)
def test_policies(policy: str, tier: Tier) -> None:
    strategies = {
        "low": {"by": ["user"], "suspicious": 1, "block": 2, "ban": 3},
        "mid": {"by": ["session"], "suspicious": 1, "block": 50, "ban": 60},
        "high": {"by": ["address"], "suspicious": 50, "block": 60, "ban": 70},
    }
    with guarding({"tracking": {"strategies": strategies, "windows": [1], "policy": policy}}) as (guard, _):
        verdicts = [ask(guard, user="ada", session="s1") for _ in range(10)]
        assert max(one.tier for one in verdicts) is tier
        assert bool(guard.bans()) is (tier is Tier.BANNED)


@pytest.mark.parametrize(
    "by", [["user", "path"], ["session", "network"], ["address", "tenant"], ["ja4", "user", "tenant"]]
)
def test_composites_of_extractors(by: list[str]) -> None:
    strategy = {"by": by, "suspicious": 1, "block": 3, "ban": 5, "action": "challenge"}
    config = {
        "extra": {"tenant": lambda request: request.header("x-tenant")},
        "tracking": {"strategies": {"mine": strategy}, "windows": [1]},
    }
    headers = {**BROWSER, "x-tenant": "7"}
    with guarding(config) as (guard, _):
        all_of_it = {"user": "ada", "session": "s1", "ja4": JA4, "headers": headers}
        assert [ask(guard, **all_of_it).action for _ in range(4)] == ["allow", "log", "log", "challenge"]
        refused = ask(guard, **all_of_it)
        assert (refused.status, refused.kind) == (403, "challenge")
        other = {"user": "bob", "session": "s2", "ja4": JA4, "headers": {**BROWSER, "x-tenant": "8"}}
        assert ask(guard, **other).reasons == ()
        lacking = {"headers": BROWSER} if "tenant" in by else {}
        assert not any(ask(guard, **lacking).reasons for _ in range(9)), "who lacks one of the facts is not counted"


def test_what_is_checked_of_tracking() -> None:
    one = {"by": ["address"], "suspicious": 1, "block": 2, "ban": 3}
    for wrong, said in (
        ({"windows": [0.05]}, "each of 0.1 to 3600 seconds"),
        ({"windows": [3601]}, "each of 0.1 to 3600 seconds"),
        ({"policy": "most"}, "policy='most' must be one of any, all, majority"),
        ({"strategies": {}}, "1 to 10 can be tracked"),
        ({"strategies": {str(n): one for n in range(11)}}, "strategies has 11 of them; 1 to 10 can be tracked"),
        ({"strategies": {"a": one | {"action": "drop"}}}, "action='drop' must be one of"),
        ({"strategies": {"a": one | {"block": 9}}}, "must not fall"),
        ({"strategies": {"a": one | {"seconds": 31 * 86_400}}}, "seconds=2678400 must be a number"),
        ({"strategies": {"a": one | {"by": ["adress"]}}}, "'adress' is no fact"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            Guard({"tracking": wrong})
    with pytest.raises(ValueError, match=r"seconds=301 must be a number, 0 to 300"):
        Guard({"tarpit": {"seconds": 301}})


def test_tracking_a_connection() -> None:
    with guarding({"tracking": True}) as (guard, clock):
        for _ in range(29):
            guard.track_connection(JA4, ADDRESS)
        found = guard.track_connection(JA4, ADDRESS)
        assert set(found) == {"by_ip", "by_ja4", "by_ip_ja4_pair"}
        assert found["by_ip"].rates == {1.0: 30.0, 10.0: 3.0, 60.0: 0.5}
        assert found["by_ip"].connections_per_second == 30
        assert found["by_ip"].exceeds_threshold
        assert {name: one.tier.name for name, one in found.items()} == {
            "by_ip": "BANNED", "by_ja4": "BLOCK", "by_ip_ja4_pair": "BANNED",
        }  # fmt: skip
        clock.advance(120)
        assert guard.track_connection(None, ADDRESS)["by_ip"].tier is Tier.NORMAL
    with guarding({}) as (guard, _), pytest.raises(ValueError, match="no tracking="):
        guard.track_connection(JA4, ADDRESS)


# ---- floods ----


def test_the_same_endpoint() -> None:
    off = {"per_second": 0, "per_minute": 0, "behaviour": 0}
    with guarding({"ddos": off | {"same_endpoint": 20}, "endpoints": ["/api/v1"]}) as (guard, clock):
        for number in range(29):
            assert ask(guard, path=f"/other{number}")
            clock.advance(1)
        for number in range(20):
            assert ask(guard, path=f"/api/v1/{number}")
            clock.advance(1)
        assert ask(guard, path="/elsewhere")
        refused = ask(guard, path="/api/v1/21")
        assert (refused.kind, refused.reasons[0].detector) == ("ddos_blocked", "ddos.same_endpoint")
        assert ask(guard, "10.0.0.1", "/api/v1/1")


def test_behaviour_convicts_by_several_signs() -> None:
    """A machine at even intervals, far too fast; a person who is only fast, or only even, is none."""
    quiet = {"per_second": 0, "per_minute": 0}
    with guarding({"ddos": quiet}) as (guard, clock):
        fired: set[str] = set()
        for _ in range(400):
            verdict = ask(guard, path="/one")
            fired |= {one.detector for one in verdict.reasons}
            if not verdict:
                break
            clock.advance(0.02)
        assert fired >= {"behaviour.metronome", "behaviour.rapid", "ddos.behaviour"}
        assert guard.bans()[0].reason == "ddos.behaviour"
        assert guard.bans()[0].seconds_left == pytest.approx(300, rel=0.11)
    with guarding({"ddos": quiet}) as (guard, clock):
        for _ in range(400):  # a health check, each second
            assert ask(guard, path="/one", status=200)
            clock.advance(1)


def test_a_flood_is_let_in_as_often_as_is_allowed() -> None:
    """What is refused does not count: a hundred each minute, and never more."""
    with guarding({"ddos": {"per_second": 0, "per_minute": 100, "behaviour": 0}}) as (guard, clock):
        admitted = 0
        for _ in range(600):
            admitted += bool(ask(guard))
            clock.advance(0.2)
        assert 180 <= admitted <= 200
        clock.advance(60)
        assert ask(guard)


def test_people_who_share_an_address() -> None:
    with guarding("web") as (guard, clock):
        for _ in range(5):
            assert ask(guard, path="/login", method="POST", status=401)
            clock.advance(11)
        assert guard.bans() == [], "one wrong password in ten seconds is what many people have"
        for _ in range(7):
            ask(guard, path="/login", method="POST", status=401)
            clock.advance(3)
        assert [ban.reason for ban in guard.bans()] == ["probing.unauthorised"]
    for crawl in (True, False):
        with guarding({"preset": "web", "threats": {"crawl": crawl}}) as (guard, clock):
            for number in range(160):
                ask(guard, path=f"/tiles/{number}", status=200)
                ask(guard, path=f"/static/{number}.png", status=200)
                clock.advance(0.125)
            assert [ban.reason for ban in guard.bans()] == (["probing.crawl"] if crawl else [])


# ---- addresses ----


def test_bans_grow_fade_and_end() -> None:
    with guarding({"bans": {"jitter": 0.1}}) as (guard, clock):
        lengths = []
        for _ in range(6):
            ban = guard.ban(ADDRESS)
            lengths.append(ban.seconds_left)
            clock.advance(ban.seconds_left + 1)
        for number, seconds in enumerate(lengths):
            assert 3600 * 2**number * 0.899 <= seconds <= 3600 * 2**number * 1.101
        assert len(set(lengths)) == 6
        clock.advance(3 * 86_400)  # three are forgotten
        assert guard.ban(ADDRESS).seconds_left == pytest.approx(3600 * 8, rel=0.11)
        guard.unban(ADDRESS)
        clock.advance(30 * 86_400)  # and in the end all
        assert guard.ban(ADDRESS).seconds_left == pytest.approx(3600, rel=0.11)
    with guarding({"bans": {"jitter": 0.0}}) as (guard, clock):
        for _ in range(3):  # in force already, and no further offence
            assert guard.ban(ADDRESS).offences == 1
        for _ in range(12):
            last = guard.ban(ADDRESS)
            clock.advance(last.seconds_left + 1)
        assert last.seconds_left == pytest.approx(30 * 86_400)
        with pytest.raises(ValueError, match=r"seconds=2592001 must be more than 0 and at most 2592000"):
            guard.ban(ADDRESS, 30 * 86_400 + 1)
        assert ask(guard)


@needs(GEO)
def test_countries_and_operators() -> None:
    pytest.importorskip("maxminddb")
    addresses = {
        "countries": ["GB"],
        "geoip": str(GEO / "GeoLite2-Country-Test.mmdb"),
        "geoip_asn": str(GEO / "GeoLite2-ASN-Test.mmdb"),
        "allow": ["81.2.69.143"],
    }
    per_operator = Scenario(name="operator", by="asn", capacity=2, window=60, action="block")
    with guarding({"addresses": addresses, "scenarios": [per_operator]}) as (guard, _):
        refused = ask(guard, "81.2.69.142")
        assert (refused.status, refused.kind, refused.reasons[0].detail) == (403, "ip_blocked", "country GB")
        assert ask(guard, "81.2.69.143"), "the allow list counts before"
        assert ask(guard, "127.0.0.1"), "no country is none of these"
        assert [bool(ask(guard, f"1.128.0.{number}")) for number in range(1, 4)] == [True, True, False]  # one operator
        assert guard.assess("216.160.83.56").asn == 209
        assert guard.status()["health"]["geoip"] == "ok"
    with pytest.raises(ValueError, match="countries= needs geoip="):
        Guard({"addresses": {"countries": ["GB"]}})


def test_levels_of_feeds(tmp_path: Path) -> None:
    feed = tmp_path / "ipsum.txt"
    feed.write_text("# a comment\n198.51.100.7\t5\n198.51.100.8\t1\n198.51.100.9\t3\n")
    plain = tmp_path / "plain.txt"
    plain.write_text("add bad 192.0.2.0/24\n2001:db8:bad::/48\n")
    addresses = {"feeds": {"ipsum": str(feed), "plain": str(plain)}, "levels": {"ipsum": 3}}
    with guarding({"addresses": addresses}) as (guard, _):
        kinds = {n: ask(guard, f"198.51.100.{n}").kind for n in (7, 8, 9)}
        assert kinds == {7: "ip_blocked", 8: "", 9: "ip_blocked"}
        assert ask(guard, "192.0.2.77").kind == ask(guard, "2001:db8:bad:1::1").kind == "ip_blocked"
        assert guard.load_feed("ipsum", feed, level=1) == 3
        assert ask(guard, "198.51.100.8").reasons[0].detail == "feed 198.51.100.8 (ipsum)"
        feed.write_text("<html>not found</html>\n")
        with pytest.raises(ValueError, match="is no list of addresses"):
            guard.load_feed("ipsum", feed)
        assert ask(guard, "198.51.100.8").kind == "ip_blocked", "the one in use stays"


# ---- ways around ----


def test_rotation_is_folded() -> None:
    with guarding({"bypass": {"action": "block"}}) as (guard, clock):
        for number in range(40):  # one /64, and one /24: a household, a mobile operator's pool
            assert ask(guard, f"2001:db8::{number:x}", user="ada").reasons == ()
            assert ask(guard, f"198.51.100.{number}", user="bob").reasons == ()
            clock.advance(1)
        for number in range(3):
            assert ask(guard, f"10.{number}.0.1", user="eve")
        refused = ask(guard, "10.9.0.1", user="eve")
        assert refused.reasons[0].technique is Technique.IP_ROTATION
        assert refused.reasons[0].severity is Severity.HIGH
        assert not refused
        agents = [ask(guard, user="dan", headers={**BROWSER, "user-agent": f"agent {n}"}) for n in range(3)]
        assert [bool(one) for one in agents] == [True, True, False]
        assert agents[-1].reasons[0].technique is Technique.USER_AGENT_SPOOFING


def test_odd_behaviour_is_points_and_a_script_is_none() -> None:
    with guarding({"bypass": True}) as (guard, clock):
        bare = {"user-agent": "Mozilla/5.0", "x-forwarded-for": ", ".join(["10.0.0.1"] * 7)}
        told = set()
        for _ in range(300):
            told |= {one.detector for one in ask(guard, headers=bare).reasons}
            clock.advance(0.2)
        assert told >= {"bypass.missing_headers", "bypass.long_chain", "bypass.rapid", "bypass.behaviour"}
        for _ in range(90):
            assert ask(guard, "10.0.0.1", headers={"user-agent": "curl/8.9"}).reasons == ()
            clock.advance(1)


def test_asking_the_bypass_detectors_alone() -> None:
    assert [one.name for one in Severity] == ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    assert len(Technique) == 7
    for auto_block in (True, False):
        with guarding({"bypass": True}) as (guard, _):
            requests = [Request(f"10.{number}.0.1", user="eve", headers=BROWSER) for number in range(4)]
            found = [guard.check_for_bypass(request, auto_block) for request in requests]
            assert found[:3] == [(), (), ()]
            assert [one.technique for one in found[3]] == [Technique.IP_ROTATION]
            assert [ban.value for ban in guard.bans()] == (["ip:10.3.0.1"] if auto_block else [])
    with guarding({}) as (guard, _), pytest.raises(ValueError, match="no bypass="):
        guard.check_for_bypass(Request(ADDRESS))


def test_detections_are_kept_for_a_day_or_as_said() -> None:
    for config, seconds in (({}, 86_400), ({"events": {"retention": 60}}, 60)):
        with guarding({"threats": True} | config) as (guard, clock):
            ask(guard, query="q=<script>alert(1)</script>")
            assert guard.events.flush()
            clock.advance(seconds - 1)
            assert [event.kind for event in guard.events.recent()] == ["threat_detected"]
            clock.advance(2)
            assert guard.events.recent() == []


# ---- threats ----


def test_the_anomaly_threshold_is_reached_in_a_guard() -> None:
    with guarding({"threats": {"scan": False, "probing": False, "anomaly": 0.7}}) as (guard, clock):
        for number in range(3000):
            ask(guard, f"10.{number % 200}.{number % 7}.1", f"/shop/{number % 40}", query=f"page={number % 9}")
            clock.advance(0.05)
        odd = ask(guard, "198.51.100.1", "/x" * 900, method="PUT", query="%00%ff=" + "'\"<>(){}" * 300)
        assert odd, "evidence, and no verdict"
        assert [one.detector for one in odd.reasons] == ["anomaly"]
        assert 0.7 < odd.reasons[0].value <= 1


def test_weak_points_and_exclusions() -> None:
    threats = {"exclude": [["/search", "q", "sqli"]], "body": True}
    with guarding({"threats": threats}) as (guard, _):
        text = "1' UNION SELECT login, password FROM users--"
        assert ask(guard, path="/search", query=f"q={text}")
        assert ask(guard, path="/search", query=f"page={text}").kind == "threat_detected"
        form = {**BROWSER, "content-type": "application/x-www-form-urlencoded"}
        body = b"name=%3Cscript%3Ealert(1)%3C%2Fscript%3E"
        assert ask(guard, "10.0.0.1", method="POST", headers=form, body=body).kind == "threat_detected"
        assert ask(guard, "10.0.0.2", headers={"user-agent": "python-requests/2.32"}, status=200)


# ---- operations ----


def test_statistics_have_their_keys_and_add_up() -> None:
    config = {
        "limits": {"everyone": None, "user": None, "address": "3/minute"},
        "addresses": {"deny": ["198.51.100.7"]},
        "ddos": {"per_second": 5},
        "threats": True,
    }
    with guarding(config) as (guard, _):
        for _ in range(7):
            ask(guard)
        ask(guard, "198.51.100.7")
        ask(guard, "10.0.0.1", query="q=<script>alert(1)</script>")
        statistics = guard.status()["statistics"]
        parts = {name: statistics[name] for name in ("rate_limited", "ddos_blocked", "ip_blocked", "threat_detected")}
        assert parts == {"rate_limited": 2, "ddos_blocked": 2, "ip_blocked": 1, "threat_detected": 1}
        assert statistics["total_requests"] == 9
        assert statistics["blocked_requests"] == sum(parts.values())
        status = guard.status()
        assert set(status) == {
            "enabled", "statistics", "tiers", "actions", "refusals", "top", "bans", "emergency", "health",
        }  # fmt: skip
        assert status["enabled"] == ["limits", "ddos", "addresses", "threats"]
        assert sum(status["tiers"].values()) == 9
        assert {one["address"] for one in status["top"]} == {"203.0.x.x", "198.51.x.x", "10.0.x.x"}


@pytest.mark.parametrize(
    "config",
    [
        {"limits": {"address": "1/minute", "dry_run": True}},
        {"ddos": {"per_second": 1, "dry_run": True}},
        {"tracking": {"windows": [1], "dry_run": True}},
        {"threats": {"dry_run": True}},
        {"bypass": {"networks": 1, "action": "ban", "dry_run": True}},
        {"scenarios": [{"name": "mine", "capacity": 1, "window": 10, "action": "ban", "dry_run": True}]},
    ],
)
def test_a_dry_run_of_one_part(config: dict[str, Any]) -> None:
    """It says what it would do, lets through and bans nobody; the other parts do what they do."""
    listed = {"addresses": {"deny": ["198.51.100.7"], "reputation": True}}
    with guarding(config | listed) as (guard, _):
        verdicts = [
            ask(guard, f"10.{number % 3}.0.1", user="eve", query="q=<script>alert(1)</script>") for number in range(90)
        ]
        assert all(verdicts)
        assert any(one.action.refuses for one in verdicts)
        assert guard.bans() == []
        statistics = guard.status()["statistics"]
        assert statistics["would_have_been_blocked"] > 0
        assert statistics["blocked_requests"] == 0
        assert ask(guard, "198.51.100.7").kind == "ip_blocked"


def test_forgetting_a_client() -> None:
    config = {"limits": {"address": "3/hour", "everyone": None}, "addresses": True, "threats": True}
    with guarding(config) as (guard, _):
        for _ in range(3):
            ask(guard)
        ask(guard, query="q=<script>alert(1)</script>")
        guard.ban(ADDRESS)
        guard.deny("203.0.113.99")
        assert guard.events.flush()
        assert guard.events.recent()
        assert guard.forget(ADDRESS) > 0
        assert ask(guard)
        assert guard.remaining(Request(ADDRESS))
        assert guard.assess(ADDRESS).reputation == 50
        assert guard.bans() == []
        assert guard.events.recent() == []
        assert guard.forget("198.51.100.1") == 0
        assert ask(guard, "203.0.113.99").kind == "ip_blocked", "lists are the operator's word"
        with pytest.raises(ValueError, match="kind='adress' must be one of"):
            guard.forget(ADDRESS, "adress")


def test_it_starts_without_redis_and_geoip(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("maxminddb")  # without it, that is what the guard tells of
    addresses = {"geoip": "/nowhere/GeoLite2-Country.mmdb"}
    with caplog.at_level(logging.INFO, "penstock.guard"), guarding({"addresses": addresses}) as (guard, _):
        assert ask(guard)
        health = guard.status()["health"]
        assert health["geoip"] == "'GeoLite2-Country.mmdb': absent"
        assert health["redis"] == "off"
    assert sum("there is no file" in record.getMessage() for record in caplog.records) == 1


# ---- environment ----


def test_the_environment() -> None:
    assert from_env(environ={}).parts == [], "off until configured"
    switches = ("RATE_LIMITING", "DDOS_PROTECTION", "IP_MANAGEMENT", "THREAT_DETECTION")
    on = {f"SECURITY_ENABLE_{name}": "true" for name in switches}
    usual = from_env(environ=on)
    assert usual.parts == ["limits", "ddos", "addresses", "threats"]
    assert usual.limits is not None
    assert (rates(usual.limits.everyone), rates(usual.limits.user), rates(usual.limits.address)) == (
        (100, 1000), (10, 100), (20, 200),
    )  # fmt: skip
    numbers = {
        "RATE_LIMIT_GLOBAL_CAPACITY": 11, "RATE_LIMIT_GLOBAL_REFILL_RATE": 12, "RATE_LIMIT_PER_USER_CAPACITY": 13,
        "RATE_LIMIT_PER_IP_CAPACITY": 14, "DDOS_REQUESTS_PER_SECOND_THRESHOLD": 15,
        "DDOS_REQUESTS_PER_MINUTE_THRESHOLD": 16, "DDOS_CONCURRENT_CONNECTIONS_LIMIT": 17,
        "IP_AUTO_BLACKLIST_THRESHOLD": 18, "IP_TEMP_BLOCK_DURATION": 19, "THREAT_ANOMALY_THRESHOLD": 0.9,
        "THREAT_ML_RETRAIN_INTERVAL": 20,
    }  # fmt: skip
    environ = on | {f"SECURITY_{name}": str(value) for name, value in numbers.items()}
    read = from_env(environ=environ | {"GEOIP_DATABASE_PATH": "/nowhere.mmdb"})
    assert read.limits is not None
    assert rates(read.limits.everyone) == (12, 11)
    assert (rates(read.limits.user), rates(read.limits.address)) == ((10, 13), (20, 14))
    assert read.ddos is not None
    assert (read.ddos.per_second, read.ddos.per_minute, read.ddos.in_flight) == (15, 16, 17)
    assert read.addresses is not None
    assert (read.addresses.auto_ban, read.addresses.ban, read.addresses.geoip) == (18, 19, "/nowhere.mmdb")
    assert read.threats is not None
    assert (read.threats.anomaly, read.threats.ban) == (0.9, 19)
    for name in numbers:
        for wrong in ("many", "nan", "inf"):
            with pytest.raises(ValueError, match=f"SECURITY_{name}='{wrong}' must be a number"):
                from_env(environ=environ | {f"SECURITY_{name}": wrong})
    for name in switches:
        with pytest.raises(ValueError, match=f"SECURITY_ENABLE_{name}='perhaps' must be true or false"):
            from_env(environ={f"SECURITY_ENABLE_{name}": "perhaps"})
    assert from_env("SHOP_", {"SHOP_ENABLE_DDOS_PROTECTION": "on"}).parts == ["ddos"]


def test_redis_of_the_environment() -> None:
    assert sync_from_env({}) is None
    assert sync_from_env({"REDIS_URL": "redis://cache:6379/1"}) == "redis://cache:6379/1"
    given = {"REDIS_URL": "rediss://cache:6379/1", "REDIS_PASSWORD": "p@ss/w"}
    assert sync_from_env(given) == "rediss://:p%40ss%2Fw@cache:6379/1"
    given["REDIS_URL"] = "redis://shop:own@cache/1"
    assert sync_from_env(given) == "redis://shop:own@cache/1", "its own counts"
