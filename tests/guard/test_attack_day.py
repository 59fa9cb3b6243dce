"""A short attack day through a real server: attackers are stopped after few requests, visitors are left alone."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import missing

FILE = Path(__file__).parents[2] / "benchmarks" / "guard_attack_day.py"

FLOOD_LEAST = 400
"""Requests that a flood must have sent to be one; fewer is a machine that is busy with something else."""


@pytest.fixture(scope="module")
def actors() -> list[Any]:
    if not FILE.exists():
        missing(f"{FILE.name} is not here")
    if all(importlib.util.find_spec(server) is None for server in ("uvicorn", "hypercorn")):
        missing("neither uvicorn nor hypercorn")
    spec = importlib.util.spec_from_file_location("guard_attack_day", FILE)
    assert spec is not None
    assert spec.loader is not None
    day = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(day)
    with day.serving() as port:
        played: list[Any] = asyncio.run(day.play(port, seconds=5, visitors=12, attackers=1))
    assert {actor.role for actor in played} == {*day.BENIGN, *day.ATTACKS}
    return played


@pytest.mark.parametrize(
    ("role", "before", "later"),
    [
        ("flood", 200, 100),  # a hundred each second are allowed, and the first may fall into two
        ("slow rotation", 3, 0),
        ("credential stuffing", 6, 0),
        ("scanner", 11, 10),
        ("injection", 2, 6),
    ],
)
def test_attackers_are_stopped(actors: list[Any], role: str, before: int, later: int) -> None:
    """before: requests that may pass until the first is refused; later: as many more."""
    for actor in actors:
        if actor.role == role:
            if role == "flood" and actor.sent < FLOOD_LEAST:
                pytest.skip(f"only {actor.sent} requests could be sent in all")
            assert actor.first is not None
            assert actor.first - 1 <= before
            assert actor.after <= later
            assert actor.refused == actor.sent - (actor.first - 1) - actor.after


def test_visitors_are_left_alone(actors: list[Any]) -> None:
    benign = [actor for actor in actors if actor.role in ("visitor", "API client", "crawler")]
    assert len(benign) == 14
    for actor in benign:
        assert actor.sent >= 3
        assert actor.refused == 0
        assert actor.answers[500] == 0
