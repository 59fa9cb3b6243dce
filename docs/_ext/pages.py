"""Pages as they stand in the repository, made into a site: where links lead, and what the sidebar has.

- A page named in `pages_shown` is replaced by the file that it speaks of, README.md or ext/README.md for instance.
- Links are relative links to files, as in the repository. One to a file that has a page leads to the page, and has its
  title where it had the file's name; one to anything else in the repository leads to PENSTOCK_REPOSITORY, where that
  is set (a URL such as https://example.org/owner/name), and is plain text otherwise.
- Drawings are put into the page itself, so that they have its colours, light or dark.
- The sidebar is the first page's own lists: each heading with links below it is a part of the tree.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[`~]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
ITEM = re.compile(r"^- \[([^\]]+)\]\(([^()#\s]+)\.md\)", re.MULTILINE)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Puts the text of a page in place of what stands in its file."""
    shown: dict[str, str] = app.config.pages_shown
    root = Path(app.srcdir).parent
    here = Path(app.srcdir, name).parent
    text, folder = source[0], here
    if name in shown:
        file = root / shown[name]
        app.env.note_dependency(str(file))
        text, folder = file.read_text(encoding="utf-8"), file.parent
    pages = {root / path: Path(app.srcdir, f"{page}.md") for page, path in shown.items()}

    def link(found: re.Match[str]) -> str:
        path, _, anchor = found["target"].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        file = Path(os.path.normpath(folder / path))
        file = pages.get(file, file)
        if not file.exists() or (file.is_relative_to(app.srcdir) and file.suffix == ".md") or found["image"]:
            target = os.path.relpath(file, here)
            words = found["text"]
            if words.endswith(Path(path).name) and file.suffix == ".md" and file.exists():  # named as a file is named
                words = title(root / shown.get(file.relative_to(app.srcdir).with_suffix("").as_posix(), file))
            return f"{found['image']}[{words}]({target}{'#' if anchor else ''}{anchor})"
        address = os.environ.get("PENSTOCK_REPOSITORY", "").rstrip("/")
        return f"[{found['text']}]({address}/blob/main/{file.relative_to(root)})" if address else found["text"]

    text = outside_code(text, lambda prose: LINK.sub(link, prose))
    source[0] = text + tree(text) if name == app.config.root_doc else text


def title(page: Path) -> str:
    """What a page calls itself."""
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def outside_code(text: str, change: Any) -> str:
    """`text` with `change` made to what is in no fenced block."""
    parts, end = [], 0
    for block in FENCE.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def tree(text: str) -> str:
    """The sidebar's parts: one toctree for each heading that has links to pages below it."""
    parts = HEADING.split(text)[1:]
    trees = []
    for caption, below in zip(parts[::2], parts[1::2], strict=True):
        pages = "\n".join(f"{title} <{page}>" for title, page in ITEM.findall(below))
        if pages:
            trees.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n")
    return "".join(trees)


def draw(app: Sphinx, doctree: nodes.document) -> None:
    """Puts each drawing's own text in the place of the image."""
    from docutils import nodes  # here, so that the tests can read this file without Sphinx

    for image in list(doctree.findall(nodes.image)):
        file = Path(app.env.doc2path(app.env.current_document.docname)).parent / image["uri"]
        if file.parent.name != "drawings":
            continue
        app.env.note_dependency(str(file))
        caption = html.escape(image.get("alt", ""))
        text = f'<figure class="drawing">{file.read_text(encoding="utf-8")}<figcaption>{caption}</figcaption></figure>'
        place = image.parent if isinstance(image.parent, nodes.paragraph) and len(image.parent) == 1 else image
        place.replace_self(nodes.raw("", text, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    from pygments.lexers.shell import BashLexer

    app.add_config_value("pages_shown", {}, "env")
    app.add_lexer("console", BashLexer)  # our blocks of commands have no prompts: they can be copied as they are
    app.connect("source-read", read)
    app.connect("doctree-read", draw, priority=100)  # before images are collected
    return {"parallel_read_safe": True, "parallel_write_safe": True}
