"""What importing costs beyond an empty interpreter: fresh processes in turns, the least of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

from baselines import OURS, SUBJECTS

MODULES = {"penstock": "penstock", "limits": "limits", "floodgate-rs": "floodgate", "pyrate-limiter": "pyrate_limiter"}
MODULES |= {"rust-py-rate-limit": "rust_py_rate_limit", "throttled-py": "throttled", "token-bucket": "token_bucket"}
ROUNDS = 15


def seconds(statement: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return perf_counter() - start


def test_import(fact: Callable[..., None], goal: Callable[[str, float], None]) -> None:
    installed = {peer.name: MODULES[peer.name] for peer in SUBJECTS if peer is OURS or peer.version()}
    empty = []
    taken: dict[str, list[float]] = {name: [] for name in installed}
    for _ in range(ROUNDS):
        empty.append(seconds("pass"))
        for name, module in installed.items():
            taken[name].append(seconds(f"import {module}"))
    fact("import", "an empty interpreter", "ms", ms=min(empty) * 1e3)
    for name, times in taken.items():
        fact("import", name, "ms beyond an empty interpreter", ms=(min(times) - min(empty)) * 1e3)
    goal("import", (min(taken["penstock"]) - min(empty)) * 1e3)


def test_numpy_only_for_batches(fact: Callable[..., None]) -> None:
    statement = "import sys, penstock; penstock.Limiter('1/second').hit('a'); sys.exit('numpy' in sys.modules)"
    numpy = subprocess.run([sys.executable, "-c", statement], check=False).returncode
    fact("import", "NumPy imported by a plain decision", "(0: no)", numpy=numpy)
