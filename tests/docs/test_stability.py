"""docs/stability.md: what it says of Pythons, versions, extras and tests is what the project says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import penstock
from penstock import snapshot
from penstock.segment import file
from penstock.sync import wire

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PAGE = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_pythons() -> None:
    (oldest,) = re.findall(r"CPython from (3\.\d+) to the newest", PAGE)
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    built = PROJECT["tool"]["cibuildwheel"]["build"].split()
    assert f"cp{oldest.replace('.', '')}-*" in built
    assert any(one.endswith("t-*") for one in built), "without the GIL, too"


def test_versions_of_files_and_protocols() -> None:
    assert f"| saved limiters | format {snapshot.VERSION} |" in PAGE
    assert f"| segments in shared memory | layout {file.VERSION} |" in PAGE
    assert f"| the protocol with Redis | version {wire.VERSION} |" in PAGE


def test_the_version_has_three_numbers_and_is_before_1() -> None:
    numbers = penstock.__version__.split(".")
    assert len(numbers) == 3
    assert all(part.isdecimal() for part in numbers[:2])
    pinned = re.search(r"`penstock>=(\d+\.\d+),<(\d+\.\d+)`", PAGE)
    assert pinned is not None
    if numbers[0] == "0":
        assert pinned[1] == ".".join(numbers[:2]), "the page pins the version that there is"


def test_nothing_is_deprecated_unless_the_page_says_so() -> None:
    warns = [path for path in (ROOT / "src").rglob("*.py") if "DeprecationWarning" in path.read_text(encoding="utf-8")]
    assert bool(warns) != ("Nothing is deprecated at present" in PAGE)


def test_redis_py() -> None:
    (oldest,) = re.findall(r"redis-py from (\d+)", PAGE)
    assert PROJECT["project"]["optional-dependencies"]["redis"] == [f"redis>={oldest}"]


def test_the_tests_are_there() -> None:
    table = PAGE.split("\n## How this is kept\n")[1]
    named = re.findall(r"`([\w/]+(?:\.py|/))`", table)
    assert len(named) > 10
    for one in named:
        assert (TESTS / one).exists(), one
