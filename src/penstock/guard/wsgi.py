"""The guard before a WSGI application: one verdict for each request, and the answers of those that are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.client import responses
from io import BytesIO
from typing import TYPE_CHECKING, Any, Unpack

from penstock.adapters.call import WsgiCall
from penstock.errors import shown
from penstock.guard.entrance import ASKED, BODILESS, VERDICT, Entrance, Settings
from penstock.guard.request import Request, Response
from penstock.guard.responses import Fields
from penstock.guard.verdict import Action, Verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from penstock.guard.guard import Guard


class GuardWSGI:
    """Asks the guard about each request of a WSGI application; what it refuses the application never sees.

    Bodies are read ahead only where the guard scans them, as far as it does, and given to the application all the same.
    Of a request that passed the guard is told the status, the bytes and how long the answer took to begin, once the
    server closes the answer, which it does when the client is gone as well. A guard that fails decides by its on_error.

    held: requests that may sleep in a tarpit at once. Each holds a thread of the server's, so keep it far below their
    number; the guard's own cap counts as well. settings: those of penstock.guard.entrance.Settings.
    """

    def __init__(self, app: WSGIApplication, guard: Guard, *, held: int = 2, **settings: Unpack[Settings]) -> None:
        if isinstance(held, bool) or not isinstance(held, int) or not 0 <= held <= 10_000:
            raise ValueError(f"held={shown(held)} must be a number of threads, 0 to 10,000")
        self.app = app
        self.entrance = Entrance(guard, **settings)
        self._places = threading.Semaphore(held)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        entrance = self.entrance
        guard = entrance.guard
        asked = environ.get(ASKED, ())
        if guard in asked:
            return self.app(environ, start_response)
        environ[ASKED] = (*asked, guard)
        if not entrance.seen:
            entrance.arrive()
        request = request_of(entrance, environ)
        flight = guard.flight(request)
        flight.__enter__()
        try:
            if guard.body_most and request.method not in BODILESS:
                _read_ahead(request, environ, guard.body_most)
            try:
                verdict = guard.inspect(request)
            except Exception:
                verdict = entrance.without()
            environ[VERDICT] = verdict
            if verdict.delay:
                self._hold(verdict.delay)
            if not verdict.allowed:
                body = self._refuse(verdict, environ, start_response)
                flight.__exit__(None, None, None)
                return body
            watched = _Watched(guard, request, flight, start_response, verdict.headers)
        except BaseException:
            flight.__exit__(None, None, None)
            raise
        try:
            watched.body = self.app(environ, watched.start)
        except BaseException as error:
            watched.fail(error)
            raise
        return watched

    def _hold(self, delay: float) -> None:
        if self._places.acquire(blocking=False):
            try:
                with self.entrance.guard.tarpit() as room:
                    if room:
                        time.sleep(delay)
            finally:
                self._places.release()

    def _refuse(self, verdict: Verdict, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers in the application's place."""
        challenge = self.entrance.challenge
        if challenge is not None and verdict.action is Action.CHALLENGE:
            try:
                answer: Iterable[bytes] = challenge(environ, start_response)
                return answer
            except Exception:
                self.entrance.complain("challenge", f"challenge={challenge!r} failed")
        start_response(f"{verdict.status} {responses.get(verdict.status, 'Refused')}", list(verdict.headers))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else verdict.body]


def request_of(entrance: Entrance, environ: WSGIEnvironment) -> Request:
    """What the guard is told of an environ."""
    call = WsgiCall(environ, entrance.identity)
    address, trusted = entrance.peer(call.peer)
    ja4 = None
    if trusted:
        address = entrance.client(call.peer, call.lines(entrance.header))
        if entrance.ja4 is not None:
            # Lines of one name have been joined by the server: what a proxy appended is told by the comma.
            found = "".join(call.lines(entrance.ja4))
            ja4 = found if found and "," not in found else None
    user = environ.get("REMOTE_USER") if entrance.user is None else entrance.ask("user", entrance.user, environ)
    session = None if entrance.session is None else entrance.ask("session", entrance.session, environ)
    headers = [(name[5:].replace("_", "-"), value) for name, value in environ.items() if name.startswith("HTTP_")]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if value := environ.get(name):
            headers.append((name.replace("_", "-"), value))
    query = environ.get("QUERY_STRING", "")
    return Request(address, call.method, call.path, query, headers, user or None, session, ja4)


class _Watched:
    """An application's answer as the server sees it; ends the request once it is closed."""

    __slots__ = (
        "_bytes", "_duration", "_flight", "_guard", "_headers", "_iterator", "_request", "_since", "_start",
        "_status", "body",
    )  # fmt: skip

    def __init__(
        self, guard: Guard, request: Request, flight: Any, start_response: StartResponse, headers: Fields
    ) -> None:
        self._guard = guard
        self._request = request
        self._flight = flight
        self._start = start_response
        self._headers = headers
        self._since = time.perf_counter()
        self._duration = 0.0
        self._status = self._bytes = 0
        self._iterator: Iterator[bytes] | None = None
        self.body: Iterable[bytes] = ()

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
        """`start_response`, with the verdict's headers beside the application's."""
        self._status = _code(status)
        self._duration = time.perf_counter() - self._since
        write = self._start(status, [*headers, *self._headers], *error)

        def counted(data: bytes) -> object:
            self._bytes += len(data)
            return write(data)

        return counted

    def __iter__(self) -> _Watched:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self.body)
        data = next(self._iterator)
        self._bytes += len(data)
        return data

    def fail(self, error: BaseException) -> None:
        """Ends the request of an application that raised."""
        if isinstance(error, Exception):
            self._status = 500  # what the server makes of it
        self._end()

    def close(self) -> None:
        try:
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        finally:
            self._end()

    def __del__(self) -> None:  # for a server that does not close
        self._end()

    def _end(self) -> None:
        flight, self._flight = self._flight, None
        if flight is None:
            return
        flight.__exit__(None, None, None)
        if self._status:
            try:
                self._guard.observe(self._request, Response(self._status, self._bytes, self._duration))
            except Exception:
                self._guard.failed("observe")


def _code(line: str) -> int:
    code = line[:3]
    return int(code) if code.isascii() and code.isdigit() else 500


def _read_ahead(request: Request, environ: WSGIEnvironment, most: int) -> None:
    """Reads the body as far as `most` bytes into the request; the application finds it whole all the same.

    Without a length of its own a body is not touched: reading it could wait for ever.
    """
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit() and len(length) < 19 and int(length)):
        return
    source = environ["wsgi.input"]
    request.body = source.read(min(int(length), most))
    if len(request.body) == int(length):
        environ["wsgi.input"] = BytesIO(request.body)
    else:
        environ["wsgi.input"] = _Again(request.body, source)


class _Again:
    """An input whose beginning has been read already. Never asks the source for more than it is asked for itself."""

    def __init__(self, read: bytes, source: Any) -> None:
        self._read = BytesIO(read)
        self._source = source

    def read(self, size: int = -1) -> bytes:
        data = self._read.read(size)
        if size is None or size < 0:
            return data + bytes(self._source.read())
        return data if len(data) == size else data + bytes(self._source.read(size - len(data)))

    def readline(self, size: int = -1) -> bytes:
        line = self._read.readline(size)
        if line.endswith(b"\n") or (0 <= size <= len(line)):
            return line
        return line + bytes(self._source.readline() if size < 0 else self._source.readline(size - len(line)))

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line
