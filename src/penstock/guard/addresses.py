"""Sets of addresses, networks and ranges: immutable, searched in a fraction of a microsecond, read from feeds.

    office = AddressSet(["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"])
    "192.0.2.9" in office            # True
    office.match("2001:db8::1")      # "2001:db8::/32"
    feed = AddressSet.load("ipsum.txt", level=3)

How an address is read: four decimal numbers without leading zeros, or IPv6, whose zone is stripped; ::ffff:192.0.2.1 is
192.0.2.1. Octal and short forms are no addresses. IPv4 and IPv6 are apart: "::/0" has no IPv4 address in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice
from typing import NamedTuple

from penstock._match import Feed, Intervals, canonical_address, canonical_entry
from penstock.errors import shown

__all__ = ["Address", "AddressSet", "Entry", "Rejected", "canonical_address", "canonical_entry"]

Address = str | bytes | IPv4Address | IPv6Address
Entry = str | IPv4Address | IPv6Address | IPv4Network | IPv6Network

_BLOCK = 1 << 20
_LINES = 1024
_ENTRY_TYPES = (IPv4Address, IPv6Address, IPv4Network, IPv6Network)


class Rejected(NamedTuple):
    """The lines of a feed that were no entries. first: (line number, reason) of the first eight."""

    lines: int = 0
    first: tuple[tuple[int, str], ...] = ()


class AddressSet(Intervals):
    """An immutable set. `address in addresses`, `addresses.match(address)`, len (different entries), `memory` (bytes).

    An address is a str, bytes of text, IPv4Address or IPv6Address; text that is no address is in no set, and what is no
    text raises TypeError. `match` returns the narrowest entry that covers the address, as it was written, or None.

    name      what it is called in messages
    rejected  the lines of its feed that were no entries
    below     how many lines of its feed had a count below `level`
    """

    __slots__ = ("below", "name", "rejected")

    name: str
    rejected: Rejected
    below: int

    def __init__(self, entries: Iterable[Entry] = (), *, name: str = "") -> None:
        """Of addresses ("192.0.2.7"), networks ("192.0.2.0/24", without host bits) and ranges ("192.0.2.3-192.0.2.9").

        Raises ValueError for the first that is none of them, and above 4,194,304 entries.
        """
        if isinstance(entries, (str, bytes)):
            raise TypeError(f"entries={shown(entries)} must be several entries; for one, give [{entries!r:.60}]")
        feed = Feed()
        for entry in entries:
            if not isinstance(entry, (str, *_ENTRY_TYPES)):
                raise TypeError(f"entries: {shown(entry)} must be a str, or an address or network of ipaddress")
            reason = feed.add(str(entry))
            if reason is not None:
                raise ValueError(f"entries: {shown(entry)}: {reason}")
        super().__init__(feed)
        self.name, self.rejected, self.below = name, Rejected(), 0

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | Iterable[str | bytes],
        level: int | None = None,
        *,
        name: str | None = None,
    ) -> AddressSet:
        """The set in a file, or in lines.

        source  a path, or lines. A line is an entry; an entry and a count ("192.0.2.1<tab>5", as ipsum has them); or
                "add NAME ENTRY …", as ipset saves it. Comments begin with # or ;
        level   only lines with a count of at least this; a line without a count is then rejected
        name    by default the file's

        Lines that are none of these are counted in `rejected`. Raises ValueError when more lines are rejected than are
        entries, when the file is empty, and above 4,194,304 entries; OSError when the file cannot be read.
        """
        if level is not None and (not isinstance(level, int) or isinstance(level, bool) or not 0 <= level < 2**63):
            raise ValueError(f"level={shown(level)} must be a count, 0 or more, or None")
        feed = Feed(-1 if level is None else level)
        if isinstance(source, (str, os.PathLike)):
            where = os.fspath(source)
            with open(source, "rb") as file:
                while block := file.read(_BLOCK):
                    feed.block(block)
            feed.end()
            if feed.lines == 0:
                raise ValueError(f"{where!r} is empty; a list without entries says so in a comment")
        else:
            where = "lines"
            for block in _blocks(source):
                feed.block(block)
            feed.end()
        rejected = Rejected(feed.rejected, feed.first)
        read = feed.taken + feed.below
        if rejected.lines > read:
            number, reason = rejected.first[0]
            raise ValueError(
                f"{where!r} is no list of addresses: {rejected.lines} lines are rejected and {read} are entries,"
                f" and at most half may be rejected; line {number}: {reason}"
            )
        below = feed.below
        made = cls.__new__(cls)
        Intervals.__init__(made, feed)
        made.name = (os.path.basename(where) if where != "lines" else "") if name is None else name
        made.rejected, made.below = rejected, below
        return made

    def __repr__(self) -> str:
        return f"<AddressSet {self.name!r}: {len(self)} entries, {self.memory} bytes>"


def _blocks(lines: Iterable[str | bytes]) -> Iterator[bytes]:
    """Lines, with or without their ends, some at a time."""
    rest = iter(lines)
    while some := list(islice(rest, _LINES)):
        for line in some:
            if not isinstance(line, (str, bytes)):
                raise TypeError(f"source: {shown(line)} must be a line, as str or bytes")
        as_bytes = (line if isinstance(line, bytes) else line.encode("utf-8", "replace") for line in some)
        yield b"".join(line.rstrip(b"\r\n") + b"\n" for line in as_bytes)
