"""The guard before an ASGI application: one verdict for each request, and the answers of those that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from penstock.adapters.asgi import App, Message, Receive, Scope, Send
from penstock.adapters.call import WEBSOCKET, user_of
from penstock.guard.entrance import ASKED, BODILESS, VERDICT, Entrance, Settings
from penstock.guard.request import Request, Response
from penstock.guard.responses import Fields, encoded
from penstock.guard.verdict import Action, Verdict

if TYPE_CHECKING:
    from penstock.guard.guard import Guard


class GuardMiddleware:
    """Asks the guard about each request of an ASGI application, and each opening of a websocket.

    What it refuses the application never sees. Messages pass in their order and untouched, but for headers that an
    allowed verdict adds to the response. Bodies are read ahead only where the guard scans them, as far as it does, and
    replayed. A request held in a tarpit waits in a task of its own, and no more are held than the guard says. Of a
    request that passed the guard is told the status, the bytes and how long the answer took to begin; of a refused one
    nothing, so that a ban does not feed on its own answers. Refused websockets get the answer where the server has the
    extension websocket.http.response, else they are closed with 1008. A guard that fails decides by its on_error.

    settings: those of penstock.guard.entrance.Settings.
    """

    def __init__(self, app: App, guard: Guard, **settings: Unpack[Settings]) -> None:
        self.app = app
        self.entrance = Entrance(guard, **settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        entrance = self.entrance
        guard = entrance.guard
        asked = scope.get(ASKED, ())
        if (kind != "http" and kind != "websocket") or guard in asked:
            await self.app(scope, receive, send)
            return
        scope[ASKED] = (*asked, guard)
        if not entrance.seen:
            entrance.arrive()
        request = request_of(entrance, scope)
        with guard.flight(request):
            if guard.body_most and request.method not in BODILESS:
                receive = await _read_ahead(request, receive, guard.body_most)
            try:
                verdict = guard.inspect(request)
            except Exception:
                verdict = entrance.without()
            scope[VERDICT] = verdict
            if verdict.delay:
                with guard.tarpit() as room:
                    if room:
                        await asyncio.sleep(verdict.delay)
            if not verdict.allowed:
                await self._refuse(verdict, scope, receive, send)
                return
            watched = _Watched(send, verdict.headers)
            try:
                await self.app(scope, receive, watched)
            except Exception:
                watched.status = watched.status or 500  # what the server makes of it
                raise
            finally:
                if watched.status:
                    try:
                        guard.observe(request, Response(watched.status, watched.bytes, watched.duration))
                    except Exception:
                        guard.failed("observe")

    async def _refuse(self, verdict: Verdict, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in the application's place."""
        challenge = self.entrance.challenge
        if challenge is not None and verdict.action is Action.CHALLENGE and scope["type"] == "http":
            watched = _Watched(send, ())
            try:
                await challenge(scope, receive, watched)
                return
            except Exception:
                self.entrance.complain("challenge", f"challenge={challenge!r} failed")
                if watched.status:
                    return  # too late for another answer; the server ends this one
        prefix = ""
        if scope["type"] == "websocket":
            if (await receive())["type"] != "websocket.connect":
                return
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
                return
            prefix = "websocket."
        body = b"" if scope.get("method") == "HEAD" else verdict.body
        headers = list(encoded(verdict.headers))
        await send({"type": f"{prefix}http.response.start", "status": verdict.status, "headers": headers})
        await send({"type": f"{prefix}http.response.body", "body": body})


def request_of(entrance: Entrance, scope: Scope) -> Request:
    """What the guard is told of a scope."""
    client = scope.get("client")
    peer = client[0] if client else None
    headers = scope["headers"]
    address, trusted = entrance.peer(peer)
    ja4 = None
    if trusted:
        name = entrance.header.encode("latin-1")
        address = entrance.client(peer, [value.decode("latin-1") for key, value in headers if key == name])
        if entrance.ja4 is not None:
            name = entrance.ja4.encode("latin-1")
            found = [value for key, value in headers if key == name]
            ja4 = found[0].decode("latin-1") if len(found) == 1 else None
    if entrance.user is None:
        user = scope.get("user")
        if user is not None:
            user = entrance.ask("user", user_of, user)
    else:
        user = entrance.ask("user", entrance.user, scope)
    session = None if entrance.session is None else entrance.ask("session", entrance.session, scope)
    method = scope["method"] if scope["type"] == "http" else WEBSOCKET
    query = scope.get("query_string")
    query = query.decode("latin-1") if query else ""
    return Request(address, method, scope["path"], query, headers, user, session, ja4)


class _Watched:
    """`send`, which sees what the application answers. status: 0 until it has; duration: seconds until it did."""

    __slots__ = ("_headers", "_send", "_since", "bytes", "duration", "status")

    def __init__(self, send: Send, headers: Fields) -> None:
        self._send = send
        self._headers = headers
        self._since = perf_counter()
        self.status = 0
        self.bytes: int | None = 0
        self.duration = 0.0

    def __call__(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.body":
            if self.bytes is not None:
                self.bytes += len(message.get("body", b""))
        elif self.status == 0:
            status = _STARTS.get(kind)
            if status is not None:
                self.status = status or message["status"]
                self.duration = perf_counter() - self._since
                if self._headers and kind != "websocket.close":
                    message = {**message, "headers": [*message.get("headers", ()), *encoded(self._headers)]}
        elif kind == "http.response.pathsend" or kind == "http.response.zerocopysend":
            self.bytes = None  # the server reads the file
        return self._send(message)


_STARTS = {
    "http.response.start": 0,
    "websocket.http.response.start": 0,
    "websocket.accept": 101,
    "websocket.close": 403,
}
"""Messages that begin an answer, and its status; 0: the message says it."""


_MESSAGES_MOST = 1024
"""Messages of a body that are read ahead; a client may send it byte by byte."""


async def _read_ahead(request: Request, receive: Receive, most: int) -> Receive:
    """Reads the body as far as `most` bytes into the request. Returns a `receive` that begins with what was read."""
    read: list[Message] = []
    parts: list[bytes] = []
    size = 0
    while len(read) < _MESSAGES_MOST:
        message = await receive()
        read.append(message)
        if message["type"] != "http.request":
            break
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size >= most or not message.get("more_body", False):
            break
    request.body = b"".join(parts)[:most]
    read.reverse()

    async def replay() -> Any:
        return read.pop() if read else await receive()

    return replay
