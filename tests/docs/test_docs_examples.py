"""The code in the pages: Python runs, commands are real and their options parse, extras exist."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, ROOT, blocks, read, run

import penstock
from penstock.cli.__main__ import _COMMANDS, main

PAGES = sorted(DOCS.glob("**/*.md"))
ELSEWHERE = {
    "guard.md": "guard/test_guard_docs.py",
    "guard-reference.md": "guard/test_guard_docs.py",
    "services.md": "integrations/test_services_page.py",
    "integrations": "integrations/test_pages.py",
    "migration": "compat/test_migration_pages.py",
}
"""Pages, and folders of them, whose examples are run by tests of their own, which also ask them to refuse."""

HERE = [
    page
    for page in PAGES
    if page.relative_to(DOCS).parts[0] not in ELSEWHERE and blocks(read(page), "python")
]
PROGRAMS = {"gunicorn", "uvicorn", "granian", "hypercorn", "celery", "python", "flask", "fastapi", "pip", "curl"}
"""What stands in blocks of commands beside our own."""
OF_THE_CORE = ("penstock.guard", "shared=", ".bytes")
"""The guard, segments, and how much memory keys take."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def extras() -> set[str]:
    return set(tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"])


def commands(page: Path) -> list[str]:
    """The lines of a page's blocks of commands, continued lines joined."""
    text = "".join(block.code for block in blocks(read(page), "console", "sh", "bash"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def test_pages_with_tests_of_their_own() -> None:
    for page, test in ELSEWHERE.items():
        assert (DOCS / page).exists()
        assert f'"{page}"' in read(ROOT / "tests" / test), f"{test} names {page}"


@pytest.mark.parametrize("page", HERE, ids=map(name, HERE))
def test_python_runs(
    page: Path, tmp_path: Path, segment_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of a page, one after the other, as somebody would who pastes them into one session."""
    text = read(page)
    if not penstock.native and any(needed in text for needed in OF_THE_CORE):
        pytest.skip("it shows what the compiled core alone has")
    if "shared=" in text and sys.platform != "linux":
        pytest.skip("segments are for Linux")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    with contextlib.ExitStack() as ending:
        try:
            for block in blocks(text, "python"):
                run(block.code, names, name(page), block.line)
        finally:
            for made in {id(one): one for one in names.values()}.values():
                if isinstance(made, penstock.Limiter):
                    ending.callback(made.close)


@pytest.mark.parametrize("page", PAGES, ids=map(name, PAGES))
def test_commands_are_real(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours parse, with every option; others are programs that a reader of the page has."""
    for line in commands(page):
        words = shlex.split(line, comments=True)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[0] != "penstock":
            assert words[0] in PROGRAMS or (ROOT / words[0]).exists(), line
            continue
        if words[1:] and words[1] in _COMMANDS:
            try:
                command = import_module(f"penstock.cli.{words[1].replace('-', '_')}")
            except ImportError:
                assert not penstock.native
                continue
            monkeypatch.setattr(command, "run", lambda args: 0)
        assert main(words[1:]) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=map(name, PAGES))
def test_names_in_the_text(page: Path) -> None:
    text = read(page)
    for command in re.findall(r"`penstock ([a-z][\w-]*)(?:`| -)", text):
        assert command in _COMMANDS, command
    for named in re.findall(r"penstock\[([a-z,]+)\]", text):
        assert set(named.split(",")) <= extras(), named
    for block in blocks(text):
        assert block.language, f"line {block.line}: a block says what it is"
