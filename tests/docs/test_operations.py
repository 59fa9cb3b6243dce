"""docs/operations.md: every warning and log line of the package is on it, under its logger and with its level, and no
others are; metrics, numbers and versions are what the page calls them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import penstock

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "penstock"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
OUTSIDE = {"cli", "lab", "replay"}
"""Commands, which speak to whoever typed them."""

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
RELAYS = {
    "adapters/rules.py": ("complain", "penstock.adapters"),
    "adapters/gate.py": ("complain", "penstock.adapters"),
    "guard/entrance.py": ("complain", "penstock.guard"),
    "guard/asgi.py": ("complain", "penstock.guard"),
    "guard/wsgi.py": ("complain", "penstock.guard"),
    "integrations/grpc.py": ("_tell", "penstock.grpc"),
}
"""Files with methods that log, with a traceback, the text they are given; and the logger."""
ELSEWHERE = {
    ("limiter.py", "small"): ("sync/guarantee.py", "too_small"),
    ("sync/task.py", "limiter %r: %s"): ("sync/agreement.py", "conflict"),
    ("integrations/logging.py", "refused %s: limit of %d, retry in %.3g s%s"): ("integrations/logging.py", "__call__"),
}
"""Messages that are put together in another function: all texts in that are meant."""
RELAYED = {"%r: %s (said once)", "%s (said once)", "message"}
"""What relays themselves say."""
IN_ITS_OWN_WORDS = {"%s: %s": "KIND: ACTION METHOD PATH from WHO (…)"}
"""Messages without words, and what the page calls them."""


class Line(NamedTuple):
    """A message: where it is made, its logger ("" of warnings), its level, and its constant parts."""

    where: str
    logger: str
    level: str
    parts: tuple[str, ...]


def files() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.split("/")[0] not in OUTSIDE:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


TREES = dict(files())


def loggers_of(tree: ast.Module) -> dict[str, str]:
    """The module's own names of loggers, and what they are called."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            call = node.value
            if isinstance(call.func, ast.Attribute) and call.func.attr == "getLogger":
                assert isinstance(call.args[0], ast.Constant)
                found |= {one.id: str(call.args[0].value) for one in node.targets if isinstance(one, ast.Name)}
    return found


def loggers_in(name: str) -> dict[str, str]:
    """The same with what the module imports."""
    found = loggers_of(TREES[name])
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("penstock."):
            source = node.module.removeprefix("penstock.").replace(".", "/") + ".py"
            for one in node.names:
                if source in TREES and one.name in (theirs := loggers_of(TREES[source])):
                    found[one.asname or one.name] = theirs[one.name]
    return found


