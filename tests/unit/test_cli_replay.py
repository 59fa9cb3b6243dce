"""`penstock replay` as it is typed: its exit status, its errors, and the real log."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import OUTSIDE, needs

from penstock import native
from penstock.cli import _progress
from penstock.cli.__main__ import main

SHARED = OUTSIDE / "logs" / "apache_logs"
LINES = [f'192.0.2.{i % 3} - - [17/May/2015:10:05:{i:02d} +0000] "GET / HTTP/1.1" 200 1\n' for i in range(60)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(LINES))
    return path


def replay(*arguments: object) -> int:
    """The exit status of `penstock replay` with these arguments."""
    return main(["replay", *map(str, arguments)])


def replay_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert replay(*arguments, "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def penstock(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m penstock` in a process of its own."""
    command = [sys.executable, "-m", "penstock", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False, **options)


def test_a_log_and_a_limit(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(log, "--limit", "2/minute", "--at-most", "50%") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "  refused   51 (85 %)" in out
    assert "  2/minute       51  11/minute                     6/minute" in out


def test_limits_decide_together(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = replay_json(capsys, log, "--limit", "2/minute; 5/hour")
    two = replay_json(capsys, log, "--limit", "2/minute", "--limit", "5/hour")
    assert one == two
    assert [limit["rate"] for limit in one["limits"]] == ["2/minute", "5/hour"]
    assert sum(limit["refused"] for limit in one["limits"]) == one["refused"] > 0


def test_several_files_are_one_traffic(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = replay_json(capsys, log, "--limit", "2/minute", "--key", "address/24")
    (tmp_path / "b.gz").write_bytes(gzip.compress("".join(LINES[:30]).encode()))
    (tmp_path / "a").write_text("".join(LINES[30:]))
    parts = replay_json(capsys, tmp_path / "a", tmp_path / "b.gz", "--limit", "2/minute", "--key", "address/24")
    assert parts["lines"]["out_of_order"] == 30
    for same in ("offered", "refused", "limits", "most_refused", "over_time", "span"):
        assert parts[same] == whole[same]


def test_spreading_a_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text(LINES[0] * 20)
    assert replay_json(capsys, path, "--limit", "10/second")["refused"] == 10
    spread = replay_json(capsys, path, "--limit", "10/second", "--spread")
    assert 0 < spread["refused"] < 10


def test_fields_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f'{{"when": {i}, "who": "{"ann" if i % 2 else "-"}"}}\n' for i in range(10)))
    fields = ("--field", "time=when", "--field", "user=who", "--key", "user")
    assert replay_json(capsys, path, *fields)["keys"]["seen"] == 2
    left = replay_json(capsys, path, *fields, "--skip-missing")
    assert (left["offered"], left["lines"]["without_key"]) == (5, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--limit", "10/secnd"), "expected a unit"),
        (("--limit", ""), "expected the count"),
        (("--limit", "0/second"), "must be between 1"),
        (("--limit", "10/0 seconds"), "must be between 1"),
        (("--limit", "1/s;" * 9), "at most 8 limits"),
        (("--limit", "1/s", *("--limit", "1/s") * 8), "1 to 8 limits"),
        (("--limit", "5/second burst 9", "--algorithm", "sliding-log"), "'burst' belongs to a token bucket"),
        (("--key", ""), "expected the name of a field"),
        (("--key", "address/99/129"), "at most 32"),
        (("--key", "colour"), "no field 'colour'"),
        (("--plot", "out.gif"), "must end in .png, .svg, .html"),
        (("--format", "json"), "no field holds a time"),
    ],
)
def test_wrong_arguments(log: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    assert replay(log, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("penstock replay: ")
    assert said in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--at-most", "101%"),
        ("--at-most", "-1"),
        ("--at-most", "nan"),
        ("--top", "-1"),
        ("--top", "many"),
        ("--field", "time"),
        ("--field", "=x"),
        ("--algorithm", "leaky"),
        ("--format", "xml"),
        ("--unknown",),
    ],
)
def test_arguments_that_argparse_refuses(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit:
        replay(*arguments)
    assert exit.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(1000) + b"\n")
    assert replay(tmp_path / "none", log, tmp_path, noise) == 2
    out, err = capsys.readouterr()
    assert "  offered   60 requests" in out
    assert [line.rpartition(": ")[0] for line in err.splitlines()[:2]] == [
        f"penstock replay: {tmp_path / 'none'}", f"penstock replay: {tmp_path}",
    ]  # fmt: skip
    assert "noise: not an access log in a known format" in err
    assert replay(tmp_path / "none", log, "--json") == 2
    assert len(json.loads(capsys.readouterr().out)["failures"]) == 1


