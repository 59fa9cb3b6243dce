"""The guard's middlewares over applications by hand: what passes untouched, what is told, what is held."""

from __future__ import annotations

import asyncio
import logging
import threading
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from asgi_run import run
from doubles import SaysSo, hello, plain, refusal

from penstock.guard import asgi, entrance, wsgi
from penstock.guard.asgi import GuardMiddleware
from penstock.guard.responses import KINDS, respond
from penstock.guard.verdict import Action, Tier, Verdict
from penstock.guard.wsgi import GuardWSGI

Message = dict[str, Any]
JA4 = "t13d1516h2_8daaf6152771_02713d6af862"
LOAD = {"type": "http.request", "body": b"", "more_body": False}


def scope(
    kind: str = "http", client: Any = ("203.0.113.7", 4711), method: str = "GET", **headers: str
) -> dict[str, Any]:
    """headers: x_tenant="a" for x-tenant: a; several lines are separated by "|"."""
    lines = [
        (name.replace("_", "-").encode(), line.encode("latin-1"))
        for name, value in headers.items()
        for line in value.split("|")
    ]
    made = {"type": kind, "path": "/a", "query_string": b"q=%27", "method": method, "client": client, "headers": lines}
    if kind == "websocket":
        del made["method"]
    return made


def headers_of(start: Message) -> dict[bytes, bytes]:
    assert len(dict(start["headers"])) == len(start["headers"]), "no header twice"
    return dict(start["headers"])


def environ(body: bytes = b"", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"REMOTE_ADDR": "203.0.113.7", "QUERY_STRING": "q=1"}
    setup_testing_defaults(made)
    if body:
        made |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body)), "REQUEST_METHOD": "POST"}
    return made | more


def call(app: Any, made: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body, as a server in keeping with the standard sees them."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
        started[:] = [status, dict(headers)]
        return lambda data: None

    answer = app(made, start_response)
    try:
        body = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[0], started[1], body


@pytest.mark.parametrize(
    ("kind", "wait", "status", "body"),
    [
        (
            "rate_limited",
            59.2,
            429,
            b'{"error":"Too many requests","detail":"Rate limit exceeded","type":"rate_limited","retry_after":60}',
        ),
        (
            "ip_blocked",
            None,
            403,
            b'{"error":"Access denied by security policy","detail":"IP is blacklisted","type":"ip_blocked"}',
        ),
    ],
)
def test_the_words_of_refusals(kind: str, wait: float | None, status: int, body: bytes) -> None:
    assert respond(kind, wait)[::2] == (status, body)


def test_what_a_refusal_says_of_the_limit() -> None:
    answer = respond("ddos_blocked", 0, 50, 0, 0.4)
    assert answer.status == 429
    assert b'"error":"Request blocked by DDoS protection"' in answer.body
    assert dict(answer.headers) == {
        "Content-Type": "application/json",
        "Retry-After": "1",
        "X-RateLimit-Limit": "50",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1",
        "Cache-Control": "no-store",
        "Content-Length": str(len(answer.body)),
    }


@pytest.mark.parametrize("wait", [None, float("inf"), float("nan"), 1e300])
def test_a_wait_that_does_not_help_is_not_spoken_of(wait: float | None) -> None:
    answer = respond("banned", wait)
    assert "Retry-After" not in dict(answer.headers)
    assert b"retry_after" not in answer.body


def test_waiting_helps_with_429_alone() -> None:
    waiting = {kind for kind, words in KINDS.items() if words.status == 429}
    assert waiting == {"rate_limited", "in_flight", "ddos_blocked"}
    with pytest.raises(ValueError, match="kind='odd' must be one of rate_limited"):
        respond("odd")


def test_asgi_passes_all_on() -> None:
    guard = SaysSo()
    app = GuardMiddleware(hello, guard)
    assert run(app, scope(user_agent="x")) == run(hello, scope())
    assert guard.arrivals == 1
    [request] = guard.asked
    assert (request.address, request.method, request.path, request.query) == ("203.0.113.7", "GET", "/a", "q=%27")
    assert request.header("user-agent") == "x"
    [(told, response)] = guard.told
    assert told is request
    assert (response.status, response.bytes) == (200, 5)
    assert response.duration is not None
    assert response.duration >= 0
    assert (guard.in_flight, guard.most_in_flight) == (0, 1)


@pytest.mark.parametrize("kind", ["lifespan", "something.new"])
def test_asgi_other_scopes_pass(kind: str) -> None:
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    given: list[Any] = [{"type": kind}, object(), object()]
    guard = SaysSo()
    asyncio.run(GuardMiddleware(app, guard)(*given))
    assert all(one is other for one, other in zip(seen, given, strict=True))
    assert not guard.asked


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the application sees nothing of a refused request")


def test_asgi_refuses() -> None:
    guard = SaysSo(refusal())
    start, body = run(GuardMiddleware(never, guard), scope())
    assert start["status"] == 429
    headers = dict(start["headers"])
    assert headers[b"retry-after"] == b"60"
    assert headers[b"x-ratelimit-limit"] == b"100"
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    assert body["body"] == refusal().body
    assert guard.told == [], "the guard does not feed on its own refusals"
    assert guard.in_flight == 0


def test_asgi_head_has_no_body() -> None:
    start, body = run(GuardMiddleware(never, SaysSo(refusal())), scope(method="HEAD"))
    assert int(dict(start["headers"])[b"content-length"]) == len(refusal().body)
    assert body["body"] == b""


def test_asgi_websockets() -> None:
    app = GuardMiddleware(never, SaysSo(refusal()))
    connect = {"type": "websocket.connect"}
    assert run(app, scope("websocket"), connect) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    able = scope("websocket") | {"extensions": {"websocket.http.response": {}}}
    assert [m["type"] for m in run(app, able, connect)] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]

    async def accepts(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "x"})

    guard = SaysSo(Verdict(True, headers=(("X-Seen", "1"),)))
    first, _ = run(GuardMiddleware(accepts, guard), scope("websocket"), connect)
    assert first["headers"] == [(b"x-seen", b"1")]
    assert guard.told[0][1].status == 101
    assert guard.asked[0].method == "WEBSOCKET"


