"""A request as rules see it, the same for every framework: method, path, peer, headers, user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock.adapters.identity import Identity

WEBSOCKET = "WEBSOCKET"
"""The method of a call that opens a websocket."""


class Call(Protocol):
    """What key and cost functions are given.

    request   the framework's own request: a scope, an environ, or whatever it hands to views
    identity  how the application tells clients apart
    method    in upper case; WEBSOCKET where one is to be opened
    path      as the client asked for it, decoded, with any prefix that the application is mounted at
    peer      the other end of the connection, an address as a rule; None where there is none, as on a unix socket
    """

    request: Any
    identity: Identity
    method: str
    path: str
    peer: str | None

    @property
    def user(self) -> str | None:
        """Who has logged in, as the framework's own authentication says; None for nobody."""

    def lines(self, name: str) -> Sequence[str]:
        """The values of a header, one for each line it came in. name: in lower case."""


def user_of(user: Any) -> str | None:
    """The name of a framework's user object, None of an anonymous one: Django's, Starlette's, Flask-Login's."""
    if user is None or isinstance(user, str):
        return user or None
    if not getattr(user, "is_authenticated", True):
        return None
    for name in ("pk", "id", "username", "display_name"):
        value = getattr(user, name, None)
        if value is not None and value != "":
            return str(value)
    raise TypeError(f"user: {type(user).__name__} has no pk, id, username or display_name to tell it by")


class AsgiCall:
    """A scope of type http or websocket. request: what the framework makes of it, else the scope."""

    __slots__ = ("identity", "method", "path", "peer", "request", "scope")

    def __init__(self, scope: Mapping[str, Any], identity: Identity, request: Any = None) -> None:
        client = scope.get("client")
        self.scope = scope
        self.identity = identity
        self.request: Any = scope if request is None else request
        self.method: str = scope["method"] if scope["type"] == "http" else WEBSOCKET
        self.path: str = scope["path"]
        self.peer: str | None = client[0] if client else None

    @property
    def user(self) -> str | None:
        return user_of(self.scope.get("user"))

    def lines(self, name: str) -> Sequence[str]:
        wanted = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted]


class WsgiCall:
    """An environ, or a mapping with its names such as Django's META. user: the framework's user, else REMOTE_USER."""

    __slots__ = ("_user", "environ", "identity", "method", "path", "peer", "request")

    def __init__(self, environ: Mapping[str, Any], identity: Identity, request: Any = None, user: Any = None) -> None:
        self.environ = environ
        self.identity = identity
        self.request: Any = environ if request is None else request
        self.method: str = environ["REQUEST_METHOD"]
        self.path = _decoded(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
        self.peer: str | None = environ.get("REMOTE_ADDR") or None
        self._user = user

    @property
    def user(self) -> str | None:
        user = self._user
        return user_of(user() if callable(user) else user or self.environ.get("REMOTE_USER"))

    def lines(self, name: str) -> Sequence[str]:
        wanted = name.upper().replace("-", "_")
        value = self.environ.get(wanted if wanted in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{wanted}")
        return [] if value is None else [value]


def _decoded(path: str) -> str:
    """A path of an environ, which has each byte as a character."""
    if path.isascii():
        return path
    try:
        return path.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:  # of a framework that decoded it already
        return path
