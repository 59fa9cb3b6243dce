"""What the processes of the tests do: each function runs in a process of its own (crowd.py)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import time
from typing import Any

from crowd import Tally, eventually

import penstock
from penstock import SegmentError

DAY = 86_400.0


def made(path: str, limits: str, **options: Any) -> Any:
    """A limiter on the segment; limits: its arguments as one writes them."""
    names = {name: getattr(penstock, name) for name in penstock.__all__} | {"DAY": DAY}
    names |= {"made": lambda *a, **k: (a, k)}
    arguments, written = eval(f"made({limits})", names)
    from pathlib import Path

    return penstock.Limiter(*arguments, shared=Path(path), **{"capacity": 64} | written | options)


def refused(call: Any) -> str:
    """What the SegmentError says that the call must raise."""
    try:
        call()
    except SegmentError as error:
        return str(error)
    raise AssertionError(f"{call} was answered")


def left(limiter: Any, key: str = "k") -> int:
    """Units of the key that may still be taken."""
    decision = limiter.peek(key)
    return int(decision.remaining + decision.allowed)


# ---- totals ----


def open_together(path: str, limits: str, tally_path: str, slot: int) -> None:
    """Opens the segment when word 0 of the tally says so: word `slot` is the file's number then."""
    tally = Tally(tally_path)
    tally[slot] = -1
    while not tally[0]:
        time.sleep(0)
    limiter = made(path, limits)
    tally[slot] = os.fstat(limiter.fd).st_ino
    tally.until(0, 2)


def hits(
    path: str, limits: str, tally_path: str, slot: int, keys: list[str], times: int, tiers: list[str | None]
) -> None:
    """Hits each key so often, under each tier in turn; the words from `slot` on are how often each was admitted, then
    what the process is doing: 1 when it is ready, 2 when it is done. Then it stays, and keeps what it holds."""
    tally = Tally(tally_path)
    limiter = made(path, limits)
    tally[slot + len(keys)] = 1
    tally.until(0, 1)
    for turn in range(times):
        tier = tiers[turn % len(tiers)]
        for place, key in enumerate(keys):
            if limiter.hit(key, 1, tier):
                tally[slot + place] += 1
    tally[slot + len(keys)] = 2
    tally.until(0, 2)


def batches(path: str, limits: str, tally_path: str, slot: int, keys: list[str], times: int) -> None:
    """`hits` by batches."""
    tally = Tally(tally_path)
    limiter = made(path, limits)
    tally[slot + len(keys)] = 1
    tally.until(0, 1)
    for _ in range(times):
        for place, admitted in enumerate(limiter.hit_many(keys)):
            tally[slot + place] += int(admitted)
    tally[slot + len(keys)] = 2
    tally.until(0, 2)


# ---- until it is killed ----

BEGUN, TAKEN, BACK_BEGUN, BACK = range(4)
"""Words of a tally: calls begun, units that were answered with yes, units whose return was begun, and was over."""


def loop(path: str, limits: str, tally_path: str, slot: int, kind: str, keys: list[str]) -> None:
    """Calls and calls, and writes down each call before and after it."""
    tally = Tally(tally_path)
    limiter = made(path, limits)
    turn = 0
    while True:
        key = keys[turn % len(keys)]
        turn += 1
        tally[slot + BEGUN] += 1
        if kind == "batch":
            taken = int(limiter.hit_many(keys).sum())
        elif kind == "acquire":
            taken = int(limiter.acquire(key, timeout=0.001))
        else:
            taken = int(limiter.hit(key))
        tally[slot + TAKEN] += taken
        if kind == "refund" and taken:
            tally[slot + BACK_BEGUN] += 1
            limiter.refund(key)
            tally[slot + BACK] += 1


class Places:
    """So many places, one for each unit of a limit, that the system gives back when a process dies.

    Who holds a unit must find one free. They are opened before the limiter, so that who dies lets go of them first.
    """

    def __init__(self, path: str, count: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._count = count

    def take(self) -> int:
        """A free place, or -1; tried several times, since others move about while one looks."""
        for _ in range(200):
            for place in range(self._count):
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                    return place
                except OSError:
                    continue
        return -1

    def leave(self, place: int) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)


