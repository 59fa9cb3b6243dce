"""Refusals in the log: what a line says, and that a flood writes few of them."""

from __future__ import annotations

import logging

import pytest

from penstock import Limiter
from penstock.clock import ManualClock
from penstock.integrations.logging import RefusalLog


def test_a_flood_writes_a_bounded_number_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    limiter, refused = Limiter("5/minute", clock=clock), RefusalLog(per_second=2, clock=clock)
    for _ in range(1_000):
        if not (decision := limiter.check("user:ada")):
            refused("user:ada", decision)
    clock.advance(1)
    refused("user:bob", limiter.peek("user:ada"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert [line.partition(": ")[2] for line in lines] == [
        "limit of 5, retry in 12 s",
        "limit of 5, retry in 12 s",
        "limit of 5, retry in 11 s (and 993 more refusals)",
    ]
    names = [line.split()[1].rstrip(":") for line in lines]
    assert names[0] == names[1] != names[2]
    assert "ada" not in caplog.text
    record = caplog.records[-1]
    assert record.penstock_left_out == 993  # type: ignore[attr-defined]
    assert record.penstock_decision.limit == 5  # type: ignore[attr-defined]
    assert (record.name, record.levelno) == ("penstock.refused", logging.WARNING)


def test_keys_are_shown_only_when_asked_for_and_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    refused = RefusalLog(show_keys=True, logger="my.log", level=logging.INFO)
    decision = Limiter("1/day").check("a")
    with caplog.at_level(logging.INFO, "my.log"):
        for key in ("two\nlines", "x" * 70_000, ("tenant", 7), b"\xff", "ключ", "\udcff"):
            refused(key, decision)
    assert [len(record.getMessage().splitlines()) for record in caplog.records] == [1] * 6
    assert r"refused 'two\nlines': limit of 1" in caplog.records[0].getMessage()
    assert len(caplog.records[1].getMessage()) < 300


def test_nothing_is_counted_where_nobody_listens() -> None:
    logger = logging.getLogger("penstock.test.silent")
    logger.setLevel(logging.CRITICAL)
    refused = RefusalLog(per_second=1, logger=logger)
    refused("a", Limiter("1/day").check("a"))
    assert refused._sampled.admit() == 0
