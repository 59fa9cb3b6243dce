"""A guard that says what a test wants and keeps what it was told, and applications to stand behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
