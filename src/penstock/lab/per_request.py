"""A rival: one script call for every request, exact and never ahead of Redis; each decision waits for the network."""

from __future__ import annotations

import time
from typing import Any

from penstock.lab.server import client_of
from penstock.lab.settings import Settings
from penstock.rate import SlidingWindow

TIMEOUT_S, REST_S = 0.05, 1.0
"""How long a decision waits for Redis at most; and how long Redis is not asked after one that waited in vain."""

BUCKET = """
-- One token bucket, one request (GCRA). KEYS[1]: its TAT, us. ARGV: us per token, burst. Returns 1 when admitted.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tau, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + tau
if tat - now > burst * tau then
  return 0
end
redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', math.ceil((tat - now) / 1000) + 2000)
return 1
"""

READ_WINDOW = """
-- KEYS[1]: hash of a window's number n, its count c, and the count p of the one before. ARGV[1]: its width, us.
local time = redis.call('TIME')
local now, width = time[1] * 1000000 + time[2], tonumber(ARGV[1])
local number = math.floor(now / width)
local stored = redis.call('HMGET', KEYS[1], 'n', 'c', 'p')
local cur, prev, of = 0, 0, tonumber(stored[1] or -2)
if of == number then
  cur, prev = tonumber(stored[2]), tonumber(stored[3])
elseif of == number - 1 then
  prev = tonumber(stored[2])
end
"""

WINDOW = f"""{READ_WINDOW}
-- One window, one request. ARGV: width in us, limit, 1 when the window before counts for the part of it that is not
-- over. Returns 1 when admitted.
local limit, sliding = tonumber(ARGV[2]), tonumber(ARGV[3])
if cur + 1 + sliding * prev * (1 - (now / width - number)) > limit then
  return 0
end
redis.call('HSET', KEYS[1], 'n', number, 'c', cur + 1, 'p', prev)
redis.call('PEXPIRE', KEYS[1], math.ceil(2 * width / 1000) + 2000)
return 1
"""


def script_arguments(settings: Settings) -> list[float]:
    """What the scripts are told of the limit."""
    if settings.window_s is None:
        return [1e6 / settings.rate, settings.burst]
    return [settings.window_s * 1e6, settings.burst, int(isinstance(settings.rule, SlidingWindow))]


class PerRequest:
    """One instance. While Redis is away it admits all in mode "open", and else nothing."""

    def __init__(self, settings: Settings, url: str, name: str) -> None:
        import redis

        self._away = (redis.RedisError, OSError)
        self._client: Any = client_of(url, TIMEOUT_S)
        self._script = BUCKET if settings.window_s is None else WINDOW
        self._sha = ""
        self._key = f"{name}:each"
        self._arguments = script_arguments(settings)
        self._open = settings.mode == "open"
        self._again_at = 0.0

    def ready(self) -> None:
        """Loads the script."""
        self._sha = self._client.script_load(self._script)

    def hit(self) -> bool:
        """Asks Redis, unless it did not answer a moment ago."""
        if self._again_at and time.monotonic() < self._again_at:
            return self._open
        try:
            admitted = bool(self._client.evalsha(self._sha, 1, self._key, *self._arguments))
        except self._away:
            self._again_at = time.monotonic() + REST_S
            return self._open
        self._again_at = 0.0
        return admitted

    def facts(self) -> dict[str, Any]:
        """Nothing beside its decisions."""
        return {}

    def close(self) -> None:
        """Disconnects."""
        self._client.close()
