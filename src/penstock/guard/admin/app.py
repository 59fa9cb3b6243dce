"""The ASGI application: who may, which path, what is asked of the guard, and its answer as JSON."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.adapters.asgi import App, Receive, Scope, Send
from penstock.errors import shown
from penstock.guard.admin.fields import Invalid, fields
from penstock.guard.admin.plain import plain

if TYPE_CHECKING:
    from penstock.guard.guard import Guard

Authorise = Callable[[Scope], "bool | Awaitable[bool]"]

BODY_MOST = 16_384
"""Bytes of a request's body."""

log = logging.getLogger("penstock.guard")

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""What is below /security/: file and type."""


class Reply(NamedTuple):
    """What is answered. more: headers beside those that all answers have."""

    status: int
    body: bytes
    type: str = "application/json"
    more: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is answered with an error. reply: the answer."""

    def __init__(self, status: int, error: str, detail: str, kind: str, *more: tuple[str, str]) -> None:
        super().__init__(detail)
        self.reply = _json({"error": error, "detail": detail, "type": kind}, status, *more)


def admin_app(guard: Guard, *, authorise: Authorise) -> App:
    """An ASGI application that shows a guard and steers it; mount it where you like.

    authorise: told the scope of each request, says whether it may, or is awaited for it. Whoever may sees everything
    and changes everything; there is no application without it. What it answers but true is 403, and so is its failure.

        GET  /security/                    the page
        GET  /api/security/status          guard.status()
        GET  /api/security/threat/{ip}     guard.assess(ip)
        POST /api/security/ip/whitelist    {"ip": address or network, "reason"}
        POST /api/security/ip/blacklist    the same
        POST /api/security/unban           {"id"} as the status has it, or {"value", "kind"}
        POST /api/security/emergency       {"on": true, false, or null for automatic}

    A POST must be application/json, which no form of another site can send, and where a browser says from where it
    comes (Sec-Fetch-Site, else Origin) that must be here. Raises TypeError where authorise cannot be called.
    """
    if not callable(authorise):
        raise TypeError(f"authorise must be a function (scope) -> bool, not {shown(authorise)}")
    return _Admin(guard, authorise)


class _Admin:
    """The application."""

    def __init__(self, guard: Guard, authorise: Authorise) -> None:
        self.guard = guard
        self.authorise = authorise
        self._posts: dict[str, Callable[[Mapping[str, Any]], object]] = {
            "ip/whitelist": self._whitelist,
            "ip/blacklist": self._blacklist,
            "unban": self._unban,
            "emergency": self._emergency,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        if scope["type"] != "http":
            raise ValueError(f"scope: type {scope['type']!r} must be http")
        try:
            reply = await self._reply(scope, receive)
        except Refused as refused:
            reply = refused.reply
        except Invalid as error:
            reply = _json({"error": "Bad request", "detail": str(error), "type": "invalid", "field": error.field}, 400)
        except Exception:
            log.exception("the administration of the guard failed at %s", shown(scope["path"]))
            reply = _json({"error": "Internal error", "detail": "See the log", "type": "internal"}, 500)
        headers = [
            (b"content-type", reply.type.encode("ascii")),
            (b"content-length", b"%d" % len(reply.body)),
            *_HEADERS,
            *[(name.encode("ascii"), value.encode("ascii")) for name, value in reply.more],
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        await self._authorised(scope)
        path, method = _path(scope), scope["method"]
        get = method in ("GET", "HEAD")
        if path == "/security":
            _only(get, "GET, HEAD")
            return Reply(308, b"", "text/plain", (("location", "security/"),))
        if path.startswith("/security/") and (found := _PAGE.get(path[len("/security/") :])):
            _only(get, "GET, HEAD")
            return Reply(200, files(__package__).joinpath(found[0]).read_bytes(), found[1])
        _, api, call = path.partition("/api/security/")
        if api and not _:
            if call == "status":
                _only(get, "GET, HEAD")
                return _json(self.guard.status())
            if call.startswith("threat/"):
                _only(get, "GET, HEAD")
                return _json(self.guard.assess(fields({"ip": call[len("threat/") :]}, {"ip": "address"})["ip"]))
            if call in self._posts:
                _only(method == "POST", "POST")
                _same_site(scope)
                body = _object(await _body(scope, receive))
                try:
                    return _json(self._posts[call](body))
                except Invalid:
                    raise
                except ValueError as error:  # a rule of the guard's own
                    raise Refused(400, "Bad request", str(error), "invalid") from error
        raise Refused(404, "Not found", f"There is no {shown(path)}", "not_found")

    async def _authorised(self, scope: Scope) -> None:
        try:
            answer = self.authorise(scope)
            may = await answer if inspect.isawaitable(answer) else answer
        except Exception:
            log.exception("authorise=%r failed; the request is refused", self.authorise)
            may = False
        if may is not True:
            raise Refused(403, "Access denied by security policy", "Not authorised", "not_authorised")

    def _whitelist(self, body: Mapping[str, Any]) -> object:
        return self._list("whitelist", self.guard.allow, body)

    def _blacklist(self, body: Mapping[str, Any]) -> object:
        return self._list("blacklist", self.guard.deny, body)

    def _list(self, name: str, add: Callable[[str, str], object], body: Mapping[str, Any]) -> object:
        read = fields(body, {"ip": "network", "reason": "reason"}, optional=("reason",))
        add(read["ip"], read.get("reason", ""))
        return {"status": "success", "ip": read["ip"], "list": name}

    def _unban(self, body: Mapping[str, Any]) -> object:
        if "id" in body:
            lifted = self.guard.unban(fields(body, {"id": "id"})["id"], "id")
        else:
            read = fields(body, {"value": "text", "kind": "text"}, optional=("kind",))
            lifted = self.guard.unban(read["value"], read.get("kind", "address"))
        if not lifted:
            raise Refused(404, "Not found", "There is no such ban; it may have ended", "not_found")
        return {"status": "success"}

    def _emergency(self, body: Mapping[str, Any]) -> object:
        on = fields(body, {"on": "switch"})["on"]
        self.guard.emergency(on)
        return {"status": "success", "on": on}


def _json(value: object, status: int = 200, *more: tuple[str, str]) -> Reply:
    return Reply(status, json.dumps(plain(value), separators=(",", ":"), allow_nan=False).encode(), more=more)


def _path(scope: Scope) -> str:
    """The path below where the application is mounted; some frameworks leave that in front and some do not."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _only(right: bool, methods: str) -> None:
    if not right:
        raise Refused(405, "Method not allowed", f"Use {methods}", "method_not_allowed", ("allow", methods))


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _same_site(scope: Scope) -> None:
    """Refuses what another site's page sends with the cookies of whoever looks at it."""
    site, origin, host = (_header(scope, name) for name in (b"sec-fetch-site", b"origin", b"host"))
    by_origin = origin is None or origin.partition("://")[2] == host
    here = by_origin if site is None else site in ("same-origin", "none")
    if not here:
        raise Refused(403, "Access denied by security policy", "The request comes from another site", "cross_site")
    media = (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refused(415, "Unsupported media type", f"content-type={shown(media)} must be application/json", "invalid")


async def _body(scope: Scope, receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "Bad request", "The body ended early", "invalid")
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_MOST:
            raise Refused(413, "Content too large", f"A body has at most {BODY_MOST} bytes", "invalid")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "Bad request", f"The body must be a JSON object ({error})", "invalid") from None
    if not isinstance(read, dict):
        raise Refused(400, "Bad request", f"The body must be a JSON object, not {shown(read)}", "invalid")
    return read
