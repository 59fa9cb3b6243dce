"""A rival: counts locally, pushes what it counted and pulls the total, once an interval; the usual periodic design.

Nothing that was pushed is forgotten: the bucket in Redis may go below empty, which is the best that this design can do.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from penstock.lab.per_request import READ_WINDOW, script_arguments
from penstock.lab.server import client_of
from penstock.lab.settings import Settings

TIMEOUT_S = 1.0

PUSH_BUCKET = """
-- Adds to a token bucket what was used. KEYS[1]: its TAT, us. ARGV: us per token, burst, units. Returns the level.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tau, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + tonumber(ARGV[3]) * tau
redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 2000)
return string.format('%.6f', burst - (tat - now) / tau)
"""

PUSH_WINDOW = f"""{READ_WINDOW}
-- Adds to a window what was used. ARGV: width in us, limit and sliding (not needed here), units. Returns both counts,
-- and how many us of the window are over.
cur = cur + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'n', number, 'c', cur, 'p', prev)
redis.call('PEXPIRE', KEYS[1], math.ceil(2 * width / 1000) + 2000)
return {{cur, prev, math.floor(now - number * width)}}
"""


class View(Protocol):
    """What was pulled last, and what was admitted here since."""

    def room(self, now: float) -> float: ...
    def learn(self, answer: Any, now: float) -> None: ...


class BucketView:
    """A level that rises with time."""

    def __init__(self, settings: Settings) -> None:
        self._rate, self._burst = settings.rate, float(settings.burst)
        self._level, self._at = self._burst, 0.0

    def room(self, now: float) -> float:
        return min(self._burst, self._level + self._rate * (now - self._at))

    def learn(self, answer: Any, now: float) -> None:
        self._level, self._at = float(answer), now


class WindowView:
    """Counts of the window and of the one before it; windows turn by the time that was pulled with them."""

    def __init__(self, settings: Settings) -> None:
        self._width, self._limit, self._sliding = (float(word) for word in script_arguments(settings))
        self._cur, self._prev, self._start = 0.0, 0.0, 0.0

    def room(self, now: float) -> float:
        passed = (now - self._start) * 1e6 / self._width
        cur, prev = self._cur, self._prev
        if passed >= 1:
            cur, prev = 0.0, cur if passed < 2 else 0.0
        return self._limit - cur - self._sliding * prev * (1 - passed % 1)

    def learn(self, answer: Any, now: float) -> None:
        self._cur, self._prev = float(answer[0]), float(answer[1])
        self._start = now - float(answer[2]) / 1e6


class DeltaPush:
    """One instance. While Redis is away it decides on what it knew, or admits all ("open"), or nothing ("closed")."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        import redis

        self._errors = (redis.RedisError, OSError)
        self._client: Any = client_of(url, TIMEOUT_S)
        bucket = settings.window_s is None
        self._script = PUSH_BUCKET if bucket else PUSH_WINDOW
        self._view: View = BucketView(settings) if bucket else WindowView(settings)
        self._sha = ""
        self._key = f"{name}:push"
        self._arguments = script_arguments(settings)
        self._every, self._mode = settings.every, settings.mode
        self._own = 0
        self._away = False
        self._pushes = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def ready(self) -> None:
        """Loads the script, and pulls for the first time."""
        self._sha = self._client.script_load(self._script)
        self._push()
        self._thread.start()

    def hit(self) -> bool:
        """Decides on what was pulled and what was admitted here since."""
        if self._away and self._mode != "share":
            return self._mode == "open"
        now = time.monotonic()
        with self._lock:
            if self._view.room(now) - self._own < 1:
                return False
            self._own += 1
            return True

    def facts(self) -> dict[str, Any]:
        """How often it pushed."""
        return {"batches": self._pushes}

    def close(self) -> None:
        """Pushes what is left."""
        self._ended.set()
        self._thread.join(2 * TIMEOUT_S)
        self._client.close()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._push()

    def _push(self) -> None:
        with self._lock:
            told = self._own
        try:
            answer = self._client.evalsha(self._sha, 1, self._key, *self._arguments, told)
        except self._errors:
            self._away = True  # what was told is told again, applied or not: there is no knowing
            return
        self._away = False
        self._pushes += 1
        with self._lock:
            self._view.learn(answer, time.monotonic())
            self._own -= told
