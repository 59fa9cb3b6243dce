"""Sync: how a limiter shares its limits with other instances, as its user says it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, cast

from penstock.clock import seconds_to_ns
from penstock.errors import shown
from penstock.rate import check_count

EVERY_LEAST_NS, EVERY_MOST_NS = 5_000_000, 1_000_000_000
KAPPA = 0.5
"""Part of a full limit that all instances together may admit before Redis hears of it; 0 where they are strict."""
class Client(Protocol):
    """A client of redis-py, of any kind."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


SCHEMES = ("redis://", "rediss://", "unix://")


@dataclasses.dataclass(frozen=True)
class Sync:
    """Where and how often instances settle what they admit.

    url: "redis://host:6379/0", "rediss://…", "unix:///path", or a redis-py client, whose settings are used for a
    connection of our own. every: seconds between two exchanges, 0.005 to 1; a limit that fills faster is settled more
    often. strict: nothing is admitted that Redis has not leased before, so callers without a lease wait (`acquire`) or
    are refused. on_outage: what holds while Redis is away; each instance enforces its part ("share"), admits all
    ("open") or nothing ("closed"). fleet_hint: instances to suppose in the first three seconds. secret: at least 16
    bytes, the same in all instances; keys in Redis are hashed with it. Without one they are hashed with the limiter's
    name alone, so that whoever can read Redis and guesses a key can tell whether it is there.
    """

    url: str | Client = dataclasses.field(repr=False)
    every: float = 0.05
    strict: bool = False
    on_outage: Literal["share", "open", "closed"] = "share"
    fleet_hint: int = 8
    secret: bytes | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.url, str):
            if not self.url.startswith(SCHEMES):
                scheme = self.url.partition("://")[0] if "://" in self.url else ""
                raise ValueError(f"url begins with {shown(scheme + '://')}; it must begin with {', '.join(SCHEMES)}")
        elif isinstance(self.url, type) or not callable(getattr(self.url, "execute_command", None)):
            raise TypeError(f"url must be a str or a redis-py client, not {type(self.url).__name__}")
        if not EVERY_LEAST_NS <= seconds_to_ns("every", self.every) <= EVERY_MOST_NS:
            raise ValueError(f"every={shown(self.every)} must be between 0.005 and 1 seconds")
        if not isinstance(self.strict, bool):
            raise TypeError(f"strict must be a bool, not {type(self.strict).__name__}")
        if not isinstance(self.on_outage, str) or self.on_outage not in ("share", "open", "closed"):
            raise ValueError(f'on_outage={shown(self.on_outage)} must be "share", "open" or "closed"')
        if check_count("fleet_hint", self.fleet_hint) > 65_536:
            raise ValueError(f"fleet_hint={self.fleet_hint} must be at most 65536")
        if self.secret is not None and not isinstance(self.secret, bytes):
            raise TypeError(f"secret must be bytes, not {type(self.secret).__name__}")
        if self.secret is not None and len(self.secret) < 16:
            raise ValueError(f"secret has {len(self.secret)} bytes; at least 16 are needed")

    @property
    def every_ns(self) -> int:
        return seconds_to_ns("every", self.every)

    @property
    def kappa(self) -> float:
        return 0.0 if self.strict else KAPPA

    @property
    def target(self) -> object:
        """What tells one Redis from another: limiters with equal ones share a connection."""
        if isinstance(self.url, str):
            import hashlib  # here, because it loads OpenSSL

            return hashlib.blake2b(self.url.encode("utf-8", "surrogatepass")).digest()
        return id(self.url)


def read_sync(sync: object) -> Sync:
    """What was given as a limiter's `sync`."""
    if isinstance(sync, Sync):
        return sync
    if isinstance(sync, str) or callable(getattr(sync, "execute_command", None)):
        return Sync(cast("str | Client", sync))
    raise TypeError(f"sync must be a URL, a redis-py client or a Sync, not {type(sync).__name__}")