def constant(node: ast.expr) -> str | None:
    """The text of an expression, with "%s" for what is filled in; None for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "%s" for one in node.values)
    return None


def words(text: str) -> int:
    return len(re.findall(r"\w\w+", text))


def parts(text: str) -> tuple[str, ...]:
    """What stands between the places that are filled in, if it is two words at least; if there are none, all of it."""
    text = IN_ITS_OWN_WORDS.get(text, text)
    pieces = [piece.strip(" :,;()") for piece in re.split(r"%[-0-9.]*[a-z]", text)]
    return tuple(piece for piece in pieces if words(piece) > 1) or (re.sub(r"%[-0-9.]*[a-z]", "…", text),)


def texts_of(name: str, function: str) -> list[str]:
    """Every text of two words or more in a function of a file, but for its docstring."""
    (found,) = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.FunctionDef) and node.name == function]
    within = {id(one) for node in ast.walk(found) if isinstance(node, ast.JoinedStr) for one in node.values}
    own = [node for node in ast.walk(found) if isinstance(node, ast.expr) and id(node) not in within]
    texts = [text for node in own if (text := constant(node)) is not None and words(text) > 1]
    return [text for text in texts if text != ast.get_docstring(found, clean=False)]


def assigned(name: str, variable: str) -> list[str]:
    """The texts that a variable is given in this file."""
    given = [
        node.value
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Assign) and variable in map(ast.unparse, node.targets)
    ]
    return [text for one in given if (text := constant(one)) is not None]


def messages(name: str, argument: ast.expr) -> list[str]:
    """What a call may say; an error for what this test cannot follow."""
    text = constant(argument)
    said = ast.unparse(argument) if text is None else text
    if said in RELAYED and name in RELAYS:
        return []
    if (name, said) in ELSEWHERE:
        return texts_of(*ELSEWHERE[name, said])
    texts = assigned(name, said) if text is None else [text]
    assert texts, f"{name}:{argument.lineno}: a message that this test cannot follow"
    return texts


def lines_of(name: str) -> Iterator[Line]:
    """What a file says."""
    loggers = loggers_in(name)
    relay, relays_to = RELAYS.get(name, ("", ""))
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        owner, method, first = ast.unparse(node.func.value), node.func.attr, node.args[0]
        if owner == "warnings" and method == "warn":
            found = "", "warning", first
        elif method == relay:
            found = relays_to, "error", node.args[-1] if relay == "complain" else first
        elif owner in loggers and method in LEVELS:
            found = loggers[owner], "error" if method == "exception" else method, first
        elif method == "log" and (owner in loggers or "log" in owner):
            found = loggers.get(owner, "penstock.refused"), "", node.args[1]
        else:
            assert method != "complain" or relay, f"{name}:{node.lineno}: who logs this?"
            continue
        logger, level, argument = found
        for text in messages(name, argument):
            yield Line(f"{name}:{node.lineno}", logger, level, parts(text))


def native_lines() -> Iterator[Line]:
    """Those of the compiled modules."""
    for path in sorted((ROOT / "ext").glob("*.pyx")):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r'getLogger\("([\w.]+)"\)\.(\w+)\(((?:\s*"[^"]*")+)', text)
        assert len(calls) == text.count("getLogger(") + text.count("warnings.warn("), path.name
        for logger, level, strings in calls:
            yield Line(path.name, logger, level, parts("".join(re.findall(r'"([^"]*)"', strings))))


LINES = [line for name in TREES for line in lines_of(name)] + list(native_lines())


def flat(text: str) -> str:
    return " ".join(text.split())


def section(heading: str) -> str:
    """What stands below a heading of the page, up to the next."""
    return re.split(r"^##", PAGE.split(f"\n### {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> list[tuple[str, str]]:
    """Text and level of each row of the table below a heading."""
    level = "debug|info|warning|error|as told|by severity"
    return re.findall(rf"^\| `([^`]+)` \| ({level}) \|", section(heading), re.MULTILINE)


TABLES = {
    heading.strip("`"): rows(heading)
    for heading in re.findall(r"^### (Warnings|`penstock\.\w+`)$", PAGE, re.MULTILINE)
}


def test_there_is_enough_to_compare() -> None:
    assert len(LINES) >= 30
    assert {line.logger for line in LINES} - {""} == TABLES.keys() - {"Warnings"}
    assert all(TABLES.values())


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.where}-{line.parts[0][:30]}")
def test_every_line_is_on_the_page(line: Line) -> None:
    heading = f"`{line.logger}`" if line.logger else "Warnings"
    levels = [level for text, level in TABLES[heading.strip("`")] if all(part in flat(text) for part in line.parts)]
    if levels:
        assert not line.level or line.level in levels, f"{line.where}: {line.level}, and the page says {levels}"
    else:  # words that another line may end with
        told = flat(section(heading))
        assert all(part in told for part in line.parts), f"{line.where}: {line.parts} is not on the page"


def test_nothing_else_is_on_the_page() -> None:
    said = [flat(part) for line in LINES for part in line.parts]
    for heading, table in TABLES.items():
        for text, _ in table:
            for piece in text.replace("(said once)", "").split("…"):
                wanted = re.sub("^(RuntimeWarning: |limiter |guard )", "", piece.strip(" :,;()"))
                if words(wanted) > 1 and "KIND" not in text:
                    assert any(wanted in one for one in said), f"{heading}: nobody says {wanted!r}"


def reasons() -> set[str]:
    """Why Redis can be away, as far as we say it in our own words."""
    (table,) = [
        node.value
        for node in TREES["sync/failures.py"].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_WORDS"
    ]
    assert isinstance(table, ast.Dict)
    found = {constant(one) for one in table.values} | set(texts_of("sync/failures.py", "_reason"))
    for name, tree in TREES.items():
        if name.startswith("sync/") or name == "guard/exchange.py":
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Refused", "LinkError", "self._failed"):
                    found |= {text for one in node.args if (text := constant(one)) and words(text) > 1}
    return {text for text in found if text} - {"No master found", "given up"}  # Redis's own words; nobody is told


def test_every_reason_is_on_the_page() -> None:
    assert len(reasons()) > 30
    told = section("`penstock.sync`")
    for text in reasons():
        assert all(part in told for part in parts(text)), text


def test_metrics_are_called_so() -> None:
    pytest.importorskip("prometheus_client")
    from penstock.integrations._figures import FIGURES

    ends = {one.name: (f"_{one.unit}" if one.unit else "") + ("_total" if one.total else "") for one in FIGURES}
    names = {f"penstock_{name}{end}" for name, end in ends.items()}
    assert set(re.findall(r"`(penstock_\w+)", PAGE)) | set(re.findall(r" / (penstock_\w+)`", PAGE)) == names


@pytest.mark.skipif(not penstock.native, reason="the guard needs the compiled core")
def test_numbers_of_the_guard_are_called_so() -> None:
    from penstock.guard import Guard

    with Guard("web") as guard:
        status = guard.status()
    table = PAGE.split("\n### The guard\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `(\w+)(?:\[\"(\w+)\"\])?(?:\[\"(\w+)\"\])?`", table, re.MULTILINE)
    assert len(named) >= 8
    for name, inner, innermost in named:
        if inner:
            assert inner in status[name]
            assert not innermost or innermost in status[name][inner]
        else:
            assert name in status["statistics"], name


def test_what_is_said_of_versions() -> None:
    from penstock import snapshot
    from penstock.segment import file
    from penstock.sync import wire

    assert f"| the segment's file | layout {file.VERSION} |" in PAGE
    assert f"| a saved limiter | format {snapshot.VERSION} |" in PAGE
    assert f"| the protocol with Redis | version {wire.VERSION} |" in PAGE
