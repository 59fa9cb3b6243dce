"""Exchange: bans and list changes told to all instances of a guard through one Redis stream, never on a request's path.

    tell -> pending -> XADD -> {name}:{0}:g (a stream) -> XREAD -> apply, in every other instance

Every beat, about 0.7 s, a daemon thread adds what was told here and reads what others told. An entry has

    v  "1"      i  the instance, 16 hex digits      c  JSON: [[serial, kind, key, until, offences, reason], ...]

Order. The stream's order decides: of two changes about one key the later one holds, in every instance. What was told
here and not yet read back is later than all that has been read, so others' changes about its key are passed over until
then; and when it is read back there is nothing to do, since it is what holds here already.

Loss. Beside the stream is an epoch, a random word that is set if absent. When it is another one, Redis has lost its
data or is another Redis: the stream is read from its start, and what was told here and still holds is told again. It is
told again every 15 minutes too, since the stream is cut at its old end. What a dead instance had told is lost with
those entries.

What is seen there. Bans carry fingerprints under the guard's secret (events.pseudonym), never addresses. Entries of
allow and deny lists carry the address or network in clear: the others must match it, and it is configuration, not
traffic.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from penstock.clock import SECONDS_MOST
from penstock.errors import shown
from penstock.sync.failures import LinkError, Refused, failure_of
from penstock.sync.names import check_namespace, namespace_secret, tags
from penstock.sync.target import read_target

if TYPE_CHECKING:
    from penstock.sync.cluster import Cluster
    from penstock.sync.options import Client
    from penstock.sync.ways import Single

log = logging.getLogger("penstock.guard")

BEAT_S = 0.7
ANSWER_S = 2.0
"""Seconds that Redis may take for one command."""
CLOSE_S = 1.0
PENDING_MOST = 4096
"""Changes that wait to be told; then the oldest goes and is counted."""
KEPT_MOST = 8192
"""Changes of our own that are remembered, to tell them again."""
ENTRIES_MOST = 16_384
"""Entries of the stream, roughly; older ones are cut off."""
CHANGES_MOST = 64
"""Changes of one entry."""
READ_MOST = 256
"""Entries of one answer, and answers of one beat."""
AGAIN_S = 900.0
"""Seconds between two tellings of the same."""
LIFE_S = 32 * 86_400
"""Seconds that what is in Redis outlives the last instance."""
LAPSE_S = 60.0
"""Seconds after which a change that was told and never read back is taken for lost."""
BAN_MOST_S = 31 * 86_400.0
"""What is banned for longer is a mistake, ours or a clock's."""
WORD_MOST, REASON_MOST, ENTRY_MOST = 64, 200, 65_536

KINDS = frozenset({"ban", "unban", "allow", "deny", "remove"})
_BANS = frozenset({"ban", "unban"})
_TAKEN_BACK = frozenset({"unban", "remove"})


class Change(NamedTuple):
    """What one instance tells the others. kind: "ban", "unban", "allow", "deny" or "remove" (from either list). key: a
    fingerprint (16 hex digits), or for the lists the entry, at most 64 characters. until: seconds since the Unix epoch
    when a ban or an entry ends, 0 for an entry without end; offences: how often it was banned; reason: at most 200
    characters are told."""

    kind: str
    key: str
    until: float = 0.0
    offences: int = 0
    reason: str = ""


class ExchangeCounts(NamedTuple):
    """Since the start. told: changes that Redis has; applied: of others; dropped: never told, as too many waited;
    foreign: entries or changes that could not be read; failed: calls of `apply` that raised; lost: times that Redis had
    lost its data; pending: waiting now."""

    told: int
    applied: int
    dropped: int
    foreign: int
    failed: int
    lost: int
    pending: int


Apply = Callable[[list[Change]], None]


