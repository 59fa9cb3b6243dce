"""Guards on a clock that tests move, and requests of those who come to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from penstock.clock import ManualClock
from penstock.guard import Guard, Request, Response, Verdict

BROWSER = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept": "text/html",
    "accept-language": "en",
    "accept-encoding": "gzip",
}
ADDRESS = "203.0.113.7"


@contextmanager
def guarding(config: Any = None, **settings: Any) -> Iterator[tuple[Guard, ManualClock]]:
    """A guard and its clock, closed at the end."""
    clock = ManualClock(start=1_700_000_000)
    guard = Guard(config, clock=clock, **settings)
    try:
        yield guard, clock
    finally:
        guard.close()


def ask(
    guard: Guard, address: str | None = ADDRESS, path: str = "/", *, status: int | None = None, **fields: Any
) -> Verdict:
    """One request; where it is allowed and `status` is given, answered so."""
    request = Request(address, path=path, **({"headers": BROWSER} | fields))
    verdict = guard.inspect(request)
    if verdict and status is not None:
        guard.observe(request, Response(status))
    return verdict
