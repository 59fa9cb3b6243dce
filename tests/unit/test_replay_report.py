"""What a study says: as text, as JSON, as a page and as a plot; and the words and axes they share."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from penstock.drawing import PlotError, check_plot
from penstock.replay import axes, plot, wording
from penstock.replay.keys import parse_key
from penstock.replay.limits import read_limits
from penstock.replay.logs import Manner
from penstock.replay.page import page
from penstock.replay.report import BARS_ASCII, empty_json, empty_report, json_report, text_report
from penstock.replay.series import series_of
from penstock.replay.study import Question, Study, read, study
from penstock.replay.times import NS

HOSTILE = "<script>&\x1b[31m$x$</script>"
"""A user agent that would like to be run by a browser, a terminal or a formula."""


def quiet(doing: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hour: a client a minute, one that comes twenty times at once at the half hour, and two lines of noise."""
    line = '{} - - [10/Jun/2025:14:{:02d}:00 +0000] "GET / HTTP/1.1" 200 1 "-" "{}"\n'
    lines = [line.format("192.0.2.1", minute, "good") for minute in range(60)]
    lines[30:30] = [line.format("192.0.2.66", 30, HOSTILE)] * 20
    lines[10:10] = ["noise\x1b[31m\n", line.format("192.0.2.2", 8, "late"), "\n", "x" * 300 + "\n"]
    path = tmp_path_factory.mktemp("logs") / "a<b.log"
    path.write_text("".join(lines))
    return path


def ask(log: Path, *limits: str, key: str = "address", bad: int = 5, at_most: int = 1) -> Study:
    manner = Manner(parse_key(key))
    question = Question([str(log)], manner, read_limits(limits, "token-bucket"), Fraction(at_most, 100), bad_kept=bad)
    return study(read(question, quiet), quiet)


def test_text_says_it_all(log: Path) -> None:
    text = text_report(ask(log, "5/second", "30/hour", at_most=25), top=10, width=100)
    for line in (
        "5/second; 30/hour: token bucket, one for each address",
        "  lines     84 read, 2 unreadable, 1 blank, 1 out of order, by up to 1 min; replayed at their own time",
        "  span      2025-06-10 14:00:00 to 2025-06-10 14:59:00 UTC, 59 min",
        "  keys      3, of which 2 would have been refused something",
        "  offered   81 requests",
        "  admitted  65 (80 %)",
        "  refused   16 (20 %)",
        "  5/second       15  20/second                     1/second",
        "  30/hour         1  31/hour                       21/hour",
        "  192.0.2.66         20       15   75 %       1   200 ms  200 ms",
        "  192.0.2.1          60        1  1.7 %       1    1 min   1 min",
    ):
        assert line in text.splitlines()
    assert f"{log}:11: not in the combined format: noise\\x1b[31m" in text
    assert "x…" in text
    assert "--spread" in text
    assert max(map(len, text.splitlines())) <= 130


def test_text_leaves_out_what_is_not_there(log: Path) -> None:
    study = ask(log, "100/second")
    text = text_report(study, top=10, width=100)
    assert "No key would have been refused." in text
    assert "of each limit by itself" not in text
    assert "--spread" not in text_report(ask(log, "100/hour"), top=10, width=100)
    few = text_report(ask(log, "1/hour", bad=1), top=1, width=100)
    assert "  and 1 more" in few
    assert "the first unreadable lines:" in few
    assert "most refused" not in text_report(ask(log, "1/hour"), top=0, width=100)


def test_text_is_safe_on_a_terminal(log: Path) -> None:
    text = text_report(ask(log, "5/second", key="user-agent"), top=10, width=80, bars=BARS_ASCII)
    assert "\\x1b[31m" in text
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.isascii() or set(text) - set(map(chr, range(128))) <= {"…"}


def test_json_has_the_same_numbers(log: Path) -> None:
    report = json.loads(json.dumps(json_report(ask(log, "5/second", "30/hour", at_most=25), top=1), allow_nan=False))
    assert (report["offered"], report["admitted"], report["refused"]) == (81, 65, 16)
    assert report["lines"] == {
        "read": 84, "unreadable": 2, "blank": 1, "without_key": 0, "stray": 0,
        "out_of_order": 1, "out_of_order_by_seconds": 60.0,
    }  # fmt: skip
    assert report["span"] == {
        "from": "2025-06-10T14:00:00Z", "to": "2025-06-10T14:59:00Z", "seconds": 3540.0, "whole_seconds": True,
    }  # fmt: skip
    assert [limit["refused"] for limit in report["limits"]] == [15, 1]
    assert report["limits"][1]["smallest_refusing_nobody"] == {
        "rate": "31/hour", "algorithm": "token-bucket", "limit": 31, "per_seconds": 3600.0, "burst": 31,
    }  # fmt: skip
    assert report["most_refused"] == [
        {
            "key": ["192.0.2.66"], "offered": 20, "refused": 15, "spells": 1,
            "longest_seconds": 0.2, "total_seconds": 0.2, "first": "2025-06-10T14:30:00Z",
        }
    ]  # fmt: skip
    assert sum(report["over_time"]["offered"]) == 81
    assert sum(report["over_time"]["refused"]) == 16
    assert [bad["line"] for bad in report["unreadable"]] == [11, 14]


