"""What the middlewares add to a request: over applications called in a loop, and to uvicorn under a load client."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from penstock import Limiter, TokenBucket
from penstock.adapters import keys
from penstock.adapters.asgi import LimitMiddleware
from penstock.adapters.rules import Rule
from penstock.adapters.wsgi import LimitWSGI
from penstock.cli._timing import no_key

CALLS = 40
"""In a loop: few, so that some rounds are undisturbed on a machine that does other things as well."""
CLIENTS = [f"203.0.{number // 256}.{number % 256}" for number in range(1000)]
ROUNDS, REQUESTS, CONNECTIONS = 40, 20, 16
"""Of the load client: requests on each connection in each turn of each server; all connections ask at once."""


def admitting() -> Limiter:
    """Never refuses, and each of its answers has other numbers in its headers."""
    return Limiter(TokenBucket(10_000_000, per=100_000_000))


def rules(count: int) -> list[Rule]:
    return [Rule(admitting(), "/*", layer=f"layer {number}") for number in range(count)]


# ---- in a loop ----


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs what never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("the application waits for something")


def asgi_call(app: Any) -> Callable[[], None]:
    """One GET of the next client."""
    clients = cycle(CLIENTS)
    headers = [(b"host", b"bench"), (b"user-agent", b"bench/1"), (b"accept", b"*/*")]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        return None

    def call() -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"", "headers": headers,
            "client": (next(clients), 4711), "server": ("bench", 80),
        }  # fmt: skip
        drive(app(scope, receive, send))

    return call


def starlette_app() -> Any:
    applications = pytest.importorskip("starlette.applications")
    responses = pytest.importorskip("starlette.responses")
    routing = pytest.importorskip("starlette.routing")

    async def home(request: Any) -> Any:
        return responses.PlainTextResponse("hello")

    return applications.Starlette(routes=[routing.Route("/", home)])


def test_asgi(bench: Bench, fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    bare = starlette_app()
    apps = {
        "a rule": LimitMiddleware(bare, *rules(1)),
        "bare": bare,
        "no rule for it": LimitMiddleware(bare, Rule("1/second", "/login")),
        "a rule, headers='none'": LimitMiddleware(bare, *rules(1), headers="none"),
        "three rules": LimitMiddleware(bare, *rules(3)),
        "behind a trusted proxy": LimitMiddleware(bare, Rule(admitting(), key=keys.address), trusted=["203.0.0.0/16"]),
        "refused": LimitMiddleware(bare, Rule("1/hour", key=keys.everyone)),
    }
    calls = {name: asgi_call(app) for name, app in apps.items()}
    for call in calls.values():
        for _ in CLIENTS:
            call()
    loops = {name: no_key(call, CALLS) for name, call in calls.items()}
    best = bench.turns("ASGI, a bare Starlette application", "a rule", loops, most=3000)
    for name, ns in best.items():
        if name != "bare":
            fact("middleware, in a loop", name, "us beyond the bare application", us=(ns - best["bare"]) / 1e3)
    fact("middleware, in a loop", "bare Starlette", "us", us=best["bare"] / 1e3)
    goal("middleware", (best["a rule"] - best["bare"]) / 1e3)


def test_wsgi(bench: Bench, fact: Callable[..., None]) -> None:
    def bare(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    def call(app: Any) -> Callable[[], None]:
        clients = cycle(CLIENTS)

        def one() -> None:
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": next(clients), "HTTP_HOST": "bench"}
            app(environ, lambda status, headers, error=None: None)

        return one

    apps = {"a rule": LimitWSGI(bare, *rules(1)), "bare": bare}
    loops = {name: no_key(call(app), CALLS) for name, app in apps.items()}
    best = bench.turns("WSGI, an empty application", "a rule", loops, most=3000)
    added = (best["a rule"] - best["bare"]) / 1e3
    fact("middleware, in a loop", "WSGI, a rule", "us beyond the bare application", us=added)


# ---- under uvicorn ----

SERVED = """
from test_adapters import starlette_app, rules
from penstock.adapters.asgi import LimitMiddleware
bare = starlette_app()
limited = LimitMiddleware(bare, *rules(1))
silent = LimitMiddleware(bare, *rules(1), headers="none")
"""
"""Without headers beside with them: writing five more header lines is the server's work, and not a small one."""


class Served:
    """An application in a uvicorn process, and a connection to it."""

    def __init__(self, name: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", f"served:{name}", "--port", str(port), "--no-access-log"]
        path = os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [*command, "--log-level", "error"], env=os.environ | {"PYTHONPATH": path}, stdout=quiet, stderr=quiet
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=30)]
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.process.kill()
                    raise
                time.sleep(0.05)
        for _ in range(CONNECTIONS - 1):
            self._sockets.append(socket.create_connection(("127.0.0.1", port), timeout=30))

    def cpu_ns(self) -> int:
        """Processor time of the server's one thread so far."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0])

    def turn(self, count: int) -> float:
        """Microseconds of the server's processor time for a request, of `count` on each connection."""
        begin = self.cpu_ns()
        for _ in range(count):
            for connection in self._sockets:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1\r\n\r\n")
            for connection in self._sockets:
                answer = connection.recv(65_536)
                while not answer.endswith(b"hello"):
                    answer += connection.recv(65_536)
                assert answer.startswith(b"HTTP/1.1 200")
        return (self.cpu_ns() - begin) / count / len(self._sockets) / 1e3

    def stop(self) -> None:
        for connection in self._sockets:
            connection.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Served]]:
    pytest.importorskip("uvicorn")
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("processor time of another process is read from Linux' schedstat")
    (tmp_path / "served.py").write_text(SERVED)
    servers = {name: Served(name, tmp_path) for name in ("bare", "limited", "silent")}
    yield servers
    for server in servers.values():
        server.stop()


def test_uvicorn(served: dict[str, Served], fact: Callable[..., None]) -> None:
    """Whole requests, in turns: the difference of two large numbers, so its spread stands beside it."""
    taken: dict[str, list[float]] = {name: [] for name in served}
    for server in served.values():
        server.turn(REQUESTS)
    for _ in range(ROUNDS):
        for name, server in served.items():
            taken[name].append(server.turn(REQUESTS))
    unit = "us of the server's processor time for a request; of what is added the middle half of the rounds"
    least = min(taken["bare"])
    fact("middleware, under uvicorn", "bare", unit, us=least, median=statistics.median(taken["bare"]))
    for name, subject in (("limited", "a rule"), ("silent", "a rule, headers='none'")):
        added = [limited - bare for bare, limited in zip(taken["bare"], taken[name], strict=True)]
        low, middle, high = statistics.quantiles(added, n=4)
        values = {"us": min(taken[name]) - least, "median": middle, "low": low, "high": high}
        fact("middleware, under uvicorn", f"added by {subject}", unit, **values)
