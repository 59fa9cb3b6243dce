"""The gate: several rules at once, headers, answers, and what is held."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from calls import call

from penstock import (
    Concurrency,
    Decision,
    FixedWindow,
    Limiter,
    PenstockError,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)
from penstock.adapters import keys
from penstock.adapters.call import Call
from penstock.adapters.gate import Answer, Gate, Outcome
from penstock.adapters.headers import fields, policy, retry_after
from penstock.adapters.rules import Rule
from penstock.clock import ManualClock


def test_all_admit_or_nothing_is_taken(clock: ManualClock) -> None:
    wide = Limiter("3/hour", clock=clock)
    narrow = Limiter(SlidingLog(1, per=60), clock=clock)
    gate = Gate([Rule(wide, layer="wide"), Rule(narrow, layer="narrow")])
    assert [gate.outcome(call()).status for _ in range(4)] == [200, 429, 429, 429]
    assert wide.peek("ip:203.0.113.7").remaining == 1, "two left, less the one asked about"
    assert (wide.stats().denied, narrow.stats().denied) == (0, 3)
    clock.advance(60)
    assert gate.outcome(call()).status == 200


def test_a_refusal_speaks_for_the_longest_wait(clock: ManualClock) -> None:
    gate = Gate([Rule(Limiter(f"1/{unit}", clock=clock), layer=unit) for unit in ("second", "hour", "minute")])
    gate.outcome(call())
    outcome = gate.outcome(call())
    assert outcome.retry_after == 3600
    assert dict(outcome.headers())["RateLimit"] == '"hour";r=0;t=3600'


def test_an_admission_speaks_for_the_fewest_left(clock: ManualClock) -> None:
    gate = Gate([Rule(Limiter(f"{count}/hour", clock=clock), layer=f"of {count}") for count in (9, 2, 5)])
    headers = dict(gate.outcome(call()).headers())
    assert headers == {
        "RateLimit-Policy": '"of 9";q=9;w=3600, "of 2";q=2;w=3600, "of 5";q=5;w=3600',
        "RateLimit": '"of 9";r=8;t=400, "of 2";r=1;t=1800, "of 5";r=4;t=720',
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": "1800",
    }


def test_someone_else_takes_between_looking_and_taking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been taken by then is given back, also what is held."""
    first, second, held = Limiter("5/hour"), Limiter("1/hour"), Limiter(Concurrency(1))
    gate = Gate([Rule(held, layer="held"), Rule(first, layer="first"), Rule(second, layer="second")])
    monkeypatch.setattr("penstock.adapters.gate._hardest_first", lambda asks: asks)
    second.hit("ip:203.0.113.7")
    outcome = gate.outcome(call())
    assert outcome.status == 429
    assert not outcome.held
    assert first.stats().live == held.stats().live == 0


def test_rules_may_share_a_limiter() -> None:
    limiter = Limiter("2/hour")
    gate = Gate([Rule(limiter, "/a"), Rule(limiter, "/b")])
    assert [gate.outcome(call(path=path)).status for path in ("/a", "/b", "/a", "/b")] == [200, 200, 429, 429]


def test_places_are_held_until_they_are_released_once() -> None:
    limiter = Limiter(Concurrency(2))
    gate = Gate([limiter])
    one, two, three = (gate.outcome(call()) for _ in range(3))
    assert [bool(one), bool(two), bool(three)] == [True, True, False]
    assert one.held
    one.release()
    one.release()
    assert not one.held
    assert gate.outcome(call())
    assert not gate.outcome(call())


def test_a_limiter_that_fails_admits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Limiter):
        def check(self, *arguments: Any) -> Decision:  # type: ignore[override]
            raise PenstockError("broken")

    gate = Gate([Rule(Broken("1/hour"), layer="a"), Rule("1/hour", layer="b")])
    assert [gate.outcome(call()).status for _ in range(3)] == [200, 429, 429]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([TokenBucket(5, per=60)], '"x";q=5;w=60'),
        ([TokenBucket(5, per=60, burst=50)], '"x";q=5;w=60'),
        ([TokenBucket(5, per=0.5)], '"x";q=5'),
        ([SlidingWindow(2**53, per=3600)], '"x";q=999999999999999;w=3600'),
        ([SlidingWindow(5, per=60), FixedWindow(100, per=86_400)], '"x-1";q=5;w=60, "x-2";q=100;w=86400'),
        ([Concurrency(4)], '"x";q=4;qu="concurrent-requests"'),
    ],
)
def test_policies(limits: Any, text: str) -> None:
    assert policy("x", limits).text.decode() == text