def test_a_reading_without_requests(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("\n\n")
    reading = read(Question([str(path)], Manner(parse_key("user,path")), read_limits(["1/s"], "sliding-log")), quiet)
    assert empty_report(reading, 80).splitlines()[1:] == [
        "1/second: sliding log, one for each user + path", "", "  lines  2 read, 2 blank",
    ]  # fmt: skip
    assert empty_json(reading)["lines"]["blank"] == 2


class Tags(HTMLParser):
    """Checks that every tag is closed, and collects the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("key", ["address", "user-agent"])
def test_the_page_is_whole_and_needs_nothing(log: Path, key: str) -> None:
    text = page(ask(log, "5/second", "30/hour", key=key), keys=12)
    tags = Tags(text)
    assert "script" not in tags.seen
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http-equiv", "")
    for said in ("requests offered", "5/second; 30/hour", "a<b.log", "10 June 2025", "14:30", "refused, 20 %"):
        assert said in tags.text
    if key == "user-agent":
        assert "<script>&\\x1b[31m$x$</script>" in tags.text


def test_the_page_without_refusals(log: Path) -> None:
    assert "No key would have been refused." in Tags(page(ask(log, "100/second"), keys=12)).text


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
@pytest.mark.parametrize("limit", ["5/second", "100/second"])
def test_plots_are_drawn(log: Path, tmp_path: Path, suffix: str, limit: str) -> None:
    if suffix != ".html":
        pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    path = tmp_path / f"out{suffix}"
    check_plot(path)
    plot.draw(ask(log, limit, key="user-agent"), path)
    data = path.read_bytes()
    if suffix == ".png":
        assert data.startswith(b"\x89PNG\r\n")
    else:
        assert len(data) > 2000
    if suffix == ".svg":
        ElementTree.fromstring(data)


def test_plots_that_are_refused_before_the_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("out.jpg", "out", "out.png.txt"):
        with pytest.raises(PlotError, match=r"must end in \.png, \.svg, \.html"):
            check_plot(tmp_path / name)
    with pytest.raises(PlotError, match="there is no directory"):
        check_plot(tmp_path / "none" / "out.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("penstock.drawing.find_spec", lambda name: None)
    with pytest.raises(PlotError, match=r"pip install penstock\[plot\]"):
        check_plot(tmp_path / "out.svg")
    check_plot(tmp_path / "out.HTML")


def test_a_plot_that_cannot_be_written(log: Path, tmp_path: Path) -> None:
    (tmp_path / "out.html").mkdir()
    with pytest.raises(PlotError, match="directory"):
        plot.draw(ask(log, "5/second"), tmp_path / "out.html")


# ---- series, axes, words ----


@pytest.mark.parametrize("span", [0, 1, 59, 3600, 86_400, 7 * 86_400, 4 * 365 * 86_400])
@pytest.mark.parametrize("most", [10, 60, 300])
def test_series_count_every_request_once(span: int, most: int) -> None:
    start = 1_749_513_607 * NS
    times = sorted({start + span * NS * i // 100 for i in range(101)})
    series = series_of(times, times[::3], most)
    assert len(series.offered) == len(series.refused) <= most
    assert (sum(series.offered), sum(series.refused)) == (len(times), len(times[::3]))
    assert series.start_ns % series.step_ns == 0
    assert series.start_ns <= times[0] < series.start_ns + series.step_ns
    assert series.offered[-1] > 0
    assert series.admitted == [a - b for a, b in zip(series.offered, series.refused, strict=True)]


@pytest.mark.parametrize(
    ("most", "places"),
    [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8]), (23, [0, 5, 10, 15, 20]), (1_300, [0, 500, 1_000])],
)
def test_axes_of_counts(most: int, places: list[int]) -> None:
    axis = axes.count_axis(most)
    assert axis.places == places
    assert axis.labels == [f"{place:,}" for place in places]


@pytest.mark.parametrize(
    ("start", "end", "labels", "caption"),
    [
        (0, 86_400, ["00:00", "03:00"], "1 January 1970"),
        (86_390, 86_405, ["23:59:50", "23:59:52"], "31 December 1969"),
        (0, 3 * 86_400, ["1 Jan", "12:00", "2 Jan"], "1 January 1970 to 4 January 1970"),
        (0, 60 * 86_400, ["1 Jan", "8 Jan"], "1 January 1970 to 2 March 1970"),
        (0, 4 * 365 * 86_400, ["1 Jan"], "1 January 1970 to 31 December 1973"),
    ],
)
def test_axes_of_times(start: int, end: int, labels: list[str], caption: str) -> None:
    axis = axes.time_axis(start * NS, end * NS)
    assert axis.labels[: len(labels)] == labels
    assert len(axis.labels) == len(axis.places) <= 12
    assert all(start * NS <= place <= end * NS for place in axis.places)
    if not labels[0].startswith("23"):
        assert axis.caption == caption


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 s"),
        (1_500, "1.5 µs"),
        (100_000_000, "100 ms"),
        (3_600_000_000, "3.6 s"),
        (60 * NS, "1 min"),
        (61 * NS, "1 min 1 s"),
        (3600 * NS, "1 h"),
        (7_384 * NS, "2 h 3 min"),
        (86_400 * NS * 3 + 3600 * NS * 11, "3 d 11 h"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert wording.duration(ns) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 5, "0 %"), (1, 1, "100 %"), (1, 8, "12 %"), (1, 40, "2.5 %"), (1, 999, "0.10 %"), (1, 10**9, "0.01 %")],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert wording.percent(part, whole) == text


def test_text_of_a_log_is_made_printable() -> None:
    assert wording.printable(b"a\tb\x00\xff\x1b[0m\xe2\x80\xae") == "a\\tb\\x00\\xff\\x1b[0m\\u202e"
    assert wording.printable(b"x" * 100, 10) == "xxxxxxxxx…"
    assert wording.key_name((b"a", b"")) == 'a ""'
