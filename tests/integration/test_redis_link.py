"""The Redis end on real servers: every way to say where, every way to fail, and a clear word for each."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio
from batches import PREFIX, Batch, contents
from ports import free_port
from proxy import Proxy
from servers import Server, sentinel, tls, until

from penstock.errors import SyncError
from penstock.sync.agreement import TTL_MS, agreement_of
from penstock.sync.names import Names, namespace_secret
from penstock.sync.redis import Call, Link, LinkError, NotSent, Refused, Unknown, read_target
from penstock.sync.wire import BUCKET, DUP, OK, Entry, Header, Reply, Rule, unpack_reply

RULES = [Rule(BUCKET, 1e7, 100.0, 100.0, 50.0)]
SECRET = "pass/word#5?@:%"
QUOTED = "".join(f"%{byte:02X}" for byte in SECRET.encode())
"""As a URL has it."""
T = TypeVar("T")


def call(seq: int, debt: int = 1, prefix: str = PREFIX) -> Call:
    """A batch of one entry."""
    batch = Batch(Header(seq, seq - 1, seq == 1, 50_000), RULES, [Entry(0, debt=debt)], ["b0"])
    header, entries, instance = batch.arguments
    keys = [key.decode().replace(PREFIX, prefix) for key in batch.keys]
    return Call(keys, header, entries, instance.decode())


def with_link(given: Any, act: Callable[[Link], Awaitable[T]]) -> T:
    """Run a coroutine on a new link."""

    async def run() -> T:
        async with Link(read_target(given)) as link:
            return await act(link)

    return asyncio.run(run())


def sent(given: Any, *calls: Call, timeout_s: float = 1.0) -> list[Reply]:
    """The replies to calls on one link."""

    async def act(link: Link) -> list[Reply]:
        return [unpack_reply(await link.send(one, timeout_s), 1) for one in calls]

    return with_link(given, act)


def failure(given: Any, timeout_s: float = 1.0) -> LinkError:
    """How a call fails; nothing of a password may be in it."""
    with pytest.raises(LinkError) as raised:
        sent(given, call(1), timeout_s=timeout_s)
    error: BaseException | None = raised.value
    assert error is not None
    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    return raised.value


def ways_to(server: Server) -> dict[str, Any]:
    """Every way to name one server."""
    tcp = {"host": server.host, "port": server.port}
    return {
        "tcp url": server.url,
        "unix url": f"unix://{server.path}?db=0",
        "client": redis.Redis(**tcp, decode_responses=True, socket_timeout=9.0),
        "client on a socket": redis.Redis(unix_socket_path=server.path),
        "asyncio client": redis.asyncio.Redis(**tcp),
        "asyncio client on a socket": redis.asyncio.Redis(unix_socket_path=server.path, decode_responses=True),
        "client from url": redis.Redis.from_url(server.url),
    }


def test_every_way_to_name_a_server(server: Server) -> None:
    for seq, (name, given) in enumerate(ways_to(server).items(), start=1):
        replies = sent(given, call(seq), call(seq))
        assert [reply.status for reply in replies] == [OK, DUP], name
        assert round(replies[0].answers[0].a) == 100 - seq, name
        assert SECRET not in read_target(given).where


def test_tls(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sync.ways.CONNECT_S", 10.0)  # a busy machine takes its time with keys
    with tls(server, tmp_path) as (proxy, certificate):
        url = f"rediss://{proxy.host}:{proxy.port}/0?ssl_ca_certs={certificate}"
        client = redis.Redis(host=proxy.host, port=proxy.port, ssl=True, ssl_ca_certs=str(certificate))
        asynchronous = redis.asyncio.Redis(host="localhost", port=proxy.port, ssl=True, ssl_ca_certs=str(certificate))
        for seq, given in enumerate((url, client, asynchronous), start=1):
            assert sent(given, call(seq))[0].status == OK
        error = failure(f"rediss://{proxy.host}:{proxy.port}/0")
        assert isinstance(error, NotSent)
        assert "its certificate is not trusted" in error.reason
        error = failure(f"redis://{proxy.host}:{proxy.port}/0")
        assert isinstance(error, NotSent)


def test_tls_asked_of_a_server_without(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sync.ways.CONNECT_S", 0.1)
    error = failure(f"rediss://{server.host}:{server.port}/0", timeout_s=0.05)
    assert (type(error), error.reason) == (NotSent, "no answer within 100 ms")  # it waits for a line's end, in vain


def test_calls_at_once_do_not_wait_for_each_other(server: Server) -> None:
    with Proxy(server.host, server.port) as proxy:

        async def act(link: Link) -> tuple[float, float]:
            """Seconds that a call takes alone, and that twenty take together."""
            await link.send(call(1), 1.0)
            proxy.faults.delay_s = 0.05
            loop = asyncio.get_running_loop()
            start = loop.time()
            await link.send(call(1), 5.0)
            alone = loop.time() - start
            await asyncio.gather(*(link.send(call(1), 5.0) for _ in range(20)))
            return alone, loop.time() - start - alone

        alone, together = with_link(proxy.url, act)
        assert together < 15 * alone  # while more connections are made


def test_the_script_is_loaded_again_when_redis_forgot_it(server: Server) -> None:
    async def act(link: Link) -> list[int]:
        first = unpack_reply(await link.send(call(1), 1.0)).status
        with server.client() as client:
            client.script_flush()
        return [first, unpack_reply(await link.send(call(2), 1.0)).status]

    assert with_link(server.url, act) == [OK, OK]


def test_a_server_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    with Server(tmp_path) as server:

        async def act(link: Link) -> list[Any]:
            ends: list[Any] = [unpack_reply(await link.send(call(1), 1.0)).status]
            server.restart()
            for _ in range(3):
                try:
                    ends.append(unpack_reply(await link.send(call(1), 1.0)).status)
                except LinkError as error:
                    ends.append(type(error))
            return ends

        ends = with_link(server.url, act)
        assert ends[0] == OK
        assert ends.count(OK) == 2  # forgotten, so taken once more
        assert ends[-1] == DUP


# ---- what is given ----


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "begins with redis://"),
        ("http://localhost", "not with http"),
        (f"redis//:{SECRET}@localhost", "begins with redis://"),
        (f"redis://user:{SECRET}@localhost:6379/0", "percent-encoded"),
        ("redis://localhost:port/0", "cannot be read"),
        ("redis://localhost:6379/zero", "database number"),
        ("redis://localhost:99999/0", "cannot be read"),
        ("redis://[::1/0", "cannot be read"),
        ("redis://localhost/0?no_such_setting=1", "a setting after its"),
        ("unix://", "path of the socket"),
        ("", "begins with redis://"),
    ],
)
def test_a_url_that_cannot_be_is_an_error_at_once(url: str, says: str) -> None:
    with pytest.raises(SyncError, match=says) as raised:
        read_target(url)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("given", [None, 6379, b"redis://localhost", redis.Redis, object()])
def test_what_is_no_place_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match=r"sync must be a URL .* or a client of redis-py, not "):
        read_target(given)


def test_settings_of_a_client_are_taken_over_or_refused(tmp_path: Path) -> None:
    class Provider(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            return "default", "right"

    with Server(tmp_path, "--requirepass", "right") as server:
        client = redis.Redis(host=server.host, port=server.port, db=3, credential_provider=Provider(), client_name="me")
        assert sent(client, call(1))[0].status == OK
        with server.client(db=3) as own:
            assert own.exists(f"{PREFIX}b0")
        assert read_target(client).where == f"redis://{server.host}:{server.port}/3"
    with pytest.raises(SyncError, match="ssl_validate_ocsp has no counterpart"):
        read_target(redis.Redis(ssl=True, ssl_validate_ocsp=True))


# ---- failures, each with its word ----


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = failure(f"redis://user:{QUOTED}@127.0.0.1:{taken.getsockname()[1]}/0")
    assert isinstance(error, NotSent)
    assert error.reason == "nothing listens there"
    error = failure(f"unix://{tmp_path}/no.sock")
    assert (type(error), error.reason) == (NotSent, "there is no such socket")


@contextmanager
def speaker(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that is no Redis, which does `serve` with its connections one after the other; its redis:// URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    held.append(connection)
                    serve(connection)
                except OSError:
                    return  # the listener or the connection was shut down: the test is over

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            for end in (listener, *held):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            thread.join()
            for end in held:
                end.close()


def in_trouble(reply: bytes) -> Callable[[socket.socket], None]:
    """Takes every command, but answers a script with `reply`."""

    def serve(connection: socket.socket) -> None:
        with connection.makefile("rb") as commands:
            while head := commands.readline():
                command = []
                for _ in range(int(head[1:])):
                    command.append(commands.read(int(commands.readline()[1:])))
                    commands.read(2)
                connection.sendall(reply if command[0] == b"EVALSHA" else b"+OK\r\n")

    return serve


def speaks_http(connection: socket.socket) -> None:
    """Answers anything as a web server does."""
    while connection.recv(2**16):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def is_silent(connection: socket.socket) -> None:
    """Takes everything and says nothing."""
    while connection.recv(2**16):
        pass


def test_a_server_that_is_no_redis() -> None:
    with speaker(speaks_http) as url:
        error = failure(url)
    assert (type(error), error.reason) == (NotSent, "what answers there is no Redis")


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.sync.ways.CONNECT_S", 0.1)
    with speaker(is_silent) as url:
        error = failure(url, timeout_s=0.05)
    assert (type(error), error.reason) == (NotSent, "no answer within 100 ms")


KILLED_7 = b"-ERR Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL.\r\n"
KILLED_6 = b"-ERR Error running script (call to f_1): @user_script: 1: Script killed by user with SCRIPT KILL... \r\n"
OOM_6 = b"-ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not allowed\r\n"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (KILLED_7, "our script was killed"),
        (KILLED_6, "our script was killed"),
        (OOM_6, "its memory is full"),
        (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n", "it is busy"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading"),
        (b"-MISCONF Redis is configured to save RDB snapshots, but is unable to persist\r\n", "cannot save"),
        (b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n", "lost its master"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "for want of replicas"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "the cluster is down"),
        (b"-MOVED 13907 10.0.0.1:6379\r\n", "give a RedisCluster client"),
        (b"-NOPERM this user has no permissions to run the 'zadd' command\r\n", "may not do what our script"),
        (b"-ERR unknown command 'EVALSHA'\r\n", "unknown command"),
        (b"-ERR something quite new happened to " + SECRET.encode() + b"\r\n", "something quite new"),
        (b"-NOSCRIPT No matching script. Please use EVAL.\r\n", "forgets our script"),
        (b":1\r\n", "answers a script with int"),
    ],
)
def test_what_redis_refuses_is_not_applied(reply: bytes, says: str) -> None:
    """Troubles that are hard to get a real server into, in the words of real ones."""
    with speaker(in_trouble(reply)) as url:
        error = failure(url.replace("redis://", f"redis://:{QUOTED}@"))
    assert isinstance(error, Refused)
    assert says in error.reason


def test_a_wrong_password_is_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Server(tmp_path, "--requirepass", "right") as server:
        for given in (
            f"redis://:{QUOTED}@{server.host}:{server.port}/0",
            f"redis://someone:{QUOTED}@{server.host}:{server.port}/0",
            redis.Redis(host=server.host, port=server.port, password=SECRET),
        ):
            error = failure(given)
            assert (type(error), error.reason) == (NotSent, "it refuses the user or the password")
            assert QUOTED not in str(error)
        error = failure(server.url)
        assert (type(error), error.reason) == (NotSent, "it asks for a password, and none is given")
        assert sent(f"redis://:right@{server.host}:{server.port}/0", call(1))[0].status == OK
    assert SECRET not in caplog.text
    assert QUOTED not in caplog.text


def test_a_read_only_replica(tmp_path: Path, server: Server) -> None:
    with Server(tmp_path, "--replicaof", server.host, str(server.port)) as replica:
        with server.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with replica.client() as client:
            until("the replica", lambda: client.info("replication")["master_link_status"] == "up")
        error = failure(replica.url)
    assert isinstance(error, Refused)
    assert "read-only replica" in error.reason


def test_a_full_memory(each_server: Server) -> None:
    with each_server.client() as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")

        async def act(link: Link) -> None:
            await link.send(call(1), 1.0)
            client.config_set("maxmemory", 1)
            before = contents(client)
            with pytest.raises(Refused, match="its memory is full"):
                await link.send(call(2), 1.0)
            client.config_set("maxmemory", 0)
            assert contents(client) == before
            assert unpack_reply(await link.send(call(2), 1.0)).status == OK

        try:
            with_link(each_server.url, act)
        finally:
            client.config_set("maxmemory", 0)


def test_a_foreign_value(server: Server) -> None:
    with server.client() as client:
        client.rpush(f"{PREFIX}b0", "theirs")
        error = failure(server.url)
        assert isinstance(error, Refused)
        assert "a key of ours has a value that is not" in error.reason
        assert client.keys() == [f"{PREFIX}b0".encode()]


def test_a_server_busy_with_another_script(tmp_path: Path) -> None:
    with Server(tmp_path, "--lua-time-limit", "5") as server, server.client() as client:
        sent(server.url, call(1))
        endless = threading.Thread(target=_run_endless, args=(server,))
        endless.start()
        until("the endless script", lambda: _busy(client))
        error = failure(server.url, timeout_s=0.2)
        client.execute_command("SCRIPT KILL")
        endless.join()
        assert sent(server.url, call(2))[0].status == OK
    assert "busy with a script" in error.reason
    assert isinstance(error, NotSent | Refused)


def _run_endless(server: Server) -> None:
    with server.client() as client, pytest.raises(redis.ResponseError, match="killed"):
        client.eval("while true do end", 0)


def _busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_an_account_that_may_not_write(tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">right", "~*", "+@all", "-set")
        error = failure(f"redis://reader:right@{server.host}:{server.port}/0")
        assert isinstance(error, Refused)
        assert error.reason.startswith("this user may not do what our script does: ")


# ---- faults on the way ----


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the server."""
    with Proxy(server.host, server.port) as proxy:
        yield proxy


