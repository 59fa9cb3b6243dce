"""The middlewares and the administration over real guards: what is refused, held, counted and steered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import hello, plain
from test_admin import ask
from test_guard_middlewares import call, environ, headers_of, run, scope

from penstock.clock import ManualClock
from penstock.guard import asgi
from penstock.guard.admin import admin_app
from penstock.guard.asgi import GuardMiddleware
from penstock.guard.guard import Guard
from penstock.guard.wsgi import GuardWSGI


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000)


@pytest.fixture
def make(clock: ManualClock) -> Iterator[Any]:
    made: list[Guard] = []

    def guard(**config: Any) -> Guard:
        made.append(Guard(config, clock=clock))
        return made[-1]

    yield guard
    for one in made:
        one.close()


def missing_page(status: int = 404) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def status_of(app: Any, **made: Any) -> int:
    return int(run(app, scope(**made))[0]["status"])


def test_a_limit(make: Any, clock: ManualClock) -> None:
    """Both middlewares count as one guard; the headers of allowed answers say what is left."""
    guard = make(limits={"everyone": None, "user": None, "address": "3/minute"})
    app, other = GuardMiddleware(hello, guard), GuardWSGI(plain, guard)
    start = run(app, scope())[0]
    assert headers_of(start)[b"x-ratelimit-limit"] == b"3"
    assert headers_of(start)[b"x-ratelimit-remaining"] == b"2"
    assert call(other, environ())[1]["X-RateLimit-Remaining"] == "1"
    assert status_of(app) == 200
    start, body = run(app, scope())
    assert start["status"] == 429
    wait = int(headers_of(start)[b"retry-after"])
    assert body["body"].startswith(b'{"error":"Too many requests","detail":"Rate limit exceeded","type":"rate_limited"')
    assert body["body"].endswith(b',"retry_after":%d}' % wait)
    assert call(other, environ())[0] == "429 Too Many Requests"
    clock.advance(wait - 1)
    assert status_of(app) == 429
    clock.advance(1)
    assert status_of(app) == 200, "a wait that is true, and refused requests count for nothing"
    assert status_of(app, client=("203.0.113.8", 1)) == 200
    statistics = guard.status()["statistics"]
    assert statistics["total_requests"] == 8
    assert statistics["rate_limited"] == statistics["blocked_requests"] == 3


def test_a_flood(make: Any, clock: ManualClock) -> None:
    app = GuardMiddleware(hello, make(ddos={"per_second": 10}))
    assert [status_of(app) for _ in range(12)] == [200] * 10 + [429] * 2
    start, body = run(app, scope())
    assert b'"type":"ddos_blocked"' in body["body"]
    assert headers_of(start)[b"retry-after"]


def test_lists(make: Any) -> None:
    app = GuardMiddleware(hello, make(addresses={"deny": ["203.0.113.0/24"], "allow": ["203.0.113.9"]}))
    start, body = run(app, scope())
    assert start["status"] == 403
    assert body["body"].startswith(b'{"error":"Access denied by security policy","detail":"IP is blacklisted"')
    assert status_of(app, client=("203.0.113.9", 1)) == 200
    forged = scope(x_forwarded_for="203.0.113.9")
    assert run(app, forged)[0]["status"] == 403, "nobody's word counts but a trusted proxy's"
    proxied = GuardMiddleware(hello, app.entrance.guard, trusted=["203.0.113.0/24"])
    assert run(proxied, forged)[0]["status"] == 200


def test_in_flight(make: Any) -> None:
    """A true count: given back when an answer ends, the client goes, or the application raises."""
    guard = make(ddos={"in_flight": 2})

    async def main() -> None:
        let_go, inside = asyncio.Event(), asyncio.Semaphore(0)
        sent: list[int] = []

        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            inside.release()
            await let_go.wait()
            await hello(scope, receive, send)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        app: Any = GuardMiddleware(waiting, guard)
        tasks = [asyncio.create_task(app(scope(), None, send)) for _ in range(2)]
        for _ in range(2):
            await inside.acquire()
        await app(scope(), None, send)
        assert sent == [429]
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        tasks[0] = asyncio.create_task(app(scope(), None, send))
        await inside.acquire()
        let_go.set()
        await asyncio.gather(*tasks)
        assert sent == [429, 200, 200]
        await app(scope(), None, send)
        assert sent[-1] == 200

    asyncio.run(main())

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("its own")

    for _ in range(5):
        with pytest.raises(RuntimeError, match="its own"):
            run(GuardMiddleware(failing, guard), scope())
    assert status_of(GuardMiddleware(hello, guard)) == 200


def test_what_answers_say_counts_for_the_next_request(make: Any, clock: ManualClock) -> None:
    """And a ban's own refusals do not prolong it."""
    guard = make(threats={"scan": False})
    app = GuardMiddleware(missing_page(), guard)
    answers = [run(app, scope() | {"path": f"/{number}"})[0]["status"] for number in range(20)]
    assert answers == [404] * 11 + [403] * 9
    [ban] = guard.bans()
    left = ban.seconds_left
    for _ in range(50):
        assert status_of(app) == 403
    assert guard.bans()[0].seconds_left == left
    start, body = run(app, scope())
    assert b'"type":"banned"' in body["body"]
    clock.advance(int(headers_of(start)[b"retry-after"]))
    assert status_of(app) == 404
    assert guard.bans() == []


