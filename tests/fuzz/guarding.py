"""A target over whole guards: any requests and answers, under every preset, come to a verdict that is well formed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from choices import Fuzzed

from penstock.clock import ManualClock

try:
    from penstock.guard import (
        PRESETS,
        Action,
        Config,
        Events,
        Evidence,
        Guard,
        Request,
        Response,
        Severity,
        Tier,
        Verdict,
    )
    from penstock.guard.responses import KINDS
except ImportError:
    Guard = None  # without compiled modules there is no guard

EVERYTHING = {
    "preset": "strict",
    "threats": {"body": True, "anomaly": 0.7, "paranoia": 4},
    "addresses": {"deny": ["192.0.2.128/25", "2001:db8:bad::/48"], "allow": ["192.0.2.1"]},
    "ddos": {"emergency": 20, "same_endpoint": 20, "in_flight": 3},
    "limits": {"facts": {"ja4": "100/minute"}, "endpoints": {"/api": "10/minute"}},
}
WORDS = (
    "", "/", "/.env", "/login", "/api/v1/x", "GET", "POST", "Mozilla/5.0 (X11)", "sqlmap/1.8", "\0", "\ud800", "\x7f%",
    "1' UNION SELECT a FROM b--", "<script>alert(1)</script>", "../../etc/passwd", "; cat /etc/passwd", "%2527",
    "&=&", "t13d1516h2_8daaf6152771_02713d6af862", "a, b, c, d, e, f, g", "multipart/form-data; boundary=x",
    "application/json",
)  # fmt: skip
ADDRESSES = (
    None, "", "192.0.2.1", "192.0.2.2", "192.0.2.200", "2001:db8::1", "2001:db8:bad::1", "fe80::1%eth0",
    "::ffff:1.2.3.4", "[::1]:80", "unknown", "testclient", "999.1.1.1", "1.2.3.4, 5.6.7.8", "\ud800", "\0",
)  # fmt: skip
NAMES = (
    "user-agent", "User-Agent", b"accept", "accept-language", "cookie", "referer", b"x-forwarded-for", "content-type",
    "",
)  # fmt: skip
_guards: dict[str, tuple[Any, ManualClock, int]] = {}


def guard_of(name: str) -> tuple[Any, ManualClock, int]:
    """A guard with all that its preset has, its clock, and the bytes it had at first; the same one each time."""
    if name not in _guards:
        clock = ManualClock(start=1_700_000_000)
        events = Events(capacity=16, kept=16)  # few, so that all are told before the next test
        config = Config.read(EVERYTHING if name == "everything" else name).but(clients=256, events=events)
        guard = Guard(config, clock=clock)
        guard.detector("its own")(lambda request: Evidence("x", Severity.LOW, "y") if request.user == "x" else None)
        _guards[name] = guard, clock, guard.status()["health"]["memory"]
    return _guards[name]


def word(fuzzed: Fuzzed) -> str:
    """Something that stands in requests, or any text, at times a long one."""
    kind = fuzzed.integer(0, 7)
    if kind < 4:
        return str(fuzzed.pick(WORDS))
    text = fuzzed.text(40)
    return text * 4_000 if kind == 7 else text


def request_of(fuzzed: Fuzzed) -> Any:
    maybe = fuzzed.integer(0, 31)
    headers: list[tuple[Any, Any]] = []
    for _ in range(fuzzed.integer(0, 6)):
        name, value = fuzzed.pick(NAMES), word(fuzzed)
        headers.append((name, value.encode("utf-8", "surrogatepass") if fuzzed.integer(0, 1) else value))
    return Request(
        fuzzed.pick(ADDRESSES),
        word(fuzzed) if maybe & 1 else "GET",
        "/" + word(fuzzed),
        word(fuzzed) if maybe & 2 else "",
        dict(headers) if fuzzed.integer(0, 3) == 0 and all(isinstance(one, str) for one, _ in headers) else headers,
        word(fuzzed) if maybe & 4 else None,
        word(fuzzed) if maybe & 8 else None,
        word(fuzzed) if maybe & 16 else None,
        fuzzed.take(fuzzed.integer(0, 200)) if fuzzed.integer(0, 3) == 0 else None,
    )


def check_verdict(verdict: Any) -> None:
    """Whether it says one thing, and can be sent."""
    assert type(verdict) is Verdict
    assert bool(verdict) is verdict.allowed
    assert isinstance(verdict.tier, Tier)
    assert isinstance(verdict.action, Action)
    assert all(isinstance(one, Evidence) and isinstance(one.severity, Severity) for one in verdict.reasons)
    assert all(isinstance(text, str) for one in verdict.reasons for text in (one.detector, one.detail, one.key))
    assert verdict.retry_after is None or 0 < verdict.retry_after <= 31 * 86_400
    for name, value in verdict.headers:
        assert f"{name}: {value}".isascii()
        assert f"{name}: {value}".isprintable()
    if verdict:
        assert (verdict.kind, verdict.status, verdict.body) == ("", 200, b"")
        assert 0 <= verdict.delay <= 300
        return
    assert verdict.reasons
    assert verdict.kind in KINDS
    assert verdict.status == KINDS[verdict.kind].status
    said = json.loads(verdict.body)
    assert said["type"] == verdict.kind
    fields = dict(verdict.headers)
    assert int(fields["Content-Length"]) == len(verdict.body)
    assert ("Retry-After" in fields) == ("retry_after" in said) == (verdict.retry_after is not None)


def guard(data: bytes) -> None:
    """A preset, then requests that come, are in flight, are answered, and time that goes by."""
    if Guard is None:
        return
    fuzzed = Fuzzed(data)
    judge, clock, memory = guard_of(fuzzed.pick((*sorted(PRESETS), "everything")))
    before = judge.status()
    flights = contextlib.ExitStack()
    with flights:
        for _ in range(60):
            if not fuzzed:
                break
            request = request_of(fuzzed)
            what = fuzzed.integer(0, 15)
            if what < 8:
                flights.enter_context(judge.flight(request))
            verdict = judge.inspect(request)
            check_verdict(verdict)
            if verdict:
                for one in judge.observe(request, Response(fuzzed.pick((200, 301, 401, 403, 404, 500)))):
                    assert isinstance(one, Evidence)
            if what == 15:
                clock.advance(fuzzed.pick((0.001, 1, 10, 60, 3_600, 86_400)))
            elif what == 14 and request.address:
                with contextlib.suppress(ValueError):  # what is no address
                    judge.assess(request.address)
            elif what == 13:
                with contextlib.suppress(ValueError):
                    judge.unban(request.address, "address")
    assert judge.events.flush(10)
    after = judge.status()
    assert after["health"]["memory"] == memory
    assert after["health"]["detector_errors"] == {}, "something failed alone"
    told = after["statistics"]
    assert told["total_requests"] >= before["statistics"]["total_requests"]
    parts = ("rate_limited", "ddos_blocked", "ip_blocked", "threat_detected")
    assert told["blocked_requests"] == sum(told[part] for part in parts) <= told["total_requests"]
    assert sum(after["tiers"].values()) == told["total_requests"]
    assert min(after["tiers"].values()) >= 0
    assert len(after["top"]) <= 20
    json.dumps(after)