class Exchange:
    """One guard's end of it.

    redis: a URL (redis://, rediss://, unix://) or a client of redis-py, of which the settings are used. name: of the
    guard; instances of one name share. apply: called in the thread with the changes of others, in order; bans that are
    over are left out. Changes may come twice, and if it raises they come again one by one. secret: at least 16 bytes,
    the same in all instances, which `self.secret` is drawn from; without one, from the name alone. every: seconds
    between two beats, 0.05 to 60.

    Connects in the background and starts without Redis, with one line in the log. Raises SyncError for a URL or client
    that cannot work or without the package redis; ValueError or TypeError for a name or secret.
    """

    def __init__(
        self, redis: str | Client, name: str, apply: Apply, secret: bytes | None = None, *, every: float = BEAT_S
    ) -> None:
        self.name = check_namespace(name)
        self.secret = namespace_secret(name, secret)
        if not callable(apply):
            raise TypeError(f"apply must be callable, not {type(apply).__name__}")
        if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0.05 <= every <= 60:
            raise ValueError(f"every={shown(every)} must be from 0.05 to 60 seconds")
        self._every = float(every)
        self._target = read_target(redis)
        self._apply = apply
        prefix = f"{name}:{{{tags(1)[0]}}}:"
        self._stream, self._epoch_key = f"{prefix}g", f"{prefix}ge"
        self._closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """As an instance that nobody has heard of; in a forked child too."""
        self._instance = os.urandom(8).hex()
        self._lock = threading.Lock()
        self._serial = 0
        self._pending: dict[tuple[str, str], _Own] = {}
        self._flight: list[_Own] = []
        self._kept: dict[tuple[str, str], _Own] = {}
        self._unread: dict[tuple[str, str], _Own] = {}
        self._cursor, self._epoch = "0-0", b""
        self._told = self._applied = self._dropped = self._foreign = self._failed = self._lost = 0
        self._away_since: float | None = time.monotonic()
        self._said = False
        self._told_again = True
        self._why = "not connected yet"
        self._again_at = time.monotonic() + AGAIN_S
        self._failures: set[str] = set()
        self._bell = threading.Event()
        weakref.finalize(self, self._bell.set).atexit = False
        self._thread = threading.Thread(
            target=_run, args=(weakref.ref(self), self._bell), name="penstock-exchange", daemon=True
        )
        self._thread.start()

    # ---- for the guard ----

    def tell(self, change: Change) -> None:
        """Has the others told at the next beat. Costs an append; never waits. Raises ValueError or TypeError for a
        change that they would not accept."""
        change = _checked(change)
        about = _about(change)
        with self._lock:
            if self._closed:
                self._dropped += 1
                return
            self._queue(about, change)

    def _queue(self, about: tuple[str, str], change: Change) -> None:
        """Held: the lock."""
        self._serial += 1
        own = _Own(self._serial, change, time.monotonic())
        self._pending.pop(about, None)  # an older change about the same has nothing more to say
        self._pending[about] = self._unread[about] = own
        self._kept.pop(about, None)
        self._kept[about] = own
        if len(self._pending) > PENDING_MOST:
            oldest = next(iter(self._pending))
            self._drop_unread(oldest, self._pending.pop(oldest))
            self._dropped += 1
        if len(self._kept) > KEPT_MOST:
            del self._kept[next(iter(self._kept))]

    def state(self) -> str:
        """ "ok", "away for 12 s: nothing listens there", or "closed"."""
        away = self._away_since
        if self._closed:
            return "closed"
        return "ok" if away is None else f"away for {time.monotonic() - away:.0f} s: {self._why}"

    def counts(self) -> ExchangeCounts:
        """What has come of it so far."""
        with self._lock:
            waiting = len(self._pending) + len(self._flight)
        return ExchangeCounts(
            self._told, self._applied, self._dropped, self._foreign, self._failed, self._lost, waiting
        )

    def close(self, timeout: float = CLOSE_S) -> None:
        """Tells what waits, within `timeout` seconds, and ends the thread. What is told later is dropped."""
        with self._lock:
            self._closed = True
        self._bell.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    # ---- in the thread ----

    async def _beat(self, way: Single | Cluster) -> None:
        """Reads, adds, reads what came before that. Raises LinkError."""
        await self._agree(way)
        await self._read(way)
        now = time.monotonic()
        lost = not self._told_again
        if lost or now >= self._again_at:  # after the reading, which says what is others' by now
            self._told_again, self._again_at = True, now + AGAIN_S * (0.9 + random.random() / 5)
            self._tell_again(lost)
            await self._ask(way, "EXPIRE", self._epoch_key, LIFE_S)
        if await self._send(way):
            await self._ask(way, "EXPIRE", self._stream, LIFE_S)
            await self._read(way)
        with self._lock:
            for about, own in list(self._unread.items()):
                if own.since + LAPSE_S < now and self._pending.get(about) is not own:
                    self._drop_unread(about, own)
        if self._away_since is not None:
            if self._said:
                log.info("guard %r: Redis is there after %.0f s", self.name, now - self._away_since)
            self._away_since, self._said = None, False

    def _away(self, error: LinkError) -> None:
        if not self._said:
            # As text: a handler that keeps its records would keep the error's frames, and us with them.
            log.warning("guard %r: bans and lists are not exchanged: %s", self.name, str(error))
            self._said = True
        if self._away_since is None:
            self._away_since = time.monotonic()
        self._why = error.reason

    async def _ask(self, way: Single | Cluster, *command: Any) -> Any:
        try:
            return await way.ask(command, self._stream, ANSWER_S)
        except Exception as error:  # whatever redis-py and the network have; failures.py sorts it
            failure = failure_of(error, self._target.where, self._target.secrets)
        raise failure  # outside of `except`: what it came of may quote what must not be seen

    async def _agree(self, way: Single | Cluster) -> None:
        epoch = await self._ask(way, "GET", self._epoch_key)
        if epoch is None:
            await self._ask(way, "SET", self._epoch_key, os.urandom(8).hex(), "NX")
            epoch = await self._ask(way, "GET", self._epoch_key)
        if not isinstance(epoch, bytes) or not epoch:
            raise Refused(self._target.where, "it forgets a key as soon as it is set")
        if epoch != self._epoch:
            if self._epoch:
                self._lost += 1
                log.warning("guard %r: Redis has lost what was told; it is told again", self.name)
            self._epoch, self._cursor, self._told_again = epoch, "0-0", False

    def _tell_again(self, lost: bool) -> None:
        """Queues what was told here and still holds; what was taken back only where others may tell it again."""
        with self._lock:
            for about, own in list(self._kept.items()):
                if _is_over(own.change):
                    del self._kept[about]
                elif about not in self._pending and (lost or own.change.kind not in _TAKEN_BACK):
                    self._queue(about, own.change)

    async def _send(self, way: Single | Cluster) -> bool:
        """Adds what waits; whether there was anything. What is on its way when it fails waits again."""
        sent = False
        while True:
            with self._lock:
                if not self._flight:
                    for about in list(self._pending)[:CHANGES_MOST]:
                        own = self._pending.pop(about)
                        if _is_over(own.change):
                            self._drop_unread(about, own)
                        else:
                            self._flight.append(own)
                    if not self._flight:
                        if self._pending:
                            continue
                        return sent
                flight = list(self._flight)
            content = json.dumps([[own.serial, *own.change] for own in flight], separators=(",", ":"))
            limit = ("MAXLEN", "~", ENTRIES_MOST)
            await self._ask(way, "XADD", self._stream, *limit, "*", "v", "1", "i", self._instance, "c", content)
            with self._lock:
                self._flight = []
                self._told += len(flight)
                now = time.monotonic()
                for own in flight:
                    about = _about(own.change)
                    if self._unread.get(about) is own:
                        self._unread[about] = own._replace(since=now)
            sent = True

    async def _read(self, way: Single | Cluster) -> None:
        for _ in range(READ_MOST):
            answer = await self._ask(way, "XREAD", "COUNT", READ_MOST, "STREAMS", self._stream, self._cursor)
            entries = list(_entries(answer))
            if not entries:
                return
            self._take(fields for _, fields in entries)
            self._cursor = entries[-1][0]
            if len(entries) < READ_MOST:
                return

    def _take(self, entries: Iterable[dict[bytes, bytes]]) -> None:
        """Has what others told applied."""
        found: list[Change] = []
        for fields in entries:
            read = _read_entry(fields)
            self._foreign += read.foreign
            for serial, change in read.changes:
                about = _about(change)
                with self._lock:
                    unread = self._unread.get(about)
                    if read.instance == self._instance:
                        if unread is not None and serial >= unread.serial:
                            del self._unread[about]
                        continue
                    if unread is not None:
                        continue
                    self._kept.pop(about, None)  # it is theirs now
                if not _is_over(change):
                    found.append(change)
        if not found:
            return
        self._applied += len(found)
        if not self._applies(found) and len(found) > 1:
            for change in found:  # so that one that cannot be applied fails alone
                self._applies([change])

    def _applies(self, changes: list[Change]) -> bool:
        try:
            self._apply(changes)
        except Exception as error:  # of the guard's or the user's; the exchange goes on
            self._failed += 1
            kind = type(error).__name__
            if kind not in self._failures and len(self._failures) < 100:
                self._failures.add(kind)
                log.error("guard %r: applying changes raised %s (logged once for each kind)", self.name, kind)
            return False
        return True

    def _drop_unread(self, about: tuple[str, str], own: _Own) -> None:
        """Held: the lock. `own` will not be read back, or need not be."""
        unread = self._unread.get(about)
        if unread is not None and unread.serial == own.serial:
            del self._unread[about]


