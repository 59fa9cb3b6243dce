"""Promises of the guard that a critical reading found broken, one test each."""

from __future__ import annotations

import gc
import logging
import re
import threading
from typing import Any

import pytest
from visitors import ADDRESS, BROWSER, ask, guarding

from penstock._records import LEAKY, WINDOW, Records, Rule
from penstock.guard import (
    Action,
    Config,
    Evidence,
    Guard,
    Request,
    Response,
    Scenario,
    Severity,
    Strategy,
    Tracking,
    from_env,
)

SQL = "q=1' UNION SELECT login, password FROM users--"
SECRET = bytes(range(16))
OTHER = "198.51.100.9"


def fails(request: Request) -> bool:
    raise ZeroDivisionError


# ---- nobody is refused who should not be ----


def test_what_is_only_logged_bans_nobody() -> None:
    """Evidence that asks for nothing but a log entry has no other consequences, however often it comes."""
    odd = Scenario(name="odd", when="prefix:/odd", leak=1, severity=Severity.CRITICAL, action=Action.LOG)
    with guarding({"addresses": True, "scenarios": [odd]}) as (guard, clock):
        for _ in range(30):
            assert ask(guard, path="/odd")
            clock.advance(30)
        assert guard.bans() == []
        assert guard.assess(ADDRESS).reputation == 50


def test_a_browser_is_one_device_whatever_it_asks_for() -> None:
    """A browser's Accept differs between pages, pictures, scripts and calls; moving networks in between is no theft."""
    with guarding("strict") as (guard, clock):
        kinds = ("text/html", "image/avif,*/*", "*/*", "application/json", "text/css", "font/*")
        for number, accept in enumerate(kinds):
            headers = {**BROWSER, "accept": accept}
            address = ("203.0.113.7", "198.51.100.9")[number % 2]
            verdict = ask(guard, address, headers=headers, user="ada", session="s1", status=200)
            assert not [one for one in verdict.reasons if one.detector.startswith("bypass.")]
            clock.advance(20)


@pytest.mark.parametrize("fact", ["network", "path", "agent", "method"])
def test_who_shares_a_fact_with_many_is_not_banned_for_it(fact: str) -> None:
    busy = Scenario(name="busy", by=fact, capacity=3, window=60, action=Action.BAN)
    with guarding({"scenarios": [busy]}) as (guard, _):
        for number in range(4):
            ask(guard, f"203.0.113.{number + 1}")
        assert guard.bans() == []


def test_a_strategy_bans_what_it_counted() -> None:
    by_user = Strategy(by=("user",), suspicious=1, block=2, ban=3)
    with guarding({"tracking": Tracking(strategies={"by_user": by_user}, windows=(1.0,))}) as (guard, _):
        verdicts = [ask(guard, f"203.0.113.{number}", user="eve") for number in range(1, 6)]
        assert verdicts[3].action is Action.BAN
        assert verdicts[3].reasons[0].key == "user:eve"
        assert [(one.kind, one.value) for one in guard.bans()] == [("user", None)]
        assert ask(guard, "203.0.113.4", user="ada")
        assert ask(guard, OTHER, user="eve").kind == "banned"


def test_one_burst_is_one_offence() -> None:
    """Several detectors at once, and requests that were already on their way, do not make the first ban longer."""
    both = [
        Scenario(name=name, when="prefix:/bad", leak=1, severity=Severity.CRITICAL, action=Action.BAN)
        for name in ("one", "two")
    ]
    with guarding({"scenarios": both, "bans": {"jitter": 0}}) as (guard, clock):
        late = [Request(ADDRESS, path="/late") for _ in range(3)]
        for request in late:
            guard.inspect(request)
        ask(guard, path="/bad")
        guard._ban(("address", f"ip:{ADDRESS}"), 3600, "one", guard._time())
        (ban,) = guard.bans()
        assert (ban.offences, ban.seconds_left) == (1, 3600)
        clock.advance(3601)
        ask(guard, path="/bad")
        (ban,) = guard.bans()
        assert (ban.offences, ban.seconds_left) == (2, 7200)