def test_asgi_headers_of_an_allowed_verdict() -> None:
    guard = SaysSo(Verdict(True, headers=(("X-RateLimit-Remaining", "9"),)))
    start, *rest = run(GuardMiddleware(hello, guard), scope())
    assert start["headers"] == [(b"x-own", b"1"), (b"x-ratelimit-remaining", b"9")]
    assert rest == run(hello, scope())[1:]


def test_asgi_gives_back_when_the_application_raises() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("its own")

    guard = SaysSo()
    with pytest.raises(RuntimeError, match="its own"):
        run(GuardMiddleware(failing, guard), scope())
    assert guard.in_flight == 0
    assert guard.told[0][1].status == 500


def test_asgi_gives_back_when_the_client_is_gone() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    guard = SaysSo()

    async def main() -> None:
        made: Any = scope()
        task = asyncio.create_task(GuardMiddleware(endless, guard)(made, None, None))
        await asyncio.sleep(0)
        assert guard.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert guard.in_flight == 0
    assert guard.told == [], "there was no answer"


@pytest.mark.parametrize(("admit", "status"), [(True, 200), (False, 503)])
def test_a_guard_that_fails_is_no_500(admit: bool, status: int) -> None:
    guard = SaysSo(RuntimeError("broken"), admit=admit)
    assert run(GuardMiddleware(hello, guard), scope())[0]["status"] == status
    assert guard.failures == ["inspect"]
    assert call(GuardWSGI(plain, guard), environ())[0].startswith(str(status))
    assert guard.in_flight == 0


def test_a_guard_that_cannot_be_told_spoils_no_answer() -> None:
    class Deaf(SaysSo):
        def observe(self, request: Any, response: Any) -> None:
            raise RuntimeError("broken")

    guard = Deaf()
    assert run(GuardMiddleware(hello, guard), scope()) == run(hello, scope())
    assert call(GuardWSGI(plain, guard), environ())[2] == b"hello"
    assert guard.failures == ["observe", "observe"]


