"""Counters, logs and sliding counters of any window, on native limiters made at first use; what `limits` asks for."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from math import floor
from typing import Literal

from penstock.clock import Clock
from penstock.keys import Key
from penstock.limiter import Limiter
from penstock.rate import FixedWindow, SlidingLog
from penstock.segment.options import path_of

COUNT_MOST = 2**34
"""A counter goes this far, past any limit, because a refused hit counts too; a window of one second has room for it."""

TABLES_MOST = 256
"""Different windows, and for moving windows different limits, that one storage serves."""

Parts = tuple[str | bytes | int, ...]

_TABLE = re.compile(r"(?:fixed|moving\.(?P<limit>[0-9]+))\.(?P<per>[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?)")
"""What a shared table's name ends in; `_make_counter` and `_make_log` write it."""


class Windows:
    """Everything counted under one storage URI.

    capacity: keys for each window; None for penstock's default. shared: a name that all processes of the host and user
    count under. Windows, `per`, are in seconds, times in seconds since the Unix epoch. Calls never block and never
    leave the process. A new window can raise ValueError (the 257th, a log above 65536, more than 4 years), MemoryError
    or SegmentError; one that is there raises nothing.
    """

    def __init__(
        self,
        *,
        capacity: int | None = None,
        on_full: Literal["evict", "deny"] = "evict",
        shared: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._capacity = capacity
        self._on_full = on_full
        self._shared = shared
        self._clock = clock
        self._counters: dict[float, Limiter] = {}
        self._logs: dict[tuple[int, float], Limiter] = {}
        self._last: tuple[Key | None, Limiter] = None, Limiter("1/second", capacity=64)
        self.now: Callable[[], float] = time.time if clock is None else lambda: clock.wall_ns() / 1e9

    # ---- counters: a window begins with its first unit ----

    def add(self, key: Key, per: float, amount: int) -> int:
        """Counts `amount` more, whatever any limit says; the count after it."""
        counter = self._counters.get(per)
        if counter is None:
            counter = self._make_counter(per)
        if amount == 0:
            return _count(counter, key)
        self._last = key, counter
        after = counter.check(key, amount)
        return COUNT_MOST - after.remaining + (0 if after.allowed else amount)

    def count(self, key: Key, per: float) -> int:
        """Units in the window that is open, 0 without one."""
        return _count(self.counter(per), key)

    def seen(self, key: Key, per: float) -> tuple[int, float]:
        """(units in the open window, when it ends); without one (0, now)."""
        now, counter = self.now(), self.counter(per)
        count = _count(counter, key)
        return count, now + counter.peek(key).reset_after if count else now

    def find(self, key: str, hint: Callable[[str], float | None]) -> tuple[int, Limiter | None]:
        """(units counted for a key whose window is not told, the counter they are in); (0, None) without any.

        hint: the window to look in first, of a key that was not the last one counted.
        """
        last, counter = self._last
        if last == key and (units := _count(counter, key)):
            return units, counter
        per = hint(key)
        if self._shared is not None and per not in self._counters:
            self._open_those_there(self._shared)
        for _, counter in sorted(self._counters.copy().items(), key=lambda one: one[0] != per):
            if units := _count(counter, key):
                self._last = key, counter
                return units, counter
        return 0, None

    def ends(self, key: str, hint: Callable[[str], float | None]) -> float:
        """When the window of such a key ends; now, without one."""
        now, (last, counter) = self.now(), self._last
        if last == key:
            seen = counter.peek(key)
            if seen.allowed and seen.remaining != COUNT_MOST - 1:  # the unit looked for would not be the first
                return now + seen.reset_after
        found = self.find(key, hint)[1]
        return now + (0.0 if found is None else found.peek(key).reset_after)

    def forget(self, key: Key, per: float) -> None:
        """Ends the window that is open."""
        self.counter(per).reset(key)

    def forget_everywhere(self, key: Key) -> None:
        """`forget` and `log_forget` for a key whose window is not told."""
        counters, logs = self.tables()
        for table in (*counters.values(), *logs.values()):
            table.reset(key)

    # ---- logs: the times of the last units ----

    def log_add(self, key: Key, limit: int, per: float, amount: int) -> bool:
        """Takes `amount` if at most `limit` are then in the last `per` seconds."""
        if amount > limit:
            return False
        return amount == 0 or self.log(limit, per).hit(key, amount)

    def log_count(self, key: Key, limit: int, per: float) -> tuple[float, int]:
        """(when the oldest unit in the last `per` seconds was taken, or now; units in them)."""
        if limit < 1:
            return self.now(), 0
        log = self.log(limit, per)
        while True:  # ends: to go round, a unit must have come or gone between two lines
            now, one = self.now(), log.peek(key)
            if not one.allowed:
                return now + one.retry_after - per, limit
            room = one.remaining + 1
            if room == limit:
                return now, 0
            more = log.peek(key, room + 1)
            if not more.allowed and more.remaining == room:
                return now + more.retry_after - per, limit - room

    def log_forget(self, key: Key, limit: int, per: float) -> None:
        """Forgets all units."""
        if limit >= 1:
            self.log(limit, per).reset(key)

    # ---- sliding counters: two counters on the epoch's grid, the older one weighted by what it still covers ----

    def sliding_add(self, key: Parts, limit: int, per: float, amount: int) -> bool:
        """Takes `amount` if the weighted count is then at most `limit`.

        Counted first and taken back when others were faster, so that no two callers are admitted on one unit.
        """
        if amount > limit:
            return False
        at = self.now()
        earlier, left, current, _ = self._sliding(key, per, at)
        weight = earlier * left / per
        if floor(weight + current) + amount > limit:
            return False
        newest = (*key, int(at / per))
        if floor(weight + self.add(newest, 2 * per, amount)) > limit:
            self.counter(2 * per).refund(newest, amount)
            return False
        return True

    def sliding_count(self, key: Parts, per: float) -> tuple[int, float, int, float]:
        """(units in the earlier window, seconds it still counts; units in the newest, seconds it will count)."""
        return self._sliding(key, per, self.now())

    def sliding_forget(self, key: Parts, per: float) -> None:
        """Ends both windows."""
        at = self.now()
        self.forget((*key, int((at - per) / per)), 2 * per)
        self.forget((*key, int(at / per)), 2 * per)

    def _sliding(self, key: Parts, per: float, at: float) -> tuple[int, float, int, float]:
        counter = self.counter(2 * per)
        earlier = _count(counter, (*key, int((at - per) / per)))
        current = _count(counter, (*key, int(at / per)))
        left = (1 - (at - per) / per % 1) * per if earlier else 0.0
        return earlier, left, current, (1 - at / per % 1) * per + per

    # ---- everything ----

    def tables(self) -> tuple[dict[float, Limiter], dict[tuple[int, float], Limiter]]:
        """The counters by window and the logs by limit and window; of a shared name those of other processes too."""
        if self._shared is not None:
            self._open_those_there(self._shared)
        return self._counters.copy(), self._logs.copy()

    def clear(self) -> int:
        """Forgets every key; how many there were, counted or logged, whichever are more."""
        counters, logs = self.tables()
        most = max(*(sum(table.live() for table in tables.values()) for tables in (counters, logs)))
        for table in (*counters.values(), *logs.values()):
            table.clear()
        return most

    def healthy(self) -> bool:
        """Whether new processes would find what this one counts: false once a shared file was removed."""
        return all(
            table.shared is None or os.path.exists(table.shared)
            for table in (*self._counters.copy().values(), *self._logs.copy().values())
        )

    # ---- the native limiters ----

    def counter(self, per: float) -> Limiter:
        """The counter for windows of this length."""
        found = self._counters.get(per)
        return found if found is not None else self._make_counter(per)

    def log(self, limit: int, per: float) -> Limiter:
        """The log for this limit."""
        found = self._logs.get((limit, per))
        return found if found is not None else self._make_log(limit, per)

    def _make_counter(self, per: float) -> Limiter:
        per = _plain(per)
        made = self._make(FixedWindow(COUNT_MOST, per, align="first"), f"fixed.{per:.17g}")
        return self._counters.setdefault(per, made)  # another thread's, if it was first: nothing is counted in ours yet

    def _make_log(self, limit: int, per: float) -> Limiter:
        per = _plain(per)
        made = self._make(SlidingLog(limit, per), f"moving.{limit}.{per:.17g}")
        return self._logs.setdefault((limit, per), made)

    def _make(self, limit: FixedWindow | SlidingLog, name: str) -> Limiter:
        if len(self._counters) + len(self._logs) >= TABLES_MOST:
            raise ValueError(f"{limit!r} would be window {TABLES_MOST + 1} of one storage: at most {TABLES_MOST}")
        shared = None if self._shared is None else f"{self._shared}.{name}"
        return Limiter(limit, capacity=self._capacity, on_full=self._on_full, shared=shared, clock=self._clock)

    def _open_those_there(self, shared: str) -> None:
        folder, prefix = os.path.split(path_of(f"{shared}."))
        with os.scandir(folder) as entries:
            ours = [entry.name for entry in entries if entry.name.startswith(prefix) and _own(entry)]
        for name in ours:
            match = _TABLE.fullmatch(name.removeprefix(prefix))
            if match is not None and match["limit"] is None:
                self.counter(float(match["per"]))
            elif match is not None:
                self.log(int(match["limit"]), float(match["per"]))


def _plain(per: float) -> float:
    """A whole number of seconds as an int: processes must write a shared window alike."""
    return int(per) if per % 1 == 0 else per


def _own(entry: os.DirEntry[str]) -> bool:
    """Whether the file is this user's: in a folder open to all, another may have taken the name."""
    try:
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _count(counter: Limiter, key: Key) -> int:
    """Units in the window that is open."""
    return counter.spent(counter.fingerprint(key))
