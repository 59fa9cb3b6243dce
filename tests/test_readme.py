"""README: every block of code in it runs, and its commands are the ones that are used."""

from __future__ import annotations

import gzip
import shlex
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, read, run

import penstock
from penstock.cli.__main__ import main

README = read(ROOT / "README.md")
BLOCKS = blocks(README)
PYTHON = [block.code for block in BLOCKS if block.language == "python"]
CONSOLE = [line for block in BLOCKS if block.language == "console" for line in block.code.splitlines()]


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) == README.count("```") // 2
    assert {block.language for block in BLOCKS} <= {"python", "console"}


@pytest.mark.parametrize("code", PYTHON, ids=[f"block-{number}" for number in range(len(PYTHON))])
def test_python_block_runs(code: str, segment_folder: Path) -> None:
    if "penstock.guard" in code and not penstock.native:
        pytest.skip("the guard needs the compiled core")
    if "shared=" in code and (sys.platform != "linux" or not penstock.native):
        pytest.skip("segments need Linux and the compiled core")
    if "sync=" in code:
        pytest.importorskip("redis")
    run(code, page="README.md")


def test_ci_runs_the_test_command() -> None:
    (command,) = [line for line in CONSOLE if "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_replay_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [line for line in CONSOLE if line.startswith("penstock replay ")]
    line = '203.0.113.7 - - [10/Oct/2025:13:55:{:02} +0000] "GET /a HTTP/1.1" 200 12 "-" "test"\n'
    with gzip.open(tmp_path / "access.log.gz", "wt", encoding="ascii") as log:
        log.writelines(line.format(second) for second in range(40) for _ in range(20))
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert "<svg" in (tmp_path / "replay.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not penstock.native, reason="the guard needs the compiled core")
def test_guard_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = [line for line in CONSOLE if line.startswith("penstock guard ")]
    line = '203.0.113.7 - - [10/Oct/2025:13:55:{:02} +0000] "GET /?q=%3Cscript%3Ealert(1) HTTP/1.1" 200 12\n'
    (tmp_path / "access.log").write_text("".join(map(line.format, range(40))), encoding="ascii")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert "203.0.113.7" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux" or not penstock.native, reason="segments need Linux and the compiled core")
def test_inspect_command_runs(segment_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = [line for line in CONSOLE if line.startswith("penstock inspect ")]
    limiter = penstock.Limiter("1000/second", shared="api")
    assert main(shlex.split(command)[1:]) == 0
    assert limiter.shared in capsys.readouterr().out
