"""Which engine decides: the compiled core, or the reference where there is none or it is wished, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock
import penstock._backend

FACTS = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import penstock
    import penstock._backend, penstock.limiter
limiter = penstock.Limiter("2/minute")
print(json.dumps({
    "native": penstock.native,
    "engine": penstock._backend.Engine.__module__,
    "bases": [base.__module__ for base in penstock.Limiter.__mro__],
    "said": [[warning.category.__name__, str(warning.message), warning.filename] for warning in said],
    "hits": [limiter.hit("a") for _ in range(3)],
    "core": "penstock._core" in sys.modules,
    "reference": "penstock._reference" in sys.modules,
}))
"""
MISSING = "import sys; sys.modules['penstock._core'] = None\n"


def facts(prelude: str = "", **environment: str) -> dict[str, Any]:
    """What a fresh interpreter says of itself."""
    inherited = {name: value for name, value in os.environ.items() if name != "PENSTOCK_PURE"}
    done = subprocess.run(
        [sys.executable, "-c", prelude + FACTS],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


pure = os.environ.get("PENSTOCK_PURE", "") not in ("", "0")


@pytest.mark.skipif(pure, reason="PENSTOCK_PURE asks to do without the compiled core")
def test_native_really_is_what_was_loaded() -> None:
    from penstock import _core

    assert penstock.native is True
    assert not Path(_core.__file__).suffix.startswith(".py")
    assert penstock._backend.Engine is _core.Engine
    assert issubclass(penstock.Limiter, _core.Engine)
    assert type(penstock.Limiter.hit).__name__ == "method_descriptor"


@pytest.mark.skipif(pure, reason="PENSTOCK_PURE asks to do without the compiled core")
@pytest.mark.parametrize("wish", [{}, {"PENSTOCK_PURE": ""}, {"PENSTOCK_PURE": "0"}], ids=["unset", "empty", "0"])
def test_the_compiled_core_decides(wish: dict[str, str]) -> None:
    found = facts(**wish)
    assert found["native"] is True
    assert found["engine"] == "penstock._core"
    assert "penstock._core" in found["bases"]
    assert found["said"] == []
    assert found["hits"] == [True, True, False]
    assert not found["reference"], "what is not used is not imported"


@pytest.mark.parametrize("wish", ["1", "true", "yes"])
def test_the_reference_decides_when_asked_and_says_nothing(wish: str) -> None:
    found = facts(PENSTOCK_PURE=wish)
    assert found["native"] is False
    assert found["engine"] == "penstock._reference"
    assert found["said"] == []
    assert found["hits"] == [True, True, False]
    assert not found["core"]


def test_the_reference_decides_where_there_is_no_core_and_says_so_once() -> None:
    found = facts(MISSING)
    assert found["native"] is False
    assert found["engine"] == "penstock._reference"
    assert found["hits"] == [True, True, False]
    ((category, message, where),) = found["said"]
    assert category == "RuntimeWarning"
    assert message.startswith("penstock runs without its compiled core")
    assert "PENSTOCK_PURE=1 asks for that, and silences this" in message
    assert "penstock" not in Path(where).parent.name, "it points at who imported penstock"


def test_a_core_of_another_python_is_as_good_as_none(tmp_path: Path) -> None:
    """A file that cannot be loaded is an ImportError too."""
    broken = f"""
import importlib.abc, importlib.machinery, sys
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "penstock._core":
            file = {str(tmp_path / "_core.so")!r}
            loader = importlib.machinery.ExtensionFileLoader(name, file)
            return importlib.machinery.ModuleSpec(name, loader, origin=file)
sys.meta_path.insert(0, Broken())
"""
    (tmp_path / "_core.so").write_bytes(b"not a library")
    found = facts(broken)
    assert found["native"] is False
    assert len(found["said"]) == 1
