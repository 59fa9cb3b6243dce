"""Two threads: with the GIL here, and without it under the free-threaded Python that PENSTOCK_NOGIL_PYTHON names.

That interpreter needs penstock installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

THREADS = Path(__file__).with_name("threads.py")
NOGIL = "PENSTOCK_NOGIL_PYTHON"


def measured(python: str) -> Any:
    done = subprocess.run([python, str(THREADS)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def note(fact: Callable[..., None], result: Any) -> dict[str, float]:
    """Records each case; returns how many times one thread's throughput two have."""
    gil = "with" if result["gil"] else "without"
    speedups = {name: ns["one"] / ns["two"] for name, ns in result["cases"].items()}
    for name, ns in result["cases"].items():
        group = f"two threads, CPython {result['python']} {gil} the GIL"
        fact(group, name, "ns of wall time, and times one thread's rate", **ns, speedup=speedups[name])
    return speedups


def test_with_gil(fact: Callable[..., None]) -> None:
    note(fact, measured(sys.executable))


def test_without_gil(fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    python = os.environ.get(NOGIL)
    if not python:
        pytest.skip(f"{NOGIL} names no free-threaded interpreter")
    result = measured(python)
    if result["gil"]:
        pytest.fail(f"{python} runs with the GIL")
    speedups = note(fact, result)
    goal("threads apart", speedups["distinct keys"])
    goal("threads refused", speedups["one refused key"])
    goal("threads admitted", speedups["one admitted key"])
