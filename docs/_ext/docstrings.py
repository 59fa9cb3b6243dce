"""penstock's docstrings, which are plain text, as the reference shows them.

The house style has no markup, so that `help()` reads well; what a reader recognises is recognised here:

    key: str, bytes, int; cost: units      a part for each parameter or field, at the start of a sentence or after ";"
    Returns …, Raises …                    a paragraph of its own
    name   what it is                      lines with two spaces or more between: a list of names
    `hit`, Decision                        a link, where a public thing is called so
    an indented block, >>> examples        as they stand

Signatures of compiled methods are taken from the stubs beside them.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import penstock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTION = re.compile(r"(?<=[.;)] )(?=(?:Returns|Raises) )")
ROW = re.compile(r"^(\S(?: ?\S)*?) {2,}(\S.*)$")
SPECIAL = re.compile(r"([\\*|]|_(?!\w))")
WORD = re.compile(r"`([^`]+)`|\b(penstock(?:\.\w+)+)\b|(?<![\w.\"'])([A-Z]\w*[a-z]\w*)(?![\w=\"'])")

NAMED = re.compile(r"TypeAliasForwardRef\('(\w+)'\)|<function (\w+)[^>]*>")
MODULES = ("penstock", "penstock.clock", "penstock.guard", "penstock.adapters.gate", "penstock.adapters.rules")
"""Where a bare name may come from, besides the module that its docstring is in."""


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """The docstring's lines as reStructuredText."""
    known = parameters(obj)
    shown: list[str] = []
    for block in blocks(lines):
        shown += [*render(block, known, Links(name)), ""]
    lines[:] = shown


def blocks(lines: list[str]) -> Iterable[list[str]]:
    """What stands between blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []


def render(block: list[str], known: frozenset[str], links: Links) -> list[str]:
    if block[0].startswith(">>>"):
        return block
    if block[0].startswith(" "):
        return ["::", "", *(f"    {line}" for line in block)]
    rows = table(block)
    if rows:
        return [line for names, text in rows for line in entry(names, links.inline(text))]
    if block[0].startswith("- "):
        return [links.inline(line) for line in block]
    return prose(" ".join(line.strip() for line in block), known, links)


def table(block: list[str]) -> list[tuple[str, str]]:
    """Names and what they are, of a block that is a list of names; else nothing."""
    rows: list[tuple[str, str]] = []
    for line in block:
        found = ROW.match(line)
        if found:
            rows.append((found[1], found[2]))
        elif rows and line.startswith("  "):
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}")
        else:
            return []
    return rows


def prose(text: str, known: frozenset[str], links: Links) -> list[str]:
    """A paragraph, cut where parameters begin and where it tells what is returned and raised."""
    if not known:
        return [links.inline(text)]
    one = "(?:" + "|".join(sorted(map(re.escape, known), key=len, reverse=True)) + ")"
    starts = re.compile(rf"(?:^|(?<=[.;)] ))({one}(?:(?:, | and ){one})*): ")
    cuts = list(starts.finditer(text))
    if not cuts:
        return [links.inline(text)]
    lines = [links.inline(text[: cuts[0].start()].strip()), ""]
    for cut, after in zip(cuts, [*(cut.start() for cut in cuts[1:]), len(text)], strict=True):
        said, *sections = SECTION.split(text[cut.end() : after].strip())
        lines += entry(cut[1], links.inline(said.strip().rstrip(";.")))
        for section in sections:
            lines += ["", links.inline(section.strip()), ""]
    return lines


def entry(names: str, text: str) -> list[str]:
    """One term of a definition list."""
    return [", ".join(f"``{one}``" for one in re.split(", | and ", names)), f"    {text}", ""]


def parameters(obj: Any) -> frozenset[str]:
    """The names that a docstring of this object may explain."""
    names = set(getattr(obj, "__dataclass_fields__", ())) | set(getattr(obj, "_fields", ()))
    if isinstance(obj, type):
        slots = vars(obj).get("__slots__", ())
        names |= {slot for slot in ((slots,) if isinstance(slots, str) else slots) if not slot.startswith("_")}
    called = obj.__init__ if isinstance(obj, type) else obj
    try:
        found = inspect.signature(called).parameters
    except (TypeError, ValueError):
        return frozenset(names)
    return frozenset(names | set(found)) - {"self", "args", "kwargs"}


class Links:
    """Plain text as reStructuredText, with a link where a public thing is named, the first time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = {name}

    def inline(self, text: str) -> str:
        parts, end = [], 0
        for found in WORD.finditer(text):
            parts.append(SPECIAL.sub(r"\\\1", text[end : found.start()]))
            word = self.word(found)
            end = found.end()
            if word != found[0]:  # markup, which has to stand by itself
                before, after = text[: found.start()][-1:], text[end : end + 1]
                word = ("" if before in " (['\"-/:" else "\\ ") + word
                word += "" if after in " )]'\"-/:.,;!?" else "\\ "
            parts.append(word)
        return "".join([*parts, SPECIAL.sub(r"\\\1", text[end:])])

    def word(self, found: re.Match[str]) -> str:
        code, dotted, name = found[1], found[2], found[3]
        if name and not re.search(r"[a-z][A-Z]", name) and re.search(r"(^|[.:] )$", found.string[: found.start()]):
            return name  # begins a sentence: more likely a word than a class
        target = self.target((code or dotted or name).removesuffix("()"))
        if target and (code or target not in self.seen):
            self.seen.add(target)
            return f":py:obj:`{code or dotted or name} <{target}>`"
        return SPECIAL.sub(r"\\\1", name) if name else f"``{code or dotted}``"

    def target(self, word: str) -> str | None:
        """The full name of what is called so here."""
        if not re.fullmatch(r"[A-Za-z_][\w.]*", word):
            return None
        public = documented()
        parents = self.name.split(".")
        for depth in range(len(parents), 0, -1):
            full = ".".join([*parents[:depth], word])
            if full in public:
                return full
        for module in ("", *(f"{one}." for one in MODULES)):
            if module == "penstock.guard." and not self.name.startswith(module):
                continue
            if f"{module}{word}" in public:
                return f"{module}{word}"
        return None


