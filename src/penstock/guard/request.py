"""What a guard is told: a request before it is answered, and the response once it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from penstock._records import read_fields

Text = str | bytes
Headers = Mapping[str, str] | Iterable[tuple[Text, Text]]

HEADERS_MOST = 128
"""Header lines that are read of one request; a client that sends more is judged by the first ones and their number."""


class Request:
    """One request, as far as a guard looks at it.

    address: the client's, as text, with no port; None where there is none (a unix socket). query: as it was sent,
    without the "?". headers: a mapping, or pairs as ASGI has them, of str or bytes (ISO 8859-1). user, session: who it
    is, where the application knows. ja4: the TLS fingerprint that a trusted proxy has computed. body: as far as it was
    read.

    Nothing of it is checked or changed here: every field may be hostile.
    """

    __slots__ = (
        "_crowded",
        "_judged",
        "_noted",
        "_read",
        "address",
        "body",
        "headers",
        "ja4",
        "method",
        "path",
        "query",
        "session",
        "user",
    )

    def __init__(
        self,
        address: str | None,
        method: str = "GET",
        path: str = "/",
        query: str = "",
        headers: Headers = (),
        user: str | None = None,
        session: str | None = None,
        ja4: str | None = None,
        body: bytes | None = None,
    ) -> None:
        self.address = address
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.user = user
        self.session = session
        self.ja4 = ja4
        self.body = body
        self._read: dict[str, str] | None = None
        self._judged: tuple[tuple[str | int | bytes | None, ...], int] | None = (
            None  # the guard's: facts and conditions
        )
        self._noted = False  # the guard's: there was evidence
        self._crowded = False  # the guard's: too many of this address are being answered

    def __repr__(self) -> str:
        return f"Request({self.address!r}, {self.method!r}, {self.path[:80]!r})"

    @property
    def fields(self) -> dict[str, str]:
        """The headers by lower-case name; lines of the same name are joined by ", " (RFC 9110, section 5.3)."""
        read = self._read
        if read is None:
            given = self.headers
            pairs = given.items() if isinstance(given, Mapping) else given
            read = self._read = read_fields(pairs, HEADERS_MOST)
        return read

    def header(self, name: str) -> str | None:
        """A header by its lower-case name, or None."""
        return self.fields.get(name)


class Response(NamedTuple):
    """What came of a request. bytes: of the body, None where not known; duration: seconds until it began."""

    status: int
    bytes: int | None = None
    duration: float | None = None
