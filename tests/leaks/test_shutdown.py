"""Processes that end while others wait or hold: with status 0, nothing on stderr, at once; also when interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

SECONDS = 30
"""Much more than any of these takes, much less than a test that hangs."""
MODES = {"plain": (), "dev": ("-X", "dev", "-W", "error")}

PROLOGUE = """
import asyncio, gc, signal, sys, threading, time
from penstock import Concurrency, Limiter, RateLimited, TokenBucket
from penstock.clock import ManualClock

def spent(**named):
    limiter = Limiter(TokenBucket(1, 86_400), capacity=64, **named)
    assert limiter.hit("a")
    return limiter

def until_waiting(limiter, count):
    while sum(map(len, list(limiter._waiters._queues.values()))) < count:
        time.sleep(0.001)
"""
ENDINGS = {
    "daemons wait": """
limiter = spent()
for _ in range(3):
    threading.Thread(target=limiter.acquire, args=("a",), daemon=True).start()
    threading.Thread(target=limiter.acquire, args=("a", 1, 1000), daemon=True).start()
until_waiting(limiter, 6)
""",
    "daemons wait on a manual clock": """
clock = ManualClock()
limiter = spent(clock=clock)
for _ in range(3):
    threading.Thread(target=limiter.acquire, args=("a",), daemon=True).start()
until_waiting(limiter, 3)
""",
    "daemons wait to hold": """
limiter = Limiter(Concurrency(1), capacity=64)
def work():
    with limiter.hold("a", timeout=None):
        time.sleep(1000)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
until_waiting(limiter, 2)
""",
    "daemons decide": """
limiter = spent()
def work():
    while True:
        limiter.hit("a"), limiter.check(("b", 1)), limiter.hit_many(["a", "b"])
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
""",
    "threads wait, and have little patience": """
limiter = spent()
done = []
threads = [threading.Thread(target=lambda: done.append(limiter.acquire("a", timeout=0.2))) for _ in range(3)]
for thread in threads:
    thread.start()
until_waiting(limiter, 3)
""",
    "threads wait, and the limiter is closed": """
limiter = spent()
with limiter:
    for _ in range(3):
        threading.Thread(target=limiter.acquire, args=("a",)).start()
    until_waiting(limiter, 3)
""",
    "tasks wait": """
limiter = spent()
async def main():
    tasks = [asyncio.create_task(limiter.acquire_async("a")) for _ in range(3)]
    await asyncio.sleep(0.01)
    until_waiting(limiter, 3)
asyncio.run(main())
assert not limiter._waiters._queues
""",
    "tasks wait in a daemon's loop": """
limiter = spent()
async def main():
    await asyncio.gather(*(limiter.acquire_async("a") for _ in range(3)))
threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
until_waiting(limiter, 3)
""",
    "holds are open": """
limiter = Limiter(Concurrency(3), capacity=64)
hold = limiter.hold("a")
hold.__enter__()
def inside():
    with limiter.hold("a"):
        yield
generator = inside()
next(generator)
async def task():
    async with limiter.hold("a"):
        await asyncio.sleep(1000)
async def main():
    asyncio.create_task(task())
    await asyncio.sleep(0.01)
asyncio.run(main())
reservation = limiter.reserve("a", 1)
""",
    "limiters in globals and cycles": """
class Clock(ManualClock):
    pass
clock = Clock()
limiter = spent(clock=clock)
clock.limiter = limiter
function = limiter.limit(key="a")(lambda: limiter)
limiters = [Limiter("5/minute", capacity=64) for _ in range(5)]
limiters.append(limiters)
hold = Limiter(Concurrency(1), capacity=64).hold("a")
hold.__enter__()
sys.modules["elsewhere"] = limiter
class Late:
    def __init__(self, limiter):
        self.limiter = limiter
    def __del__(self):
        assert self.limiter.hit("late") and self.limiter.check("later") and repr(self.limiter)
