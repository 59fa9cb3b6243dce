"""Who is always let in, who never is, and what the feeds say: lists that answer with one native call.

    lists = Lists(allow=["192.0.2.0/24"], deny={"198.51.100.7": "scraper"})
    lists.load_feed("ipsum", "ipsum.txt", level=3)
    lists.judge("198.51.100.7")   # Listed("deny", "198.51.100.7", source="configuration", reason="scraper")

The allow list comes before everything: no deny entry and no feed takes anything from it. What is changed while running
is kept apart from the configuration, with a generation, so that processes can hand it on to each other as text.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Literal, NamedTuple

from penstock._match import Feed, Intervals, Sets
from penstock.errors import shown
from penstock.guard.addresses import Address, AddressSet, Entry, Rejected, canonical_entry

Kind = Literal["allow", "deny"]
Entries = Mapping[str, str] | Iterable[Entry]

CHANGES_MOST = 16_384
"""Entries that can be added while running, in both lists together."""
REASON_MOST = 200
"""Characters of a reason."""
TEXT_MOST = 64 << 20
"""Characters of what `load` reads."""

KINDS: tuple[Kind, ...] = ("allow", "deny")

log = logging.getLogger("penstock.guard")


class Listed(NamedTuple):
    """What is listed. kind: "allow", "deny" or "feed"; source: "configuration", "runtime" or the feed's name."""

    kind: str
    entry: str
    source: str
    reason: str


class FeedState(NamedTuple):
    """A feed in use. age: seconds since it was set."""

    entries: int
    age: float
    memory: int
    rejected: Rejected


_Table = tuple[str, str, Mapping[str, Listed]]
"""Of one set: its kind, its source, and what each of its entries stands for (nothing for a feed)."""


