"""`limits` on penstock: the storages `penstock://`, `penstock+shm://NAME` and their async forms, and the strategies.

`import penstock.compat.limits` registers the storages: `limits` knows the classes there are, and looks for no others.
"""

from __future__ import annotations

from math import floor, inf
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from penstock.compat._windows import Parts, Windows
from penstock.errors import PenstockError, shown
from penstock.rate import check_count
from penstock.segment.options import path_of

try:
    import limits.aio.storage
    import limits.storage
    from limits.errors import ConfigurationError
    from limits.limits import GRANULARITIES, RateLimitItem, safe_string
    from limits.util import WindowStats
except ImportError as error:
    raise ImportError(f"penstock.compat.limits: {error}; pip install 'penstock[limits]'") from error

SCHEMES = {"penstock": False, "penstock+shm": True}
"""Whether a name belongs to it, which all processes of the host and user share."""
NAME_MOST = 48
"""Characters of that name: the windows' files add theirs to it."""

FAILURES = (PenstockError, ValueError, OSError, MemoryError)
"""What a window's first use can raise, see Windows; with wrap_exceptions it comes as limits' StorageError."""


def read_uri(uri: str, options: dict[str, Any]) -> Windows:
    """What `penstock://?capacity=100000&on_full=deny` and keyword options ask for.

    capacity: keys for each window, 1 to 2**53, within the machine's memory; on_full: "evict" or "deny", as for Limiter;
    clock (keyword only): a penstock Clock, for tests. Raises limits' ConfigurationError for all else.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.removeprefix("async+")
    if scheme not in SCHEMES:
        raise ConfigurationError(f"unknown storage scheme {shown(parts.scheme)}: use penstock:// or penstock+shm://NAME")
    if parts.path not in ("", "/") or parts.fragment:
        raise ConfigurationError(f"{shown(uri)}: after the name only options are read, as in {scheme}://…?capacity=100000")
    if not SCHEMES[scheme] and parts.netloc:
        raise ConfigurationError(f"{shown(uri)}: penstock:// takes no name; penstock+shm://{parts.netloc} shares one")
    read: dict[str, Any] = {}
    try:
        asked = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=16)
    except ValueError as wrong:
        raise ConfigurationError(f"{shown(uri)}: {wrong}") from wrong
    for name, value in [*asked, *options.items()]:
        if name not in ("capacity", "on_full", "clock") or (name == "clock" and isinstance(value, str)):
            raise ConfigurationError(f"unknown option {shown(name)} of {scheme}://: capacity and on_full are known")
        if name in read:
            raise ConfigurationError(f"option {name} of {scheme}:// is given twice")
        read[name] = value
    try:
        if "capacity" in read:
            capacity = read["capacity"]
            digits = isinstance(capacity, str) and capacity.isascii() and capacity.isdigit() and len(capacity) <= 16
            read["capacity"] = check_count("capacity", int(capacity) if digits else capacity)
        if SCHEMES[scheme]:
            path_of(parts.netloc)
            if len(parts.netloc) > NAME_MOST:
                raise ValueError(f"the name has {len(parts.netloc)} characters; at most {NAME_MOST} are read")
        if read.get("on_full", "evict") not in ("evict", "deny"):
            raise ValueError(f'on_full={shown(read["on_full"])} must be "evict" or "deny"')
        return Windows(**read, shared=parts.netloc if SCHEMES[scheme] else None)
    except (TypeError, ValueError) as wrong:
        raise ConfigurationError(f"{shown(uri)}: {wrong}") from wrong


def window_of(key: str) -> int | None:
    """The window in seconds that a key made by RateLimitItem.key_for ends in, where to look for it first."""
    parts = key.rsplit("/", 2)
    if len(parts) < 3 or parts[2] not in GRANULARITIES or len(parts[1]) > 10 or not parts[1].isdecimal():
        return None
    return int(parts[1]) * GRANULARITIES[parts[2]].GRANULARITY.seconds


class PenstockStorage(
    limits.storage.Storage, limits.storage.MovingWindowSupport, limits.storage.SlidingWindowCounterSupport
):
    """limits' storage in penstock's tables; what its memory storage answers, this one does.

    Arguments: `read_uri`. Keys are str; a key belongs to one window (and for moving windows to one limit), as
    RateLimitItem makes them. Amounts are whole and not negative; 0 asks without taking.
    """

    STORAGE_SCHEME = list(SCHEMES)  # noqa: RUF012 (limits annotates it as it does)

    def __init__(self, uri: str = "penstock://", wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.windows = read_uri(uri, options)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return FAILURES

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self.windows.add(key, expiry, amount)

    def get(self, key: str) -> int:
        return self.windows.find(key, window_of)[0]

    def get_expiry(self, key: str) -> float:
        return self.windows.ends(key, window_of)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.windows.log_add(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self.windows.log_count(key, limit, expiry)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.windows.sliding_add((key,), limit, expiry, amount)

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self.windows.sliding_count((key,), expiry)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        self.windows.sliding_forget((key,), expiry)

    def clear(self, key: str) -> None:
        self.windows.forget_everywhere(key)

    def reset(self) -> int | None:
        return self.windows.clear()

    def check(self) -> bool:
        return self.windows.healthy()


class AsyncPenstockStorage(
    limits.aio.storage.Storage, limits.aio.storage.MovingWindowSupport, limits.aio.storage.SlidingWindowCounterSupport
):
    """PenstockStorage for limits.aio: nothing here waits."""

    STORAGE_SCHEME = [f"async+{scheme}" for scheme in SCHEMES]  # noqa: RUF012

    def __init__(self, uri: str = "async+penstock://", wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.windows = read_uri(uri, options)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return FAILURES

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self.windows.add(key, expiry, amount)

    async def get(self, key: str) -> int:
        return self.windows.find(key, window_of)[0]

    async def get_expiry(self, key: str) -> float:
        return self.windows.ends(key, window_of)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.windows.log_add(key, limit, expiry, amount)

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self.windows.log_count(key, limit, expiry)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self.windows.sliding_add((key,), limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self.windows.sliding_count((key,), expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self.windows.sliding_forget((key,), expiry)

    async def clear(self, key: str) -> None:
        self.windows.forget_everywhere(key)

    async def reset(self) -> int | None:
        return self.windows.clear()

    async def check(self) -> bool:
        return self.windows.healthy()


def key_of(item: RateLimitItem, identifiers: tuple[Any, ...]) -> Parts:
    """The key of an item: what RateLimitItem.key_for joins, kept apart."""
    named = [name if type(name) is str else safe_string(name) for name in identifiers]
    return (item.namespace, item.amount, item.multiples, item.GRANULARITY.name, *named)


class _Strategy:
    """What the strategies share. storage, options: as for `read_uri`; there is no storage object between."""

    def __init__(self, storage: str = "penstock://", **options: Any) -> None:
        self._windows = read_uri(storage, options)


class FixedWindowRateLimiter(_Strategy):
    """limits' strategy of this name: windows begin with an item's first hit, and refused hits count too."""

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Counts `cost`; whether the count is then at most the item's amount."""
        return self._windows.add(key_of(item, identifiers), item.get_expiry(), cost) <= item.amount

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Whether `hit` would be admitted."""
        return self._windows.count(key_of(item, identifiers), item.get_expiry()) + cost <= item.amount

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """(when the window ends, seconds since the Unix epoch; units left)."""
        count, ends = self._windows.seen(key_of(item, identifiers), item.get_expiry())
        return WindowStats(ends, max(0, item.amount - count))

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Ends the item's window."""
        self._windows.forget(key_of(item, identifiers), item.get_expiry())