def test_a_dry_run_of_the_whole_bans_nobody_by_detectors() -> None:
    with guarding({"dry_run": True}) as (guard, _):

        @guard.detector("hostile", action="ban")
        def hostile(request: Request) -> Evidence:
            return Evidence("hostile", Severity.CRITICAL, "always")

        @guard.detector("slow", action="tarpit")
        def slow(request: Request) -> Evidence:
            return Evidence("slow", Severity.LOW, "always")

        verdict = ask(guard)
        assert verdict
        assert verdict.delay == 0
        assert guard.bans() == []


def test_nobody_writes_to_a_verdict() -> None:
    """Requests that nothing speaks against share one: what one caller wrote, all others would read."""
    with guarding({}) as (guard, _):
        verdict = ask(guard)
        assert verdict is ask(guard)
        with pytest.raises(AttributeError):
            verdict.headers = (("x-mine", "1"),)  # type: ignore[misc]


def test_a_dry_scenario_adds_nothing_to_one_that_acts() -> None:
    count = Scenario(name="count", when="never", leak=60, action=Action.BLOCK)
    trial = Scenario(name="trial", leak=60, adds={"count": 1}, dry_run=True)
    with guarding({"scenarios": [count, trial]}) as (guard, _):
        assert all(ask(guard) for _ in range(5))


# ---- nobody gets away who should not ----


def test_a_condition_that_fails_closed_refuses() -> None:
    """Whatever the guard's own on_error says."""
    rule = Scenario(name="rule", when=fails, leak=1, on_error="deny")
    with guarding({"scenarios": [rule]}) as (guard, _):
        verdict = ask(guard)
        assert not verdict
        assert (verdict.kind, verdict.status) == ("unavailable", 503)
        assert guard.bans() == []
        assert guard.status()["health"]["detector_errors"] == {"scenario rule": 1}


def test_each_scenario_says_for_itself_what_an_error_means() -> None:
    rules = [Scenario(name=name, when=fails, leak=1, on_error=what) for name, what in (("a", "allow"), ("d", "deny"))]
    with guarding({"scenarios": rules}) as (guard, _):
        assert ask(guard).kind == "unavailable"


def test_a_fact_of_the_application_that_fails_is_missing() -> None:
    """A client that can make it fail is counted by the others all the same."""
    config = {"extra": {"key": lambda request: request.fields["x-key"]}, "limits": {"address": "2/minute"}}
    with guarding(config) as (guard, _):
        assert [bool(ask(guard)) for _ in range(3)] == [True, True, False]
        assert guard.status()["health"]["detector_errors"] == {"fact key": 3}


@pytest.mark.parametrize("value", [1.5, ["a"], object()])
def test_a_fact_of_another_type_is_missing(value: object) -> None:
    scenario = Scenario(name="by_key", by="key", leak=1)
    with guarding({"extra": {"key": lambda request: value}, "scenarios": [scenario]}) as (guard, _):
        assert ask(guard)
        assert guard.status()["health"]["detector_errors"] == {"fact key": 1}


@pytest.mark.parametrize("user", [7, True, 2**80])
def test_a_user_is_the_same_as_a_number_and_as_a_text(user: Any) -> None:
    rule = Scenario(name="rule", by="user", capacity=1, leak=60, action=Action.BAN)
    with guarding({"scenarios": [rule], "limits": {"user": "100/minute"}, "bypass": True}) as (guard, _):
        assert [ask(guard, user=user, session=9).kind for _ in range(3)] == ["", "threat_detected", "banned"]
        assert ask(guard, user=str(user)).kind == "banned"
        assert guard.unban(str(user), kind="user")


def test_an_answer_of_no_known_type_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="type='mine'"):
        Scenario(name="rule", leak=1, type="mine")


