"""What all tests of pages share: their blocks of code, their links and headings, and how their Python is run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code in a page. line: where its code begins."""

    language: str
    code: str
    line: int


def read(page: Path) -> str:
    """The page's text."""
    return page.read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of these languages, or of all, in order."""
    found = (Block(one[1], one[2], text.count("\n", 0, one.start(2)) + 1) for one in _FENCE.finditer(text))
    return [block for block in found if not languages or block.language in languages]


def codes(page: Path, language: str = "python") -> list[str]:
    """The code of a page's blocks of one language."""
    return [block.code for block in blocks(read(page), language)]


def run(code: str, names: dict[str, Any] | None = None, page: str = "page", line: int = 1) -> dict[str, Any]:
    """Runs a block as it is written, but for the address of Redis: never a server that happens to run. Its names."""
    names = {"__name__": "page"} if names is None else names
    code = code.replace("redis://localhost:6379/0", "redis://localhost:1/0")
    exec(compile("\n" * (line - 1) + code, page, "exec"), names)
    return names


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Where the links and images of a page lead, those to other sites left out."""
    targets = _LINK.findall(re.sub(r"`[^`\n]*`", "``", prose(text)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that a repository's view of Markdown and the built pages give to headings."""
    return set(_slugs(text))


def _slugs(text: str) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(prose(text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1
