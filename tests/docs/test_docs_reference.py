"""docs/reference has every public name, and the pages name tests, commands and drawings that are there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from doc_pages import DOCS, ROOT, read

import penstock
from penstock.cli.__main__ import _COMMANDS
from penstock.limiter import LimiterMethods

SVG = "{http://www.w3.org/2000/svg}"
OF_ENGINE = ("hit", "check", "peek", "hit_many", "check_many", "fingerprint")
"""The engine's own, and public all the same."""


@pytest.fixture(scope="module")
def documented(extension: Callable[[str], ModuleType]) -> frozenset[str]:
    names: frozenset[str] = extension("docstrings").documented()
    return names


def public(module: str) -> set[str]:
    """The names that a module defines for others."""
    found = import_module(module)
    named = getattr(found, "__all__", None)
    if named is not None:
        return {f"{module}.{name}" for name in named}
    return {
        f"{module}.{name}"
        for name, value in vars(found).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
        if value.__module__ == module
    }


def test_all_of_penstock(documented: frozenset[str]) -> None:
    assert public("penstock") <= documented


def test_all_methods_of_a_limiter(documented: frozenset[str]) -> None:
    methods = {name for name, value in vars(LimiterMethods).items() if not name.startswith("_") and callable(value)}
    methods |= {"load", *OF_ENGINE}
    assert {name.rpartition(".")[2] for name in documented if name.startswith("penstock.Limiter.")} == methods


@pytest.mark.skipif(not penstock.native, reason="the guard needs the compiled core")
def test_all_of_the_guard(documented: frozenset[str]) -> None:
    assert public("penstock.guard") <= documented
    own = {f"penstock.guard.Guard.{name}" for name in dir(import_module("penstock.guard").Guard) if name[0] != "_"}
    inner = {f"penstock.guard.Guard.{name}" for name in ("seen", "failed", "tarpit")}  # its middlewares' own
    assert own - inner == {name for name in documented if name.startswith("penstock.guard.Guard.")}


@pytest.mark.parametrize("module", ["penstock.clock", "penstock.adapters.keys"])
def test_all_of_a_module(documented: frozenset[str], module: str) -> None:
    helpers = {"penstock.clock.seconds_to_ns", "penstock.clock.ns_to_seconds"}
    assert public(module) - helpers <= documented


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "src/penstock/integrations").glob("[a-z]*.py"))])
def test_every_integration(documented: frozenset[str], name: str) -> None:
    assert any(found.startswith(f"penstock.integrations.{name}.") for found in documented)


def test_what_is_documented_is_there(documented: frozenset[str]) -> None:
    """As far as it can be imported here."""
    for full in documented:
        module, parts = "penstock", full.split(".")[1:]
        while parts:
            try:
                import_module(f"{module}.{parts[0]}")
            except ModuleNotFoundError as error:
                if error.name != f"{module}.{parts[0]}":
                    break
                value = import_module(module)
                for part in parts:
                    value = getattr(value, part)
                break
            except ImportError:
                break  # what it is for is not installed
            module = f"{module}.{parts.pop(0)}"


def test_every_command_is_shown() -> None:
    shown = re.findall(r"^```\{command-help\} ?(.*)$", read(DOCS / "reference" / "commands.md"), re.MULTILINE)
    assert {line.split()[0] for line in shown if line} == set(_COMMANDS)


def test_guarantees_name_real_tests() -> None:
    """Each test that a guarantee is checked by is in the file that is named before it."""
    text = read(DOCS / "guarantees.md")
    cited = re.findall(r"\[\w+\]\(\.\./(tests/[\w/]+\.py)\)((?:[\s,]|`test_\w+`)+)", text)
    named = [(path, test) for path, tests in cited for test in re.findall(r"`(test_\w+)`", tests)]
    loose = set(re.findall(r"`(test_\w+)`", text)) - {test for _, test in named}
    assert len(named) > 40
    for test in loose:  # named once more in a sentence
        named += [(path, test) for path, tests in cited if test in tests]
        assert any(f"def {test}(" in read(ROOT / path) for path, _ in cited), test
    for path, test in named:
        assert re.search(rf"^def {test}\(", read(ROOT / path), re.MULTILINE), (path, test)


def test_guarantees_tell_the_formulas_of_the_code() -> None:
    from penstock.sync import guarantee

    text = read(DOCS / "guarantees.md")
    for formula in (
        guarantee.BUCKET_FORMULA, guarantee.STRICT_FORMULA, guarantee.WINDOW_FORMULA, guarantee.HELD_FORMULA,
    ):  # fmt: skip
        assert formula in text


@pytest.mark.parametrize("drawing", sorted((DOCS / "drawings").glob("*.svg")), ids=lambda drawing: drawing.stem)
def test_a_drawing(drawing: Path) -> None:
    """It says what it shows to who cannot see it, has its letters as text, and needs nothing from elsewhere."""
    name, text = drawing.stem, read(drawing)
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{name}-title {name}-desc"
    assert root.get("viewBox", "").split()[2] == "440", "as wide as a telephone can show"
    for part in ("title", "desc"):
        (found,) = root.findall(f"{SVG}{part}")
        assert found.get("id") == f"{name}-{part}"
        assert found.text
    assert len(list(root.iter(f"{SVG}text"))) > 5
    assert {one.get("id", "").partition("-")[0] for one in root.iter() if one.get("id")} == {name}, "unique in a page"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|<image|<script|href", text)
    assert any(f"drawings/{name}.svg" in read(page) for page in DOCS.glob("*.md"))
