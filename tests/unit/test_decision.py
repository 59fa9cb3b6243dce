"""Decision: true when allowed, immutable, and what it tells a client in headers."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from penstock import Decision, Stats, TokenBucket, TopKey

ALLOWED = Decision(True, 5, 4, 0.0, 12.0, 0)
REFUSED = Decision(False, 5, 0, 0.25, 60.0, 1)


def test_true_when_allowed() -> None:
    assert ALLOWED
    assert not REFUSED
    assert bool(ALLOWED) is True
    assert bool(REFUSED) is False


def test_a_value() -> None:
    assert Decision(False, 5, 0, 0.25, 60.0, 1) == REFUSED != ALLOWED
    assert hash(REFUSED) == hash(tuple(REFUSED))
    assert copy.deepcopy(REFUSED) == pickle.loads(pickle.dumps(REFUSED)) == REFUSED
    with pytest.raises(AttributeError):
        REFUSED.allowed = True  # type: ignore[misc]
    with pytest.raises(AttributeError):
        REFUSED.note = "x"  # type: ignore[attr-defined]
    assert Decision._fields == ("allowed", "limit", "remaining", "retry_after", "reset_after", "limit_index")


def test_an_engine_makes_the_same_kind_of_value(limiter_class: Any, clock: Any) -> None:
    """A compiled core fills the tuple in by hand: nothing may tell it from one that Python made."""
    limiter = limiter_class(TokenBucket(2, 1), clock=clock)
    first = limiter.check("a")
    assert first == Decision(True, 2, 1, 0.0, 0.5, 0)
    assert [type(field) for field in first] == [bool, int, int, float, float, int]
    assert type(first) is Decision
    assert hash(first) == hash(Decision(*first)) == hash(tuple(first))
    assert {Decision(*first): "found"}[first] == "found"
    assert pickle.loads(pickle.dumps(first)) == first
    assert repr(first) == repr(Decision(*first))


@pytest.mark.parametrize(
    ("decision", "headers"),
    [
        (ALLOWED, {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "12"}),
        (
            REFUSED,
            {
                "X-RateLimit-Limit": "5",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": "60",
                "Retry-After": "1",
            },
        ),
        (REFUSED._replace(retry_after=1.0), {"Retry-After": "1"}),
        (REFUSED._replace(retry_after=math.nextafter(1.0, 2)), {"Retry-After": "2"}),
        (REFUSED._replace(retry_after=1e-9), {"Retry-After": "1"}),
        (REFUSED._replace(retry_after=0.0), {"Retry-After": "1"}),
        (REFUSED._replace(retry_after=86_399.5), {"Retry-After": "86400"}),
        (REFUSED._replace(retry_after=math.inf), {"Retry-After": None}),
        (REFUSED._replace(reset_after=math.inf), {"X-RateLimit-Reset": None}),
        (REFUSED._replace(reset_after=0.0), {"X-RateLimit-Reset": "0"}),
        (REFUSED._replace(reset_after=0.001), {"X-RateLimit-Reset": "1"}),
        (ALLOWED._replace(retry_after=5.0), {"Retry-After": None}),
        (ALLOWED._replace(limit=2**53), {"X-RateLimit-Limit": "9007199254740992"}),
    ],
)
def test_headers(decision: Decision, headers: dict[str, str | None]) -> None:
    found = decision.headers()
    assert all(found.get(name) == value for name, value in headers.items())
    assert all(isinstance(value, str) and value.isascii() for value in found.values())


def test_who_waits_for_what_the_header_says_is_admitted(limiter_class: Any, clock: Any) -> None:
    limiter = limiter_class(TokenBucket(3, 10), clock=clock)
    while decision := limiter.check("a"):
        pass
    clock.advance(int(decision.headers()["Retry-After"]))
    assert limiter.hit("a")


def test_the_other_answers_name_their_fields() -> None:
    assert Stats._fields == ("admitted", "denied", "evicted", "live", "capacity", "bytes", "sync")
    assert TopKey._fields == ("fingerprint", "name", "denied", "spent")
