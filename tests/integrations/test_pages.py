"""The pages of docs/integrations: each example, copied into an empty folder, run as written, answers as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from doc_pages import DOCS, codes, read, run
from ports import free_port
from serving import NEEDS, Server

FOLDER = DOCS / "integrations"
PAGES = {path.stem: path for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}
SECONDS = re.compile(r"(?<=t=)\d+|(?<=reset: )\d+|(?<=retry-after: )\d+")


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, tmp_path: Path) -> None:
    """As written, but for the port: 8000 may be taken."""
    for package in NEEDS[name]:
        pytest.importorskip(package)
    page = read(PAGES[name])
    (code,) = codes(PAGES[name])
    (console,) = codes(PAGES[name], "console")
    (expected,) = codes(PAGES[name], "text")
    folder = tmp_path / "empty"
    folder.mkdir()
    assert code.startswith("# app.py\n")
    install, command = console.splitlines()
    assert install.startswith(f"pip install 'penstock[{name}]'")
    port = free_port()
    (folder / "app.py").write_text(code.replace("8000", str(port)), encoding="utf-8")
    arguments = shlex.split(command.replace("8000", str(port)))
    arguments = arguments[1:] if arguments[0] == "python" else ["-m", *arguments]
    found = re.search(r"The sixth `curl -i (?:-X (\w+) )?http://127\.0\.0\.1:8000(/\w+)`", page)
    assert found is not None
    server = Server(name, tmp_path, arguments, cwd=folder, port=port)
    try:
        answers = [server.get(found[2], method=found[1] or "GET") for _ in range(6)]
    finally:
        server.stop()
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    status, *lines = expected.splitlines()
    assert status.lower() == "http/1.1 429 too many requests"
    for line in lines:
        header, _, value = line.partition(": ")
        seen = f"{header.lower()}: {answers[5].headers[header.lower()]}"
        assert SECONDS.sub("…", seen) == SECONDS.sub("…", f"{header.lower()}: {value}")
        for told, was in zip(SECONDS.findall(line.lower()), SECONDS.findall(seen), strict=True):
            assert int(was) <= int(told), "seconds that have passed since the first"


def test_the_page_that_all_share() -> None:
    for code in codes(FOLDER / "README.md"):
        run(code, page="README.md")
    assert set(re.findall(r"\]\((\w+\.md)\)", read(FOLDER / "README.md"))) == {f"{name}.md" for name in PAGES}
