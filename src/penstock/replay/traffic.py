"""A built-in day of heavy-tailed traffic in the combined format: people, robots and some abusers, from a seed.

Invented, but with the shapes of a real site: few clients send most requests, pages come with their images in bursts,
noon and evening are busy, and five clients misbehave, each in its own way:

    198.51.100.7     a scraper: two pages a second for three hours of the night
    203.0.113.66     guesses passwords: waves of POST /login
    192.0.2.0/24     two hundred addresses that scan together, each of them slowly
    2001:db8:5:5::2  a client that retries twelve times a second for ten minutes
    198.51.100.80    a crawler, all day, a page every eight seconds
"""

from __future__ import annotations

import datetime
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate

NAME = "a built-in day"
SEED = 1
DAY = 1_749_513_600
"""Tuesday 2025-06-10, 00:00 UTC, in seconds since the epoch."""

_CLIENTS = 9_000
_VISITS = 12_000
_PAGES = 400
_LINES_A_BLOCK = 4096
_HOURS = (22, 15, 11, 9, 10, 16, 30, 52, 74, 86, 92, 98, 104, 100, 94, 92, 95, 101, 112, 124, 128, 110, 74, 42)
"""How busy each hour of the day is, at its beginning."""
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1 Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:139.0) Gecko/20100101 Firefox/139.0",
)
_SCRIPTS = ("python-requests/2.32.3", "curl/8.14.1", "Go-http-client/1.1")
_ASSETS = ("/static/app.css", "/static/app.js", "/static/logo.svg", "/api/session", "/api/suggest?q=", "/img/")

Chance = Callable[[], float]
"""A random number in [0, 1); the only kind whose sequence Python promises to keep for a seed."""


_Request = tuple[float, str, str, str]
"""Seconds since the beginning of the day, then the texts before the time (address and user), between the time and the
size (request and status), and behind it: ready to be joined into a line."""


def day_blocks(seed: int = SEED) -> Iterator[bytes]:
    """The day's log, about 200,000 lines in the order of their times, in blocks of whole lines."""
    chance = random.Random(seed).random
    requests = [*_people(chance), *_robots(chance), *_abusers(chance)]
    requests.sort()
    date = datetime.datetime.fromtimestamp(DAY, datetime.UTC).strftime("[%d/Jun/%Y:")
    clocks = [f"{date}{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d} +0000] " for s in range(86_400)]
    lines = [who + clocks[int(at)] + what + agent for at, who, what, agent in requests if 0 <= at < 86_400]
    for i in range(0, len(lines), _LINES_A_BLOCK):
        yield "".join(lines[i : i + _LINES_A_BLOCK]).encode()


def _who(address: str, user: str = "-") -> str:
    return f"{address} - {user} "


def _what(method: str, target: str, status: int, size: int) -> str:
    return f'"{method} {target} HTTP/1.1" {status} {size} "-" '


def _agent(name: str) -> str:
    return f'"{name}"\n'


def _zipf(count: int, exponent: float) -> Callable[[float], int]:
    """From a chance to a rank in 0..count-1: rank r comes up in proportion to 1 / (r + 1) ** exponent."""
    sums = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
    return lambda chance: min(bisect(sums, chance * sums[-1]), count - 1)


def _second_of_day(chance: Chance) -> float:
    """A moment of the day, busy hours more likely."""
    while True:
        hour = chance() * 24
        now, later = _HOURS[int(hour)], _HOURS[(int(hour) + 1) % 24]
        if chance() * max(_HOURS) < now + (later - now) * (hour % 1):
            return hour * 3600


@lru_cache(_CLIENTS)
def _client(rank: int) -> tuple[str, str]:
    """Who it is and what it runs: every third in IPv6, every fourth with a name."""
    agent = _SCRIPTS[rank % len(_SCRIPTS)] if rank % 40 == 11 else _AGENTS[rank * 7 % len(_AGENTS)]
    user = f"user{rank}" if rank % 4 == 2 else "-"
    mixed = rank * 40_503 % 65_536
    if rank % 3 == 1:
        return _who(f"2001:db8:{mixed:x}:{rank % 7 + 1:x}::{rank % 250 + 1:x}", user), _agent(agent)
    return _who(f"198.18.{mixed >> 8}.{mixed & 255}", user), _agent(agent)


def _people(chance: Chance) -> Iterator[_Request]:
    """Visits of a few pages, each with what a browser fetches along with it."""
    rank, page = _zipf(_CLIENTS, 0.85), _zipf(_PAGES, 1.0)
    for _ in range(_VISITS):
        who, agent = _client(rank(chance()))
        at = _second_of_day(chance)
        for _ in range(1 + int(6 * chance() ** 2)):
            number = page(chance())
            yield at, who, _what("GET", f"/page/{number}", 404 if chance() < 0.02 else 200, 2_000 + number * 37), agent
            for i in range(int(12 * chance() ** 2)):
                target = _ASSETS[int(chance() * len(_ASSETS))]
                if target[-1] in "=/":
                    target += str(int(chance() * 500))
                yield at + 0.1 + 0.3 * i * chance(), who, _what("GET", target, 200, 900), agent
            at += 2 + 90 * chance() ** 2


def _robots(chance: Chance) -> Iterator[_Request]:
    """A monitor that looks in every minute, and a crawler."""
    monitor, crawler = _who("198.51.100.20"), _who("198.51.100.80")
    for minute in range(1440):
        yield minute * 60.0 + 7, monitor, _what("GET", "/health", 200, 2), _agent("uptime/1.0")
    agent = _agent("crawler/2.1 (+https://example.com/bot)")
    for i in range(86_400 // 8):
        yield i * 8 + 2 * chance(), crawler, _what("GET", f"/page/{i % _PAGES}", 200, 4_000), agent


def _abusers(chance: Chance) -> Iterator[_Request]:
    script, curl, go = map(_agent, _SCRIPTS)
    who = _who("198.51.100.7")
    for i in range(2 * 3 * 3600):
        at = 2 * 3600 + 600 + i / 2 + chance() / 4
        yield at, who, _what("GET", f"/page/{i % _PAGES}?print=1", 200, 4_000), script
    who, what, agent = _who("203.0.113.66"), _what("POST", "/login", 401, 120), _agent(_AGENTS[0])
    for wave in range(12):
        start = 9 * 3600 + wave * 1_500 + 300 * chance()
        yield from ((start + i / 20, who, what, agent) for i in range(400))
    for i in range(12_000):
        at = 15 * 3600 + i / 5 + chance()
        target = f"/.well-known/{int(chance() * 3_000)}.php"
        yield at, _who(f"192.0.2.{1 + int(chance() * 200)}"), _what("GET", target, 404, 150), go
    who, what = _who("2001:db8:5:5::2", "user77"), _what("GET", "/api/session", 503, 60)
    yield from ((19 * 3600 + 1_234 + i / 12, who, what, curl) for i in range(10 * 60 * 12))