def test_a_ban_by_hand_in_any_spelling_counts() -> None:
    with guarding() as (guard, _):
        for spelt in ("ip:2001:db8::7", "2001:db8::7", "ip:2001:db8::/64"):
            ban = guard.ban(spelt)
            assert ban.value == "ip:2001:db8::/64"
            assert ask(guard, "2001:db8::1").kind == "banned", spelt
            assert guard.unban(spelt)
        for spelt in ("ip:nowhere", "192.0.2.0/24", "ip:192.0.2.0/24", "ip:"):
            with pytest.raises(ValueError, match="value="):
                guard.ban(spelt)


def test_a_peer_without_an_address_can_be_let_go() -> None:
    rule = Scenario(name="rule", capacity=1, leak=60, action=Action.BAN)
    with guarding({"scenarios": [rule]}) as (guard, _):
        assert [ask(guard, "testclient").kind for _ in range(3)] == ["", "threat_detected", "banned"]
        assert guard.unban("peer:testclient")
        assert ask(guard, "testclient").kind != "banned"


def test_what_one_detector_returns_harms_no_other() -> None:
    wrong: list[Any] = [
        Evidence("x", 9, "no such severity"),  # type: ignore[arg-type]
        Evidence("x", 0, "no such severity"),  # type: ignore[arg-type]
        Evidence("x", "HIGH", "a text"),  # type: ignore[arg-type]
        Evidence("x", Severity.HIGH, None),  # type: ignore[arg-type]
        Evidence(5, Severity.HIGH, "no name"),  # type: ignore[arg-type]
        Evidence("x", Severity.HIGH, "key", key=7),  # type: ignore[arg-type]
    ]
    with guarding({"threats": True}) as (guard, _):
        guard.detector("wrong")(lambda request: wrong[int(request.path[1:])])
        for number in range(len(wrong)):
            assert ask(guard, f"192.0.2.{number}", path=f"/{number}")
            assert ask(guard, f"198.51.100.{number}", path=f"/{number}", query=SQL).kind == "threat_detected"
        assert guard.status()["health"]["detector_errors"] == {"detector wrong": 2 * len(wrong)}


def test_a_coroutine_that_is_cancelled_does_not_end_the_others() -> None:
    import asyncio

    with guarding() as (guard, _):
        seen: list[str] = []

        @guard.detector("first")
        async def first(request: Request) -> None:
            if request.path == "/cancel":
                raise asyncio.CancelledError
            seen.append(request.path)

        for path in ("/cancel", "/after"):
            ask(guard, path=path)
            assert guard._detectors.flush()
        assert seen == ["/after"]


