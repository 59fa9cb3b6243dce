"""gRPC servers with the interceptors, called over real channels: every kind of call, keys, peers and trailers."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from peers import needed

needed("grpc")

import grpc  # noqa: E402
import grpc.aio  # noqa: E402

from penstock import Concurrency, Limiter  # noqa: E402
from penstock.integrations.grpc import AioRateLimitInterceptor, RateLimitInterceptor, address_of  # noqa: E402

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


def echo(request: bytes, context: Any) -> bytes:
    return request


def echo_stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield request
    yield request


def last(requests: Iterator[bytes], context: Any) -> bytes:
    return [*requests][-1]


def each(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


def fail(request: bytes, context: Any) -> bytes:
    raise RuntimeError("on purpose")


async def async_echo(request: bytes, context: Any) -> bytes:
    return request


async def async_echo_stream(request: bytes, context: Any) -> Any:
    yield request
    yield request


async def async_last(requests: Any, context: Any) -> bytes:
    return [request async for request in requests][-1]


async def async_each(requests: Any, context: Any) -> None:
    async for request in requests:
        await context.write(request)


def service(*behaviours: Any) -> grpc.GenericRpcHandler:
    """test.Echo with one method of each kind, named for it, and one that fails."""
    methods = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)
        for kind, behaviour in zip(KINDS, behaviours, strict=True)
    }
    return grpc.method_handlers_generic_handler(
        "test.Echo", methods | {"fail": grpc.unary_unary_rpc_method_handler(fail)}
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """serve(interceptor, address="127.0.0.1:0") -> the target of a server in threads."""
    servers = []

    def start(interceptor: RateLimitInterceptor, address: str = "127.0.0.1:0") -> str:
        server = grpc.server(ThreadPoolExecutor(4), interceptors=[interceptor])
        server.add_generic_rpc_handlers((service(echo, echo_stream, last, each),))
        port = server.add_insecure_port(address)
        server.start()
        servers.append(server)
        return address if address.startswith("unix:") else f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def ask(target: str, kind: str, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> Any:
    """One call; the answers, or the error."""
    with grpc.insecure_channel(target) as channel:
        request = iter([b"1", b"2"]) if kind.startswith("stream") else b"1"
        shape = kind if kind in KINDS else "unary_unary"
        try:
            answer = getattr(channel, shape)(f"/test.Echo/{kind}")(request, metadata=metadata, timeout=20)
            return answer if isinstance(answer, bytes) else [*answer]
        except grpc.RpcError as error:
            return error


ANSWERS = {"unary_unary": b"1", "unary_stream": [b"1", b"1"], "stream_unary": b"2", "stream_stream": [b"1", b"2"]}


def check_refusal(error: Any, limit: int = 1) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    seconds = int(dict(error.trailing_metadata())["retry-after"])
    assert 0 < seconds <= 86_400
    assert error.details() == f"limit of {limit} reached; retry in {seconds} s"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_call_is_limited(kind: str, serve: Callable[..., str]) -> None:
    target = serve(RateLimitInterceptor("1/day"))
    assert ask(target, kind) == ANSWERS[kind]
    check_refusal(ask(target, kind))


async def asyncio_calls(style: str) -> None:
    """Calls of each kind until they are refused, in one event loop with their server."""
    limiter = Limiter("4/day")
    server = grpc.aio.server(ThreadPoolExecutor(2), interceptors=[AioRateLimitInterceptor(limiter)])
    behaviours = (async_echo, async_echo_stream, async_last, async_each)
    server.add_generic_rpc_handlers(
        (service(*behaviours if style == "coroutines" else (echo, echo_stream, last, each)),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def call(kind: str) -> Any:
        request = iter([b"1", b"2"]) if kind.startswith("stream") else b"1"
        called = getattr(channel, kind)(f"/test.Echo/{kind}")(request, timeout=20)
        return [answer async for answer in called] if kind.endswith("stream") else await called

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for kind in KINDS:
            assert await call(kind) == ANSWERS[kind]
        for kind in KINDS:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(kind)
            check_refusal(refused.value, 4)
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await channel.unary_unary("/test.Echo/none")(b"1")
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop(None)
    assert limiter.stats()[:2] == (4, 4)


@pytest.mark.parametrize("style", ["coroutines", "plain functions"])
def test_every_kind_of_call_is_limited_in_asyncio(style: str) -> None:
    """In a process of its own: what grpc.aio leaves behind waits for its thread whenever it is collected."""
    here = Path(__file__).parent
    code = f"import asyncio, sys; sys.path.append({str(here.parent)!r}); import test_grpc"
    code += f"; asyncio.run(test_grpc.asyncio_calls({style!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def by_user(method: str, context: Any) -> Any:
    return {"none": None, "odd": 1.5}.get(user := dict(context.invocation_metadata())["user"], user)


def test_keys_are_what_a_function_says(serve: Callable[..., str]) -> None:
    refused: list[Any] = []
    interceptor = RateLimitInterceptor(
        "1/day", key=by_user, exempt=lambda method, context: method.endswith("unary_stream"),
        on_refused=lambda key, decision: refused.append(key),
    )  # fmt: skip
    target = serve(interceptor)
    assert ask(target, "unary_unary", (("user", "ada"),)) == b"1"
    assert ask(target, "unary_unary", (("user", "bob"),)) == b"1"
    check_refusal(ask(target, "stream_unary", (("user", "ada"),)))
    assert refused == ["ada"]
    assert [ask(target, "unary_stream") for _ in range(3)] == [[b"1", b"1"]] * 3


@pytest.mark.parametrize("unknown", ["refuse", "admit"])
def test_calls_without_a_key_share_no_bucket(
    unknown: Any, serve: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Limiter("1/day")
    target = serve(RateLimitInterceptor(limiter, key=by_user, unknown=unknown))
    nobody: list[tuple[tuple[str, str], ...]] = [(), (("user", "none"),), (("user", "odd"),)]
    with caplog.at_level(logging.ERROR, "penstock.grpc"):
        answers = [ask(target, "unary_unary", metadata) for metadata in [*nobody, *nobody]]
    if unknown == "admit":
        assert answers == [b"1"] * 6
    else:
        assert {answer.code() for answer in answers} == {grpc.StatusCode.PERMISSION_DENIED}
        assert {answer.details() for answer in answers} == {"client could not be identified"}
    assert limiter.stats()[:2] == (0, 0)
    assert 1 <= len(caplog.records) <= 4  # of the four that raised, one a second
    assert caplog.records[0].getMessage() == "/test.Echo/unary_unary: no key for this call"


def test_an_observer_that_fails_changes_nothing(serve: Callable[..., str]) -> None:
    def observe(*_: object) -> None:
        raise RuntimeError("on purpose")

    target = serve(RateLimitInterceptor("1/day", on_refused=observe))
    assert ask(target, "unary_unary") == b"1"
    check_refusal(ask(target, "unary_unary"))


def test_a_peer_on_a_unix_socket_has_no_address(serve: Callable[..., str], tmp_path: Path) -> None:
    target = serve(RateLimitInterceptor("1/day"), f"unix:{tmp_path}/socket")
    assert ask(target, "unary_unary").code() is grpc.StatusCode.PERMISSION_DENIED
    target = serve(RateLimitInterceptor("1/day", unknown="admit"), f"unix:{tmp_path}/open")
    assert [ask(target, "unary_unary") for _ in range(3)] == [b"1"] * 3


def test_other_errors_stay_what_they_are(serve: Callable[..., str]) -> None:
    target = serve(RateLimitInterceptor("1/day"))
    assert ask(target, "none").code() is grpc.StatusCode.UNIMPLEMENTED
    assert ask(target, "fail").code() is grpc.StatusCode.UNKNOWN
    check_refusal(ask(target, "fail"))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:203.0.113.7:5000", "203.0.113.7"),
        ("ipv6:[2001:db8:1:2:3::4]:5000", "2001:db8:1:2::/64"),
        ("ipv6:%5B::1%5D:5000", "::/64"),
        ("ipv6:[::ffff:203.0.113.7]:5000", "203.0.113.7"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::1"),
        ("unix:/tmp/socket", None),
        ("unix:", None),
        ("unknown", None),
        ("", None),
        ("tcp:203.0.113.7:1", None),
    ],
)
def test_addresses_of_peers(peer: str, address: str | None) -> None:
    assert address_of(peer) == address


def test_what_cannot_be_is_refused_when_made() -> None:
    with pytest.raises(ValueError, match="a Concurrency limit has to be given back"):
        RateLimitInterceptor(Concurrency(3))
    with pytest.raises(ValueError, match="unknown='maybe' must be"):
        AioRateLimitInterceptor("1/second", unknown="maybe")  # type: ignore[arg-type]
