"""Rate strings and the five limits: what they mean, and what is refused with which words."""

from __future__ import annotations

import copy
import datetime
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Concurrency, FixedWindow, RateSyntaxError, SlidingLog, SlidingWindow, TokenBucket
from penstock.rate import COUNT_MOST, LIMITS_MOST, YEAR_NS, check_count, check_per, parse_rate

UNITS = {
    1: ["s", "sec", "secs", "second", "seconds"],
    60: ["m", "min", "mins", "minute", "minutes"],
    3600: ["h", "hr", "hrs", "hour", "hours"],
    86_400: ["d", "day", "days"],
    30 * 86_400: ["mo", "mon", "month", "months"],
    365 * 86_400: ["y", "yr", "yrs", "year", "years"],
}
WORDS = [(word, seconds) for seconds, words in UNITS.items() for word in words]


# ---- what strings mean ----


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("10/second", [(10, 1, None)]),
        ("10 per second", [(10, 1, None)]),
        ("10 per 2 minutes", [(10, 120, None)]),
        ("10/2minutes", [(10, 120, None)]),
        ("10/2 minutes", [(10, 120, None)]),
        ("  10  /  second  ", [(10, 1, None)]),
        ("10per second", [(10, 1, None)]),
        ("10 PER Second", [(10, 1, None)]),
        ("\t10\n/\nS", [(10, 1, None)]),
        ("010/second", [(10, 1, None)]),
        ("5/minute; 100/day", [(5, 60, None), (100, 86_400, None)]),
        ("5/minute;100/hour", [(5, 60, None), (100, 3600, None)]),
        ("5/minute,100/hour|7 per month", [(5, 60, None), (100, 3600, None), (7, 2_592_000, None)]),
        ("5/minute;", [(5, 60, None)]),
        ("100/second burst 200", [(100, 1, 200)]),
        ("100/second burst=200", [(100, 1, 200)]),
        ("100/second BURST 200; 5/day", [(100, 1, 200), (5, 86_400, None)]),
        ("100/secondburst 200", None),
        ("1/4 years", [(1, 4 * 365 * 86_400, None)]),
        ("1000000000/second", [(10**9, 1, None)]),
        ("9007199254740992/4 years burst 9007199254740992", [(2**53, 4 * 365 * 86_400, 2**53)]),
    ],
)
def test_a_string_is_these_buckets(text: str, limits: list[tuple[int, int, int | None]] | None) -> None:
    if limits is None:
        with pytest.raises(RateSyntaxError):
            parse_rate(text)
    else:
        assert parse_rate(text) == tuple(TokenBucket(*limit) for limit in limits)


@pytest.mark.parametrize(("word", "seconds"), WORDS)
def test_every_unit_in_any_case(word: str, seconds: int) -> None:
    for spelled in (word, word.upper(), word.title()):
        assert parse_rate(f"3/{spelled}") == (TokenBucket(3, seconds),)


@pytest.mark.parametrize(
    ("algorithm", "limit"),
    [
        ("token-bucket", TokenBucket(5, 60)),
        ("sliding-window", SlidingWindow(5, 60)),
        ("sliding-log", SlidingLog(5, 60)),
        ("fixed-window", FixedWindow(5, 60)),
    ],
)
def test_algorithm_says_what_a_string_means(algorithm: str, limit: object) -> None:
    assert parse_rate("5/minute", algorithm) == (limit,)


@given(
    st.integers(1, COUNT_MOST),
    st.integers(1, 4),
    st.sampled_from(WORDS),
    st.sampled_from(["/", " / ", " per ", " PER  "]),
    st.sampled_from(["", " ", "\t"]),
)
def test_a_count_a_multiple_and_a_unit(
    count: int, multiple: int, unit: tuple[str, int], slash: str, space: str
) -> None:
    word, seconds = unit
    text = f"{space}{count}{slash}{multiple}{space}{word}{space}"
    if count > seconds * multiple * 10**9:
        with pytest.raises(ValueError, match="more than one token per nanosecond"):
            parse_rate(text)
    else:
        assert parse_rate(text) == (TokenBucket(count, seconds * multiple),)