def test_each_guard_is_asked_once() -> None:
    """However often it is wrapped around; another guard inside is asked as well."""
    outer, inner = SaysSo(), SaysSo()
    run(GuardMiddleware(GuardMiddleware(GuardMiddleware(hello, outer), inner), outer), scope())
    call(GuardWSGI(GuardWSGI(GuardWSGI(plain, outer), inner), outer), environ())
    for guard in (outer, inner):
        assert len(guard.asked) == len(guard.told) == 2
    inner.verdict = refusal()
    assert run(GuardMiddleware(GuardMiddleware(never, inner), outer), scope())[0]["status"] == 429
    assert outer.told[-1][1].status == 429
    assert call(GuardWSGI(GuardWSGI(plain, inner), outer), environ())[0] == "429 Too Many Requests"


def test_asgi_tarpit_holds_this_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    let_go = asyncio.Event()

    async def sleep(seconds: float) -> None:
        order.append(f"held for {seconds}")
        await let_go.wait()

    monkeypatch.setattr(asgi.asyncio, "sleep", sleep)

    async def main() -> None:
        slow, quick = SaysSo(Verdict(True, Tier.SUSPICIOUS, Action.TARPIT, delay=10.0)), SaysSo()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                order.append("answered")

        made: list[Any] = [scope(), scope()]
        async with asyncio.TaskGroup() as group:
            group.create_task(GuardMiddleware(hello, slow)(made[0], None, send))
            other = group.create_task(GuardMiddleware(hello, quick)(made[1], None, send))
            await other
            order.append("the other is done")
            let_go.set()

    asyncio.run(main())
    assert order == ["held for 10.0", "answered", "the other is done", "answered"]


def test_a_full_tarpit_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(seconds: float) -> None:
        raise AssertionError("there is no room")

    monkeypatch.setattr(asgi.asyncio, "sleep", wrong)
    monkeypatch.setattr(wsgi.time, "sleep", wrong)
    guard = SaysSo(Verdict(True, Tier.SUSPICIOUS, Action.TARPIT, delay=10.0))
    guard.room = False
    assert run(GuardMiddleware(hello, guard), scope()) == run(hello, scope())
    assert call(GuardWSGI(plain, guard), environ())[2] == b"hello"
    guard.room = True
    assert call(GuardWSGI(plain, guard, held=0), environ())[2] == b"hello"
    assert guard.held == 0


def test_wsgi_tarpit_keeps_threads_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    inside, let_go = threading.Barrier(3), threading.Event()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        inside.wait(10)
        assert let_go.wait(10)

    monkeypatch.setattr(wsgi.time, "sleep", sleep)
    app = GuardWSGI(plain, SaysSo(Verdict(True, Tier.SUSPICIOUS, Action.TARPIT, delay=3.0)))
    threads = [threading.Thread(target=call, args=(app, environ())) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert call(app, environ())[2] == b"hello", "a third is not held"
    let_go.set()
    for thread in threads:
        thread.join()
    assert slept == [3.0, 3.0]


async def _riddle(scope: Any, receive: Any, send: Any) -> None:
    assert scope[entrance.VERDICT].action is Action.CHALLENGE
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b"riddle"})


def test_challenges() -> None:
    guard = SaysSo(refusal("challenge", None, Action.CHALLENGE))
    assert run(GuardMiddleware(never, guard), scope())[0]["status"] == 403
    sent = run(GuardMiddleware(never, guard, challenge=_riddle), scope())
    assert [sent[0]["status"], sent[1]["body"]] == [401, b"riddle"]
    answered = call(GuardWSGI(plain, guard, challenge=plain), environ())
    assert answered[2] == b"hello"
    assert guard.told == []


