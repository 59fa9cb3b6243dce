"""Fixtures: names for what processes share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def name() -> Iterator[str]:
    """A name to share by, of this test alone; its files are removed."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    for file in Path("/dev/shm").glob(f"penstock-{os.geteuid()}-{name}.*"):
        file.unlink()
