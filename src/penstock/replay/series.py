"""Offered and refused requests over time, in steps of a length that people count in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from penstock.replay.times import NS

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Seconds; longer ones are whole days."""


@dataclass(frozen=True, slots=True)
class Series:
    """Requests in each step; the first step begins at start_ns, a multiple of step_ns since the epoch."""

    start_ns: int
    step_ns: int
    offered: list[int]
    refused: list[int]

    @property
    def admitted(self) -> list[int]:
        return [offered - refused for offered, refused in zip(self.offered, self.refused, strict=True)]


def series_of(times: Sequence[int], refused: Sequence[int], most: int = 300) -> Series:
    """times, refused: nanoseconds in order, `times` not empty; most: steps at most."""
    span = (times[-1] - times[0]) // NS + 1
    step = next((step for step in _STEPS if span <= step * (most - 1)), 86_400 * -(-span // (86_400 * (most - 1)))) * NS
    start = times[0] // step * step
    edges = range(start, times[-1] + 1 + step, step)
    return Series(start, step, _counts(times, edges), _counts(refused, edges))


def _counts(times: Sequence[int], edges: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(bisect_left(times, edge) for edge in edges)]
