"""Many threads through one guard: each event, distinct value and ban counts once, and every request has its verdict."""

from __future__ import annotations

import pytest
from meeting import Witness, together

from penstock import native
from penstock.clock import ManualClock

if not native:
    pytest.skip("the guard needs the compiled modules", allow_module_level=True)

from penstock._records import LEAKY, Records, Rule
from penstock.guard import Action, Guard, Request, Response, Scenario

THREADS, ROUNDS, SECOND = 6, 400, 10**9


def test_each_event_and_each_value_counts_once() -> None:
    rules = [
        Rule(LEAKY, (0,), capacity=60_000, span_ns=SECOND),
        Rule(LEAKY, (0,), capacity=1_000, span_ns=SECOND, distinct=1, member_ns=3_600 * SECOND),
    ]
    records, witness = Records(rules, 4_096, 64, bytes(16)), Witness()

    def work(number: int) -> int:
        for round_ in range(ROUNDS):
            witness.turn(number)
            assert records.feed(0, 2, ("one", f"value {round_}"), 0, SECOND) == ()
            records.count(0)
        return ROUNDS

    assert sum(together(THREADS, work)) == THREADS * ROUNDS
    assert records.counts(0, 2, ("one", None), SECOND) == [THREADS * ROUNDS, ROUNDS]
    assert records.counters()[0] == THREADS * ROUNDS
    assert witness.changes() >= 2 * THREADS


def test_no_ban_is_lost() -> None:
    records, witness = Records([Rule(LEAKY, (0,), span_ns=SECOND)], 64, 4_096, bytes(16)), Witness()

    def work(number: int) -> None:
        for round_ in range(ROUNDS):
            witness.turn(number)
            key = records.ban_key(0, f"address {round_}")
            assert records.ban(key, SECOND, 10_000 + number, 1, number) is not None
            assert records.banned((f"address {round_}",), 1, SECOND) is not None

    together(THREADS, work)
    bans = records.bans(SECOND)
    assert len(bans) == ROUNDS
    assert {until for _, until, *_ in bans} == {10_000 + THREADS - 1}  # none was shortened
    assert witness.changes() >= 2 * THREADS


def test_every_request_has_its_verdict() -> None:
    rules = [Scenario(name="bad", when="prefix:/bad", capacity=2, leak=60, action=Action.BAN)]
    clock, witness = ManualClock(start=1_700_000_000), Witness()
    with Guard({"preset": "strict", "scenarios": rules, "clients": 256}, clock=clock) as guard:

        @guard.detector("looks")
        def looks(request: Request) -> None:
            assert request.fields["user-agent"]

        def work(number: int) -> tuple[int, int]:
            allowed = refused = 0
            for round_ in range(ROUNDS):
                witness.turn(number)
                path = f"/{'bad' if round_ % 50 == 0 else 'good'}/{round_}"
                headers = {"User-Agent": f"a{number}"}
                request = Request(f"192.0.2.{round_ % 97}", path=path, headers=headers, user=f"u{number}")
                with guard.flight(request):
                    if guard.inspect(request):
                        guard.observe(request, Response(404 if round_ % 3 else 200))
                        allowed += 1
                    else:
                        refused += 1
                if round_ % 40 == number:
                    guard.unban(guard.ban(f"198.51.100.{number}", 60).id, kind="id")
                    guard.deny(f"203.0.113.{number}")
                    guard.assess(f"192.0.2.{number}")
                    guard.status()
            return allowed, refused

        totals = together(THREADS, work)
        told = guard.status()
        assert told["statistics"]["total_requests"] == THREADS * ROUNDS
        assert told["statistics"]["blocked_requests"] == sum(refused for _, refused in totals)
        assert sum(told["tiers"].values()) == THREADS * ROUNDS
        assert told["health"]["detector_errors"] == {}
        assert guard._flights is not None
        assert all(guard._flights.count(f"ip:192.0.2.{number}") == 0 for number in range(97))
    assert witness.changes() >= 2 * THREADS
