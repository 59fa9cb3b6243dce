"""The ASGI and WSGI middlewares over applications by hand: what passes through untouched, and what is given back."""

from __future__ import annotations

import asyncio
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from asgi_run import run
from calls import scope

from penstock import Concurrency, Limiter
from penstock.adapters.asgi import LimitMiddleware
from penstock.adapters.gate import Answer
from penstock.adapters.rules import Rule
from penstock.adapters.wsgi import LimitWSGI

Message = dict[str, Any]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"he", "more_body": True})
    await send({"type": "http.response.body", "body": b"llo"})


def headers(message: Message) -> dict[bytes, bytes]:
    assert len(dict(message["headers"])) == len(message["headers"]), "no header twice"
    return dict(message["headers"])


def test_only_the_start_is_another() -> None:
    app = LimitMiddleware(hello, "1/hour")
    start, *rest = run(app, scope())
    assert rest == run(hello, scope())[1:]
    assert headers(start)[b"x-own"] == b"1"
    assert headers(start)[b"ratelimit"] == b'"default";r=0;t=3600'
    start, body = run(app, scope())
    assert start["status"] == 429
    assert headers(start)[b"content-length"] == b"%d" % len(body["body"])
    assert headers(start)[b"retry-after"] == b"3600"


def test_what_no_rule_is_for_is_the_very_same_message() -> None:
    messages = [{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    sent = run(LimitMiddleware(app, Rule("1/hour", "/login")), scope())
    assert all(one is other for one, other in zip(sent, messages, strict=True))


@pytest.mark.parametrize("kind", ["lifespan", "something.new"])
def test_other_scopes_pass_through(kind: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope, receive, send))

    given: list[Any] = [{"type": kind}, object(), object()]
    asyncio.run(LimitMiddleware(app, "1/hour")(*given))
    assert all(one is other for one, other in zip(seen, given, strict=True))
    assert given[0] == {"type": kind}


def test_one_in_another() -> None:
    """Headers once, of both; places of both given back."""
    held = Limiter(Concurrency(1))
    inner = LimitMiddleware(hello, Rule("1/hour", name="inner"), Rule(held, layer="held"))
    app = LimitMiddleware(inner, Rule("5/hour", name="outer"))
    start, *_ = run(app, scope())
    assert headers(start)[b"ratelimit"] == b'"outer";r=4;t=720, "inner";r=0;t=3600, "held";r=0'
    start, _ = run(app, scope())
    assert start["status"] == 429
    assert headers(start)[b"retry-after"] == b"3600"
    assert held.stats().live == 0


def test_an_exception_passes_through_and_gives_back() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("its own")

    limiter = Limiter(Concurrency(1))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="its own"):
            run(LimitMiddleware(failing, limiter), scope())
    assert limiter.stats().live == 0


