"""A line on a terminal that says how far a long run is; nothing where there is no terminal."""

from __future__ import annotations

import shutil
from time import monotonic
from typing import TextIO

_FIRST = 0.5
_EVERY = 0.1
"""Seconds before the first line, and between two."""
_BAR = 24


class Progress:
    """Inside `with`; the line is wiped at the end. Call it as often as you like: most calls show nothing."""

    def __init__(self, stream: TextIO | None, wanted: bool = True) -> None:
        self._stream = stream if wanted and stream is not None and stream.isatty() else None
        self._next = monotonic() + _FIRST
        self._shown = False
        self._doing = ""
        self._since = monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, doing: str, done: int, total: int) -> None:
        """doing: in a few words; total: 0 when it is not known, and `done` is in bytes then."""
        if self._stream is None:
            return
        now = monotonic()
        if doing != self._doing:
            self._doing, self._since = doing, now
        if now < self._next:
            return
        self._next, self._shown = now + _EVERY, True
        line = doing
        if total:
            filled = _BAR * min(done, total) // total
            line += f"  [{'#' * filled}{'.' * (_BAR - filled)}] {100 * min(done, total) // total:3d} %"
            if 0 < done < total:
                line += f"  {(now - self._since) * (total - done) / done:.0f} s left"
        elif done:
            line += f"  {done / 1e6:.1f} MB"
        self._stream.write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
        self._stream.flush()