class _Own(NamedTuple):
    """A change that was told here. since: monotonic seconds."""

    serial: int
    change: Change
    since: float


class _Entry(NamedTuple):
    instance: str
    changes: list[tuple[int, Change]]
    foreign: int


def _run(reference: weakref.ref[Exchange], bell: threading.Event) -> None:
    """The thread: holds its Exchange only during a beat, so that a forgotten one can be collected."""
    exchange = reference()
    if exchange is None:
        return
    way, every = exchange._target.open(), exchange._every
    del exchange
    pause = 0.0
    with asyncio.Runner() as runner:
        while True:
            rung = bell.wait(pause)
            pause = every * (0.8 + 0.4 * random.random())
            exchange = reference()
            if exchange is None:
                break
            try:
                runner.run(exchange._beat(way))
            except LinkError as error:
                exchange._away(error)
            except Exception as error:  # a fault of ours must not end the exchange
                log.exception("guard %r: a fault in the exchange; it goes on", exchange.name)
                exchange._away(Refused(exchange._target.where, type(error).__name__))
            if rung or exchange._closed:
                break
            del exchange
        with suppress(Exception):  # nobody is left to be told that a connection did not close well
            runner.run(way.aclose())


def _about(change: Change) -> tuple[str, str]:
    """What a change is about: a later one about the same takes its place."""
    return ("ban" if change.kind in _BANS else "list"), change.key