def test_a_cancelled_request_gives_back() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    limiter = Limiter(Concurrency(1))

    async def main() -> None:
        task = asyncio.create_task(LimitMiddleware(endless, limiter)(scope(), None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert limiter.stats().live == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert limiter.stats().live == 0


CONNECT = {"type": "websocket.connect"}


def test_websockets() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    app = LimitMiddleware(echo, "1/hour")
    made = scope(kind="websocket")
    assert run(app, dict(made), CONNECT) == [{"type": "websocket.accept"}]
    assert run(app, dict(made), CONNECT) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    assert run(app, dict(made), {"type": "websocket.disconnect"}) == []
    made["extensions"] = {"websocket.http.response": {}}
    start, body = run(app, made, CONNECT)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
    assert headers(start)[b"retry-after"] == b"3600"
    assert body["type"] == "websocket.http.response.body"


def test_websockets_hold_until_they_end() -> None:
    limiter = Limiter(Concurrency(1))
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(limiter.stats().live)

    run(LimitMiddleware(app, limiter), scope(kind="websocket"))
    assert seen == [1]
    assert limiter.stats().live == 0


# ---- WSGI ----


def environ(**changes: str) -> dict[str, Any]:
    made: dict[str, Any] = {"REMOTE_ADDR": "203.0.113.7", "QUERY_STRING": "", **changes}
    setup_testing_defaults(made)
    return made


class Body:
    """An application's own iterable, which says whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.parts = [b"he", b"llo"]

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        if not self.parts:
            raise StopIteration
        return self.parts.pop(0)

    def close(self) -> None:
        self.closed += 1


def request(app: Any, made: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """One request the way a server makes it."""
    found: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
        found[:] = [status, headers]
        return lambda data: None

    body = app(made, start_response)
    try:
        data = b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    status, sent = found
    assert len(dict(sent)) == len(sent), "no header twice"
    return status, dict(sent), data


def wsgi(body: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body()

    return app


def test_wsgi_by_the_book() -> None:
    held = Rule(Limiter(Concurrency(1)), layer="held")
    app = validator(LimitWSGI(validator(wsgi(lambda: [b"hello"])), "1/hour", held))
    status, found, body = request(app, environ())
    assert (status, body) == ("200 OK", b"hello")
    assert found["RateLimit"] == '"default";r=0;t=3600, "held";r=0'
    status, found, body = request(app, environ())
    assert status == "429 Too Many Requests"
    assert found["Retry-After"] == "3600"
    assert found["content-length"] == str(len(body))
    status, _, body = request(app, environ(REQUEST_METHOD="HEAD"))
    assert (status, body) == ("429 Too Many Requests", b"")
    assert request(app, environ(REQUEST_METHOD="OPTIONS"))[0] == "200 OK"
    assert request(app, environ(REMOTE_ADDR=""))[0] == "403 Forbidden"


def test_statuses_of_ones_own() -> None:
    for status, line in ((503, "503 Service Unavailable"), (499, "499 Refused")):
        answer = Answer(status, [("Content-Type", "text/plain")], b"")
        app = validator(LimitWSGI(wsgi(Body), "1/hour", answer=lambda call, outcome, answer=answer: answer))
        assert [request(app, environ())[0] for _ in range(2)][1] == line


def test_a_body_that_nothing_is_held_for_is_passed_as_it_is() -> None:
    body = Body()
    assert LimitWSGI(wsgi(lambda: body), "1/hour")(environ(), lambda *_: None) is body  # type: ignore[arg-type,return-value]


def test_wsgi_holds_until_the_body_is_closed() -> None:
    limiter = Limiter(Concurrency(1))
    own = Body()
    app = LimitWSGI(wsgi(lambda: own), limiter)
    body: Any = app(environ(), lambda *_: None)  # type: ignore[arg-type,return-value]
    assert next(body) == b"he"
    assert limiter.stats().live == 1
    body.close()
    assert limiter.stats().live == 0
    assert own.closed == 1
    assert request(LimitWSGI(wsgi(Body), limiter), environ())[2] == b"hello"
    assert limiter.stats().live == 0


def test_a_wsgi_body_that_is_dropped_gives_back() -> None:
    limiter = Limiter(Concurrency(1))
    body = LimitWSGI(wsgi(Body), limiter)(environ(), lambda *_: None)  # type: ignore[arg-type,return-value]
    assert limiter.stats().live == 1
    del body
    assert limiter.stats().live == 0


def test_a_wsgi_exception_passes_through_and_gives_back() -> None:
    def failing(environ: Any, start_response: Any) -> Any:
        raise RuntimeError("its own")

    limiter = Limiter(Concurrency(1))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="its own"):
            request(LimitWSGI(failing, limiter), environ())
    assert limiter.stats().live == 0


def test_one_wsgi_middleware_in_another() -> None:
    app = LimitWSGI(LimitWSGI(wsgi(Body), Rule("1/hour", name="inner")), Rule("5/hour", name="outer"))
    assert request(app, environ())[1]["RateLimit"] == '"outer";r=4;t=720, "inner";r=0;t=3600'
    status, found, _ = request(app, environ())
    assert status == "429 Too Many Requests"
    assert found["X-RateLimit-Limit"] == "1"
