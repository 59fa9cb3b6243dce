"""hit_many over lists, NumPy and Arrow columns: table in cache, and 8 million keys in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from types import ModuleType
from typing import Any

import pytest
from baselines import PLENTY
from conftest import Bench, address

from penstock import Limiter, TokenBucket
from penstock.cli._timing import batch, each_key

Goal = Callable[[str, float], None]

CLIENTS = 1000
ROWS = 50_000
MANY = 8_000_000


def columns(numpy: Any) -> dict[str, Callable[[list[str], Any], Any]]:
    """Ways to hand over the same keys: (as str, as integers) -> what hit_many takes."""
    return {
        "list of str": lambda texts, numbers: texts,
        "list of int": lambda texts, numbers: numbers.tolist(),
        "NumPy uint64": lambda texts, numbers: numbers,
        "NumPy S20": lambda texts, numbers: numpy.array(texts, dtype="S20"),
        "NumPy U20": lambda texts, numbers: numpy.array(texts, dtype="U20"),
        "Arrow string": lambda texts, numbers: pytest.importorskip("pyarrow").array(texts),
    }


COLUMNS = ("list of str", "list of int", "NumPy uint64", "NumPy S20", "NumPy U20", "Arrow string")


@pytest.mark.parametrize("column", COLUMNS)
def test_in_cache(bench: Bench, goal: Goal, floors: ModuleType, column: str) -> None:
    numpy = pytest.importorskip("numpy")
    clients = numpy.random.default_rng(1).integers(0, CLIENTS, ROWS)
    texts = [address(number) for number in clients.tolist()]
    keys = columns(numpy)[column](texts, clients.astype(numpy.uint64))
    limiter = Limiter(TokenBucket(PLENTY[0], per=PLENTY[1]), capacity=2 * CLIENTS)
    assert limiter.hit_many(keys).all()
    loops = {
        "dict.get": each_key(dict.fromkeys(texts, 1).get, texts, ROWS),
        "exchange": lambda: floors.exchanges(10_000),
        "hit, one by one": each_key(limiter.hit, texts, ROWS),
        column: batch(lambda: limiter.hit_many(keys), ROWS),
    }
    best = bench.turns(f"hit_many, {ROWS:,} rows of {CLIENTS:,} keys", column, loops)
    if column == "NumPy uint64":
        goal("batch in cache", best[column] / best["exchange"])


@pytest.fixture(scope="module")
def full() -> Limiter:
    """A limiter that holds 8 million integer keys, as many as it is rated for."""
    numpy = pytest.importorskip("numpy")
    limiter = Limiter(TokenBucket(PLENTY[0], per=PLENTY[1]), capacity=MANY)
    for start in range(0, MANY, 1_000_000):
        limiter.hit_many(numpy.arange(start, start + 1_000_000, dtype=numpy.uint64))
    return limiter


def test_in_memory(bench: Bench, goal: Goal, floors: ModuleType, full: Limiter) -> None:
    numpy = pytest.importorskip("numpy")
    random = numpy.random.default_rng(1)
    parts = cycle([random.integers(0, MANY, 200_000).astype(numpy.uint64) for _ in range(20)])

    def decide() -> float:
        keys = next(parts)
        return batch(lambda: full.hit_many(keys), len(keys))()

    loops = {"exchange": lambda: floors.exchanges(10_000), "NumPy uint64": decide}
    best = bench.turns(f"hit_many, {MANY:,} keys in memory", "NumPy uint64", loops)
    goal("batch in memory", best["NumPy uint64"] / best["exchange"])
