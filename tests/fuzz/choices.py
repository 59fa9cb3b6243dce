"""Choices out of bytes: what a fuzzer turns about becomes numbers, texts, keys and whole histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Fuzzed:
    """Reads choices from `data`, first byte first; when it is used up, every choice is the first one.

    It has the methods that tests/parity/histories.py draws with, so that a history can come from here.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def integer(self, low: int, high: int) -> int:
        """low..high, from as few bytes as can tell them apart."""
        size = ((high - low).bit_length() + 7) // 8
        return low + int.from_bytes(self.take(size), "little") % (high - low + 1)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def text(self, most: int) -> str:
        """Of any characters, lone surrogates too; two bytes for most of them."""
        kind, count = self.integer(0, 3), self.integer(0, most)
        if kind == 0:
            return self.take(count).decode("latin-1")
        if kind == 1:
            return self.take(count).decode("utf-8", "surrogateescape")
        return "".join(chr(self.integer(0, 0xFFFF if kind == 2 else 0x10FFFF)) for _ in range(count))

    def scalar(self) -> str | bytes | int:
        """A key that is no tuple; its length is often near one where a layout changes."""
        kind = self.integer(0, 7)
        if kind < 3:
            return self.text(40)
        if kind < 5:
            return self.take(self.integer(0, 40))
        if kind == 5:
            return self.integer(-(2**7), 2**7)
        if kind == 6:
            value = int.from_bytes(self.take(self.integer(1, 40)), "little", signed=True)
            return bool(value & 1) if value in (0, 1) else value
        return self.pick((1, -1)) * (2 ** self.integer(0, 300) + self.integer(-1, 1))

    def key(self) -> Any:
        """A key, or at times something that is none."""
        kind = self.integer(0, 15)
        if kind < 8:
            return self.scalar()
        if kind < 14:
            return tuple(self.scalar() for _ in range(self.integer(0, 5)))
        return self.pick((None, 1.5, ("a", None), ("a", ("b",)), bytearray(b"a"), ["a"]))
