"""What is measured of a fleet's answers: worst intervals, windows, one exact limit; and how answers are kept."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from penstock import FixedWindow, SlidingWindow, TokenBucket
from penstock.clock import NS
from penstock.lab import measure, records
from penstock.lab.records import Answer, Records

MS = 1_000_000


def times_of(seed: int, rate: float, seconds: float) -> list[int]:
    chance, at, found = Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        found.append(round(at * NS))
    return found


def worst_by_trying(times: list[int], rate: float) -> float:
    """Every interval that begins and ends with an admission."""
    return max(
        end - begin + 1 - rate * (times[end] - times[begin]) / NS
        for begin in range(len(times))
        for end in range(begin, len(times))
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_envelope_is_the_worst_of_all_intervals(seed: int) -> None:
    times = times_of(seed, 50, 3)
    assert max(measure.envelope(times, 40, 3)) == pytest.approx(worst_by_trying(times, 40))


def test_the_envelope_over_time() -> None:
    times = [0] * 10 + [350 * MS] * 10 + [2000 * MS]
    assert measure.envelope(times, 20, 1.0)[:6] == pytest.approx([10, 8, 6, 13, 12, 10])
    assert measure.envelope(times, 20, 3.0)[19:22] == pytest.approx([0, 1, 0])
    assert measure.envelope([], 20, 0.3) == [0, 0, 0]


def test_windows_lie_on_the_servers_clock() -> None:
    start_us = 1_700_000_000.4 * 1e6  # 0.6 s before a window of one second ends
    times = [100 * MS, 500 * MS, 599 * MS, 601 * MS, 1599 * MS, 1650 * MS]
    assert measure.windows(times, NS, start_us, 1.7)[:7] == [0, 1, 0, 0, 0, 3, 1]
    assert measure.windows(times, NS, start_us, 1.7)[15:] == [2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_one_exact_bucket_admits_what_arithmetic_says(seed: int) -> None:
    times = times_of(seed, 150, 4)
    level, last, expected = 20.0, 0, []
    for at in times:
        level, last = min(20.0, level + (at - last) * 100 / NS), at
        if level >= 1:
            level -= 1
            expected.append(at)
    assert measure.exact(TokenBucket(100, 1, 20), times, 1.7e15) == expected
    assert max(measure.envelope(expected, 100, 4)) <= 20 + 1e-9


def test_one_exact_window() -> None:
    times = [at * 100 * MS for at in range(20)]
    start_us = 1_700_000_000.5 * 1e6
    admitted = measure.exact(FixedWindow(3, 1), times, start_us)
    assert [at // (100 * MS) for at in admitted] == [0, 1, 2, 5, 6, 7, 15, 16, 17]
    assert len(measure.exact(SlidingWindow(3, 1), times, start_us)) == 6


def test_slices_count_everything_once() -> None:
    assert measure.slices([-5, 0, 99 * MS, 100 * MS, 299 * MS, 400 * MS], 0.3) == [3, 1, 2]
    assert measure.slices([], 0.25) == [0, 0, 0]


def test_the_worst_second() -> None:
    reference = [10] * 25
    ours = [10] * 10 + [12] * 10 + [5] * 5
    assert measure.worst_second(ours, reference) == pytest.approx((0.0, 0.05 / 1.5))
    assert measure.worst_second([*[13] * 10, *[9] * 10], [10] * 20) == pytest.approx((0.3, 0.1))
    assert measure.worst_second([3] * 10, [0] * 10) == (0.0, 0.0)


def test_quantiles() -> None:
    assert [measure.quantile(range(100), part) for part in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert measure.quantile([], 0.5) == 0


def test_answers_are_merged_in_order() -> None:
    one, other = [Answer(105, True, 1), Answer(130, False, 2)], [Answer(110, False, 3)]
    assert [answer.at for answer in measure.merge([one, other, []], 100)] == [5, 10, 30]


def test_records_outlive_who_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    kept = Records(path, 4)
    kept.words[0], kept.words[1] = 7_000, 20
    kept.words[4], kept.words[5] = -9_000, 30  # the second call was never made
    assert records.read(path) == [Answer(7_000, True, 20), Answer(9_000, False, 30)]  # while it still has the file
    kept.close()
    assert records.read(path) == [Answer(7_000, True, 20), Answer(9_000, False, 30)]
    assert records.read(tmp_path / "never made") == []
    Records(tmp_path / "none", 0).close()
    assert records.read(tmp_path / "none") == []
