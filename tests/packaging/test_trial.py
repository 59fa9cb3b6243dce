"""setup.py: what it makes of compilers that are missing, that lack something, and that fail later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("Cython")
pytest.importorskip("setuptools", "77")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there, CC does not name the compiler"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to be spoilt"),
]

ROOT = Path(__file__).parents[2]
SWITCHES = ("PENSTOCK_PURE", "PENSTOCK_NATIVE", "PENSTOCK_DEBUG", "PENSTOCK_SANITIZE", "CC", "CFLAGS", "LDSHARED")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """setup.py as it is, over one small module."""
    folder = tmp_path / "tree"
    (folder / "ext" / "platform").mkdir(parents=True)
    for name in ("atomics.h", "wide.h"):
        shutil.copy(ROOT / "ext" / "platform" / name, folder / "ext" / "platform")
    (folder / "ext" / "_small.pyx").write_text('cdef extern from "platform/atomics.h":\n    pass\nANSWER = 42\n')
    package = folder / "src" / "penstock"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "_core.pxd").touch()
    shutil.copy(ROOT / "setup.py", folder)
    settings = '[project]\nname = "penstock"\nversion = "1"\n[tool.setuptools]\npackage-dir = { "" = "src" }\n'
    (folder / "pyproject.toml").write_text(settings)
    return folder


def compiler(tree: Path, refuses: str, says: str) -> str:
    """A compiler that refuses sources that match a pattern, and does all the rest."""
    program = tree.parent / "compiler"
    program.write_text(
        "#!/bin/sh\n"
        'for argument; do case "$argument" in *.c)\n'
        f'    if grep -q "{refuses}" "$argument"; then echo "here.c:1: {says}" >&2; exit 1; fi\n'
        "esac; done\n"
        'exec cc "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


def plain() -> dict[str, str]:
    """The environment, without what would decide for setup.py."""
    return {name: value for name, value in os.environ.items() if name not in SWITCHES}


def build(tree: Path, *commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", *(commands or ("bdist_wheel",))],
        cwd=tree,
        env={**plain(), "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def wheel_and_modules(tree: Path) -> tuple[str, list[str]]:
    (wheel,) = (tree / "dist").iterdir()
    built = [path.name.split(".")[0] for path in tree.glob("build/lib*/penstock/*") if path.suffix in (".so", ".pyd")]
    return wheel.name, built


def test_a_compiler_that_can_builds_the_modules(tree: Path) -> None:
    done = build(tree)
    assert done.returncode == 0, done.stderr
    assert "penstock:" not in done.stderr
    wheel, built = wheel_and_modules(tree)
    assert built == ["_small"]
    assert "none-any" not in wheel


LACKS = [
    ("trial", "fatal: cannot run", "a C compiler that works is missing"),
    ("Python.h", "fatal error: Python.h: No such file", "the headers of this Python are missing (Python.h;"),
    ("stdatomic.h", "error: stdatomic.h: No such file", "C11 with atomics is needed"),
    ("atomics.h\\\"", "error: no inline compare-exchange", "16 bytes can't be exchanged at once on this processor"),
]


@pytest.mark.parametrize(("refuses", "says", "told"), LACKS, ids=["compiler", "headers", "atomics", "exchange"])
def test_what_is_missing_is_said_and_the_reference_built(tree: Path, refuses: str, says: str, told: str) -> None:
    done = build(tree, CC=compiler(tree, refuses, says))
    assert done.returncode == 0, done.stderr
    assert "NO NATIVE CODE" in done.stderr
    assert told in done.stderr
    if "error" in says:
        assert says in done.stderr, "the compiler's own words"
    wheel, built = wheel_and_modules(tree)
    assert wheel == "penstock-1-py3-none-any.whl"
    assert built == []


def test_no_compiler_at_all_is_said(tree: Path) -> None:
    done = build(tree, CC="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert "a C compiler that works is missing" in done.stderr
    assert "no-such-compiler" in done.stderr
    assert wheel_and_modules(tree) == ("penstock-1-py3-none-any.whl", [])


@pytest.mark.parametrize("switch", ["PENSTOCK_NATIVE", "PENSTOCK_DEBUG"])
def test_where_native_code_is_asked_for_a_missing_compiler_is_an_error(tree: Path, switch: str) -> None:
    done = build(tree, **{"CC": "no-such-compiler", switch: "1"})
    assert done.returncode != 0
    assert "native code can't be built here, and was asked for. a C compiler that works is missing" in done.stderr
    assert not (tree / "dist").exists()


def test_once_the_trial_has_passed_a_failure_is_an_error(tree: Path) -> None:
    done = build(tree, CC=compiler(tree, "ANSWER", "error: an internal one"))
    assert done.returncode != 0
    assert "here.c:1: error: an internal one" in done.stderr
    assert "the compiler passed the trial, but not this" in done.stderr
    assert "PENSTOCK_PURE=1" in done.stderr
    assert not (tree / "dist").exists()


def test_pure_asks_no_compiler(tree: Path) -> None:
    done = build(tree, CC="no-such-compiler", PENSTOCK_PURE="1")
    assert done.returncode == 0, done.stderr
    assert "penstock:" not in done.stderr
    assert wheel_and_modules(tree) == ("penstock-1-py3-none-any.whl", [])


def test_none_and_nothing_but_is_refused(tree: Path) -> None:
    done = build(tree, PENSTOCK_PURE="1", PENSTOCK_NATIVE="1")
    assert done.returncode != 0
    assert "choose one" in done.stderr


def test_in_place_too_it_goes_on_without(tree: Path) -> None:
    done = build(tree, "build_ext", "--inplace", CC="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert "NO NATIVE CODE" in done.stderr


def test_another_python_than_cpython_is_not_tried(tree: Path) -> None:
    program = """
import runpy, sys, types
sys.implementation = types.SimpleNamespace(**{**vars(sys.implementation), "name": "another"})
sys.argv = ["setup.py", "-q", "build_ext"]
runpy.run_path("setup.py", run_name="__main__")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tree, env=plain(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "NO NATIVE CODE" in done.stderr
    assert "the native code is for CPython, and this is another" in done.stderr
    assert not list(tree.glob("build/lib*/penstock/*"))