def _is_over(change: Change) -> bool:
    return change.kind not in _TAKEN_BACK and change.until != 0 and change.until <= time.time()


def _checked(change: object) -> Change:
    """A change that may be told, its reason cut; raises ValueError or TypeError."""
    if not isinstance(change, Change):
        raise TypeError(f"change must be a Change, not {type(change).__name__}")
    kind, key, until, offences, reason = change
    if kind not in KINDS:
        raise ValueError(f"kind={shown(kind)} must be one of {', '.join(sorted(KINDS))}")
    if not isinstance(key, str) or not 1 <= len(key) <= WORD_MOST or not key.isprintable():
        raise ValueError(f"key={shown(key)} must be 1 to {WORD_MOST} printable characters")
    if kind in _BANS and (len(key) != 16 or not set(key) <= set("0123456789abcdef")):
        raise ValueError(f"key={shown(key)} must be a fingerprint of 16 hex digits where it is about a ban")
    if isinstance(until, bool) or not isinstance(until, (int, float)) or not 0 <= until <= SECONDS_MOST:
        raise ValueError(f"until={shown(until)} must be seconds since the Unix epoch, or 0")
    if kind == "ban" and not 0 < until < time.time() + BAN_MOST_S:
        raise ValueError(f"until={shown(until)} must be within 31 days for a ban")
    if isinstance(offences, bool) or not isinstance(offences, int) or not 0 <= offences < 1 << 31:
        raise ValueError(f"offences={shown(offences)} must be a number of bans")
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    plain = "".join(sign if sign.isprintable() else "?" for sign in reason[:REASON_MOST])
    return Change(kind, key, float(until), offences, plain)


def _entries(answer: object) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """Ids and fields of what XREAD answers, as lists of lists or, with RESP 3, as a dict."""
    if not answer:
        return
    streams = answer.items() if isinstance(answer, dict) else cast("list[Any]", answer)
    for _, entries in streams:
        for ident, fields in entries:
            flat = list(fields or ())
            yield ident.decode(), dict(zip(flat[::2], flat[1::2], strict=False))


def _read_entry(fields: dict[bytes, bytes]) -> _Entry:
    """What an entry says; what cannot be read of it is counted."""
    instance, content = fields.get(b"i", b""), fields.get(b"c", b"")
    if fields.get(b"v") != b"1" or len(instance) != 16 or not 0 < len(content) <= ENTRY_MOST:
        return _Entry("", [], 1)
    try:
        name, listed = instance.decode("ascii"), json.loads(content)
    except (ValueError, RecursionError):
        return _Entry("", [], 1)
    if not isinstance(listed, list):
        return _Entry("", [], 1)
    changes, foreign = [], 0
    for one in listed:
        try:
            serial, *rest = one
            if isinstance(serial, bool) or not isinstance(serial, int) or len(rest) != len(Change._fields):
                raise ValueError(serial)
            changes.append((serial, _checked_later(Change(*rest))))
        except (ValueError, TypeError):
            foreign += 1
    return _Entry(name, changes, foreign)


def _checked_later(change: Change) -> Change:
    """Like _checked, of a ban that may be over by now, or that another clock says is longer than can be."""
    if change.kind == "ban" and isinstance(change.until, (int, float)) and change.until > 0:
        return _checked(change._replace(until=min(change.until, time.time() + BAN_MOST_S - 1)))
    return _checked(change)


_all: weakref.WeakSet[Exchange] = weakref.WeakSet()


def _after_fork() -> None:
    """What the parent had to tell is the parent's; the child is an instance of its own."""
    for exchange in list(_all):
        if not exchange._closed:
            exchange._begin()


@atexit.register
def _close_all() -> None:
    """At the end of the process what waits is told; together within the time of one."""
    end = time.monotonic() + CLOSE_S
    for exchange in list(_all):
        exchange.close(max(0.0, end - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
