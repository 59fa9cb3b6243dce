"""What counts against the keys of one limit, as rows of words: the layout that ext/snapshot/snapshot.h tells of."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from penstock.keys import RESERVED

Pairs = list[tuple[int, int]]


def rows_in(section: bytes) -> Iterator[tuple[int, Pairs]]:
    """(fingerprint, pairs) of each row. ValueError for what are no rows."""
    if len(section) % 8:
        raise ValueError(f"{len(section)} bytes are not whole words")
    words, at = _little(array("Q", section)), 0
    while at < len(words):
        end = at + 2 + 2 * (words[at + 1] if at + 1 < len(words) else 0)
        if words[at] < RESERVED or not at + 2 < end <= len(words):
            raise ValueError(f"word {at} does not begin a row")
        yield words[at], list(zip(words[at + 2 : end : 2], words[at + 3 : end : 2], strict=True))
        at = end


def section_of(rows: Iterable[tuple[int, Pairs]]) -> bytes:
    """The bytes of rows; those without pairs are left out."""
    words = array("Q")
    for found, pairs in rows:
        if pairs:
            words.extend((found, len(pairs), *(number for pair in pairs for number in pair)))
    return _little(words).tobytes()


def _little(words: array[int]) -> array[int]:
    """Words lowest byte first as this machine has them, or the other way round."""
    if sys.byteorder == "big":
        words.byteswap()
    return words
