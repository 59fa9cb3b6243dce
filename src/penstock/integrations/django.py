"""Django: a middleware with its rules in the settings, and a decorator for single views, both sync and async."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, Unpack

from penstock.adapters.call import WsgiCall
from penstock.adapters.gate import DEFAULT, SCOPE, Gate, Outcome, ask_one
from penstock.adapters.rules import Options, Rule
from penstock.limiter import Limiter, Rates

try:
    from django import conf
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from django.utils.decorators import sync_and_async_middleware
except ImportError as error:
    raise ImportError(f"penstock.integrations.django: {error}; pip install 'penstock[django]'") from error

View = Callable[..., Any]


@sync_and_async_middleware  # type: ignore[untyped-decorator]
def limit_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """The middleware, "penstock.integrations.django.limit_middleware" in MIDDLEWARE.

    The setting PENSTOCK is a dict of Gate's arguments: {"rules": ["100/minute", Rule(...)], "trusted": [...], ...}.
    It must stand below AuthenticationMiddleware for rules with the key `user`, which an async project cannot use.
    """
    gate = Gate(**getattr(conf.settings, "PENSTOCK", {}))

    def begin(request: HttpRequest) -> tuple[Outcome, HttpResponseBase | None]:
        """The request's outcome, and the answer if it is refused."""
        call = _call(request, gate)
        outcome = request.META[SCOPE] = Outcome(gate)
        admitted = outcome.ask(gate.rules.find(call.method, call.path), call)
        return outcome, None if admitted else _finish(outcome, _refused(call, outcome))

    if iscoroutinefunction(get_response):

        async def middleware_async(request: HttpRequest) -> HttpResponseBase:
            outcome, refused = begin(request)
            return refused or await _awaited(outcome, get_response(request))

        return middleware_async

    def middleware(request: HttpRequest) -> HttpResponseBase:
        outcome, refused = begin(request)
        return refused or _called(outcome, get_response, request)

    return middleware


def limit(limits: Limiter | Rates, **options: Unpack[Options]) -> Callable[[View], View]:
    """Decorator for views; `method_decorator(limit(...), name="dispatch")` for classes of them.

    limits: a Limiter or rates; options: those of Rule.

    With the middleware its settings hold here as well, and its headers tell of both. Key functions find the request as
    `call.request`.
    """
    rule = Rule(limits, **options)

    def decorate(view: View) -> View:
        def begin(request: HttpRequest) -> tuple[Outcome, bool, HttpResponseBase | None]:
            """(outcome, whether the middleware finishes it, the answer if it is refused)."""
            outer: Outcome | None = request.META.get(SCOPE)
            outcome = Outcome(DEFAULT) if outer is None else outer
            call = _call(request, outcome.gate)
            if ask_one(rule, call, outcome):
                return outcome, outer is not None, None
            refused = _refused(call, outcome)
            return outcome, outer is not None, refused if outer is not None else _finish(outcome, refused)

        if iscoroutinefunction(view):

            @functools.wraps(view)
            async def limited_async(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                outcome, outer, refused = begin(request)
                if refused is not None or outer:
                    return refused or await view(request, *args, **kwargs)
                return await _awaited(outcome, view(request, *args, **kwargs))

            return limited_async

        @functools.wraps(view)
        def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            outcome, outer, refused = begin(request)
            if refused is not None or outer:
                return refused or view(request, *args, **kwargs)
            return _called(outcome, view, request, *args, **kwargs)

        return limited

    return decorate


def _call(request: HttpRequest, gate: Gate) -> WsgiCall:
    call = WsgiCall(request.META, gate.identity, request, lambda: getattr(request, "user", None))
    call.path = request.path  # decoded, which META's need not be
    return call


def _refused(call: WsgiCall, outcome: Outcome) -> HttpResponseBase:
    answer = outcome.gate.refusal(call, outcome)
    response = HttpResponse(answer.body, status=answer.status)
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def _called(outcome: Outcome, answer: View, *args: Any, **kwargs: Any) -> HttpResponseBase:
    try:
        return _finish(outcome, answer(*args, **kwargs))
    except BaseException:
        outcome.release()
        raise


async def _awaited(outcome: Outcome, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
    try:
        return _finish(outcome, await answer)
    except BaseException:
        outcome.release()
        raise


def _finish(outcome: Outcome, response: HttpResponseBase) -> HttpResponseBase:
    """Adds the headers; what is held is given back when the server closes the response."""
    for name, value in outcome.headers():
        response.headers[name] = value
    if outcome.held:
        close = response.close

        def close_and_release() -> None:
            try:
                close()
            finally:
                outcome.release()

        response.close = close_and_release
    return response
