"""The lists of a guard as all workers of a host have them: changes go through a small file beside the segment."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from penstock._records import Records
from penstock.guard.addresses import AddressSet
from penstock.guard.lists import KINDS, Listed, Lists
from penstock.guard.settings import Addresses
from penstock.segment.file import check_owner

log = logging.getLogger("penstock.guard")
T = TypeVar("T")


class SharedLists:
    """Allow and deny lists, and feeds, of one guard. path: of its segment, or None; records: whose generation says that
    another worker has changed the lists."""

    def __init__(self, settings: Addresses | None, path: str | None, records: Records) -> None:
        settings = Addresses() if settings is None else settings
        self._lists = Lists(settings.allow, settings.deny)
        self._path = None if path is None else f"{path}.lists"
        self._records = records
        self._seen = -1 if path is not None else records.generation
        for name, feed in settings.feeds.items():
            self._lists.load_feed(name, feed, settings.levels.get(name))

    def judge(self, address: str | None) -> Listed | None:
        """What lists an address, if anything."""
        if self._path is not None and self._records.generation != self._seen:
            self._take()
        return None if address is None else self._lists.judge(address)

    def add(self, kind: str, entry: str, reason: str) -> str:
        """Adds to a list, for all workers; the entry in its one spelling."""
        return self._changed(
            lambda: self._lists.allow(entry, reason) if kind == "allow" else self._lists.deny(entry, reason)
        )

    def remove(self, entry: str) -> bool:
        """Takes an entry off both lists, for all workers."""
        return self._changed(lambda: sum(self._lists.remove(entry, kind) for kind in KINDS) > 0)

    def load_feed(self, name: str, path: str | os.PathLike[str], level: int | None) -> AddressSet:
        """Puts a feed in use, in this process."""
        return self._lists.load_feed(name, path, level)

    def feeds(self) -> dict[str, dict[str, float]]:
        return {name: {"entries": of.entries, "age": round(of.age, 1)} for name, of in self._lists.feeds().items()}

    def _changed(self, change: Callable[[], T]) -> T:
        if self._path is None:
            return change()
        with self._locked() as path:
            self._load(path)
            done = change()
            new = f"{path}.{os.getpid()}"  # written whole before it has the name that others read
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(self._lists.dump())
            os.replace(new, path)
            self._seen = self._records.changed()
        return done

    def _take(self) -> None:
        """What another worker has changed. A file that cannot be read leaves the lists as they are, which is logged.
        Without the lock, since the file changes by getting another's place: no request waits for a worker that
        stopped."""
        seen = self._records.generation
        if self._path is not None:
            try:
                self._load(self._path)
            except (OSError, ValueError) as error:
                log.error("the lists that workers share cannot be read, and stay as they are here: %s", error)
        self._seen = seen

    def _load(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            check_owner(file.fileno(), path, False)
            self._lists.load(file.read())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[str]:
        """The file's path, while no other worker writes it; the lock is the system's and ends with its
        holder."""
        import fcntl  # here, because not every system has it

        assert self._path is not None
        lock = f"{self._path}.lock"
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            check_owner(fd, lock, False)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield self._path
        finally:
            os.close(fd)
