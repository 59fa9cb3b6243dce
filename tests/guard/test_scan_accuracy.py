"""The scanner against labelled data that nobody here wrote: scored on the half that was not used to make it."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter

import pytest
from samples import OUTSIDE, needs

pytest.importorskip("penstock._scan", reason="the guard needs the compiled modules")

from penstock._scan import scan_pairs
from penstock.guard.scan import CONVICTS, scan

DATA = OUTSIDE
PARAMETERS = DATA / "payloads" / "http_params_half.csv"
LISTS = DATA / "payloads" / "libinjection"
LOG = DATA / "logs" / "apache_logs"
KIND_OF = {"sqli": "sqli", "xss": "xss", "path-traversal": "traversal", "cmdi": "command"}

pytestmark = needs(PARAMETERS)


def scored(value: str) -> bool:
    """Whether the value is in the half that is scored; the scanner was made with the other one."""
    return bool(hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=8, key=b"halves").digest()[0] & 1)


def parameters(label: str) -> list[str]:
    with PARAMETERS.open(newline="", encoding="utf-8") as file:
        values = [row["payload"] for row in csv.DictReader(file) if row["attack_type"] == label]
    return [value for value in values if scored(value)]


def listed(names: str) -> list[str]:
    lines = [line for path in sorted(LISTS.glob(names)) for line in path.read_bytes().splitlines()]
    values = [line.decode("utf-8", "surrogateescape") for line in lines if line.strip() and not line.startswith(b"#")]
    return [value for value in values if scored(value)]


def kinds(value: str) -> set[str]:
    """The kinds that the value is convicted of."""
    points: Counter[str] = Counter()
    for finding in scan(value):
        points[finding.kind] += finding.points
    return {kind for kind, sum_of in points.items() if sum_of >= CONVICTS}


@pytest.mark.parametrize(
    ("label", "values", "least"),
    [
        ("sqli", parameters, 0.97),
        ("xss", parameters, 0.95),
        ("path-traversal", parameters, 0.97),
        ("cmdi", parameters, 0.8),
        ("sqli", lambda label: listed("sqli-*"), 0.96),
        ("xss", lambda label: listed("xss-*"), 0.95),
    ],
    ids=["sqli", "xss", "traversal", "command", "sqli lists", "xss lists"],
)
def test_recall(label: str, values: object, least: float) -> None:
    attacks = values(label)  # type: ignore[operator]
    missed = [value for value in attacks if KIND_OF[label] not in kinds(value)]
    assert len(attacks) > 20
    assert 1 - len(missed) / len(attacks) >= least, f"{len(missed)} of {len(attacks)}"


def test_false_alarms() -> None:
    ordinary, hard = parameters("norm"), listed("false_positives*")
    assert len(ordinary) > 4_000
    assert len(hard) > 80
    assert sum(1 for value in ordinary if kinds(value)) <= 1
    assert sum(1 for value in hard if kinds(value)) <= 2


@needs(LOG)
def test_no_line_of_a_real_log_is_suspicious() -> None:
    lines = LOG.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    requests = [match for line in lines if (match := re.search(r'"\S+ (\S+) [^"]*" \d+ \S+ "([^"]*)" "([^"]*)"', line))]
    assert len(requests) > 9_900
    found = []
    for target, referer, agent in (match.groups() for match in requests):
        path, _, query = target.partition("?")
        found += [part for part in (path, referer, agent) if scan(part)]
        found += [query] if scan_pairs(query) else []
    assert found == []
