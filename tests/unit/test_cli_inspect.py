"""`penstock inspect` as it is typed: what it shows of segments and saved limiters, its errors and its exit status."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import Concurrency, Limiter, SlidingLog
from penstock.cli.__main__ import main
from penstock.clock import ManualClock
from penstock.segment.options import path_of

segments = pytest.mark.skipif(
    sys.platform != "linux" or not penstock.native, reason="segments need Linux and the compiled core"
)


def inspect(*arguments: object) -> int:
    """The exit status of `penstock inspect` with these arguments."""
    return main(["inspect", *map(str, arguments)])


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert inspect(*arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def penstock_inspect(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m penstock inspect` in a process of its own."""
    command = [sys.executable, "-m", "penstock", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False, **options)


def watching(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """The same, looking on."""
    command = [sys.executable, "-m", "penstock", "inspect", *map(str, arguments)]
    return subprocess.Popen(command, **options)


def read_until(fd: int, said: bytes) -> bytes:
    """What comes from a descriptor, up to and with what is waited for."""
    got = b""
    while said not in got:
        more = os.read(fd, 65536)
        assert more, f"ended after {got!r}"
        got += more
    return got


# ---- segments ----


@segments
def test_a_segment_by_its_name_and_by_its_path(name: str) -> None:
    limiter = Limiter("3/hour", shared=name, capacity=1000)
    for key in ("a", "a", "a", "a", "a", "b"):
        limiter.hit(key)
    by_name, by_path = penstock_inspect(name), penstock_inspect(limiter.shared)
    for done in (by_name, by_path):
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"penstock inspect: {limiter.shared}"
        assert lines[2].startswith("  segment    ")
        assert lines[3] == "  limits     TokenBucket(limit=3, per=3600)"
        assert lines[4].startswith("  load       2 of 1,000 keys (0.20 %); when full, a new key takes ")
        assert lines[5:8] == ["  decisions  4 admitted, 2 refused, 0 evicted", "", "hottest keys"]
        assert lines[8] == "  fingerprint       spent  refused"
        assert lines[9] == f"  {limiter.fingerprint('a'):016x}      3        2"
        assert lines[10] == f"  {limiter.fingerprint('b'):016x}      1        0"
        assert lines[12] == "processes"
        assert lines[14].split()[0] == str(os.getpid())
        assert lines[14].endswith(" ago  alive")
        assert len(lines) == 15
        assert not any(line != line.rstrip() for line in lines)


@segments
def test_looking_changes_nothing_and_takes_no_seat(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock(1e9)
    limiter = Limiter("3/hour", Concurrency(2), shared=path, clock=clock)
    limiter.hit("a", 2)
    clock.advance(600)
    limiter.hit("b")
    gc.collect()  # what other tests left would close descriptors later
    content, descriptors = path.read_bytes(), os.listdir("/proc/self/fd")
    for _ in range(3):
        found = inspected(capsys, path)
    assert path.read_bytes() == content
    assert os.listdir("/proc/self/fd") == descriptors
    assert len(limiter.seats()) == 1
    assert found["age_s"] == 600, "by the latest time of the clock that was given"
    assert (found["live"], found["admitted"], found["refused"]) == (2, 2, 0)
    assert found["limits"][0][1][1] == {"kind": "Concurrency", "limit": 2}


@segments
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_is_held_and_by_whom(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limiter = Limiter(Concurrency(5), shared=path)
    limiter.hit("mine", 2)
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        limiter.hit("its", 3)
        os.write(say, b"1")
        os.kill(os.getpid(), signal.SIGKILL)
    os.read(said, 1)
    os.close(said), os.close(say)
    os.waitpid(child, 0)
    found = inspected(capsys, path)
    held = {(one["fingerprint"], one["pid"], one["units"], one["limit"]) for one in found["held"]}
    assert held == {
        (f"{limiter.fingerprint('mine'):016x}", os.getpid(), 2, "Concurrency(limit=5)"),
        (f"{limiter.fingerprint('its'):016x}", child, 3, "Concurrency(limit=5)"),
    }
    assert {(one["pid"], one["alive"]) for one in found["processes"]} == {(os.getpid(), True), (child, False)}
    assert inspect(path) == 0
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-4] == "held"
    words = [line.split() for line in out.splitlines() if line.endswith(("alive", "dead"))]
    states = {line[0]: line[-1] for line in words}
    assert states == {str(os.getpid()): "alive", str(child): "dead"}


@segments
def test_tiers_and_full_tables(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Limiter(tiers={"free": "5/day", "pro": "9/day burst 20"}, shared=path, on_full="deny").hit("a", tier="pro")
    assert inspect(path) == 0
    out = capsys.readouterr().out
    assert "\n  limits     free: TokenBucket(limit=5, per=86400)\n" in out
    assert "\n             pro: TokenBucket(limit=9, per=86400, burst=20)\n" in out
    assert "when full, new keys are refused" in out


@segments
def test_watching_a_pipe_until_it_is_interrupted(path: Path) -> None:
    limiter = Limiter("1000/hour", shared=path)
    watch = watching(path, "--watch", "0.1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watch.stdout is not None
    assert watch.stderr is not None
    first = read_until(watch.stdout.fileno(), b"alive\n\n")
    assert b"\x1b" not in first
    limiter.hit("a")
    rest = read_until(watch.stdout.fileno(), b" 1 admitted")
    rest += read_until(watch.stdout.fileno(), b"a second")
    assert b"a second " in rest
    watch.send_signal(signal.SIGINT)
    assert watch.wait(30) == 0
    assert watch.stderr.read() == b""
    watch.stdout.close(), watch.stderr.close()


@segments
def test_watching_on_a_terminal(path: Path) -> None:
    import pty  # here, because Windows has none

    Limiter("1000/hour", shared=path).hit("a")
    ours, its = pty.openpty()
    watch = watching(path, "--watch", "0.1", stdout=its, stderr=its)
    os.close(its)
    shown = b""
    while shown.count(b"\x1b[H\x1b[2J") < 3:
        shown += os.read(ours, 65536)
    watch.send_signal(signal.SIGINT)
    assert watch.wait(30) == 0
    os.close(ours)
    assert shown.startswith(b"\x1b[H\x1b[2Jpenstock inspect: ")


@segments
def test_watching_for_machines(path: Path) -> None:
    limiter = Limiter("1000/hour", shared=path)
    watch = watching(path, "--json", "--watch", "0.1", stdout=subprocess.PIPE)
    assert watch.stdout is not None
    looks = [json.loads(watch.stdout.readline())]
    limiter.hit_many(["a"] * 50)
    while looks[-1]["admitted"] == 0:
        looks.append(json.loads(watch.stdout.readline()))
    assert "admitted_per_s" not in looks[0]
    between = looks[-1]["when"] - looks[-2]["when"]
    assert looks[-1]["admitted_per_s"] * between == pytest.approx(50, abs=0.01)
    path.unlink()
    assert watch.wait(30) == 2
    watch.stdout.close()


@segments
def test_a_reader_that_has_seen_enough(path: Path) -> None:
    Limiter("1000/hour", shared=path)
    watch = watching(path, "--watch", "0.05", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watch.stdout is not None
    assert watch.stderr is not None
    watch.stdout.readline()
    watch.stdout.close()
    assert watch.wait(30) == 0
    assert watch.stderr.read() == b""
    watch.stderr.close()


# ---- saved limiters ----


def test_a_saved_limiter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = ManualClock(1e9), tmp_path / "limits.state"
    limiter = Limiter("3/hour", SlidingLog(9, 60), name="login", remember_names=True, clock=clock)
    for key in ("a", "a", "a", "a", ("t", 5), "\x1b[2J"):
        limiter.hit(key)
    clock.advance(30)
    limiter.save(path)
    assert inspect(path) == 0
    lines = capsys.readouterr().out.splitlines()
    size = path.stat().st_size
    assert lines[2] == (
        f"  saved      limiter 'login', {size} bytes, 2001-09-09 01:47:10 UTC, after counting for 30 s"
    )
    assert lines[4].startswith("  load       3 of 65,536 keys")
    assert lines[5] == "  decisions  5 admitted, 1 refused, 0 evicted"
    assert lines[8] == "  fingerprint       key        spent  refused"
    assert lines[9] == f"  {limiter.fingerprint('a'):016x}  a              3        0"
    assert {line[20:29] for line in lines[10:]} == {"('t', 5) ", r"'\x1b[2J'"}
    found = inspected(capsys, path, "-n", "1")
    assert found["kind"] == "saved"
    assert found["keys"] == [
        {"fingerprint": f"{limiter.fingerprint('a'):016x}", "name": "a", "spent": 3, "refused": 0}
    ]
    assert found["when"] == 1e9 + 30
    assert (found["processes"], found["held"], found["capacity"]) == ([], [], 65_536)


def test_it_is_shown_as_it_was_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not less what time has made good since, which is years here; nor by a clock that no calendar knows."""
    for start in (0.0, 1e12):
        path = tmp_path / "limits.state"
        limiter = Limiter("3/hour", clock=ManualClock(start))
        limiter.hit("a", 3)
        limiter.save(path)
        assert inspected(capsys, path)["keys"][0]["spent"] == 3
        assert inspect(path) == 0
        assert ("1970-01-01 00:00:00 UTC" in capsys.readouterr().out) == (start == 0)


# ---- errors ----


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is neither a penstock segment nor a saved limiter"),
        (b"\x7fELF", "is neither a penstock segment nor a saved limiter"),
        (b"penstock state\r\n", "has only 16 bytes: it was cut off"),
        (b"penstock state\r\n" + b"\2" + b"\0" * 100, "was saved in format 2; this penstock reads 1"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert inspect(path) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"penstock inspect: {path} {said}\n")


@segments
def test_damaged_segments(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Limiter("5/minute", shared=path)
    content = path.read_bytes()
    for damaged in (content[:-4096], content[:16], content[:100] + b"\0" + content[101:]):
        path.write_bytes(damaged)
        assert inspect(path) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"penstock inspect: {path} ")
        assert err.count("\n") == 1


def test_nothing_there(tmp_path: Path, name: str) -> None:
    done = penstock_inspect(name)
    nowhere = f"penstock inspect: there is no file {name}, and no segment {path_of(name)}\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", nowhere)
    done = penstock_inspect(tmp_path / "x")
    assert (done.returncode, done.stderr) == (2, f"penstock inspect: there is no file {tmp_path / 'x'}\n")
    done = penstock_inspect(tmp_path)
    assert (done.returncode, done.stderr) == (2, f"penstock inspect: {tmp_path} is not a plain file\n")


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["x", "--watch", "0"], ["x", "--watch", "nan"], ["x", "-n", "-1"], ["--watch", "x"], []):
        with pytest.raises(SystemExit) as ended:
            inspect(*arguments)
        assert ended.value.code == 2
    assert "NAME|PATH comes before --watch" in capsys.readouterr().err
