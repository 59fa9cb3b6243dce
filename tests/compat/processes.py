"""Real server processes for applications under test, and a client that opens a connection for each request."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """One response: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """A server process; get() asks it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **headers: str) -> Answer:
        """One GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@contextmanager
def serving(folder: Path, application: str, *arguments: str, workers: int = 1) -> Iterator[Server]:
    """`app` of the module `application` (source text) by gunicorn, or by uvicorn for arguments that begin with it.

    The listening socket is made here and handed down, so that no port is guessed and none refuses.
    """
    (folder / "application.py").write_text(application)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        fd = listening.fileno()
        if arguments[:1] == ("uvicorn",):
            command = ["-m", "uvicorn", "application:app", "--fd", str(fd), "--workers", str(workers), *arguments[1:]]
        else:
            command = ["-m", "gunicorn", "application:app", "-b", f"fd://{fd}", "-w", str(workers), *arguments]
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, pass_fds=[fd], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            server = Server(listening.getsockname()[1])
            ends = time.monotonic() + 30
            while True:
                try:
                    server.get("/ready")
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > ends:
                        raise AssertionError(log.read_text()) from None
                    time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
