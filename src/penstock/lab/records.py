"""What an instance was asked and when, in a file of its own that outlives it: two 64-bit words for each call.

The first is when it was answered, ns on the host's clock, negative where the answer was no, 0 where it was never asked;
the second how long the answer took, ns, the two clock reads around it included. A process that is killed has told all
up to its last call, since the file is mapped.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

WORD = 8


class Answer(NamedTuple):
    """at: ns on the host's clock; took: ns."""

    at: int
    admitted: bool
    took: int


class Records:
    """Room for so many calls, in a new file."""

    def __init__(self, path: Path, calls: int) -> None:
        size = max(1, calls) * 2 * WORD
        with path.open("w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self.words: memoryview[int] = memoryview(self._map).cast("q")

    def close(self) -> None:
        """Lets the file go."""
        self.words.release()
        self._map.close()


def read(path: Path) -> Sequence[Answer]:
    """The answers there are, in the order they were given; none where the file was never made."""
    if not path.exists():
        return []
    words = array("q", path.read_bytes())
    return [Answer(abs(words[i]), words[i] > 0, words[i + 1]) for i in range(0, len(words), 2) if words[i]]
