"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

_FLOOR, _CEILING = 12_000, 30_000
"""Below those that systems hand out to whoever connects: one of these, tried before anybody listens there, now and then
gets itself as its other end, and the server that was waited for seems to be there."""


def free_port(above: int = 0) -> int:
    """A port of 127.0.0.1 that nothing listens on, nor so many above it."""
    while True:
        port = random.randrange(_FLOOR, _CEILING)
        with ExitStack() as stack:
            try:
                for number in {port, port + above}:
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number))
            except OSError:
                continue
        return port
