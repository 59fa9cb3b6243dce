"""No entry point leaves anything behind, errors included; and the measure that says so finds what is planted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from entry_points import CASES, NATIVE_ONLY, ArrowColumn, make, surface
from leak import PLANTS
from residue import mallinfo

SCRIPT = Path(__file__).with_name("leak.py")


def leak(*arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """leak.py in a process of its own."""
    command = [sys.executable, "-X", "faulthandler", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


def test_every_entry_point_has_its_calls(backend: str) -> None:
    found = surface(backend)
    assert len(found) > 90, "the search still finds what there is"
    assert {"Limiter.acquire_async", "Engine.spending", "Hold.__aexit__", "Decision.headers", "adopt"} < found
    assert found - set(CASES) == set(), "new: write its calls in entry_points.py"
    missing = NATIVE_ONLY if backend == "reference" else set()
    assert set(CASES) - found == missing, "gone: take its calls out of entry_points.py"


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_leak_is_found(plant: str) -> None:
    if plant == "malloc" and mallinfo is None:
        pytest.skip("no mallinfo2 here: what C code keeps would show as resident memory, in the long runs only")
    done = leak("native", "120", plant)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{plant}: grown by" in done.stdout


def test_nothing_is_left_behind(backend: str) -> None:
    done = leak(backend)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert done.stderr == ""


@pytest.mark.soak
def test_nothing_is_left_behind_by_a_million_calls(backend: str) -> None:
    done = leak(backend, "1000000" if backend == "native" else "100000", seconds=3 * 3600)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.parametrize("broken_at", [None, -1, 0, 2])
@pytest.mark.parametrize("kind", [b"l", b"g"], ids=["int64", "float64"])
@pytest.mark.usefixtures("both")
def test_what_an_arrow_stream_gives_is_released_once(kind: bytes, broken_at: int | None) -> None:
    column = ArrowColumn(kind, chunks=4, broken_at=broken_at)
    engine = make("Engine", "native")
    if kind == b"l" and broken_at is None:
        assert engine.hit_many(column).all()
        assert column.given == {"schema": 1, "array": 4}
    else:
        with pytest.raises((TypeError, ValueError)):
            engine.hit_many(column)
    assert column.released == column.given
