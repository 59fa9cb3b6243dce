"""The public surface: its names, that all of it is documented and typed, and that the examples in it run."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.resources
import inspect
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import penstock

NAMES = {
    "Limiter",
    "TokenBucket",
    "SlidingWindow",
    "SlidingLog",
    "FixedWindow",
    "Concurrency",
    "Segment",
    "Sync",
    "Decision",
    "Reservation",
    "Hold",
    "Stats",
    "TopKey",
    "PenstockError",
    "RateSyntaxError",
    "CostTooLarge",
    "RateLimited",
    "SyncError",
    "SegmentError",
    "SnapshotError",
    "native",
}
METHODS = {
    "acquire",
    "acquire_async",
    "check",
    "check_many",
    "clear",
    "close",
    "guarantee",
    "hit",
    "hit_many",
    "hold",
    "limit",
    "load",
    "peek",
    "refund",
    "replace",
    "reserve",
    "reset",
    "save",
    "stats",
    "top",
}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(penstock.__path__, "penstock.")
    if not module.name.endswith(("_core", "__main__"))
]


def test_the_names_are_these() -> None:
    assert set(penstock.__all__) == NAMES
    assert len(penstock.__all__) == len(NAMES)
    assert all(hasattr(penstock, name) for name in NAMES)
    assert isinstance(penstock.native, bool)
    public = {name for name in vars(penstock) if not name.startswith("_")}
    modules = {name.split(".")[1] for name in MODULES}
    assert public - modules == NAMES


def test_what_is_public_says_that_it_is_penstocks() -> None:
    for name in NAMES - {"native"}:
        thing = getattr(penstock, name)
        assert thing.__module__.startswith("penstock.")
        assert (thing.__doc__ or "").strip()


def test_the_version_is_the_distributions() -> None:
    assert penstock.__version__ == importlib.metadata.version("penstock")


def test_every_public_method_is_there_and_documented(limiter_class: Any) -> None:
    found = {name for name in dir(limiter_class) if not name.startswith("_")}
    assert found >= METHODS
    for name in found - {"name", "capacity", "shared"}:
        assert (inspect.getdoc(getattr(limiter_class, name)) or "").strip(), name


def test_every_method_can_be_called_by_names(limiter_class: Any) -> None:
    for name in METHODS:
        parameters = inspect.signature(getattr(limiter_class, name)).parameters.values()
        assert all(one.kind is not one.POSITIONAL_ONLY or one.name == "self" for one in parameters), name
    assert list(inspect.signature(limiter_class.acquire).parameters) == ["self", "key", "cost", "timeout", "tier"]
    assert list(inspect.signature(limiter_class.hit_many).parameters) == ["self", "keys", "costs", "tier"]


@pytest.mark.parametrize("name", MODULES)
def test_modules_begin_by_saying_what_they_are_for(name: str) -> None:
    module = importlib.import_module(name)
    first = (module.__doc__ or "").strip().split("\n")[0]
    assert first.rstrip(".:"), name


@pytest.mark.parametrize("name", ["penstock", *MODULES])
def test_the_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS, raise_on_error=False)
    assert results.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [
        example
        for name in ["penstock", *MODULES]
        for test in finder.find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) >= 10


def test_types_and_declarations_are_installed() -> None:
    package = importlib.resources.files("penstock")
    for name in ("py.typed", "_core.pyi", "_core.pxd", "__init__.pxd"):
        assert package.joinpath(name).is_file(), name


def test_importing_it_imports_nothing_large() -> None:
    code = (
        "import sys; before = set(sys.modules); import penstock;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    for large in ("numpy", "redis", "pyarrow", "matplotlib", "zstandard", "argparse"):
        assert f"'{large}'" not in done.stdout
