"""The ASGI middleware: one decision before the application, headers on its answer, everything else passed through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Unpack

from penstock.adapters.call import AsgiCall
from penstock.adapters.gate import SCOPE, Gate, Outcome, Settings
from penstock.adapters.rules import Rule
from penstock.limiter import Limiter, Rates

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class LimitMiddleware:
    """Limits the requests of an ASGI application, and the opening of websockets.

    rules: Rule, Limiter or rates; settings: those of Gate.

    Bodies are never read or kept, messages pass in their order; only the one that starts a response is another, with
    headers added. Units of Concurrency limits are given back when the application has ended, be it by an exception or
    because the client is gone. Refused websockets get the answer where the server has the extension
    websocket.http.response, else they are closed with 1008.

    >>> async def hello(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 200, "headers": []})
    ...     await send({"type": "http.response.body", "body": b"hello"})
    >>> app = LimitMiddleware(hello, "100/second", Rule("5/minute", "/login", layer="login"))
    """

    def __init__(self, app: App, *rules: Rule | Limiter | Rates, **settings: Unpack[Settings]) -> None:
        self.app = app
        self.gate = Gate(rules, **settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self.app(scope, receive, send)
            return
        gate = self.gate
        call = AsgiCall(scope, gate.identity)
        outcome: Outcome | None = scope.get(SCOPE)
        if outcome is not None:  # within another such middleware, which adds the headers and gives back
            if outcome.ask(gate.rules.find(call.method, call.path), call):
                await self.app(scope, receive, send)
            else:
                await refuse(call, outcome, gate, receive, send)
            return
        outcome = scope[SCOPE] = gate.outcome(call)
        answering = answering_with(outcome, send)
        if not outcome.allowed:
            await refuse(call, outcome, gate, receive, answering)
            return
        try:
            await self.app(scope, receive, answering)
        finally:
            if outcome.held:
                outcome.release()


_STARTS = ("http.response.start", "websocket.http.response.start")


def answering_with(outcome: Outcome, send: Send) -> Send:
    """`send` that adds the outcome's headers to the start of a response, or of the denial of a websocket."""

    def answering(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS and outcome.speaking is not None:
            message = {**message, "headers": [*message.get("headers", ()), *outcome.fields()]}
        return send(message)

    return answering


async def refuse(call: AsgiCall, outcome: Outcome, gate: Gate, receive: Receive, send: Send) -> None:
    """Answers in the application's place."""
    prefix = ""
    if call.scope["type"] == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return
        if "websocket.http.response" not in (call.scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        prefix = "websocket."
    answer = gate.refusal(call, outcome)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": f"{prefix}http.response.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": answer.body})
