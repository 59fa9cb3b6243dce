"""`penstock guard replay`: what it reads, what it says of whom, and its behaviour towards files of every kind."""

from __future__ import annotations

import gzip
import io
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OUTSIDE, needs

from penstock.cli.__main__ import main
from penstock.guard.config import Config
from penstock.guard.replay import play as playing
from penstock.guard.replay.lines import LINE_MOST, Entry, Lines
from penstock.guard.replay.play import Slices, play, request_of
from penstock.guard.replay.report import text_report
from penstock.guard.settings import Limits

LOGS = OUTSIDE / "logs"
here = needs(LOGS)

AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"


def line(
    address: str = "192.0.2.1", second: int = 0, request: str = "GET / HTTP/1.1", status: int = 200, agent: str = AGENT
) -> str:
    clock = f"17/May/2015:10:{second // 60:02d}:{second % 60:02d} +0000"
    return f'{address} - - [{clock}] "{request}" {status} 12 "-" "{agent}"\n'


GUESSER = "203.0.113.66"
DAY = [line(second=second) for second in range(60)] + [
    line(GUESSER, 20 + number // 4, f"GET /backup-{number}.zip?a=1 HTTP/1.1", 404) for number in range(30)
]
"""One who reads a page a second, and one who looks for what is not there."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(DAY))
    return path


def replay(*arguments: object) -> int:
    return main(["guard", "replay", *map(str, arguments)])


def replay_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert replay(*arguments, "--json") == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def read(text: str | bytes) -> Entry:
    return Lines("log").read(text if isinstance(text, bytes) else text.encode(), 7)


ELB = (
    "https 2023-04-26T12:23:15.948827Z app/x/y 192.168.1.100:44760 10.0.0.66:9000 0.000 0.002 0.000 404 404 5 257 "
    '"GET https://10.0.2.105:773/admin.php?a=1 HTTP/1.1" "Nikto" ECDHE TLSv1.2 arn'
)
ENVOY = (
    '2025-12-31T17:40:00.0+01:00 stdout F {"start_time":"2025-12-31T16:40:00.100Z","method":"GET",'
    '"x-envoy-origin-path":"/page-01","response_code":404,"user-agent":"curl","downstream_remote_address":"10.0.0.13:4"}'
)
ZORAXY = "2025/05/01 14:14:02 [router:x] [origin:a] [client: 192.168.1.1] [useragent: zgrab/0.x] GET /ecp/x 444"
NGINX_ERROR = (
    '2021/09/30 09:23:53 [error] 19#19: *17 user "foo" was not found in "/a", client: 127.0.0.1, server: _, '
    'request: "GET /x HTTP/1.1", host: "localhost"'
)


AT = "- - [15/Sep/2021:16:13:46 +0000]"
PLACED = '{"time": 1431857103.5, "client": {"ip": "192.0.2.7"}, "request": "GET /a HTTP/1.1", "status": 200}'
CONNECT, ABSOLUTE = "CONNECT foo.com:25 HTTP/1.1", "GET http://x.example/a HTTP/1.0"


@pytest.mark.parametrize(
    ("text", "address", "asked", "answered", "agent"),
    [
        (line(request="GET /a?b=c HTTP/1.1").rstrip(), "192.0.2.1", "GET /a?b=c", (200, 12), AGENT),
        (f'::1 {AT} "GET / HTTP/1.1" 200 1', "::1", "GET /", (200, 1), None),
        (f'a.example 192.0.2.7 {AT} "GET / HTTP/1.1" 301 - "-" "-"', "192.0.2.7", "GET /", (301, None), ""),
        (f'10.0.0.1 192.0.2.7 {AT} "GET / HTTP/1.1" 301 -', "192.0.2.7", "GET /", (301, None), None),
        (f'Sep 15 host nginx[28]: 192.0.2.7 {AT} "POST /x HTTP/1.1" 200 5', "192.0.2.7", "POST /x", (200, 5), None),
        (rf'::1 {AT} "GET /?q=\x22a\"b\\ HTTP/1.1" 200 5', "::1", 'GET /?q="a"b\\', (200, 5), None),
        (rf'::1 {AT} "\x16\x03\x01" 400 5', "::1", "- \x16\x03\x01", (400, 5), None),
        (f'::1 {AT} "{CONNECT}" 400 5', "::1", "CONNECT foo.com:25", (400, 5), None),
        (f'::1 {AT} "{ABSOLUTE}" 400 5', "::1", "GET http://x.example/a", (400, 5), None),
        (ELB, "192.168.1.100", "GET /admin.php?a=1", (404, 257), "Nikto"),
        (ENVOY, "10.0.0.13", "GET /page-01", (404, None), "curl"),
        (PLACED, "192.0.2.7", "GET /a", (200, None), None),
        (ZORAXY, "192.168.1.1", "GET /ecp/x", (444, None), "zgrab/0.x"),
        (NGINX_ERROR, "127.0.0.1", "GET /x", (401, None), None),
    ],
)
def test_lines(text: str, address: str, asked: str, answered: tuple[int, int | None], agent: str | None) -> None:
    entry = read(text)
    assert (entry.address, f"{entry.method} {entry.target}", entry.number) == (address, asked, 7)
    assert (entry.status, entry.size, entry.agent) == (*answered, agent)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not a line of a log",
        b"\xff\x00" * 500,
        b"{" * 20_000,
        b"[" * 20_000 + b"}",
        b'{"time": 1}',
        b'192.0.2.1 - - [99/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1',
        b'nobody - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1',
        b"[17/May/2015:10:05:03 +0000] " * 2000,
        b"GET /" * 12_000,
        b'"GET ' * 12_000,
        b"client " * 9_000,
        b"x" * (LINE_MOST + 1),
    ],
)
def test_lines_that_are_no_requests(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


SAMPLES = [line().encode(), ELB.encode(), ENVOY.encode(), PLACED.encode(), ZORAXY.encode(), NGINX_ERROR.encode()]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 4), st.binary(max_size=6))))
def test_lines_with_anything_changed(text: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """A request, or an error that says why not; and what is read can be asked of a guard."""
    for place, cut, put in changes:
        text = text[:place] + put + text[place + cut :]
    try:
        entry = read(text)
    except ValueError:
        return
    assert ipaddress.ip_address(entry.address)
    assert entry.ns >= 0
    assert 0 <= entry.status <= 999
    assert request_of(entry).address == entry.address


def test_a_request_of_a_line() -> None:
    """Decoded as servers do it, with ordinary headers in place of those that are not in a log."""
    request = request_of(read(line(request="GET /a%20b/%2e%2e?q=%27 HTTP/1.1", agent="-")))
    assert (request.path, request.query) == ("/a b/..", "q=%27")
    assert request.header("user-agent") is None
    assert request.header("accept-language") == "en"
    assert request_of(read('::1 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1')).header("user-agent")


def test_who_and_why(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = replay_json(capsys, log, "--preset", "web")
    assert (report["lines"], report["requests"], report["addresses"], report["unreadable"]) == (90, 90, 2, 0)
    [guesser] = report["refused_addresses"]
    assert guesser["address"] == GUESSER
    assert guesser["banned"]
    assert report["refused"] == guesser["refused"] == sum(report["detectors"].values())
    assert 12 <= guesser["refused"] <= 20, "stopped soon after the tenth"
    assert list(guesser["why"]) == ["banned for probing.not_found"]
    found = next(one for one in report["sample"] if one["after_response"])
    assert found["evidence"][0]["detector"] == "probing.not_found"
    assert (found["address"], found["action"]) == (GUESSER, "ban")
    assert DAY[found["line"] - 1] == line(GUESSER, int(found["time"][17:19]), f"GET {found['target']} HTTP/1.1", 404)


def test_the_report_for_people(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(log) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f'"web" on {log}' in out
    assert "90 lines; 90 requests of 2 addresses" in out
    assert "would have been banned    1 of 2 addresses" in out
    assert f"{GUESSER}  banned for the answer\n      GET /backup-" in out
    assert "      probing.not_found, high: " in out


def test_explaining(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(log, "--explain", GUESSER) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{GUESSER}: 30 requests, ")
    assert "requests allowed, in " in out
    assert "refused: banned" in out
    assert "more like it, to line 90, " in out
    assert "192.0.2.1" not in out
    assert replay(log, "--explain", "192.0.2.1") == 0
    assert "192.0.2.1: 60 requests, 0 of them would have been refused" in capsys.readouterr().out
    assert replay(log, "--explain", "192.0.2.99") == 0
    assert capsys.readouterr().out == "192.0.2.99 is in none of 90 requests\n"


def test_explaining_a_neighbour_of_one_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text(line("2001:db8::1") + line("2001:db8::2") + line("2001:db8:0:1::1"))
    assert replay(path, "--explain", "2001:db8::7") == 0
    assert "2 requests" in capsys.readouterr().out


def test_a_configuration_of_its_own(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "g.toml").write_text('[limits]\naddress = "2/minute"\n')
    (tmp_path / "g.json").write_text('{"limits": {"address": "2/minute"}}')
    one = replay_json(capsys, log, "--config", tmp_path / "g.toml")
    two = replay_json(capsys, log, "--config", tmp_path / "g.json")
    assert one["detectors"] == two["detectors"] == {"limits": one["refused"]}
    assert len(one["refused_addresses"]) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits = {adress = '2/minute'}", "limits: 'adress' is no setting"),
        ("[[[", "config="),
        ("limit = 1", "config: 'limit' is no setting"),
    ],
)
def test_a_configuration_that_is_wrong(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "g.toml").write_text(text)
    assert replay(log, "--config", tmp_path / "g.toml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert replay(log, "--config", tmp_path / "nowhere.toml") == 2
    assert "No such file" in capsys.readouterr().err


def test_arguments_that_are_wrong(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(log, "--explain", "10.0.0.256") == 2
    assert "explain='10.0.0.256' must be an IPv4 or IPv6 address" in capsys.readouterr().err
    assert replay(log, "--plot", tmp_path / "out.gif") == 2
    assert "must end in .png" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        replay(log, "--preset", "none")
    with pytest.raises(SystemExit):
        main(["guard"])


def test_files_of_every_kind(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    assert replay_json(capsys, packed)["requests"] == 90
    empty = tmp_path / "empty"
    empty.touch()
    assert replay(empty) == 1
    assert "there is no request to replay" in capsys.readouterr().err
    odd = tmp_path / "odd"
    odd.write_bytes(b"\x00\xff rubbish\n\n" * 20)
    assert replay(odd) == 1
    assert "Unreadable (20)" in capsys.readouterr().out
    assert replay(log, tmp_path / "nowhere") == 2
    out, err = capsys.readouterr()
    assert "90 requests of 2 addresses" in out
    assert "nowhere: No such file or directory" in err
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(log.read_bytes())[:-30])
    assert replay(damaged) == 2
    assert "damaged.gz" in capsys.readouterr().err


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_text("".join(DAY))
    with (tmp_path / "in").open("rb") as raw:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
        assert replay("-", "--json") == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 90


def test_all_files_are_one_traffic(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And lines of one are played in the order of their times, wherever they stand."""
    whole = replay_json(capsys, log)
    halves = [tmp_path / "even", tmp_path / "odd"]
    for start, half in enumerate(halves):
        half.write_text("".join(reversed(DAY[start::2])))
    parted = replay_json(capsys, *halves)
    assert parted["out_of_order"] == 0
    for figure in ("requests", "refused", "detectors", "from", "to"):
        assert parted[figure] == whole[figure]


def test_far_out_of_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The guard's clock never goes back."""
    monkeypatch.setattr(playing, "OUT_OF_ORDER_MOST", 10)
    path = tmp_path / "log"
    path.write_text("".join(line(second=second) for second in [*range(50, 100), *range(50)]))
    played = play([str(path)], Config.read("web"))
    assert played.late == 50
    assert played.requests == 100
    assert "50 requests were out of order" in text_report(played, "web", 10, 120)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, most in (("ADDRESSES_MOST", 20), ("STORIES_MOST", 10), ("EXPLAINED_MOST", 5)):
        monkeypatch.setattr(playing, name, most)
    path = tmp_path / "log"
    path.write_text("".join(line(f"192.0.2.{number % 50}", number // 50) for number in range(250)))
    config = Config(limits=Limits(everyone=None, user=None, address="1/hour"))
    played = play([str(path)], config, explain="192.0.2.0", sample=7)
    assert (played.requests, played.refused) == (250, 200)
    assert (len(played.offered), len(played.stories), len(played.sample)) == (20, 10, 7)
    assert played.untold == 160
    assert len(played.explained) == 5


def test_years_apart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line() + line(second=1).replace("2015", "2099"))
    played = play([str(path)], Config.read("web"))
    assert (played.requests, played.strays) == (1, 1)


def test_slices_grow() -> None:
    slices = Slices(7_500_000_000)
    assert slices.start_ns == 7_000_000_000
    for hour in range(2000):
        slices.add(slices.start_ns + hour * 3600 * 10**9, hour % 3 > 0)
    assert slices.step_ns == 10_800 * 10**9
    assert (sum(slices.allowed), sum(slices.refused)) == (1333, 667)
    assert set(slices.allowed[:-1]) == {2}
    slices.add(slices.start_ns + 10**18, True)
    assert len(slices.allowed) <= 1024
    assert sum(slices.allowed) == 1334


@pytest.mark.parametrize("suffix", ["html", "png", "svg"])
def test_plots(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    if suffix != "html":
        pytest.importorskip("matplotlib")
    out = tmp_path / f"out.{suffix}"
    assert replay(log, "--plot", out) == 0
    drawn = out.read_bytes()
    assert drawn.startswith({"html": b"<!doctype html>", "png": b"\x89PNG", "svg": b"<?xml"}[suffix])
    if suffix == "html":
        assert b"addresses refused something" in drawn
        assert GUESSER.encode() in drawn
        assert b"<script" not in drawn


def test_a_plot_of_a_peaceful_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("".join(DAY[:60]))
    assert replay(path, "--plot", tmp_path / "out.html") == 0
    assert "Nobody would have been refused." in (tmp_path / "out.html").read_text()
    assert "0 of 60 (0 %)" in capsys.readouterr().out


def test_hostile_text_stays_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    hostile = "\x1b[2J<script>alert(1)</script>%3Cscript%3E"
    path.write_text("".join(line(GUESSER, n, f"GET /{n}{hostile} HTTP/1.1", 404) for n in range(40)))
    assert replay(path, "--plot", tmp_path / "out.html") == 0
    assert "\x1b" not in capsys.readouterr().out
    page = (tmp_path / "out.html").read_text()
    assert "<script" not in page
    assert "\x1b" not in page


@here
def test_attacks_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Logs of real attacks in their own formats: nearly every line is read, and who attacks is found."""
    files = sorted((LOGS / "crowdsec").glob("*/*.log"))
    report = replay_json(capsys, *files, "--top", 100)
    assert report["unreadable"] <= 12, "a log without requests, and a line that is none"
    assert report["requests"] >= 640
    found = {one["address"] for one in report["refused_addresses"]}
    assert {"172.17.0.1", "192.168.1.100", "10.0.0.13", "81.150.104.130", "127.0.0.2", "1.2.3.4"} <= found


@here
def test_a_peaceful_day_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    report = replay_json(capsys, LOGS / "apache_logs")
    assert (report["lines"], report["unreadable"], report["addresses"]) == (10_000, 0, 1753)
    assert len(report["refused_addresses"]) <= 10