# ---- what is no rate, and where ----


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "the count, a whole number"),
        ("   ", 3, "the count, a whole number"),
        ("ten/second", 0, "the count, a whole number"),
        ("-5/second", 0, "the count, a whole number"),
        ("+5/second", 0, "the count, a whole number"),
        ("1e9/second", 1, "'/' or 'per'"),
        ("1.5/second", 1, "'/' or 'per'"),
        ("1_000/second", 1, "'/' or 'per'"),
        ("1,000/second", 1, "'/' or 'per'"),
        ("0x10/second", 0, "the count must be between 1 and 2**53"),
        ("0/second", 0, "the count must be between 1 and 2**53"),
        ("9007199254740993/second", 0, "the count must be between 1 and 2**53"),
        ("99999999999999999999999/second", 0, "the count must be between 1 and 2**53"),
        ("10/0 seconds", 3, "the number of units must be between 1 and 2**53"),
        ("10/00 seconds", 3, "the number of units must be between 1 and 2**53"),
        ("10", 2, "'/' or 'per'"),
        ("10/", 3, "a unit"),
        ("10/5", 4, "a unit"),
        ("10 per", 6, "a unit"),
        ("10 perhaps", 3, "'/' or 'per'"),
        ("10/fortnight", 3, "a unit"),
        ("10/second/minute", 9, "';', ',' or '|'"),
        ("10/second 5/minute", 10, "';', ',' or '|'"),
        ("10/second;;", 10, "the count, a whole number"),
        (";", 0, "the count, a whole number"),
        ("10/second burst", 15, "the burst, a whole number"),
        ("10/second burst 0", 16, "the burst must be between 1 and 2**53"),
        ("10/second burst 5 6", 18, "';', ',' or '|'"),
        ("10/second bursting 5", 10, "';', ',' or '|'"),
        ("\N{ARABIC-INDIC DIGIT ONE}0/second", 0, "the count, a whole number"),
        ("10/second\0", 9, "';', ',' or '|'"),
        ("\ud800/second", 0, "the count, a whole number"),
        ("10/\ud800", 3, "a unit"),
    ],
)
def test_no_rate(text: str, position: int, reason: str) -> None:
    with pytest.raises(RateSyntaxError) as caught:
        parse_rate(text)
    error = caught.value
    assert (error.text, error.position) == (text, position)
    assert reason in str(error)
    assert isinstance(error, ValueError)
    said, quoted, mark = str(error).split("\n")
    assert quoted == f"  {text!r}"
    assert mark.index("^") == 2 + 1 + len(repr(text[:position])) - 2
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.position) == (RateSyntaxError, str(error), position)
    assert said == error.reason


def test_only_a_bucket_has_a_burst() -> None:
    with pytest.raises(RateSyntaxError, match="belongs to a token bucket"):
        parse_rate("10/second burst 20", "sliding-window")


@pytest.mark.parametrize(
    "text",
    ["9" * 10**6, "x" * 10**6, " " * 10**6, "10/" + "s" * 10**6, "10/second " + "z" * 10**6],
    ids=["digits", "letters", "spaces", "unit", "rest"],
)
def test_very_long_strings_are_told_in_short(text: str) -> None:
    with pytest.raises(RateSyntaxError) as caught:
        parse_rate(text)
    assert len(str(caught.value)) < 1000
    assert caught.value.text is text


def test_a_list_of_rates_is_not_read_beyond_what_a_limiter_can_have() -> None:
    assert len(parse_rate("5/minute;" * LIMITS_MOST)) == LIMITS_MOST
    for text in ("5/minute;" * (LIMITS_MOST + 1), "5/minute;" * 10**6):
        with pytest.raises(RateSyntaxError, match="a limiter has at most 8 limits") as caught:
            parse_rate(text)
        assert caught.value.position == LIMITS_MOST * len("5/minute;")


@pytest.mark.parametrize("text", [None, 5, b"5/minute", ["5/minute"], TokenBucket(5)])
def test_a_rate_is_a_string(text: object) -> None:
    with pytest.raises(TypeError, match=f"a rate must be a str.*not {type(text).__name__}"):
        parse_rate(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["leaky-bucket", "", "TOKEN-BUCKET", None, [], 5])
def test_an_algorithm_that_is_none(algorithm: object) -> None:
    with pytest.raises(ValueError, match=r"algorithm=.* must be one of 'token-bucket'"):
        parse_rate("5/minute", algorithm)  # type: ignore[arg-type]


@given(st.text(max_size=60) | st.text(alphabet="0123456789/per scndmiutehouray;,|burst", max_size=60))
def test_any_text_is_a_rate_or_a_clear_error(text: str) -> None:
    try:
        limits = parse_rate(text)
    except RateSyntaxError as error:
        position = error.position
    except ValueError:  # a rate or a burst that a bucket does not take
        position = 0
    else:
        position = 0
        assert all(isinstance(limit, TokenBucket) for limit in limits)
    assert 0 <= position <= len(text)


# ---- the classes ----

