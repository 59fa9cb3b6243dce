"""What the guard's middleware adds to a request: processor time over the bare application, beside fastapi-guard.

    pip install fastapi fastapi-guard            # without them their rows are left out
    python benchmarks/guard_middleware.py

A short GET of an ordinary browser, each time of the next of a thousand clients, which nothing refuses; applications
are called in this process, without a server or a network. The least of all rounds is shown: what the work costs when
nothing disturbs it. fastapi-guard stands on FastAPI, so its cost is over that.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import sys
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

from penstock.guard.asgi import GuardMiddleware
from penstock.guard.guard import Guard

CLIENTS = [f"203.0.{number // 256}.{number % 256}" for number in range(1000)]
HEADERS = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"cookie", b"sid=4f2a9c1e77d0"),
    (b"referer", b"https://shop.example/page/7"),
    (b"connection", b"keep-alive"),
]
CALLS, ROUNDS = 200, 60

OFF = {"limits": False, "ddos": False, "addresses": False, "bypass": False, "threats": False}
QUIET = {"limits": {"everyone": None, "user": "1000/second", "address": "1000/second"}}
WEB: dict[str, Any] = {"preset": "web", **QUIET, "ddos": {"per_second": 4000, "per_minute": 16_000, "emergency": 0}}

CONFIGS: dict[str, dict[str, Any]] = {
    "nothing on": {"preset": "web", **OFF},
    "limits": {"preset": "web", **OFF, **QUIET},
    "addresses": {"preset": "web", **OFF, "addresses": True},
    "DDoS": {"preset": "web", **OFF, "ddos": WEB["ddos"]},
    "bypass": {"preset": "web", **OFF, "bypass": True},
    "threats, without scanning": {"preset": "web", **OFF, "threats": {"scan": False}},
    "all of `web`, without scanning": WEB | {"threats": {"scan": False}},
    "all of `web`": WEB,
}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """The least that is an application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    return None


def _scope(client: str) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/page/7", "raw_path": b"/page/7", "root_path": "", "query_string": b"sort=price&page=2",
        "headers": HEADERS, "client": (client, 4711), "server": ("bench", 80), "state": {},
    }  # fmt: skip


def calling(app: Any) -> Callable[[int], None]:
    """Calls an application that never waits so many times, without a loop, which would cost more than it does."""
    clients = cycle(CLIENTS)

    async def some(count: int) -> None:
        for _ in range(count):
            await app(_scope(next(clients)), _receive, _send)

    def without_loop(count: int) -> None:
        try:
            some(count).send(None)
        except StopIteration:
            return
        raise RuntimeError("the application waits for something")

    return without_loop


def in_loop(app: Any, loop: asyncio.AbstractEventLoop) -> Callable[[int], None]:
    """The same for an application that needs a running loop."""
    clients = cycle(CLIENTS)

    async def some(count: int) -> None:
        for _ in range(count):
            await app(_scope(next(clients)), _receive, _send)

    return lambda count: loop.run_until_complete(some(count))


def fastapi_rows(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], None]]:
    """FastAPI alone, and with fastapi-guard; empty where they are not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "guard")):
        return {}
    fastapi, guard = importlib.import_module("fastapi"), importlib.import_module("guard")

    def application(**settings: Any) -> Any:
        app = fastapi.FastAPI()

        @app.get("/page/{number}")
        async def page(number: int) -> Any:
            return fastapi.Response(b"hello")

        if settings:
            config = guard.SecurityConfig(
                enable_redis=False, rate_limit=10**9, enforce_https=False, passive_mode=False, **settings
            )
            app.add_middleware(guard.SecurityMiddleware, config=config)
        return app

    return {
        "FastAPI": in_loop(application(), loop),
        "FastAPI, fastapi-guard without detection": in_loop(application(enable_penetration_detection=False), loop),
        "FastAPI, fastapi-guard": in_loop(application(enable_penetration_detection=True), loop),
        "FastAPI, all of `web`": in_loop(GuardMiddleware(application(), Guard(WEB)), loop),
    }


def least(call: Callable[[int], None], calls: int) -> float:
    """Microseconds of processor time for one call of the best round so far."""
    start = time.process_time_ns()
    call(calls)
    return (time.process_time_ns() - start) / calls / 1000


def measure(rounds: int) -> dict[str, float]:
    """The least of all rounds for each row, in microseconds; all are measured in turns."""
    loop = asyncio.new_event_loop()
    rows: dict[str, Callable[[int], None]] = {"bare": calling(bare)}
    rows |= {name: calling(GuardMiddleware(bare, Guard(config))) for name, config in CONFIGS.items()}
    rows |= fastapi_rows(loop)
    found: dict[str, float] = {}
    slow: set[str] = set()
    for turn in range(rounds):
        for name, call in rows.items():
            if name in slow and turn % 20:
                continue
            cost = least(call, 3 if name in slow else CALLS if turn else 3)
            if turn == 0 and cost > 3000:
                slow.add(name)
            if turn:
                found[name] = min(cost, found.get(name, cost))
    loop.close()
    return found


def table(found: dict[str, float]) -> str:
    """As Markdown; each row's cost is over its own bare application."""
    lines = ["| application | µs a request | over the bare one |", "|---|--:|--:|"]
    for name, cost in found.items():
        base = found["FastAPI"] if name.startswith("FastAPI") else found["bare"]
        over = "" if cost == base else f"{cost - base:,.2f}"
        lines.append(f"| {name} | {cost:,.2f} | {over} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="(default: %(default)s)")
    args = parser.parse_args()
    logging.disable()
    print(table(measure(max(2, args.rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
