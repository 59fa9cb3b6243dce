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
from peers import said

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
GUARD_NAMES = {
    "Action",
    "AddressSet",
    "Addresses",
    "Agents",
    "Assessment",
    "Ban",
    "Bans",
    "Bypass",
    "Config",
    "Ddos",
    "Event",
    "Events",
    "Evidence",
    "Finding",
    "Guard",
    "GuardMiddleware",
    "GuardWSGI",
    "Limits",
    "PRESETS",
    "Paths",
    "RateMetrics",
    "Request",
    "Response",
    "Scenario",
    "Severity",
    "Strategy",
    "Tarpit",
    "Technique",
    "Threats",
    "Tier",
    "Tracking",
    "Verdict",
    "admin_app",
    "client_address",
    "from_env",
    "is_ja4",
    "scan",
    "sync_from_env",
}
GUARD_METHODS = {
    "allow",
    "assess",
    "ban",
    "bans",
    "check_for_bypass",
    "close",
    "deny",
    "detector",
    "emergency",
    "flight",
    "forget",
    "inspect",
    "load_feed",
    "observe",
    "remaining",
    "status",
    "tarpit",
    "track_connection",
    "unban",
    "unlist",
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
NATIVE = ("penstock.guard", "penstock.cli.guard", "penstock.sync.host")
"""What cannot be imported without the compiled modules."""
MODULES = [
    module.name
    for module in pkgutil.walk_packages(penstock.__path__, "penstock.", onerror=lambda name: None)
    if not module.name.endswith(("_core", "__main__")) and (penstock.native or not module.name.startswith(NATIVE))
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


def test_the_guards_names_are_these() -> None:
    guard = guard_module()
    assert set(guard.__all__) == GUARD_NAMES
    assert len(guard.__all__) == len(GUARD_NAMES)
    for name in GUARD_NAMES - {"PRESETS"}:
        thing = getattr(guard, name)
        assert thing.__module__.startswith("penstock."), name
        assert (thing.__doc__ or "").strip(), name
        assert inspect.getdoc(thing) != inspect.getdoc(type(thing)), name


def test_everything_public_of_the_guards_classes_is_documented_and_typed() -> None:
    guard = guard_module()
    assert {name for name in dir(guard.Guard) if not name.startswith("_")} >= GUARD_METHODS
    for name in GUARD_NAMES:
        thing = getattr(guard, name)
        if not isinstance(thing, type):
            continue
        own = {of for base in thing.__mro__ if base.__module__.startswith("penstock.guard") for of in vars(base)}
        for of in own:
            method = getattr(thing, of)
            if not of.startswith("_") and (inspect.isfunction(method) or inspect.ismethod(method)):
                untyped = [one for one in inspect.signature(method).parameters.values() if one.annotation is one.empty]
                assert [one.name for one in untyped] in ([], ["self"]), f"{name}.{of}"
    for of in GUARD_METHODS:
        assert (inspect.getdoc(getattr(guard.Guard, of)) or "").strip(), of


def guard_module() -> Any:
    if not penstock.native:
        pytest.skip("the guard needs the compiled modules")
    return importlib.import_module("penstock.guard")


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


def imported(name: str) -> Any:
    """A module; skips where the package that it builds on is not there, which it must be in CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if "pip install" not in str(error) or (said("CI") and not said("PENSTOCK_LEAN") and sys.platform == "linux"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", MODULES)
def test_modules_begin_by_saying_what_they_are_for(name: str) -> None:
    module = imported(name)
    first = (module.__doc__ or "").strip().split("\n")[0]
    assert first.rstrip(".:"), name


@pytest.mark.parametrize("name", ["penstock", *MODULES])
def test_the_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(imported(name), optionflags=doctest.ELLIPSIS, raise_on_error=False)
    assert results.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    examples = [
        example
        for name in ["penstock", *MODULES]
        for test in finder.find(imported(name))
        for example in test.examples
    ]
    assert len(examples) >= 10


def test_types_and_declarations_are_installed() -> None:
    package = importlib.resources.files("penstock")
    bridges = [f"_{name}.pyi" for name in ("anomaly", "core", "match", "records", "scan")]
    for name in ("py.typed", *bridges, "_core.pxd", "__init__.pxd"):
        assert package.joinpath(name).is_file(), name


def test_importing_it_imports_nothing_large() -> None:
    code = (
        "import sys; before = set(sys.modules); import penstock;"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    for large in ("numpy", "redis", "pyarrow", "matplotlib", "zstandard", "argparse"):
        assert f"'{large}'" not in done.stdout
