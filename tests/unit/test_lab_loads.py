"""The loads of `penstock sync-lab`: what a seed draws, for each kind, and how much of it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from penstock.clock import NS
from penstock.lab.loads import FACTORS, LOADS, Load


def load(kind: str, factor: float | None = None, seconds: float = 30.0, seed: int = 1) -> Load:
    return Load(kind, 1000.0, 500, FACTORS[kind] if factor is None else factor, seconds, seed)


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("instances", [1, 3, 8])
def test_a_load_is_as_large_as_it_says(kind: str, instances: int) -> None:
    drawn = [load(kind).arrivals(number, instances) for number in range(instances)]
    assert all(0 <= one < 30 * NS for arrivals in drawn for one in arrivals)
    assert all(one <= other for arrivals in drawn for one, other in pairwise(arrivals))
    assert sum(map(len, drawn)) == pytest.approx(load(kind).calls, rel=0.05)


@pytest.mark.parametrize("kind", LOADS)
def test_a_seed_draws_the_same_again_and_another_does_not(kind: str) -> None:
    drawn = [load(kind).arrivals(number, 4) for number in range(4)]
    assert drawn == [load(kind).arrivals(number, 4) for number in range(4)]
    assert drawn != [load(kind, seed=2).arrivals(number, 4) for number in range(4)]
    if kind != "burst":
        assert len({tuple(arrivals) for arrivals in drawn}) == 4


def test_even_and_skewed() -> None:
    even, skewed = ([len(load(kind).arrivals(number, 4)) for number in range(4)] for kind in ("even", "skewed"))
    assert max(even) < 1.1 * min(even)
    assert skewed[0] == pytest.approx(0.9 * 45_000, rel=0.05)
    assert max(skewed[1:]) < 1.2 * min(skewed[1:])


def test_a_crowd_comes_in_the_middle_third() -> None:
    arrivals = load("flash").arrivals(0, 2)
    crowd = [one for one in arrivals if 10 * NS <= one < 20 * NS]
    assert len(crowd) == pytest.approx(10 * 1000 * 10 / 2, rel=0.05)
    assert len(arrivals) - len(crowd) == pytest.approx(0.5 * 1000 * 20 / 2, rel=0.05)


def test_bursts_come_to_one_instance_at_a_time() -> None:
    drawn = [(one, number) for number in range(4) for one in load("burst").arrivals(number, 4)]
    drawn.sort()
    bursts = [drawn[start : start + 450] for start in range(0, len(drawn), 450)]
    assert len(bursts) == 33  # every 0.9 s
    assert all(len({number for _, number in burst}) == 1 for burst in bursts)
    assert {burst[0][1] for burst in bursts} == {0, 1, 2, 3}
    assert all(burst[-1][0] - burst[0][0] <= 10_000_000 for burst in bursts)  # b / 50 r


def test_nothing_offered_is_nothing_drawn() -> None:
    assert load("even", factor=0.0).arrivals(0, 1) == []
