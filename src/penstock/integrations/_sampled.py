"""Log lines at a bounded rate, with a count of those left out."""

from __future__ import annotations

import threading

from penstock.clock import Clock
from penstock.limiter import Limiter
from penstock.rate import TokenBucket


class Sampled:
    """At most per_second lines a second, and as many at once; safe from any thread."""

    def __init__(self, per_second: int, clock: Clock | None = None) -> None:
        self._lines = Limiter(TokenBucket(per_second, per=1), capacity=64, clock=clock)
        self._lock = threading.Lock()
        self._left_out = 0

    def admit(self) -> int | None:
        """How many were left out since the last line, if this one may be written; else None."""
        if self._lines.hit("line"):
            with self._lock:
                left_out, self._left_out = self._left_out, 0
            return left_out
        with self._lock:
            self._left_out += 1
        return None
