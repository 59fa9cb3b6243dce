"""`penstock sync-lab` as it is typed: real processes on a server of its own, and on one that is somebody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Server, binary, until

from penstock.cli.__main__ import main
from penstock.lab import trial
from penstock.lab.errors import LabError
from penstock.lab.settings import Settings

SMALL = ("--instances", "2", "--seconds", "1", "--limit", "200/second burst 100", "--no-progress")


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The redis-server that all tests use is the one that the command finds."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(binary().parent), os.environ["PATH"]]))


def lab_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["sync-lab", *SMALL, *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report: dict[str, Any] = json.loads(out)
    return report


def within_the_bound(report: dict[str, Any]) -> None:
    ours = report["designs"]["penstock"]
    assert ours["excess"] <= report["bound"]["excess"]
    assert "kept its guarantee" in report["verdict"][0]


def test_three_designs_under_one_load(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    report = lab_json(capsys, "--seconds", "2", "--plot", str(page))
    assert report["own_server"]
    within_the_bound(report)
    assert list(report["designs"]) == ["penstock", "per-request", "delta-push"]
    for one in report["designs"].values():
        assert len(one["admitted"]) == len(one["offered"]) == len(one["exact"]) == len(one["height"]) == 20
        assert all(a <= b for a, b in zip(one["admitted"], one["offered"], strict=True))
        assert 450 <= one["calls"] + one["unasked"] <= 750  # 1.5 times 200/s for 2 s, drawn at random
        assert one["total_exact"] == pytest.approx(500, abs=25)  # 100 at once and 200/s, as exact as two processes end
        assert one["batches"] > 0
        assert one["cpu_s"] >= 0
        assert 0 < one["median_ns"] <= one["p99_ns"]
    ours, each, push = report["designs"].values()
    assert 0 < each["updates"] <= each["calls"]  # fewer where one was given up
    assert each["excess"] <= 30  # its decisions are exact; when they are heard of is not
    assert ours["updates"] < each["updates"]
    assert 0 < push["batches"] < push["calls"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync-lab", *SMALL, "--load", "skewed", "--strict"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for said in ("skewed load of 1.5 times the limit", "strict", "under-admitted", "kept its guarantee", "plain delta"):
        assert said in out


def test_windows(capsys: pytest.CaptureFixture[str]) -> None:
    report = lab_json(capsys, "--limit", "200/second", "--algorithm", "sliding-window")
    for one in report["designs"].values():
        assert 100 <= one["total_admitted"] <= one["calls"]
    each = report["designs"]["per-request"]
    assert max(each["height"]) <= 200 + 20  # the same windows as the server's, but for when answers are heard of


def test_an_outage_and_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    report = lab_json(capsys, "--seconds", "3", "--outage", "1@0.5", "--mode", "closed", "--kill", "--factor", "3")
    within_the_bound(report)
    ours, each, _ = report["designs"].values()
    for one in (ours, each):
        assert sum(one["admitted"][10:15]) < 40  # nothing but what had been leased or was on its way
        assert sum(one["admitted"][27:]) > 0
    assert report["settings"]["outage"] == {"seconds": 1.0, "start": 0.5}


def test_in_somebodys_redis_nothing_is_left_and_nothing_touched(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.set("theirs", "1")
        client.set("penstock-lab-", "theirs too")
        report = lab_json(capsys, "--redis", server.url, "--load", "flash")
        assert not report["own_server"]
        within_the_bound(report)
        assert server.url not in json.dumps(report)
        assert sorted(client.keys()) == [b"penstock-lab-", b"theirs"]


def test_instances_that_cannot_begin_say_why(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+info", "+time", "+scan", "+ping")
    url = server.url.replace("//", "//reader:secret@")
    try:
        settings = Settings(instances=1, seconds=1, redis=url)
        with pytest.raises(LabError, match=r"instance 0 of per-request: .*permission") as told:
            trial.run(settings, lambda doing, done, total: None, ["per-request"])
        assert "secret" not in str(told.value)
    finally:
        with server.client() as client:
            client.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize(
    ("sent", "status", "said"), [(signal.SIGINT, 130, "penstock: interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_it_ends_what_it_has_started(sent: signal.Signals, status: int, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "penstock", "sync-lab", *SMALL, "--seconds", "60"]
    pipe, home = subprocess.PIPE, {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, encoding="utf-8", env=home) as process:
        until("the fleet", lambda: len(list(tmp_path.glob("*/penstock-?"))) == 2)
        (log,) = tmp_path.glob("*/redis.log")
        server = int(log.read_text().split(":", 1)[0])
        os.kill(server, 0)
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "", said)
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert list(tmp_path.iterdir()) == []
