"""Subinterpreters: the compiled core refuses to be loaded there; penstock says so once, and the reference decides."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PURE = os.environ.get("PENSTOCK_PURE", "") not in ("", "0")
KINDS = ("isolated", "legacy")
"""With a GIL of its own (from Python 3.12 on), and with the process's."""

PROLOGUE = """
import importlib.util, sys
names = ["_interpreters", "_xxsubinterpreters"]
module = next(filter(None, (importlib.import_module(n) if importlib.util.find_spec(n) else None for n in names)))

def create(kind):
    if sys.version_info >= (3, 13):
        return module.create(kind)
    return module.create(isolated=kind == "isolated")

def run(interpreter, code):
    error = module.run_string(interpreter, code)
    assert not error, error
"""
INSIDE = """
import sys, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import penstock
    import penstock.limiter
    from penstock import Limiter, TokenBucket
limiter = Limiter(TokenBucket(2, 60), capacity=100)
assert [limiter.hit("a") for _ in range(3)] == [True, True, False]
assert limiter.stats().denied == 1
told = [str(warning.message) for warning in seen if warning.category is RuntimeWarning]
"""
REFUSED = """
assert not penstock.native
assert "penstock._core" not in sys.modules
assert len(told) == 1, told
assert told[0].startswith("penstock runs without its compiled core"), told
assert "subinterpreters" in told[0] or "only be loaded into one interpreter per process" in told[0], told
"""
PLAIN = """
assert not penstock.native
assert told == []
"""
MAIN = """
import penstock
limiter = penstock.Limiter("2/minute")
assert limiter.hit("a")
"""
MAIN_STILL = """
assert penstock.native
assert limiter.hit("a") and not limiter.hit("a")
assert penstock.Limiter("1/minute").hit("a")
"""


def run(code: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", PROLOGUE + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def expect_clean(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(PURE, reason="PENSTOCK_PURE asks to do without the compiled core")
@pytest.mark.parametrize("kind", KINDS)
def test_refused_beside_the_main_interpreter(kind: str) -> None:
    """Several of them, one after another and at the same time; the main interpreter's limiters decide on."""
    expect_clean(
        run(
            f"{MAIN}\nmade = [create({kind!r}) for _ in range(3)]\n"
            f"for one in made: run(one, {INSIDE + REFUSED!r})\n"
            f"for one in made: module.destroy(one)\n{MAIN_STILL}"
        )
    )


@pytest.mark.skipif(PURE, reason="PENSTOCK_PURE asks to do without the compiled core")
def test_refused_where_the_main_interpreter_never_came() -> None:
    """With a GIL of its own a subinterpreter is refused though it asks first; the main one is not, after it."""
    if sys.version_info < (3, 12):
        pytest.skip("from Python 3.12 on")
    before = "import datetime, decimal, re, threading"  # 3.12 and 3.13 abort when the main interpreter is second there
    inside = f"one = create('isolated')\nrun(one, {INSIDE + REFUSED!r})"
    expect_clean(run("\n".join((before, inside, MAIN, "module.destroy(one)", MAIN_STILL))))


@pytest.mark.skipif(PURE, reason="PENSTOCK_PURE asks to do without the compiled core")
def test_the_first_to_load_it_has_it() -> None:
    """Where the GIL is shared the core is whose who loads it first, be it a subinterpreter, until the process ends."""
    code = (
        f"one = create('legacy')\nrun(one, {INSIDE + 'assert penstock.native, told'!r})\n"
        f"import sys, warnings\n{INSIDE + REFUSED}\nrun(one, 'assert not limiter.hit(\"a\") and limiter.hit(\"b\")')\n"
        "module.destroy(one)\nassert not limiter.hit('a')\n"
    )
    expect_clean(run(code))


@pytest.mark.parametrize("kind", KINDS)
def test_asked_to_do_without_it_says_nothing(kind: str) -> None:
    expect_clean(run(f"one = create({kind!r})\nrun(one, {INSIDE + PLAIN!r})\nmodule.destroy(one)\n", PENSTOCK_PURE="1"))
