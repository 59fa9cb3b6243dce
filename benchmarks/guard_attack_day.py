"""An attack day: attacks and ordinary visitors at once, against a real server with the guard in front.

    python benchmarks/guard_attack_day.py            # half a minute; a table of who was stopped after how much
    python benchmarks/guard_attack_day.py --seconds 8

Everything goes through real HTTP on one machine; who asks is told by X-Forwarded-For, from a proxy that the guard
trusts. Attackers go on after their first refusal, as real ones do. What is printed are counts, not times: they hold for
any machine that can send this much.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import logging
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock.guard.asgi import GuardMiddleware
from penstock.guard.guard import Guard

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148",
)
SIGNED_IN = "sid"
PASSWORD = "right"

CONFIG: dict[str, Any] = {"preset": "web", "bypass": {"action": "ban"}, "secret": b"the same for each run"}
"""The preset for sites, but that a session used from too many networks is banned, where the preset only tells of it."""


async def shop(scope: Any, receive: Any, send: Any) -> None:
    """The application: pages, a search, files, and a login that knows one password."""
    path, status = scope["path"], 200
    if path == "/login":
        body = (await receive()).get("body", b"")
        status = 200 if PASSWORD.encode() in body else 401
    elif not path.startswith(("/page/", "/file/", "/search", "/account", "/api/")) and path not in ("/", "/robots.txt"):
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def session_of(scope: Any) -> str | None:
    """The session in the request's cookie."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            found: str = value.decode("latin-1").partition(f"{SIGNED_IN}=")[2].partition(";")[0]
            return found or None
    return None


