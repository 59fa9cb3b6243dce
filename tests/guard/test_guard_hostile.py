"""The whole guard against requests of any content: it never raises, its verdicts are well formed, its work and memory
are bounded."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from visitors import BROWSER, guarding

from penstock.guard import PRESETS, Guard, Request, Response

FUZZ = Path(__file__).parent.parent / "fuzz"
if str(FUZZ) not in sys.path:
    sys.path.append(str(FUZZ))

import guarding as target  # noqa: E402

EVERY = (*sorted(PRESETS), "everything")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(range(len(EVERY))), st.binary(max_size=600))
def test_any_requests_under_every_preset(preset: int, data: bytes) -> None:
    target.guard(bytes([preset]) + data)


TEXTS = {
    "letters": "a",
    "NULs": "\0",
    "surrogates": "\udc80",
    "quotes": "'\"",
    "semicolons": ";=",
    "commas": ", ",
    "ampersands": "&a=",
    "escapes": "%2527",
    "entities": "&#x3c;",
    "brackets": "<(",
    "slashes": "/../",
    "braces": '{"a":[',
    "comments": "/**/",
    "base64": "PHNjcmlwdD4=",
    "wide": "\uff1c\u4e00",
    "astral": "\U0001f600",
}


def hostile(text: str, size: int, mark: str = "") -> Request:
    """A request all of whose fields are `size` characters of a text, with 1,000 headers."""
    filling = mark + (text * (size // len(text) + 1))[:size]
    data = filling.encode("utf-8", "surrogatepass")
    headers: list[tuple[Any, Any]] = [("user-agent", filling), ("cookie", filling), (b"referer", data)]
    headers += [("x-forwarded-for", filling), (b"forwarded", data), ("content-type", "application/json"), ("", filling)]
    headers += [(f"x-{number}", filling[:100]) for number in range(1_000)]
    body = data if size % 2 else b"[" + data
    return Request("203.0.113.7", filling, f"/{filling}", filling, headers, filling, filling, filling, body)


def calls_of(guard: Guard, request: Request) -> int:
    """Calls of functions, Python's and C's, that a request takes from its arrival to its answer."""
    count = 0

    def one(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(one)
    try:
        with guard.flight(request):
            verdict = guard.inspect(request)
            if verdict:
                guard.observe(request, Response(404))
    finally:
        sys.setprofile(before)
    target.check_verdict(verdict)
    return count


@pytest.mark.parametrize("text", TEXTS)
def test_no_request_takes_more_work_than_a_bound(text: str) -> None:
    """128 kB in each field take so many calls, and ten times as much takes hardly more."""
    for preset in ("web", "everything"):
        guard, clock, _ = target.guard_of(preset)
        clock.advance(40 * 86_400)  # nobody is banned, who would be kept out at once
        took = [calls_of(guard, hostile(TEXTS[text], size, mark)) for mark, size in (("a", 1 << 17), ("b", 1_280_001))]
        assert guard.events.flush(10)
        assert took[0] < 100_000
        assert took[1] < took[0] * 1.1 + 2_000


@pytest.mark.parametrize("preset", EVERY)
def test_what_hostile_requests_leave_behind_is_bounded(preset: str) -> None:
    """Other texts, addresses, users, sessions and fingerprints in each of thousands of requests."""
    draw = random.Random(5)

    def visit(guard: Guard, count: int) -> None:
        for number in range(count):
            filling = f"{draw.getrandbits(64):x}" * draw.choice((1, 1, 1, 200))
            address = f"{draw.randrange(1, 250)}.{draw.randrange(250)}.{draw.randrange(250)}.1"
            request = Request(
                address, "GET", f"/{filling}", filling,
                {**BROWSER, "user-agent": filling, "cookie": filling, filling[:60]: "x"}, filling, filling, filling,
            )  # fmt: skip
            with guard.flight(request):
                if guard.inspect(request):
                    guard.observe(request, Response(404 if number % 3 else 200))

    config = target.Config.read(target.EVERYTHING if preset == "everything" else preset).but(clients=64)
    with guarding(config) as (guard, _):
        visit(guard, 300)
        guard.events.flush()
        tracemalloc.start()
        try:
            start = tracemalloc.get_traced_memory()[0]
            visit(guard, 1_500)
            guard.events.flush()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - start
        finally:
            tracemalloc.stop()
        assert guard.status()["health"]["detector_errors"] == {}
    assert grown < 6_000_000  # what is remembered of short texts, at most some thousands of each kind
