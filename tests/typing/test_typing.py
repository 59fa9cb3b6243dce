"""Types: the stub of the compiled module against the module, and what mypy makes of ordinary use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

HERE = Path(__file__).parent
BRIDGES = sorted(f"penstock.{path.stem}" for path in (HERE.parent.parent / "ext").glob("_*.pyx"))
REVEALED = re.compile(r'^usage\.py:(\d+): note: Revealed type is "(.*)"$')
NAMED_TUPLE = re.compile(r"tuple\[[^\[\]]*, fallback=([\w.]+)\]")
FAILED = re.compile(r"^usage\.py:(\d+): error: .*\[([a-z-]+)\]$")


@pytest.fixture
def cache(tmp_path: Path, pytestconfig: pytest.Config) -> Path:
    """A folder where mypy keeps what it knows of other packages from run to run."""
    kept = getattr(pytestconfig, "cache", None)
    return Path(kept.mkdir("mypy")) if kept else tmp_path / "cache"


def run(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Python with these arguments in this folder, where mypy finds no settings but our own."""
    environment = {name: value for name, value in os.environ.items() if name != "PENSTOCK_PURE"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.skipif(os.environ.get("PENSTOCK_PURE", "") not in ("", "0"), reason="there is no core to compare with")
def test_the_stubs_tell_the_truth_about_the_compiled_modules(tmp_path: Path) -> None:
    settings = tmp_path / "mypy.ini"  # NumPy's own types, slow to read, cannot be seen at run time
    settings.write_text(
        "[mypy]\n[mypy-numpy,numpy.*]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n", encoding="utf-8"
    )
    options = ["--allowlist", str(HERE / "allowlist.txt"), "--mypy-config-file", str(settings)]
    done = run("-m", "mypy.stubtest", *BRIDGES, *options, path=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_mypy_makes_of_ordinary_use(cache: Path) -> None:
    lines = (HERE / "usage.py").read_text(encoding="utf-8").splitlines()
    wanted: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        code, mark, comment = line.partition("  # ")
        if mark and ("reveal_type" in code or comment.startswith("error: ")):
            wanted[number] = comment
    assert len(wanted) > 50

    done = run("-m", "mypy", "--strict", "--cache-dir", str(cache), str(HERE / "usage.py"), path=HERE)
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        if revealed := REVEALED.match(line):
            found[int(revealed[1])] = NAMED_TUPLE.sub(r"\1", revealed[2].replace("builtins.", ""))
        elif failed := FAILED.match(line):
            found[int(failed[1])] = f"error: {failed[2]}"
    assert found == wanted, done.stdout + done.stderr
