"""Where the segments of a test are: a path of its own, and a name that nobody else uses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.segment.options import path_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a segment of the test's own may be."""
    return tmp_path / "segment"


@pytest.fixture
def name() -> Iterator[str]:
    """A name that nobody else uses."""
    own = f"test-{os.getpid()}-{os.urandom(6).hex()}"
    yield own
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path_of(own))