def test_of_several_limits_the_one_that_speaks(clock: ManualClock) -> None:
    gate = Gate([Rule(Limiter("2/second; 3/hour", clock=clock), name="a b")])
    answers = []
    for _ in range(4):
        answers.append(dict(gate.outcome(call()).headers())["RateLimit"])
        clock.advance(1)
    assert answers[0] == '"a b-1";r=1;t=1200'
    assert answers[3] == '"a b-2";r=0;t=1197'


@pytest.mark.parametrize(("seconds", "whole"), [(1e-9, 1), (0.999, 1), (1.0, 1), (1.000001, 2), (59.5, 60), (0.0, 1)])
def test_waits_are_rounded_up(seconds: float, whole: int) -> None:
    refused = Decision(False, 5, 0, seconds, 60.0, 0)
    assert retry_after(refused) == whole
    names = dict(fields("both", [(policy("x", [TokenBucket(5, per=60)]), refused)], refused))
    assert names[b"retry-after"] == b"%d" % whole
    assert names[b"ratelimit"] == b'"x";r=0;t=%d' % whole
    assert names[b"x-ratelimit-reset"] == b"60"


def test_a_wait_without_end_is_not_told() -> None:
    held = Decision(False, 5, 0, math.inf, math.inf, 0)
    names = dict(fields("both", [(policy("x", [Concurrency(5)]), held)], held))
    assert names.keys() == {b"ratelimit", b"ratelimit-policy", b"x-ratelimit-limit", b"x-ratelimit-remaining"}
    assert names[b"ratelimit"] == b'"x";r=0'


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("both", {"RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}),
        ("draft", {"RateLimit", "RateLimit-Policy"}),
        ("x", {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}),
        ("none", set()),
    ],
)
def test_styles(style: Any, names: set[str]) -> None:
    gate = Gate(["1/hour"], headers=style)
    assert dict(gate.outcome(call()).headers()).keys() == names
    assert dict(gate.outcome(call()).headers()).keys() == names | {"Retry-After"}


def test_x_headers_are_a_decisions_own(clock: ManualClock) -> None:
    """One meaning of each header, however it is asked for."""
    gate = Gate([Limiter("2/minute", clock=clock)], headers="x")
    for _ in range(3):
        outcome = gate.outcome(call())
        assert outcome.speaking is not None
        assert dict(outcome.headers()) == outcome.speaking.headers()


def test_policies_follow_a_replacement() -> None:
    limiter = Limiter("5/minute")
    gate = Gate([limiter])
    gate.outcome(call())
    limiter.replace("7/minute")
    assert dict(gate.outcome(call()).headers())["RateLimit-Policy"] == '"default";q=7;w=60'


def test_answers() -> None:
    unknown = Rule("1/hour", "/c", key=lambda call: None)
    gate = Gate([Rule("1/hour", "/a"), Rule(Limiter(Concurrency(1)), "/b"), unknown])
    found = {}
    for path in ("/a", "/b", "/c"):
        gate.outcome(call(path=path))
        found[path] = gate.refusal(call(path=path), gate.outcome(call(path=path)))
    assert [found[path].status for path in found] == [429, 429, 403]
    assert json.loads(found["/a"].body)["retry_after"] == 3600
    assert "retry_after" not in json.loads(found["/b"].body)
    assert json.loads(found["/c"].body)["type"] == "unidentified"
    assert dict(found["/a"].headers)["content-length"] == str(len(found["/a"].body))
    head = gate.refusal(call(path="/a", method="HEAD"), gate.outcome(call(path="/a", method="HEAD")))
    assert head.body == b""
    assert head.headers == found["/a"].headers


def test_an_answer_of_ones_own() -> None:
    def busy(call: Call, outcome: Outcome) -> Answer:
        return Answer(503, [("content-type", "text/plain")], f"in {outcome.retry_after}".encode())

    gate = Gate([Rule("1/hour", key=keys.everyone)], answer=busy)
    gate.outcome(call())
    assert gate.refusal(call(), gate.outcome(call())) == (
        503, [("content-type", "text/plain"), ("content-length", "7")], b"in 3600"
    )  # fmt: skip


def test_an_answer_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(["1/hour"], answer=lambda call, outcome: 1 / 0)  # type: ignore[arg-type,return-value]
    gate.outcome(call())
    assert [gate.refusal(call(), gate.outcome(call())).status for _ in range(3)] == [429] * 3
    assert len(caplog.records) == 1


def test_giving_back_to_a_limiter_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Limiter):
        def release(self, *arguments: Any) -> None:
            raise PenstockError("broken")

    outcome = Gate([Broken(Concurrency(1))]).outcome(call())
    outcome.release()
    assert not outcome.held
    assert len(caplog.records) == 1


@pytest.mark.parametrize("settings", [{"headers": "all"}, {"headers": 1}, {"answer": 429}, {"trusted": ["x"]}])
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Gate(**settings)
