"""Events: what a guard has seen, told to a callback and the log off the request's path, and kept for a while.

The request's thread only appends; one daemon thread makes an Event of what it finds, with the address as a keyed hash
and every text bounded and printable, keeps it, logs it under `penstock.guard` and calls `on_event`.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import inspect
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from penstock.clock import NS, Clock, SystemClock, seconds_to_ns
from penstock.errors import shown
from penstock.guard.verdict import Action, Evidence, Severity

log = logging.getLogger("penstock.guard")

TEXT_MOST = 200
"""Characters of a path or a detail that are kept."""
WORD_MOST = 64
"""Characters of an address, a method, a request's id, a kind or a detector's name."""
_CUT = TEXT_MOST + WORD_MOST
"""Characters that wait: no address that begins in what is kept is cut in two."""
EVIDENCE_MOST = 8
CALLBACK_S = 10.0
"""Seconds that an asynchronous callback may take."""
CLOSE_S = 2.0
_FAILURES = (Exception, asyncio.CancelledError, SystemExit)
_LEVELS = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}


class Event(NamedTuple):
    """One thing that happened. time: seconds since the Unix epoch; kind: what was done or found ("rate_limited",
    "ban" …); address: a keyed hash of the client's (`pseudonym`), "" where there is none; request: its id, if the
    application gave one. Texts are printable and bounded; keys in the evidence are hashed like the address."""

    time: float
    kind: str
    severity: Severity
    address: str
    action: Action
    evidence: tuple[Evidence, ...] = ()
    request: str = ""
    method: str = ""
    path: str = ""


class EventCounts(NamedTuple):
    """queued: waiting to be told; dropped: lost because the queue was full or closed; told; failed: calls of `on_event`
    that raised or took too long; kept: to be had with `recent`."""

    queued: int
    dropped: int
    told: int
    failed: int
    kept: int


OnEvent = Callable[[Event], object]


def pseudonym(secret: bytes, text: str) -> str:
    """What stands for a text where it must not be seen: 16 hex digits of BLAKE2b under a secret of 16 bytes or more.

    The same text has the same pseudonym wherever the secret is the same. Unlike a plain hash it cannot be undone by
    trying all addresses, unless the secret is known.
    """
    key = secret if len(secret) <= 64 else hashlib.blake2b(secret).digest()
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8, key=key, person=b"penstock guard").hexdigest()


def printable(text: str, most: int = TEXT_MOST) -> str:
    """`text` cut to `most` characters, with everything escaped that a terminal or a log could take for a command."""
    cut = text[:most]
    if not cut.isprintable() or "\\" in cut:
        cut = "".join(sign if sign.isprintable() and sign != "\\" else _escaped(sign) for sign in cut)
    return cut if len(text) <= most else cut + "…"


def check_secret(secret: object) -> bytes:
    """`secret` as given, at least 16 bytes."""
    if not isinstance(secret, bytes):
        raise TypeError(f"secret must be bytes, not {type(secret).__name__}")
    if len(secret) < 16:
        raise ValueError(f"secret has {len(secret)} bytes; at least 16 are needed")
    return secret


class Events:
    """A bounded queue of what happened, the gravest first, and the thread that tells it.

    on_event: called with each Event, in that thread; a coroutine function is run there too, for at most 10 s a call.
    One that raises is counted, and logged once for each kind of exception; one that blocks holds up telling, never
    requests. capacity: how many may wait, 1 to 1048576; when full, the oldest of the least severe goes and is counted.
    keep: how many are kept for `recent`, the oldest of the least severe going first; retention: for how many seconds.
    secret: of `pseudonym`, drawn anew if None. pace: how many are told each second at most, so that a flood of events
    does not take the processor from the requests. clock: for tests. Safe from any thread; a forked child tells only its
    own.
    """

    def __init__(
        self,
        on_event: OnEvent | None = None,
        capacity: int = 1024,
        retention: float = 86_400,
        *,
        keep: int = 1024,
        secret: bytes | None = None,
        pace: float = 1_000,
        clock: Clock | None = None,
    ) -> None:
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event must be callable or None, not {type(on_event).__name__}")
        self.secret = os.urandom(16) if secret is None else check_secret(secret)
        self._capacity = _count("capacity", capacity)
        self._keep = _count("keep", keep)
        self._retention_ns = seconds_to_ns("retention", retention)
        if isinstance(pace, bool) or not isinstance(pace, (int, float)) or not 1 <= pace <= 1_000_000:
            raise ValueError(f"pace={shown(pace)} must be from 1 to 1000000 events per second")
        self._batch = max(1, int(pace) // 10)
        self._turn_s = self._batch / pace
        self._on_event = on_event
        self._clock: Clock = SystemClock() if clock is None else clock
        self._kept: list[deque[tuple[int, Event]]] = [deque() for _ in Severity]
        self._dropped = self._told = self._failed = 0
        self._failures: set[str] = set()
        self._closed = False
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """As after a fork: nothing waits, nobody tells, no lock is held."""
        self._lock = threading.Lock()  # of what waits
        self._work = threading.RLock()  # of what is kept
        self._waiting: list[deque[_Seen]] = [deque() for _ in Severity]
        self._count = 0
        self._thread: threading.Thread | None = None
        self._bell = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._leaving: weakref.finalize[..., Events] | None = None

    def emit(
        self,
        kind: str,
        severity: Severity,
        address: str | None = None,
        action: Action = Action.LOG,
        evidence: Iterable[Evidence] = (),
        *,
        request: str = "",
        method: str = "",
        path: str = "",
    ) -> None:
        """Notes that something happened. Costs an append; never blocks, never raises for what the texts contain."""
        kept = tuple(evidence)[:EVIDENCE_MOST]
        for one in kept:
            if len(one[0]) + len(one[2]) + len(one[5]) > _CUT:
                kept = tuple(map(_cut, kept))
                break
        seen = _Seen(
            self._clock.wall_ns(),
            self._clock.now_ns(),
            kind[:WORD_MOST],
            severity,
            address[:WORD_MOST] if address else "",
            action,
            kept,
            request[:TEXT_MOST],
            method[:TEXT_MOST],
            path[:_CUT],
        )
        with self._lock:
            if self._closed:
                self._dropped += 1
                return
            if self._count >= self._capacity:
                self._dropped += 1
                least = next(queue for queue in self._waiting if queue)
                if least[0].severity > severity:
                    return
                least.popleft()
                self._count -= 1
            self._waiting[severity - 1].append(seen)
            self._count += 1
            if self._thread is None:
                self._start()
            if self._idle.is_set():
                self._idle.clear()
                self._bell.set()

    def recent(self, n: int = 100, severity: Severity | None = None) -> list[Event]:
        """The last `n` events that were told, the newest first; of at least this severity if one is given."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"n={shown(n)} must be a number of events, not negative")
        with self._work:
            self._expire()
            found = [one for queue in self._kept[(severity or Severity.LOW) - 1 :] for one in queue]
        found.sort(key=lambda one: one[0], reverse=True)
        return [event for _, event in found[:n]]

    def forget(self, name: str) -> int:
        """Removes all events about a pseudonym, those that wait included, and returns how many these were."""
        removed = 0
        with self._work:
            with self._lock:
                for waiting in self._waiting:
                    rest = [seen for seen in waiting if not _is_about(self._event(seen), name)]
                    removed += len(waiting) - len(rest)
                    waiting.clear()
                    waiting.extend(rest)
                self._count = sum(map(len, self._waiting))
            for kept in self._kept:
                remaining = [one for one in kept if not _is_about(one[1], name)]
                removed += len(kept) - len(remaining)
                kept.clear()
                kept.extend(remaining)
        return removed

    def counts(self) -> EventCounts:
        """How many events there are, and what became of the others."""
        with self._work:
            self._expire()
            return EventCounts(self._count, self._dropped, self._told, self._failed, sum(map(len, self._kept)))

    def flush(self, timeout: float = CLOSE_S) -> bool:
        """Waits, for at most `timeout` seconds, until everything that happened so far is told; whether it was."""
        return self._idle.wait(timeout)

    def close(self, timeout: float = CLOSE_S) -> None:
        """Tells what waits, within `timeout` seconds, and ends the thread. What comes later is dropped and counted."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._bell.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _start(self) -> None:
        self._leaving = weakref.finalize(self, self._bell.set)
        self._leaving.atexit = False
        self._thread = threading.Thread(
            target=_tell, args=(weakref.ref(self), self._bell), name="penstock-events", daemon=True
        )
        self._thread.start()

    def _turn(self, runner: _Runner) -> float | None:
        """Tells one batch. Returns seconds to rest before the next, 0 where nothing is left, None at the end."""
        for _ in range(self._batch):
            with self._work:
                with self._lock:
                    seen = self._next()
                    if seen is None:
                        return None if self._closed else 0.0
                self._told += 1
                event = self._event(seen)
                self._keep_it(seen, event)
            self._tell(event, runner)
        return 0.001 if self._closed else self._turn_s

    def _next(self) -> _Seen | None:
        """The oldest of the gravest. Held: the lock."""
        for queue in reversed(self._waiting):
            if queue:
                self._count -= 1
                seen: _Seen = queue.popleft()
                return seen
        self._bell.clear()
        self._idle.set()
        return None

    def _event(self, seen: _Seen) -> Event:
        def clean(text: str, most: int = TEXT_MOST) -> str:
            if bare and bare in text:
                text = text.replace(seen.address, address).replace(bare, address)
            return printable(text, most)

        address = pseudonym(self.secret, seen.address) if seen.address else ""
        bare = seen.address.removeprefix("ip:")
        evidence = tuple(
            one._replace(
                detector=clean(one.detector, WORD_MOST),
                detail=clean(one.detail),
                key=f"ip:{address}" if address and one.key in (seen.address, f"ip:{bare}") else self._key(one.key),
                findings=one.findings[:EVIDENCE_MOST],
            )
            for one in seen.evidence
        )
        return Event(
            seen.wall_ns / NS,
            printable(seen.kind, WORD_MOST),
            seen.severity,
            address,
            seen.action,
            evidence,
            clean(seen.request, WORD_MOST),
            clean(seen.method, WORD_MOST),
            clean(seen.path),
        )

    def _key(self, key: str) -> str:
        """ "ip:192.0.2.1" with the pseudonym of what follows the colon."""
        kind, colon, value = key.partition(":")
        return f"{printable(kind, WORD_MOST)}:{pseudonym(self.secret, value)}" if colon else printable(key, WORD_MOST)

    def _keep_it(self, seen: _Seen, event: Event) -> None:
        """Held: the work."""
        if self._retention_ns == 0:
            return
        self._kept[event.severity - 1].append((seen.now_ns, event))
        if sum(map(len, self._kept)) > self._keep:
            next(queue for queue in self._kept if queue).popleft()
        self._expire()

    def _expire(self) -> None:
        oldest = self._clock.now_ns() - self._retention_ns
        for queue in self._kept:
            while queue and queue[0][0] < oldest:
                queue.popleft()

    def _tell(self, event: Event, runner: _Runner) -> None:
        try:
            level = _LEVELS[event.severity]
            if log.isEnabledFor(level):
                log.log(level, "%s: %s", event.kind, _words(event), extra={"guard": _plain(event)})
            if self._on_event is not None:
                result = self._on_event(event)
                if inspect.isawaitable(result):
                    runner.run(result)
        except _FAILURES as error:  # of a callback or a log's handler; the next event is told all the same
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failed += 1
        kind = type(error).__name__
        if kind not in self._failures and len(self._failures) < 100:
            self._failures.add(kind)
            log.error("events: telling one raised %s (logged once for each kind of exception)", kind)


class _Seen(NamedTuple):
    """What the request's thread leaves for the other; texts cut, the address in clear."""

    wall_ns: int
    now_ns: int
    kind: str
    severity: Severity
    address: str
    action: Action
    evidence: tuple[Evidence, ...]
    request: str
    method: str
    path: str


