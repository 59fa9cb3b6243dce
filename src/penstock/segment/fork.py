"""After a fork: the child's limiters on a segment take seats of their own, and leave the parent's alone."""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING

from penstock.errors import SegmentError

if TYPE_CHECKING:
    from penstock.limiter import LimiterMethods

_joined: weakref.WeakSet[LimiterMethods] = weakref.WeakSet()


def joined(limiter: LimiterMethods) -> None:
    """From now on a forked child gives this limiter a seat of its own."""
    _joined.add(limiter)


def _reopened(fd: int) -> int | None:
    """Another descriptor of the same file, with locks of its own; None where that cannot be had."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def _after_fork() -> None:
    rejoined = []
    for limiter in list(_joined):
        with contextlib.suppress(SegmentError):  # its file was cut off before: it says so to whoever calls it
            fd = limiter.fd
            if fd is not None:
                limiter.rejoin(_reopened(fd))
                rejoined.append(limiter)
    for limiter in rejoined:  # once all have seats: what this starts may fail
        limiter._rejoined()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
