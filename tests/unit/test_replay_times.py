"""Times of logs: every way of writing them that is read, and those that are not."""

from __future__ import annotations

import datetime
import random

import pytest

from penstock.replay.times import MOST_NS, NS, Times, time_ns

MAY_17 = 1431857103 * NS
"""2015-05-17 10:05:03 UTC."""


@pytest.mark.parametrize(
    "text",
    [
        b"17/May/2015:10:05:03 +0000",
        b"17/May/2015:12:05:03 +0200",
        b"17/May/2015:04:35:03 -0530",
        b"17/May/2015:10:05:03",
        b"2015-05-17T10:05:03Z",
        b"2015-05-17 10:05:03",
        b"2015-05-17T10:05:03+00:00",
        b"2015-05-17T13:05:03+03",
        b"2015/05/17 10:05:03",
        b" 2015-05-17T10:05:03.000Z ",
        b"2015-05-17 10:05:03 UTC",
        b"1431857103",
        b"1431857103.0",
        b"1.431857103e9",
        b"1431857103000",
        b"1431857103000000",
        b"1431857103000000000",
    ],
)
def test_one_moment_in_many_ways(text: bytes) -> None:
    assert time_ns(text) == MAY_17
    assert Times()[text] == MAY_17


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        (b"17/May/2015:10:05:03.25 +0000", 250_000_000),
        (b"2015-05-17T10:05:03,5", 500_000_000),
        (b"2015-05-17T10:05:03.123456789012Z", 123_456_789),
        (b"1431857103.123456789", 123_456_789),
        (b"1431857103001", 1_000_000),
        (b"1431857103000001", 1_000),
        (b"1431857103000000001", 1),
    ],
)
def test_fractions_are_exact(text: bytes, fraction: int) -> None:
    assert time_ns(text) == MAY_17 + fraction


def test_the_edges_of_time() -> None:
    assert time_ns(b"0") == 0
    assert time_ns(b"01/Jan/1970:00:00:00 +0000") == 0
    assert time_ns(b"31/Dec/1969:23:00:00 -0100") == 0
    assert Times()[b"31/Dec/1969:23:00:00 -0100"] == 0
    assert time_ns(str(MOST_NS).encode()) == MOST_NS
    assert time_ns(b"2016-12-31T23:59:60Z") == time_ns(b"2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"now",
        b"nan",
        b"inf",
        b"-1",
        b"1e99",
        b"9223372036854775808",
        b"1" * 25,
        b"31/Dec/1969:23:00:00 +0000",
        b"31/Feb/2015:10:05:03 +0000",
        b"00/May/2015:10:05:03 +0000",
        b"17/Mai/2015:10:05:03 +0000",
        b"17/May/0000:10:05:03 +0000",
        b"17/May/2015:24:05:03 +0000",
        b"17/May/2015:10:60:03 +0000",
        b"17/May/2015:10:05:61 +0000",
        b"17/May/2015:10:05:03 +2400",
        b"17/May/2015:10:05:03 +0060",
        b"17/May/2015:1x:05:03 +0000",
        b"17/May/2015:10:05:0- +0000",
        b"17/May/2015 10:05:03 +0000",
        b"17/May/2015:10:05:03 0000+",
        b"2015-05-17",
        b"2300-01-01T00:00:00Z",
        b"\xff\xfe",
    ],
)
def test_what_is_not_a_time(text: bytes) -> None:
    with pytest.raises(ValueError, match="time"):
        time_ns(text)
    times = Times()
    for _ in range(2):  # a refused text is not remembered as a good one
        with pytest.raises(ValueError, match="time"):
            times[text]


def test_the_fast_way_says_what_the_careful_way_says() -> None:
    chance = random.Random(1)
    times = Times()
    for _ in range(500):
        zone = datetime.timezone(datetime.timedelta(minutes=chance.randrange(-12 * 60, 14 * 60)))
        moment = datetime.datetime.fromtimestamp(chance.randrange(86_400, 9 * 10**9), zone)
        text = moment.strftime("%d/%b/%Y:%H:%M:%S %z").encode()
        assert times[text] == time_ns(text) == int(moment.timestamp()) * NS


def test_numbers_and_text_of_json_are_times_too() -> None:
    times = Times()
    assert times[1431857103] == times["1431857103"] == times["2015-05-17T10:05:03Z"] == MAY_17


def test_times_forget_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.replay.times._TIMES_MOST", 10)
    times = Times()
    for second in range(35):
        assert times[second] == second * NS
    assert len(times) <= 10