def test_a_late_answer_is_unknown_and_sent_again(proxy: Proxy) -> None:
    async def act(link: Link) -> list[int]:
        await link.send(call(1), 1.0)
        proxy.faults.delay_s = 0.06
        with pytest.raises(Unknown, match="no answer within 50 ms"):
            await link.send(call(2), 0.05)
        proxy.faults.delay_s = 0.0
        await asyncio.sleep(0.1)
        again = unpack_reply(await link.send(call(2), 1.0))
        return [again.status, round(again.answers[0].a), unpack_reply(await link.send(call(3), 1.0)).status]

    assert with_link(proxy.url, act) == [DUP, 98, OK]


def test_a_lost_answer_is_unknown(proxy: Proxy) -> None:
    async def act(link: Link) -> list[int]:
        await link.send(call(1), 1.0)
        proxy.faults.lose_replies = 1
        with pytest.raises(Unknown):
            await link.send(call(2), 1.0)
        return [unpack_reply(await link.send(call(2), 1.0)).status, unpack_reply(await link.send(call(3), 1.0)).status]

    assert with_link(proxy.url, act) == [DUP, OK]


def test_a_cut_connection_is_made_again(proxy: Proxy) -> None:
    async def act(link: Link) -> list[Any]:
        ends: list[Any] = []
        for seq in (1, 2, 2, 2):
            try:
                ends.append(unpack_reply(await link.send(call(seq), 1.0)).status)
            except LinkError as error:
                ends.append(type(error))
            if seq == 1:
                proxy.cut()
                await asyncio.sleep(0.05)
        return ends

    ends = with_link(proxy.url, act)
    assert ends[0] == OK
    assert [end for end in ends if end is not Unknown] in ([OK, OK, DUP, DUP], [OK, OK, DUP])


