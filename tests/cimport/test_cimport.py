"""`cimport penstock`: an example module is built as a user would build it, and decides in C."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import penstock
from penstock import Concurrency, Limiter, TokenBucket

pytest.importorskip("Cython")
pytestmark = [
    pytest.mark.skipif(not penstock.native, reason="there is no compiled core to call"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler"),
]

HERE = Path(__file__).parent
PACKAGES = Path(penstock.__file__).parent.parent


def build(name: str, folder: Path) -> ModuleType:
    """The module, by Cython and gcc alone; nothing of penstock but the installed package is on their paths."""
    source = folder / f"{name}.pyx"
    shutil.copy(HERE / source.name, source)
    cython = [sys.executable, "-m", "cython", "-Werror", "-I", str(PACKAGES), str(source), "-o", f"{name}.c"]
    target = folder / (name + sysconfig.get_config_var("EXT_SUFFIX"))
    headers = sysconfig.get_paths()["include"]
    gcc = ["gcc", "-shared", "-fPIC", "-Wall", "-I", headers, f"{name}.c", "-o", str(target)]
    for command in (cython, gcc):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build("example", tmp_path_factory.mktemp("cimport"))


def test_c_and_python_take_from_one_bucket(example: Any) -> None:
    limiter = Limiter("5/day")
    assert limiter.hit("a", 2)
    assert example.admit(limiter, b"a", 10) == 3
    assert not limiter.hit("a")
    assert limiter.stats()[:4] == (4, 8, 0, 1)
    assert example.admit(limiter, b"b", 10) == 5


def test_c_knows_keys_as_python_does(example: Any) -> None:
    limiter = Limiter("5/day")
    for text, data, number in [
        ("a", b"a", 1),
        ("ключ", b"\xff" * 100, -5),
        ("", b"", 0),
        ("x" * 1000, b"\0", 2**63 - 1),
    ]:
        assert example.fingerprints(limiter, text.encode(), data, number) == (
            limiter.fingerprint(text),
            limiter.fingerprint(data),
            limiter.fingerprint(number),
        )


def test_numbers_bytes_and_costs(example: Any) -> None:
    limiter = Limiter("5/day")
    assert example.admit_number(limiter, 7, 4)
    assert not example.admit_number(limiter, 7, 2)
    assert not example.admit_number(limiter, 8, 6)
    assert not example.admit_number(limiter, 8, 2**64 - 1)
    assert [example.admit_bytes(limiter, b"k") for _ in range(6)] == [True] * 5 + [False]
    assert limiter.hit(7)
    assert limiter.peek(8, 5)


def test_several_limits_and_tiers(example: Any) -> None:
    limiter = Limiter("5/day; 3/hour", tiers={"pro": "50/day; 30/hour"})
    assert example.admit(limiter, b"a", 10) == 3
    assert limiter.hit("a", 20, "pro")
    limiter.replace("9/day; 7/hour")
    assert example.admit(limiter, b"b", 10) == 7


def test_threads_without_the_interpreter_take_exactly_what_there_is(example: Any) -> None:
    limiter = Limiter(TokenBucket(10_000, 86_400), Concurrency(9_999))
    assert example.admit_from_threads(limiter, b"a", 4_000, 4) == 9_999
    assert limiter.stats()[:2] == (9_999, 6_001)


def test_what_cannot_decide_refuses_and_does_not_crash(example: Any) -> None:
    assert example.admit(Limiter(tiers={"pro": "5/day"}), b"a", 3) == 0
    for wrong in (None, 5, "5/day"):
        with pytest.raises(TypeError):
            example.admit(wrong, b"a", 1)
    assert not example.admit_number(Limiter.__new__(Limiter), 1)
    assert not example.admit(Limiter.__new__(Limiter), b"a", 1)
    assert not example.admit_bytes(Limiter.__new__(Limiter), b"a")


def test_the_whole_package_can_be_cimported(example: Any) -> None:
    limiter = Limiter("2/day")
    assert [example.admit_by_full_name(limiter, 5) for _ in range(3)] == [True, True, False]
