"""Looks whether a folder has the sdist and every wheel that is promised: each Python of pyproject.toml, each platform.

    python .ci/complete.py FOLDER      leaves with an error, and the names of what is missing or too many
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLATFORMS = {
    "manylinux x86_64": ("manylinux", "_x86_64"),
    "manylinux aarch64": ("manylinux", "_aarch64"),
    "musllinux x86_64": ("musllinux_1_2", "_x86_64"),
    "musllinux aarch64": ("musllinux_1_2", "_aarch64"),
    "macOS arm64": ("macosx_", "_arm64"),
    "macOS x86_64": ("macosx_", "_x86_64"),
    "Windows AMD64": ("win_amd64", ""),
    "Windows ARM64": ("win_arm64", ""),
}


def promised() -> set[tuple[str, str]]:
    """(Python, platform) of every wheel: ("cp314t", "macOS arm64")."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["cibuildwheel"]["build"].split()
    return {(pattern.removesuffix("-*"), platform) for pattern in patterns for platform in PLATFORMS}


def found(wheels: list[str]) -> list[tuple[str, str]]:
    """(Python, platform) of wheels by their names; a name of no promised platform keeps its own."""
    seen = []
    for name in wheels:
        _, abi, tags = name.removesuffix(".whl").rsplit("-", 2)
        tag = tags.split(".")[0]
        fits = (platform for platform, ends in PLATFORMS.items() if tag.startswith(ends[0]) and tag.endswith(ends[1]))
        seen.append((abi, next(fits, tag)))
    return seen


def faults_of(names: list[str]) -> list[str]:
    wheels = found([name for name in names if name.endswith(".whl")])
    faults = [f"there is no wheel of {python} for {platform}" for python, platform in sorted(promised() - set(wheels))]
    faults += [f"nobody promised {python} for {platform}" for python, platform in sorted(set(wheels) - promised())]
    twice = sorted({wheel for wheel in wheels if wheels.count(wheel) > 1})
    faults += [f"{python} for {platform} is there more than once" for python, platform in twice]
    sdists = [name for name in names if name.endswith(".tar.gz")]
    return faults + ([] if len(sdists) == 1 else [f"{len(sdists)} sdists, not one"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wrong = faults_of(sorted(path.name for path in Path(sys.argv[1]).iterdir()))
    print("\n".join(wrong) or f"an sdist and {len(promised())} wheels: all that is promised")
    sys.exit(1 if wrong else 0)
