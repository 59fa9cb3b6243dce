"""Outgoing calls: a turn for each key, and no call to a host before the time that its Retry-After named."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from penstock.clock import NS, seconds_to_ns
from penstock.errors import RateLimited
from penstock.limiter import Key, Limiter
from penstock.rate import Limit

PAUSES_MOST = 4096
"""Keys whose Retry-After is remembered; of more, those told longest ago are forgotten."""

VALUE_MOST = 64
"""Characters of a Retry-After or Date that can be meant."""


def retry_after(value: str | None, date: str | None, most: float) -> float | None:
    """Seconds that a Retry-After asks to wait, 0 to `most`; None for one that is missing or cannot be read.

    value: whole seconds or an HTTP date (RFC 9110, section 10.2.3); date: the response's Date, by which a date is
    reckoned, so that the clocks need not agree. Without one, the system's clock.
    """
    if value is None or len(value) > VALUE_MOST or not value.isascii():
        return None
    value = value.strip()
    if value.isdigit():
        return min(float(value), most)
    until = _http_date(value)
    if until is None:
        return None
    now = None if date is None or len(date) > VALUE_MOST else _http_date(date)
    if now is None:
        now = time.time()
    return min(max(0.0, until - now), most)


def _http_date(text: str) -> float | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return (parsed - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


class Outgoing:
    """What the transports and adapters of all HTTP clients do around a call.

    limiter: a Limiter, or the limits of one that is made here; not Concurrency, which nothing would give back. wait:
    seconds that a call may wait for its turn, None without end; RateLimited is raised when it is not enough, as soon as
    that is known. retry_after_most: no longer than that, in seconds, is a host waited for.
    """

    def __init__(self, limiter: Limiter | str | Limit, wait: float | None, retry_after_most: float) -> None:
        if wait is not None:
            seconds_to_ns("wait", wait)
        seconds_to_ns("retry_after_most", retry_after_most)
        self.limiter = limiter if isinstance(limiter, Limiter) else Limiter(limiter)
        if self.limiter._holds():
            raise ValueError(f"{self.limiter!r}: a Concurrency limit has to be given back; use hold() around the call")
        self._wait = wait
        self._most = retry_after_most
        self._lock = threading.Lock()
        self._pauses: OrderedDict[int, int] = OrderedDict()  # fingerprint -> until when, by the limiter's clock in ns

    def before(self, key: Key) -> None:
        """Waits for the turn of a call, or raises RateLimited."""
        ends = self._ends()
        while True:
            self._check_pause(key, ends)
            if pause := self.pause(key):
                time.sleep(pause)
            elif self.limiter.acquire(key, timeout=self._left(ends)):
                if not self.pause(key):
                    return
                self.limiter.refund(key)  # the host has asked to wait meanwhile
            else:
                raise RateLimited(self.limiter.peek(key)._replace(allowed=False))

    async def before_async(self, key: Key) -> None:
        """`before` in asyncio."""
        ends = self._ends()
        while True:
            self._check_pause(key, ends)
            if pause := self.pause(key):
                await asyncio.sleep(pause)
            elif await self.limiter.acquire_async(key, timeout=self._left(ends)):
                if not self.pause(key):
                    return
                self.limiter.refund(key)
            else:
                raise RateLimited(self.limiter.peek(key)._replace(allowed=False))

    def after(self, key: Key, status: int, value: str | None, date: str | None) -> None:
        """Remembers what a response says; value, date: its Retry-After and Date. Only refusals count: 429 and 503."""
        if status not in (429, 503):
            return
        seconds = retry_after(value, date, self._most)
        if not seconds:
            return
        fingerprint, until = self.limiter.fingerprint(key), self.limiter.now_ns() + math.ceil(seconds * NS)
        with self._lock:
            self._pauses[fingerprint] = max(until, self._pauses.pop(fingerprint, 0))
            if len(self._pauses) > PAUSES_MOST:
                self._pauses.popitem(last=False)

    def pause(self, key: Key) -> float:
        """Seconds until the key's host may be asked again, 0 for at once."""
        if not self._pauses:
            return 0.0
        fingerprint = self.limiter.fingerprint(key)
        with self._lock:
            left = self._pauses.get(fingerprint, 0) - self.limiter.now_ns()
            if left <= 0:
                self._pauses.pop(fingerprint, None)
                return 0.0
        return left / NS

    def _ends(self) -> float | None:
        return None if self._wait is None else time.monotonic() + self._wait

    @staticmethod
    def _left(ends: float | None) -> float | None:
        return None if ends is None else max(0.0, ends - time.monotonic())

    def _check_pause(self, key: Key, ends: float | None) -> None:
        pause, left = self.pause(key), self._left(ends)
        if left is not None and pause > left:
            decision = self.limiter.peek(key)
            raise RateLimited(decision._replace(allowed=False, retry_after=max(pause, decision.retry_after)))