def holds(path: str, limits: str, tally_path: str, slot: int, places_path: str, units: int, wait: float) -> None:
    """Holds a unit of one key again and again. Word 1 of the tally: 1 when more than `units` were held at once. Word
    `slot`: how often it had one."""
    tally, places = Tally(tally_path), Places(places_path, units)
    limiter = made(path, limits)
    while not tally[0]:
        try:
            with limiter.hold("k", timeout=wait):
                place = places.take()
                if place < 0:
                    tally[1] = 1
                    return
                tally[slot] += 1
                places.leave(place)
        except penstock.RateLimited:
            continue


# ---- waiting ----


def keep(path: str, limits: str, tally_path: str, slot: int, key: str, cost: int) -> None:
    """Takes units and keeps them until word 0 says so, then gives them back and stays until word 0 is 2."""
    tally = Tally(tally_path)
    limiter = made(path, limits)
    assert limiter.hit(key, cost)
    tally[slot] = 1
    tally.until(0, 1)
    limiter.release(key, cost)
    tally[slot] = 2
    tally.until(0, 2)


def wait(path: str, limits: str, tally_path: str, slot: int, key: str, how: str, look: bool) -> None:
    """Waits for a unit: word `slot` is 1 before, 2 once it has one. look: whether it looks for the dead meanwhile. The
    words after it: how often it asked, how often its listener went to sleep."""
    from penstock.segment import listener

    if not look:
        listener.LOOK_NS = 10**15
    tally = Tally(tally_path)

    class Counted(penstock.Limiter):
        def peek(self, *arguments: Any, **options: Any) -> Any:
            tally[slot + 1] += 1
            return super().peek(*arguments, **options)

        def sleep(self, *arguments: Any) -> None:
            tally[slot + 2] += 1
            super().sleep(*arguments)

    penstock.Limiter = Counted  # type: ignore[misc]
    limiter = made(path, limits)
    tally[slot] = 1
    hold = None
    if how == "acquire":
        assert limiter.acquire(key, timeout=60)
    elif how == "acquire_async":
        assert asyncio.run(limiter.acquire_async(key, timeout=60))
    else:
        hold = limiter.hold(key, timeout=60)
        hold.__enter__()
    tally[slot] = 2
    tally.until(0, 2)
    del hold


# ---- a file that is cut off or scribbled over ----

CUT_OFF = 33


def until_cut_off(path: str, limits: str, tally_path: str, slot: int, call: str) -> int:
    """Calls until the file is cut off, which must be said in a SegmentError; every later call says the same."""
    tally = Tally(tally_path)
    limiter = made(path, limits)
    calls = {
        "hit": lambda: limiter.hit("k"),
        "check": lambda: limiter.check("k"),
        "peek": lambda: limiter.peek("k"),
        "cost": lambda: limiter.hit("k", 2),
        "hit_many": lambda: limiter.hit_many([f"k{n}" for n in range(100)]),
        "refund": lambda: limiter.refund("k"),
        "release": lambda: limiter.release("k"),
        "stats": lambda: limiter.stats(),
        "top": lambda: limiter.top(),
        "acquire": lambda: limiter.acquire("k", timeout=0.01),
        "wait": lambda: limiter.acquire("kept", timeout=None),
        "wait_async": lambda: asyncio.run(limiter.acquire_async("kept", timeout=None)),
        "seats": lambda: limiter.seats(),
    }
    while call.startswith("wait") and limiter.hit("kept"):
        pass
    try:
        while True:
            tally[slot] += 1
            calls[call]()
    except SegmentError as error:
        said = str(error)
    for again in calls.values():
        assert said == refused(again)
    assert "was cut off" in said
    limiter.close()
    before = len(os.listdir("/proc/self/fd"))
    again = limiter = None
    calls.clear()

    def gone() -> bool:  # a listener may have it for a moment more, and tasks that failed until they are collected
        gc.collect()
        return len(os.listdir("/proc/self/fd")) < before

    eventually(gone)
    return CUT_OFF


