"""Faults of earlier guards, one test each: what must not happen here."""

from __future__ import annotations

from pathlib import Path

import pytest
from visitors import ADDRESS, BROWSER, ask, guarding

import penstock.guard
from penstock.guard import (
    Action,
    AddressSet,
    Evidence,
    Guard,
    Request,
    Response,
    Scenario,
    Severity,
    Strategy,
    Technique,
    Tier,
    client_address,
    scan,
)
from penstock.guard.tracking import agreed

SQL = "1' UNION SELECT login, password FROM users--"


def test_an_injection_is_found_and_the_text_of_a_pattern_is_none() -> None:
    assert {one.kind for one in scan(SQL)} == {"sqli"}
    assert not scan(r"(?i)\bunion\b.*\bselect\b")


def test_per_second_is_per_second() -> None:
    """Fifty in a second pass, the fifty-first does not; forty a second for a minute are never fifty in one."""
    with guarding({"ddos": {"per_minute": 0, "behaviour": 0}}) as (guard, clock):
        verdicts = [ask(guard) for _ in range(51)]
        assert [bool(one) for one in verdicts] == [True] * 50 + [False]
        assert verdicts[-1].kind == "ddos_blocked"
        clock.advance(10)
        for _ in range(40 * 10):
            assert ask(guard)
            clock.advance(1 / 40)


def test_each_window_is_measured_by_itself() -> None:
    with guarding({"ddos": {"per_second": 50, "per_minute": 120, "behaviour": 0}}) as (guard, clock):
        admitted = 0
        for _ in range(200):
            admitted += bool(ask(guard))
            clock.advance(0.1)
        assert admitted == 120


def test_in_flight_is_a_count_and_no_timer() -> None:
    with guarding({"ddos": {"in_flight": 3, "per_second": 0, "per_minute": 0, "behaviour": 0}}) as (guard, clock):
        for _ in range(100):  # one after the other, however fast, is one at a time
            with guard.flight(Request(ADDRESS)):
                assert ask(guard)
        flights = [guard.flight(Request(ADDRESS)) for _ in range(3)]
        fourth = Request(ADDRESS)
        with guard.flight(fourth):
            assert guard.inspect(fourth).kind == "in_flight"
        clock.advance(3600)  # nothing but the end of an answer gives it back
        fifth = Request(ADDRESS)
        with guard.flight(fifth):
            assert guard.inspect(fifth).kind == "in_flight"
        flights.pop().__exit__(None, None, None)
        sixth = Request(ADDRESS)
        with guard.flight(sixth):
            assert guard.inspect(sixth)


def test_a_flight_is_given_back_when_the_application_raises() -> None:
    with guarding({"ddos": {"in_flight": 1}}) as (guard, _):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), guard.flight(Request(ADDRESS)):
                raise ZeroDivisionError
        request = Request(ADDRESS)
        with guard.flight(request):
            assert guard.inspect(request)


def test_emergency_mode_begins_ends_and_restores() -> None:
    config = {"ddos": {"emergency": 100, "dwell": 5, "per_second": 50, "emergency_per_second": 2, "behaviour": 0}}
    with guarding(config) as (guard, clock):
        for number in range(150):
            ask(guard, f"10.0.{number}.1")
        assert guard.emergency_on
        assert [bool(ask(guard, "10.9.9.9")) for _ in range(3)] == [True, True, False]  # stricter, but the same visitor
        clock.advance(4)
        assert guard.emergency_on  # a minimum dwell
        clock.advance(2)
        assert not guard.emergency_on
        clock.advance(10)
        assert all(ask(guard, "10.9.9.9") for _ in range(50))  # all of it is restored


def test_emergency_mode_lasts_as_long_as_its_reason_and_by_hand() -> None:
    config = {"ddos": {"emergency": 100, "dwell": 2, "behaviour": 0, "per_second": 0, "per_minute": 0}}
    with guarding(config) as (guard, clock):
        for number in range(150):
            ask(guard, f"10.0.{number}.1")
        for number in range(1000):  # 80 a second: below the rate that began it, above half of it
            clock.advance(1 / 80)
            ask(guard, f"10.1.{number % 250}.{number // 250}")
        assert guard.emergency_on
        guard.emergency(False)
        assert not guard.emergency_on
        guard.emergency(True)
        clock.advance(1000)
        assert guard.emergency_on
        guard.emergency(None)
        assert not guard.emergency_on