def test_closing_waits_for_no_queue() -> None:
    """With the queue full and a coroutine that sleeps, close comes back."""
    import asyncio

    begun = threading.Event()
    guard = Guard()

    @guard.detector("sleeps")
    async def sleeps(request: Request) -> None:
        begun.set()
        await asyncio.sleep(3600)

    ask(guard)
    assert begun.wait(10)
    for _ in range(1100):
        ask(guard)
    assert guard._detectors.missed > 0
    closing = threading.Thread(target=guard.close, daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()


# ---- nothing that is secret is told ----


def test_sessions_and_users_are_not_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A session's id is as good as a password."""
    rules = [
        Scenario(name="by_session", by="session", leak=60, action=Action.BAN),
        Scenario(name="by_user", by=("path", "user"), leak=60),
    ]
    with guarding({"scenarios": rules}) as (guard, _), caplog.at_level(logging.DEBUG, "penstock.guard"):
        verdict = ask(guard, user="ada@example.org", session="s3cr3t")
        assert {one.key for one in verdict.reasons} == {"session:s3cr3t", "/ user:ada@example.org"}
        assert guard.events.flush()
        told = repr([record.__dict__ for record in caplog.records]) + repr(guard.events.recent())
        assert "by_session" in told
        assert "s3cr3t" not in told
        assert "ada@example.org" not in told


def test_a_configuration_that_is_wrong_says_what_would_be_right() -> None:
    for given, says in (
        ({"on_error": "local"}, 'on_error=\'local\' must be "allow" or "deny"'),
        ({"secret": b"short"}, "secret has 5 bytes; at least 16 are needed"),
        ({"threats": {"exclude": [("/a", "b", "sql")]}}, "command, custom"),
    ):
        with pytest.raises(ValueError, match=re.escape(says)):
            Guard(given)


def test_a_secret_is_not_shown() -> None:
    assert "0123456789abcdef" not in repr(Config(secret=b"0123456789abcdef"))


def test_forgetting_a_user_forgets_the_account() -> None:
    rule = Scenario(name="rule", by="account", capacity=5, leak=3600, action=Action.BAN)
    with guarding({"scenarios": [rule]}) as (guard, _):
        for _ in range(6):
            ask(guard, user="ada")
        assert ask(guard, user="ada").kind == "banned"
        assert guard.forget("ada", kind="user") > 0
        assert all(ask(guard, user="ada") for _ in range(5))


# ---- memory and time are bounded ----


def test_long_texts_are_not_remembered() -> None:
    """A client that sends another long path, method, agent and fingerprint each time leaves nothing behind."""
    import tracemalloc

    def visit(guard: Guard, first: int) -> None:
        for number in range(first, first + 150):
            filling = f"{number}" + "a" * 20_000
            headers = {**BROWSER, "user-agent": filling, "x-forwarded-for": filling, "cookie": filling}
            ask(
                guard, "203.0.113.7" + " " * number, f"/{filling}", method=filling, headers=headers, ja4=filling,
                user=filling, session=filling, query=filling, status=404,
            )  # fmt: skip

    with guarding("strict", shared=None) as (guard, _):
        visit(guard, 0)
        guard.events.flush()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            visit(guard, 1000)
            guard.events.flush()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 2_000_000  # what was sent is 24 MB


def test_a_header_in_many_lines_is_joined_so_far() -> None:
    from penstock._records import read_fields

    lines = [(b"x-forwarded-for", b"a" * 100_000)] * 128
    assert len(read_fields(lines, 128)["x-forwarded-for"]) < 400_000
    assert read_fields([("A", "1"), (b"a", b"2")], 128) == {"a": "1, 2"}


# ---- what is called by hand ----


@pytest.mark.parametrize("value", ["f" * 40, "-1", "0x10", "1_0", "", "zz", "0" * 16, "0000000000000001", "\uff11"])
def test_an_id_that_is_none_is_said_to_be_none(value: str) -> None:
    with guarding() as (guard, _):
        guard.ban(ADDRESS)
        with pytest.raises(ValueError, match="16 hex digits"):
            guard.unban(value, kind="id")
        assert guard.unban(guard.bans()[0].id, kind="id")


class SetBack:
    """A clock that somebody sets."""

    def __init__(self) -> None:
        self.ns = 10**18

    def now_ns(self) -> int:
        return self.ns

    wall_ns = now_ns


def test_bans_are_listed_after_the_clock_was_set_back() -> None:
    clock = SetBack()
    with Guard("web", clock=clock) as guard:
        guard.ban(ADDRESS)
        clock.ns -= 10**17
        assert len(guard.bans()) == 1
        assert ask(guard).kind == "banned"
        assert ask(guard, OTHER, status=404)
        assert guard.status()["bans"]


@pytest.mark.parametrize("seconds", ["60", [1], True, float("nan"), float("inf"), 0, -1])
def test_seconds_of_a_ban_are_named(seconds: Any) -> None:
    with guarding() as (guard, _), pytest.raises(ValueError, match="seconds="):
        guard.ban(ADDRESS, seconds)


def test_bypass_is_asked_of_what_was_counted_before() -> None:
    """The detector of stolen sessions compares with the networks of the session, asked alone as in `inspect`."""
    for roams in (False, True):
        with guarding({"bypass": True}) as (guard, clock):
            found: list[str] = []
            for number in range(4):
                headers = {**BROWSER, "user-agent": f"Mozilla/5.0 {number % 2}"}
                address = "203.0.113.7" if number < 2 or not roams else "198.51.100.9"
                for _ in range(2):
                    evidence = guard.check_for_bypass(Request(address, headers=headers, session="s", user="u"))
                    found += [one.detector for one in evidence]
                clock.advance(1)
            assert ("bypass.session_hijacking" in found) == roams


def test_tiers_count_each_request_once() -> None:
    rules = [
        Scenario(name="asked", leak=1e-6, capacity=0),
        Scenario(name="answered", on="response", leak=1e-6, capacity=0),
    ]
    with guarding({"scenarios": rules}) as (guard, _):
        for _ in range(10):
            ask(guard, status=200)
        tiers = guard.status()["tiers"]
        assert sum(tiers.values()) == 10
        assert min(tiers.values()) >= 0


# ---- settings ----


def test_scenarios_that_add_to_each_other_without_end_are_refused() -> None:
    ring = [Scenario(name="a", leak=1, adds={"b": 1}), Scenario(name="b", leak=1, adds={"a": 1})]
    for scenarios in (ring, [Scenario(name="a", leak=1, adds={"a": 1})]):
        with pytest.raises(ValueError, match="adds"):
            Guard({"scenarios": scenarios})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"adds": {"b": 2**64}}, "adds"),
        ({"adds": {"b": True}}, "adds"),
        ({"adds": 5}, "adds"),
        ({"of": {"b": 5}}, "of"),
        ({"of": {"b": ("x", 1)}}, "of"),
        ({"of": {"b": (0.5, 2**70)}}, "of"),
        ({"by": 5}, "by"),
        ({"by": ("address",) * 5}, "by"),
        ({"when": 5}, "when"),
        ({"when": [["a"]]}, "when"),
        ({"when": "status:404"}, "status:404"),
        ({"window": "x", "leak": None}, "window"),
        ({"leak": "x"}, "leak"),
        ({"leak": float("nan")}, "leak"),
        ({"blackhole": "x"}, "blackhole"),
        ({"ban": None}, "ban"),
        ({"tighten": []}, "tighten"),
        ({"severity": 9}, "severity"),
        ({"severity": None}, "severity"),
        ({"action": 5}, "action"),
        ({"technique": 5}, "technique"),
        ({"type": 5}, "type"),
        ({"silent": "no"}, "silent"),
        ({"dry_run": "false"}, "dry_run"),
        ({"distinct": 5}, "distinct"),
        ({"on": ["request"]}, "on"),
        ({"on_error": "local"}, "on_error"),
        ({"capacity": 1.5}, "capacity"),
    ],
)
def test_a_scenario_that_is_wrong_says_where(given: dict[str, Any], names: str) -> None:
    scenarios = [{"name": "b", "leak": 1}, {"name": "rule", "leak": 1, **given}]
    with pytest.raises((TypeError, ValueError), match="rule") as said:
        Guard({"scenarios": scenarios})
    assert names in str(said.value)


