"""The migration pages: each example is copied as written into an empty folder and run there, then asked to refuse."""

from __future__ import annotations

import asyncio
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, codes
from peers import needed

needed("httpx")

import httpx  # noqa: E402

import penstock  # noqa: E402

EXAMPLES = {
    f"{page.stem}-{number}": code
    for page in sorted((DOCS / "migration").glob("*.md"))
    for number, code in enumerate(codes(page))
}


def statuses(app: Any, paths: list[str], **headers: str) -> list[int]:
    """What an ASGI application answers to one client."""

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app, client=("203.0.113.7", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [(await client.get(path, headers=headers)).status_code for path in paths]

    return asyncio.run(ask())


def slowapi(found: dict[str, Any]) -> None:
    assert statuses(found["app"], ["/"] * 6) == [200] * 5 + [429]


def flask_limiter(found: dict[str, Any]) -> None:
    client = found["app"].test_client()
    assert [client.get("/").status_code for _ in range(6)] == [200] * 5 + [429]


def fastapi(found: dict[str, Any]) -> None:
    assert statuses(found["app"], ["/"] * 3) == [200, 200, 429]
    begun = time.monotonic()
    answered = statuses(found["app"], ["/search"] * 11, **{"x-api-key": "k"})
    passed = time.monotonic() - begun  # ten a second: what came back while a busy machine was slow is admitted, too
    assert answered[:10] == [200] * 10
    assert answered[10] == 429 or passed >= 0.1
    assert 429 in statuses(found["app"], ["/search"] * 200, **{"x-api-key": "k"})  # a hundred a minute


CHECKS: dict[str, Callable[[dict[str, Any]], None] | None] = {
    "fastapi-limiter-0": fastapi,
    "limits-0": slowapi,
    "limits-1": flask_limiter,
    "limits-2": None,  # these have their own assertions
    "limits-3": None,
    "pyrate-limiter-0": None,
    "throttled-py-0": None,
}
DJANGO = {
    "django-0": """
from django.conf import settings
settings.configure()
import example
from django.test import RequestFactory
get, post = RequestFactory().get("/"), RequestFactory().post("/")
print([example.home(get).status_code for _ in range(6)])
print([example.login(post).status_code for _ in range(4)], example.login(get).status_code)
""",
    "django-1": """
import example
from django.test import Client
print([Client().get("/").status_code for _ in range(6)])
""",
}
PRINTED = {
    "django-0": "[200, 200, 200, 200, 200, 429]\n[200, 200, 200, 429] 200\n",
    "django-1": "[200, 200, 200, 200, 200, 429]\n",
}


def test_every_example_is_run() -> None:
    assert EXAMPLES.keys() == CHECKS.keys() | DJANGO.keys()


def skip_unless_it_can_share(code: str) -> None:
    if ("shared=" in code or "+shm" in code) and (sys.platform != "linux" or not penstock.native):
        pytest.skip("segments are for Linux and the compiled core")


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_runs_as_written(name: str, tmp_path: Path, segment_folder: Path) -> None:
    skip_unless_it_can_share(EXAMPLES[name])
    (tmp_path / "example.py").write_text(EXAMPLES[name], encoding="utf-8")
    found = runpy.run_path(str(tmp_path / "example.py"))
    check = CHECKS[name]
    if check is not None:
        check(found)


@pytest.mark.parametrize("name", DJANGO)
def test_an_example_for_django_runs_as_written(name: str, tmp_path: Path) -> None:
    pytest.importorskip("django")
    skip_unless_it_can_share(EXAMPLES[name])
    (tmp_path / "example.py").write_text(EXAMPLES[name], encoding="utf-8")
    script = f"import penstock.segment.options as o; o.FOLDER = {str(tmp_path)!r}\n" + DJANGO[name]
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr[-2000:]) == (PRINTED[name], "")
