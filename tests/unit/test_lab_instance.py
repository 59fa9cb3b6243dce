"""One process of a fleet: what it is told, and how it makes its calls."""

from __future__ import annotations

import pytest

from penstock.clock import NS, SystemClock
from penstock.lab.instance import Job, play
from penstock.lab.settings import Outage, Settings

now = SystemClock().now_ns


@pytest.mark.parametrize("outage", [None, Outage(2, 3)])
def test_a_job_is_read_as_it_was_told(outage: Outage | None) -> None:
    settings = Settings("7/minute burst 9", instances=3, load="burst", outage=outage, mode="closed")
    job = Job(settings, "penstock", 2, "/tmp/file", "redis://:word@localhost", "name")
    assert "\n" not in job.text()
    assert Job.read(job.text()) == job


def answering(*answers: bool) -> tuple[list[int], list[bool]]:
    """Room for as many calls, and what they are answered, the last first."""
    return [0] * (2 * len(answers)), list(reversed(answers))


def test_calls_are_made_at_their_time_and_kept() -> None:
    words, answers = answering(True, False, True)
    start = now() + NS // 100
    late = play(answers.pop, [0, NS // 100, NS // 100], start, start + 60 * NS, words)
    assert answers == []
    assert words[0] >= start
    assert words[2] <= -(start + NS // 100)
    assert words[4] >= -words[2]
    assert all(took > 0 for took in words[1::2])
    assert 0 <= late <= now() - start


def test_what_lies_before_its_beginning_is_not_its_own() -> None:
    words, answers = answering(True, True, True, True)
    start = now() - 10 * NS
    play(answers.pop, [0, NS, 9 * NS, 10 * NS + NS // 2], start, now() + 60 * NS, words)
    assert [bool(word) for word in words[::2]] == [False, False, False, True]


def test_after_the_end_nothing_is_asked() -> None:
    words, answers = answering(True, True)
    start = now() + NS // 100
    assert play(answers.pop, [0, NS // 100], start, start, words) > 0
    assert words == [0, 0, 0, 0]
