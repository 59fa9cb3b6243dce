"""What the ASGI and the WSGI middleware have in common: who asks, and how the guard is told and asked."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from penstock.adapters.call import user_of
from penstock.adapters.identity import Identity, Network
from penstock.errors import shown
from penstock.guard.responses import respond
from penstock.guard.verdict import Action, Tier, Verdict

if TYPE_CHECKING:
    from penstock.guard.guard import Guard

VERDICT = "penstock.verdict"
"""Under this name the Verdict on a request is found in its scope or environ; of several guards the innermost's."""

ASKED = "penstock.guards"
"""Under this name the guards that have been asked about a request, so that none counts it twice."""

BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "WEBSOCKET"})
"""Methods whose bodies are never read ahead of the application."""

_LINE_MOST = 256
_REMEMBERED = 16_384

log = logging.getLogger("penstock.guard")

Who = Callable[[Any], Any]
"""A function of the scope or environ: a text, a framework's user object, or None."""


class Settings(TypedDict, total=False):
    """What a middleware can be told beside its guard.

    trusted     the proxies whose word counts for the client's address, as penstock.adapters.identity.Identity has them
    header      the one header they write it in, "x-forwarded-for" by default
    user        who has logged in, a function of the scope or environ; by default what the framework's own
                authentication, or the server's, has put there before
    session     the session's id, a function of the scope or environ
    ja4_header  the header in which a trusted proxy tells the TLS fingerprint it has computed. Read of trusted peers
                alone, and only where it comes in one line: a proxy that leaves a client's line beside its own vouches
                for neither
    challenge   an application, ASGI or WSGI as the middleware is, that answers requests to be challenged in place of
                the 403; it finds the verdict in the scope or environ
    """

    trusted: int | Iterable[str | Network]
    header: str
    user: Who | None
    session: Who | None
    ja4_header: str | None
    challenge: Any


class Peer(NamedTuple):
    """The other end of a connection. address: None of what has none; trusted: whether it may speak for others."""

    address: str | None
    trusted: bool


class Entrance:
    """A middleware's guard and settings. Raises ValueError or TypeError for settings that are wrong.

    peer: who a connection is from, remembered for the last of them.
    """

    __slots__ = (
        "_behind_line", "_complained", "challenge", "guard", "header", "identity", "ja4", "peer", "seen", "session",
        "user",
    )  # fmt: skip

    def __init__(
        self,
        guard: Guard,
        *,
        trusted: int | Iterable[str | Network] = (),
        header: str = "x-forwarded-for",
        user: Who | None = None,
        session: Who | None = None,
        ja4_header: str | None = None,
        challenge: Any = None,
    ) -> None:
        if not callable(getattr(guard, "inspect", None)):
            raise TypeError(f"guard={shown(guard)} must be a Guard, such as Guard('web')")
        for what, function in (("user", user), ("session", session), ("challenge", challenge)):
            if function is not None and not callable(function):
                raise TypeError(f"{what} must be a function or None, not {shown(function)}")
        if ja4_header is not None and not (isinstance(ja4_header, str) and ja4_header and ja4_header.isascii()):
            raise ValueError(f"ja4_header={shown(ja4_header)} must be the name of a header, or None")
        self.identity = Identity(trusted, header, v6=128)
        self.guard = guard
        self.header = self.identity.header
        self.ja4 = ja4_header.lower() if ja4_header else None
        self.user, self.session, self.challenge = user, session, challenge
        self.peer = functools.lru_cache(_REMEMBERED)(self._look_up)
        self._behind_line = functools.lru_cache(_REMEMBERED)(self._behind)
        self._complained: set[str] = set()
        self.seen = False

    def _look_up(self, peer: str | None) -> Peer:
        key, trusted = self.identity.peer(peer)
        return Peer(_address(key), trusted)

    def _behind(self, peer: str | None, *lines: str) -> str | None:
        return _address(self.identity.behind(self.identity.peer(peer).key, lambda _: lines))

    def client(self, peer: str | None, lines: Sequence[str]) -> str | None:
        """The client's address behind a trusted peer. lines: those of `header`, in their order."""
        if len(lines) == 1 and len(lines[0]) <= _LINE_MOST:
            return self._behind_line(peer, lines[0])
        return self._behind(peer, *lines)

    def ask(self, what: str, function: Who, request: Any) -> str | None:
        """What one of the application's functions says; None where it fails."""
        try:
            return user_of(function(request))
        except Exception:
            self.complain(what, f"{what}={function!r} failed; such requests have none")
            return None

    def complain(self, what: str, text: str) -> None:
        """Logs the exception at hand, once for each `what`."""
        if what not in self._complained:
            self._complained.add(what)
            log.exception("%s (said once)", text)

    def without(self) -> Verdict:
        """The verdict where the guard itself has failed, inside `except`: what its on_error says."""
        if self.guard.failed("inspect"):
            return Verdict(True)
        status, headers, body = respond("unavailable")
        return Verdict(False, Tier.BLOCK, Action.BLOCK, kind="unavailable", status=status, headers=headers, body=body)

    def arrive(self) -> None:
        """Tells the guard that requests do pass here; called at the first."""
        self.seen = True
        self.guard.seen()


def _address(key: str | None) -> str | None:
    """The address in a client's key; None for a peer that has none."""
    return key[3:] if key is not None and key.startswith("ip:") else None
