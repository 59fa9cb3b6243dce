"""Saving a limiter and loading it: what is kept, over which time, in which tables, and what damage does."""

from __future__ import annotations

import datetime
import errno
import os
import random
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engines import BACKENDS, SECRET, engine_of, limiter_of, manual_clock

import penstock
from penstock import (
    Concurrency,
    FixedWindow,
    Limiter,
    PenstockError,
    SegmentError,
    SlidingLog,
    SlidingWindow,
    SnapshotError,
    TokenBucket,
    snapshot,
)
from penstock._rows import rows_in, section_of
from penstock.clock import NS, ManualClock
from penstock.policy import HORIZON, compile_policies
from penstock.rate import YEAR_NS

segments = pytest.mark.skipif(
    sys.platform != "linux" or not penstock.native, reason="segments need Linux and the compiled core"
)
ALL: tuple[Any, ...] = (
    TokenBucket(7, per=60, burst=11),
    SlidingWindow(9, per=60),
    SlidingLog(8, per=60),
    FixedWindow(9, per=60),
    FixedWindow(10, per=60, align="first"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.state"


class TwoClocks:
    """A clock whose wall shows another time than it counts: after a restart, or when somebody has set it."""

    def __init__(self, now_ns: int, wall_ns: int) -> None:
        self.now, self.wall = now_ns, wall_ns

    def now_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.wall


def answers(limiter: Any, keys: Any, tier: str | None = None) -> list[Any]:
    return [limiter.peek(key, cost, tier) for key in keys for cost in (1, 3)]


# ---- what is kept ----


@pytest.mark.parametrize("limit", ALL, ids=repr)
def test_each_algorithm_goes_on(limiter_class: Any, limit: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class(limit, clock=clock)
    for step in (1, 9, 13, 27):
        limiter.hit("a", 2)
        limiter.hit(("b", step))
        clock.advance(step)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    keys = ["a", *(("b", step) for step in (1, 9, 13, 27)), "new"]
    for _ in range(40):
        assert answers(loaded, keys) == answers(limiter, keys)
        assert loaded.hit("a") == limiter.hit("a")
        clock.advance(1.7)
    assert loaded.now_ns() == limiter.now_ns()


def test_the_limiter_needs_not_be_told_again(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    tiers = {
        "free": [TokenBucket(5, datetime.timedelta(milliseconds=1500), 9), SlidingWindow(3, 0.3, 3), Concurrency(2)],
        "pro": [TokenBucket(9, 1e-5), SlidingWindow(5, 0.3, 3), Concurrency(7)],
    }
    limiter = limiter_class(tiers=tiers, on_full="deny", capacity=99, name="é", remember_names=True, clock=clock)
    limiter.hit(("a", 1, b"\xff"), tier="pro")
    limiter.hit("\ud800", tier="free")
    limiter.hit(-(2**90), tier="free")
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert repr(loaded) == repr(limiter)
    assert (loaded.name, loaded.capacity, loaded.shared) == ("é", 99, None)
    assert loaded._limits == tiers
    assert {one.name for one in loaded.top()} == {("a", 1, b"\xff"), "\ud800", -(2**90)}
    assert loaded.fingerprint("x") == limiter.fingerprint("x")
    filled = [loaded.hit(f"k{n}", tier="free") for n in range(300)]
    assert not all(filled), "a full table refuses, as it was told"
    again = path.with_name("again")
    loaded.save(again)
    assert repr(limiter_class.load(again, clock=clock, name="x")) == repr(limiter).replace("é", "x")


def test_names_are_saved_only_if_they_were_remembered(limiter_class: Any, path: Path) -> None:
    limiter = limiter_class("5/minute")
    limiter.hit("a secret name")
    limiter.save(path)
    assert b"a secret name" not in path.read_bytes()
    assert limiter_class.load(path).top()[0].name is None


def test_limits_may_be_given_and_must_be_the_same(limiter_class: Any, path: Path) -> None:
    limiter_class("5/minute; 100/day").save(path)
    per = datetime.timedelta(minutes=1)
    for given in (["5/minute", "100/day"], [TokenBucket(5, per, 5), TokenBucket(100, 86_400.0)]):
        assert limiter_class.load(path, *given).hit("a")
    for given, tiers in ((["5/minute"], None), (["5/minute; 101/day"], None), ([], {"a": "5/minute; 100/day"})):
        with pytest.raises(ValueError, match="are not those that were saved") as caught:
            limiter_class.load(path, *given, tiers=tiers)
        assert not isinstance(caught.value, PenstockError)
        assert "TokenBucket(limit=100, per=86400, burst=None)" in str(caught.value)
    with pytest.raises(ValueError, match=r"limits SlidingWindow.* TokenBucket"):
        limiter_class.load(path, "5/minute; 100/day", algorithm="sliding-window")


def test_concurrency_and_counters_are_not_kept(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class(Concurrency(1), "5/minute", clock=clock)
    assert limiter.hit("a")
    assert not limiter.hit("a")
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert loaded.stats()[:4] == (0, 0, 0, 1)
    assert loaded.check("a").remaining == 0
    assert loaded.peek("a").limit == 1


def test_limits_that_were_replaced_are_those_in_force(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class("10/minute", SlidingLog(9, 60), SlidingWindow(9, 60), clock=clock)
    limiter.hit("a", 7)
    limiter.replace("5/minute", SlidingLog(4, 60), SlidingWindow(5, 60))
    clock.advance(1)
    limiter.force("a")
    limiter.save(path)
    loaded = limiter_class.load(path, "5/minute", SlidingLog(4, 60), SlidingWindow(5, 60), clock=clock)
    for _ in range(100):
        clock.advance(1)
        assert loaded.hit("a") == limiter.hit("a")


def test_a_window_that_was_begun_and_given_back_goes_on(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class(FixedWindow(2, 60, align="first"), clock=clock)
    limiter.hit("a")
    limiter.refund("a")
    clock.advance(40)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert loaded.check("a").reset_after == limiter.check("a").reset_after == 20


@pytest.mark.parametrize("way", [(one, other) for one in BACKENDS for other in BACKENDS])
@pytest.mark.usefixtures("both")
def test_either_engine_reads_what_the_other_wrote(way: tuple[str, str], path: Path, clock: ManualClock) -> None:
    limiter = limiter_of(way[0])(*ALL, clock=clock, secret=SECRET)
    draw = random.Random(3)
    for _ in range(300):
        limiter.hit(f"k{draw.randrange(60)}", draw.choice((1, 1, 2)))
        clock.advance(draw.random())
    limiter.save(path)
    loaded = limiter_of(way[1]).load(path, clock=clock)
    assert sorted(map(sorted_rows, loaded.rows())) == sorted(map(sorted_rows, limiter.rows()))
    assert loaded.spending(1000) == limiter.spending(1000)


def sorted_rows(section: bytes) -> list[Any]:
    return sorted(rows_in(section))


# ---- time ----


@pytest.mark.parametrize(("passed", "room"), [(0.0, 0), (6.0, 1), (30.0, 5), (1e9, 10), (-100.0, 0)])
def test_wall_time_that_passed(limiter_class: Any, path: Path, passed: float, room: int) -> None:
    """The machine was started anew meanwhile: its own clock tells nothing. A wall clock set back has stood still."""
    limiter = limiter_class("10/minute", clock=TwoClocks(5 * 10**15, 10**18))
    limiter.hit("a", 10)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=TwoClocks(10**9, 10**18 + round(passed * NS)))
    assert loaded.peek("a").remaining == max(0, room - 1)
    assert loaded.peek("a").allowed == (room > 0)


@pytest.mark.parametrize("per", [60, 4 * YEAR_NS // NS], ids=["a minute", "four years"])
def test_a_wall_clock_gone_wild(limiter_class: Any, path: Path, per: int) -> None:
    """It shows a time of aeons from now: all is as good as new, and nothing overflows."""
    limiter = limiter_class(SlidingWindow(3, per / 10), FixedWindow(3, per / 10), clock=TwoClocks(0, 0))
    limiter.hit("a", 3)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=TwoClocks(0, 2**79))
    assert loaded.hit("a", 3)
    assert not loaded.hit("a")


def test_a_limiter_older_than_the_machine(limiter_class: Any, path: Path) -> None:
    """Its birth was before the clock's zero; the engine computes with that."""
    clock = TwoClocks(0, 10**18)
    limiter = limiter_class("2/minute", SlidingWindow(2, 60), clock=clock)
    clock.now += YEAR_NS
    clock.wall += YEAR_NS
    limiter.hit("a")
    limiter.save(path)
    saved = snapshot.read(str(path))
    snapshot.write(str(path), saved._replace(wall_ns=time.time_ns()))
    loaded = limiter_class.load(path)
    assert YEAR_NS <= loaded.now_ns() < YEAR_NS + 60 * NS
    assert [loaded.hit("a") for _ in range(3)] == [True, False, False]
    assert [loaded.hit("b") for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("limits", [ALL, (SlidingWindow(9, 61), SlidingWindow(9, 7.3)), ("7/minute",)], ids=repr)
def test_an_old_limiter_gets_younger_and_decides_the_same(
    limiter_class: Any, limits: Any, path: Path, clock: ManualClock
) -> None:
    limiter = limiter_class(*limits, clock=clock)
    clock.set_ns(clock.now_ns() + HORIZON // 2 + 12_345_678_901)
    for _ in range(5):
        limiter.hit("a")
        clock.advance(1.1)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert loaded.now_ns() < YEAR_NS
    for _ in range(60):
        clock.advance(1.3)
        assert loaded.peek("a", 2) == limiter.peek("a", 2)
        assert loaded.hit("a") == limiter.hit("a")


def test_windows_that_never_turn_together(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    """Then units count as up to a sub-window later: nothing is admitted that the saved one would refuse."""
    limiter = limiter_class(SlidingWindow(9, per=3600.000001), SlidingWindow(9, per=1799.999999), clock=clock)
    clock.set_ns(clock.now_ns() + HORIZON // 2 + 1)
    for _ in range(8):
        limiter.hit("a")
        clock.advance(250)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert loaded.now_ns() <= 7200.1 * NS
    for _ in range(120):
        clock.advance(60)
        assert limiter.peek("a").remaining >= loaded.peek("a").remaining
    assert loaded.peek("a").remaining == 8, "a whole window and a sub-window later all is forgotten"


def test_a_limiter_whose_time_had_ended_goes_on(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class(*ALL, clock=clock)
    clock.set_ns(clock.now_ns() + 2 * HORIZON)
    limiter.hit("a", 7)
    clock.advance(1000)
    assert not limiter.hit("a", 7), "its time stands still"
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    assert not loaded.hit("a", 7)
    clock.advance(130)
    assert loaded.hit("a", 7)


def test_another_grid_of_fixed_windows(limiter_class: Any, path: Path) -> None:
    """A wall clock that was corrected lays the grid anew: what was counted goes to the window that ends nearest."""
    limiter = limiter_class(FixedWindow(5, 60), clock=TwoClocks(0, 1_000_000_000 * NS))
    limiter.hit("a", 4)
    limiter.save(path)
    saved = snapshot.read(str(path))
    ends = next(rows_in(saved.rows[0]))[1][0][0]
    for shift in (-15, -1, 0, 1, 15):
        wall = TwoClocks(0, (1_000_000_000 + shift) * NS)
        snapshot.write(str(path), saved._replace(wall_ns=wall.wall))
        loaded = limiter_class.load(path, clock=wall)
        assert loaded.peek("a").remaining == 0
        assert loaded.peek("a").reset_after == pytest.approx(ends / NS - shift, abs=1e-6)


def test_ticks_of_another_penstock(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    """Rows say in what they are: coarser ticks are converted, and never to a debt that is less."""
    limiter = limiter_class("7/minute", tiers={"pro": "100/minute"}, clock=clock)
    clock.advance(77)
    limiter.hit("a", 5)
    limiter.hit("b", 31, tier="pro")
    limiter.save(path)
    saved = snapshot.read(str(path))
    scales = [[(1 << 58 >> 10, token // 16 >> 10) for _, token in limits] for limits in saved.scales]

    def coarser(found: int, pairs: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
        (tier, tat), *_ = pairs
        new_ticks, new_token = scales[tier][0]
        ticks, token = saved.scales[tier][0]
        owed = tat - (saved.now_ns * ticks >> 58)
        return found, [(tier, (saved.now_ns * new_ticks >> 58) - (-owed * new_token // token))]

    rows = [section_of(coarser(*row) for row in rows_in(saved.rows[0]))]
    snapshot.write(str(path), saved._replace(scales=scales, rows=rows))
    loaded = limiter_class.load(path, clock=clock)
    for key, tier in (("a", None), ("b", "pro")):
        assert loaded.peek(key, tier=tier).remaining in (limiter.peek(key, tier=tier).remaining,) * 2
        ahead = loaded.peek(key, tier=tier).reset_after - limiter.peek(key, tier=tier).reset_after
        assert 0 <= ahead < 1e-4


# ---- tables ----


def test_a_full_table_goes_into_one_like_it(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class("50/day", clock=clock, capacity=500, secret=SECRET)
    for number in range(3000):
        limiter.hit(number, 1 + number % 50)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    before, after = dict_of(limiter), dict_of(loaded)
    assert after.items() <= before.items()
    assert loaded.stats().evicted == len(before) - len(after)
    assert len(after) >= 500, "all that it is rated for"
    assert len(before) - len(after) <= len(before) // 25
    assert set(sorted(before, key=before.__getitem__)[len(before) // 2 :]) <= after.keys()


def test_a_smaller_table_keeps_those_who_owe_most(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class("100000/day", "1000000/day", clock=clock, capacity=1000)
    for number in range(1000):
        limiter.hit(number, 1 + number)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock, capacity=100)
    before, after = dict_of(limiter), dict_of(loaded)
    assert loaded.capacity == 100
    assert 100 <= len(after) <= 180
    assert after.items() <= before.items()
    assert loaded.stats().evicted == 2 * (1000 - len(after)), "of each limit"
    most = sorted(before, key=before.__getitem__, reverse=True)[:50]
    assert set(most) <= after.keys()


def test_a_larger_table(limiter_class: Any, path: Path, clock: ManualClock) -> None:
    limiter = limiter_class(*ALL, clock=clock, capacity=200)
    for number in range(200):
        limiter.hit(number)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock, capacity=5000)
    assert dict_of(loaded) == dict_of(limiter)
    assert loaded.stats().evicted == 0


@pytest.mark.parametrize("limit", ALL, ids=repr)
def test_what_was_moved_to_make_room_decides_as_before(
    limiter_class: Any, limit: Any, path: Path, clock: ManualClock
) -> None:
    limiter = limiter_class(limit, clock=clock, capacity=64)
    for number in range(690):  # several times each, in other sub-windows
        limiter.hit(number % 115, 1 + number % 3)
        clock.advance(0.07)
    limiter.save(path)
    loaded = limiter_class.load(path, clock=clock)
    kept = [number for number in range(115) if loaded.spent(loaded.fingerprint(number))]
    assert len(kept) >= 64
    for _ in range(3):
        assert answers(loaded, kept) == answers(limiter, kept)
        clock.advance(20)


def dict_of(limiter: Any) -> dict[int, int]:
    return {found: units for found, limit, units in limiter.spending(10_000) if limit == 0}


def test_fewer_names_in_a_smaller_limiter(limiter_class: Any, path: Path) -> None:
    limiter = limiter_class("5/day", remember_names=True, capacity=100)
    for number in range(150):
        limiter.hit(number)
    limiter.save(path)
    loaded = limiter_class.load(path, capacity=10)
    assert sorted(loaded.remembered().values()) == list(range(130, 150))


# ---- files ----


def test_every_byte_counts(limiter_class: Any, path: Path) -> None:
    limiter_class(*ALL, remember_names=True).save(path)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(SnapshotError, match=f"{path} "):
            limiter_class.load(path)
        path.write_bytes(content[:at])
        with pytest.raises(SnapshotError, match=f"{path} "):
            limiter_class.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(SnapshotError, match=f"has {len(content) + 1} bytes and was saved with {len(content)}: it was"):
        limiter_class.load(path)
    path.write_bytes(content)
    assert limiter_class.load(path).hit("a")


def test_later_and_foreign_files(limiter_class: Any, path: Path) -> None:
    limiter_class("5/minute").save(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 16, 2)
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"was saved in format 2; this penstock reads 1$"):
        limiter_class.load(path)
    for foreign in (b"", b"\0", b"penstock", b"\x7fELF" * 99, b"penstock segment" * 9):
        path.write_bytes(foreign)
        with pytest.raises(SnapshotError, match=f"^{path} (is not a saved limiter|has only 8 bytes: it was cut off)$"):
            limiter_class.load(path)


def resealed(path: Path, **fields: Any) -> None:
    """Writes what was saved with other fields, and a digest that is right."""
    saved = snapshot.read(str(path))
    path.write_bytes(b"".join(snapshot.pack(saved._replace(**fields))))


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity": 0},
        {"capacity": "9"},
        {"on_full": "explode"},
        {"name": 5},
        {"secret": b"short"},
        {"remember_names": 2},
        {"counters": (1, 2)},
        {"now_ns": -1},
        {"now_ns": HORIZON + 1},
        {"wall_ns": 2**90},
        {"wall_ns": None},
        {"scales": []},
        {"scales": [[(0, 0)]]},
        {"rows": []},
        {"rows": [b""] * 2},
        {"rows": [b"\0" * 7]},
        {"rows": [b"\0" * 8]},
        {"rows": [struct.pack("<4Q", 1, 1, 0, 2**40)]},
        {"rows": [struct.pack("<4Q", 9, 0, 0, 2**40)]},
        {"rows": [struct.pack("<4Q", 9, 1, 1, 2**40)]},
        {"rows": [struct.pack("<4Q", 9, 2, 0, 2**40)]},
        {"rows": [struct.pack("<4Q", 9, 2**63, 0, 2**40)]},
        {"rows": [struct.pack("<4Q", 9, 1, 0, 2**63)]},
        {"rows": [struct.pack("<6Q", 9, 2, 0, 2**40, 0, 2**40)]},
    ],
    ids=str,
)
def test_forged_files(limiter_class: Any, path: Path, fields: dict[str, Any]) -> None:
    limiter = limiter_class("5/minute")
    limiter.hit("a")
    limiter.save(path)
    resealed(path, **fields)
    with pytest.raises(SnapshotError):
        limiter_class.load(path)


@pytest.mark.parametrize(
    ("limit", "pairs"),
    [
        (SlidingWindow(5, 60), [(0, 0)]),
        (SlidingWindow(5, 60), [(0, 2**56 + 1)]),
        (SlidingWindow(5, 60), [(2, 1)]),
        (SlidingWindow(5, 60), [(1, 1), (0, 1)]),
        (SlidingWindow(5, 60), [(1, 1), (1, 1)]),
        (SlidingLog(5, 60), [(11 * NS, 1)]),
        (SlidingLog(5, 60), [(2, 1), (1, 1)]),
        (SlidingLog(5, 60), [(1, 0)]),
        (FixedWindow(5, 60), [(101 * NS, 1)]),
        (FixedWindow(5, 60), [(30 * NS, 0)]),
        (FixedWindow(5, 60, "first"), [(60 * NS - 1, 1)]),
        (FixedWindow(5, 60), [(30 * NS, 1), (31 * NS, 1)]),
        (FixedWindow(5, 60), [(30 * NS, 2**57)]),
        (Concurrency(5), [(0, 1)]),
    ],
    ids=str,
)
def test_rows_that_cannot_be(engine: Any, limit: Any, pairs: list[tuple[int, int]], clock: ManualClock) -> None:
    """Nothing of a section is placed when one of its rows is wrong; nor of another that is right."""
    one = engine("5/minute", limit, clock=clock)
    clock.advance(10)
    right = section_of([(77, [(0, 2**40)])])
    with pytest.raises(ValueError, match=r"\w"):
        one.fill([right, section_of([(9, pairs)])], {})
    assert one.live() == 0
    one.fill([right, b""], {})
    assert one.live() == 1


def test_where_nothing_can_be_read(limiter_class: Any, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="No such file"):
        limiter_class.load(tmp_path / "nothing")
    with pytest.raises(SnapshotError, match=r"Is a directory|not a plain file|Permission denied"):
        limiter_class.load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(SnapshotError, match="it is not a plain file"):
            limiter_class.load(tmp_path / "pipe")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_for_this_user_alone(limiter_class: Any, path: Path) -> None:
    limiter = limiter_class("5/minute")
    path.write_text("old")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        limiter.save(str(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_where_nothing_can_be_written(limiter_class: Any, tmp_path: Path) -> None:
    limiter = limiter_class("5/minute")
    with pytest.raises(SnapshotError, match=r"cannot save to .*: No such file"):
        limiter.save(tmp_path / "nowhere" / "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SnapshotError, match="cannot save to"):
        limiter.save(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]
    assert limiter.hit("a")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails(limiter_class: Any, path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = limiter_class("5/minute")
    limiter.save(path)
    content = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    limiter.hit("a")
    with pytest.raises(SnapshotError, match="No space left on device"):
        limiter.save(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.skipif(sys.platform != "linux", reason="how a file is kept short is the system's own")
def test_a_disk_that_is_full(path: Path) -> None:
    """With the system's own refusal, in a process that may not write more than 4096 bytes to a file."""
    script = """
import resource, signal, sys
from penstock import Limiter, SnapshotError
limiter = Limiter("5/day")
limiter.hit("a")
limiter.save(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for number in range(1000):
    limiter.hit(number)
try:
    limiter.save(sys.argv[1])
except SnapshotError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"cannot save to {path}: File too large\n"
    assert done.stderr == ""
    assert os.listdir(path.parent) == [path.name]
    assert Limiter.load(path).stats().live == 1


def test_saved_limits_of_redis_are_refused(path: Path) -> None:
    pytest.importorskip("redis")
    limiter = Limiter("5/minute", name="x", sync="redis://localhost:1/0")
    try:
        with pytest.raises(ValueError, match="what counts is in Redis"):
            limiter.save(path)
    finally:
        limiter.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"name": 5}, TypeError),
        ({"capacity": 0}, ValueError),
        ({"capacity": 1.5}, TypeError),
        ({"clock": 5}, TypeError),
        ({"algorithm": "x"}, ValueError),
        ({"tiers": 5}, TypeError),
        ({"shared": 5}, TypeError),
    ],
)
def test_wrong_arguments(limiter_class: Any, path: Path, arguments: dict[str, Any], kind: type[Exception]) -> None:
    limiter_class("5/minute").save(path)
    with pytest.raises(kind, match=next(iter(arguments))):
        limiter_class.load(path, **arguments)
    for wrong in (5, None):
        with pytest.raises(TypeError):
            limiter_class.load(wrong)
        with pytest.raises(TypeError):
            limiter_class("5/minute").save(wrong)


# ---- while others decide ----


def test_saving_while_threads_decide(limiter_class: Any, path: Path) -> None:
    """Each key is as it was at some moment of the save: between what it had spent before it and after."""
    long = 86_400
    limiter = limiter_class(TokenBucket(10**6, 10**7), SlidingWindow(10**6, long), FixedWindow(10**6, long, "first"))
    keys, stop = [f"k{n}" for n in range(50)], threading.Event()

    def decide(seed: int) -> None:
        draw = random.Random(seed)
        while not stop.is_set():
            limiter.hit(draw.choice(keys), 10)

    threads = [threading.Thread(target=decide, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            before = {key: limiter.spent(limiter.fingerprint(key)) for key in keys}
            limiter.save(path)
            after = {key: limiter.spent(limiter.fingerprint(key)) for key in keys}
            loaded = limiter_class.load(path)
            for key in keys:
                spent = loaded.spent(loaded.fingerprint(key))
                assert before[key] <= spent <= after[key]
                assert spent % 10 == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# ---- segments ----


@segments
def test_a_segment_is_saved_and_loaded_into_another(tmp_path: Path, path: Path, clock: ManualClock) -> None:
    limiter = Limiter(*ALL, shared=tmp_path / "one", clock=clock, capacity=300)
    for number in range(40):
        limiter.hit(number % 7)
        clock.advance(0.5)
    limiter.save(path)
    loaded = Limiter.load(path, shared=tmp_path / "two", clock=clock)
    private = Limiter.load(path, clock=clock)
    back = Limiter.load(path, *ALL, shared=tmp_path / "three", clock=clock, capacity=3000)
    assert (loaded.capacity, back.capacity) == (300, 3000)
    for _ in range(30):
        for one in (loaded, private, back):
            assert answers(one, range(8)) == answers(limiter, range(8))
        assert loaded.hit(3) == private.hit(3) == back.hit(3) == limiter.hit(3)
        clock.advance(1.3)
    assert len(loaded.seats()) == 1
    assert loaded.counters()[2] == 0
    other = Limiter(*ALL, shared=tmp_path / "two", clock=clock)
    assert answers(other, range(8)) == answers(loaded, range(8))
    assert Limiter.load(path, shared=tmp_path / "two", clock=clock).now_ns() == loaded.now_ns()


@segments
def test_a_segment_that_is_there_knows_better(tmp_path: Path, path: Path) -> None:
    """As when workers start one after another: the first fills it, the others join what has been decided since."""
    limiter = Limiter("5/day", capacity=100)
    limiter.hit("a", 3)
    limiter.save(path)
    workers = [Limiter.load(path, shared=tmp_path / "segment") for _ in range(3)]
    assert [worker.hit("a") for worker in workers] == [True, True, False]
    assert not Limiter.load(path, shared=tmp_path / "segment").hit("a")
    fresh = Limiter("5/day", shared=tmp_path / "fresh")
    assert Limiter.load(path, shared=tmp_path / "fresh").fingerprint("a") == fresh.fingerprint("a")
    Limiter("6/day", shared=tmp_path / "other")
    with pytest.raises(SegmentError, match=r"limits TokenBucket\(limit=6.*, not TokenBucket\(limit=5"):
        Limiter.load(path, shared=tmp_path / "other")


@segments
def test_a_segment_older_than_the_machine(tmp_path: Path, path: Path) -> None:
    limiter = Limiter(*ALL)
    limiter.hit("a", 3)
    limiter.save(path)
    saved = snapshot.read(str(path))
    snapshot.write(str(path), saved._replace(now_ns=YEAR_NS, rows=[b""] * len(ALL)))
    loaded = Limiter.load(path, shared=tmp_path / "segment")
    other = Limiter(*ALL, shared=tmp_path / "segment")
    assert YEAR_NS <= loaded.now_ns() <= other.now_ns() <= loaded.now_ns() < YEAR_NS + 3600 * NS
    assert [limiter.hit("a", 4) for limiter in (loaded, other, loaded)] == [True, True, False]


@segments
def test_a_forged_file_makes_no_segment(tmp_path: Path, path: Path) -> None:
    Limiter("5/minute").save(path)
    resealed(path, rows=[struct.pack("<4Q", 9, 1, 7, 2**40)])
    there = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(SnapshotError, match="what was saved cannot be read"):
            Limiter.load(path, shared=tmp_path / "segment")
    assert len(os.listdir("/proc/self/fd")) == there
    assert os.listdir(tmp_path) == [path.name]


# ---- what does not happen ----


def test_an_age_beyond_the_end_of_time(engine_class: Any) -> None:
    policies, clock = compile_policies([[TokenBucket(5)]], 0), manual_clock()
    one = engine_class(
        policies, {None: 0}, capacity=9, evict=True, secret=SECRET, clock=clock, remember=False, age=HORIZON + 9
    )
    assert one.now_ns() == HORIZON


def test_no_engine_is_filled_with_sections_of_others(backend: str, engine: Any) -> None:
    assert isinstance(engine("5/minute"), engine_of(backend))
    with pytest.raises(ValueError, match="sections must be of 1 limits, not 2"):
        engine("5/minute").fill([b"", b""], {})
