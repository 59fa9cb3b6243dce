"""Fixtures of the tests on real servers: who is there to talk to, and the script in plain Python to compare with."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from peers import said

if TYPE_CHECKING:
    import redis
    from servers import Server
    from sharing import Make

if importlib.util.find_spec("redis") is None and (not said("CI") or said("PENSTOCK_LEAN")):
    collect_ignore_glob = ["test_*.py"]  # without the client there is nothing to test; CI must have it (peers.py)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for `each_server` run on every redis-server that can be had, for the script must run on all."""
    if "each_server" in metafunc.fixturenames:
        from servers import binaries

        found = binaries()
        names = [f"{path.name}-{index}" for index, path in enumerate(found)]
        metafunc.parametrize("each_server", found or [None], ids=names or ["none"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def each_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of each program in turn."""
    from servers import Server, binary

    program: Path = request.param or binary()
    with Server(tmp_path_factory.mktemp("redis"), program=program) as server:
        yield server


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for tests that leave it as it was but for its data."""
    from servers import Server

    with Server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(one_server: Server) -> Server:
    """That server, emptied."""
    with one_server.client() as client:
        client.flushall()
    return one_server


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Three masters of one cluster, which takes seconds to come up; tests leave them alive, with their slots."""
    from servers import cluster

    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def masters(one_cluster: list[Server]) -> list[Server]:
    """Those masters, which know of each other that they are there."""
    from servers import is_whole

    is_whole(one_cluster)
    return one_cluster


@pytest.fixture
def each_client(each_server: Server) -> Iterator[redis.Redis]:
    """A client of each server in turn, which is emptied."""
    with each_server.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
        yield client


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are not about an outage: a busy machine is none, and who closes may settle however late it gets
    its turn."""
    from penstock.sync import worker

    for name, value in (("TIMEOUT_LEAST_NS", 5 * 10**9), ("TIMEOUT_MOST_NS", 5 * 10**9), ("AWAY_AFTER", 10**6)):
        monkeypatch.setattr(f"penstock.sync.plan.{name}", value)
    monkeypatch.setattr("penstock.sync.plan.PATIENCE_NS", 10**12)
    for module in ("task", "worker", "exchange"):
        monkeypatch.setattr(f"penstock.sync.{module}.CLOSE_S", 30.0)
    monkeypatch.setattr(worker.close, "__defaults__", (30.0,))


@pytest.fixture
def shared(limiter_class: Any, server: Server) -> Iterator[Make]:
    """Makes limiters that share by `server`, and closes them."""
    from sharing import making

    with making(limiter_class, server) as make:
        yield make
