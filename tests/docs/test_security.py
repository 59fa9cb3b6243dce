"""docs/security.md: every test it names is there; what it says of a hostile Redis and of scanning's bounds is so."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import random
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from engines import SECRET, engine_of, manual_clock

import penstock
from penstock.policy import compile_shared
from penstock.rate import Concurrency, FixedWindow, Limit, SlidingWindow, TokenBucket
from penstock.sync.wire import ANSWER, DUP, ENTRY_BYTES, OK, REPLY, VERSION, WireError, check_grants, unpack_reply

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"^\| (T\d+) \| `([\w/]+\.py)::(\w+)` \|$", PAGE, re.MULTILINE)
native = pytest.mark.skipif(not penstock.native, reason="of the compiled modules")


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 50
    assert len(NAMED) == PAGE.count("::"), "each with its file"
    for _, file, test in NAMED:
        assert re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), (file, test)
    labels = [label for label, _, _ in NAMED]
    assert labels == [f"T{number}" for number in range(1, len(labels) + 1)]
    assert set(re.findall(r"\[(T\d+)\]\(#the-tests\)", PAGE)) == set(labels)


# ---- Redis in hostile hands ----

ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, 2.0**64, -(2.0**64), 5e-324, 2.0**53, -1.0, 1.0, 100.0)
FINITE = tuple(filter(math.isfinite, ODD))
UNITS_MOST = 2**20
"""Above what any answer can make an instance believe that it has."""


@pytest.mark.parametrize(
    "limit", [TokenBucket(100), SlidingWindow(100, 1), FixedWindow(100, 1), Concurrency(100)], ids=repr
)
def test_odd_numbers_of_a_redis_do_no_harm(backend: str, limit: Limit) -> None:
    """Answers of the right shape: each is refused, or there are decisions after it as after any other."""
    draw, heard, refused = random.Random(1), 0, 0
    for _ in range(60):
        clock = manual_clock()
        engine = engine_of(backend)(
            compile_shared([[limit]], 50_000_000, 0.5), {None: 0}, capacity=64, evict=True, secret=SECRET, clock=clock,
            remember=False,
        )  # fmt: skip
        engine.share(4, (0,))
        for _ in range(10):
            assert {engine.hit("k") for _ in range(20)} <= {True, False}
            decision = engine.check("k")
            assert isinstance(decision.allowed, bool)
            assert 0 <= decision.remaining <= UNITS_MOST
            assert decision.retry_after >= 0
            clock.set_ns(clock.now_ns() + draw.choice((1, 10**6, 5 * 10**7, 5 * 10**9)))
            batch = engine.drain(0, 200, True, {})
            count = len(batch) // (ENTRY_BYTES + 8)
            if not count:
                continue
            numbers, members = draw.choice((ODD, FINITE, FINITE)), draw.choice((0, 1, 2**32 - 1))
            reply = REPLY.pack(draw.choice((OK, DUP)), VERSION, count, members, draw.choice(FINITE))
            for _ in range(count):
                grant = draw.choice((0, 0, 1, 2**32 - 1))
                reply += ANSWER.pack(draw.choice(numbers), draw.choice(numbers), grant, 1.0)
            try:
                check_grants(unpack_reply(reply, count), batch[: count * ENTRY_BYTES])
            except WireError:
                engine.failed(0)
                refused += 1
            else:
                engine.applied(0, reply, clock.now_ns())
                heard += 1
    assert heard
    assert refused


# ---- what gets past the guard ----

ATTACK = "1' union select password from users--"


@native
def test_the_bounds_of_scanning() -> None:
    from penstock.guard import Guard, Request, scan

    def found(value: str) -> bool:
        return bool(scan(value))

    def seen(threats: dict[str, object] | None = None, **facts: object) -> bool:
        with Guard({"threats": {"scan": True, **(threats or {})}}) as guard:
            return not guard.inspect(Request("203.0.113.7", **facts)).allowed  # type: ignore[arg-type]

    long = "a " * 60_000
    assert found(ATTACK + long)
    assert found(long + ATTACK)
    assert not found(long + ATTACK + long)

    layers = list(itertools.accumulate(range(5), lambda value, _: quote(value, safe=""), initial=ATTACK))
    assert [found(value) for value in layers] == [True] * 5 + [False]
    letters = list(
        itertools.accumulate(range(4), lambda value, _: base64.b64encode(value.encode()).decode(), initial=ATTACK)
    )
    assert [found(value) for value in letters] == [True] * 4 + [False]

    filling = [f"p{number}={'a' * 1000}" for number in range(300)]
    assert seen(query="&".join([*filling[:200], f"q={quote(ATTACK)}"]))
    assert not seen(query="&".join([*filling, f"q={quote(ATTACK)}"]))

    assert seen(headers={"referer": ATTACK})
    assert not seen(headers={"x-note": ATTACK})

    body, kind = json.dumps({"q": ATTACK}).encode(), {"content-type": "application/json"}
    assert not seen(method="POST", headers=kind, body=body)
    assert seen({"body": True}, method="POST", headers=kind, body=body)
    late = json.dumps({"p": "a " * 40_000, "q": ATTACK}).encode()
    assert not seen({"body": True}, method="POST", headers=kind, body=late)
    packed = kind | {"content-encoding": "gzip"}
    assert not seen({"body": True}, method="POST", headers=packed, body=gzip.compress(body))
    binary = {"content-type": "application/octet-stream"}
    assert not seen({"body": True}, method="POST", headers=binary, body=ATTACK.encode())
