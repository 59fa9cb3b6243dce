"""The documentation's own extensions, as the tests read them: without Sphinx."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import pytest
from doc_pages import DOCS


@pytest.fixture(scope="session")
def extension() -> Callable[[str], ModuleType]:
    """extension("pages"): the module docs/_ext/pages.py."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "_ext" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