def all_calls(path: str, limits: str, tally_path: str, slot: int, number: int) -> None:
    """Every call there is, with changing keys and costs, until word 0 says so. A penstock error is an answer."""
    import random

    draw = random.Random(number)
    tally = Tally(tally_path)
    limiter = made(path, limits)
    concurrent = "Concurrency" in limits

    def hold() -> None:
        with limiter.hold(key, cost, timeout=0.001):
            pass

    calls = [
        lambda: limiter.hit(key),
        lambda: limiter.hit(key, cost),
        lambda: limiter.check(key, cost),
        lambda: limiter.peek(key, cost),
        lambda: limiter.refund(key, cost),
        lambda: limiter.release(key, cost),
        lambda: limiter.force(key, cost),
        lambda: limiter.reset(key),
        lambda: limiter.hit_many([f"k{draw.randrange(100)}" for _ in range(50)]),
        lambda: limiter.check_many([f"k{draw.randrange(100)}" for _ in range(50)]),
        lambda: limiter.acquire(key, cost, timeout=0.001),
        lambda: limiter.reserve(key, cost),
        lambda: limiter.clear_dead(),
    ]
    rare = [
        lambda: limiter.stats(),
        lambda: limiter.top(),
        lambda: limiter.clear(),
        lambda: limiter.seats(),
        lambda: limiter.denied_keys(),
        lambda: made(path, limits),
    ]
    if concurrent:
        calls.append(hold)
    while not tally[0]:
        key, cost = f"k{draw.randrange(100)}", draw.choice([1, 1, 1, 2, 5, 100, 2**53])
        with contextlib.suppress(penstock.PenstockError):
            draw.choice(rare if draw.random() < 0.02 else calls)()
        tally[slot] += 1


def host_calls(path: str, tally_path: str, slot: int, number: int) -> None:
    """`all_calls` of an engine whose limits are exchanged with Redis, too, by a driver that gets any answers."""
    import random
    import struct

    draw = random.Random(number)
    tally = Tally(tally_path)
    engine = hosting(path)

    def exchanged() -> None:
        partition = draw.randrange(16)
        batch = engine.drain(partition, 50, draw.random() < 0.5, {(0, engine.fingerprint(key)): 2})
        entries = len(batch) // 40
        answers = entries * struct.pack("<ddIf", draw.random() * 100, 6e13, draw.randrange(9), draw.random() * 50)
        if not entries:
            return
        if draw.random() < 0.3:
            engine.failed(partition)
        else:
            engine.applied(partition, struct.pack("<BBHId", 0, 1, entries, 2, 6e13) + answers, 0)

    def restored() -> None:
        partition = draw.randrange(16)
        if engine.restore(partition):
            engine.failed(partition)

    calls = [
        lambda: engine.hit(key, cost),
        lambda: engine.check(key, cost),
        lambda: engine.peek(key, cost),
        lambda: engine.claim(key, cost),
        lambda: engine.refund(key, cost),
        lambda: engine.force(key, cost),
        lambda: engine.reset(key),
        lambda: engine.hit_many([f"k{draw.randrange(100)}" for _ in range(50)]),
        lambda: engine.share(draw.choice([1, 3, 1000]), [draw.choice([0, 0, 2, 3])] * draw.choice([1, 16])),
        lambda: engine.urge(engine.fingerprint(key)),
        lambda: engine.wait_here({engine.fingerprint(key): cost}),
        lambda: engine.leave_forgotten(draw.choice([None, engine.fingerprint(key)])),
        lambda: engine.rest(0, 1000),
        exchanged,
        exchanged,
        *(getattr(engine, name) for name in ("early", "fleet", "waited_elsewhere", "forgotten", "largest")),
    ]
    rare = [restored, *(getattr(engine, name) for name in ("lead", "unsettled", "clear", "live", "clear_dead"))]
    while not tally[0]:
        key, cost = f"k{draw.randrange(100)}", draw.choice([1, 1, 1, 2, 5, 100, 2**53])
        with contextlib.suppress(penstock.PenstockError, ValueError, RuntimeError):  # partitions may be fewer
            draw.choice(rare if draw.random() < 0.02 else calls)()
        tally[slot] += 1


def hosting(path: str) -> Any:
    """An engine of shared limits on the segment, without anybody who exchanges them."""
    from penstock._core import Engine
    from penstock.policy import compile_shared
    from penstock.segment.file import join
    from penstock.segment.header import Header, boottime_ns

    limits = [penstock.TokenBucket(50), penstock.SlidingWindow(50, per=1), penstock.FixedWindow(50, per=1)]
    policies = compile_shared([limits], 50_000_000, 0.5)
    born = boottime_ns(), time.time_ns()
    header = Header({None: limits}, policies, 64, "evict", bytes(16), "the system's", "as 'x'", *born)
    opened = join(penstock.Segment(path=path), lambda: header, lambda _: None)
    return Engine(
        policies, {None: 0}, capacity=64, evict=True, secret=bytes(16), clock=None, remember=False, segment=opened
    )