class MovingWindowRateLimiter(_Strategy):
    """limits' strategy of this name: at most `amount` in any interval of the window's length."""

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Takes `cost` if it fits."""
        return self._windows.log_add(key_of(item, identifiers), item.amount, item.get_expiry(), cost)

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Whether `hit` would be admitted."""
        units = self._windows.log_count(key_of(item, identifiers), item.amount, item.get_expiry())[1]
        return units + cost <= item.amount

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """(when the oldest unit expires, seconds since the Unix epoch, or a window from now; units left)."""
        per = item.get_expiry()
        start, units = self._windows.log_count(key_of(item, identifiers), item.amount, per)
        return WindowStats(start + per, item.amount - units)

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Forgets what the item has taken."""
        self._windows.log_forget(key_of(item, identifiers), item.amount, item.get_expiry())


class SlidingWindowCounterRateLimiter(_Strategy):
    """limits' strategy of this name: the window before, weighted by what of it is still in sight, and this one."""

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Takes `cost` if it fits."""
        return self._windows.sliding_add(key_of(item, identifiers), item.amount, item.get_expiry(), cost)

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Whether limits' `test` would say so: it does not round the weighted count down as `hit` does."""
        per = item.get_expiry()
        earlier, left, current, _ = self._windows.sliding_count(key_of(item, identifiers), per)
        return earlier * left / per + current < item.amount - cost + 1

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """(when the next unit comes back, seconds since the Unix epoch; units left)."""
        per = item.get_expiry()
        earlier, left, current, current_left = self._windows.sliding_count(key_of(item, identifiers), per)
        remaining = max(0, item.amount - floor(earlier * left / per + current))
        now = self._windows.now()
        if not earlier and not current:
            return WindowStats(now, remaining)
        of_earlier = left % (per / earlier) if earlier else inf
        return WindowStats(now + min(of_earlier, current_left % per if current else inf), remaining)

    def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Ends both windows."""
        self._windows.sliding_forget(key_of(item, identifiers), item.get_expiry())
