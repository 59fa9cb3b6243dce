"""From C: over the headers alone (native/decide.c), and as a Cython user (native/through_cimport.pyx)."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from baselines import PLENTY, SPENT
from conftest import HERE, Bench, address, compile_c, load_extension

from penstock import Limiter, TokenBucket, native

Goal = Callable[[str, float], None]


def test_headers(fact: Callable[..., None], goal: Goal, tmp_path: Path) -> None:
    program = tmp_path / "decide"
    compile_c(HERE / "native" / "decide.c", program, "-mcx16", f"-I{HERE.parent / 'ext'}")
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    ns = json.loads(done.stdout)
    for name, value in ns.items():
        fact("from C, over the headers, 1,000 str keys", name.replace("_", " "), "ns", least=value)
    for name in ("admitted", "refused"):
        goal(f"c {name}", (ns[name] - ns["system_clock"]) / ns["exchange"])


@pytest.fixture(scope="module")
def through_cimport(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    pytest.importorskip("Cython")
    if not native:
        pytest.skip("there is no compiled core to cimport")
    folder = tmp_path_factory.mktemp("cimport")
    source, translated = HERE / "native" / "through_cimport.pyx", folder / "through_cimport.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(source), "-o", str(translated)], check=True)
    path = folder / f"through_cimport{sysconfig.get_config_var('EXT_SUFFIX')}"
    compile_c(translated, path, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}")
    return load_extension("through_cimport", path)


@pytest.mark.parametrize("outcome", ["admitted", "refused"])
def test_cimport(bench: Bench, goal: Goal, floors: ModuleType, through_cimport: Any, outcome: str) -> None:
    limit, per = PLENTY if outcome == "admitted" else SPENT
    limiter = Limiter(TokenBucket(limit, per=per), capacity=2000)
    keys = [address(number) for number in range(1000)]
    for key in keys:
        limiter.hit(key)
    assert through_cimport.decide(limiter, keys, 1000)[1] == (1000 if outcome == "admitted" else 0)
    loops = {
        "exchange": lambda: floors.exchanges(20_000),
        "clock read in C": lambda: floors.clock_reads(20_000),
        outcome: lambda: through_cimport.decide(limiter, keys, 20_000)[0],
    }
    best = bench.turns("through cimport, 1,000 str keys", outcome, loops)
    goal(f"c {outcome}", (best[outcome] - best["clock read in C"]) / best["exchange"])
