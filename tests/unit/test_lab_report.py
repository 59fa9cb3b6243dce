"""What a trial says, and what is drawn of it: text, JSON, a page, figures."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from penstock.drawing import PlotError
from penstock.lab import plot
from penstock.lab.design import EACH, OURS, PUSH
from penstock.lab.measure import Measured
from penstock.lab.page import page
from penstock.lab.report import json_report, text_report
from penstock.lab.settings import Outage, Settings
from penstock.lab.trial import Bound, Outcome

BOUND = Bound("admitted(t) <= b + r*t + 3*r*T + 2*Q", 50, 115.0, 2, 0.05, 50, None)


def measured(design: str, admitted: int, peak: float) -> Measured:
    """Two seconds in which an exact limit admits ten calls of each slice's fifteen."""
    return Measured(
        design=design,
        offered=[15] * 20,
        admitted=[admitted] * 20,
        exact=[10] * 20,
        height=[peak / 2] * 10 + [peak] * 10,
        updates=30,
        batches=60,
        cpu_s=0.0009,
        median_ns=4_000,
        p99_ns=20_000,
        late_s=0.001,
        unasked=0,
        duplicates=0,
        lost=0,
    )


def outcome(settings: Settings | None = None, peak: float = 70.0, bound: Bound = BOUND) -> Outcome:
    designs = {
        OURS: measured(OURS, 11, peak),
        EACH: replace(measured(EACH, 10, 50.0), updates=300, cpu_s=0.009),
        PUSH: measured(PUSH, 9, 90.0),
    }
    return Outcome(settings or Settings("100/second burst 50", instances=2, seconds=2), "Redis 7", True, bound, designs)


def test_the_table_and_the_verdict() -> None:
    text = text_report(outcome(), 120)
    rows = {line[:29].strip(): line[29:].split() for line in text.splitlines()}
    assert text.startswith("100/second burst 50: token bucket, 2 instances\neven load of 1.5 times the limit; 2 s for")
    assert rows["calls"] == ["300", "300", "300"]
    assert rows["over-admitted"] == ["10.00", "%", "0.00", "%", "0.00", "%"]
    assert rows["under-admitted"] == ["0.00", "%", "0.00", "%", "10.00", "%"]
    assert rows["worst interval above b + r*t"] == ["20", "0", "40"]
    assert rows["key updates per 1000 calls"] == ["100", "1,000", "100"]
    assert rows["script calls per second"] == ["30", "30", "30"]
    assert rows["Redis CPU per 1000 calls"] == ["3.0", "ms", "30.0", "ms", "3.0", "ms"]
    assert "kept its guarantee: its worst interval was 20 units above the limit, where 115 are promised." in text
    assert "penstock admitted 10.00 % more than one exact limit would have; one script per request admitted" in text
    assert "looked at 100 keys for penstock and at 1000 for one script per request, in 0.10 of the time" in text


def test_lines_are_as_wide_as_asked() -> None:
    assert all(len(line) <= 92 for line in text_report(outcome(), 92).splitlines())


def test_other_verdicts() -> None:
    assert "BROKE its guarantee: its worst interval was 150 units above" in text_report(outcome(peak=200.0), 200)
    opened = Settings("100/second burst 50", instances=2, seconds=2, mode="open", outage=Outage(1, 0.5))
    assert "nothing is promised while Redis is away" in text_report(outcome(opened), 200)
    assert "Redis stopped for 1 s from 0.5 s on" in text_report(outcome(opened), 200)
    window = Settings("100/second", "fixed-window", instances=2, seconds=2)
    assert "its fullest window was 150 units above the limit" in text_report(outcome(window, 200.0), 200)
    assert "a limit of 5 is small" in text_report(outcome(bound=replace(BOUND, warning="a limit of 5 is small")), 200)
    late = outcome()
    late.designs[EACH] = replace(late.designs[EACH], late_s=2.5)
    assert "up to 2.5 s late" in text_report(late, 200)
    theirs = replace(outcome(), own=False)
    assert "What others asked of this Redis" in text_report(theirs, 200)


def test_json_holds_it_all_but_no_url() -> None:
    settings = Settings("100/second burst 50", instances=2, seconds=2, redis="redis://:hunter2@localhost:6379/0")
    report = json_report(replace(outcome(settings), own=False))
    text = json.dumps(report, allow_nan=False)
    assert "hunter2" not in text
    assert report["settings"]["factor"] == 1.5
    assert report["bound"]["excess"] == 115
    ours = report["designs"][OURS]
    assert (ours["calls"], ours["total_admitted"], ours["total_exact"], ours["excess"]) == (300, 220, 200, 20)
    assert len(ours["admitted"]) == len(ours["height"]) == 20


class Tags(HTMLParser):
    """Text of a page, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Open and closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_designs_limit_bound_and_faults() -> None:
    settings = Settings("100/second burst 50", instances=2, seconds=2, outage=Outage(0.5, 1), kill=True)
    text = page(outcome(settings))
    tags = Tags(text)
    for said in ("one script per request", "plain delta push", "limit: 50, the burst", "penstock's bound: 165"):
        assert said in tags.text
    assert tags.text.count("Redis stopped") == 4 + 1  # in each panel, and in the conditions
    assert tags.text.count("an instance killed") == 4 + 1
    for svg in text.split("<svg ")[1:]:
        drawing = ElementTree.fromstring("<svg " + svg.split("</svg>")[0] + "</svg>")
        assert len(list(drawing.iter("path"))) == 3  # offered, admitted and exact; or one for each design
        assert len([line for line in drawing.iter("line") if line.attrib["class"] in ("bound", "burst")]) in (1, 2)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window"])
def test_plots_are_drawn(tmp_path: Path, suffix: str, algorithm: str) -> None:
    if suffix != ".html":
        pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    limit = "100/second burst 50" if algorithm == "token-bucket" else "50/second"
    settings = Settings(limit, algorithm, instances=2, seconds=2, outage=Outage(0.5, 1), kill=True)
    path = tmp_path / f"out{suffix}"
    plot.draw(outcome(settings), path)
    data = path.read_bytes()
    assert len(data) > 4000
    if suffix == ".png":
        assert data.startswith(b"\x89PNG\r\n")
    elif suffix == ".svg":
        ElementTree.fromstring(data)


def test_a_plot_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out.html").mkdir()
    with pytest.raises(PlotError, match="directory"):
        plot.draw(outcome(), tmp_path / "out.html")
