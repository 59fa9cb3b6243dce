"""Flask: an extension that limits an application, and a decorator for single views."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar, Unpack

from penstock.adapters.call import WsgiCall
from penstock.adapters.gate import DEFAULT, SCOPE, Gate, Outcome, Settings, ask_one
from penstock.adapters.rules import Options, Rule
from penstock.limiter import Limiter, Rates

try:
    from flask import Flask, Response, after_this_request, current_app, g, request
    from werkzeug.exceptions import default_exceptions
except ImportError as error:
    raise ImportError(f"penstock.integrations.flask: {error}; pip install 'penstock[flask]'") from error

P = ParamSpec("P")
R = TypeVar("R")

_UNANSWERED = "penstock.unanswered"
"""In the environ of a request that has no response yet: the outcome that gives back if there will be none."""


class Limits:
    """The extension: Limits(app, "100/minute", Rule(...)), or Limits(None, ...) and init_app(app) later.

    rules: Rule, Limiter or rates; settings: those of Gate.

    It asks before any other before_request function that is registered after it, and raises 429 or 403, so that the
    application's errorhandler(429) answers where there is one. The user of the key function `user` is `g.user`, else
    REMOTE_USER.
    """

    def __init__(
        self, app: Flask | None = None, *rules: Rule | Limiter | Rates, **settings: Unpack[Settings]
    ) -> None:
        self.gate = Gate(rules, **settings)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Puts it to work in an application."""
        app.extensions["penstock"] = self
        app.before_request(self._ask)
        app.teardown_request(_ended)

    def _ask(self) -> None:
        call = _call(self.gate)
        outcome = _started(self.gate)
        if not outcome.ask(self.gate.rules.find(call.method, call.path), call):
            _raise(call, outcome)


def limit(limits: Limiter | Rates, **options: Unpack[Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for views, under the route's own. limits: a Limiter or rates; options: those of Rule.

    With the extension its settings hold here as well. Key functions find the request as `call.request`.
    """
    rule = Rule(limits, **options)

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            extension: Limits | None = current_app.extensions.get("penstock")
            gate = DEFAULT if extension is None else extension.gate
            outcome, call = _started(gate), _call(gate)
            if not ask_one(rule, call, outcome):
                _raise(call, outcome)
            try:
                return current_app.ensure_sync(view)(*args, **kwargs)  # type: ignore[no-any-return]
            except BaseException:
                if extension is None:
                    outcome.release()
                raise

        return limited

    return decorate


def _call(gate: Gate) -> WsgiCall:
    return WsgiCall(request.environ, gate.identity, request._get_current_object(), lambda: g.get("user"))


def _started(gate: Gate) -> Outcome:
    """The request's outcome: LimitWSGI's, or one whose headers are added to the answer here."""
    outcome: Outcome | None = request.environ.get(SCOPE)
    if outcome is None:
        outcome = request.environ[SCOPE] = request.environ[_UNANSWERED] = Outcome(gate)
        after_this_request(functools.partial(_finish, outcome))
    return outcome


def _finish(outcome: Outcome, response: Response) -> Response:
    for name, value in outcome.headers():
        response.headers[name] = value
    if outcome.held:
        response.call_on_close(outcome.release)
    request.environ.pop(_UNANSWERED, None)
    return response


def _ended(error: BaseException | None) -> None:
    """Gives back for a request that has no response, as when an exception passes through."""
    outcome: Outcome | None = request.environ.pop(_UNANSWERED, None)
    if outcome is not None:
        outcome.release()


def _raise(call: WsgiCall, outcome: Outcome) -> NoReturn:
    answer = outcome.gate.refusal(call, outcome)
    response = Response(answer.body, answer.status, answer.headers)
    raise default_exceptions[outcome.status](response=response)