def test_nothing_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("\n")
    assert replay(path) == 1
    assert "there is no request to replay" in capsys.readouterr().err
    path.write_text(LINES[0].replace("May", "Mai"))
    assert replay(path) == 1
    assert "1 unreadable" in capsys.readouterr().out
    assert replay(path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["offered"] == 0
    assert replay(tmp_path / "none") == 2
    assert capsys.readouterr().out == ""


def test_tables_larger_than_the_memory(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock._arguments.memory_of_machine", lambda: 1000)
    assert replay(log, "--limit", "10/minute") == 2
    assert "not enough memory: capacity=" in capsys.readouterr().err


def test_a_page_is_written(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.html"
    assert replay(log, "--limit", "2/minute", "--plot", path) == 0
    assert "2/minute" in path.read_text(encoding="utf-8")
    path.unlink()
    path.mkdir()
    assert replay(log, "--plot", path) == 2
    assert "out.html" in capsys.readouterr().err


def test_without_a_file_a_day_is_made_up() -> None:
    """The command of the README; plain Python would take half a minute for it."""
    result = penstock("replay", "--json", *(() if native else ("--limit", "2000/hour")))
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert report["lines"]["unreadable"] == report["lines"]["out_of_order"] == 0
    assert report["offered"] > 100_000
    assert [entry["key"] for entry in report["most_refused"][:2]] == [["198.51.100.7"], ["2001:db8:5:5::2"]]


def test_standard_input_in_a_pipe_that_is_closed_early(log: Path) -> None:
    script = f'cat "$1" | "{sys.executable}" -m penstock replay - | head -1; echo "${{PIPESTATUS[@]}}"'
    result = subprocess.run(
        ["bash", "-c", script, "-", str(log)], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert result.stdout.splitlines() == ["penstock replay: -", "0 0 0"]
    assert result.stderr == ""


def test_an_output_that_can_show_ascii_only(log: Path) -> None:
    result = penstock("replay", log, env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.isascii()
    assert "@" in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="no terminal to pretend")
def test_progress_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty  # here, because Windows has none

    monkeypatch.setattr(_progress, "_FIRST", 0)
    monkeypatch.setattr(_progress, "_EVERY", 0)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, _progress.Progress(terminal) as progress:
        progress("reading a.log", 250, 1000)
        progress("sorting", 0, 0)
    shown = ""
    with contextlib.suppress(OSError):  # what a terminal says at its end
        while part := os.read(ours, 4096):  # a terminal hands over what it has, not all that was written
            shown += part.decode()
    os.close(ours)
    assert "reading a.log  [######..................]  25 %" in shown
    assert shown.endswith("\r\x1b[K")
    file = io.StringIO()
    with _progress.Progress(file) as progress:
        progress("reading a.log", 250, 1000)
    assert file.getvalue() == ""


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["replay", "--help"], "exit status"),
        (["--help"], "replay"),
        (["--version"], "penstock "),
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 0
        assert said in capsys.readouterr().out


def test_interrupted(log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.cli.replay.read", interrupt)
    assert replay(log) == 130
    assert capsys.readouterr().err == "penstock: interrupted\n"


@needs(SHARED)
@pytest.mark.parametrize(
    ("arguments", "keys", "refused"),
    [
        (("--limit", "2/second; 60/hour"), 1_753, 157),
        (("--limit", "5/minute", "--algorithm", "sliding-window", "--key", "address,path"), 7_854, 68),
    ],
)
def test_the_real_log(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], keys: int, refused: int) -> None:
    report = replay_json(capsys, SHARED, *arguments)
    assert (report["lines"]["read"], report["lines"]["unreadable"], report["offered"]) == (10_000, 0, 10_000)
    assert report["lines"]["out_of_order"] == 9_448
    assert report["lines"]["out_of_order_by_seconds"] == 59
    assert (report["keys"]["seen"], report["refused"]) == (keys, refused)


@needs(SHARED)
def test_real_logs_of_attacks_are_read_or_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    read = {}
    for path in sorted(SHARED.parent.glob("crowdsec/*/*.log")):
        status = replay(path, "--json")
        report = json.loads(capsys.readouterr().out)
        assert status == (2 if report["failures"] else 0)
        read[path.parent.name] = report["offered"]
    assert read["http-dos-bypass-cache"] == 356
    assert read["bunkerweb-http-malformed"] == 12
    assert read["nginx-http-generic-bf"] == 6, "the error log's lines are none of an access log"
    assert read["zoraxy-http-bad-user-agent"] == 0
