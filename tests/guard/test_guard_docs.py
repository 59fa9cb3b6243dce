"""docs/guard*.md: every example runs as written, every table says what the code says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doc_pages import DOCS, blocks, codes, read, run

import penstock.guard
from penstock.cli.__main__ import main
from penstock.guard import Config, Guard, GuardMiddleware
from penstock.guard.bypass import scenarios as bypass_scenarios
from penstock.guard.conditions import STATES
from penstock.guard.config import PARTS
from penstock.guard.facts import NAMES
from penstock.guard.probing import scenarios as probing_scenarios
from penstock.guard.responses import KINDS
from penstock.guard.scenario import Scenario
from penstock.guard.settings import Bypass, Settings, Strategy, Threats
from penstock.guard.verdict import Technique

PAGE, REFERENCE = read(DOCS / "guard.md"), read(DOCS / "guard-reference.md")
BLOCKS = blocks(PAGE)
PYTHON = codes(DOCS / "guard.md") + codes(DOCS / "guard-reference.md")
(TOML,) = codes(DOCS / "guard.md", "toml")
COMMANDS = [line for code in codes(DOCS / "guard.md", "console") for line in code.splitlines()]


def example(text: str) -> str:
    (code,) = [one for one in PYTHON if text in one]
    return code


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) == PAGE.count("```") // 2
    assert {block.language for block in BLOCKS} == {"python", "toml", "console"}


@pytest.mark.parametrize("code", PYTHON, ids=[f"block-{number}" for number in range(len(PYTHON))])
def test_example(
    code: str, tmp_path: Path, segment_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, needed in (("fastapi", "fastapi"), ("flask", "flask"), ("redis", "sync=")):
        if needed in code:
            pytest.importorskip(package)
    if "shared=" in code and sys.platform != "linux":
        pytest.skip("segments are for Linux")
    (tmp_path / "guard.toml").write_text(TOML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    for made in run(code).values():
        if isinstance(made, Guard):
            made.close()


def test_the_first_example_says_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    code = example('guard = Guard("web")                                            # a preset')
    run(code)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("403 threat_detected b'{")
    assert said[1] in code


def test_the_administration_is_where_it_is_said_to_be() -> None:
    pytest.importorskip("fastapi")
    names = run(example("admin_app"))
    answers: list[Any] = []

    async def ask(path: str, *headers: tuple[bytes, bytes]) -> int:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "scheme": "http", "headers": [(b"host", b"localhost"), *headers], "client": ("192.0.2.1", 1),
            "server": ("localhost", 80), "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await names["app"](scope, receive, send)
        return int(next(one["status"] for one in answers[::-1] if one["type"] == "http.response.start"))

    assert asyncio.run(ask("/guard/security/")) == 403
    assert asyncio.run(ask("/guard/security/", (b"authorization", b"Bearer not-this-one"))) == 200
    assert asyncio.run(ask("/guard/api/security/status", (b"authorization", b"Bearer not-this-one"))) == 200
    assert any(isinstance(one.cls, type) and one.cls is GuardMiddleware for one in names["app"].user_middleware)
    assert names["guard"].status()["health"]["in_path"]
    names["guard"].close()


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '203.0.113.7 - - [10/Oct/2025:13:55:{:02} +0000] "GET /a{} HTTP/1.1" 200 12 "-" "test"\n'
    (tmp_path / "access.log").write_text("".join(line.format(second, n) for second in range(20) for n in range(60)))
    (tmp_path / "guard.toml").write_text(TOML, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    if "--plot" in command:
        assert "<svg" in (tmp_path / "guard.html").read_text(encoding="utf-8")


def test_the_configuration_means_what_is_said() -> None:
    config = Config.read(tomllib.loads(TOML))
    assert config.limits is not None
    assert config.limits.address == ("60/minute", "1000/hour")
    assert config.limits.everyone is not None, "what is not named stays the preset's"
    assert config.threats is not None
    assert config.threats.exclude == (("/search", "q", "sqli"),)


# ---- the reference ----


def shown(value: object) -> str:
    """A default as the tables have it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, dict)) and not value:
        return "none"
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def rows(heading: str) -> dict[str, str]:
    """Name and default of each row of the first table below a heading."""
    section = REFERENCE.split(f"\n## {heading}\n")[1]
    table = section[section.index("\n| |") :].lstrip("\n").partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", table, re.MULTILINE))


@pytest.mark.parametrize("part", [*PARTS, "strategy"])
def test_settings_and_defaults(part: str) -> None:
    kind: type[Settings] = Strategy if part == "strategy" else PARTS[part]
    found = rows("A strategy" if part == "strategy" else f"`{part}`")
    assert list(found) == [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            assert found[one.name] == "needed"
            continue
        usual = one.default_factory() if one.default is dataclasses.MISSING else one.default  # type: ignore[misc]
        if one.name not in ("everyone", "user", "address", "strategies", "windows", "login"):  # in words
            assert found[one.name] == shown(usual), one.name


def test_fields_of_scenarios_and_of_the_whole() -> None:
    for kind, heading in ((Scenario, "A scenario"), (Config, "The whole")):
        found = rows(heading)
        told = {one.name for one in dataclasses.fields(kind)} - set(PARTS)
        assert set(found) == told


def test_names_of_the_reference() -> None:
    for name in (*NAMES, *STATES, *KINDS, *Technique):
        assert f"`{name}`" in REFERENCE, name
    detectors = [*bypass_scenarios(Bypass()), *probing_scenarios(Threats())]
    for one in detectors:
        if not one.silent:
            assert f"`{one.name.partition('.')[2]}`" in REFERENCE, one.name


def test_the_table_for_contributors_names_real_tests() -> None:
    table = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    short = {name: f"guard_{name}" for name in ("rows", "faults", "docs")} | {
        "path": "guard_in_path", "mw": "guard_middlewares",
    }  # fmt: skip
    named = re.findall(r"(\w+) `(test_\w+)`", table)
    assert len(named) > 100
    for name, test in named:
        source = (Path(__file__).parent / f"test_{short.get(name, name)}.py").read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", source, re.MULTILINE), (name, test)
    assert len(named) == len(re.findall(r"`test_\w+`", table)), "each with its file"
    guard = Path(penstock.guard.__file__).parent
    for path in re.findall(r"`(?!test_)(\w+(?:\.py|/))`", table):
        assert (guard / path).exists(), path