# ---- two users ----


def other_user(path: str, folder: str, limits: str) -> None:
    """As nobody: another's segment cannot be opened, read, cut off, locked, replaced or removed."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    assert refused(lambda: made(path, limits)) == f"cannot open {path}: Permission denied"
    forbidden = [
        lambda: os.open(path, os.O_RDONLY),
        lambda: os.open(path, os.O_WRONLY),
        lambda: os.truncate(path, 0),
        lambda: os.unlink(path),
        lambda: os.rename(path, path + "x"),
        lambda: os.chmod(path, 0o666),
        lambda: os.link(path, os.path.join(folder, "link")),
    ]
    for call in forbidden:
        try:
            call()
        except OSError:
            continue
        raise AssertionError("allowed to another user")
    own = made(os.path.join(folder, "own"), limits)  # what was root's is nobody's now, and still it works
    assert own.hit("k")
    status = os.fork()
    if status == 0:
        os._exit(0 if own.hit("k") and len(own.seats()) == 2 else 1)
    assert os.waitpid(status, 0)[1] == 0
    name = f"test-{os.getpid()}-{os.urandom(6).hex()}"
    named = penstock.Limiter("5/minute", shared=name, capacity=64)
    assert named.shared == f"/dev/shm/penstock-65534-{name}"
    os.unlink(named.shared)


# ---- fork ----


def in_child(function: Any) -> int:
    """Runs function() in a forked child: its exit code, 0 for None."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = int(function() or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork_shares(path: str) -> None:
    """A limiter made before fork is one for all, each child in a seat of its own."""
    limiter = made(path, "'20/day'")
    assert [in_child(lambda: sum(limiter.hit("k") for _ in range(3))) for _ in range(4)] == [3] * 4
    assert sum(limiter.hit("k") for _ in range(20)) == 8
    assert in_child(lambda: len(limiter.seats())) == 2
    assert len([seat for seat in limiter.seats() if seat[2] is not False]) == 1


def fork_private() -> None:
    """One without a segment is private to each child."""
    limiter = penstock.Limiter("5/day")
    assert limiter.hit("k")
    assert [in_child(lambda: sum(limiter.hit("k") for _ in range(9))) for _ in range(3)] == [4] * 3
    assert sum(limiter.hit("k") for _ in range(9)) == 4


def fork_holds(path: str) -> None:
    """A child gives back neither by its end nor by its hold's what its parent holds; what it took itself it does."""
    limiter = made(path, "Concurrency(2)")
    with limiter.hold("k"):

        def leaves_the_block() -> int:
            hold.__exit__(None, None, None)
            return left(limiter)

        hold = limiter.hold("k")
        hold.__enter__()
        assert in_child(leaves_the_block) == 0
        assert in_child(lambda: limiter.hit("k")) == 0
        hold.__exit__(None, None, None)
        assert in_child(lambda: limiter.hit("k")) == 1
        limiter.clear_dead()
        assert left(limiter) == 1
    assert limiter.check("k", 2).allowed


def fork_outlives(path: str) -> None:
    """A parent that dies leaves its child's seat alone, and gives back its own units, not the child's."""
    one = made(path, "Concurrency(2)")
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        limiter = made(path, "Concurrency(2)")
        assert limiter.hit("k")
        if os.fork() == 0:
            assert limiter.hit("k")
            os.write(write, b"x")
            time.sleep(120)
            os._exit(0)
        time.sleep(120)
    os.read(read, 1)
    assert not one.hit("k")
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    one.clear_dead()
    assert left(one) == 1, (left(one), one.seats(), parent)
    grandchild = next(pid for pid, _, alive in one.seats() if alive)
    os.kill(grandchild, 9)
    eventually(lambda: one.clear_dead() or left(one) == 2)
    assert one.check("k", 2).allowed