MAKERS = {
    "TokenBucket": TokenBucket,
    "SlidingWindow": SlidingWindow,
    "SlidingLog": SlidingLog,
    "FixedWindow": FixedWindow,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("limit", [0, -1, 2**53 + 1, 2**63, pytest.param(10**5000, id="huge")])
def test_a_limit_out_of_range(make: type, limit: int) -> None:
    with pytest.raises(ValueError, match=r"^limit=.* must be between 1 and 2\*\*53$"):
        make(limit, 1)


@pytest.mark.parametrize("make", [*MAKERS.values(), Concurrency], ids=[*MAKERS, "Concurrency"])
@pytest.mark.parametrize("limit", [True, 1.0, "5", None, float("nan")])
def test_a_limit_of_another_type(make: type, limit: Any) -> None:
    with pytest.raises(TypeError, match=f"limit must be an int, not {type(limit).__name__}"):
        make(limit) if make is Concurrency else make(limit, 1)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "per",
    [
        *[0, -1, 1e-7, 9.9e-7, 4 * 365 * 86_400 + 1, 10**400, 1e300, float("inf"), -float("inf"), float("nan")],
        *[datetime.timedelta(0), datetime.timedelta(days=-1), datetime.timedelta.max],
        pytest.param(10**5000, id="huge"),
    ],
)
def test_a_period_out_of_range(make: type, per: object) -> None:
    with pytest.raises(ValueError, match=r"(?s)^per=.* must be between one microsecond and 4 years$") as caught:
        make(1, per)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("per", [True, "1", None, b"1", datetime.datetime(2026, 1, 1), 1j])
def test_a_period_of_another_type(make: type, per: object) -> None:
    with pytest.raises(TypeError, match=f"per must be seconds .int or float. or a timedelta, not {type(per).__name__}"):
        make(1, per)


@pytest.mark.parametrize(
    ("per", "ns"),
    [
        (1e-6, 1_000),
        (0.1, 100_000_000),
        (1, 10**9),
        (1 / 3, 333_333_333),
        (4 * 365 * 86_400, 4 * YEAR_NS),
        (datetime.timedelta(microseconds=1), 1_000),
        (datetime.timedelta(days=1, seconds=1, microseconds=1), 86_401_000_001_000),
        (datetime.timedelta(days=4 * 365), 4 * YEAR_NS),
    ],
)
def test_a_period_in_nanoseconds(per: float, ns: int) -> None:
    assert check_per(per) == ns


def test_rules_of_their_own() -> None:
    with pytest.raises(ValueError, match="limit=1001 per 1e-06 is more than one token per nanosecond"):
        TokenBucket(1001, 1e-6)
    TokenBucket(1000, 1e-6)
    with pytest.raises(ValueError, match=r"burst=0 must be between 1 and 2\*\*53"):
        TokenBucket(1, 1, 0)
    with pytest.raises(TypeError, match="burst must be an int, not float"):
        TokenBucket(1, 1, 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="burst=731 must be refilled within 2 years at limit=1 per 86400"):
        TokenBucket(1, 86_400, 731)
    TokenBucket(1, 86_400, 730)
    TokenBucket(3, 4 * 365 * 86_400, 2)
    for resolution in (0, 61):
        with pytest.raises(ValueError, match=f"resolution={resolution} must be between 1 and"):
            SlidingWindow(1, 1, resolution)
    with pytest.raises(TypeError, match="resolution must be an int, not bool"):
        SlidingWindow(1, 1, True)
    with pytest.raises(ValueError, match="limit=65537 must be at most 65536 for a log"):
        SlidingLog(65_537, 1)
    for align in ("now", None, ["epoch"]):
        with pytest.raises(ValueError, match=r'align=.* must be "epoch" or "first"'):
            FixedWindow(1, 1, align)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limit",
    [TokenBucket(5, 60, 9), SlidingWindow(5, 60), SlidingLog(5, 60), FixedWindow(5, 60, "first"), Concurrency(5)],
)
def test_limits_are_values(limit: object) -> None:
    assert copy.deepcopy(limit) == limit
    assert pickle.loads(pickle.dumps(limit)) == limit
    assert len({limit, copy.copy(limit)}) == 1
    assert eval(repr(limit)) == limit
    with pytest.raises((AttributeError, TypeError)):
        limit.limit = 6  # type: ignore[attr-defined]


def test_a_count_is_a_plain_int_whatever_its_class_says() -> None:
    class Odd(int):
        def __int__(self) -> int:
            return -1

        def __le__(self, other: object) -> bool:
            return True

        __ge__ = __lt__ = __gt__ = __le__

    assert check_count("cost", Odd(5)) == 5
    assert type(check_count("cost", Odd(5))) is int
    with pytest.raises(ValueError, match="cost=0 must be between"):
        check_count("cost", Odd(0))
