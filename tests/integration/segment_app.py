"""The application that test_servers_segment.py has servers run: each request is some decisions on two shared limits.

GET /N answers "ADMITTED BY RATE,ADMITTED IN ALL,PROCESS", of N decisions on each of the two limits.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from penstock import FixedWindow, Limiter, TokenBucket

FOLDER = Path(os.environ["SEGMENT_FOLDER"])
RATE = int(os.environ["SEGMENT_RATE"])
TOTAL = int(os.environ["SEGMENT_TOTAL"])


def rate() -> Limiter:
    """So many units a second."""
    return Limiter(TokenBucket(RATE), shared=FOLDER / "rate", capacity=64)


def total() -> Limiter:
    """So many units in all, as far as a test goes."""
    return Limiter(FixedWindow(TOTAL, per=86_400, align="first"), shared=FOLDER / "total", capacity=64)


by_rate, in_all = rate(), total()


def decided(path: str) -> bytes:
    times = int(path.lstrip("/"))
    admitted = [sum(limiter.hit("everybody") for _ in range(times)) for limiter in (by_rate, in_all)]
    return f"{admitted[0]},{admitted[1]},{os.getpid()}".encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For gunicorn."""
    body = decided(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Awaitable[None]]) -> None:
    """For uvicorn."""
    if scope["type"] != "http":
        return
    body = decided(scope["path"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
