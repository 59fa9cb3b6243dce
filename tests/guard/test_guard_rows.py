"""What a guard is asked for, row by row, where no other file shows it: presets, tiers, bans, rules, switches, privacy."""

from __future__ import annotations

import logging

import pytest
from visitors import ADDRESS, ask, guarding

from penstock.guard import Scenario

JA4 = "t13d1516h2_8daaf6152771_02713d6af862"


def test_no_user_or_session_stands_in_what_is_told(caplog: pytest.LogCaptureFixture) -> None:
    scenarios = [
        Scenario(name=f"by-{'-'.join(by)}", by=by, capacity=0, window=10, action="ban")
        for by in (("user",), ("session",), ("account",), ("ja4",), ("endpoint", "user"), ("user", "address"))
    ]
    with guarding({"scenarios": scenarios}) as (guard, _), caplog.at_level(logging.INFO, "penstock.guard"):
        verdict = ask(guard, path="/shop", user="ada-lovelace", session="s3cr3t", ja4=JA4)
        assert {one.key for one in verdict.reasons} >= {"user:ada-lovelace", "session:s3cr3t"}  # the application knows
        assert ask(guard, user="ada-lovelace").reasons[0].key == "user:ada-lovelace"
        assert guard.events.flush()
        told = repr(guard.events.recent()) + repr([vars(record) for record in caplog.records])
        for text in ("ada-lovelace", "s3cr3t", JA4, ADDRESS):
            assert text not in told
        assert "/shop user:" in told
        guard.forget("ada-lovelace", "user")
        assert "user:" not in repr([one.key for event in guard.events.recent() for one in event.evidence[:1]])