late = Late(Limiter("5/minute", capacity=64))
Late.cycle = [Late(Limiter("5/minute", capacity=64)), late]
""",
    "the last words are decisions": """
import atexit
limiter = spent()
atexit.register(limiter.hit, "b")
atexit.register(lambda: limiter.acquire("a", timeout=0.01))
atexit.register(limiter.close)
""",
    "an exit in a hold": """
limiter = Limiter(Concurrency(1), capacity=64)
with limiter.hold("a"):
    threading.Thread(target=lambda: limiter.acquire("a"), daemon=True).start()
    until_waiting(limiter, 1)
    sys.exit(0)
""",
}
TIMELY = """
def now_and_here(wait):
    print("waiting", flush=True)
    try:
        wait()
    except KeyboardInterrupt:
        print("interrupted", time.monotonic_ns(), flush=True)
    else:
        print("not interrupted", flush=True)
"""
INTERRUPTED = {
    "acquire": 'limiter = spent()\nnow_and_here(lambda: limiter.acquire("a"))',
    "acquire with a timeout": 'limiter = spent()\nnow_and_here(lambda: limiter.acquire("a", timeout=1000))',
    "acquire on a manual clock": """
limiter = spent(clock=ManualClock())
now_and_here(lambda: limiter.acquire("a"))
""",
    "acquire behind another": """
limiter = spent()
threading.Thread(target=limiter.acquire, args=("a",), daemon=True).start()
until_waiting(limiter, 1)
now_and_here(lambda: limiter.acquire("a"))
assert sum(map(len, limiter._waiters._queues.values())) == 1, "it has left the line"
""",
    "hold": """
limiter = Limiter(Concurrency(1), capacity=64)
limiter.hit("a")
now_and_here(lambda: limiter.hold("a", timeout=None).__enter__())
limiter.release("a")
with limiter.hold("a"):
    pass
""",
    "inside a hold": """
limiter = Limiter(Concurrency(1), capacity=64)
def inside():
    with limiter.hold("a"):
        time.sleep(1000)
now_and_here(inside)
assert limiter.hit("a"), "given back"
""",
    "acquire_async": 'limiter = spent()\nnow_and_here(lambda: asyncio.run(limiter.acquire_async("a")))',
    "a hot loop": """
limiter = spent()
def work():
    while True:
        limiter.hit("a")
now_and_here(work)
""",
}


def command(code: str, mode: str) -> list[str]:
    return [sys.executable, *MODES[mode], "-c", PROLOGUE + code]


@pytest.mark.parametrize(
    ("pure", "mode"), [("", "plain"), ("", "dev"), ("1", "dev")], ids=["native", "native-dev", "reference-dev"]
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_ends_cleanly(ending: str, pure: str, mode: str) -> None:
    if not pure and os.environ.get("PENSTOCK_PURE", "") not in ("", "0"):
        pytest.skip("PENSTOCK_PURE asks to do without the compiled core")
    environment = {**os.environ, "PENSTOCK_PURE": pure}
    done = subprocess.run(
        command(ENDINGS[ending], mode), capture_output=True, text=True, timeout=SECONDS, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="no SIGINT to send here")
@pytest.mark.parametrize("where", INTERRUPTED)
def test_an_interrupt_arrives_at_once(where: str) -> None:
    """KeyboardInterrupt in the main thread, wherever it waits; then the process goes on and ends as usual."""
    child = subprocess.Popen(
        command(TIMELY + INTERRUPTED[where], "dev"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        time.sleep(0.1)  # so that it does wait
        sent = time.monotonic_ns()
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=SECONDS)
    finally:
        child.kill()
        child.wait()
    assert (child.returncode, errors) == (0, "")
    word, arrived = out.rsplit(maxsplit=1)
    assert word == "interrupted"
    assert (int(arrived) - sent) / 1e9 < 5, "at once, on a busy machine too"