class _Runner:
    """An event loop for callbacks that are coroutines, made with the first of them."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, result: Awaitable[Any]) -> None:
        async def within() -> None:
            await asyncio.wait_for(result, CALLBACK_S)

        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(within())

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


def _tell(reference: weakref.ref[Events], bell: threading.Event) -> None:
    """The thread: holds its Events only while there is something to tell, so that a forgotten one can be collected."""
    runner, rest = _Runner(), 0.0
    try:
        while True:
            if rest:
                time.sleep(rest)
            else:
                bell.wait()
            events = reference()
            if events is None:
                return
            try:
                turn = events._turn(runner)
            except Exception as error:  # evidence of a detector's that is none
                turn = events._turn_s
                events._fail(error)
            if turn is None:
                return
            rest = turn
            del events
    finally:
        runner.close()


def _cut(one: Evidence) -> Evidence:
    """The same in bounded memory."""
    return one._replace(detector=one.detector[:_CUT], detail=one.detail[:_CUT], key=one.key[:_CUT])


def _words(event: Event) -> str:
    """One line about it."""
    why = "; ".join(f"{one.detector}: {one.detail}" if one.detail else one.detector for one in event.evidence)
    who = f"from {event.address}" if event.address else ""
    about = " ".join(part for part in (event.method, event.path, who) if part)
    return f"{event.action} {about} ({why})" if why else f"{event.action} {about}"


def _plain(event: Event) -> dict[str, Any]:
    """For handlers that write JSON: no types of ours in it."""
    evidence = [
        {
            "detector": one.detector,
            "severity": one.severity.name,
            "detail": one.detail,
            "value": one.value,
            "limit": one.limit,
            "key": one.key,
            "technique": None if one.technique is None else str(one.technique),
        }
        for one in event.evidence
    ]
    return {**event._asdict(), "severity": event.severity.name, "action": str(event.action), "evidence": evidence}


def _is_about(event: Event, name: str) -> bool:
    return event.address == name or any(one.key.partition(":")[2] == name for one in event.evidence)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 1 <= value <= 1 << 20:
        raise ValueError(f"{name}={shown(value)} must be from 1 to 1048576 events")
    return value


_all: weakref.WeakSet[Events] = weakref.WeakSet()


def _after_fork() -> None:
    for events in list(_all):
        events._begin()


@atexit.register
def _close_all() -> None:
    """At the end of the process, what waits is told; together within the time of one."""
    end = SystemClock().now_ns() + round(CLOSE_S * NS)
    for events in list(_all):
        events.close(max(0.0, (end - SystemClock().now_ns()) / NS))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