PARTS: dict[str, dict[str, list[Any]]] = {
    "ddos": {"action": ["no", 5, None], "per_second": [1.5, "9", None], "dry_run": ["false", 0, None], "dwell": ["x"]},
    "bypass": {"action": ["no"], "networks": [2.5], "dry_run": ["no"], "window": [None]},
    "threats": {
        "action": ["no"], "scan": ["no"], "paranoia": [1.5], "threshold": [2.5], "body_most": [1.5],
        "exclude": [5, [5]], "login": [5, "/login", [5]], "agents": [5], "body": [1],
        "probing": ["off"],
    },
    "addresses": {
        "allow": [5, "10.0.0.1", [5], ["nowhere"]], "deny": ["10.0.0.1"], "feeds": [5, ["x"], {"a": 5}], "levels": [5],
        "countries": [5], "geoip": [5], "reputation": ["no"], "half_life": [None],
    },
    "limits": {
        "everyone": [5, "often", {}], "address": [{"x": 1}], "user": [object()], "endpoints": [5, {5: "1/s"}, {"x": 5}],
        "facts": [5, {"nothing": "1/s"}, {"user": None}], "strict": [1.5, None], "headers": ["no"], "dry_run": ["no"],
    },
    "tracking": {
        "strategies": [5, {}, {"a": 5}, {"a": {"by": 5}}], "windows": [5, [], ["x"], [None]], "policy": [5, "some"],
        "dry_run": ["no"],
    },
    "tarpit": {"seconds": ["x"], "held": [1.5]},
    "events": {"on_event": [5], "capacity": [1.5, None], "kept": [1.5], "retention": ["x"]},
    "bans": {"factor": ["x"], "jitter": [None], "memory": [True], "most": [[]]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [(part, field, value) for part, of in PARTS.items() for field, values in of.items() for value in values],
    ids=lambda value: repr(value)[:20],
)
def test_a_setting_that_is_wrong_is_named(part: str, field: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as said:
        Guard({part: {field: value}})
    assert field in str(said.value), said.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extra", {"key": 5}), ("extra", 5), ("extra", {"../key": str}), ("scenarios", 5), ("scenarios", [5]),
        ("endpoints", "/api"), ("endpoints", 5), ("dry_run", "false"), ("clients", 1.5), ("secret", 5),
        ("on_error", ["allow"]), ("preset", 5), ("preset", ["web"]),
    ],
)  # fmt: skip
def test_a_setting_of_the_whole_that_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as said:
        Guard({field: value})
    assert field in str(said.value), said.value