@cache
def documented() -> frozenset[str]:
    """The full name of everything that the reference has a directive for."""
    names: set[str] = set()
    for page in Path(__file__).parents[1].glob("reference/*.md"):
        module = parent = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\.\. (?:py:)?(?:auto)?(\w+):: ([\w.]+)", line):
                kind, name = found.groups()
                if kind in ("module", "currentmodule"):
                    module = f"{name}."
                else:
                    parent = name if name.startswith("penstock.") else module + name
                    names.add(parent)
            elif found := re.match(r" +:members: (.+)", line):
                names |= {f"{parent}.{member.strip()}" for member in found[1].split(",")}
    return frozenset(names)


# ---- signatures of what is compiled ----


def sign(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The stub's signature of a compiled method; others as they are written: an alias and a default by their names.

    A class that the page names with "()" is one that is given out and not made: it is shown without.
    """
    if what == "class" and signature == "()":
        return "", None
    owner = getattr(obj, "__objclass__", None)
    module, of = getattr(owner, "__module__", ""), getattr(owner, "__name__", "")
    if owner is penstock.Limiter:  # it has adopted the engine's own
        module, of = "penstock._core", "Engine"
    stub = stubs(module).get(f"{of}.{obj.__name__}") if module.startswith("penstock._") else None
    if stub is None:
        settings = "penstock.guard.entrance" if name.startswith("penstock.guard.") else "penstock.adapters.gate"
        plain = [NAMED.sub(r"\1\2", text) if text else text for text in (signature, returns)]
        return plain[0] and plain[0].replace("[Settings]", f"[{settings}.Settings]"), plain[1]
    stub.args.args = stub.args.args[1:]
    for argument in [*stub.args.args, *stub.args.kwonlyargs]:
        if argument.annotation is not None and re.search(r"\b_\w", ast.unparse(argument.annotation)):
            argument.annotation = None  # a name of the stub's own, that says nothing here
    return f"({ast.unparse(stub.args)})", None if stub.returns is None else ast.unparse(stub.returns)


def stubs(module: str) -> dict[str, ast.FunctionDef]:
    """Class.method -> its definition in the module's stub."""
    path = Path(penstock.__file__).parent / f"{module.removeprefix('penstock.')}.pyi"
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    found[f"{node.name}.{method.name}"] = method
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", sign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
