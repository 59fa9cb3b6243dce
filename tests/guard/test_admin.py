"""The administration's interface: who may, what is asked of the guard, and exactly what is wrong with a request."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any, NamedTuple

import pytest
from doubles import Steered

from penstock.guard.admin import admin_app
from penstock.guard.admin.app import BODY_MOST


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(app: Any, method: str, path: str, body: Any = None, root: str = "", **headers: str) -> Answer:
    """headers: sec_fetch_site="none". body: bytes as they are, several messages in a list; anything else as JSON."""
    if not isinstance(body, list):
        body = [body if isinstance(body, bytes) else json.dumps(body).encode()]
    if method == "POST":
        headers = {"content_type": "application/json"} | headers
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    made = {"type": "http", "method": method, "path": path, "root_path": root, "headers": lines}
    waiting = list(body)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or part == b"..."}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(made, receive, send))
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(found) == len(start["headers"]), "no header twice"
    return Answer(start["status"], found, b"".join(message["body"] for message in rest))


@pytest.fixture
def guard() -> Steered:
    return Steered()


@pytest.fixture
def app(guard: Any) -> Any:
    return admin_app(guard, authorise=lambda scope: True)


def test_nobody_is_let_in_by_default(guard: Any) -> None:
    with pytest.raises(TypeError, match="authorise"):
        admin_app(guard)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="authorise must be a function"):
        admin_app(guard, authorise=True)  # type: ignore[arg-type]


async def _later(scope: Any) -> bool:
    await asyncio.sleep(0)
    return bool(dict(scope["headers"]).get(b"authorization") == b"right")


def _by_header(scope: Any) -> bool:
    return bool(dict(scope["headers"]).get(b"authorization") == b"right")


PATHS = [
    ("GET", "/security/"),
    ("GET", "/security/page.js"),
    ("GET", "/api/security/status"),
    ("GET", "/api/security/threat/192.0.2.1"),
    ("POST", "/api/security/emergency"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize("authorise", [_later, _by_header])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_only_who_may(guard: Any, authorise: Any, method: str, path: str) -> None:
    app = admin_app(guard, authorise=authorise)
    answer = ask(app, method, path, {"on": True})
    assert (answer.status, answer.json["type"]) == (403, "not_authorised")
    assert guard.calls == []
    assert ask(app, method, path, {"on": True}, authorization="right").status != 403


@pytest.mark.parametrize("answer", [None, 1, "yes", RuntimeError("broken")])
def test_what_is_not_true_is_no(guard: Any, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    def authorise(scope: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, "penstock.guard"):
        assert ask(admin_app(guard, authorise=authorise), "GET", "/api/security/status").status == 403


def test_status(app: Any) -> None:
    answer = ask(app, "GET", "/api/security/status")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["statistics"]["total_requests"] == 1300
    assert answer.json["bans"][1]["seconds_left"] is None, "JSON has no infinity"
    assert ask(app, "HEAD", "/api/security/status").body == b""


def test_threat(app: Any) -> None:
    assert ask(app, "GET", "/api/security/threat/2001:db8::0:7").json == {
        "address": "2001:db8::7",
        "score": 0.25,
        "tier": "SUSPICIOUS",
        "recommended": "log",
    }
    answer = ask(app, "GET", "/api/security/threat/10.0.0.256")
    assert answer.status == 400
    assert answer.json["detail"] == "ip='10.0.0.256' must be an IPv4 or IPv6 address"


@pytest.mark.parametrize(("name", "verb"), [("whitelist", "allow"), ("blacklist", "deny")])
def test_lists(app: Any, guard: Any, name: str, verb: str) -> None:
    answer = ask(app, "POST", f"/api/security/ip/{name}", {"ip": "192.0.2.1", "reason": "a partner"})
    assert answer.json == {"status": "success", "ip": "192.0.2.1", "list": name}
    assert ask(app, "POST", f"/api/security/ip/{name}", {"ip": "2001:DB8::/32"}).status == 200
    assert guard.calls == [(verb, "192.0.2.1", "a partner"), (verb, "2001:db8::/32", "")]


def test_a_rule_of_the_guards_own(app: Any) -> None:
    answer = ask(app, "POST", "/api/security/ip/blacklist", {"ip": "198.51.100.200"})
    assert (answer.status, answer.json["type"]) == (400, "invalid")
    assert "allow list" in answer.json["detail"]


def test_unban(app: Any, guard: Any) -> None:
    assert ask(app, "POST", "/api/security/unban", {"id": "00000000000000a2"}).status == 200
    assert ask(app, "POST", "/api/security/unban", {"value": "203.0.113.x"}).status == 200
    assert guard.calls == [("unban", "00000000000000a2", "id"), ("unban", "203.0.113.x", "address")]
    for body in ({"id": "00000000000000a2"}, {"value": "bob", "kind": "user"}):
        answer = ask(app, "POST", "/api/security/unban", body)
        assert (answer.status, answer.json["detail"]) == (404, "There is no such ban; it may have ended")


@pytest.mark.parametrize("on", [True, False, None])
def test_emergency(app: Any, guard: Any, on: bool | None) -> None:
    assert ask(app, "POST", "/api/security/emergency", {"on": on}).json == {"status": "success", "on": on}
    assert guard.calls == [("emergency", on)]


@pytest.mark.parametrize(
    ("call", "body", "field", "detail"),
    [
        ("emergency", {"on": 1}, "on", "on=1 must be true, false or null"),
        ("emergency", {}, "on", "on is missing; it must be true, false or null"),
        ("emergency", {"on": True, "off": 1}, "off", "'off' is no field here; there are on"),
        ("unban", {"id": "A1"}, "id", "id='A1' must be 16 hexadecimal digits in lower case"),
        ("unban", {"value": ""}, "value", "value='' must be text of 1 to 256 characters"),
        (
            "ip/blacklist",
            {"ip": "192.0.2.1/24"},
            "ip",
            "ip='192.0.2.1/24' must be an IPv4 or IPv6 address, or a network without bits set below its prefix",
        ),
        ("ip/whitelist", {"reason": "x"}, "ip", "ip is missing; it must be an IPv4"),
        ("ip/whitelist", {"ip": 3232235777}, "ip", "ip=3232235777 must be an IPv4"),
        ("ip/whitelist", {"ip": ["::1"]}, "ip", "ip=['::1'] must be an IPv4"),
        ("ip/whitelist", {"ip": "::1", "reason": "a\nb"}, "reason", "must be printable text of at most 200 characters"),
        ("ip/whitelist", {"ip": "::1", "reason": "a" * 201}, "reason", "must be printable text of at most 200"),
        ("ip/whitelist", {"ip": "\ud800"}, "ip", "ip='\\ud800' must be"),
    ],
)
def test_exactly_what_is_wrong(app: Any, guard: Any, call: str, body: Any, field: str, detail: str) -> None:
    answer = ask(app, "POST", f"/api/security/{call}", body)
    assert answer.status == 400
    assert answer.json["field"] == field
    assert detail in answer.json["detail"]
    assert guard.calls == []


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "The body must be a JSON object ("),
        (b"[1]", 400, "The body must be a JSON object, not [1]"),
        (b"\xff", 400, "The body must be a JSON object ("),
        (b"[" * BODY_MOST, 400, "The body must be a JSON object ("),
        (b" " * (BODY_MOST + 1), 413, "at most 16384 bytes"),
        ([b" " * 10_000, b" " * 10_000], 413, "at most 16384 bytes"),
        (b"...", 400, "The body ended early"),
    ],
)
def test_bodies_are_bounded(app: Any, guard: Any, body: Any, status: int, detail: str) -> None:
    answer = ask(app, "POST", "/api/security/emergency", body)
    assert (answer.status, guard.calls) == (status, [])
    assert detail in answer.json["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec_fetch_site": "same-origin", "origin": "https://guard.example", "host": "10.0.0.1"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"origin": "https://guard.example", "host": "guard.example"}, 200),
        ({"origin": "https://evil.example", "host": "guard.example"}, 403),
        ({"origin": "null", "host": "guard.example"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "Application/JSON; charset=utf-8"}, 200),
    ],
)
def test_other_sites_can_change_nothing(app: Any, guard: Any, headers: dict[str, str], status: int) -> None:
    assert ask(app, "POST", "/api/security/emergency", {"on": True}, **headers).status == status
    assert bool(guard.calls) == (status == 200)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/security/app.py", 404, None),
        ("GET", "/security/../app.py", 404, None),
        ("GET", "/x/api/security/status", 404, None),
        ("GET", "/api/security/", 404, None),
        ("POST", "/api/security/status", 405, "GET, HEAD"),
        ("DELETE", "/security/", 405, "GET, HEAD"),
        ("GET", "/api/security/unban", 405, "POST"),
        ("OPTIONS", "/api/security/ip/blacklist", 405, "POST"),
    ],
)
def test_what_is_not_there(app: Any, method: str, path: str, status: int, allow: str | None) -> None:
    answer = ask(app, method, path, {})
    assert (answer.status, answer.headers.get("allow")) == (status, allow)


@pytest.mark.parametrize(("root", "path"), [("", ""), ("/admin", "/admin"), ("/admin", ""), ("/a/b/", "/a/b")])
def test_mounted_anywhere(app: Any, root: str, path: str) -> None:
    page = ask(app, "GET", f"{path}/security/", root=root)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert ask(app, "GET", f"{path}/api/security/status", root=root).status == 200
    moved = ask(app, "GET", f"{path}/security", root=root)
    assert (moved.status, moved.headers["location"]) == (308, "security/")


def test_mounted_in_starlette(app: Any) -> None:
    """Which leaves its mount's path in front, and tells where it ends."""
    applications, routing = pytest.importorskip("starlette.applications"), pytest.importorskip("starlette.routing")
    site = applications.Starlette(routes=[routing.Mount("/tools/guard", app=app)])
    assert ask(site, "GET", "/tools/guard/api/security/status").status == 200
    assert ask(site, "GET", "/tools/guard/security/").headers["content-type"] == "text/html; charset=utf-8"
    assert ask(site, "POST", "/tools/guard/api/security/emergency", {"on": None}).json["status"] == "success"
    assert ask(site, "GET", "/api/security/status").status == 404


def test_the_page_needs_nothing_from_elsewhere(app: Any) -> None:
    """And nothing that its policy forbids: no inline script or style, no handler in an attribute."""
    page = ask(app, "GET", "/security/").body.decode()
    assert "http" not in page
    assert "<style" not in page
    assert "style=" not in page
    assert not re.search(r"\son\w+\s*=", page)
    assert page.count("<script") == page.count('<script src="page.js" defer></script>') == 1
    script = ask(app, "GET", "/security/page.js").body.decode()
    assert "innerHTML" not in script
    for name in ("page.css", "icon.svg"):
        assert ask(app, "GET", f"/security/{name}").status == 200


def test_a_guard_that_fails(app: Any, guard: Any, caplog: pytest.LogCaptureFixture) -> None:
    guard.status = lambda: 1 / 0
    with caplog.at_level(logging.ERROR, "penstock.guard"):
        answer = ask(app, "GET", "/api/security/status")
    assert (answer.status, answer.json["detail"]) == (500, "See the log")
    assert "ZeroDivisionError" in caplog.text


def test_no_websockets(app: Any) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket", "path": "/security/"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]
