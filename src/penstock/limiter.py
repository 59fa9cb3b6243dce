"""Limiter, the one object most people touch."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, Self, TypeVar, cast

from penstock._arguments import (
    Rates as Rates,
)
from penstock._arguments import (
    choose_capacity,
    read_by_tier,
    read_clock,
    read_limits,
    read_secret,
    read_tiers,
)
from penstock._backend import Engine, adopt
from penstock.clock import Clock, seconds_to_ns
from penstock.decision import Decision, Stats, TopKey
from penstock.errors import CostTooLarge, RateLimited, SegmentError, SnapshotError, shown
from penstock.policy import compile_policies, compile_shared, for_segment, replace_policies
from penstock.rate import Algorithm, Concurrency, check_algorithm, check_count
from penstock.reservation import Hold, Reservation
from penstock.segment.options import Segment, read_shared
from penstock.sync.options import Client, Sync, read_sync
from penstock.waiting import Ask, Waiters
from penstock.written import UNREADABLE, Tiers, meaning, wording

if TYPE_CHECKING:
    from types import TracebackType

    from penstock.snapshot import Snapshot
    from penstock.sync.exchange import Exchange
    from penstock.sync.guarantee import Guarantee

Key = str | bytes | int | tuple[str | bytes | int, ...]
P = ParamSpec("P")
R = TypeVar("R")

def top_keys(engine: Engine, n: int) -> list[TopKey]:
    """The n keys that were refused most, then those that have spent most."""
    denied = dict(engine.denied_keys())
    found = denied.keys() | {fingerprint for fingerprint, _, _ in engine.spending(n)}
    keys = [TopKey(one, engine.name_of(one), denied.get(one, 0), engine.spent(one)) for one in found]
    return sorted(keys, key=lambda key: (-key.denied, -key.spent, key.fingerprint))[:n]


class LimiterMethods(Engine):
    """What a limiter offers beside the engine's own decisions; Limiter is this with the methods that must be fast."""

    __slots__ = (
        "__weakref__", "_clock", "_exchange", "_key", "_limits", "_on_full", "_policies", "_remembers", "_replacing",
        "_tier_index", "_waiters", "_warned", "name", "shared",
    )  # fmt: skip

    def __init__(
        self,
        *limits: Rates,
        algorithm: Algorithm = "token-bucket",
        tiers: Mapping[str, Rates | Sequence[Rates]] | None = None,
        capacity: int | None = None,
        on_full: Literal["evict", "deny"] = "evict",
        name: str | None = None,
        secret: bytes | None = None,
        clock: Clock | None = None,
        remember_names: bool = False,
        shared: str | os.PathLike[str] | Segment | None = None,
        sync: str | Client | Sync | None = None,
    ) -> None:
        if hasattr(self, "_policies"):
            raise RuntimeError("a limiter is made once: __init__ was called again")
        check_algorithm(algorithm)
        if not isinstance(on_full, str) or on_full not in ("evict", "deny"):
            raise ValueError(f'on_full={shown(on_full)} must be "evict" or "deny"')
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        by_tier = read_by_tier(limits, tiers, algorithm)
        segment = None if shared is None else read_shared(shared)
        self._begin(
            by_tier,
            capacity=capacity,
            on_full=on_full,
            name=name,
            key=None if secret is None else read_secret(secret),
            clock=clock,
            remember_names=bool(remember_names),
            segment=segment,
            exchange=None if sync is None else self._exchange_of(read_sync(sync), name, secret, segment is not None),
        )

    def _begin(
        self,
        by_tier: Tiers,
        *,
        capacity: int | None,
        on_full: Literal["evict", "deny"],
        name: str | None,
        key: bytes | None,
        clock: Clock | None,
        remember_names: bool,
        segment: Segment | None,
        exchange: Exchange | None = None,
        saved: Snapshot | None = None,
    ) -> None:
        """Makes the limiter. key: the 16 bytes that key the hash, or None for some; saved: what it goes on from."""
        wall_ns, age, rows = read_clock(clock), 0, None
        if saved is not None:
            age, rows = self._go_on(saved, by_tier, wall_ns, segment is not None)
        opened = None
        if segment is not None:
            from penstock.segment.settings import open_segment  # here, because most limiters are of one process

            opened = open_segment(segment, by_tier, capacity, on_full, exchange, key, clock, wall_ns, age, rows)
            policies, capacity, key = opened.header.policies, opened.header.capacity, opened.header.secret
            wall_ns = opened.header.wall_ns
        elif exchange is None:
            policies = compile_policies(list(by_tier.values()), wall_ns - age)
            key = os.urandom(16) if key is None else key
        else:
            options, key = exchange.options, exchange.secret
            policies = compile_shared(list(by_tier.values()), options.every_ns, options.kappa)
        tier_index = {tier: index for index, tier in enumerate(by_tier)}
        try:
            super().__init__(
                policies,
                tier_index,
                capacity=choose_capacity(capacity, policies[0]),
                evict=on_full == "evict",
                secret=key,
                clock=clock,
                remember=remember_names,
                **({"age": age} if opened is None else {"segment": opened}),
            )
        except BaseException:
            if opened is not None:
                os.close(opened.fd)
            raise
        if saved is not None and saved.secret == key:
            from penstock.snapshot import fill_with

            names = dict(list(saved.names.items())[-2 * self.capacity :])
            fill_with(self, rows if rows and opened is None else [b""] * len(policies[0]), names)
        self.shared = None if segment is None else segment.path
        self._limits = by_tier
        self._policies = policies
        self._key, self._on_full, self._remembers = key, on_full, remember_names
        self._replacing = threading.Lock()  # one replacement at a time; decisions take no part in it
        self._tier_index = tier_index
        self._clock = clock
        self._waiters = Waiters(clock)
        if segment is not None:
            self._attend()
        self._exchange = exchange
        self._warned = False
        self.name = name
        if exchange is not None:
            exchange.start(self, policies, self._waiters, wall_ns=wall_ns, steady=clock is None)

    @staticmethod
    def _exchange_of(options: Sync, name: str | None, secret: bytes | None, host: bool) -> Exchange:
        if secret is not None:
            raise ValueError("secret is for limiters of one process; with sync it is given as Sync(url, secret=…)")
        if host:
            from penstock.sync.host import HostExchange

            return HostExchange(options, name)
        from penstock.sync.exchange import Exchange  # here, because most limiters need no asyncio and no Redis

        return Exchange(options, name)

    def _attend(self) -> None:
        """What a limiter on a segment needs beside its tables."""
        from penstock.segment.fork import joined
        from penstock.segment.listener import Listener

        joined(self)
        self._waiters.joined = Listener(self, self._waiters).start

    @staticmethod
    def _go_on(saved: Snapshot, by_tier: Tiers, wall_ns: int, shared: bool) -> tuple[int, list[bytes]]:
        """The age of a limiter that goes on from what was saved, and its rows. SnapshotError for what are none."""
        from penstock.snapshot import go_on

        policies = compile_policies(list(by_tier.values()), wall_ns)
        try:
            return go_on(saved, wall_ns, for_segment(policies) if shared else policies)
        except UNREADABLE as error:
            raise SnapshotError(f"what was saved cannot be read: {error}") from None

    # ---- saving and loading ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Put what counts against every key into a file, for `load`, in place of what was there.

        The file is written whole before it gets its name, with mode 0600: it has the secret, and the names that are
        remembered. Others may decide meanwhile: each key is saved as it was at one moment, not all at the same. What is
        held of Concurrency limits is not saved; counters are, to be looked at, and begin anew in what is loaded. Raises
        SnapshotError, and what was there stays, when the file cannot be written; ValueError with sync=, where it is
        Redis that counts.
        """
        from penstock.snapshot import Snapshot, scales_of, write

        if self._exchange is not None:
            raise ValueError("limits that are shared with sync= cannot be saved: what counts is in Redis")
        path = os.path.abspath(os.fsdecode(path))
        with self._replacing:
            limits, policies, rows = dict(self._limits), self._policies, self.rows()
        now_ns = self.now_ns()  # before the other clock: what is loaded is rather late than early
        snapshot = Snapshot(
            limits=limits,
            scales=scales_of(policies),
            capacity=self.capacity,
            on_full=self._on_full,
            name=self.name,
            secret=self._key,
            remember_names=self._remembers,
            names=self.remembered(),
            counters=self.counters(),
            now_ns=now_ns,
            wall_ns=read_clock(self._clock),
            rows=rows,
        )
        write(path, snapshot)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *limits: Rates,
        algorithm: Algorithm = "token-bucket",
        tiers: Mapping[str, Rates | Sequence[Rates]] | None = None,
        capacity: int | None = None,
        name: str | None = None,
        clock: Clock | None = None,
        shared: str | os.PathLike[str] | Segment | None = None,
    ) -> Self:
        """A limiter that goes on from a saved one: what counted then counts now, less what time has made good since.

        That is wall time; where it was set back, none has passed. limits, tiers: need not be given; if they are, they
        must be those that were saved (ValueError). capacity, name: others than were saved; with less capacity the keys
        that owe least are left out where there is no place for them (`stats().evicted`). shared: as for a Limiter; who
        makes the segment fills it, and one that is there is joined as it is, for it knows better than the file. Raises
        SnapshotError for a file that is damaged, cut off, of a later version or no saved limiter.
        """
        from penstock.snapshot import read

        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        check_algorithm(algorithm)
        saved = read(os.path.abspath(os.fsdecode(path)))
        if limits or tiers is not None:
            wanted = read_by_tier(limits, tiers, algorithm)
            if meaning(wanted) != meaning(saved.limits):
                raise ValueError(f"limits {wording(wanted)} are not those that were saved: {wording(saved.limits)}")
        limiter = cls.__new__(cls)
        limiter._begin(
            saved.limits,
            capacity=saved.capacity if capacity is None else capacity,
            on_full=cast(Literal["evict", "deny"], saved.on_full),
            name=saved.name if name is None else name,
            key=saved.secret,
            clock=clock,
            remember_names=saved.remember_names,
            segment=None if shared is None else read_shared(shared),
            saved=saved,
        )
        return limiter

    # ---- taking and giving back ----

    def refund(self, key: Key, cost: int = 1, tier: str | None = None) -> None:
        """Give `cost` units of `key` back to every limit, never above full.

        A window gives back what would have expired first, since it is not known which hit is meant: it never admits
        more than it promised. Arguments and errors as for `hit`.
        """
        super().refund(key, cost, tier)
        self._wake(key)

    def release(self, key: Key, cost: int = 1, tier: str | None = None) -> None:
        """Give `cost` units of `key` back to the Concurrency limits alone; what `hold` does at its end."""
        super().release(key, cost, tier)
        self._wake(key)

    def reset(self, key: Key) -> None:
        """Make `key` as good as new under every limit.

        Where limits are shared, for all instances: here at once, in Redis with the next exchange (while Redis is away,
        with the first one after that), in other instances within about a second. What others have admitted and not
        told Redis yet still counts, and units of a Concurrency limit that others hold stay held. Never waits for Redis.
        """
        super().reset(key)
        if self._exchange is not None:
            self._exchange.forget(self.fingerprint(key))
        self._wake(key)

    def clear(self) -> None:
        """Make every key as good as new. Not one instant for all: keys hit meanwhile may be cleared or not.

        Where limits are shared, for all instances, as `reset` does it for one key.
        """
        super().clear()
        if self._exchange is not None:
            self._exchange.forget(None)
        self._waiters.wake()

    def reserve(self, key: Key, cost: int, tier: str | None = None) -> Reservation:
        """Take `cost` units now, and charge what was really used by the Reservation's `settle`; true when taken."""
        return Reservation(self, key, cost, tier, self.check(key, cost, tier))

    def hold(self, key: Key, cost: int = 1, tier: str | None = None, timeout: float | None = 0.0) -> Hold:
        """Units of a Concurrency limit for the length of a `with` or `async with` block.

        Other limits of this limiter are taken at the start and not given back. timeout: seconds to wait for a turn; 0
        raises RateLimited at once when it is not free, None waits without end. Where the limit is shared, what this
        process holds is free again ten seconds after it was killed, or was cut off from Redis. Raises TypeError for a
        limiter without a Concurrency limit, CostTooLarge for a cost that never fits.
        """
        if not self._holds():
            raise TypeError(f"hold() needs a Concurrency limit; {self!r} has none")
        self.fingerprint(key)
        self._check_wait(cost, tier, timeout)
        return Hold(self, key, cost, tier, timeout)

    # ---- waiting ----

    def acquire(self, key: Key, cost: int = 1, timeout: float | None = None, tier: str | None = None) -> bool:
        """Take `cost` units of `key`, waiting for them if need be; False when `timeout` seconds were not enough.

        First come, first served for each key, threads and tasks in one line. Callers of `hit` do not queue. Raises
        CostTooLarge when no wait could help.
        """
        return self._wait(key, cost, tier, timeout).allowed

    async def acquire_async(
        self, key: Key, cost: int = 1, timeout: float | None = None, tier: str | None = None
    ) -> bool:
        """`acquire` in asyncio. A cancelled task leaves the line and has taken nothing."""
        return (await self._wait_async(key, cost, tier, timeout)).allowed

    def _wait(self, key: Key, cost: int, tier: str | None, timeout: float | None) -> Decision:
        timeout_ns, ask, first = self._prepare_wait(key, cost, tier, timeout)
        return first if first is not None else self._waiters.wait(self.fingerprint(key), ask, timeout_ns, cost)

    async def _wait_async(self, key: Key, cost: int, tier: str | None, timeout: float | None) -> Decision:
        timeout_ns, ask, first = self._prepare_wait(key, cost, tier, timeout)
        if first is not None:
            return first
        return await self._waiters.wait_async(self.fingerprint(key), ask, timeout_ns, cost)

    def _prepare_wait(
        self, key: Key, cost: int, tier: str | None, timeout: float | None
    ) -> tuple[int | None, Ask, Decision | None]:
        """(timeout in ns, how to ask, the answer if there is one at once)."""
        timeout_ns = self._check_wait(cost, tier, timeout)

        def ask(take: bool) -> Decision:
            """Looks before it takes, so that a wait is not counted as one refusal for each look."""
            self._check_wait(cost, tier, None)  # again, since the limits may have been replaced
            decision = self.peek(key, cost, tier)
            if not take:
                return decision._replace(allowed=False)
            if decision:
                decision = self._take(key, cost, tier)
            if not decision and self._exchange is not None:
                self._exchange.ask(self.fingerprint(key))
            return decision

        if self._waiters.any(self.fingerprint(key)):
            return timeout_ns, ask, ask(False) if timeout_ns == 0 else None
        if timeout_ns == 0:
            return timeout_ns, ask, self.check(key, cost, tier)
        return timeout_ns, ask, self._take(key, cost, tier) or None

    def _take(self, key: Key, cost: int, tier: str | None) -> Decision:
        """`check` for who can wait (one whose timeout is 0 cannot): where limits are shared and small, nothing is taken
        ahead of Redis."""
        exchange = self._exchange
        if exchange is not None and exchange.leases_only(self._tier(tier), self.now_ns()):
            return self.claim(key, cost, tier)
        return self.check(key, cost, tier)

    def _check_wait(self, cost: int, tier: str | None, timeout: float | None) -> int | None:
        """Raises for arguments that no wait can satisfy; the timeout in nanoseconds."""
        check_count("cost", cost)
        for policy in self._policies[self._tier(tier)]:
            if cost > policy.limit:
                raise CostTooLarge(f"cost={cost} can never be admitted: a limit admits at most {policy.limit} at once")
        return None if timeout is None else seconds_to_ns("timeout", timeout)

    def _tier(self, tier: str | None) -> int:
        if not (tier is None or isinstance(tier, str)) or tier not in self._tier_index:
            raise ValueError(f"tier={shown(tier)} must be one of {', '.join(map(repr, self._tier_index))}")
        return self._tier_index[tier]

    def _wake(self, key: Key) -> None:
        if self._waiters.any(fingerprint := self.fingerprint(key)):
            self._waiters.wake(fingerprint)
        if self.shared is not None:
            self.ring(fingerprint)

    def _wake_all(self, fingerprints: Sequence[int]) -> None:
        for fingerprint in fingerprints:
            self._waiters.wake(fingerprint)
            if self.shared is not None:
                self.ring(fingerprint)

    def _rejoined(self) -> None:
        """In a forked child, once it has a seat of its own in the segment."""
        if self._exchange is not None:
            self._exchange.rejoined(self)

    def _holds(self) -> bool:
        return any(isinstance(limit, Concurrency) for limit in next(iter(self._limits.values())))

    # ---- the decorator ----

    def limit(
        self,
        key: Key | Callable[..., Key] | None = None,
        cost: int | Callable[..., int] = 1,
        tier: str | Callable[..., str | None] | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorator for functions and coroutine functions: each call is one hit, or raises RateLimited.

        key, cost, tier: constants, or functions of the call's arguments; without a key all calls share the function's
        name. A Concurrency limit is held while the function runs.
        """
        from inspect import iscoroutinefunction

        if key is not None and not callable(key):
            self.fingerprint(key)
        if not callable(cost):
            check_count("cost", cost)
        if not callable(tier):
            self._tier(tier)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if not callable(function):
                raise TypeError(f"limit() decorates functions, not {type(function).__name__}")
            named = function if hasattr(function, "__qualname__") else type(function)
            name = f"{getattr(named, '__module__', None)}.{named.__qualname__}"

            def facts(*args: Any, **kwargs: Any) -> tuple[Key, int, str | None]:
                return (
                    key(*args, **kwargs) if callable(key) else name if key is None else key,
                    cost(*args, **kwargs) if callable(cost) else cost,
                    tier(*args, **kwargs) if callable(tier) else tier,
                )

            if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):

                @functools.wraps(function)
                async def limited_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    call = cast(Callable[P, Awaitable[Any]], function)
                    if self._holds():
                        async with self.hold(*facts(*args, **kwargs)):
                            return await call(*args, **kwargs)
                    self._raise_unless(self.check(*facts(*args, **kwargs)))
                    return await call(*args, **kwargs)

                return cast(Callable[P, R], limited_async)

            @functools.wraps(function)
            def limited(*args: P.args, **kwargs: P.kwargs) -> R:
                if self._holds():
                    with self.hold(*facts(*args, **kwargs)):
                        return function(*args, **kwargs)
                self._raise_unless(self.check(*facts(*args, **kwargs)))
                return function(*args, **kwargs)

            return limited

        return decorate

    @staticmethod
    def _raise_unless(decision: Decision) -> None:
        if not decision:
            raise RateLimited(decision)

    # ---- changing and looking in ----

    def replace(  # type: ignore[override]
        self,
        *limits: Rates,
        tiers: Mapping[str, Rates | Sequence[Rates]] | None = None,
        algorithm: Algorithm = "token-bucket",
    ) -> None:
        """Put other limits in force, of the same algorithms in the same order; keys keep the units they have spent.

        limits: those of calls without a tier; tiers: those of the tiers named, the others stay. ValueError, and nothing
        changes, when the new limits do not fit the tables there are: another algorithm or number of limits, a window of
        another `per`, a log of another `per` or longer than the longest it was made for. Instances that share limits
        replace them one by one; until all have, Redis merges each batch by the limits it came with.
        """
        if self.shared is not None:
            raise SegmentError("the limits of a shared segment are those it was made with; use another name for others")
        check_algorithm(algorithm)
        changed: Tiers = {}
        if limits:
            if None not in self._limits:
                raise ValueError(f"this limiter has only named tiers: {', '.join(map(repr, self._limits))}")
            changed[None] = read_limits("limits", limits, algorithm)
        for tier, read in read_tiers({} if tiers is None else tiers, algorithm).items():
            self._tier(tier)
            changed[tier] = read
        with self._replacing:
            by_tier = self._limits | changed
            first = next(iter(self._limits.values()))
            if self._exchange is None:
                policies = replace_policies(self._policies, first, list(by_tier.values()))
            else:
                options = self._exchange.options
                policies = compile_shared([*by_tier.values(), first], options.every_ns, options.kappa)[:-1]
            super().replace(policies)
            if self._exchange is not None:
                self._exchange.replace(policies)
            self._policies, self._limits = policies, by_tier
        self._waiters.wake()

    def stats(self) -> Stats:
        """What this limiter has done and holds; reads the whole table, so not for every request."""
        admitted, denied, evicted = self.counters()
        sync = None if self._exchange is None else self._exchange.state()
        return Stats(admitted, denied, evicted, self.live(), self.capacity, self.bytes, sync)

    def guarantee(self) -> Guarantee:
        """What this limiter guarantees under its present settings, as formulas and as numbers; `print` shows it.

        Exact for a limiter of one process. For limits that are shared it says how far all instances together may be
        above them, and warns once (RuntimeWarning) of those that are too small for so many instances to share exactly:
        callers of these had better `acquire`.
        """
        from penstock.sync.guarantee import exact, too_small

        exchange = self._exchange
        if exchange is None:
            return exact(self._limits)
        found = exchange.guarantee(list(self._limits), self.now_ns(), self.largest())
        small = too_small(found)
        if small and not self._warned:
            self._warned = True
            import warnings

            warnings.warn(small, RuntimeWarning, stacklevel=2)
        return found

    def top(self, n: int = 10) -> list[TopKey]:
        """The n keys that were refused most, then those that have spent most; reads the whole table."""
        check_count("n", n)
        return top_keys(self, n)

    def close(self) -> None:
        """End every wait. Decisions still work; the memory goes with the object.

        Shared limits are settled and leases given back first, within a second; of a limiter that an event loop serves
        (`async with`) a thread does so once this has returned, and the end of the process waits for it. What is decided
        later is not shared any more: it comes to a stand when the units that may be unsettled are used up.
        """
        self._waiters.close()
        if self._exchange is not None:
            self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        if self._exchange is not None:
            await self._exchange.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiters.close()
        if self._exchange is not None:
            await self._exchange.leave()

    def __repr__(self) -> str:
        named = "" if self.name is None else f" {self.name!r}"
        return f"<Limiter{named} {wording(self._limits)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Limiter cannot be copied or pickled: its counters are live; make one in each process")


class Limiter(LimiterMethods):
    """Rate limits for any number of keys, decided together: all admit, or nothing is taken.

    limits: rate strings ("5/minute; 100/day") and TokenBucket, SlidingWindow, SlidingLog, FixedWindow or Concurrency.
    algorithm: what the rate strings mean. tiers: name -> rates, for calls with `tier=`; without limits, every call
    needs one. capacity: keys it is rated for (default 65,536, or fewer where keys are large); memory is fixed from the
    start. on_full: a new key in a full table takes the place of the key that owes least ("evict") or is refused
    ("deny"). name: for people, and what instances share by. secret: at least 16 bytes, to make processes agree on
    fingerprints; random by default. clock: a penstock.clock.Clock, for tests. remember_names: keep keys so that `top`
    can name them. sync: a URL, a redis-py client or a Sync; all limiters of one name and Redis share their limits, so
    their limits must be the same. `hit` and `check` never wait for Redis and raise nothing on its account.

    shared: a name, a path or a Segment; all processes of this host that open the same one decide on the same tables.

    Safe from any thread; no decision takes a lock. After a fork, each process has its own copy, unless it is shared.

    >>> limiter = Limiter("2/minute")
    >>> [limiter.hit("ip:203.0.113.7") for _ in range(3)]
    [True, True, False]
    """

    __slots__ = ()


adopt(Limiter, "hit", "check", "peek")
