"""The exceptions: their tree, their words, and that they survive a pickle."""

from __future__ import annotations

import copy
import pickle

import pytest

import penstock
from penstock import CostTooLarge, Decision, PenstockError, RateLimited, RateSyntaxError, SegmentError, SyncError
from penstock.errors import shown

REFUSED = Decision(False, 5, 0, 1.2345, 60.0, 0)


def test_the_tree() -> None:
    for error in (RateSyntaxError, CostTooLarge, RateLimited, SyncError, SegmentError):
        assert issubclass(error, PenstockError)
    assert issubclass(RateSyntaxError, ValueError)
    assert issubclass(CostTooLarge, ValueError)
    assert not issubclass(RateLimited, ValueError)


def test_rate_limited_carries_the_decision_and_says_how_long() -> None:
    error = RateLimited(REFUSED)
    assert error.decision is REFUSED
    assert str(error) == "limit of 5 reached, 0 left; retry in 1.23 s"
    hopeless = RateLimited(REFUSED._replace(retry_after=float("inf")))
    assert str(hopeless) == "limit of 5 reached, 0 left; no known wait ends it"


@pytest.mark.parametrize(
    "error",
    [
        PenstockError("said"),
        RateSyntaxError("10/fortnight", 3, "expected a unit"),
        CostTooLarge("said"),
        RateLimited(REFUSED),
        SyncError("said"),
        SegmentError("said"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_cross_processes(error: PenstockError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_no_message_has_the_key_or_the_secret() -> None:
    limiter = penstock.Limiter("1/minute", secret=b"a secret of many bytes")
    key = "user:ada@example.org"
    limiter.hit(key)
    with pytest.raises(RateLimited) as limited:
        limiter.limit(key=key)(print)()
    with pytest.raises(CostTooLarge) as large:
        limiter.acquire(key, 2)
    with pytest.raises(ValueError) as short:
        penstock.Limiter("1/minute", secret=b"short secret")
    for error in (limited, large, short):
        assert "ada" not in str(error.value)
        assert "secret of" not in str(error.value)
        assert "short secret" not in str(error.value)
    assert "secret of many" not in repr(limiter)


@pytest.mark.parametrize(
    ("value", "text"),
    [(5, "5"), ("a", "'a'"), (None, "None"), (2**128, "an int of 129 bits"), (-(2**20_000), "an int of 20001 bits")],
    ids=["int", "str", "None", "2**128", "-2**20000"],
)
def test_values_as_messages_show_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 10**6)) < 210
    assert len(shown(["x"] * 10**5)) < 210