def test_a_dry_run_lets_all_through(make: Any) -> None:
    guard = make(limits={"address": "1/hour"}, addresses={"deny": ["203.0.113.7"]}, dry_run=True)
    app, other = GuardMiddleware(hello, guard), GuardWSGI(plain, guard)
    assert [status_of(app) for _ in range(3)] == [200] * 3
    assert call(other, environ())[0] == "200 OK"
    assert guard.status()["statistics"]["blocked_requests"] == 0
    assert guard.status()["statistics"]["would_have_been_blocked"] == 4


def test_the_self_check(make: Any) -> None:
    one, other = make(), make()
    app, wsgi = GuardMiddleware(hello, one), GuardWSGI(plain, other)
    assert not one.status()["health"]["in_path"]
    assert not other.status()["health"]["in_path"]
    run(app, scope())
    call(wsgi, environ())
    assert one.status()["health"]["in_path"] is True
    assert other.status()["health"]["in_path"] is True


def test_a_tarpit_has_room_for_so_many(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = make(
        scenarios=[{"name": "slow", "capacity": 0, "window": 60, "action": "tarpit"}], tarpit={"seconds": 7, "held": 1}
    )
    slept: list[float] = []

    async def main() -> None:
        let_go = asyncio.Event()

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await let_go.wait()

        monkeypatch.setattr(asgi.asyncio, "sleep", sleep)
        app: Any = GuardMiddleware(hello, guard)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        held = asyncio.create_task(app(scope(), None, send))
        while not slept:
            await asyncio.wait([held], timeout=0.01)
        await app(scope(), None, send)
        assert len(sent) == 3, "the second is answered while the first is held"
        let_go.set()
        await held
        assert len(sent) == 6

    asyncio.run(main())
    assert slept == [7.0]


def test_bodies_are_scanned(make: Any) -> None:
    attack = b"id=1' UNION SELECT password FROM users--"
    guard = make(threats={"body": True, "body_most": 1000, "probing": False})
    form: dict[str, str] = {"content_type": "application/x-www-form-urlencoded"}

    def status(body: bytes) -> int:
        message = {"type": "http.request", "body": body, "more_body": False}
        return int(run(GuardMiddleware(hello, guard), scope(method="POST", **form), message)[0]["status"])

    assert status(b"id=1&name=O'Neill") == 200
    assert status(attack) == 403
    assert status(b"x=" + b"a" * 2000 + b"&" + attack) == 200, "what is beyond is not read ahead"
    made = environ(attack, CONTENT_TYPE="application/x-www-form-urlencoded")
    assert call(GuardWSGI(plain, guard), made)[0] == "403 Forbidden"


@pytest.mark.parametrize(("on_error", "status"), [("allow", 200), ("deny", 503)])
def test_a_guard_that_fails_itself(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, on_error: str, status: int
) -> None:
    guard = make(on_error=on_error)

    def broken(address: str | None) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(guard._lists, "judge", broken)
    app = GuardMiddleware(hello, guard)
    assert [status_of(app) for _ in range(3)] == [status] * 3
    assert guard.status()["health"]["detector_errors"] == {"inspect": 3}
    assert len(caplog.records) == 1, "logged once"


HUGE = 128 * 1024
HOSTILE = ["", "\0" * 100, "\ud800\udfff", "%" * HUGE, "%25" * HUGE, "../" * HUGE, "\xff\xfe" * 1000, "'" * HUGE]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_requests(make: Any, text: str) -> None:
    """Whatever a field contains, there is an answer, of the application or of the guard."""
    guard = make(preset="web", threats={"body": True})
    raw = text.encode("latin-1", "replace")
    made = scope(method="POST", client=(text, 1)) | {"path": "/" + text, "query_string": raw}
    made["headers"] = [(b"x-forwarded-for", raw), (b"user-agent", raw), (b"cookie", raw), (raw[:50], raw)] * 300
    message = {"type": "http.request", "body": raw, "more_body": False}
    settings: Any = {"trusted": 1, "ja4_header": "cookie", "user": lambda made: text, "session": lambda made: text}
    for one in (GuardMiddleware(hello, guard, **settings), GuardMiddleware(hello, guard)):
        assert run(one, dict(made), message)[0]["status"] in (200, 403, 429)
    plainer = text.encode("utf-8", "replace").decode("latin-1")
    hostile = dict.fromkeys(("PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "HTTP_X"), plainer)
    for other in (GuardWSGI(plain, guard, **settings), GuardWSGI(plain, guard)):
        assert call(other, environ(raw, CONTENT_TYPE=plainer, **hostile))[0][:3] in ("200", "403", "429")
    assert guard.status()["health"]["detector_errors"] == {}


def test_threads(make: Any) -> None:
    """Each request is counted once, whichever thread it comes in."""
    guard = make(limits={"everyone": None, "user": None, "address": "100/hour"})
    app = GuardWSGI(plain, guard)
    answers: list[str] = []

    def many() -> None:
        answers.extend(call(app, environ())[0] for _ in range(50))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["200 OK"] * 100 + ["429 Too Many Requests"] * 100


# ---- the administration ----


@pytest.fixture
def guard(make: Any) -> Guard:
    made: Guard = make(limits={"address": "2/hour"}, ddos={}, addresses={})
    return made


@pytest.fixture
def admin(guard: Guard) -> Any:
    return admin_app(guard, authorise=lambda scope: True)


def test_status_of_a_guard(guard: Guard, admin: Any) -> None:
    app = GuardMiddleware(hello, guard)
    for _ in range(3):
        run(app, scope())
    guard.ban("203.0.113.7", 60)
    guard.ban("ada", kind="user")
    status = ask(admin, "GET", "/api/security/status").json
    assert status["statistics"]["total_requests"] == 3
    assert status["statistics"]["rate_limited"] == 1
    assert status["health"]["in_path"] is True
    assert sum(status["tiers"].values()) == 3
    assert "203.0.113.7" not in str(status), "addresses are masked"
    assert len(status["bans"]) == 2


def test_lists_of_a_guard(guard: Guard, admin: Any) -> None:
    app = GuardMiddleware(hello, guard)
    assert ask(admin, "POST", "/api/security/ip/blacklist", {"ip": "203.0.113.0/24", "reason": "rude"}).status == 200
    assert status_of(app) == 403
    assert ask(admin, "POST", "/api/security/ip/whitelist", {"ip": "203.0.113.7"}).status == 200
    assert [status_of(app) for _ in range(5)] == [200] * 5
    assert status_of(app, client=("203.0.113.8", 1)) == 403


def test_bans_of_a_guard(guard: Guard, admin: Any) -> None:
    app = GuardMiddleware(hello, guard)
    for ban in (lambda: guard.ban("203.0.113.7", 60), lambda: guard.ban("203.0.113.7", 60)):
        ban()
        assert status_of(app) == 403
        [shown] = ask(admin, "GET", "/api/security/status").json["bans"]
        assert ask(admin, "POST", "/api/security/unban", {"id": shown["id"]}).status == 200
        assert guard.bans() == []
    guard.ban("ada", kind="user")
    assert ask(admin, "POST", "/api/security/unban", {"value": "ada", "kind": "user"}).status == 200
    assert ask(admin, "POST", "/api/security/unban", {"value": "ada", "kind": "user"}).status == 404
    answer = ask(admin, "POST", "/api/security/unban", {"value": "ada", "kind": "cat"})
    assert (answer.status, answer.json["type"]) == (400, "invalid")


def test_the_emergency_of_a_guard(guard: Guard, admin: Any) -> None:
    for on, is_on in ((True, True), (False, False), (None, False)):
        assert ask(admin, "POST", "/api/security/emergency", {"on": on}).status == 200
        assert guard.emergency_on is is_on
        assert ask(admin, "GET", "/api/security/status").json["emergency"]["manual"] is on


def test_an_assessment(guard: Guard, admin: Any) -> None:
    calm = ask(admin, "GET", "/api/security/threat/203.0.113.7").json
    assert (calm["risk"], calm["recommendation"]) == ("low", "allow")
    guard.ban("203.0.113.7", 60)
    bad = ask(admin, "GET", "/api/security/threat/203.0.113.7").json
    assert (bad["risk"], bad["recommendation"]) == ("critical", "block")
