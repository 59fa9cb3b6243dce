"""The fuzz targets of the guard's scanners, for a moment each; marked soak, for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("penstock._scan", reason="the guard needs the compiled modules")

sys.path.insert(0, str(Path(__file__).parent))

from scan_targets import KNOWN, TARGETS, run

SECONDS = 0.7


@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str) -> None:
    assert run(target, SECONDS) > len(KNOWN) + 10


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_target_for_long(target: str) -> None:
    run(target, 90 * SECONDS)


def test_a_broken_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        assert b"\0" not in data

    monkeypatch.setitem(TARGETS, "broken", broken)
    with pytest.raises(AssertionError) as error:
        run("broken", 60)
    assert "broken: the input is" in error.value.__notes__[0]