def test_a_half_open_connection_is_given_up(proxy: Proxy) -> None:
    async def act(link: Link) -> int:
        await link.send(call(1), 1.0)
        proxy.faults.half_open = True
        with pytest.raises(Unknown, match="no answer within 50 ms"):
            await link.send(call(2), 0.05)
        proxy.faults.half_open = False
        return unpack_reply(await link.send(call(2), 1.0)).status

    assert with_link(proxy.url, act) == OK


def test_an_answer_that_trickles_is_no_answer(proxy: Proxy) -> None:
    async def act(link: Link) -> int:
        await link.send(call(1), 1.0)
        proxy.faults.bytes_per_s = 100
        start = asyncio.get_running_loop().time()
        with pytest.raises(Unknown, match="no answer within 50 ms"):
            await link.send(call(2), 0.05)
        assert asyncio.get_running_loop().time() - start < 0.2
        proxy.faults.bytes_per_s = 0
        return unpack_reply(await link.send(call(2), 1.0)).status

    assert with_link(proxy.url, act) == DUP


def test_an_answer_that_comes_twice_is_taken_once(proxy: Proxy) -> None:
    async def act(link: Link) -> list[int]:
        await link.send(call(1), 1.0)
        proxy.faults.double_replies = 1
        rooms = []
        for seq in range(2, 5):
            reply = unpack_reply(await link.send(call(seq), 1.0))
            rooms.append(round(reply.answers[0].a))
            await asyncio.sleep(0.01)
        return rooms

    assert with_link(proxy.url, act) == [98, 97, 96]
    assert proxy.connections == 2


