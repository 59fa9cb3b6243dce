"""Two users of one machine: neither can open, read or disturb the other's segment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import Crowd
from jobs import made

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.skipif(not ROOT, reason="only root becomes another user")


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder such as /tmp, where everybody may make files."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o1777)
        yield Path(name)


def test_another_user_is_kept_out(crowd: Crowd, everybodys: Path) -> None:
    path = everybodys / "segment"
    limiter = made(str(path), "'5/minute'")
    assert limiter.hit("k")
    before = path.read_bytes()
    crowd.run("jobs.other_user", path, everybodys, "'5/minute'")
    assert path.read_bytes() == before
    assert sum(limiter.hit("k") for _ in range(9)) == 4
