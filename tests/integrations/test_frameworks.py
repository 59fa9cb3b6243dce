"""What only some frameworks have: websockets, OpenAPI, dependencies and decorators on their own, throttles."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import Server
from test_applications import is_ours

from penstock import Concurrency, Limiter


def test_websockets_are_limited_when_they_open(with_websockets: Server) -> None:
    client = pytest.importorskip("websockets.sync.client")
    exceptions = pytest.importorskip("websockets.exceptions")
    url = f"ws://127.0.0.1:{with_websockets.port}/ws"

    def connect() -> Any:
        return client.connect(url, source_address=("127.0.2.1", 0), open_timeout=30)

    for _ in range(2):
        with connect() as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=30) == "hello"
    with pytest.raises(exceptions.InvalidStatus) as refused:
        connect()
    response = refused.value.response
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 1800
    assert response.headers["X-RateLimit-Remaining"] == "0"


def test_on_a_unix_socket_nobody_has_an_address(unix: Server) -> None:
    """Refused, rather than one bucket for all; and no header of a proxy that nobody named is believed."""
    for headers in ({}, {"X-Forwarded-For": "203.0.113.7"}):
        refused = unix.get("/items/1", headers=headers)
        assert (refused.status, json.loads(refused.body)["type"]) == (403, "unidentified")
    assert unix.get("/free").status == 200


def test_throttles_take_the_frameworks_own_settings(django: Server) -> None:
    """One worker or another answers, each with its own count: no segment is named for throttles here."""
    answers = [django.get("/throttled", "127.0.2.2") for _ in range(8)]
    admitted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert 2 <= len(admitted) <= 4
    assert len(admitted) + len(refused) == 8
    assert json.loads(admitted[0].body) == {"hello": "world"}
    assert admitted[0].headers["ratelimit-policy"] == '"anon";q=2;w=3600'
    assert 0 < int(refused[0].headers["retry-after"]) <= 1800
    assert "throttled" in json.loads(refused[0].body)["detail"]


def test_openapi_tells_of_429() -> None:
    fastapi = pytest.importorskip("fastapi")
    from penstock.adapters.rules import Rule
    from penstock.integrations.fastapi import install, limit

    app = fastapi.FastAPI()
    router = fastapi.APIRouter(prefix="/v1", dependencies=[fastapi.Depends(limit("5/minute"))])

    def within(found: None = fastapi.Depends(limit("5/minute"))) -> None:
        return found

    @router.get("/of-router")
    @app.get("/by-rule/{number}")
    @app.get("/free")
    async def plain() -> None:
        return None

    @app.post("/nested", dependencies=[fastapi.Depends(within)])
    @app.post("/own", responses={429: {"description": "my own words"}}, dependencies=[fastapi.Depends(limit("5/day"))])
    async def limited() -> None:
        return None

    app.include_router(router)
    install(app, Rule("5/minute", "/by-rule/*"))
    for _ in range(2):
        paths = app.openapi()["paths"]
        first = {path: next(iter(operations.values())) for path, operations in paths.items()}
        described = {path: operation["responses"].get("429") for path, operation in first.items()}
        assert described["/free"] is None
        assert described["/own"]["description"] == "my own words"
        for path in ("/v1/of-router", "/by-rule/{number}", "/nested"):
            assert "Retry-After" in described[path]["headers"], path


def fastapi_client(app: Any) -> Any:
    testclient = pytest.importorskip("fastapi.testclient")
    return testclient.TestClient(app)


def test_dependencies_without_install() -> None:
    """Two on one route: both count, and headers tell of both."""
    fastapi = pytest.importorskip("fastapi")
    from penstock.integrations.fastapi import limit

    app = fastapi.FastAPI()
    two = [fastapi.Depends(limit("2/hour", name="own")), fastapi.Depends(limit("100/hour", name="all"))]

    @app.get("/", dependencies=two)
    async def home() -> dict[str, str]:
        return {"hello": "world"}

    client = fastapi_client(app)
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"own";q=2;w=3600, "all";q=100;w=3600'
    assert answers[2].json() == {"detail": "Rate limit exceeded"}
    assert answers[2].headers["Retry-After"] == "1800"


def test_a_dependency_holds_until_the_response_is_sent() -> None:
    fastapi = pytest.importorskip("fastapi")
    from fastapi.responses import StreamingResponse

    from penstock.integrations.fastapi import limit

    limiter = Limiter(Concurrency(1))
    app = fastapi.FastAPI()
    seen: list[int] = []

    @app.get("/", dependencies=[fastapi.Depends(limit(limiter))])
    async def home() -> Any:
        async def body() -> Any:
            seen.append(limiter.peek("peer:testclient").remaining)
            yield b"x"

        seen.append(limiter.peek("peer:testclient").remaining)
        return StreamingResponse(body())

    client = fastapi_client(app)
    assert [client.get("/").status_code for _ in range(2)] == [200, 200]
    assert seen == [0, 0, 0, 0]
    assert limiter.stats().live == 0


def test_a_starlette_decorator_alone() -> None:
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.endpoints import HTTPEndpoint
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from penstock.integrations.starlette import limit

    held = Limiter(Concurrency(1))

    @limit("2/hour", key=lambda call: f"agent:{call.request.headers['user-agent']}", name="agents")
    def sync(request: Any) -> Any:
        return PlainTextResponse("sync")

    class Methods(HTTPEndpoint):
        @limit(held)
        async def get(self, request: Any) -> Any:
            if "boom" in request.query_params:
                raise ValueError("boom")
            return PlainTextResponse(str(held.peek("peer:testclient").remaining))

    app = Starlette(routes=[Route("/sync", sync), Route("/methods", Methods)])
    client = fastapi_client(app)
    answers = [client.get("/sync") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit"] == '"agents";r=1;t=1800'
    with pytest.raises(ValueError, match="boom"):
        client.get("/methods?boom")
    assert [client.get("/methods").text for _ in range(2)] == ["0", "0"]
    assert held.stats().live == 0


def test_a_flask_decorator_alone_and_an_errorhandler() -> None:
    flask = pytest.importorskip("flask")
    from penstock.integrations.flask import limit

    app = flask.Flask("alone")
    held = Limiter(Concurrency(1))

    @app.get("/")
    @limit("1/hour", key=lambda call: f"tenant:{call.request.args['tenant']}")
    def home() -> str:
        return "hello"

    @app.get("/boom")
    @limit(held)
    def boom() -> str:
        raise ValueError("boom")

    @app.get("/held")
    @limit(held)
    def hold() -> str:
        return str(held.peek("ip:127.0.0.1").remaining)

    app.register_error_handler(429, lambda error: ("slowly, please", 429))
    app.testing = True
    client = app.test_client()
    with app.app_context():  # which requests then share, and `g` with it
        assert client.get("/?tenant=a").headers["RateLimit-Policy"] == '"default";q=1;w=3600'
        again = client.get("/?tenant=a")
        assert (again.status_code, again.text) == (429, "slowly, please")
        assert again.headers["Retry-After"] == "3600"
        assert client.get("/?tenant=b").status_code == 200
        assert client.get("/").status_code == 403
        for _ in range(2):
            with pytest.raises(ValueError, match="boom"):
                client.get("/boom")
            with client.get("/held") as response:  # closing it is what gives back
                assert response.text == "0"
    assert held.stats().live == 0


def test_a_flask_extension_gives_back_when_an_exception_passes_through() -> None:
    flask = pytest.importorskip("flask")
    from penstock.adapters.rules import Rule
    from penstock.integrations.flask import Limits

    held = Limiter(Concurrency(1))
    app = flask.Flask("propagating")
    limits = Limits(None, Rule(held, "/boom"))
    limits.init_app(app)

    @app.get("/boom")
    def boom() -> str:
        raise ValueError("boom")

    app.testing = True
    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            app.test_client().get("/boom")
    assert held.stats().live == 0


def test_unlimited_routes_have_no_headers(django: Server) -> None:
    assert not is_ours(django.get("/free", "127.0.2.3"))
