"""Real server processes for the tests, and a client that chooses its address and reads answers to the letter."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ports import free_port

APPS = Path(__file__).parent / "apps"
READY_S = 60

UVICORN = ["-m", "uvicorn", "--host", "127.0.0.1", "--no-proxy-headers", "--log-level", "warning", "--port"]
GUNICORN = ["-m", "gunicorn", "--workers", "2", "--threads", "4", "--log-level", "warning", "--no-control-socket", "-b"]

COMMANDS = {
    "starlette": [*UVICORN, "{port}", "--workers", "2", "starlette_app:app"],
    "fastapi": [*UVICORN, "{port}", "fastapi_app:app"],
    "flask": [*GUNICORN, "127.0.0.1:{port}", "flask_app:app"],
    "wsgi": [*GUNICORN, "127.0.0.1:{port}", "wsgi_app:app"],
    "django": [*GUNICORN, "127.0.0.1:{port}", "django_app:app"],
    "django-asgi": [*UVICORN, "{port}", "django_app:asgi"],
    "aiohttp": ["aiohttp_app.py", "{port}"],
}

NEEDS = {
    "starlette": ["starlette", "uvicorn"],
    "fastapi": ["fastapi", "uvicorn"],
    "flask": ["flask", "gunicorn"],
    "wsgi": ["gunicorn"],
    "django": ["django", "rest_framework", "gunicorn"],
    "django-asgi": ["django", "rest_framework", "uvicorn"],
    "drf": ["django", "rest_framework"],
    "aiohttp": ["aiohttp"],
}


class Answer(NamedTuple):
    """headers: names in lower case, the values of a repeated one joined."""

    status: int
    headers: dict[str, str]
    body: bytes


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, whose other end has no address."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


class Server:
    """One application in server processes of its own, listening on `port` of 127.0.0.1, or on a unix socket."""

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: Sequence[str],
        cwd: Path = APPS,
        times: int = 1,
        port: int | None = None,
        unix: Path | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port() if port is None else port
        self._unix = unix
        environ = os.environ | {"PENSTOCK_TEST_FOLDER": str(folder), "PYTHONPATH": str(cwd), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, *(one.format(port=self.port) for one in arguments)]
        with (folder / "server.log").open("wb") as log:
            self._processes = [
                subprocess.Popen(
                    command, cwd=cwd, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
                for _ in range(times)
            ]
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                with closing(self.connect()) as connection:
                    connection.connect()
                return
            except OSError:
                if time.monotonic() > deadline or any(one.poll() is not None for one in self._processes):
                    self.stop()
                    raise RuntimeError(f"{self.name} does not answer:\n{self.log()}") from None
                time.sleep(0.05)

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        if self._unix is not None:
            return UnixConnection(self._unix)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(source, 0))

    def get(
        self, path: str, source: str = "127.0.0.1", headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        """One request on a connection of its own. source: the client's address, any of 127.0.0.0/8."""
        connection = self.connect(source)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            found: dict[str, str] = {}
            for name, value in response.getheaders():
                found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
