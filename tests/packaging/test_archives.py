"""What is in the sdist and in the wheel that is built from it, by the rules of .ci/archives.py; and those rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from scripts import ROOT, script

pytest.importorskip("setuptools", "77")

PARTS = [".ci", ".github", "benchmarks", "docs", "ext", "src", "tests"]
if not (ROOT / "src").exists():
    pytest.skip("an installed wheel is under test, without the sources", allow_module_level=True)


archives = script("archives")


def setup(folder: Path, command: str, **environment: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, with litter in it as a checkout has."""
    folder = tmp_path_factory.mktemp("sources")
    litter = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.egg-info", ".hypothesis")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=litter)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    for name in ("build/ext/_core.c", "ext/_core.c", "src/penstock/_core.so", "tests/__pycache__/a.pyc", "tests/a.so"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    setup(folder, "sdist")
    (archive,) = (folder / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist alone; of the plain-Python engine, as compiling takes too long here."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    setup(unpacked, "bdist_wheel", PENSTOCK_PURE="1")
    (built,) = (unpacked / "dist").iterdir()
    return built


def test_the_sdist_has_all_and_nothing_that_is_generated(sdist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert archives.look_at(sdist) == []
    assert f"{sdist.stat().st_size:,} bytes" in capsys.readouterr().out


def test_the_sdist_has_every_file_that_is_written_by_hand(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    parts = [path for part in PARTS for path in (ROOT / part).rglob("*") if path.is_file()]
    written = {path.relative_to(ROOT).as_posix() for path in parts}
    litter = {name for name in written if archives.GENERATED.search(name) or ".egg-info/" in name}
    assert written - litter <= names


def test_the_wheel_has_the_package_and_no_sources_of_the_native_code(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert archives.look_at(wheel) == []
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "penstock").rglob("*.py")}
    assert package <= names


GOOD = archives.WHEEL_NEEDS | {"penstock-1.dist-info/licenses/LICENSE"}
MODULES = {f"penstock/{name}.cpython-313-x86_64-linux-gnu.so" for name in archives.BRIDGES}


@pytest.mark.parametrize(
    ("names", "tag", "fault"),
    [
        (GOOD | MODULES | {"penstock/_core.c"}, "cp313-cp313-linux_x86_64", "_core.c is not needed to run"),
        (GOOD | MODULES | {"penstock/a.pyx"}, "cp313-cp313-linux_x86_64", "a.pyx is not needed to run"),
        (GOOD | MODULES | {"ext/limiter.h"}, "cp313-cp313-linux_x86_64", "outside of the package"),
        (GOOD | MODULES, "py3-none-any", "is compiled, in a wheel for py3-none-any"),
        (GOOD, "cp313-cp313-linux_x86_64", "_core is not compiled"),
        (GOOD - {"penstock/py.typed"}, "py3-none-any", "py.typed is missing"),
        (archives.WHEEL_NEEDS, "py3-none-any", "the licence is missing"),
    ],
)
def test_a_wheel_that_breaks_a_rule_is_found(names: set[str], tag: str, fault: str) -> None:
    assert archives.faults_of_wheel(GOOD | MODULES, "cp313-cp313-linux_x86_64") == []
    assert archives.faults_of_wheel(GOOD, "py3-none-any") == []
    assert any(fault in found for found in archives.faults_of_wheel(names, tag))


@pytest.mark.parametrize(
    ("more", "less", "fault"),
    [
        ("ext/_core.c", "", "ext/_core.c is generated"),
        ("build/lib/a.py", "", "build/ does not belong there"),
        ("tests/__pycache__/a.pyc", "", "is generated"),
        ("", "ext/limiter.h", "ext/limiter.h is missing"),
        ("", "docs/index.md", "nothing of docs/"),
    ],
)
def test_an_sdist_that_breaks_a_rule_is_found(more: str, less: str, fault: str) -> None:
    names = (archives.SDIST_NEEDS | ({more} if more else set())) - {less}
    assert archives.faults_of_sdist(archives.SDIST_NEEDS) == []
    assert any(fault in found for found in archives.faults_of_sdist(names))


def test_symbols_that_were_left_in_a_module_are_found() -> None:
    assert archives.unstripped("a.so", b"\x7fELF...\0.dynsym\0.text\0") == []
    assert archives.unstripped("a.so", b"\x7fELF...\0.text\0.symtab\0") == ["a.so has .symtab"]
    assert archives.unstripped("a.so", b"\x7fELF...\0.debug_info\0") == ["a.so has .debug_info"]
