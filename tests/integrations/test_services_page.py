"""docs/services.md: its examples are copied as written into an empty folder, run there, and asked to refuse."""

from __future__ import annotations

import asyncio
import logging
import re
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, codes
from peers import needed

needed("grpc", "requests", "prometheus_client")

import grpc  # noqa: E402
import requests  # noqa: E402
from prometheus_client import REGISTRY, generate_latest  # noqa: E402

from penstock import RateLimited, native  # noqa: E402

EXAMPLES = codes(DOCS / "services.md")


class Teapot(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(429)
        self.send_header("Retry-After", "60")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of a server that asks everybody to come back in a minute."""
    with HTTPServer(("127.0.0.1", 0), Teapot) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def example(tmp_path: Path, segment_folder: Path) -> Callable[[str], dict[str, Any]]:
    """example(imported) runs the one that imports this module; its names."""

    def run(imported: str) -> dict[str, Any]:
        (code,) = [code for code in EXAMPLES if f"from penstock.integrations.{imported} import" in code]
        (tmp_path / "example.py").write_text(code, encoding="utf-8")
        return runpy.run_path(str(tmp_path / "example.py"))

    return run


def test_every_example_is_run() -> None:
    modules = [re.findall(r"from penstock\.integrations\.(\w+) import", code) for code in EXAMPLES]
    assert modules == [["httpx"], ["requests"], ["grpc"], ["celery"], ["opentelemetry", "prometheus"], ["logging"]]


def test_httpx(example: Callable[[str], dict[str, Any]], refusing: str) -> None:
    found = example("httpx")
    with found["client"] as client:
        assert client.get(refusing).status_code == 429
        with pytest.raises(RateLimited):
            client.get(refusing)

    async def ask() -> int:
        async with found["async_client"] as client:
            return int((await client.get(refusing)).status_code)

    assert asyncio.run(ask()) == 429


def test_requests(example: Callable[[str], dict[str, Any]], refusing: str) -> None:
    session: requests.Session = example("requests")["session"]
    with session:
        session.trust_env = False
        assert session.get(refusing).status_code == 429
        with pytest.raises(RateLimited):
            session.get(refusing)


def test_grpc(example: Callable[[str], dict[str, Any]]) -> None:
    server = example("grpc")["server"]
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"echo": echo}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/test.Echo/echo")
        assert call(b"1", metadata=(("tenant", "ada"),), timeout=20) == b"1"
        with pytest.raises(grpc.RpcError) as unknown:
            call(b"1", timeout=20)
        assert unknown.value.code() is grpc.StatusCode.PERMISSION_DENIED
    server.stop(None).wait()


@pytest.mark.skipif(sys.platform != "linux" or not native, reason="segments are for Linux and the compiled core")
def test_celery(example: Callable[[str], dict[str, Any]]) -> None:
    found = example("celery")
    found["app"].conf.task_always_eager = True
    send, report = found["send"], found["report"]
    assert [send.delay("ada").get() for _ in range(10)] == ["sent to ada"] * 10
    assert isinstance(send.delay("ada").result, RateLimited)
    assert [report(name) for name in ("ada", "bob")] == ["report for ada", "report for bob"]
    with pytest.raises(RateLimited):
        report("ada")


def test_metrics(example: Callable[[str], dict[str, Any]]) -> None:
    found = example("prometheus")
    try:
        found["api"].hit("user:ada")
        assert 'penstock_admitted_total{limiter="api"} 1.0' in generate_latest().decode()
    finally:
        REGISTRY.unregister(found["collector"])


def test_logging(example: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        example("logging")
    assert 5 <= len(caplog.records) < 100
