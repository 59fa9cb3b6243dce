"""What tests of segments between processes share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import penstock

if sys.platform == "linux":
    from crowd import Crowd, Tally
else:
    collect_ignore_glob = ["test_*.py"]  # segments are there on Linux only, and so is what these tests are made of

CAN_SHARE = penstock.native and sys.platform == "linux"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CAN_SHARE:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="segments are there on Linux, with the compiled core"))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Crowd]:
    with Crowd() as crowd:
        yield crowd


@pytest.fixture
def crowd(nursery: Crowd) -> Iterator[Crowd]:
    """Where to start processes; those that are left at the end of the test are ended."""
    yield nursery
    nursery.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's segment is."""
    return tmp_path / "segment"


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    """Numbers that the test and its processes share."""
    return Tally(tmp_path / "tally")
