"""The version is written in one place."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import penstock

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_what_is_installed_and_what_is_imported_agree() -> None:
    assert importlib.metadata.version("penstock") == penstock.__version__, "install it anew"


def test_it_is_a_release_number_that_setuptools_reads_without_an_import() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "penstock.__version__"}
    module = ast.parse(Path(penstock.__file__).read_text(encoding="utf-8"))
    (value,) = [
        statement.value
        for statement in module.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__"
    ]
    assert ast.literal_eval(value) == penstock.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", penstock.__version__)
