"""What nothing can cost less than: the loop, a call that does nothing, dict.get, a clock read, an exchange."""

from __future__ import annotations

import time
from types import ModuleType

import pytest
from conftest import Bench, address

from penstock.cli._timing import Loop, no_call, no_key, one_key

KEY = address(7)


FLOORS = ("empty loop", "dict.get", "method that does nothing", "time.monotonic", "clock read in C", "exchange in C")


@pytest.mark.parametrize("floor", FLOORS)
def test_floor(bench: Bench, floors: ModuleType, floor: str) -> None:
    loops: dict[str, Loop] = {
        "empty loop": no_call(10_000),
        "dict.get": one_key({KEY: 1}.get, KEY, 10_000),
        "method that does nothing": one_key(floors.Nothing().hit, KEY, 10_000),
        "time.monotonic": no_key(time.monotonic, 10_000),
        "clock read in C": lambda: floors.clock_reads(10_000),
        "exchange in C": lambda: floors.exchanges(10_000),
    }
    bench.turns("floors", floor, {"dict.get": loops["dict.get"], floor: loops[floor]})