class Lists:
    """The lists of one guard. Safe from any thread: a reader sees all of a change or nothing of it.

    allow, deny  the configuration: entries (see AddressSet), or a mapping of entries to reasons
    clock        seconds that only rise, for the age of feeds

    An entry is kept in its one spelling (canonical_entry): "10.0.0.1/32" is "10.0.0.1". A change makes both lists anew,
    which takes some milliseconds for 10,000 entries; large lists are better feeds.
    """

    def __init__(self, allow: Entries = (), deny: Entries = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._configured: dict[Kind, dict[str, Listed]] = {"allow": _read(allow, "allow"), "deny": _read(deny, "deny")}
        self._changes: dict[tuple[Kind, str], str | None] = {}  # None: a configured entry that was removed
        self._feeds: dict[str, tuple[AddressSet, float]] = {}
        self._failing: set[str] = set()
        self._generation = 0
        self._clock = clock
        self._lock = Lock()
        self._rebuild(self._changes)

    @property
    def generation(self) -> int:
        """Rises with every change of the lists while running."""
        return self._generation

    def judge(self, address: Address) -> Listed | None:
        """What lists the address: the allow list before the deny list, and that before the feeds, in their order.

        None when nothing does, and for text that is no address; TypeError for what is no text.
        """
        find, tables = self._current
        found = find(address)
        if found is None:
            return None
        which, entry = found
        kind, source, meanings = tables[which]
        return meanings[entry] if kind != "feed" else Listed(kind, entry, source, "")

    def allow(self, entry: Entry, reason: str = "") -> str:
        """Adds an entry to the allow list, or gives it another reason; returns its one spelling.

        Raises ValueError for what is no entry, for a reason above 200 characters and above 16,384 added entries.
        """
        return self._add("allow", entry, reason)

    def deny(self, entry: Entry, reason: str = "") -> str:
        """Adds an entry to the deny list; where the allow list has it too, that still counts. Otherwise as `allow`."""
        return self._add("deny", entry, reason)

    def remove(self, entry: Entry, kind: Kind) -> bool:
        """Takes an entry off a list, a configured one too; false when it is not there as an entry of its own."""
        _check_kind(kind)
        spelt = canonical_entry(str(entry))
        with self._lock:
            if spelt not in self._effective(kind, self._changes):
                return False
            changes = dict(self._changes)
            if spelt in self._configured[kind]:
                changes[kind, spelt] = None
            else:
                del changes[kind, spelt]
            self._change(changes, self._generation + 1)
        return True

    def entries(self, kind: Kind | None = None) -> tuple[Listed, ...]:
        """Everything on one list, or on both."""
        if kind is not None:
            _check_kind(kind)
        tables = self._current[1]
        return tuple(listed for of, _, meanings in tables if of == kind or kind is None for listed in meanings.values())

    # ---- feeds ----

    def set_feed(self, name: str, addresses: AddressSet) -> None:
        """Puts a feed in use, in place of the one of that name."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"name={shown(name)} must be a text")
        if not isinstance(addresses, AddressSet):
            raise TypeError(f"addresses={shown(addresses)} must be an AddressSet")
        with self._lock:
            self._feeds = {**self._feeds, name: (addresses, self._clock())}
            self._rebuild(self._changes)

    def load_feed(self, name: str, path: str | os.PathLike[str], level: int | None = None) -> AddressSet:
        """Reads a feed from a file (AddressSet.load) and puts it in use, once it is whole.

        When it cannot be read, the one in use stays; that is logged, once until it succeeds, and raised (OSError,
        ValueError).
        """
        try:
            addresses = AddressSet.load(path, level, name=name)
            self.set_feed(name, addresses)
        except (OSError, ValueError, MemoryError) as error:
            with self._lock:
                first, there = name not in self._failing, name in self._feeds
                self._failing.add(name)
            if first:
                stays = "the one in use stays" if there else "there is none in use"
                log.error("feed %s cannot be loaded, %s (said once): %s", shown(name), stays, error)
            raise
        with self._lock:
            self._failing.discard(name)
        return addresses

    def remove_feed(self, name: str) -> bool:
        """Puts a feed out of use; false when there is none of that name."""
        with self._lock:
            if name not in self._feeds:
                return False
            self._feeds = {of: feed for of, feed in self._feeds.items() if of != name}
            self._rebuild(self._changes)
        return True

    def feeds(self) -> dict[str, FeedState]:
        """The feeds in use, by name."""
        now = self._clock()
        return {
            name: FeedState(len(addresses), now - since, addresses.memory, addresses.rejected)
            for name, (addresses, since) in self._feeds.items()
        }

    # ---- what was changed while running, for other processes ----

    def dump(self) -> str:
        """The changes made while running, as JSON with their generation; `load` of another process takes it."""
        with self._lock:
            changes = [[kind, entry, reason] for (kind, entry), reason in self._changes.items()]
            return json.dumps({"version": 1, "generation": self._generation, "changes": changes})

    def load(self, text: str) -> bool:
        """Takes another process's changes in place of all own ones, if their generation is later; whether it did.

        Processes that share changes by a file hold its lock from before the `load` until after the `dump` of a change
        of their own; otherwise one of two changes made at once is lost. Raises ValueError for text that `dump` has not
        written, and nothing is changed then.
        """
        generation, changes = _parse(text)
        with self._lock:
            if generation <= self._generation:
                return False
            for (kind, entry), reason in list(changes.items()):
                if reason is None and entry not in self._configured[kind]:
                    del changes[kind, entry]  # removed from the other's configuration, and never in this one
            self._change(changes, generation)
        return True

    # ---- within ----

    def _add(self, kind: Kind, entry: Entry, reason: str) -> str:
        spelt = canonical_entry(str(entry))
        _check_reason(reason)
        with self._lock:
            there = self._effective(kind, self._changes).get(spelt)
            if there is not None and there.reason == reason:
                return spelt
            changes = {**self._changes, (kind, spelt): reason}
            _check_count(changes)
            self._change(changes, self._generation + 1)
        return spelt

    def _effective(self, kind: Kind, changes: Mapping[tuple[Kind, str], str | None]) -> dict[str, Listed]:
        """The configuration of one list with the changes laid over it."""
        entries = dict(self._configured[kind])
        for (of, entry), reason in changes.items():
            if of != kind:
                continue
            if reason is None:
                entries.pop(entry, None)
            else:
                entries[entry] = Listed(kind, entry, "runtime", reason)
        return entries

    def _change(self, changes: dict[tuple[Kind, str], str | None], generation: int) -> None:
        self._rebuild(changes)
        self._changes, self._generation = changes, generation

    def _rebuild(self, changes: Mapping[tuple[Kind, str], str | None]) -> None:
        """Makes the sets anew and swaps them in by one assignment, which is all that readers see."""
        lists = [(kind, self._effective(kind, changes)) for kind in KINDS]
        tables: list[_Table] = [(kind, "", meanings) for kind, meanings in lists]
        tables += [("feed", name, {}) for name in self._feeds]
        sets = [_set_of(meanings) for _, meanings in lists] + [addresses for addresses, _ in self._feeds.values()]
        self._current = Sets(tuple(sets)).find, tuple(tables)


def _set_of(entries: Iterable[str]) -> Intervals:
    """The set of entries that are known to be some, read as one block, which takes a tenth of the time."""
    feed = Feed()
    feed.block("\n".join(entries).encode())
    feed.end()
    return Intervals(feed)


def _read(entries: Entries, kind: Kind) -> dict[str, Listed]:
    """Entries of the configuration in their one spelling, with their reasons."""
    if isinstance(entries, (str, bytes)):
        raise TypeError(f"{kind}={shown(entries)} must be several entries; for one, give [{entries!r:.60}]")
    pairs = entries.items() if isinstance(entries, Mapping) else ((entry, "") for entry in entries)
    found: dict[str, Listed] = {}
    for entry, reason in pairs:
        _check_reason(reason)
        try:
            spelt = canonical_entry(str(entry))
        except ValueError as error:
            raise ValueError(f"{kind}: {error}") from None
        found[spelt] = Listed(kind, spelt, "configuration", reason)
    return found


def _parse(text: str) -> tuple[int, dict[tuple[Kind, str], str | None]]:
    """What `dump` wrote. ValueError for anything else."""
    if not isinstance(text, str) or len(text) > TEXT_MOST:
        raise ValueError(f"text={shown(text)} must be what dump() returned, at most {TEXT_MOST} characters")
    try:
        whole = json.loads(text)
        version, generation, changes = whole["version"], whole["generation"], whole["changes"]
        if version != 1 or type(generation) is not int or not 0 <= generation < 2**63:
            raise ValueError(f"version {shown(version)} and generation {shown(generation)} must be 1 and a number")
        found: dict[tuple[Kind, str], str | None] = {}
        for kind, entry, reason in changes:
            _check_kind(kind)
            if reason is not None:
                _check_reason(reason)
            found[kind, canonical_entry(entry)] = reason
        _check_count(found)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"text={shown(text)} must be what dump() returned ({error})") from None
    return generation, found


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f'kind={shown(kind)} must be "allow" or "deny"')


def _check_reason(reason: str) -> None:
    if not isinstance(reason, str) or len(reason) > REASON_MOST:
        raise ValueError(f"reason={shown(reason)} must be a text of at most {REASON_MOST} characters")


def _check_count(changes: Mapping[tuple[Kind, str], str | None]) -> None:
    if sum(reason is not None for reason in changes.values()) > CHANGES_MOST:
        raise ValueError(f"at most {CHANGES_MOST} entries can be added while running; a feed holds more")