def fork_while_waiting(path: str) -> None:
    """A child forked while its parent's threads wait can wait itself, and clears up after the dead."""
    import threading

    holder, limiter = made(path, "Concurrency(1)"), made(path, "Concurrency(1)")
    assert holder.hit("k")
    threads = [threading.Thread(target=limiter.acquire, args=("k",), kwargs={"timeout": 60}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        time.sleep(0.005)

        def child() -> int:
            assert not limiter.acquire("k", timeout=0.01)
            limiter.clear_dead()
            return 7

        assert in_child(child) == 7
    for _ in range(4):
        holder.release("k")
        eventually(lambda: not holder.peek("k").allowed or not any(thread.is_alive() for thread in threads))
        limiter.release("k")
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def fork_clears_dead(path: str) -> None:
    """A child forked at any moment of its parent's clearing up can clear up itself."""
    import threading

    limiter = made(path, "Concurrency(1)", capacity=5000)
    stop = False

    def clears() -> None:
        while not stop:
            limiter.clear_dead()

    thread = threading.Thread(target=clears)
    thread.start()

    def dies() -> int:
        os._exit(0 if made(path, "Concurrency(1)").hit("k") else 1)

    def child() -> int:
        other = os.fork()
        if other == 0:
            os.kill(os.getpid(), 9 if limiter.hit("own") else 15)
        assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == -9
        eventually(lambda: limiter.clear_dead() or limiter.peek("own").allowed)
        return 5

    for _ in range(20):
        assert in_child(child) == 5
    stop = True
    thread.join()


def fork_without_seats(path: str) -> None:
    """In a child for which no seat is left every call says so; the parent goes on."""
    limiters = [made(path, "'9/day'") for _ in range(128)]

    def child() -> int:
        said = {refused(lambda limiter=limiter: limiter.hit("k")) for limiter in limiters}
        return 1 if len(said) == 1 and "a forked process could not join it anew" in said.pop() else 2

    assert in_child(child) == 1
    assert limiters[0].hit("k")


def fork_beside_a_broken_one(path: str) -> None:
    """One segment that was cut off before the fork does not keep the others from being joined anew."""
    broken, other = made(path, "'9/day'"), made(path + "-other", "'9/day'")
    os.truncate(path, 0)
    for _ in range(2):  # the call that finds it out is answered
        try:
            broken.hit("k")
        except SegmentError:
            break
    else:
        raise AssertionError("not cut off")
    more = made(path + "-more", "'9/day'")

    def child() -> int:
        return len(other.seats()) * 10 + len(more.seats())

    assert in_child(child) == 22


def descriptors_after_forks(path: str) -> None:
    """A forked child has as many descriptors as its parent."""
    limiter = made(path, "'9/day'")
    count = len(os.listdir("/proc/self/fd"))

    def as_many() -> bool:
        return len(os.listdir("/proc/self/fd")) == count and limiter.hit("k")

    assert in_child(as_many) == 1
    assert in_child(lambda: in_child(lambda: in_child(as_many))) == 1
    import subprocess
    import sys

    command = [sys.executable, "-c", "import os; os.system('ls -l /proc/$PPID/fd')"]  # another program inherits none
    shown = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=True).stdout
    assert " -> " in shown
    assert os.path.dirname(path) not in shown


def pid_reuse(path: str) -> int:
    """Another process with a dead holder's number does not keep what that held. 77: the number was not to be had."""
    (asked, ask), (told, tell) = os.pipe(), os.pipe()
    maker = os.fork()  # before there is a limiter: its children join nothing
    if maker == 0:
        make_twin(int(os.read(asked, 20)), tell)
    limiter = made(path, "Concurrency(1)")
    holder = os.fork()
    if holder == 0:
        os._exit(0 if limiter.hit("k") else 1)
    assert os.waitpid(holder, 0)[1] == 0
    os.write(ask, str(holder).encode())
    try:
        if os.read(told, 1) != b"y":
            return 77
        os.kill(holder, 0)  # it is there, it seems
        assert [alive for pid, _, alive in limiter.seats() if pid == holder] == [False]
        eventually(lambda: limiter.hit("k"))
    finally:
        os.kill(maker, 15)
        os.waitpid(maker, 0)
    return 0


def make_twin(pid: int, tell: int) -> None:
    """Has a child of this number, tells so ("y", or "n" when it cannot be had), and keeps it; never returns."""
    import signal

    twin = 0
    with contextlib.suppress(OSError):
        for _ in range(50):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
            twin = os.fork()
            if twin == 0:
                signal.pause()
            if twin == pid:
                break
            os.kill(twin, 9)
            os.waitpid(twin, 0)
    signal.signal(signal.SIGTERM, lambda *_: (twin == pid and os.kill(twin, 9), os._exit(0)))
    os.write(tell, b"y" if twin == pid else b"n")
    while True:
        signal.pause()
