"""Threats: the parts of a request that are scanned, what is left out, and the evidence."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("penstock._scan", reason="the guard needs the compiled modules")

from penstock.guard.request import Request
from penstock.guard.scan import Finding
from penstock.guard.threats import FINDINGS_MOST, Threats
from penstock.guard.verdict import Evidence, Severity

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json; charset=utf-8"}
SQL = "1' union select password from users--"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"
HEADERS = {
    "User-Agent": AGENT,
    "Referer": "https://example.com/search?q=it%27s+5+or+6&x=1#top",
    "Cookie": "_ga=GA1.2.3.4; session=eyJhIjoxfQ==; theme=dark; next=/a/b?c=d",
    "Accept": "text/html, */*;q=0.1",
}


def look(threats: Threats, path: str = "/", query: str = "", **parts: Any) -> Evidence | None:
    return threats.look(Request("192.0.2.1", path=path, query=query, **parts), path)


def test_an_honest_request_has_nothing() -> None:
    body = urlencode({"name": "O'Brien", "text": "select your size; drop us a line"}).encode()
    headers = {**HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
    request = Request("192.0.2.1", "POST", "/orders/42", "page=2&q=rock+'n'+roll", headers, body=body)
    assert Threats().look(request, "/orders/42") is None


def test_the_evidence() -> None:
    evidence = look(Threats(), "/items", f"page=2&id={quote(SQL)}")
    assert evidence is not None
    assert evidence[:5] == ("scan", Severity.HIGH, "sqli in 'id': union-select", 5, 5)
    assert evidence.findings == (Finding("sqli", 5, "union-select", 7, 47),)


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({"path": f"/items/{SQL}"}, ":path"),
        ({"path": "/static/../../etc/passwd"}, ":path"),
        ({"query": "<script>=1"}, "<script>"),
        ({"query": "1;drop table users--"}, "1;drop table users--"),
        ({"headers": {"User-Agent": "x' or sleep(5)--"}}, "header:user-agent"),
        ({"headers": {"Referer": f"https://example.com/?id={quote(SQL)}"}}, "header:referer"),
        ({"headers": {"Referer": "javascript:alert(1)"}}, "header:referer"),
        ({"headers": [(b"user-agent", b"() { :; }; /bin/id")]}, "header:user-agent"),
        ({"body": f"a=1&b={quote(SQL)}".encode(), "headers": FORM}, "b"),
        ({"body": json.dumps({"a": [{"b": SQL}]}).encode(), "headers": JSON}, "b"),
        ({"body": json.dumps({SQL: 1}).encode(), "headers": {"content-type": "application/vnd.api+json"}}, SQL),
        ({"body": json.dumps([SQL]).encode(), "headers": JSON}, ":body"),
        ({"body": b'{"a": "' + SQL.encode(), "headers": JSON}, ":body"),
        ({"body": b"[" * 60_000 + SQL.encode(), "headers": JSON}, ":body"),
        ({"body": b"<script>alert(1)</script>", "headers": {"content-type": "text/plain"}}, ":body"),
        ({"body": SQL.encode()}, ":body"),
    ],
)  # fmt: skip
def test_each_part_is_scanned(parts: dict[str, Any], where: str) -> None:
    evidence = look(Threats(), **parts)
    assert evidence is not None
    assert f" in {where!a}: " in evidence.detail


def multipart(name: str, content: bytes, file: str | None = None) -> dict[str, Any]:
    disposition = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
    head = f"--xyz\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    kind = {"content-type": 'multipart/form-data; boundary="xyz"'}
    return {"body": head + content + b"\r\n--xyz--\r\n", "headers": kind}


def test_multipart_forms() -> None:
    assert look(Threats(), **multipart("text", b"hello, it's me")) is None
    evidence = look(Threats(), **multipart("text", SQL.encode()))
    assert evidence is not None
    assert evidence.detail == "sqli in 'text': union-select"
    page = multipart("page", b"<script>alert(1)</script>", "page.html")
    assert look(Threats(), **page) is None, "a file may be anything"
    evidence = look(Threats(), **multipart("page", b"", "../../etc/passwd"))
    assert evidence is not None
    assert "traversal in 'page'" in evidence.detail


def test_bodies_that_are_no_text_are_left_alone() -> None:
    for kind in ("image/png", "application/zip", "application/octet-stream"):
        assert look(Threats(), body=b"<script>alert(1)</script>", headers={"content-type": kind}) is None


def test_what_is_left_out() -> None:
    query = f"q={quote(SQL)}"
    for one in (("/search", "q", "sqli"), ("", "q", ""), ("/search", "", ""), ("/", "", "sqli")):
        assert look(Threats(exclude=[one]), "/search/all", query) is None, one
    for one in (("/other", "q", "sqli"), ("/search", "p", ""), ("/search", "q", "xss")):
        assert look(Threats(exclude=[one]), "/search/all", query) is not None, one
    assert look(Threats(exclude=[("", "header:user-agent", "")]), headers={"user-agent": SQL}) is None
    assert look(Threats(exclude=[("", ":path", "")]), f"/{SQL}") is None
    for wrong in (("", "", "sql"), (1, "", ""), ("", None, "")):
        with pytest.raises(ValueError, match="exclude"):
            Threats(exclude=[wrong])  # type: ignore[list-item]


def test_points_are_summed_up() -> None:
    query = "a=%3Cb%3Ex%3C/b%3E"
    assert look(Threats(), query=query) is None
    assert look(Threats(2), query=query) is None, "2 points are not 5"
    evidence = look(Threats(2, threshold=2), query=query)
    assert evidence is not None
    assert (evidence.value, evidence.limit) == (2, 2)
    assert look(Threats(threshold=6), query=f"a={quote(SQL)}") is None
    evidence = look(Threats(), query=f"a={quote(SQL)}&b=%3Cscript%3E")
    assert evidence is not None
    assert (evidence.severity, evidence.value) == (Severity.CRITICAL, 10)


def test_cookies_count_less() -> None:
    assert look(Threats(), headers={"cookie": f"a=1; b={SQL}"}) is None
    evidence = look(Threats(), headers={"cookie": f"b={SQL}; c=<script>"})
    assert evidence is not None
    assert evidence.value == 6
    assert look(Threats(headers={"cookie": 1}), headers={"cookie": f"a=1; b={SQL}"}) is not None
    assert look(Threats(headers={}), headers={"user-agent": SQL}) is None
    with pytest.raises(ValueError, match="'cookie' counts 2"):
        Threats(headers={"cookie": 2})


def test_how_much_is_scanned() -> None:
    query = "a=" + "x" * 1000 + f"&b={quote(SQL)}"
    assert look(Threats(), query=query) is not None
    assert look(Threats(request_most=1000), query=query) is None
    body = {"body": b"x" * 1000 + SQL.encode()}
    assert look(Threats(), **body) is not None
    assert look(Threats(body_most=1000), **body) is None
    assert look(Threats(body_most=0), **body) is None


def test_patterns_of_ones_own() -> None:
    threats = Threats()
    threats.add_pattern("internal-host", "intranet.local")
    threats.add_pattern("long-digits", lambda value: sum(letter.isdigit() for letter in value) > 30, points=3)
    assert look(threats, query="next=https://example.com") is None
    evidence = look(threats, query="next=https://INTRANET.local/x")
    assert evidence is not None
    assert evidence.findings == (Finding("custom", 5, "internal-host", 13, 27),)
    assert look(threats, query="next=intranet%2Elocal") is not None
    assert look(threats, query="n=" + "1" * 31) is None, "3 points are not 5"
    assert look(threats, f"/intranet.local/{'1' * 31}").value == 8  # type: ignore[union-attr]
    assert look(Threats(exclude=[("", "", "custom")]), query="next=intranet.local") is None
    for name, pattern, points in (("", "a", 5), ("internal-host", "a", 5), ("b", "a", 0), ("b", "a", True)):
        with pytest.raises(ValueError, match="add_pattern: "):
            threats.add_pattern(name, pattern, points)
    for nothing in ("", 5, b"a"):
        with pytest.raises(TypeError, match="add_pattern: pattern="):
            threats.add_pattern("c", nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"paranoia": 0}, {"paranoia": 5}, {"threshold": 0}, {"body_most": -1}, {"request_most": 0}, {"paranoia": "1"}],
)
def test_settings_that_are_wrong(wrong: dict[str, Any]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"Threats: {name}={value!r} must be a number"):
        Threats(**wrong)


def test_evidence_is_bounded() -> None:
    query = "&".join(f"{'n' * 500}{index}={quote(SQL)}" for index in range(300))
    evidence = look(Threats(request_most=1 << 30), query=query)
    assert evidence is not None
    assert len(evidence.findings) == FINDINGS_MOST
    assert len(evidence.detail) < 200
    assert evidence.value == 1500


hostile = st.text() | st.sampled_from(["\udcff", "\0" * 300, "%" * 300, "&=" * 300, "--xyz" * 50, "{" * 300, SQL])

types = st.sampled_from(["", "application/json", "multipart/form-data; boundary=xyz", "text/plain"])


@given(hostile, hostile, hostile, st.binary(), types)
def test_any_request(path: str, query: str, header: str, body: bytes, kind: str) -> None:
    threats = Threats(4, threshold=1)
    threats.add_pattern("x", "x")
    headers = {"user-agent": header, "cookie": header, "referer": header, "content-type": kind}
    evidence = threats.look(Request(None, path=path, query=query, headers=headers, body=body), path)
    assert evidence is None or evidence.value >= 1
