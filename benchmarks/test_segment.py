"""One limit for all processes of a host: a shared decision beside a private one, two processes beside one, and four
workers behind one limit beside what else there is for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from baselines import PLENTY, SPENT
from conftest import Bench

import penstock
from penstock import Limiter, TokenBucket
from penstock.cli._timing import each_key, one_key

pytestmark = pytest.mark.skipif(
    not (penstock.native and sys.platform == "linux"), reason="segments are there on Linux, with the compiled core"
)
WORKERS = Path(__file__).with_name("workers.py")
sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / part) for part in ("integration", "")]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.parametrize("case", ["one hot key", "100,000 keys", "one refused key"])
def test_shared_beside_private(
    case: str, bench: Bench, goal: Callable[[str, float], None], folder: Path, keys_100k: list[str]
) -> None:
    limit, seconds = SPENT if case == "one refused key" else PLENTY
    options: dict[str, Any] = {"capacity": 200_000 if case == "100,000 keys" else 1000}
    limiters = {
        "shared": Limiter(TokenBucket(limit, per=seconds), shared=folder / "segment", **options),
        "private": Limiter(TokenBucket(limit, per=seconds), **options),
    }
    if case == "100,000 keys":
        loops = {name: each_key(limiter.hit, keys_100k, 20_000) for name, limiter in limiters.items()}
    else:
        loops = {name: one_key(limiter.hit, "ip:203.0.113.7", 5000) for name, limiter in limiters.items()}
    best = bench.turns(f"shared beside private, {case}", "shared", loops)
    goal("shared", best["shared"] / best["private"])


def measured(*arguments: str) -> Any:
    command = [sys.executable, "-W", "ignore", str(WORKERS), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_processes_apart(fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor: two processes take turns")
    found = measured("apart")
    speedup, private = found["one"] / found["two"], found["one"] / found.pop("private")
    unit = "ns of wall time, and times one process's rate; with private limiters"
    fact("two processes on one segment", "distinct keys", unit, **found, speedup=speedup, private=private)
    goal("processes apart", speedup)


@pytest.mark.parametrize("subject", ["penstock", "limits-memory", "limits-redis", "traffik"])
def test_four_workers(subject: str, fact: Callable[..., None], tmp_path: Path) -> None:
    if subject != "penstock" and find_spec(subject.split("-")[0]) is None:
        pytest.skip(f"{subject} is not installed here")
    if subject == "limits-redis":
        pytest.importorskip("redis")
        pytest.importorskip("trustme")
        from servers import Server

        with Server(tmp_path) as server:
            found = measured("together", subject, server.url)
    else:
        found = measured("together", subject)
    unit = "decisions a second of four workers; units admitted, of as many as promised"
    fact("one limit for four workers", subject, unit, **found)
