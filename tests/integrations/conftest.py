"""Fixtures: each application's server, started once for all tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from serving import COMMANDS, NEEDS, Server

import penstock


def skip_unless(name: str) -> None:
    """Skips where an application cannot be served."""
    for package in NEEDS[name]:
        pytest.importorskip(package)
    if not penstock.native:
        pytest.skip("the applications' workers share segments, which the compiled core has alone")


@contextmanager
def serving(name: str, factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one of the applications; skips where what it needs is not there."""
    skip_unless(name)
    server = Server(name, factory.mktemp(name), COMMANDS[name], times=2 if name == "aiohttp" else 1)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each application in turn."""
    with serving(request.param, tmp_path_factory) as started:
        yield started


@pytest.fixture(scope="module", params=["starlette", "fastapi", "aiohttp"])
def with_websockets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Those that have a websocket."""
    with serving(request.param, tmp_path_factory) as started:
        yield started


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Server]:
    """Starlette on a unix socket."""
    skip_unless("starlette")
    path = tmp_path / "socket"
    arguments = ["-m", "uvicorn", "--no-proxy-headers", "--uds", str(path), "starlette_app:app"]
    server = Server("starlette", tmp_path, arguments, unix=path)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def django(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Django with its REST framework."""
    with serving("django", tmp_path_factory) as started:
        yield started