def serve(listening: socket.socket) -> None:
    """Serves the shop behind a guard, by uvicorn or else hypercorn, until the process is ended."""
    logging.disable()  # what the guard has to tell is not for this table
    with Guard(CONFIG) as guard:
        app = GuardMiddleware(shop, guard, trusted=["127.0.0.0/8"], session=session_of)
        if importlib.util.find_spec("uvicorn") is not None:
            uvicorn = importlib.import_module("uvicorn")
            settings = uvicorn.Config(app, ws="none", lifespan="off", log_level="error", proxy_headers=False)
            uvicorn.Server(settings).run(sockets=[listening])
        else:
            settings = importlib.import_module("hypercorn.config").Config()
            settings.bind, settings.loglevel = [f"fd://{listening.fileno()}"], "ERROR"
            asyncio.run(importlib.import_module("hypercorn.asyncio").serve(app, settings))


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """The shop in a process of its own; its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(512)
        port: int = listening.getsockname()[1]
        command = [sys.executable, __file__, "--serve", str(listening.fileno())]
        server = subprocess.Popen(command, pass_fds=[listening.fileno()])
    try:
        yield port
    finally:
        server.terminate()
        server.wait(30)


@dataclass(slots=True)
class Actor:
    """One who sends. answers: how often each status came; first: the place of the first refusal among its requests;
    after: requests that were let through later than that."""

    role: str
    sent: int = 0
    first: int | None = None
    after: int = 0
    answers: Counter[int] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return self.answers[403] + self.answers[429] + self.answers[503]


class Line:
    """A connection that is kept, and one request on it at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, actor: Actor, address: str, request: str, agent: str = BROWSERS[0], **more: Any) -> int:
        """The status of an answer. more: cookie, body, bare (no headers that browsers send)."""
        body: str = more.get("body", "")
        lines = [f"{request} HTTP/1.1", "Host: shop.example", f"Content-Length: {len(body)}"]
        lines.append(f"X-Forwarded-For: {address}")
        if agent:
            lines.append(f"User-Agent: {agent}")
        if not more.get("bare"):
            lines += ["Accept: text/html,*/*;q=0.8", "Accept-Language: en-GB,en;q=0.5", "Accept-Encoding: gzip, br"]
        if "cookie" in more:
            lines.append(f"Cookie: {SIGNED_IN}={more['cookie']}")
        head = await self._head("\r\n".join([*lines, "", body]).encode())
        length = next(int(one[15:]) for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:"))
        await self._reader.readexactly(length)
        status = int(head[9:12])
        actor.sent += 1
        actor.answers[status] += 1
        if status in (403, 429, 503):
            actor.first = actor.first or actor.sent
        elif actor.first is not None:
            actor.after += 1
        return status

    async def _head(self, request: bytes) -> bytes:
        """The head of the answer. Servers end what was quiet for a while or has asked for much: then on a new one."""
        if self._writer is not None:
            self._writer.write(request)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                return await self._reader.readuntil(b"\r\n\r\n")
            self.close()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(request)
        return await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@dataclass(slots=True)
class Day:
    """How long it lasts, and all who take part."""

    port: int
    seconds: float
    chance: random.Random
    actors: list[Actor] = field(default_factory=list)

    def actor(self, role: str) -> Actor:
        self.actors.append(Actor(role))
        return self.actors[-1]

    async def turns(self, every: float, jitter: float = 0.3) -> AsyncIterator[int]:
        """One turn about every so many seconds, until the day ends."""
        end = time.monotonic() + self.seconds
        await asyncio.sleep(self.chance.random() * min(every, 2.0))
        for turn in itertools.count():
            if time.monotonic() >= end:
                return
            yield turn
            await asyncio.sleep(every * (1 + self.chance.uniform(-jitter, jitter)))


async def visitor(day: Day, line: Line, address: str, number: int) -> None:
    """Reads a page and its files, thinks, signs in; asks for an icon that is not there. One in four mistypes once."""
    actor = day.actor("visitor")
    who: dict[str, Any] = {"agent": BROWSERS[number % len(BROWSERS)], "cookie": f"visitor{number}"}
    async for turn in day.turns(5.0):
        await line.ask(actor, address, f"GET /page/{day.chance.randrange(200)}", **who)
        for part in range(3):
            await line.ask(actor, address, f"GET /file/{part}.css", **who)
        if turn == 0:
            await line.ask(actor, address, "GET /favicon.ico", **who)
            if number % 4 == 0:
                await line.ask(actor, address, "POST /login", body="password=rigth", **who)
            await line.ask(actor, address, "POST /login", body=f"password={PASSWORD}", **who)
        if turn % 2 == 1:
            await line.ask(actor, address, "GET /search?q=rock%20%26%20roll%20--%20it%27s%20union%20select", **who)


async def client(day: Day, line: Line, address: str) -> None:
    """A program of a customer: no browser, no session, the same call twice a second."""
    actor = day.actor("API client")
    async for turn in day.turns(0.5, 0.05):
        await line.ask(actor, address, f"GET /api/orders?page={turn % 5}", "python-requests/2.32", bare=True)


async def crawler(day: Day, line: Line, address: str) -> None:
    """A search engine that asks what it may and finds old links."""
    actor = day.actor("crawler")
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    async for turn in day.turns(1.0):
        target = "/robots.txt" if turn == 0 else f"/old/{turn}" if turn % 7 == 6 else f"/page/{turn}"
        await line.ask(actor, address, f"GET {target}", agent, bare=True)


async def flood(day: Day, lines: list[Line], address: str) -> None:
    """As fast as its connections go, a few pages."""
    actor = day.actor("flood")

    async def one(line: Line) -> None:
        async for turn in day.turns(0.0):
            await line.ask(actor, address, f"GET /page/{turn % 3}")

    await asyncio.gather(*map(one, lines))


async def rotation(day: Day, line: Line) -> None:
    """One stolen session, slowly, from another network each time."""
    actor = day.actor("slow rotation")
    async for turn in day.turns(0.5):
        address = f"{100 + turn % 90}.64.{turn % 250}.{1 + turn % 200}"
        await line.ask(actor, address, f"GET /account/{turn}", cookie="stolen")


async def stuffing(day: Day, line: Line, address: str) -> None:
    """Passwords that leaked elsewhere, three a second."""
    actor = day.actor("credential stuffing")
    async for turn in day.turns(0.33):
        await line.ask(actor, address, "POST /login", BROWSERS[1], body=f"user=u{turn}&password=leaked{turn}")


WANTED = (
    "/.env", "/.git/HEAD", "/backup.sql", "/wp-config.php.bak", "/phpinfo.php", "/.aws/credentials",
    "/admin/config.php", "/server-status", "/.htpasswd", "/db.sqlite", "/old.zip", "/test.php", "/shell.php",
    "/console", "/.svn/entries", "/.DS_Store",
)  # fmt: skip


async def scanner(day: Day, line: Line, address: str) -> None:
    """What should not be there, one after the other, in a browser's name."""
    actor = day.actor("scanner")
    async for turn in day.turns(0.1):
        await line.ask(actor, address, f"GET {WANTED[turn % len(WANTED)]}{'~' * (turn // len(WANTED))}", BROWSERS[2])


INJECTED = (
    "1%27%20UNION%20SELECT%20password%20FROM%20users--",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "../../../etc/passwd",
)


async def injection(day: Day, line: Line, address: str) -> None:
    """Injections into a search, in turn with pages that anybody reads."""
    actor = day.actor("injection")
    async for turn in day.turns(0.2):
        target = f"/search?q={INJECTED[turn // 2 % len(INJECTED)]}" if turn % 2 else f"/page/{turn}"
        await line.ask(actor, address, f"GET {target}", BROWSERS[0])


BENIGN = ("visitor", "API client", "crawler")
ATTACKS = ("flood", "slow rotation", "credential stuffing", "scanner", "injection")


async def play(port: int, seconds: float, visitors: int = 24, attackers: int = 2) -> list[Actor]:
    """The day. visitors: each with an address of his own, but for a third of them, who share one office's; attackers:
    of each kind."""
    day = Day(port, seconds, random.Random(7))
    lines: list[Line] = []

    def line() -> Line:
        lines.append(Line(port))
        return lines[-1]

    roles = [
        visitor(day, line(), "198.51.100.200" if number % 3 == 0 else f"198.51.100.{1 + number}", number)
        for number in range(visitors)
    ]
    roles += [client(day, line(), "192.0.2.10"), crawler(day, line(), "192.0.2.20")]
    for number in range(attackers):
        # The first two bytes differ: each is of another network.
        roles += [
            flood(day, [line() for _ in range(4)], f"203.0.113.{1 + number}"),
            stuffing(day, line(), f"45.77.{number}.5"),
            scanner(day, line(), f"2001:db8:{number}:5::1"),
            injection(day, line(), f"91.200.{number}.7"),
        ]
    roles.append(rotation(day, line()))
    try:
        await asyncio.gather(*roles)
    finally:
        for one in lines:
            one.close()
    return day.actors


def table(actors: list[Actor]) -> str:
    """Who was stopped after how much, and who was left alone, as a table in Markdown."""
    rows = ["| attack | attackers | sent | refused | let through before the first refusal | later |"]
    rows.append("|---|--:|--:|--:|--:|--:|")
    for role in ATTACKS:
        group = [one for one in actors if one.role == role]
        before = [one.sent if one.first is None else one.first - 1 for one in group]
        through = f"{min(before)} to {max(before)}" if min(before) != max(before) else str(before[0])
        sent, refused, after = (sum(getattr(one, name) for one in group) for name in ("sent", "refused", "after"))
        rows.append(f"| {role} | {len(group)} | {sent:,} | {refused:,} | {through} | {after:,} |")
    rows += ["", "| visitors | of them | requests | refused | untouched |", "|---|--:|--:|--:|--:|"]
    for role in BENIGN:
        group = [one for one in actors if one.role == role]
        sent, refused = sum(one.sent for one in group), sum(one.refused for one in group)
        untouched = sum(not one.refused for one in group)
        rows.append(f"| {role} | {len(group)} | {sent:,} | {refused:,} | {untouched} of {len(group)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="(default: %(default)s)")
    parser.add_argument("--visitors", type=int, default=24, help="(default: %(default)s)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        with socket.socket(fileno=args.serve) as listening:
            serve(listening)
        return 0
    with serving() as port:
        print(table(asyncio.run(play(port, args.seconds, args.visitors))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
