"""aiohttp: a middleware for an application, and a decorator for single handlers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Unpack

from penstock.adapters.call import WEBSOCKET, user_of
from penstock.adapters.gate import DEFAULT, SCOPE, Gate, Outcome, Settings, ask_one
from penstock.adapters.identity import Identity
from penstock.adapters.rules import Options, Rule
from penstock.limiter import Limiter, Rates

try:
    from aiohttp import web
except ImportError as error:
    raise ImportError(f"penstock.integrations.aiohttp: {error}; pip install 'penstock[aiohttp]'") from error

Handler = Callable[..., Awaitable[Any]]


class AiohttpCall:
    """A web.Request."""

    __slots__ = ("identity", "method", "path", "peer", "request")

    def __init__(self, request: web.Request, identity: Identity) -> None:
        self.request = request
        self.identity = identity
        opening = request.headers.get("Upgrade", "").lower() == "websocket"
        self.method: str = WEBSOCKET if opening else request.method
        self.path: str = request.path
        self.peer: str | None = request.remote or None

    @property
    def user(self) -> str | None:
        return user_of(self.request.get("user"))

    def lines(self, name: str) -> Sequence[str]:
        return self.request.headers.getall(name, ())  # type: ignore[no-any-return]


def install(app: web.Application, *rules: Rule | Limiter | Rates, **settings: Unpack[Settings]) -> None:
    """Limits an application, its subapplications too: a middleware that asks, and a signal that adds the headers.

    rules: Rule, Limiter or rates; settings: those of Gate.

    The user of the key function `user` is `request["user"]`.
    """
    gate = Gate(rules, **settings)

    @web.middleware  # type: ignore[untyped-decorator]
    async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
        outcome = request[SCOPE] = Outcome(gate)
        call = AiohttpCall(request, gate.identity)
        if not outcome.ask(gate.rules.find(call.method, call.path), call):
            return _refused(call, outcome)
        return await _held(outcome, handler, request)

    app.middlewares.append(limits)
    app.on_response_prepare.append(_add_headers)


def limit(limits: Limiter | Rates, **options: Unpack[Options]) -> Callable[[Handler], Handler]:
    """Decorator for handlers and methods of a web.View. limits: a Limiter or rates; options: those of Rule.

    In an application with `install` its settings hold here as well, and all answers have headers; without it those do
    that the handler returns, but for what it has begun to send. Key functions find the request as `call.request`.
    """
    rule = Rule(limits, **options)

    def decorate(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def limited(*args: Any) -> web.StreamResponse:
            request = getattr(args[-1], "request", args[-1])  # a View's method has no argument but the View
            outer: Outcome | None = request.get(SCOPE)
            outcome = Outcome(DEFAULT) if outer is None else outer
            call = AiohttpCall(request, outcome.gate.identity)
            if not ask_one(rule, call, outcome):
                response: web.StreamResponse = _refused(call, outcome)
            elif outer is not None:
                response = await handler(*args)
            else:
                response = await _held(outcome, handler, *args)
            if outer is None and not response.prepared:
                response.headers.update(outcome.headers())
            return response

        return limited

    return decorate


async def _held(outcome: Outcome, handler: Handler, *args: Any) -> web.StreamResponse:
    try:
        return await handler(*args)
    finally:
        outcome.release()


def _refused(call: AiohttpCall, outcome: Outcome) -> web.Response:
    answer = outcome.gate.refusal(call, outcome)
    headers = [(name, value) for name, value in answer.headers if name != "content-length"]  # aiohttp counts itself
    return web.Response(body=answer.body, status=answer.status, headers=headers)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    outcome: Outcome | None = request.get(SCOPE)
    if outcome is not None and not isinstance(response, web.WebSocketResponse):
        response.headers.update(outcome.headers())
