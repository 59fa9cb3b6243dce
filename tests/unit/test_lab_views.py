"""What delta push decides on: a pulled level that rises, and counts of windows that turn."""

from __future__ import annotations

import pytest

from penstock.lab.delta_push import BucketView, WindowView
from penstock.lab.settings import Settings


def test_a_level_rises_to_the_burst() -> None:
    view = BucketView(Settings("10/second burst 30"))
    assert view.room(5.0) == 30
    view.learn(b"-4.5", 5.0)
    assert [view.room(now) for now in (5.0, 6.0, 20.0)] == [-4.5, 5.5, 30]


@pytest.mark.parametrize(
    ("algorithm", "rooms"), [("fixed-window", [4, 4, 10, 10]), ("sliding-window", [1, 2.5, 7, 10])]
)
def test_windows_turn(algorithm: str, rooms: list[float]) -> None:
    view = WindowView(Settings("10/second", algorithm))
    view.learn([6, 4, 250_000], 100.0)  # a quarter of the window is over
    assert [view.room(now) for now in (100.0, 100.375, 101.25, 102.0)] == pytest.approx(rooms)