def test_a_challenge_that_fails_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    guard = SaysSo(refusal("challenge", None, Action.CHALLENGE))
    app = GuardMiddleware(never, guard, challenge=never)
    other = GuardWSGI(plain, guard, challenge=lambda environ, start_response: 1 / 0)
    with caplog.at_level(logging.ERROR, "penstock.guard"):
        for _ in range(2):
            assert run(app, scope())[0]["status"] == 403
            assert call(other, environ())[0] == "403 Forbidden"
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("settings", "client", "forwarded", "address"),
    [
        ({}, "203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ({"trusted": ["203.0.113.0/24"]}, "203.0.113.7", "192.0.2.1, 198.51.100.1", "198.51.100.1"),
        ({"trusted": ["203.0.113.0/24"]}, "203.0.113.7", "192.0.2.1|198.51.100.1", "198.51.100.1"),
        ({"trusted": ["203.0.113.0/24"]}, "203.0.113.7", "[2001:db8::7]:443", "2001:db8::7"),
        ({"trusted": ["203.0.113.0/24"]}, "203.0.113.7", "unknown", None),
        ({"trusted": 2}, "203.0.113.7", "198.51.100.1, 192.0.2.1", "198.51.100.1"),
        ({"trusted": "unix"}, None, "198.51.100.1", "198.51.100.1"),
        ({}, None, "198.51.100.1", None),
        ({}, "testclient", "198.51.100.1", None),
        ({}, "2001:db8::7", "", "2001:db8::7"),
        ({"trusted": "203.0.113.7"}, "203.0.113.7", "1.1.1.1," * 5000 + "198.51.100.1", "198.51.100.1"),
        ({"trusted": ["0.0.0.0/0"]}, "203.0.113.7", "1.1.1.1," * 5000 + "198.51.100.1", None),
    ],
)
def test_who_asks(settings: dict[str, Any], client: str | None, forwarded: str, address: str | None) -> None:
    guard = SaysSo()
    made = scope(client=client and (client, 1), x_forwarded_for=forwarded)
    for _ in range(2):
        run(GuardMiddleware(hello, guard, **settings), made.copy())
    call(
        GuardWSGI(plain, guard, **settings),
        environ(REMOTE_ADDR=client or "", HTTP_X_FORWARDED_FOR=forwarded.replace("|", ",")),
    )
    assert [request.address for request in guard.asked] == [address] * 3


@pytest.mark.parametrize(
    ("client", "line", "ja4"),
    [("10.0.0.1", JA4, JA4), ("10.0.0.1", f"{JA4}|{JA4}", None), ("10.0.0.1", "", ""), ("203.0.113.7", JA4, None)],
)
def test_a_fingerprint_is_a_trusted_proxys_word(client: str, line: str, ja4: str | None) -> None:
    guard = SaysSo()
    settings: Any = {"trusted": ["10.0.0.0/8"], "ja4_header": "X-JA4"}
    run(GuardMiddleware(hello, guard, **settings), scope(client=(client, 1), x_ja4=line))
    made = environ(REMOTE_ADDR=client, HTTP_X_JA4=line.replace("|", ","))
    call(GuardWSGI(plain, guard, **settings), made)
    assert [request.ja4 or None for request in guard.asked] == [ja4 or None] * 2


def test_users_and_sessions(caplog: pytest.LogCaptureFixture) -> None:
    guard = SaysSo()
    run(GuardMiddleware(hello, guard), scope() | {"user": "ada"})
    call(GuardWSGI(plain, guard), environ(REMOTE_USER="ada"))
    settings: Any = {"user": lambda _: "bob", "session": lambda made: made["session"]}
    run(GuardMiddleware(hello, guard, **settings), scope() | {"session": "s1"})
    app = GuardWSGI(plain, guard, **settings)
    with caplog.at_level(logging.ERROR, "penstock.guard"):
        for _ in range(2):
            call(app, environ())
    assert [(one.user, one.session) for one in guard.asked] == [
        ("ada", None),
        ("ada", None),
        ("bob", "s1"),
        ("bob", None),
        ("bob", None),
    ]
    assert len(caplog.records) == 1