def test_a_refused_connection_is_not_sent(proxy: Proxy) -> None:
    proxy.faults.refuse = True
    assert isinstance(failure(proxy.url), NotSent)


def test_a_hung_server_holds_nobody_up(tmp_path: Path) -> None:
    with Server(tmp_path) as server:

        async def act(link: Link) -> None:
            await link.send(call(1), 1.0)
            server.pause()
            start = asyncio.get_running_loop().time()
            for _ in range(2):
                with pytest.raises((Unknown, NotSent), match="no answer"):
                    await asyncio.wait_for(link.send(call(2), 0.05), 3.0)
            assert asyncio.get_running_loop().time() - start < 2.5
            server.resume()
            while True:
                try:
                    reply = unpack_reply(await link.send(call(2), 1.0))
                    break
                except LinkError:
                    continue
            assert round(reply.answers[0].a) == 98

        with_link(server.url, act)


def test_instances_that_do_not_agree_find_out(server: Server) -> None:
    rules = [Rule(BUCKET, 1e6, 10.0, 10.0, 5.0)]
    secret, other = namespace_secret("api", b"a" * 16), namespace_secret("api", b"b" * 16)
    ours = agreement_of(1, secret, rules)
    names = Names("api", secret, "0" * 16)

    async def act(link: Link) -> list[str | None]:
        told = []
        for one in (
            ours,
            agreement_of(1, secret, [rules[0]._replace(debt_max=99.0)]),  # no limit of the user's
            agreement_of(1, secret, [rules[0]._replace(burst=11.0)]),
            agreement_of(1, other, rules),
            agreement_of(16, secret, rules),
        ):
            told.append(one.conflict(await link.agree(names.agreement, one.pack(), TTL_MS, 1.0)))
        return told

    none, same, limits, secrets, partitions = with_link(server.url, act)
    assert (none, same) == (None, None)
    assert limits is not None
    assert "other limits" in limits
    assert secrets is not None
    assert "another secret" in secrets
    assert partitions is not None
    assert "have 1 partitions, this one 16" in partitions
    assert "another version" in str(ours.conflict(b"something else"))
    with server.client() as client:
        client.pexpire(names.agreement, 5_000)
        with_link(server.url, lambda link: link.agree(names.agreement, b"theirs", TTL_MS, 1.0))
        assert client.pttl(names.agreement) <= 5_000
        with_link(server.url, lambda link: link.agree(names.agreement, ours.pack(), TTL_MS, 1.0))
        assert client.pttl(names.agreement) > 100_000


