"""A guard that says what a test wants and keeps what it was told, and applications to stand behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from penstock.guard.request import Request, Response
from penstock.guard.responses import respond
from penstock.guard.verdict import Action, Tier, Verdict


class SaysSo:
    """verdict: the answer to all, or an exception to raise. asked, told, in_flight: what it was told, and now."""

    def __init__(self, verdict: Verdict | Exception | None = None, body_most: int = 0, admit: bool = True) -> None:
        self.verdict = Verdict(True) if verdict is None else verdict
        self.body_most = body_most
        self.admit = admit
        self.room = True
        self.asked: list[Request] = []
        self.told: list[tuple[Request, Response]] = []
        self.failures: list[str] = []
        self.in_flight = self.most_in_flight = self.arrivals = self.held = 0

    def inspect(self, request: Request) -> Verdict:
        self.asked.append(request)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def observe(self, request: Request, response: Response) -> None:
        self.told.append((request, response))

    @contextmanager
    def flight(self, request: Request) -> Iterator[None]:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextmanager
    def tarpit(self) -> Iterator[bool]:
        self.held += self.room
        yield self.room

    def seen(self) -> None:
        self.arrivals += 1

    def failed(self, where: str) -> bool:
        self.failures.append(where)
        return self.admit


def refusal(kind: str = "rate_limited", retry_after: float | None = 60, action: Action = Action.BLOCK) -> Verdict:
    status, headers, body = respond(kind, retry_after, 100, 0, 60)
    return Verdict(
        False, Tier.BLOCK, action, kind=kind, retry_after=retry_after, status=status, headers=headers, body=body
    )


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"he", "more_body": True})
    await send({"type": "http.response.body", "body": b"llo"})


def plain(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"he", b"llo"]


class Ban(NamedTuple):
    id: str
    kind: str
    value: str | None
    seconds_left: float
    offences: int
    reason: str


class Steered:
    """A guard as its administration sees it. calls: what it was told to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.requests, self.refused, self.manual = 1200, 30, None
        self.in_path = True
        self.list = [
            Ban("00000000000000a1", "address", "203.0.113.x", 3521.5, 1, "ddos: 61 requests in 1 s, 50 allowed"),
            Ban("00000000000000a2", "user", "<b>eve</b>", math.inf, 2, "<img src=x onerror=document.title='gone'>"),
        ]

    def status(self) -> dict[str, Any]:
        self.requests += 100
        return {
            "enabled": ["limits"],
            "statistics": {"total_requests": self.requests, "blocked_requests": self.refused, "rate_limited": 30},
            "tiers": {"NORMAL": self.requests - 30, "SUSPICIOUS": 0, "BLOCK": 29, "BANNED": 1},
            "refusals": {"limit_address": 20, "sqli": 10, "idle": 0},
            "top": [{"address": "203.0.x.x", "requests": n, "refused": 30} for n in (900, self.requests // 100, 7)],
            "bans": [ban._asdict() for ban in self.list],
            "emergency": {"on": bool(self.manual), "manual": self.manual, "seconds": 75.0},
            "health": {
                "in_path": self.in_path,
                "shared": None,
                "redis": "",
                "geoip": "",
                "feeds": {"ipsum": {"entries": 14120, "age": 7300.0}},
                "events": {"queued": 0, "dropped": 3},
                "dry_run": False,
                "detector_errors": {"my_detector": 2},
            },
        }

    def unban(self, value: str, kind: str = "address") -> bool:
        self.calls.append(("unban", value, kind))
        before = len(self.list)
        self.list = [ban for ban in self.list if value != (ban.id if kind == "id" else ban.value)]
        return len(self.list) < before

    def emergency(self, on: bool | None) -> None:
        self.manual = on
        self.calls.append(("emergency", on))

    def allow(self, entry: str, reason: str = "") -> None:
        self.calls.append(("allow", entry, reason))

    def deny(self, entry: str, reason: str = "") -> None:
        if entry == "198.51.100.200":
            raise ValueError("entry='198.51.100.200' is on the allow list, which always wins")
        self.calls.append(("deny", entry, reason))

    def assess(self, address: str) -> Assessment:
        return Assessment(address, 0.25, Tier.SUSPICIOUS, Action.LOG)


class Assessment(NamedTuple):
    address: str
    score: float
    tier: Tier
    recommended: Action
