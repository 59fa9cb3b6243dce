"""The built-in day: the same for a seed, readable, and with the shapes that it promises."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from penstock.replay.clf import looks_common
from penstock.replay.traffic import day_blocks


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return b"".join(day_blocks()).splitlines()


def test_the_day_of_a_seed_never_changes(lines: list[bytes]) -> None:
    digest = hashlib.sha256(b"\n".join(lines)).hexdigest()
    assert digest == DIGEST, "numbers in README and elsewhere are of this very day"


def test_another_seed_is_another_day(lines: list[bytes]) -> None:
    other = next(day_blocks(seed=2)).splitlines()
    assert other != lines[: len(other)]


def test_it_is_an_ordinary_log_in_order(lines: list[bytes]) -> None:
    assert 100_000 < len(lines) < 300_000
    assert all(map(looks_common, lines))
    clocks = [line[line.index(b"[") + 1 :][:20] for line in lines]
    assert clocks == sorted(clocks)


def test_it_is_heavy_tailed(lines: list[bytes]) -> None:
    counts = Counter(line.split(b" ", 1)[0] for line in lines)
    people = [count for address, count in counts.most_common() if address.startswith((b"198.18.", b"2001:db8:"))]
    assert len(people) > 4_000
    assert sum(people[: len(people) // 100]) > sum(people) / 5, "one in a hundred clients sends a fifth of all"
    assert people[len(people) // 2] < 20


def test_the_abusers_are_there(lines: list[bytes]) -> None:
    counts = Counter(line.split(b" ", 1)[0] for line in lines)
    assert counts[b"198.51.100.7"] == 21_600
    assert counts[b"203.0.113.66"] == 4_800
    assert counts[b"2001:db8:5:5::2"] == 7_200
    scanners = [count for address, count in counts.items() if address.startswith(b"192.0.2.")]
    assert len(scanners) == 200
    assert max(scanners) < 120


DIGEST = "e889e8cd7611ee1042e2af16804e8c0953ec8524f169179e9d1810ff805a1bd7"
