"""What Flask-Limiter and slowapi add to a request, by their storage URI: memory and Redis beside penstock's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from time import process_time_ns
from typing import Any

import pytest
from conftest import Bench

for package in ("limits", "flask_limiter", "slowapi", "redis", "trustme"):
    pytest.importorskip(package, reason="nothing to compare with")
sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / part) for part in ("integration", "")]

from servers import Server, binary  # noqa: E402
from test_adapters import CLIENTS, asgi_call  # noqa: E402

import penstock.compat.limits  # noqa: E402, F401
from penstock.cli._timing import no_key  # noqa: E402

CALLS, MANY, ROUNDS = 5, 200, 12
"""Requests in a turn: so few that some turns go undisturbed; for processor time so many that its clock can tell."""
NAME = f"bench-{os.getpid()}"
LIMIT = "1000000/hour"


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What is compared: no limit, limits' own storages, ours."""
    with Server(tmp_path_factory.mktemp("redis"), program=binary()) as server:
        redis = f"redis://{server.host}:{server.port}"
        yield {"no limiter": "", "memory://": "memory://", "penstock://": "penstock://", "redis://": redis,
               "penstock+shm://": f"penstock+shm://{NAME}"}  # fmt: skip
    for file in Path("/dev/shm").glob(f"penstock-{os.geteuid()}-{NAME}.*"):
        file.unlink()


def flask_call(uri: str, strategy: str) -> Callable[[], None]:
    """One GET of the next client, to a Flask application with one limit."""
    import flask
    import flask_limiter
    from flask_limiter.util import get_remote_address

    app = flask.Flask("bench")
    if uri:
        options = {"storage_uri": uri, "strategy": strategy, "headers_enabled": True}
        flask_limiter.Limiter(get_remote_address, app=app, default_limits=[LIMIT], **options)
    app.add_url_rule("/", view_func=lambda: "hello")
    clients = cycle(CLIENTS)

    def call() -> None:
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "", "REMOTE_ADDR": next(clients),
            "SERVER_NAME": "bench", "SERVER_PORT": "80", "HTTP_HOST": "bench", "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http", "wsgi.input": None, "wsgi.errors": sys.stderr,
        }  # fmt: skip
        for _ in app(environ, lambda status, headers, error=None: lambda data: None):
            pass

    return call


def slowapi_call(uri: str, strategy: str) -> Callable[[], None]:
    """One GET of the next client, to a Starlette application with one limit on its endpoint."""
    import slowapi
    from slowapi.util import get_remote_address
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    endpoint: Any = home
    if uri:
        options = {"storage_uri": uri, "strategy": strategy, "headers_enabled": True}
        limiter = slowapi.Limiter(key_func=get_remote_address, **options)
        endpoint = limiter.limit(LIMIT)(home)
    app = Starlette(routes=[Route("/", endpoint)])
    if uri:
        app.state.limiter = limiter
    return asgi_call(app)


def cpu_in_turns(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Nanoseconds of this process's processor time for a request, background threads included; the least of all."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = process_time_ns()
            for _ in range(MANY):
                call()
            least[name] = min(least[name], (process_time_ns() - start) / MANY)
    return least


@pytest.mark.parametrize("strategy", ["fixed-window", "sliding-window-counter"])
@pytest.mark.parametrize(("framework", "make"), [("Flask-Limiter", flask_call), ("slowapi", slowapi_call)])
def test_added_time(
    framework: str, make: Callable[[str, str], Callable[[], None]], strategy: str, uris: dict[str, str],
    bench: Bench, fact: Callable[..., None], goal: Callable[[str, float], None],
) -> None:  # fmt: skip
    calls = {name: make(uri, strategy) for name, uri in uris.items()}
    group = f"{framework}, {strategy}: what a limit adds to a request"
    loops = {name: no_key(call, CALLS) for name, call in calls.items()}
    best = bench.turns(f"{framework}, {strategy}", "penstock://", loops, most=3000)
    cpu = cpu_in_turns(calls)
    bare, bare_cpu = best.pop("no limiter"), cpu.pop("no limiter")
    fact(group, "no limiter", "us", time=bare / 1e3, cpu=bare_cpu / 1e3)
    for name, ns in best.items():
        fact(group, name, "us added", time=(ns - bare) / 1e3, cpu=(cpu[name] - bare_cpu) / 1e3)
    goal("drop in for memory", (best["penstock://"] - bare) / (best["memory://"] - bare))
    goal("drop in for redis", (best["redis://"] - bare) / (best["penstock+shm://"] - bare))