def test_what_one_address_can_take_is_bounded() -> None:
    """A visitor with a thousand paths and agents has a few records, and memory does not grow at all."""
    with guarding({"ddos": True, "bypass": True, "threats": {"scan": False}, "clients": 64}) as (guard, clock):
        before = guard.status()["health"]["memory"]
        for number in range(3000):
            ask(guard, path=f"/p{number}", user="ada", headers={**BROWSER, "user-agent": f"a{number}"}, status=200)
            clock.advance(0.01)
        assert guard.status()["health"]["memory"] == before
        assert guard._records.used() < 400


def test_a_forged_chain_bans_nobody_else() -> None:
    scope = {"client": ("198.51.100.9", 1), "headers": [(b"x-forwarded-for", b"203.0.113.7")]}
    assert client_address(scope) == "198.51.100.9"
    behind = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"203.0.113.7, 198.51.100.9")]}
    assert client_address(behind, ["10.0.0.0/8"]) == "198.51.100.9"
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.7, [2001:db8::1]:443"}
    assert client_address(environ, ["10.0.0.0/8"]) == "2001:db8::1"


def test_reputation_goes_back_to_neutral_and_bans_no_idle_visitor() -> None:
    with guarding({"addresses": True, "threats": True}) as (guard, clock):
        ask(guard, status=200)
        for _ in range(40):
            clock.advance(86_400)
            assert guard.assess(ADDRESS).reputation == 50
        ask(guard, query=f"q={SQL}")
        low = guard.assess(ADDRESS).reputation
        clock.advance(86_400)
        assert low < guard.assess(ADDRESS).reputation < 50
        clock.advance(30 * 86_400)
        assert guard.assess(ADDRESS).reputation == pytest.approx(50, abs=0.1)
        assert ask(guard)


def test_trust_is_not_for_sale() -> None:
    with guarding({"addresses": True, "threats": {"probing": False}}) as (guard, clock):
        for _ in range(500):
            ask(guard, status=200)
            clock.advance(61)
        assert guard.assess(ADDRESS).reputation == 50
        ask(guard, query=f"q={SQL}")
        assert guard.assess(ADDRESS).reputation == 35


def test_a_bad_reputation_is_a_ban_and_a_burst_is_one_offence() -> None:
    with guarding({"addresses": True, "threats": {"probing": False}}) as (guard, clock):
        for _ in range(20):
            assert ask(guard, query=f"q={SQL}").kind == "threat_detected"
        clock.advance(20)
        ask(guard, query=f"q={SQL}")
        clock.advance(20)
        ask(guard, query=f"q={SQL}")
        assert ask(guard).kind == "banned"


def test_robots_txt_is_innocent() -> None:
    with guarding("web") as (guard, clock):
        for _ in range(30):
            for path in ("/robots.txt", "/sitemap.xml", "/favicon.ico"):
                assert ask(guard, path=path, status=404)
            clock.advance(5)
        assert guard.status()["statistics"]["blocked_requests"] == 0
        assert guard.bans() == []


def test_ipv6_matches_and_counts_by_64() -> None:
    with guarding({"addresses": {"deny": ["2001:db8:bad::/48"]}, "limits": {"address": "2/minute"}}) as (guard, _):
        assert ask(guard, "2001:db8:bad::7").kind == "ip_blocked"
        assert [bool(ask(guard, f"2001:db8::{number}")) for number in range(1, 4)] == [True, True, False]
        assert ask(guard, "2001:db8:0:1::1")


def test_the_allow_list_wins_and_denying_does_not_drop_it() -> None:
    with guarding({"addresses": {"allow": ["203.0.113.0/24"]}}) as (guard, _):
        guard.deny(ADDRESS, "a mistake")
        guard.ban(ADDRESS)
        assert ask(guard)
        assert ask(guard, query=f"q={SQL}")
        assert guard.assess(ADDRESS).recommendation == "allow"
        assert ask(guard, "203.0.114.1")


def test_no_feed_evicts_the_allow_list(tmp_path: Path) -> None:
    feed = tmp_path / "feed.txt"
    feed.write_text("203.0.113.7\n198.51.100.0/24\n")
    with guarding({"addresses": {"allow": [ADDRESS], "feeds": {"bad": str(feed)}}}) as (guard, _):
        assert ask(guard)
        assert ask(guard, "198.51.100.200").kind == "ip_blocked"
        assert guard.status()["health"]["feeds"]["bad"]["entries"] == 2


