"""What the benchmarks share: taking turns, the keys, the small C programs, and the tables printed at the end."""

from __future__ import annotations

import gc
import random
import shlex
import subprocess
import sysconfig
from collections.abc import Callable, Mapping
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import pytest
from goals import GOALS

from penstock.cli._timing import Cost, Loop, cost_of, turn

HERE = Path(__file__).parent

_seconds = 0.0
_facts: list[dict[str, Any]] = []
_goals: dict[str, float] = {}


def seconds_of_calls() -> float:
    """The timer that pytest-benchmark reads: it moves on by what one call took, so that its tables are per decision.

    The loops time themselves, thousands of calls at once; pytest-benchmark's own step costs more than a decision.
    """
    return _seconds


class Bench:
    """One measurement: loops in turns, of which one is the subject, the row in pytest-benchmark's table."""

    def __init__(self, benchmark: Any, seconds: float) -> None:
        self._benchmark = benchmark
        self._budget = seconds

    def turns(
        self, group: str, subject: str, loops: Mapping[str, Loop], *, least: int = 7, most: int = 300
    ) -> dict[str, float]:
        """Takes the loops in turns, and records what a call of each costs.

        Returns the least of all rounds in ns for each loop. least, most: rounds.
        """
        samples: dict[str, list[float]] = {name: [] for name in loops}

        def others() -> None:
            for name, loop in loops.items():
                if name != subject:
                    samples[name].append(turn(loop))

        def target() -> None:
            global _seconds
            ns = turn(loops[subject])
            samples[subject].append(ns)
            _seconds += ns * 1e-9

        collecting = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            start = perf_counter()
            for loop in loops.values():
                turn(loop)
            rounds = round(self._budget / (perf_counter() - start))
            self._benchmark.group = group
            self._benchmark.pedantic(target, setup=others, rounds=max(least, min(most, rounds)))
        finally:
            if collecting:
                gc.enable()
        costs: dict[str, Cost] = {name: cost_of(taken) for name, taken in samples.items()}
        self._benchmark.extra_info.update(subject=subject, costs={name: cost._asdict() for name, cost in costs.items()})
        return {name: cost.best for name, cost in costs.items()}


@pytest.fixture
def bench(benchmark: Any, request: pytest.FixtureRequest) -> Bench:
    return Bench(benchmark, request.config.getoption("--pace"))


@pytest.fixture
def fact() -> Callable[..., None]:
    """Records a number that is not a time per decision: fact(group, subject, unit, column=value, ...)."""

    def record(group: str, subject: str, unit: str, **values: float) -> None:
        _facts.append({"group": group, "subject": subject, "unit": unit, "values": values})

    return record


@pytest.fixture
def goal() -> Callable[[str, float], None]:
    """Records how a goal came out: goal(name, value)."""

    def record(name: str, value: float) -> None:
        _goals[name] = GOALS[name].worse(_goals[name], value) if name in _goals else value

    return record


# ---- keys ----


def address(number: int) -> str:
    """A key as a web server would make it, another one for each number below 2**32."""
    mixed = number * 2654435761 & 0xFFFFFFFF
    return f"ip:{mixed >> 24}.{mixed >> 16 & 255}.{mixed >> 8 & 255}.{mixed & 255}"


def shuffled(count: int) -> list[str]:
    """`count` distinct keys in random order, the same ones each time."""
    keys = [address(number) for number in range(count)]
    random.Random(1).shuffle(keys)
    return keys


@pytest.fixture(scope="session")
def keys_100k() -> list[str]:
    return shuffled(100_000)


@pytest.fixture(scope="session")
def keys_1m() -> list[str]:
    return shuffled(1_000_000)


# ---- C ----


def compile_c(source: Path, target: Path, *flags: str) -> None:
    """Compiles one file with the compiler that this Python names; skips the test where there is none."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    command = [compiler, "-O3", "-std=gnu11", *flags, str(source), "-o", str(target), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no C compiler ({compiler})")
    if done.returncode:
        pytest.fail(f"{shlex.join(command)}\n{done.stderr}")


def load_extension(name: str, path: Path) -> ModuleType:
    loader = ExtensionFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def floors(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """native/floors.c: a method that does nothing, an uncontended exchange, a clock read."""
    path = tmp_path_factory.mktemp("floors") / f"floors{sysconfig.get_config_var('EXT_SUFFIX')}"
    compile_c(HERE / "native" / "floors.c", path, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}")
    return load_extension("floors", path)


# ---- pytest ----


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pace", type=float, default=0.6, help="seconds for each measurement (default: 0.6)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.benchmark(timer=seconds_of_calls))


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    output_json["facts"] = _facts
    output_json["goals"] = _goals


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    for group in dict.fromkeys(fact["group"] for fact in _facts):
        terminalreporter.section(group, sep="-")
        for fact in _facts:
            if fact["group"] == group:
                values = "   ".join(f"{name} {value:,.4g}" for name, value in fact["values"].items())
                write(f"{fact['subject']:24} {values}   {fact['unit']}")
    if _goals:
        terminalreporter.section("goals: reported, never asserted", sep="-")
        for name, value in _goals.items():
            goal = GOALS[name]
            verdict = "reached" if goal.reached(value) else "not reached"
            write(f"{goal.what:50} {value:8.2f}   {goal!s:34} {verdict}")
