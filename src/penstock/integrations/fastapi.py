"""FastAPI: limits as dependencies, the 429 in OpenAPI, and the middleware that both go well with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Unpack

from penstock.adapters.asgi import LimitMiddleware
from penstock.adapters.call import AsgiCall
from penstock.adapters.gate import DEFAULT, SCOPE, Gate, Outcome, Settings, ask_one
from penstock.adapters.rules import Options, Rule
from penstock.limiter import Limiter, Rates

try:
    from fastapi import FastAPI, HTTPException, Response, WebSocketException, routing
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError(f"penstock.integrations.fastapi: {error}; pip install 'penstock[fastapi]'") from error

__all__ = ["LimitMiddleware", "Refused", "install", "limit"]

_OF_ROUTE = "penstock.route.outcome"
"""In a scope without the middleware's outcome: what the dependencies of its route were told."""

RESPONSE: dict[str, Any] = {
    "description": "Too Many Requests",
    "headers": {
        "Retry-After": {"description": "Seconds until it is worth trying again", "schema": {"type": "integer"}},
        "RateLimit": {"description": "What is left of each quota", "schema": {"type": "string"}},
        "RateLimit-Policy": {"description": "The quotas", "schema": {"type": "string"}},
    },
    "content": {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}},
}


class Refused(HTTPException):  # type: ignore[misc]
    """A dependency's refusal, for applications that answer it with an exception handler of their own."""

    def __init__(self, outcome: Outcome, headers: dict[str, str]) -> None:
        unidentified = outcome.status == 403
        detail = "Client could not be identified" if unidentified else "Rate limit exceeded"
        super().__init__(outcome.status, detail, headers)
        self.outcome = outcome


class _Limit:
    """The dependency. FastAPI gives it the connection and the response that a route's own result is put into."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    async def __call__(self, connection: HTTPConnection, response: Response) -> None:
        self._ask(connection, response)

    def _ask(self, connection: Any, response: Any) -> tuple[Outcome, bool]:
        """(the outcome, whether someone else gives back what it holds). Raises Refused or WebSocketException."""
        scope = connection.scope
        outer = scope.get(SCOPE)
        outcome = outer if outer is not None else scope.setdefault(_OF_ROUTE, Outcome(DEFAULT))
        admitted = ask_one(self.rule, AsgiCall(scope, outcome.gate.identity, connection), outcome)
        headers = {} if outer is not None else dict(outcome.headers())
        if admitted:
            for name, value in headers.items():
                response.headers[name] = value
            return outcome, outer is not None
        if outer is None:
            outcome.release()
        if scope["type"] == "websocket":
            raise WebSocketException(1008)
        raise Refused(outcome, headers)


class _HoldingLimit(_Limit):
    """The dependency of a limiter with a Concurrency limit: gives back when the response is sent."""

    async def __call__(self, connection: HTTPConnection, response: Response) -> AsyncIterator[None]:  # type: ignore[override]
        outcome, outer = self._ask(connection, response)
        try:
            yield
        finally:
            if not outer:
                outcome.release()


def limit(limits: Limiter | Rates, **options: Unpack[Options]) -> _Limit:
    """What Depends() takes: Depends(limit("5/minute", key=...)), of a route, a router or the application.

    limits: a Limiter or rates; options: those of Rule.

    Key functions find the connection as `call.request`. A refusal raises Refused, an HTTPException of 429 or 403.
    Headers are added to what the route returns, unless that is a Response of its own: `install` adds them to every
    answer.
    """
    rule = Rule(limits, **options)
    return _HoldingLimit(rule) if rule.holds else _Limit(rule)


def install(app: FastAPI, *rules: Rule | Limiter | Rates, **settings: Unpack[Settings]) -> None:
    """Adds LimitMiddleware to an application, and the 429 of its rules and dependencies to its OpenAPI document.

    rules, settings: those of LimitMiddleware.

    The settings hold for dependencies as well; all answers have headers.
    """
    gate = Gate(rules, **settings)
    app.add_middleware(LimitMiddleware, *gate.rules.all, **settings)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema: dict[str, Any] = generate()
        for path, method in _limited(app, gate):
            operation = schema.get("paths", {}).get(path, {}).get(method)
            if operation is not None:
                operation.setdefault("responses", {}).setdefault("429", RESPONSE)
        return schema

    app.openapi = openapi


def _limited(app: FastAPI, gate: Gate) -> Iterator[tuple[str, str]]:
    """(path, method in lower case) of the operations that a rule or a dependency limits."""
    contexts = getattr(routing, "iter_route_contexts", iter)  # newer FastAPI does not copy included routes
    for route in contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None:
            for method in getattr(route, "methods", None) or ():
                if gate.rules.find(method, route.path_format) or _depends(dependant):
                    yield route.path_format, method.lower()


def _depends(dependant: Any) -> bool:
    return any(isinstance(one.call, _Limit) or _depends(one) for one in dependant.dependencies)
