"""Compiles the C tests over the headers alone and runs them: as they are, and under ThreadSanitizer, AddressSanitizer
and UndefinedBehaviorSanitizer.

CC names the compiler (default gcc). Without one these tests are skipped. Each program says in its head what it does,
and can be compiled and run by hand; the flags are below. Marked soak: the same for minutes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from penstock import Concurrency, FixedWindow, SlidingLog, SlidingWindow, TokenBucket
from penstock.policy import compile_policies

HERE = Path(__file__).parent
EXT = HERE.parent.parent / "ext"
HEADERS = sorted(path.relative_to(EXT).as_posix() for path in EXT.rglob("*.h"))
CC = shutil.which(os.environ.get("CC", "gcc"))
WALL_NS = 1_763_780_000_123_456_789
"""policies.c has the same."""

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]  # no program uses all of a header's functions
MACHINE = ["-mcx16"] if platform.machine() in ("x86_64", "amd64", "AMD64") else []
SANITIZERS = {
    "": ["-O2"],
    "thread": ["-O1", "-fsanitize=thread"],
    "address,undefined": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-wrapv"],
}
TINY_TABLE = ["-DPS_WINDOW_LINES=2"]
SCHEDULED = [*TINY_TABLE, '-DPENSTOCK_MODEL="schedule.h"']

pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler: set CC")


class Program(NamedTuple):
    """One C test: its flags; its arguments in a quick run, in one under a sanitizer (slower), and in a long one."""

    flags: list[str]
    quick: str
    sanitized: str
    soak: str
    threads: bool


PROGRAMS = {
    "arithmetic": Program([], "3000 1", "1500 2", "100000 3", False),
    "interleavings": Program(SCHEDULED, "", "", "", False),
    "histories": Program(SCHEDULED, "15000 1", "2000 50000", "1500000 100000", False),
    "claim": Program(TINY_TABLE, "4 3000 1", "4 600 2", "8 100000 3", True),
    "totals": Program([], "4 50000 1", "4 8000 2", "8 1000000 3", True),
    "evict": Program([], "4 20000 1", "4 1500 2", "8 300000 3", True),
    "replace": Program([], "3 300000 1", "3 30000 2", "4 5000000 3", True),
    "shared": Program([], "3 300000 1", "3 20000 2", "4 5000000 3", True),
    "segment": Program([], "4 300 1", "3 60 2", "6 20000 3", False),
    "threads": Program([], "40 50", "40 50", "60 20000", True),
    "records": Program([], "4 20000 1", "3 4000 2", "8 1000000 3", True),
    "forest": Program([], "4 20000 1", "3 6000 2", "8 1000000 3", True),
    "clock": Program([], "8 1000", "8 300", "16 60000", True),
    "scan": Program([], "20000 1", "3000 2", "2000000 3", False),
    "matching": Program([], "1500 1", "400 2", "200000 3", False),
    "policies": Program([], "", "", "", False),
    "planted": Program([], "", "", "", False),
}
BUILDS = [
    (name, sanitizer)
    for name, program in PROGRAMS.items()
    for sanitizer in SANITIZERS
    if program.threads or sanitizer != "thread"
]
RUNS = [build for build in BUILDS if build[0] not in ("policies", "planted")]
IDS = [f"{name}-{sanitizer or 'plain'}" for name, sanitizer in RUNS]
FAULTS = {
    "race": ("thread", "data race"),
    "heap": ("address,undefined", "heap-buffer-overflow"),
    "overflow": ("address,undefined", "signed integer overflow"),
}

Programs = dict[tuple[str, str], Future[Path]]


def compiler(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    assert CC is not None
    return subprocess.run([CC, *WARNINGS, *MACHINE, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Every program in every build, compiled as processors are free."""
    folder = tmp_path_factory.mktemp("native")
    pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def build(name: str, sanitizer: str) -> Path:
        out = folder / f"{name}-{sanitizer.replace(',', '-') or 'plain'}"
        flags = ["-std=gnu11", "-g", "-fno-omit-frame-pointer", *SANITIZERS[sanitizer], *PROGRAMS[name].flags]
        source = str(HERE / f"{name}.c")
        done = compiler([*flags, f"-I{HERE}", f"-I{EXT}", source, "-o", str(out), "-lpthread", "-lm"])
        assert done.returncode == 0, done.stderr
        return out

    builds = [*BUILDS, ("planted", "thread")]
    futures = {build_of: pool.submit(build, *build_of) for build_of in builds}
    pool.shutdown(wait=False)
    return futures


def run(program: Path, arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Runs to the end; a program that hangs is an error too."""
    options = {
        "ASAN_OPTIONS": "detect_stack_use_after_return=0",
        "TSAN_OPTIONS": f"halt_on_error=1 suppressions={HERE / 'suppressions.tsan'}",
    }
    command = [str(program), *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env={**os.environ, **options})


@pytest.mark.parametrize("flags", ["-std=gnu11", "-std=c11 -pedantic -D_DEFAULT_SOURCE"], ids=["gnu11", "c11"])
@pytest.mark.parametrize("header", HEADERS)
def test_header_compiles_alone(header: str, flags: str, tmp_path: Path) -> None:
    source = tmp_path / "alone.c"
    source.write_text(f'#include "{header}"\n')
    done = compiler([*flags.split(), f"-I{EXT}", "-fsyntax-only", str(source)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "sanitizer"), RUNS, ids=IDS)
def test_program(name: str, sanitizer: str, programs: Programs) -> None:
    program = PROGRAMS[name]
    done = run(programs[name, sanitizer].result(), program.sanitized if sanitizer else program.quick, 120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING: ThreadSanitizer" not in done.stderr


@pytest.mark.soak
@pytest.mark.parametrize(("name", "sanitizer"), RUNS, ids=IDS)
def test_program_for_long(name: str, sanitizer: str, programs: Programs) -> None:
    done = run(programs[name, sanitizer].result(), PROGRAMS[name].soak, 3600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_sanitizer_finds_a_planted_fault(fault: str, programs: Programs) -> None:
    sanitizer, says = FAULTS[fault]
    clean = run(programs["planted", sanitizer].result(), "", 60)
    assert clean.returncode == 0, clean.stderr
    done = run(programs["planted", sanitizer].result(), fault, 60)
    assert done.returncode != 0
    assert says in done.stderr


def test_policies_are_those_of_the_package(programs: Programs) -> None:
    """The C tests make their policies by hand; they must be what penstock.policy would make."""
    done = run(programs["policies", ""].result(), "", 60)
    assert done.returncode == 0, done.stderr
    limits = {kind.__name__: kind for kind in (TokenBucket, SlidingWindow, SlidingLog, FixedWindow, Concurrency)}
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    for line in lines:
        text, fields = line.split("|")
        [[policy]] = compile_policies([[eval(text, {"__builtins__": {}}, limits)]], WALL_NS)
        assert list(policy) == [int(field) for field in fields.split()], text