def test_settings_that_are_wrong() -> None:
    guard: Any = SaysSo()
    with pytest.raises(TypeError, match=r"guard='web' must be a Guard, such as Guard\('web'\)"):
        GuardMiddleware(hello, "web")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="user must be a function or None, not 'ada'"):
        GuardMiddleware(hello, guard, user="ada")
    with pytest.raises(ValueError, match="ja4_header='' must be the name of a header"):
        GuardWSGI(plain, guard, ja4_header="")
    with pytest.raises(ValueError, match="held=-1 must be a number of threads"):
        GuardWSGI(plain, guard, held=-1)
    with pytest.raises(ValueError, match="trusted: 'everyone' must be a network"):
        GuardMiddleware(hello, guard, trusted=["everyone"])


def _echo(seen: list[bytes]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"])
            if not message.get("more_body"):
                break
        await hello(scope, receive, send)

    return app


@pytest.mark.parametrize(("most", "read"), [(0, None), (3, b"abc"), (4, b"abcd"), (100, b"abcdef")])
def test_asgi_bodies_are_read_as_far_as_they_are_scanned(most: int, read: bytes | None) -> None:
    parts = [b"ab", b"cd", b"ef"]
    messages = [{"type": "http.request", "body": part, "more_body": part != b"ef"} for part in parts]
    seen: list[bytes] = []
    guard = SaysSo(body_most=most)
    run(GuardMiddleware(_echo(seen), guard), scope(method="POST"), *messages)
    assert guard.asked[0].body == read
    assert seen == parts
    run(GuardMiddleware(_echo(seen), guard), scope(), LOAD)
    assert guard.asked[1].body is None, "nothing of a GET is read"


def test_asgi_a_body_in_a_million_pieces() -> None:
    crumb = {"type": "http.request", "body": b"", "more_body": True}
    guard = SaysSo(refusal(), body_most=10)
    run(GuardMiddleware(never, guard), scope(method="POST"), *[crumb] * 2000)
    assert guard.asked[0].body == b""


@pytest.mark.parametrize(("most", "read"), [(0, None), (3, b"ab\n"), (7, b"ab\ncdef"), (100, b"ab\ncdef\ngh")])
def test_wsgi_bodies_are_read_as_far_as_they_are_scanned(most: int, read: bytes | None) -> None:
    body = b"ab\ncdef\ngh"
    ways = [
        lambda source: [source.read()],
        lambda source: [source.read(2), source.read(5), source.read(3)],
        lambda source: list(source),
        lambda source: source.readlines(),
        lambda source: [source.readline(1), source.readline(), source.readline(), source.readline()],
    ]
    for way in ways:
        seen: list[bytes] = []

        def app(made: Any, start_response: Any, way: Any = way, seen: list[bytes] = seen) -> list[bytes]:
            seen.extend(way(made["wsgi.input"]))
            return plain(made, start_response)

        guard = SaysSo(body_most=most)
        call(GuardWSGI(app, guard), environ(body))
        assert guard.asked[0].body == read
        assert b"".join(seen) == body


def test_wsgi_is_in_keeping_with_the_standard() -> None:
    guard = SaysSo(Verdict(True, headers=(("X-RateLimit-Remaining", "9"),)))
    status, headers, body = call(validator(GuardWSGI(validator(plain), guard)), environ(HTTP_USER_AGENT="x"))
    assert (status, body) == ("200 OK", b"hello")
    assert headers == {"Content-Type": "text/plain", "X-RateLimit-Remaining": "9"}
    assert guard.asked[0].header("user-agent") == "x"
    assert guard.told[0][1][:2] == (200, 5)
    status, headers, body = call(validator(GuardWSGI(plain, SaysSo(refusal()))), environ())
    assert (status, body) == ("429 Too Many Requests", refusal().body)
    assert headers["Retry-After"] == "60"


def test_wsgi_gives_back() -> None:
    guard = SaysSo()

    def failing(environ: Any, start_response: Any) -> list[bytes]:
        assert guard.in_flight == 1
        raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        call(GuardWSGI(failing, guard), environ())
    assert guard.in_flight == 0
    assert guard.told[0][1].status == 500
    answer = GuardWSGI(plain, guard)(environ(), lambda *_: lambda data: None)
    assert next(iter(answer)) == b"he"
    assert guard.in_flight == 1
    del answer  # the client is gone, and the server forgot to close
    assert guard.in_flight == 0
    assert guard.told[1][1].bytes == 2