# ---- Sentinel ----


def test_sentinel_leads_to_the_new_master(tmp_path: Path) -> None:
    with sentinel(tmp_path) as (master, replica, watch):
        known = redis.sentinel.Sentinel([(watch.host, free_port()), (watch.host, watch.port)])  # the first is dead
        asynchronous = redis.asyncio.sentinel.Sentinel([(watch.host, watch.port)]).master_for("limits")
        assert sent(asynchronous, call(1))[0].status == OK
        with pytest.raises(SyncError, match="reads from replicas"):
            read_target(known.slave_for("limits"))
        error = failure(known.master_for("nobody"))
        assert (type(error), error.reason) == (NotSent, "no Sentinel that answers knows a master of that name")

        async def act(link: Link) -> int:
            assert unpack_reply(await link.send(call(1), 1.0)).status == DUP
            with master.client() as client:
                client.set("mark", 1)
                assert client.wait(1, 2_000) == 1  # replicas have this write, and so all before it
            master.kill()
            for _ in range(200):
                try:
                    reply = unpack_reply(await link.send(call(2), 0.2))
                except LinkError:
                    await asyncio.sleep(0.05)
                else:
                    return round(reply.answers[0].a)
            raise AssertionError("no new master")

        assert with_link(known.master_for("limits"), act) == 98
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"

