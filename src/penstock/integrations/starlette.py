"""Starlette: the ASGI middleware, and limits of single endpoints."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Unpack

from penstock.adapters.asgi import App, LimitMiddleware, Receive, Scope, Send, answering_with, refuse
from penstock.adapters.call import AsgiCall
from penstock.adapters.gate import DEFAULT, SCOPE, Outcome, ask_one
from penstock.adapters.rules import Options, Rule
from penstock.limiter import Limiter, Rates

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
except ImportError as error:
    raise ImportError(f"penstock.integrations.starlette: {error}; pip install 'penstock[starlette]'") from error

from inspect import iscoroutinefunction

__all__ = ["LimitMiddleware", "limit"]

Endpoint = Callable[..., Any]


def limit(limits: Limiter | Rates, **options: Unpack[Options]) -> Callable[[Endpoint], Endpoint]:
    """Decorator for endpoints, functions of a Request or a WebSocket and methods of an HTTPEndpoint; the outermost one.

    limits: a Limiter or rates; options: those of Rule.

    With LimitMiddleware around the application its settings hold here, and its headers tell of both. Key functions find
    the request as `call.request`.
    """
    rule = Rule(limits, **options)

    def decorate(endpoint: Endpoint) -> Endpoint:
        @functools.wraps(endpoint)
        async def limited(*args: Any) -> Any:
            connection = args[-1]
            outer: Outcome | None = connection.scope.get(SCOPE)
            outcome = Outcome(DEFAULT) if outer is None else outer
            call = AsgiCall(connection.scope, outcome.gate.identity, connection)
            admitted = ask_one(rule, call, outcome)
            if not isinstance(connection, Request):
                return await _session(endpoint, args, call, outcome, admitted, release=outer is None)
            if not admitted:
                response: App = functools.partial(_refused, call, outcome)
            else:
                try:
                    response = await _answer(endpoint, args)
                except BaseException:
                    if outer is None:
                        outcome.release()
                    raise
            return response if outer is not None else _Limited(response, outcome)

        return limited

    return decorate


async def _answer(endpoint: Endpoint, args: tuple[Any, ...]) -> App:
    if iscoroutinefunction(endpoint):
        response: App = await endpoint(*args)
    else:
        response = await run_in_threadpool(endpoint, *args)
    return response


async def _session(
    endpoint: Endpoint, args: tuple[Any, ...], call: AsgiCall, outcome: Outcome, admitted: bool, release: bool
) -> None:
    """A websocket, from its opening to its end."""
    if not admitted:
        websocket = call.request
        await refuse(call, outcome, outcome.gate, websocket.receive, websocket.send)
        return
    try:
        await endpoint(*args)
    finally:
        if release:
            outcome.release()


async def _refused(call: AsgiCall, outcome: Outcome, scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(call, outcome, outcome.gate, receive, send)


class _Limited:
    """A response, with headers added, that gives back what is held once it is sent."""

    def __init__(self, response: App, outcome: Outcome) -> None:
        self._response = response
        self._outcome = outcome

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._response(scope, receive, answering_with(self._outcome, send))
        finally:
            self._outcome.release()