def test_a_limit_on_what_is_held_is_refused_where_nothing_gives_it_back() -> None:
    from penstock import Concurrency

    held = Concurrency(5)
    for limits in ({"address": held}, {"facts": {"ja4": [held]}}, {"endpoints": {"/a": held}}):
        with pytest.raises(ValueError, match="in_flight"):
            Guard({"limits": limits})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "x"])
@pytest.mark.parametrize("name", ["DDOS_REQUESTS_PER_SECOND_THRESHOLD", "RATE_LIMIT_GLOBAL_CAPACITY"])
def test_a_variable_that_is_no_number_is_named(name: str, value: str) -> None:
    switches = {f"SECURITY_ENABLE_{part}": "1" for part in ("RATE_LIMITING", "DDOS_PROTECTION")}
    with pytest.raises(ValueError, match=name):
        from_env(environ={**switches, f"SECURITY_{name}": value})


# ---- the records ----


def test_records_that_were_not_made_cannot_be_asked() -> None:
    with pytest.raises(TypeError):
        Records.__new__(Records)

    class Own(Records):
        def __init__(self) -> None: ...

    with pytest.raises(TypeError):
        Own()


def test_records_compare_with_what_was_counted_in_another_feed() -> None:
    whole = Rule(WINDOW, (0,), span_ns=10**9, silent=True, capacity=100)
    rules = [whole, Rule(LEAKY, (0,), span_ns=10**9, of=((0, 5, 0),))]
    for before, fires in ((4, False), (5, True)):
        records = Records(rules, 64, 16, SECRET)
        for _ in range(before):
            assert records.feed(0, 1, ("a",), 0, 10**9) == ()
        assert bool(records.feed(1, 2, ("a",), 0, 10**9)) == fires
        assert records.feed(1, 2, ("b",), 0, 10**9) == ()


@pytest.mark.parametrize("key", [0, 1])
def test_a_ban_has_no_key_that_is_reserved(key: int) -> None:
    records = Records([Rule(LEAKY, (0,), span_ns=10**9)], 64, 16, SECRET)
    with pytest.raises(ValueError, match="key"):
        records.ban(key, 10**9, 10**6, 1, 0)
    assert not records.unban(key, 10**9)
    assert records.ban_of(key) is None


def test_an_answer_of_one_failure_is_no_evidence() -> None:
    with guarding("web") as (guard, _):
        request = Request(ADDRESS, headers=BROWSER)
        assert guard.inspect(request)
        assert guard.observe(request, Response(404)) == ()
