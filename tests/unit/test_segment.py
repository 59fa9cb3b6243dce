"""A segment's file: names and options, what is refused and in which words, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import Concurrency, FixedWindow, Limiter, Segment, SegmentError, SlidingLog, SlidingWindow, TokenBucket
from penstock.clock import ManualClock
from penstock.segment import file as segment_file
from penstock.segment.header import Header, difference
from penstock.segment.options import FOLDER, path_of, read_shared

CAN_SHARE = penstock.native and sys.platform == "linux"
linux = pytest.mark.skipif(not CAN_SHARE, reason="segments are there on Linux, with the compiled core")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def opened(path: Path | Segment, *limits: Any, **options: Any) -> Limiter:
    """A small limiter on the segment, of 5 a minute unless it is said otherwise."""
    if not limits and "tiers" not in options:
        limits = ("5/minute",)
    return Limiter(*limits, shared=path, **{"capacity": 64} | options)


def refusal(path: Path | Segment, *limits: Any, **options: Any) -> str:
    """What the SegmentError says, on one line."""
    with pytest.raises(SegmentError) as caught:
        opened(path, *limits, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def descriptors() -> set[tuple[str, str]]:
    """The open files of this process, but for those that only garbage keeps open (frames of earlier errors)."""
    if gc.isenabled():
        gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {(number, target) for number, target in found if "/proc/" not in target}


# ---- options ----


@pytest.mark.parametrize("legal", ["api", "a", "A.b-c_9", "x" * 100])
def test_a_name_is_a_file_of_this_user(legal: str) -> None:
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    assert Segment(legal).path == path_of(legal) == f"{FOLDER}/penstock-{user}-{legal}"


@pytest.mark.parametrize("illegal", ["", "a/b", "../x", "a b", "ä", "x" * 101, "a\0b", "a\nb"])
def test_other_names_are_refused(illegal: str) -> None:
    with pytest.raises(ValueError, match="a segment's name has 1 to 100 letters, digits"):
        Segment(illegal)


def test_a_segment_has_a_name_or_a_path(tmp_path: Path) -> None:
    for wrong in ({}, {"name": "a", "path": tmp_path / "a"}):
        with pytest.raises(ValueError, match="a segment needs a name or a path, and not both"):
            Segment(**wrong)


def test_options_of_other_types(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a segment's name must be a str, not bytes"):
        Segment(b"api")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="group must be a bool, not int"):
        Segment(path=tmp_path / "a", group=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a segment for a group needs a path"):
        Segment("api", group=True)
    with pytest.raises(TypeError, match="shared must be a name, a path or a Segment, not int"):
        Limiter("5/minute", shared=5)  # type: ignore[arg-type]


def test_shared_is_a_name_a_path_or_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_shared("api").path == path_of("api")
    assert read_shared(tmp_path / "a").path == str(tmp_path / "a")
    own = Segment(path=str(tmp_path / "a"), group=True)
    assert read_shared(own) is own
    assert own.group
    monkeypatch.chdir(tmp_path)
    assert Segment(path="a").path == str(tmp_path / "a")
    assert repr(own) == f"Segment(path={str(tmp_path / 'a')!r}, group=True)"
    assert repr(Segment(path="a")) == f"Segment(path={str(tmp_path / 'a')!r})"


def test_difference_shows_both_sides() -> None:
    assert difference({"a": 1, "b": 2}, {"a": 1, "b": 2}) is None
    assert difference({"a": 1, "b": 2}, {"a": 3, "b": 4}) == "a 3, not 1; b 4, not 2"


def test_without_the_core_it_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_file, "native", False)
    assert "needs penstock's compiled core" in refusal(path)
    assert not path.exists()


@linux
def test_on_other_systems_it_says_why(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import penstock._core

    monkeypatch.setattr(penstock._core, "CAN_SHARE", False)
    assert "shared segments are there on Linux only" in refusal(path)
    assert not path.exists()


# ---- sharing ----

@linux
def test_two_limiters_of_one_name_share(name: str) -> None:
    one, other = Limiter("3/minute", shared=name), Limiter("3/minute", shared=name)
    assert [limiter.hit("a") for limiter in (one, other, one, other)] == [True, True, True, False]
    assert one.shared == other.shared == path_of(name)
    assert one.fingerprint("a") == other.fingerprint("a")
    assert one.stats()[:3] == other.stats()[:3] == (3, 1, 0)
    assert stat.S_IMODE(os.stat(path_of(name)).st_mode) == 0o600
    assert Limiter("3/minute").shared is None


@linux
def test_who_comes_later_takes_capacity_and_secret_from_the_file(path: Path) -> None:
    one = opened(path, capacity=1000, secret=b"s" * 16)
    other = Limiter("5/minute", shared=path)
    assert other.capacity == one.capacity == 1000
    assert other.fingerprint("a") == one.fingerprint("a") == Limiter("1/s", secret=b"s" * 16).fingerprint("a")


@linux
def test_the_clock_may_be_given(path: Path) -> None:
    clock = ManualClock()
    one, other = opened(path, clock=clock), opened(path, clock=clock)
    assert [limiter.hit("a") for limiter in (one, other) * 3] == [True] * 5 + [False]
    clock.advance(12)
    assert [limiter.hit("a") for limiter in (other, one)] == [True, False]


@linux
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("mask", [0, 0o077, 0o777])
def test_permissions_do_not_depend_on_the_umask(path: Path, group: bool, mask: int) -> None:
    before = os.umask(mask)
    try:
        limiter = opened(Segment(path=path, group=group))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == (0o660 if group else 0o600)
    assert limiter.hit("a")


@linux
def test_state_stays_while_nobody_has_it_open(path: Path) -> None:
    limiter = opened(path)
    assert [limiter.hit("a") for _ in range(4)] == [True] * 4
    del limiter
    again = opened(path)
    assert [again.hit("a") for _ in range(2)] == [True, False]


# ---- other settings ----

FIVE, SIX, NINE = (f"TokenBucket(limit={limit}, per=60, burst=None)" for limit in (5, 6, 9))
SETTINGS = {
    "limits": (("6/minute",), {}, f"limits {FIVE}, not {SIX}"),
    "algorithm": (("5/minute",), {"algorithm": "fixed-window"}, f"limits {FIVE}, not FixedWindow(limit=5, per=60"),
    "more limits": (("5/minute", "9/minute"), {}, f"limits {FIVE}, not {FIVE}, {NINE}"),
    "tiers": (("5/minute",), {"tiers": {"pro": "9/minute"}}, f"limits {FIVE}, not {FIVE}; pro: {NINE}"),
    "capacity": (("5/minute",), {"capacity": 65}, "capacity 64, not 65"),
    "on_full": (("5/minute",), {"on_full": "deny"}, "on_full evict, not deny"),
    "secret": (("5/minute",), {"secret": b"x" * 16}, "another secret"),
    "clock": (("5/minute",), {"clock": ManualClock()}, "clock the system's, not given"),
}


@linux
@pytest.mark.parametrize("setting", SETTINGS)
def test_other_settings_are_refused_with_both_sides(path: Path, setting: str) -> None:
    limits, options, text = SETTINGS[setting]
    one = opened(path)
    before, there = path.read_bytes(), descriptors()
    said = refusal(path, *limits, **options)
    assert said.startswith(f"{path} was made with other settings: ")
    assert text in said
    assert path.read_bytes() == before
    assert descriptors() == there
    assert one.hit("a")


@linux
def test_several_differences_are_told_at_once(path: Path) -> None:
    opened(path)
    said = refusal(path, "6/minute", on_full="deny", capacity=100)
    for part in (f"limits {FIVE}", f"not {SIX}", "on_full evict, not deny", "capacity 64, not 100"):
        assert part in said


@linux
def test_tiers_in_another_order(path: Path) -> None:
    opened(path, tiers={"a": "5/minute", "b": "5/minute"})
    said = refusal(path, tiers={"b": "5/minute", "a": "5/minute"})
    assert "a: TokenBucket" in said
    assert opened(path, tiers={"a": "5/minute", "b": "5/minute"}).hit("k", tier="b")


@linux
def test_concurrency_too_large(path: Path) -> None:
    with pytest.raises(ValueError, match=r"Concurrency\(2147483648\) is too large to be shared: at most 2147483647"):
        opened(path, Concurrency(2**31))
    assert not path.exists()
    assert opened(path, Concurrency(2**31 - 1)).hit("a", 2**31 - 1)


@linux
def test_limits_of_a_segment_are_not_replaced(path: Path) -> None:
    limiter = opened(path)
    with pytest.raises(SegmentError, match="are those it was made with; use another name"):
        limiter.replace("6/minute")
    assert limiter.check("a").limit == 5


@linux
def test_sync_together_with_shared(path: Path) -> None:
    """A segment is either of its host alone or exchanged with Redis; of limits that can be."""
    pytest.importorskip("redis")
    with pytest.raises(ValueError, match="can be shared= by a host or sync= through Redis, not both"):
        opened(path, Concurrency(3), sync="redis://localhost:1", name="x")
    assert not path.exists()
    opened(path)
    there = descriptors()
    assert "sync no, not as 'x'" in refusal(path, sync="redis://localhost:1", name="x")
    assert descriptors() == there


@linux
def test_the_same_limits_may_be_written_otherwise(path: Path) -> None:
    one = opened(path)
    for same in (TokenBucket(5, per=60.0), TokenBucket(5, per=60, burst=5), "5 per minute", "5/60s"):
        assert opened(path, same).fingerprint("a") == one.fingerprint("a")


# ---- other files ----


def rewritten(path: Path, **fields: Any) -> None:
    """Writes a header of ours with other fields, and a digest that is right."""
    fd = os.open(path, os.O_RDWR)
    try:
        old = segment_file._prelude(fd, str(path))
        change = {name: fields.pop(name) for name in ("whole", "boot") if name in fields}
        packed = old.packed
        if fields:
            packed = json.dumps(json.loads(packed) | fields, separators=(",", ":")).encode()
        new = old._replace(packed=packed, **change)
        os.pwrite(fd, new.written(), 0)
    finally:
        os.close(fd)


@linux
@pytest.mark.parametrize("content", [b"", b"\0", b"x" * 99, b"\0" * 8192, b"penstock segment", b"penstock segmenT" * 9])
def test_a_foreign_file_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(path) == f"{path} is not a penstock segment"
    assert path.read_bytes() == content


@linux
@pytest.mark.parametrize("version", [0, 2, 2**32 - 1])
def test_another_layout_version(path: Path, version: int) -> None:
    opened(path)
    content = bytearray(path.read_bytes())
    content[16:20] = version.to_bytes(4, "little")
    path.write_bytes(content)
    assert f"is of layout {version}; this penstock speaks {segment_file.VERSION}" in refusal(path)


@linux
@pytest.mark.parametrize("size", [100, 4096, -1, -4096, 1, 2**30])
def test_cut_off_or_grown(path: Path, size: int) -> None:
    opened(path)
    whole = path.stat().st_size
    there = size if size in (100, 4096) else whole + size
    os.truncate(path, there)
    said = refusal(path)
    assert said.startswith(str(path))
    assert "damaged" in said if there == 100 else f"has {there} bytes and was made with {whole}" in said
    assert path.stat().st_size == there


@linux
def test_any_bit_of_the_header_that_is_flipped_is_found(path: Path) -> None:
    opened(path)
    content = path.read_bytes()
    fd = os.open(path, os.O_RDWR)
    try:
        header = segment_file._PRELUDE.size + len(segment_file._prelude(fd, str(path)).packed)
        for byte in range(header):
            os.pwrite(fd, bytes([content[byte] ^ 1 << random.randrange(8)]), byte)
            assert refusal(path)
            os.pwrite(fd, content[byte : byte + 1], byte)
    finally:
        os.close(fd)
    assert path.read_bytes() == content
    assert opened(path).hit("a")


@linux
@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": 0},
        {"capacity": -1},
        {"capacity": 2**64},
        {"capacity": 2**39},
        {"capacity": 1e400},
        {"capacity": "64"},
        {"capacity": 65},
        {"secret": "00"},
        {"secret": "xyz"},
        {"secret": 5},
        {"policies": []},
        {"policies": [[]]},
        {"policies": [[[0] * 20] * 9]},
        {"policies": [[[0] * 20]] * 17},
        {"policies": [[[0] * 3]]},
        {"policies": [[[0] * 99]]},
        {"policies": [[[1, 5, 1, 2**50]]]},
        {"policies": [[[1, 5, 1, -5]]]},
        {"policies": [[["x"]]]},
        {"policies": [[[10**400] * 2]]},
        {"limits": 3},
        {"limits": [["a"]]},
        {"limits": {"a": 1}},
        {"birth_ns": "x"},
        {"birth_ns": -(2**63)},
        {"wall_ns": 2**63},
        {"sync": "as 'x'"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_forged_header_is_refused(path: Path, fields: dict[str, Any]) -> None:
    opened(path)
    rewritten(path, **fields)
    there = descriptors()
    assert refusal(path).startswith(str(path))
    assert descriptors() == there


@linux
def test_a_header_of_other_json(path: Path) -> None:
    for packed in (b"", b"[]", b"5", b"{}", b"\xff", b"[" * 100_000):
        path.unlink(missing_ok=True)
        opened(path)
        fd = os.open(path, os.O_RDWR)
        old = segment_file._prelude(fd, str(path))
        whole = old.whole + max(0, len(packed) // 4096 * 4096)
        os.truncate(path, whole)
        os.pwrite(fd, old._replace(packed=packed, whole=whole).written(), 0)
        os.close(fd)
        assert refusal(path).startswith(str(path))


@linux
def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    opened(tmp_path / "other")
    path.symlink_to(tmp_path / "other")
    assert refusal(path) == f"cannot open {path}: it is a symbolic link"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert refusal(path) == f"cannot open {path}: it is a symbolic link"
    assert not (tmp_path / "nowhere").exists()


@linux
def test_a_folder_a_pipe_and_a_socket_are_refused(path: Path) -> None:
    import socket

    path.mkdir()
    assert refusal(path) == f"cannot open {path}: Is a directory"
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert refusal(path) == f"will not use {path}: it is not a plain file"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listens:
        listens.bind(str(path))
        assert refusal(path).startswith(f"cannot open {path}: ")
    device = Path("/dev/null")
    assert refusal(device) == "will not use /dev/null: it is not a plain file"


@linux
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o606, 0o601, 0o700, 0o666])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    opened(path)
    path.chmod(mode)
    said = refusal(path)
    assert f"its mode is {mode:04o}" in said
    assert "0600 at most" in said
    if mode & 0o117:
        assert "0660 at most" in refusal(Segment(path=path, group=True))
    else:
        assert opened(Segment(path=path, group=True)).hit("a")


@linux
def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert refusal(path) == f"will not use {path}: it belongs to user {own}, and this process runs as user {own + 1}"
    monkeypatch.setattr(os, "getegid", lambda: path.stat().st_gid + 1)
    monkeypatch.setattr(os, "getgroups", list)
    assert f"user {own} and group {path.stat().st_gid}" in refusal(Segment(path=path, group=True))
    monkeypatch.setattr(os, "getgroups", lambda: [path.stat().st_gid])
    assert opened(Segment(path=path, group=True)).hit("a")


# ---- places where none can be made ----


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system in memory at `folder`; skips where that is not allowed."""
    if not ROOT:
        pytest.skip("only root mounts a file system")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=60)


