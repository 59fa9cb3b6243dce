"""The WSGI middleware: one decision before the application, headers on its answer, everything else passed through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http.client import responses
from typing import TYPE_CHECKING, Any, Unpack

from penstock.adapters.call import WsgiCall
from penstock.adapters.gate import SCOPE, Gate, Outcome, Settings
from penstock.adapters.rules import Rule
from penstock.limiter import Limiter, Rates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class LimitWSGI:
    """Limits the requests of a WSGI application.

    rules: Rule, Limiter or rates; settings: those of Gate.

    Bodies are never read or kept. Units of Concurrency limits are given back when the server closes the answer, which
    it does when the client is gone as well, or when the application raises.

    >>> def hello(environ, start_response):
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [b"hello"]
    >>> app = LimitWSGI(hello, "100/second", Rule("5/minute", "/login", layer="login"))
    """

    def __init__(self, app: WSGIApplication, *rules: Rule | Limiter | Rates, **settings: Unpack[Settings]) -> None:
        self.app = app
        self.gate = Gate(rules, **settings)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        gate = self.gate
        call = WsgiCall(environ, gate.identity)
        outcome: Outcome | None = environ.get(SCOPE)
        if outcome is not None:  # within another such middleware, which adds the headers and gives back
            if outcome.ask(gate.rules.find(call.method, call.path), call):
                return self.app(environ, start_response)
            return _refuse(call, outcome, gate, start_response)
        outcome = environ[SCOPE] = gate.outcome(call)
        answering = _answering(outcome, start_response)
        if not outcome.allowed:
            return _refuse(call, outcome, gate, answering)
        try:
            body = self.app(environ, answering)
        except BaseException:
            outcome.release()
            raise
        return _Releasing(body, outcome) if outcome.held else body


def _answering(outcome: Outcome, start_response: StartResponse) -> StartResponse:
    """`start_response` that adds the outcome's headers."""

    def answering(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
        return start_response(status, [*headers, *outcome.headers()], *error)

    return answering


def _refuse(call: WsgiCall, outcome: Outcome, gate: Gate, start_response: StartResponse) -> Iterable[bytes]:
    answer = gate.refusal(call, outcome)
    start_response(f"{answer.status} {responses.get(answer.status, 'Refused')}", answer.headers)
    return [answer.body]


class _Releasing:
    """An application's answer, which gives back what is held once it is closed."""

    __slots__ = ("_body", "_iterator", "_outcome")

    def __init__(self, body: Iterable[bytes], outcome: Outcome) -> None:
        self._body = body
        self._outcome = outcome
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> _Releasing:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._body)
        return next(self._iterator)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._outcome.release()

    def __del__(self) -> None:  # for a server that does not close
        self._outcome.release()
