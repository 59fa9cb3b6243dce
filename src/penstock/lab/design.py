"""The designs that are compared: what they are called, and what an instance of each is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from penstock.lab.delta_push import DeltaPush
from penstock.lab.per_request import PerRequest
from penstock.lab.settings import Settings
from penstock.lab.shared import Shared


class Instance(Protocol):
    """One instance of a design. Made with Settings, the URL of Redis and the name its fleet shares by.

    ready: waits until it may be asked. hit: one decision. facts: what it knows at the end, by name. close: lets go.
    """

    @property
    def hit(self) -> Callable[[], bool]: ...
    def ready(self) -> None: ...
    def facts(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Design(NamedTuple):
    """title: for people. make: an instance."""

    title: str
    make: Callable[[Settings, str, str], Instance]


OURS, EACH, PUSH = "penstock", "per-request", "delta-push"

DESIGNS = {
    OURS: Design("penstock", Shared),
    EACH: Design("one script per request", PerRequest),
    PUSH: Design("plain delta push", DeltaPush),
}
"""In the order in which they run and are shown."""
