"""Outgoing calls through httpx and requests to a real server: turns per host, and Retry-After honoured."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from peers import needed

needed("httpx", "requests")

import httpx  # noqa: E402
import requests  # noqa: E402

from penstock import Concurrency, Limiter, RateLimited  # noqa: E402
from penstock.integrations._outgoing import PAUSES_MOST, Outgoing, retry_after  # noqa: E402
from penstock.integrations.httpx import AsyncLimitedTransport, LimitedTransport  # noqa: E402
from penstock.integrations.requests import LimitedAdapter  # noqa: E402


class Server(ThreadingHTTPServer):
    """Answers as told by its next `answers`, else 200; notes when each call came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.came: list[float] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.came.append(time.monotonic())
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=["httpx", "httpx in asyncio", "requests"])
def client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Callable[[str], int]]]:
    """client(limits, **options) -> get, a function from a URL to the response's status."""
    closing: list[Callable[[], Any]] = []

    def make(limits: Any, **options: Any) -> Callable[[str], int]:
        if request.param == "httpx":
            client = httpx.Client(transport=LimitedTransport(limits, **options), trust_env=False)
            closing.append(client.close)
            return lambda url: client.get(url).status_code
        if request.param == "requests":
            session = requests.Session()
            session.trust_env = False
            session.mount("http://", LimitedAdapter(limits, **options))
            closing.append(session.close)
            return lambda url: session.get(url).status_code
        runner = asyncio.Runner()
        other = httpx.AsyncClient(transport=AsyncLimitedTransport(limits, **options), trust_env=False)
        closing.append(lambda: (runner.run(other.aclose()), runner.close()))

        async def get(url: str) -> int:
            return (await other.get(url)).status_code

        return lambda url: runner.run(get(url))

    yield make
    for close in closing:
        close()


def test_a_host_is_called_as_often_as_allowed(client: Any, server: Server) -> None:
    get = client("2/day", wait=0)
    other = server.url.replace("127.0.0.1", "localhost")
    assert [get(server.url), get(server.url + "path?query")] == [200, 200]
    with pytest.raises(RateLimited) as refused:
        get(server.url)
    assert 0 < refused.value.decision.retry_after <= 43_200
    assert get(other) == 200
    assert len(server.came) == 3


def test_a_call_waits_for_its_turn(client: Any, server: Server) -> None:
    get = client("4/second burst 1", wait=None)
    began = time.monotonic()
    assert [get(server.url) for _ in range(3)] == [200] * 3
    assert server.came[2] - began >= 0.5


def test_a_host_that_asks_to_wait_is_not_called_before(client: Any, server: Server) -> None:
    server.answers = [(503, {"Retry-After": "1"})]
    get = client("100/second", wait=20)
    assert [get(server.url), get(server.url)] == [503, 200]
    assert server.came[1] - server.came[0] >= 1


def test_a_wait_that_is_too_long_is_told_at_once(client: Any, server: Server) -> None:
    server.answers = [(429, {"Retry-After": formatdate(time.time() + 7_200, usegmt=True)})]
    get = client("100/second", wait=5, retry_after_most=60)
    assert get(server.url) == 429
    with pytest.raises(RateLimited) as refused:
        get(server.url)
    assert 50 < refused.value.decision.retry_after <= 60
    assert get(server.url.replace("127.0.0.1", "localhost")) == 200


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", "9" * 65_000, "Fri, 31 Dec 1999 23:59:59 GMT", "\xb2", ""])
def test_what_asks_for_no_wait_or_nothing_readable_delays_nothing(client: Any, server: Server, value: str) -> None:
    server.answers = [(429, {"Retry-After": value})]
    get = client("100/second", wait=0)
    assert [get(server.url), get(server.url)] == [429, 200]


def test_a_retry_after_with_success_delays_nothing(client: Any, server: Server) -> None:
    server.answers = [(200, {"Retry-After": "60"})]
    get = client("100/second", wait=0)
    assert [get(server.url), get(server.url)] == [200, 200]


def test_keys_are_what_a_function_says_and_its_errors_reach_the_caller(client: Any, server: Server) -> None:
    def key(request: Any) -> Any:
        path = httpx.URL(str(request.url)).path
        return {"/int": 7, "/none": None}[path]

    get = client("1/day", wait=0, key=key)
    assert get(server.url + "int") == 200
    with pytest.raises(RateLimited):
        get(server.url + "int")
    with pytest.raises(TypeError, match="key must be str, bytes, int"):
        get(server.url + "none")
    with pytest.raises(KeyError):
        get(server.url)
    assert len(server.came) == 1


def test_a_limiter_of_ones_own_is_shared_and_counted(client: Any, server: Server) -> None:
    limiter = Limiter("5/day")
    get, other = client(limiter), client(limiter)
    assert [get(server.url), other(server.url)] == [200, 200]
    assert limiter.stats().admitted == 2


@pytest.mark.parametrize(
    ("limits", "options", "says"),
    [
        (Concurrency(4), {}, "a Concurrency limit has to be given back"),
        ("1/second", {"wait": -1}, "wait=-1 must be finite, not negative"),
        ("1/second", {"retry_after_most": float("inf")}, "retry_after_most=inf must be finite"),
    ],
)
def test_what_cannot_be_is_refused_when_made(limits: Any, options: dict[str, Any], says: str) -> None:
    for kind in LimitedTransport, AsyncLimitedTransport, LimitedAdapter:
        with pytest.raises(ValueError, match=says):
            kind(limits, **options)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120),
        (" 7 ", None, 7),
        ("99999999999999999999", None, 3600),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 08:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", "no date", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, 3600),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None, None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None, None),
        ("-1", None, None),
        ("1e3", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, date: str | None, seconds: float | None) -> None:
    assert retry_after(value, date, 3600) == seconds


def test_remembered_hosts_are_bounded() -> None:
    outgoing = Outgoing("1/second", 0, 60)
    for i in range(PAUSES_MOST + 10):
        outgoing.after(i, 503, "30", None)
    assert outgoing.pause(0) == 0
    assert 29 < outgoing.pause(PAUSES_MOST) <= 30
    assert len(outgoing._pauses) == PAUSES_MOST


class Telling:
    """A limiter whose first acquire is when the host asks to wait."""

    def __init__(self, limiter: Limiter, tell: Callable[[], None]) -> None:
        self.limiter = limiter
        self.tell: Callable[[], None] | None = tell

    def acquire(self, key: str, timeout: float | None) -> bool:
        tell, self.tell = self.tell, None
        if tell is not None:
            tell()
        return self.limiter.acquire(key, timeout=timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


def test_a_pause_that_comes_while_a_call_waits_is_kept() -> None:
    limiter = Limiter("10/day")
    outgoing = Outgoing(limiter, 30, 60)
    outgoing.limiter = Telling(limiter, lambda: outgoing.after("host", 429, "1", None))  # type: ignore[assignment]
    began = time.monotonic()
    outgoing.before("host")
    assert time.monotonic() - began >= 1
    assert limiter.peek("host").remaining == 8
