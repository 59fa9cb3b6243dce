"""gunicorn and uvicorn with four workers on one shared limit, as they are really run: what they admit together, counted
from their answers, with workers that live and with workers that are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import penstock
from penstock import FixedWindow, Limiter, TokenBucket

pytestmark = pytest.mark.skipif(
    not (penstock.native and sys.platform == "linux"), reason="segments are there on Linux, with the compiled core"
)
HERE = Path(__file__).parent
WORKERS = 4
CLIENTS = 8
PATIENCE = 60.0
RATE = 1_000
DECISIONS = 10
"""In one request, so that five times the limit is offered by a client that is written in Python."""
GUNICORN = f"gunicorn --graceful-timeout 2 --workers {WORKERS} --bind unix:{{0}} segment_app:wsgi"
SERVERS = {
    "gunicorn": GUNICORN.split(),
    "gunicorn --preload": [*GUNICORN.split(), "--preload"],
    "uvicorn": ["uvicorn", "--workers", str(WORKERS), "--uds", "{0}", "--log-level", "warning", "segment_app:asgi"],
}


class Answer(NamedTuple):
    """One request: when it was sent and answered, by the monotonic clock, and what was admitted by which process."""

    sent: float
    received: float
    by_rate: int
    in_all: int
    pid: int


class Load:
    """CLIENTS threads that ask as fast as they are answered, or as fast as they are told to."""

    def __init__(self, path: Path, decisions: int) -> None:
        self._path = str(path)
        self._decisions = decisions
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        self.answers: list[Answer] = []
        self.lost = 0
        """Requests that were not answered, or not wholly."""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            sent = time.monotonic()
            found = ask(self._path, self._decisions)
            if found is None:
                self.lost += 1
                time.sleep(0.005)
            else:
                self.answers.append(Answer(sent, time.monotonic(), *found))
            time.sleep(max(0.0, sent + CLIENTS * self._decisions / (5 * RATE) - time.monotonic()))  # 5 times the rate

    @property
    def seconds(self) -> float:
        """From the first decision at the earliest to the last at the latest."""
        return max(answer.received for answer in self.answers) - min(answer.sent for answer in self.answers)


def ask(path: str, decisions: int) -> tuple[int, int, int] | None:
    """One request over a connection of its own: (admitted by rate, in all, process), or None without an answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(path)
            connection.sendall(f"GET /{decisions} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            whole = b""
            while more := connection.recv(65536):
                whole += more
    except OSError:
        return None
    head, _, body = whole.partition(b"\r\n\r\n")
    if b" 200 " not in head[:20] or f"content-length: {len(body)}".encode() not in head.lower():
        return None
    by_rate, in_all, pid = map(int, body.split(b","))
    return by_rate, in_all, pid


@contextlib.contextmanager
def served(server: str, folder: Path, total: int) -> Iterator[Path]:
    """A server of this kind, ready to answer on the path."""
    pytest.importorskip(server.split()[0])
    path = folder / "socket"
    command = [sys.executable, "-m", *(part.format(path) for part in SERVERS[server])]
    numbers = {"SEGMENT_RATE": str(RATE), "SEGMENT_TOTAL": str(total)}
    places = {"SEGMENT_FOLDER": str(folder), "PYTHONPATH": str(HERE)}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=HERE, env=os.environ | numbers | places, stdout=log, stderr=log, start_new_session=True
        )
        try:
            end = time.monotonic() + PATIENCE
            while ask(str(path), 0) is None:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.02)
            yield path
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


def counted(folder: Path, total: int) -> tuple[int, int]:
    """Units that the segments say were taken: decisions admitted by the rate, and units of the limit in all."""
    by_rate = Limiter(TokenBucket(RATE), shared=folder / "rate", capacity=64)
    in_all = Limiter(FixedWindow(total, per=86_400, align="first"), shared=folder / "total", capacity=64)
    for limiter in (by_rate, in_all):
        limiter.clear_dead()
        assert [alive for _, _, alive in limiter.seats()] == [None], "a worker that is gone still has a seat"
    decision = in_all.peek("everybody")
    return by_rate.stats().admitted, total - decision.remaining - decision.allowed


def within_the_promise(server: str, folder: Path, seconds: float) -> None:
    total = round(RATE * seconds)
    with served(server, folder, total) as path, Load(path, DECISIONS) as load:
        time.sleep(seconds)
    answers = load.answers
    assert load.lost == 0
    assert len({answer.pid for answer in answers}) == WORKERS
    offered, by_rate, in_all = (sum(numbers) for numbers in zip(*((DECISIONS, *a[2:4]) for a in answers), strict=True))
    assert offered > total, "too little was offered to tell"
    assert in_all == total, "of a limit that does not refill: to the unit"
    assert by_rate <= RATE + RATE * load.seconds
    assert by_rate >= min(offered, RATE)
    for start in (answers[0], answers[len(answers) // 3], answers[len(answers) // 2]):  # and in any part of the time
        part = [answer for answer in answers if answer.sent >= start.sent]
        length = max(answer.received for answer in part) - start.sent
        assert sum(answer.by_rate for answer in part) <= RATE + RATE * length
    assert counted(folder, total) == (by_rate, in_all)


def killed(server: str, folder: Path, seconds: float) -> None:
    total = 10**6
    kills = 0
    with served(server, folder, total) as path, Load(path, 1) as load:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.2)
            recent = {answer.pid for answer in load.answers[-40:]}
            if recent:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(sorted(recent)), signal.SIGKILL)
                    kills += 1
        before = len(load.answers)
        while len(load.answers) < before + 20:  # and on it goes
            assert time.monotonic() < end + PATIENCE, "nobody answers any more"
            time.sleep(0.01)
    by_rate, in_all = (sum(numbers) for numbers in zip(*(answer[2:4] for answer in load.answers), strict=True))
    taken = counted(folder, total)[1]
    assert kills >= seconds * 2
    assert in_all <= taken <= in_all + load.lost
    if server.startswith("gunicorn"):  # whose workers have one request at a time
        assert taken <= in_all + kills
    assert by_rate <= RATE + RATE * load.seconds


@pytest.mark.parametrize("server", SERVERS)
def test_four_workers_are_within_the_promise(server: str, tmp_path: Path) -> None:
    within_the_promise(server, tmp_path, 2.0)


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_four_workers_of_which_one_is_killed_again_and_again(server: str, tmp_path: Path) -> None:
    killed(server, tmp_path, 2.0)


@pytest.mark.soak
@pytest.mark.parametrize("server", SERVERS)
def test_ten_seconds_within_the_promise(server: str, tmp_path: Path) -> None:
    within_the_promise(server, tmp_path, 10.0)


@pytest.mark.soak
@pytest.mark.parametrize("server", SERVERS)
def test_ten_seconds_of_kills(server: str, tmp_path: Path) -> None:
    killed(server, tmp_path, 10.0)