@linux
def test_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "segment"
    assert refusal(path) == f"cannot make {path} in {path.parent}: No such file or directory"
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "x") == f"cannot open {tmp_path / 'file' / 'x'}: Not a directory"


@linux
def test_a_full_file_system(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with mounted(folder, "size=256k"):
        there = descriptors()
        said = refusal(folder / "a", capacity=100_000)
        free = os.statvfs(folder)
        assert "it needs " in said
        assert f"and {folder} has {free.f_bavail * free.f_frsize}; lower capacity=" in said
        assert os.listdir(folder) == []
        assert free.f_bavail == free.f_blocks
        assert descriptors() == there


@linux
def test_a_full_file_system_played(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, count: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    there = descriptors()
    said = refusal(path)
    assert said.startswith(f"cannot make {path}: it needs ")
    assert said.endswith("; lower capacity=")
    assert os.listdir(path.parent) == []
    assert descriptors() == there


@linux
@pytest.mark.parametrize("call", ["fchmod", "posix_fallocate", "pwrite", "link"])
def test_any_other_failure_of_the_system(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fails)
    there = descriptors()
    assert refusal(path) == f"cannot make {path}: Input/output error"
    assert os.listdir(path.parent) == []
    assert descriptors() == there


@linux
def test_a_file_system_without_files_without_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def without(name: Any, how: int, *rest: Any, **more: Any) -> int:
        if how & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(name, how, *rest, **more)

    monkeypatch.setattr(os, "open", without)
    assert "which cannot hold files without a name: Operation not supported" in refusal(path)


@linux
def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    if ROOT:  # whom modes do not hold back
        with mounted(folder, "ro"):
            assert refusal(folder / "a") == f"cannot make {folder}/a in {folder}: Read-only file system"
        return
    folder.mkdir(mode=0o500)
    assert refusal(folder / "a") == f"cannot make {folder}/a in {folder}: Permission denied"


@linux
def test_a_file_that_is_gone_is_made_anew(path: Path) -> None:
    one = opened(path)
    path.unlink()
    two = opened(path)
    assert path.stat().st_ino != os.fstat(one.fd).st_ino
    assert [two.hit("a") for _ in range(6)] == [True] * 5 + [False]
    assert one.hit("a")


# ---- a file from before the machine was started anew ----


@linux
def test_a_stale_file_is_made_anew(path: Path) -> None:
    assert [opened(path).hit("a") for _ in range(6)] == [True] * 5 + [False]
    rewritten(path, boot=b"\1" * 16)
    old = path.stat().st_ino
    with open(path, "rb") as stale:
        fresh = opened(path, "7/minute")
        assert path.stat().st_ino != old
        assert os.fstat(stale.fileno()).st_nlink == 0
    assert [fresh.hit("a") for _ in range(8)] == [True] * 7 + [False]
    assert os.listdir(path.parent) == [path.name]


@linux
def test_many_who_find_a_stale_file_end_on_one(path: Path) -> None:
    for _ in range(10):
        path.unlink(missing_ok=True)
        opened(path)
        rewritten(path, boot=b"\1" * 16)
        limiters: list[Limiter] = []
        ready = threading.Barrier(6)

        def join(into: list[Limiter] = limiters, ready: threading.Barrier = ready) -> None:
            ready.wait()
            into.append(opened(path))

        threads = [threading.Thread(target=join) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {os.fstat(limiter.fd).st_ino for limiter in limiters} == {path.stat().st_ino}
        assert sum(limiter.hit("a") for limiter in limiters) == 5
        assert os.listdir(path.parent) == [path.name]


@linux
def test_a_stale_file_that_may_not_be_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path)
    rewritten(path, boot=b"\1" * 16)

    def forbidden(name: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", forbidden)
    there = descriptors()
    said = f"cannot remove {path}, which is of before this machine was last started: Operation not permitted"
    assert refusal(path) == said
    assert descriptors() == there


@linux
def test_to_look_at(path: Path) -> None:
    with pytest.raises(SegmentError, match=f"there is no segment {path}"):
        segment_file.look(str(path))
    limiter = opened(path)
    found = segment_file.look(str(path))
    assert found.look_only
    assert found.header.capacity == limiter.capacity
    os.close(found.fd)
    there = descriptors()
    rewritten(path, boot=b"\1" * 16)
    with pytest.raises(SegmentError, match="is of before this machine was last started"):
        segment_file.look(str(path))
    assert descriptors() == there


@linux
def test_the_boot_cannot_be_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError("no /proc")))
    with pytest.raises(SegmentError, match="cannot tell when the machine was started: no /proc"):
        segment_file.boot()


@linux
def test_made_and_removed_again_and_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is always there first, and gone when it is to be opened."""
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(FileExistsError()))
    there = descriptors()
    assert refusal(path) == f"{path} is made and removed again faster than it can be opened"
    assert descriptors() == there


@linux
def test_the_header_is_as_it_was_written() -> None:
    limits = {None: [SlidingWindow(3, per=1)], "pro": [SlidingWindow(9, per=1)]}
    from penstock.policy import compile_policies

    policies = compile_policies(list(limits.values()), 5)
    header = Header(limits, policies, 64, "deny", bytes(range(16)), "given", "no", 7, 5)
    assert Header.unpacked(header.packed()) == header
    assert header.agrees()
    assert not header._replace(wall_ns=6, limits={**limits, None: [SlidingWindow(4, per=1)]}).agrees()


# ---- nothing is left behind ----


@linux
def test_a_thousand_times_opened_and_closed(path: Path) -> None:
    """A dropped limiter gives its seat and its descriptor back at once: the cycle collector is off."""
    opened(path)
    there = descriptors()
    gc.disable()
    try:
        for _ in range(1000):
            limiter = opened(path)
            limiter.hit("a")
            limiter.close()
            del limiter
        assert descriptors() == there
        assert len(opened(path).seats()) == 1
    finally:
        gc.enable()
    assert os.listdir(path.parent) == [path.name]


@linux
def test_refused_a_thousand_times(path: Path) -> None:
    one = opened(path)
    there = descriptors()
    for _ in range(500):
        refusal(path, "6/minute")
        with pytest.raises(MemoryError):
            Limiter("5/minute", shared=path, capacity=2**39)
    assert descriptors() == there
    assert len(one.seats()) == 1


@linux
def test_all_seats_are_taken(path: Path) -> None:
    limiters = [opened(path) for _ in range(128)]
    there = descriptors()
    for _ in range(3):
        assert refusal(path) == "128 limiters have joined this segment, which is as many as it has seats for"
    assert descriptors() == there
    limiters.pop(17)
    assert opened(path).hit("a")
    assert len(limiters[0].seats()) == 127


@linux
@pytest.mark.parametrize(
    "limit", [Concurrency(3), FixedWindow(3, per=60), SlidingLog(3, per=60), SlidingWindow(3, per=60)], ids=repr
)
def test_who_leaves_gives_back_what_it_holds_and_nothing_else(path: Path, limit: Any) -> None:
    one, other = opened(path, limit), opened(path, limit)
    assert [limiter.hit("a") for limiter in (one, other, other, one)] == [True, True, True, False]
    del other
    assert [one.hit("a") for _ in range(3)] == ([True, True, False] if isinstance(limit, Concurrency) else [False] * 3)


@linux
def test_units_are_given_back_by_another_than_took_them(path: Path) -> None:
    one, other = opened(path, Concurrency(3)), opened(path, Concurrency(3))
    assert one.hit("a", 3)
    other.release("a", 2)
    assert other.hit("a", 2)
    assert not other.hit("a")
    del one
    assert other.check("a").remaining == 0
    other.release("a", 99)
    assert other.check("a", 3).allowed


@linux
def test_reset_and_clear_leave_what_is_held(path: Path) -> None:
    limiter = opened(path, Concurrency(1), "1/minute")
    assert limiter.hit("a")
    limiter.reset("a")
    limiter.clear()
    assert not limiter.hit("a")
    limiter.release("a")
    assert limiter.hit("a")


@linux
def test_calls_on_a_new_key_are_judged_at_its_own_time(tmp_path: Path) -> None:
    """A claim reads the system's clock, which a process's own reading may lag behind."""
    limiter = Limiter("2/hour", shared=tmp_path / "new", capacity=1000)
    assert [[limiter.hit(key) for _ in range(3)] for key in range(300)] == [[True, True, False]] * 300