def test_nothing_is_unpickled_or_fetched() -> None:
    """No module of the guard reads pickles, or has what could fetch something."""
    for source in Path(penstock.guard.__file__).parent.rglob("*.py"):
        for word in ("import pickle", "urllib.request", "HTTPConnection", "import requests", "marshal"):
            assert word not in source.read_text(), source


def test_a_refused_request_is_answered() -> None:
    with guarding({"limits": {"everyone": "1/minute"}}) as (guard, _):
        ask(guard)
        refused = ask(guard)
        assert (refused.status, refused.kind) == (429, "rate_limited")
        assert b'"type":"rate_limited"' in refused.body
        names = {name for name, _ in refused.headers}
        assert {"Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= names


def test_user_agents_are_recognised_and_not_compared() -> None:
    with guarding({"threats": {"scan": False}}) as (guard, clock):
        for version in range(60):  # an honest script is one
            assert ask(guard, headers={"user-agent": f"curl/8.{version}"}, path="/api", status=200)
            clock.advance(1)
        verdicts = [ask(guard, "198.51.100.1", headers={"user-agent": f"sqlmap/1.{n}#stable"}) for n in range(3)]
        assert [one.kind for one in verdicts] == ["", "threat_detected", "banned"]


def test_ten_visitors_a_minute_are_no_attack() -> None:
    """An endpoint that many like is not under attack; one where many fail is limited more strictly, and nobody is
    banned for being one of many."""
    with guarding({"bypass": True, "limits": {"address": "20/minute", "everyone": None}}) as (guard, clock):
        for number in range(300):
            assert ask(guard, f"10.{number // 250}.{number % 250}.1", "/popular", status=200)
            clock.advance(0.1)
        assert guard.status()["bans"] == []
        for number in range(60):
            assert ask(guard, f"10.9.{number}.1", "/login", status=401)
            clock.advance(0.5)
        assert [one["kind"] for one in guard.status()["bans"]] == ["endpoint"]
        late = [bool(ask(guard, "10.77.0.1", "/login")) for _ in range(6)]
        assert late == [True] * 5 + [False]  # each costs four
        assert ask(guard, "10.77.0.1", "/popular") is not None
        assert all(ask(guard, "10.78.0.1", "/popular") for _ in range(20))


def test_a_second_device_is_no_crime() -> None:
    with guarding({"bypass": {"action": "block"}}) as (guard, clock):
        for device in ("Firefox", "Safari", "Edge"):
            for _ in range(20):
                assert ask(guard, user="ada", headers={**BROWSER, "sec-ch-ua": device})
                clock.advance(600)
        verdict = ask(guard, user="ada", headers={**BROWSER, "sec-ch-ua": "Opera"})
        assert verdict  # a fourth is evidence, and not a verdict
        assert verdict.reasons[0].technique is Technique.FINGERPRINT_MISMATCH


def test_two_events_in_one_tick_are_two() -> None:
    with guarding({"limits": {"address": "5/minute", "everyone": None}}) as (guard, _):
        assert sum(bool(ask(guard)) for _ in range(10)) == 5
    with guarding({"scenarios": [{"name": "tick", "capacity": 5, "window": 1, "action": "block"}]}) as (guard, _):
        assert sum(bool(ask(guard)) for _ in range(10)) == 5


@pytest.mark.parametrize(
    ("tiers", "of", "policy", "tier"),
    [
        ([3, 1], 3, "majority", 1),
        ([3], 3, "majority", 0),
        ([3, 3, 1], 3, "majority", 3),
        ([2, 2], 4, "majority", 0),
        ([2, 2, 1], 4, "majority", 1),
        ([3], 3, "any", 3),
        ([3, 2, 1], 3, "all", 1),
        ([3, 2], 3, "all", 0),
        ([], 0, "all", 0),
    ],
)
def test_one_bad_strategy_does_not_ban_under_majority(tiers: list[int], of: int, policy: str, tier: int) -> None:
    assert agreed([Tier(one) for one in tiers], of, policy) == tier


def test_a_ban_does_not_feed_on_its_own_answers() -> None:
    with guarding("web") as (guard, clock):
        guard.ban(ADDRESS, 60)
        for _ in range(200):
            assert ask(guard).kind == "banned"
            clock.advance(0.25)
        clock.advance(11)
        assert ask(guard)


def test_a_refused_request_is_recorded_by_no_limit() -> None:
    config = {"limits": {"everyone": None, "address": ["60/minute", "1000/hour"]}}
    with guarding(config) as (guard, clock):
        for _ in range(100):
            ask(guard)
        left = guard.remaining(Request(ADDRESS))
        assert sorted(left.values()) == [0, 940]  # both are told, and forty refusals took nothing
        clock.advance(60)
        assert ask(guard)


def test_a_detector_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> bool:
        raise KeyError("no such header")

    scenario = Scenario(name="broken", when=broken, capacity=0, window=1, action=Action.BLOCK)
    other = Scenario(name="works", capacity=1, window=1, action=Action.BLOCK)
    with guarding({"scenarios": [scenario, other]}) as (guard, _):

        @guard.detector("worse")
        def worse(request: Request) -> Evidence | None:
            raise RuntimeError

        assert ask(guard)
        assert ask(guard).reasons[0].detector == "works"
        assert guard.status()["health"]["detector_errors"] == {"scenario broken": 2, "detector worse": 2}
        assert sum("not logged again" in record.getMessage() for record in caplog.records) == 2


def test_detectors_of_the_application() -> None:
    with guarding({}) as (guard, _):

        @guard.detector("honeypot", action="block")
        def honeypot(request: Request) -> Evidence | None:
            return Evidence("honeypot", Severity.HIGH, "asked for it") if request.path == "/trap" else None

        @guard.detector("slow", action="ban", ban=60)
        async def slow(request: Request) -> Evidence | None:
            return Evidence("slow", Severity.HIGH, "too late for this one") if request.path == "/late" else None

        assert ask(guard, path="/trap").kind == "threat_detected"
        assert ask(guard, path="/late")
        assert guard._detectors.flush()
        assert ask(guard).kind == "banned"
        with pytest.raises(ValueError, match="another detector's"):
            guard.detector("slow")


def test_addresses_are_no_prefixes_of_text() -> None:
    assert "10.0.0.1" not in AddressSet(["10.0.0.10", "110.0.0.1"])


def test_a_response_is_only_heard_of_those_that_were_allowed() -> None:
    with guarding("web") as (guard, _):
        request = Request(ADDRESS)
        assert guard.observe(request, Response(404)) == ()


def test_rate_limit_evasion_is_raised() -> None:
    config = {"limits": {"everyone": None, "user": "1/minute", "address": None}, "bypass": {"networks": 2}}
    with guarding(config) as (guard, clock):
        reasons = []
        for number in range(8):
            reasons += ask(guard, f"10.{number}.0.1", user="eve").reasons
            clock.advance(0.1)
        assert Technique.RATE_LIMIT_EVASION in {one.technique for one in reasons}
        assert Technique.IP_ROTATION in {one.technique for one in reasons}


def test_a_stolen_session_is_raised() -> None:
    with guarding({"bypass": True}) as (guard, clock):
        for _ in range(3):
            assert ask(guard, session="s1").reasons == ()
            clock.advance(10)
        verdict = ask(guard, "198.51.100.1", session="s1", headers={**BROWSER, "accept-language": "xx"})
        assert Technique.SESSION_HIJACKING in {one.technique for one in verdict.reasons}
        other = ask(guard, "198.51.100.1", session="s2")  # the same network with another's session is no theft
        assert other.reasons == ()


def test_a_shared_strategy_does_not_ban_the_innocent() -> None:
    """by_ja4 only logs: thousands share a fingerprint."""
    ja4 = "t13d1516h2_8daaf6152771_02713d6af862"
    with guarding({"tracking": True}) as (guard, clock):
        for number in range(200):
            verdict = ask(guard, f"10.0.{number}.1", ja4=ja4)
            assert verdict
            clock.advance(0.01)
        assert guard.bans() == []


def test_strategies_are_validated() -> None:
    with pytest.raises(ValueError, match=r"suspicious=5, block=2 and ban=10 must not fall"):
        Strategy(by=("address",), suspicious=5, block=2, ban=10)


def test_a_clock_that_is_set_back_accuses_nobody() -> None:
    class Stepping:
        def __init__(self) -> None:
            self.ns = 10**18

        def now_ns(self) -> int:
            return self.ns

        def wall_ns(self) -> int:
            return self.ns

    clock = Stepping()
    with Guard("web", clock=clock) as guard:
        for number in range(400):
            clock.ns += 10**9 if number % 40 else -20 * 10**9
            assert ask(guard, status=200)
