"""Every relative link of every page leads to a file, and to a heading of it; every page is in the site."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, anchors, links, read

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", ".github/**/*.md", "benchmarks/*.md", "ext/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def shown() -> dict[str, str]:
    """Pages that show a file from elsewhere in the repository, as docs/conf.py has them."""
    for node in ast.parse(read(DOCS / "conf.py")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pages_shown":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise AssertionError("docs/conf.py has no pages_shown")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    text = read(page)
    for target in links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), f"{target} leads out of the repository"
        if anchor:
            assert file.suffix == ".md", target
            assert anchor in anchors(read(file)), target


def test_every_page_is_in_the_sidebar() -> None:
    """Once: the sidebar is the first page's lists; links elsewhere on that page come on top."""
    listed = re.findall(r"^- \[[^\]]+\]\(([^()\s]+\.md)\)", read(DOCS / "index.md"), re.MULTILINE)
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md")} - {"index.md"}
    assert sorted(pages) == sorted(listed)


def test_pages_that_show_another_file_say_so() -> None:
    """In the repository's own view each leads there by a link; every page of docs/project is one."""
    assert {f"{page}.md" for page in shown()} == {
        path.relative_to(DOCS).as_posix() for path in DOCS.glob("project/*.md")
    }
    for page, file in shown().items():
        assert links(read(DOCS / f"{page}.md")) == [f"../../{file}"]
